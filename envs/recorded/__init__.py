"""Recorded blocks and swaps as a market: what other people did is read, not drawn."""
