"""Rows of gates."""

from __future__ import annotations

from collections.abc import Iterator

from lossops.comparisons import Difference
from lossops.config import GateConfig
from lossops.gates import Verdict, judged, of_difference, of_increase, of_mean, of_share
from lossops.kernels.accumulate import CLIPPED, SCORED
from lossops.kernels.checks import Reason
from lossops.ledger import UNALIGNED
from lossops.results.cells import Results, Row, ordered, place_of
from lossops.statistics import Summary
from lossops.tasks import Task

__all__ = ["gate_rows"]


def gate_rows(results: Results) -> Iterator[Row]:
    """Yield the rows of gates.parquet: by gate as configured, model, loss and slice."""
    for gate in results.plan.config.gates:
        found = list(_shares(results, gate) if gate.share else _limited(results, gate))
        verdicts = judged([one for _, one in found], gate.min_rows, results.plan.config.confidence)
        for (place, _), verdict in zip(found, verdicts, strict=True):
            fails = verdict.outcome == "fail" or (verdict.outcome, gate.on_insufficient) == ("insufficient", "fail")
            yield {"gate": gate.shown, **place, **vars(verdict), "fails": fails}


def _limited(results: Results, gate: GateConfig) -> Iterator[tuple[Row, Verdict]]:
    """Yield the place and the undecided verdict of every model and slice that a gate is about."""
    kind, limit = gate.limit
    confidence = results.plan.config.confidence
    pairs = results.comparisons
    compared = kind != "max"
    for task, cell in (
        [(one.task, one.cell) for one in pairs] if compared else [(one, one.cell) for one in results.tasks]
    ):
        if task.name != gate.loss or gate.model not in (None, task.model):
            continue
        own, hidden, named = results.cell(cell), results.hidden(cell), set()
        for number, chosen in enumerate(results.slices):
            found = own.differences(number) if compared else own.summaries(number)
            for key in ordered(list(found), chosen):
                place = place_of(task.model, task.name, chosen, key)
                if gate.covers(chosen.columns, place["slice"]):
                    named.add(place["slice"])
                    few = (number, key) in hidden
                    yield place, _hidden(limit) if few else _beside(found.get(key), kind, limit, confidence)
        for entry in gate.slices:  # a single slice of which there is no row
            if (
                isinstance(entry, str)
                and entry not in named
                and not any(entry in one.columns for one in results.slices)
            ):
                place = {
                    "model": task.model,
                    "loss": task.name,
                    "slice": entry,
                    "slice_columns": [],
                    "slice_values": [],
                }
                yield place, Verdict(limit, 0, why="no row is in this slice")


def _beside(found: Summary | Difference | None, kind: str, limit: float, confidence: float) -> Verdict:
    if isinstance(found, Summary):
        return of_mean(found, limit)
    if isinstance(found, Difference):
        return of_difference(found, limit) if kind == "max_difference" else of_increase(found, limit, confidence)
    return Verdict(limit, 0, why="no row is scored")


def _shares(results: Results, gate: GateConfig) -> Iterator[tuple[Row, Verdict]]:
    for task in results.tasks:
        if gate.loss not in (None, task.name) or gate.model not in (None, task.model):
            continue
        part, rows = _share(results, task, str(gate.share))
        place = {**place_of(task.model, task.name, results.slices[0], ())}
        yield place, of_share(part, rows, gate.limit[1])


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
