"""Conjunctions of column values on which losses are worst, found level by level with bounds that lose none of the best.

A conjunction of n' rows (or of that weight) with mean loss m' among n rows with mean loss m scores
``alpha (m'/m - 1) - (1 - alpha) (n/n' - 1)``: how much worse it is, against how small it is. What it scores, and what
anything within it can score, is bounded by its size, its sum and its largest loss, all of which only shrink when a
condition is added. (S. Sagadeeva and M. Boehm, SliceLine: Fast, Linear-Algebra-based Slice Finding for ML Model
Debugging, SIGMOD 2021.) Losses must not be negative, or the bounds do not hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations, groupby

__all__ = ["Condition", "Conjunction", "Part", "Search"]

Condition = tuple[int, tuple[int, object]]  # number of the column, and its (rank, value), see `lossops.slices`
Conjunction = tuple[Condition, ...]  # by number of the column, each at most once

_SLACK = 1e-9  # relative: bounds and scores are rounded differently


@dataclass(frozen=True)
class Part:
    """The rows of a conjunction.

    Args:
        rows: how many.
        size: what the mean divides by: rows, or their weight.
        error: sum of the losses.
        largest: largest loss.
    """

    rows: int
    size: float
    error: float
    largest: float


@dataclass
class Search:
    """The search for the conjunctions of highest score, for one model and loss.

    The caller scores what `take_waiting` returns, level by level.

    Args:
        whole: all rows; the mean of their losses is positive.
        alpha: weight of the losses against that of the size.
        min_rows: rows below which a conjunction does not count.
        top: how many are wanted.
        is_weighted: whether sizes are not numbers of rows.
    """

    whole: Part
    alpha: float
    min_rows: int
    top: int
    is_weighted: bool
    best: list[tuple[float, Conjunction, Part]] = field(default_factory=list)
    _level: dict[Conjunction, Part] = field(default_factory=dict)
    _waiting: list[tuple[float, Conjunction]] = field(default_factory=list)

    def score(self, part: Part) -> float:
        """The score of a conjunction."""
        mean = self.whole.error / self.whole.size
        return self.alpha * (part.error / part.size / mean - 1) - (1 - self.alpha) * (self.whole.size / part.size - 1)

    def bound(self, part: Part) -> float:
        """The highest score of anything whose size, sum and largest loss are at most these."""
        if part.rows < self.min_rows or part.largest <= 0:
            return -1.0
        smallest = 0.0 if self.is_weighted else float(self.min_rows)
        # It rises with the size as long as every loss may be the largest, then it is monotone.
        turn = min(max(part.error / part.largest, smallest), part.size)
        sizes = [size for size in (turn, part.size) if size > 0]
        return max(
            self.score(Part(part.rows, size, min(part.error, size * part.largest), part.largest)) for size in sizes
        )

    @property
    def _threshold(self) -> float:
        return self.best[-1][0] if len(self.best) == self.top else 0.0

    def _may_count(self, bound: float) -> bool:
        return bound > 0 and bound >= self._threshold * (1 - _SLACK)

    def take(self, found: Mapping[Conjunction, Part]) -> None:
        """Add scored conjunctions of the present level; what is not among them has no rows."""
        for conjunction, part in found.items():
            if part.rows < self.min_rows:
                continue
            self._level[conjunction] = part
            score = self.score(part)
            if score > 0:
                self.best.append((score, conjunction, part))
        self.best.sort(key=lambda one: (-one[0], len(one[1]), one[1]))
        del self.best[self.top :]

    def descend(self) -> None:
        """Go on to conjunctions with one more condition than those taken so far."""
        parents = {one: part for one, part in self._level.items() if self._may_count(self.bound(part))}
        found = ((self.bound(part), one) for one, part in _children(parents))
        self._waiting = sorted(
            (pair for pair in found if self._may_count(pair[0])), key=lambda pair: (-pair[0], pair[1])
        )
        self._level = {}

    def take_waiting(self, limit: int) -> list[Conjunction]:
        """Return up to so many conjunctions that may yet be among the best, the most promising first."""
        chosen = [one for bound, one in self._waiting[:limit] if self._may_count(bound)]
        self._waiting = self._waiting[limit:] if len(chosen) == limit else []
        return chosen


def _children(parents: Mapping[Conjunction, Part]) -> Iterator[tuple[Conjunction, Part]]:
    """Yield conjunctions all of whose parts with one condition less are given, with the least of their numbers."""
    for _, family in groupby(sorted(parents), key=lambda one: one[:-1]):
        for left, right in combinations(list(family), 2):
            if left[-1][0] == right[-1][0]:
                continue
            child = (*left, right[-1])
            found = [parents.get(child[:place] + child[place + 1 :]) for place in range(len(child))]
            known = [part for part in found if part is not None]
            if len(known) == len(child):
                yield (
                    child,
                    Part(
                        min(part.rows for part in known),
                        min(part.size for part in known),
                        min(part.error for part in known),
                        min(part.largest for part in known),
                    ),
                )
