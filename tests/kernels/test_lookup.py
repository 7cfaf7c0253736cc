"""Tables from key to row against a dictionary."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossops.kernels.hashing import ABSENT, index_size, slot_hash
from lossops.kernels.lookup import (
    COUNTS,
    DUPLICATE,
    NO_KEY,
    classify,
    enter_dense,
    enter_hashed,
    find_dense,
    find_hashed,
    gather,
    mark_asked,
)

Keys = list[tuple[int, int, bool]]  # key, order value, whether there is one
_NONE = np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.uint8)


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


@given(drawn, st.sampled_from([-1, 0, 1]), st.sampled_from([1, 2, 4]))
def test_both_tables_find_the_row_that_counts(keys: Keys, sign: int, parts: int) -> None:
    numbers = np.array([one[0] for one in keys], dtype=np.int64)
    order = np.array([one[1] for one in keys], dtype=np.uint64), np.array([one[2] for one in keys], dtype=np.uint8)
    skip, rows = np.empty(0, dtype=np.bool_), np.empty(len(keys), dtype=np.int64)

    marks, slots = np.zeros(len(keys), dtype=np.uint8), np.full(13, ABSENT, dtype=np.int32)
    for start in range(0, 13, 5):  # as several threads do
        enter_dense(numbers, *order, sign, -6, start, min(start + 5, 13), slots, marks)
    find_dense(numbers, _NONE[0], skip, -6, slots, rows)
    check(keys, sign, rows, marks)

    high, table = numbers.view(np.uint64), np.zeros(4 * index_size(len(keys)), dtype=np.uint32)
    marks = np.zeros(len(keys), dtype=np.uint8)
    for part in range(parts):
        assert enter_hashed(high, _NONE[0], *order, sign, part, parts, table, marks)
    find_hashed(high, _NONE[0], skip, high, _NONE[0], parts, table, rows)
    check(keys, sign, rows, marks)


@pytest.mark.parametrize("parts", [1, 8])
def test_many_keys_of_two_words(parts: int) -> None:
    """Keys that share a half, nulls, and keys that nobody has."""
    random = np.random.default_rng(3)
    count = 50_000
    high, low = random.permutation(count).astype(np.uint64) // 7, random.integers(0, 2**64, count, dtype=np.uint64)
    marks = np.where(random.random(count) < 0.01, np.uint8(NO_KEY), np.uint8(COUNTS))
    slots = np.zeros(index_size(count), dtype=np.uint32)
    for part in range(parts):
        assert enter_hashed(high, low, *_NONE, 0, part, parts, slots, marks)
    asked = random.integers(0, count, 20_000)
    wanted_low = low[asked] ^ (asked % 5 == 0).astype(np.uint64)
    skip, rows = asked % 11 == 0, np.empty(len(asked), dtype=np.int64)
    find_hashed(high[asked], wanted_low, skip, high, low, parts, slots, rows)
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
    assert not enter_hashed(mine, _NONE[0], *_NONE, 0, 3, 8, slots, marks)
    assert enter_hashed(mine, _NONE[0], *_NONE, 0, 0, 1, np.zeros(256, dtype=np.uint32), marks)
    assert not marks.any()


def test_numbers_outside_of_a_dense_table() -> None:
    slots = np.array([7, ABSENT, 8], dtype=np.int32)
    asked = np.array([-(2**63), 9, 10, 11, 12, 13, 2**63 - 1, 10])
    low = np.array([0, 0, 0, 0, 0, 0, 0, 1], dtype=np.uint64)
    rows = np.empty(len(asked), dtype=np.int64)
    find_dense(asked, low, np.empty(0, dtype=np.bool_), 10, slots, rows)
    assert rows.tolist() == [ABSENT, ABSENT, 7, ABSENT, 8, ABSENT, ABSENT, ABSENT]


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


def test_records_are_copied() -> None:
    records = np.arange(30, dtype=np.uint64).reshape(10, 3)
    rows, found = np.array([9, 0, 0, 4]), np.empty((4, 3), dtype=np.uint64)
    gather(records, rows, found)
    assert found.tolist() == records[rows].tolist()
