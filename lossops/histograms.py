"""Counts of losses in bins of nearly equal relative width, from which quantiles follow.

A bin is what shares the sign, the exponent and the six highest bits of the mantissa of a float64, so its number costs a
shift, adding is exact, and the middle of a bin is within 1/129 (0.78 %) of everything in it. Zero has a bin of its own,
so has infinity. Below the smallest normal float64, 2.2e-308, bins are of equal absolute width. (The idea is that of
DDSketch, Masson, Rim and Lee, VLDB 2019, with powers of two divided evenly.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Histogram", "edges", "middles"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_SHIFT = 46  # bits of the mantissa that a bin leaves open
_PARTS = 64  # bins from one power of two to the next
_INFINITE = (0x7FF << 6) + 1
_TABLE_LIMIT = 1 << 23  # numbers up to here are counted in a table, larger ones are sorted


def _codes(losses: Floats) -> Integers:
    """The bin of each loss: 0 for zero, then outwards from 1 for positive ones and from -1 for negative ones."""
    codes = (np.abs(losses).view(np.int64) >> _SHIFT) + 1
    return np.where(losses > 0, codes, np.where(losses < 0, -codes, 0))


def _lower(sizes: Integers) -> Floats:
    """The lower end of bins of positive losses."""
    return ((sizes - 1) << _SHIFT).view(np.float64)


def middles(codes: Integers) -> Floats:
    """The value that stands for each bin, float64 [bins]: the harmonic mean of its ends."""
    sizes = np.clip(np.abs(codes), 1, _INFINITE - 1)
    part = (sizes - 1) % _PARTS
    harmonic = _lower(sizes) * ((130 + 2 * part) / (129 + 2 * part))
    found = np.where(sizes > _PARTS, harmonic, _lower(sizes) / 2 + _lower(np.minimum(sizes, _PARTS) + 1) / 2)
    found = np.where(np.abs(codes) >= _INFINITE, np.inf, found)
    return np.where(codes == 0, 0.0, np.copysign(found, codes))


def edges(codes: Integers, together: int) -> tuple[Integers, Floats, Floats]:
    """Put bins together and return the number of the wider bin of each, and its ends.

    Args:
        codes: int64 [bins].
        together: how many are put together, a divisor of 64.

    Returns:
        Numbers int64 [bins], lower and upper end float64 [bins]: a positive bin holds its lower end, a negative one its
        upper end, and that of zero and those of infinities both.
    """
    sizes = np.abs(codes)
    first = (np.maximum(sizes, 1) - 1) // together * together + 1
    low, high = _lower(first), _lower(first + together)
    low, high = (np.where(sizes >= _INFINITE, np.inf, np.where(codes == 0, 0.0, end)) for end in (low, high))
    return np.sign(codes) * first, np.where(codes < 0, -high, low), np.where(codes < 0, -low, high)


@dataclass(frozen=True)
class Histogram:
    """How many scored losses of each group of a slice lie in each bin.

    Args:
        groups, codes: int64 [entries], increasing in this order.
        counts: int64 [entries], positive.
    """

    groups: Integers
    codes: Integers
    counts: Integers

    @classmethod
    def of_rows(cls, losses: Floats, reasons: npt.NDArray[np.uint8], groups: Integers) -> Histogram:
        """The counts of a block of rows; all arguments are [rows]."""
        scored = reasons == 0
        if scored.all():
            return cls._counted(groups, _codes(losses), None)
        return cls._counted(groups[scored], _codes(losses[scored]), None)

    @classmethod
    def gathered(cls, parts: Sequence[tuple[Histogram, Integers]], _groups: int) -> Histogram:
        """Add group ``i`` of each part to group ``at[i]``, for parts and their ``at``."""
        groups = np.concatenate([at[part.groups] for part, at in parts])
        return cls._counted(groups, *(np.concatenate([getattr(one, name) for one, _ in parts]) for name in _REST))

    @classmethod
    def _counted(cls, groups: Integers, codes: Integers, counts: Integers | None) -> Histogram:
        if not len(groups):
            return cls(*(np.empty(0, dtype=np.int64) for _ in range(3)))
        lowest = codes.min()
        width = int(codes.max() - lowest) + 1
        numbers, totals = _folded(groups * width + (codes - lowest), (int(groups.max()) + 1) * width, counts)
        found, rest = np.divmod(numbers, width)
        return cls(found, rest + lowest, totals)

    def group(self, number: int) -> tuple[Integers, Integers]:
        """The bins of a group, increasing, and their counts."""
        start, stop = np.searchsorted(self.groups, [number, number + 1])
        return self.codes[start:stop], self.counts[start:stop]


_REST = ("codes", "counts")


def _folded(numbers: Integers, size: int, counts: Integers | None) -> tuple[Integers, Integers]:
    """Return which numbers occur, increasing, and the sum of their counts; each counts once without ``counts``."""
    if size <= _TABLE_LIMIT:
        # As weights, counts are float64, which holds integers up to 2**53.
        table = np.bincount(numbers, weights=counts, minlength=size).astype(np.int64)
        found = np.flatnonzero(table)
        return found, table[found]
    order = np.argsort(numbers, kind="stable")  # merges what is sorted in parts
    ordered = numbers[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    if counts is None:
        return ordered[starts], np.diff(np.append(starts, len(ordered)))
    return ordered[starts], np.add.reduceat(counts[order], starts)
