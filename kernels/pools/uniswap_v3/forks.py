"""What differs between the deployments of V3 arithmetic, as a table: codes for the kernels, fee
tiers, events and storage. A fork with the same swap arithmetic is one more entry.

Sources: UniswapV3Factory.enableFeeAmount and governance proposals for Uniswap; PancakeV3Factory and
PancakeV3Pool (@pancakeswap/v3-core 1.0.2) for PancakeSwap.
"""

from dataclasses import dataclass

# Values of V3Pools.fork.
UNISWAP_V3 = 0
PANCAKE_V3 = 1
UNISWAP_V4 = 2


@dataclass(frozen=True)
class Fork:
    """One deployment. `fee_tiers` maps fee_pips to tick spacing; topics are lower-case hex."""

    name: str
    code: int
    fee_tiers: dict[int, int]
    swap_event: str
    swap_topic: str
    # Words of the Swap event's data: amount0, amount1, sqrtPriceX96, liquidity, tick, then these.
    swap_extra_words: tuple[str, ...]
    # Storage slots of the pool contract.
    slot0_slot: int
    liquidity_slot: int
    ticks_slot: int
    bitmap_slot: int
    # How protocolFee of slot0 is read: the protocol takes 1/n of a fee, or n/10000 of it.
    protocol_fee_denominator: int | None


FORKS = {
    fork.name: fork
    for fork in (
        Fork(
            name="uniswap_v3",
            code=UNISWAP_V3,
            fee_tiers={100: 1, 500: 10, 3000: 60, 10000: 200},
            swap_event="Swap(address,address,int256,int256,uint160,uint128,int24)",
            swap_topic="0xc42079f94a6350d7e6235f29174924f928cc2ac818eb64fed8004e115fbcca67",
            swap_extra_words=(),
            slot0_slot=0,
            liquidity_slot=4,
            ticks_slot=5,
            bitmap_slot=6,
            protocol_fee_denominator=None,
        ),
        Fork(
            name="pancake_v3",
            code=PANCAKE_V3,
            fee_tiers={100: 1, 500: 10, 2500: 50, 10000: 200},
            swap_event="Swap(address,address,int256,int256,uint160,uint128,int24,uint128,uint128)",
            swap_topic="0x19b47279256b2a23a1665c810c8d55a1758940ee09377d4f8d26497a3577dc83",
            swap_extra_words=("protocolFeesToken0", "protocolFeesToken1"),
            # slot0's protocol fee is 32 bits wide and spills: everything after sits one slot later.
            slot0_slot=0,
            liquidity_slot=5,
            ticks_slot=6,
            bitmap_slot=7,
            protocol_fee_denominator=10_000,
        ),
    )
}
# The same in both: mints and burns move ticks and are decoded alike.
MINT_TOPIC = "0x7a53080ba414158be7ec69b987b5fb7d07dee101fe85488f0853ae16239d0bde"
BURN_TOPIC = "0x0c396cd989a39f4459b5fa1aed6a9a8dcdbc45908acfd67e028cd568da98982c"
INITIALIZE_TOPIC = "0x98636036cb66a9c19a37435efc1e90142190214e8abeb821bdba3f2990dd4c95"


def fork_named(name: str) -> Fork:
    """The fork called `name`. Raises ValueError for an unknown one."""
    if name not in FORKS:
        raise ValueError(f"fork {name!r} is unknown: use one of {', '.join(sorted(FORKS))}")
    return FORKS[name]


def check_fee_tier(fork: Fork, fee_pips: int, tick_spacing: int) -> None:
    """Raise ValueError unless the fork's factory enables this fee with this spacing."""
    if fork.fee_tiers.get(fee_pips) != tick_spacing:
        tiers = ", ".join(f"{fee}/{spacing}" for fee, spacing in fork.fee_tiers.items())
        raise ValueError(
            f"fee_pips {fee_pips} with tick_spacing {tick_spacing} is no tier of {fork.name} "
            f"(known: {tiers}): add it to {__name__} if the factory enabled it"
        )
