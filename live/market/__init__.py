"""What the chain and the mempool say now: reserves, pending swaps, their overlay, volatility."""
