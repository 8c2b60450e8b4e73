"""Vectors of a fixed number of lanes for compiled loops, one utterance per lane.

LLVM makes vector instructions of them, of whatever width the machine has; left to itself it would keep the sums of a
short inner loop in memory. A lane's arithmetic is the same whatever the number of lanes and whatever is in the others.
The number is part of the type: loops get it as a tuple of that length, see `width_of`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

Width: TypeAlias = "tuple[np.uint8, ...]"


class Lanes(types.Type):
    """``count`` numbers of one floating type."""

    def __init__(self, element: Any, count: int) -> None:
        self.element, self.count = element, count
        super().__init__(name=f"Lanes({element}, {count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, _vector(lanes))


def width_of(count: int) -> Width:
    """The argument that tells compiled loops to take ``count`` lanes."""
    return (np.uint8(0),) * count


def _element(lanes: Lanes) -> ir.Type:
    return ir.FloatType() if lanes.element == types.float32 else ir.DoubleType()


def _vector(lanes: Lanes) -> ir.VectorType:
    return ir.VectorType(_element(lanes), lanes.count)


def _splat(builder: Any, lanes: Lanes, value: Any) -> Any:
    one = builder.insert_element(ir.Constant(_vector(lanes), ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes.count), [0] * lanes.count)
    return builder.shuffle_vector(one, ir.Constant(_vector(lanes), ir.Undefined), mask)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, place: Any, lanes: Lanes) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    first = builder.mul(place, ir.Constant(ir.IntType(64), lanes.count))
    return builder.bitcast(builder.gep(data, [first]), _vector(lanes).as_pointer())


def _bytes(lanes: Lanes) -> int:
    return 4 if lanes.element == types.float32 else 8


@intrinsic
def load(_context: Any, array: Any, place: Any, width: Any) -> Any:
    """Row ``place`` of a flat array of rows of lanes."""
    lanes = Lanes(array.dtype, width.count)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        index = context.cast(builder, arguments[1], signature.args[1], types.int64)
        pointer = _pointer(context, builder, signature.args[0], arguments[0], index, lanes)
        return builder.load(pointer, align=_bytes(lanes))

    return lanes(array, place, width), generate


@intrinsic
def store(_context: Any, array: Any, place: Any, value: Any) -> Any:
    """Put ``value`` into row ``place``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        index = context.cast(builder, arguments[1], signature.args[1], types.int64)
        pointer = _pointer(context, builder, signature.args[0], arguments[0], index, value)
        builder.store(arguments[2], pointer, align=_bytes(value))
        return context.get_dummy_value()

    return types.none(array, place, value), generate


@intrinsic
def spread(_context: Any, number: Any, width: Any) -> Any:
    """The same number in all lanes."""
    lanes = Lanes(number, width.count)

    def generate(_generator: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _splat(builder, lanes, arguments[0])

    return lanes(number, width), generate


@intrinsic
def multiply_add(_context: Any, factor: Any, value: Any, addend: Any) -> Any:
    """``factor * value + addend``, one rounding; the factor is a number or lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first = arguments[0]
        if not isinstance(signature.args[0], Lanes):
            first = _splat(builder, value, context.cast(builder, first, signature.args[0], value.element))
        vector = _vector(value)
        name = f"llvm.fma.v{value.count}f{8 * _bytes(value)}"
        fused = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
        return builder.call(fused, [first, arguments[1], arguments[2]])

    return value(factor, value, addend), generate


def _binary(name: str, build: Callable[[Any, Any, Any, Lanes], Any]) -> Any:
    def define(_context: Any, left: Any, right: Any) -> Any:
        def generate(_generator: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return build(builder, arguments[0], arguments[1], left)

        return left(left, right), generate

    define.__name__ = define.__qualname__ = name
    return intrinsic(define)


def _larger(builder: Any, left: Any, right: Any, _lanes: Lanes) -> Any:
    return builder.select(builder.fcmp_ordered(">", left, right), left, right)


add = _binary("add", lambda builder, left, right, _lanes: builder.fadd(left, right))
multiply = _binary("multiply", lambda builder, left, right, _lanes: builder.fmul(left, right))
larger = _binary("larger", _larger)

__all__ = ["Lanes", "add", "larger", "load", "multiply", "multiply_add", "spread", "store", "width_of"]
