"""Which columns each loss of each model is computed from: names of the config to columns, widths and classes.

Nothing about the data is decided later than here: column types, vector widths and class counts hold for the whole run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pyarrow import types

from lossops.config import LossConfig, RunConfig
from lossops.data.columns import is_category, is_number, lengths, vector_width
from lossops.data.dataset import Dataset
from lossops.errors import InputError, nearest
from lossops.losses import CONVENTIONS, BoundLoss, Inputs
from lossops.losses.declaration import SIGNS, TWO_CLASSES, UNIT
from lossops.measures import BoundMeasure
from lossops.slices import Axis

__all__ = [
    "SIDES",
    "Comparison",
    "Side",
    "Source",
    "Task",
    "check_axis",
    "check_number",
    "check_unit",
    "locate",
    "make_comparisons",
    "make_task",
]

Side = Literal["labels", "predictions", "baseline"]  # baseline: its predictions, where they are in another dataset
SIDES: tuple[Side, Side] = ("predictions", "labels")

_BATCH_ROWS = 1 << 18


@dataclass(frozen=True)
class Source:
    """A column and the side it is read from."""

    side: Side
    column: str


@dataclass(frozen=True)
class Task:
    """One loss or measure of one model.

    Args:
        model: its name in the config.
        name: the loss's name in the report.
        loss: what is computed.
        labels, predictions: the columns it is computed from: one, or one a class.
        label_width, prediction_width: values a row on each side.
        classes: the label values in the order of the class numbers; empty where labels are numbers already.
        fields: the order in which the loss takes the fields of a struct of predictions; empty: as they come.
        side: where the predictions are read.
        denominator: what the sum of losses is divided by, see `lossops.config.LossConfig`; never ``convention``.
    """

    model: str
    name: str
    loss: BoundLoss | BoundMeasure
    labels: tuple[str, ...]
    predictions: tuple[str, ...]
    label_width: int
    prediction_width: int
    classes: tuple[str | float | bool, ...] = ()
    denominator: str = "weights"
    fields: tuple[str, ...] = ()
    side: Side = "predictions"

    @property
    def cell(self) -> tuple[str, str]:
        """(model, loss), the key of its state."""
        return self.model, self.name

    @property
    def has_probability(self) -> bool:
        """Whether a prediction is the probability of a label that is 1, and not 0."""
        if not isinstance(self.loss, BoundLoss) or self.loss.declaration.inputs is not Inputs.ELEMENTS:
            return False
        domains = self.loss.form.prediction == UNIT and self.loss.declaration.label in (UNIT, TWO_CLASSES)
        return domains and self.label_width == self.prediction_width == 1

    @property
    def class_values(self) -> Sequence[float]:
        """What each class is for the loss."""
        declared = self.loss.declaration
        ends = (declared.label.low, declared.label.high)
        return range(len(self.classes)) if declared.inputs.has_classes else ends


@dataclass(frozen=True)
class Comparison:
    """One loss of one model beside that of the baseline, on the rows that both are scored on."""

    task: Task
    baseline: Task

    @property
    def cell(self) -> tuple[str, str, str]:
        """(model, loss, baseline), the key of its state."""
        return self.task.model, self.task.name, self.baseline.model


def make_comparisons(tasks: Sequence[Task], baseline: str | None) -> tuple[Comparison, ...]:
    """Return every loss of every other model beside that of the baseline; measures of a dataset are not compared."""
    theirs = {task.name: task for task in tasks if task.model == baseline}
    return tuple(
        Comparison(task, theirs[task.name])
        for task in tasks
        if task.name in theirs and task.model != baseline and isinstance(task.loss, BoundLoss)
    )


def check_unit(dataset: Dataset, column: str) -> None:
    """Check that a column can name independent units.

    Raises:
        InputError: it cannot.
    """
    kind = dataset.type_of(column, "unit")
    plain = kind.value_type if types.is_dictionary(kind) else kind
    if types.is_floating(plain) or not is_category(plain):
        raise InputError(
            f"unit: column {column!r} in {dataset.location} is {kind}; allowed: text, integer, date, timestamp"
        )


def locate(name: str, key: str, sides: Mapping[Side, Dataset], config: RunConfig, *, same: bool) -> Source:
    """Find the side of a slice or weight column: the labels, then the predictions; a name in both must be qualified."""
    prefix, dot, column = name.partition(".")
    literal = any(name in dataset.schema.names for dataset in sides.values())
    if dot and prefix in sides and not literal:
        side: Side = "labels" if prefix == "labels" else "predictions"
        sides[side].type_of(column, key)
        return Source(side, column)
    holding: list[Side] = [side for side in ("labels", "predictions") if name in sides[side].schema.names]
    if not holding:
        places = f"{sides['labels'].location} or {sides['predictions'].location}"
        known = [*sides["labels"].schema.names, *sides["predictions"].schema.names]
        raise InputError(f"{key}: no column {name!r} in {places}; {nearest(name, known)}")
    if len(holding) > 1 and not same and name not in (config.key or ()):
        raise InputError(f"{key}: column {name!r} is on both sides; allowed: labels.{name} or predictions.{name}")
    sides[holding[0]].type_of(name, key)
    return Source(holding[0], name)


def check_axis(axis: Axis, dataset: Dataset, source: Source, key: str = "slices") -> None:
    """Check that a column can be the axis of a slice; ``key`` is the config key that asks for it.

    Raises:
        InputError: it cannot.
    """
    kind = dataset.type_of(source.column, key)
    if axis.bins is not None:
        check_number(dataset, source.column, key)
    elif not is_category(kind):
        raise InputError(
            f"{key}: column {source.column!r} in {dataset.location} is {kind}; "
            "allowed: text, number, bool, date, timestamp"
        )


def check_number(dataset: Dataset, column: str, key: str) -> None:
    """Check that a column holds numbers; ``key`` is the config key that asks for it.

    Raises:
        InputError: it does not.
    """
    kind = dataset.type_of(column, key)
    if not is_number(kind):
        raise InputError(f"{key}: column {column!r} in {dataset.location} is {kind}; allowed: a number")


def _columns(own: str | list[str] | None, default: str | list[str] | None, key: str, advice: str) -> tuple[str, ...]:
    chosen = own if own is not None else default
    if not chosen:
        raise InputError(f"{key}: no column is named; allowed: set it, or {advice}")
    return (chosen,) if isinstance(chosen, str) else tuple(chosen)


def make_task(
    config: RunConfig, model: str, one: LossConfig, bound: BoundLoss | BoundMeasure, sides: Mapping[Side, Dataset]
) -> Task:
    """Find the columns of one loss of one model, and check that they fit it.

    Args:
        config: of the run.
        model: its name.
        one, bound: the loss as configured, and with its parameters fixed.
        sides: both datasets.

    Raises:
        InputError: a column is missing or does not fit the loss.
    """
    where = f"losses.{one.shown}"
    default = config.models[model].prediction
    predictions = _columns(one.prediction, default, f"{where}.prediction", f"models.{model}.prediction")
    prediction_width = _width(sides["predictions"], predictions, f"{where}.prediction")
    labels = _label_columns(config, one, bound, where)
    classes = _classes(one, bound, labels, predictions, sides)
    text = bool(classes) and isinstance(classes[0], str)
    label_width = 1 if text else _width(sides["labels"], labels, f"{where}.label") if labels else 0
    problem = bound.misfit(label_width, prediction_width)
    if problem is None and classes and bound.declaration.inputs.has_classes and len(classes) != prediction_width:
        problem = f"there are {len(classes)} classes and {prediction_width} predictions a row; allowed: as many"
    if problem is not None:
        raise InputError(f"{where}: {problem}")
    return Task(
        model,
        one.shown,
        bound,
        labels,
        predictions,
        label_width,
        prediction_width,
        classes,
        _denominator(one, bound),
        _fields(bound, predictions, sides["predictions"], where),
    )


def _fields(
    bound: BoundLoss | BoundMeasure, predictions: tuple[str, ...], dataset: Dataset, where: str
) -> tuple[str, ...]:
    """Return the named values of a prediction where a struct names them, in the order of the loss."""
    found, wanted = _field_names(dataset, predictions), tuple(field.name for field in bound.form.fields)
    if not found or not wanted:
        return ()
    if set(found) != set(wanted):
        has = f"the fields of {predictions[0]!r} in {dataset.location} are {', '.join(found)}"
        raise InputError(f"{where}.prediction: {has}; allowed: {', '.join(wanted)}")
    return wanted


def _label_columns(config: RunConfig, one: LossConfig, bound: BoundLoss | BoundMeasure, where: str) -> tuple[str, ...]:
    if bound.declaration.inputs.has_label:
        return _columns(one.label, config.labels.label, f"{where}.label", "labels.label")
    if one.label is not None:
        raise InputError(f"{where}.label: {bound.name} takes no label; allowed: leave the key out")
    return ()


def _classes(
    one: LossConfig,
    bound: BoundLoss | BoundMeasure,
    labels: tuple[str, ...],
    predictions: tuple[str, ...],
    sides: Mapping[Side, Dataset],
) -> tuple[str | float | bool, ...]:
    """Return the classes that the config names, or, for text labels, those that the prediction's fields name."""
    where, dataset, inputs = f"losses.{one.shown}", sides["labels"], bound.declaration.inputs
    kinds = [dataset.type_of(column, f"{where}.label") for column in labels]
    text = len(kinds) == 1 and vector_width(kinds[0]) is None and is_category(kinds[0])
    fields = _field_names(sides["predictions"], predictions)
    if one.classes is None:
        return tuple(fields) if text and inputs.has_classes else ()
    if not inputs.has_classes and (bound.declaration.label not in _TWO_VALUED or len(one.classes) != 2):
        allowed = "two classes for a loss whose label is one of two"
        raise InputError(f"{where}.classes: {len(one.classes)} classes for {bound.name}; allowed: {allowed}")
    if not labels or text != isinstance(one.classes[0], str):
        found = f"label {' '.join(labels)} in {dataset.location} is {', '.join(map(str, kinds)) or 'absent'}"
        raise InputError(f"{where}.classes: {found}; allowed: classes of the label's type")
    if fields and inputs.has_classes and list(map(str, one.classes)) != fields:
        found = f"the fields of {predictions[0]!r} are {', '.join(fields)}"
        raise InputError(f"{where}.classes: {found}; allowed: the same names in the same order")
    return tuple(one.classes)


_TWO_VALUED = (UNIT, TWO_CLASSES, SIGNS)


def _field_names(dataset: Dataset, columns: Sequence[str]) -> list[str]:
    kind = dataset.schema.field(columns[0]).type
    return [field.name for field in kind] if len(columns) == 1 and types.is_struct(kind) else []


def _denominator(one: LossConfig, bound: BoundLoss | BoundMeasure) -> str:
    if isinstance(bound, BoundMeasure):
        if one.denominator not in ("weights", "convention"):
            raise InputError(f"losses.{one.shown}.denominator: {one.denominator}; allowed: leave it out for a measure")
        return "weights"
    weighted = dict(bound.parameters).get("class_weight") is not None and bound.declaration.inputs is Inputs.CLASS_INDEX
    if one.denominator == "class_weights" and not weighted:
        allowed = "for a loss of integer classes with class_weight"
        raise InputError(f"losses.{one.shown}.denominator: class_weights; allowed: {allowed}")
    if one.denominator != "convention":
        return one.denominator
    library = CONVENTIONS[bound.convention].denominator
    by_class = weighted and bound.loss.divides_by_class_weights
    return "rows" if library == "class_weights" and not by_class else library


def _width(dataset: Dataset, columns: Sequence[str], key: str) -> int:
    """Return the values a row of all columns together; each has the same number."""
    found = [_column_width(dataset, column, key) for column in columns]
    if len(set(found)) > 1:
        each = ", ".join(f"{column} {width}" for column, width in zip(columns, found, strict=True))
        raise InputError(f"{key}: columns of {dataset.location} have {each} values a row; allowed: as many in each")
    return sum(found)


def _column_width(dataset: Dataset, column: str, key: str) -> int:
    kind = dataset.type_of(column, key)
    width = vector_width(kind)
    if width is None:
        allowed = "a number, a list of numbers or a struct of numbers"
        raise InputError(f"{key}: column {column!r} in {dataset.location} is {kind}; allowed: {allowed}")
    return width or _commonest_length(dataset, column)


def _commonest_length(dataset: Dataset, column: str) -> int:
    """Return the length that most lists of a column have in the whole run; of equally common ones the longest.

    The column is read once for this, because a length taken from one shard would depend on how the data is cut.
    """
    total = np.zeros(1, dtype=np.int64)
    for shard in dataset.shards:
        for table in dataset.read(shard, [column], 0, shard.rows, _BATCH_ROWS):
            found = lengths(table[column])
            total = np.pad(total, (0, max(len(found) - len(total), 0)))
            total[: len(found)] += found
    return int(len(total) - 1 - np.argmax(total[::-1])) or 1
