"""Sums of many groups as numbers that are computed with all at once, where rows are independent.

Each has the bits of what `lossops.samples` computes with integers wherever it says that it is sure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lossops.kernels.accumulate import INFINITE, OVERFLOWED, SCORED, UNWEIGHTED_COLUMNS, WEIGHTED_COLUMNS
from lossops.rounding import Doubled, Floats, Truths, rounded_quotient, value_of
from lossops.sums import Sums

__all__ = ["AtOnce", "Plain", "Weighted", "numbers_of"]

Integers = npt.NDArray[np.int64]
_MOST_POWER = 350
_SMALLEST = 2.0**-100  # of a sum beside its power of two, below which nothing is sure
_CLEAR = 2.0**-90  # of a difference beside what it is of, above which it is surely no rounding, see `lossops.samples`


class AtOnce(Protocol):
    """What `Plain` and `Weighted` have in common; both are only compared with their own kind.

    All numbers are [groups], beside where they are sure.
    """

    @property
    def rows(self) -> Integers:
        """Scored rows."""

    @property
    def zero(self) -> Truths:
        """Whether all losses of a group are 0."""

    @property
    def usable(self) -> Truths:
        """Whether anything else holds of a group."""

    @property
    def x(self) -> Doubled:
        """The sums of the losses by weight, over 2**powers[0]."""

    @property
    def d(self) -> Doubled:
        """The sums of the weights, over 2**powers[1]."""

    @property
    def powers(self) -> tuple[Integers, Integers]:
        """Two int64 [groups]."""

    @property
    def mean(self) -> tuple[Floats, Truths]:
        """The means."""

    @property
    def mean_variance(self) -> tuple[Floats, Truths]:
        """The variances of the means, NaN where there is a single row."""

    def weight_sum(self) -> tuple[Floats, Truths]:
        """The sums of the weights."""

    def sizes(self) -> tuple[Floats, Truths]:
        """Independent observations, see `lossops.samples.Sample.size`."""

    def total(self) -> tuple[Floats, Truths]:
        """The sums of the losses, by weight."""

    def spread(self) -> tuple[Floats, Truths]:
        """The variances of the losses."""

    def alike(self, every: Any) -> Any:
        """The same over the powers of two of all rows."""

    def __sub__(self, part: Any) -> Any:
        """The rows that are not in a part; both are over the same powers."""

    def difference(self, other: Any) -> tuple[Floats, Truths]:
        """The means less those of others, over the same powers."""

    def shared(self, mine: Any, other: Any, /) -> tuple[Floats, Truths]:
        """The covariances of the means with those of rows that these are a part of.

        Args:
            mine: these, over the powers of the others.
            other: the rows.
        """


@dataclass(frozen=True)
class Plain:
    """The sums of groups whose rows are independent and count 1 each, as numbers that are computed with all at once.

    Args:
        rows: int64 [groups], scored rows.
        x: sums of the losses, over 2**power.
        xx: sums of their squares, over 4**power.
        power: int64 [groups].
        constant: bool [groups], whether all losses of a group are the same, as that of a single row is; their variance
            is 0, which computing would leave in doubt.
        zero: bool [groups], whether all are 0.
        usable: bool [groups], whether this holds of a group; elsewhere all is undefined.
    """

    rows: npt.NDArray[np.int64]
    x: Doubled
    xx: Doubled
    power: npt.NDArray[np.int64]
    constant: Truths
    zero: Truths
    usable: Truths

    @classmethod
    def of(cls, sums: Sums) -> Plain | None:
        """The sums of every group of a slice; None where rows have weights."""
        if sums.columns != UNWEIGHTED_COLUMNS:
            return None
        counts, (low, high) = sums.counts, sums.extremes.T
        (x, power), (xx, of_squares) = (value_of(sums.digits[:, i], sums.tops[:, i]) for i in range(2))
        usable = (counts[:, SCORED] > 0) & (counts[:, INFINITE] == 0) & (counts[:, OVERFLOWED] == 0)
        constant = usable & (low == high)
        zero = constant & (low == 0.0)
        usable &= zero | (np.abs(power) < _MOST_POWER)
        power = np.where(usable & ~zero, power, 0)
        with np.errstate(all="ignore"):
            squares = xx.scaled(np.where(usable & ~zero, of_squares - 2 * power, 0))
        return cls(counts[:, SCORED], x, squares, power, constant, zero, usable)._checked()

    @property
    def d(self) -> Doubled:
        """The numbers of rows."""
        return Doubled.of(self.rows)

    @property
    def powers(self) -> tuple[Integers, Integers]:
        """The powers of two of the sums of the losses and of the numbers of rows."""
        return self.power, np.zeros_like(self.power)

    def alike(self, every: Plain) -> Plain:
        """The same over the powers of two of all rows."""
        return self.over(int(every.power[0]))

    def over(self, power: int) -> Plain:
        """The same over one power of two."""
        usable = self.usable & (np.abs(self.power - power) < _MOST_POWER) & (abs(power) < _MOST_POWER)
        shifts = np.where(usable, self.power - power, 0)
        with np.errstate(all="ignore"):
            x, xx = self.x.scaled(shifts), self.xx.scaled(2 * shifts)
        return replace(self, x=x, xx=xx, power=np.where(usable, power, 0), usable=usable)._checked()

    def _checked(self) -> Plain:
        large = (np.abs(self.x.high) > _SMALLEST) & (self.xx.high > _SMALLEST)
        return replace(self, usable=self.usable & (large | self.zero))

    def __sub__(self, part: Plain) -> Plain:
        """The rows that are not in a part; both are over the same power."""
        rows = self.rows - part.rows
        usable = self.usable & part.usable & (rows > 1)
        unknown = np.zeros(len(rows), dtype=np.bool_)
        return Plain(rows, self.x - part.x, self.xx - part.xx, part.power, unknown, unknown, usable)

    @cached_property
    def mean(self) -> tuple[Floats, Truths]:
        """The means, and where they are sure."""
        return _where(self.zero, *rounded_quotient(self.x, self.d, self.power))

    def weight_sum(self) -> tuple[Floats, Truths]:
        """The numbers of rows, which are always sure."""
        return self.rows.astype(np.float64), np.ones(len(self.rows), dtype=np.bool_)

    def sizes(self) -> tuple[Floats, Truths]:
        """Independent observations, see `lossops.samples.Sample.size`."""
        return self.weight_sum()

    def total(self) -> tuple[Floats, Truths]:
        """The sums, and where they are sure."""
        return _where(self.zero, *rounded_quotient(self.x, Doubled.of(1.0), self.power))

    @cached_property
    def _centred(self) -> Doubled:
        return self.d * self.xx - self.x * self.x

    def variance_over(self, divisor: Doubled) -> tuple[Floats, Truths]:
        """N sum(x^2) - sum(x)^2 over some numbers, and where it is sure."""
        return _where(self.constant, *rounded_quotient(self._centred, divisor, 2 * self.power))

    @cached_property
    def mean_variance(self) -> tuple[Floats, Truths]:
        """The variances of the means, NaN where there is a single row, and where they are sure."""
        found, sure = self.variance_over(self.d * self.d * Doubled.of(self.rows - 1))
        return np.where(self.rows == 1, np.nan, found), sure

    def spread(self) -> tuple[Floats, Truths]:
        """The variances of the losses, and where they are sure."""
        return self.variance_over(self.d * self.d)

    def difference(self, other: Plain) -> tuple[Floats, Truths]:
        """The means less those of others, over the same powers, and where they are sure."""
        return rounded_quotient(self.x * other.d - other.x * self.d, self.d * other.d, self.power)

    def shared(self, _mine: Plain, other: Plain) -> tuple[Floats, Truths]:
        """The covariances of the means with those of rows that these are a part of, and where they are sure."""
        return self.variance_over(self.d * self.d * other.d)


@dataclass(frozen=True)
class Weighted:
    """The same of rows that have weights.

    Args:
        rows: int64 [groups], scored rows.
        x, d: sums of weight times loss, over 2**powers[0], and of the weights, over 2**powers[1].
        xx, dx, dd: sums of products of what each row adds to both, over the products of these powers.
        second: sums of weight times squared loss, over 2**(2 * powers[0] - powers[1]).
        powers: two int64 [groups].
        constant, zero, usable: as of `Plain`.
    """

    rows: Integers
    x: Doubled
    d: Doubled
    xx: Doubled
    dx: Doubled
    dd: Doubled
    second: Doubled
    powers: tuple[Integers, Integers]
    constant: Truths
    zero: Truths
    usable: Truths

    @classmethod
    def of(cls, sums: Sums) -> Weighted | None:
        """The sums of every group of a slice; None where rows have no weights, or denominators of their own."""
        if sums.columns != WEIGHTED_COLUMNS:
            return None
        counts, (low, high) = sums.counts, sums.extremes.T
        usable = (counts[:, SCORED] > 0) & (counts[:, INFINITE] == 0) & (counts[:, OVERFLOWED] == 0)
        constant = usable & (low == high)
        found = {name: value_of(sums.digits[:, i], sums.tops[:, i]) for i, name in enumerate(sums.columns)}
        p, q = (np.where(found[name][0].high != 0.0, found[name][1], 0) for name in ("wl", "w"))
        usable &= (np.abs(p) < _MOST_POWER // 2) & (np.abs(q) < _MOST_POWER // 2)
        p, q = np.where(usable, p, 0), np.where(usable, q, 0)
        wanted = {"wl": p, "w": q, "w2l2": 2 * p, "w2l": p + q, "w2": 2 * q, "wl2": 2 * p - q}
        scaled = {}
        for name, power in wanted.items():
            value, own = found[name]
            shift = np.where(value.high != 0.0, own - power, 0)
            usable &= np.abs(shift) < _MOST_POWER
            scaled[name] = value.scaled(np.where(usable, shift, 0))
        x, d, xx, dx, dd, second = (scaled[name] for name in ("wl", "w", "w2l2", "w2l", "w2", "wl2"))
        zero = constant & (low == 0.0)
        return cls(counts[:, SCORED], x, d, xx, dx, dd, second, (p, q), constant, zero, usable)._checked()

    def alike(self, every: Weighted) -> Weighted:
        """The same over the powers of two of all rows."""
        p, q = (int(power[0]) for power in every.powers)
        one, two = self.powers[0] - p, self.powers[1] - q
        usable = self.usable & (np.abs(one) < _MOST_POWER // 2) & (np.abs(two) < _MOST_POWER // 2)
        one, two = np.where(usable, one, 0), np.where(usable, two, 0)
        shifts = {"x": one, "d": two, "xx": 2 * one, "dx": one + two, "dd": 2 * two, "second": 2 * one - two}
        moved = {name: getattr(self, name).scaled(shift) for name, shift in shifts.items()}
        powers = np.where(usable, p, 0), np.where(usable, q, 0)
        return replace(self, **moved, powers=powers, usable=usable)._checked()

    def _checked(self) -> Weighted:
        positive = [one.high > _SMALLEST for one in (self.d, self.dd)]
        sums = [np.abs(one.high) > _SMALLEST for one in (self.x, self.xx, self.second)]
        mixed = (np.abs(self.dx.high) > _SMALLEST) | ((self.dx.high == 0.0) & (self.dx.error == 0.0))
        return replace(self, usable=self.usable & np.all([*positive, mixed, np.all(sums, axis=0) | self.zero], axis=0))

    def __sub__(self, part: Weighted) -> Weighted:
        """The rows that are not in a part; both are over the same powers."""
        rows = self.rows - part.rows
        unknown = np.zeros(len(rows), dtype=np.bool_)
        names = ("x", "d", "xx", "dx", "dd", "second")
        left = {name: getattr(self, name) - getattr(part, name) for name in names}
        usable = self.usable & part.usable & (rows > 1)
        return replace(part, **left, rows=rows, constant=unknown, zero=unknown, usable=usable)._checked()

    @property
    def _power(self) -> Integers:
        """Of a mean."""
        return self.powers[0] - self.powers[1]

    @cached_property
    def mean(self) -> tuple[Floats, Truths]:
        """The means, and where they are sure."""
        return _where(self.zero, *rounded_quotient(self.x, self.d, self._power))

    def weight_sum(self) -> tuple[Floats, Truths]:
        """The sums of the weights, and where they are sure."""
        return rounded_quotient(self.d, Doubled.of(1.0), self.powers[1])

    def sizes(self) -> tuple[Floats, Truths]:
        """Independent observations, see `lossops.samples.Sample.size`."""
        return rounded_quotient(self.d * self.d, self.dd)

    def total(self) -> tuple[Floats, Truths]:
        """The sums, and where they are sure."""
        return _where(self.zero, *rounded_quotient(self.x, Doubled.of(1.0), self.powers[0]))

    def spread(self) -> tuple[Floats, Truths]:
        """The variances of the losses, and where they are sure."""
        product = self.d * self.second
        above = product - self.x * self.x
        found, sure = rounded_quotient(above, self.d * self.d, 2 * self._power)
        return _where(self.constant, found, sure & (above.high > _CLEAR * product.high))

    @cached_property
    def mean_variance(self) -> tuple[Floats, Truths]:
        """The variances of the means, NaN where there is a single row, and where they are sure."""
        x, d = self.x, self.d
        terms = d * d * self.xx, Doubled.of(2.0) * x * d * self.dx, x * x * self.dd
        total, over = terms[0] - terms[1] + terms[2], d * d
        largest = terms[0].high + np.abs(terms[1].high) + terms[2].high
        n, less = Doubled.of(self.rows), Doubled.of(self.rows - 1)
        found, sure = rounded_quotient(n * total, less * over * over, 2 * self._power)
        found, sure = _where(self.constant, found, sure & (total.high > _CLEAR * largest))
        single = self.rows == 1
        return np.where(single, np.nan, found), sure | single

    def difference(self, other: Weighted) -> tuple[Floats, Truths]:
        """The means less those of others, over the same powers, and where they are sure."""
        return rounded_quotient(self.x * other.d - other.x * self.d, self.d * other.d, self._power)

    def shared(self, mine: Weighted, other: Weighted) -> tuple[Floats, Truths]:
        """The covariances of the means with those of rows that these are a part of, and where they are sure.

        Args:
            mine: these, over the powers of the others.
            other: the rows.
        """
        x, d, y, e = mine.x, mine.d, other.x, other.d
        total = d * e * mine.xx - (d * y + x * e) * mine.dx + x * y * mine.dd
        found, sure = rounded_quotient(total, d * d * e * e, 2 * mine._power)
        return found, sure | (self.rows == 1)


def _where(zero: Truths, found: Floats, sure: Truths) -> tuple[Floats, Truths]:
    return np.where(zero, 0.0, found), sure | zero


def numbers_of(sums: Sums) -> AtOnce | None:
    """The sums of every group of a slice as numbers; None where means have denominators of their own."""
    return Plain.of(sums) or Weighted.of(sums)
