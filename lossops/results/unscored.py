"""What a reader of a report must not overlook: rows that are not scored, or may not belong together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow.compute as pc
from pyarrow import types

from lossops.data.dataset import Dataset
from lossops.errors import counted
from lossops.kernels.checks import Reason
from lossops.ledger import UNALIGNED
from lossops.pairing import Pairing
from lossops.results.cells import Results
from lossops.tasks import Task

__all__ = ["warnings_of"]

_SHARE = 0.01  # of the rows of a side, from which on it is told that they are not scored
_NO_CLASS = {reason.name.lower() for reason in (Reason.LABEL_OUTSIDE_DOMAIN, Reason.LABEL_NOT_INTEGER)}
_CHOICES = {reason.name.lower() for reason in Reason if not reason.is_fault}
# Labels are looked at again only where some are no class: in so many files, and so many rows at the head of each.
_FILES, _ROWS = 16, 1 << 16
_NAMED, _LETTERS = 5, 40  # values that are named, and letters of each


class _Lost(NamedTuple):
    """Rows of a side that are not scored: of how many, by reason, and what is known of labels that are no class."""

    rows: int
    reasons: tuple[tuple[str, int], ...]
    classes: str


def warnings_of(results: Results) -> list[str]:
    """Return a sentence wherever at least a hundredth of the rows of a side is not scored, or may not be counted.

    Models and losses that leave out the same rows share a sentence. Where labels are no class of a loss, it names such
    labels, and classes that none of the labels looked at has: one of them may be misspelt. Before them it is told what
    speaks against pairing rows by position, and which files cannot even be counted.

    Raises:
        InputError: labels that are looked at again cannot be read any more.
    """
    tasks = {task.cell: (task, pairing.labels) for pairing in results.plan.pairings for task in pairing.tasks}
    losses: dict[tuple[str, str, _Lost], list[str]] = {}
    for (dataset, model, loss), reasons in _buckets(results).items():
        rows, lost = sum(reasons.values()), _left_out(dataset, reasons)
        doubtful = dataset == "predictions" and _NO_CLASS & {reason for reason, count in reasons.items() if count}
        told = _classes(*tasks[model, loss]) if doubtful else ""
        if lost and (told or sum(count for _, count in lost) >= _SHARE * rows):
            losses.setdefault((dataset, model, _Lost(rows, lost, told)), []).append(loss)
    models: dict[tuple[str, _Lost, tuple[str, ...]], list[str]] = {}
    for (dataset, model, found), names in losses.items():
        all_ = len(names) == sum(task.model == model for task in results.tasks)
        models.setdefault((dataset, found, () if all_ else tuple(names)), []).append(model)
    shares = [_sentence(dataset, found, names, by) for (dataset, found, by), names in models.items()]
    return [*_doubts(results), *_unread(results), *shares]


def _doubts(results: Results) -> Iterator[str]:
    for pairing in results.plan.pairings:
        for why in () if pairing.key else pairing.why:
            yield f"{_models(pairing)}: {why}."


def _unread(results: Results) -> Iterator[str]:
    sides = {f"predictions of {_models(pairing)}": pairing.predictions for pairing in results.plan.pairings}
    for which, dataset in (*sides.items(), ("labels", results.plan.pairings[0].labels)):
        if dataset.unread:
            files = counted(dataset.unread, "file")
            yield f"{files} of the {which} cannot be opened, so no count and no share of rows has the rows in it."


def _models(pairing: Pairing) -> str:
    return ", ".join(dict.fromkeys(task.model for task in pairing.tasks))


def _buckets(results: Results) -> Mapping[tuple[str, str, str], dict[str, int]]:
    found: dict[tuple[str, str, str], dict[str, int]] = {}
    for entry in results.scores.ledger:
        found.setdefault((entry.dataset, entry.model, entry.loss), {})[entry.reason] = entry.rows
    return found


def _left_out(dataset: str, reasons: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """Rows that are not scored, by reason, most first; of labels those without a partner, to count no row twice."""
    lost = [
        (reason, rows)
        for reason, rows in reasons.items()
        if rows and reason not in _CHOICES and (dataset == "predictions" or reason in UNALIGNED)
    ]
    return tuple(sorted(lost, key=lambda one: -one[1]))


def _sentence(dataset: str, found: _Lost, models: Sequence[str], losses: Sequence[str]) -> str:
    count = sum(number for _, number in found.reasons)
    share = f"{100 * count / found.rows:.3g} % of the"
    which = "labels" if dataset == "labels" else f"predictions of {', '.join(models)}"
    what = "are not scored" if dataset == "predictions" else f"pair with no prediction of {', '.join(models)}"
    by = f" by {', '.join(losses)}" if losses else ""
    why = ", ".join(f"{number:,} {reason}" for reason, number in found.reasons)
    return f"{share} {which} ({count:,} of {found.rows:,}) {what}{by}: {why}.{found.classes}"


def _classes(task: Task, labels: Dataset) -> str:
    """Name labels that are no class, and classes that no label is, among labels of many files; nothing if all fit."""
    columns = [name for name in task.labels if not types.is_nested(labels.type_of(name, "labels.label"))]
    if not task.classes:
        return ""
    alike: Callable[[Any], str | float] = str if isinstance(task.classes[0], str) else float
    seen = sum((_values(labels, column) for column in columns), Counter[Any]())
    classes, there = {alike(one) for one in task.classes}, {alike(value) for value in seen}
    strange = [value for value, _ in seen.most_common() if alike(value) not in classes]
    missing = [one for one in task.classes if alike(one) not in there]
    if not strange:
        return ""
    count = sum(seen[value] for value in strange)
    told = f" Of {seen.total():,} labels looked at, {count:,} are no class: {_listed(strange)}."
    return told + (f" Classes that none of them is: {_listed(missing)}." if missing else "")


def _values(labels: Dataset, column: str) -> Counter[Any]:
    """How often each value occurs at the head of files that lie evenly among all."""
    found: Counter[Any] = Counter()
    for shard in labels.shards[:: -(-len(labels.shards) // _FILES) or 1]:
        for table in labels.read(shard, [column], 0, min(shard.rows, _ROWS), _ROWS):
            for one in pc.value_counts(table[column]).to_pylist():
                found[one["values"]] += one["counts"]
    del found[None]
    return found


def _listed(values: Sequence[object]) -> str:
    more = len(values) - _NAMED
    return ", ".join(map(_short, values[:_NAMED])) + (f" and {more:,} more" if more > 0 else "")


def _short(value: object) -> str:
    if not isinstance(value, str):
        return str(value)
    return repr(value if len(value) <= _LETTERS else f"{value[:_LETTERS]}…")
