"""Dask: clusters that exist, die, or lose workers; progress; and what the plan says of itself."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from distributed import Client, LocalCluster, Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin

import lossops
from lossops.config import parse_config
from lossops.engine import Cluster, Progress, score
from lossops.engine.cluster import _checked, result_of
from lossops.errors import ConfigError, InputError, RunError
from lossops.outline import describe
from lossops.pairing import Budget
from lossops.plan import make_plan
from lossops.versions import versions
from tests.datasets import cut, score_table, write_shards

LOCAL: dict[str, Any] = {
    "n_workers": 2,
    "threads_per_worker": 1,
    "host": "127.0.0.1",
    "dashboard_address": "127.0.0.1:0",
    "worker_dashboard_address": "127.0.0.1:0",
}


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    """A config over 30 shards that pair by position."""
    random = np.random.default_rng(3)
    table = pa.table({"id": np.arange(3000), "y": random.normal(size=3000)})
    predictions = table.set_column(1, "p", pa.array(random.normal(size=3000)))
    return {
        "name": "cluster",
        "labels": {"path": write_shards(tmp_path / "labels", cut(table, 30)), "label": "y"},
        "models": {"m": {"path": write_shards(tmp_path / "predictions", cut(predictions, 30)), "prediction": "p"}},
        "key": "id",
        "losses": ["mean_squared_error"],
        "output": str(tmp_path / "reports"),
    }


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(**LOCAL) as running:
        yield running


def losses(report: lossops.Report) -> bytes:
    return (Path(report.path) / "losses.parquet").read_bytes()


def test_running_cluster_gives_the_same_bytes(values: dict[str, Any], cluster: LocalCluster) -> None:
    here = lossops.evaluate(values)
    there = lossops.evaluate({**values, "cluster": {"address": cluster.scheduler_address}})
    assert losses(here) == losses(there)


def test_nothing_is_left_on_a_running_cluster(values: dict[str, Any], cluster: LocalCluster) -> None:
    lossops.evaluate({**values, "cluster": {"address": cluster.scheduler_address}})
    with Client(cluster, set_as_default=False) as client:
        assert client.list_datasets() == ()
        assert sum(map(len, client.has_what().values())) == 0


def test_no_scheduler(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lossops.engine.cluster._CONNECT_SECONDS", 1)
    with pytest.raises(RunError, match=r"cluster\.address: no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        lossops.evaluate({**values, "cluster": {"address": "tcp://127.0.0.1:9"}})
    assert not Path(values["output"]).exists()


def test_worker_killed_in_mid_run(values: dict[str, Any]) -> None:
    """A worker dies after the first piece; another takes its work over and the numbers are the same."""
    expected = losses(lossops.evaluate(values))
    with LocalCluster(**LOCAL) as running:
        with Client(running, set_as_default=False) as client:
            victim = next(iter(client.run(os.getpid).values()))
        plan = make_plan(parse_config({**values, "cluster": {"address": running.scheduler_address}}))
        killed: list[int] = []

        def kill(progress: Progress) -> None:
            if progress.rows_done and not killed:
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)

        scores = score(plan, on_progress=kill)
        assert killed
    again = score(make_plan(parse_config(values)))
    assert scores.ledger == again.ledger
    mine, others = (one.state.tables[0].sums["m", "mean_squared_error"] for one in (scores, again))
    assert np.array_equal(mine.digits, others.digits)
    assert losses(lossops.evaluate(values)) == expected


def test_a_run_says_that_it_waits_for_workers(values: dict[str, Any]) -> None:
    """All workers leave after the first piece, and come back when the run says that it misses them."""
    here = score(make_plan(parse_config(values)))
    told: list[str] = []
    gone = threading.Event()

    class Leaving(SchedulerPlugin):  # type: ignore[misc]
        def remove_worker(self, scheduler: Scheduler, **_: Any) -> None:
            if not scheduler.workers:
                gone.set()

    with LocalCluster(**LOCAL) as running:
        running.scheduler.add_plugin(Leaving())

        def leave(progress: Progress) -> None:
            if progress.rows_done and not told:
                told.append("nobody is left")
                running.scale(0)
                assert gone.wait(60)

        def hear(level: int, message: str) -> None:
            if level == logging.WARNING:
                told.append(message)
                running.scale(2)

        address = running.scheduler_address
        plan = make_plan(parse_config({**values, "cluster": {"address": address}}))
        there = score(plan, fresh=True, on_progress=leave, on_log=hear)
    assert told[1:] == [f"{address}: no worker is left; the run waits until one comes"]
    assert there.ledger == here.ledger


SCHEDULER = "from distributed.cli.dask_scheduler import main; main()"


def test_scheduler_killed_in_mid_run(values: dict[str, Any], tmp_path: Path) -> None:
    """Cancelled futures come without an exception; a run that loses them must fail and publish nothing."""
    address_file = tmp_path / "scheduler.json"
    options = [
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--dashboard-address",
        "127.0.0.1:0",
        "--scheduler-file",
        str(address_file),
    ]
    scheduler = subprocess.Popen([sys.executable, "-c", SCHEDULER, *options], stderr=subprocess.DEVNULL)
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(address_file), "--no-nanny"]
    worker += ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", "--death-timeout", "20", "--nthreads", "1"]
    child = subprocess.Popen(worker, stderr=subprocess.DEVNULL)
    try:
        with Client(scheduler_file=str(address_file), set_as_default=False, timeout=30) as client:
            client.wait_for_workers(1, timeout=30)
            address = client.scheduler.address

        def kill(progress: Progress) -> None:
            if progress.rows_done:
                scheduler.kill()

        plan = make_plan(parse_config({**values, "cluster": {"address": address}}))
        with pytest.raises(RunError, match="scheduler"):
            score(plan, on_progress=kill)
    finally:
        scheduler.kill()
        child.kill()
        scheduler.wait()
        child.wait()


def test_progress_reaches_the_end(values: dict[str, Any]) -> None:
    seen: list[Progress] = []
    score(make_plan(parse_config(values)), on_progress=seen.append)
    assert (seen[0].rows_done, seen[0].rows) == (0, 3000)
    assert (seen[-1].shards_done, seen[-1].shards, seen[-1].rows_done) == (30, 30, 3000)
    assert [one.rows_done for one in seen] == sorted(one.rows_done for one in seen)


def test_every_piece_is_logged(values: dict[str, Any]) -> None:
    lines: list[tuple[int, str]] = []
    score(make_plan(parse_config(values)), on_log=lambda level, text: lines.append((level, text)))
    assert len(lines) == 30
    assert {level for level, _ in lines} == {logging.INFO}
    assert any("part-00029.parquet rows 0 to 100" in text for _, text in lines)


LISTENING = """
import socket, psutil, sys, lossops
from lossops.config import load_config
from lossops.engine import score
from lossops.outline import describe
from lossops.plan import make_plan
def look(progress):
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        for connection in process.net_connections():
            if connection.status == psutil.CONN_LISTEN:
                print(connection.laddr.ip)
if __name__ == "__main__":
    score(make_plan(load_config(sys.argv[1])), on_progress=look)
"""


@pytest.mark.parametrize(("cluster", "where"), [(None, set()), ({"workers": 1}, {"127.0.0.1"})], ids=str)
def test_a_local_cluster_listens_on_this_machine_only(
    cluster: dict[str, int] | None, where: set[str], values: dict[str, Any], tmp_path: Path
) -> None:
    config, script = tmp_path / "config.yaml", tmp_path / "listening.py"
    config.write_text(json.dumps({**values, "cluster": cluster}))
    script.write_text(LISTENING)
    found = subprocess.run([sys.executable, script, config], capture_output=True, text=True, check=True)
    assert set(found.stdout.split()) == where


def test_plan_describes_itself(values: dict[str, Any]) -> None:
    values["gates"] = [
        {"name": "release", "loss": "mean_squared_error", "max": 1.5},
        {"share": "invalid", "max": 0},
    ]
    lines = describe(make_plan(parse_config(values)))
    shown = dict(lines)
    gates = [text for heading, text in lines if heading == "gate"]
    assert gates == ["release: mean_squared_error max 1.5 in overall", "share invalid max 0"]
    assert shown["alignment"].startswith(
        "position: by shard and row, id compared row by row; if one differs, rows are joined"
    )
    assert "3,000 rows in 30 shards" in shown["labels"]


def test_join_says_how_much_memory_it_takes(values: dict[str, Any], tmp_path: Path) -> None:
    labels = pa.table({"id": np.arange(3000)[::-1], "y": np.zeros(3000)})
    values["labels"]["path"] = write_shards(tmp_path / "reversed", [labels])
    shown = dict(describe(make_plan(parse_config(values))))
    assert shown["alignment"] == "broadcast: by id, with all labels in memory"
    assert "holds about 120.1 KiB of labels" in shown["cost"]


def test_two_models_in_two_datasets(values: dict[str, Any], tmp_path: Path) -> None:
    """Each model is aligned on its own; a model without some rows keeps its own counts."""
    other = pa.table({"id": np.arange(1000, 3500), "p": np.zeros(2500)})
    values["models"]["other"] = {"path": write_shards(tmp_path / "other", cut(other, 3)), "prediction": "p"}
    told = [heading for heading, _ in describe(make_plan(parse_config(values)))]
    assert [name for name in told if "," in name] == [f"{model}, mean_squared_error" for model in ("m", "other")]
    report = lossops.evaluate(values)
    assert score_table(report.losses, {"model": "m", "slice": "overall"})["rows"] == 3000
    assert score_table(report.losses, {"model": "other", "slice": "overall"})["rows"] == 2000
    ledger = {(row["dataset"], row["model"], row["reason"]): row["rows"] for row in report.ledger.to_pylist()}
    assert ledger["predictions", "other", "no_label"] == 500
    assert ledger["labels", "other", "no_prediction"] == 1000
    assert [one["mode"] for one in report.run["alignment"]] == ["position", "broadcast"]


def test_no_rows_at_all(values: dict[str, Any], tmp_path: Path) -> None:
    empty = {"id": pa.array([], pa.int64()), "p": pa.array([], pa.float64())}
    values["models"]["m"]["path"] = write_shards(tmp_path / "none", [pa.table(empty)])
    report = lossops.evaluate(values)
    assert score_table(report.losses, {"slice": "overall"})["mean"] is None
    ledger = {(row["dataset"], row["reason"]): row["rows"] for row in report.ledger.to_pylist()}
    assert ledger == {("predictions", "scored"): 0, ("labels", "scored"): 0, ("labels", "no_prediction"): 3000}


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    """The address of a cluster whose only worker is a process that this test has started itself, elsewhere."""
    yield from started(tmp_path, "")


def started(folder: Path, prelude: str) -> Iterator[str]:
    """Start a scheduler and a worker whose process first runs some code."""
    script = folder / "worker.py"
    script.write_text(f"""
import asyncio, sys
from distributed import Scheduler, Worker
{prelude}

async def main():
    async with Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler:
        async with Worker(scheduler.address, nthreads=3, memory_limit="600MiB", dashboard=False) as worker:
            print(scheduler.address, flush=True)
            await worker.finished()

asyncio.run(main())
""")
    words = [sys.executable, str(script)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def test_a_cluster_is_described(values: dict[str, Any], elsewhere: str) -> None:
    found: list[Cluster] = []
    plan = make_plan(parse_config({**values, "cluster": {"address": elsewhere}}))
    scores = score(plan, on_cluster=found.append)
    assert found == [Cluster(elsewhere, 1, 3, found[0].dashboard)]
    assert str(found[0]) == f"{elsewhere}: 1 worker, 3 threads; dashboard: {found[0].dashboard}"
    assert str(found[0].dashboard).startswith("http://127.0.0.1:")
    assert scores.plan.budget == Budget(300 << 20, 3), "half of what the worker is given, not half of this machine"


def test_a_smaller_limit_of_the_config_holds(values: dict[str, Any], elsewhere: str) -> None:
    plan = make_plan(parse_config({**values, "memory": "200MiB", "cluster": {"address": elsewhere}}))
    assert score(plan).plan.budget == Budget(200 << 20, 3)


def test_workers_that_run_something_else_are_named(values: dict[str, Any], tmp_path: Path) -> None:
    prelude = 'import lossops.versions as own\nfound = {**own.versions(), "kernels": "0", "numpy": "1.0"}\n'
    for address in started(tmp_path, prelude + "own.versions = lambda: found"):
        with pytest.raises(RunError, match=r"1 of 1 worker.*something else.*tcp://127"):
            lossops.evaluate({**values, "cluster": {"address": address}})
    assert not (tmp_path / "reports").exists()


def test_workers_that_cannot_read_the_data_are_named(values: dict[str, Any], tmp_path: Path) -> None:
    prelude = f"""
import os
stat = os.stat
def blind(path, *more, **options):
    if str(path).startswith({values["labels"]["path"]!r}):
        raise FileNotFoundError(2, "No such file or directory", path)
    return stat(path, *more, **options)
os.stat = blind
"""
    for address in started(tmp_path, prelude):
        with pytest.raises(InputError, match=r"1 of 1 worker cannot read the data: tcp://127.*labels/part-00000"):
            lossops.evaluate({**values, "cluster": {"address": address}})
    assert not (tmp_path / "reports").exists()


def test_a_late_worker_that_runs_something_else_refuses(cluster: LocalCluster) -> None:
    """It was not there when the cluster was looked at, so the call itself says what it was made with."""
    with Client(cluster, set_as_default=False) as client:
        future = client.submit(_checked, {**versions(), "kernels": "0"}, len, [1])
        with pytest.raises(RunError, match=r"worker tcp://127\S+ does not run what the run began with: kernels"):
            result_of(future)


def test_a_cluster_without_workers_is_given_up(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lossops.engine.cluster._WORKER_SECONDS", 1)
    empty = {**LOCAL, "n_workers": 0}
    with LocalCluster(**empty) as running, pytest.raises(RunError, match="no worker took a call within 1 s"):
        lossops.evaluate({**values, "cluster": {"address": running.scheduler_address}})


def test_tls_without_certificates_says_what_is_missing(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"needs certificates.*DASK_DISTRIBUTED__COMM__TLS__CA_FILE"):
        lossops.evaluate({**values, "cluster": {"address": "tls://127.0.0.1:9"}})
