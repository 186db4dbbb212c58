"""Several markets as one vector environment: the lanes of a learner split over configurations."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from envs.market.config import MarketConfig, PricePaths
from envs.market.randomness import SEED_BITS
from envs.vector import MarketVectorEnv

Lanes = NDArray[Any]


def part_seed(seed: int, part: int) -> int:
    """Seed of a part: lanes of two parts must not live through the same draws."""
    return int(np.random.SeedSequence([seed, part]).generate_state(1)[0]) % (1 << SEED_BITS)


class MixedMarkets(VectorEnv[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64]]):
    """N lanes, split as evenly as they go over one `envs.vector.MarketVectorEnv` per market.

    Lanes of a market are consecutive, in the order of `markets`. Observations, masks, rewards and
    infos are those of the parts, written once into arrays of all lanes. Episodes of all markets
    must be equally long, and decisions of a slot equally many, so that slots settle together.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int,
        markets: Sequence[MarketConfig],
        paths: PricePaths,
        split: str = "train",
        seed: int = 0,
    ) -> None:
        if not 1 <= len(markets) <= num_envs:
            raise ValueError(
                f"{len(markets)} markets for {num_envs} lanes: give 1 to {num_envs} markets, "
                "for each needs a lane"
            )
        clocks = {(market.episode_slots, market.ticks_per_slot) for market in markets}
        if len(clocks) > 1:
            raise ValueError(
                f"markets have (episode_slots, ticks_per_slot) {sorted(clocks)}: give one of each"
            )
        counts = [len(lanes) for lanes in np.array_split(np.arange(num_envs), len(markets))]
        edges = np.cumsum([0, *counts])
        self.parts = [
            MarketVectorEnv(count, market, paths, split, part_seed(seed, k))
            for k, (count, market) in enumerate(zip(counts, markets, strict=True))
        ]
        self.lanes = [slice(int(a), int(b)) for a, b in pairwise(edges)]
        self.num_envs = num_envs
        self.single_observation_space = self.parts[0].single_observation_space
        self.single_action_space = self.parts[0].single_action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode in every lane; with a seed from the first episodes of that seed."""
        if isinstance(seed, list):
            raise ValueError("seed is a list: lanes are keyed by one seed and their index")
        first = [
            part.reset(seed=None if seed is None else part_seed(seed, k))[0]
            for k, part in enumerate(self.parts)
        ]
        return np.concatenate(first), {}

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[
        NDArray[np.float32],
        NDArray[np.float64],
        NDArray[np.bool_],
        NDArray[np.bool_],
        dict[str, Any],
    ]:
        """Play one decision in every lane, as `MarketVectorEnv.step` does in those of one market.

        Raises ValueError for actions of another shape, type or value.
        """
        given = np.asarray(actions)
        if given.shape != (self.num_envs,):
            raise ValueError(
                f"actions have shape {given.shape}: give one per market, ({self.num_envs},)"
            )
        played = zip(self.parts, self.lanes, strict=True)
        steps = [part.step(given[lanes]) for part, lanes in played]
        observations, rewards, terminated, truncated, infos = zip(*steps, strict=True)
        return (
            np.concatenate(observations),
            np.concatenate(rewards),
            np.concatenate(terminated),
            np.concatenate(truncated),
            self._joined(infos),
        )

    def _joined(self, infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Infos of all lanes; zeros where a part does not say what another one says."""
        joined: dict[str, Any] = {}
        for name in dict.fromkeys(name for info in infos for name in info):
            like = next(info[name] for info in infos if name in info)
            rows = [
                info.get(name, np.zeros((part.num_envs, *like.shape[1:]), like.dtype))
                for info, part in zip(infos, self.parts, strict=True)
            ]
            joined[name] = np.concatenate(rows)
        return joined

    def action_masks(self) -> NDArray[np.bool_]:
        """Allowed actions bool[N, ACTIONS] of the present observations."""
        return np.concatenate([part.action_masks() for part in self.parts])

    def state(self) -> dict[str, Lanes]:
        """Everything that the next steps depend on, besides markets, paths and split."""
        return {
            f"market{k}_{name}": array
            for k, part in enumerate(self.parts)
            for name, array in part.state().items()
        }

    def set_state(self, state: dict[str, Lanes]) -> None:
        """Continue exactly where `state` was taken, in an environment of the same arguments."""
        for k, part in enumerate(self.parts):
            prefix = f"market{k}_"
            part.set_state(
                {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
            )
