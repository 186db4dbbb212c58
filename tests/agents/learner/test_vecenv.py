"""The adapter against the environment that it adapts."""

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported

from agents.learner.vecenv import MarketVecEnv
from tests.support.auctions import FirstPriceEnv
from tests.support.worlds import markets, some_actions


def allowed_actions(masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.where(masks, rng.random(masks.shape), -1.0).argmax(axis=1)


def test_adapter_gives_what_the_native_environment_gives() -> None:
    native, venv = (
        FirstPriceEnv(6, slots=8),
        MarketVecEnv(FirstPriceEnv(6, slots=8), reward_scale_eth=0.5),
    )
    venv.seed(11)
    rng = np.random.default_rng(0)
    observations, _ = native.reset(seed=11)
    first = np.asarray(venv.reset())
    assert np.array_equal(first, observations)
    ends = 0
    for _ in range(40):
        actions = allowed_actions(native.action_masks(), rng)
        observations, rewards, _, truncated, infos = native.step(actions)
        venv.step_async(actions)
        seen, scaled, dones, by_lane = venv.step_wait()
        assert np.array_equal(seen, observations)
        assert np.array_equal(dones, truncated)
        assert np.array_equal(venv.rewards_eth, rewards)
        np.testing.assert_allclose(scaled, rewards / 0.5, rtol=1e-6)
        for lane in range(6):
            if dones[lane]:
                ends += 1
                assert by_lane[lane]["TimeLimit.truncated"]
                terminal = by_lane[lane]["terminal_observation"]
                assert np.array_equal(terminal, infos["final_obs"][lane])
                assert not np.array_equal(terminal, seen[lane])
            else:
                assert by_lane[lane] == {}
    assert ends == 6 * 40 // 8


def test_every_lane_and_step_has_a_dictionary_of_its_own() -> None:
    """A callback that writes into one changes no other."""
    venv = MarketVecEnv(FirstPriceEnv(4))
    venv.reset()
    first, second = (venv.step(np.zeros(4, np.int64))[3] for _ in range(2))
    first[1]["note"] = 7
    assert [*first[:1], *first[2:], *second] == [{}] * 7
    assert len({id(info) for info in (*first, *second)}) == 8


def test_rewards_are_clipped_after_scaling() -> None:
    venv = MarketVecEnv(FirstPriceEnv(64), reward_scale_eth=0.01, reward_clip=3.0)
    venv.reset()
    actions = venv.action_masks()[:, 25].astype(np.int64) * 25
    _, scaled, _, _ = venv.step(actions)
    assert scaled.max() == 3.0
    assert venv.rewards_eth.max() > 0.03


def test_masks_reach_the_learner_by_lane() -> None:
    venv = MarketVecEnv(FirstPriceEnv(5))
    venv.reset()
    assert is_masking_supported(venv)
    assert np.array_equal(get_action_masks(venv), venv.env.action_masks())  # type: ignore[attr-defined]


def test_what_cannot_be_adapted_is_refused() -> None:
    env = FirstPriceEnv(2)
    with pytest.raises(ValueError, match="must be positive"):
        MarketVecEnv(env, reward_scale_eth=0.0)
    venv = MarketVecEnv(env)
    with pytest.raises(ValueError, match="share one environment"):
        venv.env_method("action_masks", indices=[0])
    env.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # type: ignore[misc]
    with pytest.raises(ValueError, match="SAME_STEP"):
        MarketVecEnv(env)


@pytest.mark.parametrize("reward", ["fraction", "sqrt"])
def test_profit_stays_in_eth_whatever_the_market_rewards(reward: str) -> None:
    env = markets(32, seed=3, ticks_per_slot=1, reward=reward)
    venv = MarketVecEnv(env, reward_scale_eth=2.0)
    venv.seed(3)
    venv.reset()
    total = np.zeros(32)
    for step in range(60):
        venv.step_async(some_actions(env, step))
        scaled = venv.step_wait()[1]
        total += venv.rewards_eth
        assert np.array_equal(np.sign(scaled), np.sign(venv.rewards_eth))
    assert not np.allclose(2.0 * scaled, venv.rewards_eth)
    np.testing.assert_allclose(env.wealth()["searcher"], total, rtol=1e-9, atol=1e-12)
