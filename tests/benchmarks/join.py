"""A join of two datasets in random order, under a memory limit, beside Polars and DuckDB.

    python -m tests.benchmarks.join FOLDER [--rows 50000000] [--memory 1GiB] [--rounds 1]

Data is written to FOLDER once. Every contender runs in a fresh process; the table gives seconds, peak resident memory
and the mean squared error that it found. DuckDB gets the same memory limit, Polars has none.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SHARDS = 50
LOSSOPS = """
import lossops
report = lossops.evaluate({
    "name": "join", "key": "id", "losses": ["mean_squared_error"], "memory": memory, "output": f"{folder}/reports",
    "labels": {"path": f"{folder}/labels", "label": "y"},
    "models": {"m": {"path": f"{folder}/predictions", "prediction": "p"}},
}, fresh=True)
found = report.losses["mean"][0].as_py()
"""
POLARS = """
import polars as pl
predictions, labels = (pl.scan_parquet(f"{folder}/{side}/*.parquet") for side in ("predictions", "labels"))
joined = predictions.join(labels, on="id", how="inner").select(((pl.col("p") - pl.col("y")) ** 2).mean())
found = joined.collect(engine="streaming").item()
"""
DUCKDB = """
import duckdb
base = duckdb.connect(config={"memory_limit": memory, "temp_directory": f"{folder}/duckdb"})
base.sql("set enable_progress_bar = false")  # it goes to standard output
query = f"select avg(power(p - y, 2)) from '{folder}/predictions/*.parquet' join '{folder}/labels/*.parquet' using (id)"
found = base.sql(query).fetchall()[0][0]
"""
TELL = """
import re
with open("/proc/self/status") as status:  # what wait4 says may include the process that started this one
    peak = int(re.search("VmHWM:[^0-9]*([0-9]+)", status.read())[1])
print(found, peak / 1024)
"""
CONTENDERS = {"lossops": LOSSOPS, "Polars": POLARS, "DuckDB": DUCKDB}


def write(folder: Path, rows: int) -> None:
    """Write predictions and labels, each in an order of its own."""
    for seed, (side, value) in enumerate((("predictions", "p"), ("labels", "y"))):
        if (folder / side).exists():
            continue
        random = np.random.default_rng(seed)
        ids = random.permutation(rows)
        (folder / f"{side}.partial").mkdir(parents=True)
        for number, part in enumerate(np.array_split(ids, SHARDS)):
            table = pa.table({"id": part, value: random.normal(size=len(part))})
            pq.write_table(table, folder / f"{side}.partial" / f"part-{number:05d}.parquet", compression="zstd")
        (folder / f"{side}.partial").rename(folder / side)


def timed(code: str, folder: Path, memory: str) -> tuple[float, float, float]:
    """Run a contender in a process of its own; returns seconds, peak MiB and what it found."""
    head = f"folder, memory = {str(folder)!r}, {memory!r}\n"
    begun = time.perf_counter()
    words = [sys.executable, "-c", f"{head}{code}{TELL}"]
    told = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
    found, peak = map(float, told.split())
    return time.perf_counter() - begun, peak, found


def main() -> None:
    """Write the data, run every contender and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--memory", default="1GiB")
    parser.add_argument("--rounds", type=int, default=1)
    chosen = parser.parse_args()
    write(chosen.folder, chosen.rows)
    out = sys.stdout.write
    out(f"{chosen.rows:,} rows a side in {SHARDS} shards each, random order, memory limit {chosen.memory}\n")
    for _ in range(chosen.rounds):
        for name, code in CONTENDERS.items():
            seconds, peak, found = timed(code, chosen.folder, chosen.memory)
            out(f"{name:8} {seconds:8.1f} s {peak:9.0f} MiB   {found!r}\n")
    left = [str(path) for path in chosen.folder.glob(".lossops/reports/join/spill-*")]
    out(f"left on disk: {json.dumps(left)}\n")


if __name__ == "__main__":
    main()
