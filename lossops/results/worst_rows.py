"""The table of the hardest rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from lossops.data.keys import NO_NUMBER, NO_TEXT
from lossops.pairing import Pairing
from lossops.pieces import shard_id
from lossops.results.blocks import table_of
from lossops.results.cells import Results
from lossops.tasks import Task

__all__ = ["hardest_table"]


def hardest_table(results: Results, schema: pa.Schema) -> pa.Table:
    """Return hardest.parquet: a row per model, loss, slice and rank; the type of the key is that of the data."""
    parts = [
        found
        for pairing in results.plan.pairings
        for task in pairing.tasks
        for number in range(len(results.slices))
        if (found := _hardest_rows(results, task, number, _names(pairing))) is not None
    ]
    place = schema.get_field_index("key")
    schema = schema.set(place, schema.field(place).with_type(_key_type([part["key"] for part in parts])))
    return pa.concat_tables([schema.empty_table(), *(table_of(schema, len(part["key"]), part) for part in parts)])


def _key_type(keys: Sequence[pa.Array]) -> pa.DataType:
    known = [one for one in keys if one.null_count < len(one)]
    if not known or not all(types.is_integer(one.type) for one in known):
        return pa.string()
    return pa.int64() if max(pc.max(one).as_py() for one in known) < 2**63 else pa.uint64()


def _names(pairing: Pairing) -> dict[int, str]:
    return {shard_id(shard.path): shard.path for shard in pairing.predictions.shards}


def _hardest_rows(results: Results, task: Task, number: int, names: Mapping[int, str]) -> Mapping[str, Any] | None:
    """Return the columns of one slice as `table_of` takes them; None where no rows are listed."""
    table = results.cell(task.cell).table(number)
    if task.cell not in table.hardest:
        return None
    found, ranks = table.hardest[task.cell].ranked()
    in_order, places = results.places(number)
    rank_of = np.argsort(in_order)
    rows = np.argsort(rank_of[found.groups], kind="stable")
    rows = rows[results.shown(task.cell, number)[found.groups[rows]]]
    named = places.take(pa.array(rank_of[found.groups[rows]]))
    classes = dict(zip(task.class_values, task.classes, strict=False))
    shards, own = np.unique(found.shards[rows], return_inverse=True)
    return {
        "model": task.model,
        "loss": task.name,
        **dict(zip(named.column_names, named.columns, strict=True)),
        "rank": pa.array(ranks[rows]),
        "key": _keys([key[rows] for key in found.keys], len(rows)),
        "loss_value": pa.array(found.losses[rows]),
        "label": _texts(found.labels[rows], classes),
        "prediction": _texts(found.predictions[rows], {}),
        "shard": pa.array([names[one] for one in shards.tolist()], pa.string()).take(pa.array(own)),
        "row": pa.array(found.rows[rows]),
    }


def _keys(columns: Sequence[npt.NDArray[np.generic]], rows: int) -> pa.Array:
    """Return single keys as they are, several as a list in JSON, none as nulls."""
    known = [[None if value in (NO_NUMBER, NO_TEXT) else value for value in column.tolist()] for column in columns]
    if len(known) > 1:
        return pa.array([json.dumps(one) for one in zip(*known, strict=True)], pa.string())
    if not known:
        return pa.nulls(rows)
    return pa.array(known[0], pa.uint64()) if columns[0].dtype == np.uint64 else pa.array(known[0])


def _texts(values: npt.NDArray[np.float64], classes: Mapping[float, object]) -> pa.Array:
    """Return numbers [rows, width] as text, by name where they are classes; several as a list, none as nulls."""
    if not values.shape[1]:
        return pa.nulls(len(values))
    each, own = np.unique(values, return_inverse=True)
    texts = [_text(classes.get(value, value)) for value in each.tolist()]
    single = pa.array(texts, pa.string()).take(pa.array(own.reshape(-1)))
    if values.shape[1] == 1:
        return single
    starts = pa.array(np.arange(0, values.size + 1, values.shape[1]))
    joined = pc.binary_join(pa.LargeListArray.from_arrays(starts, single), ", ")
    return pc.binary_join_element_wise("[", joined, "]", "")


def _text(value: object) -> str:
    return repr(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
