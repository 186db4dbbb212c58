"""The auction between builders: determinism, bounds, and hand-checked strategies."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from envs.auctions.block_auction import (
    SLOT_STEPS,
    BlockAuction,
    Builder,
    best_bid_paths,
    play_block_auctions,
)

NAIVE = tuple(Builder("naive", access, 1) for access in (0.5, 0.9, 1.0))
MODEL = BlockAuction(NAIVE, margin_sd_eth=0.0)


def test_auctions_depend_on_split_seed_and_index_only() -> None:
    few, many = (play_block_auctions(MODEL, n, "test", 7) for n in (5, 40))
    for a, b in zip(few, many):
        assert np.array_equal(a, b[:5])
    other = play_block_auctions(MODEL, 40, "train", 7)
    assert not np.array_equal(other.total, many.total)


def test_naive_builders_bid_their_signal_less_the_margin() -> None:
    """One step late, the winner keeps its margin and what arrived in that step."""
    played = play_block_auctions(replace(MODEL, network_delay_steps=0), 300)
    assert np.all(played.profit >= MODEL.margin_eth - 1e-12)
    assert np.median(played.profit) == pytest.approx(MODEL.margin_eth, abs=1e-12)
    assert (played.winner == 2).mean() > 0.9  # it sees everything
    assert np.all(played.signal <= played.total + 1e-12)
    assert np.all(played.efficiency < 1.0)


def test_a_lone_adaptive_bidder_pays_one_raise_above_the_others() -> None:
    builders = (Builder("naive", 0.0, 1), Builder("adaptive", 1.0, 1))
    model = BlockAuction(builders, 1, margin_sd_eth=0.0, public_mean=40.0)
    played = play_block_auctions(model, 200)
    naive = play_block_auctions(
        replace(model, builders=(builders[0], Builder("naive", 0.0, 1))), 200
    )
    won = (played.winner == 1) & (played.signal - model.margin_eth > played.bid + 1e-9)
    assert won.mean() > 0.5
    # what it tops is the naive bid of a step or two before: no more than one raise above the last
    assert np.all(played.bid[won] <= naive.bid[won] + model.min_raise_eth + 1e-12)


def test_a_last_minute_bid_arrives_with_the_end() -> None:
    builders = (Builder("naive", 0.0, 1), Builder("last_minute", 1.0, 3))
    punctual = play_block_auctions(BlockAuction(builders, 4, margin_sd_eth=0.0), 200)
    assert (punctual.winner == 1).mean() > 0.9
    late = play_block_auctions(BlockAuction(builders, 4, margin_sd_eth=0.0, end_sd_steps=5.0), 200)
    assert 0.3 < (late.winner == 1).mean() < 0.7  # half of the time the proposer looked before


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Builder("greedy"), "strategy"),
        (lambda: Builder(access=1.5), "access"),
        (lambda: BlockAuction((Builder(),)), "builders"),
        (lambda: BlockAuction((Builder(delay_steps=0),) * 2, 0), "at least 1 step"),
        (lambda: replace(MODEL, end_sd_steps=1e3), "end_sd_steps"),
        (lambda: replace(MODEL, public_mean=-1.0), "public_mean"),
        (lambda: replace(MODEL, min_raise_eth=-1.0), "min_raise_eth"),
        (lambda: replace(MODEL, safety_steps=-1), "safety_steps"),
    ],
)
def test_impossible_models_are_refused(make: Any, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        make()


def test_the_path_of_the_best_bid_ends_at_the_winning_one() -> None:
    played, paths = play_block_auctions(MODEL, 300), best_bid_paths(MODEL, 300)
    assert paths.shape == (300, SLOT_STEPS + 1)
    np.testing.assert_array_equal(paths[:, -1], played.bid)
    assert np.all(np.diff(paths, axis=1) >= 0.0), "naive bidders only raise"
    lag = MODEL.network_delay_steps + 1
    assert not paths[:, :lag].any(), "nothing has arrived yet"
    # Values arrive evenly, and a margin is kept of them.
    half = paths[:, SLOT_STEPS // 2].mean() / paths[:, -1].mean()
    assert 0.4 < half < 0.5
    hidden = replace(MODEL, builders=(Builder("last_minute", 1.0, 1),) * 2)
    paths = best_bid_paths(hidden, 100)
    assert not paths[:, -2].any()
    assert np.all(paths[:, -1] == play_block_auctions(hidden, 100).bid)
    early = best_bid_paths(replace(MODEL, end_sd_steps=50.0), 100)
    assert np.any(np.all(early[:, -20:] == early[:, -1:], axis=1)), "an early look ends the path"
