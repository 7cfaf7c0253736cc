"""Small slices stay hidden: by themselves, by subtraction, in every table; checked by linear algebra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossops.disclosure import hidden_slices
from lossops.evaluation import publish_scores, utc_now
from lossops.groups import GroupKey
from lossops.report import Report
from lossops.slices import OVERALL, Axis, Slice
from tests.datasets import write_shards
from tests.here import score_here

_A, _B, _N, _COARSE, _FINE = (
    Axis("a"),
    Axis("b"),
    Axis("n"),
    Axis("n", (4.0,)),
    Axis("n", (2.0, 4.0, 6.0)),
)
# (slice, what divides it), by number in _CHOICES.
_DIVIDED = {(0, 2), (1, 2), (0, 5), (4, 3), (4, 5)}
_CHOICES = [Slice((_A,)), Slice((_B,)), Slice((_A, _B)), Slice((_N,)), Slice((_COARSE,)), Slice((_FINE, _A))]


def _part(axis: Axis, value: int) -> tuple[int, object]:
    return (0, value if axis.bins is None else int(np.searchsorted(axis.bins, value, side="right")))


def _members(chosen: Slice, frame: pd.DataFrame) -> dict[GroupKey, list[int]]:
    found: dict[GroupKey, list[int]] = {}
    for row, values in enumerate(frame.itertuples(index=False)):
        key = tuple(_part(axis, getattr(values, axis.column)) for axis in chosen.axes)
        found.setdefault(key, []).append(row)
    return found


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 7)), min_size=8, max_size=40),
    st.sets(st.sampled_from(range(len(_CHOICES))), min_size=1, max_size=3),
    st.integers(2, 6),
)
@settings(max_examples=150, deadline=None)
def test_no_single_subtraction_gives_a_small_slice_away(
    rows: list[tuple[int, int, int]], chosen: set[int], limit: int
) -> None:
    """Of every shown slice, whatever shown slices lie in it without overlap leave nothing over or enough rows."""
    frame = pd.DataFrame(rows, columns=["a", "b", "n"])
    numbers = sorted(chosen)
    slices = [OVERALL, *(_CHOICES[number] for number in numbers)]
    members = [_members(one, frame) for one in slices]
    sizes = [{key: len(own) for key, own in found.items()} for found in members]
    small = {(n, key) for n, found in enumerate(sizes) for key, size in found.items() if size < limit}
    hidden = hidden_slices(slices, sizes, small, limit)
    assert set(hidden) >= small
    assert {place for place, why in hidden.items() if why == "min_rows"} == small
    shown = [(n, key) for n, found in enumerate(sizes) for key in found if (n, key) not in hidden]
    for n, key in shown:
        whole = set(members[n][key])
        for other in range(len(slices)):
            if other == 0 or (n and (numbers[n - 1], numbers[other - 1]) not in _DIVIDED):
                continue
            inside = [set(own) for own in members[other].values() if set(own) <= whole]
            visible = [set(members[other][k]) for m, k in shown if m == other and set(members[other][k]) <= whole]
            rest = len(whole) - sum(map(len, visible))
            assert rest == 0 or rest >= limit
            assert rest == 0 or len(inside) - len(visible) >= 2


def test_nothing_is_hidden_without_need() -> None:
    sizes: list[dict[GroupKey, int]] = [{(): 300}, {((0, "x"),): 100, ((0, "y"),): 195, ((0, "z"),): 5}]
    slices = [OVERALL, Slice((_A,))]
    assert hidden_slices(slices, sizes, set(), 10) == {}
    hidden = hidden_slices(slices, sizes, {(1, ((0, "z"),))}, 10)
    assert hidden == {(1, ((0, "z"),)): "min_rows", (1, ((0, "x"),)): "complement"}


@pytest.fixture
def report(tmp_path: Path) -> Report:
    """Two models of 300 rows; 3 of them in Ulm, 4 in Linz and 50 in Bonn."""
    random = np.random.default_rng(2)
    cities = ["Ulm"] * 3 + ["Linz"] * 20 + ["Bonn"] * 50 + ["Wien"] * 227
    table = pa.table(
        {
            "id": np.arange(300),
            "p": random.random(300),
            "q": random.random(300),
            "y": random.integers(0, 2, 300),
            "city": cities,
            "side": random.choice(["left", "right"], 300),
        }
    )
    path = write_shards(tmp_path / "data", [table])
    values: dict[str, Any] = {
        "name": "small",
        "labels": {"path": path, "label": "y"},
        "models": {"m": {"path": path, "prediction": "p"}, "b": {"path": path, "prediction": "q"}},
        "key": "id",
        "losses": ["binary_crossentropy", "expected_calibration_error"],
        "slices": ["city", "side"],
        "baseline": "b",
        "min_rows": 10,
        "gates": [{"loss": "binary_crossentropy", "max": 9, "slices": ["city"], "on_insufficient": "fail"}],
        "discover": {"columns": ["city"], "min_rows": 1, "alpha": 1.0},
        "output": str(tmp_path / "reports"),
    }
    return publish_scores(score_here(values), utc_now())


def test_every_table_hides_the_same(report: Report) -> None:
    hidden = {"city=Ulm": "min_rows", "city=Linz": "complement"}
    numbers = [name for name in report.losses.column_names if name not in ("model", "loss", "kind", "hidden")][3:]
    for row in report.losses.to_pylist():
        assert row["hidden"] == hidden.get(row["slice"])
        if row["slice"] in hidden:
            assert {row[name] for name in numbers} == {None}
        else:
            assert row["mean"] is not None
    assert report.run["hidden"] == {"min_rows": 4, "complement": 4}
    for table in (report.comparisons, report.contrasts, report.calibration, report.histograms, report.hardest):
        shown = set(table["slice"].to_pylist())
        assert not shown & set(hidden)
        assert {"city=Bonn", "city=Wien", "side=left"} <= shown
    assert "city=Ulm" not in report.discovered["slice"].to_pylist()
    gates = {row["slice"]: row for row in report.gates.to_pylist() if row["model"] == "m"}
    assert gates["city=Bonn"]["outcome"] == "pass"
    for name in hidden:
        assert gates[name]["outcome"] == "insufficient"
        assert gates[name]["why"] == "the slice is hidden by min_rows"
        assert gates[name]["value"] is None
