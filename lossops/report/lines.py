"""Plots of a number over time, as `lossops.report.plots` are of what there is at one time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from lossops.report.axes import Axis, across, linear, padded, room_across, room_down, up
from lossops.report.plots import ACCENT, Row, framed, is_finite
from lossops.report.svg import Picture, element, path, points

__all__ = ["line_plot"]

_WIDTH, _HEIGHT = 380, 150
_BESIDE = 36  # half of a date
_MINUTE, _HOUR, _DAY, _WEEK = 60, 3600, 86_400, 604_800
_BRIEF = 10 * _MINUTE  # within which seconds matter
_SHORT = 4 * _DAY  # within which the time of day matters
_MONDAY = 4 * _DAY  # the first one after the epoch
_EVERY = (
    *(1, 2, 5, 10, 15, 30),
    *(_MINUTE * times for times in (1, 2, 5, 10, 15, 30)),
    *(_HOUR * times for times in (1, 2, 3, 6, 12)),
    *(_DAY * times for times in (1, 2, 3, 4)),
    *(_WEEK, 2 * _WEEK),
    *(30.4 * _DAY * times for times in (1, 2, 3, 6, 12)),
)
_MOST = 8  # labels that can fit


def line_plot(rows: Sequence[Row], moments: Sequence[datetime]) -> Picture | None:
    """Means over time with a band of their intervals; None if no row has a mean that can be drawn.

    Args:
        rows: with ``mean``, ``ci_low`` and ``ci_high``.
        moments: of the rows, in order; shown as their clocks do.
    """
    shown = [(_clock(moment), row) for row, moment in zip(rows, moments, strict=True) if is_finite(row, "mean")]
    if not shown:
        return None
    ends = [_ends(row) for _, row in shown]
    down = linear([end for pair in ends for end in pair], _HEIGHT, 0)
    if down is None:
        return None
    times = _times([at for at, _ in shown])
    places = [times.scale(at) for at, _ in shown]
    lows, highs = ([(x, down(pair[end])) for x, pair in zip(places, ends, strict=True)] for end in (0, 1))
    means = [(x, down(row["mean"])) for x, (_, row) in zip(places, shown, strict=True)]
    axis = Axis(down, down.ticks())
    parts = [
        *(across(times, _HEIGHT), up(axis, _WIDTH)),
        path(f"{points(lows + highs[::-1])}Z", fill=ACCENT, opacity=0.2),
        path(points(means), fill="none", stroke=ACCENT, stroke_width=2),
        *(element("circle", cx=x, cy=y, r=3, fill=ACCENT) for x, y in means),
    ]
    return framed(_WIDTH, _HEIGHT, *parts, left=max(room_down(axis), _BESIDE), right=_BESIDE, below=room_across(times))


def _clock(moment: datetime) -> float:
    """Seconds of what a clock shows, whatever its zone."""
    return moment.replace(tzinfo=UTC).timestamp()


def _ends(row: Row) -> tuple[float, float]:
    return (row["ci_low"], row["ci_high"]) if is_finite(row, "ci_low", "ci_high") else (row["mean"], row["mean"])


def _times(moments: Sequence[float]) -> Axis:
    """An axis with as many round moments as fit, but two at least: else the first and the last."""
    first, last = min(moments), max(moments)
    span, scale = last - first, padded(first, last, 0, _WIDTH)
    by_day = all(at % _DAY == 0 for at in moments)
    shape = "%Y-%m-%d" if by_day or span > _SHORT else "%m-%d %H:%M" if span > _BRIEF else "%H:%M:%S"

    def texts(found: Sequence[float]) -> list[str]:
        return [datetime.fromtimestamp(at, UTC).strftime(shape) for at in found]

    years = _EVERY[-1] * (1 + span // (_MOST * _EVERY[-1]))
    for every in (*_EVERY, years):
        if span <= _MOST * every and not (by_day and every < _DAY):
            found = [at for at in _round_moments(first, last, every) if first <= at <= last]
            axis = Axis(scale, found, texts, grid=False)
            if len(found) > 1 and not axis.overlaps():
                return axis
    return Axis(scale, sorted({first, last}), texts, grid=False)


def _round_moments(first: float, last: float, every: float) -> list[float]:
    """Moments that a clock or calendar would have lines for."""
    if every > 2 * _WEEK:
        return _months(first, last, round(every / (30.4 * _DAY)))
    start = _MONDAY if every >= _WEEK else 0
    return [start + every * place for place in range(int((first - start) // every), int((last - start) // every) + 1)]


def _months(first: float, last: float, step: int) -> list[float]:
    start, end = (datetime.fromtimestamp(at, UTC) for at in (first, last))
    numbers = range((12 * start.year + start.month - 1) // step * step, 12 * end.year + end.month, step)
    return [datetime(one // 12, one % 12 + 1, 1, tzinfo=UTC).timestamp() for one in numbers]
