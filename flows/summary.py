"""What Prefect shows of a report: a bounded choice of its rows as artifacts."""

from __future__ import annotations

import math
from base64 import b64encode
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lossops.report import SCHEMAS, Report
from lossops.report.images import as_png
from lossops.report.selection import (
    Row,
    gates_in_order,
    hidden_text,
    is_overall,
    level,
    number,
    overall,
    printable,
    worst_first,
    worst_slices,
)
from lossops.report.slice_sections import worst_slices_plot
from lossops.report.verdict import verdict

__all__ = ["ARTIFACT_ROWS", "as_json", "gate_rows", "loss_rows", "report_markdown", "worst_slices_picture"]

_PAIRS, _WORST = 6, 5  # pairs of model and loss whose worst slices are told, and how many of each
_DRAWN = 12  # slices of a picture
_LETTERS = 100
_WARNING = 600  # letters of one
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
    """What a report says and where it is, as Markdown: verdict, all rows, the worst slices, its files."""
    parts = [_verdict_lines(report), _overall_lines(report), _slice_lines(report), _file_lines(report)]
    if text := hidden_text(report):
        parts.insert(3, [text])
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def worst_slices_picture(report: Report) -> tuple[str, str] | None:
    """A picture of the worst slices of the first model and loss that has any, as a URL, and what it shows."""
    for row in overall(report):
        pair = (row["model"], row["loss"])
        rows, _ = worst_slices(report, *pair, _DRAWN)
        picture = worst_slices_plot(report, pair, rows) if rows else None
        if picture is not None:
            told = f"Worst slices of {', '.join(map(_cell, pair))}, with {level(report)} intervals"
            return f"data:image/png;base64,{b64encode(as_png(picture)).decode()}", told
    return None


def _verdict_lines(report: Report) -> list[str]:
    found = verdict(report)
    reasons = [f"- {', '.join(map(_cell, names))}: {what}" for *names, what in found.reasons]
    more = [f"- and {found.more:,} more"] if found.more else []
    warnings = [line for one in found.warnings for line in ("", f"**Warning.** {_cell(one, _WARNING)}")]
    return [f"**{found.outcome.capitalize()}.** {found.text}", *([""] if reasons else []), *reasons, *more, *warnings]


def _overall_lines(report: Report) -> list[str]:
    heads = [f"| model | loss | rows | mean | {level(report)} interval |", "|---|---|---|---|---|"]
    rows = overall(report)[:ARTIFACT_ROWS]
    return [*heads, *(f"| {_cell(row['model'])} | {_cell(row['loss'])} | {_numbers(row)} |" for row in rows)]


def _slice_lines(report: Report) -> list[str]:
    heads = [f"| worst slices | model | loss | rows | mean | {level(report)} interval |", "|---|---|---|---|---|---|"]
    pairs = [(row["model"], row["loss"]) for row in overall(report)[:_PAIRS]]
    rows = [row for pair in pairs for row in worst_slices(report, *pair, _WORST)[0]]
    names = ("slice", "model", "loss")
    lines = [f"| {' | '.join(_cell(row[name]) for name in names)} | {_numbers(row)} |" for row in rows]
    return [*heads, *lines] if lines else []


def _file_lines(report: Report) -> list[str]:
    """Links to the files, for whoever reaches the place: a browser opens those of object stores by other means."""
    base = report.path if "://" in report.path else Path(report.path).resolve().as_uri()
    names = ["report.html", "run.json", *(f"{name}.parquet" for name in SCHEMAS)]
    return [f"**Report**: `{report.path}`", "", ", ".join(f"[{name}](<{base}/{name}>)" for name in names)]


def _numbers(row: Row) -> str:
    interval = f"{number(row['ci_low'])} to {number(row['ci_high'])}"
    rows = "hidden" if row["hidden"] else f"{row['rows_valid']:,}"
    return f"{rows} | {number(row['mean'])} | {interval}"


def _cell(text: str, letters: int = _LETTERS) -> str:
    """Text of the user's in a table: as code, so that nothing in it is a link, a picture or another cell."""
    shown = printable(text[:letters]).replace("`", "'").replace("|", "\N{BROKEN BAR}")
    return f"`{shown}`" if shown.strip() else "` `"
