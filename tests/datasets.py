"""Writing small sharded datasets for tests, cut in any way."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["cut", "score_table", "write_shards"]


def cut(table: pa.Table, shards: int) -> list[pa.Table]:
    """Cut a table into pieces of nearly equal size, some of which may be empty."""
    edges = np.linspace(0, table.num_rows, shards + 1).astype(int)
    return [table.slice(low, high - low) for low, high in pairwise(edges)]


def write_shards(folder: Path, tables: Sequence[pa.Table], row_group_size: int = 1000) -> str:
    """Write each table to a Parquet file of a new folder; returns the folder."""
    folder.mkdir(parents=True)
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"part-{number:05d}.parquet", row_group_size=row_group_size)
    return str(folder)


def score_table(table: pa.Table, row: dict[str, Any]) -> dict[str, Any]:
    """Return the only row of a report table with these values."""
    found = [entry for entry in table.to_pylist() if all(entry[key] == value for key, value in row.items())]
    assert len(found) == 1, f"{len(found)} rows match {row}"
    return found[0]
