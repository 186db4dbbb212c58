"""The hidden-competition auctions as a compiled vector environment."""

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.auctions.keyed_lanes import KeyedLanes, StepArrays
from envs.hidden_competition.model import (
    BINS,
    FRACTIONS,
    LOG_VALUE_MEAN,
    LOG_VALUE_SD,
    CompetitionLaw,
    HiddenCompetition,
    draw_log_value,
    draw_top_rival,
    first_regime,
    next_regime,
    win_probability,
)
from envs.market.randomness import slot_key
from kernels.checked_arrays import check_array
from kernels.compile import kernel, lean_kernel

EPISODE, SLOT, REGIME, LOG_VALUE, TOP_RIVAL, HISTORY = range(6)
PER_AUCTION = 4  # clearing fraction, won, own fraction, z
Z_SCALE = 0.5
OBSERVATION_LIMIT = 5.0
OUTCOMES = (
    "won",
    "own_fraction",
    "clearing_fraction",
    "top_rival",
    "log_value",
    "regime",
    "win_probability",
    "profit",
    "best_response",
)
REWARDS = ("eth", "fraction", "capped")


@kernel
def _start_auction(law: CompetitionLaw, key: np.uint64, row: np.ndarray) -> None:
    slot = int(row[SLOT])
    slot_randomness = slot_key(key, int(row[EPISODE]), slot)
    if slot == 0:
        regime = first_regime(law, slot_randomness)
    else:
        regime = next_regime(law, int(row[REGIME]), slot_randomness)
    row[REGIME] = regime
    row[LOG_VALUE] = draw_log_value(law, regime, slot_randomness)
    row[TOP_RIVAL] = draw_top_rival(law, regime, row[LOG_VALUE], slot_randomness)


@kernel
def _observe(row: np.ndarray, observation: np.ndarray) -> None:
    observation[0] = (row[LOG_VALUE] - LOG_VALUE_MEAN) / LOG_VALUE_SD * Z_SCALE
    for index in range(observation.shape[0] - 1):
        observation[1 + index] = row[HISTORY + index]


@kernel
def _start_episode(
    law: CompetitionLaw, key: np.uint64, episode: float, row: np.ndarray, observation: np.ndarray
) -> None:
    row[:] = 0.0
    row[EPISODE] = episode
    _start_auction(law, key, row)
    _observe(row, observation)


@kernel
def _start(law: CompetitionLaw, keys: np.ndarray, state: np.ndarray, seen: np.ndarray) -> None:
    for lane in range(keys.shape[0]):
        _start_episode(law, keys[lane], state[lane, EPISODE], state[lane], seen[lane])


@lean_kernel
def _step(
    law: CompetitionLaw,
    keys: np.ndarray,
    fractions: np.ndarray,
    length: int,
    state: np.ndarray,
    step: StepArrays,
) -> None:
    """Settle `fractions` float64[N], remember the auction, and open the next one in every lane."""
    seen, outcome = step.seen, step.outcome
    remembered = seen.shape[1] - 1
    for lane in range(keys.shape[0]):
        row = state[lane]
        fraction, rival, log_value = fractions[lane], row[TOP_RIVAL], row[LOG_VALUE]
        won = 1.0 if fraction > rival else 0.0
        value = np.exp(log_value)
        clearing = max(fraction, rival)
        regime = int(row[REGIME])
        outcome[0, lane] = won
        outcome[1, lane] = fraction
        outcome[2, lane] = clearing
        outcome[3, lane] = rival
        outcome[4, lane] = log_value
        outcome[5, lane] = regime
        outcome[6, lane] = win_probability(law, regime, log_value, fraction)
        outcome[7, lane] = won * (1.0 - fraction) * value
        outcome[8, lane] = (1.0 - max(rival, 0.0)) * value
        if remembered > 0:
            for index in range(remembered - 1, PER_AUCTION - 1, -1):
                row[HISTORY + index] = row[HISTORY + index - PER_AUCTION]
            row[HISTORY] = 2.0 * clearing - 1.0
            row[HISTORY + 1] = 2.0 * won - 1.0
            row[HISTORY + 2] = 2.0 * fraction - 1.0
            row[HISTORY + 3] = (log_value - LOG_VALUE_MEAN) / LOG_VALUE_SD * Z_SCALE
        row[SLOT] += 1.0
        _start_auction(law, keys[lane], row)
        _observe(row, seen[lane])
        step.ended[lane] = row[SLOT] >= length
        if step.ended[lane]:
            for index in range(seen.shape[1]):
                step.final[lane, index] = seen[lane, index]
            _start_episode(law, keys[lane], row[EPISODE] + 1.0, row, seen[lane])


class HiddenCompetitionEnv(KeyedLanes):
    """N independent chains of sealed-bid first-price auctions against hidden rivals.

    | action (Discrete 64) | bid the share FRACTIONS[a] of the value, log-spaced in 1 - f, 0 first |
    |---|---|

    | observation (Box float32[1 + 4 window]) | |
    |---|---|
    | 0 | z / 2 of the present value, z = (ln v + 3.32) / 1.6 |
    | 1 + 4 j | 2 c - 1: the public clearing share of the j-th last auction, newest first |
    | 2 + 4 j | +1 won, -1 lost |
    | 3 + 4 j | 2 f - 1: own share |
    | 4 + 4 j | z / 2 of that auction |

    Entries of auctions before the episode are 0. Hidden: the regime and every losing bid.

    | reward mode | per auction; none moves the best bid, all weigh a won share 1 - f |
    |---|---|
    | eth | won (1 - f) v |
    | capped | won (1 - f) min(v, cap_eth): rare large values do not swamp the gradients |
    | fraction | won (1 - f) |

    Truncated after `episode_auctions`, never terminated; autoreset in the same step. infos: float64
    arrays [N] named in OUTCOMES; profit and best_response (of one who saw the rivals) in ETH.
    Episode j of lane i depends only on (split, seed, i, j) and the model. `state`, `set_state`
    restore exactly.
    """

    def __init__(
        self,
        num_envs: int,
        model: HiddenCompetition | None = None,
        window: int = 16,
        episode_auctions: int = 1000,
        reward: str = "eth",
        cap_eth: float = 1.0,
        split: str = "train",
        seed: int = 0,
    ) -> None:
        if num_envs < 1 or window < 0 or episode_auctions < 1:
            raise ValueError(
                f"num_envs {num_envs}, window {window}, episode_auctions {episode_auctions}: at "
                "least 1, 0 and 1"
            )
        if reward not in REWARDS or not cap_eth > 0.0:
            raise ValueError(
                f"reward {reward!r} with cap_eth {cap_eth}: choose one of {', '.join(REWARDS)} and "
                "a positive cap"
            )
        self.model = model or HiddenCompetition()
        self.window, self.episode_auctions = int(window), int(episode_auctions)
        self.reward, self.cap_eth = reward, cap_eth
        self._law = self.model.law()
        size = 1 + PER_AUCTION * self.window
        box = spaces.Box(-OBSERVATION_LIMIT, OBSERVATION_LIMIT, (size,), np.float32)
        chains = np.zeros((int(num_envs), HISTORY + size - 1))
        super().__init__(num_envs, box, BINS, chains, EPISODE, OUTCOMES, split, seed)

    def _check_games(self, games: NDArray[np.float64]) -> None:
        super()._check_games(games)
        lanes = (len(games),)
        most = self.model.regimes - 1.0
        check_array("state games, regime", games[:, REGIME], lanes, np.float64, 0.0, most)
        check_array("state games, slot", games[:, SLOT], lanes, np.float64, 0.0, 2.0**31)

    def _start(self) -> None:
        _start(self._law, self._keys, self._games, self._seen)

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[
        NDArray[np.float32],
        NDArray[np.float64],
        NDArray[np.bool_],
        NDArray[np.bool_],
        dict[str, Any],
    ]:
        """Bid FRACTIONS[actions] in every lane; actions int[N] from 0 to 63, else ArrayError."""
        self._check_started()
        return self._settle(FRACTIONS[self._checked_actions(actions)])

    def step_fractions(
        self, fractions: NDArray[np.float64]
    ) -> tuple[
        NDArray[np.float32],
        NDArray[np.float64],
        NDArray[np.bool_],
        NDArray[np.bool_],
        dict[str, Any],
    ]:
        """`step` with any shares float64[N] in [0, 1], for references that use another grid."""
        self._check_started()
        return self._settle(self._checked_fractions(fractions, 0.0))

    def _settle(
        self, shares: NDArray[np.float64]
    ) -> tuple[
        NDArray[np.float32],
        NDArray[np.float64],
        NDArray[np.bool_],
        NDArray[np.bool_],
        dict[str, Any],
    ]:
        """`step` with shares float64[N] that were checked."""
        _step(self._law, self._keys, shares, self.episode_auctions, self._games, self._arrays)
        infos = self._outcomes()
        return self._answer(self._reward(infos), infos)

    def _reward(self, infos: dict[str, Any]) -> NDArray[np.float64]:
        if self.reward == "eth":
            return infos["profit"].copy()
        won_share = infos["won"] * (1.0 - infos["own_fraction"])
        if self.reward == "fraction":
            return won_share
        return won_share * np.minimum(np.exp(infos["log_value"]), self.cap_eth)

    def action_masks(self) -> NDArray[np.bool_]:
        """Every bid is allowed: all true, bool[N, 64]."""
        return np.ones((self.num_envs, BINS), np.bool_)
