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
        run = past_run(report.run)
        told = f"{name + ':':8}{printable(report.run['name'])}, {run.shown}, run {printable(run.run_id)}"
        console.print(Text(f"{told}\n        {printable(report.path)}"), soft_wrap=True)
    console.print()
    table = plain_table("All rows", _COLUMNS, 3, then=1)
    whole = [one for one in found if one.slice == OVERALL]
    for one in whole:
        add(table, one.model, one.loss, *_numbers(one))
    console.print(table)
    _print_slices([(one.model, one.loss) for one in whole], found[len(whole) :])
    if alone:
        console.print(Text(f"{alone:,} rows of losses are in one report only", style="dim"))
    console.print("Intervals that overlap may hide a difference of the same rows: see baseline.")


def _print_slices(pairs: Sequence[tuple[str, str]], slices: Sequence[Beside]) -> None:
    share = max(_LINES // max(len(pairs), 1), 1)
    shown = 0
    for model, loss in pairs[:_LINES]:
        own = [one for one in slices if (one.model, one.loss) == (model, loss)]
        if not own:
            continue
        title = f"\n{printable(model)}, {printable(loss)}: slices, those whose intervals are apart first"
        table = plain_table(title, ["slice", *_COLUMNS[2:]], 3, then=1)
        for one in own[:share]:
            add(table, one.slice, *_numbers(one))
        out().print(table)
        shown += len(own[:share])
    if len(slices) > shown:
        out().print(Text(f"{len(slices) - shown:,} more; --json has all", style="dim"))


def _numbers(one: Beside) -> tuple[str, str, str, str]:
    intervals = {None: "-", True: "overlap", False: "apart"}[one.overlap]
    return number(one.first), number(one.second), number(one.difference), intervals
