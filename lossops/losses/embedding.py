"""Losses of vectors compared by angle or distance, all of them in one row, and of two scores to be ordered."""

from __future__ import annotations

import math
from typing import Any

from lossops.kernels.jit import inline
from lossops.losses.declaration import REALS, SIGNS, Curve, Field, Form, Inputs, Interval, Loss, Outlier, Parameter

__all__ = ["distance"]

_FAMILY = "vectors in one row"
# Between these, a sum of squares has lost nothing to underflow or overflow.
_LEAST, _MOST = 1e-280, 1e300


@inline
def distance(first: Any, second: Any, epsilon: float) -> float:
    """Euclidean length of ``first - second + epsilon``."""
    squares = 0.0
    for j in range(first.shape[0]):
        step = first[j] - second[j] + epsilon
        squares += step * step
    return math.sqrt(squares) if _LEAST < squares < _MOST else _degree_distance(first, second, 2.0, epsilon)


@inline
def _degree_distance(first: Any, second: Any, degree: float, epsilon: float) -> float:
    """The norm of any degree, relative to the largest difference, so that no power leaves the range of float64."""
    largest = 0.0
    for j in range(first.shape[0]):
        largest = max(largest, abs(first[j] - second[j] + epsilon))
    if largest in (0.0, math.inf):
        return largest
    total = 0.0
    for j in range(first.shape[0]):
        total += (abs(first[j] - second[j] + epsilon) / largest) ** degree
    return float(largest * total ** (1.0 / degree))


@inline
def _size(values: Any) -> tuple[float, float]:
    """Return a unit m and the Euclidean length in it: 1 where squares are safe, else the largest value; (0, 0)."""
    squares = 0.0
    for j in range(values.shape[0]):
        squares += values[j] * values[j]
    if _LEAST < squares < _MOST:
        return 1.0, math.sqrt(squares)
    unit = 0.0
    for j in range(values.shape[0]):
        unit = max(unit, abs(values[j]))
    if unit == 0.0:
        return 0.0, 0.0
    squares = 0.0
    for j in range(values.shape[0]):
        squares += (values[j] / unit) * (values[j] / unit)
    return unit, math.sqrt(squares)


@inline
def _kept(length: float, norm_floor: float, squared_norm_epsilon: float) -> float:
    """What a convention leaves of the length of a normalised vector: 1, or less for a very short one."""
    if length == 0.0:
        return 0.0
    floored = 1.0 if length >= norm_floor else length / norm_floor
    return floored / math.sqrt(1.0 + squared_norm_epsilon / length / length)


@inline
def _cosine(first: Any, second: Any, norm_floor: float, squared_norm_epsilon: float) -> float:
    (m1, r1), (m2, r2) = _size(first), _size(second)
    kept = _kept(m1 * r1, norm_floor, squared_norm_epsilon) * _kept(m2 * r2, norm_floor, squared_norm_epsilon)
    if kept == 0.0:
        return 0.0
    found = 0.0
    for j in range(first.shape[0]):
        found += (first[j] / m1 / r1) * (second[j] / m2 / r2)
    return kept * min(max(found, -1.0), 1.0)


@inline
def _one_minus_cosine(first: Any, second: Any, norm_floor: float, squared_norm_epsilon: float) -> float:
    """Half the squared distance of the unit vectors, which keeps its digits where they are nearly parallel."""
    (m1, r1), (m2, r2) = _size(first), _size(second)
    kept = _kept(m1 * r1, norm_floor, squared_norm_epsilon) * _kept(m2 * r2, norm_floor, squared_norm_epsilon)
    if kept == 0.0:
        return 1.0
    squares = 0.0
    for j in range(first.shape[0]):
        step = first[j] / m1 / r1 - second[j] / m2 / r2
        squares += step * step
    return (1.0 - kept) + kept * min(0.5 * squares, 2.0)


@inline
def _cosine_distance(label: Any, prediction: Any, norm_floor: float) -> float:
    return _one_minus_cosine(label, prediction, norm_floor, 0.0)


@inline
def _cosine_similarity(label: Any, prediction: Any, norm_floor: float) -> float:
    return -_cosine(label, prediction, norm_floor, 0.0)


@inline
def _cosine_embedding(label: float, prediction: Any, margin: float, squared_norm_epsilon: float) -> float:
    half = prediction.shape[0] // 2
    if label > 0.0:
        return _one_minus_cosine(prediction[:half], prediction[half:], 0.0, squared_norm_epsilon)
    return max(0.0, _cosine(prediction[:half], prediction[half:], 0.0, squared_norm_epsilon) - margin)


@inline
def _between(first: Any, second: Any, degree: float, epsilon: float) -> float:
    return distance(first, second, epsilon) if degree == 2.0 else _degree_distance(first, second, degree, epsilon)


@inline
def _triplet_margin(
    label: Any, prediction: Any, margin: float, norm_degree: float, swap: float, distance_epsilon: float
) -> float:
    third = prediction.shape[0] // 3
    anchor, positive, negative = prediction[:third], prediction[third : 2 * third], prediction[2 * third :]
    near = _between(anchor, positive, norm_degree, distance_epsilon)
    far = _between(anchor, negative, norm_degree, distance_epsilon)
    if swap != 0.0:
        far = min(far, _between(positive, negative, norm_degree, distance_epsilon))
    return max(0.0, margin + (near - far))


@inline
def _margin_ranking(label: float, prediction: Any, margin: float) -> float:
    return max(0.0, margin - label * float(prediction[0] - prediction[1]))


# A zero vector has no direction, and beside it the angle changes at once.
_ANGLE = Curve(convex=False, smooth=False, slope_bounded=False, symmetric=True, outlier=Outlier.BOUNDED)
_LENGTHS = "(norm(y)*norm(p))"
_DOT = "sum(t*q for t, q in zip(y, p))"
# Unit vectors are rounded before their difference is squared; n roundings of a length matter in second order.
_NEARLY_PARALLEL = "loss + sqrt(abs(loss)) + len(p)*2**-53"

cosine_distance = Loss(
    name="cosine_distance",
    summary="1 minus the cosine of the angle; a zero vector has the cosine 0 with every vector",
    family=_FAMILY,
    inputs=Inputs.VECTORS,
    label=REALS,
    form=Form(
        row=_cosine_distance,
        formula=f"1 - {_DOT}/{_LENGTHS} if {_LENGTHS} > 0 else 1",
        prediction=REALS,
        ulps=8.0,
        ulps_per_value=1.0,
        scale=_NEARLY_PARALLEL,
    ),
    curve=_ANGLE,
    also=("cosine", "cosine_distances"),
    citation="optax cosine_distance, scipy.spatial.distance.cosine",
)

cosine_similarity = Loss(
    name="cosine_similarity",
    summary="minus the cosine of the angle, from -1 (same direction) to 1; a zero vector has the cosine 0",
    family=_FAMILY,
    inputs=Inputs.VECTORS,
    label=REALS,
    form=Form(
        row=_cosine_similarity,
        formula=f"-{_DOT}/{_LENGTHS} if {_LENGTHS} > 0 else 0",
        prediction=REALS,
        ulps=8.0,
        ulps_per_value=2.0,
        scale=f"sum(abs(t*q) for t, q in zip(y, p))/{_LENGTHS} if {_LENGTHS} > 0 else 0",  # terms of both signs
    ),
    curve=_ANGLE,
    also=("CosineSimilarity",),
    citation="Keras CosineSimilarity",
)

_FIRST, _SECOND = "p[:len(p)//2]", "p[len(p)//2:]"
_PAIR_LENGTHS = f"(norm({_FIRST})*norm({_SECOND}))"
_PAIR_COSINE = f"(sum(a*b for a, b in zip({_FIRST}, {_SECOND}))/{_PAIR_LENGTHS} if {_PAIR_LENGTHS} > 0 else 0)"

cosine_embedding = Loss(
    name="cosine_embedding",
    summary="of two vectors that belong together (1) 1 minus their cosine, of others (-1) the cosine beyond a margin",
    family=_FAMILY,
    inputs=Inputs.PAIR,
    label=SIGNS,
    form=Form(
        row=_cosine_embedding,
        formula=f"1 - {_PAIR_COSINE} if y > 0 else max(0, {_PAIR_COSINE} - margin)",
        prediction=REALS,
        ulps=8.0,
        ulps_per_value=1.0,
        scale=f"({_NEARLY_PARALLEL}) if y > 0 else 1",  # the cosine is rounded before the margin is taken from it
    ),
    parameters=(
        Parameter(
            name="margin",
            meaning="cosine up to which vectors that do not belong together cost nothing",
            default=0.0,
            domain=Interval(-1.0, 1.0),
        ),
    ),
    curve=_ANGLE,
    also=("CosineEmbeddingLoss",),
    citation="torch CosineEmbeddingLoss",
)


def _norm_between(first: int, second: int) -> str:
    places = (f"{k}*(len(p)//3) + j" if k else "j" for k in (first, second))
    return "sum(abs(p[{}] - p[{}])**norm_degree for j in range(len(p)//3))**(1/norm_degree)".format(*places)


_NEAR, _FAR, _OTHER = _norm_between(0, 1), _norm_between(0, 2), _norm_between(1, 2)

triplet_margin = Loss(
    name="triplet_margin",
    summary="by how much the anchor is not nearer to the positive than to the negative vector by a margin",
    family=_FAMILY,
    inputs=Inputs.TRIPLE,
    label=REALS,
    form=Form(
        row=_triplet_margin,
        formula=f"max(0, margin + {_NEAR} - (min({_FAR}, {_OTHER}) if swap else {_FAR}))",
        prediction=REALS,
        ulps=6.0,
        ulps_per_value=1.0,
        scale=f"margin + {_NEAR} + {_FAR}",  # two rounded distances are subtracted
    ),
    parameters=(
        Parameter(name="margin", meaning="wanted difference of distances", default=1.0, domain=Interval(0.0)),
        Parameter(
            name="norm_degree",
            meaning="degree of the norm: 1 sum of absolute differences, 2 Euclidean",
            default=2.0,
            domain=Interval(1.0),
        ),
        Parameter(
            name="swap",
            meaning="the negative may be as near to the positive as to the anchor: the smaller distance counts",
            default=False,
            domain=None,
        ),
    ),
    # Not symmetric: positive and negative play different parts.
    curve=Curve(convex=False, smooth=False, slope_bounded=True, symmetric=False, outlier=Outlier.LINEAR),
    also=("TripletMarginLoss", "triplet_margin_loss"),
    citation="V. Balntas et al., Learning local feature descriptors with triplets (BMVC 2016); torch TripletMarginLoss",
)

margin_ranking = Loss(
    name="margin_ranking",
    summary="by how much two scores are not in the wanted order (1: first is higher, -1: second) by a margin",
    family=_FAMILY,
    inputs=Inputs.NUMBER,
    label=SIGNS,
    form=Form(
        row=_margin_ranking,
        formula="max(0, margin - y*(first - second))",
        prediction=(Field("first", REALS, "score of the first"), Field("second", REALS, "score of the second")),
        scale="margin + abs(first - second)",  # their rounded difference is taken from the margin
    ),
    parameters=(Parameter(name="margin", meaning="wanted difference of scores", default=0.0, domain=Interval(0.0)),),
    # Symmetric: the other label with the scores exchanged costs the same.
    curve=Curve(convex=True, smooth=False, slope_bounded=True, symmetric=True, outlier=Outlier.LINEAR),
    also=("MarginRankingLoss", "margin_ranking_loss"),
    citation="torch MarginRankingLoss",
)
