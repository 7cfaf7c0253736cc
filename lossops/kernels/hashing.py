"""Keys: 128-bit fingerprints of bytes, and a hash index from key to row.

A key is two uint64. One integer is its own key, exactly. Everything else is hashed to 128 bits with MurmurHash3
(A. Appleby, x64 128-bit variant): among 10**12 keys the chance that any two collide is about 10**-15.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lossops.kernels.jit import inline, jit

__all__ = ["ABSENT", "combine_keys", "find_keys", "hash_bytes", "index_keys", "index_size", "strictly_increasing"]

ABSENT = -1
_C1, _C2 = np.uint64(0x87C37B91114253D5), np.uint64(0x4CF5AD432745937F)
_M1, _M2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_N1, _N2, _FIVE = np.uint64(0x52DCE729), np.uint64(0x38495AB5), np.uint64(5)
_R33, _64 = np.uint64(33), np.uint64(64)


@inline
def _rotate(value: Any, by: int) -> Any:
    return (value << np.uint64(by)) | (value >> (_64 - np.uint64(by)))


@inline
def _finish(value: Any) -> Any:
    value = (value ^ (value >> _R33)) * _M1
    value = (value ^ (value >> _R33)) * _M2
    return value ^ (value >> _R33)


@inline
def _word(data: Any, start: int, count: int) -> Any:
    """Return up to 8 bytes as a little-endian number."""
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
def _slot(high: Any, low: Any, mask: int) -> Any:
    return np.int64(_finish(high ^ _rotate(low, 32)) & np.uint64(mask))


@jit
def index_keys(high: Any, low: Any, skip: Any, slots: Any, duplicate: Any) -> None:
    """Enter rows into an index and mark every row whose key occurs more than once.

    Args:
        high, low: uint64 [rows].
        skip: bool [rows], rows that have no key.
        slots: int32 [index_size(rows)], all ``ABSENT``; written: the first row of each key.
        duplicate: bool [rows], all False; written.
    """
    mask = slots.shape[0] - 1
    for i in range(high.shape[0]):
        if skip[i]:
            continue
        at = _slot(high[i], low[i], mask)
        while True:
            row = slots[at]
            if row < 0:
                slots[at] = i
                break
            if high[row] == high[i] and low[row] == low[i]:
                duplicate[row] = True
                duplicate[i] = True
                break
            at = (at + 1) & mask


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
        at = _slot(high[i], low[i], mask)
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
