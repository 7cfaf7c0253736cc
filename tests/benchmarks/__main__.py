"""lossops beside those whom people would ask otherwise, on the same files.

    python -m tests.benchmarks FOLDER [--quick] [--cases NAME ...] [--rounds 3] [--json FILE] [--against FILE]

Data is written to FOLDER once. Every contender answers in a process of its own; rounds go through all contenders in
turn, and the files are read through before each, so that all find them in the page cache. ``seconds`` is the time of
the answer alone, after imports and, for lossops, after one run on a thousand rows; ``process`` is that of the whole
process. Numbers of all contenders must agree to 1e-9, or 1e-4 for torch's float32.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.benchmarks.cases import CASES, CONTENDERS, Case, write

_CHILD = """
import json, re, sys, time
given = json.loads(sys.argv[1])
folder, warm, case, threads = given["folder"], given["warm"], given["case"], given["threads"]
exec(given["code"])
if __name__ == "__main__":
    prepare()
    begun = time.perf_counter()
    found = answer()
    seconds = time.perf_counter() - begun
    with open("/proc/self/status") as status:
        peak = int(re.search("VmHWM:[^0-9]*([0-9]+)", status.read())[1]) / 1024
    with open(given["told"], "w") as file:
        json.dump({"seconds": seconds, "peak": peak, "found": found}, file)
"""
_PACKAGES = ("lossops", "pyarrow", "numba", "polars", "duckdb", "dask", "pandas", "scikit-learn", "torch")


@dataclass
class Measured:
    """What a contender took: seconds of each answer and process, and the largest resident memory in MiB."""

    seconds: list[float] = field(default_factory=list)
    process: list[float] = field(default_factory=list)
    peak: float = 0.0


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, one round")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=None)
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=None)
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--against", type=Path, help="results of an earlier run to compare with")
    chosen = parser.parse_args()
    rounds = chosen.rounds or (1 if chosen.quick else 3)
    earlier = json.loads(chosen.against.read_text())["cases"] if chosen.against else {}
    results: dict[str, dict[str, Any]] = {}
    out(f"{machine()}\n")
    for name in chosen.cases or [one for one, case in CASES.items() if case.rows[chosen.quick]]:
        case = CASES[name]
        contenders = [one for one in case.contenders if chosen.contenders is None or one in chosen.contenders]
        measured = measure(
            chosen.folder, case, [one for one in contenders if installed(one)], rounds, quick=chosen.quick
        )
        results[name] = {one: asdict(found) for one, found in measured.items()}
        table(name, case.rows[chosen.quick], measured, earlier.get(name, {}))
    if chosen.json:
        chosen.json.write_text(json.dumps({"machine": machine(), "cases": results}, indent=2) + "\n")


def out(text: str) -> None:
    """Print at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def machine() -> str:
    """The machine and the versions in a line."""
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    with open("/proc/cpuinfo") as file:
        model = next(
            (line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown processor"
        )
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, Python {platform.python_version()}, {', '.join(found)}"


def installed(contender: str) -> bool:
    """Whether a contender can be asked here."""
    module = contender.split(maxsplit=1)[0]
    return module == "imports" or find_spec({"scikit-learn": "sklearn"}.get(module, module)) is not None


def measure(folder: Path, case: Case, contenders: list[str], rounds: int, *, quick: bool) -> dict[str, Measured]:
    """Ask every contender in turn, as often as there are rounds.

    Raises:
        SystemExit: two contenders disagree.
    """
    home = write(folder, case.data, case.rows[quick])
    warm = write(folder, "wide" if case.data == "wide" else "tiny", 1_000)
    found = {name: Measured() for name in contenders}
    answers: dict[str, Mapping[str, Any]] = {}
    for _ in range(rounds):
        for name in contenders:
            given = {
                "folder": str(home),
                "warm": None if case.data == "tiny" else str(warm),
                "case": asdict(case) | {"slices": [list(one) for one in case.slices]},
                "threads": len(os.sched_getaffinity(0)),
                "code": CONTENDERS[name](),
                "told": str(folder / "told.json"),
            }
            keep_cached(home)
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-c", _CHILD, json.dumps(given)], check=True, stdout=subprocess.DEVNULL)
            found[name].process.append(time.perf_counter() - begun)
            told = json.loads((folder / "told.json").read_text())
            found[name].seconds.append(told["seconds"])
            found[name].peak = max(found[name].peak, told["peak"])
            answers[name] = told["found"]
    for name, answer in answers.items():
        compare(answers[contenders[0]], answer, name, 1e-4 if name == "torch" else 1e-9)
    return found


def keep_cached(home: Path) -> None:
    """Read all files, which a process with much memory may have driven out of the page cache."""
    for path in home.glob("*/*.parquet"):
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 23):
                pass


def compare(ours: Mapping[str, Any], theirs: Mapping[str, Any], name: str, tolerance: float) -> None:
    """Check that all that a contender tells is what the first tells.

    Raises:
        SystemExit: it is not.
    """
    for part, rows in theirs.items():
        if len(ours[part]) != len(rows):
            raise SystemExit(f"{name}: {len(rows)} numbers of {part or 'overall'}, where there are {len(ours[part])}")
        for one, other in zip(ours[part], rows, strict=True):
            for mine, their in zip(one, other, strict=True):
                if their is not None and not math.isclose(mine, their, rel_tol=tolerance, abs_tol=1e-12):
                    raise SystemExit(
                        f"{name}: {their!r} of {part or 'overall'}, where the first contender has {mine!r}"
                    )


def table(name: str, rows: int, measured: Mapping[str, Measured], earlier: Mapping[str, Any]) -> None:
    """Print what was measured, and how it was."""
    out(f"\n{name}: {rows:,} rows\n")
    heads = {"seconds": 8, "min": 7, "max": 7, "process": 8, "M rows/s/core": 14, "MiB": 7, "ratio": 6}
    out(f"{'':20} {' '.join(f'{head:>{width}}' for head, width in heads.items())}  before\n")
    cores = len(os.sched_getaffinity(0))
    base = statistics.median(next(iter(measured.values())).seconds)
    for contender, found in measured.items():
        middle = statistics.median(found.seconds)
        before = earlier.get(contender)
        was = f"{statistics.median(before['seconds']):7.2f}" if before else ""
        out(
            f"{contender:20} {middle:8.2f} {min(found.seconds):7.2f} {max(found.seconds):7.2f} "
            f"{statistics.median(found.process):8.2f} {rows / middle / cores / 1e6:14.1f} {found.peak:7.0f} "
            f"{middle / base:6.2f} {was}\n"
        )


if __name__ == "__main__":
    main()
