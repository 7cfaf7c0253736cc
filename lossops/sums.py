"""Exact sums of losses for each group of a slice.

Adding is the only merge, it is exact, and its order does not matter. Nothing is divided here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lossops.kernels import lanes
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
    add_products,
    add_weighted_block,
    add_weighted_pair_block,
    merge_groups,
)
from lossops.kernels.exact import DIGITS, EMPTY_TOP

__all__ = ["Stack", "Sums"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_COLUMNS = (UNWEIGHTED_COLUMNS, WEIGHTED_COLUMNS)
_PAIR_COLUMNS = (PAIR_COLUMNS, WEIGHTED_PAIR_COLUMNS)
_BY_LENGTH = {len(names): names for names in (*_COLUMNS, DIVIDED_COLUMNS, *_PAIR_COLUMNS)}


_FEW = 8  # groups; so many copies of a few keep a row from waiting for the one before
_NOTHING = np.empty(0)


@dataclass(frozen=True)
class Stack:
    """The groups of some rows in several slices, numbered through.

    Args:
        groups: for each slice int64 [rows], the group of each row.
        sizes: how many groups each slice has.
        copies: how many times the groups of each slice are numbered; rows go round among them.
        numbers: int32 [slices, rows], the number of each row's group.
        rows: for each slice int64 [groups], its rows.
    """

    groups: tuple[Integers, ...]
    sizes: tuple[int, ...]
    copies: tuple[int, ...]
    numbers: npt.NDArray[np.int32]
    rows: tuple[Integers, ...]

    @classmethod
    def of(cls, groups: Sequence[Integers], sizes: Sequence[int]) -> Stack:
        """Number the groups of slices through; there are at most `lossops.kernels.lanes.MOST_ROWS` rows.

        Raises:
            ValueError: there are more.
        """
        if groups and len(groups[0]) > lanes.MOST_ROWS:
            raise ValueError(f"{len(groups[0])} rows at once; allowed: at most {lanes.MOST_ROWS}")
        copies = tuple(_FEW if size <= _FEW else 1 for size in sizes)
        numbers = np.empty((len(groups), len(groups[0]) if groups else 0), dtype=np.int32)
        start = 0
        for place, (own, size, times) in enumerate(zip(groups, sizes, copies, strict=True)):
            np.add(own, start, out=numbers[place], casting="same_kind")
            for copy in range(1, times):
                numbers[place, copy::times] += copy * size
            start += times * size
        rows = tuple(np.bincount(own, minlength=size) for own, size in zip(groups, sizes, strict=True))
        return cls(tuple(groups), tuple(sizes), copies, numbers, rows)

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return sum(size * times for size, times in zip(self.sizes, self.copies, strict=True))

    def of_slices(self, totals: Floats) -> Iterator[Floats]:
        """Yield the totals of each slice, float64 [copies, groups, width], of those of all numbers."""
        start = 0
        for size, times in zip(self.sizes, self.copies, strict=True):
            yield totals[start : (start := start + times * size)].reshape(times, size, totals.shape[1])


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
        stack: Stack,
        denominators: Floats | None = None,
    ) -> list[Sums]:
        """The sums of a block of rows for every slice of a stack, as `add_rows` to nothing; all arrays are [rows]."""
        weighted = weights is not None
        found = [cls.zero(size, weighted=weighted, divided=denominators is not None) for size in stack.sizes]
        if denominators is not None:
            for sums, groups in zip(found, stack.groups, strict=True):
                sums.add_rows(losses, weights, reasons, clipped, groups, denominators)
            return found
        kind = lanes.WEIGHTED if weighted else lanes.PLAIN
        totals, odd = kind.nothing(stack.size), np.empty(len(losses), dtype=np.int64)
        if weights is not None:
            count, tops = lanes.add_weighted(losses, weights, reasons, clipped, stack.numbers, totals, odd)
        else:
            count, tops = lanes.add_plain(losses, reasons, clipped, stack.numbers, totals, odd)
        left = odd[:count]
        for sums, own, groups, rows in zip(found, stack.of_slices(totals), stack.groups, stack.rows, strict=True):
            lanes.collect(kind, own, tops, *sums._arrays)
            if count:
                own_weights = None if weights is None else weights[left]
                sums.add_rows(losses[left], own_weights, reasons[left], clipped[left], groups[left])
            sums.counts[:, ROWS] = rows
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
        stack: Stack,
    ) -> list[Sums] | None:
        """The sums of pairs of which each number by itself has been summed, of the same rows in the same groups.

        The result is that of `add_pairs`, from a quarter of the work.

        Args:
            ones, twos: for each slice the sums of the first and the second numbers.
            losses, baselines: float64 [rows], these.
            weights, reasons: [rows], as for `add_rows`.
            stack: the groups of every slice.

        Returns:
            None where an infinity or an overflow makes pairs differ from what each is by itself.
        """
        if any(sums.counts[:, [INFINITE, OVERFLOWED]].any() for sums in (*ones, *twos)):
            return None
        found = [cls._known_of_pairs(one, two) for one, two in zip(ones, twos, strict=True)]
        own = _NOTHING if weights is None else weights
        totals, odd = lanes.PRODUCT.nothing(stack.size), np.empty(len(losses), dtype=np.int64)
        count, tops = lanes.add_products(losses, baselines, own, reasons, stack.numbers, totals, odd)
        left = odd[:count]
        for sums, of_slice, groups in zip(found, stack.of_slices(totals), stack.groups, strict=True):
            column = sums.columns.index("xy")
            product = cls.zero_of(len(sums.counts), 1)
            lanes.collect(lanes.PRODUCT, of_slice, tops, *cls.zero_of(0, 1)._arrays[:2], product.digits, product.tops)
            sums.digits[:, column], sums.tops[:, column] = product.digits[:, 0], product.tops[:, 0]
            if count:
                rest = losses[left], baselines[left], own[left] if len(own) else own, reasons[left], groups[left]
                add_products(*rest, sums.digits, sums.tops, column)
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


_WEIGHTED = {"x": "wl", "y": "wl", "x2": "w2l2", "y2": "w2l2"}
# For sums of single numbers: which of their columns become which of the pairs.
_SOURCES = {
    UNWEIGHTED_COLUMNS: {"x": "wl", "y": "wl", "x2": "wl2", "y2": "wl2"},
    WEIGHTED_COLUMNS: {**_WEIGHTED, "v": "w", "v2": "w2", "xv": "w2l", "yv": "w2l"},
    DIVIDED_COLUMNS: {**_WEIGHTED, "v": "d", "v2": "d2", "xv": "wdl", "yv": "wdl"},
}
