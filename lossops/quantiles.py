"""Bins to quantiles, and to a warning where the tail of losses is too heavy for an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lossops.histograms import middles

__all__ = ["is_heavy_tailed", "quantiles"]

Integers = npt.NDArray[np.int64]
_ROWS_BY_SKEWNESS = 25  # Cochran, Sampling Techniques, 3rd ed. 1977, section 2.15: n > 25 G1^2


def quantiles(codes: Integers, counts: Integers, levels: Sequence[float], low: float, high: float) -> list[float]:
    """Return quantiles of losses: numpy's default, linear between order statistics, each within 0.78 % of the true one.

    Args:
        codes, counts: int64 [bins], bins increasing, see `lossops.histograms`.
        levels: between 0 and 1.
        low, high: smallest and largest loss, which are exact.
    """
    ends, values = np.cumsum(counts), np.clip(middles(codes), low, high)
    rows = int(ends[-1])

    def ranked(rank: int) -> float:
        if rank <= 0 or rank >= rows - 1:
            return low if rank <= 0 else high
        return float(values[np.searchsorted(ends, rank, side="right")])

    found = []
    for level in levels:
        place = level * (rows - 1)
        rank = math.floor(place)
        below, above, share = ranked(rank), ranked(rank + 1), place - rank
        found.append(below if share == 0 or below == above else (1 - share) * below + share * above)
    return found


def is_heavy_tailed(codes: Integers, counts: Integers, size: float) -> bool:
    """Whether losses are so skewed that an interval of their mean covers less than it says.

    Args:
        codes, counts: int64 [bins] of finite losses.
        size: independent observations: rows, weighed down where weights vary, or units.
    """
    if len(codes) < 2:
        return False
    values = middles(codes)
    values = values / np.abs(values).max()
    shares = counts / counts.sum()
    centred = values - math.fsum((shares * values).tolist())
    variance, third = (math.fsum((shares * centred**power).tolist()) for power in (2, 3))
    return variance > 0 and size <= _ROWS_BY_SKEWNESS * third * third / variance**3
