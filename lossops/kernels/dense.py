"""Numbering what occurs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lossops.kernels.jit import jit

__all__ = ["dense", "distinct"]

Integers = npt.NDArray[np.int64]

_TABLE_LIMIT = 1 << 22  # numbers up to here are counted in a table, larger ones are sorted


def dense(numbers: Integers, size: int) -> tuple[Integers, Integers]:
    """Return which numbers occur, increasing, and the place of each number among them.

    Args:
        numbers: int64, each in [0, size).
        size: bound of the numbers.

    Returns:
        The numbers, and for each row its place; these are the numbers themselves where none is left out.
    """
    if size > _TABLE_LIMIT:
        found, places = np.unique(numbers, return_inverse=True)
        return found, places.astype(np.int64)
    table, found = np.zeros(size, dtype=np.int64), np.empty(size, dtype=np.int64)
    count = _occurring(numbers, table, found)
    return found[:count], numbers if not count or found[count - 1] == count - 1 else table[numbers]


def distinct(numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the different ones of some numbers, increasing.

    NumPy's own function puts them into a table first, which takes several times as long where few are equal.
    """
    ordered = np.sort(numbers)
    first = np.ones(len(ordered), dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]


@jit
def _occurring(numbers: Any, table: Any, found: Any) -> int:
    for i in range(numbers.shape[0]):
        table[numbers[i]] = 1
    count = 0
    for number in range(table.shape[0]):
        if table[number]:
            found[count] = number
            table[number] = count
            count += 1
    return count
