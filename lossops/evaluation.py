"""From a config to a report: the library's front door, and the steps that the Prefect flow takes one by one."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from os import PathLike
from typing import Any

import pyarrow as pa

from lossops.collection import paused
from lossops.config import RunConfig, load_config, parse_config
from lossops.engine import Scores, score
from lossops.plan import Plan, make_plan
from lossops.report import SCHEMAS, Report, losses_schema, publish
from lossops.report.history import earlier_runs
from lossops.report.page import render_page
from lossops.results import (
    Results,
    calibration_table,
    comparison_rows,
    contrast_table,
    discovered_rows,
    gate_rows,
    hardest_table,
    histogram_table,
    loss_table,
    warnings_of,
)
from lossops.stages import STAGES
from lossops.versions import versions

__all__ = ["evaluate", "publish_scores", "utc_now"]


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
    plan = make_plan(config.dated(started))
    report = publish_scores(score(plan, fresh=fresh), started)
    for warning in report.warnings:
        logging.getLogger("lossops").warning(warning)
    return report


@paused()
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
    for dataset in plan.datasets:
        dataset.verify()
    finished, begun = utc_now(), time.perf_counter()
    run_id = f"{started:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"
    results = Results(scores)
    gates = list(gate_rows(results))
    rows: dict[str, Iterable[Mapping[str, Any]]] = {
        "comparisons": comparison_rows(results),
        "gates": gates,
        "discovered": discovered_rows(results),
        "ledger": map(vars, scores.ledger),
        "shards": map(vars, scores.shards),
    }
    tables = {name: pa.Table.from_pylist(list(found), schema=SCHEMAS[name]) for name, found in rows.items()}
    tables["losses"] = loss_table(results, losses_schema(plan.config.quantiles))
    tables["contrasts"] = contrast_table(results, SCHEMAS["contrasts"])
    tables["calibration"] = calibration_table(results, SCHEMAS["calibration"])
    tables["hardest"] = hardest_table(results, SCHEMAS["hardest"])
    tables["histograms"] = histogram_table(results, SCHEMAS["histograms"])
    run: dict[str, Any] = {
        "run_id": run_id,
        "name": plan.config.name,
        "outcome": _outcome(gates),
        "warnings": warnings_of(results),
        "started": started.isoformat(timespec="milliseconds"),
        "finished": finished.isoformat(timespec="milliseconds"),
        "seconds": (finished - started).total_seconds(),
        "config": plan.config.model_dump(mode="json"),
        "versions": dict(versions()),
        "rows": _row_totals(plan),
        "speed": _speed(scores, (finished - started).total_seconds()),
        "hidden": _hidden(tables["losses"]),
        "alignment": _alignment(plan),
        "stages": _stages({**scores.stages, "report": time.perf_counter() - begun}),
    }

    def page() -> str:
        begun = time.perf_counter()
        report = Report("", **tables, run=run)
        text = render_page(report, earlier_runs(plan.config.output, report))
        run["stages"] |= _stages({"page": time.perf_counter() - begun})
        return text

    return publish(plan.config.output, plan.config.name, run_id, tables, run, page)


def _outcome(gates: Sequence[Mapping[str, Any]]) -> str:
    if not gates:
        return "completed"
    if any(row["fails"] for row in gates):
        return "failed"
    return "passed" if any(row["outcome"] == "pass" for row in gates) else "undecided"


def _hidden(losses: pa.Table) -> dict[str, int]:
    """Count the rows of losses.parquet whose numbers are hidden, by reason."""
    reasons = losses["hidden"].to_pylist()
    return {reason: reasons.count(reason) for reason in ("min_rows", "complement")}


def _row_totals(plan: Plan) -> dict[str, int]:
    return {"labels": plan.pairings[0].labels.rows, "predictions": plan.rows}


def _speed(scores: Scores, seconds: float) -> dict[str, float]:
    """Rows of predictions and labels, and bytes of their files, in a second of the whole run."""
    rows = sum(shard.rows or 0 for shard in scores.shards)
    size, seconds = sum(shard.bytes for shard in scores.shards), max(seconds, 1e-6)
    return {"rows_per_second": round(rows / seconds, 1), "bytes_per_second": round(size / seconds, 1)}


def _stages(seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds by stage, in the order of a run."""
    return {stage: round(seconds[stage], 6) for stage in STAGES if seconds.get(stage)}


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
        for pairing in (*plan.pairings, *plan.across)
    ]
