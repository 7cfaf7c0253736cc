"""What the sum of losses is divided by, class weights, ignored labels and labels that are names, from end to end.

References are loops over the rows in NumPy, by each library's rule in `reference/losses.md` 1.3.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import lossops
from lossops.errors import InputError
from tests.datasets import write_shards

_ROWS, _CLASSES = 400, 4
_WEIGHTS = [0.5, 1.0, 2.0, 0.25]
_SMOOTHING = 0.15


def _data() -> dict[str, Any]:
    random = np.random.default_rng(11)
    labels = random.integers(0, _CLASSES, size=_ROWS)
    weights = random.uniform(0.1, 3.0, size=_ROWS)
    weights[::17] = 0.0
    labels[::13] = -100
    logits = random.normal(size=(_ROWS, _CLASSES)) * 3
    return {"label": labels, "weight": weights, "logits": logits, "group": random.integers(0, 5, size=_ROWS)}


def _torch_rows(data: dict[str, Any], smoothing: float) -> tuple[Any, Any]:
    """torch CrossEntropyLoss without reduction, and the class weight of each row; both 0 where it is ignored."""
    logs = data["logits"] - np.log(np.exp(data["logits"]).sum(axis=1, keepdims=True))
    losses, class_weights = np.zeros(_ROWS), np.zeros(_ROWS)
    for i, label in enumerate(data["label"]):
        if label == -100:
            continue
        spread = -sum(weight * log for weight, log in zip(_WEIGHTS, logs[i], strict=True))
        losses[i] = (1 - smoothing) * -_WEIGHTS[label] * logs[i, label] + smoothing / _CLASSES * spread
        class_weights[i] = _WEIGHTS[label]
    return losses, class_weights


def _run(tmp_path: Path, entry: dict[str, Any], *, shards: int = 3, weight: str | None = None) -> list[dict[str, Any]]:
    data = _data()
    table = pa.table({name: values.tolist() for name, values in data.items()})
    parts = [table.slice(start, -(-_ROWS // shards)) for start in range(0, _ROWS, -(-_ROWS // shards))]
    folder = write_shards(tmp_path / f"data{shards}", parts)
    config = {
        "name": "reduction",
        "labels": {"path": str(folder), "label": "label"},
        "models": {"m": {"path": str(folder), "prediction": "logits"}},
        "losses": [{"loss": "sparse_categorical_crossentropy", "from_logits": True, "ignore_class": -100, **entry}],
        "weight": weight,
        "slices": ["group"],
        "output": str(tmp_path / "reports"),
    }
    return lossops.evaluate(config).losses.to_pylist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("smoothing", [0.0, _SMOOTHING])
@pytest.mark.parametrize("weight", [None, "weight"])
@pytest.mark.parametrize("denominator", ["weights", "rows", "all_rows", "class_weights", "convention"])
def test_every_denominator(tmp_path: Path, denominator: str, weight: str | None, smoothing: float) -> None:
    """Class weights, smoothing, ignored labels and sample weights together, in every slice, by every denominator."""
    data = _data()
    losses, class_weights = _torch_rows(data, smoothing)
    sample = data["weight"] if weight else np.ones(_ROWS)
    ignored = data["label"] == -100
    entry = {
        "denominator": denominator,
        "convention": "torch",
        "class_weight": _WEIGHTS,
        "label_smoothing": smoothing,
    }
    divisors = {
        "weights": np.where(ignored, 0.0, sample),
        "rows": np.where(ignored, 0.0, 1.0),
        "all_rows": np.ones(_ROWS),
        "class_weights": sample * class_weights,
        "convention": sample * class_weights,
    }
    for row in _run(tmp_path, entry, weight=weight):
        inside = np.full(_ROWS, True)
        if row["slice"] != "overall":
            inside = data["group"] == int(row["slice_values"][0])
        x, d = (sample * losses)[inside], divisors[denominator][inside]
        mean = x.sum() / d.sum()
        assert row["mean"] == pytest.approx(mean, rel=1e-12)
        counted = (d > 0) | (x > 0)
        residuals = ((x - mean * d)[counted] ** 2).sum() * counted.sum() / (counted.sum() - 1)
        assert row["std_error"] == pytest.approx(np.sqrt(residuals) / d.sum(), rel=1e-10)


def test_a_denominator_is_the_same_however_the_data_is_cut(tmp_path: Path) -> None:
    """Bit by bit, over shards."""
    entry = {"denominator": "class_weights", "class_weight": _WEIGHTS, "label_smoothing": _SMOOTHING}
    assert _run(tmp_path, entry, weight="weight") == _run(tmp_path, entry, shards=7, weight="weight")


def test_a_denominator_that_does_not_apply(tmp_path: Path) -> None:
    """Class weights without class weights, or for a measure."""
    with pytest.raises(InputError, match=r"denominator: class_weights; allowed: .*class_weight"):
        _run(tmp_path, {"denominator": "class_weights"})


_NAMES = ["cat", "dog", "eel"]


def _named(tmp_path: Path, entry: dict[str, Any], labels: list[Any], predictions: Any) -> tuple[Any, dict[str, int]]:
    folder = write_shards(tmp_path / "named", [pa.table({"label": labels, "prediction": predictions})])
    report = lossops.evaluate(
        {
            "name": "named",
            "labels": {"path": str(folder), "label": "label"},
            "models": {"m": {"path": str(folder), "prediction": "prediction"}},
            "losses": [entry],
            "output": str(tmp_path / "reports"),
        }
    )
    ledger = {row["reason"]: row["rows"] for row in report.ledger.to_pylist() if row["dataset"] == "labels"}
    return report.losses.to_pylist()[0]["mean"], ledger


def test_classes_by_name(tmp_path: Path) -> None:
    """Text labels, a class that never occurs, one that is unknown, and a null."""
    labels = ["dog", "cat", "dog", "fox", None]
    predictions = [[0.2, 0.7, 0.1]] * 5
    entry = {"loss": "sparse_categorical_crossentropy", "classes": _NAMES}
    mean, ledger = _named(tmp_path, entry, labels, predictions)
    assert mean == pytest.approx(-(2 * np.log(0.7) + np.log(0.2)) / 3, rel=1e-12)
    assert ledger == {"scored": 3, "label_outside_domain": 1, "label_null": 1}


def test_fields_name_the_classes_of_text_labels(tmp_path: Path) -> None:
    """A struct of scores binds columns to labels by name, whatever their order."""
    predictions = [{"eel": 0.1, "cat": 0.2, "dog": 0.7}] * 3
    mean, _ = _named(tmp_path, {"loss": "categorical_crossentropy"}, ["dog", "cat", "eel"], predictions)
    assert mean == pytest.approx(-np.log([0.7, 0.2, 0.1]).mean(), rel=1e-12)


def test_classes_in_another_order_than_the_fields(tmp_path: Path) -> None:
    """Columns that do not go with the labels' order are refused, not permuted."""
    predictions = [{"eel": 0.1, "cat": 0.2, "dog": 0.7}] * 3
    entry = {"loss": "categorical_crossentropy", "classes": _NAMES}
    with pytest.raises(InputError, match=r"eel, cat, dog.*same order"):
        _named(tmp_path, entry, ["dog", "cat", "eel"], predictions)


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        ([0, 1], [0, 1, 1]),
        ([2, 7], [2, 7, 7]),
        ([False, True], [False, True, True]),
        (["no", "yes"], ["no", "yes", "yes"]),
    ],
)
def test_two_classes_become_what_the_loss_wants(tmp_path: Path, classes: list[Any], labels: list[Any]) -> None:
    """hinge wants -1 and 1; the encoding is declared, never guessed from a batch."""
    mean, ledger = _named(tmp_path, {"loss": "hinge", "classes": classes}, labels, [0.5, 0.5, 3.0])
    assert mean == pytest.approx((1.5 + 0.5 + 0.0) / 3, rel=1e-15)
    assert ledger == {"scored": 3}


def test_a_label_of_another_encoding_is_refused_row_by_row(tmp_path: Path) -> None:
    """0 is no label of hinge where nothing is declared."""
    _, ledger = _named(tmp_path, {"loss": "hinge"}, [0, 1, -1], [0.5, 0.5, 3.0])
    assert ledger == {"scored": 2, "label_outside_domain": 1}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"loss": "hinge", "classes": ["a", "b", "c"]}, "3 classes for hinge; allowed: two"),
        ({"loss": "huber", "classes": [0, 1]}, "2 classes for huber; allowed"),
        ({"loss": "hinge", "classes": ["a", "b"]}, "allowed: classes of the label's type"),
        ({"loss": "triplet_margin", "label": "label"}, "takes no label"),
        ({"loss": "gaussian_nll"}, r"the prediction has 1 values a row; allowed: 2 \(mean"),
        ({"loss": "pinball_set", "levels": [0.1, 0.9]}, r"levels has 2 numbers; allowed: 1"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    """One line that names the loss, what was found and what is allowed."""
    with pytest.raises(InputError, match=message):
        _named(tmp_path, entry, [0, 1, 1], [0.5, 0.5, 3.0])


def test_several_vectors_side_by_side(tmp_path: Path) -> None:
    """Three columns of vectors are anchor, positive and negative; no label is read."""
    random = np.random.default_rng(2)
    columns = {name: random.normal(size=(20, 3)) for name in ("a", "p", "n")}
    folder = write_shards(tmp_path / "data", [pa.table({name: list(value) for name, value in columns.items()})])
    report = lossops.evaluate(
        {
            "name": "triplet",
            "labels": {"path": str(folder)},
            "models": {"m": {"path": str(folder), "prediction": ["a", "p", "n"]}},
            "losses": ["triplet_margin"],
            "convention": "exact",
            "output": str(tmp_path / "reports"),
        }
    )
    near, far = (np.linalg.norm(columns["a"] - columns[other], axis=1) for other in ("p", "n"))
    assert report.losses.to_pylist()[0]["mean"] == pytest.approx(np.maximum(0.0, 1.0 + near - far).mean(), rel=1e-12)


def test_a_convention_of_its_own(tmp_path: Path) -> None:
    """Two conventions side by side tell why two libraries disagree."""
    folder = write_shards(tmp_path / "data", [pa.table({"label": [0], "prediction": [1.0]})])
    losses = [
        {"loss": "binary_crossentropy", "name": name, "convention": name} for name in ("keras", "torch", "xgboost")
    ]
    report = lossops.evaluate(
        {
            "name": "conventions",
            "labels": {"path": str(folder), "label": "label"},
            "models": {"m": {"path": str(folder), "prediction": "prediction"}},
            "losses": losses,
            "output": str(tmp_path / "reports"),
        }
    )
    found = {row["loss"]: row["mean"] for row in report.losses.to_pylist()}
    assert found == pytest.approx({"keras": -np.log(1e-7), "torch": 100.0, "xgboost": -np.log(1e-16)}, rel=1e-9)


def test_a_hundred_thousand_classes(tmp_path: Path) -> None:
    """float16 logits of 100 000 classes, against a log-sum-exp in NumPy."""
    random = np.random.default_rng(4)
    logits = random.normal(size=(3, 100_000)).astype(np.float16)
    values = pa.FixedSizeListArray.from_arrays(pa.array(logits.ravel()), 100_000)
    folder = write_shards(tmp_path / "data", [pa.table({"label": [5, 99_999, 0], "prediction": values})])
    names = ["sparse_categorical_crossentropy", "categorical_crossentropy"]
    report = lossops.evaluate(
        {
            "name": "wide",
            "labels": {"path": str(folder), "label": "label"},
            "models": {"m": {"path": str(folder), "prediction": "prediction"}},
            "losses": [{"loss": name, "from_logits": True} for name in names],
            "output": str(tmp_path / "reports"),
        }
    )
    wide = logits.astype(np.float64)
    expected = np.mean(np.log(np.exp(wide).sum(axis=1)) - wide[range(3), [5, 99_999, 0]])
    assert [row["mean"] for row in report.losses.to_pylist()] == pytest.approx([expected] * 2, rel=1e-12)


@pytest.mark.parametrize("order", [("mean", "spread"), ("spread", "mean")])
def test_a_struct_names_the_values_of_a_forecast(tmp_path: Path, order: tuple[str, str]) -> None:
    """Mean and spread are taken by name, whatever their order."""
    values = {"mean": 1.0, "spread": 2.0}
    predictions = [{name: values[name] for name in order}] * 2
    mean, _ = _named(tmp_path, {"loss": "gaussian_nll", "convention": "exact"}, [0.0, 3.0], predictions)
    density = [0.5 * np.log(2 * np.pi * 4) + (y - 1.0) ** 2 / 8 for y in (0.0, 3.0)]
    assert mean == pytest.approx(np.mean(density), rel=1e-14)


def test_a_struct_with_other_names(tmp_path: Path) -> None:
    """Fields that the loss does not have are refused, not taken by position."""
    with pytest.raises(InputError, match=r"fields of 'prediction' in .* are mean, sigma; allowed: mean, spread"):
        _named(tmp_path, {"loss": "gaussian_nll"}, [0.0], [{"mean": 0.0, "sigma": 1.0}])
