"""Many small shards: put together they give the same report, and a new one changes little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc

import lossops
from lossops.config import parse_config
from lossops.data.dataset import open_dataset
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


def test_few_shards_are_pieces_of_their_own(tmp_path: Path) -> None:
    plan = make_plan(parse_config(config(tmp_path, 100, "ascending")))
    assert plan.partitions == 100
