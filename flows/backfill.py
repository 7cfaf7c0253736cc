"""The Prefect flow over many days: one parent run, and a run of its own for each day, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import prefect.runtime.flow_run
from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.days import check_days, days_between, run_days
from flows.score import artifact_key, observer, score, tell_in_one_line
from lossops.config import RunConfig

__all__ = ["backfill"]


def _run_name() -> str:
    parameters: Mapping[str, Any] = prefect.runtime.flow_run.parameters
    config = parameters["config"]
    name = config["name"] if isinstance(config, Mapping) else config.name
    return f"{name} from {parameters['first']} to {parameters['last']}"


@flow(name="lossops-backfill", flow_run_name=_run_name, persist_result=False)
def backfill(
    config: RunConfig,
    first: datetime,
    last: datetime,
    step_hours: float = 24,
    fresh: bool = False,  # noqa: FBT002 - a parameter of the flow
) -> list[str]:
    """Score a config with dates in its paths for every day of a range.

    Args:
        config: what to score.
        first, last: days or moments in the time zone of the config, both included.
        step_hours: from one run to the next.
        fresh: whether to score every row again.

    Returns:
        The paths of the reports.

    Raises:
        RunError: days failed; all others are scored.
        GateError: all days are scored, and gates failed.
    """
    tell_in_one_line()
    moments = days_between(config, first, last, timedelta(hours=step_hours))
    days = run_days(config, moments, lambda one: score(one, fresh))
    observer().on_days(days)
    about = f"{config.name}, {len(days)} days"
    create_table_artifact([asdict(day) for day in days], key=artifact_key(config.name, "backfill"), description=about)
    check_days(days)
    return [str(day.report) for day in days]
