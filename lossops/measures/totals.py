"""Rows of a table of bins as exact numbers: what the last step of a measure works on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from lossops.bins import BinTable, Moments
from lossops.kernels.exact import DIGIT_BITS, DIGITS, EXPONENT_BIAS
from lossops.measures.declaration import Number

__all__ = ["Totals"]


@dataclass(frozen=True)
class Totals:
    """Rows ``start`` to ``stop - 1`` of a table; see `lossops.measures.declaration.Total`."""

    table: BinTable
    parts: tuple[str, ...]
    start: int
    stop: int

    @classmethod
    def of_group(cls, table: BinTable, parts: Sequence[str], group: int) -> list[Totals]:
        """The outputs of one group that has scored rows."""
        first, last = np.searchsorted(table.groups, [group, group + 1]).tolist()
        outputs = table.outputs[first:last]
        edges = first + np.searchsorted(outputs, np.arange(int(outputs[-1]) + 2))
        return [cls(table, tuple(parts), int(low), int(high)) for low, high in pairwise(edges)]

    @cached_property
    def _moments(self) -> Moments:
        return self.table.moments.together(self.start, self.stop)

    @property
    def rows(self) -> int:
        """The number of values."""
        return int(self.table.moments.counts[self.start : self.stop].sum())

    @property
    def bin(self) -> float:
        """The number of the first bin."""
        return float(self.table.bins[self.start])

    @cached_property
    def weight(self) -> Fraction:
        """The sum of w."""
        if not self.table.moments.weighted:
            return Fraction(self.rows)
        return _fraction(self._moments.digits[0, 0], int(self._moments.tops[0, 0]))

    def sum(self, part: str) -> Number:
        """The sum of w x of a part."""
        return self._column(self._moments.column(self.parts.index(part)))

    def squares(self, part: str) -> Number:
        """The sum of w x^2 of a part."""
        return self._column(self._moments.column(self.parts.index(part)) + 1)

    def _column(self, column: int) -> Number:
        if self._moments.infinite[0, column]:
            return math.inf
        return _fraction(self._moments.digits[0, column], int(self._moments.tops[0, column]))

    def low(self, part: str) -> float:
        """The smallest value of a part."""
        return float(self.table.moments.extremes[self.start : self.stop, self.parts.index(part), 0].min())

    def high(self, part: str) -> float:
        """The largest value of a part."""
        return float(self.table.moments.extremes[self.start : self.stop, self.parts.index(part), 1].max())

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[Totals]:
        return (self[place : place + 1] for place in range(len(self)))

    def __getitem__(self, chosen: slice) -> Totals:
        low, high, _ = chosen.indices(len(self))
        return Totals(self.table, self.parts, self.start + low, self.start + max(low, high))


def _fraction(digits: npt.NDArray[np.int64], top: int) -> Fraction:
    integer = 0
    for digit in digits.tolist():
        integer = (integer << DIGIT_BITS) + digit
    exponent = DIGIT_BITS * (top - DIGITS + 1) - EXPONENT_BIAS
    if not integer:
        return Fraction(0)
    return Fraction(integer << exponent) if exponent >= 0 else Fraction(integer, 1 << -exponent)
