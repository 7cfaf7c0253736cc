"""Which rows are scored, and the reason of each that is not: every loss of the catalogue, from its declaration."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lossops.kernels.checks import Problem, Reason
from lossops.losses import CATALOGUE, CONVENTIONS, BoundLoss, Fitting, Inputs, Interval, Loss, bind
from tests.losses.scoring import ALL_FORMS, bound, name_of, reasons_of, score
from tests.oracles import Floats
from tests.strategies import inside, outside, parameter_sets, usable_widths, valid_rows

_CASES = [(loss, switch, shape) for loss, switch in ALL_FORMS for shape in usable_widths(loss, loss.forms[switch])]
_NOT_FINITE = [(math.nan, "NAN"), (math.inf, "INFINITE"), (-math.inf, "INFINITE")]
_Shape = tuple[int, int]


def _defaults(loss: Loss, switch: str | None, shape: _Shape, convention: str = "exact") -> BoundLoss:
    return bound(loss, parameter_sets(loss, shape[1])[0], switch, convention)


def _valid(chosen: BoundLoss, shape: _Shape) -> tuple[Floats, Floats]:
    return valid_rows(chosen, shape, count=3)


def _domain(chosen: BoundLoss, position: int) -> Interval:
    domains = chosen.prediction_domains
    return domains[position] if len(domains) > 1 else domains[0]


def _check_middle_row(chosen: BoundLoss, labels: Floats, predictions: Floats, reason: Reason) -> None:
    """The middle of three rows is refused for this reason, which the loss announces; the others are scored."""
    assert reasons_of(chosen, labels, predictions).tolist() == [Reason.SCORED, reason, Reason.SCORED]
    assert reason in chosen.reasons


@pytest.mark.parametrize(("loss", "switch", "shape"), _CASES, ids=name_of)
def test_nan_and_infinity_at_every_position(loss: Loss, switch: str | None, shape: _Shape) -> None:
    """NaN and both infinities have their own reasons, wherever in the vector they stand; logits may be infinite."""
    chosen = _defaults(loss, switch, shape)
    rows = _valid(chosen, shape)
    for side, name in enumerate(("LABEL", "PREDICTION")):
        for position in range(shape[side]):
            for value, what in _NOT_FINITE:
                dirty = [side_rows.copy() for side_rows in rows]
                dirty[side][1, position] = value
                domain = _domain(chosen, position) if side else chosen.label_domain
                if value in domain:
                    assert not reasons_of(chosen, *dirty).any()
                    continue
                beyond = domain.infinite and not math.isnan(value)
                reason = Reason[f"{name}_OUTSIDE_DOMAIN" if beyond else f"{name}_{what}"]
                _check_middle_row(chosen, dirty[0], dirty[1], reason)


@pytest.mark.parametrize(("loss", "switch", "shape"), _CASES, ids=name_of)
def test_predictions_outside_the_declared_interval(loss: Loss, switch: str | None, shape: _Shape) -> None:
    """Every value just or far outside the interval of its position is refused."""
    chosen = _defaults(loss, switch, shape)
    labels, predictions = _valid(chosen, shape)
    for position in range(shape[1]):
        for value in outside(_domain(chosen, position)):
            dirty = predictions.copy()
            dirty[1, position] = value
            _check_middle_row(chosen, labels, dirty, Reason.PREDICTION_OUTSIDE_DOMAIN)


@pytest.mark.parametrize(("loss", "switch", "shape"), _CASES, ids=name_of)
def test_labels_outside_the_declared_interval(loss: Loss, switch: str | None, shape: _Shape) -> None:
    """Every value just or far outside the interval is refused at every position; class numbers have their own test."""
    chosen = _defaults(loss, switch, shape)
    labels, predictions = _valid(chosen, shape)
    numbers = loss.inputs.has_classes and shape[0] == 1
    for value in [] if numbers else outside(chosen.label_domain):
        for position in range(shape[0]):
            dirty = labels.copy()
            dirty[1, position] = value
            _check_middle_row(chosen, dirty, predictions, Reason.LABEL_OUTSIDE_DOMAIN)


@pytest.mark.parametrize(("loss", "switch", "shape"), _CASES, ids=name_of)
@pytest.mark.parametrize("convention", sorted(CONVENTIONS))
def test_values_of_the_interval_are_accepted(loss: Loss, switch: str | None, shape: _Shape, convention: str) -> None:
    """Every edge value of a position's interval is accepted under every convention."""
    chosen = _defaults(loss, switch, shape, convention)
    labels, predictions = _valid(chosen, shape)
    for position in range(shape[1]):
        for value in inside(_domain(chosen, position)):
            edge = predictions.copy()
            edge[1, position] = value
            assert set(reasons_of(chosen, labels, edge)) <= {Reason.SCORED}


@pytest.mark.parametrize(("loss", "switch", "shape"), _CASES, ids=name_of)
@pytest.mark.parametrize("problem", [Problem.NULL, Problem.WRONG_LENGTH])
def test_null_and_wrong_length_on_each_side(loss: Loss, switch: str | None, shape: _Shape, problem: Problem) -> None:
    """They win over what the memory behind them holds, and the label's problem wins over the prediction's."""
    chosen = _defaults(loss, switch, shape)
    labels, predictions = _valid(chosen, shape)
    label_reason, prediction_reason = (Reason[f"{side}_{problem.name}"] for side in ("LABEL", "PREDICTION"))
    garbage = np.full_like(predictions, np.nan)
    assert set(reasons_of(chosen, labels, garbage, prediction_problem=problem)) == {prediction_reason}
    assert prediction_reason in chosen.reasons
    if loss.inputs.has_label:
        assert set(reasons_of(chosen, labels * np.nan, predictions, label_problem=problem)) == {label_reason}
        assert set(reasons_of(chosen, labels, garbage, problem, problem)) == {label_reason}
        assert label_reason in chosen.reasons


@pytest.mark.parametrize(("loss", "switch", "shape"), _CASES, ids=name_of)
def test_a_reason_given_before_stays(loss: Loss, switch: str | None, shape: _Shape) -> None:
    """The weight is judged first; label and prediction do not overwrite it."""
    chosen = _defaults(loss, switch, shape)
    labels, predictions = _valid(chosen, shape)
    reasons = np.full(3, Reason.WEIGHT_ZERO, dtype=np.uint8)
    none = np.zeros(3, dtype=np.uint8)
    chosen.check(labels * np.nan, none, predictions * np.nan, none, reasons)
    assert set(reasons) == {Reason.WEIGHT_ZERO}


@pytest.mark.parametrize(("loss", "switch", "shape"), _CASES, ids=name_of)
def test_reasons_are_announced_in_words(loss: Loss, switch: str | None, shape: _Shape) -> None:
    """Reasons have distinct words, and outside-domain reasons print the declared intervals."""
    chosen = _defaults(loss, switch, shape)
    assert len(set(chosen.reasons.values())) == len(chosen.reasons)
    for domain in chosen.prediction_domains:
        assert str(domain) in chosen.reasons[Reason.PREDICTION_OUTSIDE_DOMAIN]
    assert Reason.SCORED not in chosen.reasons


_CLASS_LOSSES = [loss for loss in CATALOGUE.values() if loss.inputs.has_classes]
_THREE = (1, 3)


@pytest.mark.parametrize("loss", _CLASS_LOSSES, ids=name_of)
@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (-1.0, Reason.LABEL_OUTSIDE_DOMAIN),
        (3.0, Reason.LABEL_OUTSIDE_DOMAIN),
        (1e300, Reason.LABEL_OUTSIDE_DOMAIN),
        (2.0**63, Reason.LABEL_OUTSIDE_DOMAIN),
        (0.5, Reason.LABEL_NOT_INTEGER),
        (-0.5, Reason.LABEL_NOT_INTEGER),
        (math.nextafter(2.0, 3.0), Reason.LABEL_NOT_INTEGER),
    ],
)
def test_a_class_that_does_not_exist(loss: Loss, label: float, reason: Reason) -> None:
    """Keras gives such a row the loss 0; here it is refused."""
    chosen = _defaults(loss, None, _THREE)
    _check_middle_row(chosen, np.array([[0.0], [label], [2.0]]), np.full((3, 3), 1 / 3), reason)


@pytest.mark.parametrize("loss", _CLASS_LOSSES, ids=name_of)
@pytest.mark.parametrize("ignored", [0, 1, -1, -100, 255])
def test_an_ignored_class_is_left_out_and_counted(loss: Loss, ignored: int) -> None:
    """Whatever its number; the others keep their loss, and its column stays among the predictions."""
    random = np.random.default_rng(1)
    labels = np.array([[0.0], [1.0], [2.0], [float(ignored)]])
    predictions = random.dirichlet(np.ones(3), size=4)
    chosen = bind(loss.name, {"ignore_class": ignored}, "keras")
    values, reasons = score(chosen, labels, predictions)
    plain, _ = score(bind(loss.name, {}, "keras"), labels[:3], predictions[:3])
    kept = labels[:3, 0] != ignored
    assert (reasons == Reason.LABEL_IGNORED).tolist() == (labels[:, 0] == ignored).tolist()
    np.testing.assert_array_equal(values[:3][kept], plain[kept])
    assert str(ignored) in chosen.reasons[Reason.LABEL_IGNORED]


@pytest.mark.parametrize("loss", _CLASS_LOSSES, ids=name_of)
def test_an_ignored_row_needs_no_prediction(loss: Loss) -> None:
    """An ignored label is not invalid because of what the model said there."""
    chosen = bind(loss.name, {"ignore_class": -1}, "keras")
    assert reasons_of(chosen, np.array([[-1.0]]), np.full((1, 3), np.nan)).tolist() == [Reason.LABEL_IGNORED]
    assert Reason.LABEL_IGNORED not in bind(loss.name, {}, "keras").reasons


_SUMMED = [loss for loss in CATALOGUE.values() if loss.label_sum is not None]


@pytest.mark.parametrize("loss", _SUMMED, ids=name_of)
@pytest.mark.parametrize("label", [[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.5, 0.4, 0.0], [0.9, 0.2, 0.0]])
def test_labels_that_are_no_distribution(loss: Loss, label: list[float]) -> None:
    """A label vector whose values do not sum to 1 is refused."""
    chosen = _defaults(loss, None, (3, 3))
    labels = np.array([[1.0, 0.0, 0.0], label, [0.2, 0.3, 0.5]])
    _check_middle_row(chosen, labels, np.full((3, 3), 1 / 3), Reason.LABEL_SUM_NOT_ONE)


@pytest.mark.parametrize("loss", _SUMMED, ids=name_of)
def test_float16_soft_labels_are_distributions(loss: Loss) -> None:
    """Smoothed labels that were stored as float16 miss 1 by rounding; they are honest labels."""
    soft = (np.eye(10) * 0.9 + 0.01).astype(np.float16).astype(np.float64)
    assert (soft.sum(axis=1) != 1.0).any()
    chosen = _defaults(loss, None, (10, 10))
    assert not reasons_of(chosen, soft, np.full((10, 10), 0.1)).any()


_DIVIDING = [
    loss
    for loss in CATALOGUE.values()
    if Reason.PREDICTION_SUM_ZERO in bound(loss, parameter_sets(loss, 3)[0], None, "keras").reasons
]


@pytest.mark.parametrize("loss", _DIVIDING, ids=name_of)
def test_a_prediction_that_sums_to_zero_cannot_be_renormalised(loss: Loss) -> None:
    """Refused where the convention divides by the sum; under `exact` it is a row like any other."""
    labels = np.array([[0.0], [1.0], [2.0]])
    predictions = np.array([[0.2, 0.3, 0.5], [0.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    _check_middle_row(bind(loss.name, {}, "keras"), labels, predictions, Reason.PREDICTION_SUM_ZERO)
    exact = bind(loss.name, {}, "exact")
    _, reasons = score(exact, labels, predictions)
    assert not reasons.any()
    assert Reason.PREDICTION_SUM_ZERO not in exact.reasons


_DISTRIBUTIONS = [loss for loss in CATALOGUE.values() if loss.form.distribution]


@pytest.mark.parametrize("loss", _DISTRIBUTIONS, ids=name_of)
def test_predictions_that_miss_the_sum_one_can_be_refused(loss: Loss) -> None:
    """`sum_tolerance` counts rows that renormalising, or not renormalising, would hide."""
    predictions = np.array([[0.2, 0.3, 0.5], [0.2, 0.3, 0.4], [0.1, 0.2, 0.7]])
    labels = np.eye(3) if loss.inputs is Inputs.VECTORS else np.array([[0.0], [1.0], [2.0]])
    chosen = bind(loss.name, {"sum_tolerance": 0.01}, "keras")
    _check_middle_row(chosen, labels, predictions, Reason.PREDICTION_SUM_NOT_ONE)
    assert not reasons_of(bind(loss.name, {}, "keras"), labels, predictions).any()


@pytest.mark.parametrize("order", [1, -1])
def test_losses_of_a_batch_do_not_take_over_what_others_allow(order: int) -> None:
    """They share what was found out of an array within one domain; another domain is looked at again."""
    labels, predictions = np.array([[0.0], [1.0], [0.0]]), np.array([[0.5], [2.0], [-1.0]])
    problems, fitting = np.zeros(3, dtype=np.uint8), Fitting()
    for name in ["mean_squared_error", "binary_crossentropy", "mean_absolute_error", "brier"][::order]:
        chosen = bind(name, {}, "exact")
        shared, reasons = np.zeros(3, dtype=np.uint8), reasons_of(chosen, labels, predictions)
        chosen.check(labels, problems, predictions, problems, shared, fitting)
        assert shared.tolist() == reasons.tolist()
        assert bool(shared.any()) == (name in ("binary_crossentropy", "brier"))
