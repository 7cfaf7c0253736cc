"""Labels and probabilities of rows in bins of the probability: what calibration is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lossops.kernels.accumulate import add_values
from lossops.kernels.dense import dense
from lossops.kernels.exact import DIGITS, EMPTY_TOP, merge_sums
from lossops.sums import Sums
from lossops.units import Units, UnitSums

__all__ = ["Reliability", "probability_bins"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def probability_bins(probabilities: Floats, bins: int) -> Integers:
    """The k with k/n <= p < (k + 1)/n, and n - 1 for 1; k/n as float64, so that 0.29 is in [0.29, 0.3) of 100 bins.

    Args:
        probabilities: float64 [rows]; what is not in [0, 1] is in bin 0.
        bins: how many, n.
    """
    known = np.where((probabilities >= 0) & (probabilities <= 1), probabilities, 0.0)
    found = np.floor(known * bins)
    found = found + (known >= (found + 1) / bins) - (known < found / bins)
    numbers: Integers = np.minimum(found, bins - 1).astype(np.int64)
    return numbers


@dataclass(frozen=True)
class Reliability:
    """The scored rows of each group of a slice by bin, for one model and loss.

    Args:
        bins: number of bins of equal width.
        groups, numbers: int64 [entries], the group and the bin of each entry, increasing.
        sums: of the labels of each entry.
        digits, tops: int64 [entries, 1, DIGITS] and [entries, 1], exact sums of the probabilities times the weights.
        units: sums of the labels by independent unit, where the run has units.
    """

    bins: int
    groups: Integers
    numbers: Integers
    sums: Sums
    digits: Integers
    tops: Integers
    units: UnitSums | None

    @classmethod
    def of_rows(
        cls,
        bins: int,
        labels: Floats,
        probabilities: Floats,
        weights: Floats | None,
        reasons: npt.NDArray[np.uint8],
        groups: Integers,
        units: tuple[Units, Integers] | None,
    ) -> Reliability:
        """The entries of a block of rows.

        Args:
            bins: number of bins.
            labels, probabilities: float64 [rows].
            weights: float64 [rows], or None.
            reasons: uint8 [rows], 0 for a scored row.
            groups: int64 [rows].
            units: of the block, and the place of each row's unit among them.
        """
        numbers = groups * bins + probability_bins(probabilities, bins)
        found, entries = dense(numbers, (int(groups.max()) + 1 if len(groups) else 0) * bins)
        sums = Sums.zero(len(found), weighted=weights is not None)
        sums.add_rows(labels, weights, reasons, np.zeros(len(labels), dtype=np.uint8), entries)
        digits, tops = _no_sums(len(found))
        add_values(probabilities, _NOTHING if weights is None else weights, reasons, entries, digits, tops)
        by_unit = None
        if units is not None:
            layout = UnitSums.entries(entries, units[1], len(units[0].known))
            divisors = None if weights is None else np.where(reasons == 0, weights, 0.0)
            by_unit = UnitSums.of_rows(layout, units[0], labels[np.newaxis], weights, divisors, reasons)
        return cls(bins, *np.divmod(found, bins), sums, digits, tops, by_unit)

    @classmethod
    def gathered(cls, parts: Sequence[tuple[Reliability, Integers]], groups: int) -> Reliability:
        """Add group ``i`` of each part to group ``at[i]`` of this many, for parts and their ``at``."""
        bins = parts[0][0].bins
        numbers = np.concatenate([at[part.groups] * bins + part.numbers for part, at in parts])
        found, entries = dense(numbers, groups * bins)
        ends = np.cumsum([len(part.groups) for part, _ in parts])[:-1]
        places = np.split(entries, ends)
        sums = Sums.gathered([(part.sums, at) for (part, _), at in zip(parts, places, strict=True)], len(found))
        by_unit = [(part.units, at) for (part, _), at in zip(parts, places, strict=True) if part.units is not None]
        units = UnitSums.gathered(by_unit, len(found)) if by_unit else None
        digits, tops = _no_sums(len(found))
        for (part, _), at in zip(parts, places, strict=True):
            merge_sums(digits, tops, part.digits, part.tops, at)
        return cls(bins, *np.divmod(found, bins), sums, digits, tops, units)

    def with_buckets(self, buckets: int) -> Reliability:
        """The same with units put together in buckets."""
        return self if self.units is None else replace(self, units=self.units.collapsed(buckets))

    def whole(self, groups: int) -> Reliability:
        """The same with all bins as one."""
        numbers = np.zeros_like(self.numbers)
        return Reliability.gathered([(replace(self, bins=1, numbers=numbers), np.arange(groups))], groups)

    def prediction(self, entry: int) -> tuple[Integers, int]:
        """The exact sum of the probabilities of an entry: its digits and top."""
        return self.digits[entry, 0], int(self.tops[entry, 0])


_NOTHING = np.empty(0)


def _no_sums(entries: int) -> tuple[Integers, Integers]:
    return np.zeros((entries, 1, DIGITS), dtype=np.int64), np.full((entries, 1), EMPTY_TOP, dtype=np.int64)
