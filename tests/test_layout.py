"""Crosses that nobody asked for, from which slices are rolled up, may change the time a run takes and nothing else."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lossops
from lossops.layout import crossed
from lossops.slices import OVERALL, Axis, Slice
from tests.datasets import cut, write_shards

_AXES = tuple(Axis(f"c{place}") for place in range(6))
_SLICES = st.lists(st.sets(st.sampled_from(_AXES), max_size=3), max_size=12, unique_by=frozenset)
_SIZES = st.lists(st.integers(1, 300), min_size=len(_AXES), max_size=len(_AXES))


@given(_SLICES, _SIZES, st.sampled_from([0, 1000, 20_000, 1 << 18]))
def test_crosses_are_small_and_finer_than_several_slices(axes: list[set[Axis]], sizes: list[int], rows: int) -> None:
    """None is a slice of the run; each has a group for every 64 rows at most, and takes the place of two or more."""
    slices = (OVERALL, *(Slice(tuple(own)) for own in axes))
    found = crossed(slices, _AXES, tuple(sizes), rows)
    known = {frozenset(one.axes) for one in slices}
    for one in found:
        assert frozenset(one.axes) not in known
        assert math.prod(sizes[_AXES.index(axis)] for axis in one.axes) <= min(2048, rows // 64)
        assert sum(own < set(one.axes) for own in known if own) >= 2
    assert len(found) == len(set(found))


@pytest.mark.parametrize("weight", [None, "weight"])
def test_slices_together_are_what_each_is_alone(tmp_path: Path, weight: str | None) -> None:
    """Every number of every table, of five small slices and a cross at once and one by one; sums against pandas."""
    random, rows = np.random.default_rng(3), 30_000
    columns: dict[str, Any] = {f"c{place}": random.integers(0, place + 2, rows) for place in range(5)}
    columns |= {"y": random.normal(size=rows), "p": random.normal(size=rows), "q": random.normal(size=rows)}
    columns["weight"] = random.integers(0, 4, rows).astype(np.float64)
    folder = write_shards(tmp_path / "data", cut(pa.table(columns), 2), row_group_size=7000)
    asked: list[list[str]] = [*([f"c{place}"] for place in range(5)), ["c0", "c3"]]
    together = _reports(folder, tmp_path, asked, weight)
    alone = [_reports(folder, tmp_path, [one], weight) for one in asked]
    for name in ("losses", "comparisons", "histograms", "hardest"):
        for one, report in zip(asked, alone, strict=True):
            # p-values are adjusted over all slices of a run
            mine, theirs = (
                [
                    {key: row[key] for key in row if key != "p_adjusted"}
                    for row in found[name]
                    if row["slice_columns"] == one
                ]
                for found in (together, report)
            )
            assert mine == theirs
            assert mine
    frame = pd.DataFrame(columns)
    factors = frame["weight"] if weight else pd.Series(1.0, frame.index)
    expected = (factors * (frame["p"] - frame["y"]).abs()).groupby([frame["c0"], frame["c3"]]).sum()
    own = [row for row in together["losses"] if row["slice_columns"] == ["c0", "c3"] and row["model"] == "m"]
    assert [row["sum"] for row in own] == pytest.approx(expected.tolist(), rel=1e-12)


def _reports(folder: str, home: Path, slices: list[list[str]], weight: str | None) -> dict[str, list[dict[str, Any]]]:
    config = {
        "name": "together",
        "labels": {"path": folder, "label": "y"},
        "models": {name: {"path": folder, "prediction": column} for name, column in {"m": "p", "other": "q"}.items()},
        "losses": ["mean_absolute_error"],
        "slices": slices,
        "weight": weight,
        "baseline": "other",
        "hardest": 3,
        "output": str(home / "reports"),
    }
    report = lossops.evaluate(config)
    return {name: report.table(name).to_pylist() for name in ("losses", "comparisons", "histograms", "hardest")}
