"""What became of our transactions: judged from receipts and logs, booked once, taken back by
reorgs, found again after a crash."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from live.books.book import Attempt, Book
from live.books.journal import Entry, Journal
from live.books.metrics import Metrics
from live.books.outcomes import DEPOSIT, TRANSFER, WITHDRAWAL, judge, realised_wei
from live.books.plan import Plan, PlanHop, plan_to_json
from live.books.risk import LossWindow
from live.books.settlement import Settlement
from live.market.chain import SYNC
from live.node.events import Head, PoolLog, Receipt
from live.node.feed import HeadState
from tests.support.small_market import deployment

DEPLOYMENT = deployment()
EXECUTOR, WETH = DEPLOYMENT.executor, DEPLOYMENT.weth
POOLS = DEPLOYMENT.pool_address
OURS, USER, OTHER = ("0x" + digit * 64 for digit in "abc")
BLOCK, PARENT = "0x" + "1" * 64, "0x" + "0" * 64
ETHER = 10**18


def word(value: bytes | int) -> bytes:
    return value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0")


def log(address: bytes, topics: tuple[bytes, ...], data: bytes, hash_: str, index: int) -> PoolLog:
    return PoolLog(address, topics, data, 11, BLOCK, hash_, index, index, False, 0)


def sync(pool: int, hash_: str, index: int) -> PoolLog:
    return log(POOLS[pool], (SYNC,), bytes(64), hash_, index)


def weth_logs(amount_in: int, amount_out: int, bid: int) -> tuple[PoolLog, ...]:
    me, pool = word(EXECUTOR), word(POOLS[0])
    return (
        log(WETH, (TRANSFER, me, pool), word(amount_in), OURS, 1),
        log(WETH, (TRANSFER, pool, me), word(amount_out), OURS, 2),
        log(WETH, (WITHDRAWAL, me), word(bid), OURS, 3),
        log(POOLS[0], (TRANSFER, pool, me), word(10**30), OURS, 4),  # another token
        log(WETH, (TRANSFER, pool, word(USER.encode()[:20])), word(7), OURS, 5),  # not us
    )


def receipt(
    succeeded: bool = True, index: int = 5, block: int = 11, logs: tuple[PoolLog, ...] = ()
) -> Receipt:
    return Receipt(OURS, block, BLOCK, index, succeeded, 150_000, 2 * 10**9, logs)


def attempt(targets: tuple[str, ...] = (USER,), nonce: int = 3, hash_: str = OURS) -> Attempt:
    hops = (PlanHop(POOLS[0], 5, True), PlanHop(POOLS[3], ETHER + 60, False))
    plan = Plan(11, ETHER, hops, 60, 50, 10, 150_000, 200_000, 10**9, 10**6)
    return Attempt(
        hash_, nonce, plan, frozenset((0, 3)), targets, b"", PARENT, 10**9, 10**6, 0.5, 0.2
    )


def judged(entry: Attempt, mined: Receipt, logs: list[PoolLog], parent: str = PARENT) -> str:
    verdict = judge(entry, mined, parent, logs, POOLS, {USER: None}, WETH, EXECUTOR)
    return f"{verdict.reason or 'won'} {'unchallenged' if verdict.unchallenged else 'challenged'}"


def test_realised_profit_counts_weth_of_the_executor_only() -> None:
    assert realised_wei(receipt(logs=weth_logs(1000, 1300, 40)), WETH, EXECUTOR) == 260
    deposit = log(WETH, (DEPOSIT, word(EXECUTOR)), word(9), OURS, 6)
    assert realised_wei(receipt(logs=(deposit,)), WETH, EXECUTOR) == 9
    odd = log(WETH, (TRANSFER,), word(9), OURS, 6)
    assert realised_wei(receipt(logs=(odd, odd._replace(data=b""))), WETH, EXECUTOR) == 0


def test_every_ending_has_its_reason() -> None:
    before, after = [sync(0, USER, 2)], [sync(0, USER, 2), sync(3, OTHER, 7)]
    assert judged(attempt(), receipt(), before) == "won unchallenged"
    assert judged(attempt(), receipt(), after) == "won unchallenged"  # behind us is no challenge
    assert judged(attempt(), receipt(), before, "0xother") == "won challenged"
    assert judged(attempt(), receipt(False), before) == "reverted unchallenged"
    assert judged(attempt(), receipt(False), []) == "stale_state challenged"  # target missing
    assert judged(attempt(()), receipt(False), before) == "stale_state challenged"
    rival = [*before, sync(3, OTHER, 3)]
    assert judged(attempt(), receipt(False), rival) == "outbid challenged"
    elsewhere = [*before, sync(1, OTHER, 3)]
    assert judged(attempt(), receipt(False), elsewhere) == "reverted unchallenged"
    assert judged(attempt(), receipt(False, block=12), before) == "late unchallenged"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal.sqlite")
    yield opened
    opened.close()


class Books:
    """A settlement with everything around it."""

    def __init__(self, journal: Journal) -> None:
        self.journal, self.book, self.metrics = journal, Book(), Metrics()
        self.losses, self.history = LossWindow(), []
        self.settlement = Settlement(
            DEPLOYMENT,
            self.book,
            journal,
            self.metrics,
            self.losses,
            lambda *auction: self.history.append(auction),
        )

    def send(self, entry: Attempt) -> None:
        assert self.journal.record(
            Entry(
                *(10, PARENT, USER, b"", 1, None, "send", "{}", "plan"),
                nonce=entry.nonce,
                tx_hash=entry.tx_hash,
                raw=b"\2",
                target_block=11,
                max_fee_wei=1,
                max_priority_fee_wei=1,
                sent=True,
            )._replace(plan=None if entry.plan is None else plan_to_json(entry.plan))
        )
        self.book.add(entry)

    def state(self, receipts: dict[str, Receipt | None], nonce: int, number: int = 11) -> HeadState:
        head = Head(number, BLOCK, PARENT, 0, 10**9, 0, 30_000_000, 0)
        logs = [sync(0, USER, 2)]
        return HeadState(head, logs, [], 0, nonce, (), receipts, 0)


def test_an_included_plan_is_booked_once_and_its_siblings_are_replaced(journal: Journal) -> None:
    books = Books(journal)
    sibling = dataclasses.replace(attempt(), tx_hash=OTHER)
    books.send(sibling)
    books.send(attempt())
    mined = receipt(logs=weth_logs(ETHER, ETHER + 60, 10))
    state = books.state({OURS: mined, OTHER: None}, nonce=4)
    books.settlement.on_state(state)
    books.settlement.on_state(state)
    m = books.metrics
    assert (m.included, m.failed, m.unchallenged, m.unchallenged_violations) == (1, 0, 1, 0)
    assert (m.realised_profit_wei, m.expected_profit_wei, m.bids_paid_wei) == (50, 50, 10)
    assert m.gas_spent_wei == 150_000 * 2 * 10**9
    assert books.history == [(0.5, 0.2, True)]
    assert journal.open_rows() == []
    assert books.book.attempts == {}


def test_a_revert_nobody_caused_is_a_violation(journal: Journal) -> None:
    books = Books(journal)
    books.send(attempt())
    books.settlement.on_state(books.state({OURS: receipt(False)}, nonce=4))
    m = books.metrics
    assert (m.failed, m.unchallenged_violations) == (1, 1)
    assert dict(m.lost_by_reason) == {"reverted": 1}
    assert books.losses.total_wei() == m.gas_spent_wei


def test_late_is_counted_once_and_the_attempt_stays_replaceable(journal: Journal) -> None:
    books = Books(journal)
    books.send(attempt())
    for number in (11, 12):
        books.settlement.on_state(books.state({OURS: None}, nonce=3, number=number))
    assert dict(books.metrics.lost_by_reason) == {"late": 1}
    assert books.history == [(0.5, 0.2, False)]
    assert [entry.tx_hash for entry in books.book.stale(13)] == [OURS]
    assert books.book.fresh_nonce() == 4
    assert len(journal.open_rows()) == 1


def test_a_reorg_takes_back_what_it_undid(journal: Journal) -> None:
    books = Books(journal)
    books.send(attempt())
    mined = receipt(logs=weth_logs(ETHER, ETHER + 60, 10))
    books.settlement.on_state(books.state({OURS: mined}, nonce=4))
    books.settlement.on_blocks_undone([BLOCK])
    m = books.metrics
    assert (m.included, m.realised_profit_wei, m.gas_spent_wei, m.unchallenged) == (0, 0, 0, 0)
    assert len(journal.open_rows()) == 1
    books.settlement.on_state(books.state({OURS: mined}, nonce=4))
    assert (m.included, m.realised_profit_wei) == (1, 50)
    books.settlement.on_blocks_undone([PARENT])
    assert m.included == 1


def test_a_nonce_that_somebody_else_used_is_given_up(journal: Journal) -> None:
    books = Books(journal)
    books.send(attempt())
    for _ in range(4):
        books.settlement.on_state(books.state({OURS: None}, nonce=4))
    assert books.book.attempts == {}
    assert journal.open_rows() == []


def test_the_lowest_free_nonce_is_used_first() -> None:
    book = Book(confirmed=3)
    entries = [attempt(nonce=nonce, hash_=f"0x{nonce}") for nonce in (3, 4, 5)]
    for entry in entries:
        book.add(entry)
    assert book.fresh_nonce() == 6
    book.drop(entries[1])  # refused by the node: the gap must be filled
    assert book.fresh_nonce() == 4
    book.first_free = 9
    assert book.fresh_nonce() == 9
    assert book.plans_for(11) == [entries[0], entries[2]]
    book.confirmed = 4  # its receipt is on the way: not to be replaced any more
    assert [entry.nonce for entry in book.stale(12)] == [5]


class RecordedNode:
    """Answers of a node to the questions of a recovery."""

    def __init__(self, answers: dict[tuple[str, str], object]) -> None:
        self._answers = answers

    async def request(self, method: str, hash_: str) -> msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode(self._answers.get((method, hash_))))


def test_after_a_crash_every_open_row_gets_its_outcome(journal: Journal) -> None:
    books = Books(journal)
    hashes = {name: "0x" + name * 64 for name in "def9"}
    for nonce, name in enumerate("def9"):
        books.send(dataclasses.replace(attempt(nonce=nonce), tx_hash=hashes[name]))
    mined = {
        "transactionHash": hashes["d"],
        "blockNumber": "0xb",
        "blockHash": BLOCK,
        "transactionIndex": "0x0",
        "status": "0x1",
        "gasUsed": "0x10",
        "effectiveGasPrice": "0x2",
        "logs": [],
    }
    restarted = Books(journal)
    restarted.book.confirmed = 2
    node = RecordedNode(
        {
            ("eth_getTransactionReceipt", hashes["d"]): mined,
            ("eth_getTransactionByHash", hashes["f"]): {"hash": hashes["f"]},
        }
    )
    count = asyncio.run(restarted.settlement.recover(node))  # type: ignore[arg-type]
    assert count == 4
    # d was mined, e lost its nonce to another attempt, f still waits, 9 never reached the node
    assert list(restarted.book.attempts) == [2]
    assert [row.tx_hash for row in journal.open_rows()] == [hashes["f"]]
    waiting = restarted.book.attempts[2][0]
    assert waiting.plan == attempt().plan
    assert waiting.pools == frozenset((0, 3))
