"""How much two sets overlap, given as memberships between 0 and 1 of one row's elements.

Each loss is the share of what does not overlap, so that nothing cancels where the overlap is nearly complete.
"""

from __future__ import annotations

from typing import Any

from lossops.kernels.jit import inline
from lossops.losses.declaration import UNIT, Curve, Form, Inputs, Interval, Loss, Outlier, Parameter

__all__: list[str] = []

_FAMILY = "vectors in one row"
_ZOOM = 2.0**500  # sizes are counted in units so small that no product of memberships and weights underflows


@inline
def _parts(label: Any, prediction: Any) -> tuple[float, float, float]:
    """Return what is in both sets, in the prediction only and in the label only, times `_ZOOM`."""
    both = extra = missing = 0.0
    for j in range(prediction.shape[0]):
        both += label[j] * _ZOOM * prediction[j]
        extra += (1.0 - label[j]) * (prediction[j] * _ZOOM)
        missing += label[j] * _ZOOM * (1.0 - prediction[j])
    return both, extra, missing


@inline
def _share(apart: float, rest: float) -> float:
    """``apart / (apart + rest)``; 0 where both are 0, as then nothing is apart."""
    return apart / (apart + rest) if apart > 0.0 else 0.0


@inline
def _dice(label: Any, prediction: Any, smooth: float, ratio_epsilon: float) -> float:
    both, extra, missing = _parts(label, prediction)
    return _share(extra + missing + ratio_epsilon * _ZOOM, 2.0 * both + smooth * _ZOOM)


@inline
def _tversky(label: Any, prediction: Any, alpha: float, beta: float, ratio_epsilon: float) -> float:
    both, extra, missing = _parts(label, prediction)
    return _share(alpha * extra + beta * missing + ratio_epsilon * _ZOOM, both)


@inline
def _jaccard(label: Any, prediction: Any) -> float:
    both, extra, missing = _parts(label, prediction)
    return _share(extra + missing, both)


_BOTH = "sum(t*q for t, q in zip(y, p))"
# The slope is bounded for a label that is not empty; beside an empty one everything costs 1, but nothing costs 0.
_CURVE = Curve(convex=False, smooth=True, slope_bounded=True, symmetric=False, outlier=Outlier.BOUNDED)

dice = Loss(
    name="dice",
    summary="1 minus twice the overlap by the sum of both sizes; two empty sets lose 0, in Keras 1",
    family=_FAMILY,
    inputs=Inputs.VECTORS,
    label=UNIT,
    form=Form(
        row=_dice,
        formula=f"1 - (2*{_BOTH} + smooth)/(sum(y) + sum(p) + smooth) if sum(y) + sum(p) > 0 else 0",
        prediction=UNIT,
        ulps_per_value=2.0,
    ),
    parameters=(
        Parameter(
            name="smooth",
            meaning="added to numerator and denominator of the ratio; optax takes 1",
            default=0.0,
            domain=Interval(0.0),
        ),
    ),
    curve=_CURVE,
    also=("Dice", "dice_loss", "Sorensen", "F1 of soft sets"),
    citation="L. R. Dice, Measures of the amount of ecologic association, Ecology 26 (1945); Keras Dice",
)

_EXTRA = "sum((1 - t)*q for t, q in zip(y, p))"
_MISSING = "sum(t*(1 - q) for t, q in zip(y, p))"
_DENOMINATOR = f"({_BOTH} + alpha*{_EXTRA} + beta*{_MISSING})"

tversky = Loss(
    name="tversky",
    summary="1 minus the overlap by itself and the weighted rests of both sets; 0 where that is empty, in Keras 1",
    family=_FAMILY,
    inputs=Inputs.VECTORS,
    label=UNIT,
    form=Form(
        row=_tversky,
        formula=f"1 - {_BOTH}/{_DENOMINATOR} if {_DENOMINATOR} > 0 else 0",
        prediction=UNIT,
        ulps_per_value=2.0,
    ),
    parameters=(
        Parameter(
            name="alpha",
            meaning="weight of what only the prediction has (false positives); Keras documents its alpha so, but "
            "weights the false negatives with it",
            default=0.5,
            domain=Interval(0.0),
        ),
        Parameter(
            name="beta",
            meaning="weight of what only the label has (false negatives)",
            default=0.5,
            domain=Interval(0.0),
        ),
    ),
    curve=_CURVE,
    also=("Tversky",),
    citation="A. Tversky, Features of similarity, Psychol. Rev. 84 (1977); Keras Tversky",
)

jaccard = Loss(
    name="jaccard",
    summary="1 minus the overlap by the size of the union; two empty sets lose 0",
    family=_FAMILY,
    inputs=Inputs.VECTORS,
    label=UNIT,
    form=Form(
        row=_jaccard,
        formula=f"1 - {_BOTH}/(sum(y) + sum(p) - {_BOTH}) if sum(y) + sum(p) > 0 else 0",
        prediction=UNIT,
        ulps_per_value=2.0,
    ),
    curve=_CURVE,
    also=("IoU", "intersection over union", "jaccard_score"),
    citation="P. Jaccard, Bull. Soc. Vaud. Sci. Nat. 37 (1901); scikit-learn jaccard_score",
)
