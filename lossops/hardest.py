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
        keys: for each key column int64, uint64 or text [rows]; empty where there is no key.
        shards: uint64 [rows], which shard.
        rows: int64 [rows], which row of it.
        order: int64 [rows], increasing with the key where that is one integer, else with the place.
        rank: returns int64 [rows] that increase with the key; None where ``order`` does.
    """

    keys: tuple[npt.NDArray[np.generic], ...]
    shards: npt.NDArray[np.uint64]
    rows: Integers
    order: Integers
    rank: Callable[[], Integers] | None


@dataclass(frozen=True)
class Hardest:
    """The hardest rows of each group of a slice, for one model and loss; by group, and by rank once they are gathered.

    Args:
        limit: rows of a group that are kept.
        groups: int64 [entries].
        losses: float64 [entries].
        keys, shards, rows: as in `Places`, [entries].
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
        count = int(groups.max()) + 1 if len(groups) else 0
        chosen, counts = np.empty((count, limit), dtype=np.int64), np.zeros(count, dtype=np.int64)
        choose_hardest(losses, reasons, groups, places.order, chosen, counts, np.full(count, -np.inf))
        if places.rank is not None and is_cut_within_ties(losses, reasons, groups, chosen, counts):
            counts[:] = 0
            choose_hardest(losses, reasons, groups, places.rank(), chosen, counts, np.full(count, -np.inf))
        rows = chosen[np.arange(limit) < counts[:, np.newaxis]]
        return cls(
            limit,
            groups[rows],
            losses[rows] + 0.0,
            tuple(key[rows] for key in places.keys),
            places.shards[rows],
            places.rows[rows],
            labels[rows],
            predictions[rows],
        )

    @classmethod
    def gathered(cls, parts: Sequence[tuple[Hardest, Integers]], _groups: int) -> Hardest:
        """Add group ``i`` of each part to group ``at[i]``, for parts and their ``at``."""
        moved = [replace(part, groups=at[part.groups]) for part, at in parts]
        if len(moved) == 2:
            moved = [moved[0], moved[1]._that_may_rank_in(moved[0])]
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
        return together._ranked()

    def _that_may_rank_in(self, other: Hardest) -> Hardest:
        """The entries that are not surely behind every one of a full group of another."""
        size = max((int(part.groups.max()) + 1 for part in (self, other) if len(part.groups)), default=0)
        counts = np.bincount(other.groups, minlength=size)
        lowest = np.full(size, np.inf)
        np.minimum.at(lowest, other.groups, other.losses)
        lowest[counts < self.limit] = -np.inf
        return self._taken(np.flatnonzero(self.losses >= lowest[self.groups]))

    def _ranked(self) -> Hardest:
        ties = self.keys or (self.shards, self.rows)
        order = np.lexsort((*reversed(ties), -self.losses, self.groups))
        groups = self.groups[order]
        starts = np.searchsorted(groups, groups)
        return self._taken(order[np.arange(len(order)) - starts < self.limit])

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
