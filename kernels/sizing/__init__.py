"""How much to trade: the exact optimum of a cycle of constant-product pools (`product_cycles`, its
map in `moebius`), of a cycle through any mix of pools (`mixed_cycles`, its certificate in
`mixed_bound`), and the pool sets of convex routing.
"""
