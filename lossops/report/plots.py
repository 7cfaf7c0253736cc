"""What the plots of a report look like: Vega-Lite specifications of rows that are chosen already.

Colours are custom properties of the page, so that one drawing does for light, dark and paper.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lossops.report.labels import label_axis, numbered, short

__all__ = [
    "ACCENT",
    "INK",
    "NUMBERS",
    "Spec",
    "calibration_plot",
    "dot_plot",
    "heat_map",
    "histogram_plot",
    "ledger_plot",
    "styled",
]

Row = Mapping[str, Any]
Spec = dict[str, Any]

_WIDTH = 270  # of what is drawn, without labels
_STEP = 20
ACCENT, INK, _LINE = "var(--accent)", "currentColor", "var(--line)"
_REASONS = [f"var(--reason-{number})" for number in range(12)]
_TEXT = {"labelColor": INK, "titleColor": INK, "labelFontSize": 13, "titleFontSize": 13, "titleFontWeight": "normal"}
_CONFIG: Spec = {
    "background": "transparent",
    "aria": False,
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {**_TEXT, "gridColor": _LINE, "domainColor": _LINE, "tickColor": _LINE, "labelLimit": 0},
    "legend": {**_TEXT, "labelLimit": 0, "columnPadding": 45, "symbolStrokeWidth": 0},
    "title": {"color": INK, "fontSize": 12, "anchor": "start", "fontWeight": "normal"},
}
NUMBERS = {"tickCount": 4, "labelOverlap": True, "labelSeparation": 14, "labelExpr": "format(datum.value, '~g')"}
_COUNTS = {**NUMBERS, "labelExpr": "format(datum.value, '~s')"}
_TITLED = {"minExtent": 36}  # room for numbers in any font beside the title of an axis that goes up
_ONCE: Spec = {"values": [{}]}  # data of a mark that is drawn once, not for each row


def styled(content: Spec) -> Spec:
    """A specification that looks like the page."""
    return {**content, "config": _CONFIG}


def _finite(row: Row, *names: str) -> bool:
    return all(row[name] is not None and math.isfinite(row[name]) for name in names)


def _scale(values: Sequence[float], *, zero: bool) -> Spec:
    """A linear scale, or one that leaves out no power of ten where values spread over many."""
    positive = [value for value in values if value > 0]
    wide = not zero and len(positive) == len(values) and positive and max(positive) > 1000 * min(positive)
    return {"type": "log"} if wide else {"zero": zero, "nice": False, "padding": 10}


def dot_plot(
    rows: Sequence[Row], value: str, label: str, title: str, *, size: str | None = None, line: float | None = None
) -> Spec | None:
    """Dots with intervals, a line for each row, in the order of the rows; None if no row has a value.

    Args:
        rows: of a table with `value`, ``ci_low`` and ``ci_high``.
        value, label: the columns of the dots and their labels.
        title: what the axis shows.
        size: the column that the area of a dot stands for.
        line: where a dashed line is drawn to compare with.
    """
    shown = [row for row in rows if _finite(row, value)]
    if not shown:
        return None
    data = [_dot(number, row, value, label, size) for number, row in enumerate(shown)]
    ends = [one[end] for one in data for end in ("value", "low", "high") if one.get(end) is not None]
    scale = _scale(ends + ([line] if line is not None else []), zero=line == 0)
    across = {"type": "quantitative", "title": title, "scale": scale, "axis": NUMBERS}
    down = {"field": "label", "type": "nominal", "sort": None, "title": None, "axis": label_axis(data)}
    dots: Spec = {"x": {"field": "value", **across}, "y": down}
    if size:
        scale = {"range": [16, 170], "zero": True}
        dots["size"] = {"field": "size", "type": "quantitative", "scale": scale, "legend": None}
    layers = [
        {"mark": {"type": "rule", "color": ACCENT, "strokeWidth": 2}, "encoding": _ends(across, down)},
        {"mark": {"type": "circle", "color": ACCENT, "opacity": 1, "size": 60}, "encoding": dots},
    ]
    return styled({"width": _WIDTH, "height": {"step": _STEP}, "data": {"values": data}, "layer": _lined(layers, line)})


def _dot(number: int, row: Row, value: str, label: str, size: str | None) -> Spec:
    one = {"label": numbered(number, row[label]), "value": row[value], "size": row[size] if size else None}
    return {**one, "low": row["ci_low"], "high": row["ci_high"]} if _finite(row, "ci_low", "ci_high") else one


def _ends(across: Spec, down: Spec) -> Spec:
    return {"x": {"field": "low", **across}, "x2": {"field": "high"}, "y": down}


def _lined(layers: list[Spec], line: float | None) -> list[Spec]:
    if line is None or not math.isfinite(line):
        return layers
    mark = {"type": "rule", "color": INK, "strokeDash": [4, 3], "opacity": 0.7}
    return [{"data": _ONCE, "mark": mark, "encoding": {"x": {"datum": line, "type": "quantitative"}}}, *layers]


def heat_map(
    cells: Mapping[tuple[int, int], float], down: Sequence[str], across: Sequence[str], columns: Sequence[str]
) -> Spec:
    """Mean losses of two columns crossed: the stronger the colour, the larger the mean.

    Args:
        cells: mean loss, by place down and across.
        down, across: labels of the places.
        columns: the names of both columns; the first goes down.
    """
    data = [
        {"y": numbered(one, down[one]), "x": numbered(two, across[two]), "value": value}
        for (one, two), value in sorted(cells.items())
    ]
    step = max(14, min(90, _WIDTH // len(across)))
    legend = {
        "title": "mean loss",
        "orient": "top",
        "symbolFillColor": ACCENT,
        "symbolType": "square",
        "labelExpr": NUMBERS["labelExpr"],
        "values": [min(cells.values()), max(cells.values())],
    }
    opacity = {"field": "value", "type": "quantitative", "scale": {"range": [0.15, 1], "zero": False}, "legend": legend}
    encoding = {
        "x": {**_place("x", columns[1]), "axis": _side_by_side(label_axis(data, "x"), step)},
        "y": {**_place("y", columns[0]), "axis": label_axis(data, "y")},
        "opacity": opacity,
    }
    mark = {"type": "rect", "color": ACCENT, "stroke": "var(--back)", "strokeWidth": 1}
    size = {"width": {"step": step}, "height": {"step": 22}}
    return styled({**size, "data": {"values": data}, "mark": mark, "encoding": encoding})


def _place(field: str, title: str) -> Spec:
    return {"field": field, "type": "nominal", "sort": "ascending", "title": short(title)}


def _side_by_side(names: Spec, step: int) -> Spec:
    """Labels below a plot: upright if they are short enough."""
    return {**names, "labelAngle": 0, "minExtent": 0} if names["minExtent"] <= step else names


def calibration_plot(rows: Sequence[Row]) -> Spec:
    """Mean label beside mean prediction of each bin, with the diagonal on which both are equal."""
    names = ("mean_prediction", "mean_label", "ci_low", "ci_high", "rows")
    data = [{name: row[name] for name in names} for row in rows]
    scale, axis = {"domain": [0, 1]}, {**NUMBERS, "tickCount": 5}
    across = {
        "field": "mean_prediction",
        "type": "quantitative",
        "title": "mean prediction",
        "scale": scale,
        "axis": axis,
    }
    down = {"type": "quantitative", "title": "mean label", "scale": scale, "axis": {**axis, **_TITLED}}
    line = {"type": "line", "color": INK, "strokeDash": [4, 3], "opacity": 0.7, "strokeWidth": 1}
    ends = [{"mean_prediction": end, "mean_label": end} for end in (0, 1)]
    size = {"field": "rows", "type": "quantitative", "scale": {"range": [16, 170], "zero": True}, "legend": None}
    layers: list[Spec] = [
        {"data": {"values": ends}, "mark": line, "encoding": {"x": across, "y": {"field": "mean_label", **down}}},
        {
            "mark": {"type": "rule", "color": ACCENT, "strokeWidth": 2},
            "encoding": {"x": across, "y": {"field": "ci_low", **down}, "y2": {"field": "ci_high"}},
        },
        {
            "mark": {"type": "circle", "color": ACCENT, "opacity": 1},
            "encoding": {"x": across, "y": {"field": "mean_label", **down}, "size": size},
        },
    ]
    return styled({"width": _WIDTH, "height": _WIDTH, "data": {"values": data}, "layer": layers})


def histogram_plot(rows: Sequence[Row], quantiles: Mapping[str, float], title: str) -> Spec | None:
    """Rows by loss, in bins of equal relative width; None if no bin can be drawn.

    Args:
        rows: of histograms.parquet, increasing.
        quantiles: marked by lines, by name.
        title: the loss.
    """
    shown, smallest = _drawn(rows)
    if not shown:
        return None
    logarithmic = all(row["low"] > 0 for row in shown)
    heights = [_height(row, smallest, logarithmic=logarithmic) for row in shown]
    data = [{"low": row["low"], "high": row["high"], "height": one} for row, one in zip(shown, heights, strict=True)]
    scale: Spec = {"type": "log", "nice": False} if logarithmic else {"type": "symlog", "constant": smallest}
    axis = {**NUMBERS, "grid": False, "values": _ticks(max(shown[0]["low"], smallest), shown[-1]["high"])}
    across = {"type": "quantitative", "title": title, "scale": scale, "axis": axis}
    down = {"field": "height", "type": "quantitative", "title": "rows per doubling", "axis": {**_COUNTS, **_TITLED}}
    bars = {"x": {"field": "low", **across}, "x2": {"field": "high"}, "y": down, "y2": {"datum": 0}}
    layers: list[Spec] = [{"mark": {"type": "rect", "color": ACCENT}, "encoding": bars}]
    layers += [_quantile(*one) for one in quantiles.items() if shown[0]["low"] <= one[1] <= shown[-1]["high"]]
    return styled({"width": 420, "height": 180, "data": {"values": data}, "layer": layers})


def _height(row: Row, smallest: float, *, logarithmic: bool) -> float:
    """Rows per width on the axis, whose unit is a doubling: bins are of unequal width there, areas are to be equal."""
    low, high = ((math.log(end) if logarithmic else _symlog(end / smallest)) for end in (row["low"], row["high"]))
    return float(row["rows"] * math.log(2) / (high - low))


def _symlog(value: float) -> float:
    return math.copysign(math.log1p(abs(value)), value)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers for an axis that multiplies: powers of ten, and of few of them also 2 and 5 times each."""
    first, last = math.floor(math.log10(low)), min(math.ceil(math.log10(high)), 308) if high > 0 else 0
    powers = range(first, last + 1, max(1, (last - first) // 7))
    found = [times * 10.0**power for power in powers for times in ((1, 2, 5) if last - first < 3 else (1,))]
    return [tick for tick in found if low <= tick <= high]


def _drawn(rows: Sequence[Row]) -> tuple[list[Row], float]:
    """Bins without those of zero and infinity, which have no width, and without a thin tail towards zero.

    Also returns the size of a loss at which that tail begins.
    """
    shown = [row for row in rows if _finite(row, "low", "high") and row["low"] < row["high"]]
    floor = max((row["rows"] for row in shown), default=0) / 200
    largest = max((_size(row) for row in shown), default=0.0)
    ends = [abs(end) for row in shown if row["rows"] >= floor for end in (row["low"], row["high"]) if end]
    smallest = max(min(ends, default=0.0), largest * 1e-300)
    return [row for row in shown if _size(row) > smallest], smallest


def _size(row: Row) -> float:
    return float(max(abs(row["low"]), abs(row["high"])))


def _quantile(name: str, value: float) -> Spec:
    across = {"datum": value, "type": "quantitative"}
    text = {
        "type": "text",
        "text": short(name),
        "align": "left",
        "dx": -1,
        "dy": -2,
        "color": INK,
        "fontSize": 12,
        "baseline": "bottom",  # above the bars, on which it could not be read
    }
    rule = {"mark": {"type": "rule", "color": INK, "strokeDash": [4, 3]}, "encoding": {"x": across}}
    return {"data": _ONCE, "layer": [rule, {"mark": text, "encoding": {"x": across, "y": {"value": 0}}}]}


def ledger_plot(bars: Sequence[tuple[str, Sequence[tuple[str, int]]]], reasons: Sequence[str], title: str) -> Spec:
    """One bar for each dataset, model and loss, stacked from the rows of each reason.

    Args:
        bars: label, and (reason, rows) of each part.
        reasons: all that have a colour, in order, also where other plots use them.
        title: what the axis shows.
    """
    used = {reason for _, parts in bars for reason, _ in parts}
    colour = {reason: _REASONS[place % len(_REASONS)] for place, reason in enumerate(reasons) if reason in used}
    order = {reason: number for number, reason in enumerate(reasons)}
    data = [
        {"bar": numbered(number, label), "reason": reason, "rows": rows, "order": order[reason]}
        for number, (label, parts) in enumerate(bars)
        for reason, rows in parts
    ]
    axis = _COUNTS
    encoding = {
        "x": {"field": "rows", "type": "quantitative", "stack": "zero", "title": title, "axis": axis},
        "y": {"field": "bar", "type": "nominal", "sort": None, "title": None, "axis": label_axis(data, "bar")},
        "color": {
            "field": "reason",
            "scale": {"domain": list(colour), "range": list(colour.values())},
            "legend": {"title": None, "orient": "bottom", "columns": 2, "symbolType": "square"},
        },
        "order": {"field": "order", "type": "quantitative"},
    }
    mark = {"type": "bar", "height": 14}
    return styled({"width": 340, "height": {"step": 24}, "data": {"values": data}, "mark": mark, "encoding": encoding})
