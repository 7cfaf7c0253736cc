"""A baseline in another dataset: pairs are the rows that both models and the labels have, as pandas finds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lossops.config import parse_config
from lossops.errors import InputError
from lossops.evaluation import publish_scores, utc_now
from lossops.outline import describe
from lossops.plan import make_plan
from lossops.report import Report
from tests.datasets import cut, score_table, write_shards
from tests.here import score_here

ROWS = 5000


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Two predictions of one label, in two cities, several rows of each user."""
    random = np.random.default_rng(12)
    y = random.normal(size=ROWS)
    return pd.DataFrame(
        {
            "id": random.permutation(ROWS),
            "p": y + random.normal(size=ROWS),
            "q": y + random.normal(size=ROWS) * 1.2,
            "y": y,
            "w": random.integers(1, 4, ROWS) / 2,
            "city": random.choice(["Ulm", "Bonn", None], ROWS),
            "user": random.integers(0, 200, ROWS),
        }
    )


def compared(folder: Path, labels: pd.DataFrame, mine: pd.DataFrame, theirs: pd.DataFrame, **settings: Any) -> Report:
    """Compare model m with model b, each in a dataset of its own unless both frames are one."""
    tables = {
        "labels": labels[["id", "y", "w", "city", "user"]],
        "mine": mine[[name for name in ("id", "p", "at", *(["q"] if theirs is mine else [])) if name in mine]],
        **({} if theirs is mine else {"theirs": theirs[[name for name in ("id", "q", "at") if name in theirs]]}),
    }
    paths = {}
    for number, (name, own) in enumerate(tables.items()):
        table = pa.Table.from_pandas(own, preserve_index=False)
        paths[name] = write_shards(folder / name, cut(table, settings.get("shards", 3 + number)))
    settings.pop("shards", None)
    values = {
        "name": "across",
        "labels": {"path": paths["labels"], "label": "y"},
        "models": {
            "m": {"path": paths["mine"], "prediction": "p"},
            "b": {"path": paths.get("theirs", paths["mine"]), "prediction": "q"},
        },
        "key": "id",
        "losses": ["mean_absolute_error", "mean_squared_error", "r2"],
        "slices": ["city"],
        "baseline": "b",
        "output": str(folder / "reports"),
        **settings,
    }
    return publish_scores(score_here(values), utc_now())


@pytest.mark.parametrize("settings", [{}, {"weight": "w"}, {"unit": "user"}, {"weight": "w", "unit": "user"}], ids=str)
def test_the_same_bits_as_in_one_dataset(settings: dict[str, Any], frame: pd.DataFrame, tmp_path: Path) -> None:
    one = compared(tmp_path / "one", frame, frame, frame, **settings)
    shuffled = frame.sample(frac=1, random_state=1)
    two = compared(tmp_path / "two", frame.sample(frac=1, random_state=2), frame, shuffled, **settings)
    assert two.comparisons.equals(one.comparisons)
    assert two.losses.equals(one.losses)
    assert two.comparisons.num_rows == 8


def test_rows_that_all_have(frame: pd.DataFrame, tmp_path: Path) -> None:
    """Some rows are missing on each side and some keys repeat; no row is counted twice."""
    random = np.random.default_rng(5)
    labels, mine, theirs = (frame[random.random(ROWS) < 0.8] for _ in range(3))
    mine, theirs, labels = (
        pd.concat([own, own.sample(n=n, random_state=n)]) for own, n in ((mine, 40), (theirs, 60), (labels, 50))
    )
    report = compared(tmp_path, labels, mine, theirs)
    once = [own.drop_duplicates("id", keep=False) for own in (labels, mine, theirs)]
    pairs = once[0][["id", "y", "city"]].merge(once[1][["id", "p"]], on="id").merge(once[2][["id", "q"]], on="id")
    differences = (pairs["p"] - pairs["y"]).abs() - (pairs["q"] - pairs["y"]).abs()
    row = score_table(report.comparisons, {"loss": "mean_absolute_error", "slice": "overall"})
    assert row["rows"] == len(pairs)
    assert row["difference"] == pytest.approx(differences.mean(), rel=1e-12)
    assert row["std_error"] == pytest.approx(differences.sem(), rel=1e-12)
    for city, own in pairs.groupby("city"):
        row = score_table(report.comparisons, {"loss": "mean_absolute_error", "slice": f"city={city}"})
        assert (row["rows"], row["difference"]) == (len(own), pytest.approx(differences[own.index].mean(), rel=1e-12))
    scored = score_table(report.losses, {"model": "m", "loss": "mean_absolute_error", "slice": "overall"})
    assert scored["rows"] == len(once[0].merge(once[1], on="id"))
    predictions = [row for row in report.ledger.to_pylist() if row["dataset"] == "predictions" and row["loss"] == "r2"]
    assert sum(row["rows"] for row in predictions if row["model"] == "b") == len(theirs)


def test_the_rule_for_duplicates_holds_on_every_side(frame: pd.DataFrame, tmp_path: Path) -> None:
    def doubled(own: pd.DataFrame, column: str) -> pd.DataFrame:
        return pd.concat([own.assign(at=1), own.sample(n=300, random_state=3).assign(at=2, **{column: 9.0})])

    report = compared(
        tmp_path,
        frame,
        doubled(frame, "p"),
        doubled(frame, "q"),
        duplicates="last",
        order_by="predictions.at",
        losses=["mean_absolute_error"],
    )
    mine, theirs = (doubled(frame, name).drop_duplicates("id", keep="last") for name in "pq")
    pairs = frame[["id", "y"]].merge(mine[["id", "p"]], on="id").merge(theirs[["id", "q"]], on="id")
    differences = (pairs["p"] - pairs["y"]).abs() - (pairs["q"] - pairs["y"]).abs()
    row = score_table(report.comparisons, {"slice": "overall"})
    assert (row["rows"], row["difference"]) == (ROWS, pytest.approx(differences.mean(), rel=1e-12))


def test_by_position(frame: pd.DataFrame, tmp_path: Path) -> None:
    keyed = compared(tmp_path / "keyed", frame, frame, frame)
    report = compared(tmp_path / "places", frame, frame.copy(), frame, key=None, shards=4)
    assert report.comparisons.equals(keyed.comparisons)


def paired_by(report: Report) -> list[str]:
    return [one["mode"] for one in report.run["alignment"]]


@pytest.mark.parametrize("without", [0, 7])
def test_by_position_with_a_key(without: int, frame: pd.DataFrame, tmp_path: Path) -> None:
    """Where all three lie in the order of one key, nothing goes through files; rows without a key are left out."""
    ordered = frame.sort_values("id").astype({"id": "Int64"})
    ordered.loc[ordered["id"] < without, "id"] = None
    shuffled = ordered.sample(frac=1, random_state=4)
    spilled = compared(tmp_path / "spilled", ordered, shuffled, ordered)
    report = compared(tmp_path / "ordered", ordered, ordered.copy(), ordered, shards=4)
    assert paired_by(spilled)[2] == "spill"
    assert paired_by(report) == ["position"] * 3
    assert report.comparisons.equals(spilled.comparisons)
    assert (
        score_table(report.comparisons, {"loss": "mean_absolute_error", "slice": "overall"})["rows"] == ROWS - without
    )


@pytest.mark.parametrize("side", ["mine", "theirs"])
@pytest.mark.parametrize("change", ["swapped", "repeated"])
def test_positions_that_do_not_hold(side: str, change: str, frame: pd.DataFrame, tmp_path: Path) -> None:
    """The first rows agree, so that positions are tried; the last ones do not."""
    ordered = frame.sort_values("id", ignore_index=True)
    odd = ordered.copy()
    odd.loc[ROWS - 2 :, "id"] = {"swapped": [ROWS - 1, ROWS - 2], "repeated": [ROWS - 2, ROWS - 2]}[change]
    mine, theirs = (odd if name == side else ordered.copy() for name in ("mine", "theirs"))
    report = compared(tmp_path / "tried", ordered, mine, theirs, shards=4)
    expected = compared(tmp_path / "spilled", ordered.sample(frac=1, random_state=5), mine, theirs)
    assert paired_by(report)[2] == paired_by(expected)[2] == "spill"
    assert report.comparisons.equals(expected.comparisons)
    assert report.losses.equals(expected.losses)


def test_by_position_needs_equal_shards(frame: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"key: without a key rows pair by shard and position, but .*allowed: set key"):
        compared(tmp_path, frame, frame.copy(), frame.head(10), key=None, shards=4)


def test_check_tells_how(frame: pd.DataFrame, tmp_path: Path) -> None:
    compared(tmp_path, frame, frame.copy(), frame)
    folder = {name: str(tmp_path / name) for name in ("labels", "mine", "theirs")}
    plan = make_plan(
        parse_config(
            {
                "name": "across",
                "labels": {"path": folder["labels"], "label": "y"},
                "models": {
                    "m": {"path": folder["mine"], "prediction": "p"},
                    "b": {"path": folder["theirs"], "prediction": "q"},
                },
                "key": "id",
                "losses": ["mean_absolute_error"],
                "baseline": "b",
            }
        )
    )
    told = dict(describe(plan))
    assert told["comparison"] == "m with b, spill: by id in two passes through 2 buckets on disk"
