"""The sections of the page, in the order in which questions come up. Chooses and sorts; every number is of a table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lossops.report import plots
from lossops.report.blocks import Block, Code, Column, Facts, Figure, Gallery, Note, Section, Table, within
from lossops.report.drawing import figure_svg
from lossops.report.history import History
from lossops.report.history_section import history_blocks
from lossops.report.selection import compared, gates_in_order, is_overall, level, number, overall
from lossops.report.slice_sections import compared_slices, crosses, discovered_slices, every_slice, worst_slices_of
from lossops.report.store import Report
from lossops.report.tables import quantile_name

__all__ = ["overall_table", "sections"]

PAIRS = 6  # of model and loss, that have plots of their own
_BARS = 24
_FOLDED = 12  # rows of a table that is opened first
_BYTES = 150_000  # of a table that may be long


def sections(report: Report, history: History | None = None) -> list[Section]:
    """Return the sections of a report, and of earlier runs, that have something to show."""
    pairs = [(row["model"], row["loss"]) for row in overall(report)]
    parts = {
        ("gates", "Gates"): _gates(report),
        ("overall", "All rows"): _overall(report),
        ("history", "History"): history_blocks(history, PAIRS),
        ("baseline", "Against the baseline"): [*_compared(report), *compared_slices(report, pairs, PAIRS)],
        ("slices", "Slices"): [*worst_slices_of(report, pairs, PAIRS), *every_slice(report, pairs)],
        ("discovered", "Slices that were searched for"): discovered_slices(report),
        ("crosses", "Crosses"): crosses(report, pairs, PAIRS),
        ("calibration", "Calibration"): _calibration(report),
        ("distribution", "Distribution of losses"): _distribution(report),
        ("ledger", "Where every row went"): _ledger(report),
        ("hardest", "Hardest rows"): _hardest(report),
        ("run", "What was run"): _run(report),
    }
    found = [Section(name, title, tuple(blocks)) for (name, title), blocks in parts.items()]
    return [section for section in found if section.blocks]


def _rows(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


def _gates(report: Report) -> Iterator[Block]:
    rows = gates_in_order(report)
    if not rows:
        return
    names = ["outcome", "gate", "model", "loss", "slice", "limit", "value", "ci_low", "ci_high", "p_adjusted", "rows"]
    columns = [
        Column("outcome", "text", choice=True),
        *(Column(title, "text") for title in ("gate", "model", "loss", "slice")),
        *(Column(title) for title in ("limit", "value", "value from", "value to", "adjusted p")),
        Column("rows", "count"),
        Column("why", "text"),
    ]
    shown = within(_rows(rows, *names, "why"), _BYTES)
    yield Note(
        "A gate passes if the whole interval keeps the limit, fails if the whole interval is beyond it, and is "
        "insufficient otherwise."
    )
    yield Table("t-gates", "Gates, failing ones first", columns, shown)
    yield from _left_out(len(rows) - len(shown), "gate rows", "gates.parquet")


def _left_out(count: int, what: str, file: str) -> Iterator[Note]:
    if count > 0:
        yield Note(f"{count:,} more {what} are in {file}.")


def _quantiles(report: Report) -> list[str]:
    return [quantile_name(one) for one in report.run.get("config", {}).get("quantiles", [])]


def overall_table(report: Report) -> Table:
    """The losses of every model over all rows."""
    quantiles = _quantiles(report)
    names = ["model", "loss", "rows", "rows_valid", "mean", "ci_low", "ci_high", "std", "min", *quantiles, "max"]
    columns = [
        Column("model", "text", choice=True),
        Column("loss", "text", choice=True),
        Column("rows", "count"),
        Column("rows scored", "count"),
        *(Column(title) for title in ("mean loss", "mean from", "mean to", "standard deviation", "smallest loss")),
        *(Column(f"quantile {name}") for name in quantiles),
        Column("largest loss"),
    ]
    return Table("t-overall", "Losses over all rows", columns, _rows(overall(report), *names))


def _overall(report: Report) -> Iterator[Block]:
    rows = overall(report)
    if not rows:
        return
    losses = list(dict.fromkeys(row["loss"] for row in rows))
    yield Gallery([_means(report, loss, [row for row in rows if row["loss"] == loss]) for loss in losses[:PAIRS]])
    yield overall_table(report)


def _means(report: Report, loss: str, rows: list[dict[str, Any]]) -> Figure:
    kind = "mean " * (rows[0]["kind"] == "loss")
    spec = plots.dot_plot(rows, "mean", "model", f"{kind}{plots.short(loss)}")
    return Figure((loss,), figure_svg(spec, f"Mean {loss} of each model", _says(report)))


def _says(report: Report) -> str:
    return f"Dots are means, lines their {level(report)} intervals; the numbers are in the table below."


def _compared(report: Report) -> Iterator[Block]:
    rows = compared(report)
    if not rows:
        return
    names = ["rows", "baseline_mean", "mean", "difference", "ci_low", "ci_high", "relative_difference", "p_value"]
    columns = [
        Column("model", "text"),
        Column("loss", "text"),
        Column("rows of both", "count"),
        *(Column(title) for title in ("baseline mean", "mean loss", "difference", "difference from", "difference to")),
        Column("relative difference", "percent"),
        Column("p"),
    ]
    yield Note(
        "Differences are of the same rows, model less baseline: below 0 the model is better, for losses of which less "
        "is better."
    )
    yield Table("t-compared", "Difference to the baseline over all rows", columns, _rows(rows, "model", "loss", *names))


def _calibration(report: Report) -> Iterator[Block]:
    rows = report.calibration.filter(is_overall(report.calibration)).to_pylist()
    pairs = list(dict.fromkeys((row["model"], row["loss"]) for row in rows))
    names = ["bin", "low", "high", "rows", "mean_prediction", "mean_label", "ci_low", "ci_high", "error"]
    columns = [
        Column("bin", "count"),
        Column("from"),
        Column("to"),
        Column("rows", "count"),
        *(Column(title) for title in ("mean prediction", "mean label", "label from", "label to", "error")),
    ]
    if pairs:
        yield Note("On the dashed diagonal the mean label of a bin is its mean prediction. The area of a dot is rows.")
    figures = []
    for place, pair in enumerate(pairs[:PAIRS]):
        own = [row for row in rows if (row["model"], row["loss"]) == pair]
        spec = plots.calibration_plot([row for row in own if row["bin"] is not None])
        name, about = f"Calibration of {', '.join(pair)}", "Mean label beside mean prediction in bins."
        table = Table(f"t-calibration-{place}", "Bins of the prediction", columns, _rows(own, *names), folded=True)
        figures.append(Figure(pair, figure_svg(spec, name, about), _calibration_text(own), table))
    if figures:
        yield Gallery(figures)
    yield from _left_out(len(pairs) - PAIRS, "pairs of model and loss", "calibration.parquet")


def _calibration_text(rows: list[dict[str, Any]]) -> str:
    """What the row of all bins says."""
    whole = [row for row in rows if row["bin"] is None]
    return "".join(
        f"Expected calibration error {number(row['error'])}; mean prediction / mean label {number(row['ratio'])}."
        for row in whole
    )


def _distribution(report: Report) -> Iterator[Block]:
    rows = report.histograms.filter(is_overall(report.histograms)).to_pylist()
    pairs = list(dict.fromkeys((row["model"], row["loss"]) for row in rows))
    columns = [Column("from"), Column("to"), Column("rows", "count")]
    means = {(row["model"], row["loss"]): row for row in overall(report)}
    if pairs:
        yield Note(
            "The area of a bar is its rows, the axis multiplies; a thin tail of very small losses is in the table only."
        )
    figures = []
    for place, pair in enumerate(pairs[:PAIRS]):
        bins = [row for row in rows if (row["model"], row["loss"]) == pair]
        marks = {name: means[pair][name] for name in _quantiles(report) if means[pair][name] is not None}
        spec = plots.histogram_plot(bins, marks, plots.short(pair[1]))
        svg = figure_svg(spec, f"Losses of {', '.join(pair)}", "Rows by loss; dashed lines are quantiles.")
        values = _rows(bins, "low", "high", "rows")
        table = Table(f"t-distribution-{place}", "Rows by loss", columns, values, folded=True)
        figures.append(Figure(pair, svg, _not_drawn(bins), table))
    if figures:
        yield Gallery(figures)
    yield from _left_out(len(pairs) - PAIRS, "pairs of model and loss", "histograms.parquet")


def _not_drawn(bins: list[dict[str, Any]]) -> str:
    """What has no place on an axis that multiplies."""
    points = [row for row in bins if row["low"] == row["high"]]
    return "".join(f"Not drawn: {row['rows']:,} rows with a loss of {row['low']:g}. " for row in points).strip()


def _ledger(report: Report) -> Iterator[Block]:
    entries = [row for row in report.ledger.to_pylist() if row["rows"]]
    # What is the same in every bar says nothing.
    told = [name for name in ("dataset", "model", "loss") if len({row[name] for row in entries}) > 1] or ["dataset"]
    bars: dict[str, list[tuple[str, int]]] = {}
    for row in entries:
        bars.setdefault(" · ".join(row[name] for name in told), []).append((row["reason"], row["rows"]))
    if not bars:
        return
    totals = [f"{count:,} rows of {dataset}" for dataset, count in report.run.get("rows", {}).items()]
    yield Note(f"Read: {' and '.join(totals)}. Each bar adds up to the rows that were read for it.")
    shown = list(bars.items())[:_BARS]
    reasons = list(dict.fromkeys(["scored", *(row["reason"] for row in entries)]))
    lost = [(label, [part for part in parts if part[0] != "scored"]) for label, parts in shown]
    about = "One bar for each dataset, model and loss, stacked by what became of its rows."
    table = Table(
        "t-ledger",
        "Rows by what became of them",
        [
            *(Column(title, "text", choice=True) for title in ("dataset", "model", "loss", "reason")),
            Column("rows", "count"),
        ],
        within(_rows(entries, "dataset", "model", "loss", "reason", "rows"), _BYTES),
        folded=len(entries) > _FOLDED,
    )
    figures = [
        Figure(("All rows",), figure_svg(plots.ledger_plot(shown, reasons, "rows"), "Where every row went", about))
    ]
    if any(parts for _, parts in lost):
        svg = figure_svg(plots.ledger_plot(lost, reasons, "rows not scored"), "Rows that were not scored", about)
        figures.append(Figure(("Rows that were not scored",), svg))
    yield Gallery(figures)
    yield table
    yield from _left_out(len(bars) - _BARS, "bars", "ledger.parquet")
    yield from _quarantined(report)


def _quarantined(report: Report) -> Iterator[Block]:
    rows = [row for row in report.shards.to_pylist() if row["problem"]]
    if rows:
        columns = [
            Column("dataset", "text"),
            Column("shard", "text"),
            Column("rows", "count"),
            Column("problem", "text"),
        ]
        shown = within(_rows(rows, "dataset", "path", "rows", "problem"), _BYTES)
        yield Table("t-quarantined", "Shards in quarantine: none of their rows is scored", columns, shown)


def _hardest(report: Report) -> Iterator[Block]:
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
    shown = within([_as_text(row) for row in _rows(rows, *names)], _BYTES)
    yield Note("The rows with the largest losses: look at them first, wrong labels gather here.")
    yield Table("t-hardest", "Hardest rows of all data", columns, shown)
    yield from _left_out(len(rows) - len(shown), "rows", "hardest.parquet")


def _as_text(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Keys may be numbers or lists of parts; a reader wants to search them as they are written."""
    key = row[3]
    return (*row[:3], key if key is None or isinstance(key, str) else _key(key), *row[4:])


def _key(key: Any) -> str:
    return ", ".join(map(str, key)) if isinstance(key, list) else str(key)


def _run(report: Report) -> Iterator[Block]:
    run = report.run
    facts = [(name.replace("_", " "), str(run[name])) for name in ("run_id", "started", "finished") if name in run]
    facts += [("duration", f"{run['seconds']:.1f} s")] if "seconds" in run else []
    if facts:
        yield Facts(facts)
    for one in run.get("alignment", []):
        why = "; ".join(one["why"])
        yield Note(f"Rows of {', '.join(one['models'])} were paired by {one['mode']}: {why}")
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
    shown = within(_rows(rows, "dataset", "path", "rows", "bytes", "seconds", "fingerprint"), _BYTES)
    yield Table("t-shards", f"Inputs: {len(rows):,} files", columns, shown, folded=len(rows) > _FOLDED)
    yield from _left_out(len(rows) - len(shown), "files", "shards.parquet")
