"""Deployments and schedules: a process that waits for runs of configs and starts each in a process of its own.

Prefect keeps the schedule. Runs that fall due while nothing serves them wait, and start when something does.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import version
from typing import Any, Literal, cast
from uuid import UUID

from prefect.automations import Automation
from prefect.blocks.core import Block
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, StateType
from prefect.deployments.runner import RunnerDeployment
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import TerminationSignal
from prefect.runner import Runner
from prefect.schedules import Cron
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY
from prefect.types.entrypoint import EntrypointType

from flows.backfill import backfill
from flows.score import GATE_FAILED, score
from lossops.config import RunConfig
from lossops.errors import ConfigError

__all__ = ["Service", "deployments", "serve_configs"]

_TAG = "lossops"
_MISSED = 3  # heartbeats after which a run is taken for dead
_START = timedelta(hours=1)  # in which a run that is Pending must begin: a work pool may have to fetch its image
_ZOMBIES, _STILLBORN = "lossops: runs that have died", "lossops: runs that did not begin"
_GATES = "lossops: failed gates"
_GONE = "No sign of life from its process; a retry goes on from what it had stored."
_NEVER = "Its process never began."
_SUBJECT = "lossops: a gate failed in {{ event.resource.name }}"
_BODY = """Report: {{ event.payload.report }}
{% for row in event.payload.gates %}{{ row.gate }}, {{ row.model }}, {{ row.slice }}: {{ row.value }}
{% endfor %}"""


@dataclass(frozen=True)
class Service:
    """How configs are served.

    Args:
        cron: when to run them, in the time zone of the config; None: when somebody asks.
        tags: of deployments and runs, besides ``lossops``.
        when_busy: what a run does while another one of its name is under way.
        retries: of a task after a failure that may pass.
        timeout_minutes: after which scoring is given up.
        secrets: environment variables and the Secret blocks that hold their values.
        limit: runs of all names at a time in this process.
        notify: slug of a notification block, such as ``slack-webhook/team``, that is told of failed gates.
    """

    cron: str | None = None
    tags: Sequence[str] = ()
    when_busy: Literal["wait", "refuse"] = "wait"
    retries: int = 2
    timeout_minutes: float | None = None
    secrets: Mapping[str, str] = field(default_factory=dict)
    limit: int = 4
    notify: str | None = None


def serve_configs(configs: Sequence[RunConfig], service: Service, told: Callable[[str], None]) -> None:
    """Deploy configs and run them until this process is ended.

    Args:
        configs: one or more.
        service: how.
        told: called with the full name of each deployment.

    Raises:
        ConfigError: two have one name, or the cron expression or a block is not known.
    """
    made = deployments(configs, service)
    automations(service, PREFECT_FLOWS_HEARTBEAT_FREQUENCY.value())
    # Runs stay scheduled while the process restarts, so that none is missed.
    runner = Runner(pause_on_shutdown=False, limit=service.limit)
    for deployment in made:
        runner.add_deployment(deployment)
        told(deployment.full_name)
    with suppress(KeyboardInterrupt, TerminationSignal):
        asyncio.run(runner.start())


def deployments(configs: Sequence[RunConfig], service: Service) -> list[RunnerDeployment]:
    """Return a deployment for each config, named as it is.

    Raises:
        ConfigError: two have one name, or the cron expression is not valid.
    """
    twice = [name for name, count in Counter(config.name for config in configs).items() if count > 1]
    if twice:
        raise ConfigError(f"name: two configs are called {twice[0]!r}; allowed: a name of its own for each")
    return [_deployment(config, service) for config in configs]


def _deployment(config: RunConfig, service: Service) -> RunnerDeployment:
    return RunnerDeployment.from_flow(
        score,
        config.name,
        schedules=[_schedule(service.cron, config.timezone)] if service.cron else [],
        parameters=_parameters(config, service),
        tags=[_TAG, *service.tags],
        version=version("lossops"),
        concurrency_limit=_one_at_a_time(service),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def _schedule(cron: str, timezone: str) -> Any:
    try:
        return Cron(cron, timezone=timezone)
    except ValueError as error:
        raise ConfigError(f"--cron {cron!r}: not valid; allowed: five fields, such as '30 2 * * *'") from error


def _parameters(config: RunConfig, service: Service) -> dict[str, Any]:
    return {
        "config": config.model_dump(mode="json", exclude_unset=True),
        "retries": service.retries,
        "timeout_minutes": service.timeout_minutes,
        "secrets": dict(service.secrets),
    }


def _one_at_a_time(service: Service) -> ConcurrencyLimitConfig:
    strategies = {"wait": ConcurrencyLimitStrategy.ENQUEUE, "refuse": ConcurrencyLimitStrategy.CANCEL_NEW}
    return ConcurrencyLimitConfig(limit=1, collision_strategy=strategies[service.when_busy])


def automations(service: Service, heartbeat: float | None) -> None:
    """Have the server recognise runs whose process has died, and tell of failed gates where that is wanted.

    What is kept already stays as it is: an update makes the server forget the runs that it is watching, and those that
    died with the process that starts again here are among them.

    Args:
        service: how configs are served.
        heartbeat: seconds between two signs of life of a run; None: runs give none.

    Raises:
        ConfigError: there is no such notification block.
    """
    if heartbeat is None:
        _drop(_ZOMBIES)  # of an earlier time, which would take every run for dead
    else:
        # A run that is cancelled, too, ends or shows a sign of life.
        silence = timedelta(seconds=_MISSED * heartbeat)
        _keep(_silent(_ZOMBIES, ["Running", "Cancelling", "heartbeat"], silence, _GONE))
    # Its name would wait for ever: it holds the place of the one run at a time.
    _keep(_silent(_STILLBORN, ["Pending"], _START, _NEVER))
    if service.notify is not None:
        _keep(_notification(_block(service.notify)))


def _silent(name: str, after: Sequence[str], silence: timedelta, told: str) -> Automation:
    """Crash runs of which nothing is heard for a while after certain events."""
    trigger = EventTrigger(
        after={f"prefect.flow-run.{event}" for event in after},
        expect={"prefect.flow-run.*"},
        match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
        match_related=ResourceSpecification(
            {"prefect.resource.role": ["flow"], "prefect.resource.name": [score.name, backfill.name]}
        ),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=silence,
    )
    action = ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=told, force=False)
    return Automation(name=name, description="Kept by lossops serve.", trigger=trigger, actions=[action])


def _notification(block: UUID) -> Automation:
    trigger = EventTrigger(expect={GATE_FAILED}, posture=Posture.Reactive, threshold=1)
    action = SendNotification(block_document_id=block, subject=_SUBJECT, body=_BODY)
    return Automation(name=_GATES, description="Kept by lossops serve.", trigger=trigger, actions=[action])


def _block(slug: str) -> UUID:
    try:
        block = Block.load(slug)
    except (ValueError, RuntimeError) as error:
        told = " ".join(str(error).split())
        raise ConfigError(f"--notify {slug!r}: {told}; allowed: TYPE/NAME of a notification block") from error
    return cast("UUID", block._block_document_id)  # type: ignore[union-attr] # there is no other way to it


def _found(name: str) -> Automation | None:
    try:
        return cast("Automation", Automation.read(name=name))
    except ValueError:  # there is none
        return None


def _drop(name: str) -> None:
    if (found := _found(name)) is not None:
        found.delete()


def _keep(wanted: Automation) -> None:
    """Create an automation, or bring the one of its name up to date; whether it is enabled is the operator's to say."""
    if (found := _found(wanted.name)) is None:
        wanted.create()
        return
    wanted.id, wanted.enabled = found.id, found.enabled
    if found != wanted:
        wanted.update()
