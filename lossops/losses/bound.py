"""A loss with its parameters and convention fixed: the thing that runs.

What it shares with a measure of a dataset (settings, which rows are scored and why not) is in `Bound`.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from lossops.errors import ConfigError, nearest, shown
from lossops.kernels import blocks
from lossops.kernels.checks import (
    Reason,
    all_fit,
    check_class_index,
    check_ignored,
    check_losses,
    check_sums,
    check_values,
)
from lossops.losses.catalogue import CATALOGUE
from lossops.losses.conventions import CONVENTIONS, LIMITS, Convention
from lossops.losses.declaration import (
    REALS,
    SWITCHES,
    TWO_CLASSES,
    Declaration,
    Form,
    Inputs,
    Interval,
    Loss,
    Parameter,
    Value,
    setting_names,
)

__all__ = [
    "Bound",
    "BoundLoss",
    "Fitting",
    "bind",
    "bind_parameters",
    "compiled",
    "numbers_of",
    "parameters_of",
    "unknown",
]

_LOOPS: dict[Inputs, Callable[..., blocks.Fill]] = {
    Inputs.ELEMENTS: blocks.mean_of_elements,
    Inputs.VECTORS: blocks.vectors,
    Inputs.CLASSES: blocks.classes,
    Inputs.CLASS_INDEX: blocks.class_index,
    Inputs.NUMBER: blocks.number,
    Inputs.MEMBERS: blocks.vectors,
    Inputs.PAIR: blocks.number,
    Inputs.TRIPLE: blocks.vectors,
}
_SMALLEST = float(np.nextafter(0.0, 1.0))
_RENORMALISING = ("renormalise", "renormalise_sparse")

# Parameters that are not declared by a loss but follow from what it is.
_CLIP = Parameter(
    name="clip",
    meaning="probabilities are limited to [clip, 1 - clip] instead of what the convention does",
    default=None,
    domain=Interval(0.0, 0.5, high_open=True),
)
_PRECISION = Parameter(
    name="precision",
    meaning="float32: limit probabilities as the library does where it computes in float32",
    default="float64",
    domain=None,
    choices=("float64", "float32"),
)
_IGNORE_CLASS = Parameter(
    name="ignore_class",
    meaning="rows with this label are left out and counted; its class stays among the predictions",
    default=None,
    integer=True,
)
_SUM_TOLERANCE = Parameter(
    name="sum_tolerance",
    meaning="rows whose probabilities miss the sum 1 by more than this are refused and counted",
    default=None,
    domain=Interval(0.0),
)


class Fitting:
    """Looks for values outside of their domain, but not again where all of an array are known to be inside.

    Losses of a batch share columns, and most of them their domains.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, Interval], npt.NDArray[np.float64]] = {}

    def check(
        self,
        values: npt.NDArray[np.float64],
        problems: npt.NDArray[np.uint8],
        first: int,
        domains: tuple[Interval, ...],
        reasons: npt.NDArray[np.uint8],
    ) -> None:
        """Mark rows as `lossops.kernels.checks.check_values` does; the array must not be changed later."""
        place = id(values), domains[0]  # an array that is kept here keeps its number
        if len(domains) == 1 and place in self._known:
            return
        bounds = np.array([domain.bounds for domain in domains])
        if len(domains) == 1 and all_fit(values, problems, bounds):
            self._known[place] = values
        else:
            check_values(values, problems, first, bounds, reasons)


@cache
def compiled(formula: Callable[..., float], inputs: Inputs) -> blocks.Fill:
    """The compiled loop of a formula of one row."""
    return _LOOPS[inputs](formula)


@cache
def _compiled_predicate(predicate: Callable[..., bool], inputs: Inputs) -> blocks.Fill:
    return blocks.any_element(predicate) if inputs is Inputs.ELEMENTS else _LOOPS[inputs](predicate)


def parameters_of(loss: Declaration) -> tuple[Parameter, ...]:
    """Every parameter of a loss: the declared ones, and those that follow from its forms and inputs."""
    switches = (Parameter(name=one, meaning=SWITCHES[one], default=False, domain=None) for one in loss.forms if one)
    limited = LIMITS & loss.settings_read
    labelled = loss.inputs.has_classes or loss.label == TWO_CLASSES or (loss.label, loss.inputs) == _SOFT_BINARY
    return (
        *switches,
        *loss.parameters,
        *((_CLIP, _PRECISION) if limited else ()),
        *((_SUM_TOLERANCE,) if any(form.distribution for form in loss.forms.values()) else ()),
        *((_IGNORE_CLASS,) if labelled else ()),
    )


_SOFT_BINARY = (Interval(0.0, 1.0), Inputs.ELEMENTS)


def numbers_of(declaration: Declaration, parameters: Mapping[str, Value]) -> dict[str, Any]:
    """Return parameters as formulas take them: lists as float64 [count], no value as 0 or an empty list."""
    declared = {parameter.name: parameter for parameter in parameters_of(declaration)}
    found: dict[str, Any] = {}
    for name, value in parameters.items():
        if declared[name].count is not None:
            found[name] = np.array(value if value is not None else (), dtype=np.float64)
        elif declared[name].choices:
            found[name] = float(declared[name].choices.index(str(value)))
        else:
            found[name] = float(value or 0.0)  # type: ignore[arg-type]
    return found


@dataclass(frozen=True)
class Bound(ABC):
    """A declaration, its parameters and its convention. Small and picklable: kernels are found by name.

    Args:
        name: of the declaration in its catalogue.
        parameters: every parameter with its value.
        convention: name of the convention.
    """

    name: str
    parameters: tuple[tuple[str, Value], ...]
    convention: str

    @property
    @abstractmethod
    def declaration(self) -> Declaration:
        """What is declared under the name."""

    @property
    @abstractmethod
    def form(self) -> Form:
        """The form that the parameters ask for."""

    @cached_property
    def rules(self) -> Convention:
        """The rules of the convention, as the parameters modify them."""
        chosen, rules = dict(self.parameters), CONVENTIONS[self.convention]
        if chosen.get("precision") == "float32":
            rules = rules.in_float32()
        clip = chosen.get("clip")
        return rules if clip is None else rules.clipped_by(float(clip))  # type: ignore[arg-type]

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """Every setting as formulas take it, by name: the rules of the convention and the parameters."""
        return {**vars(self.rules), **numbers_of(self.declaration, dict(self.parameters))}

    def settings(self, function: Callable[..., object]) -> tuple[Any, ...]:
        """What a formula or predicate takes after label and prediction."""
        return tuple(self.numbers[name] for name in setting_names(function))

    @property
    def _lifted(self) -> bool:
        """Whether the convention moves values into their domain, so that all are accepted."""
        name = self.declaration.lifted_by
        if name is None or name not in setting_names(self.form.row):
            return False
        return bool(getattr(self.rules, name) != getattr(CONVENTIONS["exact"], name))

    @property
    def label_domain(self) -> Interval:
        """What every value of a label must lie in."""
        if self._lifted:
            return REALS
        return self.declaration.label if self.declaration.label_of is None else self._chosen(self.declaration.label_of)

    @property
    def prediction_domains(self) -> tuple[Interval, ...]:
        """What each value of a prediction must lie in, or one domain for all."""
        if self._lifted:
            return (REALS,)
        return self.form.domains if self.form.prediction_of is None else (self._chosen(self.form.prediction_of),)

    def _chosen(self, domain_of: Callable[..., Interval]) -> Interval:
        return domain_of(**{name: self.numbers[name] for name in inspect.signature(domain_of).parameters})

    @property
    def reasons(self) -> dict[Reason, str]:
        """Why an aligned row may not be scored, with the limits in words."""
        loss = self.declaration
        sides = ("LABEL", "PREDICTION") if loss.inputs.has_label else ("PREDICTION",)
        found = {Reason[f"{side}_{what}"]: f"{side.lower()} {words}" for side in sides for what, words in _ALWAYS}
        if all(domain.infinite for domain in self.prediction_domains):
            del found[Reason.PREDICTION_INFINITE]
        found[Reason.PREDICTION_OUTSIDE_DOMAIN] = f"prediction outside {_in_words(self.form, self.prediction_domains)}"
        if loss.inputs.has_label:
            found[Reason.LABEL_OUTSIDE_DOMAIN] = f"label outside {self.label_domain}"
        if loss.inputs.has_classes:
            found[Reason.LABEL_OUTSIDE_DOMAIN] = "label below 0 or not below the number of classes"
            found[Reason.LABEL_NOT_INTEGER] = "label is not an integer"
        if loss.inputs is Inputs.CLASSES:
            found[Reason.LABEL_OUTSIDE_DOMAIN] += f"; as a vector, outside {self.label_domain}"
        if self._label_sum is not None:
            found[Reason.LABEL_SUM_NOT_ONE] = f"labels of a row sum to something outside {self._label_sum}"
        if self._sum_tolerance is not None:
            found[Reason.PREDICTION_SUM_NOT_ONE] = (
                f"predictions of a row miss the sum 1 by over {self._sum_tolerance:g}"
            )
        if self._divides_by_sum:
            found[Reason.PREDICTION_SUM_ZERO] = "predictions of a row sum to zero"
        if self._ignored is not None:
            found[Reason.LABEL_IGNORED] = f"label is the ignored class {self._ignored:g}"
        return dict(sorted(found.items()))

    @property
    def _label_sum(self) -> Interval | None:
        return None if self._lifted else self.declaration.label_sum

    @property
    def _divides_by_sum(self) -> bool:
        names = (name for name in setting_names(self.form.row) if name in _RENORMALISING)
        return self.form.distribution and any(self.numbers[name] for name in names)

    @property
    def _ignored(self) -> float | None:
        return dict(self.parameters).get("ignore_class")  # type: ignore[return-value]

    @property
    def _sum_tolerance(self) -> float | None:
        tolerance = dict(self.parameters).get("sum_tolerance")
        return float(tolerance) if tolerance is not None and self.form.distribution else None  # type: ignore[arg-type]

    def misfit(self, label_width: int, prediction_width: int) -> str | None:
        """Say what is wrong with rows of these widths, or return None."""
        loss, fields = self.declaration, self.form.fields
        if fields and prediction_width != len(fields):
            named = ", ".join(one.name for one in fields)
            return f"the prediction has {prediction_width} values a row; allowed: {len(fields)} ({named})"
        if not loss.inputs.fits(label_width, prediction_width):
            found = f"the prediction has {prediction_width} and the label {label_width} values a row"
            return f"{found}; allowed: {loss.inputs.value}"
        if self._ignored is not None and label_width != 1:
            return f"ignore_class is {self._ignored:g} and the label has {label_width} values a row; allowed: one class"
        for parameter in loss.parameters:
            value = dict(self.parameters)[parameter.name]
            if parameter.count is not None and isinstance(value, tuple):
                wanted = parameter.count(prediction_width)
                if wanted != len(value) or wanted < 1:
                    allowed = f"{wanted} for a prediction of {prediction_width} values a row"
                    return f"{parameter.name} has {len(value)} numbers; allowed: {allowed}"
        return None

    def check(
        self,
        labels: npt.NDArray[np.float64],
        label_problems: npt.NDArray[np.uint8],
        predictions: npt.NDArray[np.float64],
        prediction_problems: npt.NDArray[np.uint8],
        reasons: npt.NDArray[np.uint8],
        fitting: Fitting | None = None,
    ) -> None:
        """Mark the rows that cannot be scored.

        Args:
            labels: [rows, label width].
            label_problems: [rows] of `lossops.kernels.checks.Problem`.
            predictions: [rows, prediction width].
            prediction_problems: [rows].
            reasons: [rows] of `Reason`, written where still 0.
            fitting: what other losses found out of the same arrays.
        """
        fitting = fitting or Fitting()
        if self._ignored is not None:
            check_ignored(labels, label_problems, float(self._ignored), reasons)
        self._check_labels(labels, label_problems, predictions.shape[1], reasons, fitting)
        first = int(Reason.PREDICTION_NULL)
        fitting.check(predictions, prediction_problems, first, self.prediction_domains, reasons)
        if self._sum_tolerance is not None:
            low, high = 1.0 - self._sum_tolerance, 1.0 + self._sum_tolerance
            check_sums(predictions, low, high, int(Reason.PREDICTION_SUM_NOT_ONE), reasons)
        if self._divides_by_sum:
            check_sums(predictions, _SMALLEST, np.inf, int(Reason.PREDICTION_SUM_ZERO), reasons)

    def _check_labels(
        self,
        labels: npt.NDArray[np.float64],
        problems: npt.NDArray[np.uint8],
        classes: int,
        reasons: npt.NDArray[np.uint8],
        fitting: Fitting,
    ) -> None:
        first = int(Reason.LABEL_NULL)
        if self.declaration.inputs.has_classes and labels.shape[1] == 1:
            fitting.check(labels, problems, first, (REALS,), reasons)
            check_class_index(labels, classes, reasons)
            return
        fitting.check(labels, problems, first, (self.label_domain,), reasons)
        if self._label_sum is not None:
            check_sums(labels, self._label_sum.low, self._label_sum.high, int(Reason.LABEL_SUM_NOT_ONE), reasons)

    def clipped(
        self,
        labels: npt.NDArray[np.float64],
        predictions: npt.NDArray[np.float64],
        reasons: npt.NDArray[np.uint8],
    ) -> npt.NDArray[np.uint8]:
        """Return 1 for each row whose prediction the convention changed, [rows]."""
        out = np.zeros(len(reasons), dtype=np.uint8)
        predicate = self.form.clipped
        if predicate is not None and self._changes_something(predicate):
            fill = _compiled_predicate(predicate, self.declaration.inputs)
            fill(labels, predictions, self.settings(predicate), reasons, out)
        return out

    def _changes_something(self, predicate: Callable[..., bool]) -> bool:
        exact = vars(CONVENTIONS["exact"])
        return any(self.numbers[name] != exact[name] for name in setting_names(predicate) if name in exact)


@dataclass(frozen=True)
class BoundLoss(Bound):
    """A loss of the catalogue, its parameters and its convention."""

    @property
    def loss(self) -> Loss:
        """The declaration."""
        return CATALOGUE[self.name]

    @property
    def declaration(self) -> Loss:
        """The same."""
        return self.loss

    @property
    def form(self) -> Form:
        """The form that the parameters ask for."""
        return self.loss.chosen_form(dict(self.parameters))

    def values(
        self,
        labels: npt.NDArray[np.float64],
        predictions: npt.NDArray[np.float64],
        reasons: npt.NDArray[np.uint8],
    ) -> npt.NDArray[np.float64]:
        """Return the loss of each row, [rows], meaningless where ``reasons`` is not 0; marks NaN losses there."""
        out = np.empty(len(reasons))
        row = self.form.row
        compiled(row, self.loss.inputs)(labels, predictions, self.settings(row), reasons, out)
        check_losses(out, reasons)
        return out


def _in_words(form: Form, domains: tuple[Interval, ...]) -> str:
    if len(domains) < 2:
        return str(domains[0])
    return ", ".join(f"{field.name} in {domain}" for field, domain in zip(form.fields, domains, strict=True))


_ALWAYS = (
    ("NULL", "is null"),
    ("WRONG_LENGTH", "has another length than the rest of the run"),
    ("NAN", "is NaN"),
    ("INFINITE", "is infinite"),
)


def bind_parameters(
    declaration: Declaration, parameters: Mapping[str, object], convention: str
) -> tuple[tuple[str, Value], ...]:
    """Return every parameter of a loss or measure with its value.

    Args:
        declaration: the loss or measure.
        parameters: the ones that differ from their default.
        convention: name of the convention.

    Raises:
        ConfigError: unknown parameter or convention, or a value outside the parameter's domain.
    """
    name = declaration.name
    if convention not in CONVENTIONS:
        raise ConfigError(f"unknown convention {convention!r}; {nearest(convention, CONVENTIONS)}")
    known = {parameter.name: parameter for parameter in parameters_of(declaration)}
    for key, value in parameters.items():
        if key not in known:
            raise ConfigError(f"{name} has no parameter {key!r}; {nearest(key, known)}")
        if not known[key].accepts(value):
            raise ConfigError(f"{name}: {key} is {shown(value)}; allowed: {known[key].allowed}")
    for key, parameter in known.items():
        if parameter.required and key not in parameters:
            raise ConfigError(f"{name} needs the parameter {key!r}; allowed: {parameter.allowed}")
    chosen = {key: parameters.get(key, parameter.default) for key, parameter in known.items()}
    asked = [key for key in SWITCHES if chosen.get(key)]
    if len(asked) > 1:
        raise ConfigError(f"{name}: {' and '.join(asked)} are both true; allowed: one of them")
    frozen = {key: tuple(value) if isinstance(value, list) else value for key, value in chosen.items()}
    return tuple(frozen.items())  # type: ignore[arg-type]


def bind(name: str, parameters: Mapping[str, object], convention: str) -> BoundLoss:
    """Fix the parameters and convention of a loss.

    Args:
        name: of the loss in the catalogue.
        parameters: the ones that differ from their default.
        convention: name of the convention.

    Raises:
        ConfigError: unknown loss, parameter or convention, or a value outside the parameter's domain.
    """
    if name not in CATALOGUE:
        raise ConfigError(unknown(name, CATALOGUE))
    return BoundLoss(name, bind_parameters(CATALOGUE[name], parameters, convention), convention)


def unknown(name: str, declared: Mapping[str, Declaration]) -> str:
    """Say that there is no such loss, and which one it may be: by its own name, or by what a library calls it."""
    elsewhere = [one.name for one in declared.values() if name.casefold() in map(str.casefold, one.also)]
    if elsewhere:
        return f"unknown loss {name!r}; it is called {' or '.join(map(repr, elsewhere))} here"
    return f"unknown loss {name!r}; {nearest(name, declared)}"
