"""Quantiles from counts in bins against NumPy's on all values, merging, and the warning of heavy tails."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lossops.histograms import Histogram, edges, middles
from lossops.quantiles import is_heavy_tailed, quantiles, squared_skewness
from tests.datasets import score_table
from tests.test_intervals import evaluate

Floats = npt.NDArray[np.float64]
LEVELS = (0.0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0)
N = 5000

DISTRIBUTIONS: dict[str, Callable[[np.random.Generator], Floats]] = {
    "normal": lambda random: random.normal(size=N),
    "half normal": lambda random: np.abs(random.normal(size=N)),
    "shifted": lambda random: random.normal(1e6, 1.0, N),
    "uniform": lambda random: random.random(N),
    "lognormal": lambda random: random.lognormal(size=N),
    "lognormal(3)": lambda random: random.lognormal(0, 3, N),
    "pareto": lambda random: random.pareto(0.7, N),
    "cauchy": lambda random: random.standard_cauchy(N),
    "exponential": lambda random: random.exponential(size=N),
    "gamma(0.01)": lambda random: np.maximum(random.gamma(0.01, size=N), 1e-300),
    "zeros": lambda _: np.zeros(N),
    "constant": lambda _: np.full(N, 0.1),
    "negative constant": lambda _: np.full(N, -7.3),
    "mostly zeros": lambda random: np.where(random.random(N) < 0.9, 0.0, random.random(N)),
    "0-1": lambda random: (random.random(N) < 0.3).astype(float),
    "integers": lambda random: random.integers(-5, 6, N).astype(float),
    "powers of two": lambda random: 2.0 ** random.integers(-20, 20, N),
    "all of float64": lambda random: 10.0 ** random.uniform(-300, 300, N),
    "both signs of all": lambda random: random.choice([-1, 1], N) * 10.0 ** random.uniform(-300, 300, N),
    "infinities": lambda random: np.where(random.random(N) < 0.2, math.inf, random.random(N)),
    "one": lambda random: random.random(1),
    "two": lambda random: random.random(2),
}


def histogram(losses: Floats, groups: npt.NDArray[np.int64] | None = None, count: int = 1) -> Histogram:
    own = np.zeros(len(losses), dtype=np.int64) if groups is None else groups
    return Histogram.of_rows(losses, np.zeros(len(losses), dtype=np.uint8), own, count)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_quantiles_are_within_one_per_cent_of_numpys(name: str) -> None:
    losses = DISTRIBUTIONS[name](np.random.default_rng(1))
    found = quantiles(histogram(losses), LEVELS, np.array([[losses.min(), losses.max()]]))[0].tolist()
    with np.errstate(invalid="ignore"):
        expected = np.quantile(losses, LEVELS)
    for one, level, own in zip(found, LEVELS, expected.tolist(), strict=True):
        # Between values of both signs, or a value and infinity, NumPy's own interpolation has no relative accuracy.
        near = [np.quantile(losses, level, method=method) for method in ("lower", "higher")]
        slack = 0.01 * max(abs(float(value)) for value in near)
        assert math.isclose(one, own, rel_tol=0.01) or abs(one - own) <= slack or math.isnan(own), (level, one, own)


@given(st.lists(st.lists(st.floats(0, 1e6), max_size=9), min_size=1, max_size=5))
def test_groups_have_their_own_quantiles(parts: list[list[float]]) -> None:
    groups = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    counted = histogram(np.array([value for part in parts for value in part]), groups, len(parts))
    extremes = np.array([[min(part), max(part)] if part else [math.inf, -math.inf] for part in parts])
    together = quantiles(counted, LEVELS, extremes)
    for number, part in enumerate(parts):
        if part:
            alone = quantiles(histogram(np.array(part)), LEVELS, extremes[number : number + 1])[0]
            assert together[number].tolist() == alone.tolist()


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=50))
def test_every_loss_is_near_the_middle_of_its_bin(values: list[float]) -> None:
    losses = np.array(values)
    codes, counts = histogram(losses).group(0)
    assert counts.sum() == len(values)
    own = [histogram(np.array([value])).group(0)[0] for value in values]
    for value, code in zip(values, own, strict=True):
        assert code[0] in codes
        middle = float(middles(code)[0])
        tiny = abs(value) < 2.0**-1022
        assert math.isclose(middle, value, rel_tol=1 / 129 * (1 + 1e-12), abs_tol=2.0**-1028 if tiny else 0.0)
        for together in (1, 8, 64):
            _, low, high = edges(code, together)
            assert low[0] <= value <= high[0]


@given(
    st.lists(st.tuples(st.floats(allow_nan=False), st.integers(0, 4)), max_size=60),
    st.lists(st.integers(0, 60), max_size=3),
)
def test_merging_is_counting_at_once(rows: list[tuple[float, int]], cuts: list[int]) -> None:
    losses, groups = np.array([loss for loss, _ in rows]), np.array([group for _, group in rows], dtype=np.int64)
    bounds = sorted({0, len(rows), *(min(one, len(rows)) for one in cuts)})
    parts = [histogram(losses[a:b], groups[a:b], 5) for a, b in pairwise(bounds)]
    whole = histogram(losses, groups, 5)
    at_once = Histogram.gathered([(part, np.arange(5)) for part in [*parts, histogram(losses[:0], groups[:0], 5)]], 5)
    one_by_one = histogram(losses[:0], groups[:0], 5)
    for part in parts:
        one_by_one = Histogram.gathered([(one_by_one, np.arange(5)), (part, np.arange(5))], 5)
    for name in ("groups", "codes", "counts"):
        assert np.array_equal(getattr(whole, name), getattr(at_once, name))
        assert np.array_equal(getattr(whole, name), getattr(one_by_one, name))


def test_groups_find_their_place() -> None:
    """New groups, and the same ones under other numbers."""
    one = histogram(np.array([1.0, 2.0]), np.array([0, 1]), 2)
    two = histogram(np.array([2.0, 8.0, 9.0]), np.array([0, 1, 1]), 2)
    merged = Histogram.gathered([(one, np.array([0, 1])), (two, np.array([1, 2]))], 3)
    assert [merged.group(number)[1].tolist() for number in range(3)] == [[1], [2], [1, 1]]
    rolled = Histogram.gathered([(merged, np.array([0, 1, 0]))], 2)
    assert [rolled.group(number)[1].tolist() for number in range(2)] == [[1, 1, 1], [2]]


def test_far_apart_groups_and_bins_are_merged_by_sorting() -> None:
    """More combinations than a table would hold: pandas counts them."""
    random = np.random.default_rng(0)
    losses, groups = 10.0 ** random.integers(-300, 300, 5000), random.integers(0, 1000, 5000)
    found = Histogram.gathered([(histogram(losses[:2000], groups[:2000], 1000), np.arange(1000))] * 3, 1000)
    expected = pd.Series(losses[:2000]).groupby([groups[:2000], losses[:2000]]).count() * 3
    assert found.counts.tolist() == expected.tolist()


def test_the_skewness_behind_the_warning_is_scipys() -> None:
    """The bound n = 25 G1^2 lies where SciPy's skewness puts it, within the width of bins."""
    losses = np.random.default_rng(5).lognormal(0, 1, 2000)
    several = np.concatenate([losses, np.full(10, 0.1), np.array([1.0, 1e300, 2.0])])
    groups = np.repeat([0, 2, 3], [len(losses), 10, 3])
    found = squared_skewness(histogram(several, groups, 5)).tolist()
    bound = 25 * float(stats.skew(losses)) ** 2
    assert is_heavy_tailed(found[0], 0.95 * bound)
    assert not is_heavy_tailed(found[0], 1.05 * bound)
    assert [found[1], found[2], found[4]] == [0.0, 0.0, 0.0]
    assert found[3] == pytest.approx(stats.skew([0.0, 1.0, 0.0]) ** 2, rel=1e-9)


def test_columns_of_a_report(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    frame = pd.DataFrame(
        {"y": 0.0, "zero": random.lognormal(size=2000), "city": random.choice(["Ulm", "Bonn"], 2000, p=[0.99, 0.01])}
    )
    frame.loc[3, "zero"] = np.nan
    report = evaluate(tmp_path, frame, slices=["city"], quantiles=[0.25, 0.999])
    for name in ("overall", "city=Ulm", "city=Bonn"):
        part = frame["zero"] if name == "overall" else frame["zero"][frame["city"] == name[5:]]
        row = score_table(report.losses, {"slice": name})
        assert row["p25"] == pytest.approx(part.quantile(0.25), rel=0.01)
        assert row["p99.9"] == pytest.approx(part.quantile(0.999), rel=0.01)
        bins = report.histograms.to_pandas().query("slice == @name")
        edges_of = [*bins["low"], bins["high"].iloc[-1]]
        assert bins["rows"].sum() == part.count()
        assert bins["low"].is_monotonic_increasing
        counted, _ = np.histogram(part.dropna(), edges_of)
        assert counted[counted > 0].tolist() == bins["rows"].tolist()
    assert not score_table(report.losses, {"slice": "overall"})["heavy_tail"]
    assert score_table(report.losses, {"slice": "city=Bonn"})["heavy_tail"]


def test_without_quantiles(tmp_path: Path) -> None:
    report = evaluate(tmp_path, pd.DataFrame({"y": 0.0, "zero": [1.0, 2.0]}), quantiles=[])
    assert "p50" not in report.losses.column_names
    assert report.histograms.num_rows == 0
    assert report.losses["heavy_tail"].to_pylist() == [None]
