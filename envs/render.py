"""Draws one market at one decision for a person to read: as text, and as an image.

What is drawn is what the agent may know: the slot, the pending swaps that it has seen, the
opportunities, its standing bid and its last auctions.
"""

import math
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kernels.graph.market_graph import Graph
from kernels.market.tile import (
    BASE_FEE,
    BUNDLES_TAKEN,
    FORECAST,
    FORECASTS,
    FOUND_AGE,
    FOUND_AMOUNT_IN,
    FOUND_CYCLE,
    FOUND_NET,
    FOUND_PUBLIC_BID,
    HISTORY,
    HISTORY_CLEARING,
    HISTORY_OWN,
    HISTORY_WON,
    OPPORTUNITIES,
    PENDING,
    PENDING_AMOUNT_IN,
    PENDING_POOL,
    PENDING_TIP,
    PENDING_VISIBLE,
    PENDING_ZERO_FOR_ONE,
    PUBLIC,
    STANDING_CHANNEL,
    STANDING_CYCLE,
    STANDING_FRACTION,
)

_HOURS_PER_YEAR = 24 * 365
_INK, _NET, _BID, _WON, _LOST = "#222222", "#9db4c8", "#1f4e79", "#1b7837", "#b2182b"
_SIZE_INCHES, _DOTS_PER_INCH = (9.0, 5.4), 100


class PendingSwap(NamedTuple):
    """A swap of a user that the agent has seen in the mempool."""

    pool: int
    sold: str
    bought: str
    amount: float  # tokens sold
    tip_gwei: float


class Opportunity(NamedTuple):
    """An arbitrage or a liquidation that pays its gas."""

    path: str
    net_eth: float
    amount_eth: float
    age_slots: int
    public_bid: float  # highest bid of a rival seen in public, share of net
    own_bid: float  # our standing bid, share of net; NaN without one


class Auction(NamedTuple):
    """A past auction of this searcher; bids as shares of the net profit."""

    own: float
    clearing: float
    won: bool


class SlotView(NamedTuple):
    """What `slot_text` and `slot_image` draw; lists are in the order in which they are shown."""

    slot: int
    slots: int
    decision: int
    decisions: int
    base_fee_gwei: float
    bundles_taken: bool
    eth_usd: float
    volatility: float  # deviation of the ETH price, of the next hour's forecast, over a year
    channel: str  # of our standing bid, empty without one
    profit_eth: float  # since the start of the episode
    pending: list[PendingSwap]
    opportunities: list[Opportunity]
    auctions: list[Auction]


class Clock(NamedTuple):
    """Where in the episode a market is; what the tile alone does not say."""

    slot: int
    slots: int
    decision: int
    decisions: int
    eth_usd: float
    profit_eth: float


def view_of(
    column: NDArray[np.float64], graph: Graph, symbols: tuple[str, ...], clock: Clock
) -> SlotView:
    """The view of one market: `column` float64[rows] is its lane of a tile of `graph`."""
    variance = math.exp(column[FORECAST + FORECASTS - 1])
    standing = int(column[STANDING_CYCLE])
    channel = "public transaction" if column[STANDING_CHANNEL] == PUBLIC else "bundle"
    return SlotView(
        slot=clock.slot,
        slots=clock.slots,
        decision=clock.decision,
        decisions=clock.decisions,
        base_fee_gwei=float(column[BASE_FEE]),
        bundles_taken=bool(column[BUNDLES_TAKEN] > 0.0),
        eth_usd=clock.eth_usd,
        volatility=math.sqrt(variance * _HOURS_PER_YEAR),
        channel=channel if standing >= 0 else "",
        profit_eth=clock.profit_eth,
        pending=_pending(column, graph, symbols),
        opportunities=_opportunities(column, graph, symbols, standing),
        auctions=[
            Auction(
                _share(column[HISTORY_OWN + past]),
                _share(column[HISTORY_CLEARING + past]),
                bool(column[HISTORY_WON + past] > 0.0),
            )
            for past in range(HISTORY)
            if column[HISTORY_WON + past] != 0.0
        ],
    )


def _share(encoded: float) -> float:
    """A share of net from the scale of the history, -log2(1 - x) / 4."""
    return float(1.0 - 2.0 ** (-4.0 * encoded))


def _pending(
    column: NDArray[np.float64], graph: Graph, symbols: tuple[str, ...]
) -> list[PendingSwap]:
    found = []
    for m in range(PENDING):
        if column[PENDING_VISIBLE + m] <= 0.0:
            continue
        pool = int(column[PENDING_POOL + m])
        sides = int(graph.token0[pool]), int(graph.token1[pool])
        sold, bought = sides if column[PENDING_ZERO_FOR_ONE + m] > 0.0 else sides[::-1]
        amount, tip = float(column[PENDING_AMOUNT_IN + m]), float(column[PENDING_TIP + m])
        found.append(PendingSwap(pool, symbols[sold], symbols[bought], amount, tip))
    return sorted(found, key=lambda swap: -swap.tip_gwei)


def _opportunities(
    column: NDArray[np.float64], graph: Graph, symbols: tuple[str, ...], standing: int
) -> list[Opportunity]:
    found = []
    for k in range(OPPORTUNITIES):
        candidate = int(column[FOUND_CYCLE + k])
        if candidate < 0:
            break
        own = float(column[STANDING_FRACTION]) if candidate == standing else math.nan
        found.append(
            Opportunity(
                _path(graph, symbols, candidate),
                float(column[FOUND_NET + k]),
                float(column[FOUND_AMOUNT_IN + k]),
                int(column[FOUND_AGE + k]),
                float(column[FOUND_PUBLIC_BID + k]),
                own,
            )
        )
    return found


def _path(graph: Graph, symbols: tuple[str, ...], candidate: int) -> str:
    """Tokens of a cycle in order, or the number of a loan."""
    cycles = graph.cycle_hops.size
    if candidate >= cycles:
        return f"liquidate loan {candidate - cycles}"
    pools = [int(pool) for pool in graph.cycle_pool[candidate][: graph.cycle_hops[candidate]]]
    names = []
    for pool, zero_for_one in zip(pools, graph.cycle_zero_for_one[candidate]):
        sold = graph.token0[pool] if zero_for_one == 1 else graph.token1[pool]
        names.append(symbols[int(sold)])
    hub = names[0]
    return " > ".join([*names, hub]) + " in pools " + ", ".join(map(str, pools))


def _headline(view: SlotView) -> list[str]:
    takes = "takes bundles" if view.bundles_taken else "builds alone: public transactions only"
    when = f"slot {view.slot + 1} of {view.slots}, decision {view.decision + 1} of {view.decisions}"
    prices = f"base fee {view.base_fee_gwei:.2f} gwei; ETH {view.eth_usd:,.2f} USD"
    return [
        f"{when}; the proposer {takes}",
        f"{prices}; volatility forecast for the next hour {view.volatility:.0%} a year",
        f"profit since the start of the episode {view.profit_eth:+.4f} ETH",
    ]


def slot_text(view: SlotView) -> str:
    """The slot as lines of text within 100 columns."""
    lines = [*_headline(view), f"pending swaps seen: {len(view.pending)}"]
    for swap in view.pending:
        lines.append(
            f"  {swap.amount:>14,.4f} {swap.sold:<5} to {swap.bought:<5} in pool {swap.pool}, "
            f"tip {swap.tip_gwei:.2f} gwei"
        )
    lines.append(f"opportunities: {len(view.opportunities)}")
    for k, found in enumerate(view.opportunities):
        bid = "" if math.isnan(found.own_bid) else f"; our {view.channel}: {found.own_bid:.0%}"
        rival = f"; public rival: {found.public_bid:.0%}" if found.public_bid > 0.0 else ""
        lines.append(
            f"  {k} {found.net_eth:>8.4f} ETH net of {found.amount_eth:.2f} ETH in, "
            f"age {found.age_slots}: {found.path}{rival}{bid}"
        )
    lines.append(f"our last auctions, newest first: {len(view.auctions)}")
    for past in view.auctions:
        outcome = "won " if past.won else "lost"
        lines.append(f"  {outcome} at {past.own:.0%} of net, highest bid {past.clearing:.0%}")
    return "\n".join(lines)


def slot_image(view: SlotView) -> NDArray[np.uint8]:
    """The slot as an image uint8[540, 900, 3]."""
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DOTS_PER_INCH, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    for line, text in enumerate(_headline(view)):
        weight = "normal" if line else "bold"
        at = 0.955 - 0.04 * line
        figure.text(0.02, at, text, fontsize=9.5, color=_INK, fontweight=weight)
    _draw_opportunities(figure.add_axes((0.08, 0.49, 0.56, 0.31)), view)
    _draw_pending(figure.add_axes((0.7, 0.49, 0.28, 0.31)), view)
    _draw_auctions(figure.add_axes((0.08, 0.11, 0.9, 0.27)), view)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def _draw_opportunities(axes: Axes, view: SlotView) -> None:
    """Net profit of each opportunity as a bar, our bid as its dark part."""
    _titled(axes, "Opportunities (net profit, ETH)")
    largest = max((found.net_eth for found in view.opportunities), default=1.0)
    for k, found in enumerate(view.opportunities):
        axes.barh(k, found.net_eth, height=0.42, color=_NET)
        words = found.path.replace("liquidate", "liquidation of")
        if not math.isnan(found.own_bid):
            axes.barh(k, found.net_eth * found.own_bid, height=0.42, color=_BID)
            words += f"   our {view.channel} bids {found.own_bid:.0%}"
        axes.text(0.0, k - 0.27, f"{words}", fontsize=7.5, color=_INK, va="bottom")
        axes.text(found.net_eth, k, f" {found.net_eth:.4f}", fontsize=8, va="center", color=_INK)
    axes.set_xlim(0.0, 1.18 * largest)
    axes.set_ylim(OPPORTUNITIES - 0.5, -0.75)
    axes.set_yticks([])
    axes.tick_params(labelsize=7.5)
    if not view.opportunities:
        _say(axes, "none pays its gas")


def _draw_pending(axes: Axes, view: SlotView) -> None:
    """The pending swaps as lines of text, the highest tip first, as the block would take them."""
    _titled(axes, f"Pending swaps seen: {len(view.pending)}")
    axes.set_axis_off()
    for row, swap in enumerate(view.pending):
        decimals = 3 if swap.amount < 100.0 else 0
        text = f"{swap.amount:,.{decimals}f} {swap.sold} > {swap.bought}, pool {swap.pool}"
        at = 0.93 - row * 0.125
        axes.text(0.0, at, text, fontsize=7.5, color=_INK, transform=axes.transAxes)
        tip = f"{swap.tip_gwei:.2f} gwei"
        axes.text(1.0, at, tip, fontsize=7.5, ha="right", color=_INK, transform=axes.transAxes)


def _draw_auctions(axes: Axes, view: SlotView) -> None:
    """Own and highest bid of the past auctions, oldest at the left."""
    _titled(axes, "Our last auctions (bid / net profit, newest at the right)")
    count = len(view.auctions)
    for past, auction in enumerate(view.auctions):
        x = count - past
        colour = _WON if auction.won else _LOST
        axes.plot([x, x], [auction.own, auction.clearing], color="#bbbbbb", linewidth=1, zorder=1)
        axes.plot(x, auction.clearing, "_", color=_INK, markersize=16, markeredgewidth=1.6)
        axes.plot(x, auction.own, "o" if auction.won else "X", color=colour, markersize=8)
    axes.set_xlim(0.5, HISTORY + 0.5)
    axes.set_ylim(0.0, 1.05)
    axes.set_xticks([])
    axes.set_yticks([0.0, 0.25, 0.5, 0.75, 1.0], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.tick_params(labelsize=7.5)
    axes.grid(axis="y", color="#e5e5e5", linewidth=0.6)
    for x, marker, colour, words in (
        (0.30, "o", _WON, "our bid, won"),
        (0.46, "X", _LOST, "our bid, lost"),
        (0.62, "_", _INK, "highest bid"),
    ):
        axes.plot(x, -0.13, marker, color=colour, transform=axes.transAxes, clip_on=False)
        axes.text(
            x + 0.012, -0.13, words, fontsize=7.5, va="center", color=_INK, transform=axes.transAxes
        )
    if not count:
        _say(axes, "none yet")


def _titled(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9.5, loc="left", color=_INK)
    axes.spines[["top", "right"]].set_visible(False)


def _say(axes: Axes, words: str) -> None:
    style = {"ha": "center", "va": "center", "color": _INK, "fontsize": 8.5}
    axes.text(0.5, 0.5, words, transform=axes.transAxes, **style)
