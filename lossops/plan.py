"""Config and datasets to a plan: what is read from where, how rows are paired, in which pieces.

Nothing about the data is decided later than here: column types, vector widths and class counts hold for the whole run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
from pyarrow import types

from lossops.config import LossConfig, RunConfig
from lossops.data.columns import is_category, is_number, lengths, vector_width
from lossops.data.dataset import Dataset, logical_type, open_dataset
from lossops.data.keys import check_key_types, is_ordered, read_keys
from lossops.errors import InputError, nearest
from lossops.losses import CONVENTIONS, BoundLoss, Inputs
from lossops.losses.declaration import SIGNS, TWO_CLASSES, UNIT
from lossops.measures import BoundMeasure
from lossops.report import check_output
from lossops.slices import OVERALL, Axis, Slice

__all__ = ["BATCH_VALUES", "Mode", "Pairing", "Piece", "Plan", "Source", "Task", "make_plan"]

Mode = Literal["same", "position", "join"]
Side = Literal["labels", "predictions"]

BATCH_VALUES = 1 << 22  # numbers a worker holds of one column at a time: 32 MiB
_BATCH_ROWS = 1 << 18
_SMALLEST_PIECE, _LARGEST_PIECE = 1 << 16, 1 << 20
_SNIFFED_ROWS = 1 << 16


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

    @property
    def cell(self) -> tuple[str, str]:
        """(model, loss), the key of its state."""
        return self.model, self.name


@dataclass(frozen=True)
class Piece:
    """Rows ``start`` to ``stop - 1`` of a shard of the predictions: what one worker call scores."""

    shard: int
    start: int
    stop: int


@dataclass(frozen=True)
class Pairing:
    """One predictions dataset, the labels, and everything that is computed from the two.

    Args:
        predictions, labels: the datasets; the same where predictions carry the labels.
        mode: ``same``: nothing is joined; ``position``: row i to row i, keys compared; ``join``: by key.
        key: key columns; empty if rows pair by position without a key.
        tasks: the losses of the models.
        weight: where the sample weight is read.
        axes: where each axis of the slices is read.
        slices: overall first.
    """

    predictions: Dataset
    labels: Dataset
    mode: Mode
    key: tuple[str, ...]
    tasks: tuple[Task, ...]
    weight: Source | None
    axes: Mapping[Axis, Source]
    slices: tuple[Slice, ...]

    def columns(self, side: Side) -> tuple[str, ...]:
        """The columns that scoring needs from a side, without the key."""
        own = {task: task.labels if side == "labels" else task.predictions for task in self.tasks}
        sources = [*([self.weight] if self.weight else []), *self.axes.values()]
        named = [*(name for names in own.values() for name in names), *(s.column for s in sources if s.side == side)]
        return tuple(dict.fromkeys(named))

    def read_columns(self, side: Side) -> tuple[str, ...]:
        """The columns that are read from a side."""
        if self.mode == "same":
            return tuple(dict.fromkeys((*self.columns("predictions"), *self.columns("labels"))))
        return tuple(dict.fromkeys((*self.key, *self.columns(side))))

    def text_columns(self, side: Side) -> tuple[str, ...]:
        """The columns that only name slices, of which the codes are enough."""
        schema = (self.labels if side == "labels" else self.predictions).schema
        named = {source.column for axis, source in self.axes.items() if source.side == side and axis.bins is None}
        return tuple(sorted(name for name in named - set(self.key) if types.is_string(schema.field(name).type)))

    @property
    def batch_rows(self) -> int:
        """Rows that are held at a time."""
        widest = max(task.prediction_width + task.label_width for task in self.tasks)
        return max(min(_BATCH_ROWS, BATCH_VALUES // widest), 1)

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """The predictions in pieces of whole row groups, in order."""
        target = min(max(self.predictions.rows // 16, _SMALLEST_PIECE), _LARGEST_PIECE)
        return tuple(
            Piece(number, start, stop)
            for number, shard in enumerate(self.predictions.shards)
            for start, stop in _runs(shard.groups, target)
        )

    @property
    def index_bytes(self) -> int:
        """About how much memory the labels take where they are joined by key: keys, hash index and columns."""
        schema = self.labels.schema
        row = 17 + 8 + sum(_row_bytes(schema.field(name).type) for name in self.columns("labels"))
        return self.labels.rows * row

    def joined(self) -> Pairing:
        """The same pairing, joined by key."""
        return replace(self, mode="join")


def _runs(groups: Sequence[int], target: int) -> Iterator[tuple[int, int]]:
    start = stop = 0
    for rows in groups:
        stop += rows
        if stop - start >= target:
            yield start, stop
            start = stop
    if stop > start:
        yield start, stop


def _row_bytes(kind: pa.DataType) -> int:
    if types.is_dictionary(kind):
        return 4
    if types.is_fixed_size_list(kind):
        return int(kind.list_size) * _row_bytes(kind.value_type)
    try:
        return max(int(kind.bit_width) // 8, 1)
    except ValueError:
        return 32  # text and lists: a guess that the message calls one


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before the first row is scored."""

    config: RunConfig
    pairings: tuple[Pairing, ...]

    @property
    def partitions(self) -> int:
        """Number of pieces of work."""
        return sum(len(pairing.pieces) for pairing in self.pairings)

    @property
    def shards(self) -> int:
        """Number of prediction shards."""
        return sum(len(pairing.predictions.shards) for pairing in self.pairings)

    @property
    def rows(self) -> int:
        """Number of prediction rows."""
        return sum(pairing.predictions.rows for pairing in self.pairings)

    def describe(self) -> list[tuple[str, str]]:
        """What `lossops check` prints: (heading, text)."""
        labels = self.pairings[0].labels
        lines = [("labels", f"{labels.location}: {labels.rows:,} rows in {_count(len(labels.shards), 'shard')}")]
        for pairing in self.pairings:
            models = ", ".join(dict.fromkeys(task.model for task in pairing.tasks))
            data = pairing.predictions
            lines.append((models, f"{data.location}: {data.rows:,} rows in {_count(len(data.shards), 'shard')}"))
            lines.append(("alignment", _describe_mode(pairing)))
        lines += [(task.name, _describe_task(task)) for task in self.pairings[0].tasks]
        lines.append(("slices", ", ".join(" x ".join(one.columns) or "overall" for one in self.pairings[0].slices)))
        lines.append(("work", f"{_count(self.partitions, 'partition')} of whole row groups"))
        return lines


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _describe_mode(pairing: Pairing) -> str:
    key = ", ".join(pairing.key)
    memory = f"about {max(pairing.index_bytes / 2**20, 0.1):,.1f} MiB of labels held in memory"
    if pairing.mode == "same":
        return "predictions and labels are the same dataset, nothing is joined"
    if pairing.mode == "join":
        return f"join by {key}, {memory}"
    if not key:
        return "by shard and position, which nothing can verify without a key"
    return f"by shard and position, {key} compared row by row; if one differs: join by {key}, {memory}"


def _describe_task(task: Task) -> str:
    columns = " ".join(task.predictions) + (f" against {' '.join(task.labels)}" if task.labels else "")
    width = f", {task.prediction_width} values a row" if task.prediction_width > 1 else ""
    return f"{task.loss.name}: {columns}{width}"


def make_plan(config: RunConfig) -> Plan:
    """Open the datasets of a config, check that it fits them, and decide how rows are paired.

    Raises:
        InputError: a path, column or type does not fit; the message names it and what is allowed.
    """
    check_output(config.output)
    labels = open_dataset(config.labels.path)
    opened: dict[tuple[str, ...], Dataset] = {}
    models: dict[tuple[str, ...], list[str]] = {}
    for name, model in config.models.items():
        dataset = open_dataset(model.path)
        opened.setdefault(dataset.paths, dataset)
        models.setdefault(dataset.paths, []).append(name)
    return Plan(config, tuple(_pair(config, labels, opened[paths], models[paths]) for paths in opened))


def _pair(config: RunConfig, labels: Dataset, predictions: Dataset, models: Sequence[str]) -> Pairing:
    same = labels.paths == predictions.paths
    sides: dict[Side, Dataset] = {"labels": labels, "predictions": predictions}
    slices = (OVERALL, *config.chosen_slices)
    axes = {axis: _locate(axis.column, "slices", sides, config, same=same) for one in slices for axis in one.axes}
    for axis, source in axes.items():
        _check_axis(axis, sides[source.side], source)
    weight = None if config.weight is None else _locate(config.weight, "weight", sides, config, same=same)
    if weight is not None:
        _check_number(sides[weight.side], weight.column, "weight")
    key = tuple(config.key or ())
    for column in () if same else key:
        found = [(side.location, side.type_of(column, "key")) for side in (predictions, labels)]
        check_key_types(column, found[0], found[1])
    tasks = tuple(
        _task(config, model, one, bound, sides)
        for model in models
        for one, bound in zip(config.losses, config.bound_losses, strict=True)
    )
    mode: Mode = "same" if same else _mode(labels, predictions, key)
    return Pairing(predictions, labels, mode, key, tasks, weight, axes, slices)


def _locate(name: str, key: str, sides: Mapping[Side, Dataset], config: RunConfig, *, same: bool) -> Source:
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


def _check_axis(axis: Axis, dataset: Dataset, source: Source) -> None:
    kind = dataset.type_of(source.column, "slices")
    if axis.bins is not None:
        _check_number(dataset, source.column, "slices")
    elif not is_category(kind):
        raise InputError(
            f"slices: column {source.column!r} in {dataset.location} is {kind}; "
            "allowed: text, number, bool, date, timestamp"
        )


def _check_number(dataset: Dataset, column: str, key: str) -> None:
    kind = dataset.type_of(column, key)
    if not is_number(kind):
        raise InputError(f"{key}: column {column!r} in {dataset.location} is {kind}; allowed: a number")


def _columns(own: str | list[str] | None, default: str | list[str] | None, key: str, advice: str) -> tuple[str, ...]:
    chosen = own if own is not None else default
    if not chosen:
        raise InputError(f"{key}: no column is named; allowed: set it, or {advice}")
    return (chosen,) if isinstance(chosen, str) else tuple(chosen)


def _task(
    config: RunConfig, model: str, one: LossConfig, bound: BoundLoss | BoundMeasure, sides: Mapping[Side, Dataset]
) -> Task:
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
    for number, shard in enumerate(dataset.shards):
        for table in dataset.read(number, [column], 0, shard.rows, _BATCH_ROWS):
            found = lengths(table[column])
            total = np.pad(total, (0, max(len(found) - len(total), 0)))
            total[: len(found)] += found
    return int(len(total) - 1 - np.argmax(total[::-1])) or 1


def _mode(labels: Dataset, predictions: Dataset, key: tuple[str, ...]) -> Mode:
    here, there = ([shard.rows for shard in dataset.shards] for dataset in (predictions, labels))
    if not key:
        _check_positions(predictions, labels, here, there)
        return "position"
    kinds = [logical_type(labels.schema.field(column).type) for column in key]
    if here == there and is_ordered(kinds) and is_ordered([logical_type(predictions.schema.field(key[0]).type)]):
        return "position" if _first_keys_agree(labels, predictions, key) else "join"
    return "join"


def _check_positions(predictions: Dataset, labels: Dataset, here: Sequence[int], there: Sequence[int]) -> None:
    if len(here) != len(there):
        found = f"{predictions.location} has {_count(len(here), 'shard')}, {labels.location} has {len(there)}"
        raise InputError(
            f"key: without a key rows pair by shard and position, but {found}; allowed: set key, or equal shards"
        )
    for number, (rows, others) in enumerate(zip(here, there, strict=True)):
        if rows != others:
            found = f"{predictions.shards[number].path} has {rows} rows, {labels.shards[number].path} has {others}"
            raise InputError(
                f"key: without a key rows pair by shard and position, but {found}; allowed: set key, or equal shards"
            )


def _first_keys_agree(labels: Dataset, predictions: Dataset, key: Sequence[str]) -> bool:
    """Whether the first rows pair by position; only a guess at the cheapest plan, the run compares every key."""
    number = next((n for n, shard in enumerate(labels.shards) if shard.rows), None)
    if number is None:
        return True
    stop = min(labels.shards[number].rows, _SNIFFED_ROWS)
    tables = [next(dataset.read(number, list(key), 0, stop, stop)) for dataset in (labels, predictions)]
    first, second = (read_keys([table[column] for column in key]) for table in tables)
    return first.same(second)
