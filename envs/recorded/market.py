"""Recorded slots as the market plays them: price paths with their flow, pools of a real snapshot.

The scenario `replay` is two days of May 2023: real base fees, fullness, missed slots and prices,
users and rivals drawn. `replay-swaps` adds the pools of July 2023 and the swaps of January 2024.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from envs.market.config import MarketConfig
from envs.market.paths import SLOTS_PER_MINUTE, PricePaths, RecordedFlow, price_paths
from envs.recorded.blocks import (
    SECONDS_PER_BLOCK,
    PoolKey,
    RecordedSlots,
    slots_of_blocks,
    slots_of_reserves,
)
from history.blocks import load_blocks
from history.pools import V3_KIND, PoolMarket, read_pools
from history.prices import Bars, load_bars
from history.swaps import load_v2_reserves

BASE_FEES = "blocks/basefee_windows.parquet"
BARS_2023 = "price/binance_5m_2023_eth_btc.parquet"
BARS_2024 = "price/binance_5m_2024_2025_eth_btc.parquet"
RESERVES = "swaps/v2_usdc_weth_reserves_per_block_18908895_18947060.parquet"
POOLS = "pools/fastlane_pools_block_17674862.parquet"
MAY_2023 = 17_180_000  # first block of that window
# Block 18,908,895, the first of 2024, came 11 s after midnight; bars begin at midnight and close
# five minutes later, so that the first 40 blocks have no price.
FIRST_OF_2024 = 1_704_067_211
BLOCKS_BEFORE_BARS = 40
USDC_WETH = PoolKey("0xb4e16d0168e52d35cacd2c6185b44281ec28c9dc", "USDC", "WETH", 6, 18)

# Symbol, decimals and powers of ETH/USD and BTC/USD in the ETH price, by address; the hub first.
TOKENS = {
    "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2": ("WETH", 0.0, 0.0),
    "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48": ("USDC", -1.0, 0.0),
    "0xdac17f958d2ee523a2206206994597c13d831ec7": ("USDT", -1.0, 0.0),
    "0x6b175474e89094c44da98b954eedeac495271d0f": ("DAI", -1.0, 0.0),
    "0x2260fac5e5542a773aa44fbcfedf7c193bc2c599": ("WBTC", -1.0, 1.0),
}
FEE_PIPS = 3000
MIN_DEPTH_ETH = 200.0  # below it a pool moves nothing
CAP_TIMES_FEE = 2.0  # wallets offer twice the base fee; fee caps are not in the events


def replay_paths(slots: RecordedSlots, config: MarketConfig) -> PricePaths:
    """Paths whose slots are the recorded ones, segment by segment in whole minutes.

    Recorded pools are matched to those of `config` by their tokens, the first match counts. Where
    reserves are recorded, a swap sells the same share of the pool of `config` at its median depth
    and the slot's price; elsewhere the same amount. Raises ValueError naming a pool without match.
    """
    rows = _whole_minutes(slots.segment)
    first = rows[::SLOTS_PER_MINUTE]
    paths = price_paths(
        np.exp(slots.log_price[first, 0]),
        np.exp(slots.log_price[first, 1]),
        segment=slots.segment[first],
        source=slots.source,
    )
    flow = _flow(slots, rows, config)
    flow.check(len(paths), len(config.pools.token0))
    return replace(paths, recorded=flow)


def _whole_minutes(segment: np.ndarray) -> np.ndarray:
    """Rows int64[5 * minutes] of the slots that fill whole minutes of their segment."""
    kept = []
    for run in np.unique(segment):
        rows = np.flatnonzero(segment == run)
        kept.append(rows[: rows.size // SLOTS_PER_MINUTE * SLOTS_PER_MINUTE])
    return np.concatenate(kept)


def _flow(slots: RecordedSlots, rows: np.ndarray, config: MarketConfig) -> RecordedFlow:
    """What the simulator reads, of the given rows."""
    ratio = np.where(slots.missed, np.nan, 2.0 * slots.gas_used / slots.gas_limit)
    blocks = RecordedFlow(
        base_fee_gwei=slots.base_fee_wei[rows] * 1e-9,
        gas_used_ratio=ratio[rows],
        missed=slots.missed[rows].astype(np.float64),
    )
    if not slots.pools:
        return blocks
    swaps = slots.swaps
    count = np.diff(swaps.start)[rows]
    start = np.concatenate([[0], np.cumsum(count)])
    # Swaps of the kept slots: each slot's run of indices, one after the other.
    at = np.repeat(swaps.start[rows] - start[:-1], count) + np.arange(start[-1])
    row = np.repeat(rows, count)
    pool, flipped = _matches(slots, config)
    forward = swaps.zero_for_one[at] ^ flipped[swaps.pool[at]]
    amount = _scaled(slots, config, at, row, pool[swaps.pool[at]], forward)
    tip = swaps.tip_gwei[at]
    return blocks._replace(
        swap_start=start.astype(np.int64),
        swap_pool=pool[swaps.pool[at]],
        swap_zero_for_one=forward.astype(np.float64),
        swap_amount_in=amount,
        swap_min_out=np.zeros(at.size),
        swap_cap_gwei=CAP_TIMES_FEE * slots.base_fee_wei[row] * 1e-9 + tip,
        swap_tip_gwei=tip,
        swap_seen_s=swaps.seen_s[at],
        swap_kind=swaps.private[at].astype(np.float64),
    )


def _matches(slots: RecordedSlots, config: MarketConfig) -> tuple[np.ndarray, np.ndarray]:
    """Pool of `config` for each recorded one, and whether its tokens are the other way round."""
    pools = config.pools
    pairs = [(pools.symbols[a], pools.symbols[b]) for a, b in zip(pools.token0, pools.token1)]
    pool, flipped = [], []
    for key in slots.pools:
        pair = key.symbol0, key.symbol1
        found = next((k for k, p in enumerate(pairs) if p in (pair, pair[::-1])), None)
        if found is None:
            raise ValueError(f"pool {key.address}: no pool of the market trades {pair}; add one")
        pool.append(found)
        flipped.append(pairs[found] != pair)
    return np.array(pool, np.int64), np.array(flipped)


def _scaled(
    slots: RecordedSlots,
    config: MarketConfig,
    at: np.ndarray,
    row: np.ndarray,
    pool: np.ndarray,
    forward: np.ndarray,
) -> np.ndarray:
    """Inputs as the same share of the configured pool, where the recorded one's state is known."""
    swaps = slots.swaps
    side = np.where(swaps.zero_for_one[at], 0, 1)
    reserve = slots.reserves[row, swaps.pool[at], side]
    pools = config.pools
    sold = np.where(forward, np.array(pools.token0)[pool], np.array(pools.token1)[pool])
    power = np.stack([pools.eth_exposure, pools.btc_exposure], axis=1)[sold]
    price = np.exp(np.sum(power * slots.log_price[row], axis=1))
    depth = np.array(pools.depth_eth)[pool] / price
    amount = swaps.amount_in[at]
    return np.where(np.isnan(reserve), amount, amount / reserve * depth)


def snapshot_market(market: PoolMarket, config: MarketConfig, bitcoin: bool) -> MarketConfig:
    """`config` on the real pools of a snapshot: those between `TOKENS` with a fee of 0.3 %.

    Constant-product pools come first, those with the hub before the others, deepest first; the
    depth of concentrated ones is that of their virtual reserves. Without `bitcoin` tokens whose
    price needs it are left out. Raises ValueError if no pool is left.
    """
    kept = [a for a in TOKENS if a in market.tokens and (bitcoin or TOKENS[a][2] == 0.0)]
    number = [market.tokens.index(address) for address in kept]
    depth = _depth_eth(market, number)
    chosen = [k for k, value in depth.items() if value >= MIN_DEPTH_ETH]
    if not chosen:
        names = ", ".join(symbol for symbol, _, _ in TOKENS.values())
        raise ValueError(f"{market.source}: no pool of 0.3 % between {names}; give another file")
    pools = market.pools

    def order(k: int) -> tuple[bool, bool, float]:
        hub = number[0] in (pools[k].token0, pools[k].token1)
        return pools[k].kind == V3_KIND, not hub, -depth[k]

    chosen.sort(key=order)
    with_hub = [
        at
        for at, k in enumerate(chosen)
        if pools[k].kind != V3_KIND and number[0] in (pools[k].token0, pools[k].token1)
    ]
    # Debts can be bought back only in constant-product pools with the hub.
    loans = range(len(config.loans.pools) if with_hub else 0)
    described = replace(
        config.pools,
        symbols=tuple(TOKENS[address][0] for address in kept),
        decimals=tuple(market.decimals[token] for token in number),
        eth_exposure=tuple(TOKENS[address][1] for address in kept),
        btc_exposure=tuple(TOKENS[address][2] for address in kept),
        token0=tuple(number.index(pools[k].token0) for k in chosen),
        token1=tuple(number.index(pools[k].token1) for k in chosen),
        concentrated=sum(pools[k].kind == V3_KIND for k in chosen),
        depth_eth=tuple(depth[k] for k in chosen),
        depth_sigma=0.0,
        fee_pips=(),
    )
    bought_back = tuple(with_hub[loan % len(with_hub)] for loan in loans)
    # An era speaks of its own pools one by one. These are majors: its second law, if it has two.
    of_pools = {
        "users.size_scale": (),
        "users.pool_weight": (),
        "informed.payment_law": (1,) * len(chosen) if config.informed.more_payment_bps else (),
    }
    return config.changed({"pools": described, "loans.pools": bought_back} | of_pools)


def _depth_eth(market: PoolMarket, tokens: list[int]) -> dict[int, float]:
    """ETH value of one side of every pool of 0.3 % between `tokens`, the hub first.

    Tokens are priced by their deepest pool with the hub; one without such a pool counts nothing.
    """
    pools, hub = market.pools, tokens[0]
    units = 10.0 ** np.array(market.decimals, np.float64)
    sides = market.reserves() / np.array([[units[p.token0], units[p.token1]] for p in pools])
    between = [
        k
        for k, p in enumerate(pools)
        if p.fee_pips == FEE_PIPS and p.token0 in tokens and p.token1 in tokens
    ]
    deepest: dict[int, tuple[float, float]] = {hub: (np.inf, 1.0)}  # hub side, price in the hub
    for k in between:
        for near, far in ((0, 1), (1, 0)):
            token = (pools[k].token0, pools[k].token1)
            if token[near] == hub and sides[k, near] > deepest.get(token[far], (0.0, 0.0))[0]:
                deepest[token[far]] = float(sides[k, near]), float(sides[k, near] / sides[k, far])
    return {
        k: float(sides[k, 0] * deepest[pools[k].token0][1])
        for k in between
        if pools[k].token0 in deepest
    }


def replay_market(
    data: Path, config: MarketConfig, swaps: bool = False
) -> tuple[MarketConfig, PricePaths]:
    """Configuration and paths of `replay`, or with `swaps` of `replay-swaps`, from a data folder.

    Raises TableError, BarsError, PoolFileError or ValueError naming the file that is not there.
    """
    blocks = load_blocks(data / BASE_FEES)
    calm = blocks.select(blocks.number >= MAY_2023)
    fee = float(np.median(calm.base_fee_wei)) * 1e-9
    config = config.changed({"gas.base_fee_median_gwei": fee})
    if not swaps:
        slots = slots_of_blocks(calm, load_bars(data / BARS_2023))
        return config, replay_paths(slots, config)
    config = snapshot_market(read_pools(data / POOLS), config, bitcoin=False)
    bars = load_bars(data / BARS_2024)
    eth = Bars((bars.of("ETHUSDT"),), bars.bar_minutes, bars.source)
    reserves = load_v2_reserves(data / RESERVES).after(BLOCKS_BEFORE_BARS)
    first = FIRST_OF_2024 + round(SECONDS_PER_BLOCK * BLOCKS_BEFORE_BARS)
    slots = slots_of_reserves(reserves, USDC_WETH, eth, first, calm)
    return config, replay_paths(slots, config)
