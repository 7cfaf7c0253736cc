"""Every loss of the catalogue against its own declared formula, evaluated with many digits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lossops.losses import CATALOGUE, Inputs, Loss
from tests.losses.scoring import ALL_FORMS, bound, name_of, score
from tests.oracles import UNIT_ROUNDOFF, Floats, exact_loss, is_close, sigmoid, softmax
from tests.strategies import parameter_sets, rows_of, widths

# exp underflows below -745, so no distance between logits beyond that is seen by the result.
_LAST_EXPONENT = 745.0


def _tolerance(prediction: Floats, smoothing: float, *, from_logits: bool) -> float:
    """Return the relative rounding error that a float64 evaluation may have on this row.

    - each operation rounds once, and no formula subtracts what it has rounded: a few units, and one a term of a sum;
    - with smoothing s, 1 - y' is at least s/2 but carries the absolute error of y': 4/s units;
    - a difference of logits is rounded before it is exponentiated, which multiplies its error by its size.
    """
    units = 8.0 + 2.0 * len(prediction)
    if smoothing:
        units += 4.0 / smoothing
    if from_logits and len(prediction) > 1:
        units += min(_LAST_EXPONENT, float(np.ptp(prediction)))
    return units * UNIT_ROUNDOFF


@pytest.mark.parametrize(("loss", "from_logits"), ALL_FORMS, ids=name_of)
def test_kernel_equals_formula_to_a_few_ulp(loss: Loss, from_logits: bool) -> None:
    """Random and edge inputs of the declared domains, every parameter through its domain, under `exact`."""
    for parameters in parameter_sets(loss):
        chosen = bound(loss, parameters, from_logits=from_logits)
        smoothing = float(parameters.get("label_smoothing") or 0.0)
        for width in widths(loss):
            labels, predictions = rows_of(loss, chosen.form, width)
            values, reasons = score(chosen, labels, predictions)
            bad = np.flatnonzero(reasons)
            assert not len(bad), (parameters, reasons[bad], labels[bad], predictions[bad])
            for label, prediction, value in zip(labels, predictions, values, strict=True):
                expected = exact_loss(loss, chosen.form.formula, label, prediction, parameters)
                tolerance = _tolerance(prediction, smoothing, from_logits=from_logits)
                assert is_close(float(value), expected, tolerance), (parameters, label, prediction, value, expected)


_WITH_LOGITS = [loss for loss in CATALOGUE.values() if loss.logits is not None]
_EXTREME_LOGITS = (-1e20, -1e3, -800.0, -745.0, -37.0, -1e-300, 0.0, 1e-17, 37.0, 710.0, 1e3, 1e20)


def _extreme_rows(loss: Loss) -> tuple[Floats, Floats]:
    logits = np.array([[first, second] for first in _EXTREME_LOGITS for second in _EXTREME_LOGITS])
    if loss.inputs is Inputs.CLASS_INDEX:
        return np.tile([[0.0], [1.0]], (len(logits), 1)), np.repeat(logits, 2, axis=0)
    return np.tile([[0.0, 1.0], [1.0, 0.0]], (len(logits), 1)), np.repeat(logits, 2, axis=0)


@pytest.mark.parametrize("loss", _WITH_LOGITS, ids=name_of)
@pytest.mark.parametrize("convention", ["exact", "keras", "tf_keras"])
def test_extreme_logits_neither_saturate_nor_overflow(loss: Loss, convention: str) -> None:
    """Logits of 1e3 and 1e20 give the value of the formula under every convention: logits are never clipped."""
    parameters = {parameter.name: parameter.default for parameter in loss.parameters}
    chosen = bound(loss, parameters, from_logits=True, convention=convention)
    labels, logits = _extreme_rows(loss)
    values, reasons = score(chosen, labels, logits)
    assert not reasons.any()
    assert not chosen.clipped(labels, logits, reasons).any()
    for label, row, value in zip(labels, logits, values, strict=True):
        expected = exact_loss(loss, chosen.form.formula, label, row, parameters)
        assert is_close(float(value), expected, _tolerance(row, 0.0, from_logits=True)), (label, row, value)


def _probabilities(loss: Loss, logits: Floats) -> Floats:
    if loss.inputs is Inputs.ELEMENTS:
        return np.array([[sigmoid(float(logit)) for logit in row] for row in logits])
    return np.array([softmax(row) for row in logits])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("loss", _WITH_LOGITS, ids=name_of)
@pytest.mark.parametrize(("convention", "largest"), [("exact", 30.0), ("keras", 7.0)])
def test_logits_and_their_probabilities_give_one_loss(
    loss: Loss, convention: str, largest: float, smoothing: float
) -> None:
    """Until the probability rounds or clips, scoring logits equals scoring their sigmoid or softmax.

    A probability is rounded by half a unit, which moves log(1 - p) by e^|z| half units.
    """
    random = np.random.default_rng(5)
    width = widths(loss)[-1]
    labels, _ = rows_of(loss, loss.form, width)
    logits = random.uniform(-largest, largest, size=(len(labels), width))
    parameters = {"label_smoothing": smoothing}
    plain, _ = score(
        bound(loss, parameters, from_logits=False, convention=convention), labels, _probabilities(loss, logits)
    )
    direct, _ = score(bound(loss, parameters, from_logits=True, convention=convention), labels, logits)
    scale = math.exp(largest) if loss.inputs is Inputs.ELEMENTS else width * 8.0
    np.testing.assert_allclose(plain, direct, rtol=1e-14, atol=UNIT_ROUNDOFF * scale)


@pytest.mark.parametrize("delta", [0.01, 0.5, 1.0, 3.0, 1e6])
def test_huber_is_delta_times_smooth_l1(delta: float) -> None:
    """The identity by which torch tells the two apart."""
    loss = CATALOGUE["huber"]
    labels, predictions = rows_of(loss, loss.form, 3)
    huber, _ = score(bound(loss, {"delta": delta}, from_logits=False), labels, predictions)
    smooth, _ = score(bound(CATALOGUE["smooth_l1"], {"beta": delta}, from_logits=False), labels, predictions)
    np.testing.assert_allclose(huber, delta * smooth, rtol=1e-14)


def test_smooth_l1_with_beta_zero_is_the_absolute_error() -> None:
    """torch: beta 0 is L1, also where prediction and label are equal."""
    loss = CATALOGUE["smooth_l1"]
    labels, predictions = rows_of(loss, loss.form, 3)
    smooth, _ = score(bound(loss, {"beta": 0.0}, from_logits=False), labels, predictions)
    np.testing.assert_array_equal(smooth, np.abs(predictions - labels).mean(axis=1))


@pytest.mark.parametrize(("loss", "from_logits"), ALL_FORMS, ids=name_of)
def test_every_loss_refuses_to_be_negative_where_it_cannot_be(loss: Loss, from_logits: bool) -> None:
    """With one-hot or plain labels and no smoothing, each loss of the catalogue so far is at least 0 and not NaN."""
    parameters = {parameter.name: parameter.default for parameter in loss.parameters}
    chosen = bound(loss, parameters, from_logits=from_logits)
    values, _ = score(chosen, *rows_of(loss, chosen.form, widths(loss)[-1], seed=9))
    assert (values >= 0.0).all()
