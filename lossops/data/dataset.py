"""A dataset: shards of one schema that are read by row ranges."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs, types

from lossops.data.formats import Bounds, fingerprint, open_reader
from lossops.data.storage import FoundFile, current_version, find_files, is_of_storage, one_line
from lossops.errors import InputChanged, InputError, ShardError, nearest

__all__ = ["Dataset", "Quarantined", "Shard", "covering", "logical_type", "open_dataset", "validate"]

_FOOTER_THREADS = 16
_PROBE_ROWS = 1 << 12
_CODES = pa.dictionary(pa.int32(), pa.string())
_MOST_UNFOLDED = 1 << 30  # bytes of a row group that is mostly repetition
_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}")  # what reads back as the same text: "01" stays text


@dataclass(frozen=True)
class Shard:
    """One file of a dataset.

    Args:
        file: where it is.
        groups: rows in each part that can be read without the others.
        fingerprint: digest of its size and its end.
        bounds: for each group the range of the key, see `Dataset.bounded`.
        is_typed: whether the file says of what type its columns are.
    """

    file: FoundFile
    groups: tuple[int, ...]
    fingerprint: str
    bounds: tuple[Bounds | None, ...] = ()
    is_typed: bool = True

    @property
    def pinned(self) -> str:
        """What it is known by: another text is another file."""
        return f"{self.path}\0{self.file.size}\0{self.file.version}\0{self.fingerprint}"

    @property
    def stored_by(self) -> str:
        """What sums of its rows are stored by. A copy may keep the times of a file that it overwrites."""
        return f"{self.pinned}\0{self.file.touched}"

    def check_unchanged(self) -> None:
        """Check that the file is still the one that was opened.

        Raises:
            InputChanged: it is not.
        """
        found = current_version(self.file.storage, self.path)
        if found is None:
            raise InputChanged(self.path, "it vanished")
        if found[0] != self.file.size:
            raise InputChanged(self.path, f"it changed from {self.file.size} to {found[0]} bytes")
        if found[1] != self.file.version:
            raise InputChanged(self.path, "it was written again")
        if fingerprint(self.file.storage, self.path, self.file.size) != self.fingerprint:
            raise InputChanged(self.path, "its end changed")

    @property
    def path(self) -> str:
        """Path on its filesystem."""
        return self.file.path

    @cached_property
    def rows(self) -> int:
        """Number of rows."""
        return sum(self.groups)


@dataclass(frozen=True)
class Quarantined:
    """A shard that is left out.

    Args:
        path: of the file.
        place: among all files of the dataset.
        problem: what is wrong with it.
        rows: that it claims to have; None if that cannot be read.
        bytes: on storage.
        fingerprint: as of `Shard`; None if it cannot be read.
    """

    path: str
    place: int
    problem: str
    rows: int | None
    bytes: int
    fingerprint: str | None


@dataclass(frozen=True)
class Dataset:
    """Shards of one schema.

    Args:
        location: as the config names it.
        shards: in the order of the rows.
        schema: the columns of every shard, by name; partition columns come last.
        locations: all that the config names.
        quarantined: shards that are left out.
    """

    location: str
    shards: tuple[Shard, ...]
    schema: pa.Schema
    locations: tuple[str, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()

    @property
    def rows_quarantined(self) -> int:
        """Rows of shards that are left out, as far as they are known."""
        return sum(one.rows or 0 for one in self.quarantined)

    def without(self, places: Collection[int], problem: str) -> Dataset:
        """The same dataset, with the shards at some places among all files in quarantine as well."""
        taken = {one.place for one in self.quarantined}
        free = [place for place in range(len(self.shards) + len(taken)) if place not in taken]
        placed = list(zip(free, self.shards, strict=True))
        bad = [
            Quarantined(shard.path, place, problem, shard.rows, shard.file.size, shard.fingerprint)
            for place, shard in placed
            if place in places
        ]
        kept = tuple(shard for place, shard in placed if place not in places)
        return replace(self, shards=kept, quarantined=(*self.quarantined, *bad))

    @property
    def unread(self) -> int:
        """Files of which nobody knows how many rows they have, because not even that can be read."""
        return sum(one.rows is None for one in self.quarantined)

    @property
    def is_local(self) -> bool:
        """Whether all files are on this machine, where a look at each row group is no request."""
        return all(isinstance(shard.file.storage, fs.LocalFileSystem) for shard in self.shards)

    def bounded(self, column: str) -> Dataset:
        """The same dataset, with the range of an integer, boolean or date column in each group, where files tell it."""
        kinds = [logical_type(field.type) for field in self.schema if field.name == column]
        if not any(types.is_integer(kind) or types.is_boolean(kind) or types.is_date(kind) for kind in kinds):
            return self
        with ThreadPoolExecutor(_FOOTER_THREADS) as threads:
            found = list(threads.map(lambda shard: _with_bounds(shard, column), self.shards))
        return replace(self, shards=tuple(found))

    def verify(self) -> None:
        """Check that the files are still those that were opened, by listing them again.

        Raises:
            InputChanged: one changed, vanished or appeared.
        """
        known = {shard.path: (shard.file.size, shard.file.version) for shard in self.shards}
        found = {file.path: (file.size, file.version) for file in find_files(self.locations)}
        for path in found.keys() - known.keys() - {one.path for one in self.quarantined}:
            raise InputChanged(path, "it appeared")
        for path, pinned in known.items():
            if path not in found:
                raise InputChanged(path, "it vanished")
            if found[path] != pinned:
                raise InputChanged(path, "it was written again")

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
        self, shard: Shard, columns: Sequence[str], start: int, stop: int, rows: int, categories: Sequence[str] = ()
    ) -> Iterator[pa.Table]:
        """Yield rows ``start`` to ``stop - 1`` of a shard in tables of exactly ``rows`` rows (the last may be shorter).

        Args:
            shard: one of this dataset.
            columns: which columns, in this order.
            start, stop: row range in the shard.
            rows: rows in a table.
            categories: columns of text that should come as dictionaries.

        Raises:
            ShardError: the file is damaged.
            InputChanged: it is not the file that was opened when the dataset was.
        """
        known: dict[str, pa.Array] = {}
        try:
            for table in _exact_tables(self._batches(shard, columns, start, stop, rows, categories), rows):
                validate(table, known)
                yield table
        except InputChanged:
            raise
        except Exception as error:  # readers of damaged files raise errors of many classes
            _check_unchanged(shard)
            if isinstance(error, InputError):
                raise
            if is_of_storage(error):
                raise InputError(f"could not read {shard.path}: {one_line(error)}") from error
            where = self._culprit(shard, columns, start, stop) or f"rows {start} to {stop}"
            raise ShardError(shard.path, f"could not read {where}: {one_line(error)}") from error
        _check_unchanged(shard)

    def _culprit(self, shard: Shard, columns: Sequence[str], start: int, stop: int) -> str | None:
        """Return the first row group and column that cannot be read by themselves."""
        partition = dict(shard.file.partition)
        first, last, _ = covering(shard.groups, start, stop)
        for group in range(first, last):
            for column in (column for column in columns if column not in partition):
                try:
                    reader = open_reader(shard.file.storage, shard.path, schema=self.schema)
                    for batch in reader.batches([column], group, group + 1, _PROBE_ROWS):
                        validate(pa.table(batch), {})
                except Exception:  # whatever it was when all were read together
                    return f"row group {group}, column {column!r}"
        return None

    def _batches(
        self, shard: Shard, columns: Sequence[str], start: int, stop: int, rows: int, categories: Sequence[str]
    ) -> Iterator[pa.Table]:
        partition = dict(shard.file.partition)
        stored = [column for column in columns if column not in partition]
        first, last, before = covering(shard.groups, start, stop)
        texts = [name for name in categories if name in stored]
        reader = open_reader(shard.file.storage, shard.path, texts, self.schema)
        if not stored:  # only partition columns are asked for: any column tells how many rows there are
            stored = [reader.schema.names[0]]
        for group in range(first, last):
            size = reader.unfolded(group)
            if size > _MOST_UNFOLDED:
                found = f"row group {group} would unfold to {size:,} bytes, far more than it has on storage"
                raise ShardError(shard.path, f"{found}; allowed: at most {_MOST_UNFOLDED:,}")
        at = before
        for batch in reader.batches(stored, first, last, rows):
            low, high = max(start - at, 0), min(stop - at, batch.num_rows)
            at += batch.num_rows
            if low < high:
                yield self._complete(batch.slice(low, high - low), columns, partition, texts)

    def _complete(
        self,
        batch: pa.RecordBatch,
        columns: Sequence[str],
        partition: dict[str, str | None],
        categories: Sequence[str],
    ) -> pa.Table:
        return pa.table(
            {
                name: self._constant(name, partition[name], batch.num_rows)
                if name in partition
                else _coded(batch.column(name), _CODES)
                if name in categories
                else self._typed(name, batch.column(name))
                for name in columns
            }
        )

    def _constant(self, name: str, value: str | None, rows: int) -> pa.Array:
        kind = self.schema.field(name).type
        return pa.repeat(pa.scalar(value, pa.string()).cast(kind), rows)

    def _typed(self, name: str, column: pa.Array) -> pa.Array:
        # Shards may store text as codes or not, and a column without a value may have no type.
        kind = self.schema.field(name).type
        if types.is_dictionary(kind) and types.is_dictionary(column.type):
            return _coded(column, kind)
        return column if column.type == kind else column.cast(kind)


def _coded(column: pa.Array, kind: pa.DictionaryType) -> pa.DictionaryArray:
    """Return a column as a dictionary of one type, with null as no value of it, however a shard stores it."""
    if not types.is_dictionary(column.type):
        return column.cast(kind.value_type).dictionary_encode()
    if column.dictionary.null_count:
        column = column.dictionary_decode().dictionary_encode()
    if column.type == kind:
        return column
    return pa.DictionaryArray.from_arrays(column.indices.cast(kind.index_type), column.dictionary.cast(kind.value_type))


def _check_unchanged(shard: Shard) -> None:
    try:
        shard.check_unchanged()
    except OSError as error:
        raise InputError(f"could not read {shard.path} again: {one_line(error)}") from error


def validate(table: pa.Table, known: dict[str, pa.Array]) -> None:
    """Check values that could point outside of their buffers or are no text.

    Args:
        table: whose values.
        known: the dictionary of each column that was looked at last, which is not looked at again; changed in place.

    Raises:
        pyarrow.ArrowInvalid: one does.
    """
    for name, column in zip(table.column_names, table.columns, strict=True):
        if types.is_dictionary(column.type):
            for chunk in column.chunks:
                _validate_codes(chunk)
                if name not in known or _memory(known[name]) != _memory(chunk.dictionary):
                    chunk.dictionary.validate(full=True)
                    known[name] = chunk.dictionary
        elif not types.is_primitive(column.type):
            column.validate(full=True)


def _memory(column: pa.Array) -> tuple[int, int, list[int | None]]:
    """Where the values of a column lie."""
    return len(column), column.offset, [buffer and buffer.address for buffer in column.buffers()]


def _validate_codes(column: pa.DictionaryArray) -> None:
    # Arrow's own full check looks at one code at a time, which took a thirtieth of a run.
    column.validate()
    ends = pc.min_max(column.indices)
    low, high = ends["min"].as_py(), ends["max"].as_py()
    if low is not None and not 0 <= low <= high < len(column.dictionary):
        raise pa.ArrowInvalid(f"codes from {low} to {high} of a dictionary with {len(column.dictionary)} values")


def covering(groups: Sequence[int], start: int, stop: int) -> tuple[int, int, int]:
    """Return the range of groups that holds rows ``start`` to ``stop - 1``, and the row at which it begins."""
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


def open_dataset(
    locations: Sequence[str],
    *,
    tolerate: bool = False,
    quarantined: Mapping[str, str] | None = None,
) -> Dataset:
    """Find the files, read their schemas and row counts, and check that they fit together.

    Args:
        locations: files, folders, globs or URLs.
        tolerate: whether shards that do not open, or differ from most others, are left out instead of refused.
        quarantined: paths of shards that are to be left out, and why.

    Raises:
        InputError: a location names nothing, or partition folders differ.
        ShardError: a file is unreadable, or its columns differ from those of the other shards.
    """
    files = find_files(locations)
    with ThreadPoolExecutor(_FOOTER_THREADS) as threads:
        tried = list(threads.map(_open_shard, files))
    bad = {file.path: str(why) for file in files if (why := (quarantined or {}).get(file.path)) is not None}
    opened: list[tuple[Shard, pa.Schema]] = []
    for file, found in zip(files, tried, strict=True):
        if isinstance(found, ShardError):
            if not tolerate:
                raise found
            bad.setdefault(file.path, found.problem)
        elif file.path not in bad:
            opened.append(found)
    if tolerate:
        opened = _of_the_commonest_schema(opened, bad)
    known = {one[0].path: one[0] for one in tried if not isinstance(one, ShardError)}
    left_out = tuple(
        _quarantined(file, place, bad[file.path], known.get(file.path))
        for place, file in enumerate(files)
        if file.path in bad
    )
    if not opened:
        raise ShardError(left_out[0].path, f"{left_out[0].problem}; no shard is left")
    stored = [_with_wide_codes(field) for field in _common_schema(opened)]
    partition = _partition_fields(files)
    for field in partition:
        if field.name in {one.name for one in stored}:
            raise InputError(f"{files[0].path}: column {field.name!r} is both in the file and in the folder's name")
    location = locations[0] if len(locations) == 1 else f"{locations[0]} and {len(locations) - 1} more"
    shards = tuple(shard for shard, _ in opened)
    return Dataset(location, shards, pa.schema([*stored, *partition]), tuple(locations), left_out)


def _quarantined(file: FoundFile, place: int, problem: str, shard: Shard | None) -> Quarantined:
    rows, digest = (None, None) if shard is None else (shard.rows, shard.fingerprint)
    return Quarantined(file.path, place, problem, rows, file.size, digest)


def _open_shard(file: FoundFile) -> tuple[Shard, pa.Schema] | ShardError:
    try:
        reader = open_reader(file.storage, file.path)
        digest = fingerprint(file.storage, file.path, file.size)
        return Shard(file, reader.groups, digest, is_typed=reader.is_typed), reader.schema
    except ShardError as error:
        return error
    except InputError:
        raise
    except Exception as error:  # as when it is read
        if is_of_storage(error):
            raise InputError(f"could not read {file.path}: {one_line(error)}") from error
        return ShardError(file.path, f"could not read its end: {one_line(error)}")


def _with_bounds(shard: Shard, column: str) -> Shard:
    if not shard.is_typed:  # it would be read whole to tell nothing
        return shard
    try:
        return replace(shard, bounds=open_reader(shard.file.storage, shard.path).bounds(column))
    except Exception:  # of a damaged file, which is told when it is read
        return shard


def _of_the_commonest_schema(
    opened: Sequence[tuple[Shard, pa.Schema]], bad: dict[str, str]
) -> list[tuple[Shard, pa.Schema]]:
    """Return the shards whose columns are those of most; the others are added to ``bad``."""
    if not opened:
        return []
    named = [tuple(sorted((field.name, str(logical_type(field.type))) for field in schema)) for _, schema in opened]
    usual = Counter(named).most_common(1)[0][0]
    reference = opened[named.index(usual)]
    kept = []
    for one in opened:
        try:
            _common_schema([reference, one])
            kept.append(one)
        except ShardError as error:
            bad[one[0].path] = error.problem if error.shard == one[0].path else str(error)
    return kept


def _common_schema(opened: Sequence[tuple[Shard, pa.Schema]]) -> pa.Schema:
    first_shard, first = opened[0]
    fields = {field.name: field for field in first}
    stated = any(shard.is_typed for shard, _ in opened)
    for shard, schema in opened[1:]:
        _same_names(shard, schema, first_shard, first)
        for field in schema:
            known = fields[field.name]
            joint = _joint(known, field, stated=stated)
            if joint is None:
                problem = f"column {field.name!r} is {field.type}, but {known.type} in {first_shard.path}"
                raise ShardError(shard.path, f"{problem}; allowed: one type in all shards")
            fields[field.name] = joint
    if len(fields) == len(first):
        return pa.schema(list(fields.values()))
    return first


def _with_wide_codes(field: pa.Field) -> pa.Field:
    """Return the field with codes that are enough for the values of all shards together."""
    kind = field.type
    return field.with_type(pa.dictionary(_CODES.index_type, kind.value_type)) if types.is_dictionary(kind) else field


def _joint(one: pa.Field, other: pa.Field, *, stated: bool) -> pa.Field | None:
    """Return of two fields that with which both columns can be read; None where there is none.

    Args:
        one, other: the fields.
        stated: whether files say of what type their columns are, instead of what they hold.
    """
    if types.is_null(other.type) or one.type == other.type:
        return one
    if logical_type(one.type) == logical_type(other.type):
        return one.with_type(logical_type(one.type))
    if types.is_null(one.type):
        return other
    numbers = {one.type, other.type} == {pa.int64(), pa.float64()}
    return one.with_type(pa.float64()) if numbers and not stated else None


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
