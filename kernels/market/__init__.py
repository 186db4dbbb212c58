"""One tile of markets, simulated or live: its rows (`tile`), the overlay of pending swaps, loans,
the sizing of every cycle, the choice of opportunities, `observation.observe` and the action table.
"""
