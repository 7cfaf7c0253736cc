"""The rows of a block with the largest losses of each group."""

from __future__ import annotations

from typing import Any

from lossops.kernels.jit import inline, jit

__all__ = ["choose_hardest", "is_cut_within_ties"]


@inline
def _is_harder(one: int, other: int, losses: Any, order: Any) -> bool:
    return bool(losses[one] > losses[other] or (losses[one] == losses[other] and order[one] < order[other]))


@jit
def choose_hardest(losses: Any, reasons: Any, groups: Any, order: Any, chosen: Any, counts: Any) -> None:
    """Choose rows by loss, largest first, then by ``order``, smallest first.

    Args:
        losses: float64 [rows], read only where ``reasons`` is 0, and not NaN there.
        reasons: uint8 [rows], 0 for a scored row.
        groups: int64 [rows].
        order: int64 [rows], decides between equal losses.
        chosen: int64 [groups, k], set to the rows of each group, as a heap with the least hard one first.
        counts: int64 [groups], 0 before; how many of them there are.
    """
    k = chosen.shape[1]
    for i in range(losses.shape[0]):
        if reasons[i] != 0:
            continue
        group = groups[i]
        heap = chosen[group]
        if counts[group] < k:
            place = counts[group]
            counts[group] += 1
            while place > 0 and _is_harder(heap[(place - 1) // 2], i, losses, order):
                heap[place] = heap[(place - 1) // 2]
                place = (place - 1) // 2
            heap[place] = i
        elif _is_harder(i, heap[0], losses, order):
            place = 0
            while True:
                child = 2 * place + 1
                if child >= k:
                    break
                if child + 1 < k and _is_harder(heap[child], heap[child + 1], losses, order):
                    child += 1
                if not _is_harder(i, heap[child], losses, order):
                    break
                heap[place] = heap[child]
                place = child
            heap[place] = i


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
