"""What a loss is: one frozen declaration from which everything else is derived.

The kernel, config validation, the reasons a row can be invalid, the catalogue listing and the tests all read the
declaration; nothing else knows a loss by name.
"""

from __future__ import annotations

import enum
import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["REALS", "UNIT", "Form", "Inputs", "Interval", "Loss", "Parameter"]

Formula = Callable[..., float]


@dataclass(frozen=True)
class Interval:
    """A set of allowed finite numbers, ``low`` to ``high``; infinite ends are never included."""

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: float) -> bool:
        try:
            value = float(value)
        except OverflowError:  # an integer beyond float64
            return False
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return math.isfinite(value) and above and below

    def __str__(self) -> str:
        left = "(" if self.low_open or math.isinf(self.low) else "["
        right = ")" if self.high_open or math.isinf(self.high) else "]"
        return f"{left}{self.low:g}, {self.high:g}{right}"

    @property
    def bounds(self) -> tuple[float, float, bool, bool]:
        """What the compiled check takes: low, high, whether low is excluded, whether high is excluded."""
        return float(self.low), float(self.high), self.low_open, self.high_open


REALS = Interval()
UNIT = Interval(0.0, 1.0)


class Inputs(enum.Enum):
    """What one row holds on each side."""

    ELEMENTS = "a number or a vector on each side, of one length; the loss is the mean over the elements"
    LABEL_VECTOR = "a vector with a value for each class on each side"
    CLASS_INDEX = "an integer class from 0 as label, a vector with a value for each class as prediction"


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A number or switch that a config may set on a loss.

    Args:
        name: the key in the config and the argument of the formula.
        meaning: one line for the catalogue.
        default: None where leaving it out switches the feature off.
        domain: allowed values; None for a switch (true or false).
        integer: whether the value must be an integer.
    """

    name: str
    meaning: str
    default: float | bool | None
    domain: Interval | None = REALS
    integer: bool = False

    @property
    def allowed(self) -> str:
        """The allowed values in words."""
        if self.domain is None:
            return "true or false"
        kind = "an integer" if self.integer else "a number"
        return f"{kind} in {self.domain}" + (" or null" if self.default is None else "")

    def accepts(self, value: object) -> bool:
        """Whether a config may set this value."""
        if value is None:
            return self.default is None
        if self.domain is None or isinstance(value, bool):
            return self.domain is None and isinstance(value, bool)
        numeric = isinstance(value, int) if self.integer else isinstance(value, int | float)
        return numeric and value in self.domain  # type: ignore[operator]


@dataclass(frozen=True, kw_only=True)
class Form:
    """One way to compute a loss: a formula of one row and the domain of its prediction.

    Args:
        row: ``row(label, prediction, *settings)``; the names of the settings are those of parameters of the loss or of
            fields of `lossops.losses.conventions.Convention`.
        formula: the same in mathematical notation without any clipping, a Python expression in ``y``, ``p`` and the
            parameters; tests evaluate it with 50 digits.
        prediction: domain of every element of the prediction.
        clipped: predicate with the arguments of ``row`` or fewer: did the convention change this prediction?
        divides_by_sum: whether ``row`` divides by the sum of the prediction when the convention renormalises.
    """

    row: Formula
    formula: str
    prediction: Interval
    clipped: Callable[..., bool] | None = None
    divides_by_sum: bool = False


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A loss: maps one row of labels and predictions to one float64.

    Args:
        name: the field's standard name, as configs spell it.
        summary: one line for the catalogue.
        inputs: what a row holds.
        label: domain of every element of the label.
        form: how it is computed.
        logits: how it is computed from logits, where that makes sense; adds the parameter ``from_logits``.
        parameters: what a config may set.
        label_sum: domain of the sum of a label vector, if declared.
        citation: where the definition comes from.
    """

    name: str
    summary: str
    inputs: Inputs
    label: Interval
    form: Form
    logits: Form | None = None
    parameters: tuple[Parameter, ...] = ()
    label_sum: Interval | None = None
    citation: str

    @property
    def all_parameters(self) -> tuple[Parameter, ...]:
        """The declared parameters, and ``from_logits`` where there is a form for logits."""
        if self.logits is None:
            return self.parameters
        switch = Parameter(
            name="from_logits", meaning="predictions are logits, not probabilities", default=False, domain=None
        )
        return (switch, *self.parameters)

    def chosen_form(self, parameters: dict[str, float | bool | None]) -> Form:
        """The form that these parameters ask for."""
        return self.logits if self.logits is not None and parameters.get("from_logits") else self.form


def setting_names(function: Callable[..., object]) -> Iterator[str]:
    """Yield the names of a formula's arguments after the label and the prediction."""
    yield from list(inspect.signature(function).parameters)[2:]
