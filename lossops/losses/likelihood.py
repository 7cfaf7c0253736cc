"""Negative log-likelihoods of a number under a predicted distribution, constants included."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lossops.kernels.jit import inline
from lossops.kernels.special import log1p_minus
from lossops.losses.declaration import POSITIVE, REALS, Curve, Field, Form, Inputs, Interval, Loss, Outlier, Parameter

__all__ = [
    "JORDAN",
    "LOCATION",
    "RATE",
    "SCALE",
    "SHAPE",
    "SUCCESS",
    "SUCCESSES",
    "half_deviance",
    "inverse_beta",
    "log_growth",
    "stirling_error",
]

JORDAN = (
    "A. Jordan, F. Krueger and S. Lerch, Evaluating Probabilistic Forecasts with scoringRules, "
    "J. Stat. Softw. 90 (2019)"
)

_FAMILY = "regression: likelihoods"
_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
_LOG_TWO_PI = math.log(2.0 * math.pi)
_ROOT_PI = math.sqrt(math.pi)
_ROOT_TWO_PI = math.sqrt(2.0 * math.pi)
_SMALLEST_NORMAL = 2.0**-1022
_SAFE = 2.0**300  # lifts a subnormal number into the range of full precision

LOCATION = Field("location", REALS, "the centre: mean and median where they exist")
SCALE = Field("scale", POSITIVE, "the width, in units of the label")
RATE = Field("rate", POSITIVE, "one over the scale, in units of one over the label")
SHAPE = Field("shape", POSITIVE, "the shape; shape/rate is the mean")
SUCCESSES = Field("n", POSITIVE, "the number of successes to wait for; not always an integer")
SUCCESS = Field(
    "prob", Interval(0.0, 1.0, low_open=True), "the probability of a success; n (1 - prob)/prob is the mean"
)


# What several distributions need.


@inline
def stirling_error(x: float) -> float:
    """What Stirling's formula leaves out of log Gamma(x): + (x - 1/2) log x - x + log(2 pi)/2."""
    if x < 12.0:  # one logarithm of a product, because the terms of the sum nearly cancel
        factor = math.gamma(x) * x if x >= 1.0 else math.gamma(1.0 + x)
        return math.log(factor * math.pow(x, -0.5 - x) * math.exp(x) / _ROOT_TWO_PI)
    y = 1.0 / (x * x)
    series = 1.0 / 1680.0 - y * (1.0 / 1188.0 - y * (691.0 / 360360.0 - y / 156.0))
    return (1.0 / 12.0 - y * (1.0 / 360.0 - y * (1.0 / 1260.0 - y * series))) / x


@inline
def half_deviance(x: float, mean: float) -> float:
    """Half a Poisson deviance, x log(x/mean) + mean - x, of positive numbers without cancellation."""
    if 0.6 * x < mean < 1.6 * x:
        return x * log1p_minus((mean - x) / x)
    ratio = mean / x
    log_ratio = math.log(ratio) if _SMALLEST_NORMAL < ratio < math.inf else math.log(mean) - math.log(x)
    return mean - x - x * log_ratio


@inline
def inverse_beta(x: float) -> float:
    """1/B(1/2, x), which is Gamma(x + 1/2)/(sqrt(pi) Gamma(x)), for any positive x."""
    if x < 1e-17:
        return x
    if x < 20.0:
        return math.gamma(x + 0.5) / (_ROOT_PI * math.gamma(x))
    exponent = stirling_error(x + 0.5) - stirling_error(x) - x * log1p_minus(0.5 / x)
    return math.sqrt(x) * math.exp(exponent) / _ROOT_PI


@inline
def log_growth(size: float, scale: float, df: float) -> float:
    """log(1 + (size/scale)^2/df), where the square or the ratio itself may overflow."""
    ratio = size / scale / math.sqrt(df)
    return math.log1p(ratio * ratio) if ratio < 1e8 else 2.0 * (math.log(size) - math.log(scale)) - math.log(df)


# Gaussian.


@inline
def _standardised(residual: float, log_std: float) -> float:
    """The residual over exp(log_std); in two steps, because exp(-log_std) alone may overflow."""
    if residual == 0.0:
        return 0.0
    root = math.exp(-0.5 * log_std)
    return residual * root * root


@inline
def _gaussian(label: float, prediction: Sequence[float], scale: float, full: float, variance_floor: float) -> float:
    mean, spread = prediction[0], prediction[1]
    constant = _HALF_LOG_TWO_PI if full != 0.0 else 0.0
    is_variance = scale != 0.0
    spread = max(spread, variance_floor if is_variance else math.sqrt(variance_floor))
    if spread == 0.0:  # certain: impossible, or an infinite density, which must not count as a gain
        return math.inf if label != mean else math.nan
    z = (label - mean) / (math.sqrt(spread) if is_variance else spread)
    log_std = math.log(spread) * (0.5 if is_variance else 1.0)
    return 0.5 * z * z + log_std + constant


@inline
def _gaussian_of_log(
    label: float, prediction: Sequence[float], scale: float, full: float, variance_floor: float
) -> float:
    log_std = prediction[1] * (0.5 if scale != 0.0 else 1.0)
    if variance_floor > 0.0:
        log_std = max(log_std, 0.5 * math.log(variance_floor))
    z = _standardised(label - prediction[0], log_std)
    return 0.5 * z * z + log_std + (_HALF_LOG_TWO_PI if full != 0.0 else 0.0)


@inline
def _gaussian_is_clipped(label: float, prediction: Sequence[float], scale: float, variance_floor: float) -> bool:
    return bool(prediction[1] < (variance_floor if scale != 0.0 else math.sqrt(variance_floor)))


@inline
def _gaussian_of_log_is_clipped(label: float, prediction: Sequence[float], scale: float, variance_floor: float) -> bool:
    log_std = prediction[1] * (0.5 if scale != 0.0 else 1.0)
    return bool(variance_floor > 0.0 and log_std < 0.5 * math.log(variance_floor))


_CONSTANT = "(log(2*pi)/2 if full else 0)"
_LOG_STD = "(log_spread/2 if scale == 'variance' else log_spread)"
_MEAN = Field("mean", REALS, "the mean")
_SPREAD = Field("spread", Interval(0.0), "the standard deviation, or the variance where scale says so")
_LOG_SPREAD = Field("log_spread", REALS, "the logarithm of the standard deviation, or of the variance")

gaussian_nll = Loss(
    name="gaussian_nll",
    summary="negative log-likelihood under a predicted mean and standard deviation",
    family=_FAMILY,
    inputs=Inputs.NUMBER,
    label=REALS,
    form=Form(
        row=_gaussian,
        formula=f"((y - mean)**2/spread + log(spread))/2 + {_CONSTANT} if scale == 'variance' "
        f"else ((y - mean)/spread)**2/2 + log(spread) + {_CONSTANT}",
        prediction=(_MEAN, _SPREAD),
        clipped=_gaussian_is_clipped,
        ulps=10.0,  # of the rounded residual and root in the square
        scale="abs(loss) + 2*abs(log(spread))",  # a narrow spread has a negative logarithm
    ),
    alternatives={
        "log_input": Form(
            row=_gaussian_of_log,
            formula=f"((y - mean)/exp({_LOG_STD}))**2/2 + {_LOG_STD} + {_CONSTANT}",
            prediction=(_MEAN, _LOG_SPREAD),
            clipped=_gaussian_of_log_is_clipped,
            ulps=12.0,  # of the rounded powers in the square
            scale="abs(loss) + 2*abs(log_spread)",
        )
    },
    parameters=(
        Parameter(
            name="scale",
            meaning="what the second value is: torch passes the variance; CatBoost, with log_input, the std",
            default="std",
            domain=None,
            choices=("std", "variance"),
        ),
        Parameter(
            name="full",
            meaning="add the constant log(2 pi)/2; torch leaves it out unless told",
            default=True,
            domain=None,
        ),
    ),
    curve=Curve(convex=False, smooth=True, slope_bounded=False, symmetric=True, outlier=Outlier.POLYNOMIAL),
    also=("GaussianNLLLoss", "logs_normal", "RMSEWithUncertainty"),
    citation="D. A. Nix and A. S. Weigend, Estimating the Mean and Variance of the Target Probability Distribution, "
    "ICNN 1994; torch GaussianNLLLoss",
)


# Other location-scale distributions.


@inline
def _laplace(label: float, prediction: Sequence[float]) -> float:
    return abs(label - prediction[0]) / prediction[1] + math.log(2.0 * prediction[1])


@inline
def _logistic(label: float, prediction: Sequence[float]) -> float:
    z = abs(label - prediction[0]) / prediction[1]
    return z + 2.0 * math.log1p(math.exp(-z)) + math.log(prediction[1])


@inline
def _student_t(label: float, prediction: Sequence[float]) -> float:
    df, size, scale = prediction[0], abs(label - prediction[1]), prediction[2]
    width = 2.0 / math.sqrt(df) if df < 1e-17 else math.sqrt(df) / inverse_beta(0.5 * df)
    return 0.5 * (df + 1.0) * log_growth(size, scale, df) + math.log(width) + math.log(scale)


@inline
def _lognormal(label: float, prediction: Sequence[float]) -> float:
    log_label = math.log(label)
    z = (log_label - prediction[0]) / prediction[1]
    return 0.5 * z * z + log_label + math.log(prediction[1]) + _HALF_LOG_TWO_PI


laplace_nll = Loss(
    name="laplace_nll",
    summary="negative log-likelihood under a predicted Laplace distribution",
    family=_FAMILY,
    inputs=Inputs.NUMBER,
    label=REALS,
    form=Form(
        row=_laplace,
        formula="log(2*scale) + abs(y - location)/scale",
        prediction=(LOCATION, SCALE),
        scale="abs(loss) + 2*abs(log(2*scale))",  # a narrow scale has a negative logarithm
    ),
    curve=Curve(convex=False, smooth=False, slope_bounded=False, symmetric=True, outlier=Outlier.LINEAR),
    also=("logs_laplace",),
    citation=JORDAN,
)

logistic_nll = Loss(
    name="logistic_nll",
    summary="negative log-likelihood under a predicted logistic distribution",
    family=_FAMILY,
    inputs=Inputs.NUMBER,
    label=REALS,
    form=Form(
        row=_logistic,
        formula="log(scale) + abs(y - location)/scale + 2*log(1 + exp(-abs(y - location)/scale))",
        prediction=(LOCATION, SCALE),
        scale="abs(loss) + 2*abs(log(scale))",
    ),
    curve=Curve(convex=False, smooth=True, slope_bounded=False, symmetric=True, outlier=Outlier.LINEAR),
    also=("logs_logistic",),
    citation=JORDAN,
)

student_t_nll = Loss(
    name="student_t_nll",
    summary="negative log-likelihood under a predicted Student t distribution",
    family=_FAMILY,
    inputs=Inputs.NUMBER,
    label=REALS,
    form=Form(
        row=_student_t,
        formula="log(scale) + log(df)/2 + log(beta(1/2, df/2)) + (df + 1)/2*log(1 + ((y - location)/scale)**2/df)",
        prediction=(Field("df", POSITIVE, "the degrees of freedom"), LOCATION, SCALE),
        ulps=16.0,  # of a square of two quotients and a root
        scale="abs(loss) + 2*abs(log(scale))",
    ),
    curve=Curve(convex=False, smooth=True, slope_bounded=False, symmetric=True, outlier=Outlier.LOGARITHMIC),
    also=("logs_t",),
    citation="K. L. Lange, R. J. A. Little and J. M. G. Taylor, Robust Statistical Modeling Using the t Distribution, "
    "J. Am. Stat. Assoc. 84 (1989)",
)

lognormal_nll = Loss(
    name="lognormal_nll",
    summary="negative log-likelihood of a positive number whose logarithm is predicted by mean and std",
    family=_FAMILY,
    inputs=Inputs.NUMBER,
    label=POSITIVE,
    form=Form(
        row=_lognormal,
        formula="log(y) + log(std_log) + log(2*pi)/2 + ((log(y) - mean_log)/std_log)**2/2",
        prediction=(
            Field("mean_log", REALS, "the mean of the logarithm"),
            Field("std_log", POSITIVE, "the standard deviation of the logarithm"),
        ),
        ulps=8.0,
        # logarithms may be negative; log(y) is rounded before the mean is subtracted and the difference squared
        scale="abs(loss) + 2*abs(log(y)) + 2*abs(log(std_log)) + abs((log(y) - mean_log)*log(y))/std_log**2",
    ),
    curve=Curve(convex=False, smooth=True, slope_bounded=False, symmetric=False, outlier=Outlier.POLYNOMIAL),
    also=("logs_lognormal",),
    citation=JORDAN,
)


# Positive numbers and counts.


@inline
def _exponential(label: float, prediction: Sequence[float]) -> float:
    return prediction[0] * label - math.log(prediction[0])


@inline
def _gamma(label: float, prediction: Sequence[float]) -> float:
    shape, rate = prediction[0], prediction[1]
    product, log_label = rate * label, math.log(label)
    if product < _SMALLEST_NORMAL:  # lost its digits, but is nothing beside a shape that has any
        excess = shape * (math.log(shape) - math.log(rate) - log_label) - shape
    else:
        excess = half_deviance(shape, product)
    return excess + log_label + 0.5 * (_LOG_TWO_PI - math.log(shape)) + stirling_error(shape)


@inline
def _minus_log_probability(count: float, n: float, prob: float) -> float:
    """Minus the logarithm of the probability of a count, from terms that are all small where it is likely."""
    if count == 0.0:
        return -n * math.log(prob)
    if prob == 1.0:
        return math.inf
    total = n + count
    lift = _SAFE if prob < 1e-290 else 1.0
    excess = half_deviance(lift * n, lift * total * prob) / lift + half_deviance(count, total * (1.0 - prob))
    stirling = stirling_error(count) + stirling_error(n) - stirling_error(total)
    log_trials = math.log1p(count / n) if count / n < math.inf else math.log(count) - math.log(n)
    return excess + stirling + 0.5 * (_LOG_TWO_PI + math.log(count) + log_trials)


@inline
def _negative_binomial(label: float, prediction: Sequence[float]) -> float:
    if label != np.floor(label):
        return math.inf
    loss = _minus_log_probability(label, prediction[0], prediction[1])
    return max(loss, 0.0)  # a certain row may round below 0; NaN stays NaN in this order of arguments


exponential_nll = Loss(
    name="exponential_nll",
    summary="negative log-likelihood of a waiting time under a predicted rate",
    family=_FAMILY,
    inputs=Inputs.NUMBER,
    label=Interval(0.0),
    form=Form(
        row=_exponential,
        formula="rate*y - log(rate)",
        prediction=(RATE,),
        scale="rate*y + abs(log(rate))",  # the two cancel
    ),
    curve=Curve(convex=True, smooth=True, slope_bounded=False, symmetric=False, outlier=Outlier.LINEAR),
    also=("logs_exponential",),
    citation=JORDAN,
)

gamma_nll = Loss(
    name="gamma_nll",
    summary="negative log-likelihood of a positive number under a predicted gamma distribution",
    family=_FAMILY,
    inputs=Inputs.NUMBER,
    label=POSITIVE,
    form=Form(
        row=_gamma,
        formula="rate*y - (shape - 1)*log(y) - shape*log(rate) + log_gamma(shape)",
        prediction=(SHAPE, RATE),
        ulps=8.0,
        # logarithms may be negative, and the rounding of rate*y is felt in proportion to its distance from the shape
        scale="abs(loss) + 2*abs(log(y)) + 2*abs(log(shape)) + abs(rate*y - shape) + 1",
    ),
    curve=Curve(convex=True, smooth=True, slope_bounded=False, symmetric=False, outlier=Outlier.LINEAR),
    also=("logs_gamma",),
    citation=JORDAN,
)

negative_binomial_nll = Loss(
    name="negative_binomial_nll",
    summary="negative log-likelihood of a count of failures; infinite for a label that is no integer",
    family=_FAMILY,
    inputs=Inputs.NUMBER,
    label=Interval(0.0),
    form=Form(
        row=_negative_binomial,
        formula="log_gamma(n) + log_gamma(y + 1) - log_gamma(n + y) - n*log(prob) - xlogy(y, 1 - prob) "
        "if y == floor(y) else -log(0)",
        prediction=(SUCCESSES, SUCCESS),
        ulps=8.0,
        # the mean number of failures is rounded, which is felt in proportion to its distance from the label
        scale="loss + abs(n*(1 - prob) - y*prob) + abs(log(n)) + log(1 + y)",
    ),
    curve=Curve(convex=False, smooth=True, slope_bounded=False, symmetric=False, outlier=Outlier.INFINITE),
    also=("logs_negbinom", "nbinom"),
    citation=JORDAN,
)
