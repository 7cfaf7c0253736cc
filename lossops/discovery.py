"""Finding the slices nobody asked about: passes over the data, each of which scores some conjunctions of conditions.

Half of the rows are searched. What was found is then tested on the other half, which had no part in choosing it, so
that its p-values mean what they say.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from lossops.attempts import Attempt, Workers
from lossops.checkpoint import Store
from lossops.comparisons import Contrast, contrast
from lossops.config import DiscoverConfig
from lossops.groups import REST, GroupKey
from lossops.kernels.accumulate import SCORED
from lossops.losses import BoundLoss
from lossops.pairing import HELD_OUT, SEARCHED, Pairing, Subset
from lossops.plan import Plan
from lossops.progress import Log, Watch
from lossops.samples import ONE, Sample, is_weighted
from lossops.sliceline import Conjunction, Part, Search
from lossops.slices import OVERALL, Axis, Slice
from lossops.state import Cell, GroupTable, State
from lossops.statistics import samples_of

__all__ = ["Discovered", "discover"]

_BLOCK = 1 << 15  # conjunctions of a pass


@dataclass(frozen=True)
class Discovered:
    """A conjunction that was found.

    Args:
        cell: model and loss.
        chosen, key: the slice.
        score: of the searched rows.
        rows, mean: of the searched rows in it.
        held_out_rows: scored rows in it that were not searched; None where all were.
        held_out: these beside all others that were not searched; None where that is not determined.
    """

    cell: Cell
    chosen: Slice
    key: GroupKey
    score: float
    rows: int
    mean: float
    held_out_rows: int | None
    held_out: Contrast | None


def discover(workers: Workers, plan: Plan, store: Store, log: Log, work: str, run_id: str) -> list[Discovered]:
    """Search every pairing of a plan for the worst conjunctions of each model and loss.

    Args:
        workers: who does it.
        plan: with the modes that held.
        store: where states of finished pieces are kept.
        log: who is told.
        work, run_id: as for `lossops.attempts.Attempt`.
    """
    if plan.config.discover is None:
        return []
    found = []
    for number in range(len(plan.pairings)):
        passes = _Passes(workers, plan, number, store, log, work, run_id)
        found += list(_searched(passes, plan.config.discover, plan.config.confidence))
    return found


@dataclass(frozen=True)
class _Passes:
    """Scores conjunctions of one pairing."""

    workers: Workers
    plan: Plan
    number: int
    store: Store
    log: Log
    work: str
    run_id: str

    @property
    def pairing(self) -> Pairing:
        """The pairing, as far as it is searched."""
        pairing = self.plan.pairings[self.number]
        tasks = tuple(task for task in pairing.tasks if isinstance(task.loss, BoundLoss))
        return replace(pairing, tasks=tasks, comparisons=(), has_histograms=False, hardest=0, calibration_bins=0)

    @property
    def axes(self) -> Sequence[Axis]:
        """The columns that are searched."""
        return tuple(self.pairing.searched)

    def singles(self, half: int | None) -> _Scored:
        """Score every value of every column."""
        slices = tuple(Slice((axis,)) for axis in self.axes)
        return self._run(slices, Subset(half, (None,) * (1 + len(slices)), by_unit=False))

    def conjunctions(self, wanted: Sequence[Conjunction], half: int | None, *, by_unit: bool) -> _Scored:
        """Score some conjunctions."""
        groups: dict[tuple[int, ...], set[GroupKey]] = {}
        for one in wanted:
            groups.setdefault(tuple(axis for axis, _ in one), set()).add(tuple(part for _, part in one))
        columns = sorted(groups)
        slices = tuple(Slice(tuple(self.axes[axis] for axis in numbers)) for numbers in columns)
        kept = (None, *(frozenset(groups[numbers]) for numbers in columns))
        return self._run(slices, Subset(half, kept, by_unit))

    def _run(self, slices: Sequence[Slice], subset: Subset) -> _Scored:
        pairing = self.pairing.searching((OVERALL, *slices), subset)
        pairings = (*self.plan.pairings[: self.number], pairing, *self.plan.pairings[self.number + 1 :])
        plan = replace(self.plan, pairings=pairings)
        watch = Watch(plan, None, lambda _level, _text: None)
        scored = Attempt(self.workers, plan, self.number, watch, self.store, self.work, self.run_id).run()
        return _Scored(scored.state, (OVERALL, *slices), self.axes)


@dataclass(frozen=True)
class _Scored:
    """What came of a pass."""

    state: State
    slices: Sequence[Slice]
    axes: Sequence[Axis]

    def whole(self, cell: Cell) -> Sample | None:
        """All rows that the pass is about; None where no row is scored or a loss is infinite."""
        table = self.state.tables[0]
        return samples_of(table, cell)[table.keys.index(())] if () in table.keys else None

    def smallest(self, cell: Cell) -> float:
        """The smallest loss of them."""
        table = self.state.tables[0]
        return float(table.sums[cell].extremes[table.keys.index(()), 0])

    def parts(self, cell: Cell) -> dict[Conjunction, Part]:
        """What the search needs of every conjunction."""
        return {
            conjunction: _part(table, cell, group, sample)
            for table, group, conjunction in self._groups()
            if (sample := Sample.of(table.sums[cell], group)) is not None
        }

    def samples(self, cell: Cell) -> dict[Conjunction, Sample | None]:
        """The sample of every conjunction, with its units."""
        return {
            conjunction: Sample.of(table.sums[cell], group, table.units.get(cell))
            for table, group, conjunction in self._groups()
        }

    def _groups(self) -> Iterator[tuple[GroupTable, int, Conjunction]]:
        for table, chosen in zip(self.state.tables[1:], self.slices[1:], strict=True):
            numbers = [self.axes.index(axis) for axis in chosen.axes]
            for group, key in enumerate(table.keys):
                if key != REST:
                    yield table, group, tuple(zip(numbers, key, strict=True))


def _part(table: GroupTable, cell: Cell, group: int, sample: Sample) -> Part:
    sums = table.sums[cell]
    size, error = sample.firsts["d"].over(ONE), sample.firsts["x"].over(ONE)
    return Part(int(sums.counts[group, SCORED]), size, error, float(sums.extremes[group, 1]))


def _searched(passes: _Passes, config: DiscoverConfig, confidence: float) -> Iterator[Discovered]:
    half = SEARCHED if config.held_out else None
    first = passes.singles(half)
    searches: dict[Cell, Search] = {}
    for task in passes.pairing.tasks:
        search = _begin(first, task.cell, config, passes.log)
        if search is not None:
            search.take(first.parts(task.cell))
            searches[task.cell] = search
    for level in range(2, min(config.depth, len(passes.axes)) + 1):
        for search in searches.values():
            search.descend()
        while wanted := _waiting(searches):
            passes.log(logging.INFO, f"discover: {len(wanted):,} conjunctions of {level} conditions")
            scored = passes.conjunctions(wanted, half, by_unit=False)
            for cell, search in searches.items():
                search.take(scored.parts(cell))
    yield from _tested(passes, searches, config, confidence)


def _begin(first: _Scored, cell: Cell, config: DiscoverConfig, log: Log) -> Search | None:
    whole = first.whole(cell)
    why = None
    if whole is None:
        why = "no row is scored, or a loss is infinite"
    elif first.smallest(cell) < 0:
        why = "the score is not defined for losses below 0"
    elif not whole.firsts["x"].integer:
        why = "every loss is 0"
    if whole is None or why is not None:
        log(logging.WARNING, f"discover: {' '.join(cell)} is not searched: {why}")
        return None
    table = first.state.tables[0]
    part = _part(table, cell, table.keys.index(()), whole)
    weighted = is_weighted(table.sums[cell])
    return Search(part, config.alpha, config.min_rows, config.top, weighted)


def _waiting(searches: dict[Cell, Search]) -> list[Conjunction]:
    share = max(_BLOCK // max(len(searches), 1), 1)
    return list(dict.fromkeys(one for search in searches.values() for one in search.take_waiting(share)))


def _tested(
    passes: _Passes, searches: dict[Cell, Search], config: DiscoverConfig, confidence: float
) -> Iterator[Discovered]:
    wanted = list(dict.fromkeys(one for search in searches.values() for _, one, _ in search.best))
    held_out = passes.conjunctions(wanted, HELD_OUT, by_unit=True) if wanted and config.held_out else None
    for cell, search in searches.items():
        samples = {} if held_out is None else held_out.samples(cell)
        whole = None if held_out is None else held_out.whole(cell)
        for score, conjunction, part in search.best:
            chosen = Slice(tuple(passes.axes[axis] for axis, _ in conjunction))
            key = tuple(value for _, value in conjunction)
            sample = samples.get(conjunction)
            rows = None if held_out is None else 0 if sample is None else sample.rows
            beside = contrast(sample, whole, confidence, complement=True)
            mean = part.error / part.size
            yield Discovered(cell, chosen, key, score, part.rows, mean, rows, beside)
