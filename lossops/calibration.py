"""Whether probabilities are true: the mean label beside the mean probability, in bins and over all rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lossops.at_once import AtOnce, numbers_of
from lossops.kernels.accumulate import INFINITE, SCORED
from lossops.reliability import Reliability
from lossops.rounding import Doubled, rounded_quotient, value_of
from lossops.samples import ONE, Exact, Sample, UnitValues, exact_sum
from lossops.statistics import reach, reaches
from lossops.sums import Sums

__all__ = ["Calibration", "CalibrationsAtOnce", "calibrations"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]
_MOST_SHIFT = 350  # powers of two between sums that are subtracted, which stay within float64


@dataclass(frozen=True)
class Calibration:
    """Probabilities and labels of some rows.

    Args:
        bin: number of the bin from 0; None for all rows of the group.
        rows: scored rows.
        weight_sum: of their weights.
        mean_prediction, mean_label: of them, by weight.
        ci_low, ci_high: interval of the mean label (E. B. Wilson 1927, JASA 22, with Student t and the number of
            independent labels that has the standard error, as N. Dean and M. Pagano 2015, J. Surv. Stat. Methodol. 3,
            advise for clustered ones); None where there are fewer than two rows or units.
        ratio: mean_prediction / mean_label; None where no label is above 0.
        error: abs(mean_prediction - mean_label) of a bin; of all rows the mean of that over bins by weight: the
            expected calibration error.
    """

    bin: int | None
    rows: int
    weight_sum: float
    mean_prediction: float
    mean_label: float
    ci_low: float | None
    ci_high: float | None
    ratio: float | None
    error: float


def calibrations(
    found: Reliability, groups: int, population: UnitValues | None, confidence: float
) -> list[list[Calibration]]:
    """Return for each group that of all its rows, then those of its bins that are not empty.

    Args:
        found: the sums.
        groups: number of groups of the slice.
        population: all units of the run, see `lossops.samples.Sample.std_error`.
        confidence: level of the intervals.
    """
    gaps = [Exact(0)] * groups
    result: list[list[Calibration]] = [[] for _ in range(groups)]
    for entry, (group, number) in enumerate(zip(found.groups.tolist(), found.numbers.tolist(), strict=True)):
        sample = Sample.of(found.sums, entry, found.units)
        if sample is not None:
            prediction = exact_sum(*found.prediction(entry))
            gap = abs(prediction - sample.firsts["x"])
            gaps[group] = gaps[group] + gap
            rows = int(found.sums.counts[entry, SCORED])
            result[group].append(_calibration(number, rows, sample, prediction, gap, population, confidence))
    whole = found.whole(groups)
    for entry, group in enumerate(whole.groups.tolist()):
        sample = Sample.of(whole.sums, entry, whole.units)
        if sample is not None:
            prediction, rows = exact_sum(*whole.prediction(entry)), int(whole.sums.counts[entry, SCORED])
            one = _calibration(None, rows, sample, prediction, gaps[group], population, confidence)
            result[group].insert(0, one)
    return result


def _calibration(
    number: int | None,
    rows: int,
    sample: Sample,
    prediction: Exact,
    gap: Exact,
    population: UnitValues | None,
    confidence: float,
) -> Calibration:
    label, weight = sample.firsts["x"], sample.firsts["d"]
    mean = label.over(weight)
    ends = _interval(sample, mean, population, confidence) or (None, None)
    ratio = prediction.over(label) if label.integer else None
    return Calibration(
        number, rows, weight.over(ONE), prediction.over(weight), mean, ends[0], ends[1], ratio, gap.over(weight)
    )


def _interval(
    sample: Sample, mean: float, population: UnitValues | None, confidence: float
) -> tuple[float, float] | None:
    freedom, error = sample.freedom(), sample.mean_error(population) if sample.seconds else None
    if error is None or freedom < 1:
        return None
    spread = mean * (1 - mean)
    # Where every label is the same there is no standard error to go by: as many as there are rows, or units.
    size = spread / (error * error) if error > 0 and spread > 0 else sample.size
    squared = reach(freedom, confidence) * reach(freedom, confidence)
    centre = (mean + squared / (2 * size)) / (1 + squared / size)
    width = math.sqrt(squared * (spread + squared / (4 * size)) / size) / (1 + squared / size)
    return (0.0 if mean == 0 else max(centre - width, 0.0)), (1.0 if mean == 1 else min(centre + width, 1.0))


class CalibrationsAtOnce:
    """What `calibrations` gives, of rows that are independent, for all entries at once.

    The entries are all rows of each group that has one, and then those of the bins.

    Args:
        found: the sums.
        groups: number of groups of the slice.
        confidence: level of the intervals.

    Attributes:
        groups: int64 [entries], the group of each.
        bins: int64 [entries], its bin; -1 for all rows of the group.
        there: bool [entries], whether it has a row.
    """

    def __init__(self, found: Reliability, groups: int, confidence: float) -> None:
        self._found, self._whole, self._confidence = found, found.whole(groups), confidence
        parts = (self._whole, found)
        self.groups = np.concatenate([part.groups for part in parts])
        self.bins = np.concatenate([np.full(len(self._whole.groups), -1), found.numbers])
        self._sums = Sums.joined([part.sums for part in parts])
        counts = self._sums.counts
        self.there: Truths = (counts[:, SCORED] > 0) & (counts[:, INFINITE] == 0)

    def exact(self, entry: int) -> Calibration | None:
        """The calibration of one entry, computed with integers."""
        before = len(self._whole.groups)
        part, place = (self._whole, entry) if entry < before else (self._found, entry - before)
        sample = Sample.of(part.sums, place)
        if sample is None:
            return None
        rows, prediction = int(part.sums.counts[place, SCORED]), exact_sum(*part.prediction(place))
        if entry >= before:
            gap = abs(prediction - sample.firsts["x"])
            return _calibration(int(self.bins[entry]), rows, sample, prediction, gap, None, self._confidence)
        start, stop = np.searchsorted(self._found.groups, [self.groups[entry], self.groups[entry] + 1]).tolist()
        gap = sum((self._exact_gap(own) for own in range(start, stop)), Exact(0))
        return _calibration(None, rows, sample, prediction, gap, None, self._confidence)

    def _exact_gap(self, place: int) -> Exact:
        sample = Sample.of(self._found.sums, place)
        return Exact(0) if sample is None else abs(exact_sum(*self._found.prediction(place)) - sample.firsts["x"])

    def numbers(self) -> tuple[Mapping[str, npt.NDArray[np.generic]], Truths] | None:
        """Return the attributes of `Calibration` by name, masked where None, and of which entries they are sure.

        None where means have denominators of their own.
        """
        plain = numbers_of(self._sums)
        if plain is None:
            return None
        with np.errstate(all="ignore"):
            prediction, label, power, usable = self._over_one_power(plain)
            of_mean = power - plain.powers[1]
            gap, gap_usable = self._gaps(prediction, label, power, usable)
            nothing = (prediction.high == 0.0) & (prediction.error == 0.0)
            mean_prediction, sure = rounded_quotient(prediction, plain.d, of_mean)
            mean_label, label_sure = plain.mean
            ratio, ratio_sure = rounded_quotient(prediction, label)
            error, error_sure = rounded_quotient(gap, plain.d, of_mean)
            variance, variance_sure = plain.mean_variance
            weight, weight_sure = plain.weight_sum()
            sizes, sizes_sure = plain.sizes()
            low, high = _intervals(mean_label, np.sqrt(variance), sizes, plain.rows - 1, self._confidence)
        numbers: dict[str, npt.NDArray[np.generic]] = {
            "bin": np.ma.array(self.bins, mask=self.bins < 0),
            "rows": plain.rows,
            "weight_sum": weight,
            "mean_prediction": np.where(nothing, 0.0, mean_prediction),
            "mean_label": mean_label,
            "ci_low": np.ma.array(low, mask=plain.rows < 2),
            "ci_high": np.ma.array(high, mask=plain.rows < 2),
            "ratio": np.ma.array(np.where(nothing, 0.0, ratio), mask=plain.zero),
            "error": error,
        }
        sure = (sure | nothing) & label_sure & (ratio_sure | nothing | plain.zero) & error_sure
        return numbers, sure & variance_sure & weight_sure & sizes_sure & usable & gap_usable

    def _over_one_power(self, plain: AtOnce) -> tuple[Doubled, Doubled, Integers, Truths]:
        """Return the sums of probabilities and of labels over the same powers of two, these, and where that goes."""
        parts = (self._whole, self._found)
        digits, tops = (
            np.concatenate(arrays) for arrays in zip(*((one.digits, one.tops) for one in parts), strict=True)
        )
        prediction, power = value_of(digits[:, 0], tops[:, 0])
        power = np.where(prediction.high == 0.0, plain.powers[0], power)
        shift = np.where(plain.zero, 0, plain.powers[0] - power)
        usable = plain.usable & (np.abs(shift) < _MOST_SHIFT) & (np.abs(power) < _MOST_SHIFT)
        shift, power = np.where(usable, shift, 0), np.where(usable, power, 0)
        return prediction, plain.x.scaled(shift), power, usable

    def _gaps(self, prediction: Doubled, label: Doubled, power: Integers, usable: Truths) -> tuple[Doubled, Truths]:
        """Return how far both sums are apart, of all rows of a group over its bins, and where that holds."""
        before, groups = len(self._whole.groups), int(self.groups.max(initial=-1)) + 1
        apart = prediction - label
        sign = np.where(apart.high < 0.0, -1.0, 1.0)
        high, low, error = sign * apart.high, sign * apart.low, apart.error.copy()
        place = np.zeros(groups, dtype=np.int64)
        place[self.groups[:before]] = np.arange(before)
        whole = place[self.groups[before:]]
        shift = power[before:] - power[whole]
        holds = usable.copy()
        holds[whole[~usable[before:] | (np.abs(shift) >= _MOST_SHIFT)]] = False
        moved = Doubled(high[before:], low[before:], error[before:]).scaled(np.clip(shift, -_MOST_SHIFT, _MOST_SHIFT))
        total = Doubled.of(np.zeros(before))
        for number in range(self._found.bins):
            own = np.flatnonzero(self._found.numbers == number)  # at most one of each group
            at = whole[own]
            part = Doubled(*(array[at] for array in (total.high, total.low, total.error)))
            added = part + Doubled(*(array[own] for array in (moved.high, moved.low, moved.error)))
            total.high[at], total.low[at], total.error[at] = added.high, added.low, added.error
        high[:before], low[:before], error[:before] = total.high, total.low, total.error
        return Doubled(high, low, error), holds


def _intervals(
    mean: Floats, error: Floats, sizes: Floats, freedom: Integers, confidence: float
) -> tuple[Floats, Floats]:
    """The ends of `_interval` of many, in the same operations."""
    spread = mean * (1 - mean)
    size = np.where((error > 0) & (spread > 0), spread / (error * error), sizes)
    squared = reaches(freedom, confidence) * reaches(freedom, confidence)
    centre = (mean + squared / (2 * size)) / (1 + squared / size)
    width = np.sqrt(squared * (spread + squared / (4 * size)) / size) / (1 + squared / size)
    low, high = np.maximum(centre - width, 0.0), np.minimum(centre + width, 1.0)
    return np.where(mean == 0, 0.0, low), np.where(mean == 1, 1.0, high)
