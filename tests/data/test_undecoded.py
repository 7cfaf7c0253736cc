"""Keys compared as they are stored: never taken for equal where they are not, never the end of a process."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lossops
from lossops.data.dataset import Dataset, open_dataset
from lossops.data.undecoded import stored_alike

ROWS = 3000


def written(path: Path, table: pa.Table, **options: Any) -> Dataset:
    pq.write_table(table, path, **{"row_group_size": 700, "compression": "zstd", **options})
    return open_dataset([str(path)])


def keys(kind: pa.DataType | None = None) -> pa.Array:
    return pa.array(np.arange(ROWS) * 3 + 1, kind or pa.int64())


def beside(key: pa.Array, seed: int) -> pa.Table:
    """A key with other columns before and behind it, of sizes of their own."""
    random = np.random.default_rng(seed)
    return pa.table(
        {"v": random.normal(size=ROWS), "id": key, "w": [f"word {one}" for one in range(seed, seed + ROWS)]}
    )


def alike(one: Dataset, other: Dataset, start: int = 0, stop: int = ROWS) -> bool:
    return stored_alike((one.shards[0], other.shards[0]), ["id"], start, stop)


@pytest.mark.parametrize("kind", [pa.int64(), pa.int16(), pa.date32(), pa.string(), pa.decimal128(21, 2)], ids=str)
def test_files_of_one_writer_are_alike(kind: pa.DataType, tmp_path: Path) -> None:
    key = keys(pa.int32() if kind == pa.date32() else None).cast(kind)
    one, other = (written(tmp_path / f"{seed}.parquet", beside(key, seed)) for seed in (1, 2))
    assert alike(one, other)
    assert alike(one, other, 700, 1400)
    assert not stored_alike((one.shards[0], other.shards[0]), ["id", "v"], 0, ROWS)


def test_lists_beside_the_key_do_not_hide_it(tmp_path: Path) -> None:
    lists = pa.array([[0.5, 0.25]] * ROWS)
    one = written(tmp_path / "1.parquet", pa.table({"p": lists, "id": keys()}))
    assert alike(one, written(tmp_path / "2.parquet", beside(keys(), 2)))


def test_what_is_alike_decodes_to_the_same(tmp_path: Path) -> None:
    """Every pair of files that differ in the values, how they are written, or only in columns that do not matter."""
    other = keys().to_numpy().copy()
    other[2900] += 1
    nulls = pa.array(keys().to_numpy(), mask=np.arange(ROWS) == 5)
    required = pa.schema([pa.field("v", pa.float64()), pa.field("id", pa.int64(), nullable=False), ("w", pa.string())])
    tables = {
        "same": beside(keys(), 1),
        "again": beside(keys(), 2),
        "late": beside(pa.array(other), 3),
        "nulls": beside(nulls, 4),
        "unsigned": beside(keys(pa.uint64()), 5),
        "required": beside(keys(), 6).cast(required),
    }
    options: list[dict[str, Any]] = [{}, {"compression": "snappy"}, {"row_group_size": 500}, {"use_dictionary": False}]
    options += [{"use_dictionary": False, "column_encoding": {"id": "DELTA_BINARY_PACKED"}}, {"compression": "none"}]
    files = [
        (name, number, written(tmp_path / f"{name}-{number}.parquet", table, **option))
        for name, table in tables.items()
        for number, option in enumerate(options)
    ]
    found = set()
    for (name, number, one), (their_name, their_number, another) in itertools.combinations(files, 2):
        columns = [pq.read_table(side.shards[0].path)["id"] for side in (one, another)]
        if alike(one, another):
            assert columns[0].equals(columns[1])
            found.add((name, their_name, number, their_number))
    assert found == {("same", "again", number, number) for number in range(len(options))}


def test_a_bit_of_the_key_is_noticed(tmp_path: Path) -> None:
    one, other = (written(tmp_path / f"{seed}.parquet", beside(keys(), seed)) for seed in (1, 2))
    content = Path(other.shards[0].path).read_bytes()
    chunks = [pq.ParquetFile(other.shards[0].path).metadata.row_group(group).column(1) for group in range(5)]
    random = np.random.default_rng(3)
    for chunk in chunks:
        for _ in range(20):
            damaged = bytearray(content)
            at = chunk.dictionary_page_offset + int(random.integers(chunk.total_compressed_size))
            damaged[at] ^= 1 << int(random.integers(8))
            Path(other.shards[0].path).write_bytes(damaged)
            assert not alike(one, other)
    Path(other.shards[0].path).write_bytes(content)
    assert alike(one, other)


FLIPS = """
import sys
import numpy as np
import lossops
from lossops.data.dataset import open_dataset
from lossops.data.undecoded import stored_alike
from lossops.errors import InputError
good, path, trials = sys.argv[1], sys.argv[2], int(sys.argv[3])
content = open(path, "rb").read()
footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
one, random, refused = open_dataset([good]), np.random.default_rng(3), 0
expected = [row for table in one.read(one.shards[0], ["id"], 0, one.shards[0].rows, 256) for row in table.to_pylist()]
for _ in range(trials):
    damaged, at = bytearray(content), random.integers(footer, len(content))
    damaged[at] ^= 1 << random.integers(8)
    open(path, "wb").write(damaged)
    try:
        other = open_dataset([path])
        alike = stored_alike((one.shards[0], other.shards[0]), ["id"], 0, one.shards[0].rows)
        tables = list(other.read(other.shards[0], ["id"], 0, other.shards[0].rows, 256))
        assert not alike or [row for table in tables for row in table.to_pylist()] == expected, at - footer
    except InputError:
        refused += 1
print(refused)
"""


def test_a_flipped_bit_in_the_footer_neither_hides_a_difference_nor_ends_the_process(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{seed}.parquet") for seed in (1, 2)]
    for seed, path in enumerate(paths):
        written(Path(path), beside(keys(), seed))
    words = [sys.executable, "-c", FLIPS, *paths, "1500"]
    found = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) > 100


@pytest.mark.parametrize("repeated", [False, True])
def test_how_keys_are_stored_changes_no_digit(repeated: bool, tmp_path: Path) -> None:
    """Also where both sides store the same keys, of which one occurs twice: rows of that are not scored."""
    rows = 600_000  # of fewer nobody looks at how they are stored
    ids = np.arange(rows)
    if repeated:
        ids[1000] = ids[999]
    random = np.random.default_rng(8)
    table = pa.table({"id": ids, "p": random.normal(size=rows), "y": random.normal(size=rows)})
    reports = []
    ways: dict[str, dict[str, Any]] = {"alike": {}, "apart": {"compression": "snappy", "row_group_size": 190_000}}
    for name, options in ways.items():
        folder = tmp_path / name
        folder.mkdir()
        pq.write_table(table.select(["p", "id"]), folder / "predictions.parquet", row_group_size=150_000)
        pq.write_table(table.select(["id", "y"]), folder / "labels.parquet", **{"row_group_size": 150_000, **options})
        one, other = (open_dataset([str(folder / f"{side}.parquet")]) for side in ("predictions", "labels"))
        assert alike(one, other, stop=rows) == (name == "alike")
        config = {
            "name": name,
            "labels": {"path": str(folder / "labels.parquet"), "label": "y"},
            "models": {"m": {"path": str(folder / "predictions.parquet"), "prediction": "p"}},
            "key": "id",
            "losses": ["mean_squared_error"],
            "output": str(folder),
        }
        reports.append(lossops.evaluate(config))
    assert reports[0].losses.equals(reports[1].losses)
    assert reports[0].losses["rows"][0].as_py() == (rows - 2 if repeated else rows)
    assert [one["mode"] for one in reports[0].run["alignment"]][-1] == ("broadcast" if repeated else "position")


@pytest.mark.parametrize("key", ["id", None])
def test_a_side_of_which_no_column_is_needed(key: str | None, tmp_path: Path) -> None:
    """Of labels that no loss looks at, only the rows count."""
    rows = 600_000
    random = np.random.default_rng(2)
    table = pa.table({"id": np.arange(rows), **{name: random.normal(size=rows) for name in "abc"}})
    pq.write_table(table, tmp_path / "predictions.parquet")
    pq.write_table(table.select(["id"]), tmp_path / "labels.parquet")
    config = {
        "name": "alone",
        "labels": {"path": str(tmp_path / "labels.parquet")},
        "models": {"m": {"path": str(tmp_path / "predictions.parquet"), "prediction": ["a", "b", "c"]}},
        "key": key,
        "losses": ["triplet_margin"],
        "output": str(tmp_path),
    }
    assert lossops.evaluate(config).losses["rows"][0].as_py() == rows
