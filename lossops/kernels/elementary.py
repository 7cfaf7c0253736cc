"""Logarithm and exponential without branches, so that loops over rows compile to vector instructions.

Numba has no vector library for ``math.log`` and ``math.exp``, each of which costs a call. These are within 1 ulp of the
true result, give the same bits on every machine, alone and in a vector, and take a fraction of the time. Logarithms are
reduced and approximated as in Sun's fdlibm (``e_log.c``, ``s_log1p.c``, 1993), exponentials by their series.

From Python they run the same compiled code.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from lossops.kernels.exact import bits_of, fma
from lossops.kernels.jit import inline, jit

__all__ = ["exp", "log", "log1p", "pick"]

# ln 2 in two parts: the first has so few bits that its product with an exponent is exact.
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_PER_LN2 = 1.44269504088896338700e00
# ln((1 + s)/(1 - s)) = 2 s + s R(s^2), R(z) = z (c0 + c1 z + ...), for z up to 0.0295; error below 2**-58.45
_LOG = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)
# e^r = 1 + r + r^2 (1/2! + r/3! + ...), for |r| up to ln(2)/2; error below 2**-57
_EXP = tuple(1.0 / math.factorial(n) for n in range(2, 14))
_TO_WHOLE = 1.5 * 2.0**52  # added to a float64 below 2**51, it leaves the nearest whole number in the last bits
_WHOLE_BITS = np.int64(np.float64(_TO_WHOLE).view(np.int64))
_TO_FLOAT = np.int64(np.float64(2.0**52).view(np.int64))  # with a whole number in its last bits: that much more
_ROOT_HALF_BITS = np.int64(0x3FE6A09E667F3BCD)
_TO_ONE = np.int64(0x3FF0000000000000) - _ROOT_HALF_BITS
_FRACTION = np.int64((1 << 52) - 1)
_SMALLEST_NORMAL = 2.2250738585072014e-308
_TWO_54 = 2.0**54
_NEAR_LOW, _NEAR_HIGH = math.sqrt(0.5) - 1.0, math.sqrt(2.0) - 1.0
_EXP_LOW, _EXP_HIGH = -746.0, 710.0  # beyond, e**x is 0 or infinite


@intrinsic  # type: ignore[untyped-decorator]
def _float_of(typing_context: Any, bits: Any) -> Any:
    """Return the float64 that 64 bits stand for."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _select(typing_context: Any, condition: Any, one: Any, other: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(*arguments)

    return types.float64(types.boolean, types.float64, types.float64), generate


def pick(condition: bool, one: float, other: float) -> float:
    """Return one number or the other; both are computed, so that a loop has no branch."""
    return one if condition else other


@overload(pick, inline="always")  # type: ignore[untyped-decorator]
def _(condition: bool, one: float, other: float) -> Any:
    def select(condition: bool, one: float, other: float) -> float:
        found: float = _select(condition, one, other)
        return found

    return select


@inline
def _log_of_sum(k: Any, f: float, rest: float) -> float:
    """K ln 2 + ln(1 + f) + rest, for sqrt(1/2) - 1 <= f <= sqrt(2) - 1 and a small rest."""
    s = f / (2.0 + f)
    z = s * s
    series = _LOG[6]
    for n in range(5, -1, -1):
        series = fma(series, z, _LOG[n])
    # ln(1 + f) = f - s (f - R): what is subtracted is small beside f, and so are its roundings.
    less = fma(s, fma(-z, series, f), fma(k, -_LN2_LOW, -rest))
    total: float = fma(k, _LN2_HIGH, f - less)
    return total


@inline
def _reduced(x: float) -> Any:
    """Return k and f with x = 2**k (1 + f), for a normal x > 0."""
    moved = np.int64(bits_of(x)) + _TO_ONE
    k = _float_of(_halved(moved, 52) | _TO_FLOAT) - (2.0**52 + 1023.0)
    return k, _float_of((moved & _FRACTION) + _ROOT_HALF_BITS) - 1.0


@inline
def _halved(number: Any, times: int) -> Any:
    """A whole number that is not negative, halved so many times: vectors have no shift for others."""
    return np.int64(np.uint64(number) >> np.uint64(times))


def _branch_free_log(x: float) -> float:
    is_small = x < _SMALLEST_NORMAL
    k, f = _reduced(pick(is_small, x * _TWO_54, x))
    found = _log_of_sum(pick(is_small, k - 54.0, k), f, 0.0)
    found = pick(x < math.inf, found, x)
    return pick(x > 0.0, found, pick(x == 0.0, -math.inf, math.nan))


def _branch_free_log1p(x: float) -> float:
    total = 1.0 + x
    k, f = _reduced(total)
    lost = pick(total >= 2.0, 1.0 - (total - x), x - (total - 1.0)) / total
    is_near = (x > _NEAR_LOW) & (x < _NEAR_HIGH)
    found = _log_of_sum(pick(is_near, 0.0, k), pick(is_near, x, f), pick(is_near, 0.0, lost))
    found = pick(x < math.inf, found, x)
    return pick(x > -1.0, found, pick(x == -1.0, -math.inf, math.nan))


def _branch_free_exp(x: float) -> float:
    limited = min(max(x, _EXP_LOW), _EXP_HIGH)
    moved = fma(limited, _PER_LN2, _TO_WHOLE)
    whole = moved - _TO_WHOLE
    high, low = fma(whole, -_LN2_HIGH, limited), whole * _LN2_LOW
    r = high - low
    series = _EXP[11]
    for n in range(10, -1, -1):
        series = fma(series, r, _EXP[n])
    found = 1.0 + (fma(r * r, series, (high - r) - low) + r)
    k = np.int64(bits_of(moved)) - _WHOLE_BITS
    half = _halved(k + 2048, 1) - 1024  # in two steps, because 2**k may be no float64 where the result is
    found = found * _power(half) * _power(k - half)
    return pick(x == x, found, x)  # noqa: PLR0124 - NaN


@inline
def _power(k: Any) -> float:
    """2**k, for -1022 <= k <= 1023."""
    power: float = _float_of((k + 1023) << 52)
    return power


_compiled_log, _compiled_log1p, _compiled_exp = jit(_branch_free_log), jit(_branch_free_log1p), jit(_branch_free_exp)


def log(x: float) -> float:
    """Return ln x: -infinity at 0, NaN below. Error: at most 1 ulp."""
    return float(_compiled_log(float(x)))


@overload(log, inline="always")  # type: ignore[untyped-decorator]
def _(x: float) -> Any:
    return _branch_free_log


def log1p(x: float) -> float:
    """Return ln(1 + x): -infinity at -1, NaN below. Error: at most 1 ulp."""
    return float(_compiled_log1p(float(x)))


@overload(log1p, inline="always")  # type: ignore[untyped-decorator]
def _(x: float) -> Any:
    return _branch_free_log1p


def exp(x: float) -> float:
    """Return e**x: 0 below about -745, infinity above about 709.8. Error: at most 1 ulp."""
    return float(_compiled_exp(float(x)))


@overload(exp, inline="always")  # type: ignore[untyped-decorator]
def _(x: float) -> Any:
    return _branch_free_exp
