"""What a measure of a dataset is: a number that is no mean of row losses, computed once from merged sums."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

from lossops.losses.declaration import Declaration, Form, Formula, Interval, Loss, setting_names

__all__ = ["Finish", "Measure", "Number", "Part", "Settings", "Total"]

Number = Fraction | float  # float only where infinite or after a root or logarithm
Settings = Mapping[str, Any]  # rules of the convention and parameters, by name


class Total(Protocol):
    """What is known of the scored rows of one output, or of some of its bins: sums over them, exact.

    A sum is infinite where a term is beyond float64. Iterating gives the bins one by one, in increasing order; slicing
    gives the bins from one place to another.
    """

    @property
    def rows(self) -> int:
        """The number of values."""

    @property
    def bin(self) -> float:
        """The number of the first bin."""

    @property
    def weight(self) -> Fraction:
        """The sum of w."""

    def sum(self, part: str) -> Number:
        """The sum of w x of a part."""

    def squares(self, part: str) -> Number:
        """The sum of w x^2 of a part."""

    def low(self, part: str) -> float:
        """The smallest value of a part."""

    def high(self, part: str) -> float:
        """The largest value of a part."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Total]: ...

    def __getitem__(self, chosen: slice) -> Total: ...


Finish = Callable[[Sequence[Total], Settings], Number | None]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One quantity of a row that is summed.

    Args:
        row: ``row(label, prediction, *settings)``, as in `lossops.losses.declaration.Form`.
        squares: whether its squares are summed as well.
    """

    row: Formula
    squares: bool = False


@dataclass(frozen=True, kw_only=True)
class Measure(Declaration):
    """A measure: maps the merged sums of a slice to one number.

    Where a row holds several elements, each place in the row is an output with sums of its own.

    Args:
        formula: the definition in words and symbols, for the catalogue.
        prediction: domain of every value of the prediction.
        prediction_of: the domain where it depends on settings, which are its arguments.
        parts: what is summed, by name.
        bins: ``bins(label, prediction, *settings)``: the number of the bin that a row belongs to; None for one bin.
        by_value: whether bins are values of the data, of which there may be too many to keep apart.
        finish: the number, from the sums of each output; None where the data does not determine it. May use
            ``parts``, the bins and settings, and is not called without rows.
        rules: the fields of a convention that ``finish`` reads.
        loss: the loss whose row formula a part is; that loss's own parameters stay at their defaults.
    """

    formula: str
    prediction: Interval
    prediction_of: Callable[..., Interval] | None = None
    parts: Mapping[str, Part]
    bins: Formula | None = None
    by_value: bool = False
    finish: Finish
    rules: tuple[str, ...] = ()
    loss: Loss | None = None

    @property
    def form(self) -> Form:
        """What a prediction must be."""
        return Form(
            row=self.loss.form.row if self.loss else next(iter(self.parts.values())).row,
            formula=self.formula,
            prediction=self.prediction,
            prediction_of=self.prediction_of,
            clipped=self.loss.form.clipped if self.loss else None,
            distribution=self.loss.form.distribution if self.loss else False,
        )

    @property
    def forms(self) -> dict[str | None, Form]:
        """The only form."""
        return {None: self.form}

    @property
    def settings_read(self) -> frozenset[str]:
        """The names of all settings that its formulas and ``finish`` read."""
        formulas = [part.row for part in self.parts.values()] + ([self.bins] if self.bins else [])
        return frozenset(name for formula in formulas for name in setting_names(formula)) | frozenset(self.rules)
