"""The loss and its slope over the prediction, for losses of one number on each side: exact, with default parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from lossops.errors import ConfigError
from lossops.losses import CATALOGUE, BoundLoss, Inputs, Interval, Loss, bind
from lossops.losses.bound import unknown
from lossops.measures import MEASURES

__all__ = ["CurvePoints", "curve_points", "drawn_together"]

Floats = npt.NDArray[np.float64]

_DRAWABLE = (
    "losses of one number as label and one number as prediction, such as mean_absolute_error or binary_crossentropy"
)
_POINTS = 401
_REACH = 3.0  # to each side of the label, where the domain goes on
_STEP = 1e-6  # of a slope, in widths of the picture
_CORNER = 1e-2  # jump of the slope, relative to it, from which there is none
_OFF_CENTRE = (
    0.4  # of the rise between two points: how far a slope that does not jump may be from half-way in the middle
)


@dataclass(frozen=True)
class CurvePoints:
    """A loss over the prediction, for one label.

    Args:
        name: of the loss.
        label: the label.
        prediction, loss, slope: float64 [points]; NaN where the loss is infinite or undefined, or has no slope.
    """

    name: str
    label: float
    prediction: Floats
    loss: Floats
    slope: Floats


def curve_points(names: Sequence[str]) -> list[CurvePoints]:
    """Follow losses over the predictions that all of them allow, for one label.

    Raises:
        ConfigError: a loss is unknown or has no such curve, or there is no label or prediction that all allow.
    """
    chosen = [_bound(name) for name in dict.fromkeys(names)]
    label = _label(chosen)
    low, high = _range(chosen, label)
    points = np.linspace(low, high, _POINTS)
    return [_points(one, label, points) for one in chosen]


def drawn_together(names: Sequence[str], most: int) -> list[list[str]]:
    """Share out those losses that have a curve over pictures, in order: losses of one kind, at most so many in each."""
    found: list[list[str]] = []
    for name in filter(_has_curve, names):
        fitting = next((one for one in found if _fit([*one, name])), None)
        if fitting is None:
            found.append([name])
        else:
            fitting.append(name)
    return [part for one in found for part in _even(one, most)]


def _has_curve(name: str) -> bool:
    return name in CATALOGUE and _is_drawable(CATALOGUE[name])


def _fit(names: Sequence[str]) -> bool:
    chosen = [_bound(name) for name in names]
    try:
        _range(chosen, _label(chosen))
    except ConfigError:
        return False
    return True


def _even(names: list[str], most: int) -> Iterator[list[str]]:
    """Cut a list into parts of nearly one length."""
    parts = -(-len(names) // most)
    ends = [len(names) * part // parts for part in range(parts + 1)]
    yield from (names[start:end] for start, end in pairwise(ends))


def _bound(name: str) -> BoundLoss:
    declared = {**CATALOGUE, **MEASURES}
    if name not in declared:
        raise ConfigError(unknown(name, declared))
    if name in MEASURES or not _is_drawable(CATALOGUE[name]):
        why = "it is a number of all rows" if name in MEASURES else f"a row holds {CATALOGUE[name].inputs.value}"
        raise ConfigError(f"{name!r} cannot be drawn over one prediction: {why}; allowed: {_DRAWABLE}")
    return bind(name, {}, "exact")


def _is_drawable(loss: Loss) -> bool:
    one_number = loss.inputs is Inputs.ELEMENTS and not loss.form.fields
    one_field = loss.inputs is Inputs.NUMBER and len(loss.form.fields) == 1
    return (one_number or one_field) and not any(parameter.required for parameter in loss.parameters)


def _label(chosen: Sequence[BoundLoss]) -> float:
    """Label 1 for probabilities, else 0, unless a loss does not know it or is infinite almost everywhere."""
    probabilities = any(math.isfinite(_domain(one).high) for one in chosen)
    for label in (1.0,) if probabilities else (0.0, 1.0):
        if all(label in one.label_domain and _is_finite(one, label) for one in chosen):
            return label
    raise ConfigError(f"{_names(chosen)} allow no common label; allowed: losses of the same kind of label")


def _is_finite(one: BoundLoss, label: float) -> bool:
    low, high = _range([one], label)
    return bool(np.isfinite(_values(one, label, np.linspace(low, high, 7))).sum() > 3)


def _range(chosen: Sequence[BoundLoss], label: float) -> tuple[float, float]:
    ends = [_ends(_domain(one), label) for one in chosen]
    low, high = max(low for low, _ in ends), min(high for _, high in ends)
    if low >= high:
        raise ConfigError(f"{_names(chosen)} allow no common prediction; allowed: losses of the same kind")
    return low, high


def _ends(domain: Interval, label: float) -> tuple[float, float]:
    low = domain.low if math.isfinite(domain.low) else label - _REACH
    return low, domain.high if math.isfinite(domain.high) else max(low, label) + _REACH


def _domain(one: BoundLoss) -> Interval:
    return one.prediction_domains[0]


def _names(chosen: Sequence[BoundLoss]) -> str:
    return " and ".join(one.name for one in chosen)


def _points(one: BoundLoss, label: float, points: Floats) -> CurvePoints:
    slope = _slope(one, label, points)
    between = _slope(one, label, (points[1:] + points[:-1]) / 2)
    # A line from point to point would hide a jump between them, where the slope in the middle is that of one end.
    rise = slope[1:] - slope[:-1]
    jumps = np.abs(rise) > _CORNER * (1 + np.abs(between))
    jumps &= np.abs(between - (slope[1:] + slope[:-1]) / 2) > _OFF_CENTRE * np.abs(rise)
    slope[:-1][jumps] = np.nan
    return CurvePoints(one.name, label, points, _values(one, label, points), slope)


def _slope(one: BoundLoss, label: float, points: Floats) -> Floats:
    """The slope at each point; NaN at a corner."""
    step = _STEP * (points[-1] - points[0])
    left, here, right = (_values(one, label, points + by) for by in (-step, 0.0, step))
    slope = (right - left) / (2 * step)
    jump = np.abs(right - 2 * here + left) / step
    return np.where(jump > _CORNER * (1 + np.abs(slope)), np.nan, slope)


def _values(one: BoundLoss, label: float, points: Floats) -> Floats:
    """The losses, NaN where a row would not be scored or its loss is infinite."""
    labels, predictions = np.full((len(points), 1), label), np.ascontiguousarray(points[:, np.newaxis])
    fine, reasons = np.zeros(len(points), dtype=np.uint8), np.zeros(len(points), dtype=np.uint8)
    one.check(labels, fine, predictions, fine, reasons)
    values = one.values(labels, predictions, reasons)
    return np.where((reasons == 0) & np.isfinite(values), values, np.nan)
