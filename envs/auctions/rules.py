"""Compiled rules of the bare auctions: values, scripted bids, who wins and who pays."""

from typing import NamedTuple

import numpy as np

from envs.auctions.equilibrium import (
    CommonValue,
    LogNormalLaw,
    Rivals,
    StationaryRivals,
    ValueLaw,
    first_price_bid,
)
from envs.auctions.keyed_lanes import StepArrays
from envs.auctions.laws import normal_quantile, open_uniform
from envs.market.randomness import quantile, slot_key
from kernels.compile import inline, kernel, lean_kernel

PRIVATE, COMMON, STATIONARY = range(3)
EPISODE, ROUND, TOP_SCRIPTED, GAME_COLUMNS = range(4)
FEATURES = 4
CELLS = 1 << 14
LATENT_LIMIT = 9.0  # |z| beyond what 32-bit uniforms reach

# Channels of one auction; at most 64 learners and 64 scripted rivals.
VALUE_CHANNEL, JOIN_CHANNEL, RIVAL_CHANNEL, LOT_CHANNEL, COUNT_CHANNEL = 0, 64, 128, 256, 257


class Rules(NamedTuple):
    """A game as numbers: iid private values, one common value, or stationary rivals."""

    kind: int
    learners: int
    join: float
    scripted: int
    scripted_join: float
    rate: float  # of a Poisson number of scripted rivals, 0 for a fixed one
    log_normal: bool
    exponent: float
    mean: float
    sd: float
    flat: bool
    flat_low: float
    flat_high: float
    table: np.ndarray  # [1, CELLS + 1]: bid share by latent value, or Beta quantiles
    table_low: float
    table_high: float
    prize: float
    gas: float
    failed_gas: float
    loser_share: float
    players: int
    abstain: float  # of the equilibrium
    rival_abstain: float


class FirstPriceTable(NamedTuple):
    """What scripted bidders of a first-price auction bid: the equilibrium among `rivals`."""

    law: ValueLaw
    rivals: Rivals

    def shares(self) -> tuple[np.ndarray, float, float]:
        """b(v) / v on an even grid of v, or of the standardised ln v, with its ends."""
        if isinstance(self.law, LogNormalLaw):
            low, high = -LATENT_LIMIT, LATENT_LIMIT
            values = np.exp(self.law.mean + self.law.sd * np.linspace(low, high, CELLS + 1))
        else:
            low, high = 0.0, 1.0
            values = np.linspace(low, high, CELLS + 1)
            values[0] = 0.5 / CELLS  # the share at 0 itself is a limit
        share = first_price_bid(self.law, self.rivals, values) / values
        if not isinstance(self.law, LogNormalLaw):
            share[0] = 2.0 * share[0] - share[1] if self.rivals.rate else share[0]
        return share[None], low, high


def _rules(**given: object) -> Rules:
    empty: dict[str, object] = dict.fromkeys(Rules._fields, 0.0)
    empty |= {
        "kind": PRIVATE, "learners": 1, "join": 1.0, "scripted": 0, "scripted_join": 1.0,
        "log_normal": False, "exponent": 1.0, "sd": 1.0, "flat": False, "prize": 1.0,
        "table": np.zeros((1, 2)), "table_high": 1.0, "players": 0,
    }  # fmt: skip
    return Rules(**(empty | given))  # type: ignore[arg-type]


def rules_of_first_price(
    table: FirstPriceTable,
    learners: int,
    join: float,
    rivals: Rivals,
    flat_z: tuple[float, float] | None,
) -> Rules:
    """Independent private values, scripted rivals at the equilibrium of `table`."""
    shares, low, high = table.shares()
    law = table.law
    shape: dict[str, object] = {"log_normal": isinstance(law, LogNormalLaw)}
    if isinstance(law, LogNormalLaw):
        shape |= {"mean": law.mean, "sd": law.sd}
    else:
        shape |= {"exponent": law.exponent}
    if flat_z:
        shape |= {"flat": True, "flat_low": flat_z[0], "flat_high": flat_z[1]}
    return _rules(
        learners=learners, join=join, scripted=rivals.fixed, scripted_join=rivals.join,
        rate=rivals.rate, table=shares, table_low=low, table_high=high, **shape,
    )  # fmt: skip


def rules_of_common_value(
    game: CommonValue, learners: int, join: float, rival_abstain: float | None
) -> Rules:
    """One prize for all, without revert protection; scripted rivals mix as in equilibrium."""
    return _rules(
        kind=COMMON, learners=learners, join=join, scripted=game.players - learners,
        prize=game.value, gas=game.gas, failed_gas=game.failed_gas, loser_share=game.loser_share,
        players=game.players, abstain=game.abstain,
        rival_abstain=game.abstain if rival_abstain is None else rival_abstain,
    )  # fmt: skip


def rules_of_stationary(rivals: StationaryRivals) -> Rules:
    """A prize of 1 against rivals whose bids come from one Beta law for ever."""
    table = rivals.quantile(np.linspace(0.0, 1.0, CELLS + 1))[None]
    return _rules(kind=STATIONARY, scripted=rivals.count, scripted_join=rivals.join, table=table)


@kernel
def _draw_value(rules: Rules, key: np.uint64, channel: int, flat: bool) -> float:
    u = open_uniform(key, channel)
    if rules.log_normal:
        if flat:
            z = rules.flat_low + u * (rules.flat_high - rules.flat_low)
        else:
            z = normal_quantile(u)
        return np.exp(rules.mean + rules.sd * z)
    if rules.exponent == 1.0:
        return u
    return u ** (1.0 / rules.exponent)


@inline
def latent(rules: Rules, value: float) -> float:
    """The value itself, or its standardised logarithm."""
    if rules.log_normal:
        return (np.log(value) - rules.mean) / rules.sd
    return value


@kernel
def _table(rules: Rules, x: float) -> float:
    u = (x - rules.table_low) / (rules.table_high - rules.table_low)
    return quantile(rules.table, 0, min(max(u, 0.0), 1.0 - 1e-12))


@kernel
def mixed_bid(rules: Rules, u: float) -> float:
    """Bid of a common-value player at the quantile u of its mixed strategy, -1 to abstain.

    With another `rival_abstain` the law of the bids that are made stays the equilibrium's.
    """
    if u < rules.rival_abstain:
        return -1.0
    made = (u - rules.rival_abstain) / (1.0 - rules.rival_abstain)
    h = (rules.abstain + (1.0 - rules.abstain) * made) ** (rules.players - 1)
    top = rules.prize - rules.gas
    return max(
        (h * (top + rules.failed_gas) - rules.failed_gas) / (rules.loser_share * (1.0 - h) + h), 0.0
    )


@kernel
def _poisson(rate: float, u: float) -> int:
    term = np.exp(-rate)
    total, count = term, 0
    while u >= total and count < 64:
        count += 1
        term *= rate / count
        total += term
    return count


@kernel
def _top_scripted(rules: Rules, key: np.uint64) -> float:
    """Highest scripted bid of an auction, -1 when none."""
    count = rules.scripted
    if rules.rate > 0.0:
        count = _poisson(rules.rate, open_uniform(key, COUNT_CHANNEL))
    best = -1.0
    for rival in range(count):
        channel = RIVAL_CHANNEL + 2 * rival
        if rules.kind == COMMON:
            best = max(best, mixed_bid(rules, open_uniform(key, channel)))
        elif open_uniform(key, channel + 1) < rules.scripted_join:
            if rules.kind == STATIONARY:
                best = max(best, _table(rules, open_uniform(key, channel)))
            else:
                best = max(best, _draw_value(rules, key, channel, False))
    # Private bids grow with the value, so the highest value alone has to be turned into a bid.
    if rules.kind == PRIVATE and best >= 0.0:
        return best * _table(rules, latent(rules, best))
    return best


@kernel
def observe(rules: Rules, values: np.ndarray, seen: np.ndarray) -> None:
    """Observations float32[n, FEATURES] of values [n]: y, tanh(y - 1), tanh(y), tanh(y + 1).

    y is 2 v - 1 or the standardised ln v, 0 for a common value; zeros for who is absent (v < 0).
    """
    for p in range(values.shape[0]):
        seen[p, :] = 0.0
        if values[p] < 0.0:
            continue
        y = 0.0
        if rules.kind == PRIVATE:
            y = latent(rules, values[p])
            if not rules.log_normal:
                y = 2.0 * y - 1.0
        seen[p, 0] = y
        for feature in range(1, FEATURES):
            seen[p, feature] = np.tanh(y + (feature - 2))


@kernel
def _start_round(
    rules: Rules, lane_key: np.uint64, game: np.ndarray, values: np.ndarray, seen: np.ndarray
) -> None:
    """Draw values (-1 for learners who do not join) and scripted bids; write observations."""
    key = slot_key(lane_key, int(game[EPISODE]), int(game[ROUND]))
    game[TOP_SCRIPTED] = _top_scripted(rules, key)
    for p in range(rules.learners):
        values[p] = -1.0
        if rules.join < 1.0 and open_uniform(key, JOIN_CHANNEL + p) >= rules.join:
            continue
        if rules.kind == PRIVATE:
            values[p] = _draw_value(rules, key, VALUE_CHANNEL + p, rules.flat)
        else:
            values[p] = rules.prize
    observe(rules, values, seen)


@kernel
def start(
    rules: Rules, keys: np.ndarray, games: np.ndarray, values: np.ndarray, seen: np.ndarray
) -> None:
    """Open the first round of the present episode in every game."""
    for g in range(keys.shape[0]):
        games[g, ROUND] = 0.0
        lanes = slice(g * rules.learners, (g + 1) * rules.learners)
        _start_round(rules, keys[g], games[g], values[g], seen[lanes])


@inline
def _payoff(rules: Rules, value: float, bid: float, won: bool) -> float:
    if bid < 0.0:
        return 0.0
    if won:
        return value - bid - rules.gas
    return -(rules.loser_share * bid + rules.failed_gas)


@kernel
def _winner(rules: Rules, key: np.uint64, bids: np.ndarray, scripted: float) -> int:
    """Index of the learner with the highest bid above the scripted ones, ties by lot, or -1."""
    best, tied = scripted, 0
    for p in range(bids.shape[0]):
        best = max(best, bids[p])
    for p in range(bids.shape[0]):
        tied += bids[p] == best
    if best < 0.0 or tied == 0 or best == scripted:
        return -1
    lot = int(open_uniform(key, LOT_CHANNEL) * tied)
    for p in range(bids.shape[0]):
        if bids[p] == best:
            if lot == 0:
                return p
            lot -= 1
    return -1


class Games(NamedTuple):
    """G games of n learners between two rounds."""

    rows: np.ndarray  # float64[G, GAME_COLUMNS]
    values: np.ndarray  # float64[G, n] of the open round, -1 for who is absent
    bids: np.ndarray  # float64[G, n] of the last one, -1 for who abstained


@lean_kernel
def play(
    rules: Rules,
    keys: np.ndarray,
    fractions: np.ndarray,
    rounds: int,
    state: Games,
    step: StepArrays,
    rewards: np.ndarray,
) -> None:
    """Settle one auction per game and open the next; lanes as in `AuctionVectorEnv`."""
    games, values, bids = state
    n = rules.learners
    for g in range(keys.shape[0]):
        game, scripted = games[g], games[g, TOP_SCRIPTED]
        for p in range(n):
            fraction, value = fractions[g * n + p], values[g, p]
            bids[g, p] = -1.0
            if fraction >= 0.0 and value >= 0.0:
                bids[g, p] = fraction * (value - rules.gas)
        key = slot_key(keys[g], int(game[EPISODE]), int(game[ROUND]))
        winner = _winner(rules, key, bids[g], scripted)
        for p in range(n):
            lane = g * n + p
            others = scripted
            for q in range(n):
                if q != p:
                    others = max(others, bids[g, q])
            step.outcome[0, lane] = p == winner
            step.outcome[1, lane] = bids[g, p]
            step.outcome[2, lane] = values[g, p]
            step.outcome[3, lane] = others
            rewards[lane] = _payoff(rules, values[g, p], bids[g, p], p == winner)
        game[ROUND] += 1.0
        lanes = slice(g * n, (g + 1) * n)
        _start_round(rules, keys[g], game, values[g], step.seen[lanes])
        step.ended[g] = game[ROUND] >= rounds
        if step.ended[g]:
            for lane in range(g * n, (g + 1) * n):
                for feature in range(FEATURES):
                    step.final[lane, feature] = step.seen[lane, feature]
            game[EPISODE] += 1.0
            game[ROUND] = 0.0
            _start_round(rules, keys[g], game, values[g], step.seen[lanes])
