"""Exact sums against `fractions.Fraction`, and their independence of order, cut and merge, bit for bit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossops.kernels.accumulate import WEIGHTED_COLUMNS
from lossops.sums import Sums
from tests.oracles import exact_sum, value_of_digits
from tests.strategies import finite_floats, floats_of_close_exponents


def add(losses: Sequence[float], weights: Sequence[float] | None = None, sums: Sums | None = None) -> Sums:
    """Add rows to the only group."""
    rows, total = len(losses), sums or Sums.zero(1, weighted=weights is not None)
    none, group = np.zeros(rows, dtype=np.uint8), np.zeros(rows, dtype=np.int64)
    given_weights = None if weights is None else np.array(weights, dtype=np.float64)
    total.add_rows(np.array(losses, dtype=np.float64), given_weights, none, none, group)
    return total


def merge(parts: Sequence[Sums]) -> Sums:
    """Merge sums of one group."""
    total = Sums.zero_of(1, len(parts[0].columns))
    for part in parts:
        total.add_groups(part, np.zeros(1, dtype=np.int64))
    return total


def column(sums: Sums, name: str) -> Fraction:
    """The value of one column of the only group."""
    place = sums.columns.index(name)
    return value_of_digits(sums.digits[0, place], sums.tops[0, place])


def same_bits(one: Sums, other: Sums) -> bool:
    """Whether two states have the same bytes."""
    names = ("counts", "extremes", "digits", "tops")
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in names)


@given(floats_of_close_exponents(76))
def test_sum_is_exact_within_130_bits(losses: list[float]) -> None:
    """Mantissas of 53 bits at most 76 places apart span 129 bits: not one is lost, of subnormals neither."""
    assert column(add(losses), "wl") == exact_sum(losses)


@given(st.lists(finite_floats, min_size=1, max_size=40))
def test_sum_of_any_floats_misses_at_most_what_lies_130_bits_below_the_largest(losses: list[float]) -> None:
    """The stated bound for arbitrary magnitudes."""
    allowed = len(losses) * Fraction(max(map(abs, losses))) / 2**129
    assert abs(column(add(losses), "wl") - exact_sum(losses)) <= allowed


@given(floats_of_close_exponents(11, lowest=-500, highest=400))
def test_sum_of_squares_is_exact_within_130_bits(losses: list[float]) -> None:
    """The product of two float64 is carried in two of them, without rounding."""
    assert column(add(losses), "wl2") == sum((Fraction(loss) ** 2 for loss in losses), Fraction(0))


_ANY_ROWS = st.lists(
    st.tuples(finite_floats, st.floats(0.0, exclude_min=True, allow_infinity=False)), min_size=1, max_size=40
)


@given(_ANY_ROWS, st.randoms(use_true_random=False), st.booleans())
def test_order_does_not_change_a_bit(rows: list[tuple[float, float]], random: object, weighted: bool) -> None:
    """For arbitrary magnitudes, with and without weights."""
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert same_bits(_add_rows(rows, weighted), _add_rows(shuffled, weighted))


def _add_rows(rows: Sequence[tuple[float, float]], weighted: bool, sums: Sums | None = None) -> Sums:
    return add([loss for loss, _ in rows], [weight for _, weight in rows] if weighted else None, sums)


@given(_ANY_ROWS, st.lists(st.integers(0, 40), max_size=6), st.booleans(), st.booleans())
def test_cutting_and_merging_do_not_change_a_bit(
    rows: list[tuple[float, float]], cuts: list[int], weighted: bool, backwards: bool
) -> None:
    """Any cut into blocks, merged in either order, or added block after block to one state, equals the whole."""
    whole = _add_rows(rows, weighted)
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    blocks = [rows[low:high] for low, high in itertools.pairwise(edges)]
    parts = [_add_rows(block, weighted) for block in blocks]
    assert same_bits(merge(parts[::-1] if backwards else parts), whole)
    running = Sums.zero(1, weighted=weighted)
    for block in blocks:
        _add_rows(block, weighted, running)
    assert same_bits(running, whole)


_MODERATE = st.floats(1e-30, 1e30)


@given(st.lists(st.tuples(_MODERATE, _MODERATE), min_size=1, max_size=20))
def test_weighted_columns_keep_100_bits(rows: list[tuple[float, float]]) -> None:
    """Each of the six sums of positive terms is within 2**-100 of the exact one."""
    sums = _add_rows(rows, weighted=True)
    powers = {"wl": (1, 1), "wl2": (1, 2), "w": (1, 0), "w2": (2, 0), "w2l": (2, 1), "w2l2": (2, 2)}
    assert set(powers) == set(WEIGHTED_COLUMNS)
    for name, (of_weight, of_loss) in powers.items():
        terms = (Fraction(weight) ** of_weight * Fraction(loss) ** of_loss for loss, weight in rows)
        exact = sum(terms, Fraction(0))
        assert abs(column(sums, name) - exact) <= exact / 2**100, name


@given(st.lists(_MODERATE, min_size=1, max_size=20))
def test_weights_of_one_give_the_sums_without_weights(losses: list[float]) -> None:
    """sum(w l) = sum(w^2 l) = sum(l), sum(w) = sum(w^2) = n, exactly."""
    plain, weighted = add(losses), add(losses, [1.0] * len(losses))
    for name, same in {"wl": "wl", "w2l": "wl", "wl2": "wl2", "w2l2": "wl2"}.items():
        assert column(weighted, name) == column(plain, same)
    assert column(weighted, "w") == column(weighted, "w2") == len(losses)


def test_cancellation_leaves_the_small_term() -> None:
    """1e15 + 1e-7 - 1e15: float addition in this order gives 0."""
    assert column(add([1e15, 1e-7, -1e15]), "wl") == Fraction(1e-7)


def test_many_terms_carry_between_digits() -> None:
    """Two million largest mantissas do not overflow a digit, and their sum is exact."""
    largest = math.nextafter(2.0, 0.0)
    assert column(add([largest] * 2_000_000), "wl") == 2_000_000 * Fraction(largest)


@pytest.mark.parametrize("loss", [5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, -5e-324])
def test_the_ends_of_float64(loss: float) -> None:
    """Smallest subnormal, smallest normal and largest number are added exactly."""
    assert column(add([loss, loss, loss]), "wl") == 3 * Fraction(loss)
