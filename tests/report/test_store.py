"""A report is complete or absent, whatever kills the process that writes it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
from pyarrow import fs

import lossops
from lossops.data.storage import open_storage
from lossops.errors import InputError, RunError
from lossops.report import SCHEMAS, publish
from tests.datasets import write_shards

TABLES = {name: schema.empty_table() for name, schema in SCHEMAS.items()}

# Publishes a report and kills itself at the n-th event that touches the output: making, opening, listing, renaming.
CHILD = """
import os, signal, sys
output, fatal = sys.argv[1], int(sys.argv[2])
from lossops.report import SCHEMAS, publish
count = 0
def hook(event, arguments):
    global count
    if any(isinstance(argument, str) and argument.startswith(output) for argument in arguments):
        count += 1
        if count == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
tables = {name: schema.empty_table() for name, schema in SCHEMAS.items()}
publish(output, "killed", "run", tables, {"run_id": "run"}, lambda: "page")
print(count)
"""

RUN = """
import sys, lossops
print("ready", flush=True)
while True:
    lossops.evaluate(sys.argv[1])
"""


def looks_like_reports(output: Path) -> list[Path]:
    """Every folder that a reader, or a glob, would take for a report."""
    return [folder for folder in output.glob("*/*") if not folder.name.startswith(".")]


def publish_and_kill(output: Path, fatal: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHILD, str(output), str(fatal)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_killed_at_every_step(tmp_path: Path) -> None:
    undisturbed = publish_and_kill(tmp_path / "whole", -1)
    steps = int(undisturbed.stdout)
    assert steps >= 5
    for fatal in range(1, steps + 1):
        output = tmp_path / str(fatal)
        assert publish_and_kill(output, fatal).returncode == -signal.SIGKILL
        for report in looks_like_reports(output):
            assert lossops.open_report(str(report)).run["run_id"] == "run"


@pytest.mark.parametrize("tenths", range(10))
def test_killed_at_any_time(tenths: int, tmp_path: Path) -> None:
    """Runs follow each other without a pause; the kill falls somewhere into reading, scoring or publishing."""
    data = write_shards(tmp_path / "data", [pa.table({"y": [1.0] * 500, "p": [0.5] * 500})] * 3)
    config = tmp_path / "config.yaml"
    values = {
        "name": "loop",
        "labels": {"path": data, "label": "y"},
        "models": {"m": {"path": data, "prediction": "p"}},
        "losses": ["mean_absolute_error", "huber"],
        "output": str(tmp_path / "reports"),
    }
    config.write_text(json.dumps(values))
    with subprocess.Popen([sys.executable, "-c", RUN, str(config)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(timeout=1.5 + tenths * 0.113)
        child.send_signal(signal.SIGKILL)
    for report in looks_like_reports(tmp_path / "reports"):
        assert lossops.open_report(str(report)).losses.num_rows == 2


def test_a_folder_without_manifest_is_not_a_report(tmp_path: Path) -> None:
    report = publish(str(tmp_path), "name", "run", TABLES, {"run_id": "run"}, lambda: "page")
    (Path(report.path) / "run.json").unlink()
    with pytest.raises(InputError, match=r"not a report, it has no run\.json"):
        lossops.open_report(report.path)


def test_a_damaged_report_is_named(tmp_path: Path) -> None:
    report = publish(str(tmp_path), "name", "run", TABLES, {"run_id": "run"}, lambda: "page")
    (Path(report.path) / "losses.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="the report is damaged"):
        lossops.open_report(report.path)


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="output: could not write the report"):
        publish(str(tmp_path / "file"), "name", "run", TABLES, {}, lambda: "page")
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_is_never_taken_twice(tmp_path: Path) -> None:
    publish(str(tmp_path), "name", "run", TABLES, {"run_id": "first"}, lambda: "page")
    with pytest.raises(RunError):
        publish(str(tmp_path), "name", "run", TABLES, {"run_id": "second"}, lambda: "page")
    assert lossops.open_report(str(tmp_path / "name" / "run")).run["run_id"] == "first"


def test_output_url_has_the_manifest_last() -> None:
    report = publish("memory://reports", "name", "run", TABLES, {"run_id": "run"}, lambda: "page")
    assert report.path == "memory://reports/name/run"
    assert lossops.open_report(report.path).run == {"run_id": "run"}
    files = fsspec.filesystem("memory")
    created = {Path(name).name: files.created(name) for name in files.ls("/reports/name/run", detail=False)}
    assert max(created, key=lambda name: created[name]) == "run.json"


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_a_page_that_cannot_be_made_leaves_nothing(tmp_path: Path, where: str) -> None:
    """It is made while tables are written."""

    def page() -> str:
        raise ValueError("no page")

    output = str(tmp_path) if where == "folder" else "memory://no-page"
    with pytest.raises(ValueError, match="no page"):
        publish(output, "name", "run", TABLES, {"run_id": "run"}, page)
    storage, root = open_storage(output)
    left = storage.get_file_info(fs.FileSelector(f"{root.rstrip('/')}/name", recursive=True, allow_not_found=True))
    assert [entry.path for entry in left if entry.type == fs.FileType.File] == []
