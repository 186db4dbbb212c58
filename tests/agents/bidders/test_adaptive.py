"""The tuned rules do what their names say, on hand-written observations, and pay in the market."""

import numpy as np

from agents.bidders.adaptive import (
    AIMD_DOWNS,
    AIMD_UPS,
    EMA_DECAYS,
    EMA_OFFSETS,
    aimd_candidates,
    by_value,
    ema_candidates,
    ema_of_clearing,
    tune,
    up_and_down,
)
from agents.bidders.arms import ADAPTIVE, VALIDATION_SEED, play, sweep_static, tuned_adaptive
from agents.bidders.baselines import FRACTIONS, nearest_bid, no_op, static
from agents.measures.intervals import iqm
from envs.market.config import MarketConfig, PricePaths
from envs.vector import MarketVectorEnv
from kernels.market.action import ACTIONS, BIDS, PASS, PPM, decode
from kernels.market.observation import FIELDS, SIZE

NAMES = [field.name for field in FIELDS]
FALLBACK = 7


def gap(fraction: float) -> float:
    return -np.log2(1.0 - fraction) / 4.0


def observation(*auctions: tuple[float, float, bool], net: float = 0.0) -> np.ndarray:
    """What is seen after `auctions` (own fraction, clearing fraction, won), newest first."""
    seen = np.zeros((1, SIZE), np.float32)
    seen[0, NAMES.index("opportunity0_net")] = net
    for past, (own, clearing, won) in enumerate(auctions):
        seen[0, NAMES.index(f"auction{past}_own")] = gap(own)
        seen[0, NAMES.index(f"auction{past}_clearing")] = gap(clearing)
        seen[0, NAMES.index(f"auction{past}_won")] = 1.0 if won else -1.0
    return seen


def bid(bidder: object, seen: np.ndarray) -> int:
    """The grid entry that a bidder chooses on the only opportunity."""
    action = int(bidder(seen, np.ones((1, ACTIONS), np.bool_))[0])  # type: ignore[operator]
    _, opportunity, ppm, _, _ = decode(action)
    assert opportunity == 0
    return int(nearest_bid(ppm / PPM))


def test_ema_follows_the_clearing_bids() -> None:
    newest, older = FRACTIONS[20], FRACTIONS[10]
    seen = observation((0.1, newest, False), (0.1, older, True))
    assert bid(ema_of_clearing(0.0, 0.0, FALLBACK), seen) == 20
    even = bid(ema_of_clearing(1.0, 0.0, FALLBACK), seen)
    assert 10 < even < 20
    assert bid(ema_of_clearing(1.0, 0.3, FALLBACK), seen) > even
    assert bid(ema_of_clearing(0.7, 0.0, FALLBACK), observation()) == FALLBACK


def test_up_and_down_moves_from_its_last_bid() -> None:
    rule = up_and_down(0.1, 0.05, FALLBACK)
    for at in (0, 5, BIDS - 1):
        lost = bid(rule, observation((FRACTIONS[at], 0.99, False)))
        won = bid(rule, observation((FRACTIONS[at], FRACTIONS[at], True)))
        assert lost == BIDS - 1 if at == BIDS - 1 else lost > at
        assert won == 0 if at == 0 else won < at
    assert bid(rule, observation()) == FALLBACK


def test_bids_by_value_take_the_bucket_of_the_net() -> None:
    rule = by_value(np.array([-1.0, 1.0]), np.array([3, 4, 5]))
    assert [bid(rule, observation(net=net)) for net in (-2.0, 0.0, 2.0)] == [3, 4, 5]


def test_nobody_bids_where_nothing_is_on_offer() -> None:
    masks = np.zeros((1, ACTIONS), np.bool_)
    masks[:, PASS] = True
    seen = observation((0.5, 0.5, True))
    for rule in (ema_of_clearing(0.5, 0.0, 0), up_and_down(0.1, 0.1, 0)):
        assert rule(seen, masks)[0] == PASS


def test_tuning_takes_the_best_and_counts_what_it_tried() -> None:
    scores = {"low": 1.0, "high": 2.0}
    candidates = {"low": static(0), "high": no_op}
    found = tune(lambda bidder: scores["high" if bidder is no_op else "low"], candidates)
    assert found == (no_op, "high", 2)
    assert len(ema_candidates(0)) == len(EMA_DECAYS) * len(EMA_OFFSETS)
    assert len(aimd_candidates(0)) == len(AIMD_UPS) * len(AIMD_DOWNS)


def test_tuning_in_the_market_does_not_lose(market: MarketConfig, paths: PricePaths) -> None:
    validation = MarketVectorEnv(32, market, paths, split="validation")
    sweep = sweep_static(validation)
    assert sweep.best_static.setting == f"{FRACTIONS[int(np.argmax(sweep.scores_eth))]:.1%}"
    assert (sweep.best_static.tried, sweep.by_value.tried) == (BIDS, 10 * BIDS)
    for arm, candidates in ADAPTIVE.items():
        tuned = tuned_adaptive(arm, sweep.best, validation)
        rules = candidates(sweep.best)
        assert tuned.tried == len(rules)
        earned = {
            name: iqm(play(rule, validation, VALIDATION_SEED).profit_eth)
            for name, rule in (*rules.items(), ("tuned", tuned.bidder))
        }
        assert earned["tuned"] == earned[tuned.setting] == max(earned.values())
