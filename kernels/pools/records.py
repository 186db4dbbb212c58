"""From plain records to the arrays of `kernels.pools.any_pool`, and which pools are refused, and
why.

A kernel that cannot represent a pool would quote it wrongly, so every such pool is refused by name:
hooks, dynamic fees, tokens that take a fee or rebase, rates that move on their own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from kernels.numbers.u256 import to_limbs
from kernels.pools import stableswap
from kernels.pools.any_pool import (
    A_SCALE,
    ADMIN_FEE,
    EXACT_POWERS,
    FEE,
    FEE_DENOMINATOR,
    FUTURE_A,
    FUTURE_TIME_S,
    INITIAL_A,
    INITIAL_TIME_S,
    PANCAKE_V3,
    PARAMETERS,
    STABLESWAP,
    UNISWAP_V2,
    UNISWAP_V3,
    UNISWAP_V4,
    WEIGHTED,
    Pools,
)
from kernels.pools.uniswap_v2 import MAX_FEE_DENOMINATOR
from kernels.pools.uniswap_v3 import forks
from kernels.pools.uniswap_v3.state import PoolSnapshot, build_pools
from kernels.pools.uniswap_v3.tick_math import MAX_TICK, MIN_TICK
from kernels.pools.uniswap_v4 import PoolKey, UnsupportedPoolError, v4_snapshot
from kernels.pools.weighted import MAX_FEE, MIN_FEE, MIN_WEIGHT, ONE

# Trait of a pool or token -> (what is wrong with it, what to do).
REFUSED = {
    "hooks": ("its hooks may change any swap", "quote it in the EVM or leave it out"),
    "dynamic_fee": ("its fee is decided at each swap", "quote it in the EVM or leave it out"),
    "fee_on_transfer": (
        "a token takes a fee on transfer, so less arrives than the pool is told",
        "leave out every pool of that token",
    ),
    "rebasing": (
        "balances of a token change without a swap",
        "use the wrapped token's pools or leave it out",
    ),
    "lending_rates": (
        "its rates accrue interest between swaps",
        "quote it in the EVM or leave it out",
    ),
    "rate_provider": (
        "its rates come from another contract",
        "quote it in the EVM or leave it out",
    ),
    "metapool": (
        "it trades the LP token of another pool at that pool's virtual price",
        "quote it in the EVM or leave it out",
    ),
    "dynamic_weights": ("its weights move with time", "quote it in the EVM or leave it out"),
    "callback_token": (
        "a token calls back on transfer and may change the pool in between",
        "leave out every pool of that token",
    ),
    "paused": ("its swaps are switched off", "load it again once it is not paused"),
}


# Generation of StableSwap plain pools -> what its stored A is multiplied by to be A n^(n-1) 100.
SWAP_TEMPLATE = "swap_template"
THREE_POOL = "3pool"
GENERATIONS = {SWAP_TEMPLATE: 1, THREE_POOL: stableswap.A_PRECISION}
# Generations whose integers differ from the kernel's.
REFUSED_GENERATIONS = {
    "early": "it adds 1 to every divisor of its invariant (the pools before 3pool: compound, usdt, "
    "y, busd, susd, pax, ren, sbtc)",
    "factory": "pools of the factories divide in another order when they solve their invariant",
    "ng": "its fee grows when the pool is lopsided, and its invariant is rounded otherwise",
}


class PoolRefusedError(ValueError):
    """A pool that the kernels cannot represent, or that no contract could be in."""

    def __init__(self, pool: str, reason: str, remedy: str) -> None:
        super().__init__(f"pool {pool}: {reason}; {remedy}")
        self.pool, self.reason, self.remedy = pool, reason, remedy


@dataclass(frozen=True)
class ConstantProductPool:
    """Uniswap V2 or a fork. `fee_numerators` are what is kept of coin 0 and coin 1 when sold."""

    name: str
    tokens: tuple[int, int]
    reserves: tuple[int, int]
    fee_numerators: tuple[int, int] = (997, 997)
    fee_denominator: int = 1000
    traits: tuple[str, ...] = ()


@dataclass(frozen=True)
class ConcentratedPool:
    """Uniswap V3 or PancakeSwap V3, by `snapshot.fork`."""

    name: str
    tokens: tuple[int, int]
    snapshot: PoolSnapshot
    traits: tuple[str, ...] = ()


@dataclass(frozen=True)
class V4Pool:
    """A Uniswap V4 pool as its manager stores it; fields as in `uniswap_v4.v4_snapshot`."""

    name: str
    tokens: tuple[int, int]
    key: PoolKey
    sqrt_price_x96: int
    tick: int
    liquidity: int
    ticks: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    protocol_fee: int = 0
    known_ticks: tuple[int, int] = (MIN_TICK, MAX_TICK)
    traits: tuple[str, ...] = ()


@dataclass(frozen=True)
class StablePool:
    """A StableSwap plain pool. Fees in 1e-10, A as the pool stores it.

    | generation | A is stored | which pools |
    |---|---|---|
    | swap_template | times n^(n-1) 100 | curve-contract's SwapTemplateBase and what is made of it |
    | 3pool | times n^(n-1) | StableSwap3Pool: in a ramp its A moves in whole units |
    | early, factory, ng | | refused by name: their integers differ from the kernel's |

    The answer is that of `exchange`. 3pool's view `get_dy` takes the fee after it has converted to
    token units, which can differ by a unit; and where 255 Newton rounds do not settle, 3pool goes
    on with the last one, which is refused here (NO_CONVERGENCE).
    """

    name: str
    tokens: tuple[int, ...]
    balances: tuple[int, ...]
    decimals: tuple[int, ...]
    fee: int
    admin_fee: int
    initial_a: int
    future_a: int
    initial_time_s: int = 0
    future_time_s: int = 0
    traits: tuple[str, ...] = ()
    generation: str = field(kw_only=True)


@dataclass(frozen=True)
class WeightedPool:
    """A Balancer V2 weighted pool: weights and fee in 1e-18, `exact_powers` after 2021."""

    name: str
    tokens: tuple[int, ...]
    balances: tuple[int, ...]
    weights: tuple[int, ...]
    decimals: tuple[int, ...]
    fee: int
    exact_powers: bool
    traits: tuple[str, ...] = ()


PoolRecord: TypeAlias = ConstantProductPool | ConcentratedPool | V4Pool | StablePool | WeightedPool


def build(
    records: Sequence[PoolRecord],
    token_traits: Mapping[int, Iterable[str]] | None = None,
    time_s: int = 0,
    spare_ticks: int = 32,
) -> Pools:
    """Arrays of all `records`, in their order; `time_s` is the block's timestamp.

    `token_traits` says of tokens what `traits` says of pools; keys of REFUSED. Raises
    PoolRefusedError naming the first pool that cannot be represented; `screen` finds them all.
    """
    _check_time(time_s)
    snapshots = [_checked(record, token_traits or {}) for record in records]
    concentrated = [snapshot for snapshot in snapshots if snapshot is not None]
    counts = [len(record.tokens) for record in records]
    first_coin = np.zeros(len(records) + 1, np.int64)
    first_coin[1:] = np.cumsum(counts)
    coins = int(first_coin[-1])
    pools = Pools(
        kind=np.zeros(len(records), np.int8),
        row=np.full(len(records), -1, np.int32),
        first_coin=first_coin,
        token=np.zeros(coins, np.int32),
        balance=np.zeros((coins, 4), np.uint64),
        scaled=np.zeros((coins, 4), np.uint64),
        rate=np.zeros((coins, 4), np.uint64),
        weight=np.zeros(coins, np.int64),
        decimals_scale=np.ones(coins, np.int64),
        fee_numerator=np.zeros(coins, np.int64),
        parameters=np.zeros((len(records), PARAMETERS), np.int64),
        time_s=np.array([time_s], np.int64),
        concentrated=build_pools(concentrated, spare_ticks),
    )
    row = 0
    for pool, (record, snapshot) in enumerate(zip(records, snapshots, strict=True)):
        first, last = first_coin[pool], first_coin[pool + 1]
        pools.token[first:last] = record.tokens
        if snapshot is not None:
            pools.kind[pool] = _KIND_OF_FORK[snapshot.fork]
            pools.row[pool] = row
            row += 1
        else:
            _write(pools, pool, slice(first, last), record)
    return pools


def screen(
    records: Iterable[PoolRecord], token_traits: Mapping[int, Iterable[str]] | None = None
) -> tuple[list[PoolRecord], list[PoolRefusedError]]:
    """(records that `build` takes, why the others are refused)."""
    taken, refused = [], []
    for record in records:
        try:
            _checked(record, token_traits or {})
        except PoolRefusedError as error:
            refused.append(error)
        else:
            taken.append(record)
    return taken, refused


def set_balances(pools: Pools, pool: int, balances: Sequence[int]) -> None:
    """Take over balances that the chain reports (Sync and the like), exact in token units.

    Raises ValueError for concentrated liquidity, a wrong number of balances, or one out of bounds.
    """
    first, last = int(pools.first_coin[pool]), int(pools.first_coin[pool + 1])
    kind = int(pools.kind[pool])
    if pools.row[pool] >= 0:
        raise ValueError(f"pool {pool} has no balances: use the concentrated kernels")
    if len(balances) != last - first:
        raise ValueError(f"balances of pool {pool}: {len(balances)} given, {last - first} expected")
    limit = 2**128 if kind == STABLESWAP else 2**112
    rates = [1] * len(balances)
    if kind == STABLESWAP:
        rates = [int.from_bytes(row.tobytes(), "little") for row in pools.rate[first:last]]
    scaled = [balance * rate for balance, rate in zip(balances, rates, strict=True)]
    if kind == STABLESWAP:
        scaled = [value // stableswap.RATE_DENOMINATOR for value in scaled]
    for at, value in enumerate(scaled):
        if not 0 <= value < limit or balances[at] < 0:
            raise ValueError(f"balances[{at}] of pool {pool} = {balances[at]}: out of bounds")
    pools.balance[first:last] = to_limbs(balances, 4)
    if kind == STABLESWAP:
        pools.scaled[first:last] = to_limbs(scaled, 4)


def set_time(pools: Pools, time_s: int) -> None:
    """Set the timestamp of the block that is traded in. Raises ValueError."""
    _check_time(time_s)
    pools.time_s[0] = time_s


def _check_time(time_s: int) -> None:
    """Raise ValueError unless `time_s` can be a block's timestamp."""
    if not 0 <= time_s < stableswap.MAX_TIME:
        raise ValueError(
            f"time_s = {time_s}: expected a timestamp in seconds, 0..{stableswap.MAX_TIME - 1}"
        )


_KIND_OF_FORK = {
    forks.UNISWAP_V3: UNISWAP_V3,
    forks.PANCAKE_V3: PANCAKE_V3,
    forks.UNISWAP_V4: UNISWAP_V4,
}


def _write(pools: Pools, pool: int, coins: slice, record: PoolRecord) -> None:
    parameters = pools.parameters[pool]
    if isinstance(record, ConstantProductPool):
        pools.kind[pool] = UNISWAP_V2
        pools.fee_numerator[coins] = record.fee_numerators
        parameters[FEE_DENOMINATOR] = record.fee_denominator
        set_balances(pools, pool, record.reserves)
    elif isinstance(record, StablePool):
        pools.kind[pool] = STABLESWAP
        pools.rate[coins] = to_limbs([10 ** (36 - d) for d in record.decimals], 4)
        parameters[[FEE, ADMIN_FEE]] = record.fee, record.admin_fee
        parameters[[INITIAL_A, FUTURE_A]] = record.initial_a, record.future_a
        parameters[A_SCALE] = GENERATIONS[record.generation]
        parameters[[INITIAL_TIME_S, FUTURE_TIME_S]] = record.initial_time_s, record.future_time_s
        set_balances(pools, pool, record.balances)
    elif isinstance(record, WeightedPool):
        pools.kind[pool] = WEIGHTED
        pools.weight[coins] = record.weights
        pools.decimals_scale[coins] = [10 ** (18 - d) for d in record.decimals]
        parameters[[FEE, EXACT_POWERS]] = record.fee, record.exact_powers
        set_balances(pools, pool, record.balances)


def _checked(record: PoolRecord, token_traits: Mapping[int, Iterable[str]]) -> PoolSnapshot | None:
    """Raise PoolRefusedError, or give the snapshot of a pool of concentrated liquidity."""
    _check_traits(record.name, record.traits, "trait")
    if len(set(record.tokens)) != len(record.tokens):
        raise PoolRefusedError(record.name, f"tokens = {record.tokens}", "give each token once")
    for token in record.tokens:
        _require(record.name, "tokens", token, 0, 2**31 - 1)
        _check_traits(record.name, token_traits.get(token, ()), f"token {token}")
    if isinstance(record, ConstantProductPool):
        _check_constant_product(record)
        return None
    if isinstance(record, StablePool):
        _check_stable(record)
        return None
    if isinstance(record, WeightedPool):
        _check_weighted(record)
        return None
    _same_length(record.name, record.tokens, 2)
    if isinstance(record, V4Pool):
        try:
            snapshot = v4_snapshot(
                record.key,
                record.sqrt_price_x96,
                record.tick,
                record.liquidity,
                record.ticks,
                record.protocol_fee,
                record.known_ticks,
            )
        except UnsupportedPoolError as error:
            reason, _, remedy = str(error).rpartition("; ")
            raise PoolRefusedError(record.name, reason or remedy, "leave it out") from error
    else:
        snapshot = record.snapshot
        if snapshot.fork not in (forks.UNISWAP_V3, forks.PANCAKE_V3):
            raise PoolRefusedError(
                record.name, f"snapshot.fork = {snapshot.fork}", "give V4 pools as V4Pool records"
            )
    try:
        build_pools([snapshot], 0)
    except (ValueError, OverflowError) as error:
        reason = str(error).removeprefix("pools[0].")
        raise PoolRefusedError(record.name, reason, "load its state again") from error
    return snapshot


def _check_traits(name: str, traits: Iterable[str], whose: str) -> None:
    for trait in traits:
        if trait not in REFUSED:
            known = ", ".join(sorted(REFUSED))
            raise PoolRefusedError(name, f"{whose} {trait!r} is unknown", f"use one of {known}")
        reason, remedy = REFUSED[trait]
        raise PoolRefusedError(name, f"{whose} {trait}: {reason}", remedy)


def _require(name: str, what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise PoolRefusedError(name, f"{what} = {value}", f"expected {low}..{high}")


def _same_length(name: str, tokens: Sequence[int], count: int, **lists: Sequence[int]) -> None:
    for what, values in ({"tokens": tokens} | lists).items():
        if len(values) != count:
            raise PoolRefusedError(name, f"{what} has {len(values)} entries", f"expected {count}")


def _check_constant_product(record: ConstantProductPool) -> None:
    name = record.name
    numerators = record.fee_numerators
    _same_length(name, record.tokens, 2, reserves=record.reserves, fee_numerators=numerators)
    _require(name, "fee_denominator", record.fee_denominator, 1, MAX_FEE_DENOMINATOR)
    for reserve, numerator in zip(record.reserves, numerators, strict=True):
        _require(name, "reserves", reserve, 0, 2**112 - 1)
        _require(name, "fee_numerators", numerator, 0, record.fee_denominator)


def _check_stable(record: StablePool) -> None:
    name, coins = record.name, len(record.tokens)
    _require(name, "number of tokens", coins, 2, stableswap.MAX_COINS)
    _same_length(name, record.tokens, coins, balances=record.balances, decimals=record.decimals)
    for balance, decimals in zip(record.balances, record.decimals, strict=True):
        _require(name, "decimals", decimals, 0, 36)
        most = (2**128 - 1) * 10**decimals // 10**18
        _require(name, "balances", balance, 0, most)
    _require(name, "fee", record.fee, 0, stableswap.MAX_FEE)
    _require(name, "admin_fee", record.admin_fee, 0, stableswap.MAX_ADMIN_FEE)
    if record.generation not in GENERATIONS:
        reason = REFUSED_GENERATIONS.get(record.generation, "no such generation is known")
        remedy = f"quote it in the EVM or leave it out (known: {', '.join(GENERATIONS)})"
        raise PoolRefusedError(name, f"generation {record.generation!r}: {reason}", remedy)
    most_a = stableswap.MAX_AMP // GENERATIONS[record.generation]
    _require(name, "initial_a", record.initial_a, 0, most_a)
    _require(name, "future_a", record.future_a, 1, most_a)
    _require(name, "initial_time_s", record.initial_time_s, 0, stableswap.MAX_TIME - 1)
    _require(name, "future_time_s", record.future_time_s, 0, stableswap.MAX_TIME - 1)


def _check_weighted(record: WeightedPool) -> None:
    name, coins = record.name, len(record.tokens)
    _require(name, "number of tokens", coins, 2, 50)
    lists = {"balances": record.balances, "weights": record.weights, "decimals": record.decimals}
    _same_length(name, record.tokens, coins, **lists)
    for balance, weight, decimals in zip(*lists.values(), strict=True):
        _require(name, "balances", balance, 0, 2**112 - 1)
        _require(name, "weights", weight, MIN_WEIGHT, ONE)
        _require(name, "decimals", decimals, 0, 18)
    if sum(record.weights) != ONE:
        raise PoolRefusedError(name, f"weights sum to {sum(record.weights)}", f"expected {ONE}")
    _require(name, "fee", record.fee, MIN_FEE, MAX_FEE)
