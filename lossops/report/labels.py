"""Labels of plots: short, one line, with room for them in any font."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

from lossops.report.selection import printable

__all__ = ["count_texts", "number_texts", "short", "width_of"]

_LABEL = 32  # letters
# Pixels of letters in a wide font, because fonts of readers differ, by what they are alike in.
_WIDTHS = {
    **dict.fromkeys(" !'(),-./:;I[]`fijlrt{|}", 5.4),
    **dict.fromkeys("ABCDEFGHJKLNOPQRSTUVXYZ&#$?", 9.8),
    **dict.fromkeys("+<=>~^", 11.0),
    **dict.fromkeys("MWmw%@…", 13.2),
}
_LETTER, _WIDE_LETTER = 8.4, 14.0
_DIGITS, _MOST_DIGITS = 6, 18  # of a number, if it needs no more
_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


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


def width_of(labels: Iterable[str]) -> float:
    """Pixels that the longest of some labels may take."""
    return max((sum(map(_width, label)) for label in labels), default=0.0)


def _width(letter: str) -> float:
    return _WIDTHS.get(letter, _LETTER if letter.isascii() or _columns(letter) == 1 else _WIDE_LETTER)


def number_texts(values: Sequence[float]) -> list[str]:
    """Numbers on an axis: six digits, or more where they are so close that these would not tell them apart."""
    near = min((abs(two - one) for one, two in pairwise(values)), default=math.inf) / 100
    ways = ([f"{value:.{digits}g}" for value in values] for digits in range(_DIGITS, _MOST_DIGITS))
    told = (texts for texts in ways if all(abs(float(t) - v) <= near for t, v in zip(texts, values, strict=True)))
    return [_short_power(text) for text in next(told, map(repr, values))]


def _short_power(text: str) -> str:
    digits, _, power = text.partition("e")
    return f"{digits}e{int(power)}" if power else digits


def count_texts(values: Sequence[float]) -> list[str]:
    """Counts on an axis, such as 20k."""
    places = [min(max(math.floor(math.log10(v) / 3), 0), len(_PREFIXES) - 1) if v else 0 for v in values]
    return [
        f"{_short_power(f'{value / 1000**place:.{_DIGITS}g}')}{_PREFIXES[place]}"
        for value, place in zip(values, places, strict=True)
    ]
