"""The hardest rows of real models are where labels are wrong, as people who reviewed them found."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from lossops.evaluation import publish_scores, utc_now
from tests.here import score_here

DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.mark.parametrize("name", ["cifar10", "news20"])
def test_hardest_rows_hold_label_errors(name: str, tmp_path: Path) -> None:
    folder = DATA / name
    if not folder.exists():
        pytest.skip(f"../shared/data/{name} is not there")
    values = {
        "name": name,
        "labels": {"path": str(folder / "labels"), "label": "label"},
        "models": {"m": {"path": str(folder / "predictions"), "prediction": "probabilities"}},
        "key": "example_id",
        "losses": ["sparse_categorical_crossentropy"],
        "hardest": 100,
        "output": str(tmp_path),
    }
    report = publish_scores(score_here(values), utc_now())
    labels = pd.concat([pd.read_parquet(path) for path in sorted((folder / "labels").iterdir())])
    reviewed = labels.set_index("example_id")["human_reviewed"]
    hardest = [row["key"] for row in report.hardest.to_pylist() if row["slice"] == "overall"]
    assert len(hardest) == 100
    ratio = reviewed.loc[hardest].mean() / reviewed.mean()
    assert ratio > 10  # measured: 31.6 for cifar10, 36.4 for news20
