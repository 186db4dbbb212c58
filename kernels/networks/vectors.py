"""Vectors of float32 as Numba values: the sums of a layer stay in registers over all its inputs.

LLVM's own vectoriser loads and stores the sums once for every input, and before each of these loops
tests that no array overlaps another.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels.compile import BOUNDSCHECK
from kernels.numbers.lanes import LaneVector, entry_address, splat

BLOCK = 64  # lanes: eight AVX registers, enough that no addition waits for the one before it
PART = 8  # lanes of what is left over

_SINGLE, _INDEX = ir.FloatType(), ir.IntType(32)
_block = LaneVector("float32", _SINGLE, BLOCK)
_part = LaneVector("float32", _SINGLE, PART)


def _is_line(array: Any) -> bool:
    contiguous = isinstance(array, types.Array) and (array.ndim, array.layout) == (1, "C")
    return contiguous and array.dtype == types.float32


def _address(context: Any, builder: Any, line_type: Any, line: Any, at: Any, lane_type: Any) -> Any:
    """Address of the vector that starts at one entry of a line."""
    if BOUNDSCHECK and lane_type == _block:
        last = builder.add(at, ir.Constant(at.type, BLOCK - 1))
        entry_address(context, builder, line_type, line, last)
    first = entry_address(context, builder, line_type, line, at)
    return builder.bitcast(first, lane_type.vector.as_pointer())


def _first_lanes(builder: Any, lane_type: Any, count: Any) -> Any:
    """The mask of the first `count` lanes."""
    lanes = ir.VectorType(count.type, lane_type.vector.count)
    order = ir.Constant(lanes, list(range(lanes.count)))
    return builder.icmp_signed("<", order, splat(builder, lanes, count))


@intrinsic
def _load_block(typingctx: Any, line: Any, at: Any) -> Any:
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = _address(context, builder, sig.args[0], args[0], args[1], _block)
        return builder.load(address, align=4)

    return (_block(line, types.intp), lower) if _is_line(line) else None


@intrinsic
def _store_block(typingctx: Any, line: Any, at: Any, values: Any) -> Any:
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = _address(context, builder, sig.args[0], args[0], args[1], _block)
        builder.store(args[2], address, align=4)
        return context.get_dummy_value()

    return (types.none(line, types.intp, _block), lower) if _is_line(line) else None


@intrinsic
def _no_part(typingctx: Any) -> Any:
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(_part.vector, [0.0] * PART)

    return _part(), lower


def _loader(lane_type: Any) -> Any:
    @intrinsic
    def load_some(typingctx: Any, line: Any, at: Any, count: Any) -> Any:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            address = _address(context, builder, sig.args[0], args[0], args[1], lane_type)
            mask, none = _first_lanes(builder, lane_type, args[2]), [0.0] * lane_type.vector.count
            kind = ir.FunctionType(
                lane_type.vector, [address.type, _INDEX, mask.type, lane_type.vector]
            )
            name = f"llvm.masked.load.v{lane_type.vector.count}f32.p0"
            load = cgutils.get_or_insert_function(builder.module, kind, name)
            return builder.call(
                load, [address, _INDEX(4), mask, ir.Constant(lane_type.vector, none)]
            )

        return (lane_type(line, types.intp, types.intp), lower) if _is_line(line) else None

    return load_some


def _storer(lane_type: Any) -> Any:
    @intrinsic
    def store_some(typingctx: Any, line: Any, at: Any, count: Any, values: Any) -> Any:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            address = _address(context, builder, sig.args[0], args[0], args[1], lane_type)
            mask = _first_lanes(builder, lane_type, args[2])
            kind = ir.FunctionType(
                ir.VoidType(), [lane_type.vector, address.type, _INDEX, mask.type]
            )
            name = f"llvm.masked.store.v{lane_type.vector.count}f32.p0"
            store = cgutils.get_or_insert_function(builder.module, kind, name)
            builder.call(store, [args[3], address, _INDEX(4), mask])
            return context.get_dummy_value()

        line_of = types.none(line, types.intp, types.intp, lane_type)
        return (line_of, lower) if _is_line(line) else None

    return store_some


@intrinsic
def _add(typingctx: Any, x: Any, y: Any) -> Any:
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.fadd(*args)

    return x(x, x), lower


@intrinsic
def _add_product(typingctx: Any, sums: Any, values: Any, factor: Any) -> Any:
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        sums, values, factor = args
        return builder.fadd(sums, builder.fmul(values, splat(builder, sums.type, factor)))

    return sums(sums, sums, types.float32), lower


load_block: Any = _load_block
"""load_block(line, at) -> BLOCK entries of float32[n] from `at` on."""
store_block: Any = _store_block
"""store_block(line, at, block): the inverse of load_block."""
no_part: Any = _no_part
"""no_part() -> PART zeros."""
load_part: Any = _loader(_part)
"""load_part(line, at, count) -> the first `count` of PART entries from `at` on, 0 in the others."""
store_part: Any = _storer(_part)
"""store_part(line, at, count, part): the first `count` of its lanes, which may be more than all."""
add: Any = _add
"""add(x, y): of two blocks or two parts."""
add_product: Any = _add_product
"""add_product(sums, values, factor): sums + values * factor, a block or a part and one float32."""
