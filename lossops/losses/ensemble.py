"""Scores of forecasts that are an ensemble of members, a set of quantiles, or intervals; all in the label's unit."""

from __future__ import annotations

from typing import Any

import numpy as np

from lossops.kernels.jit import inline
from lossops.losses.declaration import REALS, Curve, Field, Form, Inputs, Interval, Loss, Outlier, Parameter
from lossops.losses.embedding import distance

__all__: list[str] = []

_FAMILY = "distributions: forecasts"
_INNER = Interval(0.0, 1.0, low_open=True, high_open=True)


@inline
def _chances(member_weights: Any, prediction: Any) -> Any:
    """The weights of the members in increasing order, by the largest: exactly 1 where all are equal."""
    if member_weights.shape[0] == 0:
        return np.ones(prediction.shape[0])
    return member_weights[np.argsort(prediction)] / member_weights.max()


@inline
def _sums(weights: Any) -> tuple[float, float, float]:
    """Return the sum s of weights, their squares by s, and the products of two members' weights by s.

    The last two add up to s; the products are 0 where only one member counts.
    """
    total = squares = products = 0.0
    for j in range(weights.shape[0]):
        squares += weights[j] * weights[j]
        products += 2.0 * weights[j] * total
        total += weights[j]
    return total, squares / total, products / total


@inline
def _crps_ensemble(label: float, prediction: Any, estimator: float, member_weights: Any) -> float:
    """The integral of (F(x) - 1[y <= x])^2 over the gaps between members, from both ends up to the label.

    Where members of weight a, of s in all, are further out than a gap, the square is a a / (s s). The fair estimator
    has a (a - q) / (s (s - q)) there, q being the squares by s: 1 for equal weights, so that no term is negative.
    """
    members = np.sort(prediction)
    weights = _chances(member_weights, prediction)
    count = members.shape[0]
    total, own, rest = _sums(weights)
    if estimator == 0.0 or rest == 0.0:
        own, rest = 0.0, total
    loss = below = above = 0.0
    for j in range(count):
        if members[j] >= label:
            break
        below += weights[j]
        end = min(members[j + 1], label) if j + 1 < count else label
        loss += (end - members[j]) * (below / total) * ((below - own) / rest)
    for j in range(count - 1, -1, -1):
        if members[j] <= label:
            break
        above += weights[j]
        start = max(members[j - 1], label) if j > 0 else label
        loss += (members[j] - start) * (above / total) * ((above - own) / rest)
    return loss


@inline
def _crps_quantile(label: float, prediction: Any, levels: Any) -> float:
    loss = 0.0
    for j in range(prediction.shape[0]):
        below = label - prediction[j]
        loss += levels[j] * below if below >= 0.0 else (levels[j] - 1.0) * below
    return 2.0 * float(loss / prediction.shape[0])


@inline
def _outside(label: float, lower: float, upper: float) -> float:
    """How far a label misses an interval; both ways where the bounds are crossed."""
    return max(lower - label, 0.0) + max(label - upper, 0.0)


@inline
def _interval_score(label: float, prediction: Any, alpha: float) -> float:
    return float(prediction[1] - prediction[0]) + 2.0 * (_outside(label, prediction[0], prediction[1]) / alpha)


@inline
def _weighted_interval_score(label: float, prediction: Any, alphas: Any) -> float:
    loss = 0.5 * abs(label - prediction[0])
    for k in range(alphas.shape[0]):
        lower, upper = prediction[2 * k + 1], prediction[2 * k + 2]
        loss += 0.5 * alphas[k] * (upper - lower) + _outside(label, lower, upper)
    return float(loss / (alphas.shape[0] + 0.5))


@inline
def _energy_score(label: Any, prediction: Any, estimator: float) -> float:
    size = label.shape[0]
    count = prediction.shape[0] // size
    error = spread = 0.0
    for i in range(count):
        member = prediction[i * size : (i + 1) * size]
        error += distance(member, label, 0.0)
        between = 0.0  # a sum of its own loses less to rounding
        for j in range(i):
            between += distance(member, prediction[j * size : (j + 1) * size], 0.0)
        spread += between
    others = count if estimator == 0.0 else max(count - 1, 1)
    return max(float(error / count - spread / count / others), 0.0)


_ESTIMATOR = Parameter(
    name="estimator",
    meaning="nrg: of the ensemble as it is (also called qd, int, empirical); fair: unbiased for the distribution that "
    "the members are drawn from (also called pwm); of a single member both are its distance",
    default="nrg",
    domain=None,
    choices=("nrg", "fair"),
)
_SCORE = Curve(convex=False, smooth=False, slope_bounded=True, symmetric=True, outlier=Outlier.LINEAR)
_QUANTILES = Curve(convex=True, smooth=False, slope_bounded=True, symmetric=True, outlier=Outlier.LINEAR)
_W = "(member_weights or [1]*len(p))"
_SPREAD = f"sum(v*w*abs(a - b) for a, v in zip(p, {_W}) for b, w in zip(p, {_W}))/sum({_W})**2/2"
_OWN = f"(sum(w**2 for w in {_W})/sum({_W})**2)"
_ERROR = f"sum(w*abs(q - y) for q, w in zip(p, {_W}))/sum({_W})"

crps_ensemble = Loss(
    name="crps_ensemble",
    summary="continuous ranked probability score of an ensemble: mean distance of the members from the label, less "
    "half their mean distance from each other",
    family=_FAMILY,
    inputs=Inputs.NUMBER,
    label=REALS,
    form=Form(
        row=_crps_ensemble,
        formula=f"{_ERROR} - {_SPREAD}/(1 - {_OWN} if estimator == 'fair' and {_OWN} < 1 else 1)",
        prediction=REALS,
        ulps=8.0,
        ulps_per_value=3.0,
        # With unequal weights the correction of the fair estimator is of either sign.
        scale=f"{_ERROR}/(1 - {_OWN}) if estimator == 'fair' and member_weights and {_OWN} < 1 else loss",
    ),
    parameters=(
        _ESTIMATOR,
        Parameter(
            name="member_weights",
            meaning="weights of the members, divided by their sum",
            default=None,
            domain=Interval(0.0),
            count=lambda width: width,
        ),
    ),
    curve=_SCORE,
    also=("crps", "crps_ensemble", "CRPS", "continuous ranked probability score"),
    citation="T. Gneiting, A. E. Raftery, Strictly Proper Scoring Rules, J. Amer. Statist. Assoc. 102 (2007); fair: "
    "C. A. T. Ferro, Q. J. R. Meteorol. Soc. 140 (2014); scoringrules, properscoring",
)

crps_quantile = Loss(
    name="crps_quantile",
    summary="continuous ranked probability score approximated by quantiles: twice their mean pinball loss",
    family=_FAMILY,
    inputs=Inputs.NUMBER,
    label=REALS,
    form=Form(
        row=_crps_quantile,
        formula="2*sum(max(a*(y - q), (a - 1)*(y - q)) for a, q in zip(levels, p))/len(p)",
        prediction=REALS,
        ulps_per_value=1.0,
    ),
    parameters=(
        Parameter(
            name="levels",
            meaning="the level of each predicted quantile",
            default=None,
            domain=_INNER,
            count=lambda width: width,
            required=True,
        ),
    ),
    # Not symmetric: the levels need not be so around 1/2.
    curve=Curve(convex=True, smooth=False, slope_bounded=True, symmetric=False, outlier=Outlier.LINEAR),
    also=("crps_quantile", "quantile score"),
    citation="J. Berrisch, F. Ziel, CRPS learning, J. Econometrics 237 (2023); scoringrules crps_quantile",
)

interval_score = Loss(
    name="interval_score",
    summary="width of a central interval, and 2/alpha times how far the label is outside; Winkler's score",
    family=_FAMILY,
    inputs=Inputs.NUMBER,
    label=REALS,
    form=Form(
        row=_interval_score,
        formula="upper - lower + 2/alpha*max(lower - y, 0) + 2/alpha*max(y - upper, 0)",
        prediction=(
            Field("lower", REALS, "quantile of level alpha/2"),
            Field("upper", REALS, "quantile of level 1 - alpha/2"),
        ),
        ulps=8.0,  # crossed bounds subtract up to half of what they add
    ),
    parameters=(
        Parameter(
            name="alpha",
            meaning="share of labels expected outside the interval",
            default=0.1,
            domain=_INNER,
        ),
    ),
    curve=_QUANTILES,
    also=("interval_score", "Winkler score", "mean interval score"),
    citation="R. L. Winkler, A decision-theoretic approach to interval estimation, J. Amer. Statist. Assoc. 67 (1972); "
    "Gneiting and Raftery (2007), 6.2",
)

weighted_interval_score = Loss(
    name="weighted_interval_score",
    summary="weighted mean of the interval scores of several central intervals and the error of the median; the "
    "prediction is the median, then lower and upper of each interval",
    family=_FAMILY,
    inputs=Inputs.NUMBER,
    label=REALS,
    form=Form(
        row=_weighted_interval_score,
        formula="(abs(y - p[0])/2 + sum(a/2*(u - l + 2/a*max(l - y, 0) + 2/a*max(y - u, 0))"
        " for a, l, u in zip(alphas, p[1::2], p[2::2])))/(len(alphas) + 1/2)",
        prediction=REALS,
        ulps=8.0,  # as for the interval score
        ulps_per_value=1.0,
    ),
    parameters=(
        Parameter(
            name="alphas",
            meaning="for each interval, the share of labels expected outside",
            default=None,
            domain=_INNER,
            count=lambda width: (width - 1) // 2 if width % 2 else 0,  # an even width has no median
            required=True,
        ),
    ),
    curve=_QUANTILES,
    also=("weighted_interval_score", "WIS"),
    citation="J. Bracher et al., Evaluating epidemic forecasts in an interval format, PLoS Comput. Biol. 17 (2021)",
)

_M = "(len(p)//len(y))"
_VECTOR_ERROR = f"sum(norm([p[i*len(y) + k] - t for k, t in enumerate(y)]) for i in range({_M}))/{_M}"
_VECTOR_SPREAD = (
    f"sum(norm([p[i*len(y) + k] - p[j*len(y) + k] for k in range(len(y))]) for i in range({_M}) for j in range(i))"
)

energy_score = Loss(
    name="energy_score",
    summary="the ensemble score of vectors: mean distance of the members from the label, less half their mean distance "
    "from each other; the prediction holds member after member",
    family=_FAMILY,
    inputs=Inputs.MEMBERS,
    label=REALS,
    form=Form(
        row=_energy_score,
        formula=f"{_VECTOR_ERROR} - {_VECTOR_SPREAD}/{_M}/({_M} if estimator == 'nrg' else max({_M} - 1, 1))",
        prediction=REALS,
        ulps=8.0,
        ulps_per_value=2.0,
        scale=_VECTOR_ERROR,  # distances are rounded roots, and their sums are subtracted
    ),
    parameters=(_ESTIMATOR,),
    curve=_SCORE,
    also=("es_ensemble", "energy_score"),
    citation="Gneiting and Raftery (2007), 4.3; scoringrules es_ensemble",
)
