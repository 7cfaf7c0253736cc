"""Sums by independent unit: which units occur in a block, and adding its values to (group, unit) places."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lossops.kernels.exact import add_term, two_product
from lossops.kernels.jit import jit

__all__ = ["add_unit_block", "number_units"]

_MIX = np.uint64(0x9E3779B97F4A7C15)


@jit
def number_units(units: Any, found: Any, codes: Any) -> int:
    """Number the distinct units of a block in the order of their first row.

    Args:
        units: uint64 [rows].
        found: uint64 [limit], set to the distinct units.
        codes: int64 [rows], set to each row's number.

    Returns:
        How many there are, or -1 if they are more than ``found`` holds; then the rest is undefined.
    """
    limit = found.shape[0]
    size = 4
    while size < 4 * limit:
        size *= 2
    table = np.full(size, -1, dtype=np.int64)
    mask = np.uint64(size - 1)
    count = 0
    for i in range(units.shape[0]):
        place = np.int64((units[i] * _MIX >> np.uint64(20)) & mask)
        while table[place] >= 0 and found[table[place]] != units[i]:
            place = (place + 1) & np.int64(mask)
        if table[place] < 0:
            if count == limit:
                return -1
            table[place] = count
            found[count] = units[i]
            count += 1
        codes[i] = table[place]
    return count


@jit
def add_unit_block(
    values: Any, weights: Any, divisors: Any, reasons: Any, places: Any, rows: Any, digits: Any, tops: Any
) -> None:
    """Add the values of a block to their places, one place for each group and unit.

    Args:
        values: float64 [values, rows], read only where ``reasons`` is 0; a row with one that is infinite adds none.
        weights: float64 [rows], or empty where every weight is 1.
        divisors: float64 [rows], what a row adds to the denominator; empty where that is 1 for every scored row.
        reasons: uint8 [rows], 0 for a row to score.
        places: int64 [rows].
        rows: int64 [places], rows that the denominator counts; changed in place.
        digits, tops: int64 [places, columns, DIGITS] and [places, columns]: exact sums of the values times the weight,
            and of the divisors in the last column where there are any; changed in place.
    """
    weighted, divided = weights.shape[0] > 0, divisors.shape[0] > 0
    for i in range(places.shape[0]):
        if reasons[i] != 0 and not (divided and divisors[i] != 0.0):
            continue
        place = places[i]
        rows[place] += 1
        if divided:
            add_term(divisors[i], digits, tops, place, values.shape[0])
        if reasons[i] != 0:
            continue
        for column in range(values.shape[0]):
            value = values[column, i]
            high, low = two_product(weights[i], value) if weighted else (value, 0.0)
            if not math.isfinite(high):
                continue
            add_term(high, digits, tops, place, column)
            if weighted:
                add_term(low, digits, tops, place, column)
