"""What ``lossops history`` prints: the loss over runs, and the slices that moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.text import Text

from flows.console import add, interval, out, plain_table
from flows.summary import as_json
from lossops.report.history import OVERALL, History, Move, first_moves, moves
from lossops.report.selection import number, printable

__all__ = ["history_as_json", "print_history"]

_MOVED_LINES = 20  # of all models and losses together
_RUN_LINES = 20
_PASSED_LINES = 5


def print_history(history: History, of: str = OVERALL) -> None:
    """Print the mean of a slice in every run, for each model and loss, which slices moved, and where the reports are.

    Args:
        history: of one name.
        of: the slice.
    """
    console, found = out(), moves(history)
    firsts = [one for one in first_moves(found) if one.slice != OVERALL]
    share = max(_MOVED_LINES // max(len(history.pairs()), 1), 1)
    for model, loss in history.pairs():
        moved = {one.run: one for one in found if (one.model, one.loss, one.slice) == (model, loss, of)}
        table = plain_table(f"{printable(model)}, {printable(loss)}: {printable(of)}", _COLUMNS, 3, then=1)
        for row in history.rows(model=model, loss=loss, slice=of):
            add(table, history.runs[row["run"]].shown, *_numbers(row), _mark(moved.get(row["run"])))
        console.print(table)
        console.print()
        _print_moved(history, [one for one in firsts if (one.model, one.loss) == (model, loss)], share)
    if not firsts:
        console.print("No slice moved.\n")
    _print_runs(history)
    _print_passed_over(history)


_COLUMNS = ["run", "rows", "mean", "interval", "moved"]


def _numbers(row: Mapping[str, Any]) -> tuple[str, str, str]:
    rows = "hidden" if row["rows_valid"] is None else f"{row['rows_valid']:,}"
    return rows, number(row["mean"]), interval(row)


def _mark(move: Move | None) -> str:
    return "" if move is None else f"{'up' if move.mean > move.before else 'down'}, p = {move.p_adjusted:.2g}"


def _print_moved(history: History, found: Sequence[Move], limit: int) -> None:
    if not found:
        return
    table = plain_table("Slices that moved, surest first", ["slice", "first in", "before", "mean", "p"], 3)
    for one in found[:limit]:
        numbers = number(one.before), number(one.mean), f"{one.p_adjusted:.2g}"
        add(table, one.slice, history.runs[one.run].shown, *numbers)
    out().print(table)
    if len(found) > limit:
        out().print(Text(f"{len(found) - limit:,} more; --json has all", style="dim"))
    out().print()


def _print_runs(history: History) -> None:
    """The folders of the latest reports, for ``lossops show`` and ``lossops compare``."""
    table = plain_table("Runs", ["date", "run id", "outcome"], 0)
    for run in history.runs[-_RUN_LINES:]:
        add(table, run.shown, run.run_id, run.outcome)
    out().print(table)
    if (more := len(history.runs) - _RUN_LINES) > 0:
        out().print(Text(f"{more:,} earlier ones; --json has all", style="dim"))
    if history.left:
        out().print(Text(f"{history.left:,} older runs are left out; --last shows more.", style="dim"))


def _print_passed_over(history: History) -> None:
    for run_id, why in history.passed_over[:_PASSED_LINES]:
        out().print(Text(f"Passed over: {printable(run_id)}: {printable(why)}", style="yellow"), soft_wrap=True)
    if (more := len(history.passed_over) - _PASSED_LINES) > 0:
        out().print(Text(f"{more:,} more were passed over", style="yellow"))


def history_as_json(history: History, of: str = OVERALL) -> dict[str, Any]:
    """The same as values for JSON, with every move."""
    runs = [{"run_id": run.run_id, "date": run.date.isoformat(), "outcome": run.outcome} for run in history.runs]
    return {
        "runs": runs,
        "losses": [as_json(row) for row in history.rows(slice=of)],
        "moves": [as_json(asdict(one)) for one in moves(history)],
        "passed_over": [{"run_id": run_id, "why": why} for run_id, why in history.passed_over],
        "left_out": history.left,
        "every_slice": history.whole,
    }
