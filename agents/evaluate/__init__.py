"""Every arm on the same held-out episodes: `python -m agents.evaluate`, and what is frozen."""
