"""When a mean moved: each estimate of a series beside the one before it, for many series at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from lossops.comparisons import adjusted

__all__ = ["Changes", "changes"]

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Changes:
    """Pairs of estimates that follow each other in a series, each array [pairs].

    Args:
        before, now: places of both estimates.
        statistic: their difference in standard errors; infinite where neither has an error and they differ.
        p_value: of no difference, two-sided, Welch's t.
        p_adjusted: the same adjusted over all pairs (Benjamini and Yekutieli).
    """

    before: Places
    now: Places
    statistic: Floats
    p_value: Floats
    p_adjusted: Floats


def changes(series: Places, mean: Floats, error: Floats, freedom: Floats) -> Changes:
    """Compare each mean of a series with the one before it, as two independent estimates.

    Runs that score the same rows are not independent: what is hard for one is hard for the other, so their difference
    varies less than this says. There the test is conservative, and `compare` is the better one.

    Args:
        series: int64 [estimates], the number of the series that an estimate belongs to; those of one are in order.
        mean, error: float64 [estimates], with their standard errors; what is not finite is passed over.
        freedom: float64 [estimates], degrees of freedom of the errors; what is below 1 is passed over.
    """
    usable = np.isfinite(mean) & np.isfinite(error) & (freedom >= 1)
    place = np.flatnonzero(usable)
    place = place[np.argsort(series[place], kind="stable")]
    follows = series[place][1:] == series[place][:-1]
    before, now = place[:-1][follows], place[1:][follows]
    statistic, p_value = _welch(mean[now] - mean[before], error[before], error[now], freedom[before], freedom[now])
    return Changes(before, now, statistic, p_value, np.array(adjusted(p_value.tolist()), dtype=np.float64))


def _welch(difference: Floats, one: Floats, two: Floats, first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Return the statistic and p-value; where nothing varies a difference is certain."""
    both = np.hypot(one, two)
    with np.errstate(all="ignore"):
        statistic = np.where(difference == 0.0, 0.0, difference / both)
        # Welch and Satterthwaite: (a + b)^2 / (a^2/m + b^2/n), of shares, whose powers stay within float64.
        freedom = 1.0 / ((one / both) ** 4 / first + (two / both) ** 4 / second)
    return statistic, 2.0 * special.stdtr(np.where(both == 0.0, 1.0, freedom), -np.abs(statistic))
