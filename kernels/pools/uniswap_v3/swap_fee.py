"""What a swap pays in each fork, and the amounts it may move. V4 follows ProtocolFeeLibrary and
BalanceDelta of v4-core 1.0.2."""

import numpy as np

from kernels.compile import inline
from kernels.numbers.u256 import Uint256, u256
from kernels.pools.uniswap_v3.forks import UNISWAP_V4
from kernels.pools.uniswap_v3.state import V3Pools
from kernels.pools.uniswap_v3.swap_math import PIPS


@inline
def compose_fee(protocol_fee: np.uint64, lp_fee: np.uint64) -> np.uint64:
    """calculateSwapFee: protocol + lp - protocol * lp / 10^6; the product is rounded down, so the
    fee is rounded up."""
    return protocol_fee + lp_fee - protocol_fee * lp_fee // PIPS


@inline
def swap_fee(pools: V3Pools, pool: int, zero_for_one: bool) -> np.uint64:
    """Pips that a swap of this pool pays, whichever its fork: V3's protocol takes its share out of
    the LPs' fee, V4's comes on top."""
    fee = np.uint64(pools.fee_pips[pool])
    if pools.fork[pool] == UNISWAP_V4:
        side = 0 if zero_for_one else 1
        return compose_fee(np.uint64(pools.protocol_fee[pool, side]), fee)
    return fee


@inline
def fits_balance_delta(paid: Uint256, received: Uint256) -> bool:
    """Whether the amounts of a swap fit the int128 of V4's BalanceDelta: -2^127 may be paid."""
    return paid <= (u256(1) << 127) and received < (u256(1) << 127)
