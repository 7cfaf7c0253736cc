"""State to numbers: means, spreads and intervals. The only place that divides.

Sums are integers, so every quotient is taken of exact integers and rounded once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from lossops.kernels.accumulate import (
    CLIPPED,
    DIVIDED,
    DIVIDED_COLUMNS,
    INFINITE,
    OVERFLOWED,
    ROWS,
    SCORED,
    UNWEIGHTED_COLUMNS,
)
from lossops.kernels.exact import DIGIT_BITS, DIGITS, EXPONENT_BIAS
from lossops.state import Sums

__all__ = ["CONFIDENCE", "Summary", "summarise"]

CONFIDENCE = 0.95
# The products of weighted rows carry a relative error of about 2**-105; a variance that small is rounding.
_WEIGHTED_NOISE_BITS = 100
_SMALLEST_SQUARE = 2.0**-850  # exact products of float64 need 106 bits above the smallest subnormal, 2**-1074


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
        std_error: standard error of the mean by linearisation for independent rows (s / sqrt(n) without weights).
        ci_low, ci_high: interval of level `CONFIDENCE` for the mean, Student t with rows_valid - 1 degrees of freedom.
        min, max: smallest and largest loss.
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


@dataclass(frozen=True)
class _Exact:
    """The number ``integer * 2**exponent``."""

    integer: int
    exponent: int = 0

    def __mul__(self, other: _Exact) -> _Exact:
        return _Exact(self.integer * other.integer, self.exponent + other.exponent)

    def __add__(self, other: _Exact) -> _Exact:
        exponent = min(self.exponent, other.exponent)
        total = (self.integer << (self.exponent - exponent)) + (other.integer << (other.exponent - exponent))
        return _Exact(total, exponent)

    def __neg__(self) -> _Exact:
        return _Exact(-self.integer, self.exponent)

    def over(self, other: _Exact) -> float:
        """The quotient, correctly rounded."""
        shift = self.exponent - other.exponent
        above, below = self.integer << max(shift, 0), other.integer << max(-shift, 0)
        try:
            return above / below
        except OverflowError:
            return math.inf if above > 0 else -math.inf


_ONE = _Exact(1)
_MINUS_TWO = _Exact(-2)


def _exact(digits: npt.NDArray[np.int64], top: int) -> _Exact:
    integer = 0
    for digit in digits.tolist():
        integer = (integer << DIGIT_BITS) + digit
    return _Exact(integer, DIGIT_BITS * (top - DIGITS + 1) - EXPONENT_BIAS) if integer else _Exact(0)


def _columns(sums: Sums, group: int) -> dict[str, _Exact]:
    """Return the sums of w l, w l^2, w, and for x = w l and the denominator d those of x^2, x d, d^2, d."""
    tops = sums.tops[group].tolist()
    found = {name: _exact(sums.digits[group, i], tops[i]) for i, name in enumerate(sums.columns)}
    if sums.columns == UNWEIGHTED_COLUMNS:
        count = _Exact(int(sums.counts[group, SCORED]))
        return {**found, "w": count, "d": count, "d2": count, "xd": found["wl"], "x2": found["wl2"]}
    if sums.columns == DIVIDED_COLUMNS:
        return {**found, "xd": found["wdl"], "x2": found["w2l2"]}
    return {**found, "d": found["w"], "d2": found["w2"], "xd": found["w2l"], "x2": found["w2l2"]}


def _root(value: _Exact, over: _Exact, noise: _Exact) -> float:
    """sqrt(value / over), where a value no larger than ``noise`` is rounding around zero."""
    return math.sqrt(value.over(over)) if (value + -noise).integer > 0 else 0.0


def _underflows(columns: dict[str, _Exact]) -> bool:
    """Whether losses or weights are so small that their squares lost digits before they were summed."""
    squares = ["d2", *(["wl2", "xd", "x2"] if columns["wl"].integer else [])]
    return any(columns[name].integer and columns[name].over(_ONE) < _SMALLEST_SQUARE for name in squares)


def _spreads(columns: dict[str, _Exact], rows: int, *, weighted: bool) -> tuple[float, float | None]:
    """Return the standard deviation of the losses and the standard error of sum(x) / sum(d)."""
    w, x, d = columns["w"], columns["wl"], columns["d"]
    noise = _Exact(1, -_WEIGHTED_NOISE_BITS) if weighted else _Exact(0)
    second = w * columns["wl2"]
    std = _root(second + -(x * x), w * w, noise * second)
    if rows < 2:
        return std, None
    largest = d * d * columns["x2"]
    squares = largest + _MINUS_TWO * x * d * columns["xd"] + x * x * columns["d2"]
    rows_over = _Exact(rows - 1) * d * d * d * d
    return std, _root(_Exact(rows) * squares, rows_over, noise * _Exact(rows) * largest)


def _divided_rows(sums: Sums, group: int) -> int:
    """Return the number of rows that the denominator of the mean counts."""
    return int(sums.counts[group, DIVIDED if sums.columns == DIVIDED_COLUMNS else SCORED])


def _summarise_group(sums: Sums, group: int, factors: dict[int, float]) -> Summary:
    counts = sums.counts[group].tolist()
    rows, divided = counts[SCORED], _divided_rows(sums, group)
    columns = _columns(sums, group)
    weight_sum = columns["w"].over(_ONE)
    if rows == 0 or not columns["d"].integer:
        return Summary(counts[ROWS], rows, counts[CLIPPED], weight_sum)
    low, high = sums.extremes[group].tolist()
    if counts[INFINITE]:
        return Summary(counts[ROWS], rows, counts[CLIPPED], weight_sum, mean=math.inf, sum=math.inf, min=low, max=high)
    mean, total = columns["wl"].over(columns["d"]), columns["wl"].over(_ONE)
    std, error, ci_low, ci_high = None, None, None, None
    if not counts[OVERFLOWED] and not _underflows(columns):
        std, error = _spreads(columns, divided, weighted=sums.columns != UNWEIGHTED_COLUMNS)
    if error is not None:
        reach = factors[divided] * error
        ci_low, ci_high = mean - reach, mean + reach
    return Summary(counts[ROWS], rows, counts[CLIPPED], weight_sum, mean, total, std, error, ci_low, ci_high, low, high)


def summarise(sums: Sums) -> list[Summary]:
    """Return the numbers of each group."""
    counts = np.unique([_divided_rows(sums, group) for group in range(len(sums.counts))])
    counts = counts[counts > 1]
    quantiles = special.stdtrit(counts - 1, 0.5 + CONFIDENCE / 2)
    factors = dict(zip(counts.tolist(), quantiles.tolist(), strict=True))
    return [_summarise_group(sums, group, factors) for group in range(len(sums.counts))]
