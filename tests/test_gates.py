"""Gates: outcomes against intervals of SciPy, families of slices against statsmodels' definition, whole runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import lossops
from lossops.comparisons import Difference
from lossops.errors import GateError
from lossops.gates import holm, judged, of_difference, of_increase, of_mean, of_share
from lossops.statistics import Summary
from tests.datasets import score_table, write_shards
from tests.test_intervals import evaluate


def _mean(losses: list[float]) -> Summary:
    values = np.array(losses)
    error = float(stats.sem(values))
    low, high = stats.t.interval(0.95, len(values) - 1, loc=values.mean(), scale=error) if error else 2 * [values[0]]
    rows = len(losses)
    return Summary(
        rows, rows, 0, float(rows), float(values.mean()), std_error=error, ci_low=low, ci_high=high, freedom=rows - 1
    )


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=20), st.floats(-100, 100))
def test_a_single_gate_follows_its_interval(losses: list[float], limit: float) -> None:
    found = _mean(losses)
    assert found.ci_low is not None
    assert found.ci_high is not None
    verdict = judged([of_mean(found, limit)], 0, 0.95)[0]
    expected = "pass" if found.ci_high <= limit else "fail" if found.ci_low > limit else "insufficient"
    near = min(abs(found.ci_low - limit), abs(found.ci_high - limit)) < 1e-9 * (1 + abs(limit))
    assert near or verdict.outcome == expected


def test_a_value_at_its_limit_passes() -> None:
    """TFMA's metrics_validator_test: ChangeThresholdEqualPass."""
    assert judged([of_mean(_mean([2.0, 2.0]), 2.0)], 0, 0.95)[0].outcome == "pass"
    same = Difference(5, None, 0.3, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, freedom=4)
    assert judged([of_difference(same, 0.0)], 0, 0.95)[0].outcome == "pass"
    assert judged([of_increase(same, 0.0, 0.95)], 0, 0.95)[0].outcome == "pass"


@pytest.mark.parametrize(("limit", "outcome"), [(-1.0, "fail"), (0.0, "pass")])
def test_absolute_change(limit: float, outcome: str) -> None:
    """TFMA's metrics_validator_test: baseline 0.333, difference -0.333, lower is better; here with certainty."""
    found = Difference(5, None, 0.333, 0.0, -0.333, 0.0, -0.333, -0.333, -1.0, p_value=0.0, freedom=4)
    assert judged([of_difference(found, limit)], 0, 0.95)[0].outcome == outcome


def test_a_fraction_of_nothing() -> None:
    """TFMA fails a relative change of a baseline of 0; here it depends on whether there is a change."""
    more = Difference(5, None, 0.0, 1.0, 1.0, 0.1, 0.7, 1.3, freedom=4)
    same = Difference(5, None, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, freedom=4)
    vague = Difference(5, None, 0.0, 0.1, 0.1, 0.1, -0.2, 0.4, freedom=4)
    outcomes = [judged([of_increase(one, 0.5, 0.95)], 0, 0.95)[0].outcome for one in (more, same, vague)]
    assert outcomes == ["fail", "pass", "insufficient"]


def test_too_little_to_tell() -> None:
    few = judged([of_mean(_mean([5.0, 5.1, 4.9]), 1.0)], 4, 0.95)[0]
    assert (few.outcome, few.why) == ("insufficient", "fewer than 4 rows")
    single = judged([of_mean(Summary(1, 1, 0, 1.0, 5.0), 1.0)], 0, 0.95)[0]
    assert single.outcome == "insufficient"
    assert judged([of_share(0, 0, 0.1)], 0, 0.95)[0].outcome == "insufficient"
    assert judged([of_mean(Summary(2, 2, 0, 2.0, math.inf), 1.0)], 0, 0.95)[0].outcome == "fail"


@given(st.lists(st.none() | st.floats(0, 1), max_size=30))
def test_holm_is_the_largest_of_scaled_predecessors(p_values: list[float | None]) -> None:
    """From the definition: max over j <= i of min((m - j + 1) p_(j), 1)."""
    found = holm(p_values)
    known = sorted(p for p in p_values if p is not None)
    for p, adjusted in zip(p_values, found, strict=True):
        if p is None:
            assert adjusted is None
            continue
        ranks = range(known.index(p) + 1)
        assert adjusted == max(min((len(known) - j) * known[j], 1.0) for j in ranks)


@pytest.fixture
def frame() -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = 3000
    bad = np.arange(rows) % 10 == 0
    return pd.DataFrame(
        {
            "y": 0.0,
            "zero": np.where(bad, 3.0, 1.0) * random.lognormal(sigma=0.3, size=rows),
            "other": random.lognormal(sigma=0.3, size=rows),
            "group": np.where(bad, "bad", np.where(np.arange(rows) % 2, "odd", "even")),
        }
    )


def _run(folder: Path, frame: pd.DataFrame, *gates: dict[str, Any], **settings: Any) -> lossops.Report:
    models = {
        name: {"path": str(folder / "data"), "prediction": column}
        for name, column in (("m", "zero"), ("base", "other"))
    }
    return evaluate(folder, frame, models=models, baseline="base", slices=["group"], gates=list(gates), **settings)


def test_gates_of_a_run(frame: pd.DataFrame, tmp_path: Path) -> None:
    report = _run(
        tmp_path,
        frame,
        {"loss": "mean_absolute_error", "model": "m", "max": 1.5, "slices": ["overall", "group"]},
        {"loss": "mean_absolute_error", "max_increase": 0.05, "slices": ["group=odd", "group=none"]},
        {"loss": "mean_absolute_error", "max_difference": -0.5, "slices": ["group=even"]},
        {"share": "invalid", "model": "m", "max": 0.0},
    )
    found = {(row["gate"], row["slice"]): row for row in report.gates.to_pylist()}
    assert {place: row["outcome"] for place, row in found.items()} == {
        ("m mean_absolute_error max 1.5", "overall"): "pass",
        ("m mean_absolute_error max 1.5", "group=bad"): "fail",
        ("m mean_absolute_error max 1.5", "group=even"): "pass",
        ("m mean_absolute_error max 1.5", "group=odd"): "pass",
        ("mean_absolute_error max_increase 0.05", "group=odd"): "pass",
        ("mean_absolute_error max_increase 0.05", "group=none"): "fail",
        ("mean_absolute_error max_difference -0.5", "group=even"): "fail",
        ("m share invalid max 0", "overall"): "pass",
    }
    bad = found["m mean_absolute_error max 1.5", "group=bad"]
    row = score_table(report.losses, {"slice": "group=bad", "model": "m"})
    assert (bad["value"], bad["ci_low"], bad["ci_high"]) == (row["mean"], row["ci_low"], row["ci_high"])
    expected = stats.ttest_1samp(frame["zero"][frame["group"] == "bad"], 1.5).pvalue
    assert math.isclose(bad["p_value"], expected, rel_tol=1e-6)
    assert math.isclose(bad["p_adjusted"], min(4 * expected, 1), rel_tol=1e-6)
    assert not report.passed
    assert report.run["outcome"] == "failed"
    with pytest.raises(GateError, match=r"3 of 8 gate rows failed: .*group=bad: 3\.[0-9]+ \(.*gates|report"):
        report.check_gates()


def test_relative_limits_follow_the_comparison(frame: pd.DataFrame, tmp_path: Path) -> None:
    """A limit just inside the interval of the relative difference is undecided, one just outside is decided."""
    first = _run(tmp_path / "first", frame)
    row = score_table(first.comparisons, {"slice": "group=odd"})
    low, high = row["relative_ci_low"], row["relative_ci_high"]
    step = (high - low) / 1000
    limits = {low - step: "fail", low + step: "insufficient", high - step: "insufficient", high + step: "pass"}
    gates = [
        {"loss": "mean_absolute_error", "max_increase": limit, "slices": ["group=odd"], "name": str(number)}
        for number, limit in enumerate(limits)
    ]
    report = _run(tmp_path / "second", frame, *gates)
    assert report.gates["outcome"].to_pylist() == list(limits.values())


@pytest.mark.parametrize("limit", [{"max_increase": 0.1}, {"max_difference": 1e6}])
def test_an_infinite_loss_that_the_baseline_has_not_fails(
    frame: pd.DataFrame, tmp_path: Path, limit: dict[str, float]
) -> None:
    """Of one row of many; where the baseline has one as well, or alone, nothing can be told."""
    certain = frame.assign(y=np.arange(len(frame)) % 2, zero=0.5, other=0.5)
    certain.loc[[10, 11], "zero"] = [1.0, 0.0]  # wrong and certain, in the groups bad and odd
    certain.loc[[11, 12], "other"] = [0.0, 1.0]  # and the baseline in odd and even
    bce = {"loss": "binary_crossentropy", "convention": "exact", "name": "bce"}
    report = _run(tmp_path, certain, {"loss": "bce", "slices": ["group"], **limit}, losses=[bce], weight=None)
    outcomes = dict(zip(report.gates["slice"].to_pylist(), report.gates["outcome"].to_pylist(), strict=True))
    assert outcomes == {"group=bad": "fail", "group=even": "insufficient", "group=odd": "insufficient"}
    row = score_table(report.comparisons, {"slice": "group=bad"})
    assert [row[name] for name in ("mean", "difference", "ci_low", "ci_high")] == [math.inf] * 4
    assert not report.passed


@pytest.mark.parametrize(("on_insufficient", "passes"), [("pass", True), ("fail", False)])
def test_on_insufficient(frame: pd.DataFrame, tmp_path: Path, on_insufficient: str, passes: bool) -> None:
    gate = {"loss": "mean_absolute_error", "max": 9, "min_rows": 10_000, "on_insufficient": on_insufficient}
    assert _run(tmp_path, frame, gate).passed is passes


def test_shares(tmp_path: Path) -> None:
    """Of 8 aligned rows 2 are invalid; of the 6 scored ones one probability is clipped; nothing is unmatched."""
    probability = [0.5, 0.5, math.nan, 2.0, 0.0, 0.4, 0.5, 0.5]
    frame = pd.DataFrame({"y": [1.0, 0, 1, 0, 1, 0, 1, 0], "p": probability})
    shares = {"invalid": 2 / 8, "clipped": 1 / 6, "unmatched": 0.0}
    gates = [
        {"share": share, "max": limit, "name": f"{share} {number}"}
        for share, value in shares.items()
        for number, limit in enumerate((value, value - 1e-9))
        if limit >= 0
    ]
    models = {"m": {"path": str(tmp_path / "data"), "prediction": "p"}}
    report = evaluate(tmp_path, frame, models=models, losses=["binary_crossentropy"], gates=gates)
    found = dict(zip(report.gates["gate"].to_pylist(), report.gates["outcome"].to_pylist(), strict=True))
    assert found == {
        "invalid 0": "pass",
        "invalid 1": "fail",
        "clipped 0": "pass",
        "clipped 1": "fail",
        "unmatched 0": "pass",
    }
    assert report.gates["value"].to_pylist() == [2 / 8, 2 / 8, 1 / 6, 1 / 6, 0.0]


@pytest.mark.parametrize(("on_absent", "outcome"), [("fail", "fail"), ("pass", "insufficient")])
@pytest.mark.parametrize("limit", [{"max": 100.0}, {"max_difference": 100.0}])
def test_a_misspelt_slice_does_not_pass(
    frame: pd.DataFrame, tmp_path: Path, limit: dict[str, float], on_absent: str, outcome: str
) -> None:
    """Also where fewer rows than ``min_rows`` would otherwise leave a gate undecided."""
    slices = ["overall", "group=evem", "group is null"]
    gate = {"loss": "mean_absolute_error", "model": "m", **limit, "slices": slices, "min_rows": 1}
    report = _run(tmp_path, frame, gate | {"on_absent": on_absent})
    found = {row["slice"]: row for row in report.gates.to_pylist()}
    assert {name: row["outcome"] for name, row in found.items()} == {
        "overall": "pass",
        "group=evem": outcome,
        "group is null": outcome,
    }
    assert found["group=evem"]["why"] == "no row is in this slice; did you mean 'group=even'?"
    assert report.passed == (on_absent == "pass")
    if on_absent == "fail":
        with pytest.raises(
            GateError, match=r"group=evem: no value, no row is in this slice; did you mean 'group=even'"
        ):
            report.check_gates()


def test_a_gate_on_a_column_needs_rows(tmp_path: Path) -> None:
    """Where no label pairs with a prediction, there is no slice that a gate could be about."""
    gate = {"loss": "mean_absolute_error", "max": 1.0, "slices": ["group"]}
    for side, start in (("labels", 0), ("predictions", 100)):
        ids = np.arange(start, start + 10)
        write_shards(tmp_path / side, [pa.table({"id": ids, "y": ids * 1.0, f"group_{side}": ["a"] * 10})])
    report = lossops.evaluate(
        {
            "name": "gated",
            "labels": {"path": str(tmp_path / "labels"), "label": "y"},
            "models": {"m": {"path": str(tmp_path / "predictions"), "prediction": "y"}},
            "key": "id",
            "losses": ["mean_absolute_error"],
            "slices": ["group_labels"],
            "gates": [gate | {"slices": ["group_labels"]}],
            "output": str(tmp_path / "reports"),
        }
    )
    rows = report.gates.select(["slice", "outcome", "fails"]).to_pylist()
    assert rows == [{"slice": "group_labels", "outcome": "fail", "fails": True}]


def test_a_share_has_one_row_a_model(tmp_path: Path) -> None:
    """Of losses that differ it is the largest; a share that is the same for all is of no loss."""
    frame = pd.DataFrame({"y": [1.0, 0, 1, 0], "p": [0.5, 2.0, 0.0, math.nan], "q": [0.5, 0.5, 0.5, math.nan]})
    models = {name: {"path": str(tmp_path / "data"), "prediction": name} for name in ("p", "q")}
    gates: list[dict[str, Any]] = [{"share": share, "max": 0.5} for share in ("invalid", "unmatched", "clipped")]
    gates.append({"share": "invalid", "loss": "mean_absolute_error", "max": 0.5})
    losses = ["mean_absolute_error", "binary_crossentropy", "root_mean_squared_error"]
    report = evaluate(tmp_path, frame, models=models, losses=losses, gates=gates)
    names = ["gate", "model", "loss", "value"]
    assert [tuple(row[name] for name in names) for row in report.gates.to_pylist()] == [
        ("share invalid max 0.5", "p", "binary_crossentropy", 0.5),
        ("share invalid max 0.5", "q", None, 0.25),
        ("share unmatched max 0.5", "p", None, 0.0),
        ("share unmatched max 0.5", "q", None, 0.0),
        ("share clipped max 0.5", "p", "binary_crossentropy", 0.5),
        ("share clipped max 0.5", "q", None, 0.0),
        ("share invalid mean_absolute_error max 0.5", "p", "mean_absolute_error", 0.25),
        ("share invalid mean_absolute_error max 0.5", "q", "mean_absolute_error", 0.25),
    ]
