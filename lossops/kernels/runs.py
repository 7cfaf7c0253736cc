"""Adding the rows of a batch to the groups of a slice, with the rows of a group next to each other.

`accumulate` adds one row after the other; here the rows of a batch are read in the order of their groups, so that those
of a group, a run, are added eight at a time. Both give the same bits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lossops.kernels.accumulate import SCORED, add_loss, add_weighted_loss, product_terms, weighted_terms
from lossops.kernels.digits import LARGEST, SMALLEST, largest_of, sum_digits, survey
from lossops.kernels.exact import DIGITS, add_term, raise_top, top_of, two_product
from lossops.kernels.jit import inline, jit
from lossops.kernels.vectors import VECTOR

__all__ = ["add_products", "add_runs", "add_weighted_runs", "in_order"]

_BLOCK = 512  # rows; what is made of them fits the first cache
_SECTION, _ROWS_A_GROUP = 1 << 17, 32  # rows of a section; there are more where groups are many
_LARGEST_ROOT = 1e150


@jit
def in_order(groups: Any, count: int) -> Any:
    """Order rows by group, in sections of which the cache holds what is read in this order.

    Args:
        groups: int64 [rows], less than 2**31 of them.
        count: of groups.

    Returns:
        int32 [rows], the rows of a section with those of group 0 in ascending order, then those of group 1 and so on;
        int64 [sections, groups + 1], where those of each group begin in it and the last end.
    """
    rows, size = groups.shape[0], max(_SECTION, _ROWS_A_GROUP * count)
    order, starts = np.empty(rows, dtype=np.int32), np.zeros((-(-rows // size), count + 1), dtype=np.int64)
    places = np.empty(count, dtype=np.int64)
    for section in range(starts.shape[0]):
        first, stop, own = section * size, min((section + 1) * size, rows), starts[section]
        for row in range(first, stop):
            own[groups[row] + 1] += 1
        own[0] = first
        for group in range(count):
            places[group] = own[group]
            own[group + 1] += own[group]
        for row in range(first, stop):
            group = groups[row]
            order[places[group]] = row
            places[group] += 1
    return order, starts


@inline
def _add_digits(size: float, found: Any, digits: Any, tops: Any, group: int, column: int) -> None:
    """Add the digits of a run whose largest term has this size to its group."""
    top = top_of(size)
    if top > tops[group, column]:
        raise_top(digits[group, column], top - tops[group, column])
        tops[group, column] = top
    by = tops[group, column] - top
    for k in range(DIGITS - by):
        digits[group, column, by + k] += np.int64(found[k])


@inline
def _add_column(
    high: Any, low: Any, first: int, rows: int, size: float, found: Any, digits: Any, tops: Any, group: int, column: int
) -> None:
    """Add a run of finite terms to a column of its group.

    Args:
        high: float64 [block].
        low: float64 [block], what each has lost by rounding; empty where that is nothing.
        first, rows: of the run in the block.
        size: of the largest.
        found: float64 [8], overwritten.
        digits, tops: changed in place.
        group, column: in them.
    """
    if SMALLEST <= size <= LARGEST:
        sum_digits(high, low, first, rows, size, found)
        _add_digits(size, found, digits, tops, group, column)
    elif size > 0.0:
        for j in range(first, first + rows):
            add_term(high[j], digits, tops, group, column)
            if low.shape[0] > 0:
                add_term(low[j], digits, tops, group, column)


@inline
def _add_columns(
    high: Any, low: Any, first: int, rows: int, sizes: Any, found: Any, digits: Any, tops: Any, group: int
) -> bool:
    """Add a run to every column of its group, unless a term is too large; terms are float64 [columns, block]."""
    for column in range(sizes.shape[0]):
        sizes[column] = largest_of(high[column, first:].ctypes.data, rows)
    if sizes.max() > LARGEST:
        return False
    for column in range(sizes.shape[0]):
        _add_column(high[column], low[column], first, rows, sizes[column], found, digits, tops, group, column)
    return True


@inline
def _count(losses: Any, first: int, rows: int, counts: Any, extremes: Any, group: int) -> float:
    """Count the losses of a run and note its extremes; return the largest magnitude, or 0 where none is scored."""
    scored, smallest, largest = survey(losses[first:].ctypes.data, rows)
    counts[group, SCORED] += np.int64(scored)
    extremes[group, 0] = min(extremes[group, 0], smallest)
    extremes[group, 1] = max(extremes[group, 1], largest)
    size: float = max(largest, -smallest, 0.0)
    return size


@inline
def _buffer() -> Any:
    """Room for a number of each row of a block, and for what is read behind the last."""
    return np.empty(_BLOCK + VECTOR)


@inline
def _group_at(row: int, group: int, starts: Any) -> int:
    """The group of a row, from that of the row before."""
    while starts[group + 1] <= row:
        group += 1
    return group


@jit
def add_runs(losses: Any, order: Any, starts: Any, counts: Any, extremes: Any, digits: Any, tops: Any) -> None:
    """Add unweighted losses to their groups; neither all rows nor clipped ones are counted.

    Args:
        losses: float64 [rows], NaN for a row that is not scored.
        order: int32 [rows], see `in_order`.
        starts: int64 [groups + 1], of one section.
        counts, extremes, digits, tops: the state, see `accumulate`, changed in place.
    """
    own, values, high, low = _buffer(), _buffer(), _buffer(), _buffer()
    nothing, found, group = np.empty(0), np.empty(VECTOR), 0
    for start in range(starts[0], starts[-1], _BLOCK):
        stop = min(start + _BLOCK, starts[-1])
        for j in range(stop - start):
            own[j] = losses[order[start + j]]
        for j in range(stop - start):
            values[j] = 0.0 if math.isnan(own[j]) else own[j]
            high[j], low[j] = two_product(values[j], values[j])
        at = start
        while at < stop:
            group = _group_at(at, group, starts)
            first, rows = at - start, min(stop, starts[group + 1]) - at
            at += rows
            size = _count(own, first, rows, counts, extremes, group)
            if size <= _LARGEST_ROOT:
                _add_column(values, nothing, first, rows, size, found, digits, tops, group, 0)
                _add_column(high, low, first, rows, size * size, found, digits, tops, group, 1)
            else:
                for j in range(first, first + rows):
                    add_loss(values[j], counts, digits, tops, group)


@jit
def add_weighted_runs(
    losses: Any, weights: Any, order: Any, starts: Any, counts: Any, extremes: Any, digits: Any, tops: Any
) -> None:
    """Add weighted losses to their groups; as `add_runs`, with ``weights`` float64 [rows]."""
    columns = tops.shape[1]
    own, values, factors = _buffer(), _buffer(), _buffer()
    high, low = np.empty((columns, _BLOCK + VECTOR)), np.empty((columns, _BLOCK + VECTOR))
    sizes, found, group = np.empty(columns), np.empty(VECTOR), 0
    for start in range(starts[0], starts[-1], _BLOCK):
        stop = min(start + _BLOCK, starts[-1])
        for j in range(stop - start):
            own[j], factors[j] = losses[order[start + j]], weights[order[start + j]]
        for j in range(stop - start):
            scored = not math.isnan(own[j])
            values[j], factors[j] = (own[j] + 0.0, factors[j]) if scored else (0.0, 0.0)
            terms = weighted_terms(values[j], factors[j])
            for column in range(6):
                high[column, j], low[column, j] = terms[column]
        at = start
        while at < stop:
            group = _group_at(at, group, starts)
            first, rows = at - start, min(stop, starts[group + 1]) - at
            at += rows
            _count(own, first, rows, counts, extremes, group)
            if not _add_columns(high, low, first, rows, sizes, found, digits, tops, group):
                for j in range(first, first + rows):
                    if not math.isnan(own[j]):
                        add_weighted_loss(values[j], factors[j], counts, digits, tops, group)


@jit
def add_products(
    losses: Any, baselines: Any, weights: Any, order: Any, starts: Any, digits: Any, tops: Any, column: int
) -> None:
    """Add only the products of pairs, where all else that is added of pairs is known of each loss by itself.

    Args:
        losses, baselines: float64 [rows], NaN for rows that are not scored, else finite, and so are their squares.
        weights: float64 [rows], or empty where every weight is 1.
        order, starts, digits, tops: as `add_runs`.
        column: where the sum of the products is.
    """
    weighted = weights.shape[0] > 0
    high, low = _buffer(), _buffer()
    found, group = np.empty(VECTOR), 0
    for start in range(starts[0], starts[-1], _BLOCK):
        stop = min(start + _BLOCK, starts[-1])
        for j in range(stop - start):
            row = order[start + j]
            loss = losses[row]
            terms = product_terms(loss, baselines[row], weights[row] if weighted else 1.0)
            high[j], low[j] = (0.0, 0.0) if math.isnan(loss) else terms
        at = start
        while at < stop:
            group = _group_at(at, group, starts)
            first, rows = at - start, min(stop, starts[group + 1]) - at
            at += rows
            size = largest_of(high[first:].ctypes.data, rows)
            _add_column(high, low, first, rows, size, found, digits, tops, group, column)
