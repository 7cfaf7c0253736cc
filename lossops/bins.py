"""Mergeable tables of bins: the state that measures of a dataset are computed from.

A table belongs to one slice. It has a row for each (group of the slice, output, bin) that occurs, with exact sums of
the parts of a measure. Adding tables is exact and its order does not matter.

Where bins are values of the data (labels, sizes of errors) their number would grow with the data. A table therefore
holds at most `MAX_BINS` rows: beyond that it keeps fewer leading bits of the values' mantissas, the most with which it
fits. Truncating is monotone, and truncating twice is truncating to the fewer bits, so the bits that are kept follow
from the set of values alone, in whatever order tables are added. Within a bin the number of values, their weight, sum,
smallest and largest stay exact.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lossops.kernels.dense import dense
from lossops.kernels.exact import DIGITS, EMPTY_TOP
from lossops.kernels.moments import add_part, add_weights, count_places, merge_bins

__all__ = ["MAX_BINS", "BinTable", "Moments", "Records"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MAX_BINS = 1 << 16
_ALL_BITS = 52
_LEVELS = (_ALL_BITS, *range(20, -1, -1))  # mantissa bits to try; distinct values seldom need between 20 and 52
_WHOLE_LIMIT = 1 << 22  # whole numbers up to here are numbered by a table
_NO_WEIGHTS = np.empty(0)


@dataclass(frozen=True)
class Moments:
    """The sums of each bin, for every part of a measure; the arrays of `lossops.kernels.moments`.

    Args:
        weighted: whether the first column holds the weights.
        squares: for each part whether its squares are summed.
    """

    weighted: bool
    squares: tuple[bool, ...]
    counts: Integers
    infinite: npt.NDArray[np.uint8]
    extremes: Floats
    digits: Integers
    tops: Integers

    @classmethod
    def zero(cls, bins: int, squares: tuple[bool, ...], *, weighted: bool) -> Moments:
        """The sums of nothing, for this many bins."""
        columns = weighted + len(squares) + sum(squares)
        extremes = np.empty((bins, len(squares), 2))
        extremes[..., 0], extremes[..., 1] = np.inf, -np.inf
        return cls(
            weighted,
            squares,
            np.zeros(bins, dtype=np.int64),
            np.zeros((bins, columns), dtype=np.uint8),
            extremes,
            np.zeros((bins, columns, DIGITS), dtype=np.int64),
            np.full((bins, columns), EMPTY_TOP, dtype=np.int64),
        )

    @property
    def _arrays(self) -> tuple[Integers, npt.NDArray[np.uint8], Floats, Integers, Integers]:
        return self.counts, self.infinite, self.extremes, self.digits, self.tops

    def column(self, part: int) -> int:
        """The column of the sum of w x of a part; that of w x^2 is the next."""
        return self.weighted + part + sum(self.squares[:part])

    def add_values(self, values: Sequence[Floats], weights: Floats | None, places: Integers) -> None:
        """Add values, [values] for each part, to the bins ``places``, in place."""
        count_places(places, self.counts)
        if weights is not None:
            add_weights(weights, places, self.infinite, self.digits, self.tops)
        factors = _NO_WEIGHTS if weights is None else weights
        for part, own in enumerate(values):
            add_part(own, factors, places, part, self.column(part), self.squares[part], *self._arrays[1:])

    def add_bins(self, other: Moments, places: Integers) -> None:
        """Add bin ``i`` of ``other`` to bin ``places[i]``, in place."""
        merge_bins(self._arrays, other._arrays, places)

    def together(self, start: int, stop: int) -> Moments:
        """The bins from ``start`` to ``stop - 1`` as one."""
        found = Moments.zero(1, self.squares, weighted=self.weighted)
        chosen = replace(
            self,
            counts=self.counts[start:stop],
            infinite=self.infinite[start:stop],
            extremes=self.extremes[start:stop],
            digits=self.digits[start:stop],
            tops=self.tops[start:stop],
        )
        found.add_bins(chosen, np.zeros(stop - start, dtype=np.int64))
        return found


@dataclass(frozen=True)
class Records:
    """The scored values of a batch: every output of every scored row.

    Args:
        rows: int64 [values], the row of each value.
        outputs: int64 [values], which output it is.
        codes: int64 [values], places in ``bins``.
        bins: float64, the distinct bins of the batch, increasing.
        parts: for each part float64 [values].
        squares: for each part whether its squares are needed.
        weights: float64 [values], or None.
        by_value: whether bins are values of the data.
    """

    rows: Integers
    outputs: Integers
    codes: Integers
    bins: Floats
    parts: tuple[Floats, ...]
    squares: tuple[bool, ...]
    weights: Floats | None
    by_value: bool

    @classmethod
    def of_batch(
        cls,
        parts: Sequence[Floats],
        squares: Sequence[bool],
        bins: Floats | None,
        reasons: npt.NDArray[np.uint8],
        weights: Floats | None,
        *,
        by_value: bool = False,
    ) -> Records:
        """From the values of a batch.

        Args:
            parts: float64 [rows, outputs] each.
            squares: for each part whether its squares are needed.
            bins: float64 [rows, outputs], or None for a single bin.
            reasons: uint8 [rows], 0 where a row is scored.
            weights: float64 [rows], or None.
            by_value: whether bins are values of the data.
        """
        scored = np.flatnonzero(reasons == 0)
        outputs = parts[0].shape[1]
        rows = np.repeat(scored, outputs)
        found, codes = np.zeros(1), np.zeros(len(rows), dtype=np.int64)
        if bins is not None:
            found, codes = _codes(bins[scored].ravel())
        return cls(
            rows,
            np.tile(np.arange(outputs), len(scored)),
            codes,
            found,
            tuple(part[scored].ravel() for part in parts),
            tuple(squares),
            None if weights is None else weights[rows],
            by_value,
        )


def _codes(values: Floats) -> tuple[Floats, Integers]:
    """Return the distinct values, increasing, and the place of each value among them."""
    whole = values.astype(np.int64) if len(values) and values.min() >= 0 and values.max() < _WHOLE_LIMIT else None
    if whole is not None and np.array_equal(whole, values):
        numbers, places = dense(whole, int(whole.max()) + 1)
        return numbers.astype(np.float64), places
    found, places = np.unique(values + 0.0, return_inverse=True)
    return found, places.astype(np.int64)


def truncated(values: Floats, bits: int) -> Floats:
    """Values with only so many leading bits of their mantissa, towards zero."""
    kept: npt.NDArray[np.uint64] = values.view(np.uint64) & np.uint64((1 << 64) - (1 << (_ALL_BITS - bits)))
    return kept.view(np.float64) + 0.0


@dataclass(frozen=True)
class _Rows:
    """Rows of a table: (group, output, bin), increasing."""

    groups: Integers
    outputs: Integers
    bins: Floats

    def starts(self) -> npt.NDArray[np.bool_]:
        """Where a row differs from the one before."""
        changes = np.ones(len(self.bins), dtype=np.bool_)
        changes[1:] = np.diff(self.groups) != 0
        for column in (self.outputs, self.bins):
            changes[1:] |= column[1:] != column[:-1]
        return changes

    def fitted(self, bits: int | None) -> tuple[_Rows, Integers, int | None]:
        """Return the rows without repetition, where each row went, and the bits that bins keep so that they fit."""
        if bits is None:
            return *self._distinct(), None
        for level in (level for level in _LEVELS if level <= bits):
            rows = _Rows(self.groups, self.outputs, truncated(self.bins, level))
            if np.count_nonzero(rows.starts()) <= MAX_BINS:
                break
        return *rows._distinct(), level

    def _distinct(self) -> tuple[_Rows, Integers]:
        starts = self.starts()
        places = np.cumsum(starts) - 1
        return _Rows(self.groups[starts], self.outputs[starts], self.bins[starts]), places


@dataclass(frozen=True)
class BinTable:
    """The bins of one slice, for one model and measure.

    Args:
        keys: the key of each group of the slice.
        tallies: int64 [groups, 3]: rows, scored rows, scored rows with a clipped prediction.
        groups, outputs, bins: int64, int64 and float64 [table rows], increasing in this order.
        bits: leading mantissa bits that ``bins`` keep; None where bins are not values of the data.
        moments: the sums of each row of the table.
    """

    keys: tuple[Hashable, ...]
    tallies: Integers
    groups: Integers
    outputs: Integers
    bins: Floats
    bits: int | None
    moments: Moments

    @classmethod
    def of_records(
        cls,
        records: Records,
        keys: Sequence[Hashable],
        groups: Integers,
        reasons: npt.NDArray[np.uint8],
        clipped: npt.NDArray[np.uint8],
    ) -> BinTable:
        """The table of one slice of a batch.

        Args:
            records: the scored values of the batch.
            keys: the key of each group.
            groups: int64 [rows], the group of each row of the batch.
            reasons: uint8 [rows].
            clipped: uint8 [rows], 1 where the convention changed the prediction.
        """
        scored = reasons == 0
        tallies = [np.bincount(groups[mask], minlength=len(keys)) for mask in (..., scored, scored & (clipped != 0))]
        outputs = int(records.outputs.max()) + 1 if len(records.outputs) else 1
        numbers = (groups[records.rows] * outputs + records.outputs) * len(records.bins) + records.codes
        found, at = dense(numbers, len(keys) * outputs * len(records.bins))
        rest, codes = np.divmod(found, max(len(records.bins), 1))
        rows, merged, bits = _Rows(*np.divmod(rest, outputs), records.bins[codes]).fitted(
            _ALL_BITS if records.by_value else None
        )
        moments = Moments.zero(len(rows.bins), records.squares, weighted=records.weights is not None)
        moments.add_values(records.parts, records.weights, merged[at])
        return cls(tuple(keys), np.stack(tallies, axis=1), rows.groups, rows.outputs, rows.bins, bits, moments)

    def __add__(self, other: BinTable) -> BinTable:
        keys, at = _united(self.keys, other.keys)
        tallies = np.zeros((len(keys), 3), dtype=np.int64)
        tallies[: len(self.keys)] += self.tallies
        tallies[at] += other.tallies
        together = (
            np.concatenate([self.groups, at[other.groups]]),
            np.concatenate([self.outputs, other.outputs]),
            np.concatenate([self.bins, other.bins]),
        )
        bits = None if self.bits is None or other.bits is None else min(self.bits, other.bits)
        values = together[2] if bits is None else truncated(together[2], bits)
        order = np.lexsort((values, together[1], together[0]))
        rows, places, bits = _Rows(together[0][order], together[1][order], values[order]).fitted(bits)
        moved = np.empty(len(order), dtype=np.int64)
        moved[order] = places
        moments = Moments.zero(len(rows.bins), self.moments.squares, weighted=self.moments.weighted)
        moments.add_bins(self.moments, moved[: len(self.bins)])
        moments.add_bins(other.moments, moved[len(self.bins) :])
        return BinTable(keys, tallies, rows.groups, rows.outputs, rows.bins, bits, moments)


def _united(mine: tuple[Hashable, ...], other: tuple[Hashable, ...]) -> tuple[tuple[Hashable, ...], Integers]:
    """Return all keys, mine first, and the place of each of the others."""
    if mine == other:
        return mine, np.arange(len(mine))
    places = {key: place for place, key in enumerate(mine)}
    at = [places.setdefault(key, len(places)) for key in other]
    return tuple(places), np.array(at, dtype=np.int64)
