"""What may be sent: our own cycle through the executor, alone. The type holds nothing else, so a
transaction before somebody else's cannot be expressed.

The executor's call is the Contract ABI encoding of `execute` in contracts/Executor.vy.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from live.node.signer import FeeTransaction
from live.node.wire import keccak256

EXECUTE = keccak256(b"execute(uint256,uint256,(address,uint256,bool)[],uint256,uint256)")[:4]
HEAD_WORDS = 5
CANCEL_GAS = 21_000


class PlanHop(NamedTuple):
    """One pool of a plan: what it must pay out, in the token's smallest unit."""

    pool: bytes
    amount_out: int
    zero_for_one: bool


class Plan(NamedTuple):
    """A cycle that starts and ends in WETH, exact to the wei, valid for one block."""

    block_number: int
    amount_in_wei: int
    hops: tuple[PlanHop, ...]
    gross_wei: int
    """Output of the last pool minus the input."""
    net_wei: int
    """Gross minus the expected gas at the price it will be charged."""
    bid_wei: int
    """Paid to the block's proposer if the cycle succeeds."""
    gas: int
    """Gas the plan is expected to use."""
    gas_limit: int
    max_fee_wei: int
    max_priority_fee_wei: int

    @property
    def executor_profit_wei(self) -> int:
        """WETH that stays in the executor; the amounts are fixed, so it is this or a revert."""
        return self.gross_wei - self.bid_wei


def plan_to_json(plan: Plan) -> str:
    """Text for the journal; integers of any size, addresses in hex."""
    fields = plan._asdict() | {
        "hops": [[h.pool.hex(), h.amount_out, h.zero_for_one] for h in plan.hops]
    }
    return json.dumps(fields, separators=(",", ":"))


def plan_from_json(text: str) -> Plan:
    """The inverse of `plan_to_json`."""
    fields = json.loads(text)
    hops = tuple(PlanHop(bytes.fromhex(pool), out, side) for pool, out, side in fields.pop("hops"))
    return Plan(**fields, hops=hops)


def execute_calldata(plan: Plan) -> bytes:
    """Calldata of Executor.execute; the executor's minimum is the whole expected profit."""
    words = [
        plan.block_number,
        plan.amount_in_wei,
        32 * HEAD_WORDS,
        plan.executor_profit_wei,
        plan.bid_wei,
        len(plan.hops),
    ]
    for hop in plan.hops:
        words += [int.from_bytes(hop.pool, "big"), hop.amount_out, int(hop.zero_for_one)]
    return EXECUTE + b"".join([word.to_bytes(32, "big") for word in words])


def plan_transaction(plan: Plan, chain_id: int, nonce: int, executor: bytes) -> FeeTransaction:
    """The unsigned transaction that runs a plan."""
    return FeeTransaction(
        chain_id=chain_id,
        nonce=nonce,
        max_priority_fee_wei=plan.max_priority_fee_wei,
        max_fee_wei=plan.max_fee_wei,
        gas_limit=plan.gas_limit,
        to=executor,
        value_wei=0,
        calldata=execute_calldata(plan),
    )


def cancel_transaction(
    chain_id: int, nonce: int, account: bytes, max_fee_wei: int, max_priority_fee_wei: int
) -> FeeTransaction:
    """Replaces a plan that is no longer wanted: an empty transfer to ourselves."""
    return FeeTransaction(
        chain_id=chain_id,
        nonce=nonce,
        max_priority_fee_wei=max_priority_fee_wei,
        max_fee_wei=max_fee_wei,
        gas_limit=CANCEL_GAS,
        to=account,
        value_wei=0,
        calldata=b"",
    )


def raised(fee_wei: int, percent: float) -> int:
    """`fee_wei` raised by at least `percent` (rounded up) and by at least 1 wei."""
    bump_ppm = round(percent * 10_000)
    return fee_wei + max(1, -(-fee_wei * bump_ppm // 1_000_000))
