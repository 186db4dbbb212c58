"""Our own transactions that have no outcome yet, by nonce: what may be replaced, which nonce comes
next, and which pools are taken. A nonce can hold several attempts; a chain includes one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from live.books.plan import Plan


@dataclass(slots=True)
class Attempt:
    """One signed transaction that was handed to the node."""

    tx_hash: str
    nonce: int
    plan: Plan | None
    """None: an empty transfer that only uses up the nonce."""
    pools: frozenset[int]
    targets: tuple[str, ...]
    """Transactions that the plan assumes before itself on its pools, in order."""
    state: bytes
    """Reserves of its pools after those targets, as `Planner.state_of` gives them."""
    head_hash: str
    """Block on which the plan was computed."""
    max_fee_wei: int
    max_priority_fee_wei: int
    value_eth: float = 0.0
    """Net of the opportunity, for the history that the policy sees."""
    fraction: float = 0.0
    """Bid over net."""
    counted_lost: bool = False
    """Its opportunity is already counted as lost (late)."""
    heads_without_receipt: int = 0

    def runs_in(self, block: int) -> bool:
        """Whether it is a plan for this block."""
        return self.plan is not None and self.plan.block_number == block


@dataclass(slots=True)
class Settled:
    """A mined attempt that a reorg may bring back, and what it changed in the counters."""

    attempt: Attempt
    block_hash: str
    succeeded: bool
    realised_wei: int
    gas_cost_wei: int
    unchallenged: bool


@dataclass
class Book:
    """Attempts by nonce. `confirmed` is our nonce at the head; `first_free` the least nonce that no
    foreign transaction of the account uses."""

    confirmed: int = 0
    first_free: int = 0
    attempts: dict[int, list[Attempt]] = field(default_factory=dict)
    settled: list[Settled] = field(default_factory=list)

    def add(self, attempt: Attempt) -> None:
        """Note an attempt; it replaces the earlier ones of its nonce if the node takes it."""
        self.attempts.setdefault(attempt.nonce, []).append(attempt)

    def drop(self, attempt: Attempt) -> None:
        """The node refused it: as if it had never been."""
        tries = self.attempts.get(attempt.nonce, [])
        if attempt in tries:
            tries.remove(attempt)
        if not tries:
            self.attempts.pop(attempt.nonce, None)

    def hashes(self) -> list[str]:
        """Every attempt without an outcome."""
        return [attempt.tx_hash for tries in self.attempts.values() for attempt in tries]

    def latest(self) -> Iterator[Attempt]:
        """The last attempt of each nonce, lowest nonce first."""
        for nonce in sorted(self.attempts):
            yield self.attempts[nonce][-1]

    def plans_for(self, block: int) -> list[Attempt]:
        """Plans that wait to run in `block`."""
        return [attempt for attempt in self.latest() if attempt.runs_in(block)]

    def stale(self, block: int) -> list[Attempt]:
        """Attempts whose block has passed: worth replacing, for they would only cost gas."""
        return [
            attempt
            for attempt in self.latest()
            if attempt.nonce >= self.confirmed and not attempt.runs_in(block)
        ]

    def fresh_nonce(self) -> int:
        """The lowest nonce that holds no attempt and belongs to nobody else."""
        nonce = max(self.confirmed, self.first_free)
        while nonce in self.attempts:
            nonce += 1
        return nonce
