"""Two reports side by side: means of the same model, loss and slice. No test: a baseline compares row by row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lossops.errors import InputError
from lossops.report.history import OVERALL
from lossops.report.store import Report

__all__ = ["Beside", "beside"]

_KEYS = ("model", "loss", "slice")


@dataclass(frozen=True)
class Beside:
    """A mean in two reports.

    Args:
        model, loss, slice: whose mean.
        first, second: the means; None where a report has none.
        difference: second less first.
        overlap: whether their intervals do; None where one has none.
    """

    model: str
    loss: str
    slice: str
    first: float | None
    second: float | None
    difference: float | None
    overlap: bool | None


def beside(first: Report, second: Report) -> tuple[list[Beside], int]:
    """Return what both reports have: overall first, then slices, those whose intervals are apart first.

    Where each report has one model these are compared, whatever they are called.

    Returns:
        The means, and how many rows of losses are in one report only.

    Raises:
        InputError: they have no loss of a model in common.
    """
    ours, theirs = _rows(first.losses), _rows(_renamed(second.losses, first.losses))
    common = [key for key in ours if key in theirs]
    if not common:
        raise InputError(
            f"{first.path} and {second.path} have no model and loss in common: {_said(first)}, and {_said(second)}; "
            "allowed: two reports of the same losses"
        )
    found = [_beside(key, ours[key], theirs[key]) for key in common]
    return sorted(found, key=_order), len(ours) + len(theirs) - 2 * len(common)


def _rows(losses: pa.Table) -> dict[tuple[str, ...], Mapping[str, Any]]:
    rows = losses.select([*_KEYS, "mean", "ci_low", "ci_high"]).to_pylist()
    return {tuple(row[name] for name in _KEYS): row for row in rows}


def _renamed(losses: pa.Table, like: pa.Table) -> pa.Table:
    models, names = losses["model"].unique().to_pylist(), like["model"].unique().to_pylist()
    if len(models) != 1 or len(names) != 1:
        return losses
    return losses.set_column(0, losses.schema.field("model"), pa.array(names * losses.num_rows, pa.string()))


def _said(report: Report) -> str:
    """The models and losses of a report, of many only some."""
    models, losses = (report.losses[name].unique().to_pylist() for name in ("model", "loss"))
    return " of ".join(", ".join(found[:5]) + ", ..." * (len(found) > 5) for found in (losses, models))


def _beside(key: tuple[str, ...], one: Mapping[str, Any], two: Mapping[str, Any]) -> Beside:
    known = one["mean"] is not None and two["mean"] is not None and math.isfinite(two["mean"] - one["mean"])
    ends = [row[end] for row in (one, two) for end in ("ci_low", "ci_high")]
    overlap = None if None in ends else ends[0] <= ends[3] and ends[2] <= ends[1]
    difference = two["mean"] - one["mean"] if known else None
    return Beside(key[0], key[1], key[2], one["mean"], two["mean"], difference, overlap)


def _order(one: Beside) -> tuple[bool, bool, float]:
    if one.slice == OVERALL:  # in the order of the config
        return False, False, 0.0
    return True, one.overlap is not False, -abs(one.difference or 0.0)
