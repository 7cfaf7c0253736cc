"""Rows that are not scored are told of: which share, why, and which label is no class."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

import lossops
from flows import cli
from flows.summary import report_markdown
from lossops.report import Report
from tests.datasets import cut, write_shards

_ANIMALS = ["cat", "dog", "eel"]


def _score(folder: Path, classes: list[Any], labels: list[Any], **changes: Any) -> Report:
    rows = len(labels)
    scores = np.random.default_rng(3).dirichlet([1, 1, 1], rows)
    table = pa.table({"y": labels, "p": scores.tolist()})
    data = write_shards(folder / "data", cut(table, 3))
    config = {
        "name": "told",
        "labels": {"path": data, "label": "y"},
        "models": {"m": {"path": data, "prediction": "p"}},
        "losses": [{"loss": "sparse_categorical_crossentropy", "classes": classes, "name": "entropy"}],
        "output": str(folder / "reports"),
    }
    return lossops.evaluate(config | changes)


def test_a_misspelt_class_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "lossops"):
        report = _score(tmp_path, ["cat", "dgo", "eel"], ["cat", "dog", "dog", "eel"] * 25 + [None])
    (told,) = report.warnings
    assert told.startswith("50.5 % of the predictions of m (51 of 101) are not scored: ")
    assert told.endswith(
        "1 label_null. Of 100 labels looked at, 50 are no class: 'dog'. Classes that none of them is: 'dgo'."
    )
    assert caplog.messages[-1] == told
    shown = CliRunner().invoke(cli.lossops, ["show", report.path]).output
    assert f"Warning: {told}" in " ".join(shown.split())
    assert told in report_markdown(report).replace("`", "'")
    page = (Path(report.path) / "report.html").read_text(encoding="utf-8")
    for text in (page, report._repr_html_()):
        assert "Classes that none of them is: &#39;dgo&#39;." in text


def test_a_rare_class_that_is_misspelt_is_named_whatever_its_share(tmp_path: Path) -> None:
    report = _score(tmp_path, ["cat", "dog", "ele"], ["cat", "dog"] * 400 + ["eel"] * 2)
    assert "2 of 802" in report.warnings[0]
    assert "are no class: 'eel'. Classes that none of them is: 'ele'." in report.warnings[0]


def test_classes_may_be_numbers(tmp_path: Path) -> None:
    report = _score(tmp_path, [1, 2, 4], [1, 2, 3] * 20)
    assert "Of 60 labels looked at, 20 are no class: 3. Classes that none of them is: 4." in report.warnings[0]


def test_nothing_is_told_where_all_is_scored(tmp_path: Path) -> None:
    assert _score(tmp_path, _ANIMALS, _ANIMALS * 10).warnings == ()
    assert _score(tmp_path / "rare", _ANIMALS, ["cat", "dog"] * 10).warnings == ()


def test_labels_beyond_the_classes_are_cut_and_counted(tmp_path: Path) -> None:
    report = _score(tmp_path, _ANIMALS, ["x" * 500, *(f"animal {number}" for number in range(40))])
    assert "and 36 more" in report.warnings[0]
    assert "x" * 50 not in report.warnings[0]


def test_losses_that_leave_out_the_same_rows_share_a_warning(tmp_path: Path) -> None:
    """Rows without a partner are told of each side; those of a small share are not."""
    labels = pa.table({"id": np.arange(100), "y": [0.0, 1.0] * 50})
    values = np.where(np.arange(30, 130) < 40, np.nan, 3.0)
    predictions = pa.table({"id": np.arange(30, 130), "p": values, "q": np.full(100, 0.5)})
    paths = [write_shards(tmp_path / name, [table]) for name, table in (("l", labels), ("p", predictions))]
    models = {name: {"path": paths[1], "prediction": name} for name in ("p", "q")}
    config = {
        "name": "told",
        "labels": {"path": paths[0], "label": "y"},
        "models": models,
        "key": "id",
        "losses": [{"loss": "mean_absolute_error", "name": "mae"}, "huber", "brier"],
        "output": str(tmp_path / "reports"),
    }
    brier = "60 prediction_outside_domain, 30 no_label, 10 prediction_nan"
    expected = (
        "40 % of the predictions of p (40 of 100) are not scored by mae, huber: 30 no_label, 10 prediction_nan.",
        f"100 % of the predictions of p (100 of 100) are not scored by brier: {brier}.",
        "30 % of the predictions of q (30 of 100) are not scored: 30 no_label.",
        "30 % of the labels (30 of 100) pair with no prediction of p, q: 30 no_prediction.",
    )
    assert lossops.evaluate(config).warnings == expected


def test_what_is_left_out_by_request_is_no_warning(tmp_path: Path) -> None:
    loss = {"loss": "sparse_categorical_crossentropy", "ignore_class": 1}
    assert _score(tmp_path, [], [0, 1, 2] * 20, losses=[loss]).warnings == ()


def _of_two(folder: Path, predictions: pa.Table, labels: pa.Table, **changes: Any) -> dict[str, Any]:
    """Write both sides in four shards, and return the config that scores them."""
    paths = [write_shards(folder / name, cut(table, 4)) for name, table in (("l", labels), ("p", predictions))]
    config = {
        "name": "told",
        "labels": {"path": paths[0], "label": "y"},
        "models": {"m": {"path": paths[1], "prediction": "y"}},
        "losses": ["mean_squared_error"],
        "output": str(folder / "reports"),
    }
    return config | changes


def test_a_key_that_was_forgotten_is_suspected(tmp_path: Path) -> None:
    """Columns that both sides have are looked at, but for what is scored, and for floats, which are no keys."""
    random = np.random.default_rng(1)
    first = pa.table({"id": np.arange(50), "day": ["mon"] * 50, "y": np.arange(50.0), "z": random.random(50)})
    second = first.set_column(3, "z", pa.array(random.random(50)))
    other = second.take(pa.array(random.permutation(50)))
    assert lossops.evaluate(_of_two(tmp_path / "same", first, second)).warnings == ()
    assert lossops.evaluate(_of_two(tmp_path / "keyed", first, other, key="id")).warnings == ()
    (told,) = lossops.evaluate(_of_two(tmp_path / "other", first, other)).warnings
    assert told.startswith("m: rows pair by position, but 'id', which both sides have, differs in the first rows of ")
    assert told.endswith("where that tells which rows belong together, set key.")


def test_a_file_that_cannot_be_counted_is_told_of(tmp_path: Path) -> None:
    """And a gate on the share of rows without a partner cannot pass, as there may be more of them."""
    table = pa.table({"id": np.arange(40), "y": np.arange(40.0)})
    gates = [{"share": "unmatched", "max": 0.2}, {"share": "unmatched", "max": 0.4}, {"share": "invalid", "max": 0.5}]
    config = _of_two(tmp_path, table, table, key="id", on_bad_shard="quarantine", gates=gates)
    assert lossops.evaluate(config).gates["outcome"].to_pylist() == ["pass"] * 3
    for shard in (sorted((tmp_path / "p").iterdir())[1], sorted((tmp_path / "l").iterdir())[3]):
        shard.write_bytes(shard.read_bytes()[:100])
    report = lossops.evaluate(config)
    told = "cannot be opened, so no count and no share of rows has the rows in it."
    assert report.warnings[:2] == (f"1 file of the predictions of m {told}", f"1 file of the labels {told}")
    assert report.gates["value"].to_pylist() == [10 / 30, 10 / 30, 0.0]
    assert report.gates["outcome"].to_pylist() == ["fail", "insufficient", "pass"]
    assert report.gates["why"].to_pylist()[1] == "nobody knows how many rows the 1 file in quarantine would have"


def test_gates_that_cannot_be_decided_are_not_passed(tmp_path: Path) -> None:
    table = pa.table({"id": np.arange(40), "y": np.arange(40.0)})
    gates = [{"loss": "mean_squared_error", "max": 1.0}]
    report = lossops.evaluate(_of_two(tmp_path, table, table.slice(0, 0), key="id", gates=gates))
    assert report.run["outcome"] == "undecided"
    shown = CliRunner().invoke(cli.lossops, ["show", report.path]).output
    assert shown.startswith("Undecided. For none of 1 gate row the data is enough to tell.")
