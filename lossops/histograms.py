"""Counts of losses in bins of nearly equal relative width, from which quantiles follow.

A bin is what shares the sign, the exponent and the six highest bits of the mantissa of a float64, so its number costs a
shift, adding is exact, and the middle of a bin is within 1/129 (0.78 %) of everything in it. Zero has a bin of its own,
so has infinity. Below the smallest normal float64, 2.2e-308, bins are of equal absolute width. (The idea is that of
DDSketch, Masson, Rim and Lee, VLDB 2019, with powers of two divided evenly.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lossops.kernels.counts import BIN_SHIFT, bin_range, count_codes, list_counts, merge_counts

__all__ = ["Histogram", "edges", "middles"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_PARTS = 64  # bins from one power of two to the next
_INFINITE = (0x7FF << 6) + 1
_TABLE_LIMIT = 1 << 23  # numbers up to here are counted in a table, larger ones are sorted


def _lower(sizes: Integers) -> Floats:
    """The lower end of bins of positive losses."""
    return ((sizes - 1) << BIN_SHIFT).view(np.float64)


def _looked_up(codes: Integers, function: Callable[[Integers], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return what a function of each code gives, computed once for a code where they repeat."""
    lowest, highest = (int(codes.min()), int(codes.max())) if len(codes) else (0, 0)
    if highest - lowest >= len(codes):
        return function(codes)
    found: npt.NDArray[Any] = function(np.arange(lowest, highest + 1))[..., codes - lowest]
    return found


def middles(codes: Integers) -> Floats:
    """The value that stands for each bin, float64 [bins]: the harmonic mean of its ends."""
    return _looked_up(codes, _middles)


def _middles(codes: Integers) -> Floats:
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
    first = _looked_up(codes, lambda own: _first(own, together))
    low, high = _looked_up(codes, lambda own: _edges(own, together))
    return first, low, high


def _first(codes: Integers, together: int) -> Integers:
    """The bin nearest to zero of those that are put together, with the sign of the code."""
    first: Integers = (np.maximum(np.abs(codes), 1) - 1) // together * together + 1
    return np.sign(codes) * first


def _edges(codes: Integers, together: int) -> Floats:
    """The lower and the upper end of bins that are put together, float64 [2, bins]."""
    first = np.abs(_first(codes, together))
    low, high = _lower(first), _lower(first + together)
    low, high = (np.where(np.abs(codes) >= _INFINITE, np.inf, np.where(codes == 0, 0.0, end)) for end in (low, high))
    return np.stack([np.where(codes < 0, -high, low), np.where(codes < 0, -low, high)])


@dataclass(frozen=True)
class Histogram:
    """How many scored losses of each group of a slice lie in each bin.

    Args:
        starts: int64 [groups + 1], where the bins of each group begin.
        codes: int32 [entries], increasing within a group.
        counts: int64 [entries], positive.
    """

    starts: Integers
    codes: npt.NDArray[np.int32]
    counts: Integers

    @classmethod
    def of_rows(cls, losses: Floats, reasons: npt.NDArray[np.uint8], groups: Integers, count: int) -> Histogram:
        """The counts of a block of rows, which are in ``count`` groups; all other arguments are [rows]."""
        codes = np.empty(len(losses), dtype=np.int64)
        lowest, highest = bin_range(losses, reasons, codes)
        if highest >= lowest and count * (highest - lowest + 1) > _TABLE_LIMIT:
            scored = reasons == 0
            return cls._counted(groups[scored], codes[scored], None, count)
        table = np.zeros((count, max(highest - lowest + 1, 0)), dtype=np.int32)
        size = count_codes(codes, reasons, groups, lowest, table)
        found = cls(np.empty(count + 1, dtype=np.int64), np.empty(size, dtype=np.int32), np.empty(size, dtype=np.int64))
        list_counts(table, lowest, found.starts, found.codes, found.counts)
        return found

    @classmethod
    def gathered(cls, parts: Sequence[tuple[Histogram, Integers]], groups: int) -> Histogram:
        """Add group ``i`` of each part to group ``at[i]`` of this many, for parts and their ``at``."""
        found, at = parts[0]
        if len(parts) < 3 and np.array_equal(at, np.arange(len(at))):
            wider = cls(np.pad(found.starts, (0, groups - len(at)), mode="edge"), found.codes, found.counts)
            return cls._merged(wider, *parts[1], groups) if len(parts) > 1 else wider
        own = np.concatenate([np.repeat(at, np.diff(part.starts)) for part, at in parts])
        codes = np.concatenate([part.codes for part, _ in parts]).astype(np.int64)
        return cls._counted(own, codes, np.concatenate([part.counts for part, _ in parts]), groups)

    @classmethod
    def _merged(cls, one: Histogram, two: Histogram, at: Integers, groups: int) -> Histogram:
        """Add group ``i`` of the second to group ``at[i]`` of the first, each group to another one."""
        others = np.full(groups, -1, dtype=np.int64)
        others[at] = np.arange(len(at))
        size = len(one.codes) + len(two.codes)
        found = np.empty(groups + 1, dtype=np.int64), np.empty(size, dtype=np.int32), np.empty(size, dtype=np.int64)
        n = merge_counts(one.starts, one.codes, one.counts, two.starts, two.codes, two.counts, others, *found)
        return cls(found[0], found[1][:n].copy(), found[2][:n].copy())

    @classmethod
    def _counted(cls, groups: Integers, codes: Integers, counts: Integers | None, size: int) -> Histogram:
        if not len(groups):
            return cls(np.zeros(size + 1, dtype=np.int64), np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64))
        lowest = codes.min()
        width = int(codes.max() - lowest) + 1
        numbers, totals = _folded(groups * width + (codes - lowest), size * width, counts)
        found, rest = np.divmod(numbers, width)
        return cls(np.searchsorted(found, np.arange(size + 1)), (rest + lowest).astype(np.int32), totals)

    @property
    def groups(self) -> Integers:
        """int64 [entries], the group of each bin."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def group(self, number: int) -> tuple[Integers, Integers]:
        """The bins of a group, increasing, and their counts."""
        own = slice(self.starts[number], self.starts[number + 1])
        return self.codes[own].astype(np.int64), self.counts[own]


def _folded(numbers: Integers, size: int, counts: Integers | None) -> tuple[Integers, Integers]:
    """Return which numbers occur, increasing, and the sum of their counts; each counts once without ``counts``."""
    if size <= _TABLE_LIMIT:
        # As weights, counts are float64, which holds integers up to 2**53.
        table = np.bincount(numbers, weights=counts, minlength=size).astype(np.int64)
        found = np.flatnonzero(table)
        return found, table[found]
    order = None if counts is None else np.argsort(numbers, kind="stable")  # merges what is sorted in parts
    ordered = np.sort(numbers) if order is None else numbers[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    if counts is None:
        return ordered[starts], np.diff(np.append(starts, len(ordered)))
    return ordered[starts], np.add.reduceat(counts[order], starts)
