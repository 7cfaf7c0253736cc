"""The catalogue in the README and on the command line says what is declared, and finds what people look for."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from flows import cli
from flows.catalogue import as_markdown
from lossops.losses import CATALOGUE, CONVENTIONS
from lossops.measures import MEASURES

_README = Path(__file__).resolve().parents[2] / "README.md"


def _shown(*words: str) -> str:
    found = CliRunner().invoke(cli.lossops, ["losses", *words])
    assert found.exit_code == 0, found.output
    return found.output


def test_the_readme_has_the_catalogue() -> None:
    """Refresh the part between the marks with: lossops losses --markdown."""
    begin, end = "<!-- catalogue -->", "<!-- end of catalogue -->"
    part = _README.read_text().partition(begin)[2].partition(end)[0]
    assert part.strip() == as_markdown().strip()
    assert _shown("--markdown") == as_markdown()


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
