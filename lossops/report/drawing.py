"""Plots: from a Vega-Lite specification to SVG that may stand in a page.

Vega's own renderer draws it, without a browser or a network. Labels are user data, so what comes back is taken apart,
and only shapes and text that Vega is known to draw are put together again.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

from lossops.errors import RunError
from lossops.report.selection import printable

__all__ = ["Plot", "checked", "draw", "draw_png", "plot_of"]

_VERSION = "5.20"  # of Vega-Lite
_SVG = "http://www.w3.org/2000/svg"
_ELEMENTS = {"svg", "g", "path", "line", "rect", "text", "tspan", "circle", "defs", "clipPath"}
_ATTRIBUTES = {
    *("viewBox", "transform", "d", "x", "y", "x1", "x2", "y1", "y2", "width", "height", "r", "cx", "cy", "dx", "dy"),
    *("fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-miterlimit"),
    *(
        "stroke-linecap",
        "stroke-linejoin",
        "opacity",
        "display",
        "text-anchor",
        "font-size",
        "font-weight",
        "id",
        "clip-path",
    ),
}
# What Vega also writes and the page does not want: roles of parts of a picture, and fonts, which are the page's.
_DROPPED = {
    *("class", "role", "version", "aria-hidden", "aria-roledescription", "aria-label", "pointer-events"),
    *("font-family", "font-style"),
}
_PATIENCE = 120  # seconds for all plots of a page
_RENDERER = """
import json, sys
import vl_convert
kind, version = sys.argv[1:]
for line in sys.stdin:
    try:
        spec, rules = json.loads(line), {"vl_version": version, "allowed_base_urls": []}
        if kind == "svg":
            drawn = vl_convert.vegalite_to_svg(spec, **rules)
        else:
            drawn = vl_convert.vegalite_to_png(spec, scale=2, **rules).hex()
    except ValueError:
        drawn = None
    print(json.dumps(drawn), flush=True)
"""
# What stands in a page for colours of its own.
_ON_WHITE = {
    "var(--accent)": "#2a5fb8",
    "var(--line)": "#d5dae2",
    "var(--back)": "#fff",
    "currentColor": "#1d2430",
    "transparent": "#fff",
}
_VALUE = re.compile(r"[^<>\"'&:;@\\]*")  # no address, no declaration
_LARGE = re.compile(r"-?\d+\.\d{3,}")


@dataclass(frozen=True, eq=False)
class Plot:
    """A plot to be drawn.

    Args:
        spec: Vega-Lite, with its data inside.
        name: its name for a reader who does not see it.
        about: what it shows, in a sentence.
    """

    spec: Mapping[str, Any]
    name: str
    about: str


def plot_of(spec: Mapping[str, Any] | None, name: str, about: str) -> Plot | None:
    """Return a plot, or None if there is nothing to draw; its name is text of the user's."""
    return None if spec is None else Plot(spec, printable(name), about)


def draw(plots: Sequence[Plot]) -> dict[Plot, str]:
    """Draw plots as ``svg`` elements, all in one process of their own.

    What ends a JavaScript engine, such as a limit of memory, must not end a run that is about to publish its report. A
    plot that could not be drawn is left out: the page says so, and has the numbers.
    """
    wanted = [(plot, text) for plot in plots if (text := _as_json(plot.spec)) is not None]
    if not wanted:
        return {}
    lines = _drawn("svg", "\n".join(text for _, text in wanted))
    pairs = ((plot, _accepted(json.loads(line), plot)) for (plot, _), line in zip(wanted, lines, strict=False))
    return {plot: found for plot, found in pairs if found is not None}


def _as_json(spec: Mapping[str, Any]) -> str | None:
    try:
        return json.dumps(spec, allow_nan=False)
    except ValueError:
        return None


def draw_png(spec: Mapping[str, Any]) -> bytes | None:
    """Draw a plot as an image on white, for a screen of twice the usual density; None if it cannot be drawn."""
    text = _as_json(spec)
    lines = [] if text is None else _drawn("png", _on_white(text))
    drawn = json.loads(lines[0]) if lines else None
    return None if drawn is None else bytes.fromhex(drawn)


def _on_white(text: str) -> str:
    for name, colour in _ON_WHITE.items():
        text = text.replace(f'"{name}"', f'"{colour}"')
    return text


def _drawn(kind: str, lines: str) -> list[str]:
    """Return the whole lines that the renderer wrote before it ended."""
    words = [sys.executable, "-P", "-c", _RENDERER, kind, _VERSION]
    try:
        found = subprocess.run(words, input=lines, capture_output=True, text=True, timeout=_PATIENCE, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return []
    return found.stdout.split("\n")[:-1]


def _accepted(drawn: str | None, plot: Plot) -> str | None:
    try:
        return None if drawn is None else checked(drawn, plot.name, plot.about)
    except RunError:
        return None


def checked(drawn: str, name: str, about: str) -> str:
    """Return an SVG with a name and without anything that is not a shape or text.

    Raises:
        RunError: it has an element, an attribute or a value beyond that.
    """
    root = ET.fromstring(drawn)  # noqa: S314  written by the renderer
    for element in root.iter():
        _check(element)
    _shrink(root)
    root.set("role", "img")
    for place, (kind, text) in enumerate((("title", name), ("desc", about))):
        child = ET.Element(f"{{{_SVG}}}{kind}")
        child.text = text
        root.insert(place, child)
    root.set("aria-label", f"{name}. {about}")
    ET.register_namespace("", _SVG)
    return ET.tostring(root, encoding="unicode")


def _check(element: ET.Element) -> None:
    kind = element.tag.removeprefix(f"{{{_SVG}}}")
    if kind not in _ELEMENTS:
        raise RunError(f"a plot was drawn with the element {kind!r}; allowed: {', '.join(sorted(_ELEMENTS))}")
    for name in _DROPPED:
        element.attrib.pop(name, None)
    if element.get("opacity") == "1":
        del element.attrib["opacity"]
    for name, value in element.attrib.items():
        if name not in _ATTRIBUTES or not _VALUE.fullmatch(value):
            raise RunError(f"a plot was drawn with the attribute {name}={value!r}, which is not one of a shape")
        element.set(name, _LARGE.sub(lambda found: f"{float(found[0]):.2f}", value))


def _shrink(parent: ET.Element) -> None:
    """Leave out groups without content and shapes without area, of which Vega draws many."""
    for child in list(parent):
        _shrink(child)
        bare = child.tag.endswith("}g") and not len(child)
        if bare or child.get("display") == "none" or child.get("d") == "M0,0h0v0h0Z":
            parent.remove(child)
