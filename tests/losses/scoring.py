"""Scoring rows with a bound loss, as a partition does."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lossops.kernels.checks import Problem
from lossops.losses import CATALOGUE, BoundLoss, Loss, bind
from tests.oracles import Floats

Bytes = npt.NDArray[np.uint8]

ALL_FORMS = [(loss, switch) for loss in CATALOGUE.values() for switch in loss.forms]


def name_of(case: object) -> str:
    """Name a case in the test's id."""
    if case is None:
        return "plain"
    return case.name if isinstance(case, Loss) else str(case)


def bound(loss: Loss, parameters: dict[str, Any], switch: str | None = None, convention: str = "exact") -> BoundLoss:
    """Bind a loss in one of its forms."""
    given = {key: value for key, value in parameters.items() if value is not None}
    return bind(loss.name, {**given, **({switch: True} if switch else {})}, convention)


def score(chosen: BoundLoss, labels: Any, predictions: Any) -> tuple[Floats, Bytes]:
    """Check and score rows without nulls; labels and predictions are [rows, width]."""
    label_array = np.ascontiguousarray(labels, dtype=np.float64)
    prediction_array = np.ascontiguousarray(predictions, dtype=np.float64)
    reasons = reasons_of(chosen, label_array, prediction_array)
    return chosen.values(label_array, prediction_array, reasons), reasons


def reasons_of(
    chosen: BoundLoss,
    labels: Floats,
    predictions: Floats,
    label_problem: Problem = Problem.NONE,
    prediction_problem: Problem = Problem.NONE,
) -> Bytes:
    """Return the reason of each row, every row having the same problems."""
    rows = len(labels)
    reasons = np.zeros(rows, dtype=np.uint8)
    problems = [np.full(rows, problem, dtype=np.uint8) for problem in (label_problem, prediction_problem)]
    chosen.check(labels, problems[0], predictions, problems[1], reasons)
    return reasons
