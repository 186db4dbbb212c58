"""Which runs a folder holds and which of them are finished: asked before a run is continued."""

from pathlib import Path

UNFINISHED = "UNFINISHED"  # this file stands in a run's folder until the run is published
MOST_LISTED = 8


def is_finished(run: Path) -> bool:
    """Whether a training went through to its report in this folder."""
    return (run / "report.json").is_file() and not (run / UNFINISHED).exists()


def listed(folder: Path) -> str:
    """The runs in `folder` for a message, the newest first, each with its state."""
    places = folder.iterdir() if folder.is_dir() else ()
    runs = [p for p in places if (p / "config.yaml").is_file() and not p.is_symlink()]
    runs.sort(key=lambda run: (run / "config.yaml").stat().st_mtime, reverse=True)
    states = [f"{r} ({'finished' if is_finished(r) else 'unfinished'})" for r in runs]
    more = [f"{len(runs) - MOST_LISTED} more"] if len(runs) > MOST_LISTED else []
    return ", ".join(states[:MOST_LISTED] + more) or "none"
