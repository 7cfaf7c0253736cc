"""properscoring: the Brier score, the CRPS of a normal distribution and of an ensemble."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conformance.cases import (
    Case,
    assert_same,
    binary,
    forecasts,
    members,
    real,
    width_of,
)

_CONVENTION = "exact"
_MEMBER_WEIGHTS = (0.5, 1.0, 0.0, 2.0, 0.25)

CASES = [
    Case("brier", {}, binary(), lambda ps, y, p: ps.brier_score(y[:, 0], p[:, 0])),
    Case(
        "crps_normal",
        {},
        forecasts(real, real, width_of),
        lambda ps, y, p: ps.crps_gaussian(y, *p.T),
        atol=1e-14,
        why="properscoring subtracts terms that nearly cancel",
    ),
    Case(
        "crps_ensemble",
        {},
        members(),
        lambda ps, y, p: ps.crps_ensemble(y[:, 0], p),
        atol=1e-14,
        why="properscoring sums over the gaps in another order",
    ),
    Case(
        "crps_ensemble",
        {"member_weights": list(_MEMBER_WEIGHTS)},
        members(5),
        lambda ps, y, p: ps.crps_ensemble(y[:, 0], p, weights=np.tile(_MEMBER_WEIGHTS, (len(p), 1))),
        atol=1e-14,
        why="properscoring sums over the gaps in another order",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows(case: Case, properscoring: Any) -> None:
    """Every row has the value that properscoring gives it."""
    assert_same(case, properscoring, _CONVENTION)
