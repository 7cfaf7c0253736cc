"""The page in a browser: drawn, quiet, quick, usable by keyboard, and without a barrier that axe knows.

Needs Chromium as Debian packages it; .ci/run installs it.
"""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from lossops.report import Report
from lossops.report.blocks import FIRST_ROWS, cell_text
from tests.report.pages import HOSTILE, REPORTS, page_of

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium")

Get = Callable[[str], Report]

DESKTOP = {"viewport": {"width": 1280, "height": 900}}
LOOKS: dict[str, dict[str, Any]] = {
    "light": DESKTOP,
    "dark": DESKTOP | {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 800}, "is_mobile": True, "has_touch": True},
}
ALL = [(name, look) for name in REPORTS for look in LOOKS]
SOME = [("plain", "dark"), ("plain", "phone"), *((name, "light") for name in REPORTS)]

# How many colours a picture has, counted in a page of its own: that of the report may not load pictures.
COLOURS = """async (url) => {
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height), context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = new Uint32Array(context.getImageData(0, 0, image.width, image.height).data.buffer);
  const background = pixels[0];
  return [new Set(pixels).size, pixels.filter((pixel) => pixel !== background).length];
}"""


@dataclass
class Visit:
    """A page that is open, and all that it said or asked for."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any, report_of: Get) -> Iterator[Callable[..., Visit]]:
    """Return a function that opens the page of a report, named, in a look."""
    contexts = []

    def open_page(name: str, look: str = "light", **options: Any) -> Visit:
        contexts.append(browser.new_context(**LOOKS[look], **options))
        found = Visit(contexts[-1].new_page())
        found.page.on("console", lambda message: found.said.append(message.text))
        found.page.on("pageerror", lambda error: found.said.append(str(error)))
        found.page.on("dialog", lambda dialog: (found.said.append(dialog.message), dialog.dismiss()))
        found.page.on("request", lambda request: found.asked.append(request.url))
        found.page.goto(page_of(report_of(name)).as_uri())
        return found

    yield open_page
    for context in contexts:
        context.close()


def texts(page: Any, table: str, column: int) -> list[str]:
    return page.locator(f"#{table} tbody tr > :nth-child({column + 1})").all_inner_texts()


def column(page: Any, table: str, title: str) -> int:
    heads = [head.partition("\N{NO-BREAK SPACE}")[0] for head in page.locator(f"#{table} th").all_inner_texts()]
    return heads.index(title)


@pytest.mark.parametrize(("name", "look"), ALL)
def test_it_opens_quietly_and_fits(name: str, look: str, visit: Callable[..., Visit], report_of: Get) -> None:
    found = visit(name, look)
    for folded in found.page.locator("summary").all():
        folded.click()
    assert found.said == []
    assert found.asked == [page_of(report_of(name)).as_uri()]
    assert found.page.evaluate("'hit' in window") is False
    assert found.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(("name", "look"), SOME)
def test_every_plot_is_drawn(name: str, look: str, visit: Callable[..., Visit], browser: Any) -> None:
    found = visit(name, look)
    counter = browser.new_page()
    plots = found.page.locator("figure svg").all()
    assert plots
    for plot in plots:
        picture = base64.b64encode(plot.screenshot()).decode()
        colours, drawn = counter.evaluate(COLOURS, f"data:image/png;base64,{picture}")
        assert colours > 10
        assert drawn > 200
    counter.close()


CUT = """
svg => {
  const whole = svg.getBoundingClientRect();
  return [...svg.querySelectorAll("circle, line, path, rect, text")]
    .filter((one) => one.parentNode.tagName === "g")
    .map((one) => [one, one.getBoundingClientRect()])
    .filter(([_, box]) => box.left < whole.left - 1 || box.right > whole.right + 1
      || box.top < whole.top - 1 || box.bottom > whole.bottom + 1)
    .map(([one, _]) => one.outerHTML);
}
"""


@pytest.mark.parametrize(("name", "look"), SOME)
def test_nothing_is_cut_off_at_the_edge_of_a_plot(name: str, look: str, visit: Callable[..., Visit]) -> None:
    for plot in visit(name, look).page.locator("figure svg").all():
        assert plot.evaluate(CUT) == []


@pytest.mark.parametrize(("name", "look"), SOME)
def test_axe_finds_no_barrier(name: str, look: str, visit: Callable[..., Visit]) -> None:
    found = visit(name, look)
    found.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    # Rows of a table are alike, and axe takes long for thousands of cells.
    found.page.evaluate("document.querySelectorAll('tbody tr:nth-child(n + 6)').forEach((row) => row.remove())")
    for violation in axe.Axe().run(found.page).response["violations"]:
        assert violation["impact"] not in {"serious", "critical"}, violation


def test_first_paint_of_thousands_of_slices(visit: Callable[..., Visit]) -> None:
    page = visit("many").page
    page.wait_for_function("performance.getEntriesByType('paint').length")  # a page may be loaded before it is painted
    paints = page.evaluate("performance.getEntriesByType('paint').map((entry) => entry.startTime)")
    assert max(paints) < 2000


def test_numbers_are_written_as_the_terminal_writes_them(visit: Callable[..., Visit]) -> None:
    """Of rows that the script builds, and of numbers that are hard to write."""
    page = visit("many").page
    cells = page.locator("#t-slices tbody td[data-value]").evaluate_all(
        "cells => cells.map((cell) => [cell.dataset.value, cell.textContent, cell.cellIndex])"
    )
    kinds = page.locator("#t-slices th").evaluate_all("heads => heads.map((head) => head.dataset.kind)")
    assert len(cells) > FIRST_ROWS * 5
    for value, text, place in cells:
        exact = int(value) if kinds[place] == "count" else float(value)
        assert text == cell_text(exact, kinds[place])


def test_sorting(visit: Callable[..., Visit], report_of: Get) -> None:
    page = visit("many").page
    place = column(page, "t-slices", "mean loss")
    head = page.locator(f"#t-slices th:nth-child({place + 1})")
    shown = page.locator(f"#t-slices tbody td:nth-child({place + 1})")
    heights = []
    for direction in ("descending", "ascending"):
        head.get_by_role("button").focus()
        page.keyboard.press("Enter")
        playwright.expect(head).to_have_attribute("aria-sort", direction)
        values = [float(value) for value in shown.evaluate_all("cells => cells.map((cell) => cell.dataset.value)")]
        assert values == sorted(values, reverse=direction == "descending")
        heights.append(values[0])
    means = {row["mean"] for row in report_of("many").losses.to_pylist()}
    assert set(heights) <= means
    assert heights[0] == max(means)


def test_filtering(visit: Callable[..., Visit]) -> None:
    page = visit("many").page
    table = page.locator("#t-slices")
    count = table.get_by_role("status")
    some = texts(page, "t-slices", 0)[0]
    table.get_by_role("searchbox").fill(some.upper())
    assert set(texts(page, "t-slices", 0)) == {some}
    table.get_by_role("searchbox").fill("town=")
    table.locator(".tools").get_by_label("model").select_option("old")
    table.locator(".tools").get_by_label("loss").select_option("huber")
    assert set(texts(page, "t-slices", column(page, "t-slices", "model"))) == {"old"}
    assert set(texts(page, "t-slices", column(page, "t-slices", "loss"))) == {"huber"}
    table.get_by_role("searchbox").fill("no such town")
    playwright.expect(count).to_contain_text("0 of ")
    assert texts(page, "t-slices", 0) == []


def test_pages_of_a_long_table(visit: Callable[..., Visit]) -> None:
    page = visit("many").page
    table = page.locator("#t-slices")
    first = texts(page, "t-slices", 0)
    table.get_by_role("button", name="Next").click()
    playwright.expect(table.locator(".pages span")).to_contain_text("Page 2 of")
    second = texts(page, "t-slices", 0)
    assert len(first) == len(second) == FIRST_ROWS
    assert not set(first) & set(second)


def test_hostile_values_are_found_and_shown(visit: Callable[..., Visit]) -> None:
    found = visit("hostile")
    table = found.page.locator("#t-slices")
    for value in HOSTILE[:5]:
        table.get_by_role("searchbox").fill(f"g={value}")
        assert f"g={value}" in texts(found.page, "t-slices", 0)
    assert found.said == []


def test_without_scripts_the_worst_rows_are_there(visit: Callable[..., Visit]) -> None:
    page = visit("many", java_script_enabled=False).page
    assert page.locator("#t-slices tbody tr").count() == FIRST_ROWS
    assert "the others need the page's script" in page.locator("#t-slices noscript").inner_text()
