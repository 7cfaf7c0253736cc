"""Rows of the hardest rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from lossops.data.keys import NO_NUMBER, NO_TEXT
from lossops.pairing import Pairing, shard_id
from lossops.results.cells import Results, Row, place_of
from lossops.tasks import Task

__all__ = ["hardest_table"]


def hardest_table(results: Results, schema: pa.Schema) -> pa.Table:
    """Return hardest.parquet: a row per model, loss, slice and rank; the type of the key is that of the data."""
    rows = [
        row
        for pairing in results.plan.pairings
        for task in pairing.tasks
        for number in range(len(results.slices))
        for row in _hardest_rows(results, task, number, _names(pairing))
    ]
    keys = [row["key"] for row in rows if row["key"] is not None]
    if keys and all(isinstance(key, int) for key in keys):
        place = schema.get_field_index("key")
        schema = schema.set(place, schema.field(place).with_type(pa.int64() if max(keys) < 2**63 else pa.uint64()))
    return pa.Table.from_pylist(rows, schema=schema)


def _names(pairing: Pairing) -> dict[int, str]:
    return {shard_id(shard.path): shard.path for shard in pairing.predictions.shards}


def _hardest_rows(results: Results, task: Task, number: int, names: Mapping[int, str]) -> Iterator[Row]:
    table, hidden = results.cell(task.cell).table(number), results.hidden(task.cell)
    if task.cell not in table.hardest:
        return
    found = table.hardest[task.cell]
    classes = dict(zip(task.class_values, task.classes, strict=False))
    for group in table.keys.order.tolist():
        if (number, table.keys[group]) in hidden:
            continue
        place = place_of(task.model, task.name, results.slices[number], table.keys[group])
        start, stop = np.searchsorted(found.groups, [group, group + 1])
        for rank, entry in enumerate(range(start, stop), start=1):
            labels, predictions = found.labels[entry].tolist(), found.predictions[entry].tolist()
            yield {
                **place,
                "rank": rank,
                "key": _shown_key([key[entry].item() for key in found.keys]),
                "loss_value": float(found.losses[entry]),
                "label": _shown([classes.get(value, value) for value in labels]) if labels else None,
                "prediction": _shown(predictions),
                "shard": names[int(found.shards[entry])],
                "row": int(found.rows[entry]),
            }


def _shown_key(values: Sequence[int | str]) -> int | str | None:
    """Return one key as it is, several as a list in JSON, none as None."""
    known = [None if value in (NO_NUMBER, NO_TEXT) else value for value in values]
    return json.dumps(known) if len(known) > 1 else next(iter(known), None)


def _shown(values: Sequence[object]) -> str:
    texts = [repr(int(one)) if isinstance(one, float) and one.is_integer() else str(one) for one in values]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
