"""What the command line prints: reports, the catalogue, progress. 80 columns, or COLUMNS; colours on terminals only."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from flows.summary import gate_rows
from lossops.report.selection import (
    Unscored,
    compared,
    discovered,
    hidden_text,
    level,
    number,
    overall,
    printable,
    unscored,
    worst_slices,
)
from lossops.report.verdict import verdict

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from flows.days import Day
    from lossops.engine import Progress
    from lossops.report import Report

__all__ = ["add", "interval", "out", "plain_table", "print_days", "print_pairs", "print_report", "progress", "say"]

_WIDTH = 80
_SLICE_LINES = 12  # of all models and losses together, shared out evenly
_LEDGER_LINES = 12
_LINE_SECONDS = 2.0  # between two plain progress lines


class _Console(Console):
    """A console that leaves it to the command line what a reader that goes away means; rich would end with code 1."""

    def on_broken_pipe(self) -> None:
        """Say so to the caller."""
        raise BrokenPipeError


def _console(file: object) -> Console:
    # A person's terminal may be narrower but not wider than what is readable; whoever sets COLUMNS knows better.
    console = _Console(file=file, highlight=False, markup=False, emoji=False)  # type: ignore[arg-type]
    asked = os.environ.get("COLUMNS", "")
    if asked.isascii() and asked.isdigit() and int(asked):
        console.width = int(asked)
    else:
        console.width = min(console.width, _WIDTH + 20) if console.is_terminal else _WIDTH
    return console


def out() -> Console:
    """The console for results: standard output."""
    return _console(sys.stdout)


def say(text: str) -> None:
    """Tell the person at the terminal what happens, apart from results: one line on standard error."""
    _console(sys.stderr).print(Text(text), soft_wrap=True)


class _Headed(Table):
    """A table whose heading may be wider than its columns."""

    heading = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.heading:
            yield Text(self.heading, style="bold")
        yield from super().__rich_console__(console, options)


def plain_table(title: str, columns: Sequence[str], numeric: int, then: int = 0) -> Table:
    """A plain table whose last ``numeric`` columns are numbers, but for some that come ``then``."""
    table = _Headed(box=None, pad_edge=False, header_style="dim")
    table.heading = title
    for place, name in enumerate(columns):
        right = len(columns) - numeric <= place + then < len(columns)
        table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=right)
    return table


def add(table: Table, *cells: str) -> None:
    """Add a row of text of datasets."""
    table.add_row(*(Text(printable(cell)) for cell in cells))


def print_report(report: Report) -> None:
    """Print the summary of a report: how it ended, overall, the worst slices, rows not scored, where it is."""
    console = out()
    ended = verdict(report)
    console.print(Text(f"{ended.outcome.capitalize()}. {ended.text}\n", style="bold"))
    rows = overall(report)
    console.print(_overall_table(report, rows))
    share = max(_SLICE_LINES // max(len(rows), 1), 1)
    for row in rows[:_SLICE_LINES]:
        _print_slices(console, report, row["model"], row["loss"], share)
    if len(rows) > _SLICE_LINES:
        console.print(f"\nSlices of {len(rows) - _SLICE_LINES} more pairs of model and loss are in losses.parquet")
    _print_compared(console, report)
    _print_gates(console, report)
    _print_discovered(console, report)
    bad = [row for row in report.shards.to_pylist() if row["problem"]]
    _print_unscored(console, unscored(report), "Every row that was read was scored." if not bad else "")
    if text := hidden_text(report):
        console.print(Text(text))
    for shard in bad:
        text = f"In quarantine, none of its rows is scored: {printable(shard['path'])}: {printable(shard['problem'])}"
        console.print(Text(text, style="yellow"), soft_wrap=True)
    _print_warnings(console, report)
    console.print(Text(f"\nReport: {printable(report.path)}"), soft_wrap=True)


def _print_warnings(console: Console, report: Report) -> None:
    for warning in (told := verdict(report)).warnings:
        console.print(Text(f"\nWarning: {printable(warning)}", style="bold yellow"))
    if told.more_warnings:
        console.print(Text(f"{told.more_warnings:,} more warnings are in run.json", style="yellow"))


def _overall_table(report: Report, rows: Sequence[dict[str, object]]) -> Table:
    table = plain_table(
        f"{report.run['name']}, all rows", ["model", "loss", "rows", "mean", f"{level(report)} interval"], 3
    )
    for row in rows:
        add(table, str(row["model"]), str(row["loss"]), *_numbers(row))
    return table


def _numbers(row: dict[str, object]) -> tuple[str, str, str]:
    rows = "hidden" if row["hidden"] else f"{row['rows_valid']:,}"
    return rows, number(row["mean"]), interval(row)  # type: ignore[arg-type]


def interval(row: Mapping[str, Any]) -> str:
    """An interval in words; a dash where there is none."""
    low, high = number(row["ci_low"]), number(row["ci_high"])
    return "-" if low == high == "-" else f"{low} to {high}"


def _print_slices(console: Console, report: Report, model: str, loss: str, limit: int) -> None:
    rows, more = worst_slices(report, model, loss, limit)
    if not rows:
        return
    title = f"\n{printable(model)}, {printable(loss)}: slices, worst first (lower end of the interval)"
    table = plain_table(title, ["slice", "rows", "mean", f"{level(report)} interval"], 3)
    for row in rows:
        add(table, row["slice"], *_numbers(row))
    console.print(table)
    if more:
        console.print(Text(f"{more:,} more in losses.parquet", style="dim"))


def _print_compared(console: Console, report: Report) -> None:
    rows = compared(report)
    if not rows:
        return
    title = f"\nDifference to {printable(rows[0]['baseline'])}, same rows"
    table = plain_table(title, ["model", "loss", "difference", f"{level(report)} interval", "relative"], 3)
    for row in rows[:_SLICE_LINES]:
        relative = "-" if row["relative_difference"] is None else f"{100 * row['relative_difference']:+.3g} %"
        add(table, row["model"], row["loss"], number(row["difference"]), interval(row), relative)
    console.print(table)


def _print_gates(console: Console, report: Report) -> None:
    rows, more = gate_rows(report, _SLICE_LINES)
    if not rows:
        return
    table = plain_table("\nGates", ["outcome", "gate", "model", "slice", "limit", "value"], 2)
    for row in rows:
        value = row["value"] if isinstance(row["value"], str) else number(row["value"])
        add(table, row["outcome"], row["gate"], row["model"], row["slice"], number(row["limit"]), value)
    console.print(table)
    if more:
        console.print(Text(f"{more:,} more in gates.parquet", style="dim"))


def _print_discovered(console: Console, report: Report) -> None:
    rows, more = discovered(report, _SLICE_LINES)
    if not rows:
        return
    columns = ["model", "loss", "slice", "rows", "mean", "held out", "others", "p"]
    tested = any(row["held_out_rows"] is not None for row in rows)
    told = "and what the held-out half says" if tested else "and tested on no others"
    table = plain_table(f"\nSlices that were searched for, {told}", columns, 5)
    for row in rows:
        numbers = (number(row[name]) for name in ("mean", "held_out_mean", "held_out_other_mean"))
        p_value = "-" if row["p_adjusted"] is None else f"{row['p_adjusted']:.2g}"
        add(table, row["model"], row["loss"], row["slice"], f"{row['rows']:,}", *numbers, p_value)
    console.print(table)
    if more:
        console.print(Text(f"{more:,} more in discovered.parquet", style="dim"))


def _print_unscored(console: Console, lines: Sequence[Unscored], otherwise: str) -> None:
    if not lines:
        if otherwise:
            console.print(f"\n{otherwise}")
        return
    table = plain_table("\nRows not scored", ["reason", "model", "loss", "predictions", "labels"], 2)
    for line in lines[:_LEDGER_LINES]:
        counts = (f"{line.rows[side]:,}" if side in line.rows else "-" for side in ("predictions", "labels"))
        add(table, line.reason, line.model, line.loss or "every loss", *counts)
    console.print(table)
    if len(lines) > _LEDGER_LINES:
        console.print(Text(f"{len(lines) - _LEDGER_LINES:,} more in ledger.parquet", style="dim"))


def print_pairs(pairs: Sequence[tuple[str, str]], title: str = "") -> None:
    """Print (heading, text) lines, the texts aligned and folded."""
    table = _Headed(box=None, pad_edge=False, show_header=False)
    table.heading = title
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for heading, text in pairs:
        table.add_row(Text(printable(heading)), Text(printable(text)))
    out().print(table)


def print_days(days: Sequence[Day]) -> None:
    """Print what came of each day."""
    table = plain_table("", ["date", "outcome", "report"], 0)
    for day in days:
        add(table, day.date, day.outcome, day.report or "-")
    out().print(table)


def print_stages(report: Report) -> None:
    """Print how long each stage of a run took."""
    from lossops.stages import STAGES

    seconds = report.run.get("stages", {})
    lines = [(stage, f"{seconds[stage]:8.3f} s  {what}") for stage, what in STAGES.items() if stage in seconds]
    print_pairs(lines, "where the time went (of workers the sum over their threads)")


@contextmanager
def progress() -> Iterator[Callable[[Progress], None]]:
    """Yield a function that shows how far a run is: a bar on a terminal, else a line every few seconds."""
    console = _console(sys.stderr)
    if not console.is_terminal:
        yield _Lines(console).show
        return
    with _bar(console) as bar:
        task = bar.add_task("scoring", total=None, shards="", bad="")

        def show(done: Progress) -> None:
            shards = f"{done.shards_done:,}/{done.shards:,} shards"
            bad = f"{done.bad_rows:,} bad rows" if done.bad_rows else ""
            bar.update(task, description=done.stage, total=done.rows, completed=done.rows_done, shards=shards, bad=bad)

        yield show


def _bar(console: Console) -> Bar:
    from rich import progress as parts

    columns = (
        parts.TextColumn("{task.description}"),
        parts.BarColumn(bar_width=24),
        parts.TaskProgressColumn(),
        parts.TextColumn("{task.fields[shards]}"),
        parts.TimeElapsedColumn(),
        parts.TextColumn("{task.fields[bad]}", style="yellow"),
    )
    return parts.Progress(*columns, console=console, transient=True)


_DONE = {"scoring": "read", "partitioning": "partitioned"}


class _Lines:
    """Progress for a log file: a line every few seconds, and one at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = 0.0

    def show(self, done: Progress) -> None:
        """Print a line if there is news."""
        if done.rows_done < done.rows and done.seconds < self._last + _LINE_SECONDS:
            return
        self._last = done.seconds
        bad = f", {done.bad_rows:,} bad" if done.bad_rows else ""
        rows = f"{done.rows_done:,} of {done.rows:,} rows{bad}"
        shards = f"{done.shards_done:,} of {done.shards:,} shards"
        self._console.print(f"{_DONE[done.stage]} {rows}, {shards}, {done.seconds:.1f} s", soft_wrap=True)
