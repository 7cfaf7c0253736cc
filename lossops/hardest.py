"""The rows with the largest losses of each group, by a total order: loss, largest first, then key, smallest first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lossops.kernels.hardest import choose_hardest, is_cut_within_ties

__all__ = ["Hardest", "Places"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Places:
    """Where the rows of a batch come from, and how equal losses are told apart.

    Args:
        keys: returns of some rows, int64 [chosen], for each key column int64, uint64 or text [chosen]; nothing where
            there is no key. Those of all rows would cost more than all else, where they are made into text.
        shards: uint64 [rows], which shard.
        rows: int64 [rows], which row of it.
        order: int64 [rows], increasing with the key where that is one integer, else with the place.
        rank: returns int64 [rows] that increase with the key; None where ``order`` does.
    """

    keys: Callable[[Integers], tuple[npt.NDArray[np.generic], ...]]
    shards: npt.NDArray[np.uint64]
    rows: Integers
    order: Integers
    rank: Callable[[], Integers] | None


@dataclass(frozen=True)
class Hardest:
    """The hardest rows of each group of a slice, for one model and loss; in any order within a group.

    Args:
        limit: rows of a group that are kept.
        groups: int64 [entries].
        losses: float64 [entries].
        keys: for each key column int64, uint64 or text [entries].
        shards, rows: as in `Places`, [entries].
        labels, predictions: float64 [entries, width], the numbers that the loss was computed from.
    """

    limit: int
    groups: Integers
    losses: Floats
    keys: tuple[npt.NDArray[np.generic], ...]
    shards: npt.NDArray[np.uint64]
    rows: Integers
    labels: Floats
    predictions: Floats

    @classmethod
    def of_rows(
        cls,
        limit: int,
        losses: Floats,
        reasons: npt.NDArray[np.uint8],
        groups: Integers,
        places: Places,
        labels: Floats,
        predictions: Floats,
    ) -> Hardest:
        """The hardest rows of a batch; all arrays are [rows] or [rows, width]."""
        rows = _chosen(limit, losses, reasons, groups, places.order, places.rank)
        return cls(
            limit,
            groups[rows],
            losses[rows] + 0.0,
            places.keys(rows),
            places.shards[rows],
            places.rows[rows],
            labels[rows],
            predictions[rows],
        )

    @classmethod
    def gathered(cls, parts: Sequence[tuple[Hardest, Integers]], _groups: int) -> Hardest:
        """Add group ``i`` of each part to group ``at[i]``, for parts and their ``at``."""
        moved = [replace(part, groups=at[part.groups]) for part, at in parts]
        first = moved[0]
        together = cls(
            first.limit,
            np.concatenate([part.groups for part in moved]),
            np.concatenate([part.losses for part in moved]),
            tuple(np.concatenate(found) for found in zip(*(part.keys for part in moved), strict=True)),
            np.concatenate([part.shards for part in moved]),
            np.concatenate([part.rows for part in moved]),
            np.concatenate([part.labels for part in moved]),
            np.concatenate([part.predictions for part in moved]),
        )
        ties, scored = together._ties, np.zeros(len(together.groups), dtype=np.uint8)
        is_ordered = len(ties) == 1 and ties[0].dtype == np.int64
        order = ties[0].astype(np.int64, copy=False) if is_ordered else np.zeros(len(scored), dtype=np.int64)
        rank = None if is_ordered else lambda: np.argsort(np.lexsort(ties[::-1]))
        return together._taken(_chosen(first.limit, together.losses, scored, together.groups, order, rank))

    @property
    def _ties(self) -> tuple[npt.NDArray[np.generic], ...]:
        """What tells equal losses apart, the first of it first."""
        return self.keys or (self.shards, self.rows)

    def ranked(self) -> tuple[Hardest, Integers]:
        """The same by group and by rank, and the rank of each entry from 1, int64 [entries]."""
        order = np.lexsort((*self._ties[::-1], -self.losses, self.groups))
        found = self._taken(order)
        return found, np.arange(1, len(order) + 1) - np.searchsorted(found.groups, found.groups)

    def _taken(self, entries: Integers) -> Hardest:
        return Hardest(
            self.limit,
            self.groups[entries],
            self.losses[entries],
            tuple(key[entries] for key in self.keys),
            self.shards[entries],
            self.rows[entries],
            self.labels[entries],
            self.predictions[entries],
        )


def _chosen(
    limit: int,
    losses: Floats,
    reasons: npt.NDArray[np.uint8],
    groups: Integers,
    order: Integers,
    rank: Callable[[], Integers] | None,
) -> Integers:
    """Return which rows are the hardest of their groups, group by group."""
    count = int(groups.max()) + 1 if len(groups) else 0
    chosen, counts = np.empty((count, limit), dtype=np.int64), np.zeros(count, dtype=np.int64)
    choose_hardest(losses, reasons, groups, order, chosen, counts, np.full(count, -np.inf))
    if rank is not None and is_cut_within_ties(losses, reasons, groups, chosen, counts):
        counts[:] = 0
        choose_hardest(losses, reasons, groups, rank(), chosen, counts, np.full(count, -np.inf))
    return chosen[np.arange(limit) < counts[:, np.newaxis]]
