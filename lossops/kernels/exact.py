"""Sums that do not depend on the order of their terms.

A float64 is an integer of 53 bits times a power of two. The real line is cut into digits of ``DIGIT_BITS`` bits at
fixed absolute positions; a sum keeps, for each of the ``DIGITS`` highest positions in use, the plain int64 sum of
what its terms have there. Integer addition is associative and a digit's position is fixed by the term alone, so
every order, cut and merge of the same terms gives the same integers (the idea of the binned accumulator of Ahrens,
Demmel and Nguyen, ACM TOMS 46(3), 2020, in integers). What lies more than 130 bits below the largest term is
dropped, for every order alike.

A sum is ``digits[0..DIGITS)`` (highest first) and ``top``, the position of ``digits[0]``: its value is
``sum(digits[k] * 2**(DIGIT_BITS * (top - k) - EXPONENT_BIAS))``. A digit holds at least 2**37 terms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lossops.kernels.jit import inline, jit

__all__ = [
    "DIGITS",
    "DIGIT_BITS",
    "EMPTY_TOP",
    "EXPONENT_BIAS",
    "MAX_TERMS",
    "add_term",
    "bits_of",
    "fma",
    "merge_sums",
    "raise_top",
    "top_of",
    "two_product",
]

DIGIT_BITS = 26
DIGITS = 6
EXPONENT_BIAS = 1075  # a normal float64 is mantissa * 2**(exponent field - 1075)
EMPTY_TOP = -1  # below the position of every term
MAX_TERMS = 1 << (63 - DIGIT_BITS)

_DIGIT_MASK = np.uint64((1 << DIGIT_BITS) - 1)
_MANTISSA_MASK = np.uint64((1 << 52) - 1)
_HIDDEN_BIT = np.uint64(1 << 52)
_WIDTH = np.uint64(DIGIT_BITS)
_FIELD_SHIFT = np.uint64(52)
_FIELD_MASK = np.uint64(0x7FF)
_SIGN_SHIFT = np.uint64(63)


@intrinsic  # type: ignore[untyped-decorator]
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """Return ``a * b + c`` with one rounding."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float64(types.float64, types.float64, types.float64), generate


@intrinsic  # type: ignore[untyped-decorator]
def bits_of(typing_context: Any, value: Any) -> Any:
    """Return the 64 bits of a float64 as an unsigned integer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.uint64(types.float64), generate


@inline
def two_product(a: float, b: float) -> tuple[float, float]:
    """Return ``a * b`` as an unevaluated sum of two float64, exact barring underflow."""
    high = a * b
    return high, fma(a, b, -high)


@inline
def add_term(value: float, digits: Any, tops: Any, group: int, column: int) -> None:
    """Add one finite float64 to the sum at ``[group, column]``.

    Args:
        value: finite; zero adds nothing.
        digits: int64 [groups, columns, DIGITS].
        tops: int64 [groups, columns].
    """
    bits = bits_of(value)
    exponent: Any = np.int64((bits >> _FIELD_SHIFT) & _FIELD_MASK)
    mantissa = bits & _MANTISSA_MASK
    if exponent == 0:
        if mantissa == 0:
            return
        exponent = 1
    else:
        mantissa |= _HIDDEN_BIT
    position = exponent // DIGIT_BITS
    shift = np.uint64(exponent - position * DIGIT_BITS)
    low = np.int64((mantissa << shift) & _DIGIT_MASK)
    rest = mantissa >> (_WIDTH - shift)
    middle = np.int64(rest & _DIGIT_MASK)
    high = np.int64(rest >> _WIDTH)
    if bits >> _SIGN_SHIFT:
        low, middle, high = -low, -middle, -high
    top = position + 2
    if top > tops[group, column]:
        raise_top(digits[group, column], top - tops[group, column])
        tops[group, column] = top
    place = tops[group, column] - top
    if place < DIGITS:
        digits[group, column, place] += high
    if place + 1 < DIGITS:
        digits[group, column, place + 1] += middle
    if place + 2 < DIGITS:
        digits[group, column, place + 2] += low


@inline
def top_of(value: float) -> int:
    """The position of the highest digit of a float64 that is not 0."""
    exponent: Any = np.int64((bits_of(value) >> _FIELD_SHIFT) & _FIELD_MASK)
    position: int = max(exponent, 1) // DIGIT_BITS
    return position + 2


@inline
def raise_top(digits: Any, by: int) -> None:
    """Make room for ``by`` higher digits; as many of the lowest are dropped."""
    for place in range(DIGITS - 1, -1, -1):
        digits[place] = digits[place - by] if place >= by else 0


@jit
def merge_sums(digits: Any, tops: Any, other_digits: Any, other_tops: Any, groups: Any) -> None:
    """Add group ``i`` of the other sums to group ``groups[i]`` of these, in place.

    Args:
        digits, tops: int64 [groups, columns, DIGITS] and [groups, columns].
        other_digits, other_tops: the same with any number of groups.
        groups: int64 [other groups].
    """
    for i in range(groups.shape[0]):
        group = groups[i]
        for column in range(tops.shape[1]):
            top = other_tops[i, column]
            if top > tops[group, column]:
                raise_top(digits[group, column], top - tops[group, column])
                tops[group, column] = top
            lower = tops[group, column] - top
            for place in range(lower, DIGITS):
                digits[group, column, place] += other_digits[i, column, place - lower]
