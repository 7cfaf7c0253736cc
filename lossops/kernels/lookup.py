"""From a key to the record that has it: records that lie where their key says, or a table addressed by its hash.

A record is a row of uint64. Looking a key up copies its record at once: what is found is in the cache.

A table holds one row of each key. Rows of one key settle among themselves which of them that is, and which count as
duplicates, whatever the order in which they come; so several threads may each enter a part of the keys, or place
records as they come.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lossops.kernels.hashing import ABSENT, UNORDERED, slot_hash
from lossops.kernels.jit import inline, jit

__all__ = [
    "COUNTS",
    "DUPLICATE",
    "EMPTY",
    "NO_KEY",
    "OUTSIDE",
    "classify",
    "enter_hashed",
    "find_hashed",
    "find_placed",
    "mark_asked",
    "place_records",
]

COUNTS, DUPLICATE, NO_KEY, EMPTY = 0, 1, 2, 3  # marks of rows, and of places that have none
OUTSIDE = -1  # a key has no place
_NULL = ABSENT - 1  # in place of a row: the key that was asked for is null
_BLOCK = 64  # keys whose places are computed ahead, so that memory is asked for many of them at a time


@intrinsic  # type: ignore[untyped-decorator]
def _fetch(typing_context: Any, address: Any) -> Any:
    """Ask for the memory at an address before it is needed."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        call = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        reading, kept, data = (ir.Constant(number, value) for value in (0, 3, 1))
        builder.call(call, [builder.inttoptr(arguments[0], pointer), reading, kept, data])
        return context.get_dummy_value()

    return types.void(types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def _exchange(typing_context: Any, address: Any, value: Any) -> Any:
    """Write a byte and return the one that was there, at once for all threads."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        return builder.atomic_rmw("xchg", pointer, arguments[1], "monotonic")

    return types.uint8(types.intp, types.uint8), generate


@inline
def _settle(row: Any, held: Any, order: Any, states: Any, sign: int, marks: Any) -> Any:
    """Return which of two rows of one key holds its place in a table, and mark what cannot count any more.

    Args:
        row, held: the row that comes, and the one that is there.
        order, states: of all rows, as in `lossops.kernels.hashing.choose_rows`.
        sign: -1 if the lowest order value is chosen, 1 for the highest, 0 for none.
        marks: of all rows; changed in place.
    """
    known, others = sign != 0 and states[row] != UNORDERED, sign != 0 and states[held] != UNORDERED
    tied = known == others and (not known or order[row] == order[held])
    better = known and (not others or (order[row] > order[held]) == (sign > 0))
    marks[held if better else row] = DUPLICATE
    if tied:
        marks[row] = marks[held] = DUPLICATE
    return row if better and not tied else held


# A slot of a hashed table holds a row + 1 in its low bits, as many as the largest row takes, and in the bits that are
# left a tag: a part of the row's hash, which saves most looks at keys that differ. 0 is an empty slot.


@inline
def _part(hashed: Any, parts: int) -> Any:
    return np.int64(hashed >> np.uint64(32)) & (parts - 1)


@inline
def _place(hashed: Any, size: int) -> Any:
    return np.int64(hashed & np.uint64(size - 1))


@inline
def _tag(hashed: Any, bits: int) -> Any:
    return np.int64(hashed >> np.uint64(32 + bits)) << bits


@inline
def _row_bits(rows: int) -> int:
    bits = 1
    while rows >> bits:
        bits += 1
    return bits


@inline
def _row(slot: Any, bits: int) -> Any:
    return (np.int64(slot) & ((1 << bits) - 1)) - 1


@inline
def _step(at: Any, size: int) -> Any:
    """The next slot of a region."""
    return (at & -size) + ((at + 1) & (size - 1))


@inline
def _candidate(slots: Any, at: Any, tag: Any, size: int, bits: int) -> Any:
    """The first slot from here on that has a tag, or is empty."""
    while slots[at] != 0 and np.int64(slots[at]) >> bits != tag >> bits:
        at = _step(at, size)
    return at


@inline
def _low(low: Any, row: Any) -> Any:
    return low[row] if low.shape[0] else np.uint64(0)


@inline
def _own_low(records: Any, lead: int, row: Any) -> Any:
    return records[row, 1] if lead > 1 else np.uint64(0)


@inline
def _has(records: Any, lead: int, row: Any, high: Any, low: Any) -> Any:
    """Whether a record has a key."""
    return records[row, 0] == high and _own_low(records, lead, row) == low


@inline
def _fetch_record(records: Any, row: Any) -> None:
    """Ask for both ends of a record, which lie in one line of memory or in two."""
    start = records.ctypes.data + records.strides[0] * row
    _fetch(start)
    _fetch(start + records.strides[0] - 1)


@inline
def _copy(records: Any, lead: int, row: Any, found: Any, i: Any) -> None:
    for word in range(found.shape[1]):
        found[i, word] = records[row, lead + word]


@jit
def enter_hashed(
    records: Any, lead: int, order: Any, states: Any, sign: int, part: int, parts: int, slots: Any, marks: Any
) -> bool:
    """Enter the rows of one part of the keys into a table that is addressed by hash.

    Args:
        records: uint64 [rows, words], which begin with their key.
        lead: words of a key: high and low, or high where low is 0 for all of them.
        order: uint64 [rows], [0] if ``sign`` is 0.
        states: uint8 [rows], [0] if ``sign`` is 0; both as in `lossops.kernels.hashing.choose_rows`.
        sign: -1 if the lowest order value is chosen, 1 for the highest, 0 for none.
        part, parts: keys of this part by hash, of a power of two, have a region of the table of their own.
        slots: uint32 [parts x a power of two], all 0; changed in place.
        marks: uint8 [rows], ``NO_KEY`` for rows without a key; changed in place.

    Returns:
        Whether all of them found a place.
    """
    size = slots.shape[0] // parts
    first, free = part * size, size - 1  # one place stays empty, where a search ends
    bits = _row_bits(records.shape[0])
    rows, hashes = np.empty(_BLOCK, dtype=np.int64), np.empty(_BLOCK, dtype=np.uint64)
    for start in range(0, records.shape[0], _BLOCK):
        count = 0
        for i in range(start, min(start + _BLOCK, records.shape[0])):
            hashed = slot_hash(records[i, 0], _own_low(records, lead, i))
            rows[count], hashes[count] = i, hashed
            _fetch(slots.ctypes.data + slots.itemsize * (first + _place(hashed, size)))
            count += _part(hashed, parts) == part and marks[i] != NO_KEY
        for j in range(count):
            i, tag = rows[j], _tag(hashes[j], bits)
            at = _candidate(slots, first + _place(hashes[j], size), tag, size, bits)
            held = _row(slots[at], bits)
            while held >= 0 and not _has(records, lead, held, records[i, 0], _own_low(records, lead, i)):
                at = _candidate(slots, _step(at, size), tag, size, bits)
                held = _row(slots[at], bits)
            free -= held < 0
            if free < 0:
                return False
            slots[at] = tag | ((i if held < 0 else _settle(i, held, order, states, sign, marks)) + 1)
    return True


@jit
def find_hashed(
    high: Any, low: Any, skip: Any, records: Any, lead: int, parts: int, slots: Any, rows: Any, found: Any
) -> None:
    """Look keys up in a table that is addressed by hash.

    Args:
        high, low: uint64 [n], the keys asked for; ``low`` [0] where it is 0 for all of them.
        skip: bool [n], where there is no key; [0] where there is one everywhere.
        records, lead, parts, slots: the table, see `enter_hashed`.
        rows: int64 [n], written: the row in the table, negative where there is none.
        found: uint64 [n, words without those of the key], written: its record, anything where there is none.
    """
    size, bits = slots.shape[0] // parts, _row_bits(records.shape[0])
    places, hashes = np.empty(_BLOCK, dtype=np.int64), np.empty(_BLOCK, dtype=np.uint64)
    for start in range(0, high.shape[0], _BLOCK):
        count = min(_BLOCK, high.shape[0] - start)
        for j in range(count):
            hashes[j] = slot_hash(high[start + j], _low(low, start + j))
            places[j] = _part(hashes[j], parts) * size + _place(hashes[j], size)
            _fetch(slots.ctypes.data + slots.itemsize * places[j])
        for j in range(count):  # the first row with the right tag is most probably the one
            places[j] = _candidate(slots, places[j], _tag(hashes[j], bits), size, bits)
            rows[start + j] = _row(slots[places[j]], bits)
            if rows[start + j] >= 0:
                _fetch_record(records, rows[start + j])
        for j in range(count):
            i, at, tag = start + j, places[j], _tag(hashes[j], bits)
            while rows[i] >= 0 and not _has(records, lead, rows[i], high[i], _low(low, i)):
                at = _candidate(slots, _step(at, size), tag, size, bits)
                rows[i] = _row(slots[at], bits)
            if rows[i] >= 0:
                _copy(records, lead, rows[i], found, i)
    for i in range(skip.shape[0]):
        if skip[i]:
            rows[i] = _NULL


@jit
def place_records(found: Any, keys: Any, low: Any, skip: Any, lowest: int, records: Any, marks: Any) -> int:
    """Put records where their key says; several threads may do so at a time.

    Which record of several with one key stays is left open: none of them counts.

    Args:
        found: uint64 [n, words], the records that come.
        keys: int64 [n], their keys, of which those with a ``low`` other than 0 have no place.
        low, skip: as for `find_hashed`.
        lowest: the key of the first place.
        records: uint64 [places, words], changed in place.
        marks: uint8 [places], ``EMPTY`` where there is no record yet; changed in place.

    Returns:
        How many have no key, or ``OUTSIDE`` if a key has no place; no record is lost silently then: the work ends.
    """
    nulls, highest = 0, lowest + (marks.shape[0] - 1)
    for start in range(0, keys.shape[0], _BLOCK):
        stop = min(start + _BLOCK, keys.shape[0])
        for i in range(start, stop):
            if skip.shape[0] and skip[i]:
                continue
            if not lowest <= keys[i] <= highest or _low(low, i) != 0:
                return OUTSIDE
            _fetch(marks.ctypes.data + keys[i] - lowest)
            _fetch_record(records, keys[i] - lowest)
        for i in range(start, stop):
            if skip.shape[0] and skip[i]:
                nulls += 1
                continue
            at = keys[i] - lowest
            if _exchange(marks.ctypes.data + at, np.uint8(COUNTS)) == EMPTY:
                _copy(found, 0, i, records, at)
            else:
                _exchange(marks.ctypes.data + at, np.uint8(DUPLICATE))  # whoever comes second says so, and says it last
    return nulls


@jit
def find_placed(keys: Any, low: Any, skip: Any, lowest: int, records: Any, marks: Any, rows: Any, found: Any) -> None:
    """Look keys up among records that lie where their key says.

    Args:
        keys, low: int64 and uint64 [n], the keys asked for, of which those with a ``low`` other than 0 have no place.
        skip, rows, found: as for `find_hashed`.
        lowest, records: see `place_records`.
        marks: uint8 [places], [0] where every place has a record that counts.
    """
    highest = lowest + (records.shape[0] - 1)
    for start in range(0, keys.shape[0], _BLOCK):
        stop = min(start + _BLOCK, keys.shape[0])
        for i in range(start, stop):
            known = lowest <= keys[i] <= highest and _low(low, i) == 0
            rows[i] = keys[i] - lowest if known else ABSENT
            if known:
                _fetch_record(records, rows[i])
        for i in range(start, stop):
            if rows[i] >= 0:
                if marks.shape[0] and marks[rows[i]] == EMPTY:
                    rows[i] = ABSENT
                else:
                    _copy(records, 0, rows[i], found, i)
    for i in range(skip.shape[0]):
        if skip[i]:
            rows[i] = _NULL


@jit
def classify(rows: Any, marks: Any, kept: Any) -> Any:
    """Say which of the keys that were asked for have a row that counts.

    Args:
        rows: int64 [n], what `find_hashed` or `find_placed` wrote.
        marks: uint8 [rows of the table], [0] where all of them count.
        kept: bool [n], written.

    Returns:
        How many keys are null, are not in the table, and have no row that counts.
    """
    null = absent = duplicate = 0
    for i in range(rows.shape[0]):
        row = rows[i]
        kept[i] = row >= 0
        if row < 0:
            null += row == _NULL
            absent += row == ABSENT
        elif marks.shape[0] and marks[row] != COUNTS:
            kept[i] = False
            duplicate += 1
    return null, absent, duplicate


@jit
def mark_asked(rows: Any, once: Any, twice: Any) -> None:
    """Mark rows that are asked for, and those that were marked before.

    Args:
        rows: int64 [asked]; negative ones are passed over.
        once, twice: uint8 [(all rows + 7) / 8], one bit a row, the highest first; changed in place.
    """
    for i in range(rows.shape[0]):
        if rows[i] < 0:
            continue
        place, bit = rows[i] >> 3, np.uint8(128 >> (rows[i] & 7))
        if once[place] & bit:
            twice[place] |= bit
        else:
            once[place] |= bit
