"""Fingerprints against the mmh3 package, and the index against a dictionary."""

from __future__ import annotations

import itertools

import mmh3
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossops.kernels.hashing import (
    ABSENT,
    combine_keys,
    find_keys,
    group_keys,
    hash_bytes,
    index_size,
    strictly_increasing,
)

Words = npt.NDArray[np.uint64]


def _hashes(rows: list[bytes]) -> list[tuple[int, int]]:
    data = np.frombuffer(b"".join(rows) or b"\0", dtype=np.uint8)
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    high, low = np.empty(len(rows), dtype=np.uint64), np.empty(len(rows), dtype=np.uint64)
    hash_bytes(data, offsets, high, low)
    return list(zip(high.tolist(), low.tolist(), strict=True))


def _reference(row: bytes) -> tuple[int, int]:
    high, low = mmh3.hash64(row, seed=0, x64arch=True, signed=False)
    return high, low


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=20))
def test_hash_is_murmurhash3(rows: list[bytes]) -> None:
    """Random bytes next to each other in one buffer."""
    assert _hashes(rows) == [_reference(row) for row in rows]


@pytest.mark.parametrize("length", range(41))
def test_hash_of_every_length_and_of_bytes_with_the_high_bit(length: int) -> None:
    """Every tail of a 16-byte block, with bytes that would be negative if they were signed."""
    rows = [bytes([255 - k for k in range(length)]), bytes(length), b"\xff" * length]
    assert _hashes(rows) == [_reference(row) for row in rows]


def test_combining_is_the_hash_of_both_keys() -> None:
    """Two 128-bit keys are hashed as the 32 bytes that they are."""
    random = np.random.default_rng(0)
    parts = [random.integers(0, 2**64, size=20, dtype=np.uint64) for _ in range(4)]
    expected = [
        _reference(b"".join(int(word).to_bytes(8, "little") for word in row)) for row in zip(*parts, strict=True)
    ]
    combine_keys(*parts)
    assert list(zip(parts[0].tolist(), parts[1].tolist(), strict=True)) == expected


def _index(high: Words, low: Words, skip: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    slots = np.full(index_size(len(high)), ABSENT, dtype=np.int32)
    first = np.empty(len(high), dtype=np.int64)
    different = group_keys(high, low, skip, slots, first)
    rows = np.bincount(first[first != ABSENT], minlength=len(high))
    assert different == np.count_nonzero(rows)
    return slots, np.where(first == ABSENT, False, rows[first] > 1)


_KEYS = st.lists(
    st.tuples(st.sampled_from([0, 1, 2, 7, 2**63, 2**64 - 1]), st.sampled_from([0, 1, 2**64 - 1]), st.booleans()),
    max_size=60,
)


def _arrays(keys: list[tuple[int, int, bool]]) -> tuple[Words, Words, npt.NDArray[np.bool_]]:
    high, low, skip = ([key[place] for key in keys] for place in range(3))
    return np.array(high, dtype=np.uint64), np.array(low, dtype=np.uint64), np.array(skip, dtype=np.bool_)


@given(_KEYS, _KEYS)
def test_index_and_lookup_equal_a_dictionary(
    indexed: list[tuple[int, int, bool]], asked: list[tuple[int, int, bool]]
) -> None:
    """First row of each key, every row of a repeated key marked, rows without a key neither entered nor found."""
    first: dict[tuple[int, int], int] = {}
    times: dict[tuple[int, int], int] = {}
    for row, (high, low, skip) in enumerate(indexed):
        if not skip:
            first.setdefault((high, low), row)
            times[high, low] = times.get((high, low), 0) + 1
    arrays, wanted = _arrays(indexed), _arrays(asked)
    slots, duplicate = _index(*arrays)
    assert duplicate.tolist() == [not skip and times[high, low] > 1 for high, low, skip in indexed]
    rows = np.empty(len(asked), dtype=np.int64)
    find_keys(*wanted, arrays[0], arrays[1], slots, rows)
    assert rows.tolist() == [ABSENT if skip else first.get((high, low), ABSENT) for high, low, skip in asked]


def test_many_keys() -> None:
    """A hundred thousand consecutive and a hundred thousand far keys are all found again, and no other."""
    high = np.concatenate([np.arange(100_000), np.arange(100_000) * 2**40 + 7]).astype(np.uint64)
    low, skip = np.zeros_like(high), np.zeros(len(high), dtype=np.bool_)
    slots, duplicate = _index(high, low, skip)
    rows = np.empty(len(high), dtype=np.int64)
    find_keys(high, low, skip, high, low, slots, rows)
    expected = {int(key): row for row, key in reversed(list(enumerate(high)))}
    assert rows.tolist() == [expected[int(key)] for key in high]
    assert duplicate.sum() == 2 * (len(high) - len(expected))
    find_keys(high + np.uint64(2**63), low, skip, high, low, slots, rows)
    assert set(rows.tolist()) == {ABSENT}


@pytest.mark.parametrize("rows", [0, 1, 2, 10, 11, 1000, 2**20])
def test_index_leaves_room(rows: int) -> None:
    """A power of two with free slots, so that a lookup always ends."""
    size = index_size(rows)
    assert size & (size - 1) == 0
    assert size >= 1.5 * rows
    assert size > rows


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5))
def test_strictly_increasing(values: list[int]) -> None:
    """Against the definition; sorted input is drawn half of the time by sorting."""
    for candidate in (values, sorted(values), sorted(set(values))):
        expected = all(low < high for low, high in itertools.pairwise(candidate))
        assert strictly_increasing(np.array(candidate, dtype=np.int64)) is expected
