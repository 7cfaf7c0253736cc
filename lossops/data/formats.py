"""File formats: one small reader each. Another Arrow-readable format is one more entry of ``_READERS``."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq
from pyarrow import fs, ipc, types

from lossops.data.storage import is_of_storage
from lossops.errors import InputError, ShardError

__all__ = ["Bounds", "Reader", "Stored", "fingerprint", "open_reader"]

_TAIL = 1 << 16
_MOST_FOOTER = 1 << 28  # bytes
# What the values of a CSV column may be that begins with no value, or with whole numbers.
_TIMES = (pa.date32(), pa.time32("s"), pa.timestamp("s"), pa.timestamp("ns"))
_WIDER = {pa.null(): (pa.int64(), pa.bool_(), *_TIMES, pa.float64(), pa.string()), pa.int64(): (pa.float64(),)}
_STREAM = b"\xff\xff\xff\xff"  # what an IPC stream begins with
_MOST_UNFOLDING = 100  # bytes in memory for one on storage, beyond which a claim is looked at


@dataclass(frozen=True, slots=True)
class Bounds:
    """The smallest and largest key of a row group, as a signed number."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A column of a row group as it lies in a file.

    Args:
        kind: what decides how its bytes are read: equal bytes of one kind hold the same values.
        start, size: which bytes of the file.
    """

    kind: tuple[object, ...]
    start: int
    size: int


class Reader(Protocol):
    """One open file.

    Attributes:
        schema: columns and their Arrow types.
        is_typed: whether the file says of what type its columns are; else that is found from what they hold.
    """

    schema: Any
    is_typed: bool

    @property
    def groups(self) -> tuple[int, ...]:
        """Rows in each part that can be read without the others."""

    def bounds(self, column: str) -> tuple[Bounds | None, ...]:
        """Return the range of an integer, boolean or date column in each group, or None; () where no file tells."""

    def stored(self, column: str, first: int, last: int) -> tuple[Stored, ...]:
        """Return how a column lies in groups ``first`` to ``last - 1``; nothing where the format does not tell."""

    def unfolded(self, group: int) -> int:
        """Return the bytes that a group claims to unfold to, where that is far more than the file has; else 0."""

    def batches(self, columns: Sequence[str], first: int, last: int, rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the columns of groups ``first`` to ``last - 1``, in order, in batches of about ``rows`` rows."""


class _Parquet:
    is_typed = True

    def __init__(
        self, storage: fs.FileSystem, path: str, categories: Sequence[str], schema: pa.Schema | None = None
    ) -> None:
        self._source, self._categories = storage.open_input_file(path), list(categories)
        self._bytes = self._source.size()
        self._file = self._opened(read_dictionary=self._categories)
        self.schema = _without_views(self._file.schema_arrow)
        metadata = self._file.metadata
        self.groups = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
        if sum(self.groups) != metadata.num_rows:
            raise ShardError(path, f"its row groups have {sum(self.groups)} rows, its footer says {metadata.num_rows}")
        lost = [field.name for field in self.schema if types.is_null(field.type)]
        if lost and (stored := _stored_schema(metadata)) is not None:
            for name in lost:
                if name in stored.names and not types.is_null(stored.field(name).type):
                    raise ShardError(path, f"column {name!r} lost its type, which was {stored.field(name).type}")

    def _opened(self, **options: Any) -> pq.ParquetFile:
        wanted = {"page_checksum_verification": True, "pre_buffer": False, "thrift_string_size_limit": _MOST_FOOTER}
        return pq.ParquetFile(self._source, **(wanted | options))

    def bounds(self, column: str) -> tuple[Bounds | None, ...]:
        place = self.schema.get_field_index(column)
        if place < 0 or self._is_nested():
            return (None,) * len(self.groups)
        return tuple(self._bounds_of(group, column, place) for group in range(len(self.groups)))

    def _bounds_of(self, group: int, column: str, place: int) -> Bounds | None:
        # The details of a damaged chunk end the process when Python asks for them; reading a row finds the damage.
        next(self._file.iter_batches(batch_size=1, row_groups=[group], columns=[column], use_threads=False), None)
        return _bounds(self._file.metadata.row_group(group).column(place).statistics)

    def stored(self, column: str, first: int, last: int) -> tuple[Stored, ...]:
        leaves = [place for place in range(len(self._file.schema)) if self._file.schema.column(place).path == column]
        if len(leaves) != 1 or first == last:
            return ()
        # Reading a row is to find damage as it does for bounds; here one row is enough for all groups, because where
        # they lie is looked at before the first is read if reading ahead is wanted.
        ahead = self._opened(metadata=self._file.metadata, pre_buffer=True)
        groups = list(range(first, last))
        next(ahead.iter_batches(batch_size=1, row_groups=groups, columns=[column], use_threads=False), None)
        return tuple(self._stored_in(group, leaves[0], column) for group in groups)

    def _stored_in(self, group: int, leaf: int, name: str) -> Stored:
        column, chunk = self._file.schema.column(leaf), self._file.metadata.row_group(group).column(leaf)
        levels = column.max_definition_level, column.max_repetition_level
        kind = self.schema.field(name).type, column.physical_type, column.length, *levels
        start = chunk.data_page_offset
        if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
            start = chunk.dictionary_page_offset
        own = chunk.num_values, chunk.total_uncompressed_size, chunk.data_page_offset - start
        # The codec is left out, which ends the process where it is damaged: pages of other codecs are other bytes.
        return Stored((*kind, *own), start, chunk.total_compressed_size)

    def _is_nested(self) -> bool:
        return len(self._file.schema) != len(self.schema)

    def unfolded(self, group: int) -> int:
        size = int(self._file.metadata.row_group(group).total_byte_size)
        return size if size > _MOST_UNFOLDING * self._bytes else 0

    def batches(self, columns: Sequence[str], first: int, last: int, rows: int) -> Iterator[pa.RecordBatch]:
        given = 0
        try:
            for batch in _batches_of(self._file, columns, first, last, rows):
                given += batch.num_rows
                yield _plain(batch)
        except OSError as error:
            if not self._categories or "Not yet implemented" not in str(error):
                raise
            yield from self._as_text(columns, first, last, rows, given)

    def _as_text(
        self, columns: Sequence[str], first: int, last: int, rows: int, given: int
    ) -> Iterator[pa.RecordBatch]:
        """Go on after some rows where text is stored in a way of which Arrow makes no dictionaries."""
        file = self._opened(metadata=self._file.metadata)
        for batch in _batches_of(file, columns, first, last, rows):
            passed = min(given, batch.num_rows)
            given -= passed
            if passed < batch.num_rows:
                yield _plain(batch.slice(passed))


def _batches_of(
    file: pq.ParquetFile, columns: Sequence[str], first: int, last: int, rows: int
) -> Iterator[pa.RecordBatch]:
    groups = list(range(first, last))
    return file.iter_batches(batch_size=rows, row_groups=groups, columns=list(columns), use_threads=False)  # type: ignore[no-any-return]


def _without_views(schema: pa.Schema) -> pa.Schema:
    """Return the schema with views of text and bytes, from which Arrow takes no rows, as plain columns."""
    plain = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
    if not any(field.type in plain for field in schema):
        return schema
    return pa.schema([field.with_type(plain.get(field.type, field.type)) for field in schema], schema.metadata)


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    schema = batch.schema
    plain = _without_views(schema)
    return batch if plain is schema else batch.cast(plain)


def _stored_schema(metadata: Any) -> pa.Schema | None:
    """Return the schema that Arrow's own writers keep beside that of Parquet."""
    text = (metadata.metadata or {}).get(b"ARROW:schema")
    return None if text is None else ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


def _bounds(statistics: Any) -> Bounds | None:
    if statistics is None or not statistics.has_min_max:
        return None
    low, high = _signed(statistics.min), _signed(statistics.max)
    return None if low is None or high is None or low > high else Bounds(low, high)


def _signed(value: object) -> int | None:
    """Return what `lossops.data.keys` makes of an integer or date, if that is one signed number."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else None
    is_date = isinstance(value, dt.date) and not isinstance(value, dt.datetime)
    return (value - dt.date(1970, 1, 1)).days if is_date and isinstance(value, dt.date) else None


class _Untold:
    """What formats without a footer full of facts have in common."""

    def bounds(self, column: str) -> tuple[Bounds | None, ...]:
        return ()

    def stored(self, column: str, first: int, last: int) -> tuple[Stored, ...]:
        return ()

    def unfolded(self, group: int) -> int:
        return 0


class _ArrowIpc(_Untold):
    is_typed = True

    def __init__(
        self, storage: fs.FileSystem, path: str, categories: Sequence[str], schema: pa.Schema | None = None
    ) -> None:
        self._source = storage.open_input_file(path)
        if self._source.read_at(len(_STREAM), 0) == _STREAM:
            raise ShardError(path, "it is an Arrow IPC stream; allowed: the IPC file format, also known as Feather")
        self._file = ipc.open_file(self._source)
        self.schema = _without_views(self._file.schema)

    @cached_property
    def groups(self) -> tuple[int, ...]:
        fields = self._file.schema
        narrow = [place for place, field in enumerate(fields) if types.is_primitive(field.type)]
        one = self._with(narrow[:1] or list(range(len(fields)))[:1])
        return tuple(one.get_batch(i).num_rows for i in range(one.num_record_batches))

    def _with(self, places: list[int]) -> ipc.RecordBatchFileReader:
        """The file with some of its columns; the others are not even unpacked."""
        return ipc.open_file(self._source, options=ipc.IpcReadOptions(included_fields=places))

    def batches(self, columns: Sequence[str], first: int, last: int, rows: int) -> Iterator[pa.RecordBatch]:
        some = self._with([self._file.schema.names.index(name) for name in columns])
        for i in range(first, last):
            batch = some.get_batch(i)
            batch.validate(full=True)  # unlike Parquet's, this reader trusts the offsets in the file
            yield _plain(batch.select(list(columns)))


class _Csv(_Untold):
    is_typed = False

    def __init__(
        self, storage: fs.FileSystem, path: str, categories: Sequence[str], schema: pa.Schema | None = None
    ) -> None:
        self._storage, self._path = storage, path
        self.schema, self.groups = (schema, ()) if schema is not None else self._surveyed()

    def batches(self, columns: Sequence[str], first: int, last: int, rows: int) -> Iterator[pa.RecordBatch]:
        if first < last:
            kinds = {name: self.schema.field(name).type for name in columns}
            flat = {name: kind for name, kind in kinds.items() if not types.is_nested(kind)}
            yield from self._open(list(columns), flat)

    def _surveyed(self) -> tuple[pa.Schema, tuple[int, ...]]:
        """Return the columns and how many rows there are.

        Arrow takes types from the beginning of a file, and a column may go on with other values.
        """
        try:
            return self._counted({})
        except pa.ArrowInvalid:
            return self._counted({field.name: self._kind(field) for field in self._open([], {}).schema})

    def _counted(self, kinds: Mapping[str, pa.DataType]) -> tuple[pa.Schema, tuple[int, ...]]:
        stream = self._open([], kinds)
        return stream.schema, (sum(batch.num_rows for batch in stream),)

    def _kind(self, field: pa.Field) -> pa.DataType:
        if field.type not in _WIDER:
            return field.type
        kinds = (field.type, *_WIDER[field.type])
        return next((kind for kind in kinds if self._holds(field.name, kind)), field.type)

    def _holds(self, column: str, kind: pa.DataType) -> bool:
        """Whether all values of a column are of a type."""
        try:
            for _ in self._open([column], {column: kind}):
                pass
        except pa.ArrowInvalid:
            return False
        return True

    def _open(self, columns: list[str], kinds: Mapping[str, pa.DataType]) -> pc_csv.CSVStreamingReader:
        one = pc_csv.ReadOptions(use_threads=False)  # a worker has as many pieces in hand as it was given threads
        options = pc_csv.ConvertOptions(include_columns=columns, column_types=kinds)
        return pc_csv.open_csv(self._storage.open_input_stream(self._path), read_options=one, convert_options=options)


_Open = Callable[[fs.FileSystem, str, Sequence[str], pa.Schema | None], Reader]
_READERS: dict[str, tuple[str, _Open]] = {
    ".parquet": ("Parquet", _Parquet),
    ".parq": ("Parquet", _Parquet),
    ".pq": ("Parquet", _Parquet),
    ".arrow": ("Arrow IPC", _ArrowIpc),
    ".ipc": ("Arrow IPC", _ArrowIpc),
    ".feather": ("Arrow IPC", _ArrowIpc),
    ".csv": ("CSV", _Csv),
    ".csv.gz": ("CSV", _Csv),
}


def open_reader(
    storage: fs.FileSystem, path: str, categories: Sequence[str] = (), schema: pa.Schema | None = None
) -> Reader:
    """Open a file by the ending of its name; a file without a known ending is taken for Parquet.

    Args:
        storage, path: where the file is.
        categories: columns of text that may come as dictionaries where the format has them.
        schema: the columns, where they are known; a format that does not say of what type they are reads them as such.

    Raises:
        ShardError: the file is not readable as that format.
        InputError: the storage does not give it.
    """
    known = next((ending for ending in _READERS if path.lower().endswith(ending)), None)
    format_name, reader = _READERS[known or ".parquet"]
    problem = f"not a readable {format_name} file"
    if known is None:
        problem += f", which a name without {', '.join(_READERS)} is taken for (one that begins with _ is passed over)"
    try:
        return reader(storage, path, categories, schema)
    except ShardError:
        raise
    except OSError as error:
        if is_of_storage(error):
            raise InputError(f"could not open {path}: {' '.join(str(error).split())}") from error
        raise ShardError(path, f"{problem}: {' '.join(str(error).split())}") from error
    except Exception as error:  # readers of damaged files raise errors of many classes
        raise ShardError(path, f"{problem}: {' '.join(str(error).split())}") from error


def fingerprint(storage: fs.FileSystem, path: str, size: int) -> str:
    """Return 32 hex digits that change with the file's size or its last 64 KiB, where Parquet keeps its footer."""
    with storage.open_input_file(path) as file:
        file.seek(max(size - _TAIL, 0))
        tail = file.read(_TAIL)
    return hashlib.blake2b(size.to_bytes(8, "big") + tail, digest_size=16).hexdigest()
