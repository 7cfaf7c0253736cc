"""Tables from key to row against a dictionary."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossops.kernels.hashing import ABSENT, index_size, slot_hash
from lossops.kernels.lookup import (
    COUNTS,
    DUPLICATE,
    EMPTY,
    NO_KEY,
    OUTSIDE,
    classify,
    enter_hashed,
    find_hashed,
    find_placed,
    mark_asked,
    place_records,
)

Keys = list[tuple[int, int, bool]]  # key, order value, whether there is one
_NONE = np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.uint8)
_NOWHERE = np.empty(0, dtype=np.bool_)


def expected(keys: Keys, sign: int) -> dict[int, int | None]:
    """Return for each key the row that counts, or None."""
    rows = defaultdict(list)
    for row, (key, _, _) in enumerate(keys):
        rows[key].append(row)
    found: dict[int, int | None] = {}
    for key, own in rows.items():
        values = {row: sign * keys[row][1] for row in own if keys[row][2]}
        best = [row for row, value in values.items() if value == max(values.values())]
        found[key] = own[0] if len(own) == 1 else best[0] if sign and len(best) == 1 else None
    return found


def check(keys: Keys, sign: int, rows: npt.NDArray[np.int64], marks: npt.NDArray[np.uint8]) -> None:
    for key, row, wanted in zip((one[0] for one in keys), rows.tolist(), range(len(keys)), strict=True):
        counts = expected(keys, sign)[key]
        assert keys[row][0] == key
        assert (row if marks[row] == COUNTS else None) == counts
        assert (marks[wanted] == COUNTS) == (counts == wanted)


drawn = st.lists(st.tuples(st.integers(-6, 6), st.integers(0, 3), st.booleans()), min_size=1, max_size=40)


def behind(high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64] | None = None) -> npt.NDArray[np.uint64]:
    """Return records of one word, the number of the row, behind keys."""
    words = [high] if low is None else [high, low]
    return np.stack([*words, np.arange(len(high), dtype=np.uint64)], axis=1)


@given(drawn, st.sampled_from([-1, 0, 1]), st.sampled_from([1, 2, 4]))
def test_a_table_finds_the_row_that_counts(keys: Keys, sign: int, parts: int) -> None:
    numbers = np.array([one[0] for one in keys], dtype=np.int64)
    order = np.array([one[1] for one in keys], dtype=np.uint64), np.array([one[2] for one in keys], dtype=np.uint8)
    rows, found = np.empty(len(keys), dtype=np.int64), np.empty((len(keys), 1), dtype=np.uint64)
    high, table = numbers.view(np.uint64), np.zeros(4 * index_size(len(keys)), dtype=np.uint32)
    records, marks = behind(high), np.zeros(len(keys), dtype=np.uint8)
    for part in range(parts):
        assert enter_hashed(records, 1, *order, sign, part, parts, table, marks)
    find_hashed(high, _NONE[0], _NOWHERE, records, 1, parts, table, rows, found)
    check(keys, sign, rows, marks)
    assert found[:, 0].tolist() == rows.tolist()


@given(
    st.lists(st.integers(-6, 6), max_size=20),
    st.lists(st.booleans(), min_size=20, max_size=20),
    st.integers(0, 20),
    st.lists(st.integers(-9, 9), max_size=20),
)
def test_records_lie_where_their_key_says(given_keys: list[int], null: list[bool], cut: int, asked: list[int]) -> None:
    keys, skip = np.array(given_keys, dtype=np.int64), np.array(null[: len(given_keys)], dtype=np.bool_)
    come = np.stack([np.arange(len(keys), dtype=np.uint64), np.arange(len(keys), dtype=np.uint64) ** 2], axis=1)
    records, marks = np.full((13, 2), 99, dtype=np.uint64), np.full(13, EMPTY, dtype=np.uint8)
    nulls = 0
    for part in (slice(0, cut), slice(cut, None)):
        nulls += place_records(come[part], keys[part], _NONE[0], skip[part], -6, records, marks)
    assert nulls == int(skip.sum())
    rows = {key: [i for i, one in enumerate(keys.tolist()) if one == key and not skip[i]] for key in range(-9, 10)}
    for key in range(-6, 7):
        mark = EMPTY if not rows[key] else COUNTS if len(rows[key]) == 1 else DUPLICATE
        assert marks[key + 6] == mark
        if mark == COUNTS:
            assert records[key + 6].tolist() == come[rows[key][0]].tolist()

    numbers = np.array(asked, dtype=np.int64)
    places, found = np.empty(len(asked), dtype=np.int64), np.empty((len(asked), 2), dtype=np.uint64)
    find_placed(numbers, _NONE[0], _NOWHERE, -6, records, marks, places, found)
    assert places.tolist() == [key + 6 if rows[key] else ABSENT for key in asked]
    for key, record in zip(asked, found.tolist(), strict=True):
        assert len(rows[key]) != 1 or record == come[rows[key][0]].tolist()


def test_many_threads_place_records_at_a_time() -> None:
    """Whatever comes first, what counts is the same, and so is its record."""
    random = np.random.default_rng(11)
    keys = np.concatenate([random.permutation(100_000), random.integers(0, 100_000, 20_000), np.full(500, 77)])
    random.shuffle(keys)
    come = keys.astype(np.uint64).reshape(-1, 1) * np.ones(3, dtype=np.uint64)
    records, marks = np.empty((100_000, 3), dtype=np.uint64), np.full(100_000, EMPTY, dtype=np.uint8)
    cuts = np.linspace(0, len(keys), 60).astype(int)

    def place(start: int, stop: int) -> int:
        return place_records(come[start:stop], keys[start:stop], _NONE[0], _NOWHERE, 0, records, marks)

    with ThreadPoolExecutor(8) as threads:
        assert not any(threads.map(place, cuts[:-1], cuts[1:]))
    counts = np.bincount(keys, minlength=100_000)
    assert np.array_equal(marks == DUPLICATE, counts > 1)
    assert np.array_equal(marks == COUNTS, counts == 1)
    assert np.array_equal(records, np.arange(100_000, dtype=np.uint64).reshape(-1, 1) * np.ones(3, dtype=np.uint64))


@pytest.mark.parametrize("parts", [1, 8])
def test_many_keys_of_two_words(parts: int) -> None:
    """Keys that share a half, nulls, and keys that nobody has."""
    random = np.random.default_rng(3)
    count = 50_000
    high, low = random.permutation(count).astype(np.uint64) // 7, random.integers(0, 2**64, count, dtype=np.uint64)
    marks = np.where(random.random(count) < 0.01, np.uint8(NO_KEY), np.uint8(COUNTS))
    slots = np.zeros(index_size(count), dtype=np.uint32)
    records = behind(high, low)
    for part in range(parts):
        assert enter_hashed(records, 2, *_NONE, 0, part, parts, slots, marks)
    asked = random.integers(0, count, 20_000)
    wanted_low = low[asked] ^ (asked % 5 == 0).astype(np.uint64)
    skip, rows = asked % 11 == 0, np.empty(len(asked), dtype=np.int64)
    found = np.empty((len(asked), 1), dtype=np.uint64)
    find_hashed(high[asked], wanted_low, skip, records, 2, parts, slots, rows, found)
    assert np.array_equal(found[rows >= 0, 0], rows[rows >= 0].astype(np.uint64))
    known = {(h, k): i for i, (h, k) in enumerate(zip(high.tolist(), low.tolist(), strict=True)) if marks[i] != NO_KEY}
    pairs = zip(high[asked].tolist(), wanted_low.tolist(), skip.tolist(), strict=True)
    assert rows.tolist() == [ABSENT - 1 if null else known.get((h, k), ABSENT) for h, k, null in pairs]

    kept = np.empty(len(rows), dtype=np.bool_)
    absent = int(np.count_nonzero(rows == ABSENT))
    assert classify(rows, _NONE[1], kept) == (int(skip.sum()), absent, 0)
    assert kept.tolist() == (rows >= 0).tolist()


def test_a_region_that_is_full_says_so() -> None:
    """Keys that all fall to one of eight parts."""
    numbers = np.arange(1 << 14, dtype=np.uint64)
    with np.errstate(over="ignore"):
        parts = [int(slot_hash(number, np.uint64(0)) >> np.uint64(32)) & 7 for number in numbers]
    mine = numbers[np.array(parts) == 3][:100]
    slots, marks = np.zeros(256, dtype=np.uint32), np.zeros(100, dtype=np.uint8)
    assert not enter_hashed(behind(mine), 1, *_NONE, 0, 3, 8, slots, marks)
    assert enter_hashed(behind(mine), 1, *_NONE, 0, 0, 1, np.zeros(256, dtype=np.uint32), marks)
    assert not marks.any()


def test_numbers_that_have_no_place() -> None:
    """Also those that are too large for a signed number."""
    records, marks = np.array([[7], [0], [8]], dtype=np.uint64), np.array([COUNTS, EMPTY, COUNTS], dtype=np.uint8)
    asked = np.array([-(2**63), 9, 10, 11, 12, 13, 2**63 - 1, 10])
    low = np.array([0, 0, 0, 0, 0, 0, 0, 1], dtype=np.uint64)
    rows, found = np.empty(len(asked), dtype=np.int64), np.zeros((len(asked), 1), dtype=np.uint64)
    find_placed(asked, low, _NOWHERE, 10, records, marks, rows, found)
    assert rows.tolist() == [ABSENT, ABSENT, 0, ABSENT, 2, ABSENT, ABSENT, ABSENT]
    assert found[:, 0].tolist() == [0, 0, 7, 0, 8, 0, 0, 0]
    for key, high_bit in ((9, 0), (13, 0), (-(2**63), 0), (2**63 - 1, 0), (11, 1)):
        given = np.array([11, key]), np.array([0, high_bit], dtype=np.uint64), _NOWHERE
        assert place_records(np.zeros((2, 1), dtype=np.uint64), *given, 10, records, marks.copy()) == OUTSIDE


def test_rows_that_do_not_count_are_told_apart() -> None:
    rows, kept = np.array([0, 1, ABSENT, ABSENT - 1, 2]), np.empty(5, dtype=np.bool_)
    marks = np.array([COUNTS, DUPLICATE, COUNTS], dtype=np.uint8)
    assert classify(rows, marks, kept) == (1, 1, 1)
    assert kept.tolist() == [True, False, False, False, True]


@given(st.lists(st.integers(-2, 30), max_size=60))
def test_asked_for_once_and_twice(rows: list[int]) -> None:
    once, twice = np.zeros(4, dtype=np.uint8), np.zeros(4, dtype=np.uint8)
    mark_asked(np.array(rows, dtype=np.int64), once, twice)
    counts = np.bincount([row for row in rows if row >= 0], minlength=32)
    assert np.unpackbits(once).tolist() == (counts > 0).tolist()
    assert np.unpackbits(twice).tolist() == (counts > 1).tolist()
