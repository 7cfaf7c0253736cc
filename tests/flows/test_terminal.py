"""What a person sees at a terminal of 80 columns, with and without colours, and in a file: stored text.

After a change that is meant: LOSSOPS_WRITE_EXPECTED=1 pytest tests/flows/test_terminal.py, and look at what git shows.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

import lossops
from flows import cli
from lossops.report import Report
from tests.datasets import cut, write_shards
from tests.flows.conftest import LOSSOPS

_EXPECTED = Path(__file__).parent / "expected"
_STYLE = re.compile(r"\x1b\[([0-9;]*)m")
_COLOURS = {*range(30, 50), *range(90, 108)}
_COMMANDS = {
    "show": ("show", "reports/nightly/{first}"),
    "compare": ("compare", "reports/nightly/{first}", "reports/nightly/{last}"),
    "history": ("history", "nightly"),
    "history-of-a-slice": ("history", "nightly", "--slice", "town=Köln", "--loss", "score"),
}


def _table(day: int) -> pa.Table:
    """Rows without chance, so that every machine and version has the same; from the third day on Köln is worse."""
    number = np.arange(1200)
    label = number * 7 % 2
    noise = (number * 37 + day * 11) % 101 / 101
    town = np.array(["Aachen", "Berlin", "Köln", "東京"])[number * 13 // 6 % 4]
    town = np.where(number < 10, "Ulm\x1b[31m", town)
    p = np.clip(0.5 + (label - 0.5) * (0.2 + 0.7 * noise), 0.01, 0.99)
    p = np.where((town == "Köln") & (day >= 2), 1 - p, p)
    p[::97] = np.nan
    q = np.clip(p + 0.1 * (noise - 0.5), 0.01, 0.99)
    device = np.array(["phone", "laptop", "a tablet whose name is long"])
    return pa.table({"id": number, "y": label, "p": p, "q": q, "town": town, "device": device[number % 3]})


def _score(folder: Path, day: int) -> Report:
    data = write_shards(folder / f"day-{day}", cut(_table(day), 2))
    return lossops.evaluate(
        {
            "name": "nightly",
            "labels": {"path": data, "label": "y"},
            "models": {
                "candidate": {"path": data, "prediction": "p"},
                "baseline": {"path": data, "prediction": "q"},
            },
            "losses": ["binary_crossentropy", {"loss": "brier", "name": "score"}],
            "slices": ["town", "device", ["town", "device"]],
            "baseline": "baseline",
            "gates": [
                {"loss": "score", "model": "candidate", "max": 0.01},
                {"loss": "score", "max_increase": 0.5, "slices": ["overall", "town"]},
            ],
            "discover": {"columns": ["town", "device"], "depth": 2, "min_rows": 50},
            "min_rows": 8,
            "date": f"2026-10-{day + 1:02d}",
            "output": str(folder / "reports"),
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the reports of four days and one that is damaged."""
    found = tmp_path_factory.mktemp("terminal")
    for day in range(4):
        _score(found, day)
    (found / "reports" / "nightly" / "19991231T235959Z-00000000").mkdir()
    return found


def _words(folder: Path, name: str) -> list[str]:
    # By when they began: ids of runs within a second do not tell.
    runs = [json.loads(path.read_text()) for path in (folder / "reports" / "nightly").glob("*/run.json")]
    ids = [run["run_id"] for run in sorted(runs, key=lambda run: run["started"])]
    return [*LOSSOPS, *(word.format(first=ids[0], last=ids[-1]) for word in _COMMANDS[name])]


def _in_terminal(words: list[str], folder: Path, environment: Mapping[str, str], columns: int = 80) -> str:
    """Run a command in a terminal of 80 columns and return all that it was sent."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    shown = b""
    with subprocess.Popen(words, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        while part := _read(ours):
            shown += part
    os.close(ours)
    assert process.returncode == 0, shown.decode()
    return shown.decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # how Linux says that the other side is closed
        return b""


def _piped(words: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    found = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert found.stderr == ""
    return found.stdout


def _without_column_settings(environment: Mapping[str, str], **extra: str) -> dict[str, str]:
    gone = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"}
    return {name: value for name, value in environment.items() if name not in gone} | {"TERM": "xterm-256color"} | extra


def _plain(text: str) -> str:
    """Text without styles, the numbers of runs, and blanks at the end of a line."""
    text = re.sub(r"\d{8}T\d{6}Z-[0-9a-f]{8}", "<run id>", _STYLE.sub("", text))
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def _codes(text: str) -> set[int]:
    return {int(code) for codes in _STYLE.findall(text) for code in codes.split(";") if code}


def _width(line: str) -> int:
    return sum(2 if ord(letter) > 0x2E80 else 1 for letter in line)


def _compare(name: str, text: str) -> None:
    path = _EXPECTED / f"{name}.txt"
    if os.environ.get("LOSSOPS_WRITE_EXPECTED"):
        path.write_text(_plain(text), encoding="utf-8")
    assert _plain(text) == path.read_text(encoding="utf-8")
    assert "\x1b" not in _plain(text)


def _widest(text: str) -> int:
    free = ("reports/", "Passed over")  # lines that are not cut, to be copied
    return max(_width(line.rstrip()) for line in text.splitlines() if not any(word in line for word in free))


@pytest.mark.parametrize("name", _COMMANDS)
def test_piped_there_are_no_codes_and_80_columns(name: str, folder: Path, environment: Mapping[str, str]) -> None:
    text = _piped(_words(folder, name), folder, _without_column_settings(environment))
    assert "\x1b" not in text
    assert _widest(text) <= 80
    _compare(name, text)


def test_whoever_sets_columns_gets_them(folder: Path, environment: Mapping[str, str]) -> None:
    wide, narrow, nonsense = (
        _piped(_words(folder, "show"), folder, _without_column_settings(environment, COLUMNS=columns))
        for columns in ("200", "60", "many")
    )
    assert _widest(narrow) <= 60
    assert "binary_crossentropy  -0.00132024" in wide
    assert "binary_crossentropy  -0.00132024" not in narrow
    assert _plain(nonsense) == (_EXPECTED / "show.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", _COMMANDS)
def test_without_colours_a_terminal_shows_the_same(name: str, folder: Path, environment: Mapping[str, str]) -> None:
    text = _in_terminal(_words(folder, name), folder, _without_column_settings(environment, NO_COLOR="1"))
    assert not _codes(text) & _COLOURS
    _compare(name, text)


def test_with_colours_a_terminal_shows_the_same(folder: Path, environment: Mapping[str, str]) -> None:
    text = _in_terminal(_words(folder, "history"), folder, _without_column_settings(environment))
    assert _codes(text) & _COLOURS
    _compare("history", text)


def test_stored_text_is_of_a_command() -> None:
    assert {path.stem for path in _EXPECTED.iterdir()} == set(_COMMANDS)


def test_a_comparison_has_the_means_of_both(folder: Path, environment: Mapping[str, str]) -> None:
    first, last = (lossops.open_report(str(folder / word)) for word in _words(folder, "compare")[-2:])
    told = json.loads(_piped([*_words(folder, "compare"), "--json"], folder, _without_column_settings(environment)))
    key: Callable[[Any], tuple[str, ...]] = lambda row: (row["model"], row["loss"], row["slice"])  # noqa: E731
    ours, theirs = ({key(row): row for row in report.losses.to_pylist()} for report in (first, last))
    assert {key(row) for row in told["losses"]} == set(ours) & set(theirs)
    assert told["only_one_has"] == len(set(ours) ^ set(theirs))
    for row in told["losses"]:
        one, two = ours[key(row)], theirs[key(row)]
        assert (row["first"], row["second"]) == (one["mean"], two["mean"])
        if one["ci_low"] is None or two["ci_low"] is None:
            assert row["overlap"] is None
            continue
        assert row["difference"] == two["mean"] - one["mean"]
        apart = one["ci_high"] < two["ci_low"] or two["ci_high"] < one["ci_low"]
        assert row["overlap"] == (not apart)
    apart = [row["overlap"] is not False for row in told["losses"] if row["slice"] != "overall"]
    assert apart == sorted(apart)
    assert not apart[0]


def _one(folder: Path, model: str, loss: str, predictions: list[float]) -> str:
    data = write_shards(folder / f"{model}-{loss}", [pa.table({"y": [0.0] * 4, "p": predictions})])
    config = {
        "name": "one",
        "labels": {"path": data, "label": "y"},
        "losses": [loss],
        "output": str(folder / "reports"),
    }
    return lossops.evaluate(config | {"models": {model: {"path": data, "prediction": "p"}}}).path


def test_reports_of_one_model_each_are_compared_whatever_it_is_called(tmp_path: Path) -> None:
    old, new = _one(tmp_path, "old", "huber", [1.0] * 4), _one(tmp_path, "new", "huber", [3.0] * 4)
    found = CliRunner().invoke(cli.lossops, ["compare", old, new])
    assert re.search(r"old +huber +0\.5 +2\.5 +2 +apart", found.output)
    other = _one(tmp_path, "new", "brier", [0.5] * 4)
    found = CliRunner().invoke(cli.lossops, ["compare", old, other])
    assert "no model and loss in common: huber of old, and brier of new" in str(found.exception)
