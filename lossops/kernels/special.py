"""Special functions of float64 for formulas: the same digits in a compiled loop and in plain Python.

Python's ``math.log(0)`` and ``math.exp(800)`` raise where compiled code gives an infinity, and its ``math.lgamma`` is
another algorithm than the one Numba calls; the functions here agree, and none raises inside its domain. NaN in gives
NaN out.

Incomplete gamma and beta functions are SciPy's. A compiled loop finds them by a symbol, not by an address, so Numba's
disk cache can keep it.

Error bounds are in ulp, units in the last place of the true result (5e-324 for the smallest results). ``E`` stands for
minus the logarithm of a result below 1, otherwise 0: where the result is the exponential of a sum, each rounding of
the sum is worth up to E ulp, so those bounds count the roundings. All were measured, over the arguments of the tests
and more, and leave room for the elementary functions of other platforms.
"""

from __future__ import annotations

import ctypes
import math
import re
from typing import Any

import llvmlite.binding
import numpy as np
from numba import types
from numba.extending import get_cython_function_address, overload
from scipy.special import cython_special

from lossops.kernels.elementary import exp, log1p, pick
from lossops.kernels.jit import inline, jit

__all__ = [
    "beta_i",
    "gamma_p",
    "gamma_q",
    "log1p_minus",
    "log_beta",
    "log_cosh",
    "log_gamma",
    "log_sigmoid",
    "negative_binomial_cdf",
    "negative_binomial_pmf",
    "normal_cdf",
    "normal_pdf",
    "poisson_cdf",
    "poisson_pmf",
    "relative_expm1",
    "sigmoid",
    "softplus",
    "student_t_cdf",
    "student_t_pdf",
    "xlogy",
]

_LOG_2 = math.log(2.0)
_HALF_LOG_2_PI = 0.5 * math.log(2.0 * math.pi)
_TWO_PI = 2.0 * math.pi
_ROOT_HALF = math.sqrt(0.5)
_ROOT_HALF_REST = -4.833646656726457e-17  # sqrt(1/2) minus its float64
_PER_ROOT_2_PI = 1.0 / math.sqrt(2.0 * math.pi)
_SPLITTER = 134217729.0  # 2**27 + 1 cuts a mantissa into halves
_STIRLING_FROM = 10.0  # from here eight terms of Stirling's series give every digit


# Functions of other libraries


def _symbol(name: str, arguments: int) -> Any:
    """Make a SciPy function of float64 known to compiled code, and return what such code calls.

    The last argument of the C function is Cython's flag for overridden methods: 0. Of a name with several types
    ("__pyx_fuse_0betainc") the one of float64 is known by its signature, because the numbers have no fixed order.

    Raises:
        ImportError: SciPy has no such function.
    """
    name_of = ctypes.pythonapi.PyCapsule_GetName
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    wanted = re.compile(rf"double \(double(, double){{{arguments - 1}}}, int( \w+)?\)")
    for exported, capsule in cython_special.__pyx_capi__.items():
        if re.sub(r"^__pyx_fuse_\d+", "", exported) == name and wanted.fullmatch(name_of(capsule).decode()):
            symbol = f"lossops_{name}"
            llvmlite.binding.add_symbol(symbol, get_cython_function_address(cython_special.__name__, exported))
            return types.ExternalFunction(symbol, types.float64(*[types.float64] * arguments, types.intc))
    raise ImportError(f"scipy.special.cython_special has no {name} of {arguments} float64")


_GAMMA_P = _symbol("gammainc", 2)
_GAMMA_Q = _symbol("gammaincc", 2)
_BETA_I = _symbol("betainc", 3)
_BETA_C = _symbol("betaincc", 3)


def gamma_p(a: float, x: float) -> float:
    """Return the regularised lower incomplete gamma function P(a, x), for a > 0, x >= 0; SciPy's ``gammainc``.

    Error: at most 150 + 2 min(a, 200) + 2 E ulp where |x - a| <= 0.4 a (five standard deviations and more for
    a > 156), and 150 + 2 (a |ln x| + x + |ln Gamma(a)|) ulp elsewhere, because SciPy takes the exponential of these.
    At most 500 ulp where a <= 1 and x <= 1.1: its series for ln Gamma(1 + a) ends early where a is about 1/2.
    Results below 1e-300 may come out as 0.
    """
    return float(cython_special.gammainc(float(a), float(x)))


@overload(gamma_p)  # type: ignore[untyped-decorator]
def _(a: Any, x: Any) -> Any:
    def call(a: Any, x: Any) -> Any:
        return _GAMMA_P(a, x, 0)

    return call


def gamma_q(a: float, x: float) -> float:
    """Return the regularised upper incomplete gamma function Q(a, x) = 1 - P(a, x); SciPy's ``gammaincc``.

    Domain and error as `gamma_p`.
    """
    return float(cython_special.gammaincc(float(a), float(x)))


@overload(gamma_q)  # type: ignore[untyped-decorator]
def _(a: Any, x: Any) -> Any:
    def call(a: Any, x: Any) -> Any:
        return _GAMMA_Q(a, x, 0)

    return call


def beta_i(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b), for a > 0, b > 0, 0 <= x <= 1; SciPy's ``betainc``.

    Error: at most 20 + 3 (a + b) + 2 E ulp, because SciPy (Boost) rounds the bases of powers a and b. Results below
    1e-300 may come out as 0.
    """
    return float(cython_special.betainc(float(a), float(b), float(x)))


@overload(beta_i)  # type: ignore[untyped-decorator]
def _(a: Any, b: Any, x: Any) -> Any:
    def call(a: Any, b: Any, x: Any) -> Any:
        return _BETA_I(a, b, x, 0)

    return call


def _beta_c(a: float, b: float, x: float) -> float:
    """Return 1 - I_x(a, b) without cancellation; ten times slower than `beta_i`."""
    return float(cython_special.betaincc(float(a), float(b), float(x)))


@overload(_beta_c)  # type: ignore[untyped-decorator]
def _(a: Any, b: Any, x: Any) -> Any:
    def call(a: Any, b: Any, x: Any) -> Any:
        return _BETA_C(a, b, x, 0)

    return call


def _library_gamma(x: Any) -> Any:
    return math.gamma(x)


def _library_lgamma(x: Any) -> Any:
    return math.lgamma(x)


_compiled_gamma, _compiled_lgamma = jit(_library_gamma), jit(_library_lgamma)


def _gamma(x: float) -> float:
    """Return the gamma function as the C library has it."""
    return float(_compiled_gamma(float(x)))


@overload(_gamma)  # type: ignore[untyped-decorator]
def _(x: Any) -> Any:
    return _library_gamma


def log_gamma(x: float) -> float:
    """Return ln Gamma(x), for x > 0, as the C library has it: full precision beside the zeros 1 and 2 as well.

    Error: at most 4 ulp.
    """
    return float(_compiled_lgamma(float(x)))


@overload(log_gamma)  # type: ignore[untyped-decorator]
def _(x: Any) -> Any:
    return _library_lgamma


# Elementary functions


@inline
def _log(x: float) -> float:
    """Return ln x with ln 0 = -infinity."""
    if x > 0.0:
        return math.log(x)
    return -math.inf if x == 0.0 else math.nan


@inline
def _exp(x: float) -> float:
    """Return e**x with infinity where it is too large."""
    return math.inf if x > 709.782712893384 else math.exp(x)


@inline
def _product_error(a: float, b: float, product: float) -> float:
    """Return ``a * b - product`` exactly, for a product rounded from factors of at most 1e290; Dekker (1971)."""
    cut_a, cut_b = _SPLITTER * a, _SPLITTER * b
    high_a, high_b = cut_a - (cut_a - a), cut_b - (cut_b - b)
    low_a, low_b = a - high_a, b - high_b
    return ((high_a * high_b - product) + high_a * low_b + low_a * high_b) + low_a * low_b


@inline
def xlogy(x: float, y: float) -> float:
    """Return x ln y, and 0 where x is 0 (NaN where y is NaN), for y >= 0. Error: at most 2 ulp."""
    if x == 0.0 and not math.isnan(y):
        return 0.0
    return x * _log(y)


@inline
def softplus(x: float) -> float:
    """Return ln(1 + e**x), for any x, infinities included. Error: at most 2 ulp."""
    return x + math.log1p(math.exp(-x)) if x > 0.0 else math.log1p(math.exp(x))


@inline
def sigmoid(x: float) -> float:
    """Return 1 / (1 + e**-x), for any x, infinities included. Error: at most 3 ulp."""
    power = math.exp(-abs(x))
    return (1.0 if x > 0.0 else power) / (1.0 + power)


@inline
def log_sigmoid(x: float) -> float:
    """Return ln(1 / (1 + e**-x)), for any x, infinities included. Error: at most 2 ulp."""
    return -softplus(-x)


@inline
def log_cosh(x: float) -> float:
    """Return ln cosh x, for any x, infinities included. Error: at most 6 ulp.

    Near 0 it is ln(1 + 2 sinh(x/2)**2).
    """
    size = abs(x)
    is_near, y = size < 2.0, 0.5 * size
    s, series = y * y, 1.0
    for k in range(18, 0, -2):  # sinh y = y (1 + y**2/(2 3) (1 + y**2/(4 5) (...))), for y below 1
        series = 1.0 + s / (k * (k + 1.0)) * series
    half = y * series
    below = pick(is_near, 2.0 * half * half, exp(-2.0 * size))
    return pick(is_near, 0.0, size - _LOG_2) + log1p(below)


@inline
def log1p_minus(x: float) -> float:
    """Return x - ln(1 + x), for x > -1 (infinity at -1). Error: at most 4 ulp.

    Near 0 by x - ln(1 + x) = r (x - 2 r**2 (1/3 + r**2/5 + ...)) with r = x / (2 + x), as Loader's ``bd0``.
    """
    ratio = x / (2.0 + x)
    s, series = ratio * ratio, 0.0
    for odd in range(35, 1, -2):
        series = 1.0 / odd + s * series
    near, far = ratio * (x - 2.0 * s * series), pick(x == math.inf, x, x - log1p(x))
    return pick((x >= -0.5) & (x <= 1.0), near, far)  # both are computed, so that a loop has no branch


@inline
def relative_expm1(a: float, r: float) -> float:
    """Return (e**(a r) - 1) / a, and r where a is 0, for finite a and r. Error: at most 4 + max(a r, 0) ulp."""
    exponent = a * r
    if exponent > 700.0:  # e**(a r) may be too large where its quotient is not
        half = _exp(0.5 * exponent)
        return half / a * half
    if abs(exponent) > 1.0:
        return math.expm1(exponent) / a
    # A quotient of equally rounded numbers, so that a product too small for all its digits does no harm
    return r * (math.expm1(exponent) / exponent) if exponent != 0.0 else r


# Gamma and beta functions


@inline
def _stirling_rest(x: float) -> float:
    """Return ln Gamma(x + 1) - (x + 1/2) ln x + x - ln(2 pi)/2 to 3e-18, for x >= 10; Abramowitz and Stegun 6.1.40."""
    s = 1.0 / (x * x)
    tail = -1.0 / 1680.0 + s * (1.0 / 1188.0 + s * (-691.0 / 360360.0 + s * (1.0 / 156.0 - s * 3617.0 / 122400.0)))
    return (1.0 / 12.0 + s * (-1.0 / 360.0 + s * (1.0 / 1260.0 + s * tail))) / x


@inline
def _stirling_factor(x: float) -> float:
    """Return Gamma(x + 1) (e / x)**x, for x >= 0: 1 at 0, and sqrt(2 pi x) nearly when x is large."""
    if x >= _STIRLING_FROM:
        return math.sqrt(_TWO_PI * x) * math.exp(_stirling_rest(x))
    factorial = x * _gamma(x) if x >= 1.0 else _gamma(1.0 + x)  # x + 1 would be rounded
    return factorial * math.exp(x) / math.pow(x, x)


@inline
def log_beta(a: float, b: float) -> float:
    """Return ln B(a, b), for a and b from 1e-300 to 1e300. Error: at most 14 ulp of the larger of 1 and the result.

    Nowhere as a difference of ln Gamma, which nearly cancel; by Stirling's series from 10 on, as R's ``lbeta``.
    """
    small, large = min(a, b), max(a, b)
    total = a + b
    if large < _STIRLING_FROM:
        return math.log(_gamma(small) / _gamma(total) * _gamma(large))
    share = small / total
    rest = _stirling_rest(large) - _stirling_rest(total)
    if small < _STIRLING_FROM:
        power = (large - 0.5) * math.log1p(-share) - small * math.log(total)
        return (log_gamma(small) + rest + small) + power
    power = (small - 0.5) * math.log(share) + large * math.log1p(-share)
    return (_HALF_LOG_2_PI - 0.5 * math.log(large) + _stirling_rest(small) + rest) + power


# Distributions


@inline
def normal_pdf(z: float) -> float:
    """Return the density of the standard normal distribution, for any z. Error: at most 4 ulp."""
    if abs(z) > 39.0:
        return 0.0
    square = z * z
    # What rounding the square lost is worth hundreds of ulp of its exponential
    return _PER_ROOT_2_PI * (math.exp(-0.5 * square) * (1.0 - 0.5 * _product_error(z, z, square)))


@inline
def normal_cdf(z: float) -> float:
    """Return the probability that a standard normal variable is at most z, for any z. Error: at most 5 ulp."""
    u = -z * _ROOT_HALF
    tail = 0.5 * math.erfc(u)
    if u <= 1.0 or tail == 0.0 or math.isnan(z):
        return tail
    # What rounding -z / sqrt(2) lost is worth a thousand ulp; -erfc'(u) / erfc(u) is 2 u + 1 / u, nearly
    lost = _product_error(-z, _ROOT_HALF, u) - z * _ROOT_HALF_REST
    return tail * (1.0 - lost * (2.0 * u + 1.0 / u))


@inline
def student_t_pdf(z: float, df: float) -> float:
    """Return the density of Student's t distribution with df > 0 degrees of freedom, for any z.

    Error: at most 16 + 6 E ulp.
    """
    x, u = 0.5 * df, 1.0 / df
    # Gamma(x + 1/2) / (Gamma(x) sqrt(x)), which tends to 1, without the difference of two large logarithms
    ratio = _stirling_factor(x + 0.5) / _stirling_factor(x) * math.exp(-x * log1p_minus(u)) / math.sqrt(1.0 + u)
    square = z / df * z
    growth = 0.5 * math.log1p(square) if square < 1e300 else _log(abs(z)) - 0.5 * math.log(df)
    return _PER_ROOT_2_PI * ratio * math.exp(-(df + 1.0) * growth)


@inline
def _student_t_tail(z: float, df: float) -> float:
    """Return the probability that a variable with Student's t distribution is more than z, for z > 0."""
    inverse = df / z / z
    half = 0.5 * df
    if inverse < 1e-280:  # the first term of the series in 1 / z, where z * z may be too large
        return math.exp(df * (0.5 * math.log(df) - math.log(z)) - log_beta(half, 0.5)) / df
    if inverse < 1.0:
        return 0.5 * beta_i(half, 0.5, inverse / (1.0 + inverse))
    # Here 1 - x would lose digits, and the complement by subtraction gains time where it loses at most three bits
    share = 1.0 / (1.0 + inverse)
    centre = beta_i(0.5, half, share)
    return 0.5 - 0.5 * centre if centre < 0.875 else 0.5 * _beta_c(0.5, half, share)


@inline
def student_t_cdf(z: float, df: float) -> float:
    """Return the probability that a variable with Student's t distribution is at most z, for any z and df > 0.

    Error: at most 30 + 6 E ulp. Results below 1e-300 may come out as 0.
    """
    if z == 0.0:
        return 0.5
    tail = _student_t_tail(abs(z), df)
    return tail if z < 0.0 else 1.0 - tail


@inline
def _deviance(x: float, mean: float, difference: float) -> float:
    """Return x ln(x / mean) + mean - x, for x >= 0, mean >= 0 and mean - x without cancellation; Loader's ``bd0``."""
    if x == 0.0:
        return difference
    if difference < -0.7 * x:  # about where the two forms lose the same
        return difference - x * _log(mean / x)
    return x * log1p_minus(difference / x)


@inline
def poisson_pmf(k: float, mean: float) -> float:
    """Return the probability of floor(k) under a Poisson distribution, for mean >= 0; 0 where k < 0.

    Error: at most 12 + 10 E ulp, also for a large mean; C. Loader, Fast and Accurate Computation of Binomial
    Probabilities (2000).
    """
    count = float(np.floor(k))
    if count < 0.0:
        return 0.0
    return math.exp(-_deviance(count, mean, mean - count)) / _stirling_factor(count)


@inline
def poisson_cdf(k: float, mean: float) -> float:
    """Return the probability of at most k under a Poisson distribution, for mean >= 0; 0 where k < 0.

    Error: that of `gamma_q` for a = floor(k) + 1 and x = mean.
    """
    return 0.0 if k < 0.0 else gamma_q(float(np.floor(k)) + 1.0, mean)


@inline
def negative_binomial_pmf(k: float, n: float, p: float) -> float:
    """Return the probability of floor(k) failures before the n-th success, for real n > 0, 0 < p <= 1; 0 where k < 0.

    Error: at most 24 + 12 E ulp, for n and k up to 1e290; by the method of `poisson_pmf`.
    """
    count = float(np.floor(k))
    if count < 0.0:
        return 0.0
    total = n + count
    mean = total * p
    rounded = total - n
    lost = (n - (total - rounded)) + (count - rounded)
    # Expected minus actual successes among n + k trials; what the sum and the product lost matters where they are equal
    difference = (mean - n) + (_product_error(total, p, mean) + lost * p)
    exponent = _deviance(n, mean, difference) + _deviance(count, total * (1.0 - p), -difference)
    orders = _stirling_factor(total) / (_stirling_factor(n) * _stirling_factor(count))
    return n / total * orders * math.exp(-exponent)


@inline
def negative_binomial_cdf(k: float, n: float, p: float) -> float:
    """Return the probability of at most k failures before the n-th success, for real n > 0, 0 < p <= 1; 0 where k < 0.

    Error: that of `beta_i` for a = n, b = floor(k) + 1 and x = p.
    """
    return 0.0 if k < 0.0 else beta_i(n, float(np.floor(k)) + 1.0, p)
