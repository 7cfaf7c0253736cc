"""Adding a block of losses to the groups of many slices at once.

`accumulate` adds each row to one group after the other; here the digits of a row's terms (see `exact`) are laid side
by side once, as lanes of integers, and added to every group that the row is in with a few vector instructions. Both
give the same bits.

A column of sums gets a window of lanes, whose highest is that of the largest term of the whole block. Rows with a
term that reaches below the window, or that is not finite, are left to `accumulate`; there are few of them.

Layout: ``LANES`` lanes of int32 are a packet; a row has one or more packets, with the lanes of all columns, then
two for the counts of scored rows and of scored rows whose prediction was clipped. Sums of lanes are int64
[groups, lanes]: a lane of a row has at most 27 bits, so a block may have 2**36 rows. ``largest`` is float64
[groups, magnitudes]: the largest loss, the largest of the negative losses, and of each column the largest term.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lossops.kernels.accumulate import product_terms, weighted_terms
from lossops.kernels.exact import DIGIT_BITS, DIGITS, EXPONENT_BIAS, raise_top, top_of, two_product
from lossops.kernels.jit import inline, jit

__all__ = [
    "LANES",
    "PLAIN",
    "PRODUCT",
    "WEIGHTED",
    "add_plain",
    "add_products",
    "add_weighted",
    "collect",
    "magnitudes_of",
]

LANES = 16
_SINGLE, _DOUBLE = 5, 8  # lanes of a column of float64, and of one of pairs of them
_HIGH, _LOW = 6, 1  # of a pair the first reaches down to here; the second, 51 bits lower, begins here
_BLOCK = 256  # rows; what a block needs beside its inputs fits the first cache
_SMALLEST, _LARGEST = 1e-100, 1e300  # windows are laid out for terms between
_LARGEST_ROOT = 1e150

# Lanes of each column of a kind of sums; the columns are those of `accumulate`.
PLAIN = (_SINGLE, _DOUBLE)
WEIGHTED = (_DOUBLE, _DOUBLE, _SINGLE, _DOUBLE, _DOUBLE, _DOUBLE)
PRODUCT = (_DOUBLE,)


def _vector(builder: Any, address: Any, kind: Any, size: int) -> Any:
    return builder.inttoptr(address, ir.VectorType(kind, size).as_pointer())


@intrinsic  # type: ignore[untyped-decorator]
def _add_packet(typing_context: Any, totals: Any, packet: Any) -> Any:
    """Add ``LANES`` int32 at one address to as many int64 at another."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target = _vector(builder, arguments[0], ir.IntType(64), LANES)
        lanes = builder.load(_vector(builder, arguments[1], ir.IntType(32), LANES), align=4)
        wide = builder.sext(lanes, ir.VectorType(ir.IntType(64), LANES))
        builder.store(builder.add(builder.load(target, align=8), wide), target, align=8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def _raise_pair(typing_context: Any, largest: Any, found: Any) -> Any:
    """Raise two float64 at one address to those at another where these are larger; NaN is not."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, source = (_vector(builder, address, ir.DoubleType(), 2) for address in arguments)
        old, new = builder.load(target, align=8), builder.load(source, align=8)
        builder.store(builder.select(builder.fcmp_ordered(">", new, old), new, old), target, align=8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def _transpose(typing_context: Any, packets: Any, lanes: Any, step: Any, stride: Any) -> Any:
    """Turn ``LANES`` rows of ``LANES`` int32, ``step`` bytes apart, into columns that are ``stride`` bytes apart."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.VectorType(ir.IntType(32), LANES)
        half = LANES // 2
        masks = [
            ir.Constant(kind, [place for i in range(start, start + half) for place in (i, LANES + i)])
            for start in (0, half)
        ]

        def address(base: Any, step: Any, number: int) -> Any:
            moved = builder.add(base, builder.mul(step, ir.Constant(step.type, number)))
            return _vector(builder, moved, ir.IntType(32), LANES)

        rows = [builder.load(address(arguments[1], arguments[2], i), align=4) for i in range(LANES)]
        for _ in range(LANES.bit_length() - 1):  # each round interleaves the first half with the second
            rows = [builder.shuffle_vector(rows[i], rows[i + half], mask) for i in range(half) for mask in masks]
        for i, row in enumerate(rows):
            builder.store(row, address(arguments[0], arguments[3], i), align=4)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp), generate


def magnitudes_of(kind: tuple[int, ...]) -> int:
    """How many magnitudes are kept of a group, an even number; plain losses tell those of their columns."""
    return 2 if len(kind) <= 2 else 2 + len(kind)


@inline
def _unit(top: int) -> float:
    """What 1 is worth in the digit at a position."""
    return math.ldexp(1.0, DIGIT_BITS * top - EXPONENT_BIAS)


@inline
def _spread(values: Any, rows: int, top: int, start: int, stop: int, lanes: Any, first: int) -> None:
    """Move digits ``start`` to ``stop - 1`` of the values to lanes; what is left of a value lies below them.

    Args:
        values: float64 [block], below the end of the digit at ``top + start``; changed in place.
        rows: of the block.
        top: position of digit 0.
        start, stop: range of digits.
        lanes: int32 [lanes, block], changed in place.
        first: lane of digit 0.
    """
    unit = _unit(top - start)
    for k in range(start, stop):
        inverse = 1.0 / unit
        for j in range(rows):
            digit = np.int32(values[j] * inverse)
            lanes[first + k, j] += digit
            values[j] -= digit * unit
        unit *= 1.0 / (1 << DIGIT_BITS)


@inline
def _scatter(
    lanes: Any, packets: Any, magnitudes: Any, groups: Any, start: int, rows: int, totals: Any, largest: Any
) -> None:
    """Add a block of rows to all of their groups.

    Args:
        lanes: int32 [lanes of a row, block].
        packets: int32 [block, lanes of a row], overwritten.
        magnitudes: float64 [block, an even number].
        groups: int32 [slices, all rows].
        start, rows: of the block.
        totals: int64 [groups, lanes of a row], changed in place.
        largest: float64 [groups, magnitudes], changed in place.
    """
    width, pairs = packets.shape[1], magnitudes.shape[1] // 2
    source, target, raised = packets.ctypes.data, totals.ctypes.data, largest.ctypes.data
    found, wide = magnitudes.ctypes.data, lanes.ctypes.data
    for first in range(0, width, LANES):
        for j in range(0, rows, LANES):
            packet = source + 4 * (j * width + first)
            _transpose(packet, wide + 4 * (first * _BLOCK + j), 4 * _BLOCK, 4 * width)
    for number in range(groups.shape[0]):
        for j in range(rows):
            group = groups[number, start + j]
            for first in range(0, width, LANES):
                _add_packet(target + 8 * (group * width + first), source + 4 * (j * width + first))
            for pair in range(pairs):
                _raise_pair(raised + 16 * (group * pairs + pair), found + 16 * (j * pairs + pair))


@inline
def _set_aside(bad: Any, rows: int, start: int, lanes: Any, magnitudes: Any, odd: Any, count: int) -> int:
    """Take the bad rows of a block out of it; ``odd`` int64 [all rows] gets their places after ``count`` others."""
    for j in range(rows):
        if bad[j]:
            lanes[:, j] = 0
            magnitudes[j] = math.nan
            odd[count] = start + j
            count += 1
    return count


@inline
def _lay(high: Any, low: Any, rows: int, tops: Any, kind: Any, lanes: Any, bad: Any) -> bool:
    """Lay the terms of a block side by side, and say whether any row is bad.

    Args:
        high, low: float64 [columns, block], terms and their rests; changed in place.
        rows: of the block.
        tops, kind: position of the highest digit, and lanes, of each column.
        lanes: int32 [lanes of a row, block], zero for all columns; changed in place.
        bad: bool [block], rows that are left aside; changed in place.
    """
    first, worst = 0, False
    for column in range(high.shape[0]):
        values, rests = high[column], low[column]
        if kind[column] == _SINGLE:
            _spread(values, rows, tops[column], 0, _SINGLE, lanes, first)
        else:
            _spread(values, rows, tops[column], 0, _HIGH, lanes, first)
            _spread(rests, rows, tops[column], _LOW, _DOUBLE, lanes, first)
        first += kind[column]
        for j in range(rows):
            bad[j] |= (values[j] != 0.0) | (rests[j] != 0.0)
    for j in range(rows):
        worst |= bad[j]
    return worst


@inline
def _largest(values: Any, reasons: Any, most: float) -> float:
    """The largest magnitude up to ``most`` of rows to score; 0 if there is none."""
    found = 0.0
    for i in range(values.shape[0]):
        size = abs(values[i])
        found = max(found, size if (reasons[i] == 0) & (size <= most) else 0.0)
    return found


@inline
def _top(size: float) -> int:
    """The position of the highest digit of a window for terms up to this size."""
    return top_of(min(max(size, _SMALLEST), _LARGEST))


@inline
def _buffers(columns: int, lanes: int, magnitudes: int) -> Any:
    """What a block takes: terms, rests, bad rows, lanes, packets, magnitudes."""
    return (
        np.zeros((columns, _BLOCK)),
        np.zeros((columns, _BLOCK)),
        np.empty(_BLOCK, dtype=np.bool_),
        np.zeros((lanes, _BLOCK), dtype=np.int32),
        np.empty((_BLOCK, lanes), dtype=np.int32),
        np.empty((_BLOCK, magnitudes)),
    )


@jit
def add_plain(losses: Any, reasons: Any, clipped: Any, groups: Any, totals: Any, largest: Any, odd: Any) -> Any:
    """Add a block of unweighted losses to their groups in every slice.

    Args:
        losses, reasons, clipped: as for `lossops.kernels.accumulate.add_block`.
        groups: int32 [slices, rows], the groups of all slices numbered through.
        totals: int64 [groups, lanes of a row], changed in place.
        largest: float64 [groups, magnitudes], changed in place.
        odd: int64 [rows], gets the places of the rows that are left.

    Returns:
        How many are left, and the position of the highest digit of each column.
    """
    size = _largest(losses, reasons, _LARGEST_ROOT)
    tops = np.array([_top(size), _top(size * size)])
    high, low, bad, lanes, packets, magnitudes = _buffers(2, totals.shape[1], 2)
    counted, count = _SINGLE + _DOUBLE, 0
    for start in range(0, losses.shape[0], _BLOCK):
        rows = min(_BLOCK, losses.shape[0] - start)
        lanes[:counted] = 0
        for j in range(rows):
            loss, asked = losses[start + j], reasons[start + j] == 0
            fits = asked & (abs(loss) <= size)
            lanes[counted, j] = fits
            lanes[counted + 1, j] = clipped[start + j] & fits
            bad[j] = asked & (not fits)
            high[0, j] = loss if fits else 0.0
        for j in range(rows):
            high[1, j], low[1, j] = two_product(high[0, j], high[0, j])
        for j in range(rows):
            shown = high[0, j] + 0.0 if lanes[counted, j] else math.nan
            magnitudes[j, 0], magnitudes[j, 1] = shown, -shown
        if _lay(high, low, rows, tops, PLAIN, lanes, bad):
            count = _set_aside(bad, rows, start, lanes, magnitudes, odd, count)
        _scatter(lanes, packets, magnitudes, groups, start, rows, totals, largest)
    return count, tops


@jit
def add_weighted(
    losses: Any, weights: Any, reasons: Any, clipped: Any, groups: Any, totals: Any, largest: Any, odd: Any
) -> Any:
    """Add a block of weighted losses to their groups in every slice; the arguments of `add_plain`, and the weights."""
    size, most = _largest(losses, reasons, _LARGEST_ROOT), _largest(weights, reasons, _LARGEST_ROOT)
    product = size * most
    bounds = (product, product * size, most, most * most, product * most, product * product)
    tops = np.array([_top(bound) for bound in bounds])
    high, low, bad, lanes, packets, magnitudes = _buffers(6, totals.shape[1], 8)
    counted, count = 5 * _DOUBLE + _SINGLE, 0
    for start in range(0, losses.shape[0], _BLOCK):
        rows = min(_BLOCK, losses.shape[0] - start)
        lanes[:counted] = 0
        for j in range(rows):
            asked = reasons[start + j] == 0
            loss = losses[start + j] + 0.0 if asked else 0.0
            weight = weights[start + j] if asked else 0.0
            terms = weighted_terms(loss, weight)
            fits = asked & (abs(loss) <= size) & (weight <= most)
            magnitudes[j, 0], magnitudes[j, 1] = (loss, -loss) if asked else (math.nan, math.nan)
            for column in range(6):
                term = abs(terms[column][0])
                fits &= term <= _LARGEST
                magnitudes[j, 2 + column] = term
                high[column, j], low[column, j] = terms[column]
            lanes[counted, j] = fits
            lanes[counted + 1, j] = clipped[start + j] & fits
            bad[j] = asked & (not fits)
            if not fits:
                high[:, j] = low[:, j] = 0.0
        if _lay(high, low, rows, tops, WEIGHTED, lanes, bad):
            count = _set_aside(bad, rows, start, lanes, magnitudes, odd, count)
        _scatter(lanes, packets, magnitudes, groups, start, rows, totals, largest)
    return count, tops


@jit
def add_products(
    losses: Any, baselines: Any, weights: Any, reasons: Any, groups: Any, totals: Any, largest: Any, odd: Any
) -> Any:
    """Add only the products of pairs to their groups in every slice.

    Args:
        losses, baselines, weights, reasons: as for `lossops.kernels.accumulate.add_products`.
        groups, totals, odd: as for `add_plain`.
        largest: float64 [groups, 2], changed in place: the largest product, twice.

    Returns:
        As `add_plain`.
    """
    weighted = weights.shape[0] > 0
    most = _largest(weights, reasons, _LARGEST_ROOT) if weighted else 1.0
    size, other = _largest(losses, reasons, _LARGEST_ROOT), _largest(baselines, reasons, _LARGEST_ROOT)
    bound = min(size * most * (other * most), _LARGEST)
    tops = np.array([_top(bound)])
    high, low, bad, lanes, packets, magnitudes = _buffers(1, totals.shape[1], 2)
    count = 0
    for start in range(0, losses.shape[0], _BLOCK):
        rows = min(_BLOCK, losses.shape[0] - start)
        lanes[:] = 0
        for j in range(rows):
            i = start + j
            product, rest = product_terms(losses[i], baselines[i], weights[i] if weighted else 1.0)
            asked = reasons[i] == 0
            fits = asked & (abs(product) <= bound)
            bad[j] = asked & (not fits)
            high[0, j], low[0, j] = (product, rest) if fits else (0.0, 0.0)
            magnitudes[j, 0] = magnitudes[j, 1] = abs(product) if fits else 0.0
        if _lay(high, low, rows, tops, PRODUCT, lanes, bad):
            count = _set_aside(bad, rows, start, lanes, magnitudes, odd, count)
        _scatter(lanes, packets, magnitudes, groups, start, rows, totals, largest)
    return count, tops


@jit
def collect(totals: Any, sizes: Any, kind: Any, windows: Any, digits: Any, tops: Any) -> None:
    """Add lanes to exact sums, see `exact`.

    Args:
        totals: int64 [groups, lanes of a row].
        sizes: float64 [groups, columns], the largest term.
        kind: int64 [columns], lanes of each.
        windows: int64 [columns], position of the highest.
        digits, tops: int64 [groups, columns, DIGITS] and [groups, columns], changed in place.
    """
    for group in range(totals.shape[0]):
        first = 0
        for column in range(kind.shape[0]):
            if sizes[group, column] > 0.0:
                top = top_of(sizes[group, column])
                if top > tops[group, column]:
                    raise_top(digits[group, column], top - tops[group, column])
                    tops[group, column] = top
                for k in range(kind[column]):
                    place = tops[group, column] - windows[column] + k
                    if 0 <= place < DIGITS:
                        digits[group, column, place] += totals[group, first + k]
            first += kind[column]
