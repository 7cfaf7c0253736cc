"""State: zero is the identity, addition is associative and commutative, and parts add up to the whole."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossops.groups import Keys, Parts
from lossops.kernels.checks import Reason
from lossops.samples import columns_of
from lossops.state import Cell, GroupTable, State, Total, count_reasons
from lossops.sums import Rows, Sums
from tests.strategies import finite_floats

_CELLS: tuple[Cell, ...] = (("candidate", "huber"), ("baseline", "huber"))
_REASONS = (0, 0, 0, int(Reason.LABEL_NULL), int(Reason.LOSS_NAN))
Row = tuple[int, int, float, float, int, int]  # cell, group, loss, weight, reason, clipped
_ROWS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.integers(0, 3),
        finite_floats,
        st.floats(0.0, 1e100, exclude_min=True),
        st.sampled_from(_REASONS),
        st.integers(0, 1),
    ),
    max_size=25,
)


def _table(rows: Sequence[Row], axes: int, *, weighted: bool) -> GroupTable:
    """Group rows by nothing (axes 0) or by their group, in the order in which groups appear."""
    keys = [((0, row[1]),) * axes for row in rows]
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    sums = {}
    for number in sorted({row[0] for row in rows}):
        mine = [(row, places[key]) for row, key in zip(rows, keys, strict=True) if row[0] == number]
        sums[_CELLS[number]] = Sums.zero(len(places), weighted=weighted)
        columns = [np.array([row[field] for row, _ in mine]) for field in range(2, 6)]
        sums[_CELLS[number]].add_rows(
            columns[0].astype(np.float64),
            columns[1].astype(np.float64) if weighted else None,
            columns[2].astype(np.uint8),
            columns[3].astype(np.uint8),
            np.array([place for _, place in mine], dtype=np.int64),
        )
    parts = list(dict.fromkeys(part for key in places for part in key))
    codes = np.array([[parts.index(part) for part in key] for key in places], dtype=np.int64)
    return GroupTable(Keys((Parts.of(parts),) * axes, codes.reshape(len(places), axes)), sums)


def _state(rows: Sequence[Row], *, weighted: bool = False) -> State:
    reasons = {
        _CELLS[number]: count_reasons([row[4] for row in rows if row[0] == number])
        for number in {row[0] for row in rows}
    }
    return State(tuple(_table(rows, axes, weighted=weighted) for axes in (0, 1)), reasons)


def _bytes(sums: Sums, group: int) -> tuple[bytes, ...]:
    return tuple(array[group].tobytes() for array in (sums.counts, sums.extremes, sums.digits, sums.tops))


def _table_content(table: GroupTable) -> dict[Any, Any]:
    """Every group of every cell, byte for byte, whatever the order of the keys; groups without rows are left out."""
    return {
        (key, cell): _bytes(sums, group)
        for cell, sums in table.sums.items()
        for group, key in enumerate(table.keys)
        if sums.counts[group].any()
    }


def _content(state: State) -> list[Any]:
    reasons = {cell: counts.tolist() for cell, counts in state.reasons.items() if counts.any()}
    return [*map(_table_content, state.tables), reasons]


def _identical(one: State, other: State) -> bool:
    """Whether two states are equal byte for byte, the order of keys included."""
    same_keys = [table.keys for table in one.tables] == [table.keys for table in other.tables]
    return same_keys and _content(one) == _content(other)


@given(_ROWS, st.booleans())
def test_zero_is_the_identity(rows: list[Row], weighted: bool) -> None:
    """On both sides, with and without weights, for a state of no rows as well."""
    state = _state(rows, weighted=weighted)
    assert _identical(State.zero(2) + state, state)
    assert _identical(state + State.zero(2), state)


@given(_ROWS, _ROWS, _ROWS, st.booleans())
def test_addition_is_associative(one: list[Row], two: list[Row], three: list[Row], weighted: bool) -> None:
    """Merging in any tree gives the same bytes."""
    a, b, c = (_state(rows, weighted=weighted) for rows in (one, two, three))
    assert _identical((a + b) + c, a + (b + c))


@given(_ROWS, _ROWS, st.booleans())
def test_addition_is_commutative_up_to_the_order_of_keys(one: list[Row], two: list[Row], weighted: bool) -> None:
    """Results may be merged as they come."""
    a, b = _state(one, weighted=weighted), _state(two, weighted=weighted)
    assert _content(a + b) == _content(b + a)


@given(_ROWS, st.lists(st.integers(0, 25), max_size=5), st.booleans(), st.randoms(use_true_random=False))
def test_parts_add_up_to_the_whole(rows: list[Row], cuts: list[int], weighted: bool, random: Any) -> None:
    """However the rows are cut, and in whatever order the parts arrive."""
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    parts = [_state(rows[low:high], weighted=weighted) for low, high in itertools.pairwise(edges)]
    random.shuffle(parts)
    total, together = State.zero(2), Total(2)
    for part in parts:
        total = total + part
        together.add(part)
        if random.random() < 0.3:  # what waits is added up now and then
            assert _content(together.state()) == _content(total)
    assert _content(total) == _content(together.state()) == _content(_state(rows, weighted=weighted))


def test_adding_leaves_both_parts_alone() -> None:
    """States that were stored or are merged twice do not change under the hands of their owner."""
    rows: list[Row] = [(0, 0, 1.0, 1.0, 0, 0), (0, 1, 2.0, 1.0, 0, 1)]
    one, two = _state(rows), _state(rows[:1])
    before = _content(one), _content(two)
    _ = one + two
    assert (_content(one), _content(two)) == before


def test_groups_of_one_slice_add_up_to_overall() -> None:
    """Counts of the groups sum to the counts of the table without axes."""
    rows: list[Row] = [(0, group % 3, 1.5, 1.0, reason, 1) for group in range(9) for reason in _REASONS]
    overall, by_group = (table.sums[_CELLS[0]] for table in _state(rows).tables)
    assert by_group.counts.sum(axis=0).tolist() == overall.counts[0].tolist()
    assert overall.counts[0, 0] == len(rows)


def test_reasons_are_counted_by_their_number() -> None:
    """One place for each reason, empty ones included."""
    counts = count_reasons([0, 0, int(Reason.LABEL_NULL), int(max(Reason))])
    assert len(counts) == max(Reason) + 1
    assert (counts[0], counts[Reason.LABEL_NULL], counts[max(Reason)], counts.sum()) == (2, 1, 1, 4)
    assert count_reasons(np.zeros(0, dtype=np.uint8)).sum() == 0


@pytest.mark.parametrize("kind", ["plain", "weighted", "divided"])
def test_pairs_from_what_is_known_of_each(kind: str) -> None:
    """Sums of pairs are the same bits whether every column is added or only the products are."""
    random = np.random.default_rng(3)
    rows = 5000
    groups = random.integers(0, 7, rows)
    one, two = random.lognormal(sigma=3, size=(2, rows))
    reasons = np.where(random.random(rows) < 0.1, np.uint8(3), np.uint8(0))
    clipped = (random.random(rows) < 0.2).astype(np.uint8)
    weights = None if kind == "plain" else random.random(rows) * 3
    denominators = random.integers(0, 3, rows).astype(float) if kind == "divided" else None
    singles = [Sums.zero(7, weighted=weights is not None, divided=denominators is not None) for _ in range(2)]
    for sums, values in zip(singles, (one, two), strict=True):
        sums.add_rows(values, weights, reasons, clipped, groups, denominators)
    slices = [Rows.of(groups, 7)]
    pairs = Sums.of_pairs(singles[:1], singles[1:], one, two, weights, reasons, slices)
    assert pairs is not None
    found = pairs[0]
    expected = Sums.zero_pairs(7, divided=weights is not None)
    divisors = np.where(reasons == 0, weights, 0.0) if kind == "weighted" else denominators
    expected.add_pairs(one, two, weights, divisors, reasons, groups)
    assert found.counts.tolist() == expected.counts.tolist()
    assert found.extremes.tolist() == expected.extremes.tolist()
    for group in range(7):
        assert columns_of(found, group) == columns_of(expected, group)
    one[17], reasons[17] = np.inf, 0
    singles[0].add_rows(one, weights, reasons, clipped, groups, denominators)
    assert Sums.of_pairs(singles[:1], singles[1:], one, two, weights, reasons, slices) is None
