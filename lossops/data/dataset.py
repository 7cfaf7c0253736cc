"""A dataset: shards of one schema that are read by row ranges."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
from pyarrow import types

from lossops.data.formats import fingerprint, open_reader
from lossops.data.storage import FoundFile, find_files
from lossops.errors import InputError, ShardError, nearest

__all__ = ["Dataset", "Shard", "logical_type", "open_dataset"]

_FOOTER_THREADS = 16
_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}")  # what reads back as the same text: "01" stays text


@dataclass(frozen=True)
class Shard:
    """One file of a dataset.

    Args:
        file: where it is.
        groups: rows in each part that can be read without the others.
        fingerprint: changes when the file does.
    """

    file: FoundFile
    groups: tuple[int, ...]
    fingerprint: str

    @property
    def path(self) -> str:
        """Path on its filesystem."""
        return self.file.path

    @cached_property
    def rows(self) -> int:
        """Number of rows."""
        return sum(self.groups)


@dataclass(frozen=True)
class Dataset:
    """Shards of one schema.

    Args:
        location: as the config names it.
        shards: in the order of the rows.
        schema: the columns of every shard, by name; partition columns come last.
    """

    location: str
    shards: tuple[Shard, ...]
    schema: pa.Schema

    @cached_property
    def rows(self) -> int:
        """Number of rows in all shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def paths(self) -> tuple[str, ...]:
        """Path of every shard."""
        return tuple(shard.path for shard in self.shards)

    def type_of(self, column: str, key: str) -> pa.DataType:
        """Return the type of a column.

        Args:
            column: its name.
            key: the config key that asks for it, for the message.

        Raises:
            InputError: there is no such column, or more than one.
        """
        places = self.schema.get_all_field_indices(column)
        if len(places) > 1:
            raise InputError(f"{key}: {self.location} has {len(places)} columns named {column!r}; allowed: one")
        if not places:
            raise InputError(f"{key}: no column {column!r} in {self.location}; {nearest(column, self.schema.names)}")
        return self.schema.field(places[0]).type

    def read(
        self, shard: int, columns: Sequence[str], start: int, stop: int, rows: int, categories: Sequence[str] = ()
    ) -> Iterator[pa.Table]:
        """Yield rows ``start`` to ``stop - 1`` of a shard in tables of exactly ``rows`` rows (the last may be shorter).

        Args:
            shard: its number.
            columns: which columns, in this order.
            start, stop: row range in the shard.
            rows: rows in a table.
            categories: columns of text that should come as dictionaries where the format has them.

        Raises:
            ShardError: the file is damaged.
        """
        chosen = self.shards[shard]
        try:
            yield from _exact_tables(self._batches(chosen, columns, start, stop, rows, categories), rows)
        except ShardError:
            raise
        except Exception as error:  # readers of damaged files raise errors of many classes
            raise ShardError(chosen.path, f"rows {start} to {stop}: {' '.join(str(error).split())}") from error

    def _batches(
        self, shard: Shard, columns: Sequence[str], start: int, stop: int, rows: int, categories: Sequence[str]
    ) -> Iterator[pa.Table]:
        partition = dict(shard.file.partition)
        stored = [column for column in columns if column not in partition]
        first, last, before = _covering(shard.groups, start, stop)
        reader = open_reader(shard.file.storage, shard.path, [name for name in categories if name in stored])
        if not stored:  # only partition columns are asked for: any column tells how many rows there are
            stored = [reader.schema.names[0]]
        at = before
        for batch in reader.batches(stored, first, last, rows):
            low, high = max(start - at, 0), min(stop - at, batch.num_rows)
            at += batch.num_rows
            if low < high:
                yield self._complete(batch.slice(low, high - low), columns, partition)

    def _complete(self, batch: pa.RecordBatch, columns: Sequence[str], partition: dict[str, str | None]) -> pa.Table:
        return pa.table(
            {
                name: self._constant(name, partition[name], batch.num_rows)
                if name in partition
                else self._typed(name, batch.column(name))
                for name in columns
            }
        )

    def _constant(self, name: str, value: str | None, rows: int) -> pa.Array:
        kind = self.schema.field(name).type
        return pa.repeat(pa.scalar(value, pa.string()).cast(kind), rows)

    def _typed(self, name: str, column: pa.Array) -> pa.Array:
        # A shard in which every value is missing may store the column without a type.
        return column.cast(self.schema.field(name).type) if types.is_null(column.type) else column


def _covering(groups: Sequence[int], start: int, stop: int) -> tuple[int, int, int]:
    """Return the range of groups that holds the rows, and the row at which it begins."""
    first, before = 0, 0
    while first < len(groups) and before + groups[first] <= start:
        before += groups[first]
        first += 1
    last, end = first, before
    while last < len(groups) and end < stop:
        end += groups[last]
        last += 1
    return first, last, before


def _exact_tables(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        waiting.append(table)
        count += table.num_rows
        while count >= rows:
            whole = _concatenate(waiting)
            yield whole.slice(0, rows)
            waiting, count = [whole.slice(rows)], count - rows
    if count:
        yield _concatenate(waiting)


def _concatenate(tables: list[pa.Table]) -> pa.Table:
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="permissive")


def logical_type(kind: pa.DataType) -> pa.DataType:  # noqa: PLR0911 - one return a kind
    """Return the type without its storage: dictionaries decoded, large and view variants as the plain type."""
    if types.is_dictionary(kind):
        return logical_type(kind.value_type)
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_large_binary(kind) or types.is_binary_view(kind):
        return pa.binary()
    if types.is_list(kind) or types.is_large_list(kind):
        return pa.list_(logical_type(kind.value_type))
    if types.is_fixed_size_list(kind):
        return pa.list_(logical_type(kind.value_type), kind.list_size)
    if types.is_struct(kind):
        return pa.struct([(field.name, logical_type(field.type)) for field in kind])
    return kind


def open_dataset(locations: Sequence[str]) -> Dataset:
    """Find the files, read their schemas and row counts, and check that they fit together.

    Raises:
        InputError: a location names nothing, or partition folders differ.
        ShardError: a file is unreadable, or its columns differ from those of the other shards.
    """
    files = find_files(locations)
    with ThreadPoolExecutor(_FOOTER_THREADS) as threads:
        opened = list(threads.map(_open_shard, files))
    stored = _common_schema(opened)
    partition = _partition_fields(files)
    for field in partition:
        if field.name in stored.names:
            raise InputError(f"{files[0].path}: column {field.name!r} is both in the file and in the folder's name")
    location = locations[0] if len(locations) == 1 else f"{locations[0]} and {len(locations) - 1} more"
    return Dataset(location, tuple(shard for shard, _ in opened), pa.schema([*stored, *partition]))


def _open_shard(file: FoundFile) -> tuple[Shard, pa.Schema]:
    reader = open_reader(file.storage, file.path)
    return Shard(file, reader.groups, fingerprint(file.storage, file.path, file.size)), reader.schema


def _common_schema(opened: Sequence[tuple[Shard, pa.Schema]]) -> pa.Schema:
    first_shard, first = opened[0]
    fields = {field.name: field for field in first}
    for shard, schema in opened[1:]:
        _same_names(shard, schema, first_shard, first)
        for field in schema:
            known = fields[field.name]
            if types.is_null(known.type):
                fields[field.name] = field
            elif not types.is_null(field.type) and logical_type(field.type) != logical_type(known.type):
                problem = f"column {field.name!r} is {field.type}, but {known.type} in {first_shard.path}"
                raise ShardError(shard.path, f"{problem}; allowed: one type in all shards")
    if len(fields) == len(first):
        return pa.schema(list(fields.values()))
    return first


def _same_names(shard: Shard, schema: pa.Schema, first_shard: Shard, first: pa.Schema) -> None:
    here, there = Counter(schema.names), Counter(first.names)
    for missing, found, path in (
        (there - here, shard.path, first_shard.path),
        (here - there, first_shard.path, shard.path),
    ):
        if missing:
            raise ShardError(
                found, f"no column {next(iter(missing))!r}, which {path} has; allowed: the same columns in all shards"
            )


def _partition_fields(files: Sequence[FoundFile]) -> list[pa.Field]:
    names = [tuple(name for name, _ in file.partition) for file in files]
    for file, own in zip(files, names, strict=True):
        if own != names[0]:
            raise ShardError(file.path, f"partition folders {list(own)}, but {list(names[0])} in {files[0].path}")
    values = zip(*([value for _, value in file.partition] for file in files), strict=True)
    return [pa.field(name, _partition_type(found)) for name, found in zip(names[0], values, strict=False)]


def _partition_type(values: Sequence[str | None]) -> pa.DataType:
    known = [value for value in values if value is not None]
    whole = bool(known) and all(_WHOLE_NUMBER.fullmatch(value) for value in known)
    return pa.int64() if whole else pa.string()
