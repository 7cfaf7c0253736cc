"""Plots, read back: what is drawn is where its axis says it is.

A reader of a plot has its shapes and the words at its axes, and nothing else; neither has a test here.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from xml.etree import ElementTree as ET

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from lossops.report.images import as_png, on_white
from lossops.report.labels import count_texts, number_texts
from lossops.report.lines import line_plot
from lossops.report.plots import calibration_plot, dot_plot, heat_map, histogram_plot, ledger_plot
from lossops.report.svg import Picture, plot_of
from tests.report.pages import HOSTILE

_SVG = "{http://www.w3.org/2000/svg}"
_UNITS = {"k": 1e3, "M": 1e6, "G": 1e9}
_SHAPES = {"g", "line", "rect", "path", "circle", "text", "title", "desc", "svg"}


class Read:
    """A plot as its reader has it."""

    def __init__(self, picture: Picture | None) -> None:
        assert picture is not None
        self.root = ET.fromstring(picture.svg("name", "about"))
        self.check_edges()

    def check_edges(self) -> None:
        """Nothing is outside of the picture: shapes as they are, words as wide as in a narrow font."""
        width, height = (float(self.root.attrib[name]) for name in ("width", "height"))
        for x, y in _corners(self.root, 0.0, 0.0):
            assert -0.01 <= x <= width + 0.01
            assert -0.01 <= y <= height + 0.01

    def all(self, kind: str) -> list[dict[str, str]]:
        return [one.attrib for one in self.root.iter(f"{_SVG}{kind}")]

    def texts(self) -> list[tuple[float, float, str]]:
        found = self.root.iter(f"{_SVG}text")
        return [(float(one.attrib["x"]), float(one.attrib["y"]), str(one.text)) for one in found]

    def words(self) -> list[str]:
        return [text for _, _, text in self.texts()]

    def across(self, value: Callable[[str], float]) -> Callable[[float], float]:
        """From pixels to values, by the numbers below the plot; `value` is bent as the axis is."""
        lowest = max(y for _, y, text in self.texts() if _is(value, text))
        return _line([(x, value(text)) for x, y, text in self.texts() if y == lowest and _is(value, text)])

    def up(self, value: Callable[[str], float]) -> Callable[[float], float]:
        """From pixels to values, by the numbers at the left of the plot."""
        found = [(y - 4.5, value(text)) for x, y, text in self.texts() if x < 0 and _is(value, text)]
        return _line(found)


def _corners(element: ET.Element, x: float, y: float) -> Iterator[tuple[float, float]]:
    """The corners of the boxes of everything in an element that is moved by (x, y)."""
    for one in element:
        kind, found = one.tag.removeprefix(_SVG), one.attrib
        number = {name: float(text) for name, text in found.items() if re.fullmatch(r"-?[\d.]+", text)}
        if kind == "g":
            across, down = map(float, found["transform"].removeprefix("translate(").removesuffix(")").split(","))
            yield from _corners(one, x + across, y + down)
        elif kind == "circle":
            yield from (
                (x + number["cx"] + sign * number["r"], y + number["cy"] + sign * number["r"]) for sign in (-1, 1)
            )
        elif kind == "line":
            yield from ((x + number[f"x{end}"], y + number[f"y{end}"]) for end in (1, 2))
        elif kind == "rect":
            yield from (
                (x + number["x"] + side * number["width"], y + number["y"] + side * number["height"]) for side in (0, 1)
            )
        elif kind == "path":
            yield from ((x + float(a), y + float(b)) for a, b in re.findall(r"(-?[\d.]+),(-?[\d.]+)", found["d"]))
        elif kind == "text":
            wide = 5.5 * len(str(one.text))
            start = {"start": 0.0, "middle": -wide / 2, "end": -wide}[found.get("text-anchor", "start")]
            for along in (start, start + wide):
                upright = "transform" in found
                yield (
                    (x + number["x"], y + number["y"] - along)
                    if upright
                    else (x + number["x"] + along, y + number["y"])
                )


def _is(value: Callable[[str], float], text: str) -> bool:
    try:
        value(text)
    except ValueError:
        return False
    return True


def _line(places: Sequence[tuple[float, float]]) -> Callable[[float], float]:
    """The straight line through all places: it is an error if there is none."""
    assert len(places) >= 2
    pixels, values = np.array(places).T
    slope, start = np.polyfit(pixels, values, 1)
    spread = float(values.max() - values.min())
    assert values == pytest.approx(slope * pixels + start, abs=1e-3 * spread)
    return lambda pixel: float(slope * pixel + start)


def _count(text: str) -> float:
    return float(text[:-1]) * _UNITS[text[-1]] if text[-1:] in _UNITS else float(text)


def _row(name: str, mean: float, low: float | None = None, high: float | None = None, rows: int = 1) -> dict[str, Any]:
    return {"slice": name, "mean": mean, "ci_low": low, "ci_high": high, "rows": rows}


def _number(thing: dict[str, str], name: str) -> float:
    return float(thing[name])


@given(
    st.lists(
        st.tuples(
            st.floats(-1e6, 1e6).map(lambda value: round(value, 3)),
            st.floats(0.001, 1e6).map(lambda value: round(value, 3)),
        ),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([None, 0.0, 3.5]),
)
def test_dots_and_intervals_are_at_their_values(found: list[tuple[float, float]], marked: float | None) -> None:
    rows = [_row(f"s{number}", mean, mean - wide, mean + wide) for number, (mean, wide) in enumerate(found)]
    ends = [end for row in rows for end in (row["ci_low"], row["ci_high"])] + ([] if marked is None else [marked])
    if min(ends) > 0 and max(ends) > 1000 * min(ends):
        return  # see the next test
    read = Read(dot_plot(rows, "mean", "slice", "mean loss", marked=marked))
    value, near = read.across(float), 0.01 * (max(ends) - min(ends))
    assert [value(_number(one, "cx")) for one in read.all("circle")] == pytest.approx(
        [mean for mean, _ in found], abs=near
    )
    bars = [one for one in read.all("line") if one["stroke"] == "var(--accent)"]
    assert [(value(_number(one, "x1")), value(_number(one, "x2"))) for one in bars] == [
        pytest.approx((row["ci_low"], row["ci_high"]), abs=near) for row in rows
    ]
    dashed = [value(_number(one, "x1")) for one in read.all("line") if "stroke-dasharray" in one]
    assert dashed == ([] if marked is None else [pytest.approx(marked, abs=near)])
    # A name stands beside its dot.
    middles = {text: y - 4.5 for _, y, text in read.texts()}
    assert [middles[row["slice"]] for row in rows] == [_number(one, "cy") for one in read.all("circle")]


def test_what_spreads_over_powers_of_ten_has_an_axis_of_them() -> None:
    rows = [_row(f"s{power}", 10.0**power, 10.0**power / 2, 10.0**power * 2) for power in range(-3, 5)]
    read = Read(dot_plot(rows, "mean", "slice", "mean loss"))
    power = read.across(lambda text: math.log10(float(text)))
    assert [power(_number(one, "cx")) for one in read.all("circle")] == pytest.approx(range(-3, 5), abs=0.02)


def test_areas_of_dots_grow_with_rows() -> None:
    rows = [_row(f"s{rows}", 1.0, rows=rows) for rows in (0, 50, 100)]
    radii = [_number(one, "r") for one in Read(dot_plot(rows, "mean", "slice", "mean", size="rows")).all("circle")]
    areas = [math.pi * radius**2 for radius in radii]
    assert areas[1] - areas[0] == pytest.approx(areas[2] - areas[1], rel=0.01)


@pytest.mark.parametrize(
    "means",
    [[math.inf], [None], [1.7e308, -1.7e308], [5e-324, 1e-322], []],
    ids=["endless", "none", "far", "near", "0"],
)
def test_what_no_axis_can_tell_is_not_drawn(means: list[float | None]) -> None:
    rows = [{**_row("s", 0.0), "mean": mean} for mean in means]
    assert dot_plot(rows, "mean", "slice", "mean loss") is None
    assert line_plot(rows, [datetime(2026, 3, 1)] * len(rows)) is None
    assert plot_of(None, "name", "about") is None


@pytest.mark.parametrize("mean", [0.0, 7.5, -2e-9, 1e300])
def test_one_value_is_in_the_middle(mean: float) -> None:
    read = Read(dot_plot([_row("s", mean)], "mean", "slice", "mean loss"))
    (dot,) = read.all("circle")
    assert _number(dot, "cx") == pytest.approx(135, abs=1)
    assert read.across(float)(_number(dot, "cx")) == pytest.approx(mean, rel=0.02, abs=0.02 if mean == 0 else 0)


def test_cells_of_a_map_are_shaded_by_their_mean() -> None:
    cells = {(0, 0): 1.0, (0, 1): 2.0, (1, 0): 3.0, (1, 2): 5.0}
    read = Read(heat_map(cells, ["a", "b"], ["x", "y", "z"], ["g", "h"]))
    shown = read.all("rect")[:4]
    shades = [_number(one, "fill-opacity") for one in shown]
    assert shades == pytest.approx([0.15, 0.15 + 0.85 / 4, 0.15 + 0.85 / 2, 1.0], abs=0.006)
    names = {text: (x, y - 4.5) for x, y, text in read.texts()}
    for (one, two), cell in zip(sorted(cells), shown, strict=True):
        middle = (_number(cell, key) + _number(cell, size) / 2 for key, size in (("x", "width"), ("y", "height")))
        assert (names["xyz"[two]][0], names["ab"[one]][1]) == pytest.approx(tuple(middle), abs=0.01)
    assert {"mean loss", "1", "5", "g", "h"} <= set(read.words())


def test_heights_of_a_histogram_are_rows_per_doubling() -> None:
    bins = [(1.0, 2.0, 100), (2.0, 8.0, 300), (8.0, 16.0, 1200)]
    rows = [{"low": low, "high": high, "rows": count} for low, high, count in bins]
    read = Read(histogram_plot(rows, {"median": 10.0}, "loss"))
    value, count = read.across(lambda text: math.log2(float(text))), read.up(_count)
    bars = [one for one in read.all("rect") if one["fill"] == "var(--accent)"]
    assert [count(_number(one, "y")) for one in bars] == pytest.approx([100, 150, 1200], rel=0.01)
    starts = [(value(_number(one, "x")), _number(one, "width")) for one in bars]
    assert [start for start, _ in starts] == pytest.approx([0, 1, 3], abs=0.02)
    assert [wide / starts[0][1] for _, wide in starts] == pytest.approx([1, 2, 1], rel=0.01)
    (dashed,) = [one for one in read.all("line") if "stroke-dasharray" in one]
    assert value(_number(dashed, "x1")) == pytest.approx(math.log2(10), abs=0.02)
    assert "median" in read.words()


def test_losses_of_both_signs_have_one_axis() -> None:
    rows = [{"low": -4.0, "high": -2.0, "rows": 7}, {"low": 0.0, "high": 0.0, "rows": 9}]
    rows += [{"low": 2.0, "high": 4.0, "rows": 7}]
    bars = [one for one in Read(histogram_plot(rows, {}, "loss")).all("rect") if one["fill"] == "var(--accent)"]
    (left, right) = ((_number(one, "x"), _number(one, "width"), _number(one, "height")) for one in bars)
    assert left[0] == 0
    assert right[0] + right[1] == pytest.approx(420, abs=0.02)
    assert left[1:] == pytest.approx(right[1:], abs=0.02)
    assert histogram_plot(rows[1:2], {}, "loss") is None


def test_calibration() -> None:
    names = ("mean_prediction", "mean_label", "ci_low", "ci_high", "rows")
    rows = [dict(zip(names, one, strict=True)) for one in ((0.1, 0.2, 0.15, 0.25, 10), (0.9, 0.7, 0.6, 1.2, 30))]
    read = Read(calibration_plot(rows))
    across, up = read.across(float), read.up(float)
    dots = [(across(_number(one, "cx")), up(_number(one, "cy"))) for one in read.all("circle")]
    assert dots == [pytest.approx((0.1, 0.2), abs=0.005), pytest.approx((0.9, 0.7), abs=0.005)]
    bars = [one for one in read.all("line") if one["stroke"] == "var(--accent)"]
    ends = [(up(_number(one, "y1")), up(_number(one, "y2"))) for one in bars]
    assert ends == [pytest.approx((0.15, 0.25), abs=0.005), pytest.approx((0.6, 1.0), abs=0.005)]  # cut off at the edge


def test_parts_of_a_ledger_are_as_long_as_they_have_rows() -> None:
    bars = [
        (("labels",), [("lost", 250), ("scored", 1000)]),
        (("predictions",), [("scored", 1000), ("null", 500)]),
    ]
    read = Read(ledger_plot(bars, ["scored", "lost", "null"], "rows"))
    value = read.across(_count)
    parts = [one for one in read.all("rect") if one["height"] == "14"]
    ends = [(value(_number(one, "x")), value(_number(one, "x") + _number(one, "width"))) for one in parts]
    assert ends == [pytest.approx(two, abs=8) for two in ((0, 1000), (1000, 1250), (0, 1000), (1000, 1500))]
    colours = [one["fill"] for one in parts]
    assert colours[0] == colours[2]
    assert len(set(colours)) == 3
    squares = {one["fill"]: _number(one, "y") + 6 for one in read.all("rect") if one["height"] == "12"}
    assert set(squares) == set(colours)
    middles = {text: y - 4.5 for _, y, text in read.texts()}
    legend = zip(["scored", "lost", "null"], (colours[0], colours[1], colours[3]), strict=True)
    assert all(middles[reason] == squares[colour] for reason, colour in legend)


@pytest.mark.parametrize("step", [timedelta(minutes=5), timedelta(hours=7), timedelta(days=1), timedelta(days=40)])
def test_a_line_is_at_its_moments_and_means(step: timedelta) -> None:
    start = datetime(2026, 3, 1, 4 if step < timedelta(days=1) else 0)
    moments = [start + step * place for place in range(9)]
    means = [1.0, 1.2, 1.1, 0.9, 1.0, 1.3, 1.25, 1.1, 1.0]
    rows = [_row("s", mean, mean - 0.1, mean + 0.1) for mean in means]
    read = Read(line_plot(rows, moments))
    up = read.up(float)

    def seconds(text: str) -> float:
        shape = "%Y-%m-%d" if text.count("-") == 2 else "%m-%d %H:%M"
        return (datetime.strptime(text, shape).replace(year=_year(text)) - start).total_seconds()

    def _year(text: str) -> int:
        return int(text[:4]) if text.count("-") == 2 else 2026

    across = read.across(seconds)
    dots = read.all("circle")
    assert [across(_number(one, "cx")) / step.total_seconds() for one in dots] == pytest.approx(range(9), abs=0.05)
    assert [up(_number(one, "cy")) for one in dots] == pytest.approx(means, abs=0.005)
    band, course = (re.findall(r"([-\d.]+),([-\d.]+)", one["d"]) for one in read.all("path"))
    assert [up(float(y)) for _, y in course] == pytest.approx(means, abs=0.005)
    edges = [mean - 0.1 for mean in means] + [mean + 0.1 for mean in means[::-1]]
    assert [up(float(y)) for _, y in band] == pytest.approx(edges, abs=0.005)


@given(st.floats(1e-250, 1e250), st.floats(1e-6, 1e6), st.booleans())
def test_axes_have_a_few_round_numbers(size: float, spread: float, negative: bool) -> None:
    rows = [_row("a", -size if negative else size), _row("b", size * (1 + spread))]
    if not negative and spread > 900:
        return
    read = Read(dot_plot(rows, "mean", "slice", "mean loss"))
    lines = {one["x1"] for one in read.all("line") if one["x1"] == one["x2"]}
    assert 2 <= len(lines) <= 10


def test_labels_are_not_written_over_each_other() -> None:
    rows = [_row("a", 1_000_000.25), _row("b", 1_000_001.75)]
    read = Read(dot_plot(rows, "mean", "slice", "mean loss"))
    below = max(y for _, y, text in read.texts() if _is(float, text))
    places = sorted(x for x, y, _ in read.texts() if y == below)
    assert all(two - one > 7 * len("1e+06") for one, two in itertools.pairwise(places))


@pytest.mark.parametrize(
    ("value", "number", "count"),
    [
        (0.0, "0", "0"),
        (0.30000000000000004, "0.3", "0.3"),
        (1500.0, "1500", "1.5k"),
        (2e7, "2e7", "20M"),
        (-1e-7, "-1e-7", "-1e-7"),
        (3e21, "3e21", "3000E"),
    ],
)
def test_numbers_on_axes(value: float, number: str, count: str) -> None:
    assert (*number_texts([value]), *count_texts([abs(value)])) == (number, count.removeprefix("-"))


def test_close_numbers_have_the_digits_that_tell_them_apart() -> None:
    assert number_texts([999_995.0, 1_000_000.0, 1_000_005.0]) == ["999995", "1000000", "1000005"]
    assert number_texts([1.0, 1.00000025, 1.0000005]) == ["1", "1.00000025", "1.0000005"]
    assert number_texts([0.1, 0.2, 0.30000000000000004]) == ["0.1", "0.2", "0.3"]


@pytest.mark.parametrize(
    "bins",
    [
        [(3.0, 3.02), (3.02, 3.05)],
        [(0.2, 3.0), (3.0, 9.0)],
        [(-8.0, -4.0), (-4.0, -2.0)],
        [(-100.0, -10.0), (-10.0, 0.0), (0.0, 0.0), (0.0, 1.0), (1.0, 1000.0)],
        [(1e-9, 1e-8), (1e8, 1e9)],
    ],
)
def test_every_axis_of_a_histogram_has_numbers_of_all_its_parts(bins: list[tuple[float, float]]) -> None:
    """On both sides of zero, where there are bins on both, and also where all losses are nearly the same."""
    rows = [{"low": low, "high": high, "rows": 5} for low, high in bins]
    read = Read(histogram_plot(rows, {"p50": bins[0][0], "p90": bins[0][1], "p99": bins[-1][1]}, "loss"))
    below = max(y for _, y, text in read.texts() if _is(float, text))
    found = [float(text) for _, y, text in read.texts() if y == below]
    assert len(found) >= 2
    assert (min(found) < 0, max(found) > 0) == (bins[0][0] < 0, bins[-1][1] > 0)
    names = [(x, y) for x, y, text in read.texts() if text.startswith("p")]
    assert len(names) == 3
    for one, two in itertools.pairwise(sorted(names)):
        assert two[1] != one[1] or two[0] - one[0] > 5.5 * 3


def test_names_of_bars_differ_where_what_they_are_of_does() -> None:
    bars = [
        (("predictions", f"a_model_with_a_long_name_{place}", "mean_absolute_error"), [("scored", 3)])
        for place in range(4)
    ]
    assert len({text for text in Read(ledger_plot(bars, ["scored"], "rows")).words() if "_" in text}) == 4


def test_means_of_all_sizes_have_shades_of_their_own() -> None:
    cells = {(0, place): 10.0 ** (2 * place - 5) for place in range(6)}
    read = Read(heat_map(cells, ["a"], list("uvwxyz"), ["g", "h"]))
    assert len({one["fill-opacity"] for one in read.all("rect")[:6]}) == 6
    assert "mean loss, logarithmic" in read.words()


def test_rare_events_are_not_in_a_corner_of_their_plot() -> None:
    names = ("mean_prediction", "mean_label", "ci_low", "ci_high", "rows")
    rows = [dict(zip(names, (p, p, p / 2, 2 * p, 10), strict=True)) for p in (0.001, 0.004, 0.009)]
    places = [_number(one, "cx") for one in Read(calibration_plot(rows)).all("circle")]
    assert places[-1] - places[0] > 150


@pytest.mark.parametrize("runs", [2, 3, 8, 30])
@pytest.mark.parametrize(
    "step",
    [
        timedelta(seconds=1),
        timedelta(minutes=1),
        timedelta(hours=1),
        timedelta(days=1),
        timedelta(days=7),
        timedelta(days=30),
    ],
)
def test_a_line_has_two_moments_at_least(step: timedelta, runs: int) -> None:
    moments = [datetime(2026, 2, 27, 2, 30, 7) + place * step for place in range(runs)]
    read = Read(line_plot([_row("s", float(place % 3)) for place in range(runs)], moments))
    below = max(y for _, y, _ in read.texts())
    places = sorted(x for x, y, _ in read.texts() if y == below)
    assert len(places) >= 2
    assert all(two - one > 5.5 * 8 for one, two in itertools.pairwise(places))


def test_labels_stay_text() -> None:
    """Every name and value that a page is tested with, in every place for one, is text of a shape that is known."""
    for label in HOSTILE:
        rows = [_row(label, 1.0, 0.5, 2.0), _row(label, 3.0)]
        bins = [{"low": 1.0, "high": 2.0, "rows": 3}]
        for picture in (
            dot_plot(rows, "mean", "slice", label),
            heat_map({(0, 0): 1.0}, [label], [label], [label, label]),
            histogram_plot(bins, {label: 1.5}, label),
            ledger_plot([((label, label), [("scored", 3)])], ["scored"], "rows"),
        ):
            svg = plot_of(picture, label, "about")
            assert svg is not None
            root = ET.fromstring(svg)
            assert {one.tag.removeprefix(_SVG) for one in root.iter()} <= _SHAPES
            attributes = {name for one in root.iter() for name in one.attrib}
            assert not any(name.startswith("on") or "href" in name or name == "style" for name in attributes)


def test_a_picture_outside_of_a_page_has_colours_of_its_own() -> None:
    picture = dot_plot([_row("currentColor var(--line)", 1.0)], "mean", "slice", "mean")
    assert picture is not None
    text = on_white(picture, "name", "about")
    assert re.findall(r'="[^"]*(?:var\(|currentColor)', text) == []
    assert ">currentColor var(--line)<" in text
    assert as_png(picture).startswith(b"\x89PNG\r\n")
