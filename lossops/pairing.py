"""A dataset of predictions with its labels, and everything that is computed from the two."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import types

from lossops.data.align import Rule
from lossops.data.dataset import Dataset
from lossops.groups import GroupKey
from lossops.pieces import Piece, by_position, key_intervals, shard_id, shard_pairs
from lossops.slices import Axis, Slice
from lossops.tasks import (
    SIDES,
    Comparison,
    Side,
    Source,
    Task,
)

__all__ = ["HELD_OUT", "IN_ORDER", "PLACE", "SEARCHED", "Budget", "Mode", "Pairing", "Subset"]

Mode = Literal["same", "position", "shard", "broadcast", "merge", "spill"]
IN_ORDER = frozenset[Mode](("same", "position"))  # modes in which predictions lie in the order of the labels

_BATCH_VALUES = 1 << 21  # numbers a worker holds of one column at a time: 16 MiB
_BATCH_ROWS = 1 << 18
_KEY_BYTES = 33  # of a row in memory: key, order, count, partner
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
            return shard_pairs(self.predictions, self.labels, self._piece_rows)
        if self.mode == "merge":
            return key_intervals(self.predictions, self.labels, self._piece_rows) or ()
        if self.mode == "spill":
            return ()
        labels = self.labels if self.mode == "position" else None
        return by_position(self.predictions, labels, self.baseline, self.batch_rows)

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


def _value_bytes(kind: pa.DataType) -> int:
    if types.is_dictionary(kind):
        return 4
    if types.is_fixed_size_list(kind):
        return int(kind.list_size) * _value_bytes(kind.value_type)
    try:
        return max(int(kind.bit_width) // 8, 1)
    except ValueError:
        return 32  # text and lists: a guess that the message calls one
