"""Rows on their way between two passes of a join: one file a run of rows, in blocks by hash of the key.

A file is the blocks, each an Arrow IPC stream, then a JSON trailer that says where they are and what they sum to, its
length in 8 bytes and a mark. It appears under its name when it is complete. Every block has a checksum.
"""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import fs, ipc, types

from lossops.data.align import Rows, Rule
from lossops.data.keys import Keys, read_keys, read_order
from lossops.errors import RunError
from lossops.kernels.hashing import sort_by_bucket

__all__ = ["SpillFile", "open_spill", "read_bucket", "write_spill"]

_MARK = b"lossops-spill-1\n"
_TAIL = len(_MARK) + 8
_OWN = ("key high", "key low", "key count", "key order", "key state")
_SKEW = 2  # a bucket with this many times its share of rows is looked through for rows of one key
_FEW_ROWS = 1024


@dataclass(frozen=True)
class SpillFile:
    """A file of rows by bucket.

    Args:
        storage, path: where it is.
        rows: that went in.
        nulls: of them those with a null key, which are not in it.
        checksum: sum of the hashed keys, see `lossops.data.align.Rows.checksum`.
        blocks: for each bucket (offset, length, checksum) of its blocks.
    """

    storage: fs.FileSystem
    path: str
    rows: int
    nulls: int
    checksum: int
    blocks: tuple[tuple[tuple[int, int, int], ...], ...]

    def size_of(self, bucket: int) -> int:
        """Bytes of a bucket."""
        return sum(length for _, length, _ in self.blocks[bucket])


def write_spill(
    storage: fs.FileSystem,
    path: str,
    tables: Iterable[pa.Table],
    key: Sequence[str],
    columns: Sequence[str],
    order_by: str | None,
    rule: Rule,
    buckets: int,
) -> SpillFile:
    """Write rows by bucket; never holds more than one table.

    Args:
        storage, path: where the file goes.
        tables: the rows.
        key, columns, order_by: key columns, columns that are kept, and what chooses among rows of one key.
        rule: that chooses.
        buckets: a power of two.

    Raises:
        RunError: it cannot be written.
    """
    partial = f"{path}.{uuid.uuid4().hex}.partial"
    blocks: list[list[tuple[int, int, int]]] = [[] for _ in range(buckets)]
    rows = nulls = checksum = offset = 0
    try:
        with storage.open_output_stream(partial) as file:
            for table in tables:
                part = _keyed(table, key, order_by)
                known = np.flatnonzero(~part.keys.null)
                rows, nulls = rows + len(part), nulls + len(part) - len(known)
                checksum = (checksum + part.take(known).checksum) % 2**64
                for bucket, block in _blocks(part, table.select(list(columns)), known, rule, buckets):
                    file.write(block)
                    blocks[bucket].append((offset, block.size, zlib.crc32(block)))
                    offset += block.size
            file.write(_trailer(rows, nulls, checksum, blocks))
        storage.move(partial, path)
    except OSError as error:
        _forget(storage, partial)
        raise RunError(f"spill: could not write {path}: {' '.join(str(error).split())}") from error
    return SpillFile(storage, path, rows, nulls, checksum, tuple(tuple(each) for each in blocks))


def _keyed(table: pa.Table, key: Sequence[str], order_by: str | None) -> Rows:
    order = None if order_by is None else read_order(table[order_by])
    return Rows.of(read_keys([table[name] for name in key]), order)


def _trailer(rows: int, nulls: int, checksum: int, blocks: Sequence[Sequence[tuple[int, int, int]]]) -> bytes:
    text = json.dumps({"rows": rows, "nulls": nulls, "checksum": checksum, "blocks": blocks}).encode()
    return text + zlib.crc32(text).to_bytes(4, "big") + (len(text) + 4).to_bytes(8, "big") + _MARK


def _forget(storage: fs.FileSystem, path: str) -> None:
    try:
        storage.delete_file(path)
    except OSError:
        return  # it was never made, or the storage is gone


def _blocks(
    rows: Rows, table: pa.Table, known: npt.NDArray[np.int64], rule: Rule, buckets: int
) -> Iterator[tuple[int, pa.Buffer]]:
    """Yield the rows of each bucket that has any, as a block."""
    rows = rows if len(known) == len(rows) else rows.take(known)
    starts, order = _sorted(rows.keys, buckets)
    if np.diff(starts).max(initial=0) > _SKEW * len(rows) // buckets + _FEW_ROWS:
        rows, kept = rows.collapsed(rule)
        known = known[kept]
        starts, order = _sorted(rows.keys, buckets)
    whole = _with_keys(rows.take(order), table.take(pa.array(known[order])))
    for bucket in np.flatnonzero(np.diff(starts)):
        yield int(bucket), _serialized(whole.slice(starts[bucket], starts[bucket + 1] - starts[bucket]))


def _sorted(keys: Keys, buckets: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    starts, order = np.zeros(buckets + 1, dtype=np.int64), np.empty(len(keys), dtype=np.int64)
    sort_by_bucket(keys.hashes(), 64 - (buckets.bit_length() - 1), starts, order)
    return starts, order


def _with_keys(rows: Rows, table: pa.Table) -> pa.Table:
    own = (rows.keys.high, rows.keys.low, rows.counts, rows.order, rows.states)
    # A dictionary would be repeated in every block.
    payload = [_plain(column) for column in table.columns]
    names = [*_OWN, *(f"column {number}" for number in range(len(payload)))]
    return pa.table([*(pa.array(one) for one in own), *payload], names=names).combine_chunks()


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if types.is_dictionary(column.type) else column


def _serialized(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def open_spill(storage: fs.FileSystem, path: str) -> SpillFile | None:
    """Open a file; None if it is not whole.

    Raises:
        OSError: there is none, or it cannot be read.
    """
    with storage.open_input_file(path) as file:
        size = file.size()
        tail = file.read_at(min(_TAIL, size), max(size - _TAIL, 0))
        length = int.from_bytes(tail[:8], "big")
        if tail[8:] != _MARK or length > size:
            return None
        trailer = file.read_at(length, size - _TAIL - length)
    text, check = trailer[:-4], trailer[-4:]
    if zlib.crc32(text).to_bytes(4, "big") != check:
        return None
    found: dict[str, Any] = json.loads(text)
    blocks = tuple(tuple(tuple(block) for block in bucket) for bucket in found["blocks"])
    return SpillFile(storage, path, found["rows"], found["nulls"], found["checksum"], blocks)


def read_bucket(
    files: Sequence[SpillFile], bucket: int, part: int, parts: int, schema: pa.Schema
) -> tuple[Rows, pa.Table]:
    """Read the rows of a bucket from all files.

    Args:
        files: of one side.
        bucket: its number.
        part, parts: only rows whose hash, without the bits of the bucket, falls to this part.
        schema: names and types of the kept columns.

    Raises:
        RunError: a block is damaged.
    """
    names = [*_OWN, *(f"column {number}" for number in range(len(schema)))]
    kinds = [pa.uint64(), pa.uint64(), pa.int64(), pa.uint64(), pa.uint8()]
    plain = [field.type.value_type if types.is_dictionary(field.type) else field.type for field in schema]
    rows = [_rows_of(empty := pa.schema(list(zip(names, [*kinds, *plain], strict=True))).empty_table())]
    tables = [empty]
    for file in files:
        for table in _tables(file, bucket):
            found = _rows_of(table)
            if parts > 1:
                inside = (found.keys.hashes() & np.uint64(2**32 - 1)) % np.uint64(parts) == np.uint64(part)
                found, table = found.take(inside), table.filter(pa.array(inside))  # noqa: PLW2901
            rows.append(found)
            tables.append(table)
    whole = pa.concat_tables(tables, promote_options="permissive").select(names[len(_OWN) :])
    return Rows.concatenate(rows), whole.rename_columns(schema.names)


def _tables(file: SpillFile, bucket: int) -> Iterator[pa.Table]:
    if not file.blocks[bucket]:
        return
    try:
        with file.storage.open_input_file(file.path) as source:
            for offset, length, checksum in file.blocks[bucket]:
                block = source.read_at(length, offset)
                if zlib.crc32(block) != checksum:
                    raise RunError(f"spill: bucket {bucket} of {file.path} is damaged")
                yield ipc.open_stream(block).read_all()
    except OSError as error:
        raise RunError(f"spill: could not read {file.path}: {' '.join(str(error).split())}") from error


def _rows_of(table: pa.Table) -> Rows:
    high, low, counts, order, states = (table[name].to_numpy() for name in _OWN)
    return Rows(Keys(high, low, np.zeros(len(high), dtype=np.bool_)), counts, order, states)
