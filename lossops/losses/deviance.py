"""Deviances and likelihoods of a mean: Poisson, gamma and Tweedie.

A deviance is twice the likelihood that a prediction loses against the perfect one, so it is 0 there and nowhere below.
"""

from __future__ import annotations

import math

import numpy as np

from lossops.kernels.jit import inline
from lossops.kernels.special import log1p_minus, log_gamma, relative_expm1
from lossops.losses.declaration import POSITIVE, REALS, Curve, Form, Inputs, Interval, Loss, Outlier, Parameter

__all__: list[str] = []

_DEVIANCES = "regression: deviances"
_LIKELIHOODS = "regression: likelihoods"
_SMALLEST = 2.3e-308  # numbers below are rounded to fewer digits
_NOT_NEGATIVE = Interval(0.0)
# A mean of 0 rules out every positive label, and all of these become infinite on the way there.
_CONVEX = Curve(convex=True, smooth=True, slope_bounded=False, symmetric=False, outlier=Outlier.INFINITE)
_NOT_CONVEX = Curve(convex=False, smooth=True, slope_bounded=False, symmetric=False, outlier=Outlier.INFINITE)


@inline
def _log_ratio(a: float, b: float) -> float:
    """log(a/b), to full precision where a is near b and where a/b leaves the range of numbers."""
    ratio = a / b
    if 0.5 < ratio < 2.0:
        return math.log1p((a - b) / b)  # the difference of numbers this close is exact
    if 1e-300 < ratio < 1e300:
        return math.log(ratio)
    return math.log(a) - math.log(b)


@inline
def _excess(a: float, b: float) -> float:
    """a/b - 1 - log(a/b), which is never negative."""
    u = (a - b) / b
    return log1p_minus(u) if u > -0.75 else u - _log_ratio(a, b)


@inline
def _second_order(a: float, r: float) -> float:
    """(exp(a r) - 1 - a r)/a: of the order of a r^2/2 near 0, and 0 for a = 0."""
    x = a * r
    if x == 0.0:
        return 0.0
    if abs(x) > 0.5:
        return (math.expm1(x) - x) / a
    series = 1.0
    for k in range(15, 2, -1):
        series = 1.0 + series * x / k
    return 0.5 * x * r * series


@inline
def _poisson_deviance(label: float, prediction: float) -> float:
    if label <= 1e-20 * prediction:  # the terms of the label are below rounding; log(0) is not asked for
        return 2.0 * prediction
    return 2.0 * label * _excess(prediction, label)


@inline
def _gamma_deviance(label: float, prediction: float, gamma_label_epsilon: float, gamma_mean_epsilon: float) -> float:
    return 2.0 * _excess(label + gamma_label_epsilon, prediction + gamma_mean_epsilon)


@inline
def _log_factorial(label: float, full: float, stirling: float) -> float:
    """log(label!) where the full likelihood is asked for."""
    if full == 0.0:
        return 0.0
    if stirling == 0.0:
        return log_gamma(label + 1.0)
    return label * math.log(label) - label + 0.5 * math.log(2.0 * math.pi * label) if label > 1.0 else 0.0


@inline
def _impossible(label: float, counts_only: float) -> bool:
    return counts_only != 0.0 and label != np.floor(label)


@inline
def _poisson_likelihood(
    label: float,
    prediction: float,
    full: float,
    counts_only: float,
    poisson_log_epsilon: float,
    mean_floor: float,
    stirling: float,
) -> float:
    if _impossible(label, counts_only):
        return math.inf
    mean = max(prediction, mean_floor)
    loss = mean + _log_factorial(label, full, stirling)
    if label == 0.0:  # 0 log 0 = 0
        return loss
    return loss - label * math.log(mean + poisson_log_epsilon) if mean + poisson_log_epsilon > 0.0 else math.inf


@inline
def _poisson_likelihood_of_log(
    label: float, prediction: float, full: float, counts_only: float, stirling: float
) -> float:
    if _impossible(label, counts_only):
        return math.inf
    return math.exp(prediction) - label * prediction + _log_factorial(label, full, stirling)


@inline
def _below_poisson_floor(label: float, prediction: float, mean_floor: float) -> bool:
    return prediction < mean_floor


@inline
def _label_times_power(label: float, mean: float, a: float, of_mean: float) -> float:
    """Return label * mean^a, given mean^(1 + a), where one factor may leave the range of numbers."""
    if label == 0.0:
        return 0.0
    if a > -0.5:
        return label * math.pow(mean, a)
    quotient = label / mean
    if _SMALLEST < quotient < math.inf and _SMALLEST < of_mean < math.inf:
        return quotient * of_mean
    power = math.pow(mean, a)
    return label * power if _SMALLEST < power < math.inf else math.exp(math.log(label) + a * math.log(mean))


@inline
def _tweedie_deviance(label: float, prediction: float, power: float) -> float:
    a, b = 1.0 - power, 2.0 - power
    if label == prediction:
        return 0.0
    if power == 0.0:
        return (prediction - label) * (prediction - label)
    of_prediction = math.pow(prediction, b)
    if label == 0.0:
        return 2.0 * of_prediction / b
    if label < 0.0:
        return 2.0 * math.pow(prediction, a) * (prediction / b - label / a)
    # With r = log(prediction/label) and E(a) = (exp(a r) - 1)/a the deviance is 2 label^b (E(b) - E(a)).
    r, of_label = _log_ratio(prediction, label), math.pow(label, b)
    if abs(r) * max(abs(a), abs(b), 1.0) < 1.0:  # without the r that both E begin with, little or nothing cancels
        return 2.0 * of_label * (_second_order(b, r) - _second_order(a, r))
    # Powers of both numbers instead of exp(a r), which may leave the range of numbers where their product does not.
    upper = (of_prediction - of_label) / b if abs(b * r) > 1.0 else of_label * relative_expm1(b, r)
    mixed = _label_times_power(label, prediction, a, of_prediction)
    lower = (mixed - of_label) / a if abs(a * r) > 1.0 else of_label * relative_expm1(a, r)
    loss = 2.0 * (upper - lower)
    return math.inf if math.isnan(loss) else loss  # a difference of two infinities


@inline
def _tweedie_likelihood(label: float, prediction: float, power: float, tweedie_mean_floor: float) -> float:
    a, b = 1.0 - power, 2.0 - power
    mean = max(prediction, tweedie_mean_floor)
    of_mean = math.pow(mean, b)
    return of_mean / b - _label_times_power(label, mean, a, of_mean) / a


@inline
def _below_tweedie_floor(label: float, prediction: float, tweedie_mean_floor: float) -> bool:
    return prediction < tweedie_mean_floor


@inline
def _gamma_likelihood(label: float, prediction: float, gamma_mean_floor: float) -> float:
    mean = max(prediction, gamma_mean_floor)
    return label / mean + math.log(mean)


@inline
def _below_gamma_floor(label: float, prediction: float, gamma_mean_floor: float) -> bool:
    return prediction < gamma_mean_floor


def _gamma_labels(gamma_label_epsilon: float) -> Interval:
    return Interval(0.0, low_open=gamma_label_epsilon == 0.0)


def _gamma_means(gamma_mean_epsilon: float) -> Interval:
    return Interval(0.0, low_open=gamma_mean_epsilon == 0.0)


def _tweedie_labels(power: float) -> Interval:
    return REALS if power <= 0.0 else Interval(0.0, low_open=power >= 2.0)


def _tweedie_means(power: float) -> Interval:
    return REALS if power == 0.0 else POSITIVE


_POISSON_DEVIANCE = "2*(xlogy(y, y/p) - y + p)"
_GAMMA_DEVIANCE = "2*(log(p/y) + y/p - 1)"
_POWER = "((1 - power)*(2 - power))"
_TWEEDIE_DEVIANCE = (
    f"2*((y**(2 - power)/{_POWER} if y > 0 else 0) - y*p**(1 - power)/(1 - power) + p**(2 - power)/(2 - power))"
)
# Rounding of 1 - power and 2 - power is multiplied by the logarithms; outside [1, 2] terms of both signs are left.
_TWEEDIE_SCALE = "loss if power == 0 else loss*(1 + abs(power))*(1 + abs(log(p)) + (abs(log(y)) if y > 0 else 0))"

poisson_deviance = Loss(
    name="poisson_deviance",
    summary="deviance of a Poisson mean: 0 for the perfect prediction, linear in a mean that is too large",
    family=_DEVIANCES,
    inputs=Inputs.ELEMENTS,
    label=_NOT_NEGATIVE,
    form=Form(
        row=_poisson_deviance,
        formula=_POISSON_DEVIANCE,
        prediction=POSITIVE,
        ulps=12.0,  # the rounded quotient is squared near the perfect prediction
    ),
    curve=_CONVEX,
    also=("mean_poisson_deviance", "d2_tweedie_score"),
    citation="P. McCullagh and J. A. Nelder, Generalized Linear Models (1989); scikit-learn mean_poisson_deviance",
)

poisson_nll = Loss(
    name="poisson_nll",
    summary="negative log-likelihood of a Poisson mean, without log(y!) unless full",
    family=_LIKELIHOODS,
    inputs=Inputs.ELEMENTS,
    label=_NOT_NEGATIVE,
    form=Form(
        row=_poisson_likelihood,
        formula="-log(0) if counts_only and y != floor(y) else p - xlogy(y, p) + (log_gamma(y + 1) if full else 0)",
        prediction=_NOT_NEGATIVE,
        clipped=_below_poisson_floor,
        # Terms of both signs; log_gamma sees y + 1 rounded.
        scale="p + abs(xlogy(y, p)) + ((1 + y)*log(2 + y) if full else 0)",
    ),
    alternatives={
        "log_input": Form(
            row=_poisson_likelihood_of_log,
            formula="-log(0) if counts_only and y != floor(y) else exp(p) - y*p + (log_gamma(y + 1) if full else 0)",
            prediction=REALS,
            scale="exp(p) + abs(y*p) + ((1 + y)*log(2 + y) if full else 0)",
        )
    },
    parameters=(
        Parameter(
            name="full",
            meaning="add log(y!), so that the loss is the whole likelihood",
            default=False,
            domain=None,
        ),
        Parameter(
            name="counts_only",
            meaning="a label that is no integer loses infinity, as an impossible count does under the log score",
            default=False,
            domain=None,
        ),
    ),
    curve=_CONVEX,
    also=("Poisson", "PoissonNLLLoss", "poisson-nloglik", "poisson", "logs_poisson", "poisson_loss"),
    citation="Keras Poisson, torch PoissonNLLLoss, XGBoost poisson-nloglik",
)

gamma_deviance = Loss(
    name="gamma_deviance",
    summary="deviance of a gamma mean: depends on the quotient of label and prediction alone",
    family=_DEVIANCES,
    inputs=Inputs.ELEMENTS,
    label=_NOT_NEGATIVE,
    label_of=_gamma_labels,
    form=Form(
        row=_gamma_deviance,
        formula=_GAMMA_DEVIANCE,
        prediction=_NOT_NEGATIVE,
        prediction_of=_gamma_means,
        ulps=12.0,  # as poisson_deviance
    ),
    curve=_NOT_CONVEX,
    also=("mean_gamma_deviance", "gamma-deviance"),
    citation="P. McCullagh and J. A. Nelder, Generalized Linear Models (1989); scikit-learn mean_gamma_deviance",
)

gamma_nll_of_mean = Loss(
    name="gamma_nll_of_mean",
    summary="negative log-likelihood of a gamma mean with shape 1, up to terms of the label alone",
    family=_LIKELIHOODS,
    inputs=Inputs.ELEMENTS,
    label=_NOT_NEGATIVE,
    form=Form(
        row=_gamma_likelihood,
        formula="y/p + log(p)",
        prediction=POSITIVE,
        clipped=_below_gamma_floor,
        scale="y/p + abs(log(p))",  # the logarithm of a mean below 1 is negative
    ),
    curve=_NOT_CONVEX,
    also=("gamma-nloglik", "gamma"),
    citation="XGBoost gamma-nloglik, LightGBM gamma",
)

tweedie_deviance = Loss(
    name="tweedie_deviance",
    summary="deviance of a mean whose variance grows like its power: 0 normal, 1 Poisson, 2 gamma, 3 inverse Gaussian",
    family=_DEVIANCES,
    inputs=Inputs.ELEMENTS,
    label=REALS,
    label_of=_tweedie_labels,
    form=Form(
        row=_tweedie_deviance,
        formula=f"0 if y == p else (y - p)**2 if power == 0 else {_POISSON_DEVIANCE} if power == 1 else"
        f" {_GAMMA_DEVIANCE} if power == 2 else {_TWEEDIE_DEVIANCE}",
        prediction=REALS,
        prediction_of=_tweedie_means,
        ulps=16.0,
        scale=_TWEEDIE_SCALE,
    ),
    parameters=(
        Parameter(
            name="power",
            meaning="p of the variance mean^p; labels may be 0 below 2, and negative up to 0",
            default=1.5,
            excluded=Interval(0.0, 1.0, low_open=True, high_open=True),
        ),
    ),
    curve=_NOT_CONVEX,
    also=("mean_tweedie_deviance", "tweedie_deviance_score", "d2_tweedie_score"),
    citation="B. Jorgensen, Exponential Dispersion Models, J. R. Statist. Soc. B 49 (1987); scikit-learn "
    "mean_tweedie_deviance",
)

tweedie_nll = Loss(
    name="tweedie_nll",
    summary="negative log-likelihood of a Tweedie mean, up to terms of the label alone; not 0 at best",
    family=_LIKELIHOODS,
    inputs=Inputs.ELEMENTS,
    label=_NOT_NEGATIVE,
    form=Form(
        row=_tweedie_likelihood,
        formula="-y*p**(1 - power)/(1 - power) + p**(2 - power)/(2 - power)",
        prediction=POSITIVE,
        clipped=_below_tweedie_floor,
        ulps=8.0,  # a quotient, two powers, a product and two differences, and the mean of a row
    ),
    parameters=(
        Parameter(
            name="power",
            meaning="p of the variance mean^p",
            default=1.5,
            domain=Interval(1.0, 2.0, low_open=True, high_open=True),
        ),
    ),
    curve=_NOT_CONVEX,
    also=("tweedie-nloglik", "tweedie", "Tweedie"),
    citation="XGBoost tweedie-nloglik, LightGBM tweedie",
)
