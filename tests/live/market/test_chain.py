"""Reserves at the head: kept from logs, undone by reorgs, compared with the contracts."""

from __future__ import annotations

import numpy as np
import pyrevm
import pytest
from hypothesis import given
from hypothesis import strategies as st

from live.market.chain import SYNC, Arrival, Chain
from live.node.events import Head, PoolLog
from live.node.state_call import read_state, state_program
from live.node.wire import keccak256
from tests.support.small_market import RESERVES, deployment

DEPLOYMENT = deployment()
POOLS = DEPLOYMENT.pools
Pairs = list[tuple[int, int]]


def name(branch: int, number: int) -> str:
    return f"0x{branch:032x}{number:032x}"


def head(number: int, branch: int = 0, parent_branch: int | None = None) -> Head:
    parent = name(branch if parent_branch is None else parent_branch, number - 1)
    return Head(number, name(branch, number), parent, 12 * number, 10**9, 0, 30_000_000, 0)


def sync(block: Head, index: int, pool: int, pair: tuple[int, int]) -> PoolLog:
    data = pair[0].to_bytes(32, "big") + pair[1].to_bytes(32, "big")
    address = DEPLOYMENT.pool_address[pool]
    return PoolLog(address, (SYNC,), data, block.number, block.hash, "0x", index, index, False, 0)


def assert_holds(chain: Chain, pairs: Pairs) -> None:
    assert chain.integers == pairs
    rows = [pair[0] for pair in pairs] + [pair[1] for pair in pairs]
    assert [low | high << 64 for low, high in chain.reserves.tolist()] == rows
    decimals = DEPLOYMENT.graph.decimals
    tokens = [*DEPLOYMENT.graph.token0.tolist(), *DEPLOYMENT.graph.token1.tolist()]
    mirror = [row / 10 ** int(decimals[token]) for row, token in zip(rows, tokens, strict=True)]
    assert chain.mirror.tolist() == mirror


pool_updates = st.lists(
    st.tuples(
        st.integers(0, POOLS - 1),
        st.tuples(st.integers(1, 2**112 - 1), st.integers(1, 2**112 - 1)),
    ),
    max_size=4,
)


@given(st.lists(st.tuples(st.integers(0, 4), pool_updates), min_size=1, max_size=20))
def test_any_sequence_of_blocks_and_reorgs_ends_in_the_right_state(
    steps: list[tuple[int, list[tuple[int, tuple[int, int]]]]],
) -> None:
    chain = Chain(DEPLOYMENT)
    blocks: list[tuple[Head, Pairs]] = [(head(0), list(RESERVES))]
    chain.reset(head(0), RESERVES)
    for branch, (depth, updates) in enumerate(steps, start=1):
        back = min(depth, len(blocks) - 1)
        del blocks[len(blocks) - back :]
        parent, pairs = blocks[-1]
        block = Head(
            parent.number + 1, name(branch, parent.number + 1), parent.hash, 0, 1, 0, 30_000_000, 0
        )
        assert chain.arrival(block) is (Arrival.REORG if back else Arrival.EXTENDS)
        assert len(chain.rewind_to(block.parent_hash)) == back
        assert_holds(chain, pairs)
        after = list(pairs)
        logs = []
        for index, (pool, pair) in enumerate(updates):
            after[pool] = pair
            logs.append(sync(block, index, pool, pair))
        assert chain.extend(block, reversed(logs)) == []  # order is by index, not by arrival
        blocks.append((block, after))
        assert_holds(chain, after)
        assert chain.compare(after) == []


def test_a_quiet_replacement_block_still_undoes_what_it_replaces() -> None:
    chain = Chain(DEPLOYMENT)
    chain.reset(head(10), RESERVES)
    first = head(11)
    chain.extend(first, [sync(first, 0, 2, (5, 7))])
    quiet = head(11, branch=1, parent_branch=0)
    assert chain.arrival(quiet) is Arrival.REORG
    assert chain.rewind_to(quiet.parent_hash) == [first.hash]
    chain.extend(quiet, [])
    assert_holds(chain, RESERVES)


def test_removed_logs_take_back_their_block_once() -> None:
    chain = Chain(DEPLOYMENT)
    chain.reset(head(10), RESERVES)
    for number in (11, 12):
        chain.extend(head(number), [sync(head(number), 0, 0, (number, number))])
    assert chain.rewind_before(head(11).hash) == [head(12).hash, head(11).hash]
    assert chain.rewind_before(head(11).hash) == []
    assert_holds(chain, RESERVES)
    assert chain.arrival(head(11, branch=1, parent_branch=0)) is Arrival.EXTENDS


def test_gaps_and_unknown_parents_are_seen() -> None:
    chain = Chain(DEPLOYMENT)
    assert chain.arrival(head(1)) is Arrival.GAP
    chain.reset(head(10), RESERVES)
    assert chain.arrival(head(10)) is Arrival.KNOWN
    assert chain.arrival(head(12)) is Arrival.GAP
    assert chain.arrival(head(11, branch=3)) is Arrival.GAP
    wrong_number = head(11)._replace(number=15)
    assert chain.arrival(wrong_number) is Arrival.GAP


def test_a_difference_is_set_right_and_quarantined_until_the_next_equal_head() -> None:
    chain = Chain(DEPLOYMENT)
    chain.reset(head(10), RESERVES)
    chain.extend(head(11), [])
    truth = list(RESERVES)
    truth[3] = (1, 2)
    assert chain.compare(truth) == [3]
    assert_holds(chain, truth)
    assert chain.quarantined.tolist() == [pool == 3 for pool in range(POOLS)]
    chain.extend(head(12), [])
    assert chain.compare(truth) == []
    assert not chain.quarantined.any()


def test_an_unknown_event_quarantines_for_good() -> None:
    chain = Chain(DEPLOYMENT)
    chain.reset(head(10), RESERVES)
    block = head(11)
    fork_swap = keccak256(b"Swap(address,address,int256,int256,uint160,uint128,int24,uint128)")
    log = sync(block, 0, 4, (1, 1))._replace(topics=(fork_swap,))
    assert chain.extend(block, [log]) == [4]
    assert chain.compare(RESERVES) == []
    assert chain.quarantined[4]
    chain.reset(head(20), RESERVES)
    assert chain.quarantined[4]


def test_a_pool_without_reserves_is_not_tradable() -> None:
    chain = Chain(DEPLOYMENT)
    chain.reset(head(10), [(0, 0), *RESERVES[1:]])
    assert chain.quarantined.tolist() == [True] + [False] * (POOLS - 1)


@pytest.mark.parametrize("data", [b"", b"\0" * 63, b"\0" * 65, b"\xff" * 64])
def test_a_malformed_sync_changes_nothing(data: bytes) -> None:
    chain = Chain(DEPLOYMENT)
    chain.reset(head(10), RESERVES)
    good = sync(head(11), 0, 1, (9, 9))
    with pytest.raises(ValueError, match="Sync"):
        chain.extend(head(11), [good, good._replace(log_index=1, data=data)])
    assert_holds(chain, RESERVES)
    assert chain.head.number == 10


def returning(*words: int) -> bytes:
    """Runtime code that returns `words` whatever it is asked."""
    code = bytearray()
    for at, word in enumerate(words):
        code += b"\x7f" + word.to_bytes(32, "big") + bytes((0x60, 32 * at, 0x52))
    return bytes(code) + bytes((0x60, 32 * len(words), 0x60, 0, 0xF3))


def run(evm: pyrevm.EVM, caller: str, program: bytes) -> bytes:
    """What creation code returns; the EVM keeps it as code, padded for its own use."""
    code = bytes(evm.get_code(evm.deploy(caller, program)) or b"")
    assert not any(code[64 * POOLS + 32 :])
    return code[: 64 * POOLS + 32]


def test_the_state_program_reads_reserves_and_balance_in_the_evm() -> None:
    evm = pyrevm.EVM()
    caller = "0x" + "99" * 20
    evm.set_balance(caller, 10**18)
    for pool, (reserve0, reserve1) in zip(DEPLOYMENT.pool_address, RESERVES, strict=True):
        # the third word is the pair's timestamp
        info = pyrevm.AccountInfo(code=returning(reserve0, reserve1, 1_700_000_000))
        evm.insert_account_info("0x" + pool.hex(), info)
    # WETH answers with the account it is asked about
    asked = bytes((0x60, 4, 0x35, 0x60, 0, 0x52, 0x60, 32, 0x60, 0, 0xF3))
    evm.insert_account_info("0x" + DEPLOYMENT.weth.hex(), pyrevm.AccountInfo(code=asked))
    program = state_program(DEPLOYMENT.pool_address, DEPLOYMENT.weth, DEPLOYMENT.executor)
    reserves, balance = read_state(run(evm, caller, program), POOLS)
    assert reserves == RESERVES
    assert balance == int.from_bytes(DEPLOYMENT.executor, "big")


def test_a_call_that_fails_reads_as_zero() -> None:
    evm = pyrevm.EVM()
    caller = "0x" + "99" * 20
    evm.set_balance(caller, 10**18)
    program = state_program(DEPLOYMENT.pool_address, DEPLOYMENT.weth, DEPLOYMENT.executor)
    assert read_state(run(evm, caller, program), POOLS) == ([(0, 0)] * POOLS, 0)


def test_state_answers_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        state_program([bytes(20)] * 384, bytes(20), bytes(20))
    answer = b"".join(number.to_bytes(32, "big") for number in range(5))
    assert read_state(answer, 2) == ([(0, 1), (2, 3)], 4)
    with pytest.raises(ValueError, match="160 bytes"):
        read_state(answer, 3)


def test_limbs_of_a_full_reserve() -> None:
    chain = Chain(DEPLOYMENT)
    full = (2**112 - 1, 2**64)
    chain.reset(head(1), [full] * POOLS)
    assert chain.reserves[0].tolist() == [2**64 - 1, 2**48 - 1]
    assert chain.reserves[POOLS].tolist() == [0, 1]
    assert np.isfinite(chain.mirror).all()
