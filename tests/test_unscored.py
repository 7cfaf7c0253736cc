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
        "30 % of the labels (30 of 100) find no prediction of p, q: 30 no_prediction.",
    )
    assert lossops.evaluate(config).warnings == expected


def test_what_is_left_out_by_request_is_no_warning(tmp_path: Path) -> None:
    loss = {"loss": "sparse_categorical_crossentropy", "ignore_class": 1}
    assert _score(tmp_path, [], [0, 1, 2] * 20, losses=[loss]).warnings == ()
