"""Bad input gets one clear line that names the thing, the value, what is allowed and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lossops
from lossops.config import parse_config
from lossops.errors import InputError
from lossops.plan import make_plan
from tests.datasets import write_shards

Config = dict[str, Any]


@pytest.fixture
def good(tmp_path: Path) -> Config:
    """A config that works; each test spoils one thing."""
    labels = pa.table({"id": [1, 2, 3], "price": [1.0, 2.0, 3.0], "cut": ["a", "b", "c"], "w": [1.0, 1.0, 1.0]})
    predictions = pa.table({"id": [1, 2, 3], "yhat": [1.0, 2.5, 3.0], "scores": [[0.5, 0.5]] * 3})
    return {
        "name": "wrong",
        "labels": {"path": write_shards(tmp_path / "labels", [labels]), "label": "price"},
        "models": {"m": {"path": write_shards(tmp_path / "predictions", [predictions]), "prediction": "yhat"}},
        "key": "id",
        "losses": ["mean_absolute_error"],
        "slices": ["cut"],
        "output": str(tmp_path / "reports"),
    }


def refusal(config: Config) -> str:
    """Run a config that must be refused; returns the one line."""
    with pytest.raises(InputError) as caught:
        lossops.evaluate(config)
    message = str(caught.value)
    assert "\n" not in message
    assert not Path(config["output"]).exists()
    return message


def test_the_good_config_works(good: Config) -> None:
    assert lossops.evaluate(good).losses.num_rows == 4


def test_no_such_path(good: Config, tmp_path: Path) -> None:
    good["labels"]["path"] = str(tmp_path / "lables")
    assert "no such file or folder; did you mean 'labels'?" in refusal(good)


def test_empty_folder(good: Config, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "_SUCCESS").touch()
    good["labels"]["path"] = str(tmp_path / "empty")
    assert "empty: no data file here" in refusal(good)


def test_glob_without_match(good: Config, tmp_path: Path) -> None:
    good["labels"]["path"] = str(tmp_path / "labels" / "*.csv")
    assert "no data file here" in refusal(good)


@pytest.mark.parametrize("content", [b"", b"not parquet at all", b"PAR1" + bytes(100) + b"PAR1"])
def test_not_parquet(good: Config, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "labels" / "part-00001.parquet").write_bytes(content)
    message = refusal(good)
    assert "part-00001.parquet: not a readable Parquet file" in message


def test_file_that_is_no_data(good: Config, tmp_path: Path) -> None:
    (tmp_path / "labels" / "README.md").write_text("hello")
    found = refusal(good)
    assert "README.md: not a readable Parquet file, which a name without .parquet, " in found
    assert "(one that begins with _ is passed over)" in found


def test_missing_label_column(good: Config) -> None:
    good["labels"]["label"] = "prize"
    assert "losses.mean_absolute_error.label: no column 'prize' in" in refusal(good)
    assert "did you mean 'price'?" in refusal(good)


def test_missing_prediction_column(good: Config) -> None:
    good["models"]["m"]["prediction"] = "yhatt"
    assert "did you mean 'yhat'?" in refusal(good)


def test_missing_slice_column(good: Config) -> None:
    good["slices"] = ["cutt"]
    message = refusal(good)
    assert message.startswith("slices: no column 'cutt' in")
    assert "did you mean 'cut'?" in message


def test_missing_key_column(good: Config) -> None:
    good["key"] = "idd"
    assert "key: no column 'idd'" in refusal(good)


def test_missing_weight_column(good: Config) -> None:
    good["weight"] = "wt"
    assert "weight: no column 'wt'" in refusal(good)


def test_no_column_named(good: Config) -> None:
    del good["labels"]["label"]
    assert "losses.mean_absolute_error.label: no column is named; allowed: set it, or labels.label" in refusal(good)


def test_column_on_both_sides_must_be_qualified(good: Config, tmp_path: Path) -> None:
    predictions = pa.table({"id": [1, 2, 3], "yhat": [1.0, 2.5, 3.0], "cut": ["x", "y", "z"]})
    good["models"]["m"]["path"] = write_shards(tmp_path / "both", [predictions])
    assert "allowed: labels.cut or predictions.cut" in refusal(good)
    good["slices"] = ["predictions.cut"]
    found = lossops.evaluate(good).losses["slice"].to_pylist()
    assert found == ["overall", "predictions.cut=x", "predictions.cut=y", "predictions.cut=z"]


@pytest.mark.parametrize(
    ("place", "column", "words"),
    [
        ("label", "cut", "is string; allowed: a number, a list of numbers or a struct of numbers"),
        ("prediction", "scores", "the prediction has 2 and the label 1 values a row"),
        ("weight", "cut", "weight: column 'cut'"),
        ("bins", "cut", "slices: column 'cut'"),
    ],
)
def test_wrong_type(good: Config, place: str, column: str, words: str) -> None:
    if place == "label":
        good["labels"]["label"] = column
    elif place == "prediction":
        good["models"]["m"]["prediction"] = column
    elif place == "weight":
        good["weight"] = column
    else:
        good["slices"] = [{"column": column, "bins": [1.0]}]
    assert words in refusal(good)


def test_slice_by_a_list(good: Config) -> None:
    good["slices"] = ["scores"]
    assert "allowed: text, number, bool, date, timestamp" in refusal(good)


def test_class_loss_needs_classes(good: Config) -> None:
    good["losses"] = ["sparse_categorical_crossentropy"]
    assert "an integer class from 0 as label, a vector" in refusal(good)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (pa.float64(), "floats are no keys"),
        (pa.string(), "allowed: one kind on both sides"),
        (pa.list_(pa.int64()), "allowed: integer, text"),
    ],
)
def test_keys_that_cannot_be_compared(good: Config, tmp_path: Path, kind: pa.DataType, words: str) -> None:
    values = pa.array([[1], [2], [3]]) if pa.types.is_list(kind) else pa.array([1, 2, 3]).cast(kind)
    good["models"]["m"]["path"] = write_shards(tmp_path / "p2", [pa.table({"id": values, "yhat": [1.0, 2.0, 3.0]})])
    assert words in refusal(good)


def test_two_columns_of_one_name(good: Config, tmp_path: Path) -> None:
    columns = [pa.array([1, 2, 3]), pa.array([1.0] * 3), pa.array([2.0] * 3)]
    table = pa.Table.from_arrays(columns, ["id", "yhat", "yhat"])
    good["models"]["m"]["path"] = write_shards(tmp_path / "p2", [table])
    assert "has 2 columns named 'yhat'" in refusal(good)


def test_shards_whose_types_differ(good: Config, tmp_path: Path) -> None:
    tables = [pa.table({"id": [1, 2], "yhat": [1.0, 2.0]}), pa.table({"id": [3], "yhat": ["3"]})]
    good["models"]["m"]["path"] = write_shards(tmp_path / "p2", tables)
    message = refusal(good)
    assert "part-00001.parquet: column 'yhat' is string, but double in" in message


def test_shard_without_a_column(good: Config, tmp_path: Path) -> None:
    tables = [pa.table({"id": [1, 2], "yhat": [1.0, 2.0]}), pa.table({"id": [3]})]
    good["models"]["m"]["path"] = write_shards(tmp_path / "p2", tables)
    assert "part-00001.parquet: no column 'yhat', which" in refusal(good)


def test_file_named_twice(good: Config) -> None:
    path = good["labels"]["path"]
    good["labels"]["path"] = [path, f"{path}/part-00000.parquet"]
    assert "named more than once" in refusal(good)


def test_positions_that_do_not_fit(good: Config, tmp_path: Path) -> None:
    del good["key"]
    good["models"]["m"]["path"] = write_shards(tmp_path / "p2", [pa.table({"yhat": [1.0, 2.0]})])
    assert "has 2 rows" in refusal(good)
    write_shards(tmp_path / "p3", [pa.table({"yhat": [1.0, 2.0]}), pa.table({"yhat": [1.0]})])
    good["models"]["m"]["path"] = str(tmp_path / "p3")
    assert "has 2 shards" in refusal(good)


def test_output_that_cannot_be_written_is_refused_before_anything_is_scored(good: Config, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    good["output"] = str(tmp_path / "file" / "reports")
    with pytest.raises(InputError, match=r"output: .*file is not a folder that can be written to"):
        make_plan(parse_config(good))


def test_a_column_whose_name_looks_qualified(good: Config, tmp_path: Path) -> None:
    labels = pa.table({"id": [1, 2, 3], "price": [1.0, 2.0, 3.0], "labels.cut": ["a", "b", "b"]})
    good["labels"]["path"] = write_shards(tmp_path / "odd", [labels])
    good["slices"] = ["labels.cut"]
    assert lossops.evaluate(good).losses["slice"].to_pylist() == ["overall", "labels.cut=a", "labels.cut=b"]


def test_unknown_url(good: Config) -> None:
    good["labels"]["path"] = "nonsense://bucket/labels"
    assert refusal(good).startswith("labels.path: nonsense://bucket/labels: ")


@pytest.mark.parametrize(
    "name", ["datapage_v1-corrupt-checksum.parquet", "rle-dict-uncompressed-corrupt-checksum.parquet"]
)
def test_wrong_page_checksum_is_not_read_over(good: Config, shared: Path, name: str) -> None:
    """Files whose pages fail their checksum, which pyarrow reads without complaint unless asked to look."""
    path = shared / "data" / "bad_parquet" / name
    column = pq.ParquetFile(path).schema_arrow.names[0]
    good |= {"key": None, "slices": [], "labels": {"path": str(path), "label": column}}
    good["models"] = {"m": {"path": str(path), "prediction": column}}
    message = refusal(good)
    assert name in message


def columns_of(path: Path) -> list[str]:
    try:
        return pq.ParquetFile(path).schema_arrow.names
    except (OSError, pa.ArrowException):
        return ["any"]


def is_readable(path: Path, column: str) -> bool:
    """Whether pyarrow reads the column, with the checks that a careful reader asks for."""
    try:
        pq.read_table(path, columns=[column], page_checksum_verification=True).validate(full=True)
    except Exception:
        return False
    return True


def outcome(config: Config) -> str | None:
    """Run a config; returns the refusal, or None if it was scored."""
    try:
        lossops.evaluate(config)
    except InputError as error:
        return str(error)
    return None


def test_every_malformed_file_is_named(good: Config, shared: Path) -> None:
    refused = set()
    for path in sorted((shared / "data" / "bad_parquet").glob("*.parquet")):
        for column in columns_of(path):
            config = {**good, "key": None, "slices": [], "labels": {"path": str(path), "label": column}}
            config["models"] = {"m": {"path": str(path), "prediction": column}}
            message = outcome(config)
            if message is None:
                assert is_readable(path, column), f"{path.name}: {column} was scored"
            else:
                assert path.name in message
                assert "\n" not in message
                refused.add(path.name)
    assert len(refused) == 9, "all but ARROW-GH-43605, which is valid"


def test_truncated_shard(good: Config, tmp_path: Path) -> None:
    path = tmp_path / "labels" / "part-00000.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    assert "part-00000.parquet: not a readable Parquet file" in refusal(good)


def test_flipped_bits_with_checksums_are_found(good: Config, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=5000)
    path = tmp_path / "checked.parquet"
    pq.write_table(pa.table({"p": values}), path, write_page_checksum=True, compression="none", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[20_000] ^= 1
    path.write_bytes(bytes(content))
    good |= {"key": None, "slices": [], "labels": {"path": str(path), "label": "p"}}
    good["models"] = {"m": {"path": str(path), "prediction": "p"}}
    assert "checked.parquet: could not read row group 0, column 'p'" in refusal(good)
