"""Bare auctions whose equilibria theory knows: one opportunity, sealed bids, no market around
them."""
