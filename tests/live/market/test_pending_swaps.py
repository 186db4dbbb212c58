"""From calldata to the state before our plan: decoding against eth-abi, order against a model, and
the exact overlay against Python integers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.market.amm import overlay
from kernels.market.tile import (
    PENDING,
    PENDING_AMOUNT_IN,
    PENDING_VISIBLE,
    layout_of,
    new_tile,
)
from kernels.market.tile import RESERVES as RESERVE_ROWS
from kernels.pools.uniswap_v2 import OK
from live.market.chain import Chain
from live.market.decode import NOTHING, Decoder
from live.market.mempool import Mempool
from live.market.overlay import Followed, State, apply_swaps, fill_tile, pool_table, size_exactly
from live.node.events import Head
from tests.support.small_market import (
    DAI,
    EXECUTOR,
    PAIRS,
    RESERVES,
    ROUTERS,
    SELECTORS,
    USDC,
    WBTC,
    WETH,
    deployment,
    model_swap,
    pending,
    router_call,
)

DEPLOYMENT = deployment()
DECODER = Decoder(DEPLOYMENT)
TABLE = pool_table(DEPLOYMENT.graph)
HEAD = Head(1, "0x" + "0" * 64, "0x", 0, 10**9, 0, 30_000_000, 0)
FOREVER = 2**255
PATHS = [
    list(path) for hops in (1, 2) for path in itertools.permutations((WETH, DAI, USDC), hops + 1)
]


def chain(reserves: list[tuple[int, int]] | None = None) -> Chain:
    state = Chain(DEPLOYMENT)
    state.reset(HEAD, reserves or RESERVES)
    return state


def hops_of(router: int, path: list[str]) -> list[tuple[int, bool]]:
    hops = []
    for a, b in itertools.pairwise(path):
        pair = (a, b) if (a, b) in PAIRS else (b, a)
        hops.append((3 * router + PAIRS.index(pair), (a, b) in PAIRS))
    return hops


@given(
    name=st.sampled_from(sorted(SELECTORS)),
    router=st.integers(0, 1),
    path=st.sampled_from(PATHS),
    amount=st.integers(0, 2**128 - 1),
    limit=st.integers(0, 2**255),
    deadline=st.integers(0, 2**256 - 1),
)
def test_every_router_form_is_decoded(
    name: str, router: int, path: list[str], amount: int, limit: int, deadline: int
) -> None:
    native_in, native_out = "ETHFor" in name, name.endswith("ETH")
    path = [WETH, *path] if native_in and path[0] != WETH else path
    path = [*path, WETH] if native_out and path[-1] != WETH else path
    if len(set(path)) < len(path):
        return  # a pool twice: the next test
    data, value = router_call(name, amount, limit, path, deadline)
    decoded = DECODER.decode(pending(1, ROUTERS[router], data, value))
    swap = decoded.swap
    assert swap is not None
    assert swap.hops == tuple(hops_of(router, path))
    assert swap.exact_out == ("ForExact" in name)
    assert (swap.amount, swap.limit) == (amount, min(limit, 2**128 - 1))
    assert swap.deadline_s == min(deadline, 2**64 - 1)


def test_what_cannot_be_followed_names_its_pools() -> None:
    back, _ = router_call("swapExactTokensForTokens", 5, 0, [WETH, DAI, WETH], FOREVER)
    decoded = DECODER.decode(pending(1, ROUTERS[0], back))
    assert (decoded.swap, decoded.unclear) == (None, (0,))
    untracked, _ = router_call("swapExactTokensForTokens", 5, 0, [WETH, DAI, WBTC], FOREVER)
    decoded = DECODER.decode(pending(1, ROUTERS[1], untracked))
    assert (decoded.swap, decoded.unclear) == (None, (3,))
    elsewhere, _ = router_call("swapExactTokensForTokens", 5, 0, [WETH, WBTC], FOREVER)
    assert DECODER.decode(pending(1, ROUTERS[1], elsewhere)) == NOTHING
    assert DECODER.decode(pending(1, EXECUTOR, back)) == NOTHING


@given(st.binary(max_size=400), st.sampled_from(sorted(SELECTORS.values())), st.booleans())
def test_hostile_calldata_is_never_a_crash(data: bytes, selector: bytes, known: bool) -> None:
    DECODER.decode(pending(1, ROUTERS[0], selector + data if known else data))


def test_cut_or_changed_calldata_is_never_a_crash() -> None:
    data, _ = router_call("swapExactTokensForTokens", 10**18, 1, [WETH, USDC, DAI], FOREVER)
    rng = np.random.default_rng(1)
    for size in range(len(data)):
        DECODER.decode(pending(1, ROUTERS[0], data[:size]))
    for _ in range(2000):
        changed = bytearray(data)
        for at in rng.integers(4, len(data), 4):
            changed[at] = rng.integers(256)
        DECODER.decode(pending(1, ROUTERS[0], bytes(changed)))


swaps = st.builds(
    lambda router, path, exact_out, ppm, tolerance, tip: (
        router, path, exact_out, ppm, tolerance, tip
    ),
    st.integers(0, 1),
    st.sampled_from(PATHS),
    st.booleans(),
    st.integers(0, 300_000),
    st.floats(0.9, 1.05),
    st.integers(1, 5),
)  # fmt: skip


def build_mempool(drawn: list[tuple[int, list[str], bool, int, float, int]]) -> Mempool:
    """Swaps of a share of the reserve, with limits around what they would get alone."""
    mempool = Mempool()
    for number, (router, path, exact_out, ppm, tolerance, tip) in enumerate(drawn):
        hops = hops_of(router, path)
        pool, forward = hops[-1 if exact_out else 0]
        side = RESERVES[pool][int(forward) if exact_out else int(not forward)]
        amount = side * ppm // 10**6
        wide = 2**128 - 1 if exact_out else 0
        _, amounts = model_swap(RESERVES, hops, exact_out, amount, wide)
        limit = wide
        if amounts is not None:
            limit = int((amounts[0] if exact_out else amounts[-1]) * tolerance)
        name = "swapTokensForExactTokens" if exact_out else "swapExactTokensForTokens"
        data, _ = router_call(name, amount, limit, path, FOREVER)
        tx = pending(number, ROUTERS[router], data, tip=tip, sender=number.to_bytes(20, "big"))
        assert mempool.add(tx, DECODER.decode(tx), 2)
    return mempool


@given(st.lists(swaps, max_size=14))
def test_overlay_equals_the_integer_model(
    drawn: list[tuple[int, list[str], bool, int, float, int]],
) -> None:
    state, mempool = chain(), build_mempool(drawn)
    order = mempool.inclusion_order(10**9, 0, 0)
    tips = [drawn[int(p.transaction.hash, 16)][5] for p in order]
    arrivals = [p.arrival for p in order]
    assert len(order) == len(drawn)
    assert sorted(zip([-t for t in tips], arrivals, strict=True)) == list(
        zip([-t for t in tips], arrivals, strict=True)
    )
    rows = np.array([p.row for p in order], np.int64)
    reserves = state.reserves.copy()
    amounts = np.zeros((len(rows), 5, 2), np.uint64)
    status = np.zeros(len(rows), np.int64)
    applied = apply_swaps(TABLE, mempool.table, rows, reserves, amounts, status)
    expected, hops_applied = list(RESERVES), 0
    for place, entry in enumerate(order):
        swap = entry.decoded.swap
        assert swap is not None
        expected, model = model_swap(
            expected, list(swap.hops), swap.exact_out, swap.amount, swap.limit
        )
        assert (status[place] == OK) == (model is not None)
        if model is not None:
            hops_applied += len(swap.hops)
            found = [low | high << 64 for low, high in amounts[place, : len(model)].tolist()]
            assert found == model
    assert applied == hops_applied
    integers = [low | high << 64 for low, high in reserves.tolist()]
    assert list(zip(integers[:6], integers[6:], strict=True)) == expected
    _check_tile(state, mempool, rows, amounts, status, applied, expected)


def _check_tile(
    state: Chain,
    mempool: Mempool,
    rows: np.ndarray,
    amounts: np.ndarray,
    status: np.ndarray,
    applied: int,
    expected: list[tuple[int, int]],
) -> None:
    """The float overlay of the tile arrives where the integers did, whatever was folded."""
    tile = new_tile(DEPLOYMENT.graph, 1)
    blocked = np.zeros(6, np.bool_)
    tips = np.linspace(9.0, 1.0, len(rows))
    followed = Followed(mempool.table, rows, amounts, status, applied, tips)
    fill_tile(TABLE, followed, State(state.mirror, state.reserves.copy(), blocked), tile)
    shown = tile[PENDING_VISIBLE : PENDING_VISIBLE + PENDING, 0]
    assert shown.sum() == min(applied, PENDING)
    assert (tile[PENDING_AMOUNT_IN : PENDING_AMOUNT_IN + PENDING, 0] > 0).sum() == shown.sum()
    overlay(DEPLOYMENT.graph.cycles, DEPLOYMENT.graph.weights, tile)
    found = tile[layout_of(DEPLOYMENT.graph).overlay : layout_of(DEPLOYMENT.graph).overlay + 12, 0]
    values = [pair[0] for pair in expected] + [pair[1] for pair in expected]
    np.testing.assert_allclose(found, np.array(values, float) / TABLE.scale, rtol=1e-9)


def test_blocked_pools_show_no_reserves() -> None:
    state, mempool = chain(), build_mempool([(0, [WETH, DAI], False, 10_000, 0.9, 3)])
    tile = new_tile(DEPLOYMENT.graph, 1)
    blocked = np.array([True, False, False, False, False, False])
    rows = np.array([0], np.int64) + mempool.inclusion_order(10**9, 0, 0)[0].row
    reserves, amounts = state.reserves.copy(), np.zeros((1, 5, 2), np.uint64)
    status = np.zeros(1, np.int64)
    applied = apply_swaps(TABLE, mempool.table, rows, reserves, amounts, status)
    followed = Followed(mempool.table, rows, amounts, status, applied, np.ones(1))
    fill_tile(TABLE, followed, State(state.mirror, state.reserves.copy(), blocked), tile)
    assert tile[RESERVE_ROWS, 0] == tile[RESERVE_ROWS + 6, 0] == 0.0
    assert tile[RESERVE_ROWS + 1, 0] == 600.0
    assert tile[PENDING_VISIBLE, 0] == 0.0


def sized(reserves: list[tuple[int, int]], cycle: int, most_wei: int) -> tuple[int, list[int]]:
    amounts = np.zeros((4, 2), np.uint64)
    most = np.array([[most_wei & 2**64 - 1, most_wei >> 64]], np.uint64)
    state = chain(reserves)
    status = size_exactly(TABLE, DEPLOYMENT.graph.cycles, cycle, state.reserves, most, amounts)
    return status, [low | high << 64 for low, high in amounts.tolist()]


@pytest.mark.parametrize("most", [10**30, 10**18])
def test_exact_sizes_are_what_the_pairs_pay(most: int) -> None:
    graph, paying = DEPLOYMENT.graph, 0
    for cycle in range(len(graph.cycles)):
        hops = int(graph.cycle_hops[cycle])
        status, amounts = sized(RESERVES, cycle, most)
        if status != OK:
            continue
        paying += 1
        assert amounts[0] <= most
        path = [
            (int(graph.cycle_pool[cycle, i]), bool(graph.cycle_zero_for_one[cycle, i]))
            for i in range(hops)
        ]
        _, model = model_swap(RESERVES, path, False, amounts[0], 0)
        assert model == amounts[: hops + 1]
        assert amounts[hops] > amounts[0]
    assert paying >= 2


def test_the_pool_keeps_one_transaction_per_nonce_and_forgets_the_mined() -> None:
    mempool = Mempool()
    data, _ = router_call("swapExactTokensForTokens", 10**18, 0, [WETH, DAI], FOREVER)

    def add(number: int, tip: int, nonce: int = 0, max_fee: int = 200 * 10**9) -> bool:
        tx = pending(number, ROUTERS[0], data, tip=tip, nonce=nonce, max_fee=max_fee)
        return mempool.add(tx, DECODER.decode(tx), 7)

    assert add(1, 5)
    assert not add(1, 5)
    assert not add(2, 9, max_fee=100 * 10**9)  # a cheaper cap replaces nothing
    assert add(3, 9, max_fee=300 * 10**9)
    assert len(mempool) == 1
    assert add(4, 50, nonce=1)
    hashes = [int(p.transaction.hash, 16) for p in mempool.inclusion_order(10**9, 0, 0)]
    assert hashes == [3, 4]  # the higher tip waits for its sender's lower nonce
    mempool.on_block(7, (f"0x{3:064x}",))
    assert not add(3, 9)  # announced again after it was mined
    assert [p.transaction.nonce for p in mempool.inclusion_order(10**9, 0, 0)] == [1]
    mempool.on_block(7 + 901, ())
    assert len(mempool) == 0


def test_what_the_next_block_cannot_include_is_left_out() -> None:
    mempool = Mempool()
    data, _ = router_call("swapExactTokensForTokens", 10**18, 0, [WETH, DAI], 1000)
    for number, (tip, max_fee) in enumerate(((10, 50), (10, 100), (3, 200), (2, 200))):
        tx = pending(
            number, ROUTERS[0], data, tip=tip, max_fee=max_fee, sender=number.to_bytes(20, "big")
        )
        mempool.add(tx, DECODER.decode(tx), 1)
    order = mempool.inclusion_order(96, 2, 1000)
    # 0 cannot pay the base fee, 1 tips what its cap leaves, 3 lands behind us
    assert [int(p.transaction.hash, 16) for p in order] == [1, 2]
    assert mempool.inclusion_order(96, 2, 1001) == []  # past their deadline
