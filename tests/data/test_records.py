"""Rows in memory against Arrow's own take."""

from __future__ import annotations

import datetime as dt
import decimal
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from lossops.data.records import Records, RecordsBuilder, TooManyValuesError

TEXT = pa.dictionary(pa.int32(), pa.string())
VALUES: dict[pa.DataType, list[Any]] = {
    pa.int8(): [1, None, -128, 127, 0],
    pa.uint64(): [2**64 - 1, 0, None, 5, 6],
    pa.float16(): [np.float16(0.1), None, np.float16("inf"), np.float16(-0.0), np.float16(1)],
    pa.float32(): [0.5, None, float("inf"), -1.0, 2.0],
    pa.float64(): [0.1, 1e300, None, -0.0, 3.0],
    pa.bool_(): [True, None, False, True, False],
    pa.date32(): [dt.date(2020, 1, 1), None, dt.date(1900, 1, 1), dt.date(1970, 1, 1), dt.date(2026, 1, 1)],
    pa.timestamp("us", "UTC"): [dt.datetime(2020, 1, 1, tzinfo=dt.UTC), None, None, None, None],
    pa.string(): ["a", None, "", "\0", "ä"],
    pa.decimal128(10, 2): [decimal.Decimal("1.25"), None, decimal.Decimal(0), decimal.Decimal(3), decimal.Decimal(4)],
    pa.list_(pa.float32()): [[1.0], None, [], [2.0, 3.0], [None]],
    pa.list_(pa.float64(), 2): [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0], [9.0, 1.0]],
    pa.struct([("x", pa.float64())]): [{"x": 1.0}, None, {"x": None}, {"x": 2.0}, {"x": 3.0}],
    pa.null(): [None] * 5,
    TEXT: ["b", None, "c", "b", "d"],
    pa.dictionary(pa.int8(), pa.int64()): [5, None, 5, 6, 7],
}


@dataclass
class Held:
    """Rows of tables as records, each behind a key."""

    meaning: Records
    records: npt.NDArray[np.uint64]

    def take(self, rows: npt.NDArray[np.int64]) -> pa.Table:
        return self.meaning.table(self.records[rows, 1:], rows)


def held(tables: list[pa.Table], schema: pa.Schema, categories: list[str], *, wide: bool = False) -> Held:
    builder = RecordsBuilder(schema, categories, wide=wide)
    starts = np.cumsum([0, *(table.num_rows for table in tables)]).tolist()
    records = np.zeros((starts[-1], 1 + builder.words), dtype=np.uint64)
    records[:, 0] = 2**64 - 1
    for start, table in reversed(list(zip(starts, tables, strict=False))):  # in any order
        builder.fill(records[start : start + table.num_rows, 1:], start, table)
    meaning = builder.finish()
    assert builder.hold_all == (meaning.others.num_columns == 0)
    return Held(meaning, records)


@pytest.mark.parametrize("kinds", [[one] for one in VALUES] + [list(VALUES)], ids=str)
def test_any_rows_of_any_columns(kinds: list[pa.DataType]) -> None:
    table = pa.table({str(kind): pa.array(VALUES[kind], kind) for kind in kinds})
    records = held([table.slice(0, 2), table.slice(2, 1), table.slice(3)], table.schema, [])
    rows = np.array([4, 0, 0, 3, 1, 2, 1])
    found, expected = records.take(rows), table.take(pa.array(rows))
    assert found.num_rows == 7
    assert found.to_pylist() == expected.to_pylist()
    assert records.take(np.empty(0, dtype=np.int64)).num_rows == 0
    without_nulls = records.take(np.array([0]))
    assert without_nulls.to_pylist() == table.slice(0, 1).to_pylist()


def test_dictionaries_of_all_tables_are_one() -> None:
    """Codes differ by table, values repeat in a dictionary, are missing in it, or come without one."""
    odd = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, None]), pa.array(["x", "x", None]))
    columns = [
        pa.array(["x", "y"]).dictionary_encode(),
        pa.array(["y", None, "z"]).dictionary_encode(),
        pa.array(["z", "w"]),
        odd,
        pa.array([None], TEXT),
    ]
    tables = [pa.table({"c": column}) for column in columns]
    records = held(tables, pa.schema([("c", pa.string())]), ["c"])
    wanted = [value for column in columns for value in column.to_pylist()]
    rows = np.arange(len(wanted))[::-1]
    found = records.take(rows)["c"]
    assert found.to_pylist() == wanted[::-1]
    assert sorted(found.chunk(0).dictionary.to_pylist()) == ["w", "x", "y", "z"]


def test_more_values_than_narrow_codes() -> None:
    texts = [f"v{number}" for number in range(70_000)]
    table = pa.table({"c": pa.array(texts).dictionary_encode()})
    with pytest.raises(TooManyValuesError):
        held([table], table.schema, [])
    rows = np.array([69_999, 0, 65_536])
    assert held([table], table.schema, [], wide=True).take(rows)["c"].to_pylist() == [texts[row] for row in rows]


def test_more_columns_than_bits() -> None:
    table = pa.table({f"c{n}": pa.array([n, None, n + 1]) for n in range(70)})
    assert held([table], table.schema, []).take(np.array([2, 1])).to_pylist() == table.take([2, 1]).to_pylist()
