"""What must hold of whole families: proper scores and deviances are at least 0, and 0 at the perfect prediction."""

from __future__ import annotations

import numpy as np
import pytest

from lossops.losses import CATALOGUE, Inputs, Loss
from lossops.losses.declaration import UNIT
from tests.losses.scoring import ALL_FORMS, bound, name_of, score
from tests.oracles import Floats
from tests.strategies import parameter_sets, usable_widths, valid_rows

# Losses that may be negative, and why.
_SIGNED = {
    "gamma_nll_of_mean": "a likelihood has no lower bound",
    "poisson_nll": "a likelihood without its constant",
    "tweedie_nll": "a likelihood without the terms of the label",
    "cosine_similarity": "minus a cosine",
    "hinge_embedding": "it is the distance itself where the label is 1, and takes what it is given for one",
    "kl_divergence": "where the predictions of a row sum to more than its labels",
}
_DENSITIES = {name for name in CATALOGUE if name.endswith("_nll")}


@pytest.mark.parametrize(("loss", "switch"), ALL_FORMS, ids=name_of)
def test_never_negative(loss: Loss, switch: str | None) -> None:
    """All but likelihoods of densities and the losses named above, with every parameter through its domain."""
    if loss.name in _DENSITIES or loss.name in _SIGNED:
        return
    for shape in usable_widths(loss, loss.forms[switch]):
        for parameters in parameter_sets(loss, shape[1]):
            chosen = bound(loss, parameters, switch)
            labels, predictions = valid_rows(chosen, shape, count=200, seed=7)
            if loss.inputs.has_classes and chosen.prediction_domains[0] == UNIT:
                predictions /= predictions.sum(axis=1, keepdims=True)
            values, reasons = score(chosen, labels, predictions)
            if parameters.get("estimator") != "fair":  # which is unbiased, and so may fall below 0
                assert (values[reasons == 0] >= 0.0).all(), parameters


# Where label and prediction speak of the same thing, a prediction equal to the label is perfect.
_SAME = {
    *("regression: differences", "regression: relative", "regression: deviances"),
    *("distributions: divergences",),
}
_MIRRORED = [
    loss for loss in CATALOGUE.values() if loss.family in _SAME and loss.name not in _SIGNED and not loss.form.fields
]


@pytest.mark.parametrize("loss", _MIRRORED, ids=name_of)
def test_zero_at_the_perfect_prediction_and_positive_elsewhere(loss: Loss) -> None:
    """Exactly 0 where prediction and label are equal, and more than 0 where they are not."""
    shape = usable_widths(loss, loss.form)[-1]
    for parameters in parameter_sets(loss, shape[1]):
        chosen = bound(loss, parameters)
        labels, predictions = valid_rows(chosen, shape, count=100, seed=8)
        if loss.label_sum is not None:
            predictions = valid_rows(chosen, shape, count=100, seed=9)[0]
        perfect, _ = score(chosen, labels, labels)
        assert (perfect == 0.0).all(), parameters
        others, reasons = score(chosen, labels, predictions)
        apart = (np.abs(labels - predictions) > 1e-6).any(axis=1) & (reasons == 0)
        assert (others[apart] > 0.0).all(), parameters


def _certain(loss: Loss) -> tuple[Floats, Floats]:
    """Rows whose prediction gives all probability to what happened."""
    if loss.inputs in (Inputs.ELEMENTS, Inputs.VECTORS):
        labels = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        return labels, labels
    return np.array([[0.0], [1.0], [2.0]]), np.eye(3)


_SCORES = [
    loss
    for loss in CATALOGUE.values()
    if loss.family in ("classification: probabilities", "classification: scores of forecasts")
]


@pytest.mark.parametrize("loss", _SCORES, ids=name_of)
@pytest.mark.parametrize("convention", ["exact", "sklearn", "torch", "xgboost", "lightgbm", "spark"])
def test_scores_of_probabilities_are_zero_for_a_certain_and_right_row(loss: Loss, convention: str) -> None:
    """All probability on what happened costs nothing, but for what a convention's clipping leaves."""
    values, reasons = score(bound(loss, {}, None, convention), *_certain(loss))
    assert not reasons.any()
    assert (np.abs(values) <= (0.0 if convention in ("exact", "torch", "xgboost", "lightgbm") else 1e-14)).all()


def test_a_perfect_ensemble_costs_nothing() -> None:
    """Every member, or quantile, at the label."""
    for name in ("crps_ensemble", "crps_quantile", "pinball_set", "weighted_interval_score"):
        loss = CATALOGUE[name]
        labels = np.array([[-3.0], [0.1], [7.5]])
        values, _ = score(bound(loss, parameter_sets(loss, 5)[0]), labels, np.repeat(labels, 5, axis=1))
        assert (values == 0.0).all(), name
