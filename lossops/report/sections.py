"""The sections of the page, in the order in which questions come up. Chooses and sorts; every number is of a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from lossops.report import plots
from lossops.report.blocks import Block, Cells, Column, Figure, Gallery, Note, Section, Table, left_out, values, within
from lossops.report.history import History
from lossops.report.history_section import history_blocks
from lossops.report.labels import short
from lossops.report.row_sections import hardest, ledger, what_was_run
from lossops.report.selection import compared, gates_in_order, is_overall, level, number, overall
from lossops.report.slice_sections import (
    compared_slices,
    crosses,
    discovered_slices,
    every_slice,
    mean_title,
    worst_slices_of,
)
from lossops.report.store import Report
from lossops.report.svg import plot_of
from lossops.report.tables import quantile_name

__all__ = ["overall_table", "sections"]

PAIRS = 6  # of model and loss, that have plots of their own
_BYTES = 150_000  # of a table that may be long


def sections(report: Report, history: History | None = None) -> Iterator[Section]:
    """Yield the sections of a report, and of earlier runs, that have something to show."""
    pairs = [(row["model"], row["loss"]) for row in overall(report)]
    parts = {
        ("gates", "Gates"): _gates(report),
        ("overall", "All rows"): _overall(report),
        ("history", "History"): history_blocks(history, PAIRS),
        ("baseline", "Against the baseline"): chain(_compared(report), compared_slices(report, pairs, PAIRS)),
        ("slices", "Slices"): chain(worst_slices_of(report, pairs, PAIRS), every_slice(report, pairs)),
        ("discovered", "Slices that were searched for"): discovered_slices(report, PAIRS),
        ("crosses", "Crosses"): crosses(report, pairs, PAIRS),
        ("calibration", "Calibration"): _calibration(report),
        ("distribution", "Distribution of losses"): _distribution(report),
        ("ledger", "Where every row went"): ledger(report),
        ("hardest", "Hardest rows"): hardest(report),
        ("run", "What was run"): what_was_run(report),
    }
    for (name, title), blocks in parts.items():
        section = Section(name, title, tuple(blocks))
        if section.blocks:
            yield section


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
    shown = within(values(rows, *names, "why"), _BYTES)
    yield Note(
        "A gate passes if the whole interval keeps the limit, fails if the whole interval is beyond it or a slice that "
        "it names has no row, and is insufficient otherwise."
    )
    yield Table("t-gates", "Gates, failing ones first", columns, shown)
    yield from left_out(len(rows) - len(shown), "gate rows", "gates.parquet")


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
    return Table("t-overall", "Losses over all rows", columns, values(overall(report), *names))


def _overall(report: Report) -> Iterator[Block]:
    rows = overall(report)
    if not rows:
        return
    losses = list(dict.fromkeys(row["loss"] for row in rows))
    yield Gallery([_means(report, loss, [row for row in rows if row["loss"] == loss]) for loss in losses[:PAIRS]])
    yield overall_table(report)


def _means(report: Report, loss: str, rows: list[dict[str, Any]]) -> Figure:
    picture = plots.dot_plot(rows, "mean", "model", mean_title(rows[0]))
    return Figure((loss,), plot_of(picture, f"Mean {loss} of each model", _says(report)))


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
    yield Table(
        "t-compared", "Difference to the baseline over all rows", columns, values(rows, "model", "loss", *names)
    )


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
    # Losses of the same probabilities have the same calibration.
    alike: dict[tuple[str, Sequence[Cells]], list[str]] = {}
    for model, loss in pairs:
        own = [row for row in rows if (row["model"], row["loss"]) == (model, loss)]
        alike.setdefault((model, tuple(values(own, *names))), []).append(loss)
    for place, ((model, cells), losses) in enumerate(list(alike.items())[:PAIRS]):
        own = [row for row in rows if (row["model"], row["loss"]) == (model, losses[0])]
        picture = plots.calibration_plot([row for row in own if row["bin"] is not None])
        name, about = f"Calibration of {', '.join([model, *losses])}", "Mean label beside mean prediction in bins."
        table = Table(f"t-calibration-{place}", "Bins of the prediction", columns, cells, folded=True)
        figures.append(Figure((model, *losses), plot_of(picture, name, about), _calibration_text(own), table))
    if figures:
        yield Gallery(figures)
    yield from left_out(len(alike) - PAIRS, "models and losses", "calibration.parquet")


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
        picture = plots.histogram_plot(bins, marks, short(pair[1]))
        plot = plot_of(picture, f"Losses of {', '.join(pair)}", "Rows by loss; dashed lines are quantiles.")
        cells = values(bins, "low", "high", "rows")
        table = Table(f"t-distribution-{place}", "Rows by loss", columns, cells, folded=True)
        figures.append(Figure(pair, plot, _not_drawn(bins), table))
    if figures:
        yield Gallery(figures)
    yield from left_out(len(pairs) - PAIRS, "pairs of model and loss", "histograms.parquet")


def _not_drawn(bins: list[dict[str, Any]]) -> str:
    """What has no place on an axis that multiplies."""
    points = [row for row in bins if row["low"] == row["high"]]
    return "".join(f"Not drawn: {row['rows']:,} rows with a loss of {row['low']:g}. " for row in points).strip()
