"""Merged sums to the rows of the report's tables: by model and loss as configured, overall first, slices by value."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from lossops.comparisons import Contrast, Difference, adjusted, compare, contrast
from lossops.config import GateConfig
from lossops.data.keys import NO_NUMBER, NO_TEXT
from lossops.gates import Verdict, judged, of_difference, of_increase, of_mean, of_share
from lossops.histograms import edges
from lossops.kernels.accumulate import CLIPPED, SCORED
from lossops.kernels.checks import Reason
from lossops.ledger import UNALIGNED
from lossops.measures import BoundMeasure
from lossops.plan import Pairing, Plan, shard_id
from lossops.quantiles import is_heavy_tailed, quantiles
from lossops.report import quantile_name
from lossops.runs import Scores
from lossops.samples import Sample
from lossops.slices import Slice
from lossops.state import Cell, GroupKey, GroupTable
from lossops.statistics import Summary, samples_of, summary_of
from lossops.tasks import Task

__all__ = ["comparison_rows", "contrast_rows", "gate_rows", "hardest_table", "histogram_table", "loss_rows"]

Row = dict[str, Any]
BINS_TOGETHER = 8  # of histograms.parquet: 8 bins from one power of two to the next
_Found = TypeVar("_Found", Difference, Contrast)


class _Cell:
    """One model and loss, or comparison, in every slice; samples are made once."""

    def __init__(self, scores: Scores, cell: Cell) -> None:
        self._state, self._cell = scores.state, cell
        self.confidence = scores.plan.config.confidence
        self.overall = next(iter(self.samples(0)), None)

    def table(self, number: int) -> GroupTable:
        """The groups of a slice."""
        return self._state.tables[number]

    def samples(self, number: int) -> Sequence[Sample | None]:
        """The sample of each group of a slice."""
        table = self.table(number)
        return samples_of(table, self._cell) if self._cell in table.sums else []

    def summaries(self, number: int) -> dict[GroupKey, Summary]:
        """The numbers of each group of a slice."""
        table = self.table(number)
        return {
            key: self._with_tail(
                summary_of(table.sums[self._cell], group, sample, self.overall, self.confidence), table, group, sample
            )
            for group, (key, sample) in enumerate(zip(table.keys, self.samples(number), strict=False))
        }

    def _with_tail(self, found: Summary, table: GroupTable, group: int, sample: Sample | None) -> Summary:
        if self._cell not in table.histograms or sample is None or found.std_error is None:
            return found
        return replace(found, heavy_tail=is_heavy_tailed(*table.histograms[self._cell].group(group), sample.size))

    def quantiles(self, number: int, levels: Sequence[float]) -> dict[GroupKey, list[float]]:
        """Quantiles of loss of each group of a slice that has a scored row."""
        table = self.table(number)
        if self._cell not in table.histograms:
            return {}
        extremes = table.sums[self._cell].extremes.tolist()
        bins = [table.histograms[self._cell].group(group) for group in range(len(table.keys))]
        return {
            key: quantiles(*bins[group], levels, *extremes[group])
            for group, key in enumerate(table.keys)
            if len(bins[group][0])
        }

    def differences(self, number: int) -> dict[GroupKey, Difference]:
        """The comparison with the baseline in each group of a slice."""
        table = self.table(number)
        return {
            key: compare(sample, self.overall, int(table.sums[self._cell].counts[group, SCORED]), self.confidence)
            for group, (key, sample) in enumerate(zip(table.keys, self.samples(number), strict=False))
        }

    def contrasts(self, number: int, *, complement: bool) -> dict[GroupKey, Contrast]:
        """Each group of a slice beside overall, or beside all other rows."""
        pairs = zip(self.table(number).keys, self.samples(number), strict=False)
        found = {key: contrast(one, self.overall, self.confidence, complement=complement) for key, one in pairs}
        return {key: one for key, one in found.items() if one is not None}


def _tasks(plan: Plan) -> Iterator[Task]:
    return (task for pairing in plan.pairings for task in pairing.tasks)


def _ordered(keys: Sequence[GroupKey], chosen: Slice) -> list[GroupKey]:
    return sorted(keys) or ([()] if not chosen.axes else [])


def _place(model: str, loss: str, chosen: Slice, key: GroupKey) -> Row:
    return {
        "model": model,
        "loss": loss,
        "slice": chosen.label(key),
        "slice_columns": chosen.columns,
        "slice_values": chosen.values(key),
    }


def loss_rows(scores: Scores) -> Iterator[Row]:
    """Yield the rows of losses.parquet."""
    plan = scores.plan
    for task in _tasks(plan):
        cell = _Cell(scores, task.cell)
        for number, chosen in enumerate(plan.pairings[0].slices):
            table = scores.state.tables[number]
            measured = isinstance(task.loss, BoundMeasure)
            found = _measured(task, scores, number) if measured else cell.summaries(number)
            levels = plan.config.quantiles
            tails = cell.quantiles(number, levels)
            for key in _ordered(table.keys, chosen):
                kind = "measure" if measured else "loss"
                summary = found.get(key, Summary(0, 0, 0, 0.0))
                row = {**_place(task.model, task.name, chosen, key), "kind": kind, **vars(summary)}
                yield {**row, **dict(zip(map(quantile_name, levels), tails.get(key, ()), strict=False))}


def histogram_table(scores: Scores, schema: pa.Schema) -> pa.Table:
    """Return histograms.parquet: a row per model, loss, slice and bin."""
    parts = [schema.empty_table()]
    for task in _tasks(scores.plan):
        for table, chosen in zip(scores.state.tables, _slices(scores.plan), strict=True):
            if task.cell in table.histograms:
                parts.append(_bins(task, table, chosen, schema))
    return pa.concat_tables(parts)


def _bins(task: Task, table: GroupTable, chosen: Slice, schema: pa.Schema) -> pa.Table:
    counted = table.histograms[task.cell]
    numbers, low, high = edges(counted.codes.astype(np.int64), BINS_TOGETHER)
    rank = np.argsort(np.array(sorted(range(len(table.keys)), key=lambda group: table.keys[group]), dtype=np.int64))
    groups = counted.groups
    order = np.lexsort((numbers, rank[groups]))
    groups, numbers = groups[order], numbers[order]
    starts = np.flatnonzero(
        np.concatenate([[True], (np.diff(groups) != 0) | (np.diff(numbers) != 0)]) if len(order) else np.empty(0)
    )
    fields = pa.schema([schema.field(name) for name in schema.names[:5]])
    places = pa.Table.from_pylist([_place(task.model, task.name, chosen, key) for key in table.keys], schema=fields)
    rows = np.add.reduceat(counted.counts[order], starts) if len(starts) else np.empty(0, dtype=np.int64)
    columns = [*places.take(pa.array(groups[starts])).columns, low[order][starts], high[order][starts], rows]
    return pa.table([*columns[:5], *(pa.array(one) for one in columns[5:])], schema=schema)


def hardest_table(scores: Scores, schema: pa.Schema) -> pa.Table:
    """Return hardest.parquet: a row per model, loss, slice and rank; the type of the key is that of the data."""
    rows = [
        row
        for pairing in scores.plan.pairings
        for task in pairing.tasks
        for table, chosen in zip(scores.state.tables, pairing.slices, strict=True)
        if task.cell in table.hardest
        for row in _hardest_rows(task, table, chosen, _names(pairing))
    ]
    keys = [row["key"] for row in rows if row["key"] is not None]
    if keys and all(isinstance(key, int) for key in keys):
        place = schema.get_field_index("key")
        schema = schema.set(place, schema.field(place).with_type(pa.int64() if max(keys) < 2**63 else pa.uint64()))
    return pa.Table.from_pylist(rows, schema=schema)


def _names(pairing: Pairing) -> dict[int, str]:
    return {shard_id(shard.path): shard.path for shard in pairing.predictions.shards}


def _hardest_rows(task: Task, table: GroupTable, chosen: Slice, names: Mapping[int, str]) -> Iterator[Row]:
    found = table.hardest[task.cell]
    classes = dict(zip(task.class_values, task.classes, strict=False))
    for group in sorted(range(len(table.keys)), key=lambda group: table.keys[group]):
        place = _place(task.model, task.name, chosen, table.keys[group])
        start, stop = np.searchsorted(found.groups, [group, group + 1])
        for rank, entry in enumerate(range(start, stop), start=1):
            labels, predictions = found.labels[entry].tolist(), found.predictions[entry].tolist()
            yield {
                **place,
                "rank": rank,
                "key": _shown_key([key[entry].item() for key in found.keys]),
                "loss_value": float(found.losses[entry]),
                "label": _shown([classes.get(value, value) for value in labels]) if labels else None,
                "prediction": _shown(predictions),
                "shard": names[int(found.shards[entry])],
                "row": int(found.rows[entry]),
            }


def _shown_key(values: Sequence[int | str]) -> int | str | None:
    """Return one key as it is, several as a list in JSON, none as None."""
    known = [None if value in (NO_NUMBER, NO_TEXT) else value for value in values]
    return json.dumps(known) if len(known) > 1 else next(iter(known), None)


def _shown(values: Sequence[object]) -> str:
    texts = [repr(int(one)) if isinstance(one, float) and one.is_integer() else str(one) for one in values]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def _measured(task: Task, scores: Scores, number: int) -> dict[Any, Summary]:
    """The value of a measure stands where the mean of a loss does; sums and intervals belong to means only."""
    if not isinstance(task.loss, BoundMeasure) or task.cell not in scores.state.measures:
        return {}
    table = scores.state.measures[task.cell][number]
    return {
        key: Summary(one.rows, one.rows_valid, one.rows_clipped, one.weight_sum, mean=one.value)
        for key, one in zip(table.keys, task.loss.results(table), strict=True)
    }


def comparison_rows(scores: Scores) -> Iterator[Row]:
    """Yield the rows of comparisons.parquet."""
    for one in (one for pairing in scores.plan.pairings for one in pairing.comparisons):
        cell = _Cell(scores, one.cell)
        place = partial(_place, one.task.model, one.task.name)
        for row in _with_adjusted(scores, cell.differences, place):
            yield {**row, "baseline": one.baseline.model}


def contrast_rows(scores: Scores) -> Iterator[Row]:
    """Yield the rows of contrasts.parquet."""
    for task in _tasks(scores.plan):
        if isinstance(task.loss, BoundMeasure):
            continue
        cell, place = _Cell(scores, task.cell), partial(_place, task.model, task.name)
        for against in ("overall", "complement"):
            found = partial(cell.contrasts, complement=against == "complement")
            for row in _with_adjusted(scores, found, place):
                yield {**row, "against": against}


def _with_adjusted(
    scores: Scores,
    found: Callable[[int], Mapping[GroupKey, _Found]],
    place: Callable[[Slice, GroupKey], Row],
) -> Iterator[Row]:
    """Yield rows with p-values adjusted over all slices; that of overall stays as it is."""
    slices = list(enumerate(scores.plan.pairings[0].slices))
    rows = [(chosen, key, one) for number, chosen in slices for key, one in sorted(found(number).items())]
    inner = [one.p_value if chosen.axes else None for chosen, _, one in rows]
    for (chosen, key, one), p_value in zip(rows, adjusted(inner), strict=True):
        yield {**place(chosen, key), **vars(replace(one, p_adjusted=p_value if chosen.axes else one.p_value))}


def gate_rows(scores: Scores) -> Iterator[Row]:
    """Yield the rows of gates.parquet: by gate as configured, model, loss and slice."""
    for gate in scores.plan.config.gates:
        found = list(_shares(scores, gate) if gate.share else _limited(scores, gate))
        verdicts = judged([one for _, one in found], gate.min_rows, scores.plan.config.confidence)
        for (place, _), verdict in zip(found, verdicts, strict=True):
            fails = verdict.outcome == "fail" or (verdict.outcome, gate.on_insufficient) == ("insufficient", "fail")
            yield {"gate": gate.shown, **place, **vars(verdict), "fails": fails}


def _limited(scores: Scores, gate: GateConfig) -> Iterator[tuple[Row, Verdict]]:
    """Yield the place and the undecided verdict of every model and slice that a gate is about."""
    plan = scores.plan
    kind, limit = gate.limit
    pairs = [one for pairing in plan.pairings for one in pairing.comparisons]
    compared = kind != "max"
    for task, cell in (
        [(one.task, one.cell) for one in pairs] if compared else [(one, one.cell) for one in _tasks(plan)]
    ):
        if task.name != gate.loss or gate.model not in (None, task.model):
            continue
        own, named = _Cell(scores, cell), set()
        for number, chosen in enumerate(plan.pairings[0].slices):
            found = own.differences(number) if compared else own.summaries(number)
            for key in _ordered(list(found), chosen):
                place = _place(task.model, task.name, chosen, key)
                if gate.covers(chosen.columns, place["slice"]):
                    named.add(place["slice"])
                    yield place, _beside(found.get(key), kind, limit, plan.config.confidence)
        for entry in gate.slices:  # a single slice of which there is no row
            if isinstance(entry, str) and entry not in named and not any(entry in one.columns for one in _slices(plan)):
                place = {
                    "model": task.model,
                    "loss": task.name,
                    "slice": entry,
                    "slice_columns": [],
                    "slice_values": [],
                }
                yield place, Verdict(limit, 0, why="no row is in this slice")


def _slices(plan: Plan) -> Sequence[Slice]:
    return plan.pairings[0].slices


def _beside(found: Summary | Difference | None, kind: str, limit: float, confidence: float) -> Verdict:
    if isinstance(found, Summary):
        return of_mean(found, limit)
    if isinstance(found, Difference):
        return of_difference(found, limit) if kind == "max_difference" else of_increase(found, limit, confidence)
    return Verdict(limit, 0, why="no row is scored")


def _shares(scores: Scores, gate: GateConfig) -> Iterator[tuple[Row, Verdict]]:
    for task in _tasks(scores.plan):
        if gate.loss not in (None, task.name) or gate.model not in (None, task.model):
            continue
        part, rows = _share(scores, task, str(gate.share))
        place = {**_place(task.model, task.name, _slices(scores.plan)[0], ())}
        yield place, of_share(part, rows, gate.limit[1])


def _share(scores: Scores, task: Task, share: str) -> tuple[int, int]:
    """Return how many rows of a model and loss are invalid, clipped or unmatched, and of how many."""
    own = [one for one in scores.ledger if (one.dataset, one.model, one.loss) == ("predictions", *task.cell)]
    unmatched = sum(one.rows for one in own if one.reason in UNALIGNED)
    rows = sum(one.rows for one in own)
    if share == "unmatched":
        return unmatched, rows
    if share == "invalid":
        faults = {reason.name.lower() for reason in Reason if reason.is_fault}
        return sum(one.rows for one in own if one.reason in faults), rows - unmatched
    sums = scores.state.tables[0].sums.get(task.cell)
    return (0, 0) if sums is None else (int(sums.counts[:, CLIPPED].sum()), int(sums.counts[:, SCORED].sum()))
