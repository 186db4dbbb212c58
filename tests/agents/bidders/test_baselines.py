"""Scripted bidders bid what they say, and the clamped rule is the rivals' own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.bidders.baselines import (
    FRACTIONS,
    greedy,
    gross_rule,
    nearest_bid,
    network_bidder,
    no_op,
    static,
)
from envs.market.config import MarketConfig, PricePaths
from envs.market.rivals import CLAMPED, rule_bid
from envs.vector import MarketVectorEnv
from kernels.market.action import ACTIONS, BIDS, PPM, decode
from kernels.market.observation import SIZE
from kernels.market.tile import (
    BASE_FEE,
    BUNDLE,
    FOUND_AGE,
    FOUND_CYCLE,
    FOUND_GROSS,
    FOUND_NET,
    OWN_TIP,
)
from models.frozen import Network


@pytest.fixture(scope="module")
def env(market: MarketConfig, paths: PricePaths) -> MarketVectorEnv:
    return MarketVectorEnv(64, market, paths, split="validation")


@given(st.floats(0.0, 1.0))
def test_nearest_bid_is_nearest(fraction: float) -> None:
    gap = abs(FRACTIONS - fraction)
    assert gap[int(nearest_bid(fraction))] == gap.min()


def test_fixed_fractions_bid_on_the_best_opportunity_or_pass(env: MarketVectorEnv) -> None:
    observations, _ = env.reset(seed=3)
    for _ in range(20):
        masks = env.action_masks()
        actions = greedy(0.9)(observations, masks)
        for action, mask in zip(actions, masks):
            _, opportunity, ppm, channel, size = decode(int(action))
            assert (channel, size) == (BUNDLE, PPM)
            assert opportunity == (0 if mask[1] else -1)
            assert not mask[1] or abs(ppm / PPM - 0.9) <= 0.011
        assert (no_op(observations, masks) == 0).all()
        observations, *_ = env.step(actions)


def test_static_bids_outside_the_grid_are_refused() -> None:
    with pytest.raises(ValueError, match=f"bid {BIDS} is outside"):
        static(BIDS)


def test_gross_rule_is_the_clamped_rule_of_the_rivals(
    env: MarketVectorEnv, market: MarketConfig
) -> None:
    """Read back from the observation, against the rivals' kernel on the simulator's own rows."""
    observations, _ = env.reset(seed=4)
    checked = 0
    for _ in range(25):
        masks = env.action_masks()
        actions = gross_rule(market)(observations, masks)
        rows = env.state()["tiles"].transpose(0, 2, 1).reshape(-1, env.state()["tiles"].shape[1])
        for row, action in zip(rows, actions):
            if row[FOUND_CYCLE] < 0:
                assert action == 0
                continue
            net, gross = row[FOUND_NET], row[FOUND_GROSS]
            gas = (gross - net) / (row[BASE_FEE] + row[OWN_TIP]) / 1e-9
            bid = rule_bid(CLAMPED, net, gross, gas, row[FOUND_AGE], *market.rivals.clamp_gwei)
            _, opportunity, ppm, _, _ = decode(int(action))
            assert opportunity == 0
            # The observation is float32 and clipped: neighbours on the grid are the same bid.
            assert abs(int(nearest_bid(bid / net)) - int(nearest_bid(ppm / PPM))) <= (net < 2e-5)
            checked += 1
        observations, *_ = env.step(actions)
    assert checked > 200


def test_network_bidder_takes_the_best_allowed_logit() -> None:
    rng = np.random.default_rng(0)
    layers = [
        (rng.normal(size=(8, SIZE)).astype(np.float32), rng.normal(size=8).astype(np.float32)),
        (rng.normal(size=(ACTIONS, 8)).astype(np.float32), np.zeros(ACTIONS, np.float32)),
    ]
    observations = rng.normal(size=(50, SIZE)).astype(np.float32)
    masks = rng.random((50, ACTIONS)) < 0.5
    masks[:, 0] = True
    logits = np.tanh(observations @ layers[0][0].T + layers[0][1]) @ layers[1][0].T
    actions = network_bidder(Network(tuple(layers)))(observations, masks)
    assert np.array_equal(actions, np.where(masks, logits, -np.inf).argmax(axis=1))
