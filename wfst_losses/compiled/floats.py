"""Bit-level arithmetic that numba has no words for and LLVM vectorises: powers of two and exponentials."""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from wfst_losses.compiled import compiled_inline

LOG2_E = 1.0 / math.log(2.0)
_MAGIC32 = 1.5 * 2.0**23 + 127
_MAGIC64 = 1.5 * 2.0**52
_MAGIC64_BITS = 0x4338000000000000
# ln(2) in two parts: products of the first with whole numbers to 127 are exact.
_LN2_HIGH = 0.693359375
_LN2_LOW = math.log(2.0) - _LN2_HIGH


def _bitcast(source: Any, target: Any, ir_type: Any) -> Any:
    def define(_context: Any, argument: Any) -> Any:
        if argument != source:
            return None

        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], ir_type)

        return target(source), generate

    return intrinsic(define)


float_of_bits = _bitcast(types.int64, types.float64, ir.DoubleType())
bits_of_float = _bitcast(types.float64, types.int64, ir.IntType(64))


def _define_power_of_shifted32(_context: Any, argument: Any) -> Any:
    """``2^n`` of a float32 ``n + _MAGIC32``, 0 for n = -127: numba would widen these integers to 64 bits."""
    if argument != types.float32:
        return None

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        int32 = ir.IntType(32)
        bits = builder.bitcast(arguments[0], int32)
        return builder.bitcast(builder.shl(bits, ir.Constant(int32, 23)), ir.FloatType())

    return types.float32(types.float32), generate


_power_of_shifted32: Any = intrinsic(_define_power_of_shifted32)


@compiled_inline
def power_of_two(exponent: int) -> float:
    """``2^exponent`` for -1022..1023, 0 below."""
    clamped = max(exponent, -1023)
    return float_of_bits((clamped + 1023) << 52)  # type: ignore[no-any-return]


@compiled_inline
def exponent_of(value: float) -> int:
    """The binary exponent of a normal number."""
    return ((bits_of_float(value) >> 52) & 0x7FF) - 1023  # type: ignore[no-any-return]


@compiled_inline
def split_power(y: float) -> tuple[float, int]:
    """``2^y`` as mantissa in [0.7, 1.42] and exponent, to 1e-15, for |y| < 2^50. Branch-free."""
    shifted = y + _MAGIC64
    exponent = bits_of_float(shifted) - _MAGIC64_BITS
    f = (y - (shifted - _MAGIC64)) * 0.6931471805599453
    p = 1.0 / 479001600.0
    p = p * f + 1.0 / 39916800.0
    p = p * f + 1.0 / 3628800.0
    p = p * f + 1.0 / 362880.0
    p = p * f + 1.0 / 40320.0
    p = p * f + 1.0 / 5040.0
    p = p * f + 1.0 / 720.0
    p = p * f + 1.0 / 120.0
    p = p * f + 1.0 / 24.0
    p = p * f + 1.0 / 6.0
    p = p * f + 0.5
    p = p * f + 1.0
    return p * f + 1.0, exponent


@compiled_inline
def exp64(x: float) -> float:
    """``e^x`` for x <= 0, 0 below -708, NaN for NaN."""
    mantissa, exponent = split_power(max(x, -745.0) * LOG2_E)
    value = mantissa * power_of_two(exponent)
    return value if x == x else x  # noqa: PLR0124 (NaN is the number that differs from itself)


@compiled_inline
def exp32(x: Any) -> float:
    """``e^x`` in float32 for x <= 0, 0 below -87.7, NaN for NaN; relative error 1e-7, on average 1e-10."""
    # There n is -127, and its power of two 0. NaN stays: it is not smaller.
    x = max(x, types.float32(-88.02))
    shifted = x * types.float32(LOG2_E) + types.float32(_MAGIC32)
    n = shifted - types.float32(_MAGIC32)
    f = x - n * types.float32(_LN2_HIGH)
    f = f - n * types.float32(_LN2_LOW)
    # The polynomial 1 + f + f^2 q(f) whose largest relative error over |f| <= ln(2) / 2 is least, 3e-9.
    p = types.float32(0.0013814598476916075)
    p = p * f + types.float32(0.008368717016967517)
    p = p * f + types.float32(0.04166838805800838)
    p = p * f + types.float32(0.1666652063053255)
    p = p * f + types.float32(0.49999993447713725)
    p = p * f + types.float32(1.0)
    p = p * f + types.float32(1.0)
    return p * _power_of_shifted32(shifted)  # type: ignore[no-any-return]


def exponential(x: Any) -> Any:
    """``e^x`` for x <= 0 in the precision of x, 0 where that underflows, NaN for NaN. For compiled code only."""
    raise NotImplementedError


@overload(exponential, jit_options={"fastmath": {"contract"}})
def _exponential(x: Any) -> Any:
    def single(x: Any) -> float:
        return exp32(x)

    def double(x: Any) -> float:
        return exp64(x)

    return single if x == types.float32 else double
