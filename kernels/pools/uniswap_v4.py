"""Uniswap V4 pools without hooks and with a static fee, on the arrays and kernels of V3.

V4 (v4-core 1.0.2: Pool, ProtocolFeeLibrary, SwapMath) walks ticks as V3 does. What differs: the
protocol fee comes on top of the LP fee and so moves the price; amounts are int128; a fee of 100 %
is possible; an exact input is a negative amountSpecified. Whatever a hook or a dynamic fee may do
to a swap cannot be computed from the pool's state, so such pools are refused when they are loaded.
Here is the loading; what pools of `forks.UNISWAP_V4` do differently stands in uniswap_v3.swap_fee,
pool and liquidity, beside what V3 does.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from kernels.pools.uniswap_v3.forks import UNISWAP_V4
from kernels.pools.uniswap_v3.state import PoolSnapshot
from kernels.pools.uniswap_v3.tick_math import MAX_TICK, MIN_TICK

DYNAMIC_FEE_FLAG = 0x800000
# Any of these in a fee means that a hook decides it, or is no fee at all: static ones are below.
FEE_FLAGS = 0xF00000
MAX_LP_FEE = 1_000_000
MAX_PROTOCOL_FEE = 1000
NATIVE = 0  # currency0 of a pool of ether

# Permissions are the lowest 14 bits of a hook's address, highest first.
HOOK_FLAGS = (
    "beforeInitialize",
    "afterInitialize",
    "beforeAddLiquidity",
    "afterAddLiquidity",
    "beforeRemoveLiquidity",
    "afterRemoveLiquidity",
    "beforeSwap",
    "afterSwap",
    "beforeDonate",
    "afterDonate",
    "beforeSwapReturnsDelta",
    "afterSwapReturnsDelta",
    "afterAddLiquidityReturnsDelta",
    "afterRemoveLiquidityReturnsDelta",
)


class UnsupportedPoolError(ValueError):
    """A V4 pool whose swaps its state does not determine; the message says why."""


@dataclass(frozen=True)
class PoolKey:
    """What identifies a V4 pool; addresses as integers, currency 0 is ether."""

    currency0: int
    currency1: int
    fee: int  # pips, or DYNAMIC_FEE_FLAG
    tick_spacing: int
    hooks: int


def hook_permissions(hooks: int) -> list[str]:
    """Names of the permissions in a hook's address."""
    return [name for bit, name in enumerate(HOOK_FLAGS) if hooks >> (13 - bit) & 1]


def check_pool_key(key: PoolKey) -> None:
    """Raise UnsupportedPoolError, with the reason, unless the kernels can represent the pool."""
    if key.hooks:
        names = ", ".join(hook_permissions(key.hooks)) or "no permissions"
        raise UnsupportedPoolError(
            f"hooks = {key.hooks:#042x} ({names}): pools with hooks are not supported; leave it out"
        )
    if key.fee > MAX_LP_FEE and key.fee & FEE_FLAGS:
        raise UnsupportedPoolError(
            f"fee = {key.fee:#x}: pools with a dynamic fee are not supported; leave it out"
        )
    if not 0 <= key.fee <= MAX_LP_FEE:
        raise UnsupportedPoolError(f"fee = {key.fee}: expected 0..{MAX_LP_FEE} pips")
    if not 0 <= key.currency0 < key.currency1 < 2**160:
        raise UnsupportedPoolError(
            f"currency0 = {key.currency0:#x}, currency1 = {key.currency1:#x}: expected two "
            "addresses in ascending order"
        )


def v4_snapshot(
    key: PoolKey,
    sqrt_price_x96: int,
    tick: int,
    liquidity: int,
    ticks: Mapping[int, tuple[int, int]],
    protocol_fee: int = 0,
    known_ticks: tuple[int, int] = (MIN_TICK, MAX_TICK),
) -> PoolSnapshot:
    """Pool for `build_pools`; `protocol_fee` is slot0's uint24, both directions packed.

    Raises UnsupportedPoolError for a pool with hooks or a dynamic fee, or an impossible fee.
    """
    check_pool_key(key)
    sides = (protocol_fee & 0xFFF, protocol_fee >> 12)
    if protocol_fee < 0 or max(sides) > MAX_PROTOCOL_FEE:
        raise UnsupportedPoolError(
            f"protocol_fee = {protocol_fee:#x}: expected at most {MAX_PROTOCOL_FEE} pips a side"
        )
    return PoolSnapshot(
        sqrt_price_x96=sqrt_price_x96,
        tick=tick,
        liquidity=liquidity,
        fee_pips=key.fee,
        tick_spacing=key.tick_spacing,
        ticks=ticks,
        protocol_fee=sides,
        fork=UNISWAP_V4,
        known_ticks=known_ticks,
    )
