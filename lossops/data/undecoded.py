"""Columns of two files compared as they are stored: where their bytes are equal, so are their values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyarrow import fs

from lossops.data.dataset import Shard, covering
from lossops.data.formats import Stored, open_reader

__all__ = ["stored_alike"]

_BLOCK = 1 << 20  # bytes that are compared at a time


def stored_alike(shards: tuple[Shard, Shard], columns: Sequence[str], start: int, stop: int) -> bool:
    """Whether rows of two shards are known to hold the same values in some columns, without decoding them.

    Args:
        shards: local files that say what they hold; of others nothing is known, because a look costs too much.
        columns: to compare, by name.
        start, stop: row range, the same of both.
    """
    if not all(shard.is_typed and isinstance(shard.file.storage, fs.LocalFileSystem) for shard in shards):
        return False
    found = [covering(shard.groups, start, stop) for shard in shards]
    rows = [(before, shard.groups[first:last]) for shard, (first, last, before) in zip(shards, found, strict=True)]
    if rows[0] != rows[1]:
        return False
    try:
        return all(
            _alike(shards, *(_stored(shard, column, *groups) for shard, groups in zip(shards, found, strict=True)))
            for column in columns
        )
    except Exception:  # of a damaged file, which is told when it is read
        return False


def _stored(shard: Shard, column: str, first: int, last: int, _: int) -> tuple[Stored, ...]:
    return open_reader(shard.file.storage, shard.path).stored(column, first, last)


def _alike(shards: tuple[Shard, Shard], ones: Sequence[Stored], others: Sequence[Stored]) -> bool:
    kinds = [[(chunk.kind, chunk.size) for chunk in chunks] for chunks in (ones, others)]
    if not ones or kinds[0] != kinds[1]:
        return False
    with _opened(shards[0]) as left, _opened(shards[1]) as right:
        return all(_same_bytes(left, right, one, other) for one, other in zip(ones, others, strict=True))


def _opened(shard: Shard) -> Any:
    return shard.file.storage.open_input_file(shard.path)


def _same_bytes(left: Any, right: Any, one: Stored, other: Stored) -> bool:
    for at in range(0, one.size, _BLOCK):
        size = min(_BLOCK, one.size - at)
        found = left.read_at(size, one.start + at)
        if len(found) != size or found != right.read_at(size, other.start + at):
            return False
    return True
