"""The section of earlier runs: how the loss went, and which slices moved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lossops.report.blocks import Block, Column, Figure, Gallery, Note, Table, within
from lossops.report.history import MOVED, OVERALL, History, first_moves, moves
from lossops.report.lines import line_plot
from lossops.report.svg import plot_of

__all__ = ["history_blocks"]

_BYTES = 100_000
_TOLD = 5  # reports that are passed over


def history_blocks(history: History | None, limit: int) -> Iterator[Block]:
    """The loss of all rows over runs, for so many pairs of model and loss, and the slices that moved."""
    if history is None:
        return
    yield Note(_says(history))
    pairs = history.pairs()
    yield Gallery([_course(history, place, pair) for place, pair in enumerate(pairs[:limit])])
    if len(pairs) > limit:
        yield Note(f"{len(pairs) - limit:,} more pairs of model and loss have no plot; lossops history prints them.")
    yield from _moved(history)


def _says(history: History) -> str:
    left = f"; {history.left:,} older ones are left out" if history.left else ""
    bad = "".join(f" {run_id} was passed over: {why}." for run_id, why in history.passed_over[:_TOLD])
    few = "" if history.whole else " Earlier reports are large, so only all rows are compared."
    return (
        f"The latest {len(history.runs):,} runs of this name up to this one{left}.{few} A mean moved where it "
        f"differs from that of the run before by more than both errors explain, at p < {MOVED:g} adjusted over all "
        "slices and runs; where runs score the same rows, that is cautious."
        f"{bad}"
    )


def _course(history: History, place: int, pair: tuple[str, str]) -> Figure:
    rows = history.rows(model=pair[0], loss=pair[1], slice=OVERALL)
    runs = [history.runs[row["run"]] for row in rows]
    plot = plot_of(
        line_plot(rows, [run.date for run in runs]),
        f"{', '.join(pair)} over runs",
        "The line is the mean of all rows, the band its interval.",
    )
    columns = [Column("run", "text"), Column("rows scored", "count"), Column("mean loss")]
    columns += [Column("mean from"), Column("mean to")]
    names = ("rows_valid", "mean", "ci_low", "ci_high")
    values = [(run.shown, *(row[name] for name in names)) for run, row in zip(runs, rows, strict=True)]
    return Figure(pair, plot, "", Table(f"t-history-{place}", "Mean of all rows by run", columns, values, folded=True))


def _moved(history: History) -> Iterator[Block]:
    found = first_moves(moves(history))
    if not found:
        yield Note("No mean moved.")
        return
    columns = [
        *(Column("slice", "text"), Column("model", "text", choice=True), Column("loss", "text", choice=True)),
        Column("first moved in", "text"),
        *(Column(title) for title in ("mean before", "mean loss", "adjusted p")),
    ]
    values: Sequence[tuple[Any, ...]] = [
        (one.slice, one.model, one.loss, history.runs[one.run].shown, one.before, one.mean, one.p_adjusted)
        for one in found
    ]
    shown = within(values, _BYTES)
    yield Table("t-moved", "The first run in which a mean moved, surest first", columns, shown)
    if len(shown) < len(values):
        yield Note(f"{len(values) - len(shown):,} more slices moved; lossops history tells when.")
