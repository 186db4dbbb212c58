"""Feeds mutated and random calldata to the decoder, each in a buffer that ends where it ends.

Run as a program it prints one JSON line, so that the same inputs can be decoded by kernels that
were compiled another way (MEVRL_BOUNDSCHECK=1) and the answers compared.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np

from kernels.calldata import rows
from kernels.calldata.abi import load64
from kernels.calldata.routers import decode_call
from kernels.compile import kernel
from kernels.numbers.u256 import from_limbs
from tests.support.router_calls import ADDRESSES, ROUTERS, Call, Swap, random_call
from tests.support.strict_reading import UnreadableError, read

MAX_SWAPS = 32
# Words that move a length or an offset to where it hurts.
WORDS = [
    *range(0, 0x140, 0x20),
    1,
    31,
    33,
    1 << 24,
    (1 << 31) - 1,
    1 << 32,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 32,
    1 << 64,
    1 << 160,
    1 << 255,
    (1 << 256) - 32,
    (1 << 256) - 1,
]


def mutate(rng: Random, data: bytes) -> bytes:
    """One to three small changes of the calldata."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        if not changed:
            return bytes(rng.randbytes(rng.randint(0, 8)))
        words = max((len(changed) - 8) // 32, 1)
        first = rng.choice([4, 4, 8])  # a call inside a multicall has a selector of its own
        word = first + 32 * rng.randrange(words)
        kind = rng.randrange(7)
        if kind == 0:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[word : word + 32] = rng.choice(WORDS).to_bytes(32, "big")
        elif kind == 2:  # a small word becomes a little smaller or larger
            value = int.from_bytes(changed[word : word + 32], "big") + rng.choice(
                [-32, -23, -1, 1, 23, 32]
            )
            changed[word : word + 32] = (value % (1 << 256)).to_bytes(32, "big")
        elif kind == 3:
            del changed[rng.randrange(len(changed)) :]
        elif kind == 4:
            changed += rng.randbytes(rng.choice([1, 4, 31, 32, 64]))
        elif kind == 5:
            other = first + 32 * rng.randrange(words)
            changed[word : word + 32] = changed[other : other + 32]
        else:
            del changed[word : word + 32]
    return bytes(changed)


def hostile_calls(seed: int, count: int) -> Iterator[Call]:
    """Mutated calls, one in ten of them random bytes behind a selector that exists."""
    rng = Random(seed)
    seeds: list[Call] = []
    for index in range(count):
        if index % 16 == 0 or not seeds:
            seeds = [*seeds[-63:], random_call(rng)[0]]
        call = rng.choice(seeds)
        if rng.random() < 0.1:
            data = call.data[:4] + rng.randbytes(rng.randint(0, 600))
        else:
            data = mutate(rng, call.data)
        yield Call(call.family, rng.choice([0, call.value]), data)


def decode(call: Call, swaps: np.ndarray) -> int:
    """`decode_call` on a buffer that holds this calldata and not one byte more."""
    data = np.frombuffer(call.data, np.uint8)
    calls = rows.call_row(ADDRESSES[call.family], call.value, 0, len(call.data))
    return decode_call(data, calls.reshape(1, -1), 0, ROUTERS, swaps, 0)


def empty_swaps(count: int = MAX_SWAPS) -> np.ndarray:
    """Rows filled with ones, so that a column nobody writes shows."""
    return np.full((count, rows.SWAP_WORDS), 0xFFFFFFFFFFFFFFFF, np.uint64)


def as_swap(row: np.ndarray) -> Swap:
    """The Python values of one decoded row."""
    hops = int(row[rows.HOPS])
    protocol = int(row[rows.PROTOCOL])
    fees = row[rows.FEE_PIPS : rows.TICK_SPACING].tolist()
    spacings = row[rows.TICK_SPACING : rows.RECIPIENT].tolist()
    with_fee = 0 if protocol == rows.UNISWAP_V2 else hops
    with_spacing = hops if protocol == rows.UNISWAP_V4 else 0
    assert not any(fees[with_fee:])
    assert not any(spacings[with_spacing:])
    path = from_limbs(row[rows.PATH : rows.FEE_PIPS].reshape(-1, 3))
    assert path[hops + 1 :] == [0] * (rows.MAX_HOPS - hops)
    return Swap(
        protocol,
        bool(row[rows.EXACT_OUT]),
        from_limbs(row[rows.AMOUNT : rows.LIMIT].reshape(1, 4))[0],
        from_limbs(row[rows.LIMIT : rows.PATH].reshape(1, 4))[0],
        tuple(path[: hops + 1]),
        tuple(fees[:with_fee]),
        from_limbs(row[rows.RECIPIENT : rows.SQRT_PRICE_LIMIT_X96].reshape(1, 3))[0],
        from_limbs(row[rows.SQRT_PRICE_LIMIT_X96 : rows.DEADLINE].reshape(1, 3))[0],
        int(row[rows.DEADLINE]),
        int(row[rows.FLAGS]),
        tuple(spacings[:with_spacing]),
    )


def check(call: Call, count: int, swaps: np.ndarray) -> None:
    """Whatever the kernel accepts, the strict decoder accepts with equal values."""
    if count < 0:
        return
    try:
        expected = read(call)
    except UnreadableError as error:
        raise AssertionError(f"accepted {call}, which is unreadable: {error}") from error
    assert [as_swap(row) for row in swaps[:count]] == expected, call


def run(seed: int, count: int, referee: bool) -> dict[str, Any]:
    """Decode `count` hostile calls; counts by outcome and a digest of all that came out."""
    digest = hashlib.sha256()
    outcomes: dict[int, int] = {}
    for call in hostile_calls(seed, count):
        swaps = empty_swaps()
        outcome = decode(call, swaps)
        outcomes[min(outcome, 1)] = outcomes.get(min(outcome, 1), 0) + 1
        digest.update(outcome.to_bytes(2, "big", signed=True) + swaps[: max(outcome, 0)].tobytes())
        if referee:
            check(call, outcome, swaps)
    return {"outcomes": dict(sorted(outcomes.items())), "digest": digest.hexdigest()}


@kernel
def load(data: np.ndarray, at: int) -> np.uint64:
    """One load, wherever it goes."""
    return load64(data, at)


def assert_checks_are_on() -> None:
    """Loads that leave the buffer by one byte raise: otherwise the run would prove nothing."""
    data = np.zeros(16, np.uint8)
    assert load(data, 8) == 0
    for at in (-1, 9, 16):
        try:
            load(data, at)
        except IndexError:
            continue
        raise AssertionError(f"load64 at {at} of 16 bytes went unnoticed")


if __name__ == "__main__":
    assert_checks_are_on()
    print(json.dumps(run(int(sys.argv[1]), int(sys.argv[2]), referee=False)))
