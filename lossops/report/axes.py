"""Scales, from values to pixels, and the axes that show them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from lossops.report.labels import number_texts, width_of
from lossops.report.svg import line, words

__all__ = [
    "INK",
    "Axis",
    "Scale",
    "across",
    "bent_ticks",
    "from_zero",
    "linear",
    "logarithmic",
    "names_across",
    "names_down",
    "padded",
    "room_across",
    "room_beside",
    "room_down",
    "symmetric",
    "up",
]

INK, _LINE = "currentColor", "var(--line)"
_PADDING = 10  # pixels that a scale goes on behind its last values
_APART = 14  # pixels between labels
_TICK = 5
_TICKS = 4  # about so many on an axis
_TINIEST, _LARGEST = 5e-324, 1.7976931348623157e308
_LEAST, _MOST = 1e-300, 1e308  # spans in which there are ticks
_SMALLEST_ROOM = 36  # for numbers beside the title of an axis that goes up
_FROM_TITLE = 10  # pixels from the edge of a picture to the middle of that title


@dataclass(frozen=True)
class Scale:
    """From values to pixels.

    Args:
        low, high: values at its ends.
        start, end: their pixels.
        bent: maps values that are equally far apart on the axis to equal steps; the identity for a linear scale.
    """

    low: float
    high: float
    start: float
    end: float
    bent: Callable[[float], float] = float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        low, high = self.bent(self.low), self.bent(self.high)
        return self.start + (self.end - self.start) * ((self.bent(value) - low) / (high - low))

    def within(self, value: float) -> float:
        """The pixel of a value, or of the end of the scale beyond which it is."""
        return self(min(max(value, self.low), self.high))

    def ticks(self, count: int = _TICKS) -> list[float]:
        """About so many round numbers on a linear scale."""
        step = _step(self.high - self.low, count)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [place * step for place in range(first, last + 1)]


def _step(span: float, count: int) -> float:
    """One, two or five times a power of ten, so that about so many steps make a span."""
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    return power * next(times for times, up_to in _ROUND if rough < power * up_to)


# Each holds up to the geometric mean of it and the next.
_ROUND = ((1, math.sqrt(2)), (2, math.sqrt(10)), (5, math.sqrt(50)), (10, math.inf))


def linear(values: Sequence[float], start: float, end: float, *, zero: bool = False) -> Scale | None:
    """A scale of finite values, with room at its ends; None where they are too far apart, or too close, to be told."""
    low, high = min(values), max(values)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    found = padded(low, high, start, end)
    return found if _LEAST < found.high - found.low < _MOST else None


def padded(low: float, high: float, start: float, end: float) -> Scale:
    """A scale of values from low to high, with room at its ends."""
    if low == high:
        room = abs(low) / 10 or 1.0
        low, high = low - room, high + room
    more = (high - low) * _PADDING / (abs(end - start) - 2 * _PADDING)
    return Scale(low - more, high + more, start, end)


def from_zero(highest: float, start: float, end: float) -> Scale:
    """A scale from zero to a round number that is not below the highest value, which is positive."""
    step = _step(highest, _TICKS)
    return Scale(0.0, step * math.ceil(highest / step - 1e-9), start, end)


def logarithmic(low: float, high: float, start: float, end: float, padding: float = 0.0) -> Scale:
    """A scale of positive values on which equal factors are equally far apart; with pixels of room at its ends."""
    more = math.log(high / low) * padding / (abs(end - start) - 2 * padding) if padding else 0.0
    return Scale(max(low * math.exp(-more), _TINIEST), min(high * math.exp(more), _LARGEST), start, end, math.log)


def symmetric(low: float, high: float, start: float, end: float, unit: float) -> Scale:
    """A scale of values of either sign: about linear up to `unit`, logarithmic beyond."""
    return Scale(low, high, start, end, lambda value: math.copysign(math.log1p(abs(value / unit)), value))


def bent_ticks(scale: Scale, unit: float) -> list[float]:
    """Round numbers for a scale that is logarithmic, in either direction beyond `unit` where it has both signs."""
    below = [-tick for tick in _powers(max(-scale.high, unit), -scale.low)[::-1]] if scale.low < 0 else []
    found = [*below, *([0.0] if scale.low <= 0 <= scale.high else []), *_powers(max(scale.low, unit), scale.high)]
    return found if len(found) > 1 else scale.ticks()


def _powers(low: float, high: float) -> list[float]:
    """Powers of ten, and of few of them also 2 and 5 times each."""
    if high < low:
        return []
    first, last = math.floor(math.log10(low)), min(math.ceil(math.log10(high)), 308)
    tens = range(first, last + 1, max(1, (last - first) // 7))
    found = [times * 10.0**power for power in tens for times in ((1, 2, 5) if last - first < 3 else (1,))]
    return [tick for tick in found if low <= tick <= high]


@dataclass(frozen=True)
class Axis:
    """What is written along a scale.

    Args:
        scale: of its values.
        ticks: which are shown.
        texts: what is written at them.
        title: of the axis.
        grid: whether lines go through the picture.
    """

    scale: Scale
    ticks: Sequence[float]
    texts: Callable[[Sequence[float]], list[str]] = number_texts
    title: str | None = None
    grid: bool = True

    @property
    def labels(self) -> list[tuple[float, str]]:
        """Places and texts of the ticks."""
        return [(self.scale(tick), text) for tick, text in zip(self.ticks, self.texts(self.ticks), strict=True)]

    def thinned(self) -> Axis:
        """Leave out every other tick until none is written over another."""
        found = self
        while len(found.ticks) > 1 and found.overlaps():
            first = found.ticks.index(0.0) % 2 if 0.0 in found.ticks else 0  # zero stays
            found = replace(found, ticks=found.ticks[first::2])
        return found

    def overlaps(self) -> bool:
        """Whether labels are too close to each other."""
        ends = [(place - width_of([text]) / 2, place + width_of([text]) / 2) for place, text in self.labels]
        return any(two[0] - one[1] < _APART for one, two in itertools.pairwise(ends))


def across(axis: Axis, height: float) -> str:
    """An axis below a picture of this height."""
    start, end = axis.scale.start, axis.scale.end
    marks = [
        line((place, 0 if axis.grid else height), (place, height + _TICK), stroke=_LINE) for place, _ in axis.labels
    ]
    texts = [words(place, height + 15, text) for place, text in axis.thinned().labels]
    title = [words((start + end) / 2, height + 35, axis.title)] if axis.title else []
    return "".join([*marks, line((start, height), (end, height), stroke=_LINE), *texts, *title])


def room_across(axis: Axis) -> float:
    """Pixels below a picture that its axis takes."""
    return 46 if axis.title else 26


def room_beside(axis: Axis) -> tuple[float, float]:
    """Pixels at the left and right of a picture that what is written below it may take."""
    start, end = axis.scale.start, axis.scale.end
    written = [(place, width_of([text])) for place, text in axis.labels]
    written += [((start + end) / 2, width_of([axis.title]))] if axis.title else []
    left = max((start - place + width / 2 for place, width in written), default=0)
    return max(left, 0), max(max((place + width / 2 - end for place, width in written), default=0), 0)


def up(axis: Axis, width: float) -> str:
    """An axis at the left of a picture of this width."""
    start, end = axis.scale.start, axis.scale.end
    marks = [line((-_TICK, place), (width if axis.grid else 0, place), stroke=_LINE) for place, _ in axis.labels]
    texts = [words(-_TICK - 3, place, text, "end") for place, text in axis.labels]
    middle = (start + end) / 2
    title = [words(_FROM_TITLE - room_down(axis), middle, axis.title, upright=True)] if axis.title else []
    return "".join([*marks, line((0, start), (0, end), stroke=_LINE), *texts, *title])


def room_down(axis: Axis) -> float:
    """Pixels at the left of a picture that its axis takes."""
    numbers = _TICK + 5 + width_of(text for _, text in axis.labels)
    return max(numbers, _SMALLEST_ROOM) + 2 * _FROM_TITLE if axis.title else numbers


def names_down(names: Iterable[tuple[float, str]]) -> str:
    """Names of rows at the left of a picture: middle and text of each."""
    return "".join(words(-8, place, name, "end") for place, name in names)


def names_across(names: Sequence[tuple[float, str]], height: float, *, upright: bool) -> str:
    """Names of columns below a picture of this height."""
    if upright:
        return "".join(words(place, height + 8, name, "end", upright=True) for place, name in names)
    return "".join(words(place, height + 15, name) for place, name in names)
