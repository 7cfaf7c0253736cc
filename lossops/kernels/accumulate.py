"""Adding a block of loss values to groups.

A group's state is a row in four arrays:

- ``counts`` int64 [groups, 6]: rows, scored rows, scored rows with a clipped prediction, scored rows with an infinite
  loss, scored rows whose squares overflow float64, rows that a denominator of their own counts
- ``extremes`` float64 [groups, 2]: smallest and largest loss, +inf and -inf while there is none
- ``digits`` int64 [groups, columns, DIGITS] and ``tops`` int64 [groups, columns]: exact sums, see `exact`

The columns are the sums of l and l^2 when rows have no weight, and of wl, wl^2, w, w^2, w^2 l, w^2 l^2 when they have.
Where the mean is not divided by the sum of the weights but by that of a denominator d, they are the sums of wl, wl^2,
w, d, d^2, w d l, w^2 l^2.
Of pairs of numbers l and m they are the sums of x = w l, y = w m, x^2, y^2 and xy, and with weights or a denominator of
its own of v, v^2, xv and yv, where v is what a row adds to it.
Products are carried in two float64, so their rounding stays far below that of the sums.
"""

from __future__ import annotations

import math
from typing import Any

from lossops.kernels.exact import add_term, fma, merge_sums, two_product
from lossops.kernels.jit import inline, jit

__all__ = [
    "CLIPPED",
    "COUNTS",
    "DIVIDED",
    "DIVIDED_COLUMNS",
    "INFINITE",
    "OVERFLOWED",
    "PAIR_COLUMNS",
    "ROWS",
    "SCORED",
    "UNWEIGHTED_COLUMNS",
    "WEIGHTED_COLUMNS",
    "WEIGHTED_PAIR_COLUMNS",
    "add_block",
    "add_divided_block",
    "add_loss",
    "add_pair_block",
    "add_values",
    "add_weighted_pair_block",
    "add_weighted_block",
    "add_weighted_loss",
    "merge_groups",
    "product_terms",
    "weighted_terms",
]

ROWS, SCORED, CLIPPED, INFINITE, OVERFLOWED, DIVIDED = range(6)
COUNTS = 6
UNWEIGHTED_COLUMNS = ("wl", "wl2")
WEIGHTED_COLUMNS = ("wl", "wl2", "w", "w2", "w2l", "w2l2")
DIVIDED_COLUMNS = ("wl", "wl2", "w", "d", "d2", "wdl", "w2l2")
PAIR_COLUMNS = ("x", "y", "x2", "y2", "xy")
WEIGHTED_PAIR_COLUMNS = (*PAIR_COLUMNS, "v", "v2", "xv", "yv")


@inline
def _count(loss: float, clipped: int, counts: Any, extremes: Any, group: int) -> None:
    counts[group, SCORED] += 1
    counts[group, CLIPPED] += clipped
    extremes[group, 0] = min(extremes[group, 0], loss)
    extremes[group, 1] = max(extremes[group, 1], loss)


@inline
def _add_square(value: float, counts: Any, digits: Any, tops: Any, group: int, column: int) -> None:
    """Add the square of a finite number to a sum of its group, or count that it is beyond float64."""
    high, low = two_product(value, value)
    if math.isinf(high):
        counts[group, OVERFLOWED] += 1
        return
    add_term(high, digits, tops, group, column)
    add_term(low, digits, tops, group, column)


@inline
def add_loss(loss: float, counts: Any, digits: Any, tops: Any, group: int) -> None:
    """Add one loss to the sums of a group."""
    if math.isinf(loss):
        counts[group, INFINITE] += 1
        return
    add_term(loss, digits, tops, group, 0)
    _add_square(loss, counts, digits, tops, group, 1)


@jit
def add_block(
    losses: Any, reasons: Any, clipped: Any, groups: Any, counts: Any, extremes: Any, digits: Any, tops: Any
) -> None:
    """Add a block of unweighted losses to their groups.

    Args:
        losses: float64 [rows]; read only where ``reasons`` is 0, and not NaN there.
        reasons: uint8 [rows], 0 for a row to score.
        clipped: uint8 [rows], 1 where the convention changed the prediction.
        groups: int64 [rows], the row's group.
        counts, extremes, digits, tops: the state, changed in place.
    """
    for i in range(losses.shape[0]):
        group = groups[i]
        counts[group, ROWS] += 1
        if reasons[i] != 0:
            continue
        loss = losses[i] + 0.0  # -0.0 becomes 0.0, so that the extremes do not depend on order
        _count(loss, clipped[i], counts, extremes, group)
        add_loss(loss, counts, digits, tops, group)


@inline
def weighted_terms(loss: float, weight: float) -> Any:
    """What a row adds to each of the weighted columns: pairs of a float64 and what it lost by rounding."""
    wl, wl_low = two_product(weight, loss)
    wl2, w2, w2l, w2l2 = wl * loss, weight * weight, wl * weight, wl * wl
    return (
        (wl, wl_low),
        (wl2, fma(wl, loss, -wl2) + wl_low * loss),
        (weight, 0.0),
        (w2, fma(weight, weight, -w2)),
        (w2l, fma(wl, weight, -w2l) + wl_low * weight),
        (w2l2, fma(wl, wl, -w2l2) + (wl * wl_low + wl_low * wl)),
    )


@inline
def _add_pair(term: Any, digits: Any, tops: Any, group: int, column: int) -> None:
    add_term(term[0], digits, tops, group, column)
    add_term(term[1], digits, tops, group, column)


@inline
def add_weighted_loss(loss: float, weight: float, counts: Any, digits: Any, tops: Any, group: int) -> None:
    """Add one weighted loss to the sums of a group."""
    add_term(weight, digits, tops, group, 2)
    wl, wl2, _, w2, w2l, w2l2 = weighted_terms(loss, weight)
    if math.isinf(wl[0]):
        counts[group, INFINITE] += 1
        return
    _add_pair(wl, digits, tops, group, 0)
    if math.isinf(wl2[0]) or math.isinf(w2[0]) or math.isinf(w2l[0]) or math.isinf(w2l2[0]):
        counts[group, OVERFLOWED] += 1
        return
    _add_pair(wl2, digits, tops, group, 1)
    _add_pair(w2, digits, tops, group, 3)
    _add_pair(w2l, digits, tops, group, 4)
    _add_pair(w2l2, digits, tops, group, 5)


@jit
def add_weighted_block(
    losses: Any,
    weights: Any,
    reasons: Any,
    clipped: Any,
    groups: Any,
    counts: Any,
    extremes: Any,
    digits: Any,
    tops: Any,
) -> None:
    """Add a block of weighted losses to their groups; ``weights`` float64 [rows], positive where a row is scored."""
    for i in range(losses.shape[0]):
        group = groups[i]
        counts[group, ROWS] += 1
        if reasons[i] != 0:
            continue
        loss, weight = losses[i] + 0.0, weights[i]
        _count(loss, clipped[i], counts, extremes, group)
        add_weighted_loss(loss, weight, counts, digits, tops, group)


@jit
def add_divided_block(
    losses: Any,
    weights: Any,
    denominators: Any,
    reasons: Any,
    clipped: Any,
    groups: Any,
    counts: Any,
    extremes: Any,
    digits: Any,
    tops: Any,
) -> None:
    """Add a block of weighted losses whose mean has a denominator of its own.

    Args:
        denominators: float64 [rows], at least 0; a row that is not scored is counted with loss 0 where it is positive.
        losses, weights, reasons, clipped, groups, counts, extremes, digits, tops: as `add_weighted_block`.
    """
    for i in range(losses.shape[0]):
        group, divisor = groups[i], denominators[i]
        counts[group, ROWS] += 1
        if reasons[i] != 0 and divisor == 0.0:
            continue
        counts[group, DIVIDED] += 1
        _add_square(divisor, counts, digits, tops, group, 4)
        add_term(divisor, digits, tops, group, 3)
        if reasons[i] != 0:
            continue
        loss, weight = losses[i] + 0.0, weights[i]
        _count(loss, clipped[i], counts, extremes, group)
        add_term(weight, digits, tops, group, 2)
        wl, wl_low = two_product(weight, loss)
        if math.isinf(wl):
            counts[group, INFINITE] += 1
            continue
        add_term(wl, digits, tops, group, 0)
        add_term(wl_low, digits, tops, group, 0)
        wl2, wdl, w2l2 = wl * loss, wl * divisor, wl * wl
        if math.isinf(wl2) or math.isinf(wdl) or math.isinf(w2l2):
            counts[group, OVERFLOWED] += 1
            continue
        add_term(wl2, digits, tops, group, 1)
        add_term(fma(wl, loss, -wl2) + wl_low * loss, digits, tops, group, 1)
        add_term(wdl, digits, tops, group, 5)
        add_term(fma(wl, divisor, -wdl) + wl_low * divisor, digits, tops, group, 5)
        add_term(w2l2, digits, tops, group, 6)
        add_term(fma(wl, wl, -w2l2) + 2.0 * wl * wl_low, digits, tops, group, 6)


@inline
def _add_product(
    a: float, a_low: float, b: float, b_low: float, digits: Any, tops: Any, group: int, column: int
) -> Any:
    """Add the product of two numbers that are each an unevaluated sum of two float64."""
    high, low = two_product(a, b)
    add_term(high, digits, tops, group, column)
    add_term(low + (a * b_low + a_low * b), digits, tops, group, column)


@jit
def add_pair_block(
    losses: Any,
    baselines: Any,
    reasons: Any,
    clipped: Any,
    groups: Any,
    counts: Any,
    extremes: Any,
    digits: Any,
    tops: Any,
) -> None:
    """Add a block of unweighted pairs of losses to their groups.

    Args:
        losses, baselines: float64 [rows], the first and the second of each pair.
        reasons, clipped, groups, counts, extremes, digits, tops: as `add_block`; the extremes are of the first.
    """
    for i in range(losses.shape[0]):
        group = groups[i]
        counts[group, ROWS] += 1
        if reasons[i] != 0:
            continue
        x, y = losses[i] + 0.0, baselines[i]
        _count(x, clipped[i], counts, extremes, group)
        if not (math.isfinite(x) and math.isfinite(y)):
            counts[group, INFINITE] += 1
            continue
        add_term(x, digits, tops, group, 0)
        add_term(y, digits, tops, group, 1)
        if math.isinf(x * x) or math.isinf(y * y):
            counts[group, OVERFLOWED] += 1
            continue
        _add_product(x, 0.0, x, 0.0, digits, tops, group, 2)
        _add_product(y, 0.0, y, 0.0, digits, tops, group, 3)
        _add_product(x, 0.0, y, 0.0, digits, tops, group, 4)


@jit
def add_weighted_pair_block(
    losses: Any,
    baselines: Any,
    weights: Any,
    divisors: Any,
    reasons: Any,
    clipped: Any,
    groups: Any,
    counts: Any,
    extremes: Any,
    digits: Any,
    tops: Any,
) -> None:
    """Add a block of weighted pairs of losses to their groups.

    Args:
        weights: float64 [rows].
        divisors: float64 [rows], what a row adds to the denominator of the mean: its weight, or one of its own.
        losses, baselines, reasons, clipped, groups, counts, extremes, digits, tops: as `add_pair_block`.
    """
    for i in range(losses.shape[0]):
        group, v = groups[i], divisors[i]
        counts[group, ROWS] += 1
        if reasons[i] != 0 and v == 0.0:
            continue
        counts[group, DIVIDED] += 1
        add_term(v, digits, tops, group, 5)
        if math.isinf(v * v):
            counts[group, OVERFLOWED] += 1
        else:
            _add_product(v, 0.0, v, 0.0, digits, tops, group, 6)
        if reasons[i] != 0:
            continue
        x, x_low = two_product(weights[i], losses[i] + 0.0)
        y, y_low = two_product(weights[i], baselines[i])
        _count(losses[i] + 0.0, clipped[i], counts, extremes, group)
        if not (math.isfinite(x) and math.isfinite(y)):
            counts[group, INFINITE] += 1
            continue
        add_term(x, digits, tops, group, 0)
        add_term(x_low, digits, tops, group, 0)
        add_term(y, digits, tops, group, 1)
        add_term(y_low, digits, tops, group, 1)
        if math.isinf(x * x) or math.isinf(y * y) or math.isinf(x * v) or math.isinf(y * v):
            counts[group, OVERFLOWED] += 1
            continue
        _add_product(x, x_low, x, x_low, digits, tops, group, 2)
        _add_product(y, y_low, y, y_low, digits, tops, group, 3)
        _add_product(x, x_low, y, y_low, digits, tops, group, 4)
        _add_product(x, x_low, v, 0.0, digits, tops, group, 7)
        _add_product(y, y_low, v, 0.0, digits, tops, group, 8)


@inline
def product_terms(loss: float, baseline: float, weight: float) -> Any:
    """The product of two weighted losses as a float64 and what it lost by rounding."""
    x, x_low = two_product(weight, loss)
    y, y_low = two_product(weight, baseline)
    high, low = two_product(x, y)
    return high, low + (x * y_low + x_low * y)


@jit
def add_values(values: Any, weights: Any, reasons: Any, groups: Any, digits: Any, tops: Any) -> None:
    """Add only the sum of a block of numbers, without anything else of `add_block`.

    Args:
        values: float64 [rows], finite where ``reasons`` is 0.
        weights: float64 [rows], or empty where every weight is 1.
        reasons, groups: as `add_block`.
        digits, tops: int64 [groups, 1, DIGITS] and [groups, 1], changed in place.
    """
    weighted = weights.shape[0] > 0
    for i in range(values.shape[0]):
        if reasons[i] != 0:
            continue
        if weighted:
            high, low = two_product(weights[i], values[i])
            add_term(high, digits, tops, groups[i], 0)
            add_term(low, digits, tops, groups[i], 0)
        else:
            add_term(values[i], digits, tops, groups[i], 0)


@jit
def _merge_counts(counts: Any, extremes: Any, other_counts: Any, other_extremes: Any, groups: Any) -> None:
    for i in range(groups.shape[0]):
        group = groups[i]
        for column in range(counts.shape[1]):
            counts[group, column] += other_counts[i, column]
        extremes[group, 0] = min(extremes[group, 0], other_extremes[i, 0])
        extremes[group, 1] = max(extremes[group, 1], other_extremes[i, 1])


def merge_groups(mine: tuple[Any, Any, Any, Any], other: tuple[Any, Any, Any, Any], groups: Any) -> None:
    """Add group ``i`` of ``other`` to group ``groups[i]`` of ``mine``, in place.

    Args:
        mine, other: (counts, extremes, digits, tops).
        groups: int64 [other groups].
    """
    _merge_counts(mine[0], mine[1], other[0], other[1], groups)
    merge_sums(mine[2], mine[3], other[2], other[3], groups)
