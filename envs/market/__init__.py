"""The simulated market: its settings (`config.MarketConfig`), and one file for each thing that
moves it. `simulator.play` is one decision of all markets.
"""
