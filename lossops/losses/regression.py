"""Losses of a difference between prediction and label."""

from __future__ import annotations

from lossops.kernels.jit import inline
from lossops.losses.declaration import REALS, Form, Inputs, Interval, Loss, Parameter

__all__: list[str] = []


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


mean_absolute_error = Loss(
    name="mean_absolute_error",
    summary="absolute difference",
    inputs=Inputs.ELEMENTS,
    label=REALS,
    form=Form(row=_absolute, formula="abs(p - y)", prediction=REALS),
    citation="Keras MeanAbsoluteError, scikit-learn mean_absolute_error, torch L1Loss",
)

mean_squared_error = Loss(
    name="mean_squared_error",
    summary="squared difference, without the factor 1/2",
    inputs=Inputs.ELEMENTS,
    label=REALS,
    form=Form(row=_squared, formula="(p - y)**2", prediction=REALS),
    citation="Keras MeanSquaredError, scikit-learn mean_squared_error, torch MSELoss",
)

huber = Loss(
    name="huber",
    summary="squared near zero, linear beyond delta",
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
            domain=Interval(0.0, low_open=True),
        ),
    ),
    citation="P. J. Huber, Robust Estimation of a Location Parameter, Ann. Math. Statist. 35 (1964); Keras Huber",
)

smooth_l1 = Loss(
    name="smooth_l1",
    summary="huber divided by its threshold: slope 1 beyond beta; beta 0 is the absolute difference",
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
    citation="R. Girshick, Fast R-CNN, ICCV 2015; torch SmoothL1Loss",
)
