"""Learned bids beside the bids that theory knows."""
