"""The exception tree.

LossopsError
 +- GateError        a report was published, and a gate failed                   (exit code 1)
 +- ConfigError      the configuration cannot be understood                      (exit code 2)
 +- InputError       a dataset cannot be used as configured                      (exit code 2)
 |   +- ShardError   one file of a dataset is unreadable or differs from the rest
 |   +- InputChanged a file of a dataset is not the one that was planned with
 +- RunError         the run itself failed                                       (exit code 3)

A message is one line that names the thing, the value found, what is allowed and where.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ConfigError",
    "GateError",
    "InputChanged",
    "InputError",
    "LossopsError",
    "RunError",
    "ShardError",
    "nearest",
    "shown",
    "counted",
]


class LossopsError(Exception):
    """Base of every error that lossops raises on purpose."""

    exit_code = 3


class GateError(LossopsError):
    """A report was published, and a number in it does not keep its limit.

    Args:
        report: path of the report.
        message: which numbers.
    """

    exit_code = 1

    def __init__(self, report: str, message: str) -> None:
        super().__init__(report, message)
        self.report = report
        self.message = message

    def __str__(self) -> str:
        return f"{self.message}; report: {self.report}"


class ConfigError(LossopsError):
    """The configuration cannot be understood: unknown key, wrong type, unknown loss."""

    exit_code = 2


class InputError(LossopsError):
    """A dataset cannot be used as configured: missing path, missing column, wrong type."""

    exit_code = 2


class ShardError(InputError):
    """One file of a dataset is unreadable or differs from the others.

    Args:
        shard: path of the file.
        problem: what is wrong with it, without the path.
    """

    def __init__(self, shard: str, problem: str) -> None:
        super().__init__(shard, problem)
        self.shard = shard
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.shard}: {self.problem}"


class InputChanged(InputError):  # noqa: N818 - what happened, not what is wrong
    """A file of a dataset changed, vanished or appeared after it was planned with.

    Args:
        shard: path of the file.
        change: what happened to it.
    """

    def __init__(self, shard: str, change: str) -> None:
        super().__init__(shard, change)
        self.shard = shard
        self.change = change

    def __str__(self) -> str:
        return f"{self.shard}: {self.change} while the run was under way; run again when the data is at rest"


class RunError(LossopsError):
    """The run failed although configuration and input were accepted."""


def nearest(name: str, allowed: Iterable[str], *, limit: int = 12) -> str:
    """Return the tail of an error message: the nearest allowed spelling, or what is allowed.

    Args:
        name: what was found.
        allowed: every allowed spelling.
        limit: how many allowed spellings to list when none is near.
    """
    choices = sorted(set(allowed))
    folded = {choice.casefold(): choice for choice in reversed(choices)}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    if close:
        return f"did you mean {folded[close[0]]!r}?"
    listed = ", ".join(choices[:limit]) or "none"
    return f"allowed: {listed}{', ...' if len(choices) > limit else ''}"


def shown(value: object, *, limit: int = 60) -> str:
    """Return a value as an error message prints it, cut to ``limit`` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def counted(number: int, what: str) -> str:
    """Return a number of things in words, such as ``1 shard`` or ``2 shards``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
