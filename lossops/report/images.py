"""Pictures outside of a page, which has their colours."""

from __future__ import annotations

from lossops.report.svg import Picture

__all__ = ["as_png", "on_white"]

_COLOURS = {
    "var(--accent)": "#2a5fb8",
    "var(--line)": "#d5dae2",
    "var(--back)": "#fff",
    "currentColor": "#1d2430",
}


def on_white(picture: Picture, name: str, about: str) -> str:
    """Return a picture as SVG with colours of its own, those of the page on white; see `Picture.svg`."""
    found = picture.svg(name, about)
    for colour, value in _COLOURS.items():
        found = found.replace(f'="{colour}"', f'="{value}"')  # text has no quotation marks, see `element`
    return found


def as_png(picture: Picture) -> bytes:
    """Return a picture as an image on white, for a screen of twice the usual density."""
    import vl_convert  # noqa: PLC0415  only images need it, and it is large

    back = Picture(picture.width, picture.height, f'<rect width="100%" height="100%" fill="#fff"/>{picture.content}')
    return bytes(vl_convert.svg_to_png(on_white(back, "", ""), scale=2))
