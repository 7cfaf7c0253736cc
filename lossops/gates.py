"""Gates: whether a number keeps a limit, does not, or cannot be told from the data.

A gate looks at an interval: it passes if the upper end keeps the limit, fails if the lower end is beyond it, and else
there is not enough evidence. Over several slices the p-values of being beyond are adjusted (Holm), so that slices
without a fault do not add up to a false alarm; for passing each has to keep the limit by itself anyway.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lossops.comparisons import Difference
from lossops.statistics import Summary, beyond, reach

__all__ = ["Outcome", "Verdict", "holm", "judged", "of_difference", "of_increase", "of_mean", "of_share"]

Outcome = Literal["pass", "fail", "insufficient"]


@dataclass(frozen=True)
class Verdict:
    """A number beside its limit.

    Args:
        limit: the largest value that is allowed.
        rows: rows that the value is of.
        value: the number; None where there is none.
        ci_low, ci_high: its interval; None for a number that is not an estimate.
        p_value: of a true value within the limit; None where nothing can be told.
        p_adjusted: the same adjusted over the slices of the gate.
        outcome: what came of it.
        why: why there is not enough evidence, if that is so.
    """

    limit: float
    rows: int
    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    outcome: Outcome = "insufficient"
    why: str | None = None


def of_mean(found: Summary, limit: float) -> Verdict:
    """A mean loss beside its limit."""
    if found.mean is not None and math.isinf(found.mean):
        return Verdict(limit, found.rows_valid, found.mean, found.mean, found.mean, p_value=0.0)
    if found.std_error is None or found.mean is None or found.freedom is None:
        return Verdict(
            limit, found.rows_valid, found.mean, why="no interval: fewer than two rows or units, or overflow"
        )
    p_value = beyond(found.mean, limit, found.std_error, found.freedom)
    return Verdict(limit, found.rows_valid, found.mean, found.ci_low, found.ci_high, p_value)


def of_difference(found: Difference, limit: float) -> Verdict:
    """The difference to the baseline beside its limit."""
    if found.difference == math.inf:
        return Verdict(limit, found.rows, math.inf, math.inf, math.inf, p_value=0.0)
    if found.std_error is None or found.difference is None or found.freedom is None:
        return Verdict(
            limit, found.rows, found.difference, why="no interval: fewer than two rows or units, or overflow"
        )
    p_value = beyond(found.difference, limit, found.std_error, found.freedom)
    return Verdict(limit, found.rows, found.difference, found.ci_low, found.ci_high, p_value)


def of_increase(found: Difference, limit: float, confidence: float) -> Verdict:
    """The relative difference to the baseline beside its limit, by way of the logarithm of the ratio of both means."""
    if found.difference == math.inf:
        return of_difference(found, limit)
    value, low, high = found.relative_difference, found.relative_ci_low, found.relative_ci_high
    if value is not None and low is not None and high is not None and found.freedom is not None:
        error = math.log((1 + high) / (1 + low)) / (2 * reach(found.freedom, confidence))
        p_value = beyond(math.log1p(value), math.log1p(limit), error, found.freedom)
        return Verdict(limit, found.rows, value, low, high, p_value)
    if found.ci_low is not None and found.ci_high is not None and found.baseline_mean == 0.0:
        # Nothing is a fraction of nothing: an increase is beyond every limit, anything else is within.
        size = of_difference(found, 0.0)
        return replace(
            size, limit=limit, value=None, ci_low=None, ci_high=None, outcome=_outcome(size, size.p_value, 1.0)
        )
    return Verdict(limit, found.rows, value, why="the mean of the baseline is not surely above 0")


def of_share(part: int, rows: int, limit: float, unread: str | None = None) -> Verdict:
    """A share of rows beside its limit: no estimate, but what the data holds.

    Args:
        part, rows: how many rows, and of how many.
        limit: the largest share that is allowed.
        unread: says so where there are more rows, which only add to the part, but nobody knows how many.
    """
    if not rows:
        return Verdict(limit, 0, why=unread or "no rows")
    share = part / rows
    if share > limit:
        return Verdict(limit, rows, share, outcome="fail")
    return Verdict(limit, rows, share, outcome="insufficient" if unread else "pass", why=unread)


def judged(verdicts: Sequence[Verdict], min_rows: int, confidence: float) -> list[Verdict]:
    """Decide all verdicts of one gate.

    Args:
        verdicts: of every model and slice.
        min_rows: rows below which nothing is decided.
        confidence: level of the intervals; the chance that any slice within its limit fails is at most 1 - confidence.
    """
    enough = [one if one.rows >= min_rows else _too_few(one, min_rows) for one in verdicts]
    return [
        replace(one, p_adjusted=p_value, outcome=_outcome(one, p_value, 1 - confidence))
        for one, p_value in zip(enough, holm([one.p_value for one in enough]), strict=True)
    ]


def _too_few(one: Verdict, min_rows: int) -> Verdict:
    return replace(one, p_value=None, outcome="insufficient", why=f"fewer than {min_rows} rows")


def _outcome(one: Verdict, p_adjusted: float | None, level: float) -> Outcome:
    if p_adjusted is None or one.ci_low is None or one.ci_high is None:
        return one.outcome
    if one.ci_high <= one.limit:
        return "pass"
    return "fail" if one.ci_low > one.limit and p_adjusted < level else "insufficient"


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values so that the chance of any false one is bounded (Holm 1979, Scand. J. Stat. 6)."""
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    found: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(known):
        highest = max(highest, min((len(known) - rank) * p, 1.0))
        found[place] = highest
    return found
