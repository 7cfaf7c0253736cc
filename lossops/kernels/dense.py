"""Numbering what occurs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["dense"]

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
    present = np.bincount(numbers, minlength=size) > 0
    return np.flatnonzero(present), (np.cumsum(present) - 1)[numbers]
