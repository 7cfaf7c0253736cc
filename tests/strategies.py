"""Inputs: what hypothesis draws, and what follows from the declaration of a loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lossops.losses import BoundLoss, Form, Inputs, Interval, Loss, Parameter
from tests.oracles import Floats, contains

finite_floats = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=True)
_SAMPLES = (
    *(0.0, 5e-324, 1e-310, 1e-200, 1e-17, 1e-7, 0.1, 1 / 3, 0.5, 0.7, 1 - 1e-7, 1 - 2**-53, 1.0),
    *(2.0, 2.5, 5.0, 37.0, 1e3, 1e20, 1e100),
)
# One element more than every bound, and one less: what may go wrong first at the edge of a domain.
_FAR = (-1e300, -1.0, 2.0, 1e300)
# What people have; the edges beyond are in `inside`.
_LARGE = 1e9
_DRAWN_ROWS = 5


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


def _ends(interval: Interval) -> list[float]:
    ends = [end for end in (interval.low, interval.high) if math.isfinite(end)]
    return [*ends, *(float(np.nextafter(end, towards)) for end in ends for towards in (-math.inf, math.inf))]


def inside(interval: Interval) -> list[float]:
    """Return finite values of an interval: its ends where they belong to it, their neighbours, and a spread."""
    candidates = [*_ends(interval), *_SAMPLES, *(-value for value in _SAMPLES)]
    return sorted({float(value) for value in candidates if contains(interval, float(value))})


def outside(interval: Interval) -> list[float]:
    """Return finite values that are not in an interval: open ends, the neighbours of the ends, and far ones."""
    between = [interval.low + interval.step / 2] if interval.step else []
    return sorted({value for value in (*_ends(interval), *between, *_FAR) if not contains(interval, value)})


# Rows that follow from the declaration of a loss.


def widths(loss: Loss, form: Form) -> tuple[tuple[int, int], ...]:
    """Return the (label, prediction) widths of a row to try."""
    if form.fields:
        return ((1, len(form.fields)),)
    return {
        Inputs.ELEMENTS: ((1, 1), (3, 3)),
        Inputs.VECTORS: ((3, 3), (2, 2)),
        Inputs.CLASSES: ((5, 5), (2, 2), (1, 3)),
        Inputs.CLASS_INDEX: ((1, 5), (1, 2)),
        Inputs.NUMBER: ((1, 5), (1, 3), (1, 1)),
        Inputs.MEMBERS: ((2, 6), (1, 4)),
        Inputs.PAIR: ((1, 6), (1, 4)),
        Inputs.TRIPLE: ((0, 9), (0, 6)),
    }[loss.inputs]


def usable_widths(loss: Loss, form: Form) -> tuple[tuple[int, int], ...]:
    """The widths for which every list parameter has a length."""
    counts = [parameter.count for parameter in loss.parameters if parameter.count is not None]
    return tuple(one for one in widths(loss, form) if all(count(one[1]) >= 1 for count in counts))


def _list(parameter: Parameter, width: int, seed: int) -> tuple[float, ...]:
    assert parameter.count is not None
    assert parameter.domain is not None
    random = np.random.default_rng(seed)
    low = max(parameter.domain.low, -3.0)
    high = min(parameter.domain.high, 3.0)
    values = random.uniform(low, high, parameter.count(width))
    return tuple((np.sort(values) if parameter.increasing else values).tolist())


def _values(parameter: Parameter, width: int) -> Iterator[Any]:
    """Yield values of a parameter besides its default."""
    if parameter.choices:
        yield from parameter.choices
    elif parameter.domain is None:
        yield from (False, True)
    elif parameter.count is not None:
        yield _list(parameter, width, 1)
    elif parameter.integer:
        yield from (value for value in (1, 2, 3) if parameter.accepts(value))
    else:
        candidates = (parameter.domain.low, 0.1, 0.37, 1.0, 1.5, 2.0, 2.5, 3.0, 100.0, parameter.domain.high)
        yield from (value for value in candidates if parameter.accepts(value))


def parameter_sets(loss: Loss, width: int) -> list[dict[str, Any]]:
    """Return parameter values of a loss: the defaults, and then one parameter after the other through its domain."""
    defaults: dict[str, Any] = {}
    for parameter in loss.parameters:
        defaults[parameter.name] = _list(parameter, width, 0) if parameter.required else parameter.default
    found = [defaults]
    for parameter in loss.parameters:
        found += [
            {**defaults, parameter.name: value}
            for value in _values(parameter, width)
            if value != defaults[parameter.name]
        ]
    return found


_STORAGE = {16: np.float16, 32: np.float32, 64: np.float64}


def _numbers(interval: Interval) -> st.SearchStrategy[float]:
    """Draw from an interval: mostly what people have, and its edges."""
    low, high = max(interval.low, -_LARGE), min(interval.high, _LARGE)
    if interval.step:
        top = min(int((high - low) / interval.step), 1000)
        return st.integers(0, top).map(lambda k: float(low + k * interval.step))
    return st.one_of(st.floats(low, high), st.sampled_from(inside(interval)))


def _spread(interval: Interval, shape: tuple[int, int], random: np.random.Generator) -> Floats:
    """Values of an interval: a third moderate, a third of every size or distance from an end, a third edges."""
    low, high = max(interval.low, -_LARGE), min(interval.high, _LARGE)
    if interval.step:
        top = min(int((high - low) / interval.step), 1000)
        return np.asarray(low + interval.step * random.integers(0, top + 1, size=shape))
    moderate = random.uniform(max(low, -20.0), min(high, 20.0), size=shape)
    sizes = 10.0 ** random.uniform(-9, 9, size=shape)
    ends = [end for end in (interval.low, interval.high) if math.isfinite(end)]
    towards = {interval.low: 1.0, interval.high: -1.0}
    if ends:
        end = random.choice(ends, size=shape)
        far = end + np.vectorize(towards.get)(end) * np.minimum(sizes, 0.5 * (high - low))
    else:
        far = sizes * random.choice([-1.0, 1.0], size=shape)
    edges = random.choice(inside(interval), size=shape)
    return np.choose(random.integers(0, 3, size=shape), [moderate, far, edges])


def _mixed(interval: Interval, shape: tuple[int, int], bits: int) -> st.SearchStrategy[Floats]:
    """Draw a matrix whose first rows are drawn one by one, and the others from a drawn seed."""
    few = min(_DRAWN_ROWS, shape[0])
    drawn = arrays.arrays(np.float64, (few, shape[1]), elements=_numbers(interval), fill=st.nothing())
    seeds = st.integers(0, 2**32 - 1)
    return st.builds(
        lambda first, seed: _stored(
            np.vstack([first, _spread(interval, (shape[0] - few, shape[1]), np.random.default_rng(seed))]),
            interval,
            bits,
        ),
        drawn,
        seeds,
    )


def _stored(values: Floats, interval: Interval, bits: int) -> Floats:
    """Round to a storage type; what leaves the interval by that is replaced by a value in its middle."""
    with np.errstate(over="ignore"):
        rounded = values.astype(_STORAGE[bits]).astype(np.float64)
    middle = next(value for value in (0.5, 1.0, 2.0, 2.5, interval.low, -0.5) if contains(interval, value))
    fits = np.isfinite(rounded) & (rounded >= interval.low) & (rounded <= interval.high)
    fits &= ~(interval.low_open & (rounded == interval.low)) & ~(interval.high_open & (rounded == interval.high))
    return np.where(fits, rounded, middle)


def _labels(loss: Loss, domain: Interval, shape: tuple[int, int], classes: int, bits: int) -> st.SearchStrategy[Floats]:
    rows, width = shape
    if loss.inputs.has_classes and width == 1:
        return _mixed(Interval(0.0, classes - 1.0, step=1.0), shape, bits)
    plain = _mixed(domain, shape, bits)
    if loss.label_sum is None:
        return plain
    hard = _mixed(Interval(0.0, width - 1.0, step=1.0), (rows, 1), bits).map(
        lambda found: np.eye(width)[found[:, 0].astype(np.int64)]
    )
    return st.builds(_distributions, plain, hard, st.just(bits))


def _distributions(plain: Floats, hard: Floats, bits: int) -> Floats:
    totals = plain.sum(axis=1, keepdims=True)
    usable = (totals > 1e-3) & (np.arange(len(plain))[:, np.newaxis] % 3 > 0)
    soft = (plain / np.where(usable, totals, 1.0)).astype(_STORAGE[bits]).astype(np.float64)
    return np.where(usable, soft, hard)


# Narrower domains where a stated accuracy ends or a formula needs too long: (loss, field or "y" or "p") -> interval.
DRAWN: Mapping[tuple[str, str], Interval] = {
    # mpmath's hypergeometric functions do not converge, or take minutes, beyond these
    ("crps_poisson", "y"): Interval(-1e4, 1e4),
    ("crps_poisson", "mean"): Interval(0.0, 1e4, low_open=True),
    ("crps_gamma", "y"): Interval(-1e4, 1e4),
    ("crps_gamma", "shape"): Interval(1e-9, 1e3),
    ("crps_gamma", "rate"): Interval(1e-9, 1e3),
    ("crps_student_t", "df"): Interval(1.0, 1e3, low_open=True),
    ("crps_negative_binomial", "y"): Interval(-1e3, 1e3),
    ("crps_negative_binomial", "n"): Interval(1e-9, 100.0),
    ("crps_negative_binomial", "prob"): Interval(0.05, 1.0),
}


def drawn_domain(loss: Loss, name: str, domain: Interval) -> Interval:
    """What is drawn of a domain."""
    return DRAWN.get((loss.name, name), domain)


def _prediction_strategy(chosen: BoundLoss, rows: int, width: int, bits: int) -> st.SearchStrategy[Floats]:
    domains, fields = chosen.prediction_domains, chosen.form.fields
    if not fields:
        return _mixed(drawn_domain(chosen.loss, "p", domains[0]), (rows, width), bits)
    columns = [
        _mixed(drawn_domain(chosen.loss, field.name, domain), (rows, 1), bits)
        for field, domain in zip(fields, domains, strict=True)
    ]
    return st.tuples(*columns).map(np.hstack)


def row_blocks(
    chosen: BoundLoss, shape: tuple[int, int], *, rows: int, bits: int
) -> st.SearchStrategy[tuple[Floats, Floats]]:
    """Draw blocks of valid rows of a loss as labels and predictions, as a storage type of so many bits holds them."""
    label_domain = drawn_domain(chosen.loss, "y", chosen.label_domain)
    labels = _labels(chosen.loss, label_domain, (rows, shape[0]), shape[1], bits)
    return st.tuples(labels, _prediction_strategy(chosen, rows, shape[1], bits))


def valid_rows(chosen: BoundLoss, shape: tuple[int, int], *, count: int = 60, seed: int = 0) -> tuple[Floats, Floats]:
    """Return valid rows without hypothesis: moderate values of the domains, [rows, width] each."""
    loss = chosen.loss
    random = np.random.default_rng([seed, *shape])
    labels = _moderate(chosen.label_domain, (count, shape[0]), random)
    if loss.inputs.has_classes and shape[0] == 1:
        labels = random.integers(0, shape[1], size=(count, 1)).astype(np.float64)
    elif loss.label_sum is not None:
        soft = random.dirichlet(np.full(shape[0], 0.5), size=count)
        hard = np.eye(shape[0])[random.integers(0, shape[0], size=count)]
        labels = np.where(random.random((count, 1)) < 0.5, soft, hard)
    domains = chosen.prediction_domains
    domains = domains if len(domains) > 1 else domains * shape[1]
    predictions = [_moderate(one, (count, 1), random) for one in domains]
    return labels, np.ascontiguousarray(np.hstack(predictions))


def _moderate(interval: Interval, shape: tuple[int, int], random: np.random.Generator) -> npt.NDArray[np.float64]:
    low = interval.low
    if not math.isfinite(low):
        low = interval.high - 16.0 if math.isfinite(interval.high) else -8.0
    high = interval.high if math.isfinite(interval.high) else low + 16.0
    if interval.step:
        return low + interval.step * random.integers(0, int((high - low) / interval.step) + 1, size=shape)
    inner = replace(interval, low=low, high=high)
    values = random.uniform(inner.low, inner.high, size=shape)
    return np.where((values == low) | (values == high), (low + high) / 2, values)
