"""How a run ended, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lossops.report.selection import Row, gates_in_order, number, overall
from lossops.report.store import Report

__all__ = ["Verdict", "verdict"]

_TOLD = 8  # failing rows that are told in words; all are in the table of gates


@dataclass(frozen=True)
class Verdict:
    """How a run ended.

    Args:
        outcome: passed, failed or completed.
        text: a sentence.
        reasons: what failed: gate, model, slice, and what was found; the first three are the user's.
        more: failing rows that `reasons` leaves out.
    """

    outcome: str
    text: str
    reasons: Sequence[tuple[str, str, str, str]] = ()
    more: int = 0


def verdict(report: Report) -> Verdict:
    """Say how a run ended and what failed."""
    gates = gates_in_order(report)
    failing = [row for row in gates if row["fails"]]
    nothing = _nothing_scored(report)
    if not gates:
        return Verdict("completed", f"No gates were set, so nothing was judged.{nothing}")
    count = f"{len(gates):,} gate {'row' if len(gates) == 1 else 'rows'}"
    if not failing:
        open_ = sum(row["outcome"] == "insufficient" for row in gates)
        rest = f"; for {open_:,} the data is not enough to tell" if open_ else ""
        return Verdict("passed", f"None of {count} failed{rest}.{nothing}")
    reasons = [(row["gate"], row["model"], row["slice"], _found(row)) for row in failing[:_TOLD]]
    return Verdict("failed", f"{len(failing):,} of {count} failed.{nothing}", reasons, max(len(failing) - _TOLD, 0))


def _nothing_scored(report: Report) -> str:
    """A sentence if a model and loss have no row that was scored."""
    rows = overall(report)
    none = sum(row["rows_valid"] == 0 for row in rows)
    return f" For {none:,} of {len(rows):,} pairs of model and loss no row could be scored." if none else ""


def _found(row: Row) -> str:
    value = "no value" if row["value"] is None else number(row["value"])
    interval = "" if row["ci_low"] is None else f" ({number(row['ci_low'])} to {number(row['ci_high'])})"
    why = f", insufficient: {row['why']}" if row["why"] else ", insufficient" * (row["outcome"] == "insufficient")
    return f"{value}{interval}{why}; limit {number(row['limit'])}"
