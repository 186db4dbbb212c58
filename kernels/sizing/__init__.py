"""How much to trade: the exact optimum of a cycle of constant-product pools (`product_cycles`), of
a cycle through any mix of pools (`mixed_cycles`), and the pool sets of convex routing.
"""
