"""Adding values to the bins that measures of a dataset are computed from.

A table has one row for each bin, in five arrays:

- ``counts`` int64 [bins]: values in the bin
- ``infinite`` uint8 [bins, columns]: whether a term of this sum is infinite
- ``extremes`` float64 [bins, parts, 2]: smallest and largest value of each part, +inf and -inf while there is none
- ``digits`` int64 [bins, columns, DIGITS] and ``tops`` int64 [bins, columns]: exact sums, see `exact`

A part has one column for the sum of w x and, where asked for, a second for that of w x^2. Products are split into
float64 terms whose sum they are exactly, barring underflow.
"""

from __future__ import annotations

import math
from typing import Any

from lossops.kernels.exact import add_term, merge_sums, two_product
from lossops.kernels.jit import inline, jit

__all__ = ["add_part", "add_weights", "count_places", "merge_bins"]


@inline
def _add_product(a: float, b: float, infinite: Any, digits: Any, tops: Any, place: int, column: int) -> None:
    high, low = two_product(a, b)
    if math.isinf(high):
        infinite[place, column] = 1
        return
    add_term(high, digits, tops, place, column)
    add_term(low, digits, tops, place, column)


@jit
def count_places(places: Any, counts: Any) -> None:
    """Count the values of each bin; ``places`` int64 [values] holds the bin of each."""
    for i in range(places.shape[0]):
        counts[places[i]] += 1


@jit
def add_weights(weights: Any, places: Any, infinite: Any, digits: Any, tops: Any) -> None:
    """Add weights, float64 [values], to the first column."""
    for i in range(places.shape[0]):
        add_term(weights[i], digits, tops, places[i], 0)


@jit
def add_part(
    values: Any,
    weights: Any,
    places: Any,
    part: int,
    column: int,
    squares: bool,
    infinite: Any,
    extremes: Any,
    digits: Any,
    tops: Any,
) -> None:
    """Add the values of a part to their bins.

    Args:
        values: float64 [values], not NaN.
        weights: float64 [values], positive and finite; empty where every weight is 1.
        places: int64 [values], the bin of each.
        part: number of the part.
        column: the part's first column.
        squares: whether the next column holds its squares.
        infinite, extremes, digits, tops: the table, changed in place.
    """
    weighted = weights.shape[0] > 0
    for i in range(places.shape[0]):
        place = places[i]
        value = values[i] + 0.0  # -0.0 becomes 0.0, so that the extremes do not depend on order
        extremes[place, part, 0] = min(extremes[place, part, 0], value)
        extremes[place, part, 1] = max(extremes[place, part, 1], value)
        high, low = two_product(weights[i], value) if weighted else (value, 0.0)
        if math.isinf(high):
            infinite[place, column] = 1
            if squares:
                infinite[place, column + 1] = 1
            continue
        add_term(high, digits, tops, place, column)
        if weighted:
            add_term(low, digits, tops, place, column)
        if squares:
            _add_product(high, value, infinite, digits, tops, place, column + 1)
            if weighted:
                _add_product(low, value, infinite, digits, tops, place, column + 1)


@jit
def _merge_rest(
    counts: Any, infinite: Any, extremes: Any, other_counts: Any, other_infinite: Any, other_extremes: Any, places: Any
) -> None:
    for i in range(places.shape[0]):
        place = places[i]
        counts[place] += other_counts[i]
        for column in range(infinite.shape[1]):
            infinite[place, column] |= other_infinite[i, column]
        for part in range(extremes.shape[1]):
            extremes[place, part, 0] = min(extremes[place, part, 0], other_extremes[i, part, 0])
            extremes[place, part, 1] = max(extremes[place, part, 1], other_extremes[i, part, 1])


def merge_bins(mine: tuple[Any, Any, Any, Any, Any], other: tuple[Any, Any, Any, Any, Any], places: Any) -> None:
    """Add bin ``i`` of ``other`` to bin ``places[i]`` of ``mine``, in place.

    Args:
        mine, other: (counts, infinite, extremes, digits, tops).
        places: int64 [other bins].
    """
    _merge_rest(*mine[:3], *other[:3], places)
    merge_sums(mine[3], mine[4], other[3], other[4], places)
