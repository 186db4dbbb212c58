"""The report of a run: its Markdown, its figures, and the studies beside it."""
