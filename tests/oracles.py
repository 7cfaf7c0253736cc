"""What the tests compare with: nothing here calls the code under test, or shares a line with it.

- the conventions of the libraries, written in NumPy from `reference/losses.md` 1.2
- exact sums and statistics in `fractions.Fraction`
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import mpmath
import numpy as np
import numpy.typing as npt

from lossops.losses import Interval

Floats = npt.NDArray[np.float64]


def contains(interval: Interval, value: float) -> bool:
    """Whether a value lies in a declared interval, from the meaning of its four fields."""
    if math.isnan(value) or (math.isinf(value) and not interval.infinite):
        return False
    if interval.step and math.isfinite(value) and math.fmod(value - interval.low, interval.step):
        return False
    if value == interval.low:
        return not interval.low_open
    if value == interval.high:
        return not interval.high_open
    return interval.low < value < interval.high


# Conventions: labels and predictions are [rows, width], integer labels [rows, 1]; the result is [rows].

_EPSILON = 1e-7


def _smoothed(labels: Floats, smoothing: float, classes: int) -> Floats:
    return labels * (1 - smoothing) + smoothing / classes


def _one_hot(labels: Floats, classes: int) -> Floats:
    return np.asarray(labels[:, :1] == np.arange(classes), dtype=np.float64)


def _cross(targets: Floats, logs: Floats) -> Floats:
    """-sum(t log q) along each row, with 0 log 0 = 0."""
    return -np.where(targets == 0, 0.0, targets * np.where(targets == 0, 0.0, logs)).sum(axis=1)


def keras_binary(labels: Floats, predictions: Floats, smoothing: float = 0.0, clip: float = _EPSILON) -> Floats:
    """Keras 3: clip, then the mean over the last axis."""
    targets, limited = _smoothed(labels, smoothing, 2), np.clip(predictions, clip, 1 - clip)
    return -(targets * np.log(limited) + (1 - targets) * np.log1p(-limited)).mean(axis=1)


def tf_keras_binary(labels: Floats, predictions: Floats, smoothing: float = 0.0) -> Floats:
    """Keras 2: clip, then add the same epsilon again inside both logarithms."""
    targets, limited = _smoothed(labels, smoothing, 2), np.clip(predictions, _EPSILON, 1 - _EPSILON)
    logs = targets * np.log(limited + _EPSILON) + (1 - targets) * np.log1p(_EPSILON - limited)
    return -logs.mean(axis=1)


def keras_categorical(labels: Floats, predictions: Floats, smoothing: float = 0.0, clip: float = _EPSILON) -> Floats:
    """Keras 3 and 2: divide by the sum, then clip."""
    limited = np.clip(predictions / predictions.sum(axis=1, keepdims=True), clip, 1 - clip)
    with np.errstate(divide="ignore"):
        return _cross(_smoothed(labels, smoothing, predictions.shape[1]), np.log(limited))


def keras_sparse(labels: Floats, predictions: Floats, smoothing: float = 0.0, clip: float = _EPSILON) -> Floats:
    """Keras 3: one-hot, then as `keras_categorical`; smoothing as torch's for class indices."""
    return keras_categorical(_one_hot(labels, predictions.shape[1]), predictions, smoothing, clip)


def tf_keras_sparse(labels: Floats, predictions: Floats, smoothing: float = 0.0) -> Floats:
    """Keras 2: clip, take the logarithm and feed it to a softmax cross-entropy, which divides by the sum."""
    limited = np.clip(predictions, _EPSILON, 1 - _EPSILON)
    targets = _smoothed(_one_hot(labels, predictions.shape[1]), smoothing, predictions.shape[1])
    return _cross(targets, np.log(limited / limited.sum(axis=1, keepdims=True)))


CONVENTION_REFERENCES: dict[tuple[str, str], Callable[..., Floats]] = {
    ("binary_crossentropy", "keras"): keras_binary,
    ("binary_crossentropy", "tf_keras"): tf_keras_binary,
    ("categorical_crossentropy", "keras"): keras_categorical,
    ("categorical_crossentropy", "tf_keras"): keras_categorical,
    ("sparse_categorical_crossentropy", "keras"): keras_sparse,
    ("sparse_categorical_crossentropy", "tf_keras"): tf_keras_sparse,
}


# Exact sums and statistics.


def value_of_digits(digits: npt.NDArray[np.int64], top: int) -> Fraction:
    """Return the value of a sum from the layout that `lossops.kernels.exact` documents: 26 bits a digit, bias 1075."""
    return sum(
        (Fraction(int(digit)) * Fraction(2) ** (26 * (int(top) - k) - 1075) for k, digit in enumerate(digits)),
        Fraction(0),
    )


def exact_sum(values: Sequence[float]) -> Fraction:
    """The sum without any rounding."""
    return sum((Fraction(value) for value in values), Fraction(0))


def root(value: Fraction) -> float:
    """The square root, correctly rounded (to 50 digits first)."""
    with mpmath.workdps(60):
        return float(mpmath.sqrt(mpmath.mpf(value.numerator) / mpmath.mpf(value.denominator)))


def weighted_statistics(losses: Sequence[float], weights: Sequence[float]) -> tuple[float, float, float]:
    """Return mean, standard deviation and linearised standard error of sum(w l)/sum(w), from exact residuals."""
    pairs = [(Fraction(loss), Fraction(weight)) for loss, weight in zip(losses, weights, strict=True)]
    total, rows = sum(weight for _, weight in pairs), len(pairs)
    mean = sum(weight * loss for loss, weight in pairs) / total
    variance = sum(weight * (loss - mean) ** 2 for loss, weight in pairs) / total
    squares = sum((weight * (loss - mean) / total) ** 2 for loss, weight in pairs)
    return float(mean), root(Fraction(variance)), root(Fraction(rows, rows - 1) * squares)
