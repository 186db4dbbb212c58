"""Which lanes, which bits, and the highest of a vector: what leads from eight lanes to one of them.

Beside `kernels.numbers.lanes`, for kernels that go on with the lanes or candidates that have work.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels.numbers.lanes import FLOATS, INTS, MASKS, WIDTH, entry_address

_BYTE, _WORD = ir.IntType(WIDTH), ir.IntType(64)
_PLACE = ir.IntType(32)


@intrinsic
def _lane_numbers(typingctx: Any) -> Any:
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(INTS.vector, list(range(WIDTH)))

    return INTS(), lower


@intrinsic
def _lanes_where(typingctx: Any, masks: Any) -> Any:
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.zext(builder.bitcast(args[0], _BYTE), _WORD)

    return types.int64(MASKS), lower


@intrinsic
def _first_bit(typingctx: Any, bits: Any) -> Any:
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), lower


@intrinsic
def _bits_in(typingctx: Any, words: Any) -> Any:
    wide_ = words == INTS

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if not wide_:
            return builder.ctpop(args[0])
        total = _WORD(0)
        for lane in range(WIDTH):
            word = builder.extract_element(args[0], ir.Constant(_PLACE, lane))
            total = builder.add(total, builder.ctpop(word))
        return total

    return types.int64(INTS if wide_ else types.int64), lower


@intrinsic
def _highest(typingctx: Any, floats: Any) -> Any:
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector, step = args[0], WIDTH // 2
        while step:
            order = [(lane + step) % WIDTH for lane in range(WIDTH)]
            turned = builder.shuffle_vector(
                vector, vector, ir.Constant(ir.VectorType(_PLACE, WIDTH), order)
            )
            vector = builder.select(builder.fcmp_ordered(">", turned, vector), turned, vector)
            step //= 2
        return builder.extract_element(vector, ir.Constant(_PLACE, 0))

    return types.float64(FLOATS), lower


@intrinsic
def _gather_entries(typingctx: Any, table: Any, rows: Any, columns: Any) -> Any:
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        table_, rows_, columns_ = args
        values = ir.Constant(FLOATS.vector, ir.Undefined)
        for lane in range(WIDTH):
            place = ir.Constant(_PLACE, lane)
            index = (builder.extract_element(each, place) for each in (rows_, columns_))
            address = entry_address(context, builder, sig.args[0], table_, *index)
            values = builder.insert_element(values, builder.load(address), place)
        return values

    return FLOATS(table, INTS, INTS), lower


lane_numbers: Any = _lane_numbers
"""lane_numbers() -> Ints: 0 .. WIDTH - 1."""
lanes_where: Any = _lanes_where
"""lanes_where(masks) -> int: bit i is set where the mask of lane i is."""
first_bit: Any = _first_bit
"""first_bit(bits) -> int: place of the lowest bit that is set; bits are not 0."""
bits_in: Any = _bits_in
"""bits_in(ints) -> int: how many bits are set in the lanes at hand together."""
highest: Any = _highest
"""highest(floats) -> float: the largest of a vector without NaN."""
gather_entries: Any = _gather_entries
"""gather_entries(table, rows, columns) -> Floats: another entry of float64[r, c] in each lane."""
