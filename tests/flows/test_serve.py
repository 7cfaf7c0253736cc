"""Deployments that a process serves: schedules, forms, one run of a name at a time, cancelling, secrets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import uuid4

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelling, Completed, Running, Scheduled

import lossops
from flows.score import score
from flows.serve import Service, automations, deployments
from lossops.config import RunConfig, parse_config
from lossops.errors import ConfigError
from lossops.report import open_report
from tests.datasets import write_shards
from tests.flows.conftest import LOSSOPS

pytestmark = pytest.mark.usefixtures("server")
Found = TypeVar("Found")
ENDS = ("scored", "scored", "failed")  # of three days


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as found:
        yield found


def awaited(question: Callable[[], Found | None], seconds: float = 120) -> Found:
    """Ask until there is an answer."""
    deadline = time.monotonic() + seconds
    while (found := question()) is None:
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.2)
    return found


def values(folder: Path, **more: Any) -> dict[str, Any]:
    """A config over two days of 4 shards, under a name of its own."""
    random = np.random.default_rng(8)
    for day in ("2026-03-01", "2026-03-02") if not (folder / "labels").exists() else ():
        tables = [pa.table({"y": random.normal(size=100), "p": random.normal(size=100)}) for _ in range(4)]
        write_shards(folder / "labels" / day, [table.select(["y"]) for table in tables])
        write_shards(folder / "predictions" / day, [table.select(["p"]) for table in tables])
    return {
        "name": f"served-{uuid4().hex[:8]}",
        "labels": {"path": f"{folder}/labels/{{date}}", "label": "y"},
        "models": {"m": {"path": f"{folder}/predictions/{{date}}", "prediction": "p"}},
        "losses": ["mean_squared_error"],
        "output": str(folder / "reports"),
        **more,
    }


def long_run(folder: Path) -> dict[str, Any]:
    """A config over 3000 shards, which take some ten seconds."""
    for side, column in (("labels", "y"), ("predictions", "p")):
        (folder / side).mkdir()
        pq.write_table(pa.table({column: np.linspace(0, 1, 100)}), folder / f"{side}.parquet")
        for number in range(3000):
            os.link(folder / f"{side}.parquet", folder / side / f"part-{number:05d}.parquet")
    return {
        **values(folder),
        "labels": {"path": str(folder / "labels"), "label": "y"},
        "models": {"m": {"path": str(folder / "predictions"), "prediction": "p"}},
    }


@contextmanager
def served(
    config: Mapping[str, Any], folder: Path, environment: Mapping[str, str], server: str, *words: str
) -> Iterator[subprocess.Popen[str]]:
    """Serve a config with the command, until the block ends."""
    path = folder / f"{config['name']}.yaml"
    path.write_text(json.dumps(config))
    own = {**environment, "PREFECT_API_URL": server, "PREFECT_RUNNER_POLL_FREQUENCY": "1"}
    with (
        (folder / "serve.log").open("w") as log,
        subprocess.Popen([*LOSSOPS, "serve", str(path), *words], cwd=folder, env=own, stderr=log, text=True) as process,
    ):
        try:
            awaited(lambda: "serving" in (folder / "serve.log").read_text() or None)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def started(client: SyncPrefectClient, config: Mapping[str, Any], /, **parameters: Any) -> FlowRun:
    deployment = client.read_deployment_by_name(f"lossops/{config['name']}")
    return client.create_flow_run_from_deployment(deployment.id, parameters=parameters)


def in_state(client: SyncPrefectClient, run: FlowRun, *names: str) -> FlowRun:
    """Wait until a run is in one of the states."""

    def look() -> FlowRun | None:
        found = client.read_flow_run(run.id)
        return found if found.state_name in names else None

    return awaited(look)


def test_a_scheduled_run_reads_the_day_it_was_scheduled_for(
    client: SyncPrefectClient, environment: Mapping[str, str], server: str, tmp_path: Path
) -> None:
    config = values(tmp_path, timezone="Asia/Tokyo")
    here = lossops.evaluate({**config, "date": "2026-03-02", "output": str(tmp_path / "here")})
    with served(config, tmp_path, environment, server, "--tag", "nightly"):
        deployment = client.read_deployment_by_name(f"lossops/{config['name']}")
        due = datetime(2026, 3, 1, 20, 0, tzinfo=UTC)  # the day after in Tokyo
        run = client.create_flow_run_from_deployment(deployment.id, state=Scheduled(scheduled_time=due))
        in_state(client, run, "Completed")
    (path,) = (tmp_path / "reports" / config["name"]).iterdir()
    assert open_report(str(path)).run["config"]["date"] == "2026-03-02T05:00:00+09:00"
    assert (path / "losses.parquet").read_bytes() == (Path(here.path) / "losses.parquet").read_bytes()
    assert set(deployment.tags) == {"lossops", "nightly"}
    assert "RunConfig" in deployment.parameter_openapi_schema["definitions"]


def test_a_served_config_is_a_deployment_with_a_schedule(tmp_path: Path) -> None:
    config = parse_config(values(tmp_path, timezone="Europe/Berlin"))
    (made,) = deployments([config], Service(cron="30 2 * * *", when_busy="refuse", retries=5, timeout_minutes=90))
    assert made.full_name == f"lossops/{config.name}"
    assert made.entrypoint == "flows.score.score"
    schedule = made.schedules[0].schedule
    assert (schedule.cron, schedule.timezone) == ("30 2 * * *", "Europe/Berlin")
    assert (made.concurrency_limit, made.concurrency_options.collision_strategy.value) == (1, "CANCEL_NEW")
    assert (made.parameters["retries"], made.parameters["timeout_minutes"]) == (5, 90)
    assert RunConfig.model_validate(made.parameters["config"]) == config


@pytest.mark.parametrize(("cron", "says"), [("never", "--cron 'never'"), ("99 * * * *", "allowed: five fields")])
def test_a_schedule_that_is_none_is_refused(cron: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=says):
        deployments([parse_config(values(tmp_path))], Service(cron=cron))


def test_two_configs_of_one_name_are_refused(tmp_path: Path) -> None:
    config = parse_config(values(tmp_path))
    with pytest.raises(ConfigError, match=f"two configs are called '{config.name}'"):
        deployments([config, config], Service())


def test_a_form_that_does_not_fit_is_refused_before_there_is_a_run(
    client: SyncPrefectClient, environment: Mapping[str, str], server: str, tmp_path: Path
) -> None:
    config = values(tmp_path)
    with served(config, tmp_path, environment, server), pytest.raises(Exception, match="retries"):
        started(client, config, retries=-1)


def test_the_second_run_of_a_name_is_refused_and_cancelling_leaves_nothing(
    client: SyncPrefectClient, environment: Mapping[str, str], server: str, tmp_path: Path
) -> None:
    config = long_run(tmp_path)
    with served(config, tmp_path, environment, server, "--when-busy", "refuse"):
        first = started(client, config)
        in_state(client, first, "Running")
        second = started(client, config)
        assert "concurrency" in str(in_state(client, second, "Cancelled").state.message).lower()
        client.set_flow_run_state(first.id, Cancelling())
        in_state(client, first, "Cancelled")
    assert not list((tmp_path / "reports").glob(f"{config['name']}/*")), "no report, whole or in part"


def test_the_second_run_of_a_name_waits(
    client: SyncPrefectClient, environment: Mapping[str, str], server: str, tmp_path: Path
) -> None:
    config = long_run(tmp_path)
    with served(config, tmp_path, environment, server):
        first = started(client, config)
        in_state(client, first, "Running")
        second = started(client, config)
        in_state(client, second, "AwaitingConcurrencySlot")
        assert in_state(client, first, "Completed").state_name == "Completed"
        in_state(client, second, "Completed")
    begun = [client.read_flow_run(run.id) for run in (first, second)]
    assert cast("datetime", begun[0].end_time) <= cast("datetime", begun[1].start_time)
    assert len(list((tmp_path / "reports" / config["name"]).iterdir())) == 2


def test_a_timeout_ends_a_run(
    client: SyncPrefectClient, environment: Mapping[str, str], server: str, tmp_path: Path
) -> None:
    config = long_run(tmp_path)
    with served(config, tmp_path, environment, server, "--timeout", "1s"):
        run = in_state(client, started(client, config), "Failed", "TimedOut")
    assert "1.0 second" in str(run.state.message)
    assert not list((tmp_path / "reports").glob(f"{config['name']}/*"))


def test_what_a_run_refuses_on_purpose_is_one_line_in_the_log(
    client: SyncPrefectClient, environment: Mapping[str, str], server: str, tmp_path: Path
) -> None:
    config = values(tmp_path, date="2026-03-01", gates=[{"loss": "mean_squared_error", "max": 1e-6}])
    with served(config, tmp_path, environment, server):
        gated = in_state(client, started(client, config), "Failed")
        form = client.read_deployment_by_name(f"lossops/{config['name']}").parameters["config"]
        missing = {**form, "labels": {"path": [f"{tmp_path}/absent"], "label": "y"}}
        absent = in_state(client, started(client, config, config=missing), "Failed")
    assert "GateError" in str(gated.state.message)
    log = (tmp_path / "serve.log").read_text()
    assert "Traceback" not in log
    refused = f"InputError: labels.path: {tmp_path}/absent: "
    for run, told in ((gated, "GateError: 1 of 1 gate rows failed: "), (absent, refused)):
        lines = [line for line in log.splitlines() if "| ERROR " in line and "Flow run" in line and told in line]
        assert [f"Flow run {run.name!r} - {told}" in line for line in lines] == [True]


def kept(server: str, heartbeat: float | None) -> dict[str, Any] | None:
    """What the server keeps after serving began with a heartbeat."""
    automations(Service(), heartbeat)
    found = httpx.post(f"{server}/automations/filter", json={}).json()
    return next((one for one in found if one["name"] == "lossops: runs that have died"), None)


def test_automations_are_kept_up_to_date_and_not_repeated(server: str) -> None:
    """An update gives the trigger another identity, and runs that it watched are forgotten."""
    first = kept(server, 60)
    assert first["actions"][0]["type"] == "change-flow-run-state"
    assert kept(server, 60) == first
    url = f"{server}/automations/{first['id']}"
    httpx.patch(url, json={"enabled": False}).raise_for_status()
    later = kept(server, 90)
    assert kept(server, None) is None, "without heartbeats every run would look dead"
    assert (later["id"], later["trigger"]["within"], later["enabled"]) == (first["id"], 270, False)
    with pytest.raises(ConfigError, match=r"--notify 'slack-webhook/absent'.*allowed: TYPE/NAME"):
        automations(Service(notify="slack-webhook/absent"), None)


def test_a_run_that_died_is_crashed_though_serving_began_again(client: SyncPrefectClient) -> None:
    """Also one that died before its first heartbeat; one that ended is left alone."""
    least = 10 / 3  # of what a server waits for
    automations(Service(), least)
    dead, ended = (client.create_flow_run(score, parameters={"config": {"name": "dead"}}) for _ in range(2))
    for run in (dead, ended):
        client.set_flow_run_state(run.id, Running())
    client.set_flow_run_state(ended.id, Completed())
    automations(Service(), least)
    crashed = in_state(client, dead, "Crashed")
    assert "a retry goes on" in str(crashed.state.message)
    assert client.read_flow_run(ended.id).state_name == "Completed"


def test_secrets_come_from_blocks_and_are_nowhere_else(
    client: SyncPrefectClient, environment: Mapping[str, str], server: str, tmp_path: Path
) -> None:
    """The flow finds it in its environment, and nobody finds it in what is kept."""
    secret = f"planted-{uuid4().hex}"
    Secret(value=secret).save("lossops-planted", overwrite=True)
    config = values(tmp_path, date="2026-03-01")
    with served(config, tmp_path, environment, server, "--secret", "LOSSOPS_TEST_SECRET=lossops-planted"):
        in_state(client, started(client, config), "Completed")
        missing = started(client, config, secrets={"LOSSOPS_TEST_SECRET": "absent"})
        assert "Secret block" in str(in_state(client, missing, "Failed").state.message)
    run = client.read_deployment_by_name(f"lossops/{config['name']}")
    assert run.parameters["secrets"] == {"LOSSOPS_TEST_SECRET": "lossops-planted"}
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert [path for path in kept if secret.encode() in path.read_bytes()] == []
    for kind in ("logs", "artifacts", "flow_runs", "task_runs"):
        assert secret not in httpx.post(f"{server}/{kind}/filter", json={"limit": 200}).text


def test_a_backfill_is_one_run_of_a_run_a_day(environment: Mapping[str, str], server: str, tmp_path: Path) -> None:
    config = values(tmp_path)
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    words = [*LOSSOPS, "backfill", "config.yaml", "--from", "2026-03-01", "--to", "2026-03-03"]
    for recorded in ("--prefect", "--direct"):
        found = subprocess.run(
            [*words, recorded],
            cwd=tmp_path,
            env={**environment, "PREFECT_API_URL": server},
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == 3, found.stderr
        assert "lossops: 1 of 3 days failed: 2026-03-03T00:00:00+00:00: " in found.stderr.splitlines()[-1]
        days = [line.split()[:2] for line in found.stdout.splitlines() if line.startswith("2026")]
        assert days == [[f"2026-03-0{day}T00:00:00+00:00", end] for day, end in enumerate(ENDS, 1)]
    paths = sorted((tmp_path / "reports" / config["name"]).iterdir())
    dates = [open_report(str(path)).run["config"]["date"][:10] for path in paths]
    assert sorted(dates) == 2 * ["2026-03-01"] + 2 * ["2026-03-02"]
    runs = httpx.post(f"{server}/flow_runs/filter", json={"flow_runs": {"name": {"like_": config["name"]}}}).json()
    parents = [run for run in runs if run["parent_task_run_id"] is None]
    assert [run["name"].split(" from ")[0] for run in parents] == [config["name"]]
    assert [run["state_name"] for run in parents] == ["Failed"]
    assert len(runs) == 4


def test_a_backfill_without_a_date_in_a_path_is_refused(tmp_path: Path, lossops: Any) -> None:
    config = {**values(tmp_path), "labels": {"path": "a", "label": "y"}, "models": {"m": {"path": "b"}}}
    (tmp_path / "config.yaml").write_text(json.dumps({**config, "models": {"m": {"path": "b", "prediction": "p"}}}))
    found = lossops("backfill", "config.yaml", "--from", "2026-03-01", "--to", "2026-03-03", "--direct")
    assert found.returncode == 2
    assert "no path of the config holds a date" in found.stderr


def test_serving_without_a_server_is_refused(tmp_path: Path, lossops: Any) -> None:
    (tmp_path / "config.yaml").write_text(json.dumps(values(tmp_path)))
    found = lossops("serve", "config.yaml")
    assert (found.returncode, len(found.stderr.splitlines())) == (2, 1)
    assert "PREFECT_API_URL" in found.stderr
