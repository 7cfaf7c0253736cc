"""How often 95 % intervals hold the truth, by distribution and size: the table in the README.

python -m tests.benchmarks.coverage
"""

from __future__ import annotations

import sys

import numpy as np

from tests.test_coverage import DRAWS, TRIALS, coverage, interval

SIZES = (50, 100, 1000)


def main() -> None:
    """Print the table."""
    sys.stdout.write(f"| loss | {' | '.join(f'n = {n}' for n in SIZES)} |\n|---|{'---|' * len(SIZES)}\n")
    for name, (draw, truth) in DRAWS.items():
        shares = [coverage(lambda random, n=n, draw=draw: interval(draw(random, n)), truth) for n in SIZES]
        sys.stdout.write(f"| {name} | {' | '.join(f'{100 * share:.1f} %' for share in shares)} |\n")
    error = 100 * np.sqrt(0.95 * 0.05 / TRIALS)
    sys.stdout.write(f"{TRIALS} datasets each, simulation error {error:.1f} %\n")


if __name__ == "__main__":
    main()
