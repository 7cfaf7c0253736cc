"""Runs the work of a plan in this thread, without Dask, and in any of the ways in which rows can be paired."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lossops.config import parse_config
from lossops.modes import bounded
from lossops.pairing import Budget, Mode
from lossops.plan import make_plan
from lossops.runs import Scores, score_with

__all__ = ["Here", "score_here"]


class Here:
    """`lossops.attempts.Workers` in this thread."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    def share(self, value: Any) -> Any:
        return value

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    def map(
        self, function: Callable[..., Any], shared: Sequence[Any], calls: Iterable[tuple[Any, ...]]
    ) -> Iterator[tuple[tuple[Any, ...], Any]]:
        return ((call, function(*shared, *call)) for call in calls)


def score_here(
    values: Mapping[str, Any], mode: Mode | None = None, budget: Budget | None = None, **options: Any
) -> Scores:
    """Score a config in this thread.

    Args:
        values: the config.
        mode: how rows are to be paired, whatever the planner would choose.
        budget: memory and threads that the planner and the pieces go by.
        options: of `lossops.engine.score`.
    """
    plan = make_plan(parse_config(values))
    changes: dict[str, Any] = {} if mode is None else {"mode": mode}
    changes |= {} if budget is None else {"budget": budget}
    pairings = [bounded(pairing) if mode == "merge" else pairing for pairing in plan.pairings]
    plan = replace(plan, pairings=tuple(replace(pairing, **changes) for pairing in pairings))
    return score_with(Here(), plan, **options)
