"""The page of a report: its numbers are those of the tables, and text of data stays text."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lossops.report import Report, open_report
from lossops.report.blocks import cell_text, whole
from lossops.report.page import render_page
from lossops.report.selection import is_overall, printable
from tests.report.pages import HOSTILE, REPORTS, Page, page_of, plain, score

Get = Callable[[str], Report]

# Of each table of the page: the table of the report, whether it is of all rows, and its columns by heading.
_PAIR = {"model": "model", "loss": "loss"}
_MEANS = {"rows": "rows", "rows scored": "rows_valid", "mean loss": "mean", "mean from": "ci_low", "mean to": "ci_high"}
_MORE = {"standard deviation": "std", "largest loss": "max", **{f"quantile {q}": q for q in ("p50", "p90", "p99")}}
_DIFFERENCES = {
    "rows of both": "rows",
    "baseline mean": "baseline_mean",
    "mean loss": "mean",
    "difference": "difference",
    "difference from": "ci_low",
    "difference to": "ci_high",
    "relative difference": "relative_difference",
}
_GATES = {
    **{name: name for name in ("outcome", "gate", "slice", "limit", "value", "rows", "why")},
    "value from": "ci_low",
    "value to": "ci_high",
    "adjusted p": "p_adjusted",
}
_FOUND = {
    "slice": "slice",
    "searched rows": "rows",
    "searched mean": "mean",
    "rows held out": "held_out_rows",
    "mean held out": "held_out_mean",
    "mean of others": "held_out_other_mean",
    "difference": "difference",
    "difference from": "ci_low",
    "difference to": "ci_high",
    "adjusted p": "p_adjusted",
}
_LEDGER = {name: name for name in ("dataset", "reason", "rows")}
_HARDEST = {
    **{name: name for name in ("rank", "label", "prediction", "shard")},
    "loss of the row": "loss_value",
    "row in it": "row",
}
_SHARDS = {name: name for name in ("dataset", "rows", "bytes", "seconds", "fingerprint")} | {"file": "path"}
WHOLE: dict[str, tuple[str, bool | None, dict[str, str]]] = {
    "t-overall": ("losses", True, {**_PAIR, **_MEANS, **_MORE, "smallest loss": "min"}),
    "t-slices": ("losses", False, {**_PAIR, "slice": "slice", **_MEANS, **_MORE}),
    "t-compared": ("comparisons", True, {**_PAIR, **_DIFFERENCES, "p": "p_value"}),
    "t-differences": ("comparisons", False, {**_PAIR, "slice": "slice", **_DIFFERENCES, "adjusted p": "p_adjusted"}),
    "t-gates": ("gates", None, {**_PAIR, **_GATES}),
    "t-discovered": ("discovered", None, {**_PAIR, **_FOUND}),
    "t-ledger": ("ledger", None, {**_PAIR, **_LEDGER}),
    "t-hardest": ("hardest", True, {**_PAIR, **_HARDEST}),
    "t-shards": ("shards", None, _SHARDS),
}


def parsed(report: Report) -> Page:
    return Page(page_of(report).read_text())


def rows_of(report: Report, table: str, of_all: bool | None) -> list[dict[str, Any]]:
    found: pa.Table = getattr(report, table)
    if of_all is not None:
        found = found.filter(pa.array([one == of_all for one in is_overall(found).to_pylist()], pa.bool_()))
    rows = [row for row in found.to_pylist() if table != "ledger" or row["rows"]]
    return [row | {"prediction": rounded(row["prediction"])} for row in rows] if table == "hardest" else rows


def rounded(text: Any) -> Any:
    """Text with the numbers of a prediction in the six digits in which other numbers are shown."""
    return text and re.sub(r"[\d.]*\d\.\d+(e-?\d+)?", lambda found: f"{float(found[0]):.6g}", text)


def as_shown(value: Any) -> Any:
    """A value of a table as the page has it: text without what steers, infinity as JSON can say it."""
    return whole(value) if isinstance(value, str) else endless_as_word(value)


def endless_as_word(value: Any) -> Any:
    return str(value) if isinstance(value, float) and math.isinf(value) else value


@pytest.mark.parametrize("name", ["plain", "invalid", "endless", "hostile"])
def test_numbers_equal_those_of_the_tables(name: str, report_of: Get) -> None:
    report = report_of(name)
    page = parsed(report)
    for table, (source, of_all, columns) in WHOLE.items():
        expected = [[row[column] for column in columns.values()] for row in rows_of(report, source, of_all)]
        assert (table in page.rows) == bool(expected), table
        if expected:
            shown = zip(*(map(endless_as_word, page.column(table, head)) for head in columns), strict=True)
            assert sorted(shown, key=repr) == sorted((tuple(map(as_shown, row)) for row in expected), key=repr), table


def test_many_slices_are_all_there_and_worst_first(report_of: Get) -> None:
    report = report_of("many")
    page = parsed(report)
    assert page_of(report).stat().st_size < 3_000_000
    assert len(page.rows["t-slices"]) > 8_000
    known = {(row["model"], row["loss"], row["slice"]): row for row in report.losses.to_pylist()}
    heads = [head for head, _ in page.heads["t-slices"]]
    columns = _MEANS | _MORE
    shares: dict[tuple[str, str], list[float]] = {}
    for values in page.rows["t-slices"]:
        shown = dict(zip(heads, values, strict=True))
        row = known[shown["model"], shown["loss"], shown["slice"]]
        assert {head: shown[head] for head in columns} == {head: row[column] for head, column in columns.items()}
        shares.setdefault((shown["model"], shown["loss"]), []).append(shown["mean from"])
    assert len(shares) == 4
    assert all(lows == sorted(lows, reverse=True) for lows in shares.values())
    left = 4 * 3000 - len(page.rows["t-slices"])
    assert (
        f"The table holds {len(page.rows['t-slices']):,} of 12,000 rows; {left:,} more are in losses.parquet."
        in page.text
    )


def test_bins_of_calibration_and_losses_equal_the_tables(report_of: Get) -> None:
    report = report_of("plain")
    page = parsed(report)
    own = [("new", "binary_crossentropy"), ("new", "score"), ("old", "binary_crossentropy"), ("old", "score")]
    for number, pair in enumerate(own):
        bins = [row for row in rows_of(report, "histograms", True) if (row["model"], row["loss"]) == pair]
        assert page.rows[f"t-distribution-{number}"] == [[row["low"], row["high"], row["rows"]] for row in bins]
        # Both losses of a model are of the same probabilities, which are calibrated as they are.
        bins = [row for row in rows_of(report, "calibration", True) if (row["model"], row["loss"]) == pair]
        assert page.column(f"t-calibration-{number // 2}", "mean label") == [row["mean_label"] for row in bins]
        assert page.column(f"t-calibration-{number // 2}", "label to") == [row["ci_high"] for row in bins]
    assert "t-calibration-2" not in page.rows


def test_the_worst_slices_stand_beside_all_other_rows(report_of: Get) -> None:
    report = report_of("plain")
    page = parsed(report)
    columns = {
        "mean loss": "mean",
        "mean of others": "other_mean",
        "difference": "difference",
        "difference from": "ci_low",
        "difference to": "ci_high",
        "adjusted p": "p_adjusted",
    }
    for number, pair in enumerate([("new", "binary_crossentropy"), ("new", "score")]):
        own = [
            row
            for row in report.contrasts.to_pylist()
            if (row["model"], row["loss"], row["against"]) == (*pair, "complement")
        ]
        expected = {row["slice"]: [row[column] for column in columns.values()] for row in own}
        table = f"t-worst-{number}"
        shown = zip(*(page.column(table, head) for head in columns), strict=True)
        assert dict(zip(page.column(table, "slice"), map(list, shown), strict=True)) == expected
        above = sum(row["p_adjusted"] < 0.05 and row["difference"] > 0 for row in own)
        below = sum(row["p_adjusted"] < 0.05 and row["difference"] < 0 for row in own)
        assert above
        told = f"{above} of {len(own)} slices have a surely higher mean than all other rows, {below} a surely lower one"
        assert told in page.text


def test_slices_that_were_tested_on_nothing_are_not_said_to_be(tmp_path: Path) -> None:
    table = pa.table({"y": [0.0] * 400, "p": [1.0, 1.0, 1.0, 9.0] * 100, "g": ["a", "b", "c", "d"] * 100})
    discover = {"columns": ["g"], "min_rows": 10, "held_out": False}
    page = parsed(score(tmp_path, table, discover=discover))
    assert page.rows["t-discovered"] == [["g=d", "m", "mean_absolute_error", 100, 9.0]]
    assert "tested on none" in page.text


def test_slices_that_were_found_have_a_plot(report_of: Get) -> None:
    text = page_of(report_of("plain")).read_text()
    assert "<title>Slices that were found of new, score</title>" in text


def test_cells_of_a_cross_are_means_of_slices(report_of: Get) -> None:
    report = report_of("plain")
    page = parsed(report)
    means = {
        tuple("null" if value is None else value for value in row["slice_values"]): row["mean"]
        for row in report.losses.to_pylist()
        if (row["model"], row["loss"]) == ("new", "score") and row["slice_columns"] == ["country", "device"]
    }
    across = [head for head, _ in page.heads["t-cross-1"]][1:]
    shown = {
        (row[0], head): value for row in page.rows["t-cross-1"] for head, value in zip(across, row[1:], strict=True)
    }
    assert shown == means


def test_verdict_says_what_failed(report_of: Get) -> None:
    text = parsed(report_of("plain")).text
    assert "Failed." in text
    failing = next(row for row in report_of("plain").gates.to_pylist() if row["fails"])
    assert f"{failing['gate']}, {failing['model']}, {failing['slice']}: {failing['value']:.6g}" in text
    assert "Completed. No gates were set" in parsed(report_of("many")).text
    assert "For 2 of 2 pairs of model and loss no row could be scored." in parsed(report_of("invalid")).text


@pytest.mark.parametrize("name", REPORTS)
def test_nothing_of_data_is_markup(name: str, report_of: Get) -> None:
    page = parsed(report_of(name))
    scripts = [attributes.get("type") for tag, attributes in page.elements if tag == "script"]
    assert scripts.count(None) == 1
    assert set(scripts) <= {None, "application/json"}
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"img", "i", "b", "iframe", "object", "embed", "foreignobject", "use", "image", "link", "base"}
    for tag, attributes in page.elements:
        assert not any(key.startswith("on") or key in {"src", "style", "srcset"} for key in attributes), tag
        assert (attributes.get("href") or "#").startswith("#")
        assert "xlink:href" not in attributes


def test_hostile_values_are_shown_as_they_are(report_of: Get) -> None:
    page = parsed(report_of("hostile"))
    shown = page.column("t-slices", "slice")
    for value in HOSTILE:
        assert whole(f"g={value}") in shown
        assert all(letter.isprintable() for letter in whole(value))
    assert "g=a\\x202egnp.exe\\x200f\\x2066" in shown
    text = page_of(report_of("hostile")).read_text()
    assert not any(mark in text for mark in "\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u200e\u200f")


def test_hostile_slices_that_moved_are_shown_as_they_are(report_of: Get) -> None:
    page = parsed(report_of("nightly"))
    assert page.column("t-history-0", "run") == ["2026-10-01", "2026-10-02", "2026-10-03"]
    assert {whole(f"g={value}") for value in HOSTILE} <= set(page.column("t-moved", "slice"))
    assert set(page.column("t-moved", "first moved in")) == {"2026-10-03"}


def test_the_policy_allows_the_two_of_the_page_and_nothing_else(report_of: Get) -> None:
    text = page_of(report_of("hostile")).read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert "default-src &#39;none&#39;" in policy[1]
    assert "unsafe" not in policy[1]
    for tag in ("style", "script"):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert content is not None
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert f"{tag}-src &#39;sha256-{digest}&#39;" in policy[1].replace("&#43;", "+")


def test_sections_without_data_are_left_out(report_of: Get) -> None:
    named = {
        name: {attributes.get("id") for tag, attributes in parsed(report_of(name)).elements if tag == "section"}
        for name in ("plain", "invalid", "hostile")
    }
    assert named["plain"] == {
        *("gates", "overall", "baseline", "slices", "discovered", "crosses"),
        *("calibration", "distribution", "ledger", "hardest", "run"),
    }
    assert named["invalid"] == {"overall", "slices", "crosses", "ledger", "run"}
    assert "baseline" not in named["hostile"]


def test_the_page_is_the_same_however_the_data_is_cut(report_of: Get, tmp_path: Path) -> None:
    """But for what names files, times and the run."""
    one, two = (page_of(report).read_text() for report in (report_of("plain"), plain(tmp_path, seed=3, shards=7)))
    assert re.findall("<svg.*?</svg>", one) == re.findall("<svg.*?</svg>", two)
    first, second = Page(one), Page(two)
    for table in first.rows.keys() - {"t-shards", "t-stages", "t-hardest"}:
        assert first.rows[table] == second.rows[table], table
    for title in ("key", "loss of the row", "label", "prediction"):
        assert first.column("t-hardest", title) == second.column("t-hardest", title)


def test_a_published_page_is_that_of_the_report(report_of: Get) -> None:
    report = open_report(report_of("plain").path)
    report.run["stages"].pop("page")  # which is not over when the page is drawn
    assert render_page(report) == page_of(report).read_text()


def test_hidden_slices_have_no_numbers(tmp_path: Path) -> None:
    table = pa.table({"y": [0.0] * 30, "p": [1.0] * 30, "g": ["big"] * 25 + ["small"] * 5})
    page = parsed(score(tmp_path, table, slices=["g"], min_rows=10))
    assert page.column("t-slices", "remark") == ["hidden: complement", "hidden: min_rows"]
    assert {head: page.column("t-slices", head) for head in ("rows", "mean loss")} == {
        "rows": [None, None],
        "mean loss": [None, None],
    }
    assert (
        "Hidden, counted for each model and loss: 1 slices below 10 rows, and 1 that would give them away." in page.text
    )


def test_cells() -> None:
    assert [cell_text(1234567, "count"), cell_text(None, "number"), cell_text(-0.5, "percent")] == [
        "1,234,567",
        "\N{EN DASH}",
        "-50 %",
    ]
    assert cell_text("x" * 300, "text") == "x" * 200 + "…"
    assert cell_text("a\u202eb", "text") == printable("a\u202eb") == "a\\x202eb"
