"""A plan of 100 000 pairs of shards: planning, submitting and merging in bounded memory."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import lossops.attempts
from lossops.config import parse_config
from lossops.data.dataset import Dataset, Shard
from lossops.engine import score
from lossops.pairing import Pairing
from lossops.partition import Outcome
from lossops.pieces import Piece
from lossops.plan import make_plan
from tests.datasets import write_shards

GIBIBYTE = 2**30
SHARDS = 100_000


def many(dataset: Dataset, shards: int) -> Dataset:
    """Return a dataset that claims this many shards like its first."""
    first = dataset.shards[0]

    def shard(number: int) -> Shard:
        path = f"{first.path}-{number:06d}"
        return replace(first, file=replace(first.file, path=path), fingerprint=f"{number:032x}")

    return replace(dataset, shards=tuple(shard(number) for number in range(shards)))


def simulate(folder: Path, shards: int) -> None:
    """Run the planner, the engine and the merging over simulated shards, and print what it took."""
    rows = 1 << 18  # of fewer several shards would be put together
    table = pa.table({"id": np.arange(rows), "g": np.arange(rows) % 10, "v": np.ones(rows)})
    for side in ("predictions", "labels"):
        write_shards(folder / side, [table])
    values = {
        "name": "scale",
        "labels": {"path": str(folder / "labels"), "label": "v"},
        "models": {"m": {"path": str(folder / "predictions"), "prediction": "v"}},
        "key": "id",
        "losses": ["mean_squared_error"],
        "slices": ["labels.g"],
        "output": str(folder / "reports"),
        "cluster": {"threads": 2},
    }
    begun = time.perf_counter()
    plan = make_plan(parse_config(values))
    pairing = plan.pairings[0]
    real = lossops.attempts.score_piece(pairing.without_shards(), pairing.pieces[0], None)

    def one_millisecond(_pairing: Pairing, _piece: Piece, _index: None) -> Outcome:
        until = time.perf_counter() + 0.001
        while time.perf_counter() < until:
            pass
        return replace(real, keys=())

    lossops.attempts.score_piece = one_millisecond
    pairing = replace(pairing, predictions=many(pairing.predictions, shards), labels=many(pairing.labels, shards))
    scores = score(replace(plan, pairings=(pairing,)), on_log=lambda _level, _text: None)
    seconds = time.perf_counter() - begun
    status = Path("/proc/self/status").read_text()
    peak = 1024 * int(re.findall(r"VmHWM:\s+([0-9]+)", status)[0])
    assert scores.state.tables[0].sums["m", "mean_squared_error"].counts[0, 0] == rows * shards
    told = f"{shards} pairs of shards: {seconds:.0f} s, {1000 * seconds / shards:.2f} s a thousand"
    sys.stdout.write(f"{told}, {peak / GIBIBYTE:.2f} GiB\n")
    assert peak < 2 * GIBIBYTE


@pytest.mark.slow
def test_hundred_thousand_pairs_of_shards(tmp_path: Path) -> None:
    code = f"from tests.test_scale import *; simulate(Path({str(tmp_path)!r}), {SHARDS})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    sys.stdout.write(found.stdout)
    assert found.returncode == 0, found.stderr


def test_a_thousand_pairs_of_shards(tmp_path: Path) -> None:
    code = f"from tests.test_scale import *; simulate(Path({str(tmp_path)!r}), 1000)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
