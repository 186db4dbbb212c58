"""Tokens as nodes, pools as edges: the cycles of a small market (`market_graph.MarketGraph`), of a
large one indexed by pool (`cycles`), and Bellman-Ford as the second opinion.
"""
