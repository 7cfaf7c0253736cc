"""Sums of many slices at once against adding row by row, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from lossops.sums import Floats, Rows, Sums
from tests.kernels.test_exact import same_bits

SIZES = [1, 5, 40, 300]
RANDOM = np.random.default_rng(0)
LOSSES = {
    "errors": lambda rows: np.abs(RANDOM.normal(size=rows)),
    "squares": lambda rows: RANDOM.normal(size=rows) ** 2,
    "a wide range": lambda rows: RANDOM.lognormal(sigma=8, size=rows),
    "every magnitude": lambda rows: RANDOM.normal(size=rows) * 10.0 ** RANDOM.integers(-200, 120, rows),
    "negative": lambda rows: -RANDOM.random(rows),
    "zeros of both signs": lambda rows: np.where(RANDOM.random(rows) < 0.5, 0.0, -0.0),
    "two values": lambda rows: RANDOM.integers(0, 2, rows).astype(np.float64),
    "infinities": lambda rows: np.where(RANDOM.random(rows) < 0.01, np.inf, -1.0),
    "subnormal": lambda rows: np.full(rows, 5e-324),
    "squares that overflow": lambda rows: RANDOM.normal(size=rows) * 1e300,
}
WEIGHTS = {
    "no weights": lambda _rows: None,
    "weights": lambda rows: RANDOM.random(rows) + 0.1,
    "weights of 24 bits": lambda rows: RANDOM.random(rows).astype(np.float32).astype(np.float64) + 1e-3,
    "weights of every magnitude": lambda rows: 10.0 ** RANDOM.integers(-150, 150, rows),
}


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("rows", [1, 15, 16, 17, 255, 256, 257, 3000])
def test_runs_give_the_bits_of_adding_row_by_row(loss: str, weight: str, rows: int) -> None:
    """Losses with counts and extremes, and products of pairs; a tenth of the rows is not scored."""
    losses, weights = LOSSES[loss](rows), WEIGHTS[weight](rows)
    reasons = np.where(RANDOM.random(rows) < 0.1, 12, 0).astype(np.uint8)
    clipped = (RANDOM.random(rows) < 0.3).astype(np.uint8)
    slices = [Rows.of(RANDOM.integers(0, size, rows), size) for size in SIZES]
    found = Sums.of_rows(losses, weights, reasons, clipped, slices)
    for sums, by_group in zip(found, slices, strict=True):
        expected = Sums.zero(len(by_group), weighted=weights is not None)
        expected.add_rows(losses, weights, reasons, clipped, by_group.groups)
        assert same_bits(sums, expected)
    _check_products(found, losses, weights, reasons, clipped, slices)


@pytest.mark.parametrize("groups", [1, 40, 20_000])
def test_order_of_rows_is_that_of_a_stable_sort_in_every_section(groups: int) -> None:
    own = RANDOM.integers(0, groups, 300_000)
    rows = Rows.of(own, groups)
    assert len(rows.starts) == (3 if groups < 4000 else 1)  # sections are larger where groups are many
    for starts in rows.starts:
        part = own[starts[0] : starts[-1]]
        assert np.array_equal(rows.order[starts[0] : starts[-1]], starts[0] + np.argsort(part, kind="stable"))
        assert np.array_equal(np.diff(starts), np.bincount(part, minlength=groups))
    assert np.array_equal(rows.sizes, np.bincount(own, minlength=groups))


@pytest.mark.parametrize("weight", ["no weights", "weights"])
def test_runs_of_several_sections_give_the_bits_of_adding_row_by_row(weight: str) -> None:
    rows = 300_000
    losses, weights, none = LOSSES["squares"](rows), WEIGHTS[weight](rows), np.zeros(rows, dtype=np.uint8)
    slices = [Rows.of(RANDOM.integers(0, size, rows), size) for size in (1, 40, 20_000)]
    for sums, by_group in zip(Sums.of_rows(losses, weights, none, none, slices), slices, strict=True):
        expected = Sums.zero(len(by_group), weighted=weights is not None)
        expected.add_rows(losses, weights, none, none, by_group.groups)
        assert same_bits(sums, expected)


@pytest.mark.parametrize("weight", WEIGHTS)
def test_no_rows_in_no_groups(weight: str) -> None:
    """As where all rows of a file find no partner; slices with groups of other files are there beside."""
    nothing, none = np.zeros(0), np.zeros(0, dtype=np.uint8)
    slices = [Rows.of(np.zeros(0, dtype=np.int64), size) for size in (0, 3)]
    found = Sums.of_rows(nothing, WEIGHTS[weight](0), none, none, slices)
    assert [len(sums.counts) for sums in found] == [0, 3]
    assert same_bits(found[1], Sums.zero(3, weighted=weight != "no weights"))
    _check_products(found, nothing, WEIGHTS[weight](0), none, none, slices)


def _check_products(
    ones: list[Sums],
    losses: Floats,
    weights: Floats | None,
    reasons: np.ndarray[tuple[int], np.dtype[np.uint8]],
    clipped: np.ndarray[tuple[int], np.dtype[np.uint8]],
    slices: list[Rows],
) -> None:
    others = losses[::-1] * 1.125
    twos = Sums.of_rows(others, weights, reasons, clipped, slices)
    pairs = Sums.of_pairs(ones, twos, losses, others, weights, reasons, slices)
    awry = any(sums.counts[:, 3:5].any() for sums in (*ones, *twos))
    assert (pairs is None) == awry
    divisors = None if weights is None else np.where(reasons == 0, weights, 0.0)
    for sums, rows in zip(pairs or (), slices, strict=False):
        expected = Sums.zero_pairs(len(rows), divided=weights is not None)
        expected.add_pairs(losses, others, weights, divisors, reasons, rows.groups)
        assert same_bits(sums, expected)
