"""Every operation of the storage fails once: an error that says which, or the right report; never a part of one."""

from __future__ import annotations

import errno
import json
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lossops.errors import LossopsError
from lossops.evaluation import publish_scores, utc_now
from lossops.report import Report, open_report
from tests.datasets import cut, write_shards
from tests.faulty import FAULTS, register
from tests.here import score_here

OPERATIONS = ("list", "open", "read", "write", "move", "make")


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    """A config over two shards a side, with the labels in another order."""
    register()
    random = np.random.default_rng(4)
    table = pa.table({"id": np.arange(200), "v": random.normal(size=200)})
    write_shards(tmp_path / "predictions", cut(table, 2))
    write_shards(tmp_path / "labels", cut(table.take(pa.array(random.permutation(200))), 2))
    return {
        "name": "faults",
        "labels": {"path": f"faulty://{tmp_path}/labels", "label": "v"},
        "models": {"m": {"path": f"faulty://{tmp_path}/predictions", "prediction": "v"}},
        "key": "id",
        "losses": ["mean_squared_error"],
    }


def run(values: dict[str, Any], output: Path, mode: Any) -> Report:
    return publish_scores(score_here({**values, "output": f"faulty://{output}"}, mode), utc_now())


def attempt(values: dict[str, Any], output: Path, mode: Any) -> tuple[Report | None, str]:
    """Return the report, or what the run said instead."""
    try:
        return run(values, output, mode), ""
    except LossopsError as error:
        return None, str(error)


def same(report: Report, expected: Report) -> bool:
    return report.losses.equals(expected.losses) and report.ledger.equals(expected.ledger)


@pytest.mark.parametrize("mode", [None, "spill"])
def test_every_operation_fails_once(values: dict[str, Any], tmp_path: Path, mode: Any) -> None:
    FAULTS.reset(0)
    expected = run(values, tmp_path / "undisturbed", mode)
    failures = 0
    for number in range(1, 2000):
        output = tmp_path / f"fault-{number}"
        FAULTS.reset(number)
        report, message = attempt(values, output, mode)
        if report is not None:
            assert same(report, expected), FAULTS.failed
            if FAULTS.failed is None:
                break
        else:
            failures += 1
            told = message.replace(str(tmp_path), "")  # the folder of a test may have such a word in its name
            assert told != message, message
            assert any(word in told for word in OPERATIONS), (FAULTS.failed, message)
        FAULTS.reset(0)
        for manifest in output.glob("*/*/run.json"):
            assert same(open_report(str(manifest.parent)), expected), number
    assert FAULTS.failed is None
    assert failures > 10


@pytest.mark.parametrize("mode", [None, "spill"])
def test_a_full_disk_at_every_write(values: dict[str, Any], tmp_path: Path, mode: Any) -> None:
    """From the n-th write on nothing can be written any more."""
    FAULTS.reset(0)
    expected = run(values, tmp_path / "undisturbed", mode)
    for number in range(1, 500):
        output = tmp_path / f"full-{number}"
        FAULTS.reset(number, code=errno.ENOSPC, only=("write",), lasting=True)
        report, message = attempt(values, output, mode)
        if report is not None:
            assert same(report, expected)
            if FAULTS.failed is None:
                break
        else:
            assert "write" in message
            assert "No space left on device" in message
            assert not list(output.glob("*/*/run.json"))
    assert FAULTS.failed is None


EVALUATE = """
import json, sys, lossops
lossops.evaluate(json.loads(sys.argv[1]))
"""


@pytest.mark.parametrize("limit", [100, 2000, 5000, 8000])
def test_a_local_disk_that_takes_no_more(values: dict[str, Any], tmp_path: Path, limit: int) -> None:
    """A limit on the size of files stands for a full disk."""

    def confine() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    values = json.loads(json.dumps(values).replace("faulty://", ""))
    words = [sys.executable, "-c", EVALUATE, json.dumps({**values, "output": str(tmp_path / "reports")})]
    found = subprocess.run(words, capture_output=True, text=True, check=False, preexec_fn=confine)
    assert found.returncode != 0
    assert "could not write the report" in found.stderr
    assert not list(tmp_path.glob("reports/*/*/run.json"))
    assert not list(tmp_path.glob("reports/*/*"))
