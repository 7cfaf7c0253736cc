"""A measure with its parameters and convention fixed: rows to records, and merged tables to numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from lossops.bins import BinTable, Records
from lossops.errors import ConfigError
from lossops.kernels.checks import check_losses
from lossops.losses.bound import Bound, BoundLoss, bind_parameters, compiled, numbers_of, parameters_of, unknown
from lossops.losses.catalogue import CATALOGUE
from lossops.losses.declaration import Form, Inputs, Value, setting_names
from lossops.measures.catalogue import MEASURES
from lossops.measures.declaration import Measure, Number
from lossops.measures.totals import Totals

__all__ = ["BoundMeasure", "Result", "bind"]


@dataclass(frozen=True)
class Result:
    """The value of a measure for one group.

    Args:
        rows: aligned rows.
        rows_valid: scored rows.
        rows_clipped: scored rows whose prediction the convention changed.
        weight_sum: sum of the weights of scored rows (their number where there are no weights).
        value: the measure; None where the data does not determine it.
    """

    rows: int
    rows_valid: int
    rows_clipped: int
    weight_sum: float
    value: float | None


@dataclass(frozen=True)
class BoundMeasure(Bound):
    """A measure of the catalogue, its parameters and its convention."""

    @property
    def declaration(self) -> Measure:
        """The declaration."""
        return MEASURES[self.name]

    @property
    def form(self) -> Form:
        """What a prediction must be."""
        return self.declaration.form

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """Every setting by name; also the parameters of the loss that a part is, at their defaults."""
        loss = self.declaration.loss
        defaults: Mapping[str, Value] = {one.name: one.default for one in parameters_of(loss)} if loss else {}
        inherited = numbers_of(loss, defaults) if loss else {}
        return {**inherited, **vars(self.rules), **numbers_of(self.declaration, dict(self.parameters))}

    def records(
        self,
        labels: npt.NDArray[np.float64],
        predictions: npt.NDArray[np.float64],
        weights: npt.NDArray[np.float64] | None,
        reasons: npt.NDArray[np.uint8],
    ) -> Records:
        """Return what is summed of the scored rows; marks rows with a NaN in ``reasons``.

        Args:
            labels: [rows, label width].
            predictions: [rows, prediction width].
            weights: [rows], or None.
            reasons: [rows] of `lossops.kernels.checks.Reason`.
        """
        measure = self.declaration
        parts = [self._values(part.row, labels, predictions, reasons) for part in measure.parts.values()]
        bins = None if measure.bins is None else self._values(measure.bins, labels, predictions, reasons)
        squares = [part.squares for part in measure.parts.values()]
        return Records.of_batch(parts, squares, bins, reasons, weights, by_value=measure.by_value)

    def _values(
        self,
        row: Callable[..., float],
        labels: npt.NDArray[np.float64],
        predictions: npt.NDArray[np.float64],
        reasons: npt.NDArray[np.uint8],
    ) -> npt.NDArray[np.float64]:
        """A formula of every row and output, [rows, outputs]."""
        fill, settings = (
            compiled(row, self.declaration.inputs),
            tuple(self.numbers[name] for name in setting_names(row)),
        )
        outputs = predictions.shape[1] if self.declaration.inputs is Inputs.ELEMENTS else 1
        found = np.zeros((len(reasons), outputs))
        if self.declaration.inputs is Inputs.ELEMENTS:
            own = np.repeat(reasons, outputs)
            fill(labels.reshape(-1, 1), predictions.reshape(-1, 1), settings, own, found.reshape(-1))
        else:
            fill(labels, predictions, settings, reasons, found[:, 0])
        for output in range(outputs):
            check_losses(found[:, output], reasons)
        return found

    def results(self, table: BinTable) -> list[Result]:
        """Return the value of each group of a table."""
        return [self._result(table, group) for group in range(len(table.keys))]

    def _result(self, table: BinTable, group: int) -> Result:
        rows, scored, clipped = table.tallies[group].tolist()
        if not scored:
            return Result(rows, 0, 0, 0.0, None)
        outputs = Totals.of_group(table, tuple(self.declaration.parts), group)
        try:
            value = self.declaration.finish(outputs, self.numbers)
        except OverflowError:  # sums or values beyond float64
            value = None
        return Result(rows, scored, clipped, _as_float(outputs[0].weight) or 0.0, _as_float(value))


def _as_float(value: Number | None) -> float | None:
    """The nearest float64, infinite beyond its range; None instead of NaN, which is the difference of infinities."""
    if value is None:
        return None
    try:
        found = float(value)
    except OverflowError:
        return math.copysign(math.inf, value)
    return None if math.isnan(found) else found + 0.0


def bind(name: str, parameters: Mapping[str, object], convention: str) -> BoundLoss | BoundMeasure:
    """Fix the parameters and convention of a loss or a measure, which share one namespace.

    Args:
        name: of the loss or measure in its catalogue.
        parameters: the ones that differ from their default.
        convention: name of the convention.

    Raises:
        ConfigError: unknown name, parameter or convention, or a value outside the parameter's domain.
    """
    if name in CATALOGUE:
        return BoundLoss(name, bind_parameters(CATALOGUE[name], parameters, convention), convention)
    if name in MEASURES:
        return BoundMeasure(name, bind_parameters(MEASURES[name], parameters, convention), convention)
    raise ConfigError(unknown(name, {**CATALOGUE, **MEASURES}))
