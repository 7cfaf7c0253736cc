"""What Prefect shows of a report: a bounded choice of its rows as artifacts."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lossops.report import Report
from lossops.report.selection import (
    Row,
    gates_in_order,
    hidden_text,
    is_overall,
    level,
    number,
    overall,
    worst_first,
)

__all__ = ["ARTIFACT_ROWS", "as_json", "gate_rows", "loss_rows", "report_markdown"]

ARTIFACT_ROWS = 200  # of a table in Prefect's user interface, which renders every row it is given
_SHOWN = ("model", "loss", "slice", "rows", "rows_valid", "mean", "ci_low", "ci_high", "std", "min", "max")
_SHOWN_GATES = ("gate", "model", "slice", "limit", "value", "ci_low", "ci_high", "rows", "outcome", "fails")


def loss_rows(report: Report, limit: int) -> tuple[list[dict[str, Any]], int]:
    """Return rows for a table artifact, overall first, then slices, worst first, and how many more there are."""
    losses = report.losses.select(list(_SHOWN))
    whole = is_overall(report.losses)
    slices = worst_first(losses.filter(pc.invert(whole)))
    chosen = pa.concat_tables([losses.filter(whole), slices]).slice(0, limit)
    return [as_json(row) for row in chosen.to_pylist()], max(losses.num_rows - limit, 0)


def gate_rows(report: Report, limit: int) -> tuple[list[dict[str, Any]], int]:
    """Return rows of gates for a table, failing ones first, then insufficient ones, and how many more there are."""
    rows = [{name: row[name] for name in _SHOWN_GATES} for row in gates_in_order(report)]
    return [as_json(row) for row in rows[:limit]], max(len(rows) - limit, 0)


def as_json(row: Row) -> dict[str, Any]:
    """JSON knows no infinity, so it becomes a word."""
    return {key: str(value) if isinstance(value, float) and math.isinf(value) else value for key, value in row.items()}


def report_markdown(report: Report) -> str:
    """Where the report is and what it says over all data, as Markdown."""
    heads = [f"| model | loss | rows | mean | {level(report)} interval |", "|---|---|---|---|---|"]
    lines = [f"**Report**: `{report.path}`", "", *heads]
    for row in overall(report)[:ARTIFACT_ROWS]:
        interval = f"{number(row['ci_low'])} to {number(row['ci_high'])}"
        rows = "hidden" if row["hidden"] else f"{row['rows_valid']:,}"
        lines.append(f"| {row['model']} | {row['loss']} | {rows} | {number(row['mean'])} | {interval} |")
    if text := hidden_text(report):
        lines += ["", text]
    return "\n".join(lines)
