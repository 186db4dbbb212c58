"""A large token graph in CSR: every pool is two directed edges, listed by the token they leave.

Edge 2 p sells token0 of pool p for token1, edge 2 p + 1 the other way, so that edge ^ 1 reverses a
hop. Any kind of pool fits: what an edge pays stands in `edge_quotes`, not here.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_POOLS = 1 << 24


class TokenGraph(NamedTuple):
    """P pools over T tokens; the edges that leave token t are start[t] .. start[t + 1].

    Of those, the edges that lead to the hub come first: the `to_hub[t]` first ones.
    """

    token0: NDArray[np.int32]  # [P]
    token1: NDArray[np.int32]  # [P]
    start: NDArray[np.int64]  # [T + 1]
    edge: NDArray[np.int32]  # [2 P], 2 pool + side
    target: NDArray[np.int32]  # [2 P], token that the edge at this place buys
    to_hub: NDArray[np.int64]  # [T]
    hub: int


def _tokens_of(name: str, values: object, tokens: int) -> NDArray[np.int32]:
    array = np.asarray(values)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"{name}: expected a list of token numbers, got {array.dtype} {array.ndim}-d"
        )
    outside = (array < 0) | (array >= tokens)
    if outside.any():
        at = int(np.argmax(outside))
        raise ValueError(f"{name}[{at}] = {array[at]}: expected a token from 0 to {tokens - 1}")
    return np.ascontiguousarray(array, np.int32)


def build_token_graph(token0: object, token1: object, tokens: int, hub: int = 0) -> TokenGraph:
    """Sort the 2 P edges of pools (token0[p], token1[p]) by the token they sell.

    Raises ValueError naming the field, the value and the remedy.
    """
    first, second = _tokens_of("token0", token0, tokens), _tokens_of("token1", token1, tokens)
    pools = first.size
    if second.size != pools:
        raise ValueError(f"token1 has {second.size} entries, token0 {pools}: give one per pool")
    if pools > MAX_POOLS:
        raise ValueError(f"token0 has {pools} pools: at most {MAX_POOLS}, leave out shallow ones")
    if not 0 <= hub < tokens:
        raise ValueError(f"hub {hub}: expected a token from 0 to {tokens - 1}")
    if np.any(first == second):
        raise ValueError(f"pool {int(np.argmax(first == second))} trades a token against itself")
    sold = np.stack([first, second], axis=1).ravel()
    bought = np.stack([second, first], axis=1).ravel()
    # Ties keep the order of the pools: the graph depends on nothing but its input.
    order = np.lexsort((np.arange(2 * pools), bought != hub, sold))
    start = np.searchsorted(sold[order], np.arange(tokens + 1)).astype(np.int64)
    to_hub = np.bincount(sold[bought == hub], minlength=tokens).astype(np.int64)
    return TokenGraph(first, second, start, order.astype(np.int32), bought[order], to_hub, int(hub))


def hub_depth(graph: TokenGraph, reserve0: object, reserve1: object) -> NDArray[np.float64]:
    """Worth of one side of each pool in hub units, float64[P]; 0 where no price leads from the hub.

    Reserves are float64[P], virtual ones for concentrated liquidity. A token is priced by the
    deepest pool that joins it to the hub, or, when there is none, by the deepest pool that joins it
    to a priced token. The lower of the two sides' worths counts, so that one wrong price in a chain
    cannot make a dust pool look deep.
    """
    reserves = np.stack([np.asarray(reserve0, np.float64), np.asarray(reserve1, np.float64)], 1)
    if reserves.shape != (graph.token0.size, 2) or not np.all(reserves > 0.0):
        raise ValueError(f"reserves {reserves.shape}: expected {graph.token0.size} pairs above 0")
    pairs = np.stack([graph.token0, graph.token1], axis=1)
    price = np.zeros(graph.start.size - 1)
    price[graph.hub] = 1.0
    while True:
        worth = price[pairs] * reserves
        known = worth > 0.0
        reach = np.flatnonzero(known[:, 0] != known[:, 1])
        if not reach.size:
            break
        # Shallow pools first: the deepest one writes last.
        reach = reach[np.argsort(worth[reach].max(axis=1), kind="stable")]
        side = np.where(known[reach, 0], 1, 0)
        price[pairs[reach, side]] = worth[reach].max(axis=1) / reserves[reach, side]
    return worth.min(axis=1)


def edge_quotes(
    reserve0: object, reserve1: object, keep0: object, keep1: object
) -> NDArray[np.float64]:
    """What edges pay, float64[2, 2 P + 2]: rates r (row 0) and slopes s of x -> r x / (1 + s x).

    keep0 and keep1 are what is left of token0 or token1 sold after the fee (0.997). With reserves
    R_in and R_out, r = keep R_out / R_in and s = keep / R_in: exact for constant-product pools; for
    concentrated liquidity, reserves are L / sqrt P and L sqrt P and it holds within the tick range;
    for a weighted pool with w = w_0 / w_1, reserves 2 B_0 / (1 + w) and 2 w B_1 / (1 + w) give the
    slope and the curvature at 0.
    The last two columns are the neutral edge (1, 0) that fills short cycles up.
    """
    first, second = np.asarray(reserve0, np.float64), np.asarray(reserve1, np.float64)
    kept = [np.broadcast_to(np.asarray(keep, np.float64), first.shape) for keep in (keep0, keep1)]
    for name, values in (("reserve0", first), ("reserve1", second)):
        if not np.all((values > 0.0) & np.isfinite(values)):
            at = int(np.argmin((values > 0.0) & np.isfinite(values)))
            raise ValueError(
                f"{name}[{at}] = {values[at]}: expected above 0; leave out empty pools"
            )
    for name, values in (("keep0", kept[0]), ("keep1", kept[1])):
        if not np.all((values >= 0.0) & (values <= 1.0)):
            raise ValueError(f"{name}: expected numbers from 0 to 1 (0.997 keeps 99.7 %)")
    slopes = np.stack([kept[0] / first, kept[1] / second], axis=1)
    rates = slopes * np.stack([second, first], axis=1)
    quotes = np.zeros((2, 2 * first.size + 2))
    quotes[0] = 1.0
    quotes[0, :-2], quotes[1, :-2] = rates.ravel(), slopes.ravel()
    return quotes
