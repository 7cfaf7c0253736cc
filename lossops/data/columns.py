"""Arrow columns to the arrays that kernels take.

Numbers become float64 whatever their storage. What cannot be a number is not hidden in a NaN: a second array tells null
and wrong length apart from a NaN that was stored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from lossops.kernels.checks import Problem
from lossops.slices import Categories

__all__ = [
    "Numbers",
    "categories",
    "class_numbers",
    "encoded",
    "is_category",
    "is_number",
    "lengths",
    "numbers",
    "scalars",
    "vector_width",
    "whole_column",
]

Numbers = tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]  # values [rows, width], problems [rows]


def is_number(kind: pa.DataType) -> bool:
    """Whether values of this type are numbers: integers, floats of any width, bool, decimal, or all missing."""
    if types.is_dictionary(kind):
        return is_number(kind.value_type)
    tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_null)
    return any(test(kind) for test in tests)


def is_category(kind: pa.DataType) -> bool:
    """Whether values of this type can name a slice: text, numbers, bool, dates and timestamps."""
    if types.is_dictionary(kind):
        return is_category(kind.value_type)
    text = (types.is_string, types.is_large_string, types.is_string_view, types.is_date, types.is_timestamp)
    return is_number(kind) or any(test(kind) for test in text)


def vector_width(kind: pa.DataType) -> int | None:
    """Return how many values a row of this type holds: 1 for a number, 0 if it differs by row, None if not numbers."""
    if is_number(kind):
        return 1
    if types.is_fixed_size_list(kind):
        return int(kind.list_size) if is_number(kind.value_type) else None
    if types.is_list(kind) or types.is_large_list(kind):
        return 0 if is_number(kind.value_type) else None
    if types.is_struct(kind):
        return kind.num_fields if all(is_number(field.type) for field in kind) else None
    return None


def whole_column(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Return a column as one array; dictionaries of its chunks are brought together."""
    if isinstance(column, pa.Array):
        return column
    if types.is_dictionary(column.type) and not _share_a_dictionary(column):
        column = column.unify_dictionaries()
    if column.num_chunks == 1:
        return column.chunk(0)
    whole = column.combine_chunks()
    return whole if isinstance(whole, pa.Array) else pa.concat_arrays(whole.chunks)


def _share_a_dictionary(column: pa.ChunkedArray) -> bool:
    return all(chunk.dictionary.equals(column.chunk(0).dictionary) for chunk in column.chunks)


class _Window:
    """Memory of an Arrow buffer as NumPy sees it; writable by declaration so that kernels are compiled only once.

    Kernels never write to their inputs.
    """

    def __init__(self, owner: Any, address: int, rows: int) -> None:
        self._owner = owner
        self.__array_interface__ = {"data": (address, False), "shape": (rows,), "typestr": "<f8", "version": 3}


def _floats(column: pa.Array) -> npt.NDArray[np.float64]:
    """Return the values as float64 [rows]; anything where null."""
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_null(column.type) or len(column) == 0:
        return np.zeros(len(column))
    if types.is_float16(column.type):
        halves: npt.NDArray[np.float16] = column.fill_null(np.float16(0)).to_numpy(zero_copy_only=False)
        return halves.astype(np.float64)
    if types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    elif types.is_decimal(column.type):  # by way of text, because the direct cast rounds twice
        column = column.cast(pa.string())
    if not types.is_float64(column.type):
        column = column.cast(pa.float64(), safe=False)
    address = column.buffers()[1].address + 8 * column.offset
    window: npt.NDArray[np.float64] = np.asarray(_Window(column, address, len(column)))
    return window


def _nulls(column: pa.Array) -> npt.NDArray[np.bool_] | None:
    """Return a mask of null rows, or None if there is none."""
    if column.null_count == 0 and not types.is_dictionary(column.type):
        return None
    return column.is_null().to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _problems(rows: int, nulls: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.uint8]:
    problems = np.zeros(rows, dtype=np.uint8)
    if nulls is not None:
        problems[nulls] = Problem.NULL
    return problems


def scalars(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    """Return a column of numbers as values and problems, both [rows]."""
    whole = whole_column(column)
    return _floats(whole), _problems(len(whole), _nulls(whole))


def numbers(columns: Sequence[pa.ChunkedArray], width: int, fields: Sequence[str] = ()) -> Numbers:
    """Return columns of numbers or vectors, side by side, as values [rows, width] and problems [rows].

    Args:
        columns: one or more columns, each with the same number of values a row.
        width: values a row of all columns together; a list of another length is a problem.
        fields: the order in which the fields of a struct are taken; as they come if empty.
    """
    whole = [whole_column(column) for column in columns]
    if len(whole) > 1 and all(is_number(column.type) for column in whole):
        return _side_by_side(whole)
    parts = [_one_column(column, width // len(whole), fields) for column in whole]
    if len(parts) == 1:
        return parts[0]
    return np.hstack([values for values, _ in parts]), np.maximum.reduce([problems for _, problems in parts])


def _one_column(column: pa.Array, width: int, fields: Sequence[str]) -> Numbers:
    if types.is_fixed_size_list(column.type):
        return _fixed(column, width)
    if types.is_list(column.type) or types.is_large_list(column.type):
        return _lists(column, width)
    if types.is_struct(column.type):
        flat = dict(zip((field.name for field in column.type), column.flatten(), strict=True))
        values, problems = _side_by_side([flat[name] for name in fields or flat])
        return values, np.maximum(problems, _problems(len(column), _nulls(column)))
    values, problems = scalars(pa.chunked_array([column]))
    return values[:, np.newaxis], problems


# Outside the domain of every label, so that a label that is none of the classes is refused by name.
_NO_CLASS = 1e300


def class_numbers(
    columns: Sequence[pa.ChunkedArray], width: int, classes: Sequence[str | float | bool], values: Sequence[float]
) -> Numbers:
    """Return columns of class labels as numbers, [rows, width], and problems [rows].

    Args:
        columns: one column of text, or what `numbers` takes.
        width: values a row.
        classes: the labels in the order of the class numbers.
        values: what each class is for the loss.
    """
    if isinstance(classes[0], str):
        whole = whole_column(columns[0])
        plain = whole.dictionary_decode() if types.is_dictionary(whole.type) else whole
        codes = pc.index_in(plain.cast(pa.string()), value_set=pa.array(classes)).fill_null(-1)
        found = np.array([*values, _NO_CLASS])[codes.to_numpy(zero_copy_only=False)]
        return found[:, np.newaxis], _problems(len(plain), _nulls(plain))
    labels, problems = numbers(columns, width)
    found = np.where(np.isnan(labels), np.nan, _NO_CLASS)
    for label, value in zip(classes, values, strict=True):
        found[labels == float(label)] = value
    return found, problems


def _side_by_side(columns: Sequence[pa.Array]) -> Numbers:
    values = np.empty((len(columns[0]), len(columns)))
    problems = np.zeros(len(columns[0]), dtype=np.uint8)
    for place, column in enumerate(columns):
        values[:, place] = _floats(column)
        np.maximum(problems, _problems(len(column), _nulls(column)), out=problems)
    return values, problems


def _fixed(column: pa.FixedSizeListArray, width: int) -> Numbers:
    if column.type.list_size != width:
        null = column.is_null().to_numpy(zero_copy_only=False)
        problems = np.where(null, int(Problem.NULL), int(Problem.WRONG_LENGTH)).astype(np.uint8)
        return np.zeros((len(column), width)), problems
    elements = column.values.slice(column.offset * width, len(column) * width)
    problems = _problems(len(column), _nulls(column))
    _mark_null_elements(elements, np.arange(len(column)), width, problems)
    return _floats(elements).reshape(len(column), width), problems


def _lists(column: pa.ListArray, width: int) -> Numbers:
    rows = len(column)
    offsets = column.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    problems = _problems(rows, _nulls(column))
    problems[(np.diff(offsets) != width) & (problems == 0)] = Problem.WRONG_LENGTH
    good = np.flatnonzero(problems == 0)
    elements = column.values
    if len(good) == rows:
        elements = elements.slice(offsets[0], rows * width)
        _mark_null_elements(elements, good, width, problems)
        return _floats(elements).reshape(rows, width), problems
    places = (offsets[good][:, np.newaxis] + np.arange(width)).reshape(-1)
    elements = elements.take(pa.array(places))
    _mark_null_elements(elements, good, width, problems)
    values = np.zeros((rows, width))
    values[good] = _floats(elements).reshape(len(good), width)
    return values, problems


def _mark_null_elements(
    elements: pa.Array, rows: npt.NDArray[np.int64], width: int, problems: npt.NDArray[np.uint8]
) -> None:
    """Mark the rows whose vector has a null element; ``elements`` holds ``width`` values for each of ``rows``."""
    nulls = _nulls(elements)
    if nulls is not None:
        affected = rows[nulls.reshape(len(rows), width).any(axis=1)]
        problems[affected[problems[affected] == 0]] = Problem.NULL


def lengths(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return how often each list length occurs, int64 [longest + 1]; null lists do not count."""
    found = pc.list_value_length(whole_column(column)).drop_null().to_numpy(zero_copy_only=False)
    return np.bincount(found.astype(np.int64)).astype(np.int64) if len(found) else np.zeros(1, dtype=np.int64)


def categories(column: pa.ChunkedArray) -> Categories:
    """Return a column as codes; values keep their kind, dates and timestamps become text."""
    whole = whole_column(column)
    kind = whole.type.value_type if types.is_dictionary(whole.type) else whole.type
    if types.is_floating(kind):  # one zero whatever its sign, one NaN whatever its bits
        values = _floats(whole)
        whole = pa.array(np.where(np.isnan(values), np.nan, values + 0.0), mask=_nulls(whole))
    elif types.is_null(kind):
        whole = whole.cast(pa.string())
    coded = encoded(whole)
    found = coded.dictionary
    if types.is_timestamp(found.type) or types.is_date(found.type):
        found = found.cast(pa.string())
    indices = coded.indices.fill_null(0) if coded.indices.null_count else coded.indices
    nulls = coded.is_null().to_numpy(zero_copy_only=False) if coded.indices.null_count else np.zeros(1, np.bool_)
    codes = indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return Categories.of_values(codes, found, nulls)


def encoded(column: pa.Array) -> pa.DictionaryArray:
    """Return the column as a dictionary whose values are distinct and not null, which files do not promise."""
    if not types.is_dictionary(column.type):
        return column.dictionary_encode()
    values = column.dictionary
    if any(values.equals(one) for one in tuple(_DISTINCT)):
        return column
    if values.null_count or len(values.unique()) < len(values):
        return column.dictionary_decode().dictionary_encode()
    if len(values) >= _MANY and values.nbytes <= _MOST_BYTES:
        _DISTINCT.append(values)
    return column


# Dictionaries that were found distinct: files repeat theirs in every row group, and comparing is cheap.
_DISTINCT: deque[pa.Array] = deque(maxlen=4)
_MANY, _MOST_BYTES = 1 << 10, 1 << 24
