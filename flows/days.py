"""Many days at once: a config with dates in its paths is run for each; one that fails does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from lossops.config import RunConfig
from lossops.dates import steps
from lossops.errors import ConfigError, GateError, LossopsError, RunError

__all__ = ["Day", "check_days", "days_between", "run_days"]

_TOLD = 5  # days in a message
_MOST = 10_000


@dataclass(frozen=True)
class Day:
    """What came of one day.

    Args:
        date: ISO 8601, with the time zone.
        outcome: ``scored``, ``gate failed`` or ``failed``.
        report: path, where there is one.
        message: why it failed.
    """

    date: str
    outcome: str
    report: str | None
    message: str | None = None


def days_between(config: RunConfig, first: datetime, last: datetime, step: timedelta) -> Sequence[datetime]:
    """Return the moments to run a config for, in its time zone, both ends included.

    Raises:
        ConfigError: no path holds a date, or the range is empty or too long.
    """
    if not config.is_dated:
        raise ConfigError("no path of the config holds a date; allowed: {date} in one, such as data/{date}/labels")
    if step < timedelta(minutes=1):
        raise ConfigError(f"--step: {step}; allowed: at least a minute")
    if not first <= last <= first + _MOST * step:
        raise ConfigError(f"--from {first} --to {last}: allowed: an end after the beginning, at most {_MOST:,} steps")
    return steps(first, last, step, config.zone)


def run_days(config: RunConfig, moments: Iterable[datetime], run: Callable[[RunConfig], str]) -> list[Day]:
    """Run a config for each moment.

    Args:
        config: whose paths hold dates.
        moments: with a time zone.
        run: scores a config and returns the path of the report.
    """
    return [_run_day(config.model_copy(update={"date": moment}), moment.isoformat(), run) for moment in moments]


def _run_day(config: RunConfig, date: str, run: Callable[[RunConfig], str]) -> Day:
    try:
        return Day(date, "scored", run(config))
    except GateError as error:
        return Day(date, "gate failed", error.report, error.message)
    except LossopsError as error:
        return Day(date, "failed", None, str(error))


def check_days(days: Sequence[Day]) -> None:
    """Raise if a day did not end well.

    Raises:
        RunError: days failed.
        GateError: all were scored, and gates failed.
    """
    failed = [day for day in days if day.outcome == "failed"]
    if failed:
        raise RunError(f"{len(failed)} of {len(days)} days failed: {_told(failed)}")
    gated = [day for day in days if day.outcome == "gate failed"]
    if gated:
        raise GateError(str(gated[0].report), f"gates failed on {len(gated)} of {len(days)} days: {_told(gated)}")


def _told(days: Sequence[Day]) -> str:
    more = f"; and {len(days) - _TOLD} more" if len(days) > _TOLD else ""
    return "; ".join(f"{day.date}: {day.message}" for day in days[:_TOLD]) + more
