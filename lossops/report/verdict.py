"""How a run ended, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lossops.report.selection import gates_in_order, number, overall
from lossops.report.store import Report, gate_finding

__all__ = ["Verdict", "verdict"]

_TOLD = 8  # failing rows, and warnings, that are told; all are in the table of gates, and in run.json


@dataclass(frozen=True)
class Verdict:
    """How a run ended.

    Args:
        outcome: passed, failed, undecided or completed.
        text: a sentence.
        reasons: what failed: gate, model, slice, and what was found; the first three are the user's.
        more: failing rows that `reasons` leaves out.
        warnings: what must not be overlooked, a sentence each.
        more_warnings: how many `warnings` leaves out.
    """

    outcome: str
    text: str
    reasons: Sequence[tuple[str, str, str, str]] = ()
    more: int = 0
    warnings: Sequence[str] = ()
    more_warnings: int = 0


def verdict(report: Report) -> Verdict:
    """Say how a run ended, what failed, and what must not be overlooked."""
    left = max(len(report.warnings) - _TOLD, 0)
    return replace(_judged(report), warnings=report.warnings[:_TOLD], more_warnings=left)


def _judged(report: Report) -> Verdict:
    gates = gates_in_order(report)
    failing = [row for row in gates if row["fails"]]
    nothing = _nothing_scored(report)
    if not gates:
        return Verdict("completed", f"No gates were set, so nothing was judged.{nothing}")
    count = f"{len(gates):,} gate {'row' if len(gates) == 1 else 'rows'}"
    if not failing:
        open_ = sum(row["outcome"] == "insufficient" for row in gates)
        if open_ == len(gates):
            return Verdict("undecided", f"For none of {count} the data is enough to tell.{nothing}")
        rest = f"; for {open_:,} the data is not enough to tell" if open_ else ""
        return Verdict("passed", f"None of {count} failed{rest}.{nothing}")
    told = [f"{gate_finding(row)}; limit {number(row['limit'])}" for row in failing[:_TOLD]]
    reasons = [(row["gate"], row["model"], row["slice"], what) for row, what in zip(failing, told, strict=False)]
    return Verdict("failed", f"{len(failing):,} of {count} failed.{nothing}", reasons, max(len(failing) - _TOLD, 0))


def _nothing_scored(report: Report) -> str:
    """A sentence if a model and loss have no row that was scored."""
    rows = overall(report)
    none = sum(row["rows_valid"] == 0 for row in rows)
    return f" For {none:,} of {len(rows):,} pairs of model and loss no row could be scored." if none else ""
