"""Keys: the same value gives the same key whatever its storage, and different values different keys."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossops.data.keys import Keys, check_key_types, is_ordered, read_keys
from lossops.errors import InputError

_INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
_TEXTS = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
_BINARIES = [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(3), pa.dictionary(pa.int8(), pa.binary())]
_DECIMALS = [pa.decimal128(9, 2), pa.decimal128(38, 10), pa.decimal256(50, 5), pa.decimal32(7, 2), pa.decimal64(12, 3)]


def _read(*columns: pa.Array | pa.ChunkedArray) -> Keys:
    return read_keys(
        [column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column]) for column in columns]
    )


def _pairs(keys: Keys) -> list[tuple[int, int] | None]:
    """The keys as Python numbers, None where null."""
    rows = zip(keys.high.tolist(), keys.low.tolist(), keys.null.tolist(), strict=True)
    return [None if null else (high, low) for high, low, null in rows]


def _same_for_all_types(values: list[Any], kinds: list[pa.DataType]) -> list[tuple[int, int] | None]:
    """Assert that the values give the same keys in every type, also in slices, chunks and beside nulls."""
    expected = _pairs(_read(pa.array(values, kinds[0])))
    for kind in kinds:
        plain = pa.array(values, kind)
        assert _pairs(_read(plain)) == expected, kind
        padded = pa.array([values[-1], None, *values, values[0]], kind)
        assert _pairs(_read(padded.slice(2, len(values)))) == expected, kind
        assert _pairs(_read(padded)) == [expected[-1], None, *expected, expected[0]], kind
        assert _pairs(_read(pa.chunked_array([plain.slice(0, 1), plain.slice(1)]))) == expected, kind
        assert _read(plain).same(_read(pa.array(values, kinds[0])))
    assert len(set(expected)) == len(set(values))
    return expected


def test_integers_of_every_width() -> None:
    """Small numbers in eight types, bool among them as 0 and 1."""
    expected = _same_for_all_types([0, 1, 7, 127], _INTEGERS)
    assert _pairs(_read(pa.array([False, True]))) == expected[:2]
    assert _pairs(_read(pa.array([1, 0, None]).dictionary_encode())) == [expected[1], expected[0], None]


def test_negative_integers() -> None:
    """Signed types agree."""
    _same_for_all_types([-1, -128, 127, 0], _INTEGERS[:4])


def test_uint64_beyond_int64_is_not_a_negative_number() -> None:
    """2**64 - 1 and -1 have the same bits but are different keys."""
    large = _pairs(_read(pa.array([2**64 - 1, 2**63, 2**63 - 1], pa.uint64())))
    negative = _pairs(_read(pa.array([-1, -(2**63), 2**63 - 1], pa.int64())))
    assert large[2] == negative[2]
    assert set(large[:2]).isdisjoint(negative[:2])
    assert len(set(large)) == 3


def test_text_of_every_storage() -> None:
    """Empty, ASCII, accents, an emoji, a long one, one with a zero byte."""
    _same_for_all_types(
        ["", "a", "b", "é", "e\u0301", "🙂", "x" * 1000, "a\0", "twelve bytes", "thirteen byte"], _TEXTS
    )


def test_binary_of_every_storage() -> None:
    """Fixed-size ones as well; three bytes each."""
    _same_for_all_types([b"abc", b"\x00\x00\x00", b"\xff\xfe\xfd", b"ab\x00"], _BINARIES)


def test_dates() -> None:
    """Days and milliseconds, before and after 1970."""
    days = [dt.date(1970, 1, 1), dt.date(1969, 12, 31), dt.date(2026, 2, 28), dt.date(1, 1, 1)]
    expected = _same_for_all_types(days, [pa.date32(), pa.date64()])
    assert _pairs(_read(pa.array(days, pa.date32()).dictionary_encode())) == expected


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_timestamps_of_every_unit(zone: str | None) -> None:
    """Whole seconds before and after 1970 agree in all units; fractions agree where the unit can hold them."""
    seconds = [dt.datetime(1969, 12, 31, 23, 59, 58), dt.datetime(1970, 1, 1), dt.datetime(2026, 5, 6, 7, 8, 9)]
    _same_for_all_types(seconds, [pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns")])
    parts = [moment + dt.timedelta(microseconds=250) for moment in seconds]
    _same_for_all_types(parts, [pa.timestamp(unit, zone) for unit in ("us", "ns")])


def test_nanoseconds_are_told_apart() -> None:
    """One nanosecond makes another key."""
    keys = _pairs(_read(pa.array([0, 1, -1, 999_999_999, 10**9], pa.timestamp("ns"))))
    assert len(set(keys)) == 5


def test_decimals_of_every_scale() -> None:
    """1.50 is 1.5, in four widths."""
    values = [decimal.Decimal(text) for text in ("1.5", "-1.5", "0", "-0.01", "12345.67")]
    _same_for_all_types(values, _DECIMALS)


def test_decimals_too_wide_to_be_keys_are_refused_in_words() -> None:
    """A type whose values may not fit the common scale is refused before anything is read."""
    wide, plain = ("labels", pa.decimal256(76, 0)), ("predictions", pa.decimal128(10, 2))
    for sides in ((wide, plain), (plain, wide)):
        with pytest.raises(InputError, match="allowed: at most 38 digits on each side of the point"):
            check_key_types("k", *sides)


@pytest.mark.parametrize(
    "kind",
    [*_INTEGERS, *_TEXTS, *_BINARIES, *_DECIMALS, pa.date32(), pa.date64(), pa.timestamp("us"), pa.bool_()],
    ids=str,
)
def test_no_rows_and_only_nulls(kind: pa.DataType) -> None:
    """An empty shard has no keys; a column of nulls has none either."""
    assert _pairs(_read(pa.array([], kind))) == []
    assert _pairs(_read(pa.array([None, None], kind))) == [None, None]
    assert _pairs(_read(pa.chunked_array([], kind))) == []


def test_dictionaries_with_null_and_repeated_values() -> None:
    """Files do not promise that dictionary values are distinct or not null."""
    values = pa.array(["a", None, "b", "a"])
    column = pa.DictionaryArray.from_arrays(pa.array([3, 0, 1, 2, None], pa.int32()), values)
    expected = _pairs(_read(pa.array(["a", "a", None, "b", None])))
    assert _pairs(_read(column)) == expected
    assert _pairs(_read(column.slice(1, 3))) == expected[1:4]


def test_dictionaries_that_differ_by_chunk() -> None:
    """Each row group may bring its own dictionary."""
    chunks = [pa.array(["a", "b"]).dictionary_encode(), pa.array(["b", "c", None]).dictionary_encode()]
    assert _pairs(_read(pa.chunked_array(chunks))) == _pairs(_read(pa.array(["a", "b", "b", "c", None])))


def test_several_columns() -> None:
    """The order of columns matters, a null in any makes the row null, and borders between columns are seen."""
    numbers, texts = pa.array([1, 1, 2, None, 3]), pa.array(["a", "b", "a", "a", None])
    keys = _pairs(_read(numbers, texts))
    assert [key is None for key in keys] == [False, False, False, True, True]
    assert len(set(keys[:3])) == 3
    assert set(_pairs(_read(texts, numbers))[:3]).isdisjoint(keys[:3])
    narrow = numbers.cast(pa.int8()), texts.cast(pa.large_string()).dictionary_encode()
    assert _pairs(_read(*narrow)) == keys
    assert _pairs(_read(pa.array(["ab"]), pa.array(["c"]))) != _pairs(_read(pa.array(["a"]), pa.array(["bc"])))
    swapped = _pairs(_read(pa.array([1, 2]), pa.array([2, 1])))
    assert swapped[0] != swapped[1]


def test_reading_several_columns_leaves_the_data_alone() -> None:
    """Keys of one integer column may be the column's own memory: combining must not write into it."""
    numbers = pa.array([1, 2, 3], pa.int64())
    _read(numbers, pa.array([4, 5, 6]))
    assert numbers.to_pylist() == [1, 2, 3]


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.none(), max_size=20),
    st.lists(st.text(max_size=20) | st.none(), max_size=20),
)
def test_keys_are_equal_exactly_where_values_are(numbers: list[int | None], texts: list[str | None]) -> None:
    """For arbitrary integers and texts, against Python's own equality."""
    for values, kind in ((numbers, pa.int64()), (texts, pa.string())):
        keys = _pairs(_read(pa.array(values, kind)))
        for value, key in zip(values, keys, strict=True):
            assert [key == other for other in keys] == [value == other for other in values]


def test_same_compares_keys_nulls_and_length() -> None:
    """What verified position relies on."""
    keys = _read(pa.array([1, None, 3]))
    assert keys.same(_read(pa.array([1, None, 3], pa.int8())))
    assert not keys.same(_read(pa.array([1, 2, 3])))
    assert not keys.same(_read(pa.array([1, None, 4])))
    assert not keys.same(_read(pa.array([3, None, 1])))
    assert not keys.same(_read(pa.array([1, None])))
    assert not _read(pa.array([2**64 - 1], pa.uint64())).same(_read(pa.array([-1], pa.int64())))


def test_concatenated_parts_are_the_whole() -> None:
    """In order, nulls included."""
    parts = [_read(pa.array(["a", None])), _read(pa.array([], pa.string())), _read(pa.array(["b"]))]
    assert Keys.concatenate(parts).same(_read(pa.array(["a", None, "b"])))
    assert len(Keys.concatenate(parts)) == 3


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (pa.int8(), pa.uint64()),
        (pa.int32(), pa.bool_()),
        (pa.string(), pa.dictionary(pa.int8(), pa.large_string())),
        (pa.timestamp("s"), pa.timestamp("ns")),
        (pa.timestamp("s", "UTC"), pa.timestamp("ns", "Europe/Berlin")),
        (pa.decimal128(5, 2), pa.decimal256(39, 1)),
        (pa.date32(), pa.date64()),
        (pa.binary(), pa.binary(4)),
    ],
)
def test_types_of_one_kind_can_be_compared(left: pa.DataType, right: pa.DataType) -> None:
    """No error."""
    check_key_types("k", ("labels", left), ("predictions", right))


@pytest.mark.parametrize(
    ("left", "right", "parts"),
    [
        (pa.int64(), pa.string(), ["'k'", "int64", "string", "one kind"]),
        (pa.string(), pa.binary(), ["'k'", "string", "binary"]),
        (pa.timestamp("s"), pa.timestamp("s", "UTC"), ["'k'", "timestamp[s]", "tz=UTC"]),
        (pa.date32(), pa.timestamp("s"), ["'k'", "date32"]),
        (pa.float64(), pa.float64(), ["'k'", "double", "floats"]),
        (pa.float16(), pa.int8(), ["'k'", "halffloat", "floats"]),
        (pa.dictionary(pa.int8(), pa.float32()), pa.dictionary(pa.int8(), pa.float32()), ["'k'", "float", "allowed"]),
        (pa.list_(pa.int8()), pa.list_(pa.int8()), ["'k'", "list", "allowed"]),
        (pa.null(), pa.int64(), ["'k'", "null", "allowed"]),
    ],
)
def test_types_that_cannot_be_keys(left: pa.DataType, right: pa.DataType, parts: list[str]) -> None:
    """One line that names the column, both types and what is allowed."""
    with pytest.raises(InputError) as caught:
        check_key_types("k", ("labels", left), ("predictions", right))
    assert [part for part in parts if part not in str(caught.value)] == []
    assert "\n" not in str(caught.value)


def test_ascending_order_proves_distinct_keys_only_for_one_signed_integer() -> None:
    """uint64 beyond int64 would wrap."""
    assert is_ordered([pa.int32()])
    assert not is_ordered([pa.uint64()])
    assert not is_ordered([pa.int32(), pa.int32()])
    assert not is_ordered([pa.string()])


def test_one_integer_is_its_own_key() -> None:
    """Exactly, so that no two integers can collide."""
    values = np.array([0, 1, -1, 2**63 - 1, -(2**63)], dtype=np.int64)
    assert _read(pa.array(values)).high.view(np.int64).tolist() == values.tolist()
