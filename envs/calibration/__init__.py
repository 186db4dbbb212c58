"""Simulated against recorded markets: samples of both, their distance, figures and a table."""
