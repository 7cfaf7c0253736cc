"""Kernels by themselves: squared error beside a copy, elementary functions beside those of the C library.

    python -m tests.benchmarks.kernels [--rounds 7]

Numbers are the best of several rounds that alternate. The squared error reads two float64 and writes one for each row;
the copy, by NumPy, reads one and writes one. Functions run over numbers that the cache holds, in loops that Numba
compiles; ``math`` is what such a loop calls without `lossops.kernels.elementary`.
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
from lossops.memory import keep_freed_memory

ROWS, BATCH, CACHED = 20_000_000, 1 << 20, 1 << 14


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
    """Gigabytes a second of the squared error, batch by batch as it is used, and of a copy."""
    keep_freed_memory()
    random = np.random.default_rng(0)
    labels, predictions = random.random((2, ROWS, 1))
    reasons, copy = np.full(ROWS, 0, dtype=np.uint8), np.full((ROWS, 1), 0.0)  # written to: zeros have no memory yet
    loss = bind("mean_squared_error", {}, "keras")
    parts = [slice(start, start + BATCH) for start in range(0, ROWS, BATCH)]

    def score() -> None:
        for part in parts:
            loss.values(labels[part], predictions[part], reasons[part])

    seconds = best({"squared error": score, "copy": lambda: np.copyto(copy, labels)}, rounds, repeats=1)
    return {name: ROWS * (24 if name != "copy" else 16) / each / 1e9 for name, each in seconds.items()}


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
    for name, found in cost.items():
        out(f"{name:14} {found:6.2f} ns    math.log takes {cost['math.log'] / found:.2f} times as long\n")


if __name__ == "__main__":
    main()
