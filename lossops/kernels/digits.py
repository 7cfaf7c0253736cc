"""Sums of the digits of many float64, eight of them at a time; see `lossops.kernels.exact` for digits.

A digit of a number is what truncation at its unit leaves, less what truncation at the unit above it leaves; both are
exact. A digit has at most 26 bits, so float64 hold the sums of millions. The highest digit that any has is that of the
largest number, so ``DIGITS`` digits from there keep all that a state does.

Functions here take addresses of float64, between ``SMALLEST`` and ``LARGEST`` where their digits are summed, and read
up to seven numbers behind the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lossops.kernels.exact import DIGIT_BITS, DIGITS, EXPONENT_BIAS, top_of
from lossops.kernels.jit import inline
from lossops.kernels.vectors import (
    EIGHT,
    EIGHT_LONG,
    LONG,
    PLACES,
    REAL,
    VECTOR,
    call,
    every,
    keep,
    number_at,
    pointer,
    reduce,
    spread,
    total,
)

__all__ = ["LARGEST", "SMALLEST", "largest_of", "sum_digits", "survey"]

SMALLEST, LARGEST = 1e-100, 1e300
_FEW = 8  # numbers, of which the digits of one are found together
_HIGHEST = 80  # position, above those of all numbers
_SCALES = np.ldexp(1.0, EXPONENT_BIAS - DIGIT_BITS * np.arange(_HIGHEST, 13, -1))
_UNITS = 1.0 / _SCALES
_DIGIT = every(-float(1 << DIGIT_BITS))

_Body = Callable[[Any, Any], None]  # for a place in the run, and which of eight numbers from there are of it, or None


def _each_eight(builder: Any, count: Any, body: _Body) -> None:
    """Handle the numbers of a run, eight at a time; the last ones with a mask."""
    whole = builder.and_(count, ir.Constant(LONG, -VECTOR))
    with cgutils.for_range_slice(builder, ir.Constant(LONG, 0), whole, ir.Constant(LONG, VECTOR)) as (place, _):
        body(place, None)
    with builder.if_then(builder.icmp_signed("<", whole, count)):
        rest = spread(builder, builder.sub(count, whole))
        body(whole, builder.icmp_signed("<", ir.Constant(EIGHT_LONG, list(range(VECTOR))), rest))


def _load(builder: Any, address: Any, place: Any, mask: Any) -> Any:
    """Eight numbers of a run; 0 for those that are not of it."""
    found = builder.load(pointer(builder, address, place, EIGHT), align=8)
    return found if mask is None else builder.select(mask, found, every(0.0))


class _Lanes:
    """Sums of the digits of terms, eight sums for each digit."""

    def __init__(self, builder: Any, scales: Any, units: Any) -> None:
        self.builder = builder
        self.sums = [cgutils.alloca_once_value(builder, every(0.0)) for _ in range(DIGITS)]
        self.scales, self.units = ([number_at(builder, one, k) for k in range(DIGITS)] for one in (scales, units))

    def add(self, terms: Any, first: int, stop: int, above: Any = None) -> Any:
        """Add some digits of terms, of which truncation above the first leaves ``above``; return what it last left."""
        for k in range(first, stop):
            whole = call(self.builder, "trunc", self.builder.fmul(terms, self.scales[k]))
            digit = whole if above is None else call(self.builder, "fma", above, _DIGIT, whole)
            self.builder.store(self.builder.fadd(self.builder.load(self.sums[k]), digit), self.sums[k])
            above = whole
        return above

    def add_all(self, terms: Any, usual: int) -> None:
        """Add all digits; those after the usual ones where any of the terms has them."""
        whole = self.add(terms, 0, usual)
        rest = self.builder.fcmp_unordered("!=", self.builder.fmul(whole, self.units[usual - 1]), terms)
        some = self.builder.bitcast(rest, ir.IntType(VECTOR))
        with self.builder.if_then(self.builder.icmp_unsigned("!=", some, ir.Constant(some.type, 0))):
            self.add(terms, usual, DIGITS, whole)

    def write(self, out: Any) -> None:
        """Write the sum of each digit to an array at an address."""
        for k, one in enumerate(self.sums):
            place = pointer(self.builder, out, ir.Constant(LONG, k), REAL)
            self.builder.store(total(self.builder, self.builder.load(one)), place)


def _digits(builder: Any, value: Any, scales: Any) -> Any:
    """All digits of one number."""
    whole = call(builder, "trunc", builder.fmul(spread(builder, value), scales))
    above = builder.shuffle_vector(whole, every(0.0), ir.Constant(PLACES, [VECTOR, *range(VECTOR - 1)]))
    return call(builder, "fma", above, _DIGIT, whole)


def _sum_one_by_one(builder: Any, parts: Sequence[Any], count: Any, scales: Any, out: Any) -> None:
    every_scale = builder.load(pointer(builder, scales, ir.Constant(LONG, 0), EIGHT), align=8)
    kept = cgutils.alloca_once_value(builder, every(0.0))
    with cgutils.for_range(builder, count) as row:
        for part in parts:
            digits = _digits(builder, builder.load(pointer(builder, part, row.index, REAL)), every_scale)
            builder.store(builder.fadd(builder.load(kept), digits), kept)
    builder.store(builder.load(kept), pointer(builder, out, ir.Constant(LONG, 0), EIGHT), align=8)


def _sum_by_eight(builder: Any, parts: Sequence[Any], count: Any, scales: Any, units: Any, out: Any) -> None:
    lanes, (high, *low) = _Lanes(builder, scales, units), parts

    def add(*where: Any) -> None:
        lanes.add_all(_load(builder, high, *where), 5 if low else 4)  # squares reach down twice as far
        for part in low:
            lanes.add(_load(builder, part, *where), 1, DIGITS)

    _each_eight(builder, count, add)
    lanes.write(out)


def _sum_parts(builder: Any, parts: Sequence[Any], count: Any, scales: Any, units: Any, out: Any) -> None:
    """Write the digits of numbers and of what they have lost, if that is given; all but the count are addresses."""
    is_few = builder.icmp_signed("<=", count, ir.Constant(LONG, _FEW))
    with builder.if_else(is_few) as (few, many):
        with few:
            _sum_one_by_one(builder, parts, count, scales, out)
        with many:
            _sum_by_eight(builder, parts, count, scales, units, out)


@intrinsic  # type: ignore[untyped-decorator]
def _sum_numbers(typing_context: Any, numbers: Any, count: Any, scales: Any, units: Any, out: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        numbers, *rest = arguments
        _sum_parts(builder, [numbers], *rest)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5), generate


@intrinsic  # type: ignore[untyped-decorator]
def _sum_pairs(typing_context: Any, high: Any, low: Any, count: Any, scales: Any, units: Any, out: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        high, low, *rest = arguments
        _sum_parts(builder, [high, low], *rest)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6), generate


@intrinsic  # type: ignore[untyped-decorator]
def largest_of(typing_context: Any, numbers: Any, count: Any) -> Any:
    """The largest magnitude of a run of numbers at an address, none of which is NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        numbers, count = arguments
        kept = cgutils.alloca_once_value(builder, every(0.0))

        def look(*where: Any) -> None:
            keep(builder, ">", kept, call(builder, "fabs", _load(builder, numbers, *where)))

        _each_eight(builder, count, look)
        return reduce(builder, "fmax", builder.load(kept))

    return types.float64(types.intp, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def survey(typing_context: Any, losses: Any, count: Any) -> Any:
    """How many losses of a run at an address are numbers, the smallest and the largest of them."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        losses, count = arguments
        scored = cgutils.alloca_once_value(builder, every(0.0))
        low, high = (cgutils.alloca_once_value(builder, every(end)) for end in (math.inf, -math.inf))

        def note(place: Any, mask: Any) -> None:
            found = builder.load(pointer(builder, losses, place, EIGHT), align=8)
            asked = builder.fcmp_ordered("ord", found, found)
            asked = asked if mask is None else builder.and_(asked, mask)
            builder.store(builder.fadd(builder.load(scored), builder.select(asked, every(1.0), every(0.0))), scored)
            keep(builder, "<", low, builder.select(asked, found, every(math.inf)))
            keep(builder, ">", high, builder.select(asked, found, every(-math.inf)))

        _each_eight(builder, count, note)
        ends = reduce(builder, "fmin", builder.load(low)), reduce(builder, "fmax", builder.load(high))
        # With zero added none is -0, which may be equal to 0 and first.
        found = total(builder, builder.load(scored)), *(builder.fadd(end, ir.Constant(REAL, 0.0)) for end in ends)
        return context.make_tuple(builder, signature.return_type, found)

    return types.UniTuple(types.float64, 3)(types.intp, types.intp), generate


@inline
def sum_digits(high: Any, low: Any, first: int, count: int, size: float, out: Any) -> None:
    """Write the sums of the digits of numbers from the position of the highest on, which is that of the largest.

    Args:
        high: float64 [numbers + 7].
        low: the same, what each has lost by rounding, less than 2**-50 of it; empty where that is nothing.
        first, count: which of them.
        size: the largest magnitude.
        out: float64 [8], of which the first ``DIGITS`` are written.
    """
    at = 8 * (_HIGHEST - top_of(size))
    scales, units = _SCALES.ctypes.data + at, _UNITS.ctypes.data + at
    if low.shape[0] > 0:
        _sum_pairs(high[first:].ctypes.data, low[first:].ctypes.data, count, scales, units, out.ctypes.data)
    else:
        _sum_numbers(high[first:].ctypes.data, count, scales, units, out.ctypes.data)
