"""The same bytes however rows are ordered and cut, also where values are too many to be kept apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn import metrics

from lossops import bins
from lossops.bins import truncated
from lossops.measures import MEASURES, bind
from tests.measures.measuring import measure, results, table
from tests.measures.test_definitions import rows_of

ROWS = 3000
_BY_VALUE = [name for name, one in MEASURES.items() if one.by_value]


@pytest.mark.parametrize("name", sorted(MEASURES))
@pytest.mark.parametrize("weighted", [False, True])
def test_shuffled_and_cut_anew(name: str, weighted: bool) -> None:
    random = np.random.default_rng(0)
    labels, predictions = rows_of(name, ROWS)
    weights = random.lognormal(sigma=3, size=ROWS) if weighted else None
    groups = random.integers(0, 4, ROWS)
    expected = results(name, labels, predictions, weights, groups=groups)
    for seed, pieces in ((1, 1), (2, 7), (3, 40)):
        assert results(name, labels, predictions, weights, groups=groups, seed=seed, pieces=pieces) == expected


@pytest.mark.parametrize("name", _BY_VALUE)
@pytest.mark.parametrize("cap", [16, 100, 700])
def test_shuffled_and_cut_anew_beyond_the_cap(name: str, cap: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bins, "MAX_BINS", cap)
    random = np.random.default_rng(1)
    labels, predictions = random.lognormal(size=(2, ROWS, 2)) * random.choice([-1, 1], (2, ROWS, 2))
    groups = random.integers(0, 3, ROWS)
    expected = results(name, labels, predictions, groups=groups)
    for seed, pieces in ((1, 1), (2, 5), (3, 60)):
        assert results(name, labels, predictions, groups=groups, seed=seed, pieces=pieces) == expected


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("median_absolute_error", metrics.median_absolute_error),
        ("d2_absolute_error", metrics.d2_absolute_error_score),
        ("d2_pinball", metrics.d2_pinball_score),
    ],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_beyond_the_cap_the_error_is_within_the_bits_that_are_kept(
    name: str, theirs: Callable[..., float], weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(2)
    labels, predictions = random.normal(size=(2, ROWS)) + 4
    weights = random.random(ROWS) + 0.1 if weighted else None
    expected = theirs(labels, predictions, sample_weight=weights)
    errors = []
    for cap in (50, 400, 1 << 16):
        monkeypatch.setattr(bins, "MAX_BINS", cap)
        errors.append(abs(measure(name, labels, predictions, weights, pieces=4) / expected - 1))
    assert errors[2] < 1e-14 < errors[0] < 0.02
    assert errors[1] < 0.004


def test_equal_values_stay_exact_beyond_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bin that holds one value gives that value, however few bits its number keeps."""
    monkeypatch.setattr(bins, "MAX_BINS", 12)
    sizes = np.concatenate([np.full(500, 1 / 3), 2.0 ** np.arange(2, 11) * 1.1])
    assert measure("median_absolute_error", np.zeros(len(sizes)), sizes, pieces=9) == 1 / 3


def test_a_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bins, "MAX_BINS", 256)
    chosen = bind("median_absolute_error", {}, "exact")
    values = np.random.default_rng(3).random((20_000, 1)) + 1
    nothing = np.zeros(10_000, dtype=np.int64)
    halves = [table(chosen, 0 * half, half, None, nothing) for half in (values[:10_000], values[10_000:])]
    whole = table(chosen, 0 * values, values, None, np.zeros(20_000, dtype=np.int64))
    merged = halves[0] + halves[1]
    for one in (*halves, whole, merged):
        assert 64 < len(one.bins) <= 256
    assert np.array_equal(merged.bins, whole.bins)
    assert merged.bits == whole.bits


def test_truncation_nests_and_keeps_the_order() -> None:
    values = np.sort(
        np.random.default_rng(4).normal(size=2000) * 10.0 ** np.random.default_rng(5).integers(-8, 8, 2000)
    )
    for bits in (52, 20, 7, 0):
        once = truncated(values, bits)
        assert np.all(np.diff(once) >= 0)
        assert np.all(np.abs(values - once) <= np.abs(values) * 2.0**-bits)
        for fewer in range(bits):
            assert np.array_equal(truncated(once, fewer), truncated(values, fewer))
