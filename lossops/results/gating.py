"""Rows of gates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lossops.comparisons import Difference
from lossops.config import GateConfig, columns_of_slice
from lossops.errors import counted, nearest
from lossops.gates import Outcome, Verdict, judged, of_difference, of_increase, of_mean, of_share
from lossops.groups import GroupKey
from lossops.kernels.accumulate import CLIPPED, SCORED
from lossops.kernels.checks import Reason
from lossops.ledger import UNALIGNED
from lossops.results.cells import Results, Row, ordered, place_of
from lossops.state import Cell
from lossops.statistics import Summary
from lossops.tasks import Task

__all__ = ["gate_rows"]

_SPELLINGS = 10_000  # slices among which the one that was meant is looked for
_OF_ABSENT: dict[str, Outcome] = {"fail": "fail", "pass": "insufficient"}


def gate_rows(results: Results) -> Iterator[Row]:
    """Yield the rows of gates.parquet: by gate as configured, model, loss and slice."""
    for gate in results.plan.config.gates:
        found = list(_shares(results, gate) if gate.share else _limited(results, gate))
        verdicts = judged([one for _, one in found], gate.min_rows, results.plan.config.confidence)
        places = [place for place, _ in found]
        for place, verdict in (*zip(places, verdicts, strict=True), *_absent(results, gate)):
            fails = verdict.outcome == "fail" or (verdict.outcome, gate.on_insufficient) == ("insufficient", "fail")
            yield {"gate": gate.shown, **place, **vars(verdict), "fails": fails}


def _limited(results: Results, gate: GateConfig) -> Iterator[tuple[Row, Verdict]]:
    """Yield the place and the undecided verdict of every model and slice that a gate is about."""
    kind, limit = gate.limit
    confidence = results.plan.config.confidence
    for task, cell in _cells(results, gate):
        hidden = results.hidden(cell)
        for number, key, place in _groups(results, gate, task, cell):
            if gate.covering(place["slice_columns"], place["slice"]):
                few = (number, key) in hidden
                found = _numbers(results, gate, cell, number).get(key)
                yield place, _hidden(limit) if few else _beside(found, kind, limit, confidence)


def _absent(results: Results, gate: GateConfig) -> Iterator[tuple[Row, Verdict]]:
    """Yield a verdict for every slice that a gate names, and of which there is no row: a misspelt one must not pass."""
    for task, cell in [] if gate.share else _cells(results, gate):
        groups = [place for _, _, place in _groups(results, gate, task, cell)]
        there = {one for place in groups for one in gate.covering(place["slice_columns"], place["slice"])}
        for number, entry in enumerate(gate.slices):
            if number in there:
                continue
            name = entry if isinstance(entry, str) else " & ".join(entry)
            known = [place["slice"] for place in groups if place["slice_columns"] == columns_of_slice(entry)]
            why = f"no row is in this slice; {nearest(name, known[:_SPELLINGS])}"
            place = {"model": task.model, "loss": task.name, "slice": name, "slice_columns": [], "slice_values": []}
            yield place, Verdict(gate.limit[1], 0, outcome=_OF_ABSENT[gate.on_absent], why=why)


def _cells(results: Results, gate: GateConfig) -> list[tuple[Task, Cell]]:
    """The models that a gate is about, or comparisons of them, by the key of their state."""
    if gate.limit[0] == "max":
        found: list[tuple[Task, Cell]] = [(task, task.cell) for task in results.tasks]
    else:
        found = [(one.task, one.cell) for one in results.comparisons]
    return [(task, cell) for task, cell in found if task.name == gate.loss and gate.model in (None, task.model)]


def _groups(results: Results, gate: GateConfig, task: Task, cell: Cell) -> Iterator[tuple[int, GroupKey, Row]]:
    """Yield the slices of a model or comparison that a gate may be about: number of the kind, key, names."""
    for number, chosen in enumerate(results.slices):
        if not gate.concerns(chosen.columns):
            continue
        for key in ordered(list(_numbers(results, gate, cell, number)), chosen):
            yield number, key, place_of(task.model, task.name, chosen, key)


def _numbers(
    results: Results, gate: GateConfig, cell: Cell, number: int
) -> Mapping[GroupKey, Summary] | Mapping[GroupKey, Difference]:
    own = results.cell(cell)
    return own.summaries(number) if gate.limit[0] == "max" else own.differences(number)


def _beside(found: Summary | Difference | None, kind: str, limit: float, confidence: float) -> Verdict:
    if isinstance(found, Summary):
        return of_mean(found, limit)
    if isinstance(found, Difference):
        return of_difference(found, limit) if kind == "max_difference" else of_increase(found, limit, confidence)
    return Verdict(limit, 0, why="no row is scored")


def _shares(results: Results, gate: GateConfig) -> Iterator[tuple[Row, Verdict]]:
    """Yield one verdict a model: of several losses that with the largest share, or of none where all have the same."""
    tasks: dict[str, list[Task]] = {}
    for task in results.tasks:
        if gate.loss in (None, task.name) and gate.model in (None, task.model):
            tasks.setdefault(task.model, []).append(task)
    for model, own in tasks.items():
        found = {task.name: _share(results, task, str(gate.share)) for task in own}
        shares = {name: part / max(rows, 1) for name, (part, rows) in found.items()}
        worst = max(shares, key=shares.__getitem__)
        alike = gate.loss is None and len(set(shares.values())) == 1
        place = place_of(model, worst, results.slices[0], ())
        unread = _unread(results, own[0]) if gate.share == "unmatched" else None
        yield {**place, "loss": None if alike else worst}, of_share(*found[worst], gate.limit[1], unread)


def _unread(results: Results, task: Task) -> str | None:
    files = next(one.predictions.unread for one in results.plan.pairings if task in one.tasks)
    return f"nobody knows how many rows the {counted(files, 'file')} in quarantine would have" if files else None


def _share(results: Results, task: Task, share: str) -> tuple[int, int]:
    """Return how many rows of a model and loss are invalid, clipped or unmatched, and of how many."""
    own = [one for one in results.scores.ledger if (one.dataset, one.model, one.loss) == ("predictions", *task.cell)]
    unmatched = sum(one.rows for one in own if one.reason in UNALIGNED)
    rows = sum(one.rows for one in own)
    if share == "unmatched":
        return unmatched, rows
    if share == "invalid":
        faults = {reason.name.lower() for reason in Reason if reason.is_fault}
        return sum(one.rows for one in own if one.reason in faults), rows - unmatched
    sums = results.scores.state.tables[0].sums.get(task.cell)
    return (0, 0) if sums is None else (int(sums.counts[:, CLIPPED].sum()), int(sums.counts[:, SCORED].sum()))


def _hidden(limit: float) -> Verdict:
    return Verdict(limit, 0, why="the slice is hidden by min_rows")
