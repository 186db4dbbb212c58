"""The tuned rules do what their names say, on hand-written auctions, and pay in the market."""

import numpy as np
import pytest

from agents.bidders.adaptive import (
    AIMD_GRID,
    EMA_GRID,
    by_value,
    ema_of_clearing,
    up_and_down,
)
from agents.bidders.arms import (
    ADAPTIVE,
    BAYES,
    VALIDATION_SEED,
    play,
    sweep_static,
    tuned_adaptive,
    with_public,
)
from agents.bidders.baselines import FRACTIONS, Bidder, nearest_bid, no_op, static
from agents.bidders.channels import NO_PUBLIC
from agents.bidders.tuning import Axis, Grid, tune, tune_grid
from agents.measures.intervals import iqm
from envs.market.config import MarketConfig, PricePaths
from envs.vector import MarketVectorEnv
from kernels.market.action import ACTIONS, BIDS, PASS, PPM, decode
from kernels.market.observation import FIELDS, SIZE, STALENESS_SCALE
from kernels.market.tile import PUBLIC

NAMES = [field.name for field in FIELDS]
FALLBACK = 7
Auction = tuple[float, float, bool]  # own fraction, clearing fraction, won


def gap(fraction: float) -> float:
    return -np.log2(1.0 - fraction) / 4.0


def observation(auction: Auction | None = None, net: float = 0.0, taken: bool = True) -> np.ndarray:
    """What is seen in a slot right after an auction of ours."""
    seen = np.zeros((1, SIZE), np.float32)
    seen[0, NAMES.index("opportunity0_net")] = net
    seen[0, NAMES.index("bundles_taken")] = float(taken)
    if auction is not None:
        own, clearing, won = auction
        seen[0, NAMES.index("auction0_own")] = gap(own)
        seen[0, NAMES.index("auction0_clearing")] = gap(clearing)
        seen[0, NAMES.index("auction0_won")] = 1.0 if won else -1.0
        seen[0, NAMES.index("auction0_staleness")] = 1.0 / STALENESS_SCALE
    return seen


def bid(bidder: Bidder, seen: np.ndarray) -> int:
    """The grid entry that a bidder chooses on the only opportunity."""
    action = int(bidder(seen, np.ones((1, ACTIONS), np.bool_))[0])
    _, opportunity, ppm, _, _ = decode(action)
    assert opportunity == 0
    return int(nearest_bid(ppm / PPM))


def after(rule: Bidder, *auctions: Auction) -> int:
    """What a rule bids after it went through `auctions`, oldest first."""
    found = bid(rule, observation())
    for auction in auctions:
        found = bid(rule, observation(auction))
    return found


def test_ema_follows_the_clearing_bids() -> None:
    newest, older = FRACTIONS[20], FRACTIONS[10]
    auctions = (0.1, older, True), (0.1, newest, False)
    assert after(ema_of_clearing(0.0, 0.0, FALLBACK), *auctions) == 20
    even = after(ema_of_clearing(1.0, 0.0, FALLBACK), *auctions)
    assert 10 < even < 20
    assert after(ema_of_clearing(1.0, 0.3, FALLBACK), *auctions) > even
    assert after(ema_of_clearing(0.7, 0.0, FALLBACK)) == FALLBACK


def test_up_and_down_moves_from_its_last_bid() -> None:
    for at in (0, 5, BIDS - 1):
        lost = after(up_and_down(0.1, 0.05, FALLBACK), (FRACTIONS[at], 0.995, False))
        won = after(up_and_down(0.1, 0.05, FALLBACK), (FRACTIONS[at], FRACTIONS[at], True))
        assert lost == BIDS - 1 if at == BIDS - 1 else lost > at
        assert won == 0 if at == 0 else won < at
    assert after(up_and_down(0.1, 0.05, FALLBACK)) == FALLBACK


def test_up_and_down_stays_where_the_pools_had_moved() -> None:
    """Lost, but not to a higher bid: nothing is known about the rivals."""
    stale = (FRACTIONS[9], FRACTIONS[9], False)
    assert after(up_and_down(0.1, 0.05, FALLBACK), stale) == 9


def test_auctions_in_public_do_not_move_the_bundles() -> None:
    rule = up_and_down(0.1, 0.05, FALLBACK)
    masks = np.ones((1, ACTIONS), np.bool_)
    outbid = (FRACTIONS[9], 0.99, False)
    level = after(rule, outbid)
    both = with_public(rule, 3)
    public = int(both(observation(taken=False), masks)[0])
    assert decode(public)[3] == PUBLIC
    assert bid(both, observation((0.6, 0.99, False))) == level  # that was the public one
    rule.restart()  # type: ignore[attr-defined]
    assert bid(both, observation(outbid)) == FALLBACK  # of another episode: not ours


def test_a_rule_without_a_public_bid_passes_there() -> None:
    masks = np.ones((1, ACTIONS), np.bool_)
    assert with_public(static(3), NO_PUBLIC)(observation(taken=False), masks)[0] == PASS


def test_bids_by_value_take_the_bucket_of_the_net() -> None:
    rule = by_value(np.array([-1.0, 1.0]), np.array([3, 4, 5]))
    assert [bid(rule, observation(net=net)) for net in (-2.0, 0.0, 2.0)] == [3, 4, 5]


def test_nobody_bids_where_nothing_is_on_offer() -> None:
    masks = np.zeros((1, ACTIONS), np.bool_)
    masks[:, PASS] = True
    for rule in (ema_of_clearing(0.5, 0.0, 0), up_and_down(0.1, 0.1, 0)):
        for taken in (True, False):
            assert with_public(rule, 2)(observation(taken=taken), masks)[0] == PASS


def test_tuning_takes_the_best_and_counts_what_it_tried() -> None:
    scores = {"low": 1.0, "high": 2.0}
    candidates = {"low": static(0), "high": no_op}
    found = tune(lambda bidder: scores["high" if bidder is no_op else "low"], candidates)
    assert found == (no_op, "high", 2)


@pytest.mark.parametrize(
    ("peak", "setting", "tried"),
    [(2.0, "2", 3), (5.0, "5", 6), (-1.0, "0, at the edge", 4), (9.0, "6, at the edge", 6)],
)
def test_a_grid_grows_where_its_best_lies_at_an_edge(peak: float, setting: str, tried: int) -> None:
    place: dict[int, float] = {}

    def make(value: float, fallback: int) -> Bidder:
        def rule(observations: np.ndarray, masks: np.ndarray) -> np.ndarray:
            return np.full(len(observations), PASS)

        place[id(rule)] = value
        kept.append(rule)
        return rule

    kept: list[Bidder] = []
    grid = Grid("{:g}", (Axis((1.0, 2.0, 3.0), (4.0, 5.0, 6.0, 0.0)),), make)
    found = tune_grid(lambda rule: -abs(place[id(rule)] - peak), grid, 0)
    assert (found.setting, found.tried) == (setting, tried)


def test_tuning_in_the_market_does_not_lose(market: MarketConfig, paths: PricePaths) -> None:
    validation, training = (
        MarketVectorEnv(32, market, paths, split=split) for split in ("validation", "train")
    )
    sweep = sweep_static(validation)
    fraction = FRACTIONS[int(np.argmax(sweep.scores_eth))]
    assert sweep.best_static.setting.startswith(f"{fraction:.1%}")
    assert (sweep.best_static.tried, sweep.by_value.tried) == (BIDS + 9, 10 * (BIDS + 9))
    best = iqm(play(sweep.best_static.bidder, validation, VALIDATION_SEED).profit_eth)
    assert best == max(sweep.public_scores_eth)
    for arm in ADAPTIVE:
        tuned = tuned_adaptive(arm, sweep.best, sweep.public, validation, training)
        grid = {"EMA of clearing": EMA_GRID, "up on loss, down on win": AIMD_GRID}.get(arm)
        assert tuned.tried == 1 if arm == BAYES else tuned.tried >= 16
        if grid is None:
            continue
        earned = [
            iqm(play(with_public(rule, sweep.public), validation, VALIDATION_SEED).profit_eth)
            for rule in grid.candidates(sweep.best).values()
        ]
        found = iqm(play(tuned.bidder, validation, VALIDATION_SEED).profit_eth)
        assert found >= max(earned)
