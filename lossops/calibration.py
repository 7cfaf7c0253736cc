"""Whether probabilities are true: the mean label beside the mean probability, in bins and over all rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lossops.kernels.accumulate import SCORED
from lossops.reliability import Reliability
from lossops.samples import ONE, Exact, Form, Sample, UnitValues
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
    samples: list[list[tuple[int, int, Sample]]] = [[] for _ in range(groups)]
    for entry, (group, number) in enumerate(zip(found.groups.tolist(), found.numbers.tolist(), strict=True)):
        sample = Sample.of(found.sums, entry, found.units)
        if sample is not None:
            samples[group].append((number, int(found.sums.counts[entry, SCORED]), sample))
    sums, units = found.whole(groups)
    result: list[list[Calibration]] = [[] for _ in range(groups)]
    for group, own in enumerate(samples):
        whole = Sample.of(sums, group, units)
        if whole is None:
            continue
        gap = sum((abs(one.firsts["a"]) for _, _, one in own), Exact(0))
        rows = int(sums.counts[group, SCORED])
        result[group].append(_calibration(None, rows, whole, gap, population, confidence))
        result[group] += [
            _calibration(number, count, one, abs(one.firsts["a"]), population, confidence) for number, count, one in own
        ]
    return result


def _calibration(
    number: int | None, rows: int, sample: Sample, gap: Exact, population: UnitValues | None, confidence: float
) -> Calibration:
    gaps, prediction, weight = (sample.firsts[name] for name in "abv")
    label = gaps + prediction
    mean = label.over(weight)
    ends = _interval(sample, mean, population, confidence) or (None, None)
    ratio = prediction.over(label) if label.integer else None
    return Calibration(
        number, rows, weight.over(ONE), prediction.over(weight), mean, ends[0], ends[1], ratio, gap.over(weight)
    )


def _interval(
    sample: Sample, mean: float, population: UnitValues | None, confidence: float
) -> tuple[float, float] | None:
    freedom = sample.freedom()
    gaps, prediction, weight = (sample.firsts[name] for name in "abv")
    label = Form({"a": weight, "b": weight, "v": -(gaps + prediction)}, weight * weight)
    error = sample.std_error(label, population)
    if error is None or freedom < 1:
        return None
    spread = mean * (1 - mean)
    # Where every label is the same there is no standard error to go by: as many as there are rows, or units.
    size = spread / error**2 if error > 0 and spread > 0 else _size(sample)
    squared = reach(freedom, confidence) ** 2
    centre = (mean + squared / (2 * size)) / (1 + squared / size)
    width = math.sqrt(squared * (spread + squared / (4 * size)) / size) / (1 + squared / size)
    return (0.0 if mean == 0 else max(centre - width, 0.0)), (1.0 if mean == 1 else min(centre + width, 1.0))


def _size(sample: Sample) -> float:
    if sample.units is not None:
        return float(sample.freedom() + 1)
    weight = sample.firsts["v"]
    return (weight * weight).over(sample.seconds["vv"])
