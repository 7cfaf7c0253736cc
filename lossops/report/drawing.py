"""Plots: from a Vega-Lite specification to SVG that may stand in a page.

Vega's own renderer draws it, without a browser or a network. Labels are user data, so what comes back is taken apart,
and only shapes and text that Vega is known to draw are put together again.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, Self, cast
from xml.etree import ElementTree as ET

from lossops.errors import RunError
from lossops.report.selection import printable

__all__ = ["Drawings", "Plot", "checked", "draw", "draw_png", "get_ready_to_draw", "plot_of"]

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
_PATIENCE = 60.0  # seconds for a plot
_RENDERER = """
import json, sys
import vl_convert
rules = {"vl_version": sys.argv[1], "allowed_base_urls": []}
vl_convert.vegalite_to_svg({"data": {"values": [{}]}, "mark": "point"}, **rules)  # loads what all plots need
for line in sys.stdin:
    kind, spec = json.loads(line)
    try:
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


def get_ready_to_draw() -> None:
    """Start in the background what plots are drawn with; whoever is to draw some later does not wait for it then."""
    _RENDER.start()


class Drawings:
    """Plots as ``svg`` elements, drawn one after the other while whoever asked for them goes on.

    What ends a JavaScript engine, such as a limit of memory, must not end a run that is about to publish its report: it
    runs in a process of its own. A plot that could not be drawn is left out: the page says so, and has the numbers.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "lossops-drawings")
        self._asked: dict[Plot, Future[str | None]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def add(self, plots: Iterable[Plot]) -> None:
        """Ask for plots."""
        for plot in plots:
            self._asked[plot] = self._thread.submit(_RENDER.draw, "svg", _as_json(plot.spec))

    def of(self, plot: Plot | None) -> str | None:
        """Wait for a plot; None if it was not asked for or cannot be drawn."""
        return _accepted(self._asked[plot].result(), plot) if plot is not None and plot in self._asked else None


def draw(plots: Sequence[Plot]) -> dict[Plot, str]:
    """Draw plots as ``svg`` elements; those that cannot be drawn are left out."""
    with Drawings() as drawings:
        drawings.add(plots)
        pairs = [(plot, drawings.of(plot)) for plot in plots]
    return {plot: found for plot, found in pairs if found is not None}


def draw_png(spec: Mapping[str, Any]) -> bytes | None:
    """Draw a plot as an image on white, for a screen of twice the usual density; None if it cannot be drawn."""
    text = _as_json(spec)
    for name, colour in _ON_WHITE.items():
        text = text and text.replace(f'"{name}"', f'"{colour}"')
    drawn = _RENDER.draw("png", text)
    return None if drawn is None else bytes.fromhex(drawn)


def _as_json(spec: Mapping[str, Any]) -> str | None:
    try:
        return json.dumps(spec, allow_nan=False)
    except ValueError:
        return None


class _Renderer:
    """A process that draws, started before the first plot and kept for the next ones: that takes half a second."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start it and go on; where it cannot be started, plots are left out later."""
        with self._lock, suppress(OSError):
            self._running()

    def draw(self, kind: str, spec: str | None) -> str | None:
        """Return what it draws of a specification in JSON, or None."""
        if spec is None:
            return None
        with self._lock:
            try:
                drawn = json.loads(self._asked(f'["{kind}", {spec}]\n'.encode()))
            except (OSError, ValueError):  # it could not be started, has ended, or takes too long
                self._end()
                return None
        return drawn if isinstance(drawn, str) else None

    def _asked(self, line: bytes) -> bytes:
        process = self._running()
        questions, answers = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        questions.write(line)
        questions.flush()
        late = threading.Timer(_PATIENCE, process.kill)
        late.start()
        try:
            return answers.readline()
        finally:
            late.cancel()

    def _running(self) -> subprocess.Popen[bytes]:
        # A process that was forked from ours must not write into our pipe.
        if self._process is None or self._owner != os.getpid():
            words = [sys.executable, "-P", "-c", _RENDERER, _VERSION]
            self._process = subprocess.Popen(  # noqa: S603
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            self._owner = os.getpid()
            atexit.register(self._end)
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        atexit.unregister(self._end)
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.communicate()


_RENDER = _Renderer()


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
