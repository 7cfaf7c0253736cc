"""Rows of comparisons with the baseline, of contrasts between slices, and of slices that were found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import groupby
from typing import TypeVar

import pyarrow as pa

from lossops.comparisons import Contrast, Difference, adjusted, adjusted_array
from lossops.discovery import Discovered
from lossops.groups import GroupKey
from lossops.measures import BoundMeasure
from lossops.results.blocks import contrast_columns, table_of
from lossops.results.cells import Results, Row, place_of
from lossops.slices import Slice
from lossops.state import Cell
from lossops.tasks import Task

__all__ = ["comparison_rows", "contrast_table", "discovered_rows"]

_Found = TypeVar("_Found", Difference, Contrast)


def comparison_rows(results: Results) -> Iterator[Row]:
    """Yield the rows of comparisons.parquet."""
    for one in results.comparisons:
        place = partial(place_of, one.task.model, one.task.name)
        for row in _with_adjusted(results, one.cell, results.cell(one.cell).differences, place):
            yield {**row, "baseline": one.baseline.model}


def contrast_table(results: Results, schema: pa.Schema) -> pa.Table:
    """Return contrasts.parquet."""
    parts = [schema.empty_table()]
    for task in results.tasks:
        for against in ("overall", "complement") if not isinstance(task.loss, BoundMeasure) else ():
            part = _contrasts_at_once(results, task, against, schema)
            if part is None:
                part = pa.Table.from_pylist(list(_contrast_rows(results, task, against)), schema=schema)
            parts.append(part)
    return pa.concat_tables(parts)


def _contrast_rows(results: Results, task: Task, against: str) -> Iterator[Row]:
    cell, place = results.cell(task.cell), partial(place_of, task.model, task.name)
    found = partial(cell.contrasts, complement=against == "complement")
    for row in _with_adjusted(results, task.cell, found, place):
        yield {**row, "against": against}


def _contrasts_at_once(results: Results, task: Task, against: str, schema: pa.Schema) -> pa.Table | None:
    """Return the rows of one loss; None where that does not go."""
    cell, parts = results.cell(task.cell), []
    for number, chosen in enumerate(results.slices):
        if not chosen.axes:  # overall is not compared with itself
            continue
        order, places = results.places(number)
        found = contrast_columns(cell, number, order, complement=against == "complement")
        if found is None:
            return None
        columns, rows = found
        own = places if len(rows) == len(order) else places.take(pa.array(rows))
        head = {"model": task.model, "loss": task.name, "against": against}
        named = dict(zip(own.column_names, own.columns, strict=True))
        part = table_of(schema, len(rows), {**head, **named, **columns})
        shown = results.shown(task.cell, number)[order[rows]]
        parts.append(part if shown.all() else part.filter(pa.array(shown)))
    whole = pa.concat_tables([schema.empty_table(), *parts])
    p_values = adjusted_array(whole["p_value"].cast(pa.float64()).to_numpy())
    place = schema.get_field_index("p_adjusted")
    return whole.set_column(place, schema.field(place), pa.array(p_values, pa.float64(), from_pandas=True))


def _with_adjusted(
    results: Results,
    cell: Cell,
    found: Callable[[int], Mapping[GroupKey, _Found]],
    place: Callable[[Slice, GroupKey], Row],
) -> Iterator[Row]:
    """Yield rows that are not hidden, with p-values adjusted over all slices; that of overall stays as it is."""
    hidden = results.hidden(cell)
    rows = [
        (chosen, key, one)
        for number, chosen in enumerate(results.slices)
        for key, one in sorted(found(number).items())
        if (number, key) not in hidden
    ]
    inner = [one.p_value if chosen.axes else None for chosen, _, one in rows]
    for (chosen, key, one), p_value in zip(rows, adjusted(inner), strict=True):
        yield {**place(chosen, key), **vars(one), "p_adjusted": p_value if chosen.axes else one.p_value}


def discovered_rows(results: Results) -> Iterator[Row]:
    """Yield the rows of discovered.parquet."""
    limit = results.plan.config.min_rows
    for (model, loss), group in groupby(results.scores.discovered, key=lambda one: one.cell):
        found = [one for one in group if not _is_small(one, limit)]
        p_values = adjusted([one.held_out.p_value if one.held_out else None for one in found])
        for rank, (one, p_value) in enumerate(zip(found, p_values, strict=True), start=1):
            tested = {} if one.held_out is None else vars(one.held_out)
            yield {
                **place_of(model, loss, one.chosen, one.key),
                "rank": rank,
                "score": one.score,
                "rows": one.rows,
                "mean": one.mean,
                "held_out_rows": one.held_out_rows,
                "held_out_mean": tested.get("mean"),
                "held_out_other_mean": tested.get("other_mean"),
                **{name: tested.get(name) for name in ("difference", "std_error", "ci_low", "ci_high", "p_value")},
                "p_adjusted": p_value,
            }


def _is_small(one: Discovered, limit: int) -> bool:
    """Whether either half of what was found, or all else of it, has fewer rows than may be shown."""
    sizes = [one.rows] if one.held_out_rows is None else [one.rows, one.held_out_rows]
    rest = [] if one.held_out is None else [one.held_out.other_rows]
    return any(0 < size < limit for size in (*sizes, *rest))
