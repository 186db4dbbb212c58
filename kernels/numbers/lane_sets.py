"""Which lanes have work: lists of them, their bits, and the highest of a vector.

A loop over each lane's own work ends at another place in every lane, which no processor guesses,
and a wrong guess costs as much as the work. A list of all lanes' work is one loop for eight lanes.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels.numbers.lanes import FLOATS, INTS, MASKS, WIDTH, entry_address

_BYTE, _WORD = ir.IntType(WIDTH), ir.IntType(64)
_PLACE = ir.IntType(32)
LIST_ROOM = 64 * WIDTH  # entries of a list


@intrinsic
def _lane_numbers(typingctx: Any, like: Any) -> Any:
    wide_ = like == FLOATS

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(INTS.vector, list(range(WIDTH))) if wide_ else _WORD(0)

    return (INTS if wide_ else types.int64)(like), lower


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


@intrinsic
def _new_list(typingctx: Any) -> Any:
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        room = ir.Constant(ir.IntType(64), LIST_ROOM)
        return cgutils.alloca_once(builder, _WORD, size=room)

    return types.CPointer(types.int64)(), lower


@intrinsic
def _append(typingctx: Any, list_: Any, count: Any, values: Any, masks: Any) -> Any:
    wide_ = masks == MASKS

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        to, count_, values_, masks_ = args
        pointer = builder.gep(to, [count_])
        if not wide_:
            builder.store(values_, pointer)
            return builder.add(count_, builder.zext(masks_, _WORD))
        # In a register first: what a masked store wrote cannot be read back at once.
        shape = ir.FunctionType(values_.type, [values_.type, masks_.type, values_.type])
        name = f"llvm.experimental.vector.compress.v{WIDTH}i64"
        compress = cgutils.get_or_insert_function(builder.module, shape, name)
        packed = builder.call(compress, [values_, masks_, ir.Constant(values_.type, ir.Undefined)])
        builder.store(packed, builder.bitcast(pointer, values_.type.as_pointer()), align=8)
        more = builder.ctpop(builder.bitcast(masks_, _BYTE))
        return builder.add(count_, builder.zext(more, _WORD))

    given = (INTS, MASKS) if wide_ else (types.int64, types.boolean)
    return types.int64(list_, types.int64, *given), lower


@intrinsic
def _entry(typingctx: Any, list_: Any, place: Any) -> Any:
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(builder.gep(args[0], [args[1]]))

    return types.int64(list_, types.int64), lower


new_list: Any = _new_list
"""new_list(): room for LIST_ROOM whole numbers, on the stack of the kernel that asks."""
append: Any = _append
"""append(list, count, values, masks) -> int: the values where the mask is set come after the first
`count` entries; how many there are then. Room for as many more as there are lanes is the caller's
to see to."""
entry: Any = _entry
"""entry(list, place) -> int."""
lane_numbers: Any = _lane_numbers
"""lane_numbers(like) -> Ints: 0 .. WIDTH - 1, or 0 for a single lane."""
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
