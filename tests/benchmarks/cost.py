"""What intervals, comparison, quantiles and hardest rows cost, against means alone, on the same files.

    python -m tests.benchmarks.cost FOLDER [--rows 20000000] [--rounds 3]

Data is written to FOLDER once: 20 shards a side, two models, three losses, four slices. Every run is a fresh process,
rounds alternate; the table gives the median of the seconds that `lossops.evaluate` took, and the ratio to means.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SHARDS = 20
RUN = """
import json, sys, time, lossops
values = json.loads(sys.argv[1])
begun = time.perf_counter()
lossops.evaluate(values, fresh=True)
print(time.perf_counter() - begun)
"""
MEANS: dict[str, Any] = {"quantiles": [], "hardest": 0, "calibration": 0}
CONTENDERS: dict[str, dict[str, Any]] = {
    "means and intervals": MEANS,
    "with quantiles": {**MEANS, "quantiles": [0.5, 0.9, 0.99]},
    "with hardest rows": {**MEANS, "hardest": 10},
    "with a comparison": {**MEANS, "baseline": "old"},
    "with calibration": {**MEANS, "calibration": 10},
    "all but calibration": {"baseline": "old", "calibration": 0},
    "all": {"baseline": "old"},
}


def write(folder: Path, rows: int) -> None:
    """Write both sides in the same order."""
    if (folder / "labels").exists():
        return
    for side in ("predictions", "labels"):
        (folder / side).mkdir(parents=True)
    for number, ids in enumerate(np.array_split(np.arange(rows), SHARDS)):
        random, size = np.random.default_rng(number), len(ids)
        score, truth = random.normal(size=size), random.normal(size=size)
        predictions = {
            "id": ids,
            "prob": (1 / (1 + np.exp(-score))).astype(np.float32),
            "yhat": truth + random.normal(size=size),
            "yhat_old": truth + 1.1 * random.normal(size=size),
        }
        labels = {
            "id": ids,
            "label": (random.random(size) < 1 / (1 + np.exp(-score))).astype(np.int8),
            "y": truth,
            **{
                name: pa.DictionaryArray.from_arrays(
                    random.integers(0, values, size, dtype=np.int32), [f"{name}-{value}" for value in range(values)]
                )
                for name, values in (("country", 50), ("device", 4), ("segment", 1000))
            },
        }
        for side, columns in (("predictions", predictions), ("labels", labels)):
            path = folder / side / f"part-{number:05d}.parquet"
            pq.write_table(pa.table(columns), path, compression="zstd", row_group_size=262_144)


def config(folder: Path) -> dict[str, Any]:
    """Two models, three losses, four slices."""
    return {
        "name": "cost",
        "labels": {"path": str(folder / "labels"), "label": "y"},
        "models": {
            "new": {"path": str(folder / "predictions"), "prediction": "yhat"},
            "old": {"path": str(folder / "predictions"), "prediction": "yhat_old"},
        },
        "key": "id",
        "losses": [
            "mean_absolute_error",
            "mean_squared_error",
            {"loss": "binary_crossentropy", "prediction": "prob", "label": "label"},
        ],
        "slices": ["country", "device", "segment", ["country", "device"]],
        "output": str(folder / "reports"),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    write(arguments.folder, arguments.rows)
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(arguments.rounds):
        for name, settings in CONTENDERS.items():
            values = json.dumps({**config(arguments.folder), **settings})
            done = subprocess.run([sys.executable, "-c", RUN, values], capture_output=True, text=True, check=True)
            seconds[name].append(float(done.stdout))
    base = statistics.median(seconds["means and intervals"])
    for name, found in seconds.items():
        middle = statistics.median(found)
        sys.stdout.write(f"{name:22} {middle:6.1f} s  {middle / base:5.2f}\n")


if __name__ == "__main__":
    main()
