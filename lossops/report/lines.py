"""Plots of a number over time, as `lossops.report.plots` are of what there is at one time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from lossops.report.plots import ACCENT, NUMBERS, Row, Spec, styled

__all__ = ["line_plot"]

_WIDTH, _HEIGHT = 380, 150
_DAY = 86_400_000  # milliseconds
_SHORT = 4 * _DAY  # within which the time of day matters


def line_plot(rows: Sequence[Row], moments: Sequence[datetime]) -> Spec | None:
    """Means over time with a band of their intervals; None if no row has a mean.

    Args:
        rows: with ``mean``, ``ci_low`` and ``ci_high``.
        moments: of the rows, in order; shown as their clocks do.
    """
    data = [_point(row, moment) for row, moment in zip(rows, moments, strict=True) if _is_finite(row["mean"])]
    if not data:
        return None
    is_long = data[-1]["at"] - data[0]["at"] > _SHORT
    by_day = all(one["at"] % _DAY == 0 for one in data)
    label = "%Y-%m-%d" if is_long or by_day else "%m-%d %H:%M"
    ticks = {"interval": "day", "step": 1} if by_day and not is_long else 3
    room = {"tickCount": ticks, "labelOverlap": True, "labelSeparation": 14, "labelFlush": False}
    axis = {**room, "grid": False, "labelExpr": f"utcFormat(datum.value, '{label}')"}
    across = {"field": "at", "type": "temporal", "scale": {"type": "utc"}, "title": None, "axis": axis}
    down = {"type": "quantitative", "title": None, "scale": {"zero": False}, "axis": NUMBERS}
    value = {"x": across, "y": {"field": "value", **down}}
    band = {"x": across, "y": {"field": "low", **down}, "y2": {"field": "high"}}
    layers = [
        {"mark": {"type": "area", "color": ACCENT, "opacity": 0.2}, "encoding": band},
        {"mark": {"type": "line", "color": ACCENT, "strokeWidth": 2}, "encoding": value},
        {"mark": {"type": "circle", "color": ACCENT, "opacity": 1, "size": 30}, "encoding": value},
    ]
    return styled({"width": _WIDTH, "height": _HEIGHT, "data": {"values": data}, "layer": layers})


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _point(row: Row, moment: datetime) -> Spec:
    # The renderer knows no time zones but its own and UTC, so the clock of the run is taken for one of UTC.
    at = int(moment.replace(tzinfo=UTC).timestamp() * 1000)
    ends = (row["ci_low"], row["ci_high"]) if _is_finite(row["ci_low"]) and _is_finite(row["ci_high"]) else (None, None)
    low, high = (row["mean"] if end is None else end for end in ends)
    return {"at": at, "value": row["mean"], "low": low, "high": high}
