"""Pools of every kind, bit for bit: one file per contract family, `any_pool.quote` and
`any_pool.apply` over all of them, `records` to build the arrays, float mirrors that only rank.
"""
