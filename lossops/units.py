"""Independent units, such as users: which there are, and the sums of each in each group of a slice.

As long as a run has no more units than buckets, each unit is kept by itself. Beyond that, units are put together by
hash into a fixed number of buckets, the same in every slice, model and run, so that what is computed from them stays
comparable, and memory stays bounded. Which of the two holds follows from the set of units alone, in whatever order
states are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lossops.kernels.dense import dense, distinct
from lossops.kernels.exact import DIGIT_BITS, DIGITS, EMPTY_TOP, EXPONENT_BIAS, merge_sums
from lossops.kernels.units import add_unit_block, number_units

__all__ = ["UnitSums", "Units"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Hashes = npt.NDArray[np.uint64]

_UNIT = np.uint64(1 << 63)  # set in the number of a unit, not in that of a bucket
_NOTHING = np.empty(0)


@dataclass(frozen=True)
class Units:
    """The units of some rows.

    Args:
        buckets: how many units are kept apart.
        known: uint64, increasing: each unit with its highest bit set, or the buckets that occur.
    """

    buckets: int
    known: Hashes

    @classmethod
    def none(cls, buckets: int) -> Units:
        """Of no rows."""
        return cls(buckets, np.empty(0, dtype=np.uint64))

    @classmethod
    def of_rows(cls, hashes: Hashes, buckets: int) -> tuple[Units, Integers]:
        """Return the units of some rows and the place of each row's unit among them.

        Args:
            hashes: uint64 [rows], a hash of each row's unit.
            buckets: how many units are kept apart.
        """
        units, codes = hashes | _UNIT, np.empty(len(hashes), dtype=np.int64)
        found = np.empty(buckets, dtype=np.uint64)
        count = number_units(units, found, codes)
        if count < 0:
            occurring, places = dense((units % np.uint64(buckets)).astype(np.int64), buckets)
            return cls(buckets, occurring.astype(np.uint64)), places
        order = np.argsort(found[:count])
        places = np.empty(count, dtype=np.int64)
        places[order] = np.arange(count)
        return cls(buckets, found[:count][order]), places[codes]

    @property
    def are_buckets(self) -> bool:
        """Whether units were put together."""
        return len(self.known) > 0 and self.known[0] < _UNIT

    def __add__(self, other: Units) -> Units:
        if self.are_buckets != other.are_buckets and len(self.known) and len(other.known):
            return self.collapsed() + other.collapsed()
        union = Units(self.buckets, distinct(np.concatenate([self.known, other.known])))
        return union.collapsed() if len(union.known) > self.buckets else union

    def collapsed(self) -> Units:
        """The units put together in buckets."""
        return Units(self.buckets, distinct(_bucket_of(self.known, self.buckets)))


def _bucket_of(units: Hashes, buckets: int) -> Hashes:
    return np.where(units >= _UNIT, units % np.uint64(buckets), units)


@dataclass(frozen=True)
class UnitSums:
    """The sums of every unit in every group of one slice, for one loss of one model or one pair of models.

    Args:
        known: uint64, increasing, see `Units.known`; the entries may name fewer.
        groups: int64 [entries], increasing.
        places: int64 [entries], in ``known``; increasing within a group.
        rows: int64 [entries], rows that the denominator of the mean counts.
        digits, tops: exact sums, int64 [entries, columns, DIGITS] and [entries, columns]; the columns are the values
            and, where it is not the number of rows, the denominator.
    """

    known: Hashes
    groups: Integers
    places: Integers
    rows: Integers
    digits: Integers
    tops: Integers

    @classmethod
    def of_rows(
        cls,
        layout: tuple[Integers, Integers, Integers],
        units: Units,
        values: Floats,
        weights: Floats | None,
        divisors: Floats | None,
        reasons: npt.NDArray[np.uint8],
    ) -> UnitSums:
        """The sums of a block of rows.

        Args:
            layout: groups and places in ``units.known`` of the entries, and the entry of each row; see `entries`.
            units: of the block.
            values: float64 [values, rows].
            weights, divisors: float64 [rows] or None, see `lossops.kernels.units.add_unit_block`.
            reasons: uint8 [rows].
        """
        groups, places, entry_of_row = layout
        found = cls._zero(units.known, groups, places, len(values) + (divisors is not None))
        own, divided = (_NOTHING if one is None else one for one in (weights, divisors))
        add_unit_block(values, own, divided, reasons, entry_of_row, found.rows, found.digits, found.tops)
        return found

    @classmethod
    def _zero(cls, known: Hashes, groups: Integers, places: Integers, columns: int) -> UnitSums:
        return cls(
            known,
            groups,
            places,
            np.zeros(len(groups), dtype=np.int64),
            np.zeros((len(groups), columns, DIGITS), dtype=np.int64),
            np.full((len(groups), columns), EMPTY_TOP, dtype=np.int64),
        )

    @staticmethod
    def entries(groups: Integers, unit_places: Integers, units: int) -> tuple[Integers, Integers, Integers]:
        """Return the group and unit of every entry that rows make, and the entry of each row.

        Args:
            groups: int64 [rows], the group of each row.
            unit_places: int64 [rows], the place of its unit.
            units: number of units.
        """
        size = (int(groups.max()) + 1 if len(groups) else 0) * units
        numbers, entry_of_row = dense(groups * units + unit_places, size)
        found = np.divmod(numbers, max(units, 1))
        return found[0], found[1], entry_of_row

    @classmethod
    def gathered(cls, parts: Sequence[tuple[UnitSums, Integers]], _groups: int) -> UnitSums:
        """Add group ``i`` of each part to group ``at[i]``, for parts and their ``at``."""
        targets = np.concatenate([at[part.groups] for part, at in parts])
        known = distinct(np.concatenate([part.known for part, _ in parts]))
        places = np.concatenate([np.searchsorted(known, part.known)[part.places] for part, _ in parts])
        groups, unit_places, entry_of = cls.entries(targets, places, len(known))
        found = cls._zero(known, groups, unit_places, parts[0][0].tops.shape[1])
        start = 0
        for part, _ in parts:
            found._add(part, entry_of[start : start + len(part.groups)])
            start += len(part.groups)
        return found

    def collapsed(self, buckets: int) -> UnitSums:
        """The sums of buckets of units."""
        if not len(self.known) or self.known[0] < _UNIT:
            return self
        merged = _bucket_of(self.known, buckets)
        known = distinct(merged)
        places = np.searchsorted(known, merged)[self.places]
        groups, unit_places, entry_of = self.entries(self.groups, places, len(known))
        found = self._zero(known, groups, unit_places, self.tops.shape[1])
        found._add(self, entry_of)
        return found

    def _add(self, part: UnitSums, entries: Integers) -> None:
        """Add entry ``i`` of a part to entry ``entries[i]``, in place."""
        np.add.at(self.rows, entries, part.rows)
        merge_sums(self.digits, self.tops, part.digits, part.tops, entries)

    def group(self, number: int) -> tuple[Hashes, Integers, Floats]:
        """Return the units of a group that the denominator counts, their rows, and float64 [columns, units] sums."""
        start, stop = np.searchsorted(self.groups, [number, number + 1])
        own = np.flatnonzero(self.rows[start:stop]) + start
        return self.known[self.places[own]], self.rows[own], _floats(self.digits[own], self.tops[own]).T


def _floats(digits: Integers, tops: Integers) -> Floats:
    """Return sums as float64 [entries, columns], within two units in the last place."""
    total = np.zeros(tops.shape)
    for place in range(DIGITS - 1, -1, -1):
        exponents = np.where(tops == EMPTY_TOP, 0, DIGIT_BITS * (tops - place) - EXPONENT_BIAS)
        total += np.ldexp(digits[..., place].astype(np.float64), exponents.astype(np.int32))
    return total
