"""Labels of plots: short, one line, and none like another."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from lossops.report.selection import printable

__all__ = ["label_axis", "numbered", "short"]

_LABEL = 32  # letters
_LETTER = 7.8  # their width in a wide font: the renderer has other fonts than whoever reads the page
_DIGITS = 5
_LABEL_OF = f"slice(datum.label, {_DIGITS})"  # without the number that keeps labels apart


def _columns(letter: str) -> int:
    return 1 + (unicodedata.east_asian_width(letter) in "WF")


def short(text: str, letters: int = _LABEL) -> str:
    """A label of at most so many letters, of which wide ones count twice; without its middle if it is longer."""
    text = printable(text if len(text) <= 4 * letters else text[: 2 * letters] + text[-2 * letters :])
    if sum(map(_columns, text)) <= letters:
        return text
    head, tail = _first(text, letters // 2), _first(text[::-1], (letters - 1) // 2)[::-1]
    return f"{head}…{tail}"


def _first(text: str, columns: int) -> str:
    ends = list(accumulate(map(_columns, text)))
    return text[: sum(end <= columns for end in ends)]


def label_axis(data: Sequence[Mapping[str, Any]], label: str = "label") -> dict[str, Any]:
    """An axis of labels, with room for them in any font."""
    longest = max(sum(map(_columns, one[label][_DIGITS:])) for one in data)
    return {"labelExpr": _LABEL_OF, "minExtent": 10 + _LETTER * longest, "domain": False, "ticks": False}


def numbered(number: int, text: str) -> str:
    """A label that no other has, also where two are cut to the same letters."""
    return f"{number:0{_DIGITS}d}{short(text)}"
