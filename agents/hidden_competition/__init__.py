"""Learners in bare auctions against hidden regimes: `python -m agents.hidden_competition`."""
