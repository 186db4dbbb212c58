"""128 to 512-bit unsigned integers as Numba scalars over LLVM's iN, with wrapping operators.

Only kernels that build other types need this file: money kernels import `kernels.numbers.u256`.
Signed machine integers are refused: in Numba `np.uint64(x) + 1` is an int64, and extending its sign
would turn an amount above 2^63 into one near 2^256. Literals that are not negative are accepted.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.typeconv.castgraph import Conversion
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import box, intrinsic, lower_builtin, lower_cast, models, register_model

BIT = ir.IntType(1)
WORD = ir.IntType(64)
_lower_operator: Any = lower_builtin
_type_operator: Any = infer_global


class WideUnsigned(types.Type):
    """Numba type of an unsigned integer of `bits` bits; arithmetic wraps modulo 2^bits."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        super().__init__(name=f"U{bits}")

    def can_convert_from(self, typingctx: Any, other: types.Type) -> Conversion | None:
        if isinstance(other, WideUnsigned):
            return Conversion.safe if other.bits < self.bits else None
        return Conversion.safe if _is_narrow(other) else None


U128 = WideUnsigned(128)
U192 = WideUnsigned(192)
U256 = WideUnsigned(256)
U320 = WideUnsigned(320)
U512 = WideUnsigned(512)


def _is_narrow(operand: Any) -> bool:
    """True for what extends with zeros: unsigned integers, booleans, literals from 0 on."""
    if isinstance(operand, types.IntegerLiteral):
        return operand.literal_value >= 0
    return isinstance(operand, types.Boolean) or (
        isinstance(operand, types.Integer) and not getattr(operand, "signed", True)
    )


@register_model(WideUnsigned)
class _WideModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: WideUnsigned) -> None:
        super().__init__(manager, numba_type, ir.IntType(numba_type.bits))


@lower_cast(types.Integer, WideUnsigned)
@lower_cast(types.Boolean, WideUnsigned)
def _extend_narrow(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    return builder.zext(value, ir.IntType(target.bits))


@lower_cast(types.IntegerLiteral, WideUnsigned)
def _extend_literal(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    return ir.Constant(ir.IntType(target.bits), source.literal_value)


@lower_cast(WideUnsigned, WideUnsigned)
def _resize(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    if source.bits == target.bits:
        return value
    resize = builder.zext if source.bits < target.bits else builder.trunc
    return resize(value, ir.IntType(target.bits))


def _common_type(operands: tuple[Any, ...]) -> WideUnsigned | None:
    """The widest of the wide operands; None when there is none or one is signed."""
    wide = [operand for operand in operands if isinstance(operand, WideUnsigned)]
    if not wide or not all(isinstance(o, WideUnsigned) or _is_narrow(o) for o in operands):
        return None
    return max(wide, key=lambda operand: operand.bits)


def _register_binary(operation: Callable, emit: Callable, result: types.Type | None) -> None:
    class Binary(AbstractTemplate):
        key = operation

        def generic(self, args: tuple[Any, ...], kws: dict) -> Any:
            common = _common_type(args) if len(args) == 2 else None
            return None if common is None else signature(result or common, common, common)

    _type_operator(operation)(Binary)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit(builder, *args)

    _lower_operator(operation, WideUnsigned, WideUnsigned)(lower)


for _operation, _in_place, _name in (
    (operator.add, operator.iadd, "add"),
    (operator.sub, operator.isub, "sub"),
    (operator.mul, operator.imul, "mul"),
    (operator.and_, operator.iand, "and_"),
    (operator.or_, operator.ior, "or_"),
    (operator.xor, operator.ixor, "xor"),
):
    for _key in (_operation, _in_place):
        _register_binary(_key, lambda b, x, y, name=_name: getattr(b, name)(x, y), None)
for _operation, _name in (
    (operator.lt, "<"),
    (operator.le, "<="),
    (operator.gt, ">"),
    (operator.ge, ">="),
    (operator.eq, "=="),
    (operator.ne, "!="),
):
    _register_binary(
        _operation, lambda b, x, y, name=_name: b.icmp_unsigned(name, x, y), types.boolean
    )


def _guarded_shift(builder: Any, emit: Callable, value: Any, count: Any, beyond: Any) -> Any:
    """Shift `value` by the 64-bit `count`; `beyond` from the width on, where LLVM has poison."""
    width = value.type.width
    shifted = emit(value, builder.zext(count, value.type))
    inside = builder.icmp_unsigned("<", count, ir.Constant(WORD, width))
    return builder.select(inside, shifted, beyond)


def _register_shift(operation: Callable, name: str) -> None:
    class Shift(AbstractTemplate):
        key = operation

        def generic(self, args: tuple[Any, ...], kws: dict) -> Any:
            if len(args) == 2 and isinstance(args[0], WideUnsigned) and _is_count(args[1]):
                return signature(args[0], args[0], types.uint64)
            return None

    _type_operator(operation)(Shift)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value, count = args
        beyond = ir.Constant(value.type, 0)
        return _guarded_shift(builder, getattr(builder, name), value, count, beyond)

    _lower_operator(operation, WideUnsigned, types.uint64)(lower)


def _is_count(operand: Any) -> bool:
    """Shift counts may be signed: a negative one is a huge unsigned one, and shifts all out."""
    return isinstance(operand, types.Integer)


for _operation in (operator.lshift, operator.ilshift):
    _register_shift(_operation, "shl")
for _operation in (operator.rshift, operator.irshift):
    _register_shift(_operation, "lshr")


def _register_unary(operation: Callable, name: str) -> None:
    class Unary(AbstractTemplate):
        key = operation

        def generic(self, args: tuple[Any, ...], kws: dict) -> Any:
            wide = len(args) == 1 and isinstance(args[0], WideUnsigned)
            return signature(args[0], args[0]) if wide else None

    _type_operator(operation)(Unary)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, name)(args[0])

    _lower_operator(operation, WideUnsigned)(lower)


_register_unary(operator.invert, "not_")
_register_unary(operator.neg, "neg")


@box(WideUnsigned)
def _to_python(numba_type: WideUnsigned, value: Any, c: Any) -> Any:
    """A kernel that returns a wide integer gives Python an int."""
    count = numba_type.bits // 64
    width = c.pyapi.long_from_ulonglong(ir.Constant(WORD, 64))
    total = c.pyapi.long_from_ulonglong(ir.Constant(WORD, 0))
    for index in range(count - 1, -1, -1):
        shift = ir.Constant(value.type, 64 * index)
        word = c.pyapi.long_from_ulonglong(c.builder.trunc(c.builder.lshr(value, shift), WORD))
        shifted = c.pyapi.number_lshift(total, width)
        c.pyapi.decref(total)
        total = c.pyapi.number_or(shifted, word)
        c.pyapi.decref(shifted)
        c.pyapi.decref(word)
    c.pyapi.decref(width)
    return total


def converter(target: WideUnsigned) -> Any:
    """Build the explicit conversion to `target`: zeros are added, or high bits dropped."""

    @intrinsic(prefer_literal=True)
    def convert(typingctx: Any, value: Any) -> Any:
        if not (isinstance(value, WideUnsigned) or _is_narrow(value)):
            raise TypingError(
                f"u{target.bits}({value}): expected an unsigned or wide integer or a literal from "
                "0 on; convert with np.uint64(...), or use sign_extend for two's complement"
            )

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return context.cast(builder, args[0], value, target)

        return target(value), lower

    return convert


def _llvm_bits(value: Any) -> Any:
    """The wide or machine integer type of `value`, for the intrinsics that take both."""
    if isinstance(value, WideUnsigned | types.Integer):
        return value
    raise TypingError(f"expected an integer, got {value}")


@intrinsic
def _sign_extend(typingctx: Any, value: Any) -> Any:
    """int64 or U128 in two's complement -> U256 in two's complement."""
    _llvm_bits(value)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.sext(args[0], ir.IntType(256))

    return U256(value), lower


@intrinsic
def _low64(typingctx: Any, value: Any) -> Any:
    """The lowest 64 bits as uint64."""
    _llvm_bits(value)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.trunc(args[0], WORD) if args[0].type.width > 64 else args[0]

    return types.uint64(value), lower


@intrinsic
def _limb(typingctx: Any, value: Any, index: Any) -> Any:
    """Limb `index` (0 = least significant) as uint64; 0 beyond the width."""
    if not (isinstance(value, WideUnsigned) and _is_count(index)):
        raise TypingError(f"limb({value}, {index}): expected a wide integer and an integer index")

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        wide, position = args
        limbs = wide.type.width // 64
        # Compared before it is multiplied by 64, which could wrap into the width again.
        inside = builder.icmp_unsigned("<", position, ir.Constant(WORD, limbs))
        count = builder.zext(builder.shl(position, ir.Constant(WORD, 6)), wide.type)
        word = builder.trunc(builder.lshr(wide, count), WORD)
        return builder.select(inside, word, ir.Constant(WORD, 0))

    return types.uint64(value, types.uint64), lower


def from_words(target: WideUnsigned) -> Any:
    """Build the constructor of `target` from its uint64 limbs, least significant first."""
    count = target.bits // 64

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        wide = ir.IntType(target.bits)
        value = builder.zext(args[0], wide)
        for index in range(1, count):
            word = builder.zext(args[index], wide)
            value = builder.or_(value, builder.shl(word, ir.Constant(wide, 64 * index)))
        return value

    def typed(*words: Any) -> Any:
        for word in words:
            if not _is_narrow(word):
                raise TypingError(f"make{target.bits}: expected uint64 limbs, got {word}")
        return target(*(types.uint64,) * count), lower

    if count == 2:

        @intrinsic(prefer_literal=True)
        def make_two(typingctx: Any, low: Any, high: Any) -> Any:
            return typed(low, high)

        return make_two

    @intrinsic(prefer_literal=True)
    def make_four(typingctx: Any, w0: Any, w1: Any, w2: Any, w3: Any) -> Any:
        return typed(w0, w1, w2, w3)

    return make_four


@intrinsic
def _shift_right_arithmetic(typingctx: Any, value: Any, count: Any) -> Any:
    """Shift right in two's complement; from the width on, all bits are the sign."""
    if not (isinstance(value, WideUnsigned) and _is_count(count)):
        raise TypingError(f"shift_right_arithmetic({value}, {count}): expected wide and integer")

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        wide, amount = args
        sign = builder.ashr(wide, ir.Constant(wide.type, wide.type.width - 1))
        return _guarded_shift(builder, builder.ashr, wide, amount, sign)

    return value(value, types.uint64), lower


@intrinsic
def _leading_zeros(typingctx: Any, value: Any) -> Any:
    """Number of zero bits above the highest one, as uint64; the width for zero."""
    _llvm_bits(value)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = args[0].type
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(kind, [kind, BIT]), f"llvm.ctlz.i{kind.width}"
        )
        zeros = builder.call(function, [args[0], ir.Constant(BIT, 0)])
        if kind.width == 64:
            return zeros
        return (builder.trunc if kind.width > 64 else builder.zext)(zeros, WORD)

    return types.uint64(value), lower


@intrinsic
def _word_as_float(typingctx: Any, word: Any) -> Any:
    """Reinterpret the bits of a uint64 as a float64."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.uint64), lower


@intrinsic
def _float_as_word(typingctx: Any, number: Any) -> Any:
    """Reinterpret the bits of a float64 as a uint64."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], WORD)

    return types.uint64(types.float64), lower


# Typed Any: type checkers see the typing functions of intrinsics, not the calls that kernels make.
sign_extend: Any = _sign_extend
low64: Any = _low64
limb: Any = _limb
shift_right_arithmetic: Any = _shift_right_arithmetic
leading_zeros: Any = _leading_zeros
word_as_float: Any = _word_as_float
float_as_word: Any = _float_as_word
u128: Any = converter(U128)
u192: Any = converter(U192)
u256: Any = converter(U256)
u320: Any = converter(U320)
u512: Any = converter(U512)
make128: Any = from_words(U128)
make256: Any = from_words(U256)
