"""What is read can be trusted: damaged, replaced and swollen files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import ipc

import lossops
from lossops.config import parse_config
from lossops.data.dataset import open_dataset
from lossops.engine import score
from lossops.errors import InputChanged, InputError, ShardError
from lossops.evaluation import publish_scores, utc_now
from lossops.plan import check_pins, make_plan
from tests.datasets import cut, score_table, write_shards
from tests.here import score_here

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "bad_parquet"
BAD = sorted(SHARED.glob("*.parquet")) if SHARED.is_dir() else []


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    """A config over three shards a side."""
    random = np.random.default_rng(1)
    table = pa.table({"id": np.arange(900), "v": random.normal(size=900)})
    for side in ("predictions", "labels"):
        write_shards(tmp_path / side, cut(table, 3), row_group_size=100)
    return {
        "name": "trust",
        "labels": {"path": str(tmp_path / "labels"), "label": "v"},
        "models": {"m": {"path": str(tmp_path / "predictions"), "prediction": "v"}},
        "key": "id",
        "losses": ["mean_squared_error"],
        "output": str(tmp_path / "reports"),
    }


EVALUATE = """
import json, resource, sys, lossops
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
report = lossops.evaluate(json.loads(sys.argv[1]))
print(report.path)
"""


def evaluate_apart(values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Evaluate in a process with limited memory and time."""
    words = [sys.executable, "-c", EVALUATE, json.dumps(values)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.skipif(not BAD, reason="there is no folder 'shared' beside the checkout")
@pytest.mark.parametrize("bad", BAD, ids=lambda path: path.stem)
def test_malformed_files_are_refused_by_name_or_quarantined(values: dict[str, Any], bad: Path, tmp_path: Path) -> None:
    shutil.copy(bad, tmp_path / "predictions" / "part-00001b.parquet")
    with pytest.raises(InputError, match=r"part-00001b\.parquet"):
        lossops.evaluate(values)
    found = evaluate_apart({**values, "on_bad_shard": "quarantine"})
    assert found.returncode == 0, found.stderr
    report = lossops.report.open_report(found.stdout.strip())
    assert score_table(report.losses, {"slice": "overall"})["rows_valid"] == 900
    shard = next(row for row in report.shards.to_pylist() if row["path"].endswith("part-00001b.parquet"))
    assert shard["problem"]


@pytest.mark.parametrize("side", ["predictions", "labels"])
def test_damage_found_while_scoring(values: dict[str, Any], tmp_path: Path, side: str) -> None:
    path = tmp_path / side / "part-00001.parquet"
    table = pq.read_table(path)
    pq.write_table(table, path, write_page_checksum=True, use_dictionary=False, compression="none", row_group_size=100)
    content = bytearray(path.read_bytes())
    content[content.find(table["v"][150:151].to_numpy().tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(ShardError, match=r"part-00001.parquet: could not read row group 1, column 'v'"):
        score_here(values)
    scores = score_here({**values, "on_bad_shard": "quarantine"})
    ledger = {(row.dataset, row.reason): row.rows for row in scores.ledger}
    other, lost = ("labels", "no_prediction") if side == "predictions" else ("predictions", "no_label")
    assert ledger == {
        ("predictions", "scored"): 600,
        ("labels", "scored"): 600,
        (side, "quarantined"): 300,
        (other, lost): 300,
    }


def test_a_shard_that_changes_while_another_goes_to_quarantine(values: dict[str, Any], tmp_path: Path) -> None:
    """The plan is made again then, and must rest on the same files."""
    before = make_plan(parse_config({**values, "on_bad_shard": "quarantine"}))
    replace_shard(tmp_path / "labels" / "part-00002.parquet")
    damaged = {str(tmp_path / "labels" / "part-00001.parquet"): "as if it were damaged"}
    after = make_plan(before.config, damaged)
    assert [one.problem for one in after.pairings[0].labels.quarantined] == ["as if it were damaged"]
    with pytest.raises(InputChanged, match=r"part-00002\.parquet: it was replaced"):
        check_pins(before, after)


def test_without_a_key_a_bad_shard_takes_its_partner_along(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "predictions" / "part-00001.parquet").write_bytes(b"PAR1 not really PAR1")
    scores = score_here({**values, "key": None, "on_bad_shard": "quarantine"})
    ledger = {(row.dataset, row.reason): row.rows for row in scores.ledger}
    assert ledger == {("predictions", "scored"): 600, ("labels", "scored"): 600, ("labels", "quarantined"): 300}
    problems = {Path(row.path).parent.name: row.problem for row in scores.shards if row.problem}
    assert set(problems) == {"predictions", "labels"}


@pytest.mark.usefixtures("values")
def test_the_columns_of_most_shards_are_right(tmp_path: Path) -> None:
    """Also where the odd one comes first."""
    pq.write_table(pa.table({"id": ["a"], "other": [1.0]}), tmp_path / "labels" / "part-00000.parquet")
    dataset = open_dataset([str(tmp_path / "labels")], tolerate=True)
    assert [Path(one.path).name for one in dataset.quarantined] == ["part-00000.parquet"]
    assert "other" in dataset.quarantined[0].problem or "v" in dataset.quarantined[0].problem
    assert dataset.rows == 600


def test_one_flipped_bit_is_never_a_silent_change(tmp_path: Path) -> None:
    """500 files with page checksums, one bit flipped in each: an error, or the same values."""
    random = np.random.default_rng(2)
    words = pa.array(random.choice(["red", "green", "blue"], 2000)).dictionary_encode()
    table = pa.table({"id": np.arange(2000), "v": random.normal(size=2000), "w": words})
    path = tmp_path / "checked.parquet"
    pq.write_table(table, path, write_page_checksum=True, row_group_size=500, compression="snappy")
    content = path.read_bytes()
    expected = pq.read_table(path).cast(pa.schema([("id", pa.int64()), ("v", pa.float64()), ("w", pa.string())]))
    body = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    silent = []
    for _ in range(500):
        damaged = bytearray(content)
        at = int(random.integers(body))
        damaged[at] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        try:
            dataset = open_dataset([str(path)])
            shard = dataset.shards[0]
            found = pa.concat_tables(dataset.read(shard, ["id", "v", "w"], 0, shard.rows, 256))
        except ShardError:
            continue
        if not found.cast(expected.schema).equals(expected):
            silent.append(at)
    assert silent == []


FLIPS = """
import sys
import numpy as np
from lossops.data.dataset import open_dataset
from lossops.errors import InputError
path, trials = sys.argv[1], int(sys.argv[2])
content = open(path, "rb").read()
footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
names = ["id", "v", "w"]
def read():
    dataset = open_dataset([path]).bounded("id")
    tables = dataset.read(dataset.shards[0], names, 0, dataset.shards[0].rows, 256)
    # A column of text may come out as one of bytes, which is refused wherever text is needed.
    return [row for table in tables for row in table.set_column(2, "w", table["w"].cast("string")).to_pylist()]
expected, random, refused = read(), np.random.default_rng(3), 0
for _ in range(trials):
    damaged, at = bytearray(content), random.integers(footer, len(content))
    damaged[at] ^= 1 << random.integers(8)
    open(path, "wb").write(damaged)
    try:
        assert read() == expected, at - footer
    except InputError:
        refused += 1
print(refused)
"""


def test_a_flipped_bit_in_the_footer_neither_changes_a_value_nor_ends_the_process(tmp_path: Path) -> None:
    """Footers have no checksum, and pyarrow aborts over some of what they may say; hence a process of its own."""
    table = pa.table({"id": np.arange(1000), "v": np.random.default_rng(5).normal(size=1000), "w": ["a", "b"] * 500})
    path = tmp_path / "footer.parquet"
    pq.write_table(table, path, write_page_checksum=True, row_group_size=500)
    words = [sys.executable, "-c", FLIPS, str(path), "500"]
    found = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) > 100


@pytest.mark.parametrize("compression", ["zstd", None])
def test_a_flipped_bit_of_an_arrow_file_is_told_of_the_file(compression: str | None, tmp_path: Path) -> None:
    """Nothing is taken for a fault of the storage, for which a shard does not go to quarantine."""
    random = np.random.default_rng(8)
    words = pa.array(["a", "b"] * 500).dictionary_encode()
    table = pa.table({"id": np.arange(1000), "v": random.normal(size=1000), "w": words})
    path = tmp_path / "a.arrow"
    with ipc.new_file(str(path), table.schema, options=ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=300)
    content = path.read_bytes()
    refused = 0
    for at in (*random.integers(len(content), size=300), *range(len(content) - 200, len(content))):
        damaged = bytearray(content)
        damaged[at] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        try:
            dataset = open_dataset([str(path)])
            for _ in dataset.read(dataset.shards[0], ["id", "v", "w"], 0, dataset.shards[0].rows, 256):
                pass
        except ShardError:
            refused += 1
    assert refused > 50


def test_truncated_files(tmp_path: Path) -> None:
    path = tmp_path / "cut.parquet"
    pq.write_table(pa.table({"v": np.arange(5000.0)}), path)
    content = path.read_bytes()
    for length in range(0, len(content), 997):
        path.write_bytes(content[:length])
        with pytest.raises(ShardError, match=r"cut\.parquet: "):
            open_dataset([str(path)])


def test_text_that_is_none(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 in a column of text."""
    path = tmp_path / "text.parquet"
    pq.write_table(pa.table({"k": pa.array([b"fine", b"\xff\xfe"], pa.binary())}), path)
    schema = pa.schema([("k", pa.string())])
    with path.open("rb") as file, pq.ParquetWriter(tmp_path / "wrong.parquet", schema) as writer:
        table = pq.read_table(file)
        array = table["k"].chunk(0)
        writer.write_table(pa.table([pa.Array.from_buffers(pa.string(), 2, array.buffers())], schema=schema))
    dataset = open_dataset([str(tmp_path / "wrong.parquet")])
    with pytest.raises(ShardError, match=r"wrong\.parquet: could not read row group 0, column 'k'.*UTF"):
        list(dataset.read(dataset.shards[0], ["k"], 0, 2, 10))


def replace_shard(path: Path) -> None:
    """Put another file of the same size in its place."""
    content = bytearray(path.read_bytes())
    other = path.with_suffix(".tmp")
    other.write_bytes(content)
    os.replace(other, path)


def append(path: Path) -> None:
    shutil.copy(path, path.with_name("part-99999.parquet"))


def rewrite(path: Path) -> None:
    pq.write_table(pq.read_table(path).slice(1), path)


CHANGES = {
    "replaced": (replace_shard, "part-00001.parquet: it was written again"),
    "rewritten": (rewrite, "part-00001.parquet: it changed from"),
    "vanished": (lambda path: path.unlink(), "part-00001.parquet: it vanished"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("side", ["predictions", "labels"])
def test_a_shard_that_changes_after_planning(values: dict[str, Any], tmp_path: Path, side: str, change: str) -> None:
    act, message = CHANGES[change]
    plan = make_plan(parse_config(values))
    act(tmp_path / side / "part-00001.parquet")
    with pytest.raises(InputChanged, match=message):
        score(plan)


@pytest.mark.parametrize("change", [*CHANGES, "appeared"])
def test_a_shard_that_changes_before_publishing(values: dict[str, Any], tmp_path: Path, change: str) -> None:
    act, message = {**CHANGES, "appeared": (append, "part-99999.parquet: it appeared")}[change]
    scores = score(make_plan(parse_config(values)))
    act(tmp_path / "labels" / "part-00001.parquet")
    with pytest.raises(InputChanged, match=message.replace("it changed from", "it was written again")):
        publish_scores(scores, utc_now())
    assert not list(Path(values["output"]).glob("*/*/run.json"))


@pytest.mark.usefixtures("values")
def test_a_shard_that_changes_between_batches(tmp_path: Path) -> None:
    """Half of the rows would be of one file and half of another."""
    dataset = open_dataset([str(tmp_path / "labels")])
    for batches in range(3):
        reading = dataset.read(dataset.shards[1], ["v"], 0, 300, 100)
        for _ in range(batches):
            next(reading)
        replace_shard(tmp_path / "labels" / "part-00001.parquet")
        with pytest.raises(InputChanged, match="part-00001"):
            list(reading)
        dataset = open_dataset([str(tmp_path / "labels")])


SWOLLEN = """
import sys
from lossops.data.dataset import open_dataset
from lossops.errors import ShardError
dataset = open_dataset([sys.argv[1]])
shard, rows = dataset.shards[0], 0
try:
    for table in dataset.read(shard, dataset.schema.names, 0, shard.rows, 1 << 18):
        rows += table.num_rows
except ShardError as error:
    print("refused:", error)
else:
    print("read", rows)
with open("/proc/self/status") as status:  # what getrusage says includes the process that started this one
    print(next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM")))
"""


def test_small_files_that_unfold_to_gigabytes(tmp_path: Path) -> None:
    """Repetition costs nothing on storage; reading stays within bounds, or is refused by name."""
    schema = pa.schema([("v", pa.int64())])
    with pq.ParquetWriter(tmp_path / "rows.parquet", schema, compression="zstd") as writer:
        block = pa.table({"v": np.full(1 << 20, 7)})
        for _ in range(48):
            writer.write_table(block)
    text = pa.DictionaryArray.from_arrays(np.zeros(2_000_000, dtype=np.int32), ["x" * 1000])
    pq.write_table(pa.table({"k": text}), tmp_path / "text.parquet", row_group_size=2_000_000)
    long = pa.table({"k": ["y" * (1 << 26)] * 24})
    pq.write_table(long, tmp_path / "long.parquet", compression="zstd", use_dictionary=False)
    for name in ("rows", "text", "long"):
        path = tmp_path / f"{name}.parquet"
        assert path.stat().st_size < 2 << 20
        words = [sys.executable, "-c", SWOLLEN, str(path)]
        found = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
        assert found[0].startswith(("read", "refused")), found
        assert int(found[1]) < 1500, (name, found)
