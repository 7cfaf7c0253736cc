"""Conventions: the libraries' rules at the edge of probabilities, and how many rows they change."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import log_loss

from lossops.losses import CONVENTIONS, bind
from tests.losses.scoring import score
from tests.oracles import CONVENTION_REFERENCES, Floats, keras_binary, keras_categorical, keras_sparse

_EDGES = (
    0.0,
    1e-300,
    1e-17,
    9.9e-8,
    1e-7,
    1.1e-7,
    1e-3,
    0.5,
    1 - 1e-3,
    1 - 1.1e-7,
    1 - 1e-7,
    1 - 9.9e-8,
    1 - 2**-53,
    1.0,
)


def _binary_rows() -> tuple[Floats, Floats]:
    pairs = np.array([[label, p] for label in (0.0, 1.0, 0.25) for p in _EDGES])
    random = np.random.default_rng(3)
    return np.vstack([pairs[:, :1], random.random((50, 1))]), np.vstack([pairs[:, 1:], random.random((50, 1))])


def _class_predictions(rows: int) -> Floats:
    """Rows that sum to 1, rows that do not, and rows with edge values."""
    random = np.random.default_rng(4)
    plain = random.dirichlet(np.full(4, 0.3), size=rows)
    unnormalised = random.random((rows, 4)) + 1e-3
    edges = random.choice(_EDGES, size=(rows, 4))
    edges[:, 3] = np.where(edges.sum(axis=1) == 0, 0.5, edges[:, 3])
    return np.vstack([plain, unnormalised, edges])


def _class_rows(*, sparse: bool) -> tuple[Floats, Floats]:
    random = np.random.default_rng(6)
    predictions = _class_predictions(40)
    classes = random.integers(0, 4, size=len(predictions))
    if sparse:
        return classes[:, np.newaxis].astype(np.float64), predictions
    soft = random.dirichlet(np.ones(4), size=len(predictions))
    return np.where(random.random((len(predictions), 1)) < 0.5, np.eye(4)[classes], soft), predictions


def _rows(loss: str) -> tuple[Floats, Floats]:
    return _binary_rows() if loss == "binary_crossentropy" else _class_rows(sparse=loss.startswith("sparse"))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(("loss", "convention"), CONVENTION_REFERENCES)
def test_convention_equals_its_library(loss: str, convention: str, smoothing: float) -> None:
    """Certain and wrong, rounded, not normalised: every row has the value that the library's rule gives in float64."""
    labels, predictions = _rows(loss)
    values, reasons = score(bind(loss, {"label_smoothing": smoothing}, convention), labels, predictions)
    assert not reasons.any()
    expected = CONVENTION_REFERENCES[loss, convention](labels, predictions, smoothing)
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-15)


_REFERENCES = {
    "binary_crossentropy": keras_binary,
    "categorical_crossentropy": keras_categorical,
    "sparse_categorical_crossentropy": keras_sparse,
}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("loss", _REFERENCES)
def test_a_row_counts_as_clipped_where_clipping_changes_its_loss(loss: str, smoothing: float) -> None:
    """Brute force: the library's rule with and without its limits."""
    labels, predictions = _rows(loss)
    chosen = bind(loss, {"label_smoothing": smoothing}, "keras")
    _, reasons = score(chosen, labels, predictions)
    with np.errstate(divide="ignore", invalid="ignore"):
        unlimited = _REFERENCES[loss](labels, predictions, smoothing, clip=0.0)
    limited = _REFERENCES[loss](labels, predictions, smoothing)
    expected = ~(np.isclose(unlimited, limited, rtol=1e-14, atol=0.0))
    assert 0 < expected.sum() < len(expected)
    np.testing.assert_array_equal(chosen.clipped(labels, predictions, reasons).astype(bool), expected)


def test_clipping_of_a_vector_counts_the_row_once() -> None:
    """A row of several probabilities is one row, however many of them were clipped."""
    predictions = np.array([[0.0, 1.0, 0.5], [0.5, 0.5, 0.5], [0.5, 0.5, 1e-9]])
    labels, none = np.zeros((3, 3)), np.zeros(3, dtype=np.uint8)
    assert bind("binary_crossentropy", {}, "keras").clipped(labels, predictions, none).tolist() == [1, 0, 1]


@pytest.mark.parametrize("loss", _REFERENCES)
def test_exact_clips_nothing(loss: str) -> None:
    """Under `exact` no row counts as clipped."""
    labels, predictions = _rows(loss)
    chosen = bind(loss, {}, "exact")
    assert not chosen.clipped(labels, predictions, np.zeros(len(labels), dtype=np.uint8)).any()


# `reference/losses.md` 0.2: one confident and wrong row, y = 0 and p = 1, has ten losses.
_CONFIDENT = {
    ("exact", "float64"): math.inf,
    ("torch", "float64"): 100.0,
    ("xgboost", "float64"): -math.log(1e-16),
    ("sklearn", "float64"): -math.log(2.0**-52),
    ("sklearn", "float32"): -math.log(2.0**-23),
    ("lightgbm", "float64"): -math.log(1e-15),
    ("spark", "float64"): -math.log(1e-15),
    ("keras", "float64"): -math.log(1e-7),
    ("keras", "float32"): -math.log(2.0**-23),
    ("tf_keras", "float64"): -math.log(2e-7),
    ("tf_keras", "float32"): -math.log(2.0**-23 + 1e-7),
}


@pytest.mark.parametrize(("convention", "precision"), _CONFIDENT)
def test_certain_and_wrong(convention: str, precision: str) -> None:
    """What each library gives, and that all but `exact` count the row as clipped."""
    chosen = bind("binary_crossentropy", {"precision": precision}, convention)
    row = np.array([[0.0]]), np.array([[1.0]])
    values, reasons = score(chosen, *row)
    assert values[0] == pytest.approx(_CONFIDENT[convention, precision], rel=1e-9)
    assert chosen.clipped(*row, reasons).tolist() == [convention != "exact"]


def test_a_clip_of_ones_own() -> None:
    """LightGBM's cross_entropy limits by 1e-12, whatever the convention says."""
    for convention in CONVENTIONS:
        chosen = bind("binary_crossentropy", {"clip": 1e-12}, convention)
        assert score(chosen, [[0.0]], [[1.0]])[0][0] == pytest.approx(-math.log(1e-12), rel=1e-4)


@pytest.mark.parametrize("convention", ["exact", "keras"])
def test_binary_crossentropy_equals_sklearn_log_loss(convention: str) -> None:
    """Labels 0 and 1, probabilities that no convention clips."""
    random = np.random.default_rng(7)
    labels = random.integers(0, 2, size=500).astype(np.float64)
    probabilities = random.uniform(1e-6, 1 - 1e-6, size=500)
    values, _ = score(bind("binary_crossentropy", {}, convention), labels[:, np.newaxis], probabilities[:, np.newaxis])
    assert values.mean() == pytest.approx(log_loss(labels, probabilities), rel=1e-12)


@pytest.mark.parametrize("convention", ["exact", "keras"])
@pytest.mark.parametrize("loss", ["categorical_crossentropy", "sparse_categorical_crossentropy"])
def test_class_losses_equal_sklearn_log_loss(loss: str, convention: str) -> None:
    """Hard labels in both encodings, rows that sum to 1."""
    random = np.random.default_rng(8)
    classes = random.integers(0, 5, size=400)
    predictions = random.dirichlet(np.ones(5), size=400) * 0.99 + 0.002
    labels = classes[:, np.newaxis] if loss.startswith("sparse") else np.eye(5)[classes]
    values, _ = score(bind(loss, {}, convention), labels, predictions)
    assert values.mean() == pytest.approx(log_loss(classes, predictions, labels=range(5)), rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "convention", "labels", "predictions", "expected", "half_digit"),
    [
        (
            "categorical_crossentropy",
            "keras",
            [[0, 1, 0], [0, 0, 1]],
            [[0.05, 0.95, 0], [0.1, 0.8, 0.1]],
            1.176939,
            5e-7,
        ),
        ("binary_crossentropy", "tf_keras", [[0], [1]], [[0.4], [0.6]], 0.5108254, 1e-7),
        ("binary_crossentropy", "keras", [[0], [1]], [[0.4], [0.6]], 0.5108256, 5e-8),
        ("binary_crossentropy", "exact", [[0], [1]], [[0.4], [0.6]], 0.5108256, 5e-8),
        ("mean_absolute_error", "keras", [[0], [0]], [[1], [1]], 1.0, 1e-15),
        ("mean_squared_error", "keras", [[0], [1]], [[1], [1]], 0.5, 1e-15),
        ("huber", "keras", [[0], [1]], [[0.6], [0.4]], 0.18, 1e-15),
    ],
)
def test_worked_examples_of_the_reference_tutorial(
    loss: str, convention: str, labels: object, predictions: object, expected: float, half_digit: float
) -> None:
    """DESIGN.md 3, to every printed digit."""
    values, reasons = score(bind(loss, {}, convention), labels, predictions)
    assert not reasons.any()
    assert abs(values.mean() - expected) <= half_digit
