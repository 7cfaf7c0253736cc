"""What measures have in common once sums are known. Sums are exact, so nothing cancels before the last rounding."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from fractions import Fraction

from lossops.measures.declaration import Number, Total

__all__ = ["average", "entropy", "logarithm", "quantile", "ratio", "root", "skill", "variation"]

_PLACES = 128  # binary digits of a root before it is rounded
_TIE = Fraction(1, 2**50)  # of the total weight: weights such as 0.1 do not add up to 0.3 exactly


def ratio(above: Number, below: Number) -> Number | None:
    """The quotient; None where the denominator is zero."""
    return above / below if below else None


def root(value: Number) -> float:
    """The square root, also of numbers beyond float64."""
    if isinstance(value, float):
        return math.sqrt(value)
    shift = 2 * ((_PLACES - value.numerator.bit_length() + value.denominator.bit_length()) // 2)
    scaled = (value.numerator << max(shift, 0)) // (value.denominator << max(-shift, 0))
    return math.ldexp(math.isqrt(scaled), -shift // 2)


def logarithm(above: Number, below: Number) -> float:
    """log(above / below) of numbers from 0, with its digits also where they are nearly equal."""
    if not above or isinstance(below, float):
        return -math.inf
    if not below or isinstance(above, float):
        return math.inf
    quotient = above / below
    if Fraction(1, 2) < quotient < 2:
        return math.log1p(quotient - 1)
    # Logarithms of integers know no overflow.
    return math.log(quotient.numerator) - math.log(quotient.denominator)


def average(outputs: Iterable[Total], value: Callable[[Total], Number | None]) -> Number | None:
    """The mean over the outputs; None where one of them has no value."""
    found = [value(one) for one in outputs]
    known = [one for one in found if one is not None]
    return sum(known, Fraction(0)) / len(found) if len(known) == len(found) else None


def skill(loss: Number | None, null: Number | None) -> Number | None:
    """1 - loss / null, None where the null model is perfect."""
    return None if loss is None or not null or null < 0 else 1 - loss / null


def variation(total: Total, part: str) -> Number:
    """The weighted sum of squared differences from the mean; exactly 0 where all values are equal."""
    if total.low(part) == total.high(part):
        return Fraction(0)
    return total.squares(part) - total.sum(part) * total.sum(part) / total.weight


def entropy(weights: Iterable[Fraction]) -> float:
    """The sum of w log(W / w), W being the sum of the weights."""
    found = list(weights)
    whole = sum(found, Fraction(0))
    return math.fsum(float(weight) * logarithm(whole, weight) for weight in found if weight)


def quantile(total: Total, part: str, level: Fraction) -> Number:
    """The weighted quantile of a part whose bins are its values, in increasing order.

    The smallest value at which the weight so far reaches ``level`` of the whole, or, where it does so exactly (within
    2**-50 of the whole), the mean of that value and the next: averaged_inverted_cdf in numpy.quantile, without weights
    the usual median for 1/2, and scikit-learn's rule for its median absolute error and D2 pinball score. Where a bin
    holds several values it is exact at their ends and between them off by less than the width of the bin.
    """
    aim, tie = level * total.weight, _TIE * total.weight
    first, last = 0, len(total) - 1
    while first < last:
        middle = (first + last) // 2
        if total[: middle + 1].weight >= aim - tie:
            last = middle
        else:
            first = middle + 1
    chosen, before = total[first : first + 1], total[:first].weight if first else Fraction(0)
    if before + chosen.weight > aim + tie or first == len(total) - 1:
        return _within(chosen, part, (aim - before) / chosen.weight, tie / chosen.weight)
    return (Fraction(chosen.high(part)) + Fraction(total[first + 1 : first + 2].low(part))) / 2


def _within(one: Total, part: str, share: Fraction, tie: Fraction) -> Number:
    """The quantile inside a bin: its ends are known, and between them the values are taken to lie evenly."""
    if one.low(part) == one.high(part):
        return one.low(part) if math.isinf(one.low(part)) else Fraction(one.low(part))
    low, high = Fraction(one.low(part)), Fraction(one.high(part))
    # Value k of n, from 0, has the weights k/n to (k + 1)/n if weights are equal.
    place = share * one.rows
    near = round(place)
    between = Fraction(2 * near - 1, 2) if abs(place - near) <= tie * one.rows else Fraction(math.floor(place))
    return low + (high - low) * min(max(between / (one.rows - 1), Fraction(0)), Fraction(1))
