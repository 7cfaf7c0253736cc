"""Elementary functions against mpmath with 60 digits, over their whole domain."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
import pytest

from lossops.kernels.elementary import exp, log, log1p
from lossops.kernels.jit import inline, jit

_RANDOM = np.random.default_rng(0)
_POWERS = 10.0 ** _RANDOM.uniform(-320, 308, 3000)
CASES: dict[str, tuple[Callable[[float], float], list[npt.NDArray[np.float64]]]] = {
    "log": (
        log,
        [
            _RANDOM.random(3000),
            _RANDOM.uniform(0.68, 1.45, 10_000),  # where the error is largest
            _POWERS,
            1 + _RANDOM.normal(size=3000) * 1e-3,
            1 + _RANDOM.normal(size=2000) * 1e-12,
            np.array([5e-324, 2.2250738585072014e-308, 1.0, math.sqrt(0.5), math.sqrt(2.0), 1.7976931348623157e308]),
        ],
    ),
    "log1p": (
        log1p,
        [
            -_RANDOM.random(3000),
            _RANDOM.uniform(-0.3, 0.5, 5000),
            _POWERS,
            -(10.0 ** _RANDOM.uniform(-320, 0, 3000)),
            np.array([0.0, math.nextafter(-1.0, 0.0), math.sqrt(2.0) - 1, math.sqrt(0.5) - 1, 1.0]),
        ],
    ),
    "exp": (
        exp,
        [
            _RANDOM.normal(size=3000),
            _RANDOM.uniform(-745, 709.7, 5000),
            _RANDOM.uniform(-1, 1, 3000) * 1e-8,
            np.array([0.0, 709.782712893384, -745.1332191019411, -708.4, 5e-324]),
        ],
    ),
}
SPECIAL = {
    "log": {0.0: -math.inf, -1.0: math.nan, -math.inf: math.nan, math.inf: math.inf},
    "log1p": {-1.0: -math.inf, -2.0: math.nan, -math.inf: math.nan, math.inf: math.inf, 0.0: 0.0},
    "exp": {math.inf: math.inf, -math.inf: 0.0, 710.0: math.inf, -746.0: 0.0, 1e300: math.inf, 0.0: 1.0},
}


def in_a_loop(function: Callable[[float], float], values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Compute in a compiled loop over rows."""
    row = inline(function)

    def loop(values: Any, out: Any) -> None:
        for i in range(values.shape[0]):
            out[i] = row(values[i])

    found = np.empty_like(values)
    jit(loop)(values, found)
    return found


@pytest.mark.parametrize("name", CASES)
def test_error_is_at_most_one_unit_in_the_last_place(name: str) -> None:
    """Of every drawn argument, in a compiled loop; a call from Python gives the same bits."""
    function, parts = CASES[name]
    values = np.concatenate(parts)
    found = in_a_loop(function, values)
    with mpmath.workdps(60):
        for value, result in zip(values.tolist(), found.tolist(), strict=True):
            exact = getattr(mpmath, name)(mpmath.mpf(value))
            unit = math.ulp(float(exact)) or 5e-324
            assert abs(mpmath.mpf(result) - exact) <= unit, value
    assert [function(value) for value in values[::50].tolist()] == found[::50].tolist()


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, found in SPECIAL.items() for value in found])
def test_ends_of_the_domain(name: str, value: float) -> None:
    """Infinities, zeros and what lies outside."""
    found, expected = CASES[name][0](value), SPECIAL[name][value]
    assert found == expected or (math.isnan(found) and math.isnan(expected))


@pytest.mark.parametrize("name", CASES)
def test_nan_stays_nan(name: str) -> None:
    """Also in a loop of one row."""
    assert math.isnan(in_a_loop(CASES[name][0], np.array([math.nan]))[0])
