"""Every loss, in each of its forms, and every measure is compared with a library, or it is said here why not."""

from __future__ import annotations

from lossops.losses import CATALOGUE
from lossops.measures import MEASURES
from tests.conformance import (
    test_keras,
    test_lightgbm,
    test_properscoring,
    test_scipy,
    test_scoringrules,
    test_sklearn,
    test_torch,
    test_xgboost,
)

_TABLES = (
    test_keras,
    test_lightgbm,
    test_properscoring,
    test_scipy,
    test_scoringrules,
    test_sklearn,
    test_torch,
    test_xgboost,
)
_OPTAX = "of these libraries only optax has it, which needs JAX's compiler"
_BINS = "no library here computes it; compared with plain Python in tests/measures"

NOT_COMPARED = {
    "expectile": "only a metric of XGBoost, in releases later than 3.2",
    "poly1_crossentropy": _OPTAX,
    "poly1_crossentropy from_logits": _OPTAX,
    "generalized_crossentropy from_logits": "Keras takes probabilities only",
    "quantile_crossing": "in no library",
    "spherical_score": "in no library",
    "symmetric_mean_absolute_percentage_error": "only in TorchMetrics, and in CatBoost as percent",
    "brier_reliability": _BINS,
    "brier_resolution": _BINS,
    "brier_uncertainty": _BINS,
    "log_loss_reliability": _BINS,
    "log_loss_resolution": _BINS,
    "log_loss_uncertainty": _BINS,
    "expected_calibration_error": _BINS,
    "maximum_calibration_error": _BINS,
    "root_mean_square_calibration_error": _BINS,
    "multiclass_expected_calibration_error": _BINS,
    "multiclass_maximum_calibration_error": _BINS,
    "multiclass_root_mean_square_calibration_error": _BINS,
    "weighted_mean_absolute_percentage_error": "only in TorchMetrics",
}


def _named(loss: str, switch: str | None) -> str:
    return loss if switch is None else f"{loss} {switch}"


def test_every_loss_and_measure_is_compared_or_excused() -> None:
    """A new loss, or a new form of one, needs a line in one of the tables or a reason here."""
    declared = {_named(loss.name, switch) for loss in CATALOGUE.values() for switch in loss.forms} | set(MEASURES)
    entries = (entry for table in _TABLES for name in ("CASES", "MEANS") for entry in getattr(table, name, ()))
    compared = {_named(*entry.form) for entry in entries}
    assert sorted(declared - compared - set(NOT_COMPARED)) == []
    assert sorted(set(NOT_COMPARED) & compared) == []
    assert sorted((compared | set(NOT_COMPARED)) - declared) == []
