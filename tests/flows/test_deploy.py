"""The deployment file for work pools, deployed with Prefect's own command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client

from flows.score import score
from lossops.config import RunConfig

FILE = Path(__file__).resolve().parents[2] / "configs" / "prefect.yaml"
PREFECT = (sys.executable, "-m", "prefect", "--no-prompt")


@pytest.fixture
def client(server: str) -> Iterator[SyncPrefectClient]:
    assert server
    with get_client(sync_client=True) as found:
        yield found


def test_the_file_deploys_as_it_stands(
    client: SyncPrefectClient, server: str, environment: Mapping[str, str], tmp_path: Path
) -> None:
    own = {**environment, "PREFECT_API_URL": server}
    for words in (
        ("work-pool", "create", "lossops", "--type", "process"),
        ("deploy", "--all", "--prefect-file", str(FILE)),
    ):
        found = subprocess.run(
            [*PREFECT, *words], cwd=tmp_path, env=own, capture_output=True, text=True, timeout=120, check=False
        )
        assert found.returncode == 0, found.stdout + found.stderr
    deployment = client.read_deployment_by_name("lossops/diamonds-price")
    assert deployment.entrypoint == "flows.score.score"
    assert deployment.pull_steps == []
    assert [(one.schedule.cron, one.schedule.timezone) for one in deployment.schedules] == [
        ("30 2 * * *", "Europe/Berlin")
    ]
    assert deployment.global_concurrency_limit.limit == 1
    config = RunConfig.model_validate(deployment.parameters["config"])
    assert config.is_dated


def test_every_parameter_in_the_file_is_one_of_the_flow() -> None:

    (told,) = yaml.safe_load(FILE.read_text())["deployments"]
    assert set(told["parameters"]) <= set(score.parameters.properties)
    assert told["name"] == told["parameters"]["config"]["name"]
