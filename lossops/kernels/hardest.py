"""The rows of a block with the largest losses of each group."""

from __future__ import annotations

from typing import Any

from lossops.kernels.jit import inline, jit

__all__ = ["choose_hardest", "is_cut_within_ties"]


@inline
def _is_harder(one: int, other: int, losses: Any, order: Any) -> bool:
    return bool(losses[one] > losses[other] or (losses[one] == losses[other] and order[one] < order[other]))


@inline
def _rise(row: int, place: int, heap: Any, losses: Any, order: Any) -> None:
    """Put a row at the end of a heap, and move it to where it belongs."""
    while place > 0 and _is_harder(heap[(place - 1) // 2], row, losses, order):
        heap[place] = heap[(place - 1) // 2]
        place = (place - 1) // 2
    heap[place] = row


@inline
def _sink(row: int, heap: Any, losses: Any, order: Any) -> None:
    """Put a row for the first of a heap, and move it to where it belongs."""
    place, size = 0, heap.shape[0]
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and _is_harder(heap[child], heap[child + 1], losses, order):
            child += 1
        if not _is_harder(row, heap[child], losses, order):
            break
        heap[place] = heap[child]
        place = child
    heap[place] = row


@jit
def choose_hardest(losses: Any, reasons: Any, groups: Any, order: Any, chosen: Any, counts: Any, floors: Any) -> None:
    """Choose rows by loss, largest first, then by ``order``, smallest first.

    Args:
        losses: float64 [rows], read only where ``reasons`` is 0, and not NaN there.
        reasons: uint8 [rows], 0 for a scored row.
        groups: int64 [rows].
        order: int64 [rows], decides between equal losses.
        chosen: int64 [groups, k], set to the rows of each group, as a heap with the least hard one first.
        counts: int64 [groups], 0 before; how many of them there are.
        floors: float64 [groups], -inf before; the least of the losses of a full group, so that most rows are passed
            over after one look.
    """
    k = chosen.shape[1]
    for i in range(losses.shape[0]):
        group = groups[i]
        if reasons[i] != 0 or losses[i] < floors[group]:
            continue
        heap = chosen[group]
        if counts[group] < k:
            _rise(i, counts[group], heap, losses, order)
            counts[group] += 1
        elif _is_harder(i, heap[0], losses, order):
            _sink(i, heap, losses, order)
        if counts[group] == k:
            floors[group] = losses[heap[0]]


@jit
def is_cut_within_ties(losses: Any, reasons: Any, groups: Any, chosen: Any, counts: Any) -> bool:
    """Whether rows were left out whose loss equals that of a chosen one, so that ``order`` decided."""
    k = chosen.shape[1]
    for i in range(losses.shape[0]):
        if reasons[i] != 0 or counts[groups[i]] < k:
            continue
        heap = chosen[groups[i]]
        if losses[i] == losses[heap[0]]:
            found = False
            for place in range(k):
                found = found or heap[place] == i
            if not found:
                return True
    return False
