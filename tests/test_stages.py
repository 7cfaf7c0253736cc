"""Where the time of a run goes."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa
import yaml
from click.testing import CliRunner

import lossops
from flows.cli import lossops as command
from lossops.stages import STAGES, Stopwatch
from tests.datasets import write_shards


def spin(seconds: float) -> None:
    """Take time."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def test_a_stage_within_another_stops_its_clock() -> None:
    """What the stages took adds up to what passed, and nothing counts twice."""
    watch = Stopwatch()
    begun = time.perf_counter()
    with watch.during("accumulate"):
        spin(0.02)
        for item in watch.each("losses", iter(range(3))):
            spin(0.01 * (item == 2))
    passed = time.perf_counter() - begun
    assert set(watch.seconds) == {"accumulate", "losses"}
    assert watch.seconds["accumulate"] >= 0.03
    assert 0.99 * passed - 0.001 <= sum(watch.seconds.values()) <= passed


def test_profile_of_a_run(tmp_path: Path) -> None:
    """The stages of a run are in run.json and, with --profile, on the terminal; their time is part of the run's."""
    rows = 2000
    table = pa.table({"id": range(rows), "y": [1.0] * rows, "p": [0.5] * rows, "g": ["a", "b"] * (rows // 2)})
    write_shards(tmp_path / "labels", [table.select(["id", "y", "g"])])
    write_shards(tmp_path / "predictions", [table.select(["id", "p"])])
    config = {
        "name": "profiled",
        "key": "id",
        "labels": {"path": str(tmp_path / "labels"), "label": "y"},
        "models": {"m": {"path": str(tmp_path / "predictions"), "prediction": "p"}},
        "losses": ["mean_absolute_error"],
        "slices": ["g"],
        "output": str(tmp_path / "reports"),
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    begun = time.perf_counter()
    told = CliRunner().invoke(command, ["run", str(tmp_path / "run.yaml"), "--direct", "--profile"])
    passed = time.perf_counter() - begun
    assert told.exit_code == 0, told.output
    folder = next((tmp_path / "reports" / "profiled").glob("2*"))
    stages = lossops.open_report(str(folder)).run["stages"]
    assert list(stages) == [stage for stage in STAGES if stage != "align"]
    assert all(f"{seconds:8.3f} s" in told.output for seconds in stages.values())
    assert sum(stages.values()) <= passed
