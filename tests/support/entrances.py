"""Every way for arrays of a caller into compiled code, each with arrays that it takes.

`hostile` makes of one array what a caller gets wrong: widths, dimensions, types, unknown numbers.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from envs.auctions.equilibrium import PowerLaw
from envs.auctions.game import AuctionGame, AuctionVectorEnv
from envs.hidden_competition.env import HiddenCompetitionEnv
from envs.hidden_competition.model import Chains, HiddenCompetition
from envs.hidden_competition.references import (
    CLEARING_PUBLIC,
    bayes_bids,
    capture,
    moving_average_bids,
    raise_and_lower_bids,
)
from envs.market.paths import PricePaths
from history.prices import Bars, SymbolBars
from kernels.calldata.routers import decode_batch
from kernels.calldata.rows import CALL_WORDS, ROUTER_WORDS, SWAP_WORDS
from kernels.chain.fees import next_base_fees
from kernels.graph.bellman_ford import paying_cycles
from kernels.graph.token_graph import build_token_graph
from kernels.market.action import ACTIONS
from kernels.market.observation import SIZE
from kernels.networks.features import N_FEATURES
from kernels.networks.forecast import Weights
from kernels.pools import product_filter, uniswap_v2
from kernels.pools.any_pool import PoolTrades, trade_batch
from kernels.pools.records import ConstantProductPool, build
from kernels.pools.uniswap_v3 import float_filter
from kernels.pools.uniswap_v3.liquidity import (
    LiquidityChanges,
    LiquidityResults,
    modify_liquidity_batch,
)
from kernels.pools.uniswap_v3.pool import TradeResults, Trades, swap_batch
from kernels.sizing.mixed_cycles import refine_mixed_batch
from kernels.sizing.product_cycles import refine_batch
from models.frozen import FrozenForecaster, FrozenPolicy, Lstm, Network
from models.patterns.regimes import RegimeModel
from models.volatility.ewma import log_ewma_at
from models.volatility.origins import build_origins
from tests.support.frozen_policy import random_forecaster

N, UNITS = 3, 4
Arrays = dict[str, np.ndarray]


class Entrance(NamedTuple):
    """`call` takes the arrays by name; those in `finite` hold numbers that must be known."""

    call: Callable[..., Any]
    arrays: Arrays
    finite: tuple[str, ...] = ()


def u64(*shape: int) -> np.ndarray:
    return np.ones(shape, np.uint64)


def i64(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.int64)


def f64(*shape: int) -> np.ndarray:
    return np.full(shape, 0.5)


def flags(*shape: int) -> np.ndarray:
    return np.ones(shape, np.bool_)


def batches() -> dict[str, Entrance]:
    """Kernels behind `checked_arrays.entrance`."""
    pools = build([ConstantProductPool("pair", (0, 1), (10**20, 10**20))])
    quote = {
        **{name: u64(N, 2) for name in ("reserve_in", "reserve_out", "amount_in", "amount_out")},
        **{name: i64(N) for name in ("fee_numerator", "fee_denominator", "status")},
    }
    cycles = {
        **{name: u64(N, 2, 2) for name in ("reserve_in", "reserve_out")},
        **{name: i64(N, 2) for name in ("fee_numerator", "fee_denominator")},
        "amount_in_estimate": f64(N),
        "amounts": u64(N, 3, 2),
        "status": i64(N),
        "gap": f64(N),
    }

    def of_records(kernel: Any, first: Any, second: Any, extra: tuple[Any, ...] = ()) -> Any:
        def call(**arrays: np.ndarray) -> None:
            left = first(*(arrays[name] for name in first._fields))
            if isinstance(second, tuple):
                kernel(pools, left, *(arrays[name] for name in second), *extra)
            else:
                right = second(*(arrays[name] for name in second._fields))
                kernel(pools.concentrated, left, right, *extra)

        return call

    trades = {"pool": i64(N), "zero_for_one": flags(N), "exact_in": flags(N)}
    trades |= {"amount": u64(N, 4), "limit": u64(N, 4)}
    done = {"status": np.zeros(N, np.int32), "ticks_crossed": np.zeros(N, np.int32)}
    done |= {"amount_in": u64(N, 4), "amount_out": u64(N, 4)}
    changes = {name: np.zeros(N, np.int32) for name in ("pool", "lower", "upper", "status")}
    changes |= {"mint": flags(N), "amount": u64(N, 2), "amount0": u64(N, 4), "amount1": u64(N, 4)}
    any_trades = {name: i64(N) for name in ("pool", "coin_in", "coin_out", "status")}
    any_trades |= {"exact_in": flags(N), "amount": u64(N, 4), "answers": u64(N, 4)}
    mixed = {name: i64(N, 2) for name in ("pool", "coin_in", "coin_out")}
    mixed |= {"amounts": u64(N, 3, 4), "status": i64(N), "gap": f64(N)}
    ranks = {
        product_filter.rank_product_outputs: "amounts reserves_in reserves_out keep outputs",
        product_filter.rank_weighted_outputs: (
            "amounts balances_in balances_out exponents keep outputs"
        ),
        product_filter.rank_stable_outputs: (
            "amounts balances_in balances_out invariants offsets products keep outputs"
        ),
        float_filter.rank_outputs: "amounts sqrt_prices liquidities keep outputs",
        next_base_fees: "base_fee_wei gas_used gas_limit out",
    }
    found = {
        "quote_out_batch": Entrance(uniswap_v2.quote_out_batch, quote),
        "quote_in_batch": Entrance(uniswap_v2.quote_in_batch, quote),
        "v2_swap_batch": Entrance(
            uniswap_v2.swap_batch,
            {
                **{name: u64(N, 4) for name in ("reserves", "amounts_in", "amounts_out")},
                "fees": i64(N, 3),
                "status": i64(N),
            },
        ),
        "refine_batch": Entrance(lambda **a: refine_batch(search_width=8, **a), cycles),
        "refine_mixed_batch": Entrance(
            lambda **a: refine_mixed_batch(pools, search_width=8, **a), mixed
        ),
        "v3_swap_batch": Entrance(
            of_records(swap_batch, Trades, TradeResults, (False,)), trades | done
        ),
        "modify_liquidity_batch": Entrance(
            of_records(modify_liquidity_batch, LiquidityChanges, LiquidityResults), changes
        ),
        "trade_batch": Entrance(
            of_records(trade_batch, PoolTrades, ("status", "answers"), (False,)), any_trades
        ),
        "decode_batch": Entrance(
            decode_batch,
            {
                "data": np.zeros(100, np.uint8),
                "calls": u64(N, CALL_WORDS),
                "routers": u64(2, ROUTER_WORDS),
                "swaps": u64(9, SWAP_WORDS),
                "counts": i64(N),
            },
        ),
    }
    for kernel, names in ranks.items():
        found[kernel.__name__] = Entrance(kernel, {name: f64(N) for name in names.split()})
    return found


def network(units: int = 0) -> Network:
    """A small policy network, with an LSTM of so many units."""
    rng = np.random.default_rng(1)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(0.0, 0.1, shape).astype(np.float32)

    lstm = Lstm(draw(4 * units, SIZE), draw(4 * units, units), draw(4 * units)) if units else None
    widths = [units or SIZE, 8, ACTIONS]
    layers = tuple((draw(b, a), draw(b)) for a, b in itertools.pairwise(widths))
    return Network(layers, lstm)


def models() -> dict[str, Entrance]:
    """Frozen policies and forecasters, regimes, bars."""
    made = random_forecaster(np.random.default_rng(2))
    weights = {name: getattr(made, name) for name in Weights._fields}
    regimes = RegimeModel(
        *(np.array([0.5, 0.5]), np.full((2, 2), 0.5), np.zeros((2, 3)), np.stack([np.eye(3)] * 2)),
        *(0.0, 100, True),
    )
    observation, mask = np.zeros(SIZE, np.float32), np.ones(ACTIONS, np.bool_)
    many = {"observations": np.zeros((N, SIZE), np.float32), "masks": flags(N, ACTIONS)}
    bars = {"minute": np.arange(100, dtype=np.int64), "ohlcv": np.ones((100, 5))}
    found = {}
    for units in (0, UNITS):
        policy = FrozenPolicy(network(units), {})
        found[f"decide, {units} units"] = Entrance(
            policy.decide, {"observation": observation, "mask": mask}, ("observation",)
        )
        found[f"player, {units} units"] = Entrance(
            lambda observations, masks, policy=policy: policy.player()(observations, masks),
            many,
            ("observations",),
        )
    slots = FrozenPolicy(network(UNITS), {})
    forecaster = FrozenForecaster(Weights(**weights), [-13.0, -12.0, -11.0])
    inputs = {"inputs": np.zeros((N, N_FEATURES)), "restart": flags(N), "state": made.new_state()}
    found |= {
        "end_slot": Entrance(slots.end_slot, {"observation": observation}, ("observation",)),
        "forecaster": Entrance(
            lambda **arrays: FrozenForecaster(Weights(**arrays), [0.0] * 3),
            weights,
            ("scale", "base", "weights"),
        ),
        "forecaster step": Entrance(forecaster.step, {"inputs": f64(N_FEATURES)}, ("inputs",)),
        "forecaster history": Entrance(made.run, inputs, ("inputs", "state")),
        "regime filter": Entrance(regimes.filter, {"x": np.zeros((9, 3))}),
        "origins": Entrance(lambda **a: build_origins(bars_of(**a), (5,)), bars),
        "ewma": Entrance(
            lambda **a: log_ewma_at(SymbolBars("ETHUSDT", **a), 1, a["minute"][5:9]), bars
        ),
    }
    return found


def bars_of(minute: np.ndarray, ohlcv: np.ndarray) -> Bars:
    return Bars((SymbolBars("ETHUSDT", minute, ohlcv),), 1, "made here")


def environments() -> dict[str, Entrance]:
    """Steps of the bare auctions, recorded chains, price paths, token graphs."""
    game = AuctionVectorEnv(4, AuctionGame(PowerLaw(), learners=2))
    hidden, model = HiddenCompetitionEnv(4), HiddenCompetition()
    game.reset(seed=1)
    hidden.reset(seed=1)
    graph = build_token_graph([0, 1, 0], [1, 2, 2], 3)
    minutes = 400
    chains = {
        "regime": np.zeros((9, 2), np.int8),
        "log_value": np.full((9, 2), -3.0),
        "top_rival": np.full((9, 2), 0.5),
    }
    paths = {
        "log_price": np.zeros((minutes, 2)),
        "slot_sigma": np.full((minutes, 2), 1e-4),
        "forecast": np.full((minutes, 3), -12.0),
        "segment": np.zeros(minutes, np.int64),
    }
    return {
        "auction step": Entrance(game.step, {"actions": i64(4)}),
        "auction fractions": Entrance(game.step_fractions, {"fractions": f64(4)}, ("fractions",)),
        "hidden step": Entrance(hidden.step, {"actions": i64(4)}),
        "hidden fractions": Entrance(hidden.step_fractions, {"fractions": f64(4)}, ("fractions",)),
        "bayes": Entrance(
            lambda **a: bayes_bids(model, Chains(**a), CLEARING_PUBLIC),
            chains,
            ("log_value", "top_rival"),
        ),
        "capture": Entrance(
            lambda **a: capture(model, Chains(**a), 0.5), chains, ("log_value", "top_rival")
        ),
        "moving average": Entrance(
            lambda rule: moving_average_bids(Chains(**chains), rule), {"rule": f64(4)}, ("rule",)
        ),
        "raise and lower": Entrance(
            lambda rule: raise_and_lower_bids(Chains(**chains), rule), {"rule": f64(2)}, ("rule",)
        ),
        "price paths": Entrance(
            lambda **a: PricePaths(**a, source="made here"),
            paths,
            ("log_price", "slot_sigma", "forecast"),
        ),
        "paying cycles": Entrance(
            lambda log_rates: paying_cycles(graph, log_rates, 3),
            {"log_rates": np.zeros(6)},
            ("log_rates",),
        ),
    }


def everything() -> dict[str, Entrance]:
    return batches() | models() | environments()


def hostile(array: np.ndarray, finite: bool) -> Iterator[tuple[str, Any]]:
    """What a caller may hand over instead of `array`."""
    yield "one more", np.concatenate([array, array[:1]])
    yield "one less", array[:-1].copy()
    yield "another axis", array[None]
    yield "nothing", array[:0].copy()
    if array.ndim > 1:
        yield "a column less", np.ascontiguousarray(array[..., :-1])
        yield "a column more", np.concatenate([array, array[..., :1]], axis=-1)
    yield "text", array.astype("U8")
    yield "complex", array.astype(np.complex128)
    if array.dtype.kind in "iub":
        yield "floats", array.astype(np.float64)
    if finite:
        for name, value in (("NaN", np.nan), ("infinite", np.inf)):
            wrong = array.copy()
            wrong.reshape(-1)[-1] = value
            yield name, wrong
