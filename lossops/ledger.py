"""The ledger: every row that was read, in exactly one bucket, for each dataset, model and loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lossops.errors import RunError
from lossops.kernels.checks import Reason
from lossops.state import Cell

__all__ = ["UNALIGNED", "Entry", "Unaligned", "make_ledger"]

# Why a row has no partner, in the order of the report.
UNALIGNED = ("null_key", "no_label", "no_prediction", "duplicate_key", "quarantined")


@dataclass(frozen=True)
class Entry:
    """One bucket: ``rows`` rows of a dataset ended for this model and loss with this reason."""

    dataset: str
    model: str
    loss: str
    reason: str
    rows: int


@dataclass(frozen=True)
class Unaligned:
    """Rows of one side that found no partner.

    Args:
        dataset: ``predictions`` or ``labels``.
        rows: rows that the side has.
        reasons: rows without a partner, by reason.
    """

    dataset: str
    rows: int
    reasons: Mapping[str, int]


def make_ledger(
    sides: Sequence[Unaligned], cells: Sequence[Cell], aligned: Mapping[Cell, npt.NDArray[np.int64]]
) -> list[Entry]:
    """Return every bucket that is not empty, ``scored`` always.

    Args:
        sides: both sides of a pairing.
        cells: its models and losses.
        aligned: for each of them the number of aligned rows by `Reason`.

    Raises:
        RunError: the buckets of a dataset do not add up to its rows. Nothing may be reported then.
    """
    entries = []
    for side in sides:
        for cell in cells:
            buckets = {reason.name.lower(): int(aligned[cell][reason]) for reason in Reason} if cell in aligned else {}
            buckets = {"scored": 0, **buckets, **{reason: side.reasons.get(reason, 0) for reason in UNALIGNED}}
            if sum(buckets.values()) != side.rows:
                found = f"{sum(buckets.values())} rows accounted for, {side.rows} read"
                raise RunError(f"the ledger of the {side.dataset} of {cell[0]} does not add up: {found}")
            entries += [
                Entry(side.dataset, cell[0], cell[1], reason, rows)
                for reason, rows in buckets.items()
                if rows or reason == "scored"
            ]
    return entries
