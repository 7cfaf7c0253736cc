"""How often intervals hold the truth, and gates raise false alarms, in simulated datasets with a known answer.

Sums and statistics are those of a run; only files and slices are left out, because 2 000 datasets make up each figure.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from lossops.comparisons import Contrast, Difference, compare, contrast
from lossops.gates import judged, of_mean
from lossops.samples import Sample
from lossops.statistics import Summary, summary_of
from lossops.sums import Sums
from lossops.units import Units, UnitSums

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]
TRIALS = 2000
LEVEL = 0.95

DRAWS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda random, n: random.normal(1.0, 1.0, n), 1.0),
    "lognormal(0.5)": (lambda random, n: random.lognormal(0.0, 0.5, n), np.exp(0.125)),
    "lognormal(1)": (lambda random, n: random.lognormal(0.0, 1.0, n), np.exp(0.5)),
    "lognormal(1.5)": (lambda random, n: random.lognormal(0.0, 1.5, n), np.exp(1.125)),
    "0-1, 10 %": (lambda random, n: (random.random(n) < 0.1).astype(float), 0.1),
}


def sampled(
    losses: Floats, groups: npt.NDArray[np.int64], weights: Floats | None = None, units: Floats | None = None
) -> tuple[Sums, list[Sample | None]]:
    """Add losses to groups as a run does."""
    count, reasons = int(groups.max()) + 1, np.zeros(len(losses), dtype=np.uint8)
    sums = Sums.zero(count, weighted=weights is not None)
    sums.add_rows(losses, weights, reasons, reasons, groups)
    by_unit = None
    if units is not None:
        known, places = Units.of_rows(units.astype(np.uint64), 1024)
        entries = UnitSums.entries(groups, places, len(known.known))
        by_unit = UnitSums.of_rows(entries, known, losses[np.newaxis], weights, weights, reasons)
    return sums, [Sample.of(sums, group, by_unit) for group in range(count)]


def interval(losses: Floats, weights: Floats | None = None, units: Floats | None = None) -> Summary:
    sums, samples = sampled(losses, np.zeros(len(losses), dtype=np.int64), weights, units)
    return summary_of(sums, 0, samples[0], samples[0], LEVEL)


def coverage(found: Callable[[np.random.Generator], Summary | Difference | Contrast | None], truth: float) -> float:
    """The share of intervals that hold the truth."""
    random, hits = np.random.default_rng(20261124), 0
    for _ in range(TRIALS):
        one = found(random)
        assert one is not None
        assert one.ci_low is not None
        assert one.ci_high is not None
        hits += one.ci_low <= truth <= one.ci_high
    return hits / TRIALS


@pytest.mark.parametrize("name", ["normal", "lognormal(0.5)", "0-1, 10 %"])
def test_independent_rows(name: str) -> None:
    draw, truth = DRAWS[name]
    assert 0.93 <= coverage(lambda random: interval(draw(random, 1000)), truth) <= 0.97


def test_weighted_rows() -> None:
    """Weights that go with the loss: the truth is E(w l)/E(w)."""

    def draw(random: np.random.Generator) -> Summary:
        weights = random.lognormal(0.0, 0.5, 1000)
        return interval(weights + random.normal(size=1000), weights)

    truth = np.exp(2 * 0.5**2) / np.exp(0.5**2 / 2)
    assert 0.93 <= coverage(draw, truth) <= 0.97


def clustered(random: np.random.Generator) -> tuple[Floats, Floats]:
    """60 units of 20 rows, intra-class correlation 0.3."""
    units = np.repeat(np.arange(60.0), 20)
    return np.sqrt(0.3) * random.normal(size=60)[units.astype(int)] + np.sqrt(0.7) * random.normal(size=1200), units


def test_clustered_rows() -> None:
    def draw(random: np.random.Generator) -> Summary:
        losses, units = clustered(random)
        return interval(losses, units=units)

    assert 0.93 <= coverage(draw, 0.0) <= 0.97


def test_clustered_rows_that_are_taken_for_independent_are_not_covered() -> None:
    """Else the test above would say nothing."""
    assert coverage(lambda random: interval(clustered(random)[0]), 0.0) < 0.7


def test_paired_differences() -> None:
    def draw(random: np.random.Generator) -> Difference:
        base = random.lognormal(size=1000)
        differences = random.normal(0.02, 0.05, 1000) * base
        sums, reasons = Sums.zero_pairs(1, divided=False), np.zeros(1000, dtype=np.uint8)
        sums.add_pairs(base + differences, base, None, None, reasons, np.zeros(1000, dtype=np.int64))
        sample = Sample.of(sums, 0)
        return compare(sample, sample, 1000, LEVEL)

    truth = 0.02 * np.exp(0.5)
    assert 0.93 <= coverage(draw, truth) <= 0.97


@pytest.mark.parametrize("complement", [False, True])
@pytest.mark.parametrize("by_unit", [False, True])
def test_a_slice_beside_other_rows(complement: bool, by_unit: bool) -> None:
    """30 % of the rows lose 0.5 more; overall loses 0.15 more than the rest."""

    def draw(random: np.random.Generator) -> Contrast | None:
        losses, units = clustered(random)
        inside = random.random(len(losses)) < 0.3
        losses = losses + 0.5 * inside
        _, whole = sampled(losses, np.zeros(len(losses), dtype=np.int64), units=units if by_unit else None)
        _, parts = sampled(losses, inside.astype(np.int64), units=units if by_unit else None)
        return contrast(parts[1], whole[0], LEVEL, complement=complement)

    truth = 0.5 if complement else 0.5 - 0.15
    assert 0.93 <= coverage(draw, truth) <= 0.97


def alarms(shift: float, bad: int, runs: int = 500) -> float:
    """The share of runs in which a gate over 200 slices of 50 rows fails; ``bad`` slices lose ``shift`` too much."""
    random, failed = np.random.default_rng(7), 0
    groups = np.repeat(np.arange(200), 50)
    for _ in range(runs):
        losses = random.normal(1.0, 1.0, len(groups)) + shift * (groups < bad)
        sums, samples = sampled(losses, groups)
        verdicts = [of_mean(summary_of(sums, group, one, None, LEVEL), 1.0) for group, one in enumerate(samples)]
        failed += any(one.outcome == "fail" for one in judged(verdicts, 0, LEVEL))
    return failed / runs


def test_false_alarms_over_slices() -> None:
    """At most 5 %, and three standard errors of 500 runs."""
    assert alarms(0.0, 0) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 500)


def test_a_bad_slice_is_found() -> None:
    """A slice that loses 1.0 of a standard deviation too much among 200, with 50 rows each."""
    assert alarms(1.0, 1, 100) >= 0.95
