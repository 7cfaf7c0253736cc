"""What ``lossops compare`` prints: two reports side by side."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from flows.console import add, out, plain_table
from lossops.report import Report
from lossops.report.beside import Beside, beside
from lossops.report.history import OVERALL, past_run
from lossops.report.selection import number, printable

__all__ = ["print_side_by_side"]

_LINES = 20
_COLUMNS = ["model", "loss", "first", "second", "difference", "intervals"]


def print_side_by_side(first: Report, second: Report) -> None:
    """Print the means of two reports for each model, loss and slice that both have.

    Raises:
        InputError: they have no loss of a model in common.
    """
    found, alone = beside(first, second)
    console = out()
    for name, report in (("first", first), ("second", second)):
        date, path = past_run(report.run).shown, printable(report.path)
        console.print(Text(f"{name + ':':8}{printable(report.run['name'])}, {date}, {path}"), soft_wrap=True)
    console.print()
    table = plain_table("All rows", _COLUMNS, 3, then=1)
    slices = [one for one in found if one.slice != OVERALL]
    for one in found[: len(found) - len(slices)]:
        add(table, one.model, one.loss, *_numbers(one))
    console.print(table)
    _print_slices(slices)
    if alone:
        console.print(Text(f"{alone:,} rows of losses are in one report only", style="dim"))
    console.print("Intervals that overlap may hide a difference of the same rows: see baseline.")


def _print_slices(slices: Sequence[Beside]) -> None:
    if not slices:
        return
    table = plain_table("\nSlices, those whose intervals are apart first", ["slice", *_COLUMNS], 3, then=1)
    for one in slices[:_LINES]:
        add(table, one.slice, one.model, one.loss, *_numbers(one))
    out().print(table)
    if len(slices) > _LINES:
        out().print(Text(f"{len(slices) - _LINES:,} more; --json has all", style="dim"))


def _numbers(one: Beside) -> tuple[str, str, str, str]:
    intervals = {None: "-", True: "overlap", False: "apart"}[one.overlap]
    return number(one.first), number(one.second), number(one.difference), intervals
