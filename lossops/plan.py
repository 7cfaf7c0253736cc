"""Config and datasets to a plan: what is read from where, how rows are paired, in which pieces.

The cheapest legal way to pair rows is chosen from facts: shards, types and ranges of keys, memory. A run verifies what
the choice rests on; where that does not hold, `replanned` chooses again without that way.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import types

from lossops.config import DiscoverConfig, RunConfig
from lossops.data.align import Rule
from lossops.data.dataset import Dataset, Shard, logical_type, open_dataset
from lossops.data.keys import Keys, check_key_types, check_order_type, is_ordered, read_keys
from lossops.errors import InputChanged, InputError
from lossops.losses import BoundLoss
from lossops.memory import default_limit, shown_size
from lossops.pieces import Piece, by_position, key_intervals, shard_pairs
from lossops.report import check_output
from lossops.slices import OVERALL, Axis, Slice
from lossops.state import GroupKey
from lossops.tasks import (
    SIDES,
    Comparison,
    Side,
    Source,
    Task,
    check_axis,
    check_number,
    check_unit,
    locate,
    make_comparisons,
    make_task,
)

__all__ = [
    "HELD_OUT",
    "PLACE",
    "SEARCHED",
    "Budget",
    "Mode",
    "Pairing",
    "Plan",
    "Subset",
    "bounded",
    "check_pins",
    "make_plan",
    "replanned",
    "shard_id",
]

Mode = Literal["same", "position", "shard", "broadcast", "merge", "spill"]

_BATCH_VALUES = 1 << 22  # numbers a worker holds of one column at a time: 32 MiB
_BATCH_ROWS = 1 << 19
_SNIFFED_ROWS = 1 << 16
_KEY_BYTES = 33  # of a row in memory: key, order, count, partner
_UNKNOWN_THREADS = 8  # of each worker of a cluster that is not asked before the run
_MOST_BUCKETS = 4096
PLACE = "lossops place"  # column: number of the shard * 2**40 + row in it
SEARCHED, HELD_OUT = 0, 1  # halves of the rows, for `Subset`


@dataclass(frozen=True)
class Subset:
    """Which rows and groups a pass over the data is about; all others are put together, as one group of each slice.

    Args:
        half: of the rows, split by unit where there are units, else by key; None for all of them.
        groups: for each slice those that are asked for; None for all.
        by_unit: whether sums are kept by unit.
    """

    half: int | None
    groups: tuple[frozenset[GroupKey] | None, ...]
    by_unit: bool


@dataclass(frozen=True)
class Budget:
    """What a worker process may hold.

    Args:
        memory: bytes.
        threads: pieces that it works on at a time.
    """

    memory: int
    threads: int

    @property
    def index(self) -> int:
        """Bytes that all labels may take where every piece looks them up."""
        return self.memory // 4

    @property
    def piece(self) -> int:
        """Bytes that the rows of one piece may take."""
        return self.memory // (8 * self.threads)


@dataclass(frozen=True)
class Pairing:
    """One predictions dataset, the labels, and everything that is computed from the two.

    Args:
        predictions, labels: the datasets; the same where predictions carry the labels.
        mode: ``same``: nothing is joined; ``position``: row i to row i, keys compared; or joined by key: ``shard``:
            shard i with shard i, ``broadcast``: each piece with all labels in memory, ``merge``: by ranges of the key,
            ``spill``: by hash of the key through files.
        why: the facts that decided for the mode, and what was tried before.
        key: key columns; empty if rows pair by position without a key.
        rule: which of several rows with one key counts.
        order: for each side that has it the column by which that rule chooses.
        tasks: the losses of the models.
        comparisons: of the models with the baseline.
        weight: where the sample weight is read.
        unit: where the independent unit is read.
        unit_buckets: units that are kept apart.
        axes: where each axis of the slices is read.
        slices: overall first.
        has_histograms: whether losses are counted in bins.
        hardest: rows with the largest losses that are kept for each slice.
        calibration_bins: bins of the probabilities whose labels are counted; 0 for none.
        searched: where each column is read that is searched for bad slices.
        budget: memory and threads of a worker.
        recipe: everything that decides what is computed of a row, as text.
        shard_ids: uint64 [shards], what tells the shards of the predictions apart where their names are not at hand.
        subset: what a pass of a search is about; None for the whole run.
        baseline: predictions of the baseline, where only pairs of losses are computed, of rows that all three have.
    """

    predictions: Dataset
    labels: Dataset
    mode: Mode
    why: tuple[str, ...]
    key: tuple[str, ...]
    rule: Rule
    order: Mapping[Side, str]
    tasks: tuple[Task, ...]
    comparisons: tuple[Comparison, ...]
    weight: Source | None
    unit: Source | None
    unit_buckets: int
    axes: Mapping[Axis, Source]
    slices: tuple[Slice, ...]
    has_histograms: bool
    hardest: int
    calibration_bins: int
    searched: Mapping[Axis, Source]
    budget: Budget
    recipe: str
    shard_ids: npt.NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    subset: Subset | None = None
    baseline: Dataset | None = None

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides that are read."""
        return SIDES if self.baseline is None else (*SIDES, "baseline")

    def side(self, side: Side) -> Dataset:
        """The dataset of a side."""
        if side == "baseline" and self.baseline is not None:
            return self.baseline
        return self.labels if side == "labels" else self.predictions

    @property
    def names_rows(self) -> bool:
        """Whether scoring needs to know which rows it is given."""
        return self.hardest > 0 or (self.subset is not None and self.subset.half is not None)

    def searching(self, slices: tuple[Slice, ...], subset: Subset) -> Pairing:
        """The same pairing for a pass of a search over these slices of the searched columns."""
        axes = {axis: self.searched[axis] for one in slices for axis in one.axes}
        groups = [None if keys is None else sorted(map(repr, keys)) for keys in subset.groups]
        asked = [[[axis.column, axis.bins] for axis in one.axes] for one in slices]
        recipe = json.dumps([self.recipe, asked, subset.half, subset.by_unit, groups])
        return replace(self, axes=axes, slices=slices, subset=subset, recipe=recipe)

    def columns(self, side: Side) -> tuple[str, ...]:
        """The columns that scoring needs from a side, without the key."""
        predictions = [task.predictions for task in self.tasks if task.side == side]
        own = [task.labels for task in self.tasks] if side == "labels" else predictions
        sources = [*(source for source in (self.weight, self.unit) if source), *self.axes.values()]
        named = [*(name for names in own for name in names), *(s.column for s in sources if s.side == side)]
        keys = self.key if self.names_rows and side == "predictions" else ()
        return tuple(dict.fromkeys((*keys, *named)))

    def kept_columns(self, side: Side) -> tuple[str, ...]:
        """The columns that scoring is given: those of the files, and where each row of the predictions comes from."""
        place = (PLACE,) if self.names_rows and side == "predictions" else ()
        return (*self.columns(side), *place)

    def kept_schema(self, side: Side) -> pa.Schema:
        """The types of these columns."""
        schema = self.side(side).schema
        return pa.schema(
            [pa.field(PLACE, pa.int64()) if name == PLACE else schema.field(name) for name in self.kept_columns(side)]
        )

    def read_columns(self, side: Side) -> tuple[str, ...]:
        """The columns that are read from a side."""
        if self.mode == "same":
            return tuple(dict.fromkeys((*self.columns("predictions"), *self.columns("labels"))))
        order = [self.order[side]] if side in self.order and self.mode != "position" else []
        return tuple(dict.fromkeys((*self.key, *order, *self.columns(side))))

    def text_columns(self, side: Side) -> tuple[str, ...]:
        """The columns that only name slices, of which the codes are enough."""
        schema = self.side(side).schema
        named = {source.column for axis, source in self.axes.items() if source.side == side and axis.bins is None}
        taken = {*self.key, *self.order.values()}
        return tuple(sorted(name for name in named - taken if types.is_string(schema.field(name).type)))

    @property
    def batch_rows(self) -> int:
        """Rows that are held at a time."""
        widest = max(task.prediction_width + task.label_width for task in self.tasks)
        return max(min(_BATCH_ROWS, _BATCH_VALUES // widest), 1)

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """The work, in order; of a spill join the buckets are the work, and there are none here."""
        if self.mode == "shard":
            return shard_pairs(self.predictions, self.labels)
        if self.mode == "merge":
            return key_intervals(self.predictions, self.labels, self._piece_rows) or ()
        if self.mode == "spill":
            return ()
        return by_position(self.predictions, self.labels if self.mode == "position" else None, self.baseline)

    @property
    def partitions(self) -> int:
        """Number of pieces of work."""
        return self.buckets if self.mode == "spill" else len(self.pieces)

    @property
    def _piece_rows(self) -> int:
        return max(self.budget.piece // max(self.row_bytes("predictions"), self.row_bytes("labels")), 1)

    def row_bytes(self, side: Side) -> int:
        """About how much memory a row of a side takes where it is joined by key."""
        return _KEY_BYTES + sum(_value_bytes(field.type) for field in self.kept_schema(side))

    def side_bytes(self, side: Side) -> int:
        """About how much memory all rows of a side take where they are joined by key."""
        return self.side(side).rows * self.row_bytes(side)

    @property
    def buckets(self) -> int:
        """Buckets of a spill join: a power of two, so that one fits the budget of a piece on average."""
        bytes_of_all = sum(self.side_bytes(side) for side in self.sides)
        wanted = max(bytes_of_all // max(self.budget.piece, 1), 1)
        return min(1 << int(wanted).bit_length(), _MOST_BUCKETS)

    def without_shards(self) -> Pairing:
        """The same pairing as a worker needs it, which is told its shards with each piece."""
        predictions, labels = (replace(side, shards=()) for side in (self.predictions, self.labels))
        baseline = None if self.baseline is None else replace(self.baseline, shards=())
        ids = np.array([shard_id(shard.path) for shard in self.predictions.shards], dtype=np.uint64)
        return replace(self, predictions=predictions, labels=labels, baseline=baseline, why=(), shard_ids=ids)


def shard_id(path: str) -> int:
    """A number below 2**64 that tells a shard from others, whatever its place among them."""
    return int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "big")


def _value_bytes(kind: pa.DataType) -> int:
    if types.is_dictionary(kind):
        return 4
    if types.is_fixed_size_list(kind):
        return int(kind.list_size) * _value_bytes(kind.value_type)
    try:
        return max(int(kind.bit_width) // 8, 1)
    except ValueError:
        return 32  # text and lists: a guess that the message calls one


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before the first row is scored.

    Args:
        config: of the run.
        pairings: of every dataset of predictions with the labels.
        across: of models with the baseline, where its predictions are in another dataset.
    """

    config: RunConfig
    pairings: tuple[Pairing, ...]
    across: tuple[Pairing, ...] = ()

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Every comparison with the baseline."""
        return tuple(one for pairing in (*self.pairings, *self.across) for one in pairing.comparisons)

    @property
    def partitions(self) -> int:
        """Number of pieces of work."""
        return sum(pairing.partitions for pairing in self.pairings)

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
        lines = [("labels", _describe_dataset(labels))]
        for pairing in self.pairings:
            models = ", ".join(dict.fromkeys(task.model for task in pairing.tasks))
            lines.append((models, _describe_dataset(pairing.predictions)))
            lines.append(("alignment", _describe_mode(pairing)))
            lines += [("", why) for why in pairing.why]
            lines.append(("cost", _describe_cost(pairing)))
        for pairing in self.across:
            models = ", ".join(dict.fromkeys(one.task.model for one in pairing.comparisons))
            lines.append(("comparison", f"{models} with {self.config.baseline}, {_describe_mode(pairing)}"))
            lines.append(("cost", _describe_cost(pairing)))
        lines += [(task.name, _describe_task(task)) for task in self.pairings[0].tasks]
        lines.append(("slices", ", ".join(" x ".join(one.columns) or "overall" for one in self.pairings[0].slices)))
        if self.config.discover is not None:
            lines.append(("discover", _describe_search(self.config.discover)))
        lines.append(("work", f"{_count(self.partitions, 'partition')}"))
        return lines


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _describe_dataset(dataset: Dataset) -> str:
    text = f"{dataset.location}: {dataset.rows:,} rows in {_count(len(dataset.shards), 'shard')}"
    bad = dataset.quarantined
    return text + (f"; {len(bad)} in quarantine, such as {bad[0].path}: {bad[0].problem}" if bad else "")


def _describe_mode(pairing: Pairing) -> str:
    key = ", ".join(pairing.key)
    if pairing.mode == "same":
        return "same: predictions and labels are the same dataset, nothing is joined"
    if not key:
        return "position: by shard and row, which nothing can verify without a key"
    told = {
        "position": f"position: by shard and row, {key} compared row by row; if one differs, rows are joined",
        "shard": f"shard: shard i is joined with shard i by {key}, and no key may occur in two of them",
        "broadcast": f"broadcast: by {key}, with all labels in memory",
        "merge": f"merge: by ranges of {key} that Parquet statistics give, verified by counting rows",
        "spill": f"spill: by {key} in two passes through {_count(pairing.buckets, 'bucket')} on disk",
    }
    return told[pairing.mode]


def _describe_cost(pairing: Pairing) -> str:
    sides: tuple[Side, ...] = ("predictions",) if pairing.mode == "same" else pairing.sides
    read = sum(shard.file.size for side in sides for shard in pairing.side(side).shards)
    text = f"reads at most {shown_size(read)}"
    if pairing.mode == "spill":
        spilled = sum(pairing.side_bytes(side) for side in pairing.sides)
        text += f", spills about {shown_size(spilled)}"
    if pairing.mode == "broadcast":
        text += f", holds about {shown_size(pairing.side_bytes('labels'))} of labels"
    elif pairing.mode in ("shard", "merge", "spill"):
        text += f", holds about {shown_size(2 * pairing.budget.piece * pairing.budget.threads)}"
    return f"{text}; memory {shown_size(pairing.budget.memory)}"


def _describe_search(config: DiscoverConfig) -> str:
    depth = min(config.depth, len(config.columns))
    passes = depth + config.held_out
    columns = ", ".join(dict.fromkeys(axis.column for axis in config.axes))
    return f"conjunctions of up to {_count(depth, 'condition')} on {columns}, in {passes} more pass{'es' * (passes > 1)} over the data at least"


def _describe_task(task: Task) -> str:
    columns = " ".join(task.predictions) + (f" against {' '.join(task.labels)}" if task.labels else "")
    width = f", {task.prediction_width} values a row" if task.prediction_width > 1 else ""
    return f"{task.loss.name}: {columns}{width}"


def make_plan(config: RunConfig, quarantined: Mapping[str, str] | None = None) -> Plan:
    """Open the datasets of a config, check that it fits them, and decide how rows are paired.

    Args:
        config: of the run.
        quarantined: shards that turned out to be damaged, and why; they are left out where ``on_bad_shard`` allows it.

    Raises:
        InputError: a path, column or type does not fit; the message names it and what is allowed.
    """
    check_output(config.output)
    labels = _open(config, config.labels.path, quarantined or {})
    opened: dict[tuple[str, ...], Dataset] = {}
    models: dict[tuple[str, ...], list[str]] = {}
    for name, model in config.models.items():
        dataset = _open(config, model.path, quarantined or {})
        opened.setdefault(dataset.paths, dataset)
        models.setdefault(dataset.paths, []).append(name)
    pairings = tuple(_pair(config, labels, opened[paths], models[paths]) for paths in opened)
    return Plan(config, pairings, tuple(_across(config, pairings)))


def _across(config: RunConfig, pairings: Sequence[Pairing]) -> Iterator[Pairing]:
    """Yield a pairing of three for every dataset of models whose baseline is in another one."""
    for theirs in pairings:
        baseline = [task for task in theirs.tasks if task.model == config.baseline]
        for mine in pairings if baseline else ():
            if mine is not theirs:
                yield _beside(config, mine, theirs, baseline)


def _beside(config: RunConfig, mine: Pairing, theirs: Pairing, baseline: Sequence[Task]) -> Pairing:
    both = (*mine.tasks, *(replace(task, side="baseline") for task in baseline))
    tasks = tuple(task for task in both if isinstance(task.loss, BoundLoss))
    for column in config.key or ():
        found = [(side.location, side.type_of(column, "key")) for side in (mine.predictions, theirs.predictions)]
        check_key_types(column, found[0], found[1])
    if not config.key:
        _check_positions(mine.predictions, mine.labels)
        _check_positions(mine.predictions, theirs.predictions)
    sides: dict[Side, Dataset] = {
        "labels": mine.labels,
        "predictions": mine.predictions,
        "baseline": theirs.predictions,
    }
    order: dict[Side, str] = dict(mine.order)
    if "predictions" in theirs.order:
        order["baseline"] = theirs.order["predictions"]
    return replace(
        mine,
        mode="spill" if config.key else "position",
        why=(),
        order=order,
        tasks=tasks,
        comparisons=make_comparisons(tasks, config.baseline),
        has_histograms=False,
        hardest=0,
        calibration_bins=0,
        searched={},
        baseline=theirs.predictions,
        recipe=_recipe(config, tasks, sides),
    )


def _open(config: RunConfig, locations: Sequence[str], quarantined: Mapping[str, str]) -> Dataset:
    return open_dataset(locations, tolerate=config.on_bad_shard == "quarantine", quarantined=quarantined)


def _pair(config: RunConfig, labels: Dataset, predictions: Dataset, models: Sequence[str]) -> Pairing:
    same = labels.paths == predictions.paths
    key = tuple(config.key or ())
    if same and config.duplicates != "drop":
        where = f"predictions and labels are both {labels.location} and nothing is joined"
        raise InputError(f"duplicates: {config.duplicates}, but {where}; allowed: leave it out")
    if not same and not key and (labels.quarantined or predictions.quarantined):
        labels, predictions = _without_partners(labels, predictions)
    sides: dict[Side, Dataset] = {"labels": labels, "predictions": predictions}
    slices = (OVERALL, *config.chosen_slices)
    axes = {axis: locate(axis.column, "slices", sides, config, same=same) for one in slices for axis in one.axes}
    for axis, source in axes.items():
        check_axis(axis, sides[source.side], source)
    columns = config.discover.axes if config.discover else ()
    searched = {axis: locate(axis.column, "discover.columns", sides, config, same=same) for axis in columns}
    for axis, source in searched.items():
        check_axis(axis, sides[source.side], source, "discover.columns")
    weight = None if config.weight is None else locate(config.weight, "weight", sides, config, same=same)
    if weight is not None:
        check_number(sides[weight.side], weight.column, "weight")
    unit = None if config.unit is None else locate(config.unit, "unit", sides, config, same=same)
    if unit is not None:
        check_unit(sides[unit.side], unit.column)
    for column in () if same else key:
        found = [(side.location, side.type_of(column, "key")) for side in (predictions, labels)]
        check_key_types(column, found[0], found[1])
    order = {} if same else _order(config, sides)
    tasks = tuple(
        make_task(config, model, one, bound, sides)
        for model in models
        for one, bound in zip(config.losses, config.bound_losses, strict=True)
    )
    rule: Rule = "drop" if config.duplicates == "fail" else config.duplicates
    pairing = Pairing(
        predictions,
        labels,
        "same" if same else "position",
        (),
        key,
        rule,
        order,
        tasks,
        make_comparisons(tasks, config.baseline),
        weight,
        unit,
        config.unit_buckets,
        axes,
        slices,
        bool(config.quantiles),
        config.hardest,
        config.calibration,
        searched,
        _budget(config),
        _recipe(config, tasks, sides),
    )
    return pairing if same else _chosen(pairing, {})


def _without_partners(labels: Dataset, predictions: Dataset) -> tuple[Dataset, Dataset]:
    """Without a key shards pair by their place, so a shard in quarantine takes its partner with it."""
    places = {one.place for dataset in (labels, predictions) for one in dataset.quarantined}
    return labels.without(places, "its partner is in quarantine"), predictions.without(
        places, "its partner is in quarantine"
    )


def _order(config: RunConfig, sides: Mapping[Side, Dataset]) -> dict[Side, str]:
    """Return for each side the column that chooses among rows of one key."""
    found: dict[Side, str] = {}
    for name in config.order_by or ():
        prefix, dot, column = name.partition(".")
        literal = any(name in dataset.schema.names for dataset in sides.values())
        wanted = [side for side in SIDES if dot and prefix == side and not literal] or list(SIDES)
        column = column if len(wanted) == 1 else name
        having = [side for side in wanted if column in sides[side].schema.names]
        if not having:
            locate(name, "order_by", sides, config, same=False)
        for side in having:
            if side in found:
                raise InputError(
                    f"order_by: {found[side]!r} and {column!r} are both of the {side}; allowed: one a side"
                )
            check_order_type(column, sides[side].location, sides[side].type_of(column, "order_by"))
            found[side] = column
    return found


def _budget(config: RunConfig) -> Budget:
    cluster = config.cluster
    limit = config.memory_bytes or default_limit()
    if cluster is None:
        return Budget(limit, len(os.sched_getaffinity(0)))
    if cluster.address is not None:
        return Budget(limit, _UNKNOWN_THREADS)
    if cluster.workers is None:
        return Budget(limit, cluster.threads or len(os.sched_getaffinity(0)))
    return Budget(limit // cluster.workers, cluster.threads or 1)


def _recipe(config: RunConfig, tasks: Sequence[Task], sides: Mapping[Side, Dataset]) -> str:
    """Return as text all that decides what is computed of a row: losses, columns, types, slices."""
    chosen = {
        "key",
        "duplicates",
        "order_by",
        "weight",
        "unit",
        "unit_buckets",
        "hardest",
        "calibration",
        "losses",
        "slices",
        "convention",
        "baseline",
    }
    settings = config.model_dump(mode="json", include=chosen)
    settings["histograms"] = bool(config.quantiles)
    settings["losses"] = [loss.model_dump(mode="json") for loss in config.losses]
    columns = ("labels", "predictions", "label_width", "prediction_width", "classes", "denominator", "fields", "side")
    settings["tasks"] = [[*task.cell, *(getattr(task, name) for name in columns)] for task in tasks]
    settings["schemas"] = {side: str(dataset.schema.remove_metadata()) for side, dataset in sides.items()}
    return json.dumps(settings, sort_keys=True)


def replanned(pairing: Pairing, failed: Mode, why: str) -> Pairing:
    """Return the next cheapest way to pair rows, after one turned out not to hold.

    Args:
        pairing: as planned so far.
        failed: its mode.
        why: what did not hold.
    """
    return _chosen(pairing, {failed: why})


def _chosen(pairing: Pairing, failed: Mapping[Mode, str]) -> Pairing:
    """Choose the cheapest mode that is legal, in the order of their cost, after those that failed."""
    modes: tuple[Mode, ...] = (*_OBSTACLES, "spill")
    tried = [f"{mode} was tried: {why}" for mode, why in failed.items()]
    start = max((modes.index(mode) + 1 for mode in failed), default=0)
    if not pairing.key:
        _check_positions(pairing.predictions, pairing.labels)
        return replace(pairing, mode="position")
    facts = [*(why for why in pairing.why if failed), *tried]
    for mode in modes[start:]:
        pairing = bounded(pairing) if mode == "merge" else pairing
        obstacle = _OBSTACLES[mode](pairing) if mode in _OBSTACLES else None
        if obstacle is None:
            return replace(pairing, mode=mode, why=tuple(facts))
        facts.append(f"not {mode}: {obstacle}")
    raise AssertionError("a spill join is always legal")


def _no_position(pairing: Pairing) -> str | None:
    here, there = ([shard.rows for shard in side.shards] for side in (pairing.predictions, pairing.labels))
    if here != there:
        return "the shards do not have the same numbers of rows"
    kinds = [logical_type(side.schema.field(pairing.key[0]).type) for side in (pairing.predictions, pairing.labels)]
    if len(pairing.key) > 1 or not all(is_ordered([kind]) for kind in kinds):
        return "only a single signed integer key proves by its order that no key occurs twice"
    return None if _first_keys_agree(pairing) else "the keys of the first rows differ"


def _no_shard(pairing: Pairing) -> str | None:
    left, right = pairing.predictions.shards, pairing.labels.shards
    if len(left) != len(right) or len(left) < 2:
        return f"there are {len(left)} and {len(right)} shards; equally many, at least 2, could pair"
    hashes = 24 * (pairing.predictions.rows + pairing.labels.rows)
    if hashes > pairing.budget.memory // 2:
        return "the keys are too many to prove in memory that none occurs in two shards"
    sizes = (
        one.rows * pairing.row_bytes("predictions") + other.rows * pairing.row_bytes("labels")
        for one, other in zip(left, right, strict=True)
    )
    if max(sizes) > 2 * pairing.budget.piece:
        return "a pair of shards does not fit in memory"
    return None if _shards_share_keys(pairing) else "shards at the same place do not hold the same keys"


def _no_broadcast(pairing: Pairing) -> str | None:
    size, limit = pairing.side_bytes("labels"), pairing.budget.index
    return None if size <= limit else f"the labels take about {shown_size(size)} of {shown_size(limit)} for them"


def bounded(pairing: Pairing) -> Pairing:
    """Return a pairing whose row groups know the ranges of their keys, if there is a single key column."""
    if len(pairing.key) > 1:
        return pairing
    labels, predictions = (side.bounded(pairing.key[0]) for side in (pairing.labels, pairing.predictions))
    return replace(pairing, labels=labels, predictions=predictions)


def _no_merge(pairing: Pairing) -> str | None:
    found = replace(pairing, mode="merge").pieces
    return None if found else "the row groups give no ranges of the key, or these overlap too much"


# Cheapest first: what stands in the way, or None. A spill join is legal whatever the data.
_OBSTACLES: dict[Mode, Callable[[Pairing], str | None]] = {
    "position": _no_position,
    "shard": _no_shard,
    "broadcast": _no_broadcast,
    "merge": _no_merge,
}


def _check_positions(predictions: Dataset, labels: Dataset) -> None:
    here, there = ([shard.rows for shard in dataset.shards] for dataset in (predictions, labels))
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


def _first_keys_agree(pairing: Pairing) -> bool:
    """Whether the first rows pair by position; only a guess at the cheapest plan, the run compares every key."""
    number = next((n for n, shard in enumerate(pairing.labels.shards) if shard.rows), None)
    if number is None:
        return True
    first, second = (_sniffed(pairing.side(side), number, pairing.key) for side in SIDES)
    return first.same(second)


def _shards_share_keys(pairing: Pairing) -> bool:
    """Whether half of the keys of some pair of shards have a partner there; the run verifies all of them."""
    sizes = [
        (left.rows + right.rows, number)
        for number, (left, right) in enumerate(zip(pairing.predictions.shards, pairing.labels.shards, strict=True))
        if left.rows and right.rows
    ]
    if not sizes:
        return False
    _, number = min(sizes)
    mine, others = (_sniffed(pairing.side(side), number, pairing.key, rows=None) for side in SIDES)
    shared = np.isin(mine.low ^ mine.high, others.low ^ others.high)
    return int(np.count_nonzero(shared)) * 2 >= min(len(mine), len(others))


def _sniffed(dataset: Dataset, number: int, key: Sequence[str], rows: int | None = _SNIFFED_ROWS) -> Keys:
    shard = dataset.shards[number]
    stop = shard.rows if rows is None else min(shard.rows, rows)
    tables = dataset.read(shard, list(key), 0, stop, max(stop, 1))
    return Keys.concatenate([read_keys([table[column] for column in key]) for table in tables])


def check_pins(before: Plan, after: Plan) -> None:
    """Check that a plan made again, after a shard went to quarantine, rests on the same files.

    Raises:
        InputChanged: a shard changed in between.
    """
    old, new = ({shard.path: shard.pinned for shard in _all_shards(plan)} for plan in (before, after))
    for path, pinned in new.items():
        if old.get(path, pinned) != pinned:
            raise InputChanged(path, "it was replaced during the run")


def _all_shards(plan: Plan) -> Iterator[Shard]:
    return (shard for pairing in plan.pairings for side in SIDES for shard in pairing.side(side).shards)
