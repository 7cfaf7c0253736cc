"""Every block of every README runs, or is a config that is valid, or is of a kind that another test runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

import lossops
from lossops.config import load_config, parse_config
from tests.datasets import cut, write_shards

_ROOT = Path(__file__).resolve().parents[1]
_FOLDERS = ("configs", "flows", "lossops", "lossops/losses", "lossops/report")
_READMES = ("README.md", *(f"{name}/README.md" for name in _FOLDERS))
_TEXTS = {name: (_ROOT / name).read_text(encoding="utf-8") for name in _READMES}

# Lines of shell blocks that no test runs as they stand: how they begin, why not, and what tests what they do.
_ELSEWHERE = {
    "python3 -m venv": ("installs everything anew", ".ci/run"),
    "lossops serve": ("never ends, and needs a Prefect server", "tests/flows/test_serve.py"),
    "cp configs/compose.env.example": ("is of the container engine", "tests/test_compose.py"),
    "configs/certificates.sh": ("writes into the checkout", "tests/topology.py"),
    "docker compose": ("needs a container engine", "tests/test_compose.py"),
}
_STORE = {"s3://inputs": "inputs", "s3://reports": "store"}  # where there is no object store


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the file and line it begins at."""

    language: str
    text: str
    file: str
    line: int

    @property
    def name(self) -> str | None:
        """The file that it says it is."""
        found = re.match(r"# ([a-z-]+\.yaml)\n", self.text)
        return found[1] if found else None


def _blocks() -> list[Block]:
    return [
        Block(one[1], one[2], file, text[: one.start()].count("\n") + 1)
        for file, text in _TEXTS.items()
        for one in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ]


def _of(language: str) -> list[Any]:
    chosen = [block for block in _blocks() if block.language == language]
    return [pytest.param(block, id=f"{block.file}-{block.line}") for block in chosen]


def _local(text: str) -> str:
    for url, folder in _STORE.items():
        text = text.replace(url, folder)
    return text


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """That of a person who installed lossops and never configured Prefect."""
    home = tmp_path_factory.mktemp("home")
    command = home / "lossops"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from flows.cli import main; main()" "$@"\n')
    command.chmod(0o755)
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    paths = {"PATH": f"{home}:{own['PATH']}", "PYTHONPATH": f"{_ROOT}:{own.get('PYTHONPATH', '')}".rstrip(":")}
    return own | paths | {"PREFECT_HOME": str(home / ".prefect")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the configs of the README and the data that they read."""
    for block in _blocks():
        if block.name:
            (tmp_path / block.name).write_text(_local(block.text))
    random = np.random.default_rng(1)
    rows = 400
    price, cuts, colours = random.lognormal(8, 0.5, rows), ["Ideal", "Good", None], ["D", "E"]
    labels = {"diamond_id": np.arange(rows), "price": price, "carat": random.uniform(0.2, 3, rows)}
    labels |= {"cut": [cuts[n % 3] for n in range(rows)], "color": [colours[n % 2] for n in range(rows)]}
    order = random.permutation(rows)
    predictions = pa.table({"diamond_id": order, "yhat": (price * random.normal(1, 0.1, rows))[order]})
    write_shards(tmp_path / "data" / "labels", cut(pa.table(labels), 3))
    write_shards(tmp_path / "data" / "predictions", cut(predictions, 2))
    return tmp_path


def _nights(folder: Path) -> None:
    """Data of the days that the README scores after the fact."""
    for day in np.arange("2026-09-30", "2026-10-31", dtype="datetime64[D]"):
        random = np.random.default_rng(day.astype(int))
        clicked, ids = random.integers(0, 2, 60), np.arange(60)
        write_shards(folder / "inputs" / "labels" / f"dt={day}", [pa.table({"id": ids, "clicked": clicked})])
        predictions = pa.table({"id": ids, "p_click": random.uniform(0.1, 0.9, 60)})
        write_shards(folder / "inputs" / "predictions" / f"dt={day}", [predictions])


def _run(folder: Path, environment: Mapping[str, str], *words: str) -> str:
    found = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 0, f"{words}: {found.stderr}"
    return found.stdout


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert {block.language for block in _blocks()} == {"sh", "yaml", "python"}
    assert sum(text.count("\n```") for text in _TEXTS.values()) == 2 * len(_blocks())
    for why, where in _ELSEWHERE.values():
        assert why
        assert (_ROOT / where).is_file()
    lines = [line for block in _blocks() for line in block.text.splitlines() if block.language == "sh"]
    for start in _ELSEWHERE:
        assert any(line.startswith(start) for line in lines), f"{start} is no longer in a README"


@pytest.mark.parametrize("block", _of("sh"))
def test_commands_run_as_they_stand(block: Block, folder: Path, environment: Mapping[str, str]) -> None:
    if "nightly.yaml" in block.text:
        _nights(folder)
    for line in block.text.splitlines():
        if line.startswith(tuple(_ELSEWHERE)):
            continue
        reports = sorted((folder / "reports").glob("*/*"))
        command = line.replace("<run id>", reports[-1].name if reports else "")
        assert _run(folder, environment, "sh", "-c", command), line


@pytest.mark.parametrize("block", _of("yaml"))
def test_configs_are_valid(block: Block, folder: Path) -> None:
    """One that is a part of a config stands in one that has the models it names."""
    part = yaml.safe_load(block.text)
    if block.name:
        assert load_config(str(folder / block.name)).name
    elif "labels" in part:
        assert parse_config(part).name
    else:
        data = {"path": "data/predictions", "prediction": "yhat"}
        rest = yaml.safe_load((folder / "price.yaml").read_text())
        rest["models"] = {"old": data, "new": data}
        assert len(parse_config(rest | part).gates) == len(part["gates"])


@pytest.mark.parametrize("block", _of("python"))
def test_python_runs_as_it_stands(block: Block, folder: Path, environment: Mapping[str, str]) -> None:
    _run(folder, environment, sys.executable, "-c", block.text)
    report = lossops.open_report(str(next((folder / "reports" / "diamonds-price").iterdir())))
    assert report.losses.num_rows == len(report.pandas("losses"))


def test_what_the_nights_left_is_their_history(folder: Path, environment: Mapping[str, str]) -> None:
    """The reports that `lossops backfill` writes are what `lossops history` reads."""
    _nights(folder)
    _run(folder, environment, "sh", "-c", "lossops backfill nightly.yaml --from 2026-10-01 --to 2026-10-03")
    found = _run(folder, environment, "sh", "-c", "lossops history clicks --output store")
    days = ["2026-10-01", "2026-10-02", "2026-10-03"]
    assert re.findall(r"^2026-10-\d\d", found, re.MULTILINE) == 2 * days  # what they found, and where they are


@pytest.mark.parametrize("name", _READMES)
def test_what_is_pointed_at_is_there(name: str) -> None:
    """Links, pictures, files and test modules that are named in code quotes, and words that select tests."""
    text, here = _TEXTS[name], (_ROOT / name).parent
    for path in re.findall(r"\]\(([^):#]+)\)", text):
        assert (here / path).is_file(), f"{name} links to {path}"
    for path in re.findall(r"`([a-z_]+(?:/[a-z_-]+)*\.(?:py|yaml|yml|sh))`", text):
        known = any((place / path).exists() for place in (here, _ROOT, _ROOT / "lossops", _ROOT / "configs"))
        assert known or path in {"price.yaml", "nightly.yaml", "release.yaml"}, f"{name} points at {path}"
    for words in re.findall(r"`pytest ([^`]+)`", text):
        for path in re.findall(r"tests/[\w/.]+", words):
            assert (_ROOT / path).exists(), f"{name} points at {path}"
        if found := re.search(r"(\S+\.py) -k (\w+)", words):
            assert re.search(rf"def test_\w*{found[2]}", (_ROOT / found[1]).read_text()), f"{name}: {words}"


def test_the_readme_is_read_in_minutes() -> None:
    """What is looked up stands beside what it explains."""
    assert len(_TEXTS["README.md"].splitlines()) < 300
    found = {str(path.parent.relative_to(_ROOT)) for path in _ROOT.glob("[a-z]*/**/README.md")}
    assert found == set(_FOLDERS)
