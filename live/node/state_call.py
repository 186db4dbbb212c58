"""One `eth_call` that reads all reserves, our executor's WETH and our ETH at one block: the node
runs this small program in place of a contract's creation code, so nothing has to be deployed.
"""

from __future__ import annotations

from collections.abc import Sequence

from live.node.wire import keccak256

GET_RESERVES = keccak256(b"getReserves()")[:4]
BALANCE_OF = keccak256(b"balanceOf(address)")[:4]

PUSH1, PUSH2, PUSH4, PUSH20, PUSH32 = 0x60, 0x61, 0x63, 0x73, 0x7F
SHL, MSTORE, GAS, STATICCALL, POP, RETURN = 0x1B, 0x52, 0x5A, 0xFA, 0x50, 0xF3
WORD = 32
CALL_AREA = 2 * WORD  # memory [0, 64): calldata of the inner calls
ROW = 2 * WORD  # reserve0, reserve1
# What creation code returns would become a contract, whose size EIP-170 bounds: 383 pools.
MAX_RETURNED_BYTES = 24_576


def _push2(value: int) -> bytes:
    return bytes((PUSH2,)) + value.to_bytes(2, "big")


def state_program(pools: Sequence[bytes], weth: bytes, executor: bytes) -> bytes:
    """Creation code that returns reserve0, reserve1 per pool, then executor's WETH.

    A call that fails leaves zeros, which no live pool has: it shows up as a mismatch.
    """
    code = bytearray()
    # memory[0:4] = selector of getReserves
    code += bytes((PUSH4, *GET_RESERVES, PUSH1, 0xE0, SHL, PUSH1, 0, MSTORE))
    for row, pool in enumerate(pools):
        code += bytes((PUSH1, ROW)) + _push2(CALL_AREA + ROW * row)  # output size, where to
        code += bytes((PUSH1, 4, PUSH1, 0, PUSH20, *pool, GAS, STATICCALL, POP))
    # memory[0:36] = balanceOf(executor)
    end = CALL_AREA + ROW * len(pools)
    argument = int.from_bytes(executor, "big").to_bytes(WORD, "big")
    call = BALANCE_OF + argument
    code += bytes((PUSH32, *call[:WORD], PUSH1, 0, MSTORE))
    code += bytes((PUSH32, *call[WORD:].ljust(WORD, b"\0"), PUSH1, WORD, MSTORE))
    code += bytes((PUSH1, WORD)) + _push2(end)
    code += bytes((PUSH1, 36, PUSH1, 0, PUSH20, *weth, GAS, STATICCALL, POP))
    code += _push2(ROW * len(pools) + WORD) + bytes((PUSH1, CALL_AREA, RETURN))
    if ROW * len(pools) + WORD > MAX_RETURNED_BYTES:
        raise ValueError(f"{len(pools)} pools do not fit in one call: track fewer")
    return bytes(code)


def read_state(data: bytes, pools: int) -> tuple[list[tuple[int, int]], int]:
    """Reserves of each pool and the executor's WETH, from what the program returned."""
    if len(data) != ROW * pools + WORD:
        raise ValueError(f"state call returned {len(data)} bytes, expected {ROW * pools + WORD}")
    words = [int.from_bytes(data[at : at + WORD], "big") for at in range(0, len(data), WORD)]
    return list(zip(words[0 : 2 * pools : 2], words[1 : 2 * pools : 2], strict=True)), words[-1]
