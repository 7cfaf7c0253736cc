"""``report.html``: one file that shows a report, with nothing to load from anywhere.

Everything in it that comes from data is text: the template and `lossops.report.svg` escape it, and the page's policy
allows no script and no style but the two that are written here.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from lossops.report.blocks import FIRST_ROWS, Block, Note, cell_text, whole
from lossops.report.history import History
from lossops.report.sections import overall_table, sections
from lossops.report.selection import hidden_text, level, overall, printable
from lossops.report.slice_sections import worst_slices_of
from lossops.report.store import Report
from lossops.report.verdict import verdict

__all__ = ["render_fragment", "render_page"]

_HERE = Path(__file__).parent
_PAIRS = 4  # of model and loss, whose worst slices a notebook shows


def render_page(report: Report, history: History | None = None) -> str:
    """Return the page of a report, and of the runs before it: the same for the same reports."""
    style, script = (_own(name) for name in ("page.css", "page.js"))
    return str(
        _environment()
        .get_template("page.html")
        .render(
            run=report.run,
            verdict=verdict(report),
            sections=list(sections(report, history)),
            intervals=_intervals(report),
            hidden=hidden_text(report),
            style=style,
            script=script,
            policy=f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
            "base-uri 'none'; form-action 'none'",
        )
    )


def render_fragment(report: Report) -> str:
    """Return what a notebook shows of a report: an element with styles of its own, without a script."""
    return str(
        _environment()
        .get_template("fragment.html")
        .render(
            run=report.run,
            path=report.path,
            verdict=verdict(report),
            blocks=list(_in_short(report)),
            intervals=_intervals(report),
            style=_own("fragment.css"),
            # Of several reports in one notebook each has elements of its own.
            prefix=f"lossops-{report.run.get('run_id', '')}-",
        )
    )


def _in_short(report: Report) -> Iterator[Block]:
    """Losses over all rows, and the worst slices of the first models and losses; tables that need no script."""
    table, pairs = overall_table(report), [(row["model"], row["loss"]) for row in overall(report)]
    yield replace(table, rows=table.rows[:FIRST_ROWS])
    if len(pairs) > FIRST_ROWS:
        yield Note(f"{len(pairs) - FIRST_ROWS:,} more pairs of model and loss are in losses.")
    yield from worst_slices_of(report, pairs[:_PAIRS], _PAIRS)


@cache
def _own(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _environment() -> Any:
    import jinja2  # noqa: PLC0415  only a run that publishes needs it

    loader = jinja2.FileSystemLoader(_HERE, encoding="utf-8")
    found = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.filters |= {"cell": cell_text, "whole": whole, "printable": printable, "exact": repr}
    return found


def _intervals(report: Report) -> str:
    """What an interval is, in a sentence."""
    unit = report.run.get("config", {}).get("unit")
    clustered = f", clustered on {printable(str(unit))}" if unit else ""
    how = f"linearised standard errors, Student t{clustered}"
    return f"Intervals hold at {level(report)}: {how}. A dash stands where there is no number."
