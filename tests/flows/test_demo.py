"""The demo: what a person who has just installed lossops runs first."""

from __future__ import annotations

import filecmp
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from flows.demo import BAD_SLICE, ROWS, write_example
from lossops.report import open_report
from lossops.report.selection import overall, worst_slices
from tests.flows.conftest import LOSSOPS_HEARING, Command, press_until_it_ends


def reports(folder: Path) -> list[Path]:
    return sorted((folder / "reports" / "demo").iterdir())


def left_over(folder: Path) -> list[str]:
    """What a demo left in its temporary folder, and the processes that still work there."""
    places = [link.resolve() for link in Path("/proc").glob("[0-9]*/cwd") if _readable(link)]
    inside = [str(place) for place in places if place.is_relative_to(folder)]
    return [*inside, *(str(path) for path in folder.glob("lossops-demo-*"))]


def _readable(link: Path) -> bool:
    try:
        link.readlink()
    except OSError:
        return False
    return True


def test_the_demo_finds_its_bad_slice(example: Path) -> None:
    report = open_report(str(reports(example)[0]))
    for row in overall(report):
        worst, more = worst_slices(report, row["model"], row["loss"], 1)
        assert worst[0]["slice"] == BAD_SLICE
        assert worst[0]["ci_low"] > row["ci_high"]
        assert more > 0


def test_the_demo_has_rows_of_every_kind(example: Path) -> None:
    ledger = open_report(str(reports(example)[0])).ledger.to_pylist()
    reasons = {(entry["dataset"], entry["reason"]) for entry in ledger if entry["loss"] == "click"}
    aligned = {"scored", "weight_negative", "label_null", "prediction_nan", "prediction_outside_domain"}
    assert {reason for dataset, reason in reasons if dataset == "predictions"} == aligned | {
        "no_label",
        "null_key",
        "duplicate_key",
    }
    assert {reason for dataset, reason in reasons if dataset == "labels"} == aligned | {
        "no_prediction",
        "duplicate_key",
    }
    read = sum(entry["rows"] for entry in ledger if entry["dataset"] == "predictions" and entry["loss"] == "click")
    assert read == ROWS - ROWS // 1000


def test_the_example_is_always_the_same(example: Path, tmp_path: Path) -> None:
    write_example(tmp_path)
    for side in ("labels", "predictions"):
        names = sorted(path.name for path in (example / side).iterdir())
        same, different, failed = filecmp.cmpfiles(example / side, tmp_path / side, names, shallow=False)
        assert (sorted(same), different, failed) == (names, [], [])


def test_the_demo_runs_twice_in_a_row_in_any_folder(lossops: Command, tmp_path: Path) -> None:
    for run in (1, 2):
        found = lossops("demo", "--direct")
        assert found.returncode == 0, found.stderr
        assert len(reports(tmp_path / "lossops-demo")) == run
    assert "fault in country=BR" in found.stdout
    following = next(line.split() for line in found.stdout.splitlines() if line.startswith("  lossops show"))
    assert lossops(*following[1:]).returncode == 0


def test_a_folder_with_a_strange_name_will_do(lossops: Command, tmp_path: Path) -> None:
    assert lossops("demo", "it's: a {demo}", "--direct").returncode == 0
    assert len(reports(tmp_path / "it's: a {demo}")) == 1


@pytest.mark.parametrize("name", ["mine.txt", "demo.yaml"])
def test_nothing_of_the_user_is_overwritten(lossops: Command, tmp_path: Path, name: str) -> None:
    own = tmp_path / "folder" / name
    own.parent.mkdir()
    own.write_text("mine")
    found = lossops("demo", "folder", "--direct")
    assert found.returncode == 2
    assert "not empty" in found.stderr
    assert [path.read_text() for path in own.parent.iterdir()] == ["mine"]


def test_a_file_is_no_folder(lossops: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert lossops("demo", "file", "--direct").returncode == 2


def test_the_demo_goes_through_a_temporary_server(lossops: Command, home: Path, tmp_path: Path) -> None:
    found = lossops("demo", TMPDIR=str(tmp_path))
    assert found.returncode == 0, found.stderr
    assert "temporary server, which is stopped again" in found.stdout
    assert "Error" not in found.stderr
    assert "Traceback" not in found.stderr
    assert "Scoring as a Prefect flow run." in found.stderr
    assert len(reports(tmp_path / "lossops-demo")) == 1
    assert left_over(tmp_path) == []
    assert not (home / ".prefect" / "prefect.db").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_temporary_server_ends_with_the_demo(
    environment: Mapping[str, str], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    own = {**environment, "TMPDIR": str(tmp_path)}
    words = [*LOSSOPS_HEARING, "demo", "folder"]
    with subprocess.Popen(words, cwd=tmp_path, env=own, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if line.startswith("Compiling"))
        assert left_over(tmp_path) != []
        press_until_it_ends(process, number)
        process.communicate(timeout=60)
    assert process.returncode == code
    assert left_over(tmp_path) == []


def test_the_demo_uses_a_server_that_is_configured(lossops: Command, server: str) -> None:
    found = lossops("demo", PREFECT_API_URL=server)
    assert found.returncode == 0, found.stderr
    assert "Recorded by Prefect as flow run 'demo" in found.stdout
