"""Whether probabilities are true: the mean label beside the mean probability, in bins and over all rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lossops.kernels.accumulate import SCORED
from lossops.reliability import Reliability
from lossops.samples import ONE, Exact, Sample, UnitValues, exact_sum
from lossops.statistics import reach

__all__ = ["Calibration", "calibrations"]


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
    size = spread / error**2 if error > 0 and spread > 0 else sample.size
    squared = reach(freedom, confidence) ** 2
    centre = (mean + squared / (2 * size)) / (1 + squared / size)
    width = math.sqrt(squared * (spread + squared / (4 * size)) / size) / (1 + squared / size)
    return (0.0 if mean == 0 else max(centre - width, 0.0)), (1.0 if mean == 1 else min(centre + width, 1.0))
