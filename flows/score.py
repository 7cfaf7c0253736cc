"""The Prefect flow: check, score, publish, gate. A handful of tasks whatever the number of shards, and no arithmetic.

Tasks are called directly and in order; the one that scores owns the Dask client. What passes between them stays in
memory: plans and sums are quoted, because Prefect would otherwise walk through every shard in search of futures.
A task that fails for want of a network, a worker or a disk is tried again, and goes on from what is stored by then.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, ParamSpec, TypeVar, cast
from uuid import UUID

import prefect.runtime.flow_run
from prefect import Task, flow, get_run_logger, task
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.blocks.system import Secret
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.tasks import exponential_backoff
from prefect.utilities.annotations import quote
from pydantic import Field

from flows.days import Day
from flows.summary import ARTIFACT_ROWS, gate_rows, loss_rows, report_markdown, worst_slices_picture
from lossops.config import RunConfig
from lossops.data.storage import may_pass
from lossops.engine import Cluster, Progress, Scores
from lossops.engine import score as score_plan
from lossops.errors import ConfigError, GateError, InputError, LossopsError, RunError
from lossops.evaluation import publish_scores, utc_now
from lossops.outline import describe
from lossops.plan import Plan, make_plan
from lossops.report import Report

__all__ = [
    "GATE_FAILED",
    "Notices",
    "Observer",
    "ProgressArtifact",
    "artifact_key",
    "observed",
    "observer",
    "score",
    "tell_in_one_line",
]

GATE_FAILED = "lossops.gate.failed"  # the event

_STEP = 5.0  # per cent between two updates of the progress artifact; each is a request to the server
_RETRY_SECONDS = 10  # before the second attempt; each further wait is twice as long
_TOLD_GATES = 50  # in an event
_Given = ParamSpec("_Given")
_Value = TypeVar("_Value")


def _nothing(news: object) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Observer:
    """Who is told about a flow run in this process.

    Args:
        on_progress: called after every piece of work.
        on_report: called with the path of the published report, before Prefect hears of it.
        on_days: called with what came of each day of a backfill.
    """

    on_progress: Callable[[Progress], None] = _nothing
    on_report: Callable[[str], None] = _nothing
    on_days: Callable[[Sequence[Day]], None] = _nothing


_OBSERVER: ContextVar[Observer | None] = ContextVar("lossops_observer", default=None)


def observer() -> Observer:
    """Return who is told of the flow run under way."""
    return _OBSERVER.get() or Observer()


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Tell ``observer`` of the flow runs in this block; a flow's own parameters are stored, so they must be data."""
    token = _OBSERVER.set(observer)
    try:
        yield
    finally:
        _OBSERVER.reset(token)


def artifact_key(name: str, what: str) -> str:
    """Return the key under which Prefect keeps the history of an artifact: lower-case letters, digits and dashes.

    Args:
        name: of the run's config.
        what: which artifact of it.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return "-".join(part for part in ("lossops", plain, what) if part)


def tell_in_one_line() -> None:
    """Keep tracebacks of what is refused on purpose out of the logs of runs: its message says all.

    For the rest of the process, because a flow's error is logged after the flow.
    """
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_in_one_line)  # the same function again changes nothing


def _in_one_line(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    # Where a run failed because of something else, that something is worth its traceback.
    if not isinstance(error, LossopsError) or (isinstance(error, RunError) and error.__cause__):
        return True
    told_before = str(record.msg).startswith("Engine execution exited")
    record.exc_info = record.exc_text = None
    record.msg, record.args = "%s: %s", (type(error).__name__, error)
    return not told_before


def _impatient() -> AbstractContextManager[object]:
    """Do without an artifact rather than hold up the run for the minutes that Prefect retries a dead server."""
    return temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0})


@dataclass
class Notices:
    """Sends artifacts to Prefect. The first that fails is logged and ends them: the report matters more."""

    log: Callable[..., None]
    working: bool = True

    def send(self, call: Callable[..., _Value], **arguments: Any) -> _Value | None:
        """Call a function of the Prefect API; None if it fails or an earlier one did."""
        if not self.working:
            return None
        try:
            return call(**arguments)
        except Exception as error:  # whatever went wrong with the server, scoring goes on
            self.working = False
            self.log(logging.WARNING, "Prefect took no artifact: %s: %s", type(error).__name__, error)
            return None


@dataclass
class ProgressArtifact:
    """A progress bar in Prefect's user interface."""

    notices: Notices
    key: str
    rows: int
    shown: float = 0.0
    identity: UUID | None = field(default=None)

    def start(self) -> None:
        """Show the empty bar."""
        text = f"{self.rows:,} prediction rows"
        made = self.notices.send(create_progress_artifact, progress=0.0, key=self.key, description=text)
        self.identity = cast("UUID | None", made)

    def update(self, done: Progress) -> None:
        """Move the bar if it moved by a visible step."""
        percent = min(100.0 * done.rows_done / max(done.rows, 1), 100.0)
        if self.identity is not None and (abs(percent - self.shown) >= _STEP or percent == 100.0 != self.shown):
            self.shown = percent
            self.notices.send(update_progress_artifact, artifact_id=self.identity, progress=percent)


@task(name="check", cache_policy=NO_CACHE, persist_result=False)
def check(config: RunConfig) -> Plan:
    """Open the datasets, check that the config fits them and decide what is read.

    Raises:
        InputError: a path, column or type does not fit.
    """
    with _told_apart():
        plan = make_plan(config)
    log = get_run_logger()
    for heading, text in describe(plan):
        log.info("%s", f"{heading}: {text}" if heading else text)
    return plan


@task(name="score", cache_policy=NO_CACHE, persist_result=False)
def score_rows(plan: Plan, fresh: bool) -> Scores:
    """Score every row on Dask; log lines of workers and engine appear in the log of this task run.

    Raises:
        InputError: a shard is damaged, or holds an invalid row and the config allows none.
        RunError: the run failed.
    """
    # What a cluster of threads says as it closes would fill the log of the process.
    logging.getLogger("distributed").setLevel(logging.WARNING)
    log = get_run_logger().log
    bar = ProgressArtifact(Notices(log), artifact_key(plan.config.name, "progress"), plan.rows)

    def on_progress(done: Progress) -> None:
        bar.update(done)
        observer().on_progress(done)

    def on_cluster(cluster: Cluster) -> None:
        log(logging.INFO, "Dask: %s", cluster)
        if cluster.dashboard:
            key = artifact_key(plan.config.name, "cluster")
            bar.notices.send(create_link_artifact, link=cluster.dashboard, link_text="Dask", key=key)

    with _impatient(), _told_apart():
        bar.start()
        scores = score_plan(
            plan,
            fresh=fresh,
            on_progress=on_progress,
            on_log=lambda level, text: log(level, "%s", text),
            on_cluster=on_cluster,
        )
    log(logging.INFO, "%s of %s partitions were stored by an earlier run", scores.reused, scores.plan.partitions)
    return scores


@task(name="publish", cache_policy=NO_CACHE, persist_result=False)
def publish(scores: Scores, started: datetime) -> Report:
    """Write the report, whole or not at all, and show it in Prefect.

    Raises:
        RunError: the report could not be written.
    """
    with _told_apart():
        report = publish_scores(scores, started)
    observer().on_report(report.path)
    log = get_run_logger()
    for warning in report.warnings:
        log.warning("%s", warning)
    log.info("report: %s", report.path)
    with _impatient():
        _show(report, Notices(log.log))
    return report


def _show(report: Report, notices: Notices) -> None:
    name = str(report.run["name"])
    rows, more = loss_rows(report, ARTIFACT_ROWS)
    about = f"Losses of {name}, from {report.path}/losses.parquet" + (f"; {more:,} more rows are there" if more else "")
    notices.send(create_table_artifact, table=rows, key=artifact_key(name, "losses"), description=about)
    text = report_markdown(report)
    about = "What it says, and where it is"
    notices.send(create_markdown_artifact, markdown=text, key=artifact_key(name, "report"), description=about)
    if (picture := worst_slices_picture(report)) is not None:
        url, about = picture
        notices.send(create_image_artifact, image_url=url, key=artifact_key(name, "worst-slices"), description=about)


@task(name="gate", cache_policy=NO_CACHE, persist_result=False)
def gate(report: Report) -> None:
    """Show what the gates say, and fail if one does not keep its limit.

    Raises:
        GateError: the message has the failing rows.
    """
    log = get_run_logger().log
    if report.gates.num_rows:
        rows, more = gate_rows(report, ARTIFACT_ROWS)
        name = str(report.run["name"])
        about = f"Gates of {name}, failing ones first" + (f"; {more:,} more rows are in gates.parquet" if more else "")
        key = artifact_key(name, "gates")
        with _impatient():
            Notices(log).send(create_table_artifact, table=rows, key=key, description=about)
    try:
        report.check_gates()
    except GateError:
        _tell_of_failure(report, Notices(log))
        raise


def _tell_of_failure(report: Report, notices: Notices) -> None:
    """Send the event that automations wait for."""
    failing = [row for row in gate_rows(report, _TOLD_GATES)[0] if row["fails"]]
    resource = {
        "prefect.resource.id": f"lossops.report.{report.run['name']}",
        "prefect.resource.name": str(report.run["name"]),
        "lossops.run": str(report.run["run_id"]),
    }
    notices.send(emit_event, event=GATE_FAILED, resource=resource, payload={"report": report.path, "gates": failing})


def _whole(value: _Value) -> _Value:
    """Pass a value to a task as it is; Prefect unwraps it there."""
    return cast("_Value", quote(value))


def _run_name() -> str:
    """Name a flow run after its config, the day it is about and the time it began: many runs share a config."""
    parameters: Mapping[str, Any] = prefect.runtime.flow_run.parameters
    config = parameters["config"]
    name, date = (config["name"], config.get("date")) if isinstance(config, Mapping) else (config.name, config.date)
    about = f" for {date}" if date else ""
    return f"{name}{about} {utc_now():%Y-%m-%d %H:%M:%S}"


def _may_pass(_task: object, _run: object, state: Any) -> bool:
    """Whether what ended a task may be gone next time, unlike a damaged file or a misspelt column."""
    return isinstance(state.result(raise_on_failure=False), RunError)


@contextmanager
def _told_apart() -> Iterator[None]:
    """Make a failure that may pass one of the run: Prefect keeps an error without what it followed from.

    Raises:
        RunError: the storage failed for now.
    """
    try:
        yield
    except InputError as error:
        if may_pass(error):
            raise RunError(str(error)) from error
        raise


def _patiently(one: Task[_Given, _Value], retries: int, timeout: float | None = None) -> Task[_Given, _Value]:
    return one.with_options(
        retries=retries,
        retry_delay_seconds=exponential_backoff(_RETRY_SECONDS),
        retry_condition_fn=_may_pass,
        timeout_seconds=timeout,
    )


@contextmanager
def _with_secrets(names: Mapping[str, str]) -> Iterator[None]:
    """Keep secrets of Prefect blocks in the environment, where storage libraries look for them, for a while.

    Raises:
        ConfigError: there is no such block.
    """
    before = dict(os.environ)
    for name, block in names.items():
        try:
            os.environ[name] = str(Secret.load(block).get())  # type: ignore[union-attr]
        except ValueError as error:
            raise ConfigError(f"secrets.{name}: {error}; allowed: the name of a Secret block") from error
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name)
            os.environ.update({name: before[name]} if name in before else {})


@flow(name="lossops", flow_run_name=_run_name, persist_result=False)
def score(
    config: RunConfig,
    fresh: bool = False,  # noqa: FBT002 - a parameter of the flow
    retries: Annotated[int, Field(ge=0, le=100)] = 2,
    timeout_minutes: Annotated[float | None, Field(gt=0)] = None,
    secrets: dict[str, str] | None = None,
) -> str:
    """Score sharded predictions against labels and publish a report.

    Args:
        config: what to score; the same keys as in a config file. A date in its paths is that of the schedule.
        fresh: whether to score every row again, also what an earlier run stored.
        retries: how often a task starts again after a failure that may pass, such as a lost scheduler.
        timeout_minutes: after which scoring is given up.
        secrets: environment variables and the Secret blocks that hold their values, such as
            AWS_SECRET_ACCESS_KEY: store-key.

    Returns:
        The path of the report.

    Raises:
        GateError: the report is published, and a gate failed.
    """
    tell_in_one_line()
    started = utc_now()
    timeout = None if timeout_minutes is None else 60 * timeout_minutes
    with _with_secrets(secrets or {}):
        dated = config.dated(prefect.runtime.flow_run.scheduled_start_time or started)
        plan = _patiently(check, retries)(_whole(dated))
        scores = _patiently(score_rows, retries, timeout)(_whole(plan), fresh)
        report = _patiently(publish, retries)(_whole(scores), started)
        gate(_whole(report))
    return report.path
