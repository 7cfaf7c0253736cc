"""Finding and reading shards: paths, folders, globs, lists, partition folders, URLs and formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from pyarrow import feather, ipc
from pyarrow.fs import LocalFileSystem

from lossops.data.dataset import Dataset, open_dataset
from lossops.data.formats import _Parquet
from lossops.errors import InputError, ShardError
from tests.datasets import cut, write_shards

TABLE = pa.table({"id": list(range(1000)), "p": [i / 1000 for i in range(1000)], "city": ["Ulm", "Bonn"] * 500})


def read_all(dataset: Dataset, columns: list[str] | None = None, rows: int = 64) -> pa.Table:
    names = columns or dataset.schema.names
    tables = [
        table
        for number, shard in enumerate(dataset.shards)
        for table in dataset.read(shard, names, 0, shard.rows, rows)
    ]
    return pa.concat_tables(tables)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(write_shards(tmp_path / "data", cut(TABLE, 4), row_group_size=70))


def test_file_folder_glob_and_list_name_the_same_rows(folder: Path) -> None:
    files = sorted(str(path) for path in folder.iterdir())
    globs = [f"{folder}/*.parquet", f"{folder}/part-0000[0-3]*", f"{folder.parent}/**/*.parquet"]
    for locations in ([str(folder)], files, *([pattern] for pattern in globs)):
        assert read_all(open_dataset(locations)).equals(TABLE)
    assert read_all(open_dataset([files[1]])).equals(cut(TABLE, 4)[1])
    assert open_dataset([files[1], files[0]]).paths == (files[1], files[0])


def test_relative_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert open_dataset(["data"]).rows == open_dataset(["data/*.parquet"]).rows == 1000


def test_bookkeeping_files_are_passed_over(folder: Path) -> None:
    for name in ("_SUCCESS", ".part-00000.parquet.crc", "_metadata"):
        (folder / name).write_bytes(b"x")
    (folder / "_temporary").mkdir()
    (folder / "_temporary" / "part-00000.parquet").write_bytes(b"half")
    assert open_dataset([str(folder)]).rows == 1000


@pytest.mark.parametrize(
    ("start", "stop", "rows"), [(0, 250, 64), (69, 71, 1), (70, 140, 1000), (13, 249, 7), (249, 250, 5)]
)
def test_row_ranges(folder: Path, start: int, stop: int, rows: int) -> None:
    dataset = open_dataset([str(folder)])
    found = list(dataset.read(dataset.shards[1], ["p", "id"], start, stop, rows))
    assert all(table.num_rows == rows for table in found[:-1])
    expected = cut(TABLE, 4)[1].slice(start, stop - start).select(["p", "id"])
    assert pa.concat_tables(found).equals(expected)


def test_partition_folders(tmp_path: Path) -> None:
    parts = (("1", "a%2Fb", TABLE.slice(0, 10)), ("2", "__HIVE_DEFAULT_PARTITION__", TABLE.slice(10, 5)))
    for day, shop, table in parts:
        place = tmp_path / f"day={day}" / f"shop={shop}"
        place.mkdir(parents=True)
        pq.write_table(table, place / "part.parquet")
    dataset = open_dataset([str(tmp_path)])
    found = read_all(dataset)
    assert found["day"].to_pylist() == [1] * 10 + [2] * 5
    assert found["shop"].to_pylist() == ["a/b"] * 10 + [None] * 5
    assert found.select(["id"]).equals(TABLE.slice(0, 15).select(["id"]))
    assert read_all(dataset, ["day"]).num_rows == 15
    assert open_dataset([str(tmp_path / "day=*" / "*" / "*.parquet")]).schema.equals(dataset.schema)


def test_partition_values_that_are_no_numbers_stay_text(tmp_path: Path) -> None:
    for value in ("01", "2"):
        (tmp_path / f"part={value}").mkdir()
        pq.write_table(TABLE, tmp_path / f"part={value}" / "x.parquet")
    assert open_dataset([str(tmp_path)]).schema.field("part").type == pa.string()


def test_partition_folders_that_differ(tmp_path: Path) -> None:
    for place in ("day=1", "hour=1"):
        (tmp_path / place).mkdir()
        pq.write_table(TABLE, tmp_path / place / "x.parquet")
    with pytest.raises(ShardError, match="partition folders"):
        open_dataset([str(tmp_path)])


def test_partition_column_that_is_in_the_file_too(tmp_path: Path) -> None:
    (tmp_path / "city=Ulm").mkdir()
    pq.write_table(TABLE, tmp_path / "city=Ulm" / "x.parquet")
    with pytest.raises(InputError, match="'city' is both in the file and in the folder's name"):
        open_dataset([str(tmp_path)])


def write_ipc(table: pa.Table, path: str) -> None:
    with ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)


FORMATS: dict[str, Callable[[pa.Table, str], None]] = {
    "data.arrow": write_ipc,
    "data.feather": feather.write_feather,
    "data.csv": pa_csv.write_csv,
    "data.pq": pq.write_table,
    "part-00000": pq.write_table,
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats(name: str, tmp_path: Path) -> None:
    FORMATS[name](TABLE, str(tmp_path / name))
    dataset = open_dataset([str(tmp_path)])
    assert dataset.rows == 1000
    assert read_all(dataset).equals(TABLE)
    found = pa.concat_tables(dataset.read(dataset.shards[0], ["id"], 123, 456, 50))
    assert found["id"].to_pylist() == list(range(123, 456))


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "PLAIN"])
def test_text_in_every_encoding(encoding: str, tmp_path: Path) -> None:
    """Arrow makes dictionaries of some only, and may find that out after some rows."""
    words = pa.table({"w": [f"word {i % 7}" for i in range(900)], "i": range(900)})
    path = str(tmp_path / "a.parquet")
    pq.write_table(words, path, column_encoding={"w": encoding}, use_dictionary=["i"], row_group_size=250)
    dataset = open_dataset([str(tmp_path)])
    found = list(dataset.read(dataset.shards[0], ["i", "w"], 10, 890, 300, ["w"]))
    assert {str(table["w"].type) for table in found} == {"dictionary<values=string, indices=int32, ordered=0>"}
    texts = [text for table in found for text in table["w"].cast(pa.string()).to_pylist()]
    assert texts == words["w"].to_pylist()[10:890]
    assert [row for table in found for row in table["i"].to_pylist()] == list(range(10, 890))
    for given in (0, 250, 310):
        rest = pa.Table.from_batches(_Parquet(LocalFileSystem(), path, ["w"])._as_text(["w"], 0, 4, 300, given))
        assert rest["w"].cast(pa.string()).to_pylist() == words["w"].to_pylist()[given:]


@pytest.mark.parametrize("compression", ["zstd", None])
def test_an_arrow_file_unpacks_what_is_asked_for(compression: str | None, tmp_path: Path) -> None:
    """Columns in another order, and batches that are not cut as rows are asked for."""
    table = pa.table({"text": ["a"] * 1000, "id": range(1000), "w": pa.array(["x", "y"] * 500).dictionary_encode()})
    options = ipc.IpcWriteOptions(compression=compression)
    with ipc.new_file(str(tmp_path / "a.arrow"), table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=130)
    dataset = open_dataset([str(tmp_path)])
    assert dataset.shards[0].groups == (130,) * 7 + (90,)
    for columns in (["w", "id"], ["id"], ["id", "text", "w"]):
        found = pa.concat_tables(dataset.read(dataset.shards[0], columns, 100, 700, 64))
        assert found.column_names == columns
        assert found.equals(table.select(columns).slice(100, 600))


def test_an_arrow_stream_is_told(tmp_path: Path) -> None:
    with ipc.new_stream(str(tmp_path / "a.arrow"), TABLE.schema) as writer:
        writer.write_table(TABLE)
    with pytest.raises(ShardError, match=r"a\.arrow: it is an Arrow IPC stream; allowed: the IPC file format"):
        open_dataset([str(tmp_path)])


def test_csv_that_turns_into_text_later(tmp_path: Path) -> None:
    lines = ["id,p", *(f"{i},{i}" for i in range(300_000)), "x,y"]
    (tmp_path / "late.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(ShardError, match=r"late\.csv"):
        open_dataset([str(tmp_path)])


def test_csv_of_whole_numbers_that_goes_on_with_others(tmp_path: Path) -> None:
    """Arrow takes types from the beginning of the file, of which it reads a megabyte."""
    rows: dict[str, Callable[[int], object]] = {
        "n": lambda i: i % 7,
        "p": lambda _: "",
        "q": lambda i: i % 2,
        "city": lambda _: "",
        "k": lambda _: "",
    }
    last = {"n": "", "p": 0.25, "q": 0.5, "city": "Ulm", "k": 5}
    lines = [",".join(str(value(i)) for value in rows.values()) for i in range(300_000)]
    text = "\n".join([",".join(rows), *lines, ",".join(map(str, last.values()))]) + "\n"
    (tmp_path / "late.csv").write_text(text)
    dataset = open_dataset([str(tmp_path)])
    kinds = {"n": pa.int64(), "p": pa.float64(), "q": pa.float64(), "city": pa.string(), "k": pa.int64()}
    assert dataset.schema == pa.schema(kinds)
    found = read_all(dataset, rows=1 << 16).to_pandas()
    expected = pd.read_csv(tmp_path / "late.csv", low_memory=False).fillna({"city": ""})
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


@pytest.mark.parametrize("last", ["true", "2024-01-01", "12:30:00", "2024-01-01 12:30:00", "2024-01-01 12:30:00.25"])
def test_csv_that_begins_empty_is_of_the_type_of_its_values(last: str, tmp_path: Path) -> None:
    """Also where the values are in a file of their own, which Arrow takes for what they are."""
    empty = [f"{i}," for i in range(300_000)]
    for name, files in (("one", [[*empty, f"1,{last}"]]), ("two", [empty, [f"1,{last}"]])):
        (tmp_path / name).mkdir()
        for number, lines in enumerate(files):
            (tmp_path / name / f"{number}.csv").write_text("\n".join(["i,v", *lines]) + "\n")
    one, two = (open_dataset([str(tmp_path / name)]) for name in ("one", "two"))
    assert one.schema == two.schema
    assert read_all(one, rows=1 << 18).equals(read_all(two, rows=1 << 18))
    assert one.schema.field("v").type != pa.string()


@pytest.mark.parametrize("whole", ["a", "b"])
def test_csv_shards_of_whole_and_of_other_numbers(whole: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("id,p\n1,1\n2,0\n" if name == whole else "id,p\n3,0.5\n4,\n")
    dataset = open_dataset([str(tmp_path)])
    assert dataset.schema.field("p").type == pa.float64()
    assert sorted(read_all(dataset)["p"].drop_null().to_pylist()) == [0.0, 0.5, 1.0]


def test_parquet_says_what_it_is(tmp_path: Path) -> None:
    for name, values in (("a", [1, 0]), ("b", [0.5, None])):
        pq.write_table(pa.table({"p": values}), tmp_path / f"{name}.parquet")
    with pytest.raises(ShardError, match=r"column 'p' is double, but int64 in .*; allowed: one type in all shards"):
        open_dataset([str(tmp_path)])


def test_urls(folder: Path) -> None:
    assert open_dataset([f"file://{folder}"]).rows == 1000
    memory = fsspec.filesystem("memory")
    for path in folder.iterdir():
        memory.pipe(f"/lossops/data/{path.name}", path.read_bytes())
    dataset = open_dataset(["memory://lossops/data"])
    assert read_all(dataset).equals(TABLE)
    assert open_dataset(["memory://lossops/data/*-0000[12].parquet"]).rows == 500


def test_all_missing_shard_without_a_type(tmp_path: Path) -> None:
    tables = [pa.table({"p": pa.nulls(3)}), pa.table({"p": [1.0, 2.0]})]
    dataset = open_dataset([write_shards(tmp_path / "data", tables)])
    assert dataset.schema.field("p").type == pa.float64()
    assert read_all(dataset)["p"].to_pylist() == [None, None, None, 1.0, 2.0]


def test_storage_variants_of_one_type_are_one_schema(tmp_path: Path) -> None:
    tables = [pa.table({"c": pa.array(["a", "b"], kind)}) for kind in (pa.string(), pa.large_string())]
    tables.append(pa.table({"c": pa.array(["a", "c"]).dictionary_encode()}))
    assert open_dataset([write_shards(tmp_path / "data", tables)]).rows == 6


def test_shards_without_rows(tmp_path: Path) -> None:
    data = write_shards(tmp_path / "data", [TABLE.slice(0, 0), TABLE, TABLE.slice(0, 0)])
    assert read_all(open_dataset([data])).equals(TABLE)


def test_fingerprints_change_with_the_file(folder: Path) -> None:
    before = [shard.fingerprint for shard in open_dataset([str(folder)]).shards]
    assert before == [shard.fingerprint for shard in open_dataset([str(folder)]).shards]
    pq.write_table(cut(TABLE, 4)[0].set_column(1, "p", pa.array([0.5] * 250)), folder / "part-00000.parquet")
    after = [shard.fingerprint for shard in open_dataset([str(folder)]).shards]
    assert before[0] != after[0]
    assert before[1:] == after[1:]
