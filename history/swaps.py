"""Recorded trades: V2 reserves per block turned into the swaps between them, swap events out of
cryo's logs, and V3 liquidity events.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from history.tables import BIG_INTEGER, INTEGER, TEXT, Column, TableError, read_table

V2_FEE = 0.003
# keccak256 of Swap(address,uint256,uint256,uint256,uint256,address) and of
# Swap(address,address,int256,int256,uint160,uint128,int24).
V2_SWAP_TOPIC = "0xd78ad95fa46c994b6551d0da85fc275fe613ce37657fb8d5e3d130840159d822"
V3_SWAP_TOPIC = "0xc42079f94a6350d7e6235f29174924f928cc2ac818eb64fed8004e115fbcca67"
WORD = 32
NEWTON_STEPS = 40
DUST = 1e-9  # of a reserve: below it, the rounding of the pool and of float64

RESERVES = (
    Column(("blockNumber", "block_number"), INTEGER, low=0),
    Column(("reserve0",), BIG_INTEGER, low=1, high=2.0**112),
    Column(("reserve1",), BIG_INTEGER, low=1, high=2.0**112),
)
LOGS = (
    Column(("block_number",), INTEGER, low=0),
    Column(("transaction_index",), INTEGER, low=0),
    Column(("log_index",), INTEGER, low=0),
    Column(("address", "contract_address"), TEXT),
    Column(("topic0",), TEXT, nullable=True),
    Column(("data",), TEXT, nullable=True),
)
LIQUIDITY = (
    Column(("type",), TEXT),
    Column(("liquidity",), BIG_INTEGER, low=0),
    Column(("tick_lower",), INTEGER, low=-887_272, high=887_272),
    Column(("tick_upper",), INTEGER, low=-887_272, high=887_272),
    Column(("block_number",), INTEGER, low=0),
    Column(("log_index",), INTEGER, low=0),
)


@dataclass(frozen=True)
class PoolReserves:
    """A V2 pool's reserves at the end of n blocks; `segment` is equal within consecutive blocks."""

    number: np.ndarray  # int64[n], strictly increasing
    reserve0: np.ndarray  # float64[n], smallest units of token0
    reserve1: np.ndarray  # float64[n]
    segment: np.ndarray  # int64[n]
    source: str

    def __len__(self) -> int:
        return self.number.size

    def after(self, blocks: int) -> "PoolReserves":
        """Without the first `blocks` rows."""
        return PoolReserves(
            number=self.number[blocks:],
            reserve0=self.reserve0[blocks:],
            reserve1=self.reserve1[blocks:],
            segment=self.segment[blocks:],
            source=self.source,
        )


@dataclass(frozen=True)
class BlockSwaps:
    """What turns each block's reserves into the next block's: rows k belong to block k + 1.

    `sold0` and `sold1` are inputs of token0 and token1, in that order, fee included; `traded` is
    False where liquidity moved, or where no two swaps explain the change.
    """

    sold0: np.ndarray  # float64[n - 1]
    sold1: np.ndarray  # float64[n - 1]
    traded: np.ndarray  # bool[n - 1]


def load_v2_reserves(path: str | Path) -> PoolReserves:
    """Reserves of one pool per block: blockNumber, reserve0, reserve1 (integers). TableError."""
    frame = read_table(path, RESERVES, "V2 reserves: blockNumber, reserve0, reserve1")
    frame = frame.unique(maintain_order=True).sort("blockNumber")
    number = frame["blockNumber"].to_numpy()
    twice = np.flatnonzero(np.diff(number) == 0)
    if twice.size:
        raise TableError(f"{path}: block {number[twice[0]]} twice with different reserves")
    return PoolReserves(
        number=number,
        reserve0=frame["reserve0"].cast(pl.Float64).to_numpy(),
        reserve1=frame["reserve1"].cast(pl.Float64).to_numpy(),
        segment=np.cumsum(np.diff(number, prepend=number[:1]) > 1),
        source=str(path),
    )


def swaps_between(reserves: PoolReserves, fee: float = V2_FEE) -> BlockSwaps:
    """The two swaps, one each way, that carry every block's reserves to the next block's.

    A block's trades both ways leave their fees in the pool, so the growth of k = r0 r1 tells their
    volume and the move of the price their difference: two equations for two inputs. Selling x of
    token0 and then y of token1 with gamma = 1 - fee ends at reserve0' exactly when y solves the
    constant-product output; x is found by Newton's method on reserve1'. Where both reserves rise
    or fall, or k falls, liquidity was added or taken and there is no such pair.
    """
    r0, r1 = reserves.reserve0[:-1], reserves.reserve1[:-1]
    n0, n1 = reserves.reserve0[1:], reserves.reserve1[1:]
    gamma = 1.0 - fee
    rise0, rise1 = np.log(n0 / r0), np.log(n1 / r1)
    # To first order, selling a share s of its reserve grows ln k by fee s and pulls ln r0 - ln r1
    # by 2 s.
    gross = np.maximum((rise0 + rise1) / fee, 0.5 * np.abs(rise0 - rise1))
    x = np.maximum(0.5 * gross + 0.25 * (rise0 - rise1), 0.0) * r0
    least, step = np.maximum(n0 - r0, 0.0), 1e-7 * r0
    for _ in range(NEWTON_STEPS):
        miss, _ = _miss(r0, r1, n0, n1, x, gamma)
        slope = (_miss(r0, r1, n0, n1, x + step, gamma)[0] - miss) / step
        x = np.maximum(x - np.divide(miss, slope, np.zeros_like(x), where=slope != 0.0), least)
    miss, y = _miss(r0, r1, n0, n1, x, gamma)
    x, y = np.where(x < DUST * r0, 0.0, x), np.where(y < DUST * r1, 0.0, y)
    still = (r0 == n0) & (r1 == n1)
    swapped = (rise0 * rise1 <= 0.0) & (np.abs(miss) <= DUST * r1)
    contiguous = reserves.segment[1:] == reserves.segment[:-1]
    traded = contiguous & (still | swapped)
    moving = traded & ~still
    return BlockSwaps(np.where(moving, x, 0.0), np.where(moving, y, 0.0), traded)


def _miss(
    r0: np.ndarray, r1: np.ndarray, n0: np.ndarray, n1: np.ndarray, x: np.ndarray, gamma: float
) -> tuple[np.ndarray, np.ndarray]:
    """After selling x of token0 and the y of token1 that leads to n0: reserve1 - n1, and y.

    gamma y = r1 (r0 / n0 - 1), with the reserves after the first swap.
    """
    after0, after1 = r0 + x, r1 * r0 / (r0 + gamma * x)
    y = after1 * (after0 / n0 - 1.0) / gamma
    return after1 + y - n1, y


def load_swap_logs(path: str | Path) -> pl.DataFrame:
    """Swaps of V2 and V3 pools out of cryo's logs, in order of execution.

    Columns: block_number, transaction_index, log_index, pool (0x and lower case), version (2 or 3),
    amount0, amount1 (int128, positive was paid to the pool). Other events are passed over. Raises
    TableError, also for a swap whose data is too short or whose amounts pass 127 bits.
    """
    rows = read_table(path, LOGS, "cryo logs: block_number, log_index, address, topic0, data")
    rows = rows.with_columns(pl.col("topic0", "address", "data").str.to_lowercase())
    rows = rows.filter(pl.col("topic0").is_in([V2_SWAP_TOPIC, V3_SWAP_TOPIC]))
    amounts = [
        _amounts(path, row, topic, data)
        for row, (topic, data) in enumerate(zip(rows["topic0"], rows["data"]))
    ]
    return rows.select(
        "block_number",
        "transaction_index",
        "log_index",
        pool="address",
        version=pl.when(pl.col("topic0") == V2_SWAP_TOPIC).then(2).otherwise(3),
        amount0=pl.Series([a for a, _ in amounts], dtype=pl.Int128),
        amount1=pl.Series([b for _, b in amounts], dtype=pl.Int128),
    ).sort("block_number", "log_index")


def _amounts(path: str | Path, row: int, topic: str, data: str | None) -> tuple[int, int]:
    """Net amounts paid to the pool, of one event's data (0x and hexadecimal digits)."""
    words = 4 if topic == V2_SWAP_TOPIC else 5
    try:
        raw = bytes.fromhex((data or "").removeprefix("0x"))
    except ValueError:
        raw = b""
    if len(raw) != words * WORD:
        raise TableError(
            f"{path}: swap {row}: data has {len(raw)} bytes, not {words * WORD}; export it again"
        )
    signed = topic == V3_SWAP_TOPIC
    values = [
        int.from_bytes(raw[at : at + WORD], "big", signed=signed)
        for at in range(0, (2 if signed else 4) * WORD, WORD)
    ]
    pair = tuple(values) if signed else (values[0] - values[2], values[1] - values[3])
    if max(abs(amount) for amount in pair) >= 1 << 127:
        raise TableError(f"{path}: swap {row}: amounts {pair} pass 127 bits; leave the pool out")
    return pair[0], pair[1]


def load_liquidity_events(path: str | Path) -> pl.DataFrame:
    """Mints and burns of a V3 pool in order: type, liquidity (int128), tick_lower, tick_upper,
    block_number, log_index. Raises TableError.
    """
    frame = read_table(path, LIQUIDITY, "liquidity events: type, liquidity, tick_lower")
    odd = frame.filter(~pl.col("type").is_in(["MINT", "BURN"]))
    if len(odd):
        raise TableError(f"{path}: type {odd['type'][0]!r}: expected MINT or BURN")
    return frame.sort("block_number", "log_index")
