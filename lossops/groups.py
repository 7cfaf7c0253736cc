"""Keys of groups, column by column.

A group's key holds ``(rank, value)`` for each axis of its slice: rank 0 for a value (the bin's number where there are
bins), 1 for NaN, 2 for null. Keys are the same in every batch, whatever codes a file uses, and sort in the order of the
report. There can be very many of them, so they are kept as codes into the distinct parts of each axis, and only those
who look at single groups see tuples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from lossops.kernels.dense import dense

__all__ = ["NAN", "NULL", "OTHER", "REST", "GroupKey", "Keys", "Part", "Parts", "numbered", "plain_values"]

Part = tuple[int, object]
GroupKey = tuple[Part, ...]
Integers = npt.NDArray[np.int64]

NAN: Part = (1, 0)
NULL: Part = (2, 0)
OTHER: Part = (3, 0)
REST: GroupKey = (OTHER,)  # all rows that a pass is not about, also where the slice has other axes
_MOST_NUMBERS = 1 << 62
_MOST_DIGITS = 76
_MOST_PARTS = 4  # for each group, beyond which parts are looked through for those that do not occur


def numbered(codes: Sequence[Integers], sizes: Sequence[int]) -> tuple[Integers, Integers]:
    """Number the combinations of codes that occur.

    Args:
        codes: one or more, int64 [rows], each in [0, size).
        sizes: of each.

    Returns:
        The codes of each combination, int64 [combinations, len(codes)], and the combination of each row, int64 [rows].
    """
    if math.prod(sizes) >= _MOST_NUMBERS:
        members, places = np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)
        return members, places
    numbers = codes[0]
    for code, size in zip(codes[1:], sizes[1:], strict=True):
        numbers = numbers * size + code
    found, places = dense(numbers, math.prod(sizes))
    return np.stack(np.unravel_index(found, sizes), axis=1), places


@dataclass(frozen=True, eq=False)
class Parts(Sequence[Part]):
    """The distinct parts of keys on one axis: values first.

    Args:
        values: distinct, neither null nor NaN.
        ranks: of what else there is: NaN, null or `OTHER`.
    """

    values: pa.Array
    ranks: tuple[int, ...] = ()

    @classmethod
    def of(cls, parts: Sequence[Part]) -> Parts:
        """From parts in any order, which need not be that of the result."""
        values = [value for rank, value in parts if not rank]
        return cls(plain_values(pa.array(values)), tuple(rank for rank, _ in parts if rank))

    def __len__(self) -> int:
        return len(self.values) + len(self.ranks)

    @overload
    def __getitem__(self, place: int) -> Part: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Part]: ...
    def __getitem__(self, place: int | slice) -> Part | Sequence[Part]:
        return self._tuples[place]

    def __iter__(self) -> Iterator[Part]:
        return iter(self._tuples)

    @cached_property
    def _tuples(self) -> list[Part]:
        return [*((0, value) for value in self.values.to_pylist()), *((rank, 0) for rank in self.ranks)]

    @property
    def order(self) -> Integers:
        """The place of each part in the order of the report, int64 [parts]."""
        order = np.concatenate(
            [pc.sort_indices(self.values).to_numpy().astype(np.int64), len(self.values) + np.argsort(self.ranks)]
        )
        places = np.empty(len(self), dtype=np.int64)
        places[order.astype(np.int64)] = np.arange(len(self))
        return places

    def taken(self, places: Integers) -> Parts:
        """Some parts, at increasing places."""
        values = len(self.values)
        ranks = tuple(self.ranks[place - values] for place in places[places >= values].tolist())
        return Parts(self.values.take(pa.array(places[places < values])), ranks)

    def equals(self, other: Parts) -> bool:
        """Whether these are the same parts in the same places."""
        return self is other or (self.ranks == other.ranks and self.values.equals(other.values))

    @classmethod
    def united(cls, every: Sequence[Parts]) -> tuple[Parts, list[Integers]]:
        """Return all parts of one or more, the first's first, and the places of each one's parts among them."""
        if all(one.equals(every[0]) for one in every):
            return every[0], [np.arange(len(every[0]))] * len(every)
        kind = _common([one.values.type for one in every if len(one.values)])
        coded = pa.chunked_array([one.values.cast(kind) for one in every], kind).dictionary_encode()
        values = coded.chunk(coded.num_chunks - 1).dictionary if coded.num_chunks else every[0].values
        codes, sizes = _numbers(coded), np.cumsum([0, *(len(one.values) for one in every)])
        ranks = list(dict.fromkeys(rank for one in every for rank in one.ranks))
        places = [
            np.concatenate([codes[start:stop], np.array([len(values) + ranks.index(rank) for rank in one.ranks])])
            for one, start, stop in zip(every, sizes[:-1], sizes[1:], strict=True)
        ]
        return cls(values, tuple(ranks)), [found.astype(np.int64) for found in places]


def plain_values(values: pa.Array) -> pa.Array:
    """Return values in a type that does not tell how a file stores them."""
    kind = values.type
    if types.is_null(kind):
        return values.cast(pa.string())
    if types.is_integer(kind) and not types.is_uint64(kind):
        return values.cast(pa.int64())
    if types.is_floating(kind):
        return values.cast(pa.float64())
    return values.cast(pa.string()) if types.is_large_string(kind) or types.is_string_view(kind) else values


def _common(kinds: Sequence[pa.DataType]) -> pa.DataType:
    """The type that holds the values of all; text where nothing else does."""
    found = set(kinds)
    if len(found) < 2:
        return next(iter(found), pa.string())
    if all(types.is_integer(kind) or types.is_decimal(kind) for kind in found):
        return pa.decimal256(_MOST_DIGITS, max(getattr(kind, "scale", 0) for kind in found))
    numbers = all(types.is_integer(kind) or types.is_floating(kind) for kind in found)
    return pa.float64() if numbers else pa.string()


def _numbers(coded: pa.ChunkedArray) -> Integers:
    chunks = [chunk.indices.to_numpy().astype(np.int64) for chunk in coded.chunks]
    return np.concatenate([np.empty(0, dtype=np.int64), *chunks])


@dataclass(frozen=True, eq=False)
class Keys(Sequence[GroupKey]):
    """The keys of the groups of a slice.

    Args:
        axes: the parts on each axis.
        codes: int64 [groups, axes], the part of each group there.
        has_rest: whether there is one more group, `REST`, after these.
    """

    axes: tuple[Parts, ...]
    codes: Integers
    has_rest: bool = False

    @classmethod
    def none(cls) -> Keys:
        """No keys."""
        return cls((), np.empty((0, 0), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.codes) + self.has_rest

    @overload
    def __getitem__(self, group: int) -> GroupKey: ...
    @overload
    def __getitem__(self, group: slice) -> Sequence[GroupKey]: ...
    def __getitem__(self, group: int | slice) -> GroupKey | Sequence[GroupKey]:
        return self._tuples[group]

    def __iter__(self) -> Iterator[GroupKey]:
        return iter(self._tuples)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._tuples == tuple(other)

    def __hash__(self) -> int:
        return hash(self._tuples)

    @cached_property
    def _tuples(self) -> tuple[GroupKey, ...]:
        columns = zip(map(list, self.axes), self.codes.T.tolist(), strict=True)
        by_axis = [[parts[code] for code in column] for parts, column in columns]
        keys = zip(*by_axis, strict=True) if by_axis else [()] * len(self.codes)
        return (*keys, REST) if self.has_rest else tuple(keys)

    def compact(self) -> Keys:
        """The same keys, without most parts that no group has: a file may have far more values than a batch of it."""
        axes, columns = list(self.axes), list(self.codes.T)
        for number, (parts, codes) in enumerate(zip(self.axes, self.codes.T, strict=True)):
            if len(parts) > _MOST_PARTS * max(len(codes), 1):
                found, columns[number] = np.unique(codes, return_inverse=True)
                axes[number] = parts.taken(found)
        return self if axes == list(self.axes) else replace(self, axes=tuple(axes), codes=np.stack(columns, axis=1))

    @property
    def order(self) -> Integers:
        """The groups in the order of the report, int64 [groups]."""
        ranks = [axis.order[column] for axis, column in zip(self.axes, self.codes.T, strict=True)]
        found = np.lexsort(ranks[::-1]) if ranks else np.arange(len(self.codes))
        return np.append(found, len(self.codes)) if self.has_rest else found

    @classmethod
    def united(cls, every: Sequence[Keys]) -> tuple[Keys, list[Integers]]:
        """Return the keys that are in any of one or more, and the group of each one's groups among them."""
        known = [one for one in every if len(one.codes)]
        found, places = cls._joined(known) if known else (every[0], [])
        if any(one.has_rest for one in every):
            found = cls(found.axes, found.codes, has_rest=True)
        at, rest = iter(places), [len(found) - 1]
        own = [next(at) if len(one.codes) else np.empty(0, dtype=np.int64) for one in every]
        return found, [np.append(one, rest) if keys.has_rest else one for one, keys in zip(own, every, strict=True)]

    @classmethod
    def _joined(cls, every: Sequence[Keys]) -> tuple[Keys, list[Integers]]:
        united = [Parts.united(parts) for parts in zip(*(one.axes for one in every), strict=True)]
        axes = tuple(parts for parts, _ in united)
        moved = [
            [places[number][column] for (_, places), column in zip(united, one.codes.T, strict=True)]
            for number, one in enumerate(every)
        ]
        if all(_same(one, moved[0]) for one in moved):
            return cls(axes, every[0].codes), [np.arange(len(every[0].codes))] * len(every)
        codes = [np.concatenate(columns) for columns in zip(*moved, strict=True)]
        members, places = numbered(codes, [len(axis) for axis in axes])
        return cls(axes, members), np.split(places, np.cumsum([len(one.codes) for one in every[:-1]]))


def _same(one: Sequence[Integers], other: Sequence[Integers]) -> bool:
    return all(np.array_equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))
