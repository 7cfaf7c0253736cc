"""State to numbers: means, spreads and intervals. With `lossops.comparisons` the only place that divides.

Sums are integers, so every quotient is taken of exact integers and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

from lossops.at_once import AtOnce
from lossops.kernels.accumulate import CLIPPED, INFINITE, OVERFLOWED, ROWS, SCORED
from lossops.rounding import Floats, Truths
from lossops.samples import ONE, Exact, Sample, columns_of, is_weighted, root
from lossops.state import GroupTable
from lossops.sums import Sums

__all__ = [
    "CONFIDENCE",
    "Summary",
    "beyond",
    "plain_summaries",
    "reach",
    "reaches",
    "samples_of",
    "summarise",
    "summary_of",
]

CONFIDENCE = 0.95
_SMALLEST_SQUARE = 2.0**-850


@dataclass(frozen=True)
class Summary:
    """The numbers of one group for one model and loss; None where the data does not determine them.

    Args:
        rows: aligned rows.
        rows_valid: scored rows.
        rows_clipped: scored rows whose prediction the convention changed.
        weight_sum: sum of the weights of scored rows (their number where there are no weights).
        mean: sum(w l) / sum(w), or over the sum of the denominator that the config asks for, in units of the loss.
        sum: sum(w l).
        std: sqrt(sum(w (l - mean)^2) / sum(w)), the population form, as numpy.std. None, like what follows, where a
            square of a loss or weight leaves the range of float64 (beyond about 1e150 or all below 1e-125).
        std_error: standard error of the mean by linearisation, for independent rows (s / sqrt(n) without weights) or,
            where the run has units, clustered on them.
        ci_low, ci_high: interval for the mean, Student t; the degrees of freedom are the rows, or units, of the group
            less one.
        min, max: smallest and largest loss.
        units: independent units with a scored row; None where the run has none. Where the run has more units than are
            kept apart, the buckets of them.
        freedom: degrees of freedom of the interval.
        heavy_tail: whether losses are too skewed for the interval to be trusted at this size; None where there is no
            interval, or losses are not counted in bins.
    """

    rows: int
    rows_valid: int
    rows_clipped: int
    weight_sum: float
    mean: float | None = None
    sum: float | None = None
    std: float | None = None
    std_error: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    min: float | None = None
    max: float | None = None
    units: int | None = None
    freedom: int | None = None
    heavy_tail: bool | None = None


@lru_cache(maxsize=1 << 16)
def reach(freedom: int, confidence: float) -> float:
    """How many standard errors the interval reaches to each side: the quantile of Student's t."""
    return float(special.stdtrit(freedom, 0.5 + confidence / 2))


def reaches(freedom: npt.NDArray[np.int64], confidence: float) -> Floats:
    """The same for many, float64 [groups]; many groups have as many degrees of freedom as others."""
    distinct, places = np.unique(freedom, return_inverse=True)
    return np.asarray(special.stdtrit(distinct, 0.5 + confidence / 2))[places]


def beyond(value: float, limit: float, error: float, freedom: int) -> float:
    """The p-value of a true value of at most ``limit``: below 1 - confidence just where the interval is above it.

    One-sided, and doubled, because an interval leaves as much to each side.
    """
    if error == 0.0:
        return 0.0 if value > limit else 1.0
    return min(float(2 * special.stdtr(freedom, (limit - value) / error)), 1.0)


def _std(sums: Sums, group: int, columns: Mapping[str, Exact], sample: Sample) -> float | None:
    """Return the standard deviation of the losses, None where their squares leave float64."""
    if sample.centred is not None:
        return math.sqrt(sample.centred.over(Exact(sample.rows * sample.rows)))
    w, x = columns.get("w", Exact(int(sums.counts[group, SCORED]))), columns["wl"]
    second = columns["wl2"]
    if sums.counts[group, OVERFLOWED] or (second.integer and second.over(ONE) < _SMALLEST_SQUARE):
        return None
    product = w * second
    noise = product * Exact(1, -100) if is_weighted(sums) else Exact(0)
    return root(product - x * x, w * w, noise)


def summary_of(sums: Sums, group: int, sample: Sample | None, overall: Sample | None, confidence: float) -> Summary:
    """Return the numbers of a group.

    Args:
        sums: of the slice.
        group: its number there.
        sample: of the group; None where no row is scored or a loss is infinite.
        overall: of all rows, whose units those of the group are among.
        confidence: level of the interval.
    """
    counts = sums.counts[group].tolist()
    columns = columns_of(sums, group)
    weight_sum = columns["w"].over(ONE) if "w" in columns else float(counts[SCORED])
    units = None if sample is None or sample.units is None else len(sample.units.units)
    head = (counts[ROWS], counts[SCORED], counts[CLIPPED], weight_sum)
    low, high = sums.extremes[group].tolist()
    if sample is None:
        if not (counts[INFINITE] and counts[SCORED]):
            return Summary(*head)
        return Summary(*head, mean=math.inf, sum=math.inf, min=low, max=high)
    mean, total = sample.firsts["x"].over(sample.firsts["d"]), sample.firsts["x"].over(ONE)
    std = _std(sums, group, columns, sample) if sample.seconds else None
    error, ci_low, ci_high = None, None, None
    if sample.seconds:
        error = sample.mean_error(None if overall is None else overall.units)
    if error is not None:
        width = reach(sample.freedom(), confidence) * error
        ci_low, ci_high = mean - width, mean + width
    return Summary(*head, mean, total, std, error, ci_low, ci_high, low, high, units, sample.freedom())


def summarise(sums: Sums, confidence: float = CONFIDENCE) -> list[Summary]:
    """Return the numbers of each group, for independent rows."""
    samples = [Sample.of(sums, group) for group in range(len(sums.counts))]
    return [summary_of(sums, group, sample, None, confidence) for group, sample in enumerate(samples)]


def samples_of(table: GroupTable, cell: tuple[str, ...]) -> Sequence[Sample | None]:
    """Return the sample of each group of a slice, for a model and loss or a comparison."""
    sums, units = table.sums[cell], table.units.get(cell)
    return [Sample.of(sums, group, units) for group in range(len(sums.counts))]


def plain_summaries(sums: Sums, plain: AtOnce, confidence: float) -> tuple[dict[str, npt.NDArray[np.generic]], Truths]:
    """Return what `summary_of` gives for each group by name, masked where None, and for which groups it holds.

    Args:
        sums, plain: the slice.
        confidence: level of the interval.
    """
    with np.errstate(all="ignore"):
        mean, sure = plain.mean
        total, total_sure = plain.total()
        weight, weight_sure = plain.weight_sum()
        variance, variance_sure = plain.spread()
        squared, squared_sure = plain.mean_variance
        error = np.sqrt(squared)
        width = reaches(plain.rows - 1, confidence) * error
        found: dict[str, npt.NDArray[np.generic]] = {
            "rows": sums.counts[:, ROWS],
            "rows_valid": plain.rows,
            "rows_clipped": sums.counts[:, CLIPPED],
            "weight_sum": weight,
            "mean": mean,
            "sum": total,
            "std": np.sqrt(variance),
            "std_error": np.ma.masked_invalid(error),
            "ci_low": np.ma.masked_invalid(mean - width),
            "ci_high": np.ma.masked_invalid(mean + width),
            "min": sums.extremes[:, 0],
            "max": sums.extremes[:, 1],
            "freedom": plain.rows - 1,
        }
    return found, plain.usable & sure & total_sure & weight_sure & variance_sure & squared_sure
