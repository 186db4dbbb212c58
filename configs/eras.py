"""Eras of the market: presets of MarketConfig's groups, each with its windows and assumptions.

`rich` is the market of the project's first reports: eight pools, in which a single opportunity is
worth what all bundles of a block paid in 2021. It serves for stress. The others are Ethereum at its
true size. Their constants are fitted on the fitted windows of envs.calibration.windows alone
(`python -m envs.calibration` reports the others); tests hold the ones that a fit gives.
"""

from typing import Any

DEFAULT_ERA = "2021"

# Pools: constant products first. USDC, USDT and WBTC against WETH on one constant-product and two
# concentrated venues; six long-tail tokens against WETH, four of them on a second venue with WETH,
# three on one with USDC; and two pools between majors, which close triangles. Left out: all other
# pairs (967 long-tail pools traded in 252 blocks of June 2021), tokens of one venue, cycles of four
# pools, curve and balancer pools.
_MAJOR_V2 = ((0, 1), (0, 2), (0, 3))
_TAIL_V2 = (*((0, token) for token in range(4, 10)), (0, 4), (0, 5), (1, 6), (1, 7))
_V3 = (
    *((0, 1), (0, 1), (0, 2), (0, 2), (0, 3), (0, 3)),
    *((1, 2), (1, 3), (1, 4)),
    *((0, 8), (0, 9)),
)
_PAIRS = (*_MAJOR_V2, *_TAIL_V2, *_V3)
_FEE_PIPS = (3000,) * 13 + (500, 3000) * 3 + (100, 3000, 3000, 10_000, 10_000)

# Value of one side, ETH. Quantiles by class of the pools of 11 July 2023 that hold 10 ETH or more:
# majors on constant products (median) and on concentrated pools (25, 75 %); the deeper and the
# second venue of long-tail pairs that have two (1/12, 3/12, ... 11/12).
MAJOR_V2_DEPTH = 15055.0
MAJOR_V3_DEPTH = (37852.0, 278658.0)
TAIL_DEEPER = (48.1, 112.0, 267.0, 709.0, 1833.0, 9607.0)
TAIL_SECOND = (14.2, 28.3, 55.7, 95.8, 178.0, 373.0)


def _depths() -> tuple[float, ...]:
    low, high = MAJOR_V3_DEPTH
    majors = (high, low) * 3
    return (
        *(MAJOR_V2_DEPTH,) * 3,
        *TAIL_DEEPER,
        *TAIL_SECOND[:4],
        *majors,
        *(low, low, TAIL_SECOND[0]),
        *TAIL_SECOND[4:],
    )


_MAJOR_POOLS = (*range(3), *range(13, 21))
# Users' swaps of June 2021, blocks 12,634,810 to 12,634,935: median and deviation of ln of the
# inputs of long-tail pairs, ETH, and the factor of the majors' median.
SIZE_ETH = (0.163, 2.01)
MAJOR_SCALE = 7.58
# Users split what would move a pool by more than 3.4 %, and routers send less than the recorded
# 20 % of swaps to single pools of majors: both chosen so that the gross of single cycles fits.
SIZE_MAX = 0.017
MAJOR_SHARE = 0.15
# Priority fees after the merge, blocks up to 2023.
TIP_GWEI = (0.1, 0.323, 1.4, 5.0, 33.2)


def _scales() -> tuple[float, ...]:
    return tuple(MAJOR_SCALE if pool in _MAJOR_POOLS else 1.0 for pool in range(len(_PAIRS)))


def _weights(major: float) -> tuple[float, ...]:
    """Users' choice: `major` of all swaps go to the majors, by the root of the depth (assumed)."""
    roots = [depth**0.5 for depth in _depths()]
    total = sum(roots[pool] for pool in _MAJOR_POOLS)
    rest = sum(roots) - total
    return tuple(
        root * (major / total if pool in _MAJOR_POOLS else (1.0 - major) / rest)
        for pool, root in enumerate(roots)
    )


# What informed traders pay of volume, basis points, by class of the pair: 8 August 2023, blocks
# 17,866,488 to 17,868,242. BTC/WETH has five trades there and takes the law of dollars/WETH.
TAIL_PAYMENT_BPS = (0.373, 2.58, 6.15, 14.9, 36.4)
MAJOR_PAYMENT_BPS = (0.102, 0.378, 0.72, 1.307, 4.38)

_TRUE_SIZE: dict[str, Any] = {
    "pools.symbols": ("WETH", "USDC", "USDT", "WBTC", *(f"TAIL{k}" for k in range(1, 7))),
    "pools.decimals": (18, 6, 6, 8, *(18,) * 6),
    "pools.eth_exposure": (0.0, -1.0, -1.0, -1.0, *(0.0,) * 6),
    "pools.btc_exposure": (0.0, 0.0, 0.0, 1.0, *(0.0,) * 6),
    "pools.token0": tuple(pair[0] for pair in _PAIRS),
    "pools.token1": tuple(pair[1] for pair in _PAIRS),
    "pools.concentrated": len(_V3),
    "pools.fee_pips": _FEE_PIPS,
    "pools.depth_eth": _depths(),
    "users.size_eth_median": SIZE_ETH[0],
    "users.size_eth_sigma": SIZE_ETH[1],
    "users.size_eth_least": 1.0,
    "users.size_scale": _scales(),
    "users.size_max": SIZE_MAX,
    "users.pool_weight": _weights(MAJOR_SHARE),
    "users.tip_gwei": TIP_GWEI,
    "gas.limit": 30_000_000,
    "informed.payment_law": tuple(1 if pool in _MAJOR_POOLS else 0 for pool in range(len(_PAIRS))),
}

# Gas used / target and its answer to the base fee. Before the merge (July 2022, blocks 15,055,000
# to 15,059,950) blocks came at random times, so that they were empty or full more often; here they
# still come every 12 s. After it: May 2023, blocks 17,180,000 to 17,187,325.
_BEFORE_MERGE: dict[str, Any] = {
    "gas.demand_response": (0.0, 0.126),
    "gas.used_ratio": (0.0699, 0.163, 0.449, 0.95, 1.684, 1.982, 2.014),
    "blocks.missed_share": 0.0,  # a slot without a block is a thing of the merge
    "blocks.mev_boost_share": 0.85,  # miners that took bundles (assumed)
}
_AFTER_MERGE: dict[str, Any] = {
    "gas.demand_response": (1.398, 0.263),
    "gas.used_ratio": (0.629, 0.702, 0.812, 0.946, 1.13, 1.405, 1.679),
}


def _informed(factor: float, probability: float) -> dict[str, Any]:
    """Informed payments of 8 August 2023 times a factor; at most their profit, as ever."""
    tail, major = (
        tuple(factor * bps for bps in law) for law in (TAIL_PAYMENT_BPS, MAJOR_PAYMENT_BPS)
    )
    return {
        "informed.payment_bps": tail,
        "informed.more_payment_bps": (major,),
        "informed.probability": probability,
    }


# Users' rate, the majors' share, the informed probability and factor are chosen so that number and
# gross of cycles (2021) and the payments per block with a bundle fit the fitted windows; everything
# else about them is assumed. Payments of bundles that are no cycles (sandwiches, liquidations,
# longer routes) are carried by the informed traders, which is what the factor is for.
PRESETS: dict[str, dict[str, Any]] = {
    "rich": {},
    # Fitted: payments of blocks 12,710,000 to 13,109,999, cycles of 12,634,810 to 12,634,935.
    # Assumed: depths and priority fees of 2023, blocks of 2022.
    "2021": _TRUE_SIZE
    | _BEFORE_MERGE
    | _informed(100.0, 0.5)
    | {"users.rate": 3.5, "gas.base_fee_median_gwei": 22.1},
    # Fitted: payments of blocks 15,400,431 to 15,400,964. Assumed: two fifths of the swaps of 2021,
    # for cycles are not recorded; users' sizes of 2021, depths and priority fees of 2023.
    "2022": _TRUE_SIZE
    | _BEFORE_MERGE
    | _informed(20.0, 0.1)
    | {"users.rate": 1.4, "gas.base_fee_median_gwei": 22.7},
    # Fitted: informed payments of blocks 17,866,488 to 17,868,242, a calm day. Assumed: users as in
    # 2022, for neither cycles nor payments of all bundles are recorded.
    "2023": _TRUE_SIZE
    | _AFTER_MERGE
    | _informed(1.0, 0.025)
    | {"users.rate": 1.4, "gas.base_fee_median_gwei": 18.0},
}
