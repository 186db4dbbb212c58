"""Bare auctions against rivals whose regime is hidden, and the exact filters that bound what
anybody can earn there.
"""
