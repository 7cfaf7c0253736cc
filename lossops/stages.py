"""How long each stage of work takes, in the worker that does it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

__all__ = ["STAGES", "Stage", "Stopwatch"]

Stage = Literal[
    "listing", "decode", "keys", "align", "groups", "losses", "accumulate", "merge", "store", "report", "page"
]
# In the order of a run, with what each is; those of workers are sums over all of their threads.
STAGES: dict[Stage, str] = {
    "listing": "finding files, reading footers, planning",
    "decode": "reading and decoding columns",
    "keys": "proving that keys pair by position",
    "align": "looking up, joining or partitioning rows",
    "groups": "slices to groups",
    "losses": "checking values and computing losses",
    "accumulate": "adding losses to the groups",
    "merge": "adding up what workers return",
    "store": "keeping states for a later run",
    "report": "statistics and tables",
    "page": "drawing report.html, which shows the other stages",
}
_Item = TypeVar("_Item")


class Stopwatch:
    """Seconds by stage; a stage within another stops the clock of that one."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._running: list[Stage] = []
        self._since = 0.0

    def _count(self) -> None:
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since  # type: ignore[assignment]
        self._since = now

    @contextmanager
    def during(self, stage: Stage) -> Iterator[None]:
        """Count the time of a block for a stage."""
        self._count()
        self._running.append(stage)
        try:
            yield
        finally:
            self._count()
            self._running.pop()

    def each(self, stage: Stage, items: Iterable[_Item]) -> Iterator[_Item]:
        """Yield items, and count for a stage the time that each takes to come."""
        waiting = iter(items)
        while True:
            with self.during(stage):
                try:
                    item = next(waiting)
                except StopIteration:
                    return
            yield item
