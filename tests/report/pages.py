"""Reports to look at: of every table, of thousands of slices, of nothing that could be scored, of hostile text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

import lossops
from flows.demo import write_example
from lossops.report import Report
from tests.datasets import cut, write_shards

__all__ = ["HOSTILE", "REPORTS", "Page", "page_of", "plain", "score"]

HOSTILE = [
    "<script>window.hit = 1</script>",
    "</script><script>window.hit = 2</script>",
    '"><img src=x onerror="window.hit = 3">',
    "'-window.hit-'{{ 7 * 7 }}{% raw %}",
    '=HYPERLINK("http://localhost/hit", "click")',
    "<!-- --> ]]> &lt;b&gt; &amp;",
    "a\u202egnp.exe\u200f\u2066",
    "\N{HEBREW LETTER SHIN}\N{HEBREW LETTER LAMED}\N{ARABIC LETTER ALEF}",
    "\N{FACE WITH TEARS OF JOY}\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}",
    "long " + "x" * 10_000,
    "wide " + "\N{CJK UNIFIED IDEOGRAPH-4E2D}" * 10_000,
    "two\nlines\tand a tab\x00\x1b[31m",
    "",
    "slice(datum.label, 5) + '\\' + url(#x)",
]


def score(folder: Path, table: pa.Table, shards: int = 3, **changes: Any) -> Report:
    """Score a table that holds labels and predictions, and publish."""
    data = write_shards(folder / "data", cut(table, shards))
    config = {
        "name": "looked-at",
        "labels": {"path": data, "label": "y"},
        "models": {"m": {"path": data, "prediction": "p"}},
        "losses": ["mean_absolute_error"],
        "output": str(folder / "reports"),
    }
    return lossops.evaluate(config | changes)


def plain(folder: Path, *, seed: int | None = None, shards: int = 3) -> Report:
    """A report with something in every table; the same rows in another order for another seed."""
    random = np.random.default_rng(5)
    rows = 3000
    label = random.integers(0, 2, rows)
    new = np.clip(0.25 + 0.5 * label + random.normal(0, 0.2, rows), 0.01, 0.99)
    country = random.choice(["DE", "FR", "US", "BR"], rows)
    device = random.choice(["phone", "laptop", "tablet"], rows)
    new = np.where((country == "BR") & (device == "phone"), 1 - new, new)
    new[::97] = np.nan
    table = pa.table(
        {
            "id": np.arange(rows),
            "y": label,
            "p": new,
            "q": np.clip(new + random.normal(0, 0.1, rows), 0.01, 0.99),
            "country": country,
            "device": pa.array(device, mask=random.random(rows) < 0.01),
        }
    )
    table = table if seed is None else table.take(np.random.default_rng(seed).permutation(rows))
    data = write_shards(folder / "data", cut(table, shards))
    return lossops.evaluate(
        {
            "name": "looked-at",
            "labels": {"path": data, "label": "y"},
            "models": {name: {"path": data, "prediction": column} for name, column in (("new", "p"), ("old", "q"))},
            "key": "id",
            "losses": ["binary_crossentropy", {"loss": "brier", "name": "score"}, "expected_calibration_error"],
            "slices": ["country", "device", ["country", "device"]],
            "baseline": "old",
            "gates": [
                {"loss": "score", "model": "new", "max": 0.01},
                {"loss": "score", "max_increase": 0.5, "slices": ["overall", "country"]},
                {"share": "invalid", "max": 0.5},
            ],
            "discover": {"columns": ["country", "device"], "depth": 2, "min_rows": 50},
            "min_rows": 8,
            "output": str(folder / "reports"),
        }
    )


def many(folder: Path) -> Report:
    """Three thousand slices of two models and two losses."""
    random = np.random.default_rng(6)
    rows = 12_000
    table = pa.table(
        {
            "y": random.normal(size=rows),
            "p": random.normal(size=rows),
            "q": random.normal(size=rows),
            "town": [f"town {number % 3000:04d}" for number in range(rows)],
        }
    )
    data = write_shards(folder / "data", cut(table, 2))
    return lossops.evaluate(
        {
            "name": "many",
            "labels": {"path": data, "label": "y"},
            "models": {name: {"path": data, "prediction": column} for name, column in (("new", "p"), ("old", "q"))},
            "losses": ["mean_absolute_error", "huber"],
            "slices": ["town"],
            "baseline": "old",
            "output": str(folder / "reports"),
        }
    )


def invalid(folder: Path) -> Report:
    """A run of which no row could be scored."""
    table = pa.table({"y": [1.0] * 60, "p": [float("nan")] * 60, "g": ["a", "b"] * 30, "h": ["c", "d", "e"] * 20})
    return score(folder, table, losses=["mean_absolute_error", "huber"], slices=["g", "h", ["g", "h"]])


def endless(folder: Path) -> Report:
    """Certain and wrong predictions, whose loss is infinite."""
    table = pa.table({"y": [1.0, 0.0] * 30, "p": [0.0, 0.5] * 30, "g": ["a", "b"] * 30})
    return score(folder, table, losses=["binary_crossentropy"], convention="exact", slices=["g"])


def hostile(folder: Path) -> Report:
    """Text that would like to be markup, formulas, or somewhere else, wherever text can be."""
    rows = 30 * len(HOSTILE)
    random = np.random.default_rng(7)
    table = pa.table(
        {
            "y": random.normal(size=rows),
            "p": random.normal(size=rows),
            "id": [f"{number}{HOSTILE[number % len(HOSTILE)]}" for number in range(rows)],
            "g": HOSTILE * 30,
            "<i>h</i>": [HOSTILE[number // 30] for number in range(rows)],
        }
    )
    loss = {"loss": "mean_absolute_error", "name": "<img src=x onerror='window.hit = 4'>"}
    return score(folder, table, key="id", losses=[loss], slices=["g", ["g", "<i>h</i>"]])


def nightly(folder: Path) -> Report:
    """The last of three nights, in which slices of hostile names became worse."""
    random = np.random.default_rng(8)
    rows = 30 * len(HOSTILE)
    for night in range(3):
        error = random.normal(size=rows) * (1 + 4 * (night == 2))
        table = pa.table({"y": np.zeros(rows), "p": error, "g": HOSTILE * 30})
        loss = {"loss": "mean_absolute_error", "name": "<img src=x onerror='window.hit = 5'>"}
        changes: dict[str, Any] = {"losses": [loss, "huber"], "slices": ["g"], "date": f"2026-10-0{night + 1}"}
        report = score(folder / str(night), table, output=str(folder / "reports"), **changes)
    return report


def demo(folder: Path) -> Report:
    """What `lossops demo` shows."""
    write_example(folder)
    return lossops.evaluate(
        {
            "name": "demo",
            "labels": {"path": str(folder / "labels"), "label": "clicked"},
            "models": {"candidate": {"path": str(folder / "predictions"), "prediction": "p_click"}},
            "key": "visit_id",
            "weight": "weight",
            "losses": ["binary_crossentropy"],
            "slices": ["country", "device", ["country", "device"]],
            "output": str(folder / "reports"),
        }
    )


def cifar10(folder: Path) -> Report:
    """What configs/cifar10.yaml asks for."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "../shared/data/cifar10").is_dir():
        pytest.skip("there is no folder 'shared' beside the checkout")
    text = (root / "configs/cifar10.yaml").read_text().replace("../shared", str(root.parent / "shared"))
    return lossops.evaluate(yaml.safe_load(text) | {"output": str(folder / "reports")})


REPORTS: Mapping[str, Callable[[Path], Report]] = {
    "plain": plain,
    "many": many,
    "invalid": invalid,
    "endless": endless,
    "hostile": hostile,
    "nightly": nightly,
    "demo": demo,
    "cifar10": cifar10,
}


def page_of(report: Report) -> Path:
    """The page of a report."""
    return Path(report.path).resolve() / "report.html"


class Page(HTMLParser):
    """A page taken apart: elements, tables by name with their captions, headings and rows, and the data of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.heads: dict[str, list[tuple[str, str]]] = {}
        self.rows: dict[str, list[list[Any]]] = {}
        self.text = ""
        self._table = ""
        self._cell: list[str] | None = None
        self._exact: str | None = None
        self._kind = ""
        self._json = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.elements.append((tag, found))
        if tag == "div" and found.get("class") == "table":
            self._table = str(found["id"])
            self.heads[self._table], self.rows[self._table] = [], []
        elif tag in {"th", "td"}:
            self._cell, self._kind, self._exact = [], found.get("data-kind") or "", found.get("data-value")
            self._whole = found.get("title")
        elif tag == "tr" and self.heads[self._table]:
            self.rows[self._table].append([])
        self._json = tag == "script" and found.get("type") == "application/json"

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)
        if self._json:
            content = json.loads(data)
            places = [place for place, kind in enumerate(content["kinds"]) if kind == "text"]
            for row in content["rows"]:
                for place in places:
                    row[place] = None if row[place] is None else content["texts"][row[place]]
            self.rows[self._table] = content["rows"]
        elif self.elements and self.elements[-1][0] not in {"script", "style"}:
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "th":
            self.heads[self._table].append(("".join(self._cell or []), self._kind))
        elif tag == "td":
            self.rows[self._table][-1].append(self._value("".join(self._cell or [])))
        if tag in {"th", "td"}:
            self._cell = None
        self._json = False

    def _value(self, text: str) -> Any:
        kind = self.heads[self._table][len(self.rows[self._table][-1])][1]
        if kind == "text":
            return self._whole or (None if text == "\N{EN DASH}" else text)
        return None if self._exact is None else (int if kind == "count" else float)(self._exact)

    def column(self, table: str, title: str) -> list[Any]:
        """The values of a column of a table."""
        place = [head for head, _ in self.heads[table]].index(title)
        return [row[place] for row in self.rows[table]]
