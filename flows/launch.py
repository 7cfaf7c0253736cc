"""Runs a config, in this process or as a Prefect flow run, with progress on the terminal.

Prefect takes seconds to import, so it is imported only by a run that it records.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.console import progress, say
from flows.days import Day
from lossops.collection import loading
from lossops.config import RunConfig
from lossops.errors import ConfigError, GateError, LossopsError, RunError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State

    from lossops.engine import Progress
    from lossops.report import Report

__all__ = [
    "Finished",
    "FlowRunLink",
    "is_server_configured",
    "require_server",
    "run_direct",
    "run_recorded",
    "run_recorded_days",
]

_PATIENCE = 5.0  # seconds to wait for the first answer of a Prefect server
_API_URL = "PREFECT_API_URL"


@dataclass(frozen=True)
class FlowRunLink:
    """Where Prefect keeps a run: its name, id and page, if the server has pages."""

    name: str
    id: str
    url: str | None

    def __str__(self) -> str:
        return f"flow run {self.name!r}: {self.url or self.id}"


@dataclass(frozen=True)
class Finished:
    """A published report, the flow run that wrote it (None without Prefect), and how it ran.

    Args:
        report, flow_run: these.
        note: how it ran, in a sentence.
        partitions: pieces of work.
        reused: of them those whose state an earlier run had stored.
    """

    report: Report
    flow_run: FlowRunLink | None
    note: str
    partitions: int
    reused: int


@dataclass
class _Last:
    """Shows progress, and remembers what was shown last."""

    show: Callable[[Progress], None]
    done: Progress | None = None

    def __call__(self, done: Progress) -> None:
        self.done = done
        self.show(done)

    def finished(self, report: Report, flow_run: FlowRunLink | None, note: str) -> Finished:
        """Return the run that ended with this report."""
        partitions, reused = (self.done.partitions, self.done.reused) if self.done else (0, 0)
        stored = f"{reused:,} of {partitions:,} partitions were stored by an earlier run. " if reused else ""
        return Finished(report, flow_run, stored + note, partitions, reused)


def is_server_configured() -> bool:
    """Whether Prefect is told of a server by the environment, a profile or a settings file.

    Prefect itself decides, but is only asked where something could have told it.
    """
    if _API_URL in os.environ:
        return bool(os.environ[_API_URL])
    if not any(_could_configure()):
        return False
    _silence_prefect()
    from prefect.settings import PREFECT_API_URL

    return bool(PREFECT_API_URL.value())


def _silence_prefect() -> None:
    """Keep Prefect off the terminal, where it prints what it records, with tracebacks; read when it is imported."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", "CRITICAL")
    logging.raiseExceptions = False  # else a log line that a dead server does not take is announced on standard error


def _could_configure() -> Iterator[bool]:
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    yield "PREFECT_PROFILE" in os.environ
    yield _mentions(Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml"), r"active|PREFECT_API_URL")
    yield _mentions(Path(".env"), _API_URL)
    yield _mentions(Path("prefect.toml"), "api")
    yield _mentions(Path("pyproject.toml"), r"tool\.prefect")


def _mentions(path: Path, pattern: str) -> bool:
    try:
        return re.search(pattern, path.read_text(errors="replace"), re.IGNORECASE) is not None
    except OSError:
        return False


def tell_of_compiling() -> None:
    """Say why the first run on a machine takes long."""
    from lossops.kernels.jit import cache_folder

    folder = cache_folder()
    if folder is None or not any(Path(folder).iterdir()):
        say("Nothing is compiled yet, so this run compiles the kernels of its losses, which may take half a minute.")


def run_direct(config: RunConfig, *, fresh: bool = False) -> Finished:
    """Score a config in this process.

    Raises:
        LossopsError: as `lossops.evaluate`.
    """
    with loading():
        from lossops.engine import score
        from lossops.evaluation import publish_scores, utc_now
        from lossops.plan import make_plan

    started = utc_now()
    plan = make_plan(config)
    with progress() as show:
        last = _Last(show)
        scores = score(plan, fresh=fresh, on_progress=last, on_log=_tell)
    note = "Ran directly in this process; no Prefect server was used."
    return last.finished(publish_scores(scores, started), None, note)


def _tell(level: int, message: str) -> None:
    """Say what else nobody would know of; the summary counts what lines of each shard would say."""
    if level >= logging.WARNING:
        say(message)


def run_recorded(config: RunConfig, *, fresh: bool = False) -> Finished:
    """Score a config as a flow run of the configured Prefect server.

    Raises:
        ConfigError: no server is configured.
        RunError: the server does not answer, or went away during the run.
        LossopsError: as `lossops.evaluate`.
    """
    require_server()
    _silence_prefect()
    with loading():
        from flows.score import Observer, observed, score
        from lossops.partition import warm_up

        # The thread of Prefect's heartbeats ends on a whole second of the flow run, which is waited for.
        warm_up()

    published: list[str] = []
    try:
        with progress() as show:
            last = _Last(show)
            with observed(Observer(last, published.append)):
                state: State[str] = score(config, fresh, retries=0, return_state=True)
        return _finished(state, last)
    except LossopsError:
        raise
    except Exception as error:  # of the client, which tells a dead server in many ways
        kept = f"; the report is complete: {published[0]}" if published else ""
        raise RunError(f"Prefect failed during the run: {_one_line(error)}{kept}") from error
    finally:
        _flush()


def require_server() -> None:
    """Check that a Prefect server is configured, and that it answers.

    Raises:
        ConfigError: none is.
        RunError: it does not.
    """
    if not is_server_configured():
        allowed = "set PREFECT_API_URL or a profile, or use --direct where there is one"
        raise ConfigError(f"no Prefect server is configured; allowed: {allowed}")
    _greet_server()


def run_recorded_days(
    config: RunConfig, first: datetime, last: datetime, step_hours: float, *, fresh: bool = False
) -> list[Day]:
    """Score a config for every day of a range, under one flow run of the configured Prefect server.

    Raises:
        ConfigError: no server is configured.
        RunError: the server does not answer, or went away during the run.
    """
    require_server()
    _silence_prefect()
    with loading():
        from flows.backfill import backfill
        from flows.score import Observer, observed

    days: list[Day] = []
    try:
        with observed(Observer(on_days=days.extend)):
            state: State[Any] = backfill(config, first, last, step_hours, fresh, return_state=True)
        if not days:
            state.result(raise_on_failure=True)
        return days
    except LossopsError:
        raise
    except Exception as error:  # of the client, which tells a dead server in many ways
        raise RunError(f"Prefect failed during the run: {_one_line(error)}") from error
    finally:
        _flush()


def _flush() -> None:
    """Send what Prefect still holds back of logs and events, while there is a server to send it to."""
    from prefect.events.worker import EventsWorker

    for handler in logging.getLogger("prefect.flow_runs").handlers:
        handler.flush()
    EventsWorker.drain_all(timeout=_PATIENCE)


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _greet_server() -> None:
    """Ask the server for its version, without the patience that a running flow has."""
    with loading():
        from prefect.client.orchestration import get_client
        from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    try:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client({"timeout": _PATIENCE}, sync_client=True) as client,
        ):
            client.api_version()
    except Exception as error:  # whatever the network, the proxy or the server made of it
        where = re.sub(r"//[^/@]*@", "//", str(PREFECT_API_URL.value()))
        found = f"{where} does not answer as one: {_one_line(error)}"
        raise RunError(f"the Prefect server at {found}; --direct runs without it") from error


def _finished(state: State[str], last: _Last) -> Finished:
    from prefect.exceptions import PrefectException

    from lossops.report import open_report

    try:
        path = state.result(raise_on_failure=True)
    except GateError as error:
        path = error.report
    except PrefectException as error:
        raise RunError(f"the flow run ended as {state.name}: {error}") from error
    link = _link(state)
    return last.finished(open_report(str(path)), link, f"Recorded by Prefect as {link}")


def _link(state: State[str]) -> FlowRunLink:
    from prefect.client.orchestration import get_client
    from prefect.utilities.urls import url_for

    identity = state.state_details.flow_run_id
    with get_client(sync_client=True) as client:
        run: FlowRun = client.read_flow_run(identity)  # type: ignore[arg-type]
    return FlowRunLink(run.name, str(run.id), url_for("flow-run", obj_id=run.id))
