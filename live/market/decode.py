"""From a pending router call to one swap on tracked pools: amounts, path as pools, limit, deadline.
The calldata itself is read by kernels.calldata.routers, which checks every offset.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from kernels.calldata.routers import decode_call
from kernels.calldata.rows import (
    AMOUNT,
    CALL_LENGTH,
    CALL_TO,
    CALL_VALUE,
    CALL_WORDS,
    CONTRACT_BALANCE,
    DEADLINE,
    EXACT_OUT,
    FLAGS,
    HOPS,
    LIMIT,
    MALFORMED,
    PATH,
    PROTOCOL,
    ROUTER_INDEX,
    ROUTER_WORDS,
    SWAP_WORDS,
    UNISWAP_V2,
)
from kernels.checked_arrays import check_array
from live.node.events import PendingTransaction
from live.settings.deployment import Deployment, address_limbs

MAX_SWAPS = 8  # in one transaction; more are not followed
MAX_UINT128 = (1 << 128) - 1

Limbs = tuple[int, int, int]


class RouterSwap(NamedTuple):
    """One swap of a pending transaction; hops are (pool, zero_for_one)."""

    exact_out: bool
    amount: int
    """Exact side in smallest units, below 2^128."""
    limit: int
    """Least output of an exact input, most input of an exact output; saturated at 2^128 - 1."""
    deadline_s: int
    hops: tuple[tuple[int, bool], ...]


class Decoded(NamedTuple):
    """What a transaction will do to tracked pools.

    `swap` when it is one swap that can be followed exactly; otherwise `unclear` names the pools
    whose state after it cannot be known. Both empty: it touches no tracked pool.
    """

    swap: RouterSwap | None
    unclear: tuple[int, ...]
    malformed: bool


NOTHING = Decoded(None, (), False)


class Decoder:
    """Decodes for one deployment; owns the buffers that the kernel writes."""

    def __init__(self, deployment: Deployment) -> None:
        self._routers = check_array("routers", deployment.routers, (None, ROUTER_WORDS), np.uint64)
        self._limbs = {router: address_limbs(router) for router in deployment.router_address}
        # a path is read as limbs, so pools are found by limbs
        rows = {router: row for row, router in enumerate(deployment.router_address)}
        self._hop_on: dict[tuple[int, Limbs, Limbs], tuple[int, bool]] = {}
        for (router, token_in, token_out), pool in deployment.pool_on.items():
            token0 = deployment.token_address[deployment.pool_tokens[pool][0]]
            key = (rows[router], address_limbs(token_in), address_limbs(token_out))
            self._hop_on[key] = (pool, token_in == token0)
        self._calls = np.zeros((1, CALL_WORDS), np.uint64)
        self._swaps = np.zeros((MAX_SWAPS, SWAP_WORDS), np.uint64)

    def decode(self, transaction: PendingTransaction) -> Decoded:
        """What `transaction` does to tracked pools; never raises."""
        limbs = self._limbs.get(transaction.to) if transaction.to is not None else None
        if limbs is None:
            return NOTHING
        call = self._calls[0]
        call[CALL_TO : CALL_TO + 3] = limbs
        call[CALL_VALUE : CALL_VALUE + 4] = uint256_limbs(transaction.value_wei)
        call[CALL_LENGTH] = len(transaction.calldata)
        data = np.frombuffer(transaction.calldata, np.uint8)
        count = decode_call(data, self._calls, 0, self._routers, self._swaps, 0)
        if count <= 0:
            return Decoded(None, (), count == MALFORMED)
        followed = [self._follow(self._swaps[row].tolist()) for row in range(count)]
        if count == 1:
            return followed[0]
        # several swaps in one transaction succeed or fail together: that is not followed
        pools = {pool for part in followed for pool in part.unclear}
        pools |= {hop[0] for part in followed if part.swap for hop in part.swap.hops}
        return Decoded(None, tuple(sorted(pools)), False)

    def _follow(self, swap: list[int]) -> Decoded:
        """One decoded call; `unclear` when an untracked pool or a repeated one is on its path."""
        if swap[PROTOCOL] != UNISWAP_V2:
            return NOTHING
        path = [
            (swap[at], swap[at + 1], swap[at + 2])
            for at in range(PATH, PATH + 3 * (swap[HOPS] + 1), 3)
        ]
        hops = [
            self._hop_on.get((swap[ROUTER_INDEX], token_in, token_out))
            for token_in, token_out in itertools.pairwise(path)
        ]
        tracked = {hop[0] for hop in hops if hop is not None}
        if not tracked:
            return NOTHING
        if len(tracked) < len(hops) or swap[FLAGS] & CONTRACT_BALANCE:
            return Decoded(None, tuple(sorted(tracked)), False)
        amount = from_limbs(swap[AMOUNT : AMOUNT + 4])
        if amount > MAX_UINT128:
            return NOTHING  # no pair holds so much: the swap reverts
        limit = min(from_limbs(swap[LIMIT : LIMIT + 4]), MAX_UINT128)
        known = tuple(hop for hop in hops if hop is not None)
        swap_ = RouterSwap(bool(swap[EXACT_OUT]), amount, limit, swap[DEADLINE], known)
        return Decoded(swap_, (), False)


def uint256_limbs(value: int) -> tuple[int, int, int, int]:
    """A uint256 as four uint64 limbs, least significant first."""
    mask = (1 << 64) - 1
    return value & mask, value >> 64 & mask, value >> 128 & mask, value >> 192


def from_limbs(limbs: list[int]) -> int:
    """Integer of uint64 limbs, least significant first."""
    value = 0
    for limb in reversed(limbs):
        value = value << 64 | limb
    return value
