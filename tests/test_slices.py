"""Labels, bins, crosses against pandas, and rolling up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossops.groups import GroupKey
from lossops.slices import OVERALL, Axis, Categories, Slice, group_rows, roll_up

_CUT, _COLOR, _CARAT = Axis("cut"), Axis("color"), Axis("carat", (0.5, 1.0, 2.0))


def _categories(values: list[Any]) -> Categories:
    """Codes of a column in order of appearance; None is null."""
    distinct = list(dict.fromkeys(value for value in values if value is not None))
    codes = np.array([distinct.index(value) if value is not None else 0 for value in values], dtype=np.int64)
    return Categories.of_values(
        codes, pa.array(distinct), np.array([value is None for value in values], dtype=np.bool_)
    )


def _cut(values: list[float | None], axis: Axis = _CARAT) -> list[str]:
    """The label of each value of a binned column."""
    numbers = np.array([math.inf if value is None else value for value in values], dtype=np.float64)
    found = axis.cut(numbers, np.array([value is None for value in values], dtype=np.bool_))
    return [axis.label(found.parts[code]) for code in found.codes]


@pytest.mark.parametrize(
    ("chosen", "key", "label", "values"),
    [
        (OVERALL, (), "overall", []),
        (Slice((_CUT,)), ((0, "Ideal"),), "cut=Ideal", ["Ideal"]),
        (Slice((_CUT, _COLOR)), ((0, "Ideal"), (0, "E")), "cut=Ideal & color=E", ["Ideal", "E"]),
        (Slice((_CARAT,)), ((0, 1),), "carat=[0.5, 1)", ["[0.5, 1)"]),
        (Slice((_CARAT,)), ((0, 0),), "carat=(-inf, 0.5)", ["(-inf, 0.5)"]),
        (Slice((_CARAT,)), ((0, 3),), "carat=[2, inf)", ["[2, inf)"]),
        (Slice((_CUT,)), ((2, 0),), "cut is null", [None]),
        (Slice((_CUT, _COLOR)), ((2, 0), (0, "E")), "cut is null & color=E", [None, "E"]),
        (Slice((_CARAT,)), ((1, 0),), "carat is NaN", ["NaN"]),
        (Slice((Axis("reviewed"),)), ((0, True),), "reviewed=true", ["true"]),
        (Slice((Axis("n"),)), ((0, 7),), "n=7", ["7"]),
    ],
)
def test_labels(chosen: Slice, key: GroupKey, label: str, values: list[str | None]) -> None:
    """As DESIGN.md 2.3 prints them."""
    assert chosen.label(key) == label
    assert chosen.values(key) == values
    assert chosen.columns == [axis.column for axis in chosen.axes]


def test_bins_are_closed_below_and_open_above() -> None:
    """Edges belong to the bin above; everything beyond the outermost edges, NaN and null have their own groups."""
    below, above = math.nextafter(0.5, 0.0), math.nextafter(1.0, 0.0)
    values = [-math.inf, -3.0, below, 0.5, 0.7, above, 1.0, 1.9, 2.0, 1e300, math.inf, math.nan, None]
    assert _cut(values) == [
        *["carat=(-inf, 0.5)"] * 3,
        *["carat=[0.5, 1)"] * 3,
        *["carat=[1, 2)"] * 2,
        *["carat=[2, inf)"] * 3,
        "carat is NaN",
        "carat is null",
    ]


def test_bin_edges_are_printed_so_that_they_read_back() -> None:
    """Edges that %g would shorten keep their digits, so two bins never look the same."""
    axis = Axis("x", (0.1, 0.1 + 1e-9, 123456789.0))
    assert _cut([0.1, 0.5], axis) == ["x=[0.1, 0.100000001)", "x=[0.100000001, 123456789.0)"]


@given(st.lists(st.none() | st.floats(), max_size=30), st.lists(st.integers(-3, 3), min_size=1, unique=True))
def test_bins_equal_pandas_cut(values: list[float | None], edges: list[int]) -> None:
    """pandas.cut with closed left sides."""
    bins = sorted(map(float, edges))
    finite = [value for value in values if value is not None and math.isfinite(value)]
    found = Axis("x", tuple(bins)).cut(np.array(finite, dtype=np.float64), np.zeros(len(finite), dtype=np.bool_))
    expected = pd.cut(pd.Series(finite, dtype="float64"), [-math.inf, *bins, math.inf], right=False, labels=False)
    assert found.codes.tolist() == expected.astype("int64").tolist()


_VALUE = st.sampled_from(["a", "b", "c", None])
_NUMBER = st.sampled_from([0.0, 0.5, 1.5, 9.0, math.nan, None])
_ROWS = st.lists(st.tuples(_VALUE, _VALUE, _NUMBER), max_size=40)


def _columns(rows: list[tuple[Any, Any, Any]]) -> dict[Axis, Categories]:
    numbers = np.array([0.0 if row[2] is None else row[2] for row in rows], dtype=np.float64)
    nulls: npt.NDArray[np.bool_] = np.array([row[2] is None for row in rows], dtype=np.bool_)
    return {
        _CUT: _categories([row[0] for row in rows]),
        _COLOR: _categories([row[1] for row in rows]),
        _CARAT: _CARAT.cut(numbers, nulls),
    }


@given(_ROWS)
def test_a_cross_equals_pandas_groupby(rows: list[tuple[Any, Any, Any]]) -> None:
    """Every combination that occurs, nulls included, with its number of rows; every row in exactly one group."""
    chosen = Slice((_CUT, _COLOR))
    found = group_rows(chosen, _columns(rows), len(rows))
    assert found.groups is not None
    sizes = np.bincount(found.groups, minlength=len(found.keys)).tolist()
    counted = {tuple(chosen.values(key)): size for key, size in zip(found.keys, sizes, strict=True)}
    frame = pd.DataFrame(rows, columns=["cut", "color", "carat"], dtype="object")
    expected: dict[tuple[Any, ...], int] = {}
    if len(frame):
        grouped = frame.groupby(["cut", "color"], dropna=False).size()
        expected = {tuple(None if pd.isna(part) else part for part in key): int(size) for key, size in grouped.items()}  # type: ignore[union-attr]
    assert counted == expected
    assert len(counted) == len(found.keys)


@given(_ROWS)
def test_rolling_up_equals_direct_grouping(rows: list[tuple[Any, Any, Any]]) -> None:
    """Groups of a coarser slice found through a finer one are those found from the rows, overall included."""
    columns = _columns(rows)
    finer = Slice((_CARAT, _CUT, _COLOR))
    fine = group_rows(finer, columns, len(rows))
    assert fine.groups is not None
    for axes in [(), (_CUT,), (_COLOR, _CUT), (_CARAT,), (_COLOR, _CARAT), (_CARAT, _CUT, _COLOR)]:
        coarse = roll_up(Slice(axes), columns, finer, fine)
        direct = group_rows(Slice(axes), columns, len(rows))
        assert coarse.groups is not None
        assert direct.groups is not None
        through = [coarse.keys[group] for group in coarse.groups[fine.groups]]
        assert through == [direct.keys[group] for group in direct.groups]
        assert set(coarse.keys) == set(direct.keys)


def test_overall_is_one_group() -> None:
    """All rows, whatever the columns; of no rows there is no group."""
    assert group_rows(OVERALL, {}, 5).keys == ((),)
    assert group_rows(OVERALL, {}, 0).keys == ()


def test_keys_do_not_depend_on_the_codes_of_a_file() -> None:
    """Two batches whose dictionaries are ordered differently give the same keys."""
    one = group_rows(Slice((_CUT,)), {_CUT: _categories(["a", "b", None])}, 3)
    two = group_rows(Slice((_CUT,)), {_CUT: _categories([None, "b", "a", "b"])}, 4)
    assert set(one.keys) == set(two.keys) == {((0, "a"),), ((0, "b"),), ((2, 0),)}


def test_a_cross_of_very_many_combinations() -> None:
    """Ten columns of a thousand values are more combinations than fit an int64."""
    random = np.random.default_rng(0)
    axes = [Axis(f"c{number}") for number in range(10)]
    codes = random.integers(0, 1000, size=(10, 200))
    codes[:, 100:] = codes[:, :100]
    nulls = np.zeros(200, dtype=np.bool_)
    columns = {
        axis: Categories.of_values(code, pa.array(range(1000)), nulls) for axis, code in zip(axes, codes, strict=True)
    }
    found = group_rows(Slice(tuple(axes)), columns, 200)
    assert found.groups is not None
    rows = [tuple((0, int(code)) for code in row) for row in codes.T]
    assert [found.keys[group] for group in found.groups] == rows
    assert len(found.keys) == len(set(rows))
