"""What a person sees of a report first: a bounded choice of its rows. Selects and sorts, computes no number."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lossops.losses import CATALOGUE
from lossops.measures import MEASURES
from lossops.report.store import Report

__all__ = [
    "Row",
    "Unscored",
    "compared",
    "discovered",
    "gates_in_order",
    "hidden_text",
    "higher_is_better",
    "is_overall",
    "level",
    "number",
    "overall",
    "printable",
    "slices_of",
    "unscored",
    "worst_first",
    "worst_slices",
]

Row = Mapping[str, Any]


def number(value: float | None) -> str:
    """A loss in six digits; a dash where the data does not determine it."""
    return "-" if value is None else f"{value:.6g}"


def printable(text: str) -> str:
    """Text from a dataset, without characters that could steer a terminal or turn what is read."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)


def is_overall(losses: pa.Table) -> pa.ChunkedArray:
    """Whether each row of a table is of all data, bool [rows]."""
    return pc.equal(pc.list_value_length(losses["slice_columns"]), 0)


def overall(report: Report) -> list[dict[str, Any]]:
    """The row of every model and loss for all data, in the order of the config."""
    return report.overall


def worst_first(losses: pa.Table, *, low_is_worse: bool = False) -> pa.Table:
    """Sort by the lower end of the interval, so that a few unlucky rows do not outrank a real problem.

    Measures have no interval and are sorted by their value.
    """
    return losses.take(_worst_first(losses, low_is_worse=low_is_worse))


def _worst_first(losses: pa.Table, *, low_is_worse: bool) -> pa.Array:
    endless = pc.equal(losses["mean"], math.inf)
    surely = pc.if_else(pc.fill_null(endless, fill_value=False), math.inf, losses["ci_low"])
    ranked = pa.table({"surely": surely, "mean": losses["mean"]})
    order = "ascending" if low_is_worse else "descending"
    return pc.sort_indices(ranked, [("surely", "descending"), ("mean", order)])


def higher_is_better(report: Report, loss: str) -> bool:
    """Whether a larger value of what the report calls so is a better one."""
    names = {one.get("name") or one["loss"]: one["loss"] for one in report.run.get("config", {}).get("losses", ())}
    declared = {**CATALOGUE, **MEASURES}.get(names.get(loss, loss))
    return declared is not None and declared.higher_is_better


def slices_of(
    report: Report,
    model: str,
    loss: str,
    limit: int | None = None,
    axes: int | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """The slices of a model and loss whose numbers are not hidden, worst first.

    Args:
        report: where they are.
        model, loss: whose.
        limit: how many; None for all.
        axes: only those of so many columns.
        columns: of losses.parquet; None for all.
    """
    found = _rows_of_slices(report, model, loss, axes)
    numbers = report.losses.select(["mean", "ci_low"]).take(found)
    order = _worst_first(numbers, low_is_worse=higher_is_better(report, loss))
    losses = report.losses if columns is None else report.losses.select(columns)
    return losses.take(found.take(order if limit is None else order.slice(0, limit)))


def _rows_of_slices(report: Report, model: str, loss: str, axes: int | None) -> pa.Array:
    """Which rows of losses.parquet are of slices of a model and loss that are not hidden."""
    losses = report.losses
    own = pc.and_(pc.equal(losses["model"], model), pc.equal(losses["loss"], loss))
    widths = pc.list_value_length(losses["slice_columns"])
    wanted = pc.greater(widths, 0) if axes is None else pc.equal(widths, axes)
    return pc.indices_nonzero(pc.and_(pc.and_(own, wanted), pc.is_null(losses["hidden"])))


def worst_slices(report: Report, model: str, loss: str, limit: int) -> tuple[list[dict[str, Any]], int]:
    """Return the slices with the surely highest loss, worst first, and how many more there are."""
    count = len(_rows_of_slices(report, model, loss, None))
    return slices_of(report, model, loss, limit).to_pylist(), max(count - limit, 0)


def gates_in_order(report: Report) -> list[dict[str, Any]]:
    """The rows of gates.parquet, failing ones first, then insufficient ones."""
    order = {"fail": 0, "insufficient": 1, "pass": 2}
    rows: list[dict[str, Any]] = report.gates.to_pylist()
    return sorted(rows, key=lambda row: (not row["fails"], order[row["outcome"]]))


def compared(report: Report) -> list[dict[str, Any]]:
    """The comparison of every model and loss with the baseline over all data."""
    return list(report.comparisons.filter(is_overall(report.comparisons)).to_pylist())


def discovered(report: Report, limit: int) -> tuple[list[dict[str, Any]], int]:
    """Return slices that were found, those that the other half of the rows confirms best first, and how many more."""
    rows = report.discovered.to_pylist()
    rows.sort(key=lambda row: (row["p_adjusted"] is None, row["p_adjusted"], -row["score"]))
    return rows[:limit], max(len(rows) - limit, 0)


def hidden_text(report: Report) -> str | None:
    """How many slices are hidden and why, in a sentence; None if none is."""
    few, others = (report.run.get("hidden", {}).get(reason, 0) for reason in ("min_rows", "complement"))
    if not few:
        return None
    limit = report.run["config"]["min_rows"]
    told = f"{few:,} slices below {limit:,} rows, and {others:,} that would give them away"
    return f"Hidden, counted for each model and loss: {told}."


def level(report: Report) -> str:
    """The level of the intervals, such as ``95 %``."""
    return f"{100 * report.run['config'].get('confidence', 0.95):g} %"


@dataclass
class Unscored:
    """Rows that were read and not scored, for one reason; None as loss stands for every loss of the model."""

    model: str
    loss: str | None
    reason: str
    rows: dict[str, int] = field(default_factory=dict)


def unscored(report: Report) -> list[Unscored]:
    """Return the ledger without its scored rows; a reason that takes the same rows from every loss is listed once."""
    found: dict[tuple[str, str], dict[str, Unscored]] = {}
    losses: dict[str, set[str]] = {}
    for entry in report.ledger.to_pylist():
        model, loss, reason = entry["model"], entry["loss"], entry["reason"]
        losses.setdefault(model, set()).add(loss)
        if reason != "scored" and entry["rows"]:
            line = found.setdefault((model, reason), {}).setdefault(loss, Unscored(model, loss, reason))
            line.rows[entry["dataset"]] = entry["rows"]
    return [line for (model, _), lines in found.items() for line in _folded(lines.values(), len(losses[model]))]


def _folded(lines: Iterable[Unscored], losses: int) -> list[Unscored]:
    lines = list(lines)
    first = lines[0]
    if losses > 1 and len(lines) == losses and all(line.rows == first.rows for line in lines):
        return [Unscored(first.model, None, first.reason, first.rows)]
    return lines
