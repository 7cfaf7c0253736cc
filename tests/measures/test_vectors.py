"""Vectors of measures from the test suites of other libraries: `../shared/vectors/loss_vectors.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lossops.measures import MEASURES
from tests.measures.measuring import measure

_CONVENTIONS = {"scikit-learn": "sklearn", "dmlc/xgboost": "xgboost", "Lightning-AI/torchmetrics": "exact"}
_NAMES = {"n_bins": "bins"}
_DESCRIPTIVE = {"norm"}


@pytest.fixture(scope="module")
def vectors(shared: Path) -> list[dict[str, Any]]:
    everything = json.loads((shared / "vectors" / "loss_vectors.json").read_text())["vectors"]
    return [vector for vector in everything if vector["loss"] in MEASURES]


def test_vectors_of_other_libraries(vectors: list[dict[str, Any]]) -> None:
    assert len(vectors) == 7
    for vector in vectors:
        convention = next(ours for theirs, ours in _CONVENTIONS.items() if vector["source"].startswith(theirs))
        parameters = {_NAMES.get(key, key): value for key, value in vector["params"].items() if key not in _DESCRIPTIVE}
        found = measure(vector["loss"], vector["y_true"], vector["y_pred"], convention=convention, **parameters)
        assert found == pytest.approx(vector["expected"], abs=vector["tolerance"]), vector["id"]
