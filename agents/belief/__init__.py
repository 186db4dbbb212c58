"""Belief apart from bid in the market: `agents.belief.clearing_network` states, `clearing_score`
teaches."""
