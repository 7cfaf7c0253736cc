"""Keys: what makes a row of one dataset the partner of a row of another.

The same value gives the same key whatever its storage: integers of any width, text in any Arrow string type or
dictionary, timestamps of any unit, decimals of any scale. Kinds are never mixed, and floats are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from lossops.data.columns import whole_column
from lossops.errors import InputError
from lossops.kernels.hashing import combine_keys, hash_bytes, hash_keys

__all__ = [
    "NO_NUMBER",
    "NO_TEXT",
    "key_ranks",
    "key_values",
    "Keys",
    "Order",
    "check_key_types",
    "check_order_type",
    "could_be_equal",
    "is_one_number",
    "is_ordered",
    "ordered_values",
    "read_keys",
    "read_order",
]

_DECIMAL = pa.decimal256(76, 38)
_TICKS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


@dataclass(frozen=True)
class Keys:
    """The keys of some rows: uint64 ``high`` and ``low``, and a mask of rows with a null in the key; all [rows]."""

    high: npt.NDArray[np.uint64]
    low: npt.NDArray[np.uint64]
    null: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.high)

    def same(self, other: Keys) -> bool:
        """Whether both hold the same keys in the same order, nulls at the same places."""
        if not (len(self) == len(other) and np.array_equal(self.null, other.null)):
            return False
        if self.null.any():
            known = ~self.null
            return np.array_equal(self.high[known], other.high[known]) and np.array_equal(
                self.low[known], other.low[known]
            )
        return np.array_equal(self.high, other.high) and np.array_equal(self.low, other.low)

    @classmethod
    def concatenate(cls, parts: Sequence[Keys]) -> Keys:
        """The keys of all parts, in order."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("high", "low", "null")))

    def take(self, rows: npt.NDArray[Any]) -> Keys:
        """The keys of some rows, by their places or a mask."""
        return Keys(self.high[rows], self.low[rows], self.null[rows])

    def hashes(self) -> npt.NDArray[np.uint64]:
        """A 64-bit hash of each key, uint64 [rows]; one to one for keys of one integer."""
        found = np.empty(len(self), dtype=np.uint64)
        hash_keys(self.high, self.low, found)
        return found


# uint64 [rows] that compare as the values do, and whether there is a value, bool [rows].
Order = tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]
_SIGN = np.uint64(1 << 63)
NO_NUMBER, NO_TEXT = -(2**63), "\0"  # what `key_values` puts for a null


def _kind(kind: pa.DataType) -> str | None:
    """Return the kind of key a type makes, or None if it makes none; only keys of one kind can be equal."""
    if types.is_dictionary(kind):
        return _kind(kind.value_type)
    if types.is_timestamp(kind):
        return "timestamp with a time zone" if kind.tz else "timestamp without a time zone"
    tests = {
        "integer": (types.is_integer, types.is_boolean),
        "text": (types.is_string, types.is_large_string, types.is_string_view),
        "binary": (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary),
        "date": (types.is_date,),
        "decimal": (types.is_decimal,),
    }
    return next((name for name, group in tests.items() if any(test(kind) for test in group)), None)


def could_be_equal(left: pa.DataType, right: pa.DataType) -> bool:
    """Whether columns of these types can be keys whose values are equal."""
    return _kind(left) is not None and _kind(left) == _kind(right)


def check_key_types(column: str, left: tuple[str, pa.DataType], right: tuple[str, pa.DataType]) -> None:
    """Check that a key column can be compared between two datasets, each given as (location, type).

    Raises:
        InputError: a type cannot be a key, or the kinds differ.
    """
    for location, kind in (left, right):
        if types.is_floating(kind):
            raise InputError(f"key: {column!r} is {kind} in {location}; floats are no keys: their last bits differ")
        if _kind(kind) is None:
            allowed = "integer, text, binary, boolean, date, timestamp, decimal"
            raise InputError(f"key: {column!r} is {kind} in {location}; allowed: {allowed}")
        if types.is_decimal(kind) and max(kind.scale, kind.precision - kind.scale) > _DECIMAL.scale:
            digits = f"at most {_DECIMAL.scale} digits on each side of the point"
            raise InputError(f"key: {column!r} is {kind} in {location}; allowed: {digits}")
    if _kind(left[1]) != _kind(right[1]):
        raise InputError(
            f"key: {column!r} is {left[1]} in {left[0]} and {right[1]} in {right[0]}; allowed: one kind on both sides"
        )


def check_order_type(column: str, location: str, kind: pa.DataType) -> None:
    """Check that a column can choose among rows of one key.

    Raises:
        InputError: its values have no order that rows could be chosen by.
    """
    tests = (types.is_integer, types.is_boolean, types.is_floating, types.is_date, types.is_timestamp)
    if not any(test(kind) for test in tests):
        raise InputError(
            f"order_by: {column!r} is {kind} in {location}; allowed: integer, float, boolean, date, timestamp"
        )


def read_order(column: pa.ChunkedArray) -> Order:
    """Return a column as numbers that compare as its values do, and where it has a value; NaN is none."""
    whole = whole_column(column)
    known = ~whole.is_null().to_numpy(zero_copy_only=False)
    kind = whole.type
    if types.is_floating(kind):
        floats = whole.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False) + 0.0  # -0.0 is 0.0
        known &= ~np.isnan(floats)
        bits = floats.view(np.uint64)
        return np.where(bits >= _SIGN, ~bits, bits | _SIGN), known
    if types.is_uint64(kind):
        return whole.fill_null(0).to_numpy(zero_copy_only=False), known
    if types.is_date32(kind):
        whole = whole.cast(pa.int32())
    elif types.is_boolean(kind):
        whole = whole.cast(pa.uint8())
    numbers = whole.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    return numbers.view(np.uint64) ^ _SIGN, known


def key_values(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Return a key column as values to show: int64, uint64, or text; a null is the least number or a zero character."""
    whole = whole_column(column)
    if types.is_dictionary(whole.type):
        whole = whole.dictionary_decode()
    if types.is_uint64(whole.type):
        unsigned: npt.NDArray[Any] = whole.fill_null(0).to_numpy(zero_copy_only=False)
        return unsigned
    if types.is_integer(whole.type) or types.is_boolean(whole.type):
        plain = whole.cast(pa.uint8()) if types.is_boolean(whole.type) else whole
        signed: npt.NDArray[Any] = plain.cast(pa.int64()).fill_null(NO_NUMBER).to_numpy(zero_copy_only=False)
        return signed
    if _kind(whole.type) == "binary":
        texts = [NO_TEXT if value is None else value.hex() for value in whole.to_pylist()]
    else:
        texts = whole.cast(pa.string()).fill_null(NO_TEXT).to_pylist()
    return np.array(texts, dtype=np.str_) if texts else np.empty(0, dtype="U1")


def key_ranks(columns: Sequence[pa.ChunkedArray]) -> npt.NDArray[np.int64]:
    """Return int64 [rows] that increase with the keys as `key_values` shows them."""
    values = [key_values(column) for column in columns]
    ranks = np.empty(len(values[0]), dtype=np.int64)
    ranks[np.lexsort(tuple(reversed(values)))] = np.arange(len(ranks))
    return ranks


def is_one_number(kinds: Sequence[pa.DataType]) -> bool:
    """Whether `Keys.low` is 0 for all keys of these columns, because a signed number holds them."""
    if len(kinds) > 1:
        return False
    kind = kinds[0].value_type if types.is_dictionary(kinds[0]) else kinds[0]
    small = types.is_integer(kind) and not types.is_uint64(kind)
    return bool(small or types.is_date(kind) or types.is_boolean(kind))


def is_ordered(kinds: Sequence[pa.DataType]) -> bool:
    """Whether keys of these columns compare as numbers, so that ascending order proves them distinct."""
    return len(kinds) == 1 and types.is_signed_integer(kinds[0])


def ordered_values(columns: Sequence[pa.ChunkedArray]) -> npt.NDArray[np.int64] | None:
    """Return keys that are one signed integer without nulls as int64 [rows]; None where they are not."""
    if not is_ordered([column.type for column in columns]) or columns[0].null_count:
        return None
    values: npt.NDArray[np.int64] = whole_column(columns[0]).to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    return values


def read_keys(columns: Sequence[pa.ChunkedArray]) -> Keys:
    """Return the keys of rows from the key columns, in order."""
    first, *others = [_column_keys(whole_column(column)) for column in columns]
    null = first.null
    if others:  # columns are hashed together one by one, in copies
        high, low = first.high.copy(), first.low.copy()
        for other in others:
            combine_keys(high, low, other.high, other.low)
            null = null | other.null
        return Keys(high, low, null)
    return first


def _column_keys(column: pa.Array) -> Keys:
    if types.is_dictionary(column.type):
        return _dictionary_keys(column)
    null = column.is_null().to_numpy(zero_copy_only=False)
    kind = column.type
    if types.is_integer(kind) or types.is_boolean(kind) or types.is_date(kind):
        return _integer_keys(column, null)
    if types.is_timestamp(kind):
        ticks = column.cast(pa.int64()).fill_null(0).to_numpy()
        seconds, rest = np.divmod(ticks, _TICKS[kind.unit])
        nanoseconds = rest * (1_000_000_000 // _TICKS[kind.unit])
        return Keys(seconds.view(np.uint64), nanoseconds.view(np.uint64), null)
    if types.is_decimal(kind):
        column = column.cast(_DECIMAL)
        column = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(32), len(column), column.buffers(), offset=column.offset
        )
    return _byte_keys(column, null)


def _dictionary_keys(column: pa.DictionaryArray) -> Keys:
    null = column.is_null().to_numpy(zero_copy_only=False)
    codes, dictionary = column.indices.fill_null(0).to_numpy(zero_copy_only=False), column.dictionary
    if len(dictionary) > len(codes):  # as where it is that of a whole file
        used, codes = np.unique(codes, return_inverse=True)
        dictionary = dictionary.take(pa.array(used))
    values = _column_keys(dictionary)
    if len(values) == 0:
        zeros = np.zeros(len(codes), dtype=np.uint64)
        return Keys(zeros, zeros.copy(), null)
    return Keys(values.high[codes], values.low[codes], null | values.null[codes])


def _integer_keys(column: pa.Array, null: npt.NDArray[np.bool_]) -> Keys:
    low = np.zeros(len(column), dtype=np.uint64)
    if types.is_date32(column.type):
        column = column.cast(pa.int32())
    elif types.is_date64(column.type):
        column = column.cast(pa.date32()).cast(pa.int32())
    elif types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    values = (column.fill_null(0) if column.null_count else column).to_numpy(zero_copy_only=False)
    if values.dtype == np.uint64:
        low[values > np.uint64(2**63 - 1)] = 1  # apart from the negative numbers of the same bits
        return Keys(values, low, null)
    return Keys(values.astype(np.int64).view(np.uint64), low, null)


def _byte_keys(column: pa.Array, null: npt.NDArray[np.bool_]) -> Keys:
    column = pc.cast(column, pa.large_binary())
    _, offsets, data = column.buffers()
    starts = np.frombuffer(offsets, dtype=np.int64, count=len(column) + 1, offset=8 * column.offset)
    content = np.frombuffer(data, dtype=np.uint8) if data is not None and data.size else np.zeros(1, dtype=np.uint8)
    high, low = np.empty(len(column), dtype=np.uint64), np.empty(len(column), dtype=np.uint64)
    hash_bytes(content, starts, high, low)
    return Keys(high, low, null)
