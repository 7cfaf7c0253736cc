"""Pictures as SVG that may stand in a page: shapes, and text that is text whatever is in it.

Labels are user data. Everything is put together by `element`, which escapes what it is given, so nothing but the
shapes that are written in this package gets into a picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from lossops.report.selection import printable

__all__ = ["FONT", "Picture", "element", "group", "line", "path", "plot_of", "points", "rect", "short_number", "words"]

FONT = 13  # pixels
_MIDDLE = 4.5  # from the middle of a line of text to its foot


def short_number(value: float) -> str:
    """A length in pixels, to a hundredth."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def element(kind: str, *inside: str, **attributes: str | float | None) -> str:
    """An element; in names of attributes an underscore stands for a hyphen, and those that are None are left out."""
    told = "".join(
        f' {name.replace("_", "-")}="{escape(value) if isinstance(value, str) else short_number(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    return f"<{kind}{told}>{''.join(inside)}</{kind}>" if inside else f"<{kind}{told}/>"


def group(x: float, y: float, *inside: str) -> str:
    """Elements whose places count from (x, y)."""
    return element("g", *inside, transform=f"translate({short_number(x)},{short_number(y)})")


def line(start: tuple[float, float], end: tuple[float, float], **attributes: str | float | None) -> str:
    """A straight line."""
    return element("line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], **attributes)


def rect(x: float, y: float, width: float, height: float, **attributes: str | float | None) -> str:
    """A rectangle; (x, y) is its upper left corner."""
    return element("rect", x=x, y=y, width=width, height=height, **attributes)


def points(places: list[tuple[float, float]]) -> str:
    """What a path does to go through places."""
    return "M" + "L".join(f"{short_number(x)},{short_number(y)}" for x, y in places)


def path(does: str, **attributes: str | float | None) -> str:
    """A line or an area; `does` comes from `points`."""
    return element("path", d=does, **attributes)


def words(x: float, y: float, text: str, anchor: str = "middle", *, upright: bool = False, **more: str | float) -> str:
    """A line of text.

    Args:
        x, y: where its anchor is, in the middle of the height of letters.
        text: what it says.
        anchor: ``start``, ``middle`` or ``end``, which is at x.
        upright: whether it goes up.
    """
    turned = f"rotate(-90,{short_number(x)},{short_number(y)})" if upright else None
    anchored = None if anchor == "start" else anchor
    return element("text", escape(printable(text)), x=x, y=y + _MIDDLE, text_anchor=anchored, transform=turned, **more)


@dataclass(frozen=True)
class Picture:
    """A picture without a name.

    Args:
        width, height: pixels.
        content: elements.
    """

    width: float
    height: float
    content: str

    def svg(self, name: str, about: str) -> str:
        """Return the picture as an element with a name, for a reader who does not see it, and what it shows."""
        width, height = short_number(self.width), short_number(self.height)
        name = printable(name)
        return element(
            "svg",
            element("title", escape(name)),
            element("desc", escape(about)),
            self.content,
            xmlns="http://www.w3.org/2000/svg",
            width=width,
            height=height,
            viewBox=f"0 0 {width} {height}",
            role="img",
            aria_label=f"{name}. {about}",
            font_family="sans-serif",
            font_size=FONT,
            fill="currentColor",
        )


def plot_of(picture: Picture | None, name: str, about: str) -> str | None:
    """Return a picture as SVG, or None if there is nothing to draw; its name is text of the user's."""
    return None if picture is None else picture.svg(name, about)
