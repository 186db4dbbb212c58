"""Belief about the highest rival bid: networks that state its law before each auction, and the bid
that earns most if the belief is right.

The law is a categorical over BIDS: class 0 is "nobody bids", class k a highest rival share in
[BIDS[k - 1], BIDS[k]), the last one whatever lies above the grid. P(win) of BIDS[j] is then the sum
of classes 0 to j, exactly, with no shape assumed.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from envs.hidden_competition.env import PER_AUCTION, Z_SCALE
from envs.hidden_competition.model import FRACTIONS, LOG_VALUE_MEAN, LOG_VALUE_SD, Chains
from envs.hidden_competition.references import GRID

# Bids of a belief as shares of the value: those of the environment, log-spaced in 1 - f, and those
# of the filters, evenly spaced, for the first are 0.05 apart where rivals bid a half or less.
BIDS: NDArray[np.float64] = np.union1d(FRACTIONS, GRID)
CLASSES = BIDS.size + 1
SEEN = 1 + PER_AUCTION  # present value; clearing share, own share, won, value of the last auction
SMALLEST_REST = 1e-3  # 1 - share below which shares look alike to a network
WINDOW, RECURRENT = "window", "recurrent"

MARGINS = torch.from_numpy(1.0 - BIDS).float()
SHARES = torch.from_numpy(BIDS)


class Rivals(NamedTuple):
    """Auctions [length, chains] as tensors; what is bid changes none of them."""

    value_z: Tensor
    """float32: z / 2 of ln v, as the environment shows it."""
    top_rival: Tensor
    """float64: highest rival share, -1 for none. Float64, as ties with the grid must not move."""
    label: Tensor
    """int64: its class."""
    value_eth: Tensor
    """float32."""

    def part(self, lanes: Tensor) -> "Rivals":
        """Some of the chains."""
        return Rivals(*(x[:, lanes] for x in self))


def classes_of(top_rival: NDArray[np.float64]) -> NDArray[np.int64]:
    """Class of each highest rival share; -1, nobody, is class 0."""
    return np.where(top_rival < 0.0, 0, np.searchsorted(BIDS, top_rival, side="right"))


def rivals_of(chains: Chains) -> Rivals:
    """Recorded chains as tensors."""
    z = (chains.log_value - LOG_VALUE_MEAN) / LOG_VALUE_SD * Z_SCALE
    return Rivals(
        torch.from_numpy(z).float(),
        torch.from_numpy(chains.top_rival),
        torch.from_numpy(classes_of(chains.top_rival)),
        torch.from_numpy(np.exp(chains.log_value)).float(),
    )


class RecurrentBelief(nn.Module):
    """A gated recurrent unit over the auctions; the head also reads the present value itself."""

    def __init__(self, units: int = 64) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(SEEN, units), nn.SiLU())
        self.memory = nn.GRU(units, units)
        self.head = nn.Sequential(nn.Linear(units + 1, units), nn.SiLU(), nn.Linear(units, CLASSES))

    def start(self, lanes: int) -> Tensor:
        """State float32[1, lanes, units] before the first auction."""
        return torch.zeros(1, lanes, self.memory.hidden_size)

    def forward(self, seen: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [T, lanes, CLASSES] and the next state, for seen float32[T, lanes, SEEN]."""
        hidden, state = self.memory(self.embed(seen), state)
        return self.head(torch.cat([hidden, seen[..., :1]], dim=-1)), state


class WindowBelief(nn.Module):
    """A perceptron over the last `window` auctions, which are its state."""

    def __init__(self, units: int = 64, window: int = 16) -> None:
        super().__init__()
        self.window = window
        self.layers = nn.Sequential(
            *(nn.Linear(1 + PER_AUCTION * window, units), nn.SiLU()),
            *(nn.Linear(units, units), nn.SiLU(), nn.Linear(units, CLASSES)),
        )

    def start(self, lanes: int) -> Tensor:
        """State float32[window, lanes, PER_AUCTION] before the first auction, oldest first."""
        return torch.zeros(self.window, lanes, PER_AUCTION)

    def forward(self, seen: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [T, lanes, CLASSES] and the next state, for seen float32[T, lanes, SEEN]."""
        history = torch.cat([state, seen[..., 1:]])
        windows = history[1:].unfold(0, self.window, 1).flatten(2)
        logits = self.layers(torch.cat([seen[..., :1], windows], dim=-1))
        return logits, history[-self.window :]


Belief = RecurrentBelief | WindowBelief
FORMS: dict[str, type[RecurrentBelief] | type[WindowBelief]] = {
    RECURRENT: RecurrentBelief,
    WINDOW: WindowBelief,
}


def win_probabilities(logits: Tensor) -> Tensor:
    """P(every rival bids less) of each bid of the grid, [..., BIDS.size]; logits [..., CLASSES]."""
    return logits.softmax(-1).cumsum(-1)[..., :-1]


def best_bids(logits: Tensor) -> Tensor:
    """Index [...] of the bid with the largest expected profit (1 - f) P(win)."""
    return (win_probabilities(logits) * MARGINS).argmax(-1)


def rest(share: Tensor) -> Tensor:
    """What a share leaves over, on a log scale of order 1: the scale on which the grid is even."""
    return 1.0 + 0.5 * torch.log((1.0 - share).clamp(min=SMALLEST_REST)).float()


def outcome_seen(value_z: Tensor, top_rival: Tensor, bid: Tensor) -> Tensor:
    """What a searcher is shown after an auction, float32[lanes, PER_AUCTION].

    The clearing share is the larger of its own bid and the rivals' (public); after a win it is its
    own bid, so the highest rival is known to lie below, no more. bid: index into the grid.
    """
    own = SHARES[bid]
    won = own > top_rival
    clearing = torch.where(won, own, top_rival)
    return torch.stack([rest(clearing), rest(own), 2.0 * won.float() - 1.0, value_z], dim=-1)


class Played(NamedTuple):
    """What a belief saw and did along T auctions of some chains."""

    seen: Tensor
    """float32[T, lanes, SEEN]"""
    bid: Tensor
    """int64[T, lanes]: index into the grid"""
    logits: Tensor
    """float32[T, lanes, CLASSES]"""
    state: Tensor
    """after the last auction"""
    outcome: Tensor
    """float32[lanes, PER_AUCTION]: what is shown of the last auction"""


@torch.no_grad()
def play(
    belief: Belief,
    rivals: Rivals,
    state: Tensor,
    outcome: Tensor,
    forced: Tensor | None = None,
) -> Played:
    """Bid along all auctions of `rivals`; forced int64[T, lanes] replaces the bid where >= 0."""
    length, lanes = rivals.value_z.shape
    seen = torch.empty(length, lanes, SEEN)
    bids = torch.empty(length, lanes, dtype=torch.int64)
    logits = torch.empty(length, lanes, CLASSES)
    for t in range(length):
        seen[t, :, 0] = rivals.value_z[t]
        seen[t, :, 1:] = outcome
        found, state = belief(seen[t : t + 1], state)
        logits[t] = found[0]
        bid = best_bids(logits[t])
        if forced is not None:
            bid = torch.where(forced[t] >= 0, forced[t], bid)
        bids[t] = bid
        outcome = outcome_seen(rivals.value_z[t], rivals.top_rival[t], bid)
    return Played(seen, bids, logits, state, outcome)


def no_outcome(lanes: int) -> Tensor:
    """What is shown before the first auction: zeros float32[lanes, PER_AUCTION]."""
    return torch.zeros(lanes, PER_AUCTION)
