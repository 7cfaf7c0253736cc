"""From a config to a report: the library's front door, and the steps that the Prefect flow takes one by one."""

from __future__ import annotations

import platform
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from os import PathLike
from typing import Any

import pyarrow as pa

from lossops.config import RunConfig, load_config, parse_config
from lossops.engine import Scores, score
from lossops.kernels.jit import kernel_digest
from lossops.measures import BoundMeasure
from lossops.plan import Plan, make_plan
from lossops.report import LEDGER, LOSSES, SHARDS, Report, publish
from lossops.slices import Slice
from lossops.state import GroupKey, GroupTable
from lossops.statistics import Summary, summarise
from lossops.tasks import Task

__all__ = ["evaluate", "publish_scores", "utc_now"]

_PACKAGES = ("lossops", "dask", "distributed", "numba", "numpy", "pyarrow", "scipy")


def utc_now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(UTC)


def evaluate(config: RunConfig | Mapping[str, Any] | str | PathLike[str], *, fresh: bool = False) -> Report:
    """Score a config in this process, without Prefect, and publish the report.

    Args:
        config: a validated config, a mapping of its keys, or the path of a YAML file.
        fresh: whether to ignore the states that earlier runs stored.

    Raises:
        ConfigError: the config is not valid.
        InputError: a dataset does not fit the config, or is damaged.
        RunError: the run failed.
    """
    if isinstance(config, str | PathLike):
        config = load_config(str(config))
    elif not isinstance(config, RunConfig):
        config = parse_config(config)
    started = utc_now()
    plan = make_plan(config)
    return publish_scores(score(plan, fresh=fresh), started)


def publish_scores(scores: Scores, started: datetime) -> Report:
    """Turn merged sums into the report's tables and publish them.

    Args:
        scores: what came of the plan.
        started: when the run began, UTC.

    Raises:
        InputChanged: a shard changed, vanished or appeared since it was planned.
        RunError: the report could not be written.
    """
    plan = scores.plan
    for dataset in {id(one): one for pair in plan.pairings for one in (pair.predictions, pair.labels)}.values():
        dataset.verify()
    finished = utc_now()
    run_id = f"{started:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"
    tables = {
        "losses": _table(LOSSES, _loss_rows(plan, scores)),
        "ledger": _table(LEDGER, (vars(entry) for entry in scores.ledger)),
        "shards": _table(SHARDS, (vars(record) for record in scores.shards)),
    }
    run = {
        "run_id": run_id,
        "name": plan.config.name,
        "outcome": "completed",
        "started": started.isoformat(timespec="milliseconds"),
        "finished": finished.isoformat(timespec="milliseconds"),
        "seconds": (finished - started).total_seconds(),
        "config": plan.config.model_dump(mode="json"),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
            "kernels": kernel_digest(),
        },
        "rows": _row_totals(plan),
        "alignment": _alignment(plan),
    }
    return publish(plan.config.output, plan.config.name, run_id, tables, run)


def _table(schema: pa.Schema, rows: Iterator[Mapping[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)


def _row_totals(plan: Plan) -> dict[str, int]:
    return {"labels": plan.pairings[0].labels.rows, "predictions": plan.rows}


def _alignment(plan: Plan) -> list[dict[str, Any]]:
    return [
        {
            "models": list(dict.fromkeys(task.model for task in pairing.tasks)),
            "mode": pairing.mode,
            "why": list(pairing.why),
            "key": list(pairing.key),
            "duplicates": plan.config.duplicates,
            "partitions": pairing.partitions,
        }
        for pairing in plan.pairings
    ]


def _loss_rows(plan: Plan, scores: Scores) -> Iterator[dict[str, Any]]:
    """Yield the rows of losses.parquet: by model and loss as configured, overall first, then slices by value."""
    for task in (task for pairing in plan.pairings for task in pairing.tasks):
        for number, chosen in enumerate(plan.pairings[0].slices):
            table = scores.state.tables[number]
            found = _measured(task, scores, number) if isinstance(task.loss, BoundMeasure) else _summaries(task, table)
            yield from _slice_rows(task, chosen, table, found)


def _summaries(task: Task, table: GroupTable) -> dict[GroupKey, Summary]:
    found = summarise(table.sums[task.cell]) if task.cell in table.sums else []
    return dict(zip(table.keys, found, strict=False))


def _measured(task: Task, scores: Scores, number: int) -> dict[Any, Summary]:
    """The value of a measure stands where the mean of a loss does; sums and intervals belong to means only."""
    if not isinstance(task.loss, BoundMeasure) or task.cell not in scores.state.measures:
        return {}
    table = scores.state.measures[task.cell][number]
    return {
        key: Summary(one.rows, one.rows_valid, one.rows_clipped, one.weight_sum, mean=one.value)
        for key, one in zip(table.keys, task.loss.results(table), strict=True)
    }


def _slice_rows(
    task: Task, chosen: Slice, table: GroupTable, found: Mapping[GroupKey, Summary]
) -> Iterator[dict[str, Any]]:
    for key in sorted(table.keys) or ([()] if not chosen.axes else []):
        yield {
            "model": task.model,
            "loss": task.name,
            "kind": "measure" if isinstance(task.loss, BoundMeasure) else "loss",
            "slice": chosen.label(key),
            "slice_columns": chosen.columns,
            "slice_values": chosen.values(key),
            **vars(found.get(key, Summary(0, 0, 0, 0.0))),
        }
