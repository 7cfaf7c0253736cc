"""A night after a night after a night: fifty names at once, again and again, and nothing grows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from lossops.report import open_report
from tests.datasets import cut, write_shards
from tests.processes import postgres_programs
from tests.topology import PASSWORDS, Topology

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(postgres_programs() is None, reason="PostgreSQL is not installed"),
]

NAMES = [f"night-{number:02}" for number in range(50)]
NIGHTS = 4  # the first fills caches and pools of connections
WATCHED = ("serve", "server", "scheduler", "worker", "worker-2")


def usage(topology: Topology) -> dict[str, dict[str, float]]:
    """Memory, files, threads and connections of each service with its children."""
    found = {}
    for name in WATCHED:
        own = psutil.Process(topology.processes[name].identity)
        tree = [own, *own.children(recursive=True)]
        found[name] = {
            "MiB": sum(one.memory_info().rss for one in tree) / 2**20,
            "files": sum(one.num_fds() for one in tree),
            "threads": sum(one.num_threads() for one in tree),
            "connections": sum(len(one.net_connections("tcp")) for one in tree),
            "processes": len(tree),
        }
    return found


def write_configs(folder: Path, topology: Topology) -> None:
    random = np.random.default_rng(1)
    table = pa.table({"y": random.normal(size=2000), "p": random.normal(size=2000), "kind": np.arange(2000) % 5})
    data = write_shards(folder / "data", cut(table, 4))
    for name in NAMES:
        config = {
            "name": name,
            "labels": {"path": data, "label": "y"},
            "models": {"m": {"path": data, "prediction": "p"}},
            "losses": ["mean_squared_error"],
            "slices": ["kind"],
            "output": str(folder / "reports"),
            "cluster": {"address": f"tls://{topology.address('scheduler', 8786)}"},
        }
        (topology.configs / f"{name}.yaml").write_text(yaml.safe_dump(config))


def until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(1.0)


def night(client: SyncPrefectClient) -> None:
    """Start a run of every name at once and wait for the last."""
    deployments = [client.read_deployment_by_name(f"lossops/{name}") for name in NAMES]
    runs = [client.create_flow_run_from_deployment(one.id).id for one in deployments]
    waiting = set(runs)

    def all_done() -> bool:
        for run in list(waiting):
            state = client.read_flow_run(run).state
            assert state.type.value not in {"FAILED", "CRASHED", "CANCELLED"}, state
            waiting.difference_update({run} if state.is_completed() else ())
        return not waiting

    until(all_done, 1200)


def test_nights_of_fifty_names_leave_nothing_behind(
    tmp_path: Path, record_property: Callable[[str, Any], None]
) -> None:
    topology = Topology(tmp_path / "topology", extra={"PREFECT_RUNNER_POLL_FREQUENCY": "1"})
    write_configs(tmp_path, topology)
    own = {
        PREFECT_API_URL: f"http://{topology.address('server', 4200)}/api",
        PREFECT_API_AUTH_STRING: PASSWORDS["PREFECT_AUTH_STRING"],
    }
    seen = []
    with topology, temporary_settings(own), get_client(sync_client=True) as client:
        for _ in range(NIGHTS):
            begun = time.monotonic()
            night(client)
            record_property("night", f"{time.monotonic() - begun:.0f} s")
            until(lambda: usage(topology)["serve"]["processes"] == 1, 60)
            seen.append(usage(topology))
            record_property("usage", seen[-1])
    for name in WATCHED:
        first, last = seen[1][name], seen[-1][name]
        for what in ("files", "threads", "connections"):
            assert last[what] <= first[what] + 5, (name, what, [one[name] for one in seen])
        assert last["MiB"] <= 1.1 * first["MiB"] + 20, (name, [one[name] for one in seen])
    for name in NAMES:
        reports = [open_report(str(path)) for path in (tmp_path / "reports" / name).iterdir()]
        assert len(reports) == NIGHTS
        assert len({str(report.losses["mean"].to_pylist()) for report in reports}) == 1
    assert not [path for path in (tmp_path / "reports").rglob("*") if "partial" in path.name or "spill" in path.name]
