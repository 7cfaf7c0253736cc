"""Every way of pairing rows against a brute force in pandas, and against each other, to the last bit."""

from __future__ import annotations

import datetime as dt
import decimal
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lossops.config import parse_config
from lossops.errors import ConfigError, InputError
from lossops.modes import replanned
from lossops.pairing import Budget
from lossops.plan import make_plan
from lossops.runs import Scores
from tests.datasets import cut, write_shards
from tests.here import score_here

TINY = Budget(memory=1 << 14, threads=1)  # pieces of 2 KiB: many buckets, and several parts of each
CELL = ("m", "mean_squared_error")
REASONS = ("null_key", "no_label", "no_prediction", "duplicate_key")


def config(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "name": "join",
        "labels": {"path": str(folder / "labels"), "label": "y"},
        "models": {"m": {"path": str(folder / "predictions"), "prediction": "p"}},
        "key": "id",
        "losses": ["mean_squared_error"],
        "output": str(folder / "reports"),
        **more,
    }


def chosen(rows: pd.DataFrame, rule: str, ordered: bool) -> pd.DataFrame:
    """Return the rows that count for their key: those of keys that occur once, and what the rule chooses."""
    kept = []
    for _, group in rows[rows.id.notna()].groupby("id", sort=False):
        if len(group) == 1:
            kept.append(group)
        elif rule != "drop" and ordered and group["at"].notna().any():
            best = group["at"].min() if rule == "first" else group["at"].max()
            winners = group[group["at"] == best]
            if len(winners) == 1:
                kept.append(winners)
    return pd.concat(kept) if kept else rows.iloc[:0]


def oracle(
    predictions: pd.DataFrame, labels: pd.DataFrame, rule: str = "drop", ordered: Sequence[str] = ()
) -> tuple[npt.NDArray[np.float64], dict[str, Counter[str]]]:
    """Return the losses of the rows that pair, and for each side how many rows do not, by reason."""
    left, right = chosen(predictions, rule, "predictions" in ordered), chosen(labels, rule, "labels" in ordered)
    pairs = left.merge(right, on="id", suffixes=("", "_label"))
    asked, known, paired = set(predictions.id.dropna()), set(labels.id.dropna()), set(pairs.id)
    reasons: dict[str, Counter[str]] = {"predictions": Counter(), "labels": Counter()}
    for key in predictions.id:
        reason = "null_key" if pd.isna(key) else "no_label" if key not in known else "duplicate_key"
        reasons["predictions"][reason] += 1
    alone = set(right.id)
    for key in labels.id:
        reason = "null_key" if pd.isna(key) else "duplicate_key"
        reasons["labels"][reason] += 1
    reasons["labels"]["no_prediction"] += len(alone - asked)
    reasons["labels"]["duplicate_key"] -= len(alone - asked)
    for side in reasons.values():
        side["duplicate_key"] -= len(paired)
    return ((pairs.p - pairs.y) ** 2).to_numpy(), reasons


def check(scores: Scores, predictions: pd.DataFrame, labels: pd.DataFrame, *rule: Any) -> None:
    losses, reasons = oracle(predictions, labels, *rule)
    counted = {(one.dataset, one.reason): one.rows for one in scores.ledger}
    for side, rows in (("predictions", predictions), ("labels", labels)):
        for reason in REASONS:
            assert counted.get((side, reason), 0) == reasons[side][reason], (side, reason)
        assert counted[side, "scored"] == len(losses)
        assert sum(count for (where, _), count in counted.items() if where == side) == len(rows)
    if len(losses):
        sums = scores.state.tables[0].sums[CELL]
        assert sums.counts[0, 1] == len(losses)
        assert sums.extremes[0, 0] == losses.min()
        assert sums.extremes[0, 1] == losses.max()


def same_bits(one: Scores, other: Scores) -> None:
    assert one.ledger == other.ledger
    mine, theirs = (scores.state.tables[0].sums.get(CELL) for scores in (one, other))
    assert (mine is None) == (theirs is None)
    if mine is not None and theirs is not None:
        assert np.array_equal(mine.digits, theirs.digits)
        assert np.array_equal(mine.extremes, theirs.extremes)


def frame(random: np.random.Generator, ids: npt.NDArray[Any], value: str) -> pd.DataFrame:
    return pd.DataFrame({"id": ids, value: random.normal(size=len(ids))})


def hard(random: np.random.Generator, rows: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A key that half of all rows have, 30 % without a partner on each side, some keys twice, order at random."""
    ids = random.permutation(rows * 2)
    shared, only_left, only_right = ids[: rows * 7 // 10], ids[rows : rows * 13 // 10], ids[-rows * 3 // 10 :]
    sides = []
    for own, value in ((only_left, "p"), (only_right, "y")):
        every = np.concatenate([shared, own, random.choice(shared, rows // 20)])
        hot = np.full(len(every), -5)
        sides.append(frame(random, random.permutation(np.concatenate([every, hot])), value))
    return sides[0], sides[1]


@pytest.mark.parametrize("mode", ["broadcast", "spill"])
@pytest.mark.parametrize("shards", [1, 2, 3, 7, 127, 128, 129, 130, 257])
def test_partition_counts(tmp_path: Path, shards: int, mode: Any) -> None:
    """Counts at which other engines lost rows."""
    predictions, labels = hard(np.random.default_rng(shards), 2000)
    write_shards(tmp_path / "predictions", cut(pa.Table.from_pandas(predictions), shards))
    write_shards(tmp_path / "labels", cut(pa.Table.from_pandas(labels), 3))
    check(score_here(config(tmp_path), mode, Budget(1 << 20, 1)), predictions, labels)


INSTANT = dt.datetime(2026, 3, 29, 1, 30, tzinfo=dt.UTC)
KEYS: dict[str, tuple[Callable[[int], Any], pa.DataType, pa.DataType]] = {
    "int64 and int16": (lambda i: i - 50, pa.int64(), pa.int16()),
    "uint64 and int64": (lambda i: i, pa.uint64(), pa.int64()),
    "large uint64": (lambda i: 2**64 - 1 - i, pa.uint64(), pa.uint64()),
    "uint8 and uint32": (lambda i: i, pa.uint8(), pa.uint32()),
    "string and large_string": (lambda i: f"key-{i}" + "x" * i, pa.string(), pa.large_string()),
    "dictionary and string_view": (lambda i: f"ü{i}", pa.dictionary(pa.int8(), pa.string()), pa.string_view()),
    "string_view and string_view": (lambda i: f"ü{i}" + "x" * i, pa.string_view(), pa.string_view()),
    "binary_view and binary": (lambda i: bytes([i, 0, 255 - i]), pa.binary_view(), pa.binary()),
    "binary and fixed": (lambda i: bytes([i, 0, 255 - i]), pa.binary(), pa.binary(3)),
    "date32 and date64": (lambda i: dt.date(1969, 12, 1) + dt.timedelta(i), pa.date32(), pa.date64()),
    "timestamps": (
        lambda i: INSTANT + dt.timedelta(seconds=i),
        pa.timestamp("s", "UTC"),
        pa.timestamp("ns", "UTC"),
    ),
    "zones": (
        lambda i: INSTANT + dt.timedelta(minutes=i),
        pa.timestamp("ms", "America/New_York"),
        pa.timestamp("us", "Asia/Kolkata"),
    ),
    "decimals": (lambda i: decimal.Decimal(i - 50).scaleb(-2), pa.decimal128(9, 2), pa.decimal256(40, 10)),
}


@pytest.mark.parametrize("mode", ["broadcast", "spill", "shard"])
@pytest.mark.parametrize("name", KEYS)
def test_key_types(tmp_path: Path, name: str, mode: Any) -> None:
    """The same value pairs whatever its storage."""
    make, here, there = KEYS[name]
    random = np.random.default_rng(5)
    left, right = random.permutation(100)[:80], random.permutation(100)[:70]
    predictions, labels = frame(random, left, "p"), frame(random, right, "y")
    for folder, rows, kind in (("predictions", predictions, here), ("labels", labels, there)):
        plain = pa.string() if pa.types.is_dictionary(kind) else kind
        keys = pa.array([make(int(i)) for i in rows.id], plain)
        table = pa.table({"id": keys.cast(kind), rows.columns[1]: rows.iloc[:, 1]})
        write_shards(tmp_path / folder, [table])
    check(score_here(config(tmp_path), mode, TINY if mode == "spill" else None), predictions, labels)


def test_key_of_several_columns(tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    sides = [frame(random, random.permutation(300)[:200], value) for value in "py"]
    for folder, rows in zip(("predictions", "labels"), sides, strict=True):
        table = pa.table({"day": [f"d{i % 7}" for i in rows.id], "n": rows.id // 7, rows.columns[1]: rows.iloc[:, 1]})
        write_shards(tmp_path / folder, cut(table, 3))
    for mode in ("broadcast", "spill"):
        check(score_here(config(tmp_path, key=["day", "n"]), mode, TINY), *sides)  # type: ignore[arg-type]


def test_all_ways_give_the_same_bits(tmp_path: Path) -> None:
    """Where positions hold, every join must find the same."""
    random = np.random.default_rng(7)
    ids = np.sort(random.choice(10**6, 5000, replace=False))
    predictions, labels = frame(random, ids, "p"), frame(random, ids, "y")
    write_shards(tmp_path / "predictions", cut(pa.Table.from_pandas(predictions), 6), row_group_size=100)
    write_shards(tmp_path / "labels", cut(pa.Table.from_pandas(labels), 6), row_group_size=170)
    by_position = score_here(config(tmp_path))
    assert by_position.plan.pairings[0].mode == "position"
    check(by_position, predictions, labels)
    for mode in ("shard", "broadcast", "merge", "spill"):
        other = score_here(config(tmp_path), mode, Budget(1 << 18, 1))  # type: ignore[arg-type]
        assert other.plan.pairings[0].mode == mode
        same_bits(by_position, other)


def test_shards_are_joined_one_by_one_where_each_holds_the_keys_of_the_one_beside_it(tmp_path: Path) -> None:
    """Keys are looked at up to the last row of a shard; a single row without a partner is no agreement."""
    random, size = np.random.default_rng(12), 80_000
    shared, left, right = (np.arange(size) + start for start in (0, 10**6, 2 * 10**6))
    shuffled = random.permutation(shared)
    cases = {
        "the same keys": ([shuffled, shared + size], [shared, random.permutation(shared + size)]),
        "the same keys at the end": (  # of the smaller pair of shards, which is looked at
            [np.concatenate([left[:70_000], shared]), np.arange(size, 3 * size)],
            [np.concatenate([right[:70_000], shuffled]), random.permutation(np.arange(size, 3 * size))],
        ),
        "swapped": ([shuffled, shared + size], [shared + size, shared]),
        "one row": ([np.array([-5]), shared], [left, shuffled]),
    }
    for name, found in cases.items():
        for side, value, parts in zip(("predictions", "labels"), "py", found, strict=True):
            tables = [pa.table({"id": ids, value: np.zeros(len(ids))}) for ids in parts]
            write_shards(tmp_path / name / side, tables)
        pairing = make_plan(parse_config(config(tmp_path / name))).pairings[0]
        assert (pairing.mode == "shard") == name.startswith("the same"), name
        assert ("not shard: shards at the same place do not hold the same keys" in pairing.why) == (
            pairing.mode != "shard"
        )


@pytest.mark.parametrize("mode", ["broadcast", "spill", "shard"])
def test_keys_of_a_dictionary_larger_than_a_batch(tmp_path: Path, mode: Any) -> None:
    """As Arrow files have, in which all batches share one."""
    random = np.random.default_rng(13)
    words = pa.array([f"key-{i}" for i in range(5000)])
    sides = [frame(random, random.permutation(5000)[:1000], value) for value in "py"]
    for folder, rows in zip(("predictions", "labels"), sides, strict=True):
        keys = pa.DictionaryArray.from_arrays(pa.array(rows.id.to_numpy()), words)
        (tmp_path / folder).mkdir()
        with pa.ipc.new_file(
            tmp_path / folder / "part.arrow", pa.schema([("id", keys.type), (rows.columns[1], "f8")])
        ) as file:
            table = pa.table({"id": keys, rows.columns[1]: rows.iloc[:, 1]})
            file.write_table(table, max_chunksize=300)
    check(score_here(config(tmp_path), mode, TINY if mode == "spill" else None), *sides)


def test_shards_of_very_different_size(tmp_path: Path) -> None:
    predictions, labels = hard(np.random.default_rng(8), 3000)
    for folder, rows in (("predictions", predictions), ("labels", labels)):
        table = pa.Table.from_pandas(rows)
        sizes = [0, 1, 0, len(rows) - 20, 0, 19, 0]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        write_shards(tmp_path / folder, [table.slice(int(a), b) for a, b in zip(starts, sizes, strict=False)])
    for mode in ("broadcast", "spill"):
        check(score_here(config(tmp_path), mode, Budget(1 << 17, 1)), predictions, labels)  # type: ignore[arg-type]


@st.composite
def sides(draw: st.DrawFn) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two small tables whose keys repeat, miss and are null, with order values that tie and miss."""
    found = []
    for value in "py":
        keys = draw(st.lists(st.one_of(st.none(), st.integers(-3, 12)), max_size=25))
        order = draw(st.lists(st.one_of(st.none(), st.integers(0, 3)), min_size=len(keys), max_size=len(keys)))
        numbers = np.random.default_rng(len(keys)).normal(size=len(keys))
        columns = {"id": pd.array(keys, dtype="Int64"), value: numbers, "at": pd.array(order, dtype="Int64")}
        found.append(pd.DataFrame(columns))
    return found[0], found[1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    tables=sides(),
    shards=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    rule=st.sampled_from(["drop", "first", "last"]),
    ordered=st.sampled_from([("labels",), ("predictions",), ("predictions", "labels")]),
    mode=st.sampled_from(["broadcast", "spill"]),
)
def test_duplicates_under_each_rule(
    tables: tuple[pd.DataFrame, pd.DataFrame], shards: tuple[int, int], rule: str, ordered: Any, mode: Any
) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        for name, rows, count in zip(("predictions", "labels"), tables, shards, strict=True):
            write_shards(folder / name, cut(pa.Table.from_pandas(rows, preserve_index=False), count))
        more = {} if rule == "drop" else {"duplicates": rule, "order_by": [f"{side}.at" for side in ordered]}
        scores = score_here(config(folder, **more), mode, TINY if mode == "spill" else None)
        check(scores, *tables, rule, ordered)
    finally:
        shutil.rmtree(folder)


def test_duplicates_fail(tmp_path: Path) -> None:
    table = pa.table({"id": [1, 2, 2], "p": [1.0, 2.0, 3.0]})
    write_shards(tmp_path / "predictions", [table])
    write_shards(tmp_path / "labels", [table.rename_columns(["id", "y"]).slice(0, 2)])
    with pytest.raises(
        InputError,
        match=r"^2 rows of .*predictions and 1 row of .*labels cannot be paired, because their id occurs",
    ):
        score_here(config(tmp_path, duplicates="fail"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"duplicates": "first"}, "order_by: missing"),
        ({"order_by": "at"}, "order_by: duplicates: drop does not go by it"),
        ({"duplicates": "fail", "key": None}, "duplicates: fail without a key"),
        ({"memory": "lots"}, "memory: 'lots'; allowed: a size such as 2GiB"),
        ({"memory": "1MiB"}, "memory: '1MiB'; allowed: at least 128MiB"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        score_here(config(tmp_path, **more))


def test_planner_goes_by_facts(tmp_path: Path) -> None:
    """Sorted sides that do not fit in memory are merged by their ranges; without ranges they go through files."""
    random = np.random.default_rng(9)
    ids = np.arange(20_000)
    for ordered, mode in ((True, "merge"), (False, "spill")):
        folder = tmp_path / mode
        for name, value, count in (("predictions", "p", 4), ("labels", "y", 3)):
            rows = frame(random, ids if ordered else random.permutation(ids), value)
            write_shards(folder / name, cut(pa.Table.from_pandas(rows), count), row_group_size=500)
        plan = make_plan(parse_config(config(folder)))
        assert plan.pairings[0].mode == "broadcast"
        small = replace(plan.pairings[0], budget=Budget(1 << 20, 1))
        assert replanned(small, "broadcast", "as if it did not fit").mode == mode


def test_ranges_that_lie(tmp_path: Path) -> None:
    """A key outside the range that its row group states must not be lost: the merge is given up."""
    random = np.random.default_rng(10)
    ids = np.arange(4000)
    predictions, labels = frame(random, ids, "p"), frame(random, ids, "y")
    write_shards(tmp_path / "predictions", cut(pa.Table.from_pandas(predictions), 4), row_group_size=100)
    write_shards(tmp_path / "labels", cut(pa.Table.from_pandas(labels), 3), row_group_size=100)
    path = tmp_path / "labels" / "part-00001.parquet"
    table = pq.read_table(path)
    low, high = (int(value).to_bytes(8, "little") for value in (table["id"][0].as_py(), table["id"][99].as_py()))
    content = path.read_bytes()
    liar = content.replace(high, (int.from_bytes(high, "little") - 50).to_bytes(8, "little"))
    body, footer = content.rfind(low), len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    assert body > 0
    path.write_bytes(content[:footer] + liar[footer:])
    scores = score_here(config(tmp_path), "merge", Budget(1 << 16, 1))
    assert scores.plan.pairings[0].mode == "spill"
    check(scores, predictions, labels)
