"""Angles and distances against scipy and scikit-learn, and the rules of Keras and torch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial import distance
from sklearn.metrics.pairwise import cosine_similarity

from lossops.losses import bind
from tests.losses.scoring import score
from tests.oracles import Floats


def _vectors(seed: int, size: float = 1.0) -> tuple[Floats, Floats]:
    random = np.random.default_rng(seed)
    return size * random.normal(size=(100, 6)), size * random.normal(size=(100, 6))


def _score(name: str, labels: Floats, predictions: Floats, convention: str = "exact", **parameters: object) -> Floats:
    values, reasons = score(bind(name, parameters, convention), labels, predictions)
    assert not reasons.any()
    return values


def _paired(label: float, first: Floats, second: Floats) -> tuple[Floats, Floats]:
    return np.full((len(first), 1), label), np.hstack([first, second])


def _tripled(*vectors: Floats) -> tuple[Floats, Floats]:
    return np.zeros((len(vectors[0]), 0)), np.hstack(vectors)


def test_cosines_equal_scipy_and_sklearn() -> None:
    """All three losses of an angle."""
    first, second = _vectors(1)
    angle = np.array([distance.cosine(a, b) for a, b in zip(first, second, strict=True)])
    np.testing.assert_allclose(_score("cosine_distance", first, second), angle, rtol=1e-12)
    np.testing.assert_allclose(
        _score("cosine_similarity", first, second), -np.diag(cosine_similarity(first, second)), atol=1e-14
    )
    np.testing.assert_allclose(_score("cosine_embedding", *_paired(1.0, first, second)), angle, rtol=1e-12)
    others = _score("cosine_embedding", *_paired(-1.0, first, second), margin=0.2)
    np.testing.assert_allclose(others, np.maximum(0.0, 1.0 - angle - 0.2), atol=1e-14)


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1.0, 1e160, 1e300])
def test_angles_and_distances_do_not_depend_on_the_unit(size: float) -> None:
    """Squares of these lengths overflow or vanish."""
    plain, scaled = _vectors(2), _vectors(2, size)
    for name in ("cosine_distance", "cosine_similarity"):
        np.testing.assert_allclose(_score(name, *scaled), _score(name, *plain), rtol=1e-12, atol=1e-15)
    for degree in (1.0, 2.0, 3.0):
        far = _score("triplet_margin", *_tripled(*plain, plain[0]), margin=0.0, norm_degree=degree)
        found = _score("triplet_margin", *_tripled(*scaled, scaled[0]), margin=0.0, norm_degree=degree)
        np.testing.assert_allclose(found / size, far, rtol=1e-12)


def test_nearly_parallel_vectors_keep_their_digits() -> None:
    """1 - cos of an angle t is t^2/2, far below the rounding of the cosine."""
    turns = np.array([0.0, 1e-12, 1e-9, 1e-6])
    first = np.tile([[1.0, 0.0]], (4, 1))
    second = np.stack([np.ones(4), turns], axis=1)
    np.testing.assert_allclose(_score("cosine_distance", first, second), turns**2 / 2.0, rtol=1e-9)
    many = np.random.default_rng(3).normal(size=(500, 17))
    values = _score("cosine_similarity", many, 3.0 * many)
    assert (values >= -1.0).all()
    assert (_score("cosine_distance", many, 3.0 * many) < 1e-30).all()


def test_zero_vectors_have_the_cosine_zero() -> None:
    """Under every convention alike."""
    zero, some = np.zeros((1, 3)), np.ones((1, 3))
    for convention in ("exact", "keras", "tf_keras", "torch"):
        for pair in ((zero, some), (some, zero), (zero, zero)):
            assert _score("cosine_distance", *pair, convention) == [1.0]
            assert _score("cosine_similarity", *pair, convention) == [0.0]
            assert _score("cosine_embedding", *_paired(1.0, *pair), convention) == [1.0]


@pytest.mark.parametrize(("convention", "floor"), [("keras", 1e-7), ("tf_keras", 1e-6), ("torch", 1e-8)])
def test_short_vectors_are_normalised_by_a_floor(convention: str, floor: float) -> None:
    """Each vector by its own."""
    for size in (1e-9, 1e-7, 1e-6, 1.0):
        first, second = _vectors(4, size)
        one, other = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), floor) for v in (first, second))
        cosines = (one * other).sum(axis=1)
        np.testing.assert_allclose(_score("cosine_similarity", first, second, convention), -cosines, atol=1e-14)
        np.testing.assert_allclose(_score("cosine_distance", first, second, convention), 1.0 - cosines, atol=1e-14)


def test_torch_adds_to_the_squared_norms_of_a_cosine_embedding() -> None:
    """1e-12 inside the root, which torch keeps as a float32."""
    for size in (1e-7, 1e-6, 1.0):
        first, second = _vectors(5, size)
        squares = [(v * v).sum(axis=1) + float(np.float32(1e-12)) for v in (first, second)]
        cosines = (first * second).sum(axis=1) / np.sqrt(squares[0] * squares[1])
        values = _score("cosine_embedding", *_paired(1.0, first, second), "torch")
        np.testing.assert_allclose(values, 1.0 - cosines, rtol=1e-12)
        values = _score("cosine_embedding", *_paired(-1.0, first, second), "torch", margin=0.1)
        np.testing.assert_allclose(values, np.maximum(0.0, cosines - 0.1), atol=1e-14)


@pytest.mark.parametrize(("convention", "epsilon"), [("torch", 1e-6), ("exact", 0.0)])
@pytest.mark.parametrize("degree", [1.0, 1.5, 2.0, 7.0])
@pytest.mark.parametrize("swap", [False, True])
def test_triplets_are_differences_of_norms(convention: str, epsilon: float, degree: float, swap: bool) -> None:
    """numpy.linalg.norm of every difference, to which torch adds a small number."""
    (anchor, positive), (negative, _) = _vectors(6), _vectors(7)
    near, far, other = (
        np.linalg.norm(a - b + epsilon, ord=degree, axis=1)
        for a, b in ((anchor, positive), (anchor, negative), (positive, negative))
    )
    expected = np.maximum(0.0, 0.5 + near - (np.minimum(far, other) if swap else far))
    rows = _tripled(anchor, positive, negative)
    values = _score("triplet_margin", *rows, convention, margin=0.5, norm_degree=degree, swap=swap)
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-13)


def test_a_high_degree_is_the_largest_difference() -> None:
    """No power overflows on the way."""
    rows = _tripled(np.array([[1e50, 2e50]]), np.zeros((1, 2)), np.array([[1e50, 2e50]]))
    values = _score("triplet_margin", *rows, margin=0.0, norm_degree=400.0)
    assert values[0] == pytest.approx(2e50, rel=1e-12)


def test_margin_ranking() -> None:
    """The wanted order costs nothing beyond the margin; the other label exchanges the scores."""
    labels, pairs = np.array([[1.0], [1.0], [-1.0], [-1.0]]), np.array([[3.0, 1.0], [1.0, 3.0], [3.0, 1.0], [1.0, 3.0]])
    assert _score("margin_ranking", labels, pairs).tolist() == [0.0, 2.0, 2.0, 0.0]
    assert _score("margin_ranking", labels, pairs, margin=2.5).tolist() == [0.5, 4.5, 4.5, 0.5]
    np.testing.assert_array_equal(
        _score("margin_ranking", labels, pairs), _score("margin_ranking", -labels, pairs[:, ::-1])
    )


def test_cosine_embedding_is_pythons_formula() -> None:
    """Two vectors of different length at a known angle."""
    labels, vectors = _paired(1.0, np.array([[2.0, 0.0]]), np.array([[3.0, 3.0]]))
    assert _score("cosine_embedding", labels, vectors)[0] == pytest.approx(1.0 - math.sqrt(0.5), rel=1e-15)
