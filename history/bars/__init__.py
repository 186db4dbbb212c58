"""Bar files: `containers` unpacks them, `columns` types them, `times` reads their clocks, `series`
holds the bars. `history.prices` is the entry: load_bars, search_folder and the command."""
