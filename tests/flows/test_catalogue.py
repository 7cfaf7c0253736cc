"""The catalogue in its documentation and on the command line says what is declared, and finds what people look for.

After a change that is meant: LOSSOPS_WRITE_EXPECTED=1 pytest tests/flows/test_catalogue.py, and look at what git shows.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

import lossops.losses
from flows import cli
from flows.catalogue import as_markdown, pictures
from lossops.losses import CATALOGUE, CONVENTIONS
from lossops.measures import MEASURES

_README = Path(lossops.losses.__file__).parent / "README.md"
_CURVES = _README.parent / "curves"
_SVG = "{http://www.w3.org/2000/svg}"


def _shown(*words: str) -> str:
    found = CliRunner().invoke(cli.lossops, ["losses", *words])
    assert found.exit_code == 0, found.output
    return found.output


def test_the_documentation_has_the_catalogue() -> None:
    """What follows the mark is what is printed."""
    head, mark, part = _README.read_text(encoding="utf-8").partition("<!-- catalogue -->\n")
    assert mark
    if os.environ.get("LOSSOPS_WRITE_EXPECTED"):
        part = f"\n{as_markdown()}"
        _README.write_text(head + mark + part, encoding="utf-8")
    assert part.strip() == as_markdown().strip()
    assert _shown("--markdown") == as_markdown()


@pytest.mark.parametrize("name", pictures())
def test_a_picture_of_the_catalogue_is_what_the_command_draws(name: str, tmp_path: Path) -> None:
    """Lines point by point; where they stand in the picture depends on the fonts of the machine."""
    path = tmp_path / name
    assert _shown(*pictures()[name], "--plot", str(path)) == f"Drawn: {path}\n"
    if os.environ.get("LOSSOPS_WRITE_EXPECTED"):
        (_CURVES / name).write_bytes(path.read_bytes())
    (drawn, said), (kept, told) = _picture(path), _picture(_CURVES / name)
    assert told == said
    assert set(pictures()[name]) <= set(told)
    assert len(kept) == len(drawn) == 2 * len(pictures()[name])
    for one, other in zip(kept, drawn, strict=True):
        assert one == pytest.approx(other, abs=0.05)


def _picture(path: Path) -> tuple[list[list[float]], list[str | None]]:
    """The numbers of the lines that are curves, and all texts."""
    tree = ET.parse(path)
    paths = [str(one.get("d")) for one in tree.iter(f"{_SVG}path")]
    curves = [[float(number) for number in re.findall(r"-?[\d.]+", one)] for one in paths if one.count("L") > 100]
    return curves, [one.text for one in tree.iter(f"{_SVG}text")]


def test_pictures_are_those_of_the_catalogue_and_small() -> None:
    assert {path.name for path in _CURVES.iterdir()} == set(pictures())
    assert sum(path.stat().st_size for path in _CURVES.iterdir()) < 500_000
    shown = [name for names in pictures().values() for name in names]
    assert len(shown) == len(set(shown)) > 25


def test_everything_is_listed_under_its_family() -> None:
    listed: dict[str, str] = {}
    family = ""
    families = {declared.family for declared in (*CATALOGUE.values(), *MEASURES.values())}
    for line in _shown().splitlines():
        if line.strip() in families:
            family = line.strip()
        listed[line.split(" ")[0]] = family
    for declared in (*CATALOGUE.values(), *MEASURES.values()):
        assert listed[declared.name] == declared.family


@pytest.mark.parametrize(
    ("words", "name"),
    [("BCEWithLogitsLoss", "binary_crossentropy"), ("brier multiclass", "multiclass_brier"), ("r2_score", "r2")],
)
def test_search_finds_by_what_libraries_call_it(words: str, name: str) -> None:
    found = _shown("--search", words)
    assert name in found
    assert "huber" not in found


def test_a_search_that_finds_nothing() -> None:
    found = CliRunner().invoke(cli.lossops, ["losses", "--search", "no such thing"])
    assert "no such thing" in str(found.exception)


def test_one_confidently_wrong_row_under_each_convention() -> None:
    """`reference/losses.md` 0.2."""
    page = " ".join(_shown("binary_crossentropy").split())
    for convention, value in {
        "keras": "16.1181",
        "tf_keras": "15.4249",
        "sklearn": "36.0437",
        "torch": "100",
        "xgboost": "36.8414",
        "lightgbm": "34.5388",
        "spark": "34.5388",
        "exact": "inf",
    }.items():
        assert f"Label 0 with prediction 1 loses {value}" in page.partition(f" {convention} clip_low")[2][:400]
    assert set(CONVENTIONS) == {"keras", "tf_keras", "sklearn", "torch", "xgboost", "lightgbm", "spark", "exact"}


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_is_shown_in_full(name: str) -> None:
    text = "".join(_shown(name).split())
    declared = [MEASURES[name].formula, MEASURES[name].summary, MEASURES[name].citation]
    assert [part for part in declared if "".join(part.split()) not in text] == []
