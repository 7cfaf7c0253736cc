"""Arrow columns to float64 against plain Python, for every storage type, sliced and chunked, with nulls everywhere."""

from __future__ import annotations

import datetime as dt
import decimal
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossops.data.columns import Numbers, categories, is_category, is_number, lengths, numbers, scalars, vector_width
from lossops.data.dataset import validate
from lossops.kernels.checks import Problem
from lossops.slices import Axis, Slice, group_rows

_FLOATS = [pa.float16(), pa.float32(), pa.float64()]
_SMALL = [
    *_FLOATS,
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.decimal128(6, 2), pa.decimal256(40, 3)),
    *(
        pa.dictionary(pa.int8(), pa.int64()),
        pa.dictionary(pa.int32(), pa.float32()),
        pa.dictionary(pa.int8(), pa.float64()),
    ),
]


def _chunked(column: pa.Array) -> pa.ChunkedArray:
    return pa.chunked_array([column])


def _expected(rows: list[Any], width: int) -> list[tuple[Problem, list[float] | None]]:
    """The pure Python reference: a row's problem, or its values."""
    return [_expected_row(row, width) for row in rows]


def _expected_row(row: Any, width: int) -> tuple[Problem, list[float] | None]:
    if row is None:
        return Problem.NULL, None
    values = row if isinstance(row, list) else [row]
    if len(values) != width:
        return Problem.WRONG_LENGTH, None
    if any(value is None for value in values):
        return Problem.NULL, None
    return Problem.NONE, [float(value) for value in values]


def _found(result: Numbers) -> list[tuple[Problem, list[float] | None]]:
    values, problems = result
    assert values.dtype == np.float64
    assert values.shape[0] == problems.shape[0]
    return [
        (Problem(problem), None if problem else row.tolist()) for row, problem in zip(values, problems, strict=True)
    ]


def _same(found: list[tuple[Problem, list[float] | None]], expected: list[tuple[Problem, list[float] | None]]) -> bool:
    """Equality in which a stored NaN equals a stored NaN."""
    return repr(found) == repr(expected)


def _check_in_every_cut(rows: list[Any], kind: pa.DataType, width: int) -> None:
    """Whole, sliced, in chunks, and empty."""
    column, expected = pa.array(rows, kind), _expected(rows, width)
    assert _same(_found(numbers([_chunked(column)], width)), expected), kind
    for start in range(len(rows)):
        cut = column.slice(start, len(rows) - start - 1)
        assert _same(_found(numbers([_chunked(cut)], width)), expected[start : len(rows) - 1]), (kind, start)
    pieces = pa.chunked_array([column.slice(0, 1), column.slice(1, 2), column.slice(3)])
    assert _same(_found(numbers([pieces], width)), expected), kind
    assert _found(numbers([pa.chunked_array([], kind)], width)) == []


@pytest.mark.parametrize("kind", _SMALL, ids=str)
def test_numbers_of_every_type(kind: pa.DataType) -> None:
    """Null is a problem, not a NaN; a slice does not read its neighbours."""
    make = decimal.Decimal if pa.types.is_decimal(kind) else int if pa.types.is_integer(kind) else float
    rows = [None if value is None else make(value) for value in (1, None, 3, 100, None, 7)]
    if pa.types.is_float16(kind):
        rows = [None if value is None else np.float16(value) for value in rows]
    _check_in_every_cut(rows, kind, 1)
    _check_in_every_cut([row for row in rows if row is not None], kind, 1)


def test_booleans() -> None:
    """False and true are 0 and 1."""
    _check_in_every_cut([True, None, False, True, True], pa.bool_(), 1)


@pytest.mark.parametrize("kind", _FLOATS, ids=str)
def test_nan_and_infinity_are_values_not_problems(kind: pa.DataType) -> None:
    """What was stored is told apart from what is missing."""
    stored = [math.nan, math.inf, -math.inf, -0.0, None, 1.5]
    column = pa.array(
        [None if value is None else np.float16(value) for value in stored] if kind == pa.float16() else stored, kind
    )
    assert _same(_found(numbers([_chunked(column)], 1)), _expected(stored, 1))


def test_numbers_keep_the_value_they_were_stored_with() -> None:
    """float16 and float32 are widened exactly; integers beyond 2**53 are rounded to nearest, as Python rounds."""
    assert _found(scalars_as_numbers(pa.array([0.1], pa.float32())))[0][1] == [float(np.float32(0.1))]
    assert _found(scalars_as_numbers(pa.array([np.float16(0.1), np.float16(6e-8)])))[0][1] == [float(np.float16(0.1))]
    large = [2**53 + 1, 2**63 - 1, -(2**63), 2**62 + 2**9 + 1]
    assert [row for _, row in _found(scalars_as_numbers(pa.array(large)))] == [[float(value)] for value in large]
    assert _found(scalars_as_numbers(pa.array([2**64 - 1], pa.uint64())))[0][1] == [float(2**64 - 1)]


@pytest.mark.parametrize("text", ["0.1", "-12345.678", "99999.99999999999999", "1e-20", "0.30000000000000004"])
def test_decimals_become_the_nearest_float(text: str) -> None:
    """As Python rounds them."""
    column = pa.array([decimal.Decimal(text)], pa.decimal128(30, 20))
    assert _found(scalars_as_numbers(column))[0][1] == [float(text)]


def scalars_as_numbers(column: pa.Array) -> Numbers:
    """Read a column of numbers in the shape of `numbers`."""
    values, problems = scalars(_chunked(column))
    return values[:, np.newaxis], problems


def test_dictionary_of_numbers_with_null_and_repeated_values() -> None:
    """A null may be in the codes or among the values."""
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 2, 3], pa.int8()), pa.array([1.5, None, 2.5, 1.5]))
    expected = _expected([1.5, None, None, 2.5, 1.5], 1)
    assert _same(_found(numbers([_chunked(column)], 1)), expected)
    assert _same(_found(numbers([_chunked(column.slice(1, 3))], 1)), expected[1:4])


_VECTORS: list[Any] = [[1, 2, 3], None, [4, 5, 6], [7, None, 9], [0, 0, 1], [None, None, None], [2, 2, 2]]
_RAGGED: list[Any] = [[1, 2, 3], [1, 2], [], [1, 2, 3, 4], None, [4, None, 6], [None], [7, 8, 9], [None, 1]]
_ELEMENTS = [
    pa.float16(),
    pa.float32(),
    pa.float64(),
    pa.int8(),
    pa.int64(),
    pa.uint16(),
    pa.bool_(),
    pa.decimal128(6, 2),
]


def _of_element(rows: list[Any], element: pa.DataType) -> list[Any]:
    make: Any = float
    if pa.types.is_boolean(element):
        make = bool
    elif pa.types.is_integer(element):
        make = int
    elif pa.types.is_decimal(element):
        make = decimal.Decimal
    elif pa.types.is_float16(element):
        make = np.float16
    return [None if row is None else [None if value is None else make(value) for value in row] for row in rows]


@pytest.mark.parametrize("element", _ELEMENTS, ids=str)
@pytest.mark.parametrize("shape", ["list", "large_list", "fixed"])
def test_vectors_of_every_type(element: pa.DataType, shape: str) -> None:
    """Null rows and null elements are problems; lengths are right."""
    kinds = {"list": pa.list_(element), "large_list": pa.large_list(element), "fixed": pa.list_(element, 3)}
    _check_in_every_cut(_of_element(_VECTORS, element), kinds[shape], 3)
    _check_in_every_cut(_of_element([row for row in _VECTORS if row and None not in row] * 2, element), kinds[shape], 3)


@pytest.mark.parametrize("element", _ELEMENTS, ids=str)
@pytest.mark.parametrize("large", [False, True])
def test_lists_of_other_lengths(element: pa.DataType, large: bool) -> None:
    """Too short, empty and too long are wrong lengths, whatever is in them; their neighbours stay right."""
    kind = pa.large_list(element) if large else pa.list_(element)
    _check_in_every_cut(_of_element(_RAGGED, element), kind, 3)


def test_fixed_size_lists_of_another_length() -> None:
    """A shard whose vectors have another length than the rest of the run: every row says so."""
    column = _chunked(pa.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], pa.list_(pa.float64(), 3)))
    for width in (2, 6):
        assert set(numbers([column], width)[1].tolist()) == {Problem.WRONG_LENGTH}


def test_null_lists_that_hide_elements() -> None:
    """A null row may own elements in memory; they belong to nobody."""
    offsets, values = pa.array([0, 2, 4, 6], pa.int32()), pa.array([1.0, 2.0, 9.0, 9.0, 5.0, 6.0])
    column = pa.ListArray.from_arrays(offsets, values, mask=pa.array([False, True, False]))
    assert _same(_found(numbers([_chunked(column)], 2)), _expected([[1, 2], None, [5, 6]], 2))


def test_structs_of_class_scores() -> None:
    """One field a class, in the order of the fields; a null struct and a null field are problems."""
    kind = pa.struct([("b", pa.float32()), ("a", pa.int8())])
    rows = [{"b": 0.5, "a": 1}, None, {"b": None, "a": 2}, {"b": 4.0, "a": 3}, {"b": 1.0, "a": None}]
    column = pa.array(rows, kind)
    expected = _expected([[0.5, 1], None, [None, 2], [4, 3], [1, None]], 2)
    assert _same(_found(numbers([_chunked(column)], 2)), expected)
    assert _same(_found(numbers([_chunked(column.slice(1, 3))], 2)), expected[1:4])


def test_one_column_a_class() -> None:
    """Columns of different types and chunks side by side; a null in any of them is the row's problem."""
    first = pa.chunked_array([pa.array([1.0, None], pa.float32()), pa.array([3.0, 4.0], pa.float32())])
    second = _chunked(pa.array([10, 20, None, 40], pa.int16()))
    third = _chunked(pa.array([True, False, True, False]))
    expected = _expected([[1, 10, 1], None, None, [4, 40, 0]], 3)
    assert _same(_found(numbers([first, second, third], 3)), expected)


_ELEMENT = st.none() | st.floats(width=32)
_LISTS = st.lists(st.none() | st.lists(_ELEMENT, max_size=4) | st.lists(_ELEMENT, min_size=2, max_size=2), max_size=15)


@given(_LISTS, st.integers(0, 15), st.integers(0, 15), st.booleans())
def test_any_lists_in_any_slice(rows: list[Any], start: int, count: int, large: bool) -> None:
    """Against the reference, for arbitrary nestings of null."""
    kind = pa.large_list(pa.float32()) if large else pa.list_(pa.float32())
    column = pa.array(rows, kind).slice(min(start, len(rows)), count)
    assert _same(_found(numbers([_chunked(column)], 2)), _expected(rows[start : start + count], 2))


def test_reading_does_not_change_the_column() -> None:
    """Values may be the file's own memory."""
    column = pa.array([1.0, None, 3.0])
    before = column.to_pylist()
    numbers([_chunked(column)], 1)
    assert column.to_pylist() == before


def test_values_outlive_their_column() -> None:
    """The array keeps the Arrow memory alive that it looks at."""
    values, _ = numbers([_chunked(pa.array(np.arange(1000.0)))], 1)
    garbage = [pa.array(np.full(1000, -1.0)) for _ in range(50)]
    assert values[:, 0].tolist() == list(range(1000))
    assert len(garbage) == 50


@pytest.mark.parametrize(
    ("kind", "width"),
    [
        (pa.float16(), 1),
        (pa.bool_(), 1),
        (pa.decimal128(5, 2), 1),
        (pa.dictionary(pa.int8(), pa.float32()), 1),
        (pa.null(), 1),
        (pa.list_(pa.float32(), 10), 10),
        (pa.list_(pa.float16()), 0),
        (pa.large_list(pa.int8()), 0),
        (pa.struct([("a", pa.float32()), ("b", pa.int8())]), 2),
        (pa.string(), None),
        (pa.list_(pa.string()), None),
        (pa.list_(pa.list_(pa.float32())), None),
        (pa.list_(pa.string(), 3), None),
        (pa.struct([("a", pa.string())]), None),
        (pa.timestamp("s"), None),
    ],
    ids=str,
)
def test_width_of_a_type(kind: pa.DataType, width: int | None) -> None:
    """1 for a number, 0 where it differs by row, None for what is no number."""
    assert vector_width(kind) == width
    assert is_number(kind) is (width == 1)


def test_list_lengths_are_counted() -> None:
    """By length; null lists do not count."""
    column = pa.chunked_array([pa.array([[1], None, [1, 2]]), pa.array([[], [3, 4]], pa.list_(pa.int64()))])
    assert lengths(column).tolist() == [1, 1, 2]
    assert lengths(_chunked(pa.array([None], pa.list_(pa.int8())))).sum() == 0


# Slice columns


def _labels(column: pa.Array | pa.ChunkedArray) -> list[str]:
    """The label of the group of each row."""
    chunked = column if isinstance(column, pa.ChunkedArray) else _chunked(column)
    chosen = Slice((Axis("c"),))
    found = group_rows(chosen, {Axis("c"): categories(chunked)}, len(chunked))
    assert found.groups is not None
    assert len(set(found.keys)) == len(found.keys)
    return [chosen.label(found.keys[group]) for group in found.groups]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())], ids=str
)
def test_categories_of_text(kind: pa.DataType) -> None:
    """Null is its own group; a slice and chunks give the same labels."""
    column = pa.array(["x", None, "y", "x", ""], kind)
    expected = ["c=x", "c is null", "c=y", "c=x", "c="]
    assert _labels(column) == expected
    assert _labels(column.slice(1, 3)) == expected[1:4]
    assert _labels(pa.chunked_array([column.slice(2), column.slice(0, 2)])) == [*expected[2:], *expected[:2]]
    assert is_category(kind)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1, None, 2, 1], pa.int8()), ["c=1", "c is null", "c=2", "c=1"]),
        (pa.array([2**64 - 1], pa.uint64()), ["c=18446744073709551615"]),
        (pa.array([True, False, None]), ["c=true", "c=false", "c is null"]),
        (
            pa.array([0.0, -0.0, 0.5, math.nan, -math.nan, None, math.inf]),
            ["c=0.0", "c=0.0", "c=0.5", "c is NaN", "c is NaN", "c is null", "c=inf"],
        ),
        (pa.array([np.float16(0.5), None, np.float16(math.nan)]), ["c=0.5", "c is null", "c is NaN"]),
        (pa.array([decimal.Decimal("1.50"), None]), ["c=1.50", "c is null"]),
        (pa.array([dt.date(2026, 1, 2), None]), ["c=2026-01-02", "c is null"]),
        (pa.array([dt.datetime(2026, 1, 2, 3, 4, 5), None], pa.timestamp("s")), ["c=2026-01-02 03:04:05", "c is null"]),
        (pa.array([None, None]), ["c is null", "c is null"]),
        (pa.array([], pa.string()), []),
        (pa.array(["NaN", "null"]), ["c=NaN", "c=null"]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_categories_of_other_types(column: pa.Array, expected: list[str]) -> None:
    """Numbers, bool, dates; one zero and one NaN whatever their sign; text that looks like NaN stays text."""
    assert _labels(column) == expected


def test_categories_of_a_dictionary_with_null_and_repeated_values() -> None:
    """Equal values are one group, a null value is null."""
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 3, None], pa.int8()), pa.array(["a", None, "b", "a"]))
    assert _labels(column) == ["c=a", "c is null", "c=b", "c=a", "c is null"]


def test_categories_of_dictionaries_that_differ_by_chunk() -> None:
    """Each row group may bring its own dictionary."""
    chunks = [pa.array(["a", "b"]).dictionary_encode(), pa.array(["b", None, "c"]).dictionary_encode()]
    assert _labels(pa.chunked_array(chunks)) == ["c=a", "c=b", "c=b", "c is null", "c=c"]


@given(st.lists(st.none() | st.text(max_size=3), max_size=20), st.integers(0, 20))
def test_categories_equal_plain_python(values: list[str | None], cut: int) -> None:
    """Any texts, in two chunks with dictionaries of their own."""
    parts = [pa.array(part, pa.string()).dictionary_encode() for part in (values[:cut], values[cut:])]
    expected = ["c is null" if value is None else f"c={value}" for value in values]
    assert _labels(pa.chunked_array(parts)) == expected


@given(
    st.lists(st.one_of(st.none(), st.integers(-3, 6)), max_size=12),
    st.integers(0, 5),
    st.sampled_from([pa.int8(), pa.int32(), pa.int64()]),
    st.integers(0, 12),
)
def test_codes_beyond_their_dictionary_are_refused(
    codes: list[int | None], values: int, kind: pa.DataType, start: int
) -> None:
    """Wherever Arrow's own full check refuses them, and nowhere else; also where a null has a code."""
    whole = pa.DictionaryArray.from_arrays(pa.array(codes, kind), pa.array(["ä"] * values, pa.string()), safe=False)
    column = pa.chunked_array([whole.slice(start)])
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        with pytest.raises(pa.ArrowInvalid, match="of a dictionary with"):
            validate(pa.table({"c": column}), {})
    else:
        validate(pa.table({"c": column}), {})


def test_text_of_a_dictionary_that_is_no_text_is_refused() -> None:
    bad = pa.array([b"\xff"]).cast(pa.binary()).view(pa.string())
    with pytest.raises(pa.ArrowInvalid, match="UTF8"):
        validate(pa.table({"c": pa.DictionaryArray.from_arrays(pa.array([0]), bad)}), {})


def test_a_dictionary_that_takes_the_place_of_another_is_looked_at() -> None:
    """The same one is not looked at again, which only its memory tells."""
    good = pa.array(["a"])
    bad = pa.array([b"\xff"]).cast(pa.binary()).view(pa.string())
    one, other = (pa.table({"c": pa.DictionaryArray.from_arrays(pa.array([0]), each)}) for each in (good, bad))
    known: dict[str, pa.Array] = {}
    validate(one, known)
    validate(one, known)
    with pytest.raises(pa.ArrowInvalid, match="UTF8"):
        validate(other, known)
