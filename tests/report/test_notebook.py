"""What a notebook shows of a report, and its tables as pandas and Polars have them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

import pandas as pd
import pyarrow as pa
import pytest

from lossops.errors import ConfigError
from lossops.report import SCHEMAS, Report
from lossops.report.blocks import whole
from lossops.report.selection import slices_of
from tests.report.pages import HOSTILE, REPORTS, Page

Get = Callable[[str], Report]


def _shown(report: Report) -> tuple[str, Page]:
    text = report._repr_html_()
    return text, Page(text)


@pytest.mark.parametrize("name", REPORTS)
def test_nothing_runs_and_nothing_is_loaded(name: str, report_of: Get) -> None:
    text, page = _shown(report_of(name))
    tags = [tag for tag, _ in page.elements]
    assert tags[0] == "div"
    assert tags.count("style") == 1
    assert not set(tags) & {
        "script",
        "img",
        "i",
        "b",
        "iframe",
        "object",
        "link",
        "base",
        "use",
        "image",
        "html",
        "body",
    }
    for tag, attributes in page.elements:
        assert not any(key.startswith("on") or key in {"src", "style", "srcset", "href"} for key in attributes), tag
    assert text.strip().endswith("</div>")
    assert text.count("<div") == text.count("</div>")
    assert len(text) < 400_000


def test_styles_are_for_the_element_alone(report_of: Get) -> None:
    text, page = _shown(report_of("plain"))
    assert page.elements[0][1]["class"] == "lossops-report"
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    assert not re.search(r"@|url|http|<", style[1])
    for rule in re.findall(r"([^{}]+)\{", style[1]):
        assert all(one.strip().startswith(".lossops-report") for one in rule.split(","))
    defined = set(re.findall(r"(--[a-z]+):", style[1]))
    assert set(re.findall(r"var\((--[a-z0-9-]+)\)", text)) <= defined


def test_two_reports_share_no_element(report_of: Get) -> None:
    names = [
        {
            attributes["id"]
            for tag, attributes in _shown(report_of(name))[1].elements
            if tag == "div" and "id" in attributes
        }
        for name in ("plain", "demo")
    ]
    assert all(names)
    assert not names[0] & names[1]


def _table(page: Page, name: str) -> str:
    return next(one for one in page.rows if one.endswith(name))


def test_numbers_are_those_of_the_tables(report_of: Get) -> None:
    report = report_of("plain")
    _, page = _shown(report)
    rows = [row for row in report.losses.to_pylist() if row["slice"] == "overall"]
    table = _table(page, "t-overall")
    assert page.column(table, "mean loss") == [row["mean"] for row in rows]
    assert page.column(table, "model") == [row["model"] for row in rows]
    worst = slices_of(report, rows[0]["model"], rows[0]["loss"]).to_pylist()
    assert page.column(_table(page, "t-worst-0"), "slice") == [row["slice"] for row in worst]
    assert page.column(_table(page, "t-worst-0"), "mean loss") == [row["mean"] for row in worst]
    assert "Failed." in page.text
    assert [tag for tag, _ in page.elements].count("svg") >= 2


def test_hostile_values_are_text(report_of: Get) -> None:
    _, page = _shown(report_of("hostile"))
    shown = page.column(_table(page, "t-worst-0"), "slice")
    found = [value for value in HOSTILE if whole(f"g={value}") in shown]
    assert len(found) > 3
    assert all(letter.isprintable() or letter == "\n" for letter in page.text)


def test_tables_as_arrow_and_pandas(report_of: Get) -> None:
    report = report_of("hostile")
    for name in SCHEMAS:
        assert isinstance(report.table(name), pa.Table)
        frame = report.pandas(name)
        assert isinstance(frame, pd.DataFrame)
        assert frame.shape == report.table(name).shape
    frame = report.pandas("losses")
    assert frame["slice"].tolist() == report.losses["slice"].to_pylist()
    assert frame.loc[0, "mean"] == report.losses["mean"][0].as_py()


def test_tables_as_polars(report_of: Get) -> None:
    polars = pytest.importorskip("polars")
    report = report_of("hostile")
    frame = report.polars("losses")
    assert isinstance(frame, polars.DataFrame)
    assert frame.to_dicts() == report.losses.to_pylist()
    assert all(report.polars(name).shape == report.table(name).shape for name in SCHEMAS)


def test_a_table_that_is_not_there(report_of: Get) -> None:
    for method in ("table", "pandas", "polars"):
        with pytest.raises(ConfigError, match="a report has no table 'loses'; did you mean 'losses'"):
            getattr(report_of("plain"), method)("loses")


_WITHOUT = """
import sys
import lossops
from lossops.errors import RunError
report = lossops.open_report(sys.argv[1])
sys.modules["pandas"] = sys.modules["polars"] = None  # as Python marks what is not there
assert report.table("losses").num_rows
for method in (report.pandas, report.polars):
    try:
        method("losses")
    except RunError as error:
        print(error)
"""


def test_without_the_libraries_an_error_says_so(report_of: Get) -> None:
    words = [sys.executable, "-c", _WITHOUT, report_of("plain").path]
    found = subprocess.run(words, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == [
        f"{name} is not installed; table() gives the same as Arrow, without it" for name in ("pandas", "polars")
    ]
