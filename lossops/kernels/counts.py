"""Counting losses in bins, and merging sorted lists of counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from lossops.kernels.jit import jit

__all__ = ["BIN_SHIFT", "bin_range", "count_codes", "list_counts", "merge_counts"]

BIN_SHIFT = 46  # bits of the mantissa that a bin leaves open
_MAGNITUDE = (1 << 63) - 1


@jit
def merge_counts(
    starts: Any,
    codes: Any,
    counts: Any,
    other_starts: Any,
    other_codes: Any,
    other_counts: Any,
    others: Any,
    found_starts: Any,
    found_codes: Any,
    found_counts: Any,
) -> int:
    """Merge the lists of each group; equal codes are added.

    Args:
        starts: int64 [groups + 1], where the list of each group begins.
        codes: int32 [entries], increasing within a group.
        counts: int64 [entries].
        other_starts, other_codes, other_counts: the same of other groups.
        others: int64 [groups], which of the other groups belongs to each, or -1.
        found_starts, found_codes, found_counts: set to the merged lists; as long as both together.

    Returns:
        The number of merged entries.
    """
    n = 0
    for group in range(others.shape[0]):
        found_starts[group] = n
        i, stop = starts[group], starts[group + 1]
        j, other_stop = 0, 0
        if others[group] >= 0:
            j, other_stop = other_starts[others[group]], other_starts[others[group] + 1]
        while i < stop or j < other_stop:
            if j >= other_stop or (i < stop and codes[i] < other_codes[j]):
                found_codes[n], found_counts[n] = codes[i], counts[i]
                i += 1
            elif i >= stop or other_codes[j] < codes[i]:
                found_codes[n], found_counts[n] = other_codes[j], other_counts[j]
                j += 1
            else:
                found_codes[n], found_counts[n] = codes[i], counts[i] + other_counts[j]
                i += 1
                j += 1
            n += 1
    found_starts[others.shape[0]] = n
    return n


@jit
def bin_range(losses: Any, reasons: Any, codes: Any) -> tuple[int, int]:
    """Number the bin of every scored loss, as `lossops.histograms` describes.

    Args:
        losses: float64 [rows], read only where ``reasons`` is 0, and not NaN there.
        reasons: uint8 [rows], 0 for a scored row.
        codes: int64 [rows], set where a row is scored.

    Returns:
        The smallest and the largest number; the first is larger where no row is scored.
    """
    lowest, highest = np.int64(1 << 62), np.int64(-(1 << 62))
    bits = losses.view(np.int64)
    for i in range(losses.shape[0]):
        if reasons[i] != 0:
            continue
        size = np.int64((bits[i] & _MAGNITUDE) >> BIN_SHIFT)
        code = size + 1 if losses[i] > 0 else (-size - 1 if losses[i] < 0 else np.int64(0))
        codes[i] = code
        lowest, highest = min(lowest, code), max(highest, code)
    return lowest, highest  # type: ignore[return-value]


@jit
def count_codes(codes: Any, reasons: Any, groups: Any, lowest: int, table: Any) -> int:
    """Count codes in ``table``, int32 [groups, width], which is 0 before; returns how many of its places are in use."""
    used = 0
    for i in range(codes.shape[0]):
        if reasons[i] == 0:
            used += table[groups[i], codes[i] - lowest] == 0
            table[groups[i], codes[i] - lowest] += 1
    return used


@jit
def list_counts(table: Any, lowest: int, starts: Any, codes: Any, counts: Any) -> None:
    """List what `count_codes` counted; sets starts int64 [groups + 1], codes int32 and counts int64 [used]."""
    n = 0
    for group in range(table.shape[0]):
        starts[group] = n
        for place in range(table.shape[1]):
            if table[group, place] != 0:
                codes[n] = place + lowest
                counts[n] = table[group, place]
                n += 1
    starts[table.shape[0]] = n
