"""Continuous ranked probability scores of predicted distributions, in closed form.

The score is the integral of (F(x) - 1[y <= x])^2 over all x, in units of the label: the absolute error of a forecast
that is spread out. It equals E|X - y| - E|X - X'|/2, and the formulas follow that: the distance from the centre, what
the spread adds to it near the centre, and half the mean difference of two draws. It is at least 0, but the sum may
round below. It is defined for any number, so labels that a distribution rules out are scored as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lossops.kernels.jit import inline
from lossops.kernels.special import (
    gamma_p,
    gamma_q,
    log1p_minus,
    negative_binomial_cdf,
    negative_binomial_pmf,
    normal_pdf,
    poisson_pmf,
    student_t_cdf,
)
from lossops.losses.declaration import POSITIVE, REALS, Curve, Field, Form, Inputs, Interval, Loss, Outlier
from lossops.losses.likelihood import (
    JORDAN,
    LOCATION,
    RATE,
    SCALE,
    SHAPE,
    SUCCESS,
    SUCCESSES,
    half_deviance,
    inverse_beta,
    log_growth,
    stirling_error,
)

__all__: list[str] = []

_FAMILY = "distributions: forecasts"
_LOG_TWO = math.log(2.0)
_PER_ROOT_PI = 1.0 / math.sqrt(math.pi)
_TWO_PI = 2.0 * math.pi
_NEGLIGIBLE = 1e-18  # terms below this share of a sum do not change it
# E|X - y| is convex in location and scale together, and E|X - X'| is proportional to the scale.
_LOCATION_SCALE = Curve(convex=True, smooth=True, slope_bounded=True, symmetric=True, outlier=Outlier.LINEAR)
_SKEWED = Curve(convex=False, smooth=True, slope_bounded=False, symmetric=False, outlier=Outlier.LINEAR)


@inline
def _not_negative(total: float) -> float:
    """The sum, 0 where it rounded below. NaN stays NaN in this order of arguments."""
    return max(total, 0.0)


# Location and scale.


@inline
def _normal(label: float, prediction: Sequence[float]) -> float:
    size, std = abs(label - prediction[0]), prediction[1]
    z = size / std
    return size * math.erf(z * math.sqrt(0.5)) + std * (2.0 * normal_pdf(z) - _PER_ROOT_PI)


@inline
def _laplace(label: float, prediction: Sequence[float]) -> float:
    size, scale = abs(label - prediction[0]), prediction[1]
    return size + scale * (math.expm1(-size / scale) + 0.25)


@inline
def _logistic(label: float, prediction: Sequence[float]) -> float:
    size, scale = abs(label - prediction[0]), prediction[1]
    return size + scale * (2.0 * math.log1p(math.exp(-size / scale)) - 1.0)


# log(B(1/2, df - 1/2)/B(1/2, df/2)) + (df - 1) log 2 as a series of (df - 1)^k from k = 2 on: the coefficients are
# (-1)^k (2^k - 1) eta(k)/k with Dirichlet's eta function.
_COEFFICIENTS = (
    *(1.2337005501361697, -2.10359958052929, 3.551373110614672),
    *(-6.027142576770838, 10.348286458623068, -18.008487875742777),
    *(31.754926934053152, -56.669576227084484, 102.20174162730318),
    *(-186.00105388550276, 341.1673100553416, -630.0003956749157),
    *(1170.1431019841561, -2184.4001523066413, 4095.875095176492),
    *(-7710.000059712712, 14563.444482039067, -27594.000023743094),
    *(52428.70001503696, -99864.28572383286, 190650.0909151663),
    *(-364722.0000038741, 699050.5833358085, -1342177.2000015841),
    *(2581110.076924092, -4971026.888889541, 9586980.50000042),
)


@inline
def _excess_spread(df: float) -> float:
    """B(1/2, df - 1/2)/B(1/2, df/2) - 1, which is 0 at df = 1."""
    distance = df - 1.0
    if distance > 0.125:
        return inverse_beta(0.5 * df) / inverse_beta(df - 0.5) - 1.0
    series = 0.0
    for coefficient in _COEFFICIENTS[::-1]:
        series = (series + coefficient) * distance
    return math.expm1(distance * (series - _LOG_TWO))


@inline
def _student_t(label: float, prediction: Sequence[float]) -> float:
    df, size, scale = prediction[0], abs(label - prediction[1]), prediction[2]
    # Both terms of the difference are 0 at df = 1, where it is divided by 0
    nearby = math.expm1(-0.5 * (df - 1.0) * log_growth(size, scale, df)) - _excess_spread(df)
    height = 2.0 * math.sqrt(df) * (inverse_beta(0.5 * df) / (df - 1.0))
    return size * (1.0 - 2.0 * student_t_cdf(-size / scale, df)) + scale * height * nearby


crps_normal = Loss(
    name="crps_normal",
    summary="continuous ranked probability score of a normal distribution",
    family=_FAMILY,
    inputs=Inputs.NUMBER,
    label=REALS,
    form=Form(
        row=_normal,
        formula="(y - mean)*erf((y - mean)/std/sqrt(2)) + std*(2*normal_pdf((y - mean)/std) - 1/sqrt(pi))",
        prediction=(Field("mean", REALS, "the mean"), Field("std", POSITIVE, "the standard deviation")),
        ulps=10.0,  # of terms that leave a quarter of themselves near the mean
    ),
    curve=_LOCATION_SCALE,
    also=("crps_gaussian",),
    citation="T. Gneiting et al., Calibrated Probabilistic Forecasting Using Ensemble Model Output Statistics, Mon. "
    "Weather Rev. 133 (2005)",
)

crps_laplace = Loss(
    name="crps_laplace",
    summary="continuous ranked probability score of a Laplace distribution",
    family=_FAMILY,
    inputs=Inputs.NUMBER,
    label=REALS,
    form=Form(
        row=_laplace,
        formula="abs(y - location) + scale*(exp(-abs(y - location)/scale) - 3/4)",
        prediction=(LOCATION, SCALE),
        ulps=6.0,  # of terms that leave a quarter of themselves near the location
    ),
    curve=_LOCATION_SCALE,
    citation=JORDAN,
)

crps_logistic = Loss(
    name="crps_logistic",
    summary="continuous ranked probability score of a logistic distribution",
    family=_FAMILY,
    inputs=Inputs.NUMBER,
    label=REALS,
    form=Form(
        row=_logistic,
        formula="y - location + scale*(2*log(1 + exp(-(y - location)/scale)) - 1) if y > location "
        "else location - y + scale*(2*log(1 + exp((y - location)/scale)) - 1)",
        prediction=(LOCATION, SCALE),
        ulps=8.0,  # of terms that leave a quarter of themselves near the location
    ),
    curve=_LOCATION_SCALE,
    also=("crps_logis",),
    citation=JORDAN,
)

crps_student_t = Loss(
    name="crps_student_t",
    summary="continuous ranked probability score of a Student t distribution with a mean",
    family=_FAMILY,
    inputs=Inputs.NUMBER,
    label=REALS,
    form=Form(
        row=_student_t,
        formula="abs(y - location)*beta_i(1/2, df/2, (y - location)**2/((y - location)**2 + df*scale**2)) "
        "+ 2*scale*sqrt(df)/((df - 1)*beta(1/2, df/2))"
        "*((1 + ((y - location)/scale)**2/df)**((1 - df)/2) - beta(1/2, df - 1/2)/beta(1/2, df/2))",
        prediction=(Field("df", Interval(1.0, low_open=True), "the degrees of freedom"), LOCATION, SCALE),
        ulps=128.0,  # four gamma functions of the C library, up to 10 ulp each, in a difference that leaves a quarter
    ),
    curve=Curve(convex=False, smooth=True, slope_bounded=False, symmetric=True, outlier=Outlier.LINEAR),
    also=("crps_t",),
    citation=JORDAN,
)


# Positive numbers.


@inline
def _gamma_edge(shape: float, x: float) -> float:
    """Return x^shape exp(-x)/Gamma(shape + 1)."""
    if shape < 10.0 and x < 1.2:
        return math.pow(x, shape) * math.exp(-x) / math.gamma(shape + 1.0)
    return math.exp(-half_deviance(shape, x) - stirling_error(shape)) / math.sqrt(_TWO_PI * shape)


@inline
def _gamma_share(shape: float, x: float) -> float:
    """P(shape, x) by its power series, all terms positive, for small arguments."""
    total, term, k = 0.0, 1.0, shape
    while term > _NEGLIGIBLE * total:
        total += term
        k += 1.0
        term *= x / k
    return _gamma_edge(shape, x) * total


@inline
def _gamma_balance(shape: float, x: float) -> float:
    """P(shape, x) - Q(shape, x), to a few units in the last place of 1.

    SciPy's functions lose two digits around Q(1/2, 1), and their series stop after 2000 terms, too early for large
    shapes; there by N. M. Temme, The Asymptotic Expansion of the Incomplete Gamma Functions, SIAM J. Math. Anal. 10
    (1979), of which two orders are plenty.
    """
    if shape < 10.0 and x < 1.2:
        return 2.0 * _gamma_share(shape, x) - 1.0
    if shape < 1e5:
        lower = gamma_p(shape, x)
        return 2.0 * lower - 1.0 if lower < 0.5 else 1.0 - 2.0 * gamma_q(shape, x)
    distance = (x - shape) / shape
    half_square = log1p_minus(distance)
    exponent = shape * half_square
    if exponent > 700.0:  # a tail too small to count, and too far for the series below
        return math.copysign(1.0, distance)
    eta = math.copysign(math.sqrt(2.0 * half_square), distance)
    first = -1.0 / 3.0 + eta * (1.0 / 12.0 - eta * (2.0 / 135.0 - eta * (1.0 / 864.0 + eta / 2835.0)))
    second = -(1.0 / 540.0 + eta / 288.0) / shape
    edge = math.exp(-exponent) / math.sqrt(_TWO_PI * shape) * (first + second)
    return math.erf(eta * math.sqrt(0.5 * shape)) - 2.0 * edge


@inline
def _exponential(label: float, prediction: Sequence[float]) -> float:
    rate = prediction[0]
    return abs(label) + (2.0 * math.expm1(-rate * max(label, 0.0)) + 0.5) / rate


@inline
def _gamma(label: float, prediction: Sequence[float]) -> float:
    shape, rate = prediction[0], prediction[1]
    product = rate * label
    if math.isinf(product):
        return abs(label)  # the distribution is a point beside it
    balance, nearby = -1.0, 0.0
    if product > 0.0:
        balance = _gamma_balance(shape, product)
        nearby = shape * _gamma_edge(shape, product)
    distance = (product - shape) * balance
    return _not_negative(distance + 2.0 * nearby - inverse_beta(shape)) / rate


crps_exponential = Loss(
    name="crps_exponential",
    summary="continuous ranked probability score of an exponential distribution",
    family=_FAMILY,
    inputs=Inputs.NUMBER,
    label=REALS,
    form=Form(
        row=_exponential,
        formula="abs(y) - 2*(1 - exp(-rate*max(y, 0)))/rate + 1/(2*rate)",
        prediction=(RATE,),
        ulps=12.0,  # of terms that leave an eighth of themselves near the median
    ),
    curve=_SKEWED,
    citation=JORDAN,
)

crps_gamma = Loss(
    name="crps_gamma",
    summary="continuous ranked probability score of a gamma distribution",
    family=_FAMILY,
    inputs=Inputs.NUMBER,
    label=REALS,
    form=Form(
        row=_gamma,
        formula="y*(2*gamma_p(shape, rate*max(y, 0)) - 1) - shape/rate*(2*gamma_p(shape + 1, rate*max(y, 0)) - 1) "
        "- 1/(rate*beta(1/2, shape))",
        prediction=(SHAPE, RATE),
        ulps=24.0,
        scale="abs(y) + shape/rate",  # label and mean, whose rounded difference counts, are large beside the loss
    ),
    curve=_SKEWED,
    citation=JORDAN,
)


# Counts.


@inline
def _poisson_spread(mean: float) -> float:
    """Half the mean difference of two draws: mean exp(-2 mean) (I_0 + I_1)(2 mean) with modified Bessel functions."""
    total, term = 0.0, 1.0
    k = 0.0
    if mean < 20.0:  # power series, all terms positive
        while term > _NEGLIGIBLE * total:
            total += term * (1.0 + mean / (k + 1.0))
            k += 1.0
            term *= (mean / k) * (mean / k)
        return mean * math.exp(-2.0 * mean) * total
    other = 1.0  # asymptotic series of both, whose terms fall below every digit before they grow
    while term > _NEGLIGIBLE:
        total += term + other
        k += 1.0
        odd = 2.0 * k - 1.0
        term *= odd * odd / (16.0 * mean * k)
        other *= (odd * odd - 4.0) / (16.0 * mean * k)
    return 0.5 * _PER_ROOT_PI * math.sqrt(mean) * total


@inline
def _poisson(label: float, prediction: Sequence[float]) -> float:
    mean = prediction[0]
    balance = _gamma_balance(np.floor(label) + 1.0, mean) if label >= 0.0 else 1.0  # more minus at most the label
    distance = (mean - label) * balance
    return _not_negative(distance + 2.0 * mean * poisson_pmf(label, mean) - _poisson_spread(mean))


@inline
def _negative_binomial_spread(n: float, prob: float) -> float:
    """Half the mean difference of two draws.

    It is n (1 - p)/p^2 2F1(n + 1, 1/2; 2; -4 (1 - p)/p^2), here as Euler's integral after the substitutions that leave
    cosh(v)^-3 (1 - w tanh(v)^2)^(n - 1), w = 4 (1 - p)/(2 - p)^2, over v from 0 on: even, positive and analytic
    within pi/2 of the real line, so that the trapezoidal rule with this step has all digits.
    """
    rest = 1.0 - prob
    root = prob / (2.0 - prob)
    w = 4.0 * rest / ((2.0 - prob) * (2.0 - prob))  # 1 - root^2
    step = 0.2 / math.sqrt(1.0 + 0.75 * n * w)
    total, term, v = -0.5, 1.0, 0.0
    while term > _NEGLIGIBLE * total:
        total += term
        v += step
        small, slope = 1.0 / math.cosh(v), math.tanh(v)
        gone = w * slope * slope
        log_left = math.log1p(-gone) if gone < 0.5 else math.log(small * small + (root * slope) * (root * slope))
        term = small * small * small * math.exp((n - 1.0) * log_left)
    return 4.0 / math.pi * step * total * n * rest / (prob * (2.0 - prob))


@inline
def _negative_binomial(label: float, prediction: Sequence[float]) -> float:
    n, prob = prediction[0], prediction[1]
    odds = (1.0 - prob) / prob
    if math.isinf(n * odds):
        return math.inf
    distance = (label - n * odds) * (2.0 * negative_binomial_cdf(label, n, prob) - 1.0)
    nearby = 2.0 * odds * ((n + np.floor(label)) * negative_binomial_pmf(label, n, prob))
    return _not_negative(distance + nearby - _negative_binomial_spread(n, prob))


_HALF_DIFFERENCE = "mean*exp(-2*mean)*(bessel_i(0, 2*mean) + bessel_i(1, 2*mean))"

crps_poisson = Loss(
    name="crps_poisson",
    summary="continuous ranked probability score of a Poisson distribution; any number may be the label",
    family=_FAMILY,
    inputs=Inputs.NUMBER,
    label=REALS,
    form=Form(
        row=_poisson,
        formula="(y - mean)*(2*gamma_q(floor(y) + 1, mean) - 1) "
        f"+ 2*mean*exp(floor(y)*log(mean) - mean - log_gamma(floor(y) + 1)) - {_HALF_DIFFERENCE} "
        f"if y >= 0 else mean - y - {_HALF_DIFFERENCE}",
        prediction=(Field("mean", POSITIVE, "the mean"),),
        ulps=24.0,  # of the incomplete gamma function
        scale="min(mean, sqrt(mean))",  # the terms, which cancel where the mean is small
    ),
    curve=Curve(convex=True, smooth=True, slope_bounded=True, symmetric=False, outlier=Outlier.LINEAR),
    citation=JORDAN,
)

crps_negative_binomial = Loss(
    name="crps_negative_binomial",
    summary="continuous ranked probability score of a negative binomial distribution; any number may be the label",
    family=_FAMILY,
    inputs=Inputs.NUMBER,
    label=REALS,
    form=Form(
        row=_negative_binomial,
        formula="y*(2*(beta_i(n, floor(y) + 1, prob) if y >= 0 else 0) - 1) - n*(1 - prob)/prob**2"
        "*(prob*(2*(beta_i(n + 1, floor(y), prob) if y >= 1 else 0) - 1) "
        "+ hyp2f1(n + 1, 1/2, 2, -4*(1 - prob)/prob**2))",
        prediction=(SUCCESSES, SUCCESS),
        ulps=32.0,  # of the incomplete beta function
        scale="abs(y) + n*(1 - prob)/prob",  # as for the gamma distribution
    ),
    curve=_SKEWED,
    also=("crps_negbinom",),
    citation=JORDAN,
)
