"""Numbers of all groups of a slice as columns, where they can be computed at once; rows cost far more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lossops.results.cells import CellResults

__all__ = ["Columns", "contrast_columns", "filled", "summary_columns", "table_of"]

Integers = npt.NDArray[np.int64]
Columns = Mapping[str, pa.Array]


def filled(
    found: Mapping[str, npt.NDArray[np.generic]],
    sure: npt.NDArray[np.bool_],
    exact: Callable[[int], object | None],
    order: Integers,
) -> tuple[dict[str, pa.Array], npt.NDArray[np.bool_]]:
    """Return columns whose unsure entries are those of exact results, and which groups have a result at all.

    Args:
        found: for each name [groups], masked where there is no number.
        sure: bool [groups].
        exact: returns the result of a group, whose attributes are the names, or None.
        order: int64 [groups], the group of each row of the columns, which leave out groups without a result.
    """
    arrays = {name: np.array(np.ma.getdata(values)) for name, values in found.items()}
    masks = {name: np.array(np.ma.getmaskarray(values)) for name, values in found.items()}
    present = np.ones(len(sure), dtype=np.bool_)
    for group in np.flatnonzero(~sure).tolist():
        one = exact(group)
        present[group] = one is not None
        for name, values in arrays.items():
            value = getattr(one, name, None)
            masks[name][group] = value is None
            values[group] = 0 if value is None else value
    rows = order[present[order]]
    return {name: pa.array(values[rows], mask=masks[name][rows]) for name, values in arrays.items()}, present


def summary_columns(cell: CellResults, number: int, order: Integers) -> Columns | None:
    """Return the numbers of losses.parquet of the groups of a slice, in an order; None where they come as rows."""
    found = cell.plain_summaries(number)
    if found is None:
        return None
    columns, present = filled(*found, lambda group: cell.summary_of_group(number, group), order)
    return columns if present.all() else None


def contrast_columns(
    cell: CellResults, number: int, order: Integers, *, complement: bool
) -> tuple[Columns, Integers] | None:
    """Return the contrasts of those groups of a slice that have one, in an order, and which of it these are.

    None where they come as rows.
    """
    found = cell.plain_contrasts(number, complement=complement)
    if found is None:
        return None
    exact = partial(cell.contrast_of_group, number, complement=complement)
    columns, present = filled(*found, exact, order)
    return columns, np.flatnonzero(present[order])


def table_of(schema: pa.Schema, rows: int, columns: Mapping[str, Any]) -> pa.Table:
    """Return a table of these columns: arrays, or one value for all rows; what is not given is null."""
    arrays = []
    for field in schema:
        given = columns.get(field.name)
        if isinstance(given, pa.Array | pa.ChunkedArray):
            arrays.append(given if given.type == field.type else given.cast(field.type))
        else:
            arrays.append(
                pa.nulls(rows, field.type) if given is None else pa.repeat(pa.scalar(given, field.type), rows)
            )
    return pa.table(arrays, schema=schema)
