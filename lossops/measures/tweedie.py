"""The skill score of the Tweedie deviance of any power.

The deviance of the labels from their own mean m is that of the null model. Taken from mean(y^(2-p)) - m^(2-p) it would
cancel where labels vary little. A deviance is a Bregman divergence, so it can be taken apart instead: labels are put
into bins by the leading bits of their value c, and

    sum_i w_i d(y_i, m) = sum_i w_i d(y_i, c) + sum_b W_b (d(m_b, m) - d(m_b, c))

with W_b and m_b the weight and mean of a bin. No term is much larger than the deviances inside a bin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from lossops.kernels.jit import inline
from lossops.losses.declaration import REALS
from lossops.losses.deviance import tweedie_deviance
from lossops.measures.arithmetic import average, skill, variation
from lossops.measures.declaration import Measure, Number, Part, Settings, Total
from lossops.measures.errors import label_itself

__all__: list[str] = []

_STEPS = 128.0  # a fraction in [1/2, 1) is cut to seven bits
_deviance = tweedie_deviance.form.row


@inline
def _centre(label: float) -> float:
    """The label with only its leading bits."""
    fraction, exponent = math.frexp(label)
    kept = math.ldexp(math.floor(fraction * _STEPS) / _STEPS, exponent)
    return kept if kept != 0.0 else label


@inline
def _spread(label: float, prediction: float, power: float) -> float:
    """The deviance of a label from the centre of its bin; below 0 it is flat, and at 0 the bin holds nothing else."""
    return _deviance(label, _centre(label), power) if label > 0.0 else 0.0


@inline
def _bin(label: float, prediction: float) -> float:
    return _centre(label)


def _null_deviance(total: Total, power: float) -> Number | None:
    mean = float(Fraction(total.sum("label")) / total.weight)
    if total.low("label") == total.high("label") or (power < 0.0 and mean <= 0.0):
        return None
    if power == 0.0:
        return variation(total, "label")
    whole = Fraction(total.sum("spread"))
    for one in total:
        own = float(Fraction(one.sum("label")) / one.weight)
        whole += one.weight * Fraction(_deviance(own, mean, power) - _spread_of(own, one.bin, power))
    return whole


def _spread_of(own: float, centre: float, power: float) -> float:
    return _deviance(own, centre, power) if centre > 0.0 else 0.0


def _d2_tweedie(outputs: Sequence[Total], settings: Settings) -> Number | None:
    power = settings["power"]
    return average(outputs, lambda one: skill(one.sum("deviance"), _null_deviance(one, power)))


d2_tweedie = Measure(
    name="d2_tweedie",
    summary="share of the Tweedie deviance of the mean that the prediction saves",
    family="measures: skill",
    inputs=tweedie_deviance.inputs,
    label=REALS,
    label_of=tweedie_deviance.label_of,
    prediction=REALS,
    prediction_of=tweedie_deviance.form.prediction_of,
    formula="1 - sum(w d(y, p)) / sum(w d(y, m)), m the weighted mean of y, d as in tweedie_deviance; of several "
    "outputs their mean; null where y is constant",
    parameters=tuple(
        replace(one, default=0.0, meaning="p of the variance mean^p: 0 normal, 1 Poisson, 2 gamma, 3 inverse Gaussian")
        for one in tweedie_deviance.parameters
    ),
    parts={
        "deviance": Part(row=_deviance),
        "label": Part(row=label_itself, squares=True),
        "spread": Part(row=_spread),
    },
    bins=_bin,
    finish=_d2_tweedie,
    higher_is_better=True,
    also=("d2_tweedie_score",),
    citation="T. Hastie, R. Tibshirani, M. Wainwright, Statistical Learning with Sparsity (2015), eq. 3.11; "
    "scikit-learn d2_tweedie_score",
)
