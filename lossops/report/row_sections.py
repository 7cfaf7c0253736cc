"""The sections of rows and files: where every row went, the hardest, and what was run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from lossops.report import plots
from lossops.report.blocks import Block, Code, Column, Facts, Figure, Gallery, Note, Table, left_out, values, within
from lossops.report.selection import Row, is_overall, number
from lossops.report.store import Report
from lossops.report.svg import plot_of

__all__ = ["hardest", "ledger", "what_was_run"]

_BARS = 24
_FOLDED = 12  # rows of a table that is opened first
_BYTES = 150_000  # of a table that may be long
_LONG = re.compile(r"\d+\.\d{6,}(?:e[+-]?\d+)?|\d\.\d+e[+-]?\d+")  # numbers of more digits than are read


def ledger(report: Report) -> Iterator[Block]:
    """Stacked bars of what became of rows, the same as a table, and shards in quarantine."""
    entries = [row for row in report.ledger.to_pylist() if row["rows"]]
    bars = _bars(entries)
    if not bars:
        return
    totals = [f"{count:,} rows of {dataset}" for dataset, count in report.run.get("rows", {}).items()]
    yield Note(f"Read: {' and '.join(totals)}. Each bar adds up to the rows that were read for it.")
    shown = list(bars.items())[:_BARS]
    reasons = list(dict.fromkeys(["scored", *(row["reason"] for row in entries)]))
    lost = [(label, [part for part in parts if part[0] != "scored"]) for label, parts in shown]
    about = "A bar for each dataset, model and loss that differ, stacked by what became of its rows."
    table = Table(
        "t-ledger",
        "Rows by what became of them",
        [
            *(Column(title, "text", choice=True) for title in ("dataset", "model", "loss", "reason")),
            Column("rows", "count"),
        ],
        within(values(entries, "dataset", "model", "loss", "reason", "rows"), _BYTES),
        folded=len(entries) > _FOLDED,
    )
    figures = [Figure(("All rows",), plot_of(plots.ledger_plot(shown, reasons, "rows"), "Where every row went", about))]
    if any(parts for _, parts in lost):
        plot = plot_of(plots.ledger_plot(lost, reasons, "rows not scored"), "Rows that were not scored", about)
        figures.append(Figure(("Rows that were not scored",), plot))
    yield Gallery(figures)
    yield table
    yield from left_out(len(bars) - _BARS, "bars", "ledger.parquet")
    yield from _quarantined(report)


def _bars(entries: Sequence[Row]) -> dict[tuple[str, ...], list[tuple[str, int]]]:
    """What became of rows, by dataset, model and loss; one bar for models or losses that leave out the same rows."""
    parts: dict[tuple[str, ...], list[tuple[str, int]]] = {}
    for row in entries:
        parts.setdefault((row["dataset"], row["model"], row["loss"]), []).append((row["reason"], row["rows"]))
    for names in range(2, 0, -1):  # without the last name, as long as that tells nothing
        shorter = {key[:names]: own for key, own in parts.items()}
        if any(shorter[key[:names]] != own for key, own in parts.items()):
            break
        parts = shorter
    return parts


def _quarantined(report: Report) -> Iterator[Block]:
    rows = [row for row in report.shards.to_pylist() if row["problem"]]
    if rows:
        columns = [
            Column("dataset", "text"),
            Column("shard", "text"),
            Column("rows", "count"),
            Column("problem", "text"),
        ]
        shown = within(values(rows, "dataset", "path", "rows", "problem"), _BYTES)
        yield Table("t-quarantined", "Shards in quarantine: none of their rows is scored", columns, shown)


def hardest(report: Report) -> Iterator[Block]:
    """The rows with the largest losses."""
    rows = report.hardest.filter(is_overall(report.hardest)).to_pylist()
    if not rows:
        return
    columns = [
        Column("model", "text", choice=True),
        Column("loss", "text", choice=True),
        Column("rank", "count"),
        Column("key", "text"),
        Column("loss of the row"),
        *(Column(title, "text") for title in ("label", "prediction", "shard")),
        Column("row in it", "count"),
    ]
    names = ["model", "loss", "rank", "key", "loss_value", "label", "prediction", "shard", "row"]
    shown = within([_as_text(row) for row in values(rows, *names)], _BYTES)
    yield Note("The rows with the largest losses: look at them first, wrong labels gather here.")
    yield Table("t-hardest", "Hardest rows of all data", columns, shown)
    yield from left_out(len(rows) - len(shown), "rows", "hardest.parquet")


def _as_text(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Keys may be numbers or lists of parts, and predictions long lists: as a reader would write them."""
    key, prediction = row[3], row[6]
    told = key if key is None or isinstance(key, str) else _key(key)
    return (
        *row[:3],
        told,
        *row[4:6],
        prediction and _LONG.sub(lambda found: number(float(found[0])), prediction),
        *row[7:],
    )


def _key(key: Any) -> str:
    return ", ".join(map(str, key)) if isinstance(key, list) else str(key)


def what_was_run(report: Report) -> Iterator[Block]:
    """Times, pairing, inputs, versions and config."""
    run = report.run
    facts = [(name.replace("_", " "), str(run[name])) for name in ("run_id", "started", "finished") if name in run]
    facts += [("duration", f"{run['seconds']:.1f} s")] if "seconds" in run else []
    if facts:
        yield Facts(facts)
    for one in run.get("alignment", []):
        why = f": {'; '.join(one['why'])}" if one["why"] else "."
        yield Note(f"Rows of {', '.join(one['models'])} were paired by {one['mode']}{why}")
    yield from _inputs(report)
    if stages := run.get("stages"):
        columns = [Column("stage", "text"), Column("seconds")]
        yield Table("t-stages", "Where the time went", columns, list(stages.items()), folded=True)
    if versions := run.get("versions"):
        columns = [Column("package", "text"), Column("version", "text")]
        yield Table("t-versions", "Versions", columns, list(versions.items()), folded=True)
    if "config" in run:
        yield Code("Config as it was run", json.dumps(run["config"], indent=2, ensure_ascii=False))


def _inputs(report: Report) -> Iterator[Block]:
    rows = report.shards.to_pylist()
    if not rows:
        return
    columns = [
        Column("dataset", "text", choice=True),
        Column("file", "text"),
        Column("rows", "count"),
        Column("bytes", "count"),
        Column("seconds"),
        Column("fingerprint", "text"),
    ]
    shown = within(values(rows, "dataset", "path", "rows", "bytes", "seconds", "fingerprint"), _BYTES)
    yield Table("t-shards", f"Inputs: {len(rows):,} files", columns, shown, folded=len(rows) > _FOLDED)
    yield from left_out(len(rows) - len(shown), "files", "shards.parquet")
