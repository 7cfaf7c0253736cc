"""Labels in memory against a dictionary; the rules for duplicates are in tests/test_joins.py."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from functools import reduce

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossops.data.formats import Bounds
from lossops.data.index import LabelIndex, Seen, build_index
from lossops.errors import ShardError

NUMBERS = [7, None, -3, 10**12, 7, 0]
KINDS = [
    (pa.int64(), pa.dictionary(pa.int8(), pa.int64())),
    (pa.dictionary(pa.int16(), pa.int64()), pa.int64()),
    (pa.uint64(), pa.uint64()),
    (pa.string(), pa.large_string()),
    (pa.string(), pa.dictionary(pa.int32(), pa.string())),
]


def index_of(tables: list[pa.Table], threads: int = 2, bounds: Bounds | None = None) -> LabelIndex:
    runs = [(table.num_rows, lambda table=table: [table]) for table in tables]
    return build_index(runs, ["id"], ["y"], tables[0].schema, threads=threads, bounds=bounds)


def keys(kind: pa.DataType, values: list[int | None]) -> pa.ChunkedArray:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    text = plain in (pa.string(), pa.large_string())
    given = [value if value is None else f"key {value}" if text else abs(value) for value in values]
    found = pa.array(given, plain)
    return pa.chunked_array([found.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else found])


@pytest.mark.parametrize(("first", "second"), KINDS, ids=str)
def test_shards_may_store_keys_in_several_ways(first: pa.DataType, second: pa.DataType) -> None:
    """As long as the values are of one type; null keys pair with nothing, keys that occur twice are told."""
    tables = [
        pa.table({"id": keys(first, NUMBERS), "y": np.arange(6.0)}),
        pa.table({"id": keys(second, [5, 8]), "y": [6.0, 7.0]}),
    ]
    index = index_of(tables)
    asked = [8, 7, None, 4, 10**12, 5]
    found = index.match([keys(first, asked)])
    assert found.unaligned == {"null_key": 1, "no_label": 1, "duplicate_key": 1}
    assert found.aligned is not None
    assert found.labels["y"].to_pylist() == [7.0, 3.0, 6.0]
    seen = index.none_seen()
    seen.add(found.places)
    assert index.ledger(seen.settled()) == {"null_key": 1, "duplicate_key": 2, "no_prediction": 2}
    assert not index.is_asked_twice(seen.settled())


def test_large_unsigned_numbers_are_no_negative_ones() -> None:
    """Of 64 bits, which both have."""
    labels = pa.table({"id": pa.array([-1, 2]), "y": [1.0, 2.0]})
    found = index_of([labels]).match([pa.chunked_array([pa.array([2**64 - 1, 2], pa.uint64())])])
    assert found.unaligned["no_label"] == 1
    wide = pa.table({"id": pa.array([2**64 - 1, 2], pa.uint64()), "y": [1.0, 2.0]})
    assert index_of([wide]).match([pa.chunked_array([pa.array([-1, 2])])]).unaligned["no_label"] == 1


@pytest.mark.parametrize("spread", [1, 1 << 40], ids=["placed", "hashed"])
@pytest.mark.parametrize("threads", [1, 3])
def test_many_keys_in_many_parts(spread: int, threads: int) -> None:
    random = np.random.default_rng(5)
    ids = random.permutation(200_000) * spread
    tables = [pa.table({"id": part, "y": part / 2.0}) for part in np.array_split(ids, 7)]
    index = index_of(tables, threads, Bounds(0, 200_000 * spread))
    assert len(index.marks) == 200_000 + (spread == 1)
    asked = random.integers(0, 250_000, 10_000) * spread
    found = index.match([pa.chunked_array([pa.array(asked)])])
    known = asked < 200_000 * spread
    assert found.aligned is not None
    assert found.aligned.tolist() == known.tolist()
    assert np.array_equal(found.labels["y"].to_numpy(), asked[known] / 2.0)


def ledger_of(index: LabelIndex, asked: list[int | None]) -> tuple[Mapping[str, int], Mapping[str, int], list[float]]:
    found, seen = index.match([pa.chunked_array([pa.array(asked, pa.int64())])]), index.none_seen()
    seen.add(found.places)
    if index.is_asked_twice(seen.settled()):
        return ledger_of(index.without_asked_twice(seen.settled()), asked)
    return found.unaligned, index.ledger(seen.settled()), found.labels["y"].to_pylist()


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 12)), min_size=1, max_size=20),
    st.lists(st.one_of(st.none(), st.integers(-2, 14)), max_size=20),
)
def test_both_ways_of_holding_labels_tell_the_same(ids: list[int | None], asked: list[int | None]) -> None:
    """Labels at their places, and labels in a table; also where ranges that files state are wrong."""
    labels = pa.table({"id": pa.array(ids, pa.int64()), "y": np.arange(float(len(ids)))})
    hashed = ledger_of(index_of([labels]), asked)
    own = [one for one in ids if one is not None]
    count = {key: own.count(key) for key in own}
    known = [key for key in asked if count.get(key) == 1 and asked.count(key) == 1]
    assert hashed[2] == [float(ids.index(key)) for key in known]
    assert sum(hashed[1].values()) + len(known) == len(ids)
    for low, high in ((0, 12), (min(own, default=0), max(own, default=0)), (3, 9)):
        assert ledger_of(index_of([labels], bounds=Bounds(low, high)), asked) == hashed


def test_more_values_of_a_category_than_are_usual() -> None:
    texts = [f"v{number}" for number in range(70_000)]
    table = pa.table({"id": np.arange(70_000), "s": pa.array(texts).dictionary_encode()})
    index = build_index([(70_000, lambda: [table])], ["id"], ["s"], table.schema, bounds=Bounds(0, 69_999))
    found = index.match([pa.chunked_array([pa.array([69_999, 1])])])
    assert found.aligned is None
    assert found.labels["s"].to_pylist() == ["v69999", "v1"]


def test_an_error_of_a_reader_is_raised() -> None:
    def broken() -> Iterator[pa.Table]:
        raise ShardError("b.parquet", "it is damaged")
        yield

    table = pa.table({"id": [1], "y": [1.0]})
    with pytest.raises(ShardError, match=r"b\.parquet"):
        build_index([(1, lambda: [table]), (1, broken)], ["id"], ["y"], table.schema, threads=2)


def test_no_labels_at_all() -> None:
    table = pa.table({"id": pa.array([], pa.int64()), "y": pa.array([], pa.float64())})
    index = index_of([table])
    found = index.match([pa.chunked_array([pa.array([1, None])])])
    assert found.unaligned == {"null_key": 1, "no_label": 1, "duplicate_key": 0}
    assert index.ledger(None) == {"null_key": 0, "duplicate_key": 0, "no_prediction": 0}


@given(st.lists(st.lists(st.integers(0, 30), max_size=20), min_size=1, max_size=4))
def test_what_is_asked_for_adds_up(batches: list[list[int]]) -> None:
    """Whether a label is asked for twice in one piece of work or in two."""
    parts = []
    for batch in batches:
        part = Seen.none(31)
        part.add(np.array(batch, dtype=np.int64))
        parts.append(part.settled())
    total = reduce(operator.add, parts)
    counts = np.bincount([one for batch in batches for one in batch], minlength=31)
    bits = [np.unpackbits(one, count=31) if len(one) else np.zeros(31) for one in (total.once, total.twice)]
    assert [one.tolist() for one in bits] == [(counts > 0).tolist(), (counts > 1).tolist()]
