"""Patterns found without labels: regimes of volatility and competition, kinds of bidders."""
