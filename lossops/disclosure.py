"""Small slices: which numbers are hidden, and which others would give them away.

A slice whose rows are few says too much about each of them. So does what remains where its fellows are subtracted from
the slice that they add up to. For every slice that is divided into others, of those that are hidden there are therefore
either none, or at least two with enough rows together. Each such sum is looked at by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lossops.groups import GroupKey
from lossops.slices import Axis, Slice

__all__ = ["Place", "hidden_slices"]

Place = tuple[int, GroupKey]  # number of the slice, and its group
_Part = tuple[int, object]


@dataclass(frozen=True)
class _Division:
    """A slice, and those it is divided into."""

    whole: Place
    parts: Sequence[Place]


def hidden_slices(
    slices: Sequence[Slice], sizes: Sequence[Mapping[GroupKey, int]], small: set[Place], min_rows: int
) -> dict[Place, str]:
    """Return what is hidden, and why: ``min_rows`` for small slices, ``complement`` for those that give them away.

    Args:
        slices: of the run, overall first.
        sizes: for each of them the rows of every group.
        small: what is hidden for its size.
        min_rows: rows that groups must have.
    """
    hidden = dict.fromkeys(sorted(small), "min_rows")
    if not hidden:
        return {}
    divisions = list(_divisions(slices, sizes))
    rows = {(number, key): size for number, found in enumerate(sizes) for key, size in found.items()}
    changed = True
    while changed:
        before = len(hidden)
        for one in divisions:
            _protect(one, hidden, rows, min_rows)
        changed = len(hidden) > before
    return hidden


def _protect(one: _Division, hidden: dict[Place, str], rows: Mapping[Place, int], min_rows: int) -> None:
    """Hide more of a division until what is hidden does not follow from what is not."""
    while True:
        inside = [part for part in one.parts if part in hidden]
        exposed = 0 < len(inside) < 2 or (inside and sum(rows[part] for part in inside) < min_rows)
        if one.whole in hidden:
            exposed = not inside
        if not exposed:
            return
        shown = [part for part in one.parts if part not in hidden and rows[part]]
        if not shown:
            hidden.setdefault(one.whole, "complement")
            return
        hidden[min(shown, key=lambda part: (rows[part], part))] = "complement"


def _divisions(slices: Sequence[Slice], sizes: Sequence[Mapping[GroupKey, int]]) -> Iterator[_Division]:
    for number, chosen in enumerate(slices):
        for other, finer in enumerate(slices):
            sources = [_source(axis, finer) for axis in chosen.axes]
            if other == number or any(source is None for source in sources):
                continue
            divided: dict[GroupKey, list[Place]] = {}
            for key in sizes[other]:
                projected = tuple(
                    _projected(axis, finer.axes[source], key[source])
                    for axis, source in zip(chosen.axes, sources, strict=True)
                    if source is not None
                )
                divided.setdefault(projected, []).append((other, key))
            yield from (_Division((number, key), parts) for key, parts in divided.items() if key in sizes[number])


def _source(axis: Axis, finer: Slice) -> int | None:
    """The axis of a slice from which another follows."""
    for place, own in enumerate(finer.axes):
        refines = own.bins is None or (axis.bins is not None and set(axis.bins) <= set(own.bins))
        if own.column == axis.column and refines and (own.bins is not None or axis.bins is not None or own == axis):
            return place
    return None


def _projected(axis: Axis, finer: Axis, part: _Part) -> _Part:
    """The group on an axis of what is in a group on a finer one."""
    rank, value = part
    if axis == finer or axis.bins is None or rank:
        return part
    if finer.bins is None:
        return 0, int(np.searchsorted(axis.bins, float(str(value)), side="right"))
    lower = int(str(value)) - 1
    return 0, 0 if lower < 0 else int(np.searchsorted(axis.bins, finer.bins[lower], side="right"))
