"""Router calldata on one thread: the batched decoder, one call, hex text, all beside eth_abi."""

import time
from collections.abc import Callable

import numpy as np
from eth_abi.abi import decode, encode

from benchmarks.harness import Measurement, check, seconds_per_call
from kernels.calldata import rows
from kernels.calldata.abi import hex_to_bytes
from kernels.calldata.routers import decode_batch, decode_call
from kernels.compile import kernel
from kernels.numbers.u256 import from_limbs

SEED = 20240311
# About the largest block on record: what one sweep over the pending transactions holds.
CALLS = 1_500
WETH = 0xC02AAA39B223FE8D0A0E5C4F27EAD9083C756CC2
ROUTERS = {family: family << 96 | family for family in rows.FAMILIES}
V2_TYPES = ["uint256", "uint256", "address[]", "address", "uint256"]
V3_TYPES = ["(address,address,uint24,address,uint256,uint256,uint256,uint160)"]
EXECUTE_TYPES = ["bytes", "bytes[]", "uint256"]
COMMAND_TYPES = ["address", "uint256", "uint256", "bytes", "bool"]
V4_TYPES = [
    "((address,address,uint24,int24,address),bool,uint128,uint128,bytes)",
]
# What the decoder with all its checks may take, in nanoseconds.
BATCH_TARGET_NS = 60.0
SINGLE_TARGET_NS = 500.0


def address(rng: np.random.Generator) -> str:
    """A random address as eth_abi takes it."""
    return "0x" + rng.bytes(20).hex()


def v2_call(rng: np.random.Generator, amount: int) -> bytes:
    """swapExactTokensForTokens over one hop."""
    path = [address(rng), address(rng)]
    return bytes.fromhex("38ed1739") + encode(V2_TYPES, [amount, 5, path, address(rng), 2**31])


def v3_call(rng: np.random.Generator, amount: int) -> bytes:
    """exactInputSingle of SwapRouter."""
    values = (address(rng), address(rng), 3000, address(rng), 2**31, amount, 5, 0)
    return bytes.fromhex("414bf389") + encode(V3_TYPES, [values])


def execute_call(rng: np.random.Generator, amount: int) -> bytes:
    """Universal Router: wrap ether, then one V3 hop."""
    path = rng.bytes(20) + (500).to_bytes(3, "big") + rng.bytes(20)
    swap = encode(COMMAND_TYPES, [address(rng), amount, 5, path, True])
    inputs = [encode(["address", "uint256"], [address(rng), amount]), swap]
    return bytes.fromhex("3593564c") + encode(EXECUTE_TYPES, [b"\x0b\x00", inputs, 2**31])


def v4_call(rng: np.random.Generator, amount: int) -> bytes:
    """Universal Router: one V4 hop from ether, settled and taken."""
    token = address(rng)
    key = ("0x" + "00" * 20, token, 3000, 60, "0x" + "00" * 20)
    parameters = [
        encode(V4_TYPES, [(key, True, amount, 5, b"")]),
        encode(["address", "uint256"], [key[0], amount]),
        encode(["address", "uint256"], [token, 5]),
    ]
    actions = encode(["bytes", "bytes[]"], [b"\x06\x0c\x0f", parameters])
    return bytes.fromhex("3593564c") + encode(EXECUTE_TYPES, [b"\x10", [actions], 2**31])


MAKERS = [
    (rows.V2_ROUTER, v2_call),
    (rows.SWAP_ROUTER, v3_call),
    (rows.UNIVERSAL_ROUTER, execute_call),
    (rows.UNIVERSAL_ROUTER_2_0, v4_call),
]


def batch(count: int, share: float) -> tuple[np.ndarray, np.ndarray, list[int], list[bytes]]:
    """Buffer, call rows, the amounts that swap, and the calldata; `share` of calls are swaps."""
    rng = np.random.default_rng(SEED)
    pieces, table, amounts, start = [], [], [], 0
    for index in range(count):
        family, make = MAKERS[index % len(MAKERS)]
        amount = int(rng.integers(1, 2**62)) << int(rng.integers(0, 60))
        pieces.append(make(rng, amount))
        swaps = rng.random() < share
        to = ROUTERS[family] if swaps else int(rng.integers(1, 2**62)) << 90
        table.append(rows.call_row(to, 0, start, len(pieces[-1])))
        start += len(pieces[-1])
        if swaps:
            amounts.append(amount)
    return np.frombuffer(b"".join(pieces), np.uint8), np.array(table), amounts, pieces


@kernel
def repeat_call(
    data: np.ndarray, calls: np.ndarray, index: int, routers: np.ndarray, swaps: np.ndarray, n: int
) -> int:
    """`decode_call` n times from inside a kernel; the sum of what it returned."""
    total = 0
    zero = int(np.int64(0))  # a literal would compile every callee once more
    for _ in range(n):
        total += decode_call(data, calls, index, routers, swaps, zero)
    return total


@kernel
def repeat_hex(text: np.ndarray, out: np.ndarray, n: int) -> int:
    """`hex_to_bytes` n times from inside a kernel; the sum of what it returned."""
    total = 0
    zero = int(np.int64(0))  # a literal would compile every callee once more
    for _ in range(n):
        total += hex_to_bytes(text, zero, text.shape[0], out)
    return total


def read_v4(call: bytes) -> int:
    """The amount of `v4_call`, as eth_abi reads it."""
    _, inputs, _ = decode(EXECUTE_TYPES, call[4:])
    _, parameters = decode(["bytes", "bytes[]"], inputs[0])
    return decode(V4_TYPES, parameters[0])[0][2]


def batched(quick: bool) -> list[Measurement]:
    """Nanoseconds per transaction of a batch, for swaps only and for a block's usual mix."""
    count, budget = CALLS, 0.5 if quick else 3.0
    routers = rows.router_table([(to, WETH, family) for family, to in ROUTERS.items()])
    swaps = np.zeros((count, rows.SWAP_WORDS), np.uint64)
    counts = np.zeros(count, np.int64)
    measured = []
    for name, share in (("all swaps", 1.0), ("30 % swaps", 0.3)):
        data, calls, amounts, _ = batch(count, share)
        total = decode_batch(data, calls, routers, swaps, counts)
        found = from_limbs(swaps[:total, rows.AMOUNT : rows.LIMIT])
        check(found == amounts, f"{name}: decoded amounts differ from those encoded")
        arguments = (data, calls, routers, swaps, counts)
        seconds = seconds_per_call(lambda a=arguments: decode_batch(*a), budget)
        note = f"{count} calls: Router02, SwapRouter, Universal Router with V3 and V4"
        ns = seconds / count * 1e9
        measured.append(
            Measurement(f"calldata batch, {name}", ns, "ns/tx", note, at_most=BATCH_TARGET_NS)
        )
    return measured


def single(quick: bool) -> list[Measurement]:
    """One call inside a kernel per router family, and eth_abi on the same bytes."""
    repeats = 2_000 if quick else 20_000
    routers = rows.router_table([(to, WETH, family) for family, to in ROUTERS.items()])
    swaps = np.zeros((4, rows.SWAP_WORDS), np.uint64)
    data, calls, amounts, pieces = batch(len(MAKERS), 1.0)
    readers: list[Callable[[bytes], int]] = [
        lambda call: decode(V2_TYPES, call[4:])[0],
        lambda call: decode(V3_TYPES, call[4:])[0][5],
        lambda call: decode(COMMAND_TYPES, decode(EXECUTE_TYPES, call[4:])[1][1])[1],
        read_v4,
    ]
    measured = []
    names = ("Router02", "SwapRouter", "Universal Router V3", "Universal Router V4")
    for index, (name, read) in enumerate(zip(names, readers, strict=True)):
        check(read(pieces[index]) == amounts[index], f"{name}: eth_abi reads another amount")
        arguments = (data, calls, index, routers, swaps, repeats)
        check(repeat_call(*arguments) == repeats, f"{name}: the kernel refused a call")
        seconds = seconds_per_call(lambda a=arguments: repeat_call(*a), 0.5) / repeats
        begin = time.perf_counter()
        for _ in range(200):
            read(pieces[index])
        reference = (time.perf_counter() - begin) / 200
        ns = seconds * 1e9
        measured += [
            Measurement(f"calldata single, {name}", ns, "ns", at_most=SINGLE_TARGET_NS),
            Measurement(f"calldata single, {name}, eth_abi", reference * 1e9, "ns"),
            Measurement(f"calldata single, {name}: eth_abi / kernel", reference / seconds, "ratio"),
        ]
    text = np.frombuffer(b"0x" + pieces[0].hex().encode(), np.uint8)
    out = np.zeros(len(pieces[0]), np.uint8)
    check(repeat_hex(text, out, 1) == len(out), "the hex text was refused")
    check(out.tobytes() == pieces[0], "the hex text was decoded wrongly")
    seconds = seconds_per_call(lambda: repeat_hex(text, out, repeats), 0.5) / repeats
    note = f"{len(out)} bytes of calldata"
    return [*measured, Measurement("hex text to bytes", seconds * 1e9, "ns", note)]


def run(quick: bool) -> list[Measurement]:
    return batched(quick) + single(quick)
