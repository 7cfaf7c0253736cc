"""Dates in paths: ``{date}``, ``{date:%Y/%m/%d}``, and ``{date-1d}`` or ``{date-6h:%Y-%m-%d-%H}`` for what is late."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo

__all__ = ["check_dates", "fill", "has_date", "steps"]

_MENTIONED = re.compile(r"\{\s*date[^}]*\}?")
_DATE = re.compile(r"\{date(?:(?P<offset>[+-][0-9]{1,5})(?P<unit>[dh]))?(?::(?P<format>[^{}]+))?\}")
_DEFAULT = "%Y-%m-%d"
# What strftime does with other letters depends on the machine, or on its language.
_DIRECTIVES = frozenset("YymdHMSjGVu%")
_ALLOWED = "{date}, {date-1d}, {date:%Y-%m-%d}, {date-6h:%Y-%m-%d-%H}, with the directives % and one of YymdHMSjGVu"


def has_date(path: str) -> bool:
    """Whether a path holds a date to fill in."""
    return _MENTIONED.search(path) is not None


def check_dates(path: str) -> None:
    """Check the dates in a path.

    Raises:
        ValueError: one is not understood.
    """
    for mention in _MENTIONED.finditer(path):
        match = _DATE.fullmatch(mention[0])
        if match is None or not _is_format(match["format"] or _DEFAULT):
            raise ValueError(f"{mention[0]!r}; allowed: {_ALLOWED}")


def _is_format(text: str) -> bool:
    found = re.findall(r"%(.?)", text)
    return bool(found) and all(letter and letter in _DIRECTIVES for letter in found)


def fill(path: str, moment: datetime) -> str:
    """Return a path with its dates filled in.

    Args:
        path: whose dates `check_dates` accepts.
        moment: with the time zone whose days are meant. Days are counted on the calendar, hours on the clock of UTC.
    """
    return _DATE.sub(lambda match: _shifted(match, moment).strftime(match["format"] or _DEFAULT), path)


def _shifted(match: re.Match[str], moment: datetime) -> datetime:
    number = int(match["offset"] or 0)
    if match["unit"] == "h":
        return (moment.astimezone(UTC) + timedelta(hours=number)).astimezone(moment.tzinfo)
    return moment + timedelta(days=number)


def steps(first: datetime, last: datetime, step: timedelta, zone: tzinfo) -> Sequence[datetime]:
    """Return the moments from the first to the last, both included, in a time zone; whole days keep the time of day.

    Args:
        first, last: without a time zone of their own: they are read in ``zone``.
        step: above 0.
        zone: of the result.
    """
    count = (last - first) // step + 1
    return [(first + number * step).replace(tzinfo=zone) for number in range(count)]
