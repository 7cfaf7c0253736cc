"""Exact sums of losses for each group of a slice.

Adding is the only merge, it is exact, and its order does not matter. Nothing is divided here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from lossops.kernels.accumulate import (
    CLIPPED,
    COUNTS,
    DIVIDED,
    DIVIDED_COLUMNS,
    INFINITE,
    OVERFLOWED,
    PAIR_COLUMNS,
    ROWS,
    SCORED,
    UNWEIGHTED_COLUMNS,
    WEIGHTED_COLUMNS,
    WEIGHTED_PAIR_COLUMNS,
    add_block,
    add_divided_block,
    add_pair_block,
    add_weighted_block,
    add_weighted_pair_block,
    merge_groups,
)
from lossops.kernels.exact import DIGITS, EMPTY_TOP
from lossops.kernels.runs import add_products, add_runs, add_weighted_runs, in_order

__all__ = ["Rows", "Sums"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_COLUMNS = (UNWEIGHTED_COLUMNS, WEIGHTED_COLUMNS)
_PAIR_COLUMNS = (PAIR_COLUMNS, WEIGHTED_PAIR_COLUMNS)
_BY_LENGTH = {len(names): names for names in (*_COLUMNS, DIVIDED_COLUMNS, *_PAIR_COLUMNS)}


_MOST_ROWS = 1 << 31
_NOTHING = np.empty(0)


@dataclass(frozen=True)
class Rows:
    """The rows of a batch by their groups in a slice.

    Args:
        groups: int64 [rows], the group of each row.
        order: int32 [rows], the rows section by section, those of a group next to each other.
        starts: int64 [sections, groups + 1], where those of each group begin in this order, and the last end.
    """

    groups: Integers
    order: npt.NDArray[np.int32]
    starts: Integers

    @classmethod
    def of(cls, groups: Integers, count: int) -> Rows:
        """Order rows by their groups, of which there are so many.

        Raises:
            ValueError: there are 2**31 rows or more.
        """
        if len(groups) >= _MOST_ROWS:
            raise ValueError(f"{len(groups)} rows at once; allowed: less than {_MOST_ROWS}")
        return cls(groups, *in_order(groups, count))

    @cached_property
    def sizes(self) -> Integers:
        """The rows of each group, int64 [groups]."""
        return np.asarray(np.diff(self.starts).sum(axis=0))

    def __len__(self) -> int:
        """How many groups there are."""
        return int(self.starts.shape[1]) - 1


@dataclass(frozen=True)
class Sums:
    """The state of each group of one slice, for one model and loss; the arrays of `lossops.kernels.accumulate`."""

    counts: npt.NDArray[np.int64]
    extremes: npt.NDArray[np.float64]
    digits: npt.NDArray[np.int64]
    tops: npt.NDArray[np.int64]

    @classmethod
    def zero(cls, groups: int, *, weighted: bool, divided: bool = False) -> Sums:
        """The sums of no rows, for this many groups; ``divided`` where the mean has a denominator of its own."""
        return cls.zero_of(groups, len(DIVIDED_COLUMNS if divided else _COLUMNS[weighted]))

    @classmethod
    def zero_pairs(cls, groups: int, *, divided: bool) -> Sums:
        """The sums of no pairs of losses; ``divided`` where the mean is not taken over the number of rows."""
        return cls.zero_of(groups, len(_PAIR_COLUMNS[divided]))

    @classmethod
    def joined(cls, every: Sequence[Sums]) -> Sums:
        """The groups of one after those of the other."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*(one._arrays for one in every), strict=True)))

    @classmethod
    def gathered(cls, parts: Sequence[tuple[Sums, npt.NDArray[np.int64]]], groups: int) -> Sums:
        """Add group ``i`` of each part to group ``at[i]`` of this many, for parts and their ``at``."""
        found = cls.zero_of(groups, parts[0][0].tops.shape[1])
        for part, at in parts:
            found.add_groups(part, at)
        return found

    def add_groups(self, other: Sums, groups: npt.NDArray[np.int64]) -> None:
        """Add group ``i`` of ``other`` to group ``groups[i]``, in place."""
        merge_groups(self._arrays, other._arrays, groups)

    @classmethod
    def zero_of(cls, groups: int, columns: int) -> Sums:
        """The sums of no rows, with this many columns."""
        extremes = np.empty((groups, 2))
        extremes[:, 0], extremes[:, 1] = np.inf, -np.inf
        return cls(
            counts=np.zeros((groups, COUNTS), dtype=np.int64),
            extremes=extremes,
            digits=np.zeros((groups, columns, DIGITS), dtype=np.int64),
            tops=np.full((groups, columns), EMPTY_TOP, dtype=np.int64),
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the sums."""
        return _BY_LENGTH[self.tops.shape[1]]

    @property
    def _arrays(
        self,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        return self.counts, self.extremes, self.digits, self.tops

    def add_rows(
        self,
        losses: npt.NDArray[np.float64],
        weights: npt.NDArray[np.float64] | None,
        reasons: npt.NDArray[np.uint8],
        clipped: npt.NDArray[np.uint8],
        groups: npt.NDArray[np.int64],
        denominators: npt.NDArray[np.float64] | None = None,
    ) -> None:
        """Add a block of rows to their groups, in place; all arrays are [rows]."""
        if denominators is not None:
            weights = np.ones(len(losses)) if weights is None else weights
            add_divided_block(losses, weights, denominators, reasons, clipped, groups, *self._arrays)
        elif weights is None:
            add_block(losses, reasons, clipped, groups, *self._arrays)
        else:
            add_weighted_block(losses, weights, reasons, clipped, groups, *self._arrays)

    @classmethod
    def of_rows(
        cls,
        losses: Floats,
        weights: Floats | None,
        reasons: npt.NDArray[np.uint8],
        clipped: npt.NDArray[np.uint8],
        slices: Sequence[Rows],
        denominators: Floats | None = None,
    ) -> list[Sums]:
        """The sums of a block of rows for every slice, as `add_rows` to nothing; all arrays are [rows]."""
        weighted = weights is not None
        found = [cls.zero(len(rows), weighted=weighted, divided=denominators is not None) for rows in slices]
        if denominators is not None:
            for sums, rows in zip(found, slices, strict=True):
                sums.add_rows(losses, weights, reasons, clipped, rows.groups, denominators)
            return found
        scored = _scored(losses, reasons)
        changed = np.flatnonzero((clipped != 0) & (reasons == 0)) if clipped.any() else ()
        for number, rows, starts in _sections(slices):
            if weights is None:
                add_runs(scored, rows.order, starts, *found[number]._arrays)
            else:
                add_weighted_runs(scored, weights, rows.order, starts, *found[number]._arrays)
        for sums, rows in zip(found, slices, strict=True):
            sums.counts[:, ROWS] = rows.sizes
            if len(changed):
                sums.counts[:, CLIPPED] = np.bincount(rows.groups[changed], minlength=len(rows))
        return found

    def add_pairs(
        self,
        losses: npt.NDArray[np.float64],
        baselines: npt.NDArray[np.float64],
        weights: npt.NDArray[np.float64] | None,
        divisors: npt.NDArray[np.float64] | None,
        reasons: npt.NDArray[np.uint8],
        groups: npt.NDArray[np.int64],
    ) -> None:
        """Add pairs of numbers to their groups, in place; all arrays are [rows]."""
        clipped = np.zeros(len(reasons), dtype=np.uint8)
        if divisors is None:
            add_pair_block(losses, baselines, reasons, clipped, groups, *self._arrays)
            return
        own = np.ones(len(reasons)) if weights is None else weights
        add_weighted_pair_block(losses, baselines, own, divisors, reasons, clipped, groups, *self._arrays)

    @classmethod
    def of_pairs(
        cls,
        ones: Sequence[Sums],
        twos: Sequence[Sums],
        losses: Floats,
        baselines: Floats,
        weights: Floats | None,
        reasons: npt.NDArray[np.uint8],
        slices: Sequence[Rows],
    ) -> list[Sums] | None:
        """The sums of pairs of which each number by itself has been summed, of the same rows in the same groups.

        The result is that of `add_pairs`, from a quarter of the work.

        Args:
            ones, twos: for each slice the sums of the first and the second numbers.
            losses, baselines: float64 [rows], these.
            weights, reasons: [rows], as for `add_rows`.
            slices: the rows by the groups of each.

        Returns:
            None where an infinity or an overflow makes pairs differ from what each is by itself.
        """
        if any(sums.counts[:, [INFINITE, OVERFLOWED]].any() for sums in (*ones, *twos)):
            return None
        found = [cls._known_of_pairs(one, two) for one, two in zip(ones, twos, strict=True)]
        scored, own = _scored(losses, reasons), _NOTHING if weights is None else weights
        for number, rows, starts in _sections(slices):
            sums = found[number]
            add_products(scored, baselines, own, rows.order, starts, sums.digits, sums.tops, sums.columns.index("xy"))
        return found

    @classmethod
    def _known_of_pairs(cls, one: Sums, two: Sums) -> Sums:
        """The sums of pairs as far as those of each number tell them: all but the products."""
        weighted = one.columns != UNWEIGHTED_COLUMNS
        found = cls.zero_pairs(len(one.counts), divided=weighted)
        sources = _SOURCES[one.columns]
        for place, name in enumerate(found.columns):
            if name in sources:
                part = two if name.startswith("y") else one
                column = part.columns.index(sources[name])
                found.digits[:, place], found.tops[:, place] = part.digits[:, column], part.tops[:, column]
        found.counts[:], found.extremes[:] = one.counts, one.extremes
        found.counts[:, CLIPPED] = 0
        if weighted and one.columns != DIVIDED_COLUMNS:
            found.counts[:, DIVIDED] = one.counts[:, SCORED]
        return found


def _sections(slices: Sequence[Rows]) -> Iterator[tuple[int, Rows, Integers]]:
    """Yield sections of rows, each for every slice, whose number comes first, while the cache holds it."""
    for place in range(max((len(rows.starts) for rows in slices), default=0)):
        for number, rows in enumerate(slices):
            if place < len(rows.starts):
                yield number, rows, rows.starts[place]


def _scored(losses: Floats, reasons: npt.NDArray[np.uint8]) -> Floats:
    """Losses, NaN for rows that are not scored."""
    return np.where(reasons == 0, losses, np.nan) if reasons.any() else losses


_WEIGHTED = {"x": "wl", "y": "wl", "x2": "w2l2", "y2": "w2l2"}
# For sums of single numbers: which of their columns become which of the pairs.
_SOURCES = {
    UNWEIGHTED_COLUMNS: {"x": "wl", "y": "wl", "x2": "wl2", "y2": "wl2"},
    WEIGHTED_COLUMNS: {**_WEIGHTED, "v": "w", "v2": "w2", "xv": "w2l", "yv": "w2l"},
    DIVIDED_COLUMNS: {**_WEIGHTED, "v": "d", "v2": "d2", "xv": "wdl", "yv": "wdl"},
}
