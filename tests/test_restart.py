"""Runs that are killed, stopped, repeated, or find new shards: the same bytes, and nothing scored twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import lossops
from lossops.report import open_report
from tests.datasets import cut, write_shards
from tests.here import score_here

TABLES = ("losses", "ledger")


def dataset(folder: Path, rows: int, shards: int, *, shuffled: bool) -> dict[str, Any]:
    """Write predictions and labels; shuffled ones have to be joined."""
    random = np.random.default_rng(11)
    ids = np.arange(rows)
    predictions = pa.table({"id": ids, "p": random.normal(size=rows), "g": random.integers(0, 5, rows)})
    labels = pa.table({"id": ids, "y": random.normal(size=rows)})
    if shuffled:
        labels = labels.take(pa.array(random.permutation(rows)))
    write_shards(folder / "predictions", cut(predictions, shards), row_group_size=1 << 20)
    write_shards(folder / "labels", cut(labels, shards), row_group_size=1 << 20)
    return {
        "name": "restart",
        "labels": {"path": str(folder / "labels"), "label": "y"},
        "models": {"m": {"path": str(folder / "predictions"), "prediction": "p"}},
        "key": "id",
        "losses": ["mean_squared_error", {"loss": "huber", "delta": 0.5}],
        "slices": ["g"],
        "output": str(folder / "reports"),
        "cluster": {"threads": 2},
    }


def tables(path: str | Path) -> list[bytes]:
    return [(Path(path) / f"{name}.parquet").read_bytes() for name in TABLES]


def test_second_run_scores_nothing_again(tmp_path: Path) -> None:
    values = dataset(tmp_path, 4000, 8, shuffled=False)
    first = score_here(values)
    second = score_here(values)
    assert (first.reused, second.reused) == (0, 8)
    assert score_here(values, fresh=True).reused == 0
    assert first.ledger == second.ledger


@pytest.mark.parametrize("shuffled", [False, True])
def test_same_report_from_stored_states(tmp_path: Path, shuffled: bool) -> None:
    values = dataset(tmp_path, 4000, 8, shuffled=shuffled)
    assert tables(lossops.evaluate(values).path) == tables(lossops.evaluate(values).path)


def test_only_new_shards_are_scored(tmp_path: Path) -> None:
    values = dataset(tmp_path, 4000, 8, shuffled=False)
    score_here(values)
    more = pa.table({"id": np.arange(4000, 4100), "p": np.ones(100), "g": np.zeros(100, dtype=np.int64)})
    pq.write_table(more, tmp_path / "predictions" / "part-00008.parquet")
    pq.write_table(more.select(["id", "p"]).rename_columns(["id", "y"]), tmp_path / "labels" / "part-00008.parquet")
    again = score_here(values)
    assert (again.reused, again.plan.partitions) == (8, 9)
    assert sum(one.rows for one in again.ledger if one.dataset == "labels") == 2 * 4100


def test_a_change_of_what_matters_scores_again(tmp_path: Path) -> None:
    values = dataset(tmp_path, 4000, 8, shuffled=False)
    score_here(values)
    assert (
        score_here(
            {
                **values,
                "output": str(tmp_path / "elsewhere"),
                "work": str(tmp_path / ".lossops" / "reports" / "restart"),
            }
        ).reused
        == 8
    )
    for change in ({"slices": []}, {"convention": "exact"}, {"losses": ["mean_squared_error"]}):
        assert score_here({**values, **change}).reused == 0
    shard = tmp_path / "predictions" / "part-00003.parquet"
    pq.write_table(pq.read_table(shard), shard)
    assert score_here(values).reused == 7
    times = shard.stat()
    shard.write_bytes(shard.read_bytes())
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))  # as copies do that keep times
    assert score_here(values).reused == 7


def test_damaged_state_is_scored_again(tmp_path: Path) -> None:
    values = dataset(tmp_path, 4000, 8, shuffled=False)
    first = score_here(values)
    states = sorted(states_in(Path(values["output"])))
    assert len(states) == 8
    content = bytearray(states[0].read_bytes())
    content[len(content) // 2] ^= 1
    states[0].write_bytes(content)
    states[1].write_bytes(states[1].read_bytes()[:-20])
    again = score_here(values)
    assert again.reused == 6
    assert first.ledger == again.ledger


def start(config: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from flows.cli import main; main()", "run", str(config), "--direct"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def states_in(folder: Path) -> set[Path]:
    return set((folder.parent / ".lossops" / "reports" / "restart" / "states").rglob("*.state"))


def wait_for_states(process: subprocess.Popen[bytes], folder: Path, count: int) -> None:
    """Return once so many states are stored, or the process ended."""
    while process.poll() is None and len(states_in(folder)) < count:
        os.sched_yield()


@pytest.mark.slow
@pytest.mark.parametrize("shuffled", [False, True])
def test_killed_at_random_moments(tmp_path: Path, shuffled: bool) -> None:
    """SIGKILL at 20 moments, then a run that ends: the report of an undisturbed run, finished partitions reused."""
    values = dataset(tmp_path, 1_200_000, 60, shuffled=shuffled)
    values["memory"] = "128MiB"
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(values))
    undisturbed = lossops.evaluate({**values, "name": "undisturbed"})
    assert undisturbed.run["alignment"][0]["mode"] == ("spill" if shuffled else "position")
    expected = tables(undisturbed.path)
    output = Path(values["output"])
    random = np.random.default_rng(12)
    for _ in range(20):
        shutil.rmtree(output / "restart", ignore_errors=True)
        shutil.rmtree(tmp_path / ".lossops" / "reports" / "restart", ignore_errors=True)
        process = start(config)
        wait_for_states(process, output, int(random.integers(0, 60)))
        process.kill()
        process.communicate()
        done = len(states_in(output))
        found = subprocess.run(
            [sys.executable, "-c", "from flows.cli import main; main()", "run", str(config), "--direct", "--json"],
            capture_output=True,
            check=True,
        )
        told = json.loads(found.stdout)
        assert tables(told["report"]) == expected
        assert told["partitions"]["reused"] >= 0.95 * done
        assert not list(tmp_path.glob(".lossops/reports/restart/spill-*"))


def test_a_run_that_comes_back_from_the_dead(tmp_path: Path) -> None:
    """A stopped run and one that overtakes it write one whole report each."""
    values = dataset(tmp_path, 200_000, 40, shuffled=True)
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(values))
    output = Path(values["output"])
    sleeper = start(config)
    wait_for_states(sleeper, output, 3)
    sleeper.send_signal(signal.SIGSTOP)
    try:
        second = lossops.evaluate(values)
    finally:
        sleeper.send_signal(signal.SIGCONT)
    _, complaint = sleeper.communicate(timeout=120)
    assert sleeper.returncode == 0, complaint
    reports = sorted(path.parent for path in output.glob("restart/*/run.json"))
    assert len(reports) == 2
    assert all(tables(path) == tables(second.path) for path in reports)
    assert all(open_report(str(path)).run["outcome"] == "completed" for path in reports)
