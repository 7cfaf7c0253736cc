"""Vectors from the test suites of other libraries: `../shared/vectors/loss_vectors.json`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossops.kernels.checks import Reason, check_weights
from lossops.losses import CATALOGUE, BoundLoss, bind
from tests.losses.scoring import score
from tests.oracles import Floats

Vector = dict[str, Any]

# scikit-learn, Spark and XGBoost call the cross-entropy of class indices so.
_OTHER_NAMES = {"log_loss": "sparse_categorical_crossentropy"}
_CONVENTIONS = {"keras-team/keras@": "keras", "keras-team/tf-keras@": "tf_keras"}
# What a vector says about itself rather than about the loss.
_DESCRIPTIVE = {"clip", "renormalise", "dtype", "input_kind", "expected_expr", "y_pred_expr", "labels"}
_FLOAT32 = "holds in float32 only, where 1 - 1e-7 rounds to 1 - 1.19e-7; losses here are float64"
_EXCLUDED = {
    "binary_crossentropy-051": _FLOAT32,
    "binary_crossentropy-052": _FLOAT32,
    "binary_crossentropy-053": _FLOAT32,
    "binary_crossentropy-076": "negative weights; refused, see test_negative_weights_are_refused",
    "categorical_crossentropy-102": "infinite logits; refused, see test_infinite_logits_are_refused",
    "mean_squared_error-007": "every weight is 0: such rows are left out, and a slice without rows has no mean",
}


@pytest.fixture(scope="module")
def vectors(shared: Path) -> dict[str, Vector]:
    """The vectors of losses in the catalogue, by id."""
    everything = json.loads((shared / "vectors" / "loss_vectors.json").read_text())["vectors"]
    names = {*CATALOGUE, *_OTHER_NAMES}
    return {vector["id"]: vector for vector in everything if vector["loss"] in names}


def _bound(vector: Vector) -> BoundLoss:
    parameters = {key: value for key, value in vector["params"].items() if key not in _DESCRIPTIVE}
    found = [name for source, name in _CONVENTIONS.items() if vector["source"].startswith(source)]
    return bind(_OTHER_NAMES.get(vector["loss"], vector["loss"]), parameters, found[0] if found else "exact")


def _class_numbers(vector: Vector) -> Floats:
    """Class labels as column numbers: sorted order or that of ``labels``; unchanged where they count from 0."""
    found = np.ravel(vector["y_true"]).tolist()
    if vector["loss"] == "log_loss":
        order = vector["params"].get("labels") or sorted(set(found))
        found = [order.index(label) for label in found]
    return np.array(found, dtype=np.float64)[:, np.newaxis]


def _rows(vector: Vector) -> tuple[Floats, Floats]:
    """Return labels and predictions as [rows, width]; all axes but the last are rows, a flat list has width 1."""
    predictions = np.asarray(vector["y_pred"], dtype=np.float64)
    if "sparse" in _bound(vector).name:
        return _class_numbers(vector), predictions.reshape(-1, predictions.shape[-1])
    labels = np.asarray(vector["y_true"], dtype=np.float64)
    width = predictions.shape[-1] if predictions.ndim > 1 else 1
    return labels.reshape(-1, width), predictions.reshape(-1, width)


def _reduced(vector: Vector, losses: Floats) -> Floats:
    """Reduce as the vector's source does; ignored rows come with the loss 0."""
    weights = np.broadcast_to(
        np.ravel(1.0 if vector["sample_weight"] is None else vector["sample_weight"]), losses.shape
    )
    weighted, reduction = weights * losses, vector["reduction"]
    if reduction == "none":
        return weighted
    if reduction == "sum":
        return weighted.sum()
    if reduction in ("mean_with_sample_weight", "weighted_mean"):
        return weighted.sum() / weights.sum()
    assert reduction in ("mean", "sum_over_batch_size", "mean over ALL rows (metric)"), reduction
    return weighted.sum() / len(losses)


def _deviation(vector: Vector) -> float:
    """Return by how many tolerances the vector's expectation is missed."""
    losses, reasons = score(_bound(vector), *_rows(vector))
    assert set(reasons) <= {Reason.SCORED, Reason.LABEL_IGNORED}
    actual = _reduced(vector, np.where(reasons == Reason.LABEL_IGNORED, 0.0, losses))
    expected = np.asarray(vector["expected"], dtype=np.float64)
    allowed = vector["tolerance"] + 1e-15 * np.abs(expected)  # sources state rtol 1e-15 besides the absolute tolerance
    return float(np.max(np.abs(np.ravel(actual) - np.ravel(expected)) / np.ravel(allowed)))


@pytest.mark.parametrize("loss", [*sorted(CATALOGUE), *_OTHER_NAMES])
def test_vectors_of_other_libraries(vectors: dict[str, Vector], loss: str) -> None:
    """Every applicable vector holds within the tolerance that its source uses."""
    chosen = {key: vector for key, vector in vectors.items() if vector["loss"] == loss and key not in _EXCLUDED}
    assert chosen
    missed = {key: deviation for key, vector in chosen.items() if (deviation := _deviation(vector)) > 1.0}
    assert missed == {}


def test_excluded_vectors_exist(vectors: dict[str, Vector]) -> None:
    """The list of exceptions names real vectors, and is a small part of them."""
    assert set(_EXCLUDED) <= set(vectors)
    assert len(_EXCLUDED) < len(vectors) / 8


def test_negative_weights_are_refused(vectors: dict[str, Vector]) -> None:
    """XGBoost accepts them and lets a zero sum of weights change the reduction; here each is a counted, invalid row."""
    weights = np.array(vectors["binary_crossentropy-076"]["sample_weight"], dtype=np.float64)
    reasons = np.zeros(len(weights), dtype=np.uint8)
    check_weights(weights, np.zeros(len(weights), dtype=np.uint8), reasons)
    assert (reasons == Reason.WEIGHT_NEGATIVE).tolist() == (weights < 0).tolist()


def test_infinite_logits_are_refused(vectors: dict[str, Vector]) -> None:
    """optax scores -inf logits; here they are invalid, and the finite rows of the vector hold."""
    vector = vectors["categorical_crossentropy-102"]
    predictions = np.array([[float(str(value).lower()) for value in row] for row in vector["y_pred"]])
    finite = np.isfinite(predictions).all(axis=1)
    losses, reasons = score(_bound(vector), vector["y_true"], predictions)
    assert (reasons == Reason.SCORED).tolist() == finite.tolist()
    assert set(reasons[~finite]) == {Reason.PREDICTION_INFINITE}
    expected = np.array([math.inf if value == "Infinity" else value for value in vector["expected"]])
    np.testing.assert_allclose(losses[finite], expected[finite], rtol=0.0, atol=vector["tolerance"])
