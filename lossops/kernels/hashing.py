"""Keys: 128-bit fingerprints of bytes, and a hash index from key to row.

A key is two uint64. One integer is its own key, exactly. Everything else is hashed to 128 bits with MurmurHash3
(A. Appleby, x64 128-bit variant): among 10**12 keys the chance that any two collide is about 10**-15.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lossops.kernels.jit import inline, jit

__all__ = [
    "ABSENT",
    "ORDERED",
    "TIED",
    "UNORDERED",
    "choose_rows",
    "combine_keys",
    "find_keys",
    "group_keys",
    "hash_bytes",
    "hash_keys",
    "index_size",
    "pair_rows",
    "slot_hash",
    "sort_by_bucket",
    "strictly_increasing",
]

ABSENT = -1
UNORDERED, ORDERED, TIED = 0, 1, 2  # whether a row may be chosen among those of its key, see `choose_rows`
_C1, _C2 = np.uint64(0x87C37B91114253D5), np.uint64(0x4CF5AD432745937F)
_M1, _M2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_N1, _N2, _FIVE = np.uint64(0x52DCE729), np.uint64(0x38495AB5), np.uint64(5)
_R33, _64, _ALL = np.uint64(33), np.uint64(64), np.uint64(2**64 - 1)


@inline
def _rotate(value: Any, by: int) -> Any:
    return (value << np.uint64(by)) | (value >> (_64 - np.uint64(by)))


@inline
def _finish(value: Any) -> Any:
    value = (value ^ (value >> _R33)) * _M1
    value = (value ^ (value >> _R33)) * _M2
    return value ^ (value >> _R33)


@intrinsic  # type: ignore[untyped-decorator]
def _eight(typing_context: Any, address: Any) -> Any:
    """Load eight bytes at any address, the first of which is the lowest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = builder.load(builder.inttoptr(arguments[0], ir.IntType(64).as_pointer()), align=1)
        return word if sys.byteorder == "little" else builder.bswap(word)

    return types.uint64(types.intp), generate


@inline
def _word(data: Any, start: int, count: int) -> Any:
    """Return 1 to 8 bytes as a little-endian number."""
    if start + 8 <= data.shape[0]:  # bytes behind the number are read with it, and cleared
        return _eight(data.ctypes.data + start) & (_ALL >> np.uint64(64 - 8 * count))
    word: Any = np.uint64(0)
    for k in range(count):
        word |= np.uint64(data[start + k]) << np.uint64(8 * k)
    return word


@inline
def _mix(h1: Any, h2: Any, k1: Any, k2: Any) -> tuple[Any, Any]:
    h1 ^= _rotate(k1 * _C1, 31) * _C2
    h1 = (_rotate(h1, 27) + h2) * _FIVE + _N1
    h2 ^= _rotate(k2 * _C2, 33) * _C1
    h2 = (_rotate(h2, 31) + h1) * _FIVE + _N2
    return h1, h2


@inline
def _close(h1: Any, h2: Any, length: int) -> tuple[Any, Any]:
    h1 ^= np.uint64(length)
    h2 ^= np.uint64(length)
    h1 += h2
    h2 += h1
    h1, h2 = _finish(h1), _finish(h2)
    h1 += h2
    return h1, h2 + h1


@jit
def hash_bytes(data: Any, offsets: Any, high: Any, low: Any) -> None:
    """Hash ``data[offsets[i]:offsets[i + 1]]`` for each row, seed 0.

    Args:
        data: uint8 [bytes].
        offsets: int64 [rows + 1].
        high, low: uint64 [rows], written: first and second half of the hash.
    """
    for i in range(high.shape[0]):
        start, stop = offsets[i], offsets[i + 1]
        h1: Any = np.uint64(0)
        h2: Any = np.uint64(0)
        while stop - start >= 16:
            h1, h2 = _mix(h1, h2, _word(data, start, 8), _word(data, start + 8, 8))
            start += 16
        left = stop - start
        if left > 8:
            h2 ^= _rotate(_word(data, start + 8, left - 8) * _C2, 33) * _C1
        if left > 0:
            h1 ^= _rotate(_word(data, start, min(left, 8)) * _C1, 31) * _C2
        high[i], low[i] = _close(h1, h2, offsets[i + 1] - offsets[i])


@jit
def combine_keys(high: Any, low: Any, more_high: Any, more_low: Any) -> None:
    """Replace a key of several columns so far by its hash with the next column; uint64 [rows], in place."""
    for i in range(high.shape[0]):
        h1, h2 = _mix(np.uint64(0), np.uint64(0), high[i], low[i])
        h1, h2 = _mix(h1, h2, more_high[i], more_low[i])
        high[i], low[i] = _close(h1, h2, 32)


def index_size(rows: int) -> int:
    """Return the number of slots of an index: a power of two, at least 1.5 a row."""
    return 1 << max(int(rows * 3 // 2).bit_length(), 4)


@inline
def slot_hash(high: Any, low: Any) -> Any:
    """Return a 64-bit hash of a key, for its place in an index."""
    return _finish(high ^ _rotate(low, 32))


@jit
def hash_keys(high: Any, low: Any, hashes: Any) -> None:
    """Hash keys to 64 bits, in another way than the slots of an index; one to one for keys of one integer.

    Args:
        high, low: uint64 [rows].
        hashes: uint64 [rows], written.
    """
    for i in range(high.shape[0]):
        hashes[i] = _finish(high[i] * _C1 + _finish(low[i]))


@jit
def sort_by_bucket(hashes: Any, shift: int, starts: Any, order: Any) -> None:
    """Sort rows by the leading bits of their hash, rows of a bucket in their order.

    Args:
        hashes: uint64 [rows].
        shift: 64 minus the number of bits that are the bucket; 64 for a single bucket.
        starts: int64 [buckets + 1], all 0; written: where each bucket begins.
        order: int64 [rows], written: the rows bucket by bucket.
    """
    for i in range(hashes.shape[0]):
        starts[_bucket(hashes[i], shift) + 1] += 1
    for bucket in range(1, starts.shape[0]):
        starts[bucket] += starts[bucket - 1]
    at = starts.copy()
    for i in range(hashes.shape[0]):
        bucket = _bucket(hashes[i], shift)
        order[at[bucket]] = i
        at[bucket] += 1


@inline
def _bucket(hashed: Any, shift: int) -> Any:
    return np.int64(hashed >> np.uint64(shift)) if shift < 64 else np.int64(0)


@jit
def group_keys(high: Any, low: Any, skip: Any, slots: Any, first: Any) -> int:
    """Enter rows into an index, and find the first row of each row's key.

    Args:
        high, low: uint64 [rows].
        skip: bool [rows], rows that have no key.
        slots: int32 [index_size(rows)], all ``ABSENT``; written: the first row of each key.
        first: int64 [rows], written; ``ABSENT`` where there is no key.

    Returns:
        The number of different keys.
    """
    mask = slots.shape[0] - 1
    different = 0
    for i in range(high.shape[0]):
        first[i] = ABSENT
        if skip[i]:
            continue
        at = np.int64(slot_hash(high[i], low[i]) & np.uint64(mask))
        while slots[at] >= 0:
            row = slots[at]
            if high[row] == high[i] and low[row] == low[i]:
                first[i] = row
                break
            at = (at + 1) & mask
        if first[i] < 0:
            slots[at] = i
            first[i] = i
            different += 1
    return different


@jit
def choose_rows(groups: Any, counts: Any, order: Any, states: Any, sign: int, totals: Any, chosen: Any) -> None:
    """Count the rows of each group, and choose the one that counts for it.

    The row of a group that has no other is chosen. Of several it is the one with the lowest or highest order value,
    unless that value is shared: a choice would depend on the order of the rows.

    Args:
        groups: int64 [rows], or ``ABSENT``.
        counts: int64 [rows], how many rows each stands for.
        order: uint64 [rows].
        states: uint8 [rows]: ``UNORDERED`` rows have no order value, ``TIED`` ones stand for several with one value.
        sign: -1 for the lowest value, 1 for the highest, 0 for none.
        totals: int64 [groups], all 0; written: the rows of each group.
        chosen: int64 [groups], all ``ABSENT``; written: the row, or ``ABSENT`` if none is chosen.
    """
    shared = np.zeros(totals.shape[0], dtype=np.bool_)
    for i in range(groups.shape[0]):
        group = groups[i]
        if group < 0:
            continue
        totals[group] += counts[i]
        best = chosen[group]
        if best < 0:
            better = True
        elif states[i] == UNORDERED or states[best] == UNORDERED:
            better = states[best] == UNORDERED and states[i] != UNORDERED
        elif order[i] == order[best]:
            shared[group] = True
            continue
        else:
            better = (order[i] > order[best]) == (sign > 0)
        if better:
            chosen[group] = i
            shared[group] = states[i] == TIED
    for group in range(totals.shape[0]):
        best = chosen[group]
        if totals[group] > 1 and best >= 0 and (sign == 0 or shared[group] or states[best] == UNORDERED):
            chosen[group] = ABSENT


@jit
def pair_rows(
    label_totals: Any,
    label_chosen: Any,
    prediction_totals: Any,
    prediction_chosen: Any,
    pairs: Any,
    duplicates: Any,
) -> int:
    """Bring together what was chosen on both sides, and count what was not.

    Args:
        label_totals, label_chosen, prediction_totals, prediction_chosen: int64 [groups], see `choose_rows`.
        pairs: int64 [predictions], all ``ABSENT``; written: the label of each chosen prediction.
        duplicates: int64 [2], all 0; written: rows of predictions and labels that were not chosen.

    Returns:
        The number of chosen labels without a prediction.
    """
    alone = 0
    for group in range(label_totals.shape[0]):
        label, prediction = label_chosen[group], prediction_chosen[group]
        asked = prediction_totals[group] > 0
        paired = asked and label >= 0 and prediction >= 0
        if paired:
            pairs[prediction] = label
        if not asked and label >= 0:
            alone += 1
        duplicates[0] += prediction_totals[group] - (1 if paired else 0)
        duplicates[1] += label_totals[group] - (1 if paired or (not asked and label >= 0) else 0)
    return alone


@jit
def find_keys(high: Any, low: Any, skip: Any, indexed_high: Any, indexed_low: Any, slots: Any, rows: Any) -> None:
    """Look keys up in an index.

    Args:
        high, low, skip: the keys asked for, [n], as in `index_keys`.
        indexed_high, indexed_low, slots: the index.
        rows: int64 [n], written: the row that was entered with this key, or ``ABSENT``.
    """
    mask = slots.shape[0] - 1
    for i in range(high.shape[0]):
        rows[i] = ABSENT
        if skip[i]:
            continue
        at = np.int64(slot_hash(high[i], low[i]) & np.uint64(mask))
        while slots[at] >= 0:
            row = slots[at]
            if indexed_high[row] == high[i] and indexed_low[row] == low[i]:
                rows[i] = row
                break
            at = (at + 1) & mask


@jit
def _increasing(values: Any) -> bool:
    for i in range(1, values.shape[0]):  # noqa: SIM110 - compiled
        if values[i] <= values[i - 1]:
            return False
    return True


def strictly_increasing(values: npt.NDArray[np.int64]) -> bool:
    """Whether each value is larger than the one before; int64 [rows]."""
    return bool(_increasing(values))
