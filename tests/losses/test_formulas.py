"""Every loss of the catalogue against its own declared formula, evaluated with many digits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lossops.kernels.checks import Reason
from lossops.losses import CATALOGUE, Inputs, Loss, bind
from lossops.losses.declaration import LOGITS, setting_names
from tests.formulas import UNIT_ROUNDOFF, error_in_bounds, sigmoid, softmax
from tests.losses.scoring import ALL_FORMS, bound, name_of, score
from tests.oracles import Floats
from tests.strategies import parameter_sets, row_blocks, usable_widths, valid_rows

ROWS, EXAMPLES = 150, 23  # with three storage types 10 350 rows of every form of every loss
_FIXED = {
    "derandomize": True,
    "database": None,
    "deadline": None,
    "phases": [Phase.generate],  # the message names the row: nothing is gained by a smaller block
    "suppress_health_check": list(HealthCheck),
}


@pytest.mark.parametrize("bits", [16, 32, 64])
@pytest.mark.parametrize(("loss", "switch"), ALL_FORMS, ids=name_of)
@settings(max_examples=EXAMPLES, **_FIXED)
@given(data=st.data())
def test_kernel_equals_formula(loss: Loss, switch: str | None, bits: int, data: Any) -> None:
    """Drawn rows of the declared domains, every parameter through its domain, under `exact`: within declared ulps."""
    shape = data.draw(st.sampled_from(usable_widths(loss, loss.forms[switch])))
    parameters = data.draw(st.sampled_from(parameter_sets(loss, shape[1])))
    chosen = bound(loss, parameters, switch)
    labels, predictions = data.draw(row_blocks(chosen, shape, rows=ROWS, bits=bits))
    values, reasons = score(chosen, labels, predictions)
    assert set(reasons) <= {Reason.SCORED, Reason.LOSS_NAN}
    for row, value in zip(zip(labels, predictions, strict=True), values, strict=True):
        error = error_in_bounds(loss, chosen.form, row, parameters, float(value))
        assert error <= 1.0, (parameters, row, float(value), error)


@pytest.mark.parametrize(("loss", "switch"), ALL_FORMS, ids=name_of)
def test_rows_are_plain_functions_that_python_can_call(loss: Loss, switch: str | None) -> None:
    """A formula is an ordinary function of one row: called from Python, it equals its compiled loop."""
    shape = usable_widths(loss, loss.forms[switch])[0]
    chosen = bound(loss, parameter_sets(loss, shape[1])[0], switch)
    labels, predictions = valid_rows(chosen, shape, count=20)
    values, _ = score(chosen, labels, predictions)
    settings = chosen.settings(chosen.form.row)
    for label, prediction, value in zip(labels, predictions, values, strict=True):
        plain = _in_python(loss, chosen.form.row, label, prediction, settings)
        assert value == pytest.approx(plain, rel=1e-13, abs=1e-13)


def _in_python(loss: Loss, row: Any, label: Floats, prediction: Floats, settings: tuple[Any, ...]) -> float:
    if loss.inputs is Inputs.ELEMENTS:
        return float(np.mean([row(float(y), float(p), *settings) for y, p in zip(label, prediction, strict=True)]))
    if loss.inputs is Inputs.CLASS_INDEX:
        return float(row(int(label[0]), prediction, *settings))
    if loss.inputs in (Inputs.NUMBER, Inputs.PAIR):
        return float(row(float(label[0]), prediction, *settings))
    if loss.inputs is Inputs.CLASSES and len(label) == 1:
        label = np.eye(len(prediction))[int(label[0])]
    return float(row(label, prediction, *settings))


_WITH_LOGITS = [loss for loss in CATALOGUE.values() if "from_logits" in loss.alternatives]
_EXTREME_LOGITS = (-1e20, -1e3, -800.0, -745.0, -37.0, -1e-300, 0.0, 1e-17, 37.0, 710.0, 800.0, 1e3, 1e20)


def _extreme_rows(loss: Loss, logits: tuple[float, ...]) -> tuple[Floats, Floats]:
    pairs = np.array([[first, second] for first in logits for second in logits])
    labels = [[0.0], [1.0]] if loss.inputs is Inputs.CLASS_INDEX else [[0.0, 1.0], [1.0, 0.0]]
    return np.tile(labels, (len(pairs), 1)), np.repeat(pairs, 2, axis=0)


@pytest.mark.parametrize("loss", _WITH_LOGITS, ids=name_of)
@pytest.mark.parametrize("convention", ["exact", "keras", "tf_keras", "torch"])
def test_extreme_logits_neither_saturate_nor_overflow(loss: Loss, convention: str) -> None:
    """Logits of 800 and 1e20 give the value of the formula under every convention: logits are never clipped."""
    parameters = parameter_sets(loss, 2)[0]
    chosen = bound(loss, parameters, "from_logits", convention)
    labels, logits = _extreme_rows(loss, _EXTREME_LOGITS)
    values, reasons = score(chosen, labels, logits)
    assert not reasons.any()
    assert not chosen.clipped(labels, logits, reasons).any()
    for row, value in zip(zip(labels, logits, strict=True), values, strict=True):
        assert error_in_bounds(loss, chosen.form, row, parameters, float(value)) <= 1.0, (row, value)


@pytest.mark.parametrize("loss", _WITH_LOGITS, ids=name_of)
def test_infinite_logits_are_the_limits_of_finite_ones(loss: Loss) -> None:
    """A logit of -inf or inf costs what one of 1e6 costs; where no limit exists, two infinite ones, the row is counted.

    The limit is infinite where the loss of the finite logits grows with them, and 0 or finite where it does not.
    """
    assert loss.alternatives["from_logits"].prediction == LOGITS
    parameters = parameter_sets(loss, 2)[0]
    chosen = bound(loss, parameters, "from_logits")
    labels, logits = _extreme_rows(loss, (-math.inf, math.inf, 0.0, 3.0))
    values, reasons = score(chosen, labels, logits)
    once, _ = score(chosen, labels, np.where(np.isinf(logits), np.sign(logits) * 1e6, logits))
    again, _ = score(chosen, labels, np.where(np.isinf(logits), np.sign(logits) * 2e6, logits))
    grows = again > 1.5 * once + 1.0
    one_way = loss.inputs is Inputs.ELEMENTS or loss.inputs is Inputs.VECTORS
    known = np.full(len(logits), True) if one_way else (logits[:, 0] != logits[:, 1]) | np.isfinite(logits[:, 0])
    assert (reasons[known] == Reason.SCORED).all()
    assert (reasons[~known] == Reason.LOSS_NAN).all()
    np.testing.assert_allclose(values[known & ~grows], once[known & ~grows], rtol=1e-12, atol=1e-12)
    assert np.isinf(values[known & grows]).all()


def _probabilities(loss: Loss, logits: Floats) -> Floats:
    if loss.inputs in (Inputs.ELEMENTS, Inputs.VECTORS):
        return np.array([[sigmoid(float(logit)) for logit in row] for row in logits])
    return np.array([softmax(row) for row in logits])


_LIMITS = [("exact", 30.0), ("keras", 7.0)]


@pytest.mark.parametrize("loss", _WITH_LOGITS, ids=name_of)
@pytest.mark.parametrize(("convention", "largest"), _LIMITS)
def test_logits_and_their_probabilities_give_one_loss(loss: Loss, convention: str, largest: float) -> None:
    """Until the probability rounds or clips, scoring logits equals scoring their sigmoid or softmax.

    A probability is rounded by half a unit, which moves log(1 - p) by e^|z| half units.
    """
    random = np.random.default_rng(5)
    shape = usable_widths(loss, loss.form)[-1]
    for parameters in parameter_sets(loss, shape[1]):
        labels, _ = valid_rows(bound(loss, parameters), shape)
        logits = random.uniform(-largest, largest, size=(len(labels), shape[1]))
        plain, _ = score(bound(loss, parameters, None, convention), labels, _probabilities(loss, logits))
        direct, _ = score(bound(loss, parameters, "from_logits", convention), labels, logits)
        scale = math.exp(largest) if loss.inputs in (Inputs.ELEMENTS, Inputs.VECTORS) else shape[1] * 8.0
        factor = float(max(1.0, *(np.max(np.abs(one)) for one in _numbers(parameters))))
        np.testing.assert_allclose(plain, direct, rtol=1e-13, atol=UNIT_ROUNDOFF * scale * factor * 4)


def _numbers(parameters: dict[str, Any]) -> list[Any]:
    return [1.0, *(value for value in parameters.values() if value is not None and not isinstance(value, str))]


@pytest.mark.parametrize("delta", [0.01, 0.5, 1.0, 3.0, 1e6])
def test_huber_is_delta_times_smooth_l1(delta: float) -> None:
    """The identity by which torch tells the two apart."""
    loss = CATALOGUE["huber"]
    labels, predictions = valid_rows(bind(loss.name, {}, "exact"), (3, 3))
    huber, _ = score(bind("huber", {"delta": delta}, "exact"), labels, predictions)
    smooth, _ = score(bind("smooth_l1", {"beta": delta}, "exact"), labels, predictions)
    np.testing.assert_allclose(huber, delta * smooth, rtol=1e-14)


def test_smooth_l1_with_beta_zero_is_the_absolute_error() -> None:
    """torch: beta 0 is L1, also where prediction and label are equal."""
    loss = CATALOGUE["smooth_l1"]
    labels, predictions = valid_rows(bind(loss.name, {}, "exact"), (3, 3))
    predictions[::4] = labels[::4]
    smooth, _ = score(bind("smooth_l1", {"beta": 0.0}, "exact"), labels, predictions)
    np.testing.assert_array_equal(smooth, np.abs(predictions - labels).mean(axis=1))


def test_settings_of_every_formula_are_known() -> None:
    """Arguments after label and prediction are parameters or rules of the convention; no other name is asked for."""
    for loss in CATALOGUE.values():
        for switch, form in loss.forms.items():
            shape = usable_widths(loss, form)[0]
            chosen = bound(loss, parameter_sets(loss, shape[1])[0], switch)
            for function in filter(None, (form.row, form.clipped)):
                assert len(chosen.settings(function)) == len(list(setting_names(function)))
