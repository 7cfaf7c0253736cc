"""Every part of the topology fails in the middle of a run: the same bytes, and states that are right."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compose import ROOT
from tests.outages import FAULTS
from tests.processes import postgres_programs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(postgres_programs() is None, reason="PostgreSQL is not installed"),
    pytest.mark.skipif(os.getuid() != 0 or not shutil.which("ip"), reason="networks cannot be made here"),
]


def test_no_outage_changes_a_number(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "tests.outages", tmp_path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert len([line for line in found.stdout.splitlines() if "Completed" in line]) == len(FAULTS)
