"""Counts, extremes, groups, infinities and overflow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossops.kernels.accumulate import CLIPPED, INFINITE, OVERFLOWED, ROWS, SCORED
from lossops.sums import Sums
from tests.kernels.test_exact import add, column, merge, same_bits
from tests.oracles import exact_sum, value_of_digits

_ROW = st.tuples(
    st.integers(0, 3),  # group
    st.integers(0, 10**9).map(lambda n: n / 1024),  # loss
    st.floats(1e-3, 1e3),  # weight
    st.sampled_from([0, 0, 0, 10, 24]),  # reason
    st.integers(0, 1),  # clipped
)
Row = tuple[int, float, float, int, int]


def _add(rows: Sequence[Row], *, weighted: bool) -> Sums:
    sums = Sums.zero(4, weighted=weighted)
    groups, losses, weights, reasons, clipped = zip(*rows, strict=True)
    sums.add_rows(
        np.array(losses, dtype=np.float64),
        np.array(weights, dtype=np.float64) if weighted else None,
        np.array(reasons, dtype=np.uint8),
        np.array(clipped, dtype=np.uint8),
        np.array(groups, dtype=np.int64),
    )
    return sums


@given(st.lists(_ROW, min_size=1, max_size=40), st.booleans())
def test_counts_extremes_and_sums_of_each_group(rows: list[Row], weighted: bool) -> None:
    """Brute force, row by row: a row that is not scored counts as a row and nothing else."""
    sums = _add(rows, weighted=weighted)
    for group in range(4):
        mine = [row for row in rows if row[0] == group]
        scored = [row for row in mine if row[3] == 0]
        expected = [len(mine), len(scored), sum(row[4] for row in scored), 0, 0]
        assert sums.counts[group, [ROWS, SCORED, CLIPPED, INFINITE, OVERFLOWED]].tolist() == expected
        losses = [row[1] for row in scored]
        assert sums.extremes[group].tolist() == [min(losses, default=math.inf), max(losses, default=-math.inf)]
        terms = [row[1] for row in scored] if not weighted else [row[2] for row in scored]
        place = 2 if weighted else 0
        assert value_of_digits(sums.digits[group, place], sums.tops[group, place]) == exact_sum(terms)


@pytest.mark.parametrize("weights", [None, [2.0, 3.0]])
@pytest.mark.parametrize("losses", [[-0.0, 0.0], [0.0, -0.0], [-0.0, -0.0]])
def test_minus_zero_leaves_no_trace(losses: list[float], weights: list[float] | None) -> None:
    """A loss of -0.0 is a loss of 0.0, so that the extremes do not tell in which order rows came."""
    assert add(losses, weights).extremes.tobytes() == np.zeros((1, 2)).tobytes()


@pytest.mark.parametrize("weights", [None, [1.0, 1.0, 2.0]])
def test_an_infinite_loss_is_counted_apart(weights: list[float] | None) -> None:
    """It is scored and is the maximum, but does not spoil the sum of the finite ones."""
    sums = add([1.0, math.inf, 2.5], weights)
    assert sums.counts[0].tolist() == [3, 3, 0, 1, 0, 0]
    assert sums.extremes[0].tolist() == [1.0, math.inf]
    assert column(sums, "wl") == Fraction(3.5 if weights is None else 6.0)


@pytest.mark.parametrize("weights", [None, [1.0, 1.0, 1.0]])
def test_a_loss_whose_square_overflows_is_counted_apart(weights: list[float] | None) -> None:
    """Its sum is still exact; only the squares are missing, and the count says so."""
    sums = add([2.0**500, 2.0**520, 2.0**501], weights)
    assert sums.counts[0].tolist() == [3, 3, 0, 0, 1, 0]
    assert column(sums, "wl") == 2**520 + 3 * 2**500


def test_sums_beyond_float64_are_kept() -> None:
    """The sum of ten largest numbers does not fit a float64 but fits the state."""
    largest = 1.7976931348623157e308
    assert column(add([largest] * 10), "wl") == 10 * Fraction(largest)


@given(st.lists(_ROW, min_size=1, max_size=30), st.permutations(range(4)), st.booleans())
def test_merging_moves_groups_where_they_belong(rows: list[Row], places: list[int], weighted: bool) -> None:
    """Group i of one state is added to group places[i] of the other."""
    moved = Sums.zero(4, weighted=weighted)
    moved.add_groups(_add(rows, weighted=weighted), np.array(places, dtype=np.int64))
    direct = _add([(places[row[0]], *row[1:]) for row in rows], weighted=weighted)
    assert same_bits(moved, direct)


def test_merging_two_groups_into_one() -> None:
    """Two groups of a state may go to the same group."""
    both = _add([(0, 1.0, 1.0, 0, 0), (1, 2.0, 1.0, 0, 1)], weighted=False)
    total = Sums.zero(1, weighted=False)
    total.add_groups(both, np.zeros(4, dtype=np.int64))
    assert total.counts[0].tolist() == [2, 2, 1, 0, 0, 0]
    assert column(total, "wl") == 3


def test_merging_nothing_changes_nothing() -> None:
    """The sums of no rows are the zero of merging."""
    sums = add([1.5, 2.5])
    assert same_bits(merge([sums, Sums.zero(1, weighted=False)]), sums)
    assert same_bits(merge([Sums.zero(1, weighted=False), sums]), sums)
