"""Lanes split over markets: each lane is that of its own market, and the learner learns on them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from agents.config import PPOConfig, TrainConfig, TrialsConfig
from agents.learner.mixture import MixedMarkets, part_seed
from agents.market_draws import RandomiseConfig, drawn_markets
from agents.training.trial import Training, Trial, TrialInputs
from configs.settings import ConfigError
from envs.market.config import MarketConfig, PricePaths
from envs.vector import MarketVectorEnv

PPO = PPOConfig(num_envs=40, rollout_slots=8, minibatch=160, epochs=2, hidden=(16,))
TRIALS = TrialsConfig(
    seeds=1, steps=3200, reports=2, validation_envs=16, randomise=RandomiseConfig(count=3)
)
TRIAL = Trial("seed-0-rate-0.005", 0, 5e-3)


@pytest.fixture(scope="module")
def market() -> MarketConfig:
    return MarketConfig(episode_slots=12)


def allowed(masks: np.ndarray, step: int) -> np.ndarray:
    return np.where(masks, np.random.default_rng(step).random(masks.shape), -1.0).argmax(axis=1)


def test_a_lane_is_that_of_its_own_market(market: MarketConfig, paths: PricePaths) -> None:
    """Observations, masks, rewards, ends and infos of 23 lanes over 3 markets, two episodes."""
    markets = [market, market.changed({"users.rate": 6.0}), market]
    mixed = MixedMarkets(23, markets, paths, seed=4)
    apart = [
        MarketVectorEnv(count, m, paths, seed=part_seed(4, k))
        for k, (count, m) in enumerate(zip((8, 8, 7), markets, strict=True))
    ]
    first, _ = mixed.reset(seed=4)
    own = [env.reset(seed=part_seed(4, k))[0] for k, env in enumerate(apart)]
    assert np.array_equal(first, np.concatenate(own))
    ends = 0
    for step in range(26):
        masks = mixed.action_masks()
        assert np.array_equal(masks, np.concatenate([env.action_masks() for env in apart]))
        actions = allowed(masks, step)
        observations, rewards, terminated, truncated, infos = mixed.step(actions)
        played = [
            env.step(part) for env, part in zip(apart, np.split(actions, (8, 16)), strict=True)
        ]
        assert np.array_equal(observations, np.concatenate([p[0] for p in played]))
        assert np.array_equal(rewards, np.concatenate([p[1] for p in played]))
        assert np.array_equal(truncated, np.concatenate([p[3] for p in played]))
        assert not terminated.any()
        for name in played[0][4]:
            assert np.array_equal(infos[name], np.concatenate([p[4][name] for p in played])), name
        assert set(infos) == set(played[0][4])
        ends += int(truncated.sum())
    assert ends == 2 * 23
    # Two parts of one market live through different draws.
    assert not np.array_equal(observations[:7], observations[16:])


def test_a_state_is_restored_exactly(market: MarketConfig, paths: PricePaths) -> None:
    markets = drawn_markets(market, RandomiseConfig(count=3))
    mixed, other = (MixedMarkets(20, markets, paths, seed=s) for s in (1, 9))
    mixed.reset(seed=1)
    other.reset()
    for step in range(5):
        mixed.step(allowed(mixed.action_masks(), step))
    other.set_state(mixed.state())
    for step in range(15):
        actions = allowed(mixed.action_masks(), step)
        ours, theirs = mixed.step(actions), other.step(actions)
        assert np.array_equal(ours[0], theirs[0])
        assert np.array_equal(ours[1], theirs[1])


def test_what_cannot_be_mixed_is_refused(market: MarketConfig, paths: PricePaths) -> None:
    with pytest.raises(ValueError, match="2 markets for 1 lanes"):
        MixedMarkets(1, [market, market], paths)
    with pytest.raises(ValueError, match="episode_slots"):
        MixedMarkets(4, [market, market.changed({"episode_slots": 13})], paths)
    mixed = MixedMarkets(4, [market], paths)
    with pytest.raises(ValueError, match=r"\(3,\): give one per market, \(4,\)"):
        mixed.step(np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="seed is a list"):
        mixed.reset(seed=[1, 2, 3, 4])
    with pytest.raises(ConfigError, match=r"randomise\.count is 2000: .*ppo\.num_envs"):
        TrainConfig(trials=TrialsConfig(randomise=RandomiseConfig(count=2000)))
    with pytest.raises(ConfigError, match="rollout_workers is 2"):
        TrainConfig(ppo=PPOConfig(rollout_workers=2), trials=TRIALS)


def test_a_learner_trains_on_drawn_markets_and_continues_bit_for_bit(
    market: MarketConfig, paths: PricePaths, tmp_path: Path
) -> None:
    def training() -> Training:
        return Training(TRIAL, TrialInputs(market, paths, PPO, TRIALS, 0.05, str(tmp_path / "tb")))

    def weights(of: Training) -> bytes:
        return b"".join(v.numpy().tobytes() for v in of.model.policy.state_dict().values())

    whole = training()
    untrained = weights(whole)
    whole.advance()
    (tmp_path / "half").mkdir()
    whole.save(tmp_path / "half")
    half = weights(whole)
    whole.advance()
    assert whole.finished
    assert len({untrained, half, weights(whole)}) == 3
    continued = training()
    continued.load(tmp_path / "half")
    assert weights(continued) == half
    continued.advance()
    assert weights(continued) == weights(whole)
    assert [p["validation_iqm_eth"] for p in continued.curve] == [
        p["validation_iqm_eth"] for p in whole.curve
    ]
    assert isinstance(whole.venv.env, MixedMarkets)
    assert [part.config for part in whole.venv.env.parts] == drawn_markets(market, TRIALS.randomise)
    alone = dataclasses.replace(TRIALS, randomise=RandomiseConfig())
    given = TrialInputs(market, paths, PPO, alone, 0.05, str(tmp_path / "tb2"))
    assert isinstance(Training(TRIAL, given).venv.env, MarketVectorEnv)
    whole.close()
    continued.close()
