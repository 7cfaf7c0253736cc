"""A group's sums as exact numbers, and the variance of anything that is linear in its rows.

Every estimate here is a quotient of sums. Its error is taken by linearisation: the estimate is replaced by a sum over
rows of a linear form in what each row adds to these sums (Woodruff 1971, JASA 66; Binder 1983, Int. Stat. Rev. 51). For
independent rows that needs the sums of products, for rows that share units the sums of each unit.

Sums are integers, so forms are evaluated exactly and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lossops.kernels.accumulate import (
    DIVIDED,
    DIVIDED_COLUMNS,
    INFINITE,
    OVERFLOWED,
    PAIR_COLUMNS,
    SCORED,
    UNWEIGHTED_COLUMNS,
    WEIGHTED_PAIR_COLUMNS,
)
from lossops.kernels.exact import DIGIT_BITS, DIGITS, EXPONENT_BIAS
from lossops.sums import Sums
from lossops.units import UnitSums

__all__ = ["ONE", "Exact", "Form", "Sample", "UnitValues", "columns_of", "exact_sum", "is_weighted", "root"]

# The products of weighted rows carry a relative error of about 2**-105; a variance that small is rounding.
_WEIGHTED_NOISE_BITS = 100
_SMALLEST_SQUARE = 2.0**-850  # exact products of float64 need 106 bits above the smallest subnormal, 2**-1074
_UNIT_NOISE = 16 * 2.0**-53  # relative, of what is computed from the rounded sums of units


class Exact(NamedTuple):
    """The number ``integer * 2**exponent``; a tuple, because a report makes hundreds of thousands of them."""

    integer: int
    exponent: int = 0

    def __mul__(self, other: Exact) -> Exact:  # type: ignore[override]
        return Exact(self[0] * other[0], self[1] + other[1])

    def __add__(self, other: Exact) -> Exact:  # type: ignore[override]
        shift = self[1] - other[1]
        if shift >= 0:
            return Exact((self[0] << shift) + other[0], other[1])
        return Exact(self[0] + (other[0] << -shift), self[1])

    def __neg__(self) -> Exact:
        return Exact(-self[0], self[1])

    def __sub__(self, other: Exact) -> Exact:
        shift = self[1] - other[1]
        if shift >= 0:
            return Exact((self[0] << shift) - other[0], other[1])
        return Exact(self[0] - (other[0] << -shift), self[1])

    def __abs__(self) -> Exact:
        return Exact(abs(self.integer), self.exponent)

    def over(self, other: Exact) -> float:
        """The quotient, correctly rounded."""
        shift = self.exponent - other.exponent
        above, below = self.integer << max(shift, 0), other.integer << max(-shift, 0)
        try:
            return above / below
        except OverflowError:
            return math.inf if (above > 0) == (below > 0) else -math.inf


ONE = Exact(1)
_TWO = Exact(2)


def exact_sum(digits: npt.NDArray[np.int64], top: int) -> Exact:
    """The number that the digits of a sum are, see `lossops.kernels.exact`."""
    integer = 0
    for digit in digits.tolist():
        integer = (integer << DIGIT_BITS) + digit
    return Exact(integer, DIGIT_BITS * (top - DIGITS + 1) - EXPONENT_BIAS) if integer else Exact(0)


def columns_of(sums: Sums, group: int) -> dict[str, Exact]:
    """Return the sums of a group by the names of their columns."""
    tops = sums.tops[group].tolist()
    return {name: exact_sum(sums.digits[group, i], tops[i]) for i, name in enumerate(sums.columns)}


def is_weighted(sums: Sums) -> bool:
    """Whether sums hold products of weights."""
    return sums.columns not in (UNWEIGHTED_COLUMNS, PAIR_COLUMNS)


def root(value: Exact, over: Exact, noise: Exact) -> float:
    """sqrt(value / over), where a value no larger than ``noise`` is rounding around zero."""
    return math.sqrt(value.over(over)) if (value - noise).integer > 0 else 0.0


@dataclass(frozen=True)
class Form:
    """A linear form in what a row adds to sums: factors by the name of the sum, all divided by ``over``."""

    factors: Mapping[str, Exact]
    over: Exact


@dataclass(frozen=True)
class UnitValues:
    """The sums of each unit of a group.

    Args:
        units: uint64 [units], increasing.
        rows: int64 [units], rows of the group.
        values: float64 [units] by name of the sum.
    """

    units: npt.NDArray[np.uint64]
    rows: npt.NDArray[np.int64]
    values: Mapping[str, npt.NDArray[np.float64]]

    def of(self, form: Form) -> npt.NDArray[np.float64]:
        """The form of each unit, float64 [units]; what is rounding around zero is zero."""
        terms = [factor.over(form.over) * self.values[name] for name, factor in form.factors.items()]
        found = np.sum(terms, axis=0)
        return np.where(np.abs(found) <= _UNIT_NOISE * np.sum(np.abs(terms), axis=0), 0.0, found)


@dataclass(frozen=True)
class Sample:
    """The rows of a group, as far as estimates need them.

    Args:
        rows: rows that the denominator counts.
        firsts: sums over rows; ``x`` and ``d`` are numerator and denominator of a mean, of a pair of losses ``a`` is
            the difference to the baseline, ``b`` the baseline and ``v`` the denominator.
        seconds: sums of products, by the names of both in alphabetical order; empty where they leave float64.
        rounded: whether products were rounded, as those of weights are.
        units: the same by independent unit, where the run has units.
    """

    rows: int
    firsts: Mapping[str, Exact]
    seconds: Mapping[str, Exact]
    rounded: bool
    units: UnitValues | None

    @classmethod
    def of(cls, sums: Sums, group: int, units: UnitSums | None = None) -> Sample | None:
        """The sample of a group; None where a loss is infinite or no row is scored."""
        counts = sums.counts[group].tolist()
        columns = columns_of(sums, group)
        divided = sums.columns in (DIVIDED_COLUMNS, WEIGHTED_PAIR_COLUMNS)
        rows = counts[DIVIDED if divided else SCORED]
        pair = "xy" in columns
        firsts, seconds = (_pair_moments if pair else _moments)(columns, sums.columns, rows)
        if counts[INFINITE] or not counts[SCORED] or not firsts["v" if pair else "d"].integer:
            return None
        squares = [one for one in seconds.values() if one.integer]
        usable = not counts[OVERFLOWED] and all(abs(one).over(ONE) >= _SMALLEST_SQUARE for one in squares)
        usable = usable and not any(one.integer and not seconds[2 * name].integer for name, one in firsts.items())
        own = None if units is None else _unit_values(units, group, tuple(firsts))
        return cls(rows, firsts, seconds if usable else {}, is_weighted(sums), own)

    def __sub__(self, part: Sample) -> Sample:
        """The rows that are not in a part of this sample."""
        usable = self.seconds and part.seconds
        return Sample(
            self.rows - part.rows,
            {name: one - part.firsts[name] for name, one in self.firsts.items()},
            {name: one - part.seconds[name] for name, one in self.seconds.items()} if usable else {},
            self.rounded,
            None if self.units is None or part.units is None else _without(self.units, part.units),
        )

    def ratio(self, above: str, below: str) -> Form:
        """The linearised quotient of two sums, less its value."""
        d = self.firsts[below]
        return Form({above: d, below: -self.firsts[above]}, d * d)

    def squares(self, form: Form) -> tuple[Exact, Exact]:
        """Return the sum over rows of (form times ``form.over``) squared, and what is rounding in it."""
        total = largest = Exact(0)
        for one, two in combinations_with_replacement(sorted(form.factors), 2):
            term = form.factors[one] * form.factors[two] * self.seconds[one + two]
            term = term if one == two else term * _TWO
            total, largest = total + term, (largest + abs(term) if self.rounded else largest)
        return total, largest * Exact(1, -_WEIGHTED_NOISE_BITS)

    def variance(self, form: Form) -> float | None:
        """The variance of an estimate for independent rows: n/(n - 1) times the sum of squares of its form."""
        if self.rows < 2 or not self.seconds:
            return None
        total, noise = self.squares(form)
        if (total - noise).integer <= 0:
            return 0.0
        return (Exact(self.rows) * total).over(Exact(self.rows - 1) * form.over * form.over)

    @cached_property
    def centred(self) -> Exact | None:
        """Return n sum(x^2) - sum(x)^2 where every row counts 1, which shortens the other forms; else None."""
        if self.rounded or "x" not in self.firsts or not self.seconds:
            return None
        x = self.firsts["x"]
        return self.firsts["d"] * self.seconds["xx"] - x * x

    @cached_property
    def mean_variance(self) -> float | None:
        """The variance of the mean for independent rows."""
        if self.centred is None:
            return self.variance(self.ratio("x", "d"))
        return self.centred.over(Exact(self.rows * self.rows * (self.rows - 1))) if self.rows > 1 else None

    def mean_error(self, population: UnitValues | None) -> float | None:
        """The standard error of the mean, see `std_error`."""
        if population is None or self.units is None:
            return None if self.mean_variance is None else math.sqrt(self.mean_variance)
        return self.std_error(self.ratio("x", "d"), population)

    def std_error(self, form: Form, population: UnitValues | None) -> float | None:
        """The standard error of an estimate; None where there are fewer than two rows, or units.

        Args:
            form: of the estimate.
            population: all units of the run, also those without a row in this sample, whose form is 0; where rows
                share units, Var = J/(J - 1) sum((z_c - mean(z))^2) over all J of them.
        """
        if population is None or self.units is None:
            variance = self.variance(form)
            return None if variance is None else math.sqrt(variance)
        if self.freedom() < 1:
            return None
        return clustered(self.units.of(form), len(population.units))

    def freedom(self) -> int:
        """Degrees of freedom: rows less one, or units with a row here less one, as survey::degf of a domain."""
        return (self.rows if self.units is None else int(np.count_nonzero(self.units.rows))) - 1

    @property
    def size(self) -> float:
        """Independent observations of a mean: units, or rows, as (sum d)^2 / sum(d^2) where denominators vary."""
        if self.units is not None:
            return float(self.freedom() + 1)
        return (self.firsts["d"] * self.firsts["d"]).over(self.seconds["dd"])


def clustered(forms: npt.NDArray[np.float64], units: int) -> float:
    """sqrt(J/(J - 1) sum((z - mean(z))^2)) of the forms of ``units`` units, of which all but these are 0."""
    mean = math.fsum(forms.tolist()) / units
    squares = math.fsum(((forms - mean) ** 2).tolist()) + (units - len(forms)) * mean * mean
    return math.sqrt(units / (units - 1) * squares)


def _moments(
    columns: Mapping[str, Exact], names: tuple[str, ...], rows: int
) -> tuple[dict[str, Exact], dict[str, Exact]]:
    x, count = columns["wl"], Exact(rows)
    if names == UNWEIGHTED_COLUMNS:
        return {"x": x, "d": count}, {"xx": columns["wl2"], "dx": x, "dd": count}
    if names == DIVIDED_COLUMNS:
        return {"x": x, "d": columns["d"]}, {"xx": columns["w2l2"], "dx": columns["wdl"], "dd": columns["d2"]}
    return {"x": x, "d": columns["w"]}, {"xx": columns["w2l2"], "dx": columns["w2l"], "dd": columns["w2"]}


def _pair_moments(
    columns: Mapping[str, Exact], names: tuple[str, ...], rows: int
) -> tuple[dict[str, Exact], dict[str, Exact]]:
    """The moments of the difference of a pair, and of its second number."""
    x, y, xx, yy, xy = (columns[name] for name in PAIR_COLUMNS)
    if names == PAIR_COLUMNS:
        v, vv, xv, yv = Exact(rows), Exact(rows), x, y
    else:
        v, vv, xv, yv = (columns[name] for name in ("v", "v2", "xv", "yv"))
    squares = {"aa": xx - xy - xy + yy, "ab": xy - yy, "bb": yy}
    return {"a": x - y, "b": y, "v": v}, {**squares, "av": xv - yv, "bv": yv, "vv": vv}


def _unit_values(units: UnitSums, group: int, names: tuple[str, ...]) -> UnitValues:
    found, rows, values = units.group(group)
    every = values if len(values) == len(names) else [*values, rows.astype(np.float64)]
    return UnitValues(found, rows, dict(zip(names, every, strict=True)))


def _without(whole: UnitValues, part: UnitValues) -> UnitValues:
    at = np.searchsorted(whole.units, part.units)
    values = {name: own.copy() for name, own in whole.values.items()}
    for name, own in part.values.items():
        values[name][at] -= own
    rows = whole.rows.copy()
    rows[at] -= part.rows
    return UnitValues(whole.units, rows, values)
