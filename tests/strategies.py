"""Inputs: what hypothesis draws, and what follows from the declaration of a loss."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from hypothesis import strategies as st

from lossops.losses import Form, Inputs, Interval, Loss
from tests.oracles import Floats, contains

finite_floats = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=True)
_SAMPLES = (
    0.0,
    5e-324,
    1e-310,
    1e-200,
    1e-17,
    1e-7,
    0.1,
    1 / 3,
    0.5,
    0.7,
    1 - 1e-7,
    1 - 2**-53,
    1.0,
    2.5,
    37.0,
    1e3,
    1e20,
    1e100,
)
# One element more than every bound, and one less: what may go wrong first at the edge of a domain.
_FAR = (-1e300, -1.0, 2.0, 1e300)


@st.composite
def floats_of_close_exponents(
    draw: st.DrawFn, exponents: int, *, lowest: int = -1074, highest: int = 800
) -> list[float]:
    """Draw floats whose mantissas end at most ``exponents`` bits apart, anywhere on the line, subnormals included."""
    base = draw(st.integers(lowest, highest))
    element = st.builds(
        math.ldexp, st.integers(-(2**53) + 1, 2**53 - 1).map(float), st.integers(base, base + exponents)
    )
    return draw(st.lists(element, min_size=1, max_size=30))


def inside(interval: Interval) -> list[float]:
    """Return values of an interval: its ends where they belong to it, their neighbours, and a spread of others."""
    ends = [end for end in (interval.low, interval.high) if math.isfinite(end)]
    near = [np.nextafter(end, towards) for end in ends for towards in (-math.inf, math.inf)]
    candidates = [*ends, *near, *_SAMPLES, *(-value for value in _SAMPLES)]
    return sorted({float(value) for value in candidates if contains(interval, float(value))})


def outside(interval: Interval) -> list[float]:
    """Return finite values that are not in an interval: open ends, the neighbours of the ends, and far ones."""
    ends = [end for end in (interval.low, interval.high) if math.isfinite(end)]
    near = [np.nextafter(end, towards) for end in ends for towards in (-math.inf, math.inf)]
    return sorted({float(value) for value in (*ends, *near, *_FAR) if not contains(interval, float(value))})


def parameter_sets(loss: Loss) -> Iterator[dict[str, Any]]:
    """Yield parameter values of a loss: the defaults, and then one parameter after the other through its domain."""
    defaults = {parameter.name: parameter.default for parameter in loss.parameters}
    yield defaults
    for parameter in loss.parameters:
        if parameter.domain is None or parameter.integer:
            continue
        for value in (parameter.domain.low, 0.1, 0.37, 2.5, 100.0, parameter.domain.high):
            if contains(parameter.domain, value) and value != parameter.default:
                yield {**defaults, parameter.name: value}


def forms(loss: Loss) -> list[tuple[bool, Form]]:
    """Return the ways to compute a loss as (from logits, form)."""
    return [(False, loss.form)] + ([(True, loss.logits)] if loss.logits is not None else [])


def _vectors(values: list[float], width: int, count: int, random: np.random.Generator) -> Floats:
    return random.choice(values, size=(count, width))


def _label_rows(loss: Loss, width: int, count: int, random: np.random.Generator) -> Floats:
    if loss.inputs is Inputs.CLASS_INDEX:
        return random.integers(0, width, size=(count, 1)).astype(np.float64)
    if loss.label_sum is not None:
        soft = random.dirichlet(np.full(width, 0.5), size=count)
        hard = np.eye(width)[random.integers(0, width, size=count)]
        return np.where(random.random((count, 1)) < 0.5, soft, hard)
    return _vectors(inside(loss.label), width, count, random)


def _prediction_rows(form: Form, width: int, count: int, random: np.random.Generator) -> Floats:
    edges = _vectors(inside(form.prediction), width, count, random)
    if math.isfinite(form.prediction.low) and math.isfinite(form.prediction.high):
        plain = random.uniform(form.prediction.low, form.prediction.high, size=(count, width))
    else:
        plain = random.normal(scale=8.0, size=(count, width)).clip(form.prediction.low + 1e-3, form.prediction.high)
    return np.where(random.random((count, 1)) < 0.5, edges, plain)


def rows_of(loss: Loss, form: Form, width: int, *, count: int = 60, seed: int = 0) -> tuple[Floats, Floats]:
    """Return valid rows of a loss as labels and predictions, [rows, width], from the declared domains.

    Numbers in a row of width 1 go through every pair of edge values.
    """
    random = np.random.default_rng([seed, width])
    labels, predictions = _label_rows(loss, width, count, random), _prediction_rows(form, width, count, random)
    if loss.inputs is Inputs.ELEMENTS and width == 1:
        pairs = np.array(list(product(inside(loss.label), inside(form.prediction))))
        labels, predictions = np.vstack([labels, pairs[:, :1]]), np.vstack([predictions, pairs[:, 1:]])
    return np.ascontiguousarray(labels), np.ascontiguousarray(predictions)


def widths(loss: Loss) -> tuple[int, ...]:
    """Return the widths of a row to try: a vector of classes has at least two."""
    return (1, 3) if loss.inputs is Inputs.ELEMENTS else (2, 5)
