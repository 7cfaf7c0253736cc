"""A picture of curves that stands by itself: other than in a page, its colours are its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from lossops.curves import CurvePoints
from lossops.report.axes import Axis, Scale, across, room_across, room_down, up
from lossops.report.labels import width_of
from lossops.report.plots import framed
from lossops.report.svg import Picture, element, group, line, path, points, words

__all__ = ["curve_plot"]

_WIDTH, _HEIGHT = 330, 260
_COLOURS = ["#2a5fb8", "#d1603d", "#3f8f5a", "#8a6bb1", "#e0a33a", "#3f8fa3", "#b05a80", "#7a828f"]
_BETWEEN = 30  # pixels between both panels, and between the words of the legend
_SAMPLE = 18  # of a line in the legend, with room
_LEGEND_LINE = 20
_STEEP = 4.0  # how far a curve may leave what most of it shows before the picture is cut off


def curve_plot(curves: Sequence[CurvePoints]) -> Picture:
    """The losses on the left, their slopes on the right, over the same predictions."""
    names = [one.name for one in curves]
    colours = [_COLOURS[place % len(_COLOURS)] for place in range(len(names))]
    panels: list[str] = []
    left = below = 0.0
    for value in ("loss", "slope"):
        wide, high = _axes(curves, value)
        left += room_down(high) + (_BETWEEN if panels else 0)
        panels.append(
            group(left, 0, across(wide, _HEIGHT), up(high, _WIDTH), _lines(curves, value, wide, high, colours))
        )
        left, below = left + _WIDTH, room_across(wide)
    columns = max(1, int((left + _BETWEEN) // (_SAMPLE + width_of(names) + _BETWEEN)))
    legend = group(0, _HEIGHT + below + 14, _legend(names, colours, columns))
    lines = -(-len(names) // columns)
    found = framed(left, _HEIGHT, *panels, legend, right=12, below=below + 10 + _LEGEND_LINE * lines)
    back = element("rect", width=found.width, height=found.height, fill="var(--back)")
    return Picture(found.width, found.height, back + found.content)


def _axes(curves: Sequence[CurvePoints], value: str) -> tuple[Axis, Axis]:
    known = [found for one in curves for found in getattr(one, value).tolist() if math.isfinite(found)]
    low, high = _span(known)
    ends = curves[0].prediction.tolist()
    wide, upward = Scale(ends[0], ends[-1], 0, _WIDTH), Scale(low, high, _HEIGHT, 0)
    title = f"prediction, where the label is {curves[0].label:g}"
    return Axis(wide, wide.ticks(6), title=title), Axis(upward, upward.ticks(6), title=value)


def _lines(curves: Sequence[CurvePoints], value: str, wide: Axis, high: Axis, colours: Sequence[str]) -> str:
    """The curves, cut off where they leave the panel."""
    drawn = []
    for one, colour in zip(curves, colours, strict=True):
        pairs = list(zip(one.prediction.tolist(), getattr(one, value).tolist(), strict=True))
        pieces = [list(found) for known, found in groupby(pairs, lambda pair: math.isfinite(pair[1])) if known]
        does = "".join(points([(wide.scale(at), high.scale(found)) for at, found in piece]) for piece in pieces)
        drawn.append(path(does, fill="none", stroke=colour, stroke_width=2.5))
    return element("svg", *drawn, width=_WIDTH, height=_HEIGHT)


def _legend(names: Sequence[str], colours: Sequence[str], columns: int) -> str:
    step, parts = _SAMPLE + width_of(names) + _BETWEEN, []
    for place, (name, colour) in enumerate(zip(names, colours, strict=True)):
        x, y = step * (place % columns), _LEGEND_LINE * (place // columns)
        parts += [line((x, y), (x + 12, y), stroke=colour, stroke_width=3), words(x + _SAMPLE, y, name, "start")]
    return "".join(parts)


def _span(values: Sequence[float]) -> tuple[float, float]:
    """From the lowest to the highest value, but where a few are far from the others: a curve may have a pole."""
    if not values:
        return 0.0, 1.0
    ordered, few = sorted(values), len(values) // 50
    low, high = ordered[few], ordered[-1 - few]
    ends = [max(ordered[0], low - _STEEP * (high - low)), min(ordered[-1], high + _STEEP * (high - low))]
    cut = [low if ordered[0] < ends[0] else ordered[0], high if ordered[-1] > ends[1] else ordered[-1]]
    room = 0.05 * (cut[1] - cut[0]) or 0.5
    return cut[0] - room, cut[1] + room
