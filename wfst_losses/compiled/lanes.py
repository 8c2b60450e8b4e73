"""Vectors of a fixed number of lanes for compiled loops, one utterance per lane.

LLVM makes vector instructions of them, of whatever width the machine has; left to itself it would keep the sums of a
short inner loop in memory. What is in one lane makes no difference to another. A row of lanes is `NUM_LANES` numbers in
a row of a flat array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils as numba_cgutils
from numba.extending import intrinsic, models, register_model

cgutils: Any = numba_cgutils
NUM_LANES = 8
"""A vector register of float64 on machines with the widest ones; more is no faster."""


def _operation(define: Callable[..., Any]) -> Any:
    """An operation of compiled code, whose arguments the definition's are not."""
    return intrinsic(define)


class Lanes(types.Type):
    """`NUM_LANES` numbers of one floating type."""

    def __init__(self, element: Any) -> None:
        self.element = element
        super().__init__(name=f"Lanes({element})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, _vector(lanes))  # type: ignore[no-untyped-call]


def _element(lanes: Lanes) -> ir.Type:
    return ir.FloatType() if lanes.element == types.float32 else ir.DoubleType()


def _vector(lanes: Lanes) -> ir.VectorType:
    return ir.VectorType(_element(lanes), NUM_LANES)


def _splat(builder: Any, lanes: Lanes, value: Any) -> Any:
    one = builder.insert_element(ir.Constant(_vector(lanes), ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), NUM_LANES), [0] * NUM_LANES)
    return builder.shuffle_vector(one, ir.Constant(_vector(lanes), ir.Undefined), mask)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, place: Any, lanes: Lanes) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    first = builder.mul(place, ir.Constant(ir.IntType(64), NUM_LANES))
    return builder.bitcast(builder.gep(data, [first]), _vector(lanes).as_pointer())


def _bytes(lanes: Lanes) -> int:
    return 4 if lanes.element == types.float32 else 8


@_operation
def load(_context: Any, array: Any, place: Any) -> Any:
    """Row ``place`` of a flat array of rows of lanes."""
    lanes = Lanes(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        index = context.cast(builder, arguments[1], signature.args[1], types.int64)
        pointer = _pointer(context, builder, signature.args[0], arguments[0], index, lanes)
        return builder.load(pointer, align=_bytes(lanes))

    return lanes(array, place), generate


@_operation
def store(_context: Any, array: Any, place: Any, value: Any) -> Any:
    """Put ``value`` into row ``place``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        index = context.cast(builder, arguments[1], signature.args[1], types.int64)
        pointer = _pointer(context, builder, signature.args[0], arguments[0], index, value)
        builder.store(arguments[2], pointer, align=_bytes(value))
        return context.get_dummy_value()

    return types.none(array, place, value), generate


@_operation
def load_from(_context: Any, array: Any, index: Any) -> Any:
    """The numbers from ``index`` on of a flat array."""
    lanes = Lanes(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_pointer_to(context, builder, signature, arguments, lanes), align=_bytes(lanes))

    return lanes(array, index), generate


@_operation
def store_from(_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Put ``value`` where ``index`` begins."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _pointer_to(context, builder, signature, arguments, value), align=_bytes(value))
        return context.get_dummy_value()

    return types.none(array, index, value), generate


def _pointer_to(context: Any, builder: Any, signature: Any, arguments: Any, lanes: Lanes) -> Any:
    index = context.cast(builder, arguments[1], signature.args[1], types.int64)
    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    return builder.bitcast(builder.gep(data, [index]), _vector(lanes).as_pointer())


@_operation
def spread(_context: Any, number: Any) -> Any:
    """The same number in all lanes."""
    lanes = Lanes(number)

    def generate(_generator: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _splat(builder, lanes, arguments[0])

    return lanes(number), generate


@_operation
def multiply_add(_context: Any, factor: Any, value: Any, addend: Any) -> Any:
    """``factor * value + addend``, one rounding; the factor is a number or lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first = arguments[0]
        if not isinstance(signature.args[0], Lanes):
            first = _splat(builder, value, context.cast(builder, first, signature.args[0], value.element))
        return _fused(builder, value, first, arguments[1], arguments[2])

    return value(factor, value, addend), generate


@_operation
def weighted_sum(_context: Any, begin: Any, end: Any, places: Any, weights: Any, table: Any) -> Any:
    """``sum of weights[k] * table[places[k]] for k in begin..end-1``, even and odd terms apart; rows of lanes.

    Its loop is written out: in a function of its own numba would count references to the arrays at every call.
    """
    lanes = Lanes(table.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first, last = (
            context.cast(builder, argument, given, types.int64)
            for argument, given in zip(arguments[:2], signature.args[:2])  # noqa: B905 (of one length)
        )
        int64, vector = ir.IntType(64), _vector(lanes)
        data = [
            context.make_array(given)(context, builder, argument).data
            for argument, given in zip(arguments[2:5], signature.args[2:5])  # noqa: B905
        ]
        sums = [cgutils.alloca_once_value(builder, ir.Constant(vector, None)) for _ in range(2)]

        def add_term(index: Any, total: Any) -> None:
            place = builder.sext(builder.load(builder.gep(data[0], [index])), int64)
            offset = builder.mul(place, ir.Constant(int64, NUM_LANES))
            row = builder.bitcast(builder.gep(data[2], [offset]), vector.as_pointer())
            weight = _splat(builder, lanes, builder.load(builder.gep(data[1], [index])))
            value = builder.load(row, align=_bytes(lanes))
            builder.store(_fused(builder, lanes, weight, value, builder.load(total)), total)

        one = ir.Constant(int64, 1)
        count = builder.sub(last, first)
        with cgutils.for_range(builder, builder.ashr(count, one)) as loop:
            index = builder.add(first, builder.shl(loop.index, one))
            add_term(index, sums[0])
            add_term(builder.add(index, one), sums[1])
        with builder.if_then(cgutils.is_true(builder, builder.and_(count, one))):
            add_term(builder.sub(last, one), sums[0])
        return builder.fadd(builder.load(sums[0]), builder.load(sums[1]))

    return lanes(begin, end, places, weights, table), generate


@_operation
def widened(_context: Any, value: Any) -> Any:
    """The same numbers as float64."""

    def generate(_generator: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        if value.element == types.float64:
            return arguments[0]
        return builder.fpext(arguments[0], _vector(Lanes(types.float64)))

    return Lanes(types.float64)(value), generate


@_operation
def largest(_context: Any, value: Any) -> Any:
    """The largest number of the lanes; NaN is not larger than anything."""

    def generate(_generator: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        found, int32 = arguments[0], ir.IntType(32)
        for distance in (4, 2, 1):
            turned = [(lane + distance) % NUM_LANES for lane in range(NUM_LANES)]
            mask = ir.Constant(ir.VectorType(int32, NUM_LANES), turned)
            found = _larger(builder, builder.shuffle_vector(found, found, mask), found, value)
        return builder.extract_element(found, ir.Constant(int32, 0))

    return value.element(value), generate


def _fused(builder: Any, lanes: Lanes, factor: Any, value: Any, addend: Any) -> Any:
    vector = _vector(lanes)
    name = f"llvm.fma.v{NUM_LANES}f{8 * _bytes(lanes)}"
    fused = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
    return builder.call(fused, [factor, value, addend])


def _binary(name: str, build: Callable[[Any, Any, Any, Lanes], Any]) -> Any:
    def define(_context: Any, left: Any, right: Any) -> Any:
        def generate(_generator: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return build(builder, arguments[0], arguments[1], left)

        return left(left, right), generate

    define.__name__ = define.__qualname__ = name
    return _operation(define)


def _larger(builder: Any, left: Any, right: Any, _lanes: Lanes) -> Any:
    return builder.select(builder.fcmp_ordered(">", left, right), left, right)


add = _binary("add", lambda builder, left, right, _lanes: builder.fadd(left, right))
multiply = _binary("multiply", lambda builder, left, right, _lanes: builder.fmul(left, right))
larger = _binary("larger", _larger)
