"""Many small shards: put together they give the same report, and a new one changes little."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc

import lossops
from lossops.config import parse_config
from lossops.data.dataset import Dataset, open_dataset
from lossops.pieces import by_position, runs_of, shard_pairs
from lossops.plan import make_plan
from tests.datasets import cut, write_shards

SHARDS, ROWS = 300, 6000


def tables(order: str) -> tuple[pa.Table, pa.Table]:
    """Labels and predictions whose keys are in some order, with text that some shards store as codes."""
    random = np.random.default_rng(6)
    each = np.arange(ROWS).reshape(SHARDS, -1)
    ids = {
        "ascending": each,
        "shards in another order": each[random.permutation(SHARDS)],
        "mixed within shards": np.stack([random.permutation(own) for own in each]),
        "mixed": random.permutation(ROWS).reshape(SHARDS, -1),
    }[order]
    y = random.normal(size=ROWS)
    labels = pa.table({"id": np.arange(ROWS), "y": y, "city": random.choice(["Ulm", "Bonn"], ROWS)})
    mixed = ids.ravel()
    if order in ("ascending", "shards in another order"):
        labels = labels.take(pa.array(mixed))
    return labels, pa.table({"id": mixed, "p": y[mixed] + random.normal(size=ROWS)})


def in_arrow_files(folder: Path, parts: list[pa.Table]) -> str:
    """Write shards of which some store text as codes."""
    folder.mkdir(parents=True)
    for number, part in enumerate(parts):
        coded = part.set_column(2, "city", part["city"].dictionary_encode()) if number % 7 == 3 else part
        with ipc.new_file(str(folder / f"{number:04}.arrow"), coded.schema) as writer:
            writer.write_table(coded)
    return str(folder)


def config(folder: Path, shards: int, order: str) -> dict[str, Any]:
    labels, predictions = tables(order)
    return {
        "name": "small",
        "labels": {"path": in_arrow_files(folder / "labels", cut(labels, shards)), "label": "y"},
        "models": {"m": {"path": write_shards(folder / "predictions", cut(predictions, shards)), "prediction": "p"}},
        "key": "id",
        "losses": ["mean_absolute_error"],
        "slices": ["city"],
        "output": str(folder / "reports"),
    }


@pytest.mark.parametrize(
    ("order", "mode"),
    [
        ("ascending", "position"),
        ("shards in another order", "position"),
        ("mixed within shards", "shard"),
        ("mixed", "broadcast"),
    ],
)
def test_small_shards_are_put_together(order: str, mode: str, tmp_path: Path) -> None:
    values = config(tmp_path / "small", SHARDS, order)
    found, expected = (lossops.evaluate(one) for one in (values, config(tmp_path / "large", 2, order)))
    assert found.losses.equals(expected.losses)
    assert found.ledger.equals(expected.ledger)
    assert found.hardest.drop_columns(["shard", "row"]).equals(expected.hardest.drop_columns(["shard", "row"]))
    alignment = found.run["alignment"][-1]
    assert alignment["mode"] == mode
    assert alignment["partitions"] < SHARDS / 10
    assert {row["rows"] for row in found.shards.to_pylist()} == {ROWS // SHARDS}
    assert all(row["seconds"] > 0 for row in found.shards.to_pylist() if row["dataset"] == "predictions")


@pytest.mark.parametrize("order", ["ascending", "mixed within shards"])
def test_codes_of_many_shards_need_not_fit_those_of_one(order: str, tmp_path: Path) -> None:
    """As pandas writes categories: codes of a byte, a dictionary a shard, which may hold a null."""
    labels, _ = tables(order)
    cities = [None if row % 11 == 0 else f"city {row // 20} {row % 4}" for row in range(ROWS)]
    labels = labels.set_column(2, "city", pa.array(cities))
    reports = []
    for name, shards in (("small", SHARDS), ("large", 2)):
        folder = tmp_path / name
        (folder / "labels").mkdir(parents=True)
        for number, part in enumerate(cut(labels, shards)):
            words = [*dict.fromkeys(part["city"].to_pylist())]
            places = pa.array([words.index(city) for city in part["city"].to_pylist()], pa.int16())
            codes = places.cast(pa.int8()) if shards == SHARDS else places
            coded = pa.DictionaryArray.from_arrays(codes, pa.array(words))
            own = part.set_column(2, "city", coded)
            with ipc.new_file(str(folder / "labels" / f"{number:04}.arrow"), own.schema) as writer:
                writer.write_table(own)
        values = config(folder / "other", shards, order)
        values["labels"]["path"] = str(folder / "labels")
        reports.append(lossops.evaluate(values))
    assert reports[0].losses.equals(reports[1].losses)
    assert reports[0].losses.num_rows == len(set(cities)) + 1


def test_every_row_is_in_one_piece(tmp_path: Path) -> None:
    dataset = open_dataset([config(tmp_path, SHARDS, "ascending")["labels"]["path"]])
    for pieces in (by_position(dataset, dataset, dataset), shard_pairs(dataset, dataset)):
        runs = [run for piece in pieces for run in piece.predictions]
        assert runs == list(runs_of(dataset))
        assert runs == [run for piece in pieces for run in piece.labels]
        assert 1 < len(pieces) < SHARDS / 10


def test_a_new_shard_leaves_most_pieces_as_they_are(tmp_path: Path) -> None:
    folder = Path(config(tmp_path, SHARDS, "ascending")["labels"]["path"])
    before = by_position(open_dataset([str(folder)]), None)
    names = sorted(path.name for path in folder.iterdir())
    (folder / f"{names[150]}.new.arrow").write_bytes((folder / names[0]).read_bytes())
    after = by_position(open_dataset([str(folder)]), None)
    paths = [{tuple(run.shard.path for run in piece.predictions) for piece in pieces} for pieces in (before, after)]
    assert len(paths[0] - paths[1]) == 1


def test_numbered_names_are_cut_like_others(tmp_path: Path) -> None:
    """In each of many folders some hundred shards are several pieces, of which none has far more than others."""
    shard = open_dataset([config(tmp_path, 1, "ascending")["models"]["m"]["path"]]).shards[0]
    sizes = []
    for folder in range(100):
        files = [replace(shard.file, path=f"/data/{folder}/part-{number:05}.parquet") for number in range(1000)]
        dataset = Dataset("data", tuple(replace(shard, file=file, groups=(10,)) for file in files), pa.schema([]))
        sizes += [len(piece.predictions) for piece in by_position(dataset, None)]
    assert 20 < np.mean(sizes) < 64
    assert max(sizes) <= 128


def test_few_shards_are_pieces_of_their_own(tmp_path: Path) -> None:
    plan = make_plan(parse_config(config(tmp_path, 100, "ascending")))
    assert plan.partitions == 100
