"""The flow on a real Prefect server."""

from __future__ import annotations

import json
import logging
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State

from flows.score import Notices, Observer, ProgressArtifact, artifact_key, observed, score
from lossops.config import RunConfig
from lossops.engine import Progress
from lossops.errors import GateError, InputError
from lossops.report import open_report

pytestmark = pytest.mark.usefixtures("server")


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as found:
        yield found


def flow_run(client: SyncPrefectClient, state: State[str]) -> FlowRun:
    run = client.read_flow_run(state.state_details.flow_run_id)
    for handler in logging.getLogger("prefect.flow_runs").handlers:
        handler.flush()
    return run


def logs(client: SyncPrefectClient, run: FlowRun) -> list[str]:
    found = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])), limit=200)
    return [line.message for line in found]


def artifacts(client: SyncPrefectClient, run: FlowRun) -> dict[str, Any]:
    found = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id])))
    return {str(artifact.key): artifact for artifact in found}


def test_a_run_is_named_logged_and_shown(client: SyncPrefectClient, config: RunConfig) -> None:
    heard: list[Progress] = []
    paths: list[str] = []
    with observed(Observer(heard.append, paths.append)):
        state = score(config, return_state=True)
    run = flow_run(client, state)
    report = open_report(state.result())

    assert run.state_type.value == "COMPLETED"
    assert run.name.startswith("demo 20")
    assert paths == [report.path]
    assert heard[-1].rows_done == heard[-1].rows
    rows = report.ledger.to_pandas().query("dataset == 'predictions' and reason != 'scored'")
    assert heard[-1].bad_rows == rows.groupby("loss")["rows"].sum().max()

    lines = logs(client, run)
    assert any("part-00003.parquet rows 0 to" in line for line in lines), "what workers say is in the run's log"
    assert any(line == f"report: {report.path}" for line in lines)

    found = artifacts(client, run)
    wanted = ("progress", "losses", "report", "worst-slices")
    assert set(found) == {f"lossops-demo-{what}" for what in wanted}
    kind, _, picture = str(found["lossops-demo-worst-slices"].data).partition(",")
    assert kind == "data:image/png;base64"
    assert b64decode(picture).startswith(b"\x89PNG\r\n")
    assert float(found["lossops-demo-progress"].data) == 100.0
    assert report.path in found["lossops-demo-report"].data
    table = json.loads(found["lossops-demo-losses"].data)
    assert [row["slice"] for row in table[:2]] == ["overall", "overall"]
    assert len(table) == report.losses.num_rows
    assert {row["mean"] for row in table} == set(report.losses["mean"].to_pylist())


def test_a_run_has_a_handful_of_tasks(client: SyncPrefectClient, config: RunConfig) -> None:
    run = flow_run(client, score(config, return_state=True))
    found = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])))
    assert sorted(task.name.rpartition("-")[0] for task in found) == ["check", "gate", "publish", "score"]


def test_parameters_may_come_as_a_form_sends_them(config: RunConfig) -> None:
    huber = {"loss": "huber", "delta": 30.0, "prediction": "seconds_predicted", "label": "seconds"}
    values = config.model_dump(mode="json") | {"losses": [huber], "slices": []}
    path = score(values)
    report = open_report(path)
    assert report.run["config"]["losses"][0]["delta"] == 30.0
    assert report.losses["loss"].to_pylist() == ["huber"]


def test_the_config_is_a_form() -> None:
    schema = score.parameters.model_dump()
    assert schema["required"] == ["config"]
    assert schema["definitions"]["RunConfig"]["properties"]["losses"]["type"] == "array"


def test_a_failed_run_says_why(client: SyncPrefectClient, config: RunConfig, tmp_path: Any) -> None:
    labels = config.labels.model_copy(update={"path": [str(tmp_path / "nowhere")]})
    state = score(config.model_copy(update={"labels": labels}), return_state=True)
    run = flow_run(client, state)
    with pytest.raises(InputError) as caught:
        state.result()
    assert run.state_type.value == "FAILED"
    assert str(caught.value) in run.state.message
    assert "nowhere" in run.state.message
    assert not (tmp_path / "reports").exists()


def test_the_table_artifact_is_bounded(client: SyncPrefectClient, config: RunConfig) -> None:
    slices = [{"column": "weight"}, {"column": "seconds", "bins": [float(edge) for edge in range(0, 600, 3)]}]
    values = config.model_dump(mode="json") | {"slices": [[one] for one in slices]}
    run = flow_run(client, score(values, return_state=True))
    artifact = artifacts(client, run)["lossops-demo-losses"]
    assert len(json.loads(artifact.data)) == 200
    assert "more rows" in artifact.description


def test_the_first_artifact_that_fails_is_logged_and_ends_them() -> None:
    said: list[tuple[Any, ...]] = []
    calls: list[str] = []

    def refuse(what: str) -> None:
        calls.append(what)
        raise ConnectionError("no server")

    notices = Notices(lambda *words: said.append(words))
    bar = ProgressArtifact(notices, "key", 10)
    assert notices.send(refuse, what="first") is None
    assert notices.send(refuse, what="second") is None
    bar.start()
    bar.update(Progress(1, 1, 10, 10, 0, 0.1))
    assert calls == ["first"]
    assert said == [(logging.WARNING, "Prefect took no artifact: %s: %s", "ConnectionError", said[0][3])]


@pytest.mark.parametrize(
    ("name", "key"),
    [("Demo_2", "lossops-demo-2-losses"), ("--", "lossops-losses"), ("a", "lossops-a-losses")],
)
def test_artifact_keys_are_lower_case_letters_digits_and_dashes(name: str, key: str) -> None:
    assert artifact_key(name, "losses") == key


def test_a_failed_gate_fails_the_run(client: SyncPrefectClient, config: RunConfig) -> None:
    """The report is published; the state is Failed, with the failing rows in its message and in a table."""
    loss = config.losses[0].shown
    gate = {"loss": loss, "max": 1e-9, "slices": ["overall"]}
    state = score(RunConfig.model_validate(config.model_dump(mode="json") | {"gates": [gate]}), return_state=True)
    run = flow_run(client, state)
    with pytest.raises(GateError) as caught:
        state.result()
    assert run.state_type.value == "FAILED"
    assert f"{loss} max 1e-09" in run.state.message
    assert "overall" in run.state.message
    report = open_report(caught.value.report)
    assert not report.passed
    rows = json.loads(artifacts(client, run)["lossops-demo-gates"].data)
    assert [row["outcome"] for row in rows] == report.gates["outcome"].to_pylist()
