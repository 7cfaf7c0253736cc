"""Plots: from a Vega-Lite specification to SVG that may stand in a page.

Vega's own renderer draws it, without a browser or a network. Labels are user data, so what comes back is taken apart,
and only shapes and text that Vega is known to draw are put together again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

from lossops.errors import RunError
from lossops.report.selection import printable

__all__ = ["checked", "draw", "draw_png", "figure_svg"]

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
_VALUE = re.compile(r"[^<>\"'&:;@\\]*")  # no address, no declaration
_LARGE = re.compile(r"-?\d+\.\d{3,}")


def draw(spec: Mapping[str, Any], name: str, about: str) -> str:
    """Draw a plot.

    Args:
        spec: Vega-Lite, with its data inside.
        name: its name for a reader who does not see it.
        about: what it shows, in a sentence.

    Returns:
        An ``svg`` element.

    Raises:
        RunError: the renderer drew something that has no place in a page.
        ValueError: it failed.
    """
    import vl_convert  # noqa: PLC0415  starts a JavaScript engine

    drawn = vl_convert.vegalite_to_svg(dict(spec), vl_version=_VERSION, allowed_base_urls=[])
    return checked(drawn, name, about)


def draw_png(spec: Mapping[str, Any]) -> bytes:
    """Draw a plot as an image, for a screen of twice the usual density."""
    import vl_convert  # noqa: PLC0415  starts a JavaScript engine

    return bytes(vl_convert.vegalite_to_png(dict(spec), vl_version=_VERSION, scale=2, allowed_base_urls=[]))


def figure_svg(spec: Mapping[str, Any] | None, name: str, about: str) -> str | None:
    """Draw a plot; None if there is nothing to draw, or numbers so extreme that the renderer cannot."""
    if spec is None:
        return None
    try:
        return draw(spec, printable(name), about)
    except (ValueError, RunError):  # the page says so, and has the numbers: no reason to lose a report
        return None


def checked(drawn: str, name: str, about: str) -> str:
    """Return an SVG with a name and without anything that is not a shape or text.

    Raises:
        RunError: it has an element, an attribute or a value beyond that.
    """
    root = ET.fromstring(drawn)  # noqa: S314  written by the renderer in this process
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
