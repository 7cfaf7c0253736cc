"""Kernels by themselves: squared error beside a copy, elementary functions beside those of the C library.

    python -m tests.benchmarks.kernels [--rounds 7]

Numbers are the best of several rounds that alternate. The squared error reads two float64 of a row and writes one, the
copy, by NumPy, reads one and writes one; both go once through arrays that no cache holds. Batch by batch, as a run does
it, losses go to memory that is used again and are looked through for NaN. Functions run over numbers that the cache
holds, in loops that Numba compiles; ``math`` is what such a loop calls without `lossops.kernels.elementary`.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lossops.kernels import elementary
from lossops.kernels.jit import jit
from lossops.losses import bind
from lossops.losses.bound import compiled
from lossops.memory import keep_freed_memory

ROWS, BATCH, CACHED = 20_000_000, 1 << 18, 1 << 14


def best(contenders: Mapping[str, Callable[[], object]], rounds: int, repeats: int) -> dict[str, float]:
    """The shortest time of each, in seconds a call; rounds alternate."""
    found = dict.fromkeys(contenders, math.inf)
    for name, call in [*contenders.items()] * (rounds + 1):  # the first round compiles
        for _ in range(repeats):
            begun = time.perf_counter()
            call()
            found[name] = min(found[name], time.perf_counter() - begun)
    return found


def squared(rounds: int) -> dict[str, float]:
    """Gigabytes a second of the squared error and of a copy."""
    keep_freed_memory()
    labels, predictions = np.random.default_rng(0).random((2, ROWS, 1))
    reasons, out = np.full(ROWS, 0, dtype=np.uint8), np.full(ROWS, 0.0)  # written to: zeros have no memory yet
    loss = bind("mean_squared_error", {}, "keras")
    row = loss.form.row
    fill, parts = compiled(row, loss.loss.inputs), [slice(start, start + BATCH) for start in range(0, ROWS, BATCH)]

    def batches() -> None:
        for part in parts:
            loss.values(labels[part], predictions[part], reasons[part])

    contenders = {
        "squared error": lambda: fill(labels, predictions, loss.settings(row), reasons, out),
        "batch by batch": batches,
        "copy": lambda: np.copyto(out, labels[:, 0]),
    }
    seconds = best(contenders, rounds, repeats=1)
    return {name: ROWS * (16 if name == "copy" else 24) / each / 1e9 for name, each in seconds.items()}


def elementwise(rounds: int) -> dict[str, float]:
    """Nanoseconds a number of each function, in a compiled loop."""

    def calls(function: Callable[[float], float]) -> Callable[[], object]:
        def loop(values: Any, out: Any) -> None:
            for i in range(values.shape[0]):
                out[i] = function(values[i])

        compiled, values = jit(loop), np.random.default_rng(0).random(CACHED)
        out = np.empty_like(values)
        return lambda: compiled(values, out)

    contenders = {
        "log": calls(elementary.log),
        "log1p": calls(elementary.log1p),
        "exp": calls(elementary.exp),
        "math.log": calls(math.log),
        "math.log1p": calls(math.log1p),
        "math.exp": calls(math.exp),
    }
    return {name: 1e9 * each / CACHED for name, each in best(contenders, rounds, repeats=200).items()}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds, out = parser.parse_args().rounds, sys.stdout.write
    speed, cost = squared(rounds), elementwise(rounds)
    for name, found in speed.items():
        out(f"{name:14} {found:6.1f} GB/s  {found / speed['copy']:5.0%} of the copy\n")
    for name in ("log", "log1p", "exp"):
        times = (
            f"{one} {cost[one]:.2f} ns, {cost[one] / cost[name]:.2f} times as long"
            for one in (f"math.{name}", "math.log")
        )
        out(f"{name:14} {cost[name]:6.2f} ns; {'; '.join(dict.fromkeys(times))}\n")


if __name__ == "__main__":
    main()
