"""Exact sums of losses for each group of a slice.

Adding is the only merge, it is exact, and its order does not matter. Nothing is divided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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

__all__ = ["Sums"]

_COLUMNS = (UNWEIGHTED_COLUMNS, WEIGHTED_COLUMNS)
_PAIR_COLUMNS = (PAIR_COLUMNS, WEIGHTED_PAIR_COLUMNS)
_BY_LENGTH = {len(names): names for names in (*_COLUMNS, DIVIDED_COLUMNS, *_PAIR_COLUMNS)}


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
        one: Sums,
        two: Sums,
        losses: npt.NDArray[np.float64],
        baselines: npt.NDArray[np.float64],
        weights: npt.NDArray[np.float64] | None,
        reasons: npt.NDArray[np.uint8],
        groups: npt.NDArray[np.int64],
    ) -> Sums | None:
        """The sums of pairs of which each number by itself has been summed, of the same rows in the same groups.

        The result is that of `add_pairs`, from a quarter of the work.

        Args:
            one, two: the sums of the first and the second numbers.
            losses, baselines: float64 [rows], these.
            weights, reasons, groups: [rows], as for `add_rows`.

        Returns:
            None where an infinity or an overflow makes pairs differ from what each is by itself.
        """
        if one.counts[:, [INFINITE, OVERFLOWED]].any() or two.counts[:, [INFINITE, OVERFLOWED]].any():
            return None
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
        own = _NOTHING if weights is None else weights
        column = found.columns.index("xy")
        add_products(losses, baselines, own, reasons, groups, found.digits, found.tops, column)
        return found


_NOTHING = np.empty(0)
_WEIGHTED = {"x": "wl", "y": "wl", "x2": "w2l2", "y2": "w2l2"}
# For sums of single numbers: which of their columns become which of the pairs.
_SOURCES = {
    UNWEIGHTED_COLUMNS: {"x": "wl", "y": "wl", "x2": "wl2", "y2": "wl2"},
    WEIGHTED_COLUMNS: {**_WEIGHTED, "v": "w", "v2": "w2", "xv": "w2l", "yv": "w2l"},
    DIVIDED_COLUMNS: {**_WEIGHTED, "v": "d", "v2": "d2", "xv": "wdl", "yv": "wdl"},
}
