"""Reasons of weights, and the loss that is not a number."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lossops.kernels.checks import Problem, Reason, check_class_index, check_losses, check_sums, check_weights


@pytest.mark.parametrize(
    ("weight", "problem", "reason"),
    [
        (1.0, Problem.NONE, Reason.SCORED),
        (5e-324, Problem.NONE, Reason.SCORED),
        (0.0, Problem.NONE, Reason.WEIGHT_ZERO),
        (-0.0, Problem.NONE, Reason.WEIGHT_ZERO),
        (-5e-324, Problem.NONE, Reason.WEIGHT_NEGATIVE),
        (-math.inf, Problem.NONE, Reason.WEIGHT_INFINITE),
        (math.inf, Problem.NONE, Reason.WEIGHT_INFINITE),
        (math.nan, Problem.NONE, Reason.WEIGHT_NAN),
        (1.0, Problem.NULL, Reason.WEIGHT_NULL),
        (math.nan, Problem.NULL, Reason.WEIGHT_NULL),
    ],
)
def test_weights(weight: float, problem: Problem, reason: Reason) -> None:
    """Only a positive, finite weight lets a row be scored; null wins over what lies in its memory."""
    reasons = np.zeros(2, dtype=np.uint8)
    check_weights(np.array([1.0, weight]), np.array([0, problem], dtype=np.uint8), reasons)
    assert reasons.tolist() == [Reason.SCORED, reason]


def test_a_nan_loss_cannot_vanish_in_a_sum() -> None:
    """Whatever the inputs were; rows with another reason keep it."""
    reasons = np.array([0, 0, Reason.LABEL_NAN], dtype=np.uint8)
    check_losses(np.array([1.0, math.nan, math.nan]), reasons)
    assert reasons.tolist() == [Reason.SCORED, Reason.LOSS_NAN, Reason.LABEL_NAN]


def test_sums_at_both_ends_of_their_band() -> None:
    """The ends belong to it; NaN does not."""
    values = np.array([[0.5, 0.25], [1.0, 0.5], [0.5, 0.125], [1.0, 1.0], [math.nan, 1.0]])
    reasons = np.zeros(5, dtype=np.uint8)
    check_sums(values, 0.75, 1.5, int(Reason.LABEL_SUM_NOT_ONE), reasons)
    assert (reasons == Reason.LABEL_SUM_NOT_ONE).tolist() == [False, False, True, True, True]


def test_reasons_fit_their_array_and_are_named_apart() -> None:
    """Blocks hold reasons as uint8, the ledger their names."""
    assert len({reason.name.lower() for reason in Reason}) == len(Reason)
    assert max(Reason) < 256


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (2.0, Reason.SCORED),
        (3.0, Reason.LABEL_OUTSIDE_DOMAIN),
        (-1.0, Reason.LABEL_OUTSIDE_DOMAIN),
        (0.5, Reason.LABEL_NOT_INTEGER),
        (2.0**63, Reason.LABEL_OUTSIDE_DOMAIN),
        (-1e300, Reason.LABEL_OUTSIDE_DOMAIN),
        (1e300, Reason.LABEL_OUTSIDE_DOMAIN),  # which stands for a text that is no class
    ],
)
def test_the_reason_of_a_class_does_not_depend_on_its_row(label: float, reason: Reason) -> None:
    """Compiled loops take several rows at a time, and those at their ends one by one."""
    reasons = np.zeros(101, dtype=np.uint8)
    check_class_index(np.full((101, 1), label), 3, reasons)
    assert reasons.tolist() == [reason] * 101
