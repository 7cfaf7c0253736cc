"""Losses that a quantile or an expectile of the label minimises."""

from __future__ import annotations

from typing import Any

from lossops.kernels.jit import inline
from lossops.losses.declaration import REALS, UNIT, Curve, Form, Inputs, Loss, Outlier, Parameter

__all__ = ["LEVELS", "pinball_of"]

_FAMILY = "regression: quantiles"

LEVELS = Parameter(
    name="levels",
    meaning="the level of each predicted quantile, in the order of the prediction",
    default=None,
    domain=UNIT,
    count=lambda width: width,
    increasing=True,
    required=True,
)


@inline
def pinball_of(label: float, quantile: float, level: float) -> float:
    """What one predicted quantile costs: ``level`` for each unit too low, ``1 - level`` for each unit too high."""
    gap = label - quantile
    return level * gap if gap >= 0.0 else (1.0 - level) * -gap


@inline
def _pinball(label: float, prediction: float, alpha: float) -> float:
    return pinball_of(label, prediction, alpha)


@inline
def _mean_pinball(label: float, prediction: Any, levels: Any) -> float:
    total = 0.0
    for j in range(len(prediction)):
        total += pinball_of(label, prediction[j], levels[j])
    return total / len(prediction)


@inline
def _crosses(label: float, prediction: Any) -> float:
    for j in range(1, prediction.shape[0]):
        if prediction[j] < prediction[j - 1]:
            return 1.0
    return 0.0


@inline
def _expectile(label: float, prediction: float, alpha: float) -> float:
    residual = prediction - label
    weight = 1.0 - alpha if label <= prediction else alpha
    return weight * (residual * residual)


pinball = Loss(
    name="pinball",
    summary="alpha for each unit that the prediction is too low, 1 - alpha for each unit too high",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=REALS,
    form=Form(row=_pinball, formula="max(alpha*(y - p), (alpha - 1)*(y - p))", prediction=REALS),
    parameters=(Parameter(name="alpha", meaning="level of the predicted quantile", default=0.5, domain=UNIT),),
    curve=Curve(convex=True, smooth=False, slope_bounded=True, symmetric=True, outlier=Outlier.LINEAR),
    also=("quantile_loss", "mean_pinball_loss", "quantile", "Quantile", "quantile_score", "check_loss", "tilted_loss"),
    citation="R. Koenker and G. Bassett, Regression Quantiles, Econometrica 46 (1978); scikit-learn mean_pinball_loss",
)

pinball_set = Loss(
    name="pinball_set",
    summary="mean of the pinball losses of several predicted quantiles; half the CRPS of their step function",
    family=_FAMILY,
    inputs=Inputs.NUMBER,
    label=REALS,
    form=Form(
        row=_mean_pinball,
        formula="sum(max(a*(y - q), (a - 1)*(y - q)) for a, q in zip(levels, p))/len(p)",
        prediction=REALS,
        ulps_per_value=1.0,
    ),
    parameters=(LEVELS,),
    # Errors to both sides cost the same only where the levels lie symmetrically about 1/2.
    curve=Curve(convex=True, smooth=False, slope_bounded=True, symmetric=False, outlier=Outlier.LINEAR),
    also=("quantile_alpha", "MultiQuantile", "mean_weighted_quantile_loss"),
    citation="XGBoost quantile with several levels; T. Gneiting and A. E. Raftery, J. Amer. Statist. Assoc. 102 (2007)",
)

quantile_crossing = Loss(
    name="quantile_crossing",
    summary="1 where a predicted quantile is below that of a lower level, so that the mean is the share of such rows",
    family=_FAMILY,
    inputs=Inputs.NUMBER,
    label=REALS,
    form=Form(
        row=_crosses,
        formula="1 if any(p[i + 1] < p[i] for i in range(len(p) - 1)) else 0",
        prediction=REALS,
    ),
    # Turning the line of labels around, and with it the order of the quantiles, changes nothing.
    curve=Curve(convex=False, smooth=False, slope_bounded=False, symmetric=True, outlier=Outlier.BOUNDED),
    also=("crossing_rate", "quantile_crossing_rate"),
    citation="V. Chernozhukov et al., Quantile and Probability Curves Without Crossing, Econometrica 78 (2010)",
)

expectile = Loss(
    name="expectile",
    summary="squared difference, times alpha where the prediction is too low and 1 - alpha where it is not",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=REALS,
    form=Form(
        row=_expectile,
        formula="abs(alpha - (1 if y <= p else 0))*(p - y)**2",
        prediction=REALS,
        ulps=5.0,  # five roundings: the difference twice, its square, the weight, the product
    ),
    parameters=(Parameter(name="alpha", meaning="level of the predicted expectile", default=0.5, domain=UNIT),),
    curve=Curve(convex=True, smooth=True, slope_bounded=False, symmetric=True, outlier=Outlier.POLYNOMIAL),
    also=("Expectile", "asymmetric_squared_error"),
    citation="W. K. Newey and J. L. Powell, Asymmetric Least Squares Estimation and Testing, Econometrica 55 (1987); "
    "XGBoost expectile",
)
