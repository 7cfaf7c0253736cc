"""Keys in columns against the tuples they stand for: uniting, order, and what is stored of them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossops.encoding import decode, encode
from lossops.groups import NAN, NULL, OTHER, REST, GroupKey, Keys, Part, Parts, numbered

_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": st.text(st.characters(codec="utf-8"), max_size=3),
    "whole numbers": st.integers(-(2**63), 2**63 - 1),
    "numbers": st.floats(allow_nan=False).map(lambda value: value + 0.0),
    "truths": st.booleans(),
}


def keys_of(keys: list[GroupKey], axes: int, *, has_rest: bool = False) -> Keys:
    """Columns of distinct keys."""
    parts = [list(dict.fromkeys(key[axis] for key in keys)) for axis in range(axes)]
    made = [Parts.of(own) for own in parts]
    codes = [[list(made[axis]).index(key[axis]) for axis in range(axes)] for key in keys]
    return Keys(tuple(made), np.array(codes, dtype=np.int64).reshape(len(keys), axes), has_rest)


@st.composite
def tables_of_keys(draw: st.DrawFn) -> tuple[int, list[tuple[list[GroupKey], bool]]]:
    """Some tables of distinct keys with as many axes, and whether each has a group for the rest."""
    axes = draw(st.integers(0, 3))
    kinds = [draw(st.sampled_from(sorted(_VALUES))) for _ in range(axes)]
    parts = [
        st.one_of(st.tuples(st.just(0), _VALUES[kind]), st.sampled_from([NAN, NULL, OTHER]))
        if kind != "text"
        else st.one_of(st.tuples(st.just(0), _VALUES[kind]), st.sampled_from([NULL, OTHER]))
        for kind in kinds
    ]
    keys = st.lists(st.tuples(*parts), unique=True, max_size=6 if axes else 1)
    return axes, draw(st.lists(st.tuples(keys, st.booleans()), min_size=1, max_size=4))


@given(tables_of_keys())
def test_united_keys_are_those_of_all_tables(given_tables: tuple[int, list[tuple[list[GroupKey], bool]]]) -> None:
    """Each key once, and every table's groups at the place of their key; the rest is a group of its own, the last."""
    axes, tables = given_tables
    every = [keys_of(keys, axes, has_rest=rest) for keys, rest in tables]
    found, places = Keys.united(every)
    wanted = [[*keys, *([REST] if rest else [])] for keys, rest in tables]
    own = [[found[place] for place in at] for at in places]
    assert own == wanted
    assert len(found) == len({*found}) if not any(rest for _, rest in tables) else found[len(found) - 1] == REST
    assert {*found} == {key for keys in wanted for key in keys}


@given(tables_of_keys())
def test_keys_are_in_the_order_of_their_tuples(given_tables: tuple[int, list[tuple[list[GroupKey], bool]]]) -> None:
    axes, tables = given_tables
    keys, _ = tables[0]
    found = keys_of(keys, axes)
    assert [found[group] for group in found.order] == sorted(keys)
    assert found == tuple(keys)
    assert len(found) == len(keys)


@given(tables_of_keys())
def test_keys_are_stored_as_they_are(given_tables: tuple[int, list[tuple[list[GroupKey], bool]]]) -> None:
    axes, tables = given_tables
    classes = {"Keys": Keys, "Parts": Parts}
    for keys, rest in tables:
        found = decode(b"".join(encode(keys_of(keys, axes, has_rest=rest), classes)), classes)
        assert [*found] == [*keys, *([REST] if rest else [])]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (pa.array([1, 2], pa.int64()), pa.array([2, 3], pa.uint64()), [1, 2, 3]),
        (pa.array([1, 2], pa.int64()), pa.array([2.0, 2.5]), [1.0, 2.0, 2.5]),
        (pa.array([1, 2], pa.int64()), pa.array(["2", "a"]), ["1", "2", "a"]),
        (pa.array(["a"]), pa.array([], pa.int64()), ["a"]),
        (pa.array([Decimal("1.5")]), pa.array([Decimal("1.50"), Decimal(20)]), [Decimal("1.50"), Decimal(20)]),
        (pa.array([2**64 - 1], pa.uint64()), pa.array([-1], pa.int64()), [2**64 - 1, -1]),
    ],
)
def test_values_of_unlike_columns_are_united(one: pa.Array, other: pa.Array, expected: list[Any]) -> None:
    """What two datasets store in another type is the same value."""
    found, (first, second) = Parts.united([Parts(one), Parts(other, (NULL[0],))])
    assert [value for rank, value in found if not rank] == expected
    assert list(first) == list(range(len(one)))
    assert [found[place] for place in second][-1] == NULL
    assert len(found) == len(expected) + 1


@given(st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=3), max_size=20), st.sampled_from([6, 1 << 25]))
def test_combinations_are_numbered(rows: list[list[int]], size: int) -> None:
    """By a table, or, where there could be more combinations than an int64 holds, by sorting."""
    codes = [np.array([row[axis] for row in rows], dtype=np.int64) for axis in range(3)]
    members, places = numbered(codes, [size] * 3)
    assert members[places].tolist() == rows
    assert len(members) == len({tuple(row) for row in rows})


def test_parts_of_a_column_keep_their_kind() -> None:
    """Values as Python has them, then what is no value."""
    parts: list[Part] = [(0, "b"), NULL, (0, "a"), NAN]
    assert list(Parts.of(parts)) == [(0, "b"), (0, "a"), NULL, NAN]


@given(tables_of_keys())
def test_compact_keys_are_the_same_keys(given_tables: tuple[int, list[tuple[list[GroupKey], bool]]]) -> None:
    """Also where columns have a thousand values more than occur, which are dropped."""
    axes, tables = given_tables
    keys, rest = tables[0]
    found = keys_of(keys, axes, has_rest=rest)
    assert found.compact() == found
    more = [Parts(pa.array([*map(str, range(1000))]), (NULL[0], OTHER[0]))] * axes
    codes = np.array([[7 * place + axis for axis in range(axes)] for place in range(len(keys))], dtype=np.int64)
    codes[:1] = 1001  # which is no value
    loose = Keys(tuple(more), codes.reshape(len(keys), axes), rest)
    compact = loose.compact()
    assert list(compact) == list(loose)
    assert all(len(parts) <= len(keys) for parts in compact.axes)
