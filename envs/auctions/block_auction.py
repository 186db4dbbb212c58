"""The block auction between builders: the MEV-Boost strategic model, in 10 ms steps.

Wu, Thiery, Leonardos, Ventre (2023), "Strategic Bidding Wars in On-chain Auctions" (2312.14510):
builders raise and cancel bids at a relay for 12 s; the proposer takes the highest when it looks.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.auctions.laws import normal_quantile, open_uniform
from envs.market.randomness import lane_keys, slot_key
from kernels.compile import kernel

STRATEGIES = ("naive", "adaptive", "last_minute", "stealth", "bluff")
NAIVE, ADAPTIVE, LAST_MINUTE, STEALTH, BLUFF = range(len(STRATEGIES))
STEPS_PER_SECOND = 100
SLOT_STEPS = 12 * STEPS_PER_SECOND
MAX_PLAYERS = 32

# Slot 0 of a lane holds the auction's own draws, slot 1 + j those of transaction j.
END_CHANNEL, PUBLIC_CHANNEL, PRIVATE_CHANNEL, LOT_CHANNEL, MARGIN_CHANNEL = 0, 1, 2, 3, 8
TIME_CHANNEL, WORTH_CHANNEL, ACCESS_CHANNEL = 0, 1, 8
BLUFF_CHANNEL = 64


@dataclass(frozen=True)
class Builder:
    """One bidder: its strategy, the share of private order flow it sees, its own delay."""

    strategy: str = "naive"
    access: float = 0.8
    delay_steps: int = 1

    def __post_init__(self) -> None:
        """Name the field that is wrong."""
        if self.strategy not in STRATEGIES:
            raise ValueError(f"strategy {self.strategy!r}: one of {', '.join(STRATEGIES)}")
        if not 0.0 <= self.access <= 1.0 or not 0 <= self.delay_steps <= SLOT_STEPS:
            raise ValueError(
                f"access {self.access}, delay_steps {self.delay_steps}: 0 to 1, and 0 to a slot"
            )


@dataclass(frozen=True)
class BlockAuction:
    """Order flow and timing. Signals: all see P(t), builder i also its part E_i(t) of the private.

    The source gives neither arrival rates nor the lognormal's parameters: these defaults were
    chosen so that the mean signal is 0.12 ETH (published 0.1 to 0.16) and the win shares by access
    come near the published ones.
    """

    builders: tuple[Builder, ...]
    network_delay_steps: int = 5
    """Steps that every bid needs to the relay, beside the builder's own delay."""
    safety_steps: int = 0
    """Steps before the end at which hidden bids are meant to arrive."""
    min_raise_eth: float = 1e-4
    """How much an adaptive bidder tops the highest bid by."""
    end_sd_steps: float = 0.0
    """Standard deviation of the moment at which the proposer looks, around 12 s."""
    margin_eth: float = 0.00659
    """Mean profit margin that a bidder keeps."""
    margin_sd_eth: float = 0.0001
    public_mean: float = 60.0
    """Public transactions per slot, Poisson."""
    private_mean: float = 40.0
    """Private transactions per slot, Poisson."""
    log_worth: float = -7.75
    """Mean of the log of what a transaction is worth to a builder, ETH."""
    log_worth_sd: float = 1.4

    def __post_init__(self) -> None:
        """Name the field that is wrong."""
        if not 2 <= len(self.builders) <= MAX_PLAYERS:
            raise ValueError(f"{len(self.builders)} builders: 2 to {MAX_PLAYERS}")
        if self.network_delay_steps + min(b.delay_steps for b in self.builders) < 1:
            raise ValueError("network_delay_steps: with a builder's own delay at least 1 step")
        for name in ("network_delay_steps", "safety_steps"):
            if not 0 <= getattr(self, name) <= SLOT_STEPS:
                raise ValueError(f"{name} is {getattr(self, name)}: 0 to {SLOT_STEPS}")
        for name in ("public_mean", "private_mean"):
            if not 0.0 <= getattr(self, name) <= 500.0:
                raise ValueError(f"{name} is {getattr(self, name)}: 0 to 500 transactions")
        for name in ("min_raise_eth", "end_sd_steps", "margin_sd_eth", "log_worth_sd"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}: 0 or more")
        if self.end_sd_steps > 100.0:
            raise ValueError(f"end_sd_steps is {self.end_sd_steps}: at most 100 (1 s)")


class Played(NamedTuple):
    """What became of each auction, float64 or int64[auctions]."""

    winner: NDArray[np.int64]  # -1: nobody bid
    bid: NDArray[np.float64]
    signal: NDArray[np.float64]  # of the winner
    total: NDArray[np.float64]  # of one who sees everything

    @property
    def profit(self) -> NDArray[np.float64]:
        """What the winner keeps: its signal less its bid, ETH."""
        return self.signal - self.bid

    @property
    def efficiency(self) -> NDArray[np.float64]:
        """Winning bid over the total signal: the proposer's share."""
        return self.bid / self.total

    def win_share(self, builders: int) -> NDArray[np.float64]:
        """Share of the auctions that each builder wins."""
        return np.bincount(self.winner[self.winner >= 0], minlength=builders) / self.winner.size


class _Numbers(NamedTuple):
    strategy: np.ndarray
    access: np.ndarray
    lag: np.ndarray  # network and own delay, steps
    safety: int
    min_raise: float
    end_sd: float
    margin: float
    margin_sd: float
    public_mean: float
    private_mean: float
    log_worth: float
    log_worth_sd: float


@kernel
def _poisson(mean: float, u: float) -> int:
    """Poisson quantile: summed from the left, so that means up to 500 do not underflow."""
    log_term = -mean
    total, count = np.exp(log_term), 0
    while u >= total and count < 2000:
        count += 1
        log_term += np.log(mean / count)
        total += np.exp(log_term)
    return count


@kernel
def _draw_flow(
    numbers: _Numbers, lane_key: np.uint64, flow: np.ndarray, public: np.ndarray, total: np.ndarray
) -> None:
    """Add every transaction to the steps at which builders, the public and a seer of all see it."""
    flow[:], public[:], total[:] = 0.0, 0.0, 0.0
    steps, players = flow.shape
    key = slot_key(lane_key, 0, 0)
    # Arrivals go on at the same rate past 12 s, where a late proposer may still look.
    longer = steps / SLOT_STEPS
    open_count = _poisson(numbers.public_mean * longer, open_uniform(key, PUBLIC_CHANNEL))
    hidden_count = _poisson(numbers.private_mean * longer, open_uniform(key, PRIVATE_CHANNEL))
    for j in range(open_count + hidden_count):
        draws = slot_key(lane_key, 0, 1 + j)
        step = int(open_uniform(draws, TIME_CHANNEL) * steps)
        z = normal_quantile(open_uniform(draws, WORTH_CHANNEL))
        worth = np.exp(numbers.log_worth + numbers.log_worth_sd * z)
        total[step] += worth
        if j < open_count:
            public[step] += worth
        for p in range(players):
            if j < open_count or open_uniform(draws, ACCESS_CHANNEL + p) < numbers.access[p]:
                flow[step, p] += worth
    for step in range(1, steps):
        flow[step] += flow[step - 1]
        public[step] += public[step - 1]
        total[step] += total[step - 1]


@kernel
def _bid(
    numbers: _Numbers, p: int, step: int, signal: float, public: float, margin: float,
    others: float, bluff: float,
) -> float:  # fmt: skip
    """What builder p sends at a step; `others` is the highest bid of the others at the relay."""
    plain = max(signal - margin, 0.0)
    strategy = numbers.strategy[p]
    if strategy == ADAPTIVE:
        return min(plain, others + numbers.min_raise)
    if strategy == NAIVE or step >= SLOT_STEPS - numbers.lag[p] - numbers.safety:
        return plain
    if strategy == LAST_MINUTE:
        return 0.0
    if strategy == STEALTH:
        return max(public - margin, 0.0)
    return bluff


@kernel
def _best_two(bids: np.ndarray) -> tuple[int, float, float]:
    """Index of the highest bid, the highest, and the highest of the others."""
    first, best, second = 0, -1.0, -1.0
    for p in range(bids.shape[0]):
        if bids[p] > best:
            first, best, second = p, bids[p], best
        elif bids[p] > second:
            second = bids[p]
    return first, best, second


@kernel
def _play_one(
    numbers: _Numbers,
    lane_key: np.uint64,
    flow: np.ndarray,
    public: np.ndarray,
    total: np.ndarray,
    sent: np.ndarray,
    out: np.ndarray,
    path: np.ndarray,
) -> int:
    """One auction: out = (bid, signal, total) of the winner, whose index is returned.

    `path` gets the highest bid at the relay of each step, unless it is empty.
    """
    steps, players = flow.shape
    _draw_flow(numbers, lane_key, flow, public, total)
    key = slot_key(lane_key, 0, 0)
    late = numbers.end_sd * normal_quantile(open_uniform(key, END_CHANNEL))
    end = min(max(int(SLOT_STEPS + np.rint(late)), 1), steps - 1)
    at_relay, margins, bluffs = np.zeros(players), np.empty(players), np.empty(players)
    for p in range(players):
        draw = normal_quantile(open_uniform(key, MARGIN_CHANNEL + p))
        margins[p] = numbers.margin + numbers.margin_sd * draw
        bluffs[p] = 0.3 + 0.1 * open_uniform(key, BLUFF_CHANNEL + p)
    for step in range(end + 1):
        for p in range(players):
            at_relay[p] = sent[step - numbers.lag[p], p] if step >= numbers.lag[p] else 0.0
        first, best, second = _best_two(at_relay)
        if step < path.shape[0]:
            path[step] = best
        for p in range(players):
            others = second if p == first else best
            sent[step, p] = _bid(
                numbers, p, step, flow[step, p], public[step], margins[p], others, bluffs[p]
            )
    for step in range(end + 1, path.shape[0]):
        path[step] = best
    tied = 0
    for p in range(players):
        tied += at_relay[p] == best
    lot = int(open_uniform(key, LOT_CHANNEL) * tied)
    out[0], out[2] = best, total[end]
    if best <= 0.0:
        return -1
    for p in range(players):
        if at_relay[p] == best:
            if lot == 0:
                out[1] = flow[end, p]
                return p
            lot -= 1
    return -1


@kernel
def _play(
    numbers: _Numbers, keys: np.ndarray, winner: np.ndarray, out: np.ndarray, paths: np.ndarray
) -> None:
    players = numbers.strategy.shape[0]
    steps = SLOT_STEPS + int(4.0 * numbers.end_sd) + 1
    flow, sent = np.empty((steps, players)), np.empty((steps, players))
    public, total = np.empty(steps), np.empty(steps)
    for auction in range(keys.shape[0]):
        winner[auction] = _play_one(
            numbers, keys[auction], flow, public, total, sent, out[auction], paths[auction]
        )


def play_block_auctions(
    model: BlockAuction, auctions: int, split: str = "train", seed: int = 0
) -> Played:
    """Play independent auctions; auction i depends on (split, seed, i) and the model only."""
    winner, out, _ = _played(model, auctions, split, seed, 0)
    return Played(winner, *(np.ascontiguousarray(column) for column in out.T))


def best_bid_paths(
    model: BlockAuction, auctions: int, split: str = "train", seed: int = 0
) -> NDArray[np.float64]:
    """Highest bid at the relay at each step of the slot, ETH float64[auctions, SLOT_STEPS + 1].

    The auctions are those of `play_block_auctions`. After an early look of the proposer the value
    stays; the last column is the winning bid unless it looked late. Bids can be cancelled, so a
    path may fall.
    """
    return _played(model, auctions, split, seed, SLOT_STEPS + 1)[2]


def _played(
    model: BlockAuction, auctions: int, split: str, seed: int, shown_steps: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Winners, their (bid, signal, total), and the first `shown_steps` of the best bids."""
    lags = [builder.delay_steps + model.network_delay_steps for builder in model.builders]
    numbers = _Numbers(
        np.array([STRATEGIES.index(b.strategy) for b in model.builders], np.int64),
        np.array([b.access for b in model.builders], np.float64),
        np.array(lags, np.int64),
        model.safety_steps,
        model.min_raise_eth,
        model.end_sd_steps,
        model.margin_eth,
        model.margin_sd_eth,
        model.public_mean,
        model.private_mean,
        model.log_worth,
        model.log_worth_sd,
    )
    winner, out = np.empty(auctions, np.int64), np.zeros((auctions, 3))
    paths = np.zeros((auctions, shown_steps))
    _play(numbers, lane_keys(split, seed, auctions), winner, out, paths)
    return winner, out, paths
