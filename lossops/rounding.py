"""Quotients of the exact sums of many groups at once, each rounded as the exact quotient would be.

A number is held as an unevaluated sum of two float64 with a bound of its error (Dekker, Numer. Math. 18 (1971)). Where
the bound leaves open to which float64 a quotient rounds, it says so, and `lossops.samples` computes with integers
instead (the idea of Ziv, ACM TOMS 17 (1991)). So results have the same bits either way, and most cost no integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lossops.kernels.exact import DIGIT_BITS, DIGITS, EXPONENT_BIAS

__all__ = ["Doubled", "rounded_quotient", "value_of"]

Floats = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]
_ERROR = 2.0**-98  # relative, of one operation; several times what is proved of each
_SPLITTER = 134217729.0  # 2**27 + 1 cuts a mantissa into halves
_MOST = 400  # binary exponent; squares and their products stay within float64


def _two_sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _two_product(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    product = a * b
    cut_a, cut_b = _SPLITTER * a, _SPLITTER * b
    high_a, high_b = cut_a - (cut_a - a), cut_b - (cut_b - b)
    low_a, low_b = a - high_a, b - high_b
    return product, ((high_a * high_b - product) + high_a * low_b + low_a * high_b) + low_a * low_b


@dataclass(frozen=True)
class Doubled:
    """Numbers as sums of two float64, all arrays of one shape.

    Args:
        high, low: the sum; ``high`` is its nearest float64.
        error: how far it may be from what it stands for.
    """

    high: Floats
    low: Floats
    error: Floats

    @classmethod
    def of(cls, values: npt.NDArray[np.int64] | Floats | float) -> Doubled:
        """Numbers that are float64 themselves: integers below 2**53 are."""
        high = np.asarray(values, dtype=np.float64)
        return cls(high, np.zeros_like(high), np.zeros_like(high))

    def __add__(self, other: Doubled) -> Doubled:
        high, rest = _two_sum(self.high, other.high)
        low, last = _two_sum(self.low, other.low)
        high, rest = _two_sum(high, rest + low)
        high, rest = _two_sum(high, rest + last)
        error = self.error + other.error + _ERROR * (np.abs(self.high) + np.abs(other.high))
        return Doubled(high, rest, error)

    def __neg__(self) -> Doubled:
        return Doubled(-self.high, -self.low, self.error)

    def __sub__(self, other: Doubled) -> Doubled:
        return self + -other

    def __mul__(self, other: Doubled) -> Doubled:
        high, rest = _two_product(self.high, other.high)
        high, rest = _two_sum(high, rest + (self.high * other.low + self.low * other.high))
        mine, theirs = np.abs(self.high), np.abs(other.high)
        error = _ERROR * np.abs(high) + mine * other.error + theirs * self.error + self.error * other.error
        return Doubled(high, rest, error)

    def scaled(self, powers: npt.NDArray[np.int64] | int) -> Doubled:
        """Multiplied by powers of two."""
        return Doubled(*(np.ldexp(part, powers) for part in (self.high, self.low, self.error)))


def value_of(digits: npt.NDArray[np.int64], tops: npt.NDArray[np.int64]) -> tuple[Doubled, npt.NDArray[np.int64]]:
    """Return sums as numbers, and the power of two by which each is to be multiplied.

    Args:
        digits: int64 [groups, DIGITS], see `lossops.kernels.exact`.
        tops: int64 [groups].
    """
    total = Doubled.of(np.zeros(len(tops)))
    for place in range(DIGITS - 1, -1, -1):
        digit = digits[:, place]
        for part in (digit & 0x7FFFFFFF, digit >> 31 << 31):  # each is a float64
            if part.any():
                total = _with_term(total, np.ldexp(part.astype(np.float64), -DIGIT_BITS * place))
    return total, DIGIT_BITS * tops - EXPONENT_BIAS


def _with_term(total: Doubled, term: Floats) -> Doubled:
    """Add float64; what is added without rounding has no error, as most sums of few rows have none."""
    high, rest = _two_sum(total.high, term)
    low, lost = _two_sum(total.low, rest)
    error = total.error + np.where(lost == 0.0, 0.0, _ERROR * (np.abs(total.high) + np.abs(term)))
    return Doubled(*_two_sum(high, low), error)


def rounded_quotient(above: Doubled, below: Doubled, powers: npt.NDArray[np.int64] | int = 0) -> tuple[Floats, Truths]:
    """Return above / below times powers of two, rounded once, and where that is sure."""
    with np.errstate(all="ignore"):
        first = above.high / below.high
        rest = above - Doubled.of(first) * below
        high, low = _two_sum(first, rest.high / below.high)
        size = np.abs(below.high)
        error = (rest.error + np.abs(high) * below.error) / size + _ERROR * np.abs(high)
        mantissa, exponent = np.frexp(high)
        gap = np.spacing(np.abs(high)) * np.where(np.abs(mantissa) == 0.5, 0.25, 0.5)
        sure = (np.abs(low) + 2.0 * error < gap) | _is_exact(above, below)
        within = (np.abs(exponent) < _MOST) & (np.abs(powers) < 2 * _MOST)
        return np.ldexp(high, powers), sure & within & (high != 0.0)


def _is_exact(above: Doubled, below: Doubled) -> Truths:
    """Whether a quotient is just a sum of two float64, of which the first is the nearest, or the even one of two."""
    power_of_two = (np.abs(np.frexp(below.high)[0]) == 0.5) & (below.low == 0.0)
    found: Truths = power_of_two & (above.error == 0.0) & (below.error == 0.0)
    return found
