"""Loops that turn a formula of one row into losses of a block, one loop for each kind of input.

A formula is an ordinary function wrapped by `lossops.kernels.jit.inline`. Each maker returns a compiled
``fill(labels, predictions, settings, reasons, out)``:

- labels: float64 [rows, label width]
- predictions: float64 [rows, prediction width]
- settings: tuple of float and of float64 [count], passed on to the formula
- reasons: uint8 [rows]; rows that are not 0 need not be computed
- out: written, [rows]; float64 for losses, uint8 for predicates
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lossops.kernels.jit import jit

__all__ = ["Fill", "any_element", "class_index", "classes", "mean_of_elements", "number", "vectors"]

Fill = Callable[[Any, Any, tuple[Any, ...], Any, Any], None]


def mean_of_elements(formula: Callable[..., float]) -> Fill:
    """Make the loop of ``formula(label, prediction, *settings)``, averaged over the elements of a row."""

    def fill(labels: Any, predictions: Any, settings: Any, reasons: Any, out: Any) -> None:
        width = predictions.shape[1]
        if width == 1:
            # Rows that are not to be scored are computed as well: without a branch the compiler can vectorise.
            one, other = labels.reshape(labels.size), predictions.reshape(predictions.size)
            for i in range(out.shape[0]):
                out[i] = formula(one[i], other[i], *settings)
            return
        for i in range(out.shape[0]):
            total = 0.0
            for j in range(width):
                total += formula(labels[i, j], predictions[i, j], *settings)
            out[i] = total / width

    return jit(fill)


def any_element(predicate: Callable[..., bool]) -> Fill:
    """Make the loop of ``predicate(label, prediction, *settings)``: 1 where it holds for any element of a row."""

    def fill(labels: Any, predictions: Any, settings: Any, reasons: Any, out: Any) -> None:
        if predictions.shape[1] == 1:
            one, other = labels.reshape(labels.size), predictions.reshape(predictions.size)
            for i in range(out.shape[0]):
                out[i] = predicate(one[i], other[i], *settings)
            return
        for i in range(out.shape[0]):
            out[i] = 0
            for j in range(predictions.shape[1]):
                if predicate(labels[i, j], predictions[i, j], *settings):
                    out[i] = 1
                    break

    return jit(fill)


def vectors(formula: Callable[..., float]) -> Fill:
    """Make the loop of ``formula(label vector, prediction vector, *settings)``."""

    def fill(labels: Any, predictions: Any, settings: Any, reasons: Any, out: Any) -> None:
        for i in range(out.shape[0]):
            if reasons[i] == 0:
                out[i] = formula(labels[i], predictions[i], *settings)

    return jit(fill)


def classes(formula: Callable[..., float]) -> Fill:
    """Make the loop of ``formula(label vector, prediction vector, *settings)`` for labels that may be class numbers.

    A class number becomes a one-hot vector in one buffer that all rows share.
    """

    def fill(labels: Any, predictions: Any, settings: Any, reasons: Any, out: Any) -> None:
        if labels.shape[1] == predictions.shape[1]:
            for i in range(out.shape[0]):
                if reasons[i] == 0:
                    out[i] = formula(labels[i], predictions[i], *settings)
            return
        one_hot = np.zeros(predictions.shape[1])
        for i in range(out.shape[0]):
            if reasons[i] == 0:
                label = np.int64(labels[i, 0])
                one_hot[label] = 1.0
                out[i] = formula(one_hot, predictions[i], *settings)
                one_hot[label] = 0.0

    return jit(fill)


def class_index(formula: Callable[..., float]) -> Fill:
    """Make the loop of ``formula(class index, prediction vector, *settings)``; the index is checked beforehand."""

    def fill(labels: Any, predictions: Any, settings: Any, reasons: Any, out: Any) -> None:
        for i in range(out.shape[0]):
            if reasons[i] == 0:
                out[i] = formula(np.int64(labels[i, 0]), predictions[i], *settings)

    return jit(fill)


def number(formula: Callable[..., float]) -> Fill:
    """Make the loop of ``formula(label, prediction vector, *settings)``."""

    def fill(labels: Any, predictions: Any, settings: Any, reasons: Any, out: Any) -> None:
        for i in range(out.shape[0]):
            if reasons[i] == 0:
                out[i] = formula(labels[i, 0], predictions[i], *settings)

    return jit(fill)
