"""Eight markets at once: a vector of eight lanes as a Numba value, with the operators of a float.

A kernel is written once for "the lanes at hand": `like` says whether those are WIDTH lanes of a
simulator's tile (`wide()`) or the single one of a server (0.0). Both give the same bits: every
operation is the IEEE one, and no lane sees another. LLVM's own vectoriser gives up on tiles,
because it cannot prove that two rows of one array are different memory.
"""

import operator
from collections.abc import Callable
from typing import Any, TypeAlias

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, lower_cast, models, register_model

from kernels.compile import BOUNDSCHECK, inline

WIDTH = 8  # lanes of a vector; a tile of the simulator has two of them

# For annotations only: floats, whole numbers and truth values of the lanes at hand.
Floats: TypeAlias = Any
Ints: TypeAlias = Any
Masks: TypeAlias = Any

_DOUBLE, _SINGLE = ir.DoubleType(), ir.FloatType()
_WORD, _BIT = ir.IntType(64), ir.IntType(1)
_lower: Any = lower_builtin
_type: Any = infer_global


class LaneVector(types.Type):
    """Numba type of some lanes of an LLVM scalar."""

    def __init__(self, name: str, element: Any, width: int = WIDTH) -> None:
        self.vector = ir.VectorType(element, width)
        super().__init__(name=f"{name}x{width}")


FLOATS = LaneVector("float64", _DOUBLE)
INTS = LaneVector("int64", _WORD)
MASKS = LaneVector("boolean", _BIT)


@register_model(LaneVector)
class _LaneModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: LaneVector) -> None:
        super().__init__(manager, numba_type, numba_type.vector)


def splat(builder: Any, vector: Any, scalar: Any) -> Any:
    """`scalar` in every lane."""
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, _WORD(0))
    everywhere = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), everywhere)


@lower_cast(types.Float, FLOATS)
@lower_cast(types.Integer, FLOATS)
@lower_cast(types.Integer, INTS)
@lower_cast(types.Boolean, MASKS)
def _from_scalar(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    scalar = {FLOATS: types.float64, INTS: types.int64, MASKS: types.boolean}[target]
    return splat(builder, target.vector, context.cast(builder, value, source, scalar))


_SCALARS = {
    FLOATS: (types.Float, types.Integer),
    INTS: (types.Integer,),
    MASKS: (types.Boolean,),
}


def _common(operands: tuple[Any, ...], allowed: tuple[LaneVector, ...]) -> LaneVector | None:
    """The vector type that all operands are, or are broadcast to."""
    for vector in allowed:
        if vector in operands:
            good = all(o == vector or isinstance(o, _SCALARS[vector]) for o in operands)
            return vector if good else None
    return None


def _register(
    operation: Callable, allowed: tuple[LaneVector, ...], result: LaneVector | None, emit: Callable
) -> None:
    class Operator(AbstractTemplate):
        key = operation

        def generic(self, args: tuple[Any, ...], kws: dict) -> Any:
            common = _common(args, allowed)
            return None if common is None else signature(result or common, *[common] * len(args))

    _type(operation)(Operator)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit(builder, sig.args[0], *args)

    for vector in allowed:
        _lower(operation, vector, vector)(lower)


def _by_type(of_floats: str, of_ints: str) -> Callable:
    def emit(builder: Any, numba_type: Any, x: Any, y: Any) -> Any:
        return getattr(builder, of_floats if numba_type == FLOATS else of_ints)(x, y)

    return emit


def _compare(sign: str) -> Callable:
    def emit(builder: Any, numba_type: Any, x: Any, y: Any) -> Any:
        if numba_type == INTS:
            return builder.icmp_signed(sign, x, y)
        # As Python compares: what is not a number differs from everything.
        compare = builder.fcmp_unordered if sign == "!=" else builder.fcmp_ordered
        return compare(sign, x, y)

    return emit


for _operations, _floats, _ints in (
    ((operator.add, operator.iadd), "fadd", "add"),
    ((operator.sub, operator.isub), "fsub", "sub"),
    ((operator.mul, operator.imul), "fmul", "mul"),
):
    for _operation in _operations:
        _register(_operation, (FLOATS, INTS), None, _by_type(_floats, _ints))
for _operation in (operator.truediv, operator.itruediv):
    _register(_operation, (FLOATS,), None, _by_type("fdiv", "fdiv"))
for _operations, _name in (
    ((operator.and_, operator.iand), "and_"),
    ((operator.or_, operator.ior), "or_"),
    ((operator.xor, operator.ixor), "xor"),
):
    for _operation in _operations:
        _register(_operation, (INTS, MASKS), None, _by_type(_name, _name))
for _operation, _name in ((operator.lshift, "shl"), (operator.rshift, "ashr")):
    _register(_operation, (INTS,), None, _by_type(_name, _name))
for _operation, _sign in (
    (operator.lt, "<"),
    (operator.le, "<="),
    (operator.gt, ">"),
    (operator.ge, ">="),
    (operator.eq, "=="),
    (operator.ne, "!="),
):
    _register(_operation, (FLOATS, INTS), MASKS, _compare(_sign))


def entry_address(context: Any, builder: Any, array_type: Any, array: Any, *place: Any) -> Any:
    """Address of one entry of a C-contiguous array."""
    fields = context.make_array(array_type)(context, builder, array)
    return cgutils.get_item_pointer2(
        context,
        builder,
        fields.data,
        cgutils.unpack_tuple(builder, fields.shape),
        cgutils.unpack_tuple(builder, fields.strides),
        "C",
        list(place),
        boundscheck=BOUNDSCHECK,
    )


def _pick(wide_type: LaneVector, scalar: Any, like: Any) -> Any:
    return wide_type if like == FLOATS else scalar


@intrinsic
def _wide(typingctx: Any) -> Any:
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(FLOATS.vector, [0.0] * WIDTH)

    return FLOATS(), lower


@intrinsic
def _load(typingctx: Any, tile: Any, row: Any, lane: Any, like: Any) -> Any:
    result = _pick(FLOATS, types.float64, like)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = entry_address(context, builder, sig.args[0], args[0], args[1], args[2])
        if result == FLOATS:
            pointer = builder.bitcast(pointer, FLOATS.vector.as_pointer())
        return builder.load(pointer, align=8)

    return result(tile, types.intp, types.intp, like), lower


@intrinsic
def _load_words(typingctx: Any, words: Any, lane: Any, like: Any) -> Any:
    result = _pick(INTS, types.int64, like)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = entry_address(context, builder, sig.args[0], args[0], args[1])
        if result == INTS:
            pointer = builder.bitcast(pointer, INTS.vector.as_pointer())
        return builder.load(pointer, align=8)

    return result(words, types.intp, like), lower


def _gathered(context: Any, builder: Any, sig: Any, array: Any, rows: list, index: Any) -> Any:
    """Entries of an array at another last index in each lane."""

    def entry(last: Any) -> Any:
        return builder.load(entry_address(context, builder, sig.args[0], array, *rows, last))

    if sig.return_type != FLOATS:
        return entry(index)
    values = ir.Constant(FLOATS.vector, ir.Undefined)
    for lane in range(WIDTH):
        place = ir.Constant(ir.IntType(32), lane)
        one = entry(builder.extract_element(index, place))
        values = builder.insert_element(values, one, place)
    return values


@intrinsic
def _gather(typingctx: Any, table: Any, row: Any, columns: Any) -> Any:
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _gathered(context, builder, sig, args[0], [args[1]], args[2])

    result, index = (FLOATS, INTS) if columns == INTS else (types.float64, types.int64)
    return result(table, types.intp, index), lower


@intrinsic
def _gather_line(typingctx: Any, line: Any, places: Any) -> Any:
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _gathered(context, builder, sig, args[0], [], args[1])

    result, index = (FLOATS, INTS) if places == INTS else (types.float64, types.int64)
    return result(line, index), lower


@intrinsic
def _store(typingctx: Any, tile: Any, row: Any, lane: Any, value: Any) -> Any:
    wide_ = value == FLOATS

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = entry_address(context, builder, sig.args[0], args[0], args[1], args[2])
        if wide_:
            pointer = builder.bitcast(pointer, FLOATS.vector.as_pointer())
        builder.store(args[3], pointer, align=8)
        return context.get_dummy_value()

    given = FLOATS if wide_ else types.float64
    return types.none(tile, types.intp, types.intp, given), lower


@intrinsic
def _choose(typingctx: Any, mask: Any, yes: Any, no: Any) -> Any:
    wide_ = mask == MASKS
    if INTS in (yes, no):
        result: Any = INTS
    elif wide_:
        result = FLOATS
    else:
        whole_ = isinstance(yes, types.Integer) and isinstance(no, types.Integer)
        result = types.int64 if whole_ else types.float64

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(*args)

    return result(MASKS if wide_ else types.boolean, result, result), lower


@intrinsic
def _any_lane(typingctx: Any, mask: Any) -> Any:
    wide_ = mask == MASKS

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if not wide_:
            return args[0]
        bits = builder.bitcast(args[0], ir.IntType(WIDTH))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(MASKS if wide_ else types.boolean), lower


@intrinsic
def _square_root(typingctx: Any, x: Any) -> Any:
    result = FLOATS if x == FLOATS else types.float64

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        x = args[0]
        name = f"llvm.sqrt.v{WIDTH}f64" if result == FLOATS else "llvm.sqrt.f64"
        shape = ir.FunctionType(x.type, [x.type])
        return builder.call(cgutils.get_or_insert_function(builder.module, shape, name), [x])

    return result(result), lower


def _converter(name: str, wide_pair: tuple[Any, Any], scalar_pair: tuple[Any, Any]) -> Any:
    """An intrinsic that applies one LLVM conversion to the lanes at hand."""

    @intrinsic
    def convert(typingctx: Any, x: Any) -> Any:
        source, target = wide_pair if isinstance(x, LaneVector) else scalar_pair

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            result = context.get_value_type(target)
            return getattr(builder, name)(args[0], result)

        return target(source), lower

    return convert


_ONE_FLOAT, _ONE_INT = types.float64, types.int64
_bits_of = _converter("bitcast", (FLOATS, INTS), (_ONE_FLOAT, _ONE_INT))
_from_bits = _converter("bitcast", (INTS, FLOATS), (_ONE_INT, _ONE_FLOAT))
_whole = _converter("fptosi", (FLOATS, INTS), (_ONE_FLOAT, _ONE_INT))
_real = _converter("sitofp", (INTS, FLOATS), (_ONE_INT, _ONE_FLOAT))


def _transposed(builder: Any, vectors: list[Any]) -> list[Any]:
    """Rows and columns of WIDTH vectors exchanged: three perfect shuffles."""
    half = WIDTH // 2
    index = ir.VectorType(ir.IntType(32), WIDTH)

    def zipped(first: int) -> Any:
        order = [x for i in range(first, first + half) for x in (i, WIDTH + i)]
        return ir.Constant(index, order)

    for _ in range(WIDTH.bit_length() - 1):
        pairs = list(zip(vectors[:half], vectors[half:]))
        vectors = [
            builder.shuffle_vector(low, high, zipped(first))
            for low, high in pairs
            for first in (0, half)
        ]
    return vectors


@intrinsic
def _store_fields(typingctx: Any, out: Any, lane: Any, at: Any, shown: Any, fields: Any) -> Any:
    wide_ = shown == MASKS
    count = len(fields)
    if count < WIDTH:
        return None
    narrow = ir.VectorType(_SINGLE, WIDTH) if wide_ else _SINGLE
    # Whole vectors of fields; the last may write some of them once more.
    firsts = [*range(0, count - WIDTH, WIDTH), count - WIDTH]

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        out_, lane_, at_, shown_, fields_ = args
        nothing = ir.Constant(narrow, [0.0] * WIDTH if wide_ else 0.0)
        values = [
            builder.select(shown_, builder.fptrunc(value, narrow), nothing)
            for value in cgutils.unpack_tuple(builder, fields_)
        ]

        def address(line: int, column: int) -> Any:
            places = (
                builder.add(index, ir.Constant(index.type, offset))
                for index, offset in ((lane_, line), (at_, column))
            )
            return entry_address(context, builder, sig.args[0], out_, *places)

        if not wide_:
            for column, value in enumerate(values):
                builder.store(value, address(0, column))
            return context.get_dummy_value()
        for first in firsts:
            rows = _transposed(builder, values[first : first + WIDTH])
            for line, row in enumerate(rows):
                to = builder.bitcast(address(line, first), narrow.as_pointer())
                builder.store(row, to, align=4)
        return context.get_dummy_value()

    mask = MASKS if wide_ else types.boolean
    each = types.UniTuple(FLOATS if wide_ else types.float64, count)
    return types.none(out, types.intp, types.intp, mask, each), lower


wide: Any = _wide
"""wide() -> WIDTH zeros: the `like` of a simulator's tile."""
load: Any = _load
"""load(tile, row, lane, like) -> Floats: a row of the lanes from `lane` on."""
store: Any = _store
"""store(tile, row, lane, floats): the inverse of load."""
load_words: Any = _load_words
"""load_words(words, lane, like) -> Ints: uint64[lanes] of the lanes from `lane` on."""
gather: Any = _gather
"""gather(table, row, columns) -> Floats: one row of a table at another column in each lane."""
gather_line: Any = _gather_line
"""gather_line(line, places) -> Floats: the same of a one-dimensional array."""
choose: Any = _choose
"""choose(masks, yes, no): lane by lane; both are computed."""
any_lane: Any = _any_lane
"""any_lane(masks) -> bool."""
square_root: Any = _square_root
"""square_root(floats) -> Floats, correctly rounded."""
bits_of: Any = _bits_of
"""bits_of(floats) -> Ints: the bytes of each float64."""
from_bits: Any = _from_bits
"""from_bits(ints) -> Floats: the inverse of bits_of."""
whole: Any = _whole
"""whole(floats) -> Ints: towards zero; of what an int64 can hold."""
real: Any = _real
"""real(ints) -> Floats."""
store_fields: Any = _store_fields
"""store_fields(out, lane, at, masks, fields): at least WIDTH Floats into the columns from
`at` on of float32[lanes, D], 0 where the mask is not set."""


@inline
def least(x: Floats, y: Floats) -> Floats:
    """The smaller of two, x when one is not a number: min(x, y)."""
    return choose(y < x, y, x)


@inline
def most(x: Floats, y: Floats) -> Floats:
    """The larger of two, x when one is not a number: max(x, y)."""
    return choose(y > x, y, x)
