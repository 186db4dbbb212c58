"""Networks that state the law of the clearing bid in the market, and act by expected profit.

For each opportunity on offer they state how the highest rival bid over its net profit is spread
over the bid grid, and how likely a bid that is not outbid lands (it does not where the pools had
moved). What each action of the table earns follows by arithmetic; it is the logits, times a
constant. A policy gradient never touches these networks: `agents.belief.clearing_score` fits the
laws to the auctions that followed.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kernels.market.action import (
    ACTIONS,
    BID_FRACTION,
    BIDS,
    COARSE_STEP,
    FIRST_HALF,
    FIRST_PUBLIC,
)
from kernels.market.observation import (
    FIELDS,
    HISTORY_START,
    OPPORTUNITY_START,
    OPPORTUNITY_STRIDE,
    SIZE,
    VALUE_CENTRE,
    VALUE_SCALE,
)
from kernels.market.tile import OPPORTUNITIES

CLASSES = BIDS + 1  # class k: the highest rival bid lies in [bid k - 1, bid k) of the grid
CONTEXT = OPPORTUNITY_START + SIZE - HISTORY_START  # fields that belong to no opportunity
# Expected profit over the best action's: of what loses money at least, of what is never worth it.
LOSS, NEVER = -0.1, -1.0
# Most gas over gross in the cost of a lost public transaction: more of it would multiply the
# rounding of 1 - P(win).
MOST_GAS_SHARE = 0.95
LEAST_SHARE = 0.05  # of the gross profit: in poorer slots logits are told apart less sharply
LEAST_ETH = 1e-9  # nothing is on offer

_NAMES = [field.name for field in FIELDS]
_TAKEN = _NAMES.index("bundles_taken")
_EXISTS, _NET, _GAS_SHARE = (
    _NAMES.index(f"opportunity0_{name}") - OPPORTUNITY_START
    for name in ("exists", "net", "gas_share")
)
_FRACTION = torch.tensor(BID_FRACTION, dtype=torch.float32)
_COARSE = slice(COARSE_STEP - 1, BIDS, COARSE_STEP)


class Law(NamedTuple):
    """What is believed of auctions [...]."""

    logits: Tensor
    """[..., CLASSES] of the highest rival bid over the net profit."""
    landing: Tensor
    """[...]: logit of "lands, if not outbid"."""

    def below(self) -> Tensor:
        """[..., BIDS]: the chance that no rival bids as much."""
        return self.logits.softmax(-1).cumsum(-1)[..., :BIDS]

    def wins(self) -> Tensor:
        """[..., BIDS]: the chance to win."""
        return self.below() * self.landing.sigmoid()[..., None]


def opportunities_of(observations: Tensor) -> Tensor:
    """Fields [n, OPPORTUNITIES, OPPORTUNITY_STRIDE] of observations [n, SIZE]."""
    fields = observations[:, OPPORTUNITY_START:HISTORY_START]
    return fields.reshape(-1, OPPORTUNITIES, OPPORTUNITY_STRIDE)


def context_of(observations: Tensor) -> Tensor:
    """The other fields, [n, CONTEXT]."""
    parts = observations[:, :OPPORTUNITY_START], observations[:, HISTORY_START:]
    return torch.cat(parts, dim=1)


def net_eth(offer: Tensor) -> Tensor:
    """Net profit [...] of opportunities' fields, 0 of an absent one."""
    return torch.exp(offer[..., _NET] * VALUE_SCALE + VALUE_CENTRE) * offer[..., _EXISTS].clamp(
        0.0, 1.0
    )


def expected_eth(observations: Tensor, wins: Tensor, revert_share: float) -> tuple[Tensor, Tensor]:
    """Expected profit of every action, [n, ACTIONS], where wins is [n, OPPORTUNITIES, BIDS], and
    the gross profit of the largest opportunity on offer, [n, 1]; ETH.

    A bundle costs nothing when it loses. A public transaction that loses pays `revert_share` of its
    gas and of its bid. Never worth it, -inf: a bundle where the proposer builds alone; half the
    size, for the same payment wins as often and leaves less; a public bid where bundles are taken,
    for a bundle of the same payment wins as often and loses nothing; cancelling. Keeping what
    stands counts as 0, as it is where a slot has one decision.
    """
    fields = opportunities_of(observations)
    net, taken = net_eth(fields)[..., None], observations[:, _TAKEN, None, None] > 0.0
    gas_share = fields[..., _GAS_SHARE, None].clamp(0.0, MOST_GAS_SHARE)
    gross = net / (1.0 - gas_share)
    bundles = torch.where(taken, net * (1.0 - _FRACTION) * wins, -torch.inf)
    chance, fraction = wins[..., _COARSE], _FRACTION[_COARSE]
    lost = revert_share * (gross * gas_share + net * fraction)
    public = net * (1.0 - fraction) * chance - lost * (1.0 - chance)
    public = torch.where(taken, -torch.inf, public)
    none = torch.zeros_like(net[:, 0])
    half = (none - torch.inf).expand(-1, FIRST_PUBLIC - FIRST_HALF)
    parts = none, bundles.flatten(1), half, public.flatten(1), none - torch.inf
    return torch.cat(parts, dim=1), gross[..., 0].amax(dim=1, keepdim=True)


class _ClearingBelief(nn.Module):
    """From laws to actions; subclasses say what a law depends on.

    sharpness: logits of two actions differ by it where their expected profits differ by the best
    one's, so that training tries bids which it believes to be about as good. A server takes the
    largest logit.
    revert_share: as the market's `gas.revert_share`.
    """

    def __init__(self, units: int, sharpness: float, revert_share: float) -> None:
        super().__init__()
        self.sharpness, self.revert_share = sharpness, revert_share
        self.offer = nn.Linear(OPPORTUNITY_STRIDE, units)
        self.law_layers = nn.Sequential(
            nn.Tanh(), nn.Linear(units, units), nn.Tanh(), nn.Linear(units, CLASSES + 1)
        )

    def law(self, past: Tensor, offer: Tensor) -> Law:
        """Law of auctions [...]: past [..., units] of `remembered`, offer the opportunity's fields
        [..., OPPORTUNITY_STRIDE]."""
        out = self.law_layers(past + self.offer(offer))
        return Law(out[..., :CLASSES], out[..., CLASSES])

    def chosen(self, observations: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [n, ACTIONS] and the best action's expected profit, ETH [n]."""
        law = self.law(past[:, None], opportunities_of(observations))
        profit, gross = expected_eth(observations, law.wins(), self.revert_share)
        best = profit.amax(dim=1, keepdim=True)
        unit = torch.maximum(best, LEAST_SHARE * gross).clamp(min=LEAST_ETH)
        share = (profit / unit).clamp(min=LOSS)
        share = torch.where(profit > -torch.inf, share, NEVER)
        return self.sharpness * share, best[:, 0]


class WindowClearingBelief(_ClearingBelief):
    """Looks at the observation alone, which holds the last auctions."""

    def __init__(
        self,
        observation_space: Any,
        action_space: Any,
        units: int = 64,
        sharpness: float = 20.0,
        revert_share: float = 0.35,
    ) -> None:
        check_spaces(observation_space, action_space)
        super().__init__(units, sharpness, revert_share)
        self.context = nn.Linear(CONTEXT, units)

    def remembered(self, observations: Tensor) -> Tensor:
        """[n, units] of observations [n, SIZE]."""
        return self.context(context_of(observations))

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [n, ACTIONS] and values [n], ETH."""
        return self.chosen(observations, self.remembered(observations))


class RecurrentClearingBelief(_ClearingBelief):
    """Also remembers: a gated recurrent unit over the slots, which sees what no auction changes."""

    state_shape: tuple[int, int] = (1, 64)

    def __init__(
        self,
        observation_space: Any,
        action_space: Any,
        units: int = 64,
        sharpness: float = 20.0,
        revert_share: float = 0.35,
    ) -> None:
        check_spaces(observation_space, action_space)
        super().__init__(units, sharpness, revert_share)
        self.state_shape = (1, units)
        self.embed = nn.Sequential(nn.Linear(CONTEXT + OPPORTUNITY_STRIDE, units), nn.Tanh())
        self.memory = nn.GRUCell(units, units)
        self.context = nn.Linear(CONTEXT, units)
        self.recall = nn.Linear(units, units, bias=False)

    def embedded(self, observations: Tensor) -> Tensor:
        """What the memory reads of a slot, [n, units]: all but the lesser opportunities."""
        best = observations[:, OPPORTUNITY_START : OPPORTUNITY_START + OPPORTUNITY_STRIDE]
        return self.embed(torch.cat([context_of(observations), best], dim=1))

    def remembered(self, observations: Tensor, memory: Tensor) -> Tensor:
        """[n, units] of observations [n, SIZE] and the memory [n, units] after reading them."""
        return self.context(context_of(observations)) + self.recall(memory)

    def forward(self, observations: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [n, ACTIONS], values [n], ETH, and the next state float32[1, n, units]."""
        memory = self.memory(self.embedded(observations), state[0])
        return *self.chosen(observations, self.remembered(observations, memory)), memory[None]


def check_spaces(observation_space: Any, action_space: Any) -> None:
    """Refuse another environment than the market. Raises ValueError."""
    seen, actions = observation_space.shape, getattr(action_space, "n", None)
    if seen != (SIZE,) or actions != ACTIONS:
        raise ValueError(
            f"observations {seen} and {actions} actions: a belief about clearing bids reads the "
            f"market's ({SIZE},) and bids by its table of {ACTIONS}"
        )


def grid_entry(gap: Tensor) -> Tensor:
    """Class int64[...] of a highest rival bid, from the observation's field `clearing`.

    As in agents.bidders: a bid that equals one of the grid is not below it.
    """
    return torch.searchsorted(_GRID_GAP, gap.contiguous() + 1e-6, right=True)


_GRID_GAP = torch.tensor(-np.log2(1.0 - BID_FRACTION) / 4.0, dtype=torch.float32)
