"""Special functions against mpmath with 400 digits, from a compiled loop and from plain Python, within stated bounds.

The references are written from the definitions: series of positive terms, and subtraction with hundreds of digits to
spare, so that they share nothing with SciPy or with the forms under test.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossops.kernels import special
from lossops.kernels.jit import jit

_DIGITS = 400  # the smallest float64 is 5e-324, and as much may cancel in a reference
_LARGEST = 2**1024 - 2**970
_INF, _NAN = math.inf, math.nan
_TINY, _HUGE = 5e-324, 1.7976931348623157e308

Arguments = tuple[float, ...]


def _pow10(low: float, high: float) -> st.SearchStrategy[float]:
    """Draw positive numbers whose logarithm is spread evenly."""
    return st.floats(low, high).map(lambda exponent: 10.0**exponent)


def _signed(strategy: st.SearchStrategy[float]) -> st.SearchStrategy[float]:
    return st.tuples(st.sampled_from([-1.0, 1.0]), strategy).map(math.prod)


def _near(*centres: float) -> st.SearchStrategy[float]:
    return st.tuples(st.sampled_from(centres), _signed(_pow10(-17.0, -0.5))).map(sum)


def _log1p(x: Any) -> Any:
    """ln(1 + x), whatever lies between the two."""
    with mpmath.workdps(3 * _DIGITS):
        return mpmath.log(1 + x)


def _zero_or(x: Any, product: Callable[[], Any]) -> Any:
    return mpmath.mpf(0) if x == 0 else product()


def _log_beta(a: Any, b: Any) -> Any:
    return mpmath.loggamma(a) + mpmath.loggamma(b) - mpmath.loggamma(a + b)


def _sum_of_ratios(ratio: Callable[[int], Any]) -> Any:
    """1 + ratio(0) + ratio(0) ratio(1) + ..., all positive, until the terms fall fast and no longer count."""
    term = total = mpmath.mpf(1)
    n = 0
    while True:
        factor = ratio(n)
        term *= factor
        total += term
        n += 1
        if factor < 0.9999 and term < total * mpmath.eps:
            return total


def _gamma_p(a: Any, x: Any) -> Any:
    if x == 0:
        return mpmath.mpf(0)
    series = _sum_of_ratios(lambda n: x / (a + n + 1))
    return series * mpmath.exp(a * mpmath.log(x) - x - mpmath.loggamma(a + 1))


def _beta_series(a: Any, b: Any, x: Any) -> Any:
    if x == 0:
        return mpmath.mpf(0)
    series = _sum_of_ratios(lambda n: x * (a + b + n) / (a + 1 + n))
    return series * mpmath.exp(a * mpmath.log(x) + b * mpmath.log(1 - x) - mpmath.log(a) - _log_beta(a, b))


def _beta_i(a: Any, b: Any, x: Any) -> Any:
    return _beta_series(a, b, x) if 2 * x <= 1 else 1 - _beta_series(b, a, 1 - x)


def _normal_cdf(z: Any) -> Any:
    if z < -1000:  # mpmath cannot
        return mpmath.mpf(0)
    return mpmath.erfc(-z / mpmath.sqrt(2)) / 2


def _student_t_pdf(z: Any, df: Any) -> Any:
    density = -_log_beta(df / 2, mpmath.mpf(1) / 2) - mpmath.log(df) / 2 - (df + 1) / 2 * _log1p(z * z / df)
    return mpmath.exp(density)


def _student_t_cdf(z: Any, df: Any) -> Any:
    tail = _beta_i(df / 2, mpmath.mpf(1) / 2, df / (df + z * z)) / 2
    return tail if z <= 0 else 1 - tail


def _poisson_pmf(k: Any, mean: Any) -> Any:
    count = mpmath.floor(k)
    if count < 0:
        return mpmath.mpf(0)
    return mpmath.exp(_zero_or(count, lambda: count * mpmath.log(mean)) - mean - mpmath.loggamma(count + 1))


def _negative_binomial_pmf(k: Any, n: Any, p: Any) -> Any:
    count = mpmath.floor(k)
    if count < 0:
        return mpmath.mpf(0)
    if count == 0:
        return p**n
    ways = mpmath.loggamma(n + count) - mpmath.loggamma(n) - mpmath.loggamma(count + 1)
    return mpmath.exp(ways) * p**n * (1 - p) ** count


@dataclass(frozen=True)
class Case:
    """A function, what it should give, and where.

    Args:
        reference: the same in many digits, of mpf arguments.
        drawn: arguments to try.
        edges: more of them.
        bound: ulp allowed, from E (minus the logarithm of a result below 1, otherwise 0) and the arguments.
        scale: the error is counted in ulp of at least this number.
        lost_below: results of this size may come out as 0.
    """

    function: Callable[..., float]
    reference: Callable[..., Any]
    drawn: st.SearchStrategy[Arguments]
    bound: Callable[..., float]
    edges: tuple[Arguments, ...] = ()
    scale: float = 0.0
    lost_below: float = 0.0

    def __str__(self) -> str:
        return self.function.__name__


def _fixed(ulp: float) -> Callable[..., float]:
    return lambda *_: ulp


def _by_exponent(ulp: float, each: float) -> Callable[..., float]:
    return lambda exponent, *_: ulp + each * exponent


def _gamma_bound(exponent: float, a: float, x: float) -> float:
    if a <= 1.0 and x <= 1.1:
        return 500.0
    if abs(x - a) <= 0.4 * a:
        return 150.0 + 2.0 * min(a, 200.0) + 2.0 * exponent
    return 150.0 + 2.0 * (abs(float(special.xlogy(a, x))) + x + abs(special.log_gamma(a)))


def _beta_bound(exponent: float, a: float, b: float, _: float) -> float:
    return 20.0 + 3.0 * (a + b) + 2.0 * exponent


def _ones(*values: float) -> tuple[Arguments, ...]:
    return tuple((value,) for value in values)


@st.composite
def _around(draw: st.DrawFn, low: float, high: float) -> Arguments:
    """Draw a number a and another within some sqrt(a) of it, or anywhere."""
    a = draw(_pow10(low, high))
    near = max(a + draw(st.floats(-6.0, 6.0)) * math.sqrt(a), 0.0)
    return a, draw(st.sampled_from([near, draw(_pow10(-5.0, 2.8))]))


@st.composite
def _beta_arguments(draw: st.DrawFn) -> Arguments:
    a, b = draw(_pow10(-3.0, 3.0)), draw(_pow10(-3.0, 3.0))
    mean, spread = a / (a + b), math.sqrt(a * b / (a + b + 1.0)) / (a + b)
    near = mean + draw(st.floats(-6.0, 6.0)) * spread
    return a, b, min(draw(st.sampled_from([max(near, 0.0), draw(_pow10(-10.0, 0.0))])), 1.0)


@st.composite
def _poisson_arguments(draw: st.DrawFn, highest: float) -> Arguments:
    mean, other = draw(_around(-5.0, highest))
    return draw(st.sampled_from([other, float(draw(st.integers(0, 12)))])), mean


@st.composite
def _negative_binomial_arguments(draw: st.DrawFn, most: float, least_p: float) -> Arguments:
    n, p = draw(_pow10(-3.0, most)), min(draw(_pow10(least_p, 0.0)), 1.0)
    mean = n * (1.0 - p) / p
    near = max(mean + draw(st.floats(-6.0, 6.0)) * math.sqrt(mean / p), 0.0)
    return draw(st.sampled_from([near, float(draw(st.integers(0, 40)))])), n, p


_REAL = st.one_of(st.floats(-40.0, 40.0), _signed(_pow10(-300.0, 300.0)), st.floats(-800.0, 800.0))
_POSITIVE = st.one_of(_pow10(-300.0, 300.0), st.floats(1e-3, 30.0))
_ENDS = _ones(0.0, -0.0, _TINY, -_TINY, 800.0, -800.0, _HUGE, -_HUGE, _INF, -_INF)

CASES = (
    Case(
        function=special.log_gamma,
        reference=mpmath.loggamma,
        drawn=st.tuples(st.one_of(_POSITIVE, _near(1.0, 2.0))),
        bound=_fixed(4),
        edges=_ones(_TINY, 1.0, 2.0, 1.0 - 2**-53, 1.0 + 2**-52, 2.0 - 2**-52, 2.0 + 2**-51, 1e305, _INF),
    ),
    Case(
        function=special.normal_pdf,
        reference=lambda z: mpmath.exp(-z * z / 2) / mpmath.sqrt(2 * mpmath.pi),
        drawn=st.tuples(_REAL),
        bound=_fixed(4),
        edges=(*_ENDS, *_ones(37.5, -38.4, 38.56, 38.58, 39.0)),
    ),
    Case(
        function=special.normal_cdf,
        reference=_normal_cdf,
        drawn=st.tuples(_REAL),
        bound=_fixed(5),
        edges=(*_ENDS, *_ones(-1.4142135623730951, -1.42, -37.5, -38.4, -38.46, -38.48, -39.0, 39.0)),
    ),
    Case(
        function=special.gamma_p,
        reference=_gamma_p,
        drawn=_around(-4.0, 3.5),
        bound=_gamma_bound,
        edges=((1.0, 0.0), (0.5, _TINY), (1e5, 1e5), (1e5, 0.97e5), (123.25, 69.57), (300.0, 1e-3)),
        lost_below=1e-300,
    ),
    Case(
        function=special.gamma_q,
        reference=lambda a, x: 1 - _gamma_p(a, x),
        drawn=_around(-4.0, 3.5),
        bound=_gamma_bound,
        edges=((1.0, 0.0), (0.5, 600.0), (1e5, 1e5), (1e5, 1.03e5), (244.5, 355.0), (0.5001, 1.05), (0.45, 1.108)),
        lost_below=1e-300,
    ),
    Case(
        function=special.beta_i,
        reference=_beta_i,
        drawn=_beta_arguments(),
        bound=_beta_bound,
        edges=((2.0, 3.0, 0.0), (2.0, 3.0, 1.0), (0.5, 0.5, 1e-16), (452.8, 37.96, 0.8683), (9369.0, 83424.0, 0.1)),
        lost_below=1e-300,
    ),
    Case(
        function=special.log_beta,
        reference=_log_beta,
        drawn=st.tuples(_POSITIVE, _POSITIVE),
        bound=_fixed(14),
        edges=(
            (1.0, 1.0),
            (1e-300, 1e300),
            (0.2, 2040.0),
            (9.9, 10.1),
            (10.0, 1e17),
            (1e5, 1e5),
            (1.0, 1e5),
            (9.99, 1 / 3),
        ),
        scale=1.0,
    ),
    Case(
        function=special.student_t_pdf,
        reference=_student_t_pdf,
        drawn=st.tuples(st.one_of(_REAL, st.just(0.0)), _pow10(-3.0, 15.0)),
        bound=_by_exponent(16, 6),
        edges=((0.0, 1.0), (1e300, 0.1), (-1e155, 1.0), (5.0, 1e300), (30.0, 1e20), (2.0, 1e-200), (_INF, 3.0)),
    ),
    Case(
        function=special.student_t_cdf,
        reference=_student_t_cdf,
        drawn=st.tuples(st.one_of(_REAL, st.just(0.0)), _pow10(-3.0, 4.0)),
        bound=_by_exponent(30, 6),
        edges=((1e-8, 1.0), (-1e155, 1.0), (-1e300, 0.1), (-1e140, 1.0), (-8.0, 1e3), (-35.0, 1e6), (1e200, 5.0)),
        lost_below=1e-300,
    ),
    Case(
        function=special.poisson_pmf,
        reference=_poisson_pmf,
        drawn=_poisson_arguments(15.0),
        bound=_by_exponent(12, 10),
        edges=(
            (0.0, 0.0),
            (3.0, 0.0),
            (-0.5, 2.0),
            (2.9, 2.0),
            (1e15, 1e15),
            (1e15 + 1e8, 1e15),
            (3.0, 1e-320),
            (803.0, 283.003),
        ),
    ),
    Case(
        function=special.poisson_cdf,
        reference=lambda k, mean: 1 - _gamma_p(mpmath.floor(k) + 1, mean) if k >= 0 else mpmath.mpf(0),
        drawn=_poisson_arguments(3.3),
        bound=lambda exponent, k, mean: _gamma_bound(exponent, math.floor(k) + 1.0, mean),
        edges=((0.0, 0.0), (3.0, 0.0), (-0.5, 2.0), (2.9, 2.0), (0.0, 734.0)),
        lost_below=1e-300,
    ),
    Case(
        function=special.negative_binomial_pmf,
        reference=_negative_binomial_pmf,
        drawn=_negative_binomial_arguments(9.0, -8.0),
        bound=_by_exponent(24, 12),
        edges=((0.0, 2.5, 1.0), (1.0, 2.5, 1.0), (-1.0, 2.5, 0.5), (0.0, 1e-3, 1e-300), (4.0, 1e12, 1.0 - 1e-12)),
    ),
    Case(
        function=special.negative_binomial_cdf,
        reference=lambda k, n, p: _beta_i(n, mpmath.floor(k) + 1, p) if k >= 0 else mpmath.mpf(0),
        drawn=_negative_binomial_arguments(2.5, -1.5),
        bound=lambda exponent, k, n, p: _beta_bound(exponent, n, math.floor(k) + 1.0, p),
        edges=((0.0, 2.5, 1.0), (7.0, 2.5, 1.0), (-1.0, 2.5, 0.5), (2.9, 3.0, 0.5)),
        lost_below=1e-300,
    ),
    Case(
        function=special.xlogy,
        reference=lambda x, y: _zero_or(x, lambda: x * (mpmath.log(y) if y else -mpmath.inf)),
        drawn=st.tuples(_REAL, st.one_of(_POSITIVE, _near(1.0).map(abs))),
        bound=_fixed(2),
        edges=((0.0, 0.0), (0.0, _INF), (2.0, 0.0), (-2.0, 0.0), (_TINY, _TINY), (_HUGE, _TINY), (0.0, 3.0)),
    ),
    Case(
        function=special.softplus,
        reference=lambda x: _log1p(mpmath.exp(x)) if x < 1e4 else x,
        drawn=st.tuples(_REAL),
        bound=_fixed(2),
        edges=_ENDS,
    ),
    Case(
        function=special.sigmoid,
        reference=lambda x: 1 / (1 + mpmath.exp(-x)),
        drawn=st.tuples(_REAL),
        bound=_fixed(3),
        edges=_ENDS,
    ),
    Case(
        function=special.log_sigmoid,
        reference=lambda x: -_log1p(mpmath.exp(-x)) if x > -1e4 else x,
        drawn=st.tuples(_REAL),
        bound=_fixed(2),
        edges=_ENDS,
    ),
    Case(
        function=special.log_cosh,
        reference=lambda x: abs(x) + _log1p(mpmath.exp(-2 * abs(x))) - _log1p(mpmath.mpf(1)),
        drawn=st.tuples(st.one_of(_REAL, _near(0.0, 2.0))),
        bound=_fixed(6),
        edges=(*_ENDS, *_ones(2.0, 1e-160, -1e-8)),
    ),
    Case(
        function=special.log1p_minus,
        reference=lambda x: x - _log1p(x) if -1 < x < mpmath.inf else mpmath.inf,
        drawn=st.tuples(
            st.one_of(_POSITIVE, st.floats(-1.0, 1.0), _near(0.0, 1.0), _near(-0.5).map(lambda x: -abs(x)))
        ),
        bound=_fixed(4),
        edges=_ones(0.0, -1.0, -1.0 + 2**-53, -0.5, 1.0, 1e-160, -1e-160, _TINY, -_TINY, _HUGE, _INF),
    ),
    Case(
        function=special.relative_expm1,
        reference=lambda a, r: mpmath.expm1(a * r) / a if a else r,
        drawn=st.tuples(_REAL, st.one_of(_REAL, _signed(_pow10(-3.0, 3.0)))),
        bound=lambda _, a, r: 4.0 + max(min(a * r, 2e3), 0.0),
        edges=(
            (0.0, 3.0),
            (0.0, -3.0),
            (3.0, 0.0),
            (1e-200, 1e-200),
            (1e-200, 1e-115),
            (1e10, 7.15e-8),
            (-1e10, -7.15e-8),
        ),
    ),
)
ARITY = {case.function: case.function.__code__.co_argcount for case in CASES}


def _loop1(function: Callable[..., float]) -> Callable[..., None]:
    def fill(rows: Any, out: Any) -> None:
        for i in range(out.shape[0]):
            out[i] = function(rows[i, 0])

    return jit(fill)


def _loop2(function: Callable[..., float]) -> Callable[..., None]:
    def fill(rows: Any, out: Any) -> None:
        for i in range(out.shape[0]):
            out[i] = function(rows[i, 0], rows[i, 1])

    return jit(fill)


def _loop3(function: Callable[..., float]) -> Callable[..., None]:
    def fill(rows: Any, out: Any) -> None:
        for i in range(out.shape[0]):
            out[i] = function(rows[i, 0], rows[i, 1], rows[i, 2])

    return jit(fill)


@cache
def _loop(function: Callable[..., float]) -> Callable[..., None]:
    return (_loop1, _loop2, _loop3)[ARITY[function] - 1](function)


def evaluate(function: Callable[..., float], arguments: Arguments) -> float:
    """The value from a compiled loop, after checking that Python gives the same."""
    out = np.empty(1)
    _loop(function)(np.array([arguments]), out)
    compiled, plain = float(out[0]), function(*arguments)
    assert type(plain) is float
    if not (math.isnan(plain) and math.isnan(compiled)):
        assert plain.hex() == compiled.hex()
    return compiled


def ulps(actual: float, expected: Any, scale: float = 0.0) -> float:
    """How many units in the last place of what is expected lie between the two."""
    if abs(expected) >= _LARGEST:
        same = actual == math.copysign(math.inf, expected) or (abs(actual) == _HUGE and not mpmath.isinf(expected))
        return 0.0 if same else math.inf
    if not math.isfinite(actual):
        return math.inf
    return float(abs(mpmath.mpf(actual) - expected) / math.ulp(max(abs(float(expected)), scale)))


def excess(case: Case, arguments: Arguments) -> tuple[float, float, float]:
    """Return the error of a case in ulp, what is allowed, and E."""
    with mpmath.workdps(_DIGITS):
        expected = case.reference(*map(mpmath.mpf, arguments))
        actual = evaluate(case.function, arguments)
        exponent = float(-mpmath.log(expected)) if 0 < expected < 1 else 0.0
        allowed = case.bound(exponent, *arguments)
        if actual == 0.0 and expected < case.lost_below:
            return 0.0, allowed, exponent
        return ulps(actual, expected, case.scale), allowed, exponent


@pytest.mark.parametrize("case", CASES, ids=str)
def test_drawn_arguments_stay_within_the_stated_bound(case: Case) -> None:
    """And Python gives the same bits as the compiled loop."""

    @given(case.drawn)
    def check(arguments: Arguments) -> None:
        error, allowed, _ = excess(case, arguments)
        assert error <= allowed

    check()


@pytest.mark.parametrize(
    ("case", "arguments"), [pytest.param(case, edge, id=f"{case}{edge}") for case in CASES for edge in case.edges]
)
def test_edges_stay_within_the_stated_bound(case: Case, arguments: Arguments) -> None:
    """Zeros, tails, ends of domains and of float64."""
    error, allowed, _ = excess(case, arguments)
    assert error <= allowed


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nan_gives_nan(case: Case) -> None:
    """In whichever argument; a row with a NaN must not look scored."""
    usual = (2.5, 0.5, 0.5)[: ARITY[case.function]]
    for place in range(len(usual)):
        assert math.isnan(evaluate(case.function, (*usual[:place], _NAN, *usual[place + 1 :])))


def test_every_function_is_tested() -> None:
    assert sorted(case.function.__name__ for case in CASES) == sorted(special.__all__)


@pytest.mark.parametrize("z", [-0.5, -3.0, -8.0, -35.0])
def test_student_t_with_many_degrees_of_freedom_is_normal(z: float) -> None:
    """At 1e30 degrees of freedom the two differ by less than 1e-24."""
    with mpmath.workdps(_DIGITS):
        tail, exponent = _normal_cdf(mpmath.mpf(z)), 0.5 * z * z + 5.0
        assert ulps(evaluate(special.student_t_cdf, (z, 1e30)), tail) <= 30.0 + 6.0 * exponent
        density = mpmath.npdf(mpmath.mpf(z))
        assert ulps(evaluate(special.student_t_pdf, (z, 1e30)), density) <= 16.0 + 6.0 * exponent


def test_counts_may_be_integers() -> None:
    """As a formula of a class index gets them."""

    @jit
    def values(k: int) -> tuple[float, float, float]:
        return special.poisson_pmf(k, 2.5), special.poisson_cdf(k, 2.5), special.negative_binomial_cdf(k, 3, 0.25)

    whole = special.poisson_pmf(4.0, 2.5), special.poisson_cdf(4.0, 2.5), special.negative_binomial_cdf(4.0, 3.0, 0.25)
    assert values(4) == whole
    assert values.py_func(4) == whole  # type: ignore[attr-defined]


def test_a_name_that_scipy_lacks_is_an_import_error() -> None:
    """Also where only the types are other ones: `expit` is there, but not of two numbers."""
    for name, arguments in (("gamma_of_tomorrow", 2), ("expit", 2)):
        with pytest.raises(ImportError, match=rf"no {name} of {arguments} float64"):
            special._symbol(name, arguments)


# Loops as losses make them, of a formula that they capture, with a compiled value of each; any warning is an error.
_LOOPS = """
import json, warnings
warnings.simplefilter("error")
import numpy as np
from lossops.kernels import blocks, special
from lossops.kernels.jit import inline

def formula(label, prediction, x):
    first = special.gamma_p(label, prediction) + special.gamma_q(label, prediction)
    return first + special.beta_i(label, prediction, x) + special.log_gamma(x)

found = {}
for function, settings in [(special.student_t_cdf, ()), (special.beta_i, (0.25,)), (inline(formula), (0.25,))]:
    loop, out = blocks.mean_of_elements(function), np.zeros(1)
    loop(np.array([[2.0]]), np.array([[3.5]]), settings, np.zeros(1, dtype=np.uint8), out)
    hits, misses = (sum(counts.values()) for counts in (loop.stats.cache_hits, loop.stats.cache_misses))
    found[function.__name__] = [out[0], function(2.0, 3.5, *settings), hits, misses]
print(json.dumps(found))
"""


def _two_processes(folder: Path) -> list[dict[str, list[float]]]:
    """Run the loops twice, with a copy of the package: whoever edits a source meanwhile names another cache folder."""
    package = Path(special.__file__).resolve().parents[1]
    shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "loops.py").write_text(_LOOPS)
    environment = {**os.environ, "PYTHONPATH": str(folder), "LOSSOPS_CACHE_DIR": str(folder / "cache")}
    command = [sys.executable, str(folder / "loops.py")]
    runs = [subprocess.run(command, env=environment, capture_output=True, text=True, check=False) for _ in range(2)]
    assert [run.returncode for run in runs] == [0, 0], runs[0].stderr + runs[1].stderr
    return [json.loads(run.stdout) for run in runs]


def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    """Loops that call the library functions come from the disk cache, without a warning, and give the same."""
    first, second = _two_processes(tmp_path)
    assert len(first) == 3
    for name, (compiled, plain, hits, misses) in first.items():
        assert (hits, misses) == (0, 1), name
        assert second[name] == [compiled, plain, 1, 0]
        assert compiled == plain, name
