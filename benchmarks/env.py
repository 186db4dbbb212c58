"""Environment decisions per second: whole, by stage, through the SB3 adapter. One step is one
decision of one market. How the cost grows with the market is in `benchmarks.env_growth`.
"""

import numpy as np

from agents.learner.vecenv import MarketVecEnv
from benchmarks.env_stages import by_stage
from benchmarks.harness import Measurement, check, paired_seconds, seconds_per_call
from envs.market.config import MarketConfig
from envs.market.paths import stand_in_paths
from envs.vector import MarketVectorEnv
from kernels.market.action import PASS

SEED = 11
MARKET = MarketConfig(era="rich", ticks_per_slot=3)  # what this benchmark has always measured


def check_lanes_do_not_depend_on_n(steps: int) -> None:
    """Lane i plays the same episode among 3 and among 40 lanes, whatever the others do."""
    few, many = MarketVectorEnv(3, MARKET, seed=SEED), MarketVectorEnv(40, MARKET, seed=SEED)
    seen_few, _ = few.reset(seed=SEED)
    seen_many, _ = many.reset(seed=SEED)
    rng = np.random.default_rng(SEED)
    for _ in range(steps):
        check(np.array_equal(seen_few, seen_many[:3]), "a lane's observation depends on N")
        actions = random_allowed(many.action_masks(), rng)
        seen_few, reward_few, *_ = few.step(actions[:3])
        seen_many, reward_many, *_ = many.step(actions)
        check(np.array_equal(reward_few, reward_many[:3]), "a lane's reward depends on N")


def check_conservation(env: MarketVectorEnv, steps: int) -> None:
    """What one party gains the others lose, at reference prices."""
    env.reset(seed=SEED)
    rng = np.random.default_rng(SEED)
    for _ in range(steps):
        env.step(random_allowed(env.action_masks(), rng))
    gains = np.stack(list(env.wealth().values()))
    # What the pools hold is rounded too, and outweighs the gains of an episode that has just begun.
    scale = 1e-9 * np.abs(gains).sum(axis=0) + 1e-14 * 2.0 * sum(env.config.pools.depth_eth)
    check(bool((np.abs(gains.sum(axis=0)) <= scale).all()), "wealth is not conserved")


def random_allowed(masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A uniformly drawn allowed action per lane, int64[N]."""
    return (rng.random(masks.shape) * masks).argmax(axis=1)


def drawn_actions(env: MarketVectorEnv, steps: int) -> list[np.ndarray]:
    """Actions drawn once: masks move on, and a bid on what is gone counts as a pass."""
    rng = np.random.default_rng(SEED)
    return [random_allowed(env.action_masks(), rng) for _ in range(steps)]


def run(quick: bool) -> list[Measurement]:
    """Checks that lanes are independent and value is conserved, then times 1,024 markets."""
    lanes, steps = 1024, 18 if quick else 126
    paths = stand_in_paths(10 if quick else 60)
    check_lanes_do_not_depend_on_n(9 if quick else 300)
    env = MarketVectorEnv(lanes, MARKET, paths, seed=SEED)
    check_conservation(env, 9 if quick else 300)
    adapter = MarketVecEnv(MarketVectorEnv(lanes, MARKET, paths, seed=SEED))
    env.reset(seed=SEED)
    adapter.reset()
    plans = drawn_actions(env, steps)

    def native() -> None:
        for actions in plans:
            env.step(actions)

    def through_adapter() -> None:
        for actions in plans:
            adapter.step(actions)
            adapter.action_masks()

    native_s, adapter_s = paired_seconds(native, through_adapter, 2.0 if quick else 10.0)
    block = np.random.default_rng(0).random(8 << 20)  # 64 MiB: past the caches
    copy_s = seconds_per_call(lambda: block.copy(), 0.5)
    decisions = lanes * steps
    passes = float(np.mean([np.mean(actions == PASS) for actions in plans]))
    note = f"{lanes} markets, float64, one thread, {1 - passes:.0%} of actions are bids"
    # Read and written once per decision: the tile, the observation, mask, reward and outcome.
    moved = 2 * env._tiles.nbytes + sum(
        a.nbytes for a in (env._observation, env._masks, env._reward, env._outcome)
    )
    per_step = moved / lanes
    return [
        Measurement("environment, native", decisions / native_s, "steps/s", note),
        Measurement("environment, SB3 adapter with masks", decisions / adapter_s, "steps/s"),
        Measurement("SB3 adapter / native", native_s / adapter_s, "ratio"),
        Measurement("bytes per step", per_step, "B", "tile in and out, observation, mask"),
        Measurement(
            "memcpy at that size / step",
            2 * block.nbytes / copy_s / per_step / (decisions / native_s),
            "ratio",
            "how many times faster the bytes alone could move",
        ),
        *by_stage(env, drawn_actions(env, 12 if quick else 60)),
    ]
