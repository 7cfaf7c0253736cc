"""A picture of curves that stands by itself: other than in a page, its colours are its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lossops.curves import CurvePoints
from lossops.report.plots import Spec

__all__ = ["curve_plot"]

_WIDTH, _HEIGHT = 330, 260
_COLOURS = ["#2a5fb8", "#d1603d", "#3f8f5a", "#8a6bb1", "#e0a33a", "#3f8fa3", "#b05a80", "#7a828f"]
_INK, _LINE = "#1d2430", "#d5dae2"
_ROOM = 75  # letters of a line of the legend
_STEEP = 4.0  # how far a curve may leave what most of it shows before the picture is cut off


def curve_plot(curves: Sequence[CurvePoints]) -> Spec:
    """The losses on the left, their slopes on the right, over the same predictions."""
    names = [one.name for one in curves]
    colours = [_COLOURS[place % len(_COLOURS)] for place in range(len(names))]
    columns = max(1, _ROOM // max(map(len, names)))
    legend = {"title": None, "orient": "bottom", "symbolType": "stroke", "columns": columns, "labelLimit": 0}
    colour = {"field": "loss", "sort": None, "scale": {"domain": names, "range": colours}, "legend": legend}
    title = f"prediction, where the label is {curves[0].label:g}"
    panels = [_panel(curves, value, title, colour) for value in ("loss", "slope")]
    text = {
        "labelColor": _INK,
        "titleColor": _INK,
        "labelFontSize": 12,
        "titleFontSize": 13,
        "titleFontWeight": "normal",
    }
    config = {
        "background": "white",
        "font": "sans-serif",
        "view": {"stroke": None},
        "axis": {**text, "gridColor": _LINE, "domainColor": _LINE, "tickColor": _LINE},
        "legend": {**text, "symbolStrokeWidth": 3, "columnPadding": 30},
    }
    return {"hconcat": panels, "spacing": 30, "padding": 12, "config": config}


def _panel(curves: Sequence[CurvePoints], value: str, title: str, colour: Spec) -> Spec:
    data = [
        {"loss": one.name, "prediction": at, "value": found if math.isfinite(found) else None}
        for one in curves
        for at, found in zip(one.prediction.tolist(), getattr(one, value).tolist(), strict=True)
    ]
    scale = {"domain": _span([one["value"] for one in data if one["value"] is not None]), "nice": False}
    ends = {"domain": [data[0]["prediction"], data[-1]["prediction"]], "nice": False}
    encoding = {
        "x": {
            "field": "prediction",
            "type": "quantitative",
            "title": title,
            "scale": ends,
            "axis": {"tickCount": 6, "labelFlush": False},
        },
        "y": {"field": "value", "type": "quantitative", "title": value, "scale": scale, "axis": {"tickCount": 6}},
        "color": colour,
    }
    mark = {"type": "line", "strokeWidth": 2.5, "clip": True}
    size = {"width": _WIDTH, "height": _HEIGHT}
    return {**size, "data": {"values": data}, "mark": mark, "encoding": encoding}


def _span(values: Sequence[float]) -> list[float]:
    """From the lowest to the highest value, but where a few are far from the others: a curve may have a pole."""
    if not values:
        return [0.0, 1.0]
    ordered, few = sorted(values), len(values) // 50
    low, high = ordered[few], ordered[-1 - few]
    ends = [max(ordered[0], low - _STEEP * (high - low)), min(ordered[-1], high + _STEEP * (high - low))]
    cut = [low if ordered[0] < ends[0] else ordered[0], high if ordered[-1] > ends[1] else ordered[-1]]
    room = 0.05 * (cut[1] - cut[0]) or 0.5
    return [cut[0] - room, cut[1] + room]
