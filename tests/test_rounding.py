"""Numbers of all groups at once are those that exact integers give, bit for bit, wherever they are said to be sure."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossops.at_once import numbers_of
from lossops.comparisons import contrast, plain_contrasts
from lossops.rounding import Doubled, rounded_quotient, value_of
from lossops.samples import Sample
from lossops.statistics import plain_summaries, summary_of
from lossops.sums import Rows, Sums
from tests.oracles import value_of_digits

CONFIDENCE = 0.95
RANDOM = np.random.default_rng(5)
BEGINNING = RANDOM.bit_generator.state
LOSSES = {
    "positive": lambda rows: np.abs(RANDOM.normal(size=rows)),
    "of both signs": lambda rows: RANDOM.normal(size=rows),
    "far from zero": lambda rows: 1000 + RANDOM.normal(size=rows),
    "small integers": lambda rows: RANDOM.integers(0, 3, rows).astype(np.float64),
    "one value": lambda rows: np.full(rows, 0.1),
    "next to nothing": lambda rows: RANDOM.lognormal(size=rows) * 1e-90,
    "beyond the range of squares": lambda rows: RANDOM.lognormal(size=rows) * 1e160,
    "a wide range": lambda rows: RANDOM.lognormal(sigma=10, size=rows),
    "of 24 bits": lambda rows: RANDOM.random(rows).astype(np.float32).astype(np.float64),
    "zero or one": lambda rows: RANDOM.integers(0, 2, rows).astype(np.float64),
    "mostly zero": lambda rows: np.where(RANDOM.random(rows) < 0.01, 1.7, 0.0),
    "with infinities": lambda rows: np.where(RANDOM.random(rows) < 0.001, np.inf, 1.5),
}
# The least share of sixty groups that need no integers, where losses are of this kind.
SURE = {"positive": 0.95, "of both signs": 0.95, "far from zero": 0.9, "small integers": 0.9, "of 24 bits": 0.95}


WEIGHTS = {
    "none": lambda _: None,
    "whole": lambda rows: RANDOM.integers(1, 4, rows).astype(np.float64),
    "real": RANDOM.random,
    "wide": lambda rows: RANDOM.lognormal(sigma=6, size=rows),
    "huge": lambda rows: RANDOM.random(rows) * 1e90,
}


@pytest.fixture(autouse=True)
def _the_same_numbers() -> None:
    """Each test has those that it has alone."""
    RANDOM.bit_generator.state = BEGINNING


def slices(
    losses: np.ndarray[tuple[int], np.dtype[np.float64]],
    groups: int,
    weights: np.ndarray[tuple[int], np.dtype[np.float64]] | None = None,
) -> list[Sums]:
    """The sums of random groups, and of all rows."""
    rows = len(losses)
    none = np.zeros(rows, dtype=np.uint8)
    slices = [Rows.of(RANDOM.integers(0, groups, rows), groups), Rows.of(np.zeros(rows, dtype=np.int64), 1)]
    return Sums.of_rows(losses, weights, none, none, slices)


def of_group(numbers: dict[str, np.ndarray[tuple[int], np.dtype[np.generic]]], group: int) -> dict[str, object]:
    """The numbers of one group, None where masked."""
    return {key: None if values[group] is np.ma.masked else values[group] for key, values in numbers.items()}


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("groups", [1, 60, 4000])
@pytest.mark.parametrize("name", LOSSES)
def test_summaries_are_those_of_exact_integers(name: str, groups: int, weight: str) -> None:
    """Every number of every group that is sure."""
    part, _ = slices(LOSSES[name](10_000), groups, WEIGHTS[weight](10_000))
    plain = numbers_of(part)
    assert plain is not None
    numbers, sure = plain_summaries(part, plain, CONFIDENCE)
    sizes, sizes_sure = plain.sizes()
    for group in np.flatnonzero(sure).tolist():
        sample = Sample.of(part, group)
        exact = summary_of(part, group, sample, None, CONFIDENCE)
        assert of_group(numbers, group) == {key: getattr(exact, key) for key in numbers}
        assert sample is not None
        assert not sizes_sure[group] or sizes[group] == sample.size
    if groups == 60 and weight in ("none", "whole", "real"):
        assert np.mean(sure & sizes_sure) >= SURE.get(name, 0.0)
    if groups == 4000 and (name, weight) == ("positive", "none"):  # half of all sums of two lie between two float64
        assert np.mean(sure[plain.rows > 0]) >= 0.95


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("complement", [False, True])
@pytest.mark.parametrize("groups", [1, 60, 4000])
@pytest.mark.parametrize("name", LOSSES)
def test_contrasts_are_those_of_exact_integers(name: str, groups: int, complement: bool, weight: str) -> None:
    """Every number of every group that is sure."""
    part, whole = slices(LOSSES[name](10_000), groups, WEIGHTS[weight](10_000))
    mine, every_row = numbers_of(part), numbers_of(whole)
    assert mine is not None
    assert every_row is not None
    if not every_row.usable.all():
        return
    shifted = mine.alike(every_row)
    numbers, sure = plain_contrasts(mine, shifted, every_row, CONFIDENCE, complement=complement)
    every = Sample.of(whole, 0)
    for group in np.flatnonzero(sure).tolist():
        exact = contrast(Sample.of(part, group), every, CONFIDENCE, complement=complement)
        assert of_group(numbers, group) == {key: getattr(exact, key) for key in numbers}
    if groups == 60 and weight in ("none", "whole", "real"):
        assert np.mean(sure) >= SURE.get(name, 0.0)


_NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1)


@given(st.lists(st.tuples(_NUMBERS, _NUMBERS, st.integers(-80, 80)), min_size=1, max_size=20), _NUMBERS.filter(bool))
def test_a_sure_quotient_is_the_nearest_float(terms: list[tuple[int, int, int]], divisor: int) -> None:
    """Of sums of products of any size, which may cancel; the error stays within its bound."""
    total, exact = Doubled.of(np.zeros(1)), Fraction(0)
    for one, other, power in terms:
        factors = Doubled.of(np.array([float(one)])), Doubled.of(np.array([float(other)]))
        total = total + (factors[0] * factors[1]).scaled(power)
        exact += Fraction(one) * other * Fraction(2) ** power
    value = Fraction(float(total.high[0])) + Fraction(float(total.low[0]))
    assert abs(value - exact) <= Fraction(float(total.error[0]))
    found, sure = rounded_quotient(total, Doubled.of(float(divisor)))
    if sure[0]:
        assert found[0] == float(exact / divisor)


def test_values_of_digits() -> None:
    """The value of a sum's digits, whatever their signs."""
    part, _ = slices(RANDOM.normal(size=5000) * 1e3, 40)
    value, power = value_of(part.digits[:, 0], part.tops[:, 0])
    for group in range(40):
        exact = value_of_digits(part.digits[group, 0], part.tops[group, 0]) / Fraction(2) ** int(power[group])
        near = Fraction(float(value.high[group])) + Fraction(float(value.low[group]))
        assert abs(near - exact) <= Fraction(float(value.error[group]))
