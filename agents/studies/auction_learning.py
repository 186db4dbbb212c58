"""MaskablePPO on the bare auctions, and how near it comes to what is known to be best.

Two decodes of a policy: `argmax`, and `mean`, the probability-weighted bid, which must only be used
where profit has a single peak.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.callbacks import BaseCallback

from agents.config import PPOConfig
from agents.learner.build import build
from agents.learner.ppo import ScheduledPPO
from agents.learner.vecenv import MarketVecEnv
from envs.auctions.equilibrium import Rivals, ValueLaw, first_price_bid
from envs.auctions.game import AuctionGame, AuctionVectorEnv

Array = NDArray[np.float64]


def learn(
    game: AuctionGame,
    steps: int,
    config: PPOConfig,
    reward_scale: float,
    seed: int = 0,
    reward: str = "profit",
    callback: BaseCallback | None = None,
) -> ScheduledPPO:
    """Train for `steps` decisions; every learner of a self-play game shares the one policy."""
    env = AuctionVectorEnv(config.num_envs, game, seed=seed, reward=reward)
    venv = MarketVecEnv(env, reward_scale, config.reward_clip)
    trainer = build(venv, config, seed, steps)
    trainer.learn(steps, callback=callback, reset_num_timesteps=False)
    return trainer


def probabilities(trainer: ScheduledPPO, observations: NDArray[np.float32]) -> Array:
    """Chance of every action, float64[n, actions]."""
    policy = trainer.policy
    assert isinstance(policy, MaskableActorCriticPolicy)
    with torch.no_grad():
        distribution = policy.get_distribution(torch.from_numpy(observations))
        assert distribution.distribution is not None
        chances = distribution.distribution.probs.double().numpy()  # type: ignore[union-attr]
    return chances / chances.sum(axis=1, keepdims=True)


def decode(chances: Array, fractions: Array, how: str = "argmax") -> Array:
    """Bid fractions [n] of a policy that gives `chances` [n, A] to `fractions` [A]."""
    if how == "argmax":
        return fractions[chances.argmax(axis=1)]
    if how == "mean":
        return chances @ fractions
    raise ValueError(f"decode {how!r}: argmax or mean")


class AveragePolicy(BaseCallback):
    """Time average of the chances a policy gives its actions in one observation.

    In games whose iterates cycle the average converges, not the last policy.
    """

    def __init__(self, observation: NDArray[np.float32]) -> None:
        super().__init__()
        self._observation = observation[None]
        self._sum = np.zeros(0)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        assert isinstance(self.model, ScheduledPPO)
        chances = probabilities(self.model, self._observation)[0]
        self._sum = chances if not self._sum.size else self._sum + chances

    def average(self) -> Array:
        """Chances [actions] that sum to 1."""
        return self._sum / self._sum.sum()


class FirstPriceScore(NamedTuple):
    """A first-price policy against equilibrium rivals, with exact winning probabilities."""

    share: float
    """Profit over the equilibrium bidder's."""
    error: float
    """Largest |b - b*| where winning has more than 1 %."""
    relative_error: float
    """Largest |b - b*| / v between the 10 % and 99 % quantiles of the value."""


def first_price_score(
    law: ValueLaw, rivals: Rivals, quantiles: Array, fractions: Array
) -> FirstPriceScore:
    """Score bids `fractions` [n] at the values at `quantiles` [n], equally weighted."""
    values = law.quantile(quantiles)
    # P(win) of any bid: the rivals' bid function, inverted on a fine grid of quantiles.
    fine = np.concatenate([np.linspace(1e-6, 0.999, 20_000), 1.0 - np.geomspace(1e-3, 1e-9, 5000)])
    levels = first_price_bid(law, rivals, law.quantile(fine))
    log_win = rivals.log_win(fine)

    def win(bids: Array) -> Array:
        inside = np.exp(np.interp(bids, levels, log_win))
        return np.where(bids < levels[0], np.exp(rivals.log_win(0.0)), inside)

    best, bids = first_price_bid(law, rivals, values), fractions * values
    profit, most = ((values - b) * win(b) for b in (bids, best))
    error = np.abs(bids - best)
    often, middle = win(best) > 0.01, (quantiles > 0.1) & (quantiles < 0.99)
    return FirstPriceScore(
        float(profit.sum() / most.sum()),
        float(error[often].max()),
        float((error / values)[middle].max()),
    )
