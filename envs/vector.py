"""The market environment, N markets at once; its class docstring is the specification."""

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from envs.market.block import (
    BEST_RESPONSE,
    CAUSE,
    CLEARING_FRACTION,
    NET,
    OPPORTUNITY,
    OUTCOME,
    OUTCOME_COLUMNS,
    OWN_FRACTION,
    PROFIT,
    REGIME_NOW,
    SETTLED,
    WON,
)
from envs.market.config import MarketConfig, PricePaths
from envs.market.flow import MAX_POOLS, Prices
from envs.market.paths import SLOTS_PER_MINUTE, stand_in_paths
from envs.market.physics import (
    BORROWER_BOOK,
    BURNT,
    EPISODE,
    HARM,
    INFORMED_BOOK,
    INFORMED_VOLUME,
    INITIAL,
    INSIDE,
    LOG_PRICE,
    PROVIDERS,
    RIVALS,
    SANDWICHERS,
    SEARCHER,
    TICK_INDEX,
    USER_VOLUME,
    USERS,
    VALIDATOR,
    Physics,
    book_row,
    physics_of,
    world_rows,
)
from envs.market.randomness import SEED_BITS, lane_keys
from envs.market.simulator import Lanes, Step, play
from kernels.market.action import ACTIONS, PASS
from kernels.market.observation import LIMIT, SIZE
from kernels.market.tile import BUNDLE, CHANNELS, LANES, PUBLIC, RESERVES, SLOT, new_tile

if TYPE_CHECKING:
    from envs.render import SlotView

RENDER_MODES = ("ansi", "rgb_array")
_FLOAT_INFOS = {
    "net": NET,
    "own_fraction": OWN_FRACTION,
    "clearing_fraction": CLEARING_FRACTION,
    "best_response": BEST_RESPONSE,
    "profit": PROFIT,
}
_INT_INFOS = {
    "outcome": OUTCOME,
    "cause": CAUSE,
    "regime": REGIME_NOW,
    "opportunity": OPPORTUNITY,
}
_ETH_ROWS = {
    "searcher": SEARCHER,
    "rivals": RIVALS,
    "sandwichers": SANDWICHERS,
    "validator": VALIDATOR,
    "burnt": BURNT,
}


def fresh_seed() -> int:
    """A seed that nothing else has, from the entropy of the system."""
    return int(np.random.SeedSequence().generate_state(1)[0]) % (1 << SEED_BITS)


def checked_actions(actions: Any, count: int) -> NDArray[np.integer]:
    """Actions int[count] that the action table has; ValueError names what is wrong with others."""
    given = np.asarray(actions)
    if given.dtype.kind not in "iu":
        raise ValueError(f"actions are {given.dtype}: give integers, indices into ACTION_TABLE")
    if given.shape != (count,):
        raise ValueError(f"actions have shape {given.shape}: give one per market, ({count},)")
    if given.min() < 0 or given.max() >= ACTIONS:
        wrong = int(np.argmax((given < 0) | (given >= ACTIONS)))
        raise ValueError(
            f"action {given[wrong]} of market {wrong}: give 0 to {ACTIONS - 1}, "
            "an index into ACTION_TABLE"
        )
    return given


class MarketVectorEnv(VectorEnv[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64]]):
    """N independent markets in which a searcher bids for arbitrage and liquidation bundles.

    A slot of 12 s has config.ticks_per_slot decisions. Between them users' swaps arrive; at each
    the agent sees the mempool and what it opens, and places, replaces, cancels or keeps its bid.
    After the last one the block is built. `docs/environment.md` explains every part.

    | action (Discrete, kernels.market.action.ACTION_TABLE) | |
    |---|---|
    | 0 | pass: keep what stands |
    | 1 + 32 k + b | bundle on opportunity k, bid BID_PPM[b] of its net profit |
    | the next 4 x 8 | the same at half of the size, every fourth bid |
    | the next 4 x 8 | public transaction on k, every fourth bid; who loses pays gas |
    | last | cancel the standing bid (a public one costs an empty transaction) |

    An action that cannot be done counts as a pass; `action_masks()` excludes it.

    | observation (Box float32, within +-5) | |
    |---|---|
    | kernels.market.observation.FIELDS | name, meaning, unit and scale of each entry |
    | 14 global fields | gas, forecasts, counts, tick, proposer, the standing bid |
    | 4 x 14 fields | the best pool-disjoint opportunities on the overlaid reserves, best first |
    | 8 x 5 fields | our last 8 auctions: net, own share, clearing share, won, slots since |

    Hidden: private swaps and those not seen yet, the rivals' number, rules, efficiency and style,
    whether the block will be missed, and the competition regime.

    | block, in this order | |
    |---|---|
    | visible swaps | by priority fee, ties by arrival, nonces in order: the overlay that was |
    |  | observed; a sandwicher may act on one; below its minimum output a swap reverts |
    | unseen swaps ahead | a share of the unseen ones: they can make a plan stale |
    | bundles and public arbitrages | by what they pay, each on the state left by the ones before; |
    |  | a bundle that no longer pays is dropped at no cost, a public one reverts and pays gas |
    | other unseen swaps | |
    | liquidity providers, informed traders | mint or burn; pull pools to the edge of the fee band |
    | after it | EIP-1559 base fee, regime, reference price, oracle and loans |

    In a missed slot nothing of this happens, and the mempool waits. A share of proposers builds
    alone: then only public transactions count, for us and for rivals.

    | reward (float64) | |
    |---|---|
    | settled | ETH; at the last decision of a slot: gross profit - gas - bid if won, less the |
    |  | gas of failed or cancelled public transactions; 0 at the others |
    | marked (default) | ETH; every decision: change of what the standing bid would earn if the |
    |  | block were built now; over a slot the sum is the same |
    | fraction | settled / net profit at stake, within +-1; at stake is the net of the best |
    |  | opportunity of that decision, or of the standing bid's opportunity when the bid was |
    |  | placed if that is more; 0 when nothing is |
    | sqrt | sign(settled) sqrt(abs(settled) / config.reward_scale_eth) |

    | end | |
    |---|---|
    | truncated | after config.episode_slots slots; never terminated; autoreset in the same step |

    | infos, arrays [N] per step | |
    |---|---|
    | settled | this decision was the last of its slot; the others are 0 (opportunity -1) without |
    | profit | ETH, what `settled` pays, whatever the reward |
    | net, own_fraction, clearing_fraction | of the bid that stood; 0 without |
    | outcome, won | envs.market.block.OUTCOMES: passed, won, outbid, stale_state, late, reverted, |
    |  | filtered, missed, gas; `cause` of a reverted one: outbid, stale_state or gas |
    | opportunity | k of the standing bid among what is found, -1 if it is not |
    | best_response | what the best bid of the grid would have earned after the fact, ETH |
    | regime | hidden state, for reference policies only |
    | final_obs, _final_obs | last observations of the episodes that ended, and which ended |

    | argument | |
    |---|---|
    | num_envs | N, any number of at least 1 |
    | config | envs.market.config.MarketConfig: every parameter of users, traders, gas and rivals |
    | paths | envs.market.config.PricePaths; default: 60 days of stochastic-volatility stand-in;
    recorded |
    |  | blocks and swaps that it carries override what would be drawn (paths.RecordedFlow) |
    | split | train, validation or test: disjoint randomness and disjoint parts of the paths |
    | seed | first seed, below 2^32; `reset(seed=...)` starts again with another; default: a |
    |  | random one, so that two environments made without a seed differ |
    | render_mode | None, ansi (text) or rgb_array (image): what `render` gives of every market |

    Episode j of lane i depends only on (split, seed, i, j), the configuration and the paths, not on
    N. `state()` and `set_state()` restore exactly. `wealth()` gives each party's gain.
    """

    metadata = {  # noqa: RUF012
        "render_modes": list(RENDER_MODES),
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int,
        config: MarketConfig | None = None,
        paths: PricePaths | None = None,
        split: str = "train",
        seed: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}: at least one market")
        if render_mode not in (None, *RENDER_MODES):
            known = ", ".join(RENDER_MODES)
            raise ValueError(f"render_mode is {render_mode!r}: choose one of {known}, or None")
        self.render_mode = render_mode
        self.config = config or MarketConfig()
        self.paths = (paths or stand_in_paths()).writable()
        self.split = split
        self.num_envs = int(num_envs)
        self.single_observation_space = spaces.Box(-LIMIT, LIMIT, (SIZE,), np.float32)
        self.single_action_space = spaces.Discrete(ACTIONS)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        graph = self.config.graph
        if graph.token0.size > MAX_POOLS:
            raise ValueError(f"token0 has {graph.token0.size} pools: at most {MAX_POOLS}")
        self._physics = physics_of(self.config, graph)
        minutes = -(-self.config.episode_slots // SLOTS_PER_MINUTE) + 1
        self._prices = Prices(
            self.paths.log_price,
            self.paths.slot_sigma,
            self.paths.forecast,
            self.paths.starts(split, minutes),
            self.paths.recorded,
        )
        self.paths.recorded.check(len(self.paths), graph.token0.size)
        self._allocate(graph)
        self._seed_lanes(fresh_seed() if seed is None else seed)

    def _allocate(self, graph: Any) -> None:
        """Tiles are whole, so the last one may hold lanes that are simulated but not shown."""
        count = -(-self.num_envs // LANES)
        lanes = count * LANES
        rows = self._physics.world_row + world_rows(len(self.config.pools.symbols))
        self._tiles = np.zeros((count, rows, LANES))
        empty = new_tile(graph, LANES, self.config.pools.concentrated)
        empty[CHANNELS] = 1 << BUNDLE | 1 << PUBLIC
        self._tiles[:, : self._physics.world_row] = empty
        self._observation = np.zeros((lanes, SIZE), np.float32)
        self._masks = np.zeros((lanes, ACTIONS), np.bool_)
        self._actions = np.zeros(lanes, np.int64)
        self._reward = np.zeros(lanes)
        self._truncated = np.zeros(lanes, np.bool_)
        self._outcome = np.zeros((lanes, OUTCOME_COLUMNS))
        self._final = np.zeros((lanes, SIZE), np.float32)
        self._keys = np.zeros(lanes, np.uint64)
        self._step = Step(
            self._actions,
            self._observation,
            self._masks,
            self._reward,
            self._truncated,
            self._outcome,
            self._final,
        )

    def _seed_lanes(self, seed: int) -> None:
        self._np_random_seed = int(seed)
        self._lane_keys = lane_keys(self.split, int(seed), self._reward.size)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode in every market: observations float32[N, SIZE] and empty infos.

        With a seed (below 2^32) the lanes start from their episode 0; without, from their next.
        """
        if isinstance(seed, list):
            raise ValueError("seed is a list: lanes are keyed by one seed and their index")
        episode = self._tiles[:, self._physics.world_row + EPISODE]
        if seed is None:
            episode += 1.0 if self._started() else 0.0
        else:
            self._seed_lanes(seed)
            episode[:] = 0.0
        self._play(restart=True)
        return self._observation[: self.num_envs].copy(), {}

    def _started(self) -> bool:
        """An episode has been started before: reserves are never 0 in one."""
        return bool(self._tiles[0, RESERVES, 0] > 0.0)

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[
        NDArray[np.float32],
        NDArray[np.float64],
        NDArray[np.bool_],
        NDArray[np.bool_],
        dict[str, Any],
    ]:
        """Play one decision in every market; see the class docstring.

        actions int[N] from 0 to ACTIONS - 1. Raises ValueError for any other shape, type or value.
        """
        if not self._started():
            raise RuntimeError("step before reset: call reset first")
        n = self.num_envs
        self._actions[:n] = checked_actions(actions, n)
        self._actions[n:] = PASS
        self._play(restart=False)
        truncated = self._truncated[:n].copy()
        infos = self._infos(truncated)
        return (
            self._observation[:n].copy(),
            self._reward[:n].copy(),
            np.zeros(n, np.bool_),
            truncated,
            infos,
        )

    @property
    def _lanes(self) -> Lanes:
        return Lanes(self._tiles, self._lane_keys, self._keys)

    def compiled_arguments(self) -> tuple[Physics, Prices, Lanes, Step]:
        """What the kernels of `envs.market.simulator` are given, for whoever compiles them."""
        return self._physics, self._prices, self._lanes, self._step

    def _play(self, restart: bool) -> None:
        play(self._physics, self._prices, self._lanes, restart, self._step)

    def _infos(self, truncated: NDArray[np.bool_]) -> dict[str, Any]:
        # One copy, in which every column is contiguous, serves all infos.
        outcome = self._outcome[: self.num_envs].T.copy()
        infos: dict[str, Any] = {name: outcome[column] for name, column in _FLOAT_INFOS.items()}
        for name, column in _INT_INFOS.items():
            infos[name] = outcome[column].astype(np.int64)
        infos["won"] = infos["outcome"] == WON
        infos["settled"] = outcome[SETTLED] > 0.0
        if truncated.any():
            infos["final_obs"] = self._final[: self.num_envs].copy()
            infos["_final_obs"] = truncated.copy()
        return infos

    def action_masks(self) -> NDArray[np.bool_]:
        """Allowed actions bool[N, ACTIONS] of the present observations."""
        return self._masks[: self.num_envs].copy()

    def state(self) -> dict[str, np.ndarray]:
        """Everything that the next steps depend on, besides configuration, paths and split."""
        return {
            "tiles": self._tiles.copy(),
            "observation": self._observation.copy(),
            "masks": self._masks.copy(),
            "seed": np.array(self._np_random_seed, np.int64),
        }

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Continue exactly where `state` was taken, in an environment of the same arguments."""
        for name in ("tiles", "observation", "masks"):
            mine, given = getattr(self, f"_{name}"), state[name]
            if mine.shape != given.shape or mine.dtype != given.dtype:
                raise ValueError(
                    f"state {name} is {given.dtype}{given.shape}, here {mine.dtype}{mine.shape}: "
                    "restore into an environment with the same num_envs and config"
                )
            mine[:] = given
        self._seed_lanes(int(state["seed"]))

    def wealth(self) -> dict[str, NDArray[np.float64]]:
        """Gain of each party since the episode's start, ETH at present reference prices.

        float64[N] by party: searcher, rivals, sandwichers, validator, burnt, users, informed,
        borrowers, liquidity_providers. They sum to zero up to rounding.
        """
        price = self._book(0)
        held = self._book(INSIDE).copy()
        plain = len(self.config.pools.token0) - self.config.pools.concentrated
        pools = self._physics.token0.size
        for side, tokens in enumerate((self._physics.token0, self._physics.token1)):
            for pool in range(plain):
                held[:, tokens[pool]] += self._tiles[:, RESERVES + side * pools + pool]
        world = self._physics.world_row
        gains = {name: self._tiles[:, world + row] for name, row in _ETH_ROWS.items()}
        for name, which in (
            ("users", USERS),
            ("informed", INFORMED_BOOK),
            ("borrowers", BORROWER_BOOK),
        ):
            gains[name] = (self._book(which) * price).sum(axis=1)
        providers = held - self._book(INITIAL) + self._book(PROVIDERS)
        gains["liquidity_providers"] = (providers * price).sum(axis=1)
        return {name: gain.reshape(-1)[: self.num_envs].copy() for name, gain in gains.items()}

    def sandwich_harm(self) -> NDArray[np.float64]:
        """What users lost to sandwiches since the episode's start, ETH float64[N]."""
        harm = self._tiles[:, self._physics.world_row + HARM]
        return harm.reshape(-1)[: self.num_envs].copy()

    def volume(self) -> dict[str, NDArray[np.float64]]:
        """Swapped since the episode's start, ETH of input at the prices of the moment.

        float64[N] by party: users, informed. Searchers' cycles and sandwiches are not counted.
        """
        world = self._physics.world_row
        rows = {"users": world + USER_VOLUME, "informed": world + INFORMED_VOLUME}
        return {
            name: self._tiles[:, row].reshape(-1)[: self.num_envs].copy()
            for name, row in rows.items()
        }

    def render(self) -> tuple[Any, ...] | None:  # type: ignore[override]
        """Every market as text (`ansi`) or as an image uint8[H, W, 3] (`rgb_array`).

        None without a render_mode.
        """
        if self.render_mode is None:
            return None
        if not self._started():
            raise RuntimeError("render before reset: call reset first")
        # Drawing loads matplotlib, which training and evaluation need not.
        from envs.render import slot_image, slot_text

        draw = slot_text if self.render_mode == "ansi" else slot_image
        return tuple(draw(self._view(lane)) for lane in range(self.num_envs))

    def _view(self, lane: int) -> "SlotView":
        from envs.render import Clock, view_of

        column = self._tiles[lane // LANES, :, lane % LANES]
        world = column[self._physics.world_row :]
        clock = Clock(
            int(column[SLOT]),
            self.config.episode_slots,
            int(world[TICK_INDEX]),
            self.config.ticks_per_slot,
            float(np.exp(world[LOG_PRICE])),
            float(world[SEARCHER]),
        )
        return view_of(column, self.config.graph, self.config.pools.symbols, clock)

    def _book(self, which: int) -> NDArray[np.float64]:
        """Balances float64[tiles, T, LANES]; 0 for the prices."""
        tokens = len(self.config.pools.symbols)
        first = book_row(self._physics.world_row, tokens, which)
        return self._tiles[:, first : first + tokens]
