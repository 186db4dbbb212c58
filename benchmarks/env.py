"""Environment steps per second: the compiled kernel alone, and through the SB3 adapter."""

import numpy as np

from agents.vecenv import MarketVecEnv
from benchmarks.harness import Measurement, check, paired_seconds
from envs.vector import MarketVectorEnv
from kernels.action import PASS

SEED = 11


def check_lanes_do_not_depend_on_n(steps: int) -> None:
    """Lane i plays the same episode among 3 and among 40 lanes, whatever the others do."""
    few, many = MarketVectorEnv(3, seed=SEED), MarketVectorEnv(40, seed=SEED)
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
    scale = np.abs(gains).sum(axis=0)
    check(bool((np.abs(gains.sum(axis=0)) <= 1e-9 * scale).all()), "wealth is not conserved")


def random_allowed(masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A uniformly drawn allowed action per lane, int64[N]."""
    return (rng.random(masks.shape) * masks).argmax(axis=1)


def run(quick: bool) -> list[Measurement]:
    """Checks that lanes are independent and value is conserved, then times 1,024 markets."""
    lanes, slots = 1024, 16 if quick else 128
    check_lanes_do_not_depend_on_n(8 if quick else 300)
    env = MarketVectorEnv(lanes, seed=SEED)
    check_conservation(env, 8 if quick else 200)
    adapter = MarketVecEnv(MarketVectorEnv(lanes, seed=SEED))
    env.reset(seed=SEED)
    adapter.reset()
    # Actions drawn once: masks move on, and a bid on an opportunity that is gone counts as a pass.
    rng = np.random.default_rng(SEED)
    plans = [random_allowed(env.action_masks(), rng) for _ in range(slots)]

    def native() -> None:
        for actions in plans:
            env.step(actions)

    def through_adapter() -> None:
        for actions in plans:
            adapter.step(actions)
            adapter.action_masks()

    native_s, adapter_s = paired_seconds(native, through_adapter, 2.0 if quick else 10.0)
    steps = lanes * slots
    passes = float(np.mean([np.mean(actions == PASS) for actions in plans]))
    note = f"{lanes} markets, float64, one thread, {1 - passes:.0%} of actions are bids"
    return [
        Measurement("environment, native", steps / native_s, "steps/s", note),
        Measurement("environment, SB3 adapter with masks", steps / adapter_s, "steps/s"),
        Measurement("SB3 adapter / native", native_s / adapter_s, "ratio"),
    ]
