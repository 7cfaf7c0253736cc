"""What the plots of a report look like, drawn from rows that are chosen already.

Colours are custom properties of the page, so that one drawing does for light, dark and paper.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lossops.report.axes import (
    INK,
    Axis,
    Scale,
    across,
    bent_ticks,
    from_zero,
    linear,
    logarithmic,
    names_across,
    names_down,
    room_across,
    room_beside,
    room_down,
    symmetric,
    up,
)
from lossops.report.labels import count_texts, number_texts, short, width_of
from lossops.report.svg import Picture, element, group, line, rect, words

__all__ = [
    "ACCENT",
    "Row",
    "calibration_plot",
    "dot_plot",
    "framed",
    "heat_map",
    "histogram_plot",
    "is_finite",
    "ledger_plot",
]

Row = Mapping[str, Any]

_WIDTH = 270  # of what is drawn, without labels
_STEP = 20
_EDGE = 8  # around everything
ACCENT = "var(--accent)"
_REASONS = [f"var(--reason-{number})" for number in range(12)]
_DASHED: dict[str, str | float] = {"stroke": INK, "stroke_dasharray": "4,3", "opacity": 0.7}
_SMALLEST, _LARGEST = 16, 170  # areas of dots, in pixels
_LEGEND_LINE, _NAMES_LINE = 20, 16
_BAR_NAME = 36  # letters of all its parts


def is_finite(row: Row, *names: str) -> bool:
    """Whether a row has these numbers."""
    return all(row[name] is not None and math.isfinite(row[name]) for name in names)


def framed(
    width: float, height: float, *content: str, left: float = 0, right: float = 0, above: float = 0, below: float = 0
) -> Picture:
    """A picture of content of a size, with room beside it."""
    whole = left + width + right + 2 * _EDGE, above + height + below + 2 * _EDGE
    return Picture(*whole, group(left + _EDGE, above + _EDGE, *content))


def _dot(x: float, y: float, area: float) -> str:
    return element("circle", cx=x, cy=y, r=math.sqrt(area / math.pi), fill=ACCENT)


def _areas(rows: Sequence[Row], name: str) -> list[float]:
    most = max((row[name] for row in rows), default=0) or 1
    return [_SMALLEST + (_LARGEST - _SMALLEST) * row[name] / most for row in rows]


def _bar(start: tuple[float, float], end: tuple[float, float]) -> str:
    return line(start, end, stroke=ACCENT, stroke_width=2)


def dot_plot(
    rows: Sequence[Row], value: str, label: str, title: str, *, size: str | None = None, marked: float | None = None
) -> Picture | None:
    """Dots with intervals, a line for each row, in the order of the rows; None if no row has a value that can be drawn.

    Args:
        rows: of a table with `value`, ``ci_low`` and ``ci_high``.
        value, label: the columns of the dots and their labels.
        title: what the axis shows.
        size: the column that the area of a dot stands for.
        marked: where a dashed line is drawn to compare with.
    """
    shown = [row for row in rows if is_finite(row, value)]
    if not shown:
        return None
    if marked is not None and not math.isfinite(marked):
        marked = None
    with_ends = [row for row in shown if is_finite(row, "ci_low", "ci_high")]
    ends = [row[value] for row in shown] + [row[end] for row in with_ends for end in ("ci_low", "ci_high")]
    axis = _axis_of(ends if marked is None else [*ends, marked], title, zero=marked == 0)
    if axis is None:
        return None
    height, names = _STEP * len(shown), [short(row[label]) for row in shown]
    middles = [_STEP * (place + 0.5) for place in range(len(shown))]
    parts = [across(axis, height), names_down(zip(middles, names, strict=True))]
    if marked is not None:
        parts.append(line((axis.scale(marked), 0), (axis.scale(marked), height), **_DASHED))
    for middle, row in zip(middles, shown, strict=True):
        if is_finite(row, "ci_low", "ci_high"):
            parts.append(_bar((axis.scale(row["ci_low"]), middle), (axis.scale(row["ci_high"]), middle)))
    areas = _areas(shown, size) if size else [60.0] * len(shown)
    parts += [_dot(axis.scale(row[value]), *one) for row, *one in zip(shown, middles, areas, strict=True)]
    left, right = room_beside(axis)
    left = max(left, 10 + width_of(names))
    return framed(_WIDTH, height, *parts, left=left, right=right, below=room_across(axis))


def _axis_of(values: Sequence[float], title: str, *, zero: bool) -> Axis | None:
    """A linear axis, or one that leaves out no power of ten where values spread over many."""
    positive = [value for value in values if value > 0]
    if not zero and len(positive) == len(values) and _spreads(min(positive), max(positive)):
        scale = logarithmic(min(positive), max(positive), 0, _WIDTH, _EDGE)
        return Axis(scale, bent_ticks(scale, scale.low), title=title)
    straight = linear(values, 0, _WIDTH, zero=zero)
    return None if straight is None else Axis(straight, straight.ticks(), title=title)


def heat_map(
    cells: Mapping[tuple[int, int], float], down: Sequence[str], across: Sequence[str], columns: Sequence[str]
) -> Picture:
    """Mean losses of two columns crossed: the stronger the colour, the larger the mean.

    Args:
        cells: mean loss, by place down and across.
        down, across: labels of the places.
        columns: the names of both columns; the first goes down.
    """
    rows, names = ([short(name) for name in labels] for labels in (down, across))
    step, high = max(14, min(90, _WIDTH // len(names))), 22
    low, most = min(cells.values()), max(cells.values())
    width, height = step * len(names), high * len(rows)
    parts = [
        rect(step * two, high * one, step, high, **_shade(value, low, most), stroke="var(--back)")
        for (one, two), value in sorted(cells.items())
    ]
    upright = width_of(names) > step
    parts += [
        names_down((high * (place + 0.5), name) for place, name in enumerate(rows)),
        names_across([(step * (place + 0.5), name) for place, name in enumerate(names)], height, upright=upright),
    ]
    room = 10 + width_of(names) if upright else 26
    parts.append(words(width / 2, height + room + 8, short(columns[1])))
    left = 10 + width_of(rows)
    title = short(columns[0])
    parts.append(words(-left - 14, height / 2, title, upright=True))
    lean = max((width_of([title]) - height) / 2, 0)  # of that title, which may be longer than the map is high
    legend, needed = _shades(low, most)
    parts.append(group(0, -48 - lean, legend))
    right = max(needed - width, 0)
    below = max(room + 20, lean)
    return framed(width, height, *parts, left=left + 24, right=right, above=54 + lean, below=below)


def _spreads(low: float, high: float) -> bool:
    """Whether values are so far apart that only powers of ten tell them from each other."""
    return low > 0 and high > 1000 * low


def _shade(value: float, low: float, high: float) -> dict[str, str | float]:
    """The colour of a cell; by powers of ten where values spread over many."""
    if _spreads(low, high):
        value, low, high = math.log(value), math.log(low), math.log(high)
    part = 1.0 if low == high else value / high if math.isinf(high - low) else (value - low) / (high - low)
    return {"fill": ACCENT, "fill_opacity": 0.15 + 0.85 * min(max(part, 0.0), 1.0)}


def _shades(low: float, high: float) -> tuple[str, float]:
    """A legend of two lines, and how wide it is."""
    title = "mean loss, logarithmic" if _spreads(low, high) else "mean loss"
    parts, x = [words(0, 8, title, "start")], 0.0
    for value in (low, high) if low != high else (low,):
        (text,) = number_texts([float(f"{value:.4g}")])
        parts += [rect(x, 22, 12, 12, **_shade(value, low, high)), words(x + 18, 28, text, "start")]
        x += 18 + width_of([text]) + 20
    return "".join(parts), max(x, width_of([title]))


def calibration_plot(rows: Sequence[Row]) -> Picture:
    """Mean label beside mean prediction of each bin, with the diagonal on which both are equal."""
    shown = [row for row in rows if is_finite(row, "mean_prediction", "mean_label")]
    most = max((row[name] for row in shown for name in ("mean_prediction", "mean_label")), default=0.0)
    whole = most == 0.0 or most > 0.5  # rare events are all in a corner of it
    x = Scale(0, 1, 0, _WIDTH) if whole else from_zero(most, 0, _WIDTH)
    y = replace(x, start=_WIDTH, end=0)
    wide, high = (Axis(one, one.ticks(5), title=f"mean {what}") for one, what in ((x, "prediction"), (y, "label")))
    parts = [across(wide, _WIDTH), up(high, _WIDTH), line((x(0), y(0)), (x(x.high), y(y.high)), **_DASHED)]
    for row, area in zip(shown, _areas(shown, "rows"), strict=True):
        place = x.within(row["mean_prediction"])
        if is_finite(row, "ci_low", "ci_high"):
            parts.append(_bar((place, y.within(row["ci_low"])), (place, y.within(row["ci_high"]))))
        parts.append(_dot(place, y.within(row["mean_label"]), area))
    left, right = room_beside(wide)
    left = max(left, room_down(high))
    return framed(_WIDTH, _WIDTH, *parts, left=left, right=right, above=_EDGE, below=room_across(wide))


def histogram_plot(rows: Sequence[Row], quantiles: Mapping[str, float], title: str) -> Picture | None:
    """Rows by loss, in bins of equal relative width; None if no bin can be drawn.

    Args:
        rows: of histograms.parquet, increasing.
        quantiles: marked by lines, by name.
        title: the loss.
    """
    shown, smallest = _drawn(rows)
    if not shown:
        return None
    width, height = 420, 180
    low, high = shown[0]["low"], shown[-1]["high"]
    scale = logarithmic(low, high, 0, width) if low > 0 else symmetric(low, high, 0, width, smallest)
    tops = [_height(row, scale) for row in shown]
    wide = Axis(scale, bent_ticks(scale, smallest), title=title, grid=False)
    upward = from_zero(max(tops), height, 0)
    counts = Axis(upward, upward.ticks(), count_texts, title="rows per doubling")
    parts = [across(wide, height), up(counts, width)]
    for row, top in zip(shown, tops, strict=True):
        start, end = scale(row["low"]), scale(row["high"])
        parts.append(rect(start, upward(top), end - start, height - upward(top), fill=ACCENT))
    left, right = room_beside(wide)
    marked = [(scale(value), short(name)) for name, value in quantiles.items() if low <= value <= high]
    lines, needed, above = _marks(marked, height)
    left, right = max(left, room_down(counts)), max(right, needed - width)
    return framed(width, height, *parts, *lines, left=left, right=right, above=above, below=room_across(wide))


def _marks(marked: Sequence[tuple[float, str]], height: float) -> tuple[list[str], float, float]:
    """Dashed lines with their names above the bars, on which they could not be read, in rows where they are close.

    Also returns where the last name ends, and the height of all.
    """
    parts: list[str] = []
    ends: list[float] = []  # of the rows, from the lowest
    for place, text in sorted(marked):
        row = next((row for row, end in enumerate(ends) if end < place), len(ends))
        ends[row:] = [place + width_of([text]) + 4, *ends[row + 1 :]]
        top = -_NAMES_LINE * (row + 0.5)
        parts.append(line((place, top), (place, height), stroke=INK, stroke_dasharray="4,3"))
        parts.append(words(place + 2, top, text, "start"))
    return parts, max(ends, default=0.0), _NAMES_LINE * len(ends)


def _height(row: Row, scale: Scale) -> float:
    """Rows per width on the axis, whose unit is a doubling: bins are of unequal width there, areas are to be equal."""
    return float(row["rows"] * math.log(2) / (scale.bent(row["high"]) - scale.bent(row["low"])))


def _drawn(rows: Sequence[Row]) -> tuple[list[Row], float]:
    """Bins without those of zero and infinity, which have no width, and without a thin tail towards zero.

    Also returns the size of a loss at which that tail begins.
    """
    shown = [row for row in rows if is_finite(row, "low", "high") and row["low"] < row["high"]]
    floor = max((row["rows"] for row in shown), default=0) / 200
    largest = max((_size(row) for row in shown), default=0.0)
    ends = [abs(end) for row in shown if row["rows"] >= floor for end in (row["low"], row["high"]) if end]
    smallest = max(min(ends, default=0.0), largest * 1e-300)
    return [row for row in shown if _size(row) > smallest], smallest


def _size(row: Row) -> float:
    return float(max(abs(row["low"]), abs(row["high"])))


def ledger_plot(
    bars: Sequence[tuple[Sequence[str], Sequence[tuple[str, int]]]], reasons: Sequence[str], title: str
) -> Picture:
    """One bar for each dataset, model and loss, stacked from the rows of each reason.

    Args:
        bars: dataset, model and loss as far as they matter, and (reason, rows) of each part.
        reasons: all that have a colour, in order, also where other plots use them.
        title: what the axis shows.
    """
    width, step, thick = 340, 24, 14
    height, names = step * len(bars), [_bar_name(label) for label, _ in bars]
    order = {reason: place for place, reason in enumerate(reasons)}
    colour = {reason: _REASONS[place % len(_REASONS)] for reason, place in order.items()}
    scale = from_zero(max([1, *(sum(rows for _, rows in parts) for _, parts in bars)]), 0, width)
    axis = Axis(scale, scale.ticks(), count_texts, title=title)
    middles = [step * (place + 0.5) for place in range(len(bars))]
    drawn = [across(axis, height), names_down(zip(middles, names, strict=True))]
    for middle, (_, parts) in zip(middles, bars, strict=True):
        so_far = 0
        for reason, rows in sorted(parts, key=lambda part: order[part[0]]):
            start, end = scale(so_far), scale(so_far + rows)
            drawn.append(rect(start, middle - thick / 2, end - start, thick, fill=colour[reason]))
            so_far += rows
    used = {reason for _, parts in bars for reason, _ in parts}
    legend = [(reason, colour[reason]) for reason in reasons if reason in used]
    wide, room = room_across(axis), _LEGEND_LINE * -(-len(legend) // 2) + 8
    drawn.append(group(0, height + wide + 8, _colours(legend)))
    left, right = room_beside(axis)
    left, right = max(left, 10 + width_of(names)), max(right, _colours_width(legend) - width)
    return framed(width, height, *drawn, left=left, right=right, below=wide + room)


def _bar_name(parts: Sequence[str]) -> str:
    """The names of what a bar is of, each by itself as short as the room for all demands: short ones leave theirs."""
    room, letters = _BAR_NAME, dict.fromkeys(parts, 0)
    for left, part in zip(range(len(parts), 0, -1), sorted(parts, key=len), strict=True):
        letters[part] = min(len(part), room // left)
        room -= letters[part]
    return " · ".join(short(part, letters[part]) for part in parts)


def _colours(legend: Sequence[tuple[str, str]]) -> str:
    """Squares with words in two columns."""
    second = 18 + width_of(reason for reason, _ in legend) + 24
    parts = []
    for place, (reason, colour) in enumerate(legend):
        x, y = second * (place % 2), _LEGEND_LINE * (place // 2)
        parts += [rect(x, y, 12, 12, fill=colour), words(x + 18, y + 6, reason, "start")]
    return "".join(parts)


def _colours_width(legend: Sequence[tuple[str, str]]) -> float:
    return (18 + width_of(reason for reason, _ in legend)) * min(len(legend), 2) + 24 * (len(legend) > 1)
