"""Losses of a difference between prediction and label."""

from __future__ import annotations

import math

from lossops.kernels.elementary import pick
from lossops.kernels.jit import inline
from lossops.kernels.special import log1p_minus, log_cosh
from lossops.losses.declaration import POSITIVE, REALS, Curve, Form, Inputs, Interval, Loss, Outlier, Parameter

__all__: list[str] = []

_FAMILY = "regression: differences"
_LIKE_THE_ABSOLUTE = Curve(convex=True, smooth=True, slope_bounded=True, symmetric=True, outlier=Outlier.LINEAR)


@inline
def _absolute(label: float, prediction: float) -> float:
    return abs(prediction - label)


@inline
def _squared(label: float, prediction: float) -> float:
    residual = prediction - label
    return residual * residual


@inline
def _huber(label: float, prediction: float, delta: float) -> float:
    size = abs(prediction - label)
    return 0.5 * size * size if size <= delta else delta * (size - 0.5 * delta)


@inline
def _smooth_l1(label: float, prediction: float, beta: float) -> float:
    size = abs(prediction - label)
    return 0.5 * size * (size / beta) if size < beta else size - 0.5 * beta


@inline
def _pseudo_huber(label: float, prediction: float, delta: float) -> float:
    size = abs(prediction - label)
    if size < delta:
        ratio = size / delta
        return size * size / (1.0 + math.sqrt(1.0 + ratio * ratio))
    ratio = delta / size if size > 0.0 else 0.0
    return delta * (size / (ratio + math.sqrt(1.0 + ratio * ratio)))


@inline
def _fair(label: float, prediction: float, c: float) -> float:
    size = abs(prediction - label)
    ratio = size / c
    # Where its square would underflow; the next term of the series is below rounding.
    return pick(ratio < 1e-16, 0.5 * size * size, c * (c * log1p_minus(ratio)))


@inline
def _log_cosh(label: float, prediction: float) -> float:
    return log_cosh(prediction - label)


@inline
def _power(label: float, prediction: float, q: float) -> float:
    return math.pow(abs(prediction - label), q)


mean_absolute_error = Loss(
    name="mean_absolute_error",
    summary="absolute difference",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=REALS,
    form=Form(row=_absolute, formula="abs(p - y)", prediction=REALS),
    curve=Curve(convex=True, smooth=False, slope_bounded=True, symmetric=True, outlier=Outlier.LINEAR),
    also=("mae", "L1Loss"),
    citation="Keras MeanAbsoluteError, scikit-learn mean_absolute_error, torch L1Loss",
)

mean_squared_error = Loss(
    name="mean_squared_error",
    summary="squared difference, without the factor 1/2",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=REALS,
    form=Form(row=_squared, formula="(p - y)**2", prediction=REALS),
    curve=Curve(convex=True, smooth=True, slope_bounded=False, symmetric=True, outlier=Outlier.POLYNOMIAL),
    also=("mse", "l2", "MSELoss"),
    citation="Keras MeanSquaredError, scikit-learn mean_squared_error, torch MSELoss",
)

huber = Loss(
    name="huber",
    summary="squared near zero, linear beyond delta",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=REALS,
    form=Form(
        row=_huber,
        formula="(p - y)**2/2 if abs(p - y) <= delta else delta*abs(p - y) - delta**2/2",
        prediction=REALS,
    ),
    parameters=(
        Parameter(
            name="delta",
            meaning="where the square turns into a line, in units of the label",
            default=1.0,
            domain=POSITIVE,
        ),
    ),
    curve=_LIKE_THE_ABSOLUTE,
    also=("HuberLoss",),
    citation="P. J. Huber, Robust Estimation of a Location Parameter, Ann. Math. Statist. 35 (1964); Keras Huber",
)

smooth_l1 = Loss(
    name="smooth_l1",
    summary="huber divided by its threshold: slope 1 beyond beta; beta 0 is the absolute difference",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=REALS,
    form=Form(
        row=_smooth_l1,
        formula="(p - y)**2/(2*beta) if abs(p - y) < beta else abs(p - y) - beta/2",
        prediction=REALS,
    ),
    parameters=(
        Parameter(
            name="beta",
            meaning="where the square turns into a line, in units of the label",
            default=1.0,
            domain=Interval(0.0),
        ),
    ),
    curve=_LIKE_THE_ABSOLUTE,
    also=("SmoothL1Loss",),
    citation="R. Girshick, Fast R-CNN, ICCV 2015; torch SmoothL1Loss",
)

pseudo_huber = Loss(
    name="pseudo_huber",
    summary="smooth all over: half the square near zero, a line of slope delta far away",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=REALS,
    form=Form(
        row=_pseudo_huber,
        formula="delta**2*(sqrt(1 + ((p - y)/delta)**2) - 1)",
        prediction=REALS,
        ulps=6.0,  # the root rounds twice more than a product
    ),
    parameters=(
        Parameter(
            name="delta",
            meaning="where the square turns into a line, in units of the label",
            default=1.0,
            domain=POSITIVE,
        ),
    ),
    curve=_LIKE_THE_ABSOLUTE,
    also=("mphe", "huber_slope", "PseudoHuberLoss", "Charbonnier"),
    citation="P. Charbonnier et al., Two Deterministic Half-Quadratic Regularization Algorithms (1994); XGBoost mphe",
)

fair = Loss(
    name="fair",
    summary="half the square near zero, then c times the absolute difference less a logarithm",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=REALS,
    form=Form(
        row=_fair,
        formula="c**2*(abs(p - y)/c - log(1 + abs(p - y)/c))",
        prediction=REALS,
        ulps=8.0,  # near zero a square of a rounded difference and quotient
    ),
    parameters=(
        Parameter(
            name="c",
            meaning="where the square turns into a line, in units of the label",
            default=1.0,
            domain=POSITIVE,
        ),
    ),
    curve=_LIKE_THE_ABSOLUTE,
    also=("FairLoss", "fair_c"),
    citation="R. C. Fair, Robust Estimation of Econometric Models, Ann. Econ. Soc. Meas. 3 (1974); LightGBM fair",
)

log_cosh_error = Loss(
    name="log_cosh",
    summary="logarithm of the hyperbolic cosine of the difference: half the square near zero, a line far away",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=REALS,
    form=Form(
        row=_log_cosh,
        formula="log(cosh(p - y))",
        prediction=REALS,
        ulps=6.0,  # the rounded difference counts twice where the loss is its square
    ),
    curve=_LIKE_THE_ABSOLUTE,
    also=("LogCosh", "log_cosh_error"),
    citation="Keras LogCosh, optax log_cosh",
)

lq_loss = Loss(
    name="lq_loss",
    summary="absolute difference to the power q",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=REALS,
    form=Form(
        row=_power,
        formula="abs(p - y)**q",
        prediction=REALS,
        scale="loss*q",  # the power multiplies the rounding of the difference
    ),
    parameters=(
        Parameter(
            name="q",
            meaning="the power: 1 is the absolute, 2 the squared difference",
            default=2.0,
            domain=Interval(1.0),
        ),
    ),
    curve=Curve(convex=True, smooth=True, slope_bounded=False, symmetric=True, outlier=Outlier.POLYNOMIAL),
    also=("Lq", "lp_loss", "minkowski"),
    citation="CatBoost Lq",
)
