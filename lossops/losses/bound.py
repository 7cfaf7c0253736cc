"""A loss with its parameters and convention fixed: the thing that runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

from lossops.errors import ConfigError, nearest, shown
from lossops.kernels import blocks
from lossops.kernels.checks import (
    Reason,
    check_class_index,
    check_ignored,
    check_losses,
    check_sums,
    check_values,
)
from lossops.losses.catalogue import CATALOGUE
from lossops.losses.conventions import CONVENTIONS
from lossops.losses.declaration import Form, Inputs, Loss, setting_names

__all__ = ["BoundLoss", "bind"]

_LOOPS: dict[Inputs, Callable[..., blocks.Fill]] = {
    Inputs.ELEMENTS: blocks.mean_of_elements,
    Inputs.LABEL_VECTOR: blocks.label_vector,
    Inputs.CLASS_INDEX: blocks.class_index,
}


@cache
def _compiled(formula: Callable[..., float], inputs: Inputs) -> blocks.Fill:
    return _LOOPS[inputs](formula)


@cache
def _compiled_predicate(predicate: Callable[..., bool], inputs: Inputs) -> blocks.Fill:
    return blocks.any_element(predicate) if inputs is Inputs.ELEMENTS else _LOOPS[inputs](predicate)


@dataclass(frozen=True)
class BoundLoss:
    """A loss of the catalogue, its parameters and its convention. Small and picklable: kernels are found by name.

    Args:
        name: of the loss in the catalogue.
        parameters: every parameter of the loss with its value.
        convention: name of the convention.
    """

    name: str
    parameters: tuple[tuple[str, float | bool | None], ...]
    convention: str

    @property
    def loss(self) -> Loss:
        """The declaration."""
        return CATALOGUE[self.name]

    @property
    def form(self) -> Form:
        """The form that the parameters ask for."""
        return self.loss.chosen_form(dict(self.parameters))

    @cached_property
    def _values(self) -> dict[str, float | bool | None]:
        return {**vars(CONVENTIONS[self.convention]), **dict(self.parameters)}

    def _settings(self, function: Callable[..., object]) -> tuple[float, ...]:
        return tuple(float(self._values[name] or 0.0) for name in setting_names(function))

    @property
    def reasons(self) -> dict[Reason, str]:
        """Why an aligned row may not be scored by this loss, with the limits in words."""
        form, loss = self.form, self.loss
        found = {
            Reason[f"{side}_{what}"]: f"{side.lower()} {words}"
            for side in ("LABEL", "PREDICTION")
            for what, words in _ALWAYS
        }
        found[Reason.LABEL_OUTSIDE_DOMAIN] = f"label outside {loss.label}"
        found[Reason.PREDICTION_OUTSIDE_DOMAIN] = f"prediction outside {form.prediction}"
        if loss.inputs is Inputs.CLASS_INDEX:
            found[Reason.LABEL_OUTSIDE_DOMAIN] = "label below 0 or not below the number of classes"
            found[Reason.LABEL_NOT_INTEGER] = "label is not an integer"
        if loss.label_sum is not None:
            found[Reason.LABEL_SUM_NOT_ONE] = f"labels of a row sum to something outside {loss.label_sum}"
        if self._divides_by_sum:
            found[Reason.PREDICTION_SUM_ZERO] = "predictions of a row sum to zero"
        if self._ignored is not None:
            found[Reason.LABEL_IGNORED] = f"label is the ignored class {self._ignored:g}"
        return dict(sorted(found.items()))

    @property
    def _divides_by_sum(self) -> bool:
        names = (name for name in setting_names(self.form.row) if name in ("renormalise", "renormalise_sparse"))
        return self.form.divides_by_sum and any(self._values[name] for name in names)

    @property
    def _ignored(self) -> float | None:
        return dict(self.parameters).get("ignore_class")

    def check(
        self,
        labels: npt.NDArray[np.float64],
        label_problems: npt.NDArray[np.uint8],
        predictions: npt.NDArray[np.float64],
        prediction_problems: npt.NDArray[np.uint8],
        reasons: npt.NDArray[np.uint8],
    ) -> None:
        """Mark the rows that this loss cannot score.

        Args:
            labels: [rows, label width].
            label_problems: [rows] of `lossops.kernels.checks.Problem`.
            predictions: [rows, prediction width].
            prediction_problems: [rows].
            reasons: [rows] of `Reason`, written where still 0.
        """
        loss, form = self.loss, self.form
        if self._ignored is not None:
            check_ignored(labels, label_problems, float(self._ignored), reasons)
        check_values(labels, label_problems, int(Reason.LABEL_NULL), loss.label.bounds, reasons)
        if loss.inputs is Inputs.CLASS_INDEX:
            check_class_index(labels, predictions.shape[1], reasons)
        if loss.label_sum is not None:
            low, high = loss.label_sum.low, loss.label_sum.high
            check_sums(labels, low, high, int(Reason.LABEL_SUM_NOT_ONE), reasons)
        check_values(predictions, prediction_problems, int(Reason.PREDICTION_NULL), form.prediction.bounds, reasons)
        if self._divides_by_sum:
            smallest = float(np.nextafter(0.0, 1.0))
            check_sums(predictions, smallest, np.inf, int(Reason.PREDICTION_SUM_ZERO), reasons)

    def values(
        self,
        labels: npt.NDArray[np.float64],
        predictions: npt.NDArray[np.float64],
        reasons: npt.NDArray[np.uint8],
    ) -> npt.NDArray[np.float64]:
        """Return the loss of each row, [rows], meaningless where ``reasons`` is not 0; marks NaN losses there."""
        out = np.zeros(len(reasons))
        row = self.form.row
        _compiled(row, self.loss.inputs)(labels, predictions, self._settings(row), reasons, out)
        check_losses(out, reasons)
        return out

    def clipped(
        self,
        labels: npt.NDArray[np.float64],
        predictions: npt.NDArray[np.float64],
        reasons: npt.NDArray[np.uint8],
    ) -> npt.NDArray[np.uint8]:
        """Return 1 for each row whose prediction the convention changed, [rows]."""
        out = np.zeros(len(reasons), dtype=np.uint8)
        predicate = self.form.clipped
        if predicate is not None and self._values["clip"]:
            fill = _compiled_predicate(predicate, self.loss.inputs)
            fill(labels, predictions, self._settings(predicate), reasons, out)
        return out


_ALWAYS = (
    ("NULL", "is null"),
    ("WRONG_LENGTH", "has another length than the rest of the run"),
    ("NAN", "is NaN"),
    ("INFINITE", "is infinite"),
)


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
        raise ConfigError(f"unknown loss {name!r}; {nearest(name, CATALOGUE)}")
    if convention not in CONVENTIONS:
        raise ConfigError(f"unknown convention {convention!r}; {nearest(convention, CONVENTIONS)}")
    known = {parameter.name: parameter for parameter in CATALOGUE[name].all_parameters}
    for key, value in parameters.items():
        if key not in known:
            raise ConfigError(f"{name} has no parameter {key!r}; {nearest(key, known)}")
        if not known[key].accepts(value):
            raise ConfigError(f"{name}: {key} is {shown(value)}; allowed: {known[key].allowed}")
    chosen = {key: parameters.get(key, parameter.default) for key, parameter in known.items()}
    return BoundLoss(name, tuple(chosen.items()), convention)  # type: ignore[arg-type]
