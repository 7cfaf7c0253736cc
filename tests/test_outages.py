"""Every part of the topology fails in the middle of a run: the same bytes, and states that are right."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.outages import Outages, trials
from tests.processes import postgres_programs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(postgres_programs() is None, reason="PostgreSQL is not installed"),
    pytest.mark.skipif(os.getuid() != 0 or not shutil.which("iptables"), reason="packets cannot be dropped here"),
]


def test_no_outage_changes_a_number(tmp_path: Path) -> None:
    with Outages(tmp_path).running() as out:
        for trial in trials(out):
            assert trial.same, trial
            wanted = ("Crashed", "Completed") if trial.dies else ("Completed",)
            assert trial.states == wanted, trial
        idle, _ = out.cancel()
        assert idle < 10
