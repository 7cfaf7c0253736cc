"""PyTorch: every criterion without its reduction, and the means of its cross-entropy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conformance.cases import (
    ROWS,
    Case,
    Mean,
    assert_same,
    assert_same_means,
    binary,
    binary_logits,
    class_scores,
    counts,
    forecasts,
    log_probabilities,
    our_values,
    pairs,
    real,
    reals,
    signs,
    triples,
    vectors,
    width_of,
)

_CONVENTION = "torch"
_OF_TERMS = "torch's formula subtracts terms that our form avoids"
_OF_COSINE = "a cosine is a sum of terms of both signs"
_WEIGHTS = (0.5, 2.0, 0.0, 1.25)


def _of(name: str, classes: bool = False, average: bool = True, **settings: Any) -> Callable[[Any, Any, Any], Any]:
    """Values of a function without reduction, averaged over the elements of a row as ours are.

    Args:
        name: of the function in ``torch.nn.functional``.
        classes: whether labels that are whole numbers go to it as such.
        average: whether there are several values a row.
        settings: arguments of the function; lists become tensors.
    """

    def values(torch: Any, labels: Any, predictions: Any) -> Any:
        label = torch.tensor(labels) if classes else torch.tensor(np.asarray(labels, dtype=np.float64))
        given = {
            key: torch.tensor(one, dtype=torch.float64) if isinstance(one, tuple) else one
            for key, one in settings.items()
        }
        found = getattr(torch.nn.functional, name)(torch.tensor(predictions), label, reduction="none", **given)
        return (found.mean(dim=1) if average else found).numpy()

    return values


def _gaussian(full: bool) -> Callable[[Any, Any, Any], Any]:
    def values(torch: Any, labels: Any, predictions: Any) -> Any:
        mean, variance = torch.tensor(predictions).T
        return torch.nn.functional.gaussian_nll_loss(
            mean, torch.tensor(labels), variance, full=full, reduction="none"
        ).numpy()

    return values


def _multilabel_margin(torch: Any, labels: Any, predictions: Any) -> Any:
    """Torch takes the classes of a row as a list that -1 ends."""
    lists = np.full(labels.shape, -1)
    for row, label in enumerate(labels):
        lists[row, : int(label.sum())] = np.flatnonzero(label)
    return torch.nn.functional.multilabel_margin_loss(
        torch.tensor(predictions), torch.tensor(lists), reduction="none"
    ).numpy()


def _pair(torch: Any, labels: Any, predictions: Any) -> Any:
    first, second = torch.tensor(predictions).chunk(2, dim=1)
    return torch.nn.functional.cosine_embedding_loss(
        first, second, torch.tensor(labels), margin=0.3, reduction="none"
    ).numpy()


def _triplet(degree: float, swap: bool) -> Callable[[Any, Any, Any], Any]:
    def values(torch: Any, _: Any, predictions: Any) -> Any:
        vectors = torch.tensor(predictions).chunk(3, dim=1)
        return torch.nn.functional.triplet_margin_loss(
            *vectors, margin=0.7, p=degree, swap=swap, reduction="none"
        ).numpy()

    return values


CASES = [
    Case("mean_absolute_error", {}, reals(), _of("l1_loss")),
    Case("mean_squared_error", {}, reals(), _of("mse_loss")),
    Case("huber", {"delta": 0.6}, reals(), _of("huber_loss", delta=0.6)),
    Case("smooth_l1", {"beta": 0.6}, reals(), _of("smooth_l1_loss", beta=0.6)),
    Case("smooth_l1", {"beta": 0}, reals(), _of("smooth_l1_loss", beta=0.0)),
    Case("binary_crossentropy", {}, binary(3), _of("binary_cross_entropy")),
    Case("binary_crossentropy", {}, binary(3, soft=True), _of("binary_cross_entropy")),
    Case(
        "binary_crossentropy",
        {"from_logits": True},
        binary_logits(3),
        _of("binary_cross_entropy_with_logits"),
        atol=2e-14,
        why=_OF_TERMS,
    ),
    Case(
        "binary_crossentropy",
        {"from_logits": True, "pos_weight": 3.5},
        binary_logits(3, soft=True),
        _of("binary_cross_entropy_with_logits", pos_weight=(3.5,)),
        atol=2e-14,
        why=_OF_TERMS,
    ),
    Case("multilabel_crossentropy", {}, binary(4), _of("binary_cross_entropy")),
    Case(
        "multilabel_crossentropy", {"class_weight": _WEIGHTS}, binary(4), _of("binary_cross_entropy", weight=_WEIGHTS)
    ),
    Case(
        "multilabel_crossentropy",
        {"from_logits": True},
        binary_logits(4, scale=3.0),
        _of("multilabel_soft_margin_loss", average=False),
        atol=1e-14,
        why=_OF_TERMS,
    ),
    Case(
        "multilabel_crossentropy",
        {"from_logits": True, "class_weight": _WEIGHTS},
        binary_logits(4),
        _of("multilabel_soft_margin_loss", average=False, weight=_WEIGHTS),
        atol=2e-14,
        why=_OF_TERMS,
    ),
    Case(
        "multilabel_crossentropy",
        {"from_logits": True, "class_weight": _WEIGHTS, "pos_weight": [3.0, 0.5, 1.0, 0.0]},
        binary_logits(4),
        _of("binary_cross_entropy_with_logits", weight=_WEIGHTS, pos_weight=(3.0, 0.5, 1.0, 0.0)),
        atol=5e-14,
        why=_OF_TERMS,
    ),
    *(
        Case(
            f"{sparse}categorical_crossentropy",
            {"from_logits": True, **ours},
            class_scores(kind),
            _of("cross_entropy", classes=True, average=False, **theirs),
            atol=1e-14,
            why=_OF_TERMS,
        )
        for sparse, kind in (("", "one-hot"), ("", "soft"), ("sparse_", "index"))
        for ours, theirs in (
            ({}, {}),
            ({"class_weight": _WEIGHTS}, {"weight": _WEIGHTS}),
            ({"label_smoothing": 0.2}, {"label_smoothing": 0.2}),
            ({"class_weight": _WEIGHTS, "label_smoothing": 0.2}, {"weight": _WEIGHTS, "label_smoothing": 0.2}),
        )
    ),
    Case(
        "sparse_categorical_crossentropy",
        {"from_log_probabilities": True},
        log_probabilities(),
        _of("nll_loss", classes=True, average=False),
    ),
    Case(
        "sparse_categorical_crossentropy",
        {"from_log_probabilities": True, "class_weight": _WEIGHTS},
        log_probabilities(),
        _of("nll_loss", classes=True, average=False, weight=_WEIGHTS),
    ),
    Case("poisson_nll", {"log_input": True}, counts(), _of("poisson_nll_loss", log_input=True)),
    Case("poisson_nll", {}, counts(), _of("poisson_nll_loss", log_input=False), atol=1e-13, why=_OF_TERMS),
    Case(
        "poisson_nll",
        {"full": True},
        counts(),
        _of("poisson_nll_loss", log_input=False, full=True),
        atol=1e-13,
        why=_OF_TERMS,
    ),
    Case(
        "gaussian_nll",
        {"scale": "variance", "full": False},
        forecasts(real, real, width_of),
        _gaussian(full=False),
        atol=1e-14,
        why=_OF_TERMS,
    ),
    Case(
        "gaussian_nll",
        {"scale": "variance", "full": True},
        forecasts(real, real, lambda rng: width_of(rng) * rng.choice([0.0, 1e-8, 1.0], ROWS)),
        _gaussian(full=True),
        atol=1e-14,
        why=_OF_TERMS,
    ),
    Case(
        "soft_margin",
        {},
        signs(3),
        _of("soft_margin_loss"),
        atol=1e-15,
        why="torch takes log(1 + exp(x)) without log1p",
    ),
    Case("hinge_embedding", {"margin": 0.8}, signs(), _of("hinge_embedding_loss", margin=0.8)),
    Case(
        "multi_margin",
        {},
        class_scores(),
        _of("multi_margin_loss", classes=True, average=False),
        atol=1e-15,
        why="torch rounds a difference close to the margin",
    ),
    Case(
        "multi_margin",
        {"exponent": 2, "margin": 0.7, "class_weight": _WEIGHTS},
        class_scores(),
        _of("multi_margin_loss", classes=True, average=False, p=2, margin=0.7, weight=_WEIGHTS),
    ),
    Case(
        "multilabel_margin",
        {},
        binary_logits(4, scale=2.0),
        _multilabel_margin,
        atol=1e-15,
        why="torch rounds a difference close to the margin",
    ),
    Case(
        "kl_divergence",
        {"from_log_probabilities": True},
        log_probabilities("soft"),
        lambda torch, y, p: (
            torch.nn.functional.kl_div(torch.tensor(p), torch.tensor(y), reduction="none").sum(dim=1).numpy()
        ),
        atol=1e-15,
        why=_OF_TERMS,
    ),
    *(
        Case(
            "cosine_similarity",
            {},
            rows,
            lambda torch, y, p: -torch.nn.functional.cosine_similarity(torch.tensor(y), torch.tensor(p)).numpy(),
            atol=1e-15,
            why=_OF_COSINE,
        )
        for rows in (vectors(), vectors(short=True))
    ),
    Case(
        "cosine_distance",
        {},
        vectors(short=True),
        lambda torch, y, p: 1.0 - torch.nn.functional.cosine_similarity(torch.tensor(y), torch.tensor(p)).numpy(),
        atol=1e-15,
        why=_OF_COSINE,
    ),
    *(
        Case("cosine_embedding", {"margin": 0.3}, rows, _pair, atol=1e-15, why=_OF_COSINE)
        for rows in (pairs(), pairs(short=True))
    ),
    Case(
        "margin_ranking",
        {"margin": 0.4},
        forecasts(lambda rng: rng.choice([-1.0, 1.0], ROWS), real, real),
        lambda torch, y, p: torch.nn.functional.margin_ranking_loss(
            *torch.tensor(p).T, torch.tensor(y), margin=0.4, reduction="none"
        ).numpy(),
    ),
    *(
        Case(
            "triplet_margin",
            {"margin": 0.7, "norm_degree": degree, "swap": swap},
            triples(),
            _triplet(degree, swap),
            atol=1e-14,
            why="two distances are subtracted",
        )
        for degree in (1.0, 2.0, 3.0)
        for swap in (False, True)
    ),
]


def _mean(name: str, classes: bool = False, **settings: Any) -> Callable[[Any, Any, Any, Any], Any]:
    """The mean of a group as torch reduces it; NaN where it divides nothing by nothing, and ours is null."""

    def value(torch: Any, labels: Any, predictions: Any, _: Any) -> float:
        label = torch.tensor(labels) if classes else torch.tensor(np.asarray(labels, dtype=np.float64))
        given = {
            key: torch.tensor(one, dtype=torch.float64) if isinstance(one, tuple) else one
            for key, one in settings.items()
        }
        return float(getattr(torch.nn.functional, name)(torch.tensor(predictions), label, **given))

    return value


MEANS = [
    *(
        Mean(
            {"loss": "sparse_categorical_crossentropy", "from_logits": True, "denominator": "convention", **ours},
            class_scores(width=4),
            _mean("cross_entropy", classes=True, **theirs),
            weighted=False,
            atol=1e-14,
            why=_OF_TERMS,
        )
        for ours, theirs in (
            ({**weights[0], **smoothing, **ignored[0]}, {**weights[1], **smoothing, **ignored[1]})
            for weights in (({}, {}), ({"class_weight": _WEIGHTS}, {"weight": _WEIGHTS}))
            for smoothing in ({}, {"label_smoothing": 0.2})
            for ignored in (({}, {}), ({"ignore_class": 3}, {"ignore_index": 3}))
        )
    ),
    Mean(
        {
            "loss": "categorical_crossentropy",
            "from_logits": True,
            "class_weight": _WEIGHTS,
            "denominator": "convention",
        },
        class_scores("soft"),
        _mean("cross_entropy", weight=_WEIGHTS),
        weighted=False,
        atol=1e-14,
        why=_OF_TERMS,
    ),
    Mean(
        {"loss": "multi_margin", "class_weight": _WEIGHTS, "denominator": "convention"},
        class_scores(),
        _mean("multi_margin_loss", classes=True, weight=_WEIGHTS),
        weighted=False,
        atol=1e-15,
        why="torch rounds a difference close to the margin",
    ),
    Mean(
        {"loss": "binary_crossentropy", "from_logits": True, "pos_weight": 3.0, "denominator": "convention"},
        binary_logits(2),
        _mean("binary_cross_entropy_with_logits", pos_weight=(3.0,)),
        weighted=False,
        atol=2e-14,
        why=_OF_TERMS,
    ),
    Mean(
        {"loss": "multilabel_crossentropy", "class_weight": _WEIGHTS, "denominator": "convention"},
        binary(4),
        _mean("binary_cross_entropy", weight=_WEIGHTS),
        weighted=False,
    ),
    Mean({"loss": "huber", "denominator": "convention"}, reals(), _mean("huber_loss"), weighted=False),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows(case: Case, torch: Any) -> None:
    """Every row has the value that PyTorch gives it."""
    assert_same(case, torch, _CONVENTION)


@pytest.mark.parametrize("mean", MEANS, ids=str)
def test_means(mean: Mean, torch: Any, tmp_path: Path) -> None:
    """Every group of a run has the mean that PyTorch gives it."""
    assert_same_means(mean, torch, _CONVENTION, tmp_path)


def test_defect_infinite_logits(torch: Any) -> None:
    """A logit of infinity on the right side gives torch NaN where it should give 0."""
    found = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor([np.inf, -np.inf]), torch.tensor([1.0, 0.0]), reduction="none"
    )
    assert torch.isnan(found).all()
    ours = our_values("binary_crossentropy", {"from_logits": True}, _CONVENTION, [[1.0], [0.0]], [[np.inf], [-np.inf]])
    assert ours.tolist() == [0.0, 0.0]


def test_defect_all_ignored(torch: Any) -> None:
    """Where every row is ignored, torch returns NaN for a mean; ours is null, which `test_means` takes for the same."""
    logits, labels = torch.zeros((2, 3)), torch.tensor([1, 1])
    assert torch.isnan(torch.nn.functional.cross_entropy(logits, labels, ignore_index=1))
