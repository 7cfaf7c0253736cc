"""SciPy: densities of its distributions, its special functions, its distances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special, stats
from scipy.spatial import distance

from tests.conformance.cases import (
    Case,
    assert_same,
    binary_logits,
    class_scores,
    classes,
    count,
    counts,
    decisions,
    distributions,
    forecasts,
    freedom,
    log_probabilities,
    members,
    positive,
    positives,
    real,
    reals,
    sets,
    signs,
    success,
    vectors,
    width_of,
)

_CONVENTION = "exact"
_OF_DENSITY = "SciPy adds logarithms of both signs"
_OF_SQUARE = "SciPy subtracts 1 from a root that is close to 1"


def _minus(
    log_density: Callable[..., Any], arguments: Callable[[Any], dict[str, Any]]
) -> Callable[[Any, Any, Any], Any]:
    """Minus the logarithm of a density; ``arguments`` makes SciPy's names of the fields of our prediction."""
    return lambda _, labels, predictions: -log_density(labels, **arguments(predictions.T))


def _located(p: Any) -> dict[str, Any]:
    return {"loc": p[0], "scale": p[1]}


def _mean(function: Callable[..., Any]) -> Callable[[Any, Any, Any], Any]:
    return lambda _, labels, predictions: function(labels, predictions).mean(axis=1)


def _pairwise(labels: Any, predictions: Any, metric: str) -> Any:
    """One of SciPy's distances between the two sides of each row; of two empty sets it may be NaN."""
    return np.diagonal(distance.cdist(labels, predictions, metric))


def _cross(log_of: Callable[..., Any]) -> Callable[[Any, Any, Any], Any]:
    """Cross-entropy of integer or other labels, from logarithms of probabilities."""

    def values(_: Any, labels: Any, predictions: Any) -> Any:
        targets = np.eye(predictions.shape[1])[labels] if labels.ndim == 1 else labels
        return -(targets * log_of(predictions)).sum(axis=1)

    return values


def _log_softmax(scores: Any) -> Any:
    return special.log_softmax(scores, axis=1)


CASES = [
    Case("huber", {"delta": 1.3}, reals(), _mean(lambda y, p: special.huber(1.3, p - y))),
    Case("pseudo_huber", {"delta": 0.7}, reals(), _mean(lambda y, p: special.pseudo_huber(0.7, p - y))),
    Case("lq_loss", {"q": 1.5}, reals(1), lambda _, y, p: np.float_power(np.linalg.norm(p - y, 1.5, axis=1), 1.5)),
    Case("soft_margin", {}, signs(3), _mean(lambda y, p: -special.log_expit(y * p))),
    Case(
        "binary_crossentropy",
        {"from_logits": True},
        binary_logits(3),
        _mean(lambda y, p: -special.log_expit((2 * y - 1) * p)),
    ),
    Case("categorical_crossentropy", {"from_logits": True}, class_scores("soft"), _cross(_log_softmax)),
    Case("categorical_crossentropy", {"from_log_probabilities": True}, log_probabilities("soft"), _cross(lambda p: p)),
    Case(
        "sparse_categorical_crossentropy",
        {"from_logits": True},
        class_scores(),
        _cross(_log_softmax),
        atol=1e-15,
        why="SciPy's logarithm of a sum rounds at 1",
    ),
    Case("poisson_deviance", {}, counts(), _mean(lambda y, p: 2 * special.kl_div(y, p)), atol=1e-14, why=_OF_DENSITY),
    Case(
        "poisson_nll",
        {"full": True},
        counts(1),
        lambda _, y, p: -stats.poisson.logpmf(y, p)[:, 0],
        rtol=1e-11,
        why=_OF_DENSITY,
    ),
    Case(
        "gaussian_nll",
        {},
        forecasts(real, real, width_of),
        _minus(stats.norm.logpdf, _located),
        atol=1e-14,
        why=_OF_DENSITY,
    ),
    Case(
        "gaussian_nll",
        {"log_input": True},
        forecasts(real, real, real),
        _minus(stats.norm.logpdf, lambda p: {"loc": p[0], "scale": np.exp(p[1])}),
        atol=1e-14,
        why=_OF_DENSITY,
    ),
    Case(
        "laplace_nll",
        {},
        forecasts(real, real, width_of),
        _minus(stats.laplace.logpdf, _located),
        atol=1e-14,
        why=_OF_DENSITY,
    ),
    Case(
        "logistic_nll",
        {},
        forecasts(real, real, width_of),
        _minus(stats.logistic.logpdf, _located),
        atol=1e-14,
        why=_OF_DENSITY,
    ),
    Case(
        "student_t_nll",
        {},
        forecasts(real, freedom, real, width_of),
        _minus(stats.t.logpdf, lambda p: {"df": p[0], "loc": p[1], "scale": p[2]}),
        atol=1e-13,
        why=_OF_DENSITY,
    ),
    Case(
        "lognormal_nll",
        {},
        forecasts(positive, real, width_of),
        _minus(stats.lognorm.logpdf, lambda p: {"s": p[1], "scale": np.exp(p[0])}),
        rtol=1e-11,
        atol=1e-13,
        why=_OF_DENSITY,
    ),
    Case(
        "exponential_nll",
        {},
        forecasts(positive, width_of),
        _minus(stats.expon.logpdf, lambda p: {"scale": 1 / p[0]}),
        atol=1e-14,
        why=_OF_DENSITY,
    ),
    Case(
        "gamma_nll",
        {},
        forecasts(positive, positive, width_of),
        _minus(stats.gamma.logpdf, lambda p: {"a": p[0], "scale": 1 / p[1]}),
        atol=1e-13,
        why=_OF_DENSITY,
    ),
    Case(
        "negative_binomial_nll",
        {},
        forecasts(count, positive, success),
        _minus(stats.nbinom.logpmf, lambda p: {"n": p[0], "p": p[1]}),
        rtol=1e-11,
        atol=1e-13,
        why=_OF_DENSITY,
    ),
    Case(
        "gamma_nll_of_mean",
        {},
        positives(1),
        lambda _, y, p: -stats.expon.logpdf(y, scale=p)[:, 0],
        atol=1e-14,
        why=_OF_DENSITY,
    ),
    Case(
        "ranked_probability_score",
        {},
        classes(edges=False),
        lambda _, y, p: np.array([stats.energy_distance(range(4), [i], q) ** 2 / 2 for i, q in zip(y, p, strict=True)]),
        rtol=1e-10,
        atol=1e-14,
        why="SciPy returns the root, and cumulates in another order",
    ),
    Case(
        "kl_divergence",
        {},
        distributions(),
        lambda _, y, p: special.rel_entr(y, p).sum(axis=1),
        atol=1e-15,
        why=_OF_DENSITY,
    ),
    Case(
        "generalized_kl_divergence",
        {},
        positives(4, zeros=True),
        lambda _, y, p: special.kl_div(y, p).sum(axis=1),
        atol=1e-14,
        why=_OF_DENSITY,
    ),
    Case(
        "generalized_kl_divergence",
        {"from_log_probabilities": True},
        positives(4, zeros=True),
        lambda _, y, p: special.kl_div(y, np.exp(p)).sum(axis=1),
        atol=1e-14,
        why=_OF_DENSITY,
    ),
    Case(
        "jensen_shannon_divergence",
        {},
        distributions(),
        lambda _, y, p: distance.jensenshannon(y, p, axis=1) ** 2,
        rtol=1e-11,
        atol=1e-15,
        why="SciPy returns the root",
    ),
    Case(
        "hellinger_distance",
        {},
        distributions(),
        lambda _, y, p: _pairwise(np.sqrt(y), np.sqrt(p), "euclidean") / np.sqrt(2),
    ),
    Case("total_variation_distance", {}, distributions(), lambda _, y, p: _pairwise(y, p, "cityblock") / 2),
    Case(
        "cosine_distance",
        {},
        vectors(),
        lambda _, y, p: _pairwise(y, p, "cosine"),
        atol=1e-15,
        why="SciPy subtracts the cosine from 1",
    ),
    Case(
        "cosine_similarity",
        {},
        vectors(),
        lambda _, y, p: _pairwise(y, p, "cosine") - 1.0,
        atol=1e-15,
        why="SciPy subtracts the cosine from 1",
    ),
    Case("hamming", {}, decisions(5, 3), lambda _, y, p: _pairwise(y, p, "hamming")),
    Case("jaccard", {}, sets(), lambda _, y, p: _pairwise(y > 0, p > 0, "jaccard")),
    Case("dice", {}, sets(), lambda _, y, p: np.nan_to_num(_pairwise(y > 0, p > 0, "dice"))),
    Case(
        "crps_ensemble",
        {},
        members(),
        lambda _, y, p: np.array([stats.energy_distance(q, t) ** 2 / 2 for t, q in zip(y, p, strict=True)]),
        rtol=1e-11,
        atol=1e-14,
        why="SciPy returns the root",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows(case: Case) -> None:
    """Every row has the value that SciPy gives it."""
    assert_same(case, stats, _CONVENTION)
