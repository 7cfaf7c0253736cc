"""Adding a block of losses to the groups of many slices at once.

`accumulate` adds each row to one group after the other; here the digits of a row's terms (see `exact`) are laid side
by side once, as lanes of a record, and added to every group that the row is in with a few vector instructions. Both
give the same bits.

A column of sums gets a window of lanes, whose highest is that of the largest term of the whole block. Rows with a
term that reaches below the window, or that is not finite, are left to `accumulate`; there are few of them.

A lane is a float64 that holds an integer. A digit of a row has at most 26 bits, so sums of up to ``MOST_ROWS`` rows
are exact. The digit at a position is what truncation at its unit leaves, less what truncation at the unit above it
leaves; both are exact, and all lanes of a column are found at once.

A record is, see `Kind`: the lanes of all columns; one number for two counts, scored rows and ``CLIPPED`` times those
whose prediction was clipped; then magnitudes, which are raised instead of added: the largest loss, the largest of the
negative losses, and of each column the largest term.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lossops.kernels.accumulate import CLIPPED as CLIPPED_ROWS
from lossops.kernels.accumulate import SCORED, product_terms, weighted_terms
from lossops.kernels.exact import DIGIT_BITS, DIGITS, EXPONENT_BIAS, bits_of, raise_top, top_of, two_product
from lossops.kernels.jit import inline, jit

__all__ = [
    "CLIPPED",
    "MOST_ROWS",
    "PLAIN",
    "PRODUCT",
    "WEIGHTED",
    "Kind",
    "add_plain",
    "add_products",
    "add_weighted",
    "collect",
]

_SINGLE, _DOUBLE = 5, 8  # lanes of a column of float64, and of one of pairs of them
_VECTOR = 8  # float64 that are handled together
_BLOCK = 128  # rows; their records fit the first cache
_SMALLEST, _LARGEST = 1e-100, 1e300  # windows are laid out for terms between
_LARGEST_ROOT = 1e150
MOST_ROWS = 1 << 26
CLIPPED = 1 << 26


@dataclass(frozen=True)
class Kind:
    """What a record holds.

    Args:
        lanes: of each column; the columns are those of `accumulate`.
        counted: whether rows are counted.
        magnitudes: how many; plain losses tell those of their columns.
    """

    lanes: tuple[int, ...]
    counted: bool
    magnitudes: int

    @property
    def firsts(self) -> tuple[int, ...]:
        """The first lane of each column: pairs first, which keeps them within lines of memory."""
        order = sorted(range(len(self.lanes)), key=lambda column: -self.lanes[column])
        starts = {column: sum(self.lanes[other] for other in order[:place]) for place, column in enumerate(order)}
        return tuple(starts[column] for column in range(len(self.lanes)))

    @property
    def sums(self) -> int:
        """How many numbers are added: the last of them is the count."""
        return sum(self.lanes) + self.counted

    @property
    def first_size(self) -> int:
        """Where the largest terms of the columns are; 0 where the largest loss tells them."""
        return 0 if len(self.lanes) == self.magnitudes else self.sums + self.magnitudes - len(self.lanes)

    @property
    def width(self) -> int:
        """Float64 of a record, whole lines of memory."""
        return -(-(self.sums + self.magnitudes) // _VECTOR) * _VECTOR

    def nothing(self, groups: int) -> npt.NDArray[np.float64]:
        """The sums of no rows, float64 [groups, width], from the start of a line of memory."""
        whole = np.zeros(groups * self.width + _VECTOR)
        start = -(whole.ctypes.data // whole.itemsize) % _VECTOR
        found = whole[start : start + groups * self.width].reshape(groups, self.width)
        found[:, self.sums : self.sums + self.magnitudes] = -np.inf
        return found


PLAIN = Kind((_SINGLE, _DOUBLE), counted=True, magnitudes=2)
WEIGHTED = Kind((_DOUBLE, _DOUBLE, _SINGLE, _DOUBLE, _DOUBLE, _DOUBLE), counted=True, magnitudes=8)
PRODUCT = Kind((_DOUBLE,), counted=False, magnitudes=2)
_REAL = ir.DoubleType()
_EIGHT = ir.VectorType(_REAL, _VECTOR)


def _vector(builder: Any, address: Any, offset: int, size: int) -> Any:
    """A pointer to so many float64, ``offset`` of them behind an address."""
    moved = builder.add(address, ir.Constant(address.type, 8 * offset))
    return builder.inttoptr(moved, ir.VectorType(_REAL, size).as_pointer())


def _load(builder: Any, address: Any, offset: int, size: int) -> Any:
    return builder.load(_vector(builder, address, offset, size), align=8)


def _store(builder: Any, value: Any, address: Any, offset: int, size: int) -> None:
    builder.store(value, _vector(builder, address, offset, size), align=8)


def _places(*numbers: int) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(numbers)), list(numbers))


def _call(builder: Any, name: str, *arguments: Any, **how: Any) -> Any:
    """Call a function of LLVM that takes and returns vectors of one kind."""
    kind = arguments[0].type
    declared = ir.FunctionType(kind, [kind] * len(arguments))
    function = cgutils.get_or_insert_function(builder.module, declared, f"llvm.{name}.v{kind.count}f64")
    return builder.call(function, arguments, **how)


def _digits(builder: Any, value: Any, scales: Any) -> Any:
    """The digits of a float64 at eight positions: what is left of it at each, less what is left at the one above."""
    alone = builder.insert_element(ir.Constant(_EIGHT, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    every = builder.shuffle_vector(alone, ir.Constant(_EIGHT, ir.Undefined), _places(*[0] * _VECTOR))
    whole = _call(builder, "trunc", builder.fmul(every, scales))
    above = builder.shuffle_vector(whole, ir.Constant(_EIGHT, [0.0] * _VECTOR), _places(_VECTOR, *range(_VECTOR - 1)))
    return _call(builder, "fma", above, ir.Constant(_EIGHT, [-float(1 << DIGIT_BITS)] * _VECTOR), whole)


@intrinsic  # type: ignore[untyped-decorator]
def _lay_pair(typing_context: Any, lanes: Any, scales: Any, high: Any, low: Any) -> Any:
    """Write the digits of a sum of two float64 to ``_DOUBLE`` lanes; both are addresses."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, scale, *terms = arguments
        units = _load(builder, scale, 0, _VECTOR)
        _store(builder, builder.fadd(*(_digits(builder, one, units) for one in terms)), target, 0, _VECTOR)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.float64, types.float64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _lay_one(typing_context: Any, lanes: Any, scales: Any, value: Any) -> Any:
    """Write the digits of a float64 to ``_SINGLE`` lanes; both are addresses."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, scale, value = arguments
        found = _digits(builder, value, _load(builder, scale, 0, _VECTOR))
        for start, size in ((0, 4), (4, 1)):
            part = builder.shuffle_vector(found, found, _places(*range(start, start + size)))
            _store(builder, part, target, start, size)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.float64), generate


def _chunks(start: int, stop: int) -> Iterator[tuple[int, int]]:
    while start < stop:
        size = next(size for size in (_VECTOR, 4, 2, 1) if size <= stop - start)
        yield start, size
        start += size


def _adder(kind: Kind) -> Any:
    """Make the function that adds the record at one address to the sums at another."""

    @intrinsic  # type: ignore[untyped-decorator]
    def add(typing_context: Any, sums: Any, record: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            target, _ = arguments
            for start, size in _chunks(0, kind.sums):
                old, new = (_load(builder, one, start, size) for one in arguments)
                _store(builder, builder.fadd(old, new), target, start, size)
            for start, size in _chunks(kind.sums, kind.sums + kind.magnitudes):
                old, new = (_load(builder, one, start, size) for one in arguments)
                # None is NaN. Compared and selected, LLVM would make a masked store of it, which some processors lack.
                _store(builder, _call(builder, "maxnum", new, old, fastmath=("nnan",)), target, start, size)
            return context.get_dummy_value()

        return types.void(types.intp, types.intp), generate

    return add


_add_plain, _add_weighted, _add_product = _adder(PLAIN), _adder(WEIGHTED), _adder(PRODUCT)
_PLAIN_LANES, _PLAIN_FIRSTS = PLAIN.lanes, PLAIN.firsts
_WEIGHTED_LANES, _WEIGHTED_FIRSTS = WEIGHTED.lanes, WEIGHTED.firsts
_PRODUCT_LANES, _PRODUCT_FIRSTS = PRODUCT.lanes, PRODUCT.firsts
_PLAIN_TAIL, _WEIGHTED_TAIL, _PRODUCT_TAIL = PLAIN.sums - 1, WEIGHTED.sums - 1, PRODUCT.sums - 1


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
def _scales(tops: Any) -> Any:
    """One over what 1 is worth in each lane, float64 [columns, lanes], for positions of the highest digits."""
    scales = np.empty((tops.shape[0], _VECTOR))
    for column in range(tops.shape[0]):
        for k in range(_VECTOR):
            scales[column, k] = math.ldexp(1.0, EXPONENT_BIAS - DIGIT_BITS * (tops[column] - k))
    return scales


@inline
def _buffers(columns: int, width: int) -> Any:
    """What a block takes: terms, rests, what is lost of each row, records."""
    return (
        np.zeros((columns, _BLOCK)),
        np.zeros((columns, _BLOCK)),
        np.empty(_BLOCK),
        np.zeros((_BLOCK, width)),
    )


@inline
def _note_lost(values: Any, rows: int, scale: float, lost: Any) -> None:
    """Add to each row what its value has below 1 / scale; all of it where that is so large that it underflows to 0."""
    unit = 1.0 / scale
    for j in range(rows):
        lost[j] += abs(np.trunc(values[j] * scale) * unit - values[j])


@inline
def _is_any_lost(high: Any, low: Any, rows: int, kind: Any, scales: Any, lost: Any) -> bool:
    """Add to each row what it has below the last lane of any column, and say whether any row of the block has some."""
    found: Any = np.uint64(0)
    for column in range(high.shape[0]):
        _note_lost(high[column], rows, scales[column, kind[column] - 1], lost)
        if kind[column] == _DOUBLE:
            _note_lost(low[column], rows, scales[column, _DOUBLE - 1], lost)
    for j in range(rows):
        found |= bits_of(lost[j])  # of numbers that are not negative, which compiles to vector instructions
    return bool(found != np.uint64(0))


@inline
def _set_aside(
    high: Any, low: Any, lost: Any, rows: int, tail: int, records: Any, start: int, odd: Any, count: int
) -> int:
    """Take the rows of a block that have lost something out of it, and return how many there are so far.

    Args:
        high, low: float64 [columns, block], terms and their rests; changed in place.
        lost: float64 [block].
        rows: of the block.
        tail: where the count is in a record, or its last lane; magnitudes come after it.
        records: float64 [block, width], changed in place.
        start: of the block.
        odd: int64 [all rows], gets the places of these rows after ``count`` others.
    """
    for j in range(rows):
        if lost[j] != 0.0:
            high[:, j] = low[:, j] = 0.0
            records[j, tail] = 0.0
            records[j, tail + 1 :] = -math.inf
            odd[count] = start + j
            count += 1
    return count


@inline
def _lay(high: Any, low: Any, rows: int, kind: Any, firsts: Any, scales: Any, records: Any) -> None:
    """Write the digits of a block's terms to their lanes."""
    target, source, width = records.ctypes.data, scales.ctypes.data, 8 * records.shape[1]
    for column in range(high.shape[0]):
        first, scale = target + 8 * firsts[column], source + 8 * _VECTOR * column
        if kind[column] == _SINGLE:
            for j in range(rows):
                _lay_one(first + width * j, scale, high[column, j])
        else:
            for j in range(rows):
                _lay_pair(first + width * j, scale, high[column, j], low[column, j])


@jit
def add_plain(losses: Any, reasons: Any, clipped: Any, groups: Any, totals: Any, odd: Any) -> Any:
    """Add a block of unweighted losses to their groups in every slice.

    Args:
        losses, reasons, clipped: as for `lossops.kernels.accumulate.add_block`; at most ``MOST_ROWS``.
        groups: int32 [slices, rows], the groups of all slices numbered through.
        totals: float64 [groups, width], changed in place.
        odd: int64 [rows], gets the places of the rows that are left.

    Returns:
        How many are left, and the position of the highest digit of each column.
    """
    size = _largest(losses, reasons, _LARGEST_ROOT)
    tops = np.array([_top(size), _top(size * size)])
    scales = _scales(tops)
    high, low, lost, records = _buffers(2, totals.shape[1])
    target, source, step, count = totals.ctypes.data, records.ctypes.data, 8 * totals.shape[1], 0
    for start in range(0, losses.shape[0], _BLOCK):
        rows = min(_BLOCK, losses.shape[0] - start)
        for j in range(rows):
            loss, asked = losses[start + j], reasons[start + j] == 0
            fits = asked & (abs(loss) <= size)
            lost[j] = 1.0 if asked & (not fits) else 0.0
            high[0, j] = loss if fits else 0.0
            records[j, _PLAIN_TAIL] = (1.0 if fits else 0.0) + (CLIPPED if clipped[start + j] & fits else 0.0)
            records[j, _PLAIN_TAIL + 1] = loss + 0.0 if fits else -math.inf
            records[j, _PLAIN_TAIL + 2] = 0.0 - loss if fits else -math.inf
        for j in range(rows):
            high[1, j], low[1, j] = two_product(high[0, j], high[0, j])
        if _is_any_lost(high, low, rows, _PLAIN_LANES, scales, lost):
            count = _set_aside(high, low, lost, rows, _PLAIN_TAIL, records, start, odd, count)
        _lay(high, low, rows, _PLAIN_LANES, _PLAIN_FIRSTS, scales, records)
        for number in range(groups.shape[0]):
            own = groups[number, start : start + rows]
            for j in range(rows):
                _add_plain(target + step * own[np.uint64(j)], source + step * j)
    return count, tops


@jit
def add_weighted(losses: Any, weights: Any, reasons: Any, clipped: Any, groups: Any, totals: Any, odd: Any) -> Any:
    """Add a block of weighted losses to their groups in every slice; the arguments of `add_plain`, and the weights."""
    size, most = _largest(losses, reasons, _LARGEST_ROOT), _largest(weights, reasons, _LARGEST_ROOT)
    product = size * most
    bounds = (product, product * size, most, most * most, product * most, product * product)
    tops = np.array([_top(bound) for bound in bounds])
    scales = _scales(tops)
    high, low, lost, records = _buffers(6, totals.shape[1])
    target, source, step, count = totals.ctypes.data, records.ctypes.data, 8 * totals.shape[1], 0
    for start in range(0, losses.shape[0], _BLOCK):
        rows = min(_BLOCK, losses.shape[0] - start)
        for j in range(rows):
            asked = reasons[start + j] == 0
            loss = losses[start + j] + 0.0 if asked else 0.0
            weight = weights[start + j] if asked else 0.0
            terms = weighted_terms(loss, weight)
            fits = asked & (abs(loss) <= size) & (weight <= most)
            for column in range(6):
                term = abs(terms[column][0])
                fits &= term <= _LARGEST
                high[column, j], low[column, j] = terms[column]
                records[j, _WEIGHTED_TAIL + 3 + column] = term if asked else -math.inf
            records[j, _WEIGHTED_TAIL] = (1.0 if fits else 0.0) + (CLIPPED if clipped[start + j] & fits else 0.0)
            records[j, _WEIGHTED_TAIL + 1] = loss if asked else -math.inf
            records[j, _WEIGHTED_TAIL + 2] = 0.0 - loss if asked else -math.inf
            lost[j] = 1.0 if asked & (not fits) else 0.0
            if not fits:
                high[:, j] = low[:, j] = 0.0
        if _is_any_lost(high, low, rows, _WEIGHTED_LANES, scales, lost):
            count = _set_aside(high, low, lost, rows, _WEIGHTED_TAIL, records, start, odd, count)
        _lay(high, low, rows, _WEIGHTED_LANES, _WEIGHTED_FIRSTS, scales, records)
        for number in range(groups.shape[0]):
            own = groups[number, start : start + rows]
            for j in range(rows):
                _add_weighted(target + step * own[np.uint64(j)], source + step * j)
    return count, tops


@jit
def add_products(losses: Any, baselines: Any, weights: Any, reasons: Any, groups: Any, totals: Any, odd: Any) -> Any:
    """Add only the products of pairs to their groups in every slice.

    Args:
        losses, baselines, weights, reasons: as for `lossops.kernels.accumulate.add_products`.
        groups, totals, odd: as for `add_plain`; the magnitudes are the largest product, twice.

    Returns:
        As `add_plain`.
    """
    weighted = weights.shape[0] > 0
    most = _largest(weights, reasons, _LARGEST_ROOT) if weighted else 1.0
    size, other = _largest(losses, reasons, _LARGEST_ROOT), _largest(baselines, reasons, _LARGEST_ROOT)
    bound = min(size * most * (other * most), _LARGEST)
    tops = np.array([_top(bound)])
    scales = _scales(tops)
    high, low, lost, records = _buffers(1, totals.shape[1])
    target, source, step, count = totals.ctypes.data, records.ctypes.data, 8 * totals.shape[1], 0
    for start in range(0, losses.shape[0], _BLOCK):
        rows = min(_BLOCK, losses.shape[0] - start)
        for j in range(rows):
            i = start + j
            product, rest = product_terms(losses[i], baselines[i], weights[i] if weighted else 1.0)
            asked = reasons[i] == 0
            fits = asked & (abs(product) <= bound)
            lost[j] = 1.0 if asked & (not fits) else 0.0
            high[0, j], low[0, j] = (product, rest) if fits else (0.0, 0.0)
            records[j, _PRODUCT_TAIL + 1] = records[j, _PRODUCT_TAIL + 2] = abs(product) if fits else 0.0
        if _is_any_lost(high, low, rows, _PRODUCT_LANES, scales, lost):
            count = _set_aside(high, low, lost, rows, _PRODUCT_TAIL, records, start, odd, count)
        _lay(high, low, rows, _PRODUCT_LANES, _PRODUCT_FIRSTS, scales, records)
        for number in range(groups.shape[0]):
            own = groups[number, start : start + rows]
            for j in range(rows):
                _add_product(target + step * own[np.uint64(j)], source + step * j)
    return count, tops


@inline
def _add_copies(totals: Any, group: int, last: int, row: Any) -> None:
    """Write the totals of a group: copies of its sums are added, of its magnitudes the largest is taken."""
    row[:] = totals[0, group]
    for copy in range(1, totals.shape[0]):
        for k in range(last + 1):
            row[k] += totals[copy, group, k]
        for k in range(last + 1, row.shape[0]):
            row[k] = max(row[k], totals[copy, group, k])


@jit
def _collect(
    totals: Any,
    last: int,
    first_size: int,
    lanes: Any,
    firsts: Any,
    windows: Any,
    counts: Any,
    extremes: Any,
    digits: Any,
    tops: Any,
) -> None:
    row = np.empty(totals.shape[2])
    for group in range(totals.shape[1]):
        _add_copies(totals, group, last, row)
        largest = max(row[last + 1], row[last + 2], 0.0)
        for column in range(lanes.shape[0]):
            size = (largest if column == 0 else largest * largest) if first_size == 0 else row[first_size + column]
            if size > 0.0:
                top = top_of(size)
                if top > tops[group, column]:
                    raise_top(digits[group, column], top - tops[group, column])
                    tops[group, column] = top
                for k in range(lanes[column]):
                    place = tops[group, column] - windows[column] + k
                    if 0 <= place < DIGITS:
                        digits[group, column, place] += np.int64(row[firsts[column] + k])
        if counts.shape[0] > 0:
            counted = np.int64(row[last])
            counts[group, SCORED] = counted % CLIPPED
            counts[group, CLIPPED_ROWS] = counted // CLIPPED
            extremes[group, 0] = 0.0 - row[last + 2]  # from zero, so that none becomes -0
            extremes[group, 1] = row[last + 1]


def collect(
    kind: Kind,
    totals: npt.NDArray[np.float64],
    windows: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    extremes: npt.NDArray[np.float64],
    digits: npt.NDArray[np.int64],
    tops: npt.NDArray[np.int64],
) -> None:
    """Add totals to the state of their groups, see `accumulate`: digits are added, counts and extremes set.

    Args:
        kind: of the totals.
        totals: float64 [copies, groups, width]; several copies are added up.
        windows: int64 [columns], position of the highest digit.
        counts, extremes, digits, tops: changed in place; counts and extremes of no groups where rows are not counted.
    """
    layout = np.array(kind.lanes), np.array(kind.firsts), windows
    _collect(totals, kind.sums - 1, kind.first_size, *layout, counts, extremes, digits, tops)
