"""Peak memory does not grow with the data, which takes minutes to see and runs only when asked for; allocators."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROWS = 500_000
SCORE = """
import resource, sys, lossops
folder, shards = sys.argv[1], int(sys.argv[2])
names = [f"part-{number:05d}.parquet" for number in range(shards)]
report = lossops.evaluate({
    "name": "memory",
    "labels": {"path": [f"{folder}/labels/{name}" for name in names], "label": "y"},
    "models": {"m": {"path": [f"{folder}/predictions/{name}" for name in names], "prediction": "p"}},
    "key": "id",
    "losses": ["mean_squared_error", "huber"],
    "slices": ["group"],
    "output": f"{folder}/reports",
})
assert report.run["alignment"][0]["mode"] == "position"
assert report.losses["rows"][0].as_py() == shards * 500_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def peak(folder: Path, shards: int) -> float:
    """Return the peak memory of a process that scores this many shards, in MiB."""
    command = [sys.executable, "-c", SCORE, str(folder), str(shards)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_the_number_of_shards(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for side in ("labels", "predictions"):
        (tmp_path / side).mkdir()
    for number in range(40):
        order = np.arange(number * ROWS, (number + 1) * ROWS)
        groups = pa.array(random.integers(0, 20, ROWS).astype(str)).dictionary_encode()
        labels = pa.table({"id": order, "y": random.normal(size=ROWS), "group": groups})
        pq.write_table(labels, tmp_path / "labels" / f"part-{number:05d}.parquet")
        predictions = pa.table({"id": order, "p": random.normal(size=ROWS)})
        pq.write_table(predictions, tmp_path / "predictions" / f"part-{number:05d}.parquet")
    peak(tmp_path, 4)  # compiles the kernels, which takes memory of its own
    few, many = peak(tmp_path, 4), peak(tmp_path, 40)
    assert many < 1.25 * few, f"{few:.0f} MiB for 4 shards, {many:.0f} MiB for 40"


@pytest.mark.skipif(sys.platform != "linux" or os.uname().machine != "x86_64", reason="other builds have others")
@pytest.mark.parametrize(("chosen", "expected"), [(None, "jemalloc"), ("system", "system")])
def test_memory_of_arrow_comes_from_jemalloc_unless_another_is_chosen(chosen: str | None, expected: str) -> None:
    program = "import lossops.config, pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    given = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    given |= {} if chosen is None else {"ARROW_DEFAULT_MEMORY_POOL": chosen}
    done = subprocess.run([sys.executable, "-c", program], env=given, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == (expected, "")
