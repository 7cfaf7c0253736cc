"""What a loss is: one frozen declaration from which everything else is derived.

The kernel, config validation, the reasons a row can be invalid, the catalogue listing and the tests all read the
declaration; nothing else knows a loss by name.
"""

from __future__ import annotations

import enum
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

__all__ = [
    "COUNTS",
    "LOGITS",
    "LOG_PROBABILITIES",
    "POSITIVE",
    "REALS",
    "SIGNS",
    "SWITCHES",
    "TWO_CLASSES",
    "UNIT",
    "Curve",
    "Declaration",
    "Field",
    "Form",
    "Inputs",
    "Interval",
    "Loss",
    "Outlier",
    "Parameter",
    "Value",
    "setting_names",
]

Formula = Callable[..., float]
Value = float | bool | str | tuple[float, ...] | None


@dataclass(frozen=True)
class Interval:
    """A set of allowed numbers, ``low`` to ``high``.

    Args:
        low, high: the ends; infinite ends are never included unless ``infinite``.
        low_open, high_open: whether an end is excluded.
        step: 0 for all numbers between the ends, else only ``low``, ``low + step``, ...
        infinite: whether infinite ends belong to it, as they do for logits.
    """

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    step: float = 0.0
    infinite: bool = False

    def __contains__(self, value: float) -> bool:
        try:
            value = float(value)
        except OverflowError:  # an integer beyond float64
            return False
        if math.isinf(value) and not self.infinite:
            return False
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below and (not self.step or (value - self.low) % self.step == 0.0)

    def __str__(self) -> str:
        if self.step:
            last = "..." if math.isinf(self.high) else f"{self.high:g}"
            first = [self.low + i * self.step for i in range(3) if self.low + i * self.step < self.high]
            return "{" + ", ".join([*(f"{value:g}" for value in first[:2]), last]) + "}"
        open_low, open_high = (math.isinf(end) and not self.infinite for end in (self.low, self.high))
        left = "(" if self.low_open or open_low else "["
        right = ")" if self.high_open or open_high else "]"
        return f"{left}{self.low:g}, {self.high:g}{right}"

    @property
    def bounds(self) -> tuple[float, ...]:
        """What the compiled check takes: the six fields as numbers."""
        return (
            float(self.low),
            float(self.high),
            float(self.low_open),
            float(self.high_open),
            self.step,
            float(self.infinite),
        )


REALS = Interval()
UNIT = Interval(0.0, 1.0)
POSITIVE = Interval(0.0, low_open=True)
LOGITS = Interval(infinite=True)
LOG_PROBABILITIES = Interval(high=0.0, infinite=True)
COUNTS = Interval(0.0, step=1.0)
TWO_CLASSES = Interval(0.0, 1.0, step=1.0)
SIGNS = Interval(-1.0, 1.0, step=2.0)


@dataclass(frozen=True)
class Field:
    """One named value of a prediction, such as the mean of a distribution."""

    name: str
    domain: Interval
    meaning: str


class Inputs(enum.Enum):
    """What one row holds on each side, and which widths fit together."""

    ELEMENTS = "a number or a vector on each side, of one length; the loss is the mean over the elements"
    VECTORS = "a vector on each side, of one length"
    CLASSES = "a vector with a value for each class on each side; the label may be an integer class from 0 instead"
    CLASS_INDEX = "an integer class from 0 as label, a vector with a value for each class as prediction"
    NUMBER = "a number as label, the values that the loss names as prediction"
    MEMBERS = "a vector as label, several vectors of its length, one after the other, as prediction"
    PAIR = "a number as label, two vectors of one length, one after the other, as prediction"
    TRIPLE = "no label; three vectors of one length, one after the other, as prediction"

    def fits(self, label: int, prediction: int) -> bool:
        """Whether a label of so many values goes with a prediction of so many."""
        return _FITS[self](label, prediction)

    @property
    def has_label(self) -> bool:
        """Whether a row has a label at all."""
        return self is not Inputs.TRIPLE

    @property
    def has_classes(self) -> bool:
        """Whether the prediction has a value for each of several classes, one of which the label names."""
        return self in (Inputs.CLASSES, Inputs.CLASS_INDEX)


_FITS: Mapping[Inputs, Callable[[int, int], bool]] = {
    Inputs.ELEMENTS: lambda label, prediction: label == prediction,
    Inputs.VECTORS: lambda label, prediction: label == prediction,
    Inputs.CLASSES: lambda label, prediction: label in (1, prediction) and prediction >= 2,
    Inputs.CLASS_INDEX: lambda label, prediction: label == 1 and prediction >= 2,
    Inputs.NUMBER: lambda label, _: label == 1,
    Inputs.MEMBERS: lambda label, prediction: prediction % label == 0,
    Inputs.PAIR: lambda label, prediction: label == 1 and prediction % 2 == 0,
    Inputs.TRIPLE: lambda label, prediction: label == 0 and prediction % 3 == 0,
}


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """Something that a config may set on a loss.

    Args:
        name: the key in the config and the argument of the formula.
        meaning: one line for the catalogue.
        default: None where leaving it out switches the feature off.
        domain: allowed numbers; None for a switch (true or false) or a choice.
        integer: whether the value must be an integer.
        choices: allowed words; a formula gets the place of the chosen one in this list.
        count: makes it a list of numbers; how many a prediction of so many values needs.
        increasing: whether the numbers of a list must increase.
        excluded: numbers within the domain that are not allowed.
        required: whether a config must set it; the default is then None and not allowed.
    """

    name: str
    meaning: str
    default: Value
    domain: Interval | None = REALS
    integer: bool = False
    choices: tuple[str, ...] = ()
    count: Callable[[int], int] | None = None
    increasing: bool = False
    excluded: Interval | None = None
    required: bool = False

    @property
    def allowed(self) -> str:
        """The allowed values in words."""
        null = " or null" if self.default is None and not self.required else ""
        if self.choices:
            return ", ".join(self.choices) + null
        if self.domain is None:
            return "true or false"
        if self.count is not None:
            return f"a list of {'increasing ' * self.increasing}numbers in {self.domain}" + null
        domain = f"{self.domain}" if self.excluded is None else f"{self.domain} outside {self.excluded}"
        return f"{'an integer' if self.integer else 'a number'} in {domain}" + null

    def accepts(self, value: object) -> bool:
        """Whether a config may set this value."""
        if value is None:
            return self.default is None and not self.required
        if self.choices:
            return isinstance(value, str) and value in self.choices
        if self.count is not None:
            return self._accepts_list(value)
        if self.domain is None or isinstance(value, bool):
            return self.domain is None and isinstance(value, bool)
        return self._accepts_number(value)

    def _accepts_number(self, value: object) -> bool:
        numeric = isinstance(value, int) if self.integer else isinstance(value, int | float)
        if not numeric or isinstance(value, bool) or value not in self.domain:  # type: ignore[operator]
            return False
        return self.excluded is None or value not in self.excluded  # type: ignore[operator]

    def _accepts_list(self, value: object) -> bool:
        if not isinstance(value, list | tuple) or not value or not all(self._accepts_number(one) for one in value):
            return False
        return not self.increasing or all(low < high for low, high in pairwise(value))


@dataclass(frozen=True, kw_only=True)
class Form:
    """One way to compute a loss: a formula of one row and the domain of its prediction.

    Args:
        row: ``row(label, prediction, *settings)``; the names of the settings are those of parameters of the loss or of
            fields of `lossops.losses.conventions.Convention`.
        formula: the same in mathematical notation without any convention, a Python expression in ``y``, ``p``, the
            parameters and the names of the prediction's fields; tests evaluate it with many digits.
        prediction: domain of every value of the prediction, or the named values that it consists of.
        clipped: predicate with arguments as ``row``: did the convention change this prediction?
        prediction_of: the domain where it depends on settings, which are its arguments; within ``prediction``.
        distribution: whether a prediction is a probability for each class.
        ulps, ulps_per_value: the compiled formula is within ``ulps + ulps_per_value * n`` units in the last place, n
            being the number of values of the prediction...
        scale: ...of the larger of the loss and this expression, in which ``loss`` is the exact loss. Where terms of
            both signs nearly cancel, the loss cannot be more exact than its terms.
    """

    row: Formula
    formula: str
    prediction: Interval | tuple[Field, ...]
    clipped: Callable[..., bool] | None = None
    prediction_of: Callable[..., Interval] | None = None
    distribution: bool = False
    ulps: float = 4.0
    ulps_per_value: float = 0.0
    scale: str | None = None

    @property
    def fields(self) -> tuple[Field, ...]:
        """The named values of a prediction; empty where its length is free."""
        return () if isinstance(self.prediction, Interval) else self.prediction

    @property
    def domains(self) -> tuple[Interval, ...]:
        """The domain of each value, or the one that holds for all."""
        return (self.prediction,) if isinstance(self.prediction, Interval) else tuple(f.domain for f in self.prediction)


class Outlier(enum.Enum):
    """How a loss grows as a prediction gets ever worse."""

    BOUNDED = "stays below a bound"
    LOGARITHMIC = "grows more slowly than the error"
    LINEAR = "grows like the error"
    POLYNOMIAL = "grows like a higher power of the error"
    EXPONENTIAL = "grows exponentially"
    INFINITE = "becomes infinite where the prediction rules out what happened"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What kind of function of the prediction a loss is, with its default form and parameters, under ``exact``.

    Args:
        convex: never above the straight line between two of its points.
        smooth: has a slope everywhere inside the domain, at the perfect prediction too.
        slope_bounded: the slope stays below a bound.
        symmetric: errors to both sides cost the same; for classes: renaming the classes changes nothing.
        outlier: how it grows.
    """

    convex: bool
    smooth: bool
    slope_bounded: bool
    symmetric: bool
    outlier: Outlier


SWITCHES = {
    "from_logits": "predictions are logits, not probabilities",
    "from_log_probabilities": "predictions are logarithms of probabilities",
    "log_input": "a logarithm is predicted instead of the mean, or of the spread where there is one",
}


@dataclass(frozen=True, kw_only=True)
class Declaration(ABC):
    """What losses of a row and measures of a dataset have in common.

    Args:
        name: the field's standard name, as configs spell it.
        summary: one line for the catalogue.
        family: heading in the catalogue.
        inputs: what a row holds.
        label: domain of every value of the label.
        label_of: the domain where it depends on settings, which are its arguments; within ``label``.
        parameters: what a config may set.
        label_sum: domain of the sum of a label vector, if declared.
        lifted_by: the field of a convention that moves values into their domain, so that under this convention nothing
            is outside it.
        also: names by which libraries call it, for the search.
        higher_is_better: whether a larger value is a better one.
        citation: where the definition comes from.
    """

    name: str
    summary: str
    family: str
    inputs: Inputs
    label: Interval
    parameters: tuple[Parameter, ...] = ()
    label_sum: Interval | None = None
    label_of: Callable[..., Interval] | None = None
    lifted_by: str | None = None
    also: tuple[str, ...] = ()
    higher_is_better: bool = False
    citation: str

    @property
    @abstractmethod
    def forms(self) -> dict[str | None, Form]:
        """Every form by the switch that asks for it; that of the plain form is None."""

    @property
    def settings_read(self) -> frozenset[str]:
        """The names of all settings that its formulas take: parameters and fields of a convention."""
        return frozenset(name for form in self.forms.values() for name in setting_names(form.row))


@dataclass(frozen=True, kw_only=True)
class Loss(Declaration):
    """A loss: maps one row of labels and predictions to one float64.

    Args:
        form: how it is computed.
        alternatives: how it is computed from another kind of prediction, by the switch that asks for it.
        divides_by_class_weights: whether a library that divides by class weights does so for this loss.
        curve: what kind of function it is.
    """

    form: Form
    alternatives: Mapping[str, Form] = field(default_factory=dict)
    divides_by_class_weights: bool = False
    curve: Curve

    @property
    def forms(self) -> dict[str | None, Form]:
        """Every form by its switch; that of the plain form is None."""
        return {None: self.form} | dict(self.alternatives.items())

    def chosen_form(self, parameters: Mapping[str, Value]) -> Form:
        """The form that these parameters ask for."""
        return next((form for switch, form in self.alternatives.items() if parameters.get(switch)), self.form)


def setting_names(function: Callable[..., object]) -> Iterator[str]:
    """Yield the names of a formula's arguments after the label and the prediction."""
    yield from list(inspect.signature(function).parameters)[2:]
