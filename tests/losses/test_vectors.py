"""Vectors from the test suites of other libraries: `../shared/vectors/loss_vectors.json`, one test each.

Each holds under the convention of its source. A vector that records a defect of its library is asserted as such by
name in `DEFECTS`: what the library gives, and what this one gives instead.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lossops
from lossops.config import parse_config
from lossops.losses import CATALOGUE, Inputs, bind
from lossops.measures import MEASURES

Vector = dict[str, Any]
_FILE = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "loss_vectors.json"
_VECTORS: list[Vector] = json.loads(_FILE.read_text())["vectors"] if _FILE.exists() else []

_CONVENTIONS = {
    "keras-team/keras@": "keras",
    "keras-team/tf-keras@": "tf_keras",
    "scikit-learn": "sklearn",
    "pytorch/": "torch",
    "dmlc/xgboost@": "xgboost",
    "apache/spark@": "spark",
}


@dataclass(frozen=True)
class Use:
    """How a vector's loss is called here.

    Args:
        loss: its name.
        parameters: the vector's parameter -> ours.
        fixed: parameters that the vector's name implies.
        fields: for named predictions: ours in order, by the vector's names.
        given: additional keys of the loss in a config.
        turned: from our loss to the vector's value.
    """

    loss: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    fields: tuple[str, ...] = ()
    given: Mapping[str, Any] = field(default_factory=dict)
    turned: Callable[[Any], Any] = lambda value: value


_SMOOTHED = {name: name for name in ("from_logits", "label_smoothing", "class_weight", "ignore_class")}
_POISSON = {name: name for name in ("full", "log_input")}
# What a vector calls a loss, and how it is called here.
_USES = {
    "binary_crossentropy": Use("binary_crossentropy", _SMOOTHED),
    "binary_focal_crossentropy": Use(
        "binary_focal_crossentropy",
        {name: name for name in ("from_logits", "gamma", "alpha", "apply_class_balancing")},
    ),
    "binary_hinge": Use("hinge", given={"classes": [0, 1]}),
    "brier": Use("brier"),
    "categorical_crossentropy": Use("categorical_crossentropy", _SMOOTHED),
    "categorical_focal_crossentropy": Use(
        "categorical_focal_crossentropy",
        {name: name for name in ("from_logits", "gamma", "alpha", "label_smoothing")},
    ),
    "categorical_hinge": Use("categorical_hinge"),
    "cosine_distance": Use("cosine_distance"),
    "cosine_embedding": Use("cosine_embedding", {"margin": "margin"}, fields=("x1", "x2")),
    "cosine_similarity": Use("cosine_distance", turned=lambda distance: 1.0 - distance),
    "cosine_similarity_loss": Use("cosine_similarity"),
    "crps_ensemble": Use("crps_ensemble", {"member_weights": "member_weights"}),
    "crps_exponential": Use("crps_exponential", fields=("rate",)),
    "crps_gamma": Use("crps_gamma", fields=("shape", "rate")),
    "crps_laplace": Use("crps_laplace", fields=("location", "scale")),
    "crps_logistic": Use("crps_logistic", fields=("mu", "sigma")),
    "crps_negbinom": Use("crps_negative_binomial", fields=("n", "prob")),
    "crps_poisson": Use("crps_poisson", fields=("mean",)),
    "crps_t": Use("crps_student_t", fields=("df", "mu", "sigma")),
    "d2_pinball": Use("d2_pinball", {"alpha": "alpha"}),
    "d2_tweedie": Use("d2_tweedie", {"power": "power"}),
    "dice": Use("dice"),
    "energy_score": Use("energy_score"),
    "expected_calibration_error": Use("expected_calibration_error", {"n_bins": "bins"}),
    "expectile": Use("expectile", {"alpha": "alpha"}),
    "gamma_deviance": Use("gamma_deviance"),
    "generalized_cross_entropy": Use("generalized_crossentropy", {"q": "q"}),
    "generalized_kl_divergence": Use("generalized_kl_divergence", fixed={"from_log_probabilities": True}),
    "half_tweedie_deviance": Use("tweedie_deviance", {"power": "power"}, turned=lambda value: value / 2),
    "hamming": Use("hamming"),
    "hinge": Use("hinge", given={"classes": [0, 1]}),
    "huber": Use("huber", {"delta": "delta"}),
    "jensen_shannon_divergence": Use("jensen_shannon_divergence"),
    "kl_divergence": Use("kl_divergence"),
    "log_cosh": Use("log_cosh"),
    "log_loss": Use("sparse_categorical_crossentropy"),
    "log_score_binary": Use("binary_crossentropy"),
    "max_error": Use("max_error"),
    "mean_absolute_error": Use("mean_absolute_error"),
    "mean_absolute_percentage_error": Use("mean_absolute_percentage_error"),
    "mean_squared_error": Use("mean_squared_error"),
    "mean_squared_logarithmic_error": Use("mean_squared_logarithmic_error"),
    "median_absolute_error": Use("median_absolute_error"),
    "multi_margin": Use("multi_margin", {name: name for name in ("exponent", "margin", "class_weight")}),
    "multiclass_hinge_crammer_singer": Use("multiclass_hinge"),
    "multilabel_margin": Use("multilabel_margin"),
    "multilabel_soft_margin": Use("multilabel_crossentropy", _SMOOTHED),
    "nll": Use("sparse_categorical_crossentropy", fixed={"from_log_probabilities": True}),
    "nll_exponential": Use("exponential_nll", fields=("rate",)),
    "nll_gamma": Use("gamma_nll", fields=("shape", "rate")),
    "nll_gaussian": Use("gaussian_nll", {"full": "full"}, fields=("mu", "sigma")),
    "nll_laplace": Use("laplace_nll", fields=("location", "scale")),
    "nll_lognormal": Use("lognormal_nll", fields=("mulog", "sigmalog")),
    "nll_poisson": Use("poisson_nll", fixed={"full": True, "counts_only": True}, fields=("mean",)),
    "pinball": Use("pinball", {"alpha": "alpha"}),
    "pinball_set": Use("pinball_set", {"alphas": "levels"}),
    "poisson_deviance": Use("poisson_deviance"),
    "poisson_nll": Use("poisson_nll", _POISSON),
    "poly_loss_cross_entropy": Use("poly1_crossentropy", {name: name for name in ("from_logits", "epsilon")}),
    "pseudo_huber": Use("pseudo_huber", {"slope": "delta"}),
    "ranked_log_score": Use("ranked_log_score"),
    "ranked_probability_score": Use("ranked_probability_score"),
    "root_mean_squared_error": Use("root_mean_squared_error"),
    "root_mean_squared_logarithmic_error": Use("root_mean_squared_logarithmic_error"),
    "smooth_l1": Use("smooth_l1", {"beta": "beta"}),
    "soft_margin": Use("soft_margin"),
    "sparse_categorical_crossentropy": Use("sparse_categorical_crossentropy", _SMOOTHED),
    "squared_hinge": Use("squared_hinge", given={"classes": [0, 1]}),
    "triplet_margin": Use(
        "triplet_margin",
        {"margin": "margin", "norm_degree": "norm_degree"},
        fields=("anchor", "positive", "negative"),
    ),
    "tversky": Use("tversky", {"alpha": "alpha", "beta": "beta"}),
    "tweedie_deviance": Use("tweedie_deviance", {"power": "power"}),
    "zero_one": Use("zero_one"),
}
# Parameters that say something of the vector, and not of the loss.
_SPOKEN = {
    *("clip", "clamp_min", "renormalise", "dtype", "input_kind", "expected_expr", "y_pred_expr", "labels", "axis"),
    *("label_encoding", "scale_by_half", "unit", "epsilon", "estimator", "norm", "ignore_index", "norm_degree"),
}
# Class numbers of these count from 1 in their source.
_FROM_ONE = {"ranked_log_score", "ranked_probability_score"}


def _use(vector: Vector) -> Use:
    if vector["loss"] == "brier" and np.ndim(vector["y_pred"]) == 2:
        return Use("multiclass_brier")
    if vector["id"] == "hinge-138":
        return Use("hinge")
    if vector["id"] == "hinge-139":
        return Use("hinge", given={"classes": [0, 2]})
    return _USES[vector["loss"]]


def _convention(vector: Vector) -> str:
    return next((name for source, name in _CONVENTIONS.items() if vector["source"].startswith(source)), "exact")


def _loss_entry(vector: Vector) -> dict[str, Any]:
    use = _use(vector)
    given = vector["params"]
    assert set(given) <= {*use.parameters, *_SPOKEN}, f"{vector['id']}: a parameter that this test does not use"
    parameters = {ours: given[theirs] for theirs, ours in use.parameters.items() if theirs in given}
    if given.get("dtype") == "float32":
        parameters["precision"] = "float32"
    return {"loss": use.loss, "convention": _convention(vector), **use.fixed, **use.given, **parameters}


_DENOMINATORS = {
    "mean": "rows",
    "sum_over_batch_size": "rows",
    "mean over ALL rows (metric)": "all_rows",
    "weighted_mean": "weights",
    "mean_with_sample_weight": "weights",
}


def _lists(value: Any) -> Any:
    """Floats from a vector's JSON, where infinity is a text."""
    if isinstance(value, list):
        return [_lists(one) for one in value]
    return float(value.lower()) if isinstance(value, str) and value.lstrip("-") == "Infinity" else value


def _predictions(vector: Vector, inputs: Inputs) -> list[Any]:
    """Return the prediction of each row: a number or a list of numbers."""
    found = vector["y_pred"]
    if isinstance(found, dict):
        columns = [np.asarray(found[name], dtype=np.float64) for name in _use(vector).fields]
        rows = [np.atleast_2d(column) if column.ndim else column.reshape(1, 1) for column in columns]
        return np.hstack(rows).tolist()
    array = np.asarray(_lists(found), dtype=np.float64)
    if inputs is Inputs.MEMBERS or vector["id"].startswith("tversky"):
        return [array.ravel().tolist()]
    if inputs is Inputs.ELEMENTS:
        return array.reshape(-1, array.shape[-1]).tolist() if array.ndim > 1 else array.reshape(-1, 1).tolist()
    if vector["loss"] == "zero_one":
        return array.reshape(-1, 1).tolist()
    return array.reshape(-1, array.shape[-1]).tolist()


def _labels(vector: Vector, inputs: Inputs, rows: int) -> list[Any]:
    """Return the label of each row."""
    found = vector["y_true"]
    if found is None:
        return [0.0] * rows
    if vector["loss"] == "multilabel_margin":  # a list of class numbers that -1 ends, as ones at those places
        ends = [row.index(-1) if -1 in row else len(row) for row in found]
        return [[float(j in row[:end]) for j in range(len(row))] for row, end in zip(found, ends, strict=True)]
    flat = np.ravel(np.asarray(found)).tolist()
    if inputs in (Inputs.CLASS_INDEX, Inputs.NUMBER, Inputs.PAIR) or (inputs is Inputs.CLASSES and len(flat) == rows):
        if isinstance(flat[0], str) or "labels" in vector["params"] or vector["loss"] == "log_loss":
            order = vector["params"].get("labels") or sorted(set(flat))
            return [order.index(label) for label in flat]
        return [label - 1 if vector["loss"] in _FROM_ONE else label for label in flat]
    return np.asarray(flat, dtype=np.float64).reshape(rows, -1).tolist()


def _evaluate(vector: Vector, folder: Path) -> tuple[Any, dict[str, int]]:
    """Run the vector through Parquet and a config; return our value or values and the ledger."""
    use = _use(vector)
    inputs = (CATALOGUE.get(use.loss) or MEASURES[use.loss]).inputs
    predictions = _predictions(vector, inputs)
    labels = _labels(vector, inputs, len(predictions))
    weights = np.ravel(1.0 if vector["sample_weight"] is None else vector["sample_weight"])
    table = {
        "label": labels,
        "prediction": predictions,
        "weight": np.broadcast_to(weights, (len(labels),)).astype(np.float64),
        "row": np.arange(len(labels)),
    }
    pq.write_table(pa.table(table), folder / "data.parquet")
    entry, reduction = _loss_entry(vector), vector["reduction"]
    if use.loss in CATALOGUE and reduction in _DENOMINATORS:
        entry["denominator"] = _DENOMINATORS[reduction]
    config = {
        "name": "vector",
        "labels": {"path": str(folder / "data.parquet"), "label": "label"},
        "models": {"m": {"path": str(folder / "data.parquet"), "prediction": "prediction"}},
        "weight": "weight",
        "losses": [entry],
        "slices": ["row"],
        "output": str(folder / "reports"),
        "cluster": {"threads": 1},
    }
    if vector["sample_weight"] is None:
        del config["weight"]
    report = lossops.evaluate(parse_config(config))
    rows = report.losses.to_pylist()
    ledger = {r["reason"]: r["rows"] for r in report.ledger.to_pylist() if r["dataset"] == "labels" and r["rows"]}
    overall = next(row for row in rows if row["slice"] == "overall")
    if reduction == "none":
        each = {row["slice_values"][0]: row["sum"] for row in rows if row["slice"] != "overall"}
        return [
            use.turned(each[str(i)] or 0.0) if each[str(i)] is not None else 0.0 for i in range(len(labels))
        ], ledger
    if reduction == "sum":
        return overall["sum"], ledger
    return None if overall["mean"] is None else use.turned(overall["mean"]), ledger


def _holds(vector: Vector, actual: Any) -> bool:
    expected = np.ravel(np.asarray(_lists(vector["expected"]), dtype=np.float64))
    found = np.ravel(np.asarray(actual, dtype=np.float64))
    # sources state rtol 1e-15 besides the absolute tolerance
    allowed = vector["tolerance"] + 1e-15 * np.abs(np.where(np.isinf(expected), 0.0, expected))
    same = np.isinf(expected) & (found == expected)
    with np.errstate(invalid="ignore"):
        return bool((same | (np.abs(found - expected) <= allowed)).all())


@dataclass(frozen=True)
class Defect:
    """What is wrong with a vector, and what this library does with its rows instead."""

    why: str
    ours: Any = None
    ledger: Mapping[str, int] = field(default_factory=dict)


DEFECTS: dict[str, Defect] = {
    "binary_crossentropy-076": Defect(
        "XGBoost accepts negative weights, and where they sum to 0 it returns a sum for a mean; such rows are refused",
        ledger={"weight_negative": 2, "scored": 2},
    ),
    "mean_squared_error-007": Defect(
        "Keras gives the mean loss 0 to data that all have weight 0; a slice without a scored row has no mean",
        ledger={"weight_zero": 2},
    ),
    "multiclass_hinge_crammer_singer-147": Defect(
        "TorchMetrics applies a softmax because some score of the batch is outside [0, 1]; the scores are scores",
        ours=2.9,
    ),
}


@pytest.mark.parametrize("vector", _VECTORS or [None], ids=lambda vector: vector["id"] if vector else "absent")
def test_vector(vector: Vector | None, tmp_path: Path) -> None:
    """Within the tolerance of its source, under the convention that its source implies."""
    if vector is None:
        pytest.skip("../shared/vectors is absent")
    actual, ledger = _evaluate(vector, tmp_path)
    defect = DEFECTS.get(vector["id"])
    if defect is None:
        assert _holds(vector, actual), (actual, vector["expected"], ledger)
        return
    assert not (actual is not None and _holds(vector, actual))
    assert defect.ours is None or actual == pytest.approx(defect.ours, rel=1e-12)
    assert not defect.ledger or {key: rows for key, rows in ledger.items() if rows} == {
        key: rows for key, rows in {"scored": 0, **defect.ledger}.items() if rows
    }


def test_the_softmaxed_hinge_is_reproduced() -> None:
    """The value that TorchMetrics gives comes out of the softmax of the scores: the defect is understood."""
    vector = next((one for one in _VECTORS if one["id"] == "multiclass_hinge_crammer_singer-147"), None)
    if vector is None:
        pytest.skip("../shared/vectors is absent")
    scores = np.exp(np.asarray(vector["y_pred"]))
    scores /= scores.sum(axis=1, keepdims=True)
    labels = np.asarray(vector["y_true"], dtype=np.float64)[:, np.newaxis]
    values = bind("multiclass_hinge", {}, "exact").values(labels, scores, np.zeros(len(labels), dtype=np.uint8))
    assert math.isclose(values.mean(), vector["expected"], abs_tol=vector["tolerance"])


def test_defects_are_vectors() -> None:
    """The list of exceptions names real vectors, and is short."""
    if not _VECTORS:
        pytest.skip("../shared/vectors is absent")
    assert set(DEFECTS) <= {vector["id"] for vector in _VECTORS}
    assert len(DEFECTS) < len(_VECTORS) / 20
