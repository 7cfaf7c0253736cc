"""The formula that a loss declares, evaluated by mpmath with far more digits than a float64 has."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from types import CodeType
from typing import Any

import mpmath

from lossops.losses import Form, Inputs, Loss
from tests.oracles import Floats

UNIT_ROUNDOFF = 2.0**-53
SMALLEST_NORMAL = 2.0**-1022  # below it a float64 has no relative precision
# Enough for almost every row; a row that seems to disagree is evaluated again with the second number, because of
# log(1 + exp(-744)) the leading 323 digits cancel.
_DIGITS, _MORE_DIGITS = 50, 420


def _xlogy(x: Any, y: Any) -> Any:
    return mpmath.mpf(0) if x == 0 else x * mpmath.log(y)


def _times(a: Any, b: Any) -> Any:
    return mpmath.mpf(0) if a == 0 or b == 0 else a * b


def _log_sum_exp(values: Any) -> Any:
    return mpmath.log(mpmath.fsum(mpmath.exp(value) for value in values))


def _sum(values: Any) -> Any:
    return mpmath.fsum(list(values))


def _norm(values: Any) -> Any:
    return mpmath.sqrt(mpmath.fsum(value * value for value in values))


def _upper_gamma(a: Any, x: Any) -> Any:
    return mpmath.gammainc(a, x, mpmath.inf, regularized=True)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "xlogy": _xlogy,
    "times": _times,
    "log_sum_exp": _log_sum_exp,
    "sum": _sum,
    "norm": _norm,
    "abs": abs,
    "max": max,
    "min": min,
    "sorted": sorted,
    "zip": zip,
    "len": len,
    "range": range,
    "enumerate": enumerate,
    "all": all,
    "any": any,
    "int": int,
    "gamma_p": lambda a, x: mpmath.gammainc(a, 0, x, regularized=True),
    "gamma_q": _upper_gamma,
    "beta_i": lambda a, b, x: mpmath.betainc(a, b, 0, x, regularized=True),
    "normal_cdf": mpmath.ncdf,
    "normal_pdf": mpmath.npdf,
    "log_gamma": mpmath.loggamma,
    "bessel_i": mpmath.besseli,
    "hyp2f1": mpmath.hyp2f1,
    **{
        name: getattr(mpmath, name)
        for name in (
            *("log", "exp", "expm1", "log1p", "sqrt", "floor", "cosh", "sinh", "tanh", "atan", "gamma", "beta"),
            *("erf", "erfc"),
        )
    },
}


def _in_many_digits(value: Any) -> Any:
    if isinstance(value, list | tuple) or hasattr(value, "tolist"):
        return [mpmath.mpf(float(element)) for element in value]
    return value if isinstance(value, int | str) else mpmath.mpf(float(value))


@cache
def _compiled(formula: str) -> CodeType:
    return compile(formula, formula, "eval")


def _evaluate(formula: str, names: Mapping[str, Any], digits: int) -> Any:
    """Return the value, or None where it is not defined."""
    with mpmath.workdps(digits):
        known = {name: None if value is None else _in_many_digits(value) for name, value in names.items()}
        known = {**_FUNCTIONS, "pi": +mpmath.pi, "e": +mpmath.e, **known}
        try:
            value = eval(_compiled(formula), {"__builtins__": {}, **known})
        except ZeroDivisionError:
            return None
        return mpmath.mpf(value.real) if isinstance(value, mpmath.mpc) else mpmath.mpf(value)


def _rows_of_names(loss: Loss, form: Form, label: Floats, prediction: Floats) -> list[dict[str, Any]]:
    """Return what a formula sees of a row: once, or once an element."""
    if loss.inputs is Inputs.ELEMENTS:
        return [{"y": float(y), "p": float(p)} for y, p in zip(label, prediction, strict=True)]
    if loss.inputs is Inputs.CLASSES and len(label) == 1:
        label = [1.0 if j == label[0] else 0.0 for j in range(len(prediction))]  # type: ignore[assignment]
    names = {"y": label, "p": prediction}
    if loss.inputs is Inputs.CLASS_INDEX:
        names["y"] = int(label[0])  # type: ignore[assignment]
    elif loss.inputs in (Inputs.NUMBER, Inputs.PAIR):
        names["y"] = float(label[0])  # type: ignore[assignment]
    return [names | {field.name: float(value) for field, value in zip(form.fields, prediction, strict=False)}]


def _mean(loss: Loss, form: Form, formula: str, row: tuple[Floats, Floats], extra: list[Any], digits: int) -> Any:
    found = [
        _evaluate(formula, {**names, **one}, digits)
        for names, one in zip(_rows_of_names(loss, form, *row), extra, strict=True)
    ]
    if any(value is None for value in found):
        return None
    with mpmath.workdps(digits):
        return mpmath.fsum(found) / len(found)


def exact_loss(
    loss: Loss, form: Form, label: Floats, prediction: Floats, parameters: Mapping[str, Any], digits: int = _DIGITS
) -> Any:
    """Return the loss of one row in many digits, or None where the formula is not defined."""
    count = len(prediction) if loss.inputs is Inputs.ELEMENTS else 1
    return _mean(loss, form, form.formula, (label, prediction), [dict(parameters)] * count, digits)


def _scale(loss: Loss, form: Form, row: tuple[Floats, Floats], parameters: Mapping[str, Any], digits: int) -> Any:
    """Return what rounding is measured against, see `lossops.losses.declaration.Form`."""
    if form.scale is None:
        return mpmath.mpf(0)
    values = [_evaluate(form.formula, {**names, **parameters}, digits) for names in _rows_of_names(loss, form, *row)]
    with mpmath.workdps(digits):
        return abs(_mean(loss, form, form.scale, row, [{**parameters, "loss": value} for value in values], digits))


def error_in_bounds(
    loss: Loss, form: Form, row: tuple[Floats, Floats], parameters: Mapping[str, Any], actual: float
) -> float:
    """Return by how much a float64 misses the exact loss of a row, as a multiple of the declared bound.

    0 where both are infinite, undefined, or beyond the range of float64 alike; infinity where only one is.
    """
    for digits in (_DIGITS, _MORE_DIGITS):
        found = _error(loss, form, row, parameters, actual, digits)
        if found <= 1.0 and (actual != 0.0 or digits == _MORE_DIGITS or not _may_hide_digits(row)):
            break
    return found


def _may_hide_digits(row: tuple[Floats, Floats]) -> bool:
    """Whether a zero may be an artefact of too few digits: not where label and prediction are equal."""
    return len(row[0]) != len(row[1]) or bool((row[0] != row[1]).any())


def _error(
    loss: Loss, form: Form, row: tuple[Floats, Floats], parameters: Mapping[str, Any], actual: float, digits: int
) -> float:
    expected = exact_loss(loss, form, *row, parameters, digits)
    if expected is None or mpmath.isnan(expected):
        return 0.0 if not math.isfinite(actual) else math.inf
    with mpmath.workdps(digits):
        if mpmath.isinf(expected) or abs(expected) >= mpmath.mpf(2) ** 1024:
            return 0.0 if actual == (math.inf if expected > 0 else -math.inf) else math.inf
        if not math.isfinite(actual):
            # within some digits of the largest float64 one element, or a power on the way, may be beyond it
            return 0.0 if math.isinf(actual) and abs(expected) >= mpmath.mpf(2) ** 1004 else math.inf
        error = abs(mpmath.mpf(actual) - expected)
        units = (form.ulps + form.ulps_per_value * len(row[1])) * UNIT_ROUNDOFF
        allowed = units * abs(expected) + SMALLEST_NORMAL
        if error > allowed and form.scale is not None:
            allowed = units * max(abs(expected), _scale(loss, form, row, parameters, digits)) + SMALLEST_NORMAL
        return float(error / allowed)


def sigmoid(logit: float) -> float:
    """The logistic function, correctly rounded."""
    with mpmath.workdps(_MORE_DIGITS):
        return float(1 / (1 + mpmath.exp(-mpmath.mpf(logit))))


def softmax(logits: Floats) -> list[float]:
    """The softmax, each element correctly rounded."""
    with mpmath.workdps(_MORE_DIGITS):
        powers = [mpmath.exp(mpmath.mpf(float(logit))) for logit in logits]
        total = mpmath.fsum(powers)
        return [float(power / total) for power in powers]
