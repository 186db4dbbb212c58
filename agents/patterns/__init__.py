"""Patterns found without labels, as a command with figures: `python -m agents.patterns`."""
