"""How a loss differs: from that of a baseline on the same rows, and in a slice from overall and from all other rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special

from lossops.at_once import AtOnce
from lossops.rounding import Floats, Truths
from lossops.samples import Exact, Form, Sample, UnitValues, clustered
from lossops.statistics import reach, reaches

__all__ = [
    "Contrast",
    "Difference",
    "adjusted",
    "adjusted_array",
    "compare",
    "contrast",
    "infinitely_worse",
    "plain_contrasts",
]


@dataclass(frozen=True)
class Difference:
    """A model less its baseline on the rows of one group that both are scored on; None where that is not determined.

    Args:
        rows: rows that both models are scored on.
        units: independent units among them; None where the run has none.
        baseline_mean, mean: of both models on these rows.
        difference: mean less baseline_mean, from the differences of each row; infinite, and its interval with it, where
            only the model has an infinite loss.
        std_error: of the difference, paired by row and clustered on units where the run has them.
        ci_low, ci_high: interval of the difference, Student t.
        relative_difference: difference / baseline_mean.
        relative_ci_low, relative_ci_high: its interval, from that of the logarithm of the ratio of both means; None
            unless the interval of the baseline's mean is above 0.
        p_value: of no difference, two-sided.
        p_adjusted: the same adjusted over slices.
        freedom: degrees of freedom of the intervals.
    """

    rows: int
    units: int | None = None
    baseline_mean: float | None = None
    mean: float | None = None
    difference: float | None = None
    std_error: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    relative_difference: float | None = None
    relative_ci_low: float | None = None
    relative_ci_high: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    freedom: int | None = None


def _p_value(difference: float, error: float, freedom: int) -> float:
    """Of a difference of 0, two-sided; where nothing varies the difference is certain."""
    if error == 0.0:
        return 1.0 if difference == 0.0 else 0.0
    return float(2 * special.stdtr(freedom, -abs(difference / error)))


def compare(sample: Sample | None, overall: Sample | None, rows: int, confidence: float) -> Difference:
    """Compare a model with the baseline in a group.

    Args:
        sample: of the pairs of losses; None where none is finite.
        overall: of all rows.
        rows: rows that both models are scored on.
        confidence: level of the intervals.
    """
    if sample is None:
        return Difference(rows)
    a, b, v = (sample.firsts[name] for name in "abv")
    units = None if sample.units is None else len(sample.units.units)
    relative = a.over(b) if b.integer else None
    found = Difference(rows, units, b.over(v), (a + b).over(v), a.over(v), relative_difference=relative)
    population = None if overall is None else overall.units
    error = sample.std_error(sample.ratio("a", "v"), population) if sample.seconds else None
    if error is None or found.difference is None:
        return found
    width = reach(sample.freedom(), confidence) * error
    low, high = found.difference - width, found.difference + width
    p_value = _p_value(found.difference, error, sample.freedom())
    found = replace(found, std_error=error, ci_low=low, ci_high=high, p_value=p_value, freedom=sample.freedom())
    ends = _relative(sample, population, confidence) or (None, None)
    return replace(found, relative_ci_low=ends[0], relative_ci_high=ends[1])


def infinitely_worse(found: Difference) -> Difference:
    """A comparison in which a loss of the model is infinite, and none of the baseline: the difference is surely so.

    Args:
        found: what can be told of finite losses: the rows.
    """
    infinite = math.inf
    return replace(found, mean=infinite, difference=infinite, ci_low=infinite, ci_high=infinite, p_value=0.0)


def _relative(sample: Sample, population: UnitValues | None, confidence: float) -> tuple[float, float] | None:
    """Return the interval of the relative difference, if it has one."""
    a, b, v = (sample.firsts[name] for name in "abv")
    both, width = a + b, reach(sample.freedom(), confidence)
    spread = sample.std_error(sample.ratio("b", "v"), population)
    if both.integer <= 0 or spread is None or b.over(v) - width * spread <= 0:
        return None
    # log((A + B)/B) varies as a/(A + B) + b (1/(A + B) - 1/B)
    error = sample.std_error(Form({"a": b, "b": -a}, both * b), population)
    if error is None:
        return None
    ratio = both.over(b)
    return ratio * math.exp(-width * error) - 1, ratio * math.exp(width * error) - 1


@dataclass(frozen=True)
class Contrast:
    """The mean loss of a slice less that of other rows; None where that is not determined.

    Args:
        rows, other_rows: scored rows of both.
        mean, other_mean: of both.
        difference: mean less other_mean.
        std_error: of the difference, with the covariance of what both share.
        ci_low, ci_high: its interval, Student t.
        p_value, p_adjusted: of no difference, two-sided; and adjusted over slices.
    """

    rows: int
    other_rows: int
    mean: float
    other_mean: float
    difference: float
    std_error: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None


def contrast(part: Sample | None, whole: Sample | None, confidence: float, *, complement: bool) -> Contrast | None:
    """Compare a slice with all rows, or with all others; None where there are no others.

    With u the linearised mean of the slice and v that of what it is compared with, the variance is
    Var(u) + Var(v) - 2 sum(u v) over the rows that both share, or that of u - v by unit.

    Args:
        part: the slice.
        whole: all rows, the slice among them.
        confidence: level of the interval.
        complement: whether to compare with all other rows.
    """
    if part is None or whole is None or part.rows >= whole.rows:
        return None
    other = whole - part if complement else whole
    if not other.firsts["d"].integer:
        return None
    mean, other_mean = (one.firsts["x"].over(one.firsts["d"]) for one in (part, other))
    difference = (part.firsts["x"] * other.firsts["d"] - other.firsts["x"] * part.firsts["d"]).over(
        part.firsts["d"] * other.firsts["d"]
    )
    head = part.rows, other.rows, mean, other_mean, difference
    error = _contrast_error(part, other, complement=complement)
    if error is None:
        return Contrast(*head)
    freedom = min(part.freedom(), other.freedom())
    width = reach(freedom, confidence) * error
    p_value = _p_value(difference, error, freedom)
    return Contrast(*head, error, difference - width, difference + width, p_value)


def _contrast_error(part: Sample, other: Sample, *, complement: bool) -> float | None:
    if not part.seconds or not other.seconds or min(part.freedom(), other.freedom()) < 1:
        return None
    if part.units is not None and other.units is not None:
        forms = -other.units.of(other.ratio("x", "d"))
        forms[np.searchsorted(other.units.units, part.units.units)] += part.units.of(part.ratio("x", "d"))
        return clustered(forms, len(forms))
    one, two = part.mean_variance, other.mean_variance
    if one is None or two is None:
        return None
    if complement:
        return math.sqrt(one + two)
    return math.sqrt(max(one + two - 2 * _covariance(part, other), 0.0))


def _covariance(part: Sample, other: Sample) -> float:
    """The sum over the rows of a part of the product of the linearised means of it and of all rows."""
    if part.centred is not None:
        return part.centred.over(Exact(part.rows * part.rows * other.rows))
    mine, theirs = part.ratio("x", "d"), other.ratio("x", "d")
    x, d = mine.factors["x"], mine.factors["d"]
    y, e = theirs.factors["x"], theirs.factors["d"]
    total = x * y * part.seconds["xx"] + (x * e + d * y) * part.seconds["dx"] + d * e * part.seconds["dd"]
    return total.over(mine.over * theirs.over)


def plain_contrasts(
    part: AtOnce, mine: AtOnce, every: AtOnce, confidence: float, *, complement: bool
) -> tuple[dict[str, npt.NDArray[np.generic]], Truths]:
    """Return what `contrast` gives for each group of a slice by name, masked where None, and for which groups it holds.

    Args:
        part: the slice.
        mine: the same over the powers of two that all rows have.
        every: all rows, one group.
        confidence, complement: as for `contrast`.
    """
    other = every - mine if complement else every
    with np.errstate(all="ignore"):
        (mean, mean_sure), (other_mean, other_sure) = part.mean, other.mean
        difference, sure = mine.difference(other)
        (one, one_sure), (two, two_sure) = part.mean_variance, other.mean_variance
        squared = one + two
        if not complement:
            shared, shared_sure = part.shared(mine, other)
            squared, sure = np.maximum(squared - 2 * shared, 0.0), sure & shared_sure
        error = np.sqrt(squared)
        freedom = np.minimum(mine.rows, other.rows) - 1
        width = reaches(freedom, confidence) * error
        p_value = 2 * special.stdtr(freedom, -np.abs(difference / error))
    sure &= mine.usable & other.usable & mean_sure & other_sure & one_sure & two_sure & ~(error <= 0.0)
    size = len(mine.rows)
    found: dict[str, npt.NDArray[np.generic]] = {
        "rows": mine.rows,
        "other_rows": np.broadcast_to(other.rows, size),
        "mean": mean,
        "other_mean": np.broadcast_to(other_mean, size),
        "difference": difference,
        **{
            name: np.ma.masked_invalid(values)
            for name, values in {
                "std_error": error,
                "ci_low": difference - width,
                "ci_high": difference + width,
                "p_value": p_value,
            }.items()
        },
    }
    return found, sure & (mine.rows < every.rows)


def adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values for their number, whatever their dependence (Benjamini and Yekutieli 2001, Ann. Stat. 29)."""
    given = np.array([math.nan if p is None else p for p in p_values])
    return [None if math.isnan(p) else p for p in adjusted_array(given).tolist()]


def adjusted_array(p_values: Floats) -> Floats:
    """The same for an array, in which NaN stands for none."""
    known = np.flatnonzero(~np.isnan(p_values))
    order, rank = known[np.argsort(p_values[known])], np.arange(1, len(known) + 1)
    raised = p_values[order] * (len(known) / rank) * np.sum(1 / rank)
    found = np.full(len(p_values), math.nan)
    found[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1.0)
    return found
