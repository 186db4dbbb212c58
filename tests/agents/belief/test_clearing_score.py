"""The score of a belief about clearing bids: what it takes from play, and what it teaches."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.belief.clearing_network import CLASSES, Law, RecurrentClearingBelief
from agents.belief.clearing_score import Seen, _remembered, log_scores, seen_of
from agents.belief.market_forecasts import forecast_of
from agents.bidders.clearing_laws import estimate_laws
from agents.config import PPOConfig, TrialsConfig
from agents.training.trial import Training, Trial, TrialInputs
from envs.market.block import OUTCOMES
from envs.market.config import MarketConfig, PricePaths
from envs.vector import MarketVectorEnv
from kernels.market.action import ACTIONS, BID_FRACTION, bid_indices

NETWORKS = "agents.belief.clearing_network:"
PPO = PPOConfig(
    num_envs=64,
    rollout_slots=16,
    minibatch=256,
    network=f"{NETWORKS}WindowClearingBelief",
    network_arguments={"units": 16},
    loss="agents.belief.clearing_score:clearing_score",
)


@pytest.fixture
def inputs(tmp_path: Path, market: MarketConfig, paths: PricePaths) -> TrialInputs:
    market = dataclasses.replace(market, ticks_per_slot=1)
    trials = TrialsConfig(seeds=1, steps=32_768, reports=2, validation_envs=64)
    return TrialInputs(market, paths, PPO, trials, 0.05, str(tmp_path / "tb"))


def training(inputs: TrialInputs, network: str = "WindowClearingBelief") -> Training:
    ppo = dataclasses.replace(inputs.ppo, network=NETWORKS + network)
    return Training(Trial("belief", 0, 5e-3), dataclasses.replace(inputs, ppo=ppo))


def test_what_is_learned_from_is_what_happened(paths: PricePaths) -> None:
    """Referee: the infos of the environment, slot by slot, under bids at random."""
    env = MarketVectorEnv(512, MarketConfig(episode_slots=64), paths, seed=2)
    env.reset(seed=2)
    rng = np.random.default_rng(0)
    counts = {"won": 0, "outbid": 0, "neither": 0, "unseen": 0}
    for _ in range(40):
        scores = rng.uniform(size=(512, ACTIONS)) * env.action_masks()
        actions = scores.argmax(axis=1)
        after, _, _, ended, infos = env.step(actions)
        assert not ended.any()
        seen = seen_of(torch.from_numpy(actions), torch.from_numpy(after))
        at = seen.at.numpy()
        outcome = np.array(OUTCOMES)[infos["outcome"]]
        bids = bid_indices(actions)
        assert np.array_equal(seen.entry.numpy(), bids[at])
        assert np.array_equal(seen.won.numpy(), infos["won"][at])
        higher = infos["clearing_fraction"] > infos["own_fraction"]
        assert np.array_equal(seen.outbid.numpy(), (higher & ~infos["won"])[at])
        places = np.searchsorted(BID_FRACTION, infos["clearing_fraction"], side="right")
        assert np.array_equal(seen.place.numpy()[higher[at]], places[at][higher[at]])
        whole = (actions >= 1) & (actions <= 128) | (actions >= 161)
        unseen = np.setdiff1d(np.flatnonzero((bids >= 0) & whole), at)
        assert set(outcome[unseen]) <= {"late", "passed", "missed", "filtered"}
        assert not set(outcome[at]) & {"late", "passed", "missed", "filtered"}
        counts["won"] += int(seen.won.sum())
        counts["outbid"] += int(seen.outbid.sum())
        counts["neither"] += int((~seen.won & ~seen.outbid).sum())
        counts["unseen"] += unseen.size
    assert min(counts.values()) > 20, counts


def test_scores_are_the_log_chances_of_what_is_known() -> None:
    torch.manual_seed(0)
    law = Law(torch.randn(3, CLASSES), torch.randn(3))
    p, landing = law.logits.softmax(-1), law.landing.sigmoid()
    seen = Seen(
        torch.arange(3),
        torch.tensor([4, 10, 10]),
        torch.tensor([20, 11, 11]),
        torch.tensor([True, False, False]),
        torch.tensor([False, True, False]),
    )
    clearing, landed = log_scores(law, seen)
    wanted = torch.stack([p[0, 20], p[1, :11].sum(), p[2, :11].sum()]).log()
    torch.testing.assert_close(clearing, wanted)
    wanted = torch.stack([torch.tensor(0.0), landing[1].log(), (1.0 - landing[2]).log()])
    torch.testing.assert_close(landed, wanted)


def test_samples_know_their_place_in_the_rollout(inputs: TrialInputs) -> None:
    for network in ("WindowClearingBelief", "RecurrentClearingBelief"):
        learner = training(inputs, network).model
        learner.learn(64 * 16)
        buffer = learner.rollout_buffer
        flat = buffer.actions.reshape(-1)
        for batch in buffer.get(256):
            assert np.array_equal(flat[batch.rows], batch.actions.numpy())


def test_a_memory_is_read_as_it_was_played(inputs: TrialInputs) -> None:
    learner = training(inputs, "RecurrentClearingBelief").model
    learner.learn(3 * 64 * 16)  # the third rollout begins in the middle of episodes of 32 slots
    network: Any = learner.policy.network  # type: ignore[union-attr]
    assert isinstance(network, RecurrentClearingBelief)
    buffer = learner.rollout_buffer
    batch = next(iter(buffer.get(256)))
    assert batch.starts is not None
    assert batch.state is not None
    assert batch.order is not None
    with torch.no_grad():
        observations, past = _remembered(network, batch)
        lanes = batch.starts.shape[1]
        state = batch.state
        for t in range(16):
            state = state * torch.from_numpy(~batch.starts[t]).float()[None, :, None]
            seen = batch.observations[t * lanes : (t + 1) * lanes]
            _, _, state = network(seen, state)
            wanted = network.remembered(seen, state[0])
            mine = (batch.order // lanes == t).nonzero()[:, 0]
            which = batch.order[mine] % lanes
            torch.testing.assert_close(past[mine], wanted[which])
            torch.testing.assert_close(observations[mine], seen[which])


@pytest.mark.parametrize("network", ["WindowClearingBelief", "RecurrentClearingBelief"])
def test_it_learns_to_foretell_and_to_earn(inputs: TrialInputs, network: str) -> None:
    learning = training(inputs, network)
    untrained = learning.model.policy.network  # type: ignore[union-attr]
    env, train = (
        MarketVectorEnv(128, inputs.market, inputs.paths, split=split)
        for split in ("validation", "train")
    )
    laws = estimate_laws(train, len(inputs.market.regimes.log_rate))
    before = forecast_of(untrained, laws, env, 5)
    while not learning.finished:
        learning.advance()
    learning.close()
    found = forecast_of(learning.model.policy.network, laws, env, 5)  # type: ignore[union-attr]
    assert before["log_score"]["belief"] < found["log_score"]["law"]
    assert found["log_score"]["belief"] > found["log_score"]["law"]
    assert found["brier"]["belief"] < found["brier"]["law"]
    assert found["reliability"]["error"] < 0.1
    assert sum(found["reliability"]["auctions"]) == found["auctions"] > 1000
    assert learning.curve[-1]["validation_share"] > 0.3
