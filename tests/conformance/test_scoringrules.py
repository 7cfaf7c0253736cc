"""scoringrules: scores of events, closed forms of the CRPS, logarithmic scores, quantiles and ensembles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import nbinom

from tests.conformance.cases import (
    EXACT,
    ROWS,
    Case,
    assert_same,
    binary,
    classes,
    count,
    forecasts,
    freedom,
    from_one,
    intervals,
    members,
    our_values,
    positive,
    real,
    reals,
    success,
    width_of,
)

_CONVENTION = "exact"
_OF_DENSITY = "scoringrules takes the logarithm of a density that it computes first"
_OF_TERMS = "scoringrules subtracts terms that nearly cancel"
_MEMBER_WEIGHTS = (0.5, 1.0, 0.0, 2.0, 0.25)
_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.9)


def _of(name: str) -> Callable[[Any, Any, Any], Any]:
    """Values of a score whose arguments are the label and the fields of our prediction, in our order."""
    return lambda library, labels, predictions: getattr(library, name)(labels, *predictions.T)


CASES = [
    Case("brier", {}, binary(), lambda sr, y, p: sr.brier_score(y[:, 0], p[:, 0])),
    Case(
        "binary_crossentropy",
        {},
        binary(edges=False),
        lambda sr, y, p: sr.log_score(y[:, 0], p[:, 0]),
        atol=1e-15,
        why="scoringrules rounds p + y - 1",
    ),
    Case(
        "ranked_probability_score",
        {},
        classes(edges=False),
        lambda sr, y, p: sr.rps_score(y + 1, p),
        atol=1e-15,
        why=_OF_TERMS,
    ),
    Case(
        "ranked_log_score",
        {},
        classes(edges=False),
        lambda sr, y, p: sr.rls_score(y + 1, p),
        rtol=1e-11,
        atol=1e-14,
        why=_OF_TERMS,
    ),
    Case("pinball", {"alpha": 0.2}, reals(1), lambda sr, y, p: sr.quantile_score(y[:, 0], p[:, 0], 0.2)),
    Case(
        "pinball_set",
        {"levels": list(_LEVELS)},
        forecasts(real, *[real] * 5),
        lambda sr, y, p: sr.crps_quantile(y, p, _LEVELS) / 2,
    ),
    Case("gaussian_nll", {}, forecasts(real, real, width_of), _of("logs_normal"), atol=1e-13, why=_OF_DENSITY),
    Case("laplace_nll", {}, forecasts(real, real, width_of), _of("logs_laplace"), atol=1e-13, why=_OF_DENSITY),
    Case("logistic_nll", {}, forecasts(real, real, width_of), _of("logs_logistic"), atol=1e-13, why=_OF_DENSITY),
    Case(
        "student_t_nll",
        {},
        forecasts(real, freedom, real, width_of),
        _of("logs_t"),
        rtol=1e-11,
        atol=1e-13,
        why=_OF_DENSITY,
    ),
    Case(
        "lognormal_nll",
        {},
        forecasts(positive, real, width_of),
        _of("logs_lognormal"),
        rtol=1e-11,
        atol=1e-13,
        why=_OF_DENSITY,
    ),
    Case("exponential_nll", {}, forecasts(positive, width_of), _of("logs_exponential"), atol=1e-13, why=_OF_DENSITY),
    Case(
        "gamma_nll",
        {},
        forecasts(positive, positive, width_of),
        _of("logs_gamma"),
        rtol=1e-11,
        atol=1e-13,
        why=_OF_DENSITY,
    ),
    Case(
        "negative_binomial_nll",
        {},
        forecasts(count, from_one, success),
        _of("logs_negbinom"),
        rtol=1e-11,
        atol=1e-13,
        why=_OF_DENSITY,
    ),
    Case(
        "poisson_nll",
        {"full": True, "counts_only": True},
        forecasts(count, positive),
        _of("logs_poisson"),
        rtol=1e-11,
        atol=1e-13,
        why=_OF_DENSITY,
    ),
    Case("crps_normal", {}, forecasts(real, real, width_of), _of("crps_normal"), atol=1e-14, why=_OF_TERMS),
    Case("crps_laplace", {}, forecasts(real, real, width_of), _of("crps_laplace"), atol=1e-14, why=_OF_TERMS),
    Case("crps_logistic", {}, forecasts(real, real, width_of), _of("crps_logistic"), atol=1e-14, why=_OF_TERMS),
    Case(
        "crps_student_t",
        {},
        forecasts(real, freedom, real, width_of),
        _of("crps_t"),
        rtol=1e-11,
        atol=1e-13,
        why=_OF_TERMS,
    ),
    Case("crps_exponential", {}, forecasts(positive, width_of), _of("crps_exponential"), atol=1e-14, why=_OF_TERMS),
    Case(
        "crps_gamma",
        {},
        forecasts(positive, positive, width_of),
        _of("crps_gamma"),
        rtol=1e-11,
        atol=1e-13,
        why=_OF_TERMS,
    ),
    Case("crps_poisson", {}, forecasts(count, positive), _of("crps_poisson"), rtol=1e-11, atol=1e-13, why=_OF_TERMS),
    Case(
        "crps_negative_binomial",
        {},
        forecasts(count, positive, success),
        _of("crps_negbinom"),
        rtol=1e-10,
        atol=1e-12,
        why=_OF_TERMS,
    ),
    *(
        Case(
            "crps_ensemble",
            {"estimator": ours},
            members(),
            lambda sr, y, p, theirs=theirs: sr.crps_ensemble(y[:, 0], p, estimator=theirs),
            atol=1e-14,
            why=_OF_TERMS,
        )
        for ours, theirs in (("nrg", "nrg"), ("nrg", "qd"), ("nrg", "int"), ("fair", "fair"), ("fair", "pwm"))
    ),
    Case(
        "crps_ensemble",
        {"member_weights": list(_MEMBER_WEIGHTS)},
        members(5),
        lambda sr, y, p: sr.crps_ensemble(y[:, 0], p, ens_w=np.tile(_MEMBER_WEIGHTS, (len(p), 1)), estimator="nrg"),
        atol=1e-14,
        why=_OF_TERMS,
    ),
    Case(
        "crps_quantile",
        {"levels": list(_LEVELS)},
        forecasts(real, *[real] * 5),
        lambda sr, y, p: sr.crps_quantile(y, p, np.array(_LEVELS)),
    ),
    Case(
        "interval_score", {"alpha": 0.2}, intervals(1, median=False), lambda sr, y, p: sr.interval_score(y, *p.T, 0.2)
    ),
    Case(
        "weighted_interval_score",
        {"alphas": [0.5, 0.2, 0.05]},
        intervals(3),
        lambda sr, y, p: sr.weighted_interval_score(
            y, p[:, 0], p[:, 1::2], p[:, 2::2], np.array([0.5, 0.2, 0.05]), backend="numba"
        ),
    ),
    *(
        Case(
            "energy_score",
            {"estimator": kind},
            members(6, width=3),
            lambda sr, y, p, kind=kind: sr.es_ensemble(y, p.reshape(-1, 6, 3), estimator=kind),
            atol=1e-14,
            why=_OF_TERMS,
        )
        for kind in ("nrg", "fair")
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows(case: Case, scoringrules: Any) -> None:
    """Every row has the value that scoringrules gives it."""
    assert_same(case, scoringrules, _CONVENTION)


def test_defect_weighted_interval_score(scoringrules: Any) -> None:
    """With NumPy, scoringrules adds the weighted median itself and not its distance from the label."""
    median, wide = 5.0, [[4.0, 3.0], [6.0, 7.0], [0.5, 0.1]]
    found = {
        backend: float(
            scoringrules.weighted_interval_score(
                np.array(median), np.array(median), *map(np.array, wide), backend=backend
            )
        )
        for backend in ("numba", "numpy")
    }
    correct = (0.5 * 0.0 + 0.25 * 2.0 + 0.05 * 4.0) / 2.5
    assert found["numba"] == pytest.approx(correct, rel=EXACT)
    assert found["numpy"] == pytest.approx(correct + 0.5 * median / 2.5, rel=EXACT)


@pytest.mark.filterwarnings("ignore:divide by zero encountered in log:RuntimeWarning")  # of the probability 0
def test_defect_negative_binomial_below_one(scoringrules: Any) -> None:
    """For n below 1 its number of combinations is 0, so that every count from 1 on loses infinity."""
    draw = forecasts(count, lambda rng: rng.uniform(0.1, 0.9, ROWS), success)
    labels, predictions = draw(np.random.default_rng(1))
    theirs = scoringrules.logs_negbinom(labels, *predictions.T)
    ours = our_values("negative_binomial_nll", {}, _CONVENTION, labels, predictions)
    assert np.isinf(theirs[labels > 0]).all()
    np.testing.assert_allclose(ours, -nbinom.logpmf(labels, *predictions.T), rtol=1e-11)
