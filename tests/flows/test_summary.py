"""Which rows of a report a person sees first."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import lossops
from flows.summary import as_json, loss_rows, report_markdown
from lossops.report import SCHEMAS, Report
from lossops.report.selection import Unscored, number, overall, printable, unscored, worst_slices
from tests.datasets import write_shards


def row(slice_: str, mean: float | None, low: float | None, loss: str = "mse") -> dict[str, Any]:
    numbers = dict.fromkeys(["sum", "std", "std_error", "min", "max", "ci_high"])
    name, _, value = slice_.partition("=")
    columns, values = ([], []) if slice_ == "overall" else ([name], [value])
    counts = {"rows": 3, "rows_valid": 2, "rows_clipped": 0, "weight_sum": 2.0}
    texts = {"model": "m", "loss": loss, "slice": slice_, "slice_columns": columns, "slice_values": values}
    return {**texts, **counts, **numbers, "mean": mean, "ci_low": low}


def report(losses: list[dict[str, Any]], ledger: list[tuple[str, str, str, str, int]] = []) -> Report:  # noqa: B006
    entries = [dict(zip(SCHEMAS["ledger"].names, entry, strict=True)) for entry in ledger]
    rows = {"losses": losses, "ledger": entries}
    tables = {name: pa.Table.from_pylist(rows.get(name, []), schema) for name, schema in SCHEMAS.items()}
    return Report("reports/x", **tables, run={"name": "x", "config": {}})


def test_the_worst_slice_is_surely_bad_not_unlucky() -> None:
    found = report(
        [
            row("overall", 1.0, 0.9),
            row("a=unlucky", 9.0, 0.1),
            row("a=bad", 3.0, 2.5),
            row("a=endless", math.inf, None),
            row("a=empty", None, None),
            row("a=other", 99.0, 98.0, loss="mae"),
        ]
    )
    worst, more = worst_slices(found, "m", "mse", 3)
    assert [one["slice"] for one in worst] == ["a=endless", "a=bad", "a=unlucky"]
    assert more == 1
    assert worst_slices(found, "m", "mse", 9)[0][-1]["slice"] == "a=empty"
    assert [one["slice"] for one in overall(found)] == ["overall"]


def test_artifact_rows_are_json_with_overall_first() -> None:
    rows, more = loss_rows(report([row("a=x", math.inf, None), row("overall", 1.0, 0.5), row("a=y", 2.0, 1.0)]), 2)
    assert [(one["slice"], one["mean"]) for one in rows] == [("overall", 1.0), ("a=x", "inf")]
    assert more == 1
    assert as_json({"a": -math.inf, "b": "x"}) == {"a": "-inf", "b": "x"}


def test_the_ledger_says_once_what_holds_for_every_loss() -> None:
    both = [("predictions", "m", loss, "no_label", 5) for loss in ("mse", "mae")]
    nan = [(dataset, "m", "mse", "prediction_nan", 2) for dataset in ("predictions", "labels")]
    scored = [("predictions", "m", loss, "scored", 10) for loss in ("mse", "mae")]
    assert unscored(report([row("overall", 1.0, 0.9)], [*scored, *both, *nan])) == [
        Unscored("m", None, "no_label", {"predictions": 5}),
        Unscored("m", "mse", "prediction_nan", {"predictions": 2, "labels": 2}),
    ]


def test_text_of_datasets_does_not_steer_a_terminal() -> None:
    assert printable("a\x1b[31mb\n") == "a\\x1b[31mb\\x0a"
    assert printable("Ünï 中") == "Ünï 中"


def test_numbers_are_short() -> None:
    assert [number(None), number(0.123456789), number(math.inf)] == ["-", "0.123457", "inf"]


def test_markdown_tells_the_verdict_the_worst_slices_and_where_the_report_is() -> None:
    text = report_markdown(report([row("overall", 1.0, None), row("a=x", 2.0, 1.5), row("a=y", 3.0, 2.5)]))
    lines = text.splitlines()
    assert lines[0] == "**Completed.** No gates were set, so nothing was judged."
    assert "| `m` | `mse` | 2 | 1 | - to - |" in lines
    slices = [line for line in lines if "`a=" in line]
    assert slices == ["| `a=y` | `m` | `mse` | 2 | 3 | 2.5 to - |", "| `a=x` | `m` | `mse` | 2 | 2 | 1.5 to - |"]
    assert "**Report**: `reports/x`" in lines
    assert f"[report.html](<{Path('reports/x').resolve().as_uri()}/report.html>)" in lines[-1]
    assert all(f"{name}.parquet" in lines[-1] for name in SCHEMAS)


def test_slice_values_stay_text_in_markdown() -> None:
    hostile = ["a=<script>alert(1)</script>", "a=![x](http://evil/x.png)", "a=`b` | c", "a=\u202eabc", "a=" + 999 * "x"]
    text = report_markdown(report([row("overall", 1.0, None), *(row(one, 2.0, 1.5) for one in hostile)]))
    table = [line for line in text.splitlines() if "`a=" in line]
    assert len(table) == len(hostile)
    for line in table:
        assert line.count("|") == 7, "a value opens no cell of its own"
        code = line.split("|")[1].strip()
        assert code[0] == code[-1] == "`"
        assert "`" not in code[1:-1]
        assert code.isprintable()
    assert max(map(len, table)) < 200


def test_slices_of_a_measure_are_sorted_by_what_is_worse(tmp_path: Path) -> None:
    """A low R2 is a bad one; a high error is."""
    random = np.random.default_rng(0)
    label, group = random.normal(size=300), np.repeat([0, 1, 2], 100)
    table = pa.table({"y": label, "p": label + random.normal(size=300) * (0.1 + group), "g": group})
    data = write_shards(tmp_path / "data", [table])
    report = lossops.evaluate(
        {
            "name": "sorted",
            "labels": {"path": data, "label": "y"},
            "models": {"m": {"path": data, "prediction": "p"}},
            "losses": [{"loss": "r2", "name": "skill"}, "root_mean_squared_error"],
            "slices": ["g"],
            "output": str(tmp_path / "reports"),
        }
    )
    for loss in ("skill", "root_mean_squared_error"):
        assert [row["slice"] for row in worst_slices(report, "m", loss, 3)[0]] == ["g=2", "g=1", "g=0"]
