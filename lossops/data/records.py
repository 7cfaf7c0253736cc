"""Columns of fixed width side by side in rows, so that finding a row costs one access to memory.

Text that comes as a dictionary is held as codes of one dictionary for all tables. What has no fixed width stays an
Arrow table.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from lossops.data.columns import encoded, whole_column

__all__ = ["Records", "RecordsBuilder", "TooManyValuesError"]

_WORD = 8
_MOST_FIELDS = 64  # one bit each says where there is no value
_NARROW, _WIDE = np.dtype(np.uint16), np.dtype(np.uint32)  # codes of a dictionary


class TooManyValuesError(Exception):
    """A dictionary has more values than narrow codes can tell apart."""


@dataclass(frozen=True)
class _Field:
    """Where a column lies in a record.

    Args:
        kind: Arrow type of the column; of a dictionary that of its values.
        coded: whether codes of a dictionary are held.
        dtype: NumPy type of what is held.
        offset: in bytes.
        bit: that is set where there is no value.
    """

    kind: pa.DataType
    coded: bool
    dtype: np.dtype[Any]
    offset: int
    bit: int


@dataclass(frozen=True)
class _Layout:
    """How columns lie in a record.

    Args:
        names: of all columns, in their order.
        fields: of those in the record.
        missing: type and offset of the bits that say where there is no value.
        words: of a record.
    """

    names: tuple[str, ...]
    fields: Mapping[str, _Field]
    missing: tuple[np.dtype[Any], int]
    words: int

    @classmethod
    def of(cls, schema: pa.Schema, coded: Sequence[str], *, wide: bool) -> _Layout:
        """The layout of columns of these types, of which some are held as codes."""
        codes = _WIDE if wide else _NARROW
        held = ((one.name, codes if one.name in coded else _held(one.type)) for one in schema)
        chosen = [(name, dtype) for name, dtype in held if dtype is not None][:_MOST_FIELDS]
        missing = np.dtype(f"u{next(size for size in (1, 2, 4, 8) if 8 * size >= len(chosen))}")
        offsets, used = {}, 0
        for name, dtype in sorted([*chosen, ("", missing)], key=lambda one: -one[1].itemsize):  # each is aligned then
            offsets[name], used = used, used + dtype.itemsize
        fields = {
            name: _Field(_plain(schema.field(name).type), name in coded, dtype, offsets[name], 1 << bit)
            for bit, (name, dtype) in enumerate(chosen)
        }
        return cls(tuple(schema.names), fields, (missing, offsets[""]), -(-used // _WORD))

    def column(self, records: npt.NDArray[np.uint64], dtype: np.dtype[Any], offset: int) -> npt.NDArray[Any]:
        """A part of every record as an array that shares their memory."""
        found: npt.NDArray[Any] = records.view(np.uint8)[:, offset : offset + dtype.itemsize].view(dtype)[:, 0]
        return found


def _held(kind: pa.DataType) -> np.dtype[Any] | None:
    """Return what is held of a column without a dictionary in a record; None if it stays an Arrow column."""
    kind = _plain(kind)
    if types.is_boolean(kind):
        return np.dtype(np.uint8)
    if types.is_integer(kind) or types.is_floating(kind):
        found: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
        return found
    is_moment = types.is_date(kind) or types.is_timestamp(kind) or types.is_time(kind) or types.is_duration(kind)
    return np.dtype(f"i{kind.bit_width // 8}") if is_moment else None


def _is_text_dictionary(kind: pa.DataType) -> bool:
    return bool(types.is_dictionary(kind) and types.is_large_string(_plain(kind)))


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column without its dictionary, with 64-bit offsets so that all rows fit one array."""
    if types.is_dictionary(kind):
        return _plain(kind.value_type)
    if types.is_string(kind) or types.is_string_view(kind):
        return pa.large_string()
    if types.is_binary(kind) or types.is_binary_view(kind):
        return pa.large_binary()
    return pa.large_list(kind.value_type) if types.is_list(kind) else kind


@dataclass(frozen=True)
class Records:
    """What records mean.

    Args:
        layout: of them.
        dictionaries: the values of each column that is held as codes.
        others: the other columns of all rows.
    """

    layout: _Layout
    dictionaries: Mapping[str, pa.Array]
    others: pa.Table

    @property
    def words(self) -> int:
        """Of a record."""
        return self.layout.words

    def table(self, records: npt.NDArray[np.uint64], rows: npt.NDArray[np.int64]) -> pa.Table:
        """Return records, uint64 [n, words], and what else belongs to their rows, int64 [n], as a table."""
        missing = np.ascontiguousarray(self.layout.column(records, *self.layout.missing))
        some = bool(missing.any())
        others = self.others.take(pa.array(rows)) if self.others.num_columns else self.others
        columns: dict[str, Any] = {}
        for name in self.layout.names:
            if name not in self.layout.fields:
                columns[name] = others[name]
                continue
            one = self.layout.fields[name]
            values = np.ascontiguousarray(self.layout.column(records, one.dtype, one.offset))
            columns[name] = self._arrow(name, one, values, missing & one.bit != 0 if some else None)
        return pa.table(columns)

    def _arrow(
        self, name: str, one: _Field, values: npt.NDArray[Any], missing: npt.NDArray[np.bool_] | None
    ) -> pa.Array:
        if missing is not None and not missing.any():
            missing = None
        if one.coded:
            return pa.DictionaryArray.from_arrays(pa.array(values, mask=missing), self.dictionaries[name], safe=False)
        if types.is_boolean(one.kind):
            return pa.array(values != 0, mask=missing)
        valid = None if missing is None else pa.py_buffer(np.packbits(~missing, bitorder="little"))
        return pa.Array.from_buffers(one.kind, len(values), [valid, pa.py_buffer(values)])


@dataclass
class RecordsBuilder:
    """Makes records of tables, from several threads at a time.

    Args:
        schema: the columns.
        categories: columns of text whose values are few, which may come as dictionaries or not.
        wide: whether a dictionary may have more than some ten thousand values.
    """

    schema: pa.Schema
    categories: Sequence[str]
    wide: bool = False
    _dictionaries: dict[str, pa.Array] = field(default_factory=dict)
    _places: dict[str, tuple[pa.Array, pa.Array]] = field(default_factory=dict)
    _others: dict[int, pa.Table] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        coded = [one.name for one in self.schema if one.name in self.categories or _is_text_dictionary(one.type)]
        self._layout = _Layout.of(self.schema, coded, wide=self.wide)
        self._dictionaries = {name: pa.array([], one.kind) for name, one in self._layout.fields.items() if one.coded}

    @property
    def words(self) -> int:
        """Of a record."""
        return self._layout.words

    @property
    def hold_all(self) -> bool:
        """Whether records hold all columns."""
        return len(self._layout.fields) == len(self._layout.names)

    def fill(self, records: npt.NDArray[np.uint64], start: int, table: pa.Table) -> None:
        """Write the rows of a table, the first of which is row ``start``, into records that are all zeros.

        Raises:
            TooManyValuesError: there are more values of a column than codes.
        """
        missing = self._layout.column(records, *self._layout.missing)
        for name, one in self._layout.fields.items():
            column = whole_column(table[name])
            codes = self._codes(name, encoded(column)) if one.coded else None
            nulls = column.is_null() if column.null_count or types.is_dictionary(column.type) else None
            values = codes if codes is not None else _numpy(column, one)
            self._layout.column(records, one.dtype, one.offset)[:] = values
            if nulls is not None and nulls.true_count:
                missing |= nulls.to_numpy(zero_copy_only=False).astype(missing.dtype) * one.bit
        others = [name for name in self._layout.names if name not in self._layout.fields]
        if others:
            kinds = pa.schema([(name, _plain(self.schema.field(name).type)) for name in others])
            self._others[start] = table.select(others).cast(kinds)

    def _codes(self, name: str, column: pa.DictionaryArray) -> npt.NDArray[Any]:
        """Return a column as codes of the dictionary of all tables, anything where null."""
        one = self._layout.fields[name]
        values = column.dictionary.cast(one.kind)
        if not len(values):
            return np.zeros(len(column), dtype=one.dtype)
        with self._lock:
            places = self._places_of(name, values)
            if len(self._dictionaries[name]) > np.iinfo(one.dtype).max:
                raise TooManyValuesError
        codes = column.indices.fill_null(0) if column.indices.null_count else column.indices
        table: npt.NDArray[Any] = places.to_numpy(zero_copy_only=False).astype(one.dtype)
        found: npt.NDArray[Any] = table[codes.to_numpy(zero_copy_only=False)]
        return found

    def _places_of(self, name: str, values: pa.Array) -> pa.Array:
        """Return where values are in the dictionary of all tables, which gets those that are new."""
        last = self._places.get(name)
        if last is not None and last[0].equals(values):
            return last[1]
        known = self._dictionaries[name]
        places = pc.index_in(values, value_set=known)
        if places.null_count:
            known = self._dictionaries[name] = pa.concat_arrays([known, values.filter(places.is_null())])
            places = pc.index_in(values, value_set=known)
        self._places[name] = values, places
        return places

    def finish(self) -> Records:
        """Return what the records of all tables mean."""
        parts = [self._others[start] for start in sorted(self._others)]
        others = pa.concat_tables(parts).combine_chunks() if parts else _nothing(self._layout, self.schema)
        return Records(self._layout, self._dictionaries, others)


def _nothing(layout: _Layout, schema: pa.Schema) -> pa.Table:
    return pa.schema(
        [(name, _plain(schema.field(name).type)) for name in layout.names if name not in layout.fields]
    ).empty_table()


def _numpy(column: pa.Array, one: _Field) -> npt.NDArray[Any]:
    """Return the values of a column as they are held, anything where null."""
    zeros: npt.NDArray[Any] = np.zeros(len(column), dtype=one.dtype)
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    if len(column) == 0 or types.is_null(column.type):
        return zeros
    whole: npt.NDArray[Any] = np.frombuffer(column.buffers()[1], dtype=one.dtype, count=column.offset + len(column))
    return whole[column.offset :]
