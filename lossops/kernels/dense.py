"""Numbering what occurs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lossops.kernels.jit import jit

__all__ = ["a_row_of_each", "dense"]

Integers = npt.NDArray[np.int64]

_TABLE_LIMIT = 1 << 22  # numbers up to here are counted in a table, larger ones are sorted


def dense(numbers: Integers, size: int) -> tuple[Integers, Integers]:
    """Return which numbers occur, increasing, and the place of each number among them.

    Args:
        numbers: int64, each in [0, size).
        size: bound of the numbers.
    """
    if size > _TABLE_LIMIT:
        found, places = np.unique(numbers, return_inverse=True)
        return found, places.astype(np.int64)
    places, table = np.empty(len(numbers), dtype=np.int64), np.zeros(size, dtype=np.int64)
    found = np.empty(size, dtype=np.int64)
    count = _number(numbers, table, found, places)
    return found[:count], places


@jit
def _number(numbers: Any, table: Any, found: Any, places: Any) -> int:
    for i in range(numbers.shape[0]):
        table[numbers[i]] = 1
    count = 0
    for number in range(table.shape[0]):
        if table[number]:
            found[count] = number
            table[number] = count
            count += 1
    for i in range(numbers.shape[0]):
        places[i] = table[numbers[i]]
    return count


def a_row_of_each(groups: Integers, count: int) -> Integers:
    """Return the last row of each of this many groups, int64 [groups]; ``groups`` int64 [rows], all occur."""
    rows = np.zeros(count, dtype=np.int64)
    _note_rows(groups, rows)
    return rows


@jit
def _note_rows(groups: Any, rows: Any) -> None:
    for i in range(groups.shape[0]):
        rows[groups[i]] = i
