"""The curve of every loss: what the catalogue says of it, checked with numbers.

A loss is followed along straight lines through the domain of its prediction, under `exact`, with default parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from lossops.losses import CATALOGUE, BoundLoss, Inputs, Interval, Loss, Outlier
from lossops.losses.declaration import UNIT
from tests.losses.scoring import bound, name_of, score
from tests.oracles import Floats
from tests.strategies import parameter_sets, usable_widths, valid_rows

_LOSSES = list(CATALOGUE.values())
_LINES = 60
_POINTS = 41


def _shape(loss: Loss) -> tuple[int, int]:
    """Vectors long enough for every rule to matter."""
    if loss.form.fields:
        return usable_widths(loss, loss.form)[0]
    return {Inputs.CLASSES: (8, 8), Inputs.CLASS_INDEX: (1, 8)}.get(loss.inputs, usable_widths(loss, loss.form)[0])


def _chosen(loss: Loss) -> BoundLoss:
    return bound(loss, parameter_sets(loss, _shape(loss)[1])[0])


def _lines(loss: Loss, seed: int = 0) -> Iterator[tuple[Floats, Floats]]:
    """Yield (label, predictions along a line) of ends inside the domain, [_POINTS, width]."""
    chosen, shape = _chosen(loss), _shape(loss)
    labels, starts = valid_rows(chosen, shape, count=_LINES, seed=seed)
    _, ends = valid_rows(chosen, shape, count=_LINES, seed=seed + 1)
    if shape[0] == shape[1] and chosen.label_domain == chosen.prediction_domains[0]:
        ends[::2] = 2.0 * labels[::2] - starts[::2]  # through the perfect prediction
    if loss.inputs.has_classes and chosen.prediction_domains[0] == UNIT:  # from one distribution to another
        starts, ends = (side / side.sum(axis=1, keepdims=True) for side in (starts, ends))
    if loss.inputs is Inputs.NUMBER and not chosen.form.fields:  # from quantiles in order to others
        starts.sort(axis=1)
    if chosen.label_domain == Interval(0.0):  # a distribution of counts rules out what is none
        labels = np.floor(labels)
    steps = np.linspace(0.0, 1.0, _POINTS)[:, np.newaxis]
    for label, start, end in zip(labels, starts, ends, strict=True):
        line = start + steps * (end - start)
        line[_POINTS // 2] = (start + end) / 2.0
        if all(value in chosen.prediction_domains[0] for value in end) or chosen.form.fields:
            yield np.tile(label, (_POINTS, 1)), line


def _losses_along(loss: Loss, seed: int = 0) -> Iterator[Floats]:
    chosen = _chosen(loss)
    for labels, predictions in _lines(loss, seed):
        values, reasons = score(chosen, labels, predictions)
        assert not reasons.any()
        if np.isfinite(values).all():
            yield values


@pytest.mark.parametrize("loss", _LOSSES, ids=name_of)
def test_convex(loss: Loss) -> None:
    """On no line does a loss that is called convex bend down; every other bends down on some line."""
    bends = []
    for values in _losses_along(loss):
        second = values[:-2] - 2.0 * values[1:-1] + values[2:]
        bends.append(float(np.min(second / (1e-9 + np.max(np.abs(values))))))
    assert (min(bends) > -1e-9) == loss.curve.convex, min(bends)


def _domain(loss: Loss) -> Interval:
    return _chosen(loss).prediction_domains[0]


_ONE_NUMBER = [loss for loss in _LOSSES if loss.inputs is Inputs.ELEMENTS and not loss.form.fields]


def _at(loss: Loss, label: float, predictions: Floats) -> Floats:
    chosen = _chosen(loss)
    labels = np.full((len(predictions), 1), label)
    return score(chosen, labels, predictions[:, np.newaxis])[0]


def _some_labels(loss: Loss) -> list[float]:
    labels, _ = valid_rows(_chosen(loss), (1, 1), count=12)
    return sorted(set(labels[:, 0].tolist()))


def _kink(loss: Loss, label: float, at: float, step: float) -> float:
    """The jump of the slope, or of the value, around a point."""
    left, middle, right = _at(loss, label, np.array([at - step, at, at + step]))
    return float(abs((right - middle) - (middle - left)) / step)


@pytest.mark.parametrize("loss", _ONE_NUMBER, ids=name_of)
def test_smooth(loss: Loss) -> None:
    """The slope jumps nowhere where a loss is called smooth: not at the perfect prediction, not elsewhere."""
    jumps = [0.0]
    for label in _some_labels(loss):
        # Corners lie where prediction and label are equal, where a margin is met, at a threshold, at zero.
        for at in (label, 0.0, 0.5, 1.0, -1.0, label - 1.0, label + 1.0):
            if at - 1e-3 in _domain(loss) and at + 1e-3 in _domain(loss):
                steps = [_kink(loss, label, at, step) for step in (1e-4, 1e-5)]
                # A corner keeps its jump as the step shrinks; a curve loses it.
                jumps.append(steps[1] if steps[1] > 0.5 * steps[0] else 0.0)
    assert (max(jumps) < 1e-3) == loss.curve.smooth, max(jumps)


def _far(loss: Loss, label: float) -> Floats:
    """Predictions ever farther from the label, or nearer to the end of their domain."""
    domain = _domain(loss)
    found = []
    for sign, end in ((1.0, domain.high), (-1.0, domain.low)):
        if math.isfinite(end):
            found.append([end - sign * 10.0**-k for k in range(2, 13)])
        else:
            found.append([label + sign * 2.0**k for k in range(1, 17)])
    return np.array(found, dtype=object)


@pytest.mark.parametrize("loss", _ONE_NUMBER, ids=name_of)
def test_slope_bounded(loss: Loss) -> None:
    """The steepest slope stops growing towards the ends of the domain, or goes on growing."""
    grows = False
    for label in _some_labels(loss):
        for towards in _far(loss, label):
            points = np.array([float(one) for one in towards if one in _domain(loss)])
            values = _at(loss, label, points)
            finite = np.isfinite(values)
            slopes = np.abs(np.diff(values[finite]) / np.diff(points[finite]))
            grows |= len(slopes) > 3 and bool(slopes[-1] > 2.0 * slopes[-3] > 10.0)
    jumps = any(_jumps(loss, label) for label in _some_labels(loss))
    assert (not grows and not jumps) == loss.curve.slope_bounded


def _jumps(loss: Loss, label: float) -> bool:
    ats = [at for at in (label, 0.5) if at - 1e-9 in _domain(loss) and at + 1e-9 in _domain(loss)]
    return any(float(np.ptp(_at(loss, label, np.array([at - 1e-9, at, at + 1e-9])))) > 0.5 for at in ats)


@pytest.mark.parametrize("loss", _ONE_NUMBER, ids=name_of)
def test_symmetric(loss: Loss) -> None:
    """Errors to both sides cost the same; for two classes, swapping them changes nothing."""
    low, high = _domain(loss).low, _domain(loss).high
    chosen = _chosen(loss)
    labels, predictions = valid_rows(chosen, (1, 1), count=200)
    classes = chosen.label_domain.step or math.isfinite(chosen.label_domain.high)
    if classes:
        middle = chosen.label_domain.low + chosen.label_domain.high
        turn = (
            low + high if math.isfinite(low) and math.isfinite(high) else (1.0 if chosen.label_domain.low == 0 else 0.0)
        )
        others = middle - labels, turn - predictions
    else:
        others = labels, 2.0 * labels - predictions
    inside = np.array([value in _domain(loss) for value in others[1][:, 0]])
    assert inside.any()
    plain, _ = score(chosen, labels[inside], predictions[inside])
    mirrored, _ = score(chosen, others[0][inside], others[1][inside])
    # a prediction exactly at a threshold is on one side of it
    assert bool(np.allclose(plain, mirrored, rtol=1e-6, atol=1e-9)) == loss.curve.symmetric


_CLASSES = [loss for loss in _LOSSES if loss.inputs.has_classes]


@pytest.mark.parametrize("loss", _CLASSES, ids=name_of)
def test_symmetric_in_the_classes(loss: Loss) -> None:
    """Renaming the classes changes nothing, or something."""
    chosen = bound(loss, parameter_sets(loss, 4)[0])
    random = np.random.default_rng(3)
    labels = random.integers(0, 4, size=(100, 1)).astype(np.float64)
    _, predictions = valid_rows(chosen, (1, 4), count=100)
    order = np.array([2, 0, 3, 1])
    plain, _ = score(chosen, labels, predictions)
    renamed, _ = score(chosen, np.argsort(order)[labels.astype(int)].astype(np.float64), predictions[:, order])
    assert bool(np.allclose(plain, renamed, rtol=1e-12)) == loss.curve.symmetric


@pytest.mark.parametrize("loss", _ONE_NUMBER, ids=name_of)
def test_outlier(loss: Loss) -> None:
    """How the loss grows when the error is multiplied, at the worse end of the domain."""
    found = max(_growth(loss, label) for label in _some_labels(loss))
    assert _ORDER[found] == loss.curve.outlier


_ORDER = list(Outlier)


def _growth(loss: Loss, label: float) -> int:
    return max(_growth_towards(loss, label, sign) for sign in (1.0, -1.0))


def _growth_towards(loss: Loss, label: float, sign: float) -> int:
    domain = _domain(loss)
    end = domain.high if sign > 0 else domain.low
    if math.isfinite(end):
        points = np.array([end - sign * 10.0**-k for k in (4, 8, 12, 15)] + ([end] if end in domain else []))
        values = _at(loss, label, np.array([point for point in points if point in domain]))
        grows = bool(np.isinf(values[-1])) or bool(values[-1] > values[0] + 1.0 and values[-1] > values[-2] + 0.5)
        return _ORDER.index(Outlier.INFINITE if grows else Outlier.BOUNDED)
    middle, far = _at(loss, label, label + sign * np.array([1e9, 1e12]))
    if np.isinf(far):
        return _ORDER.index(Outlier.EXPONENTIAL)
    if far < 1.0 or far <= middle * 1.0001:
        return _ORDER.index(Outlier.BOUNDED)
    power = math.log(far / middle) / math.log(1e3)
    return _ORDER.index(Outlier.LOGARITHMIC if power < 0.7 else Outlier.LINEAR if power < 1.2 else Outlier.POLYNOMIAL)
