"""Adding a loss is one declaration in one file, and a declaration is checked."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lossops
from lossops.errors import ConfigError
from lossops.losses import CATALOGUE, Interval, Loss, bind, parameters_of
from tests.oracles import contains
from tests.strategies import inside, outside, parameter_sets, usable_widths

_ROOT = Path(lossops.__file__).resolve().parents[1]
# Absolute percentage error with a floor: a formula, a domain of its own, a parameter.
_DECLARATION = """

@inline
def _relative(label: float, prediction: float, floor: float) -> float:
    return abs(prediction - label) / max(label, floor)


relative_error_for_test = Loss(
    name="relative_error_for_test",
    summary="absolute difference in units of the label",
    family="regression: relative",
    inputs=Inputs.ELEMENTS,
    label=Interval(0.0, low_open=True),
    form=Form(row=_relative, formula="abs(p - y)/(y if y > floor else floor)", prediction=Interval(-5.0, 5.0)),
    parameters=(Parameter(name="floor", meaning="smallest denominator", default=1.0, domain=Interval(0.0)),),
    curve=_LIKE_THE_ABSOLUTE,
    citation="this test",
)
"""
_QUESTIONS = """
import json
import numpy as np
import lossops
from lossops.config import parse_config
from lossops.errors import ConfigError
from lossops.losses import CATALOGUE, bind

def config(loss):
    values = {"name": "x", "labels": {"path": "a", "label": "y"}, "models": {"m": {"path": "b", "prediction": "p"}}}
    try:
        return [bound.name for bound in parse_config({**values, "losses": [loss]}).bound_losses]
    except ConfigError as error:
        return str(error)

name = "relative_error_for_test"
bound = bind(name, {"floor": 2.0}, "keras")
labels, predictions = np.array([[4.0], [1.0], [0.0], [1.0]]), np.array([[1.0], [2.0], [1.0], [5.5]])
reasons, none = np.zeros(4, dtype=np.uint8), np.zeros(4, dtype=np.uint8)
bound.check(labels, none, predictions, none, reasons)
print(json.dumps({
    "package": lossops.__file__,
    "listed": name in CATALOGUE,
    "accepted": config({"loss": name, "floor": 2.0}),
    "misspelt": config("relative_error_for_tset"),
    "bad value": config({"loss": name, "floor": -1.0}),
    "bad key": config({"loss": name, "flor": 1.0}),
    "reasons": [int(reason) for reason in reasons],
    "words": {int(reason): words for reason, words in bound.reasons.items()},
    "values": bound.values(labels, predictions, reasons).tolist(),
}))
"""


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A copy of the packages with one more declaration in losses/regression.py, and an environment that uses it."""
    folder = tmp_path_factory.mktemp("declared")
    for package in ("lossops", "flows"):
        shutil.copytree(_ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "lossops" / "losses" / "regression.py").open("a") as file:
        file.write(_DECLARATION)
    return folder, {**os.environ, "PYTHONPATH": str(folder), "LOSSOPS_CACHE_DIR": str(folder / "cache")}


@pytest.fixture(scope="module")
def answers(declared: tuple[Path, dict[str, str]]) -> dict[str, Any]:
    """What the library of that copy says."""
    folder, environment = declared
    command = [sys.executable, "-c", _QUESTIONS]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert Path(found["package"]).is_relative_to(folder)
    return found


def test_a_declared_loss_is_on_the_command_line(declared: tuple[Path, dict[str, str]]) -> None:
    """The listing names it; its own page has formula, parameter, domains and reasons; a run scores with it."""
    folder, environment = declared

    def lossops(*words: str) -> str:
        command = [sys.executable, "-c", "from flows.cli import main; main()", *words]
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "relative_error_for_test" in lossops("losses")
    page = lossops("losses", "relative_error_for_test")
    for part in ("abs(p - y)/(y if y > floor else floor)", "floor", "(0, inf)", "[-5, 5]", "label_outside_domain"):
        assert part in page
    (folder / "data.csv").write_text("y,p\n4,1\n1,2\n0,1\n")
    config = {
        "name": "declared",
        "labels": {"path": "data.csv", "label": "y"},
        "models": {"m": {"path": "data.csv", "prediction": "p"}},
        "losses": ["relative_error_for_test"],
    }
    (folder / "config.yaml").write_text(json.dumps(config))
    found = json.loads(lossops("run", "config.yaml", "--direct", "--json"))
    assert found["overall"][0]["mean"] == (0.75 + 1.0) / 2
    assert found["overall"][0]["rows_valid"] == 2


def test_a_declared_loss_is_in_the_catalogue_and_computes(answers: dict[str, Any]) -> None:
    """|1-4|/4 and |2-1|/2 by hand."""
    assert answers["listed"]
    assert answers["values"][:2] == [0.75, 0.5]


def test_a_declared_loss_is_known_to_the_config(answers: dict[str, Any]) -> None:
    """Its name, its parameter, the parameter's domain and the nearest spelling of both."""
    assert answers["accepted"] == ["relative_error_for_test"]
    assert "'relative_error_for_test'" in answers["misspelt"]
    assert "[0, inf)" in answers["bad value"]
    assert "-1.0" in answers["bad value"]
    assert "'floor'" in answers["bad key"]


def test_a_declared_loss_gives_its_own_reasons(answers: dict[str, Any]) -> None:
    """Label 0 is outside (0, inf) and prediction 5.5 outside [-5, 5], as the declaration says in words."""
    scored, also_scored, label, prediction = answers["reasons"]
    assert (scored, also_scored) == (0, 0)
    assert "(0, inf)" in answers["words"][str(label)]
    assert "[-5, 5]" in answers["words"][str(prediction)]


@pytest.mark.parametrize("loss", CATALOGUE.values(), ids=lambda loss: loss.name)
def test_declarations_are_complete(loss: Loss) -> None:
    """Words for the catalogue, parameters that accept their defaults, and rows that tests can make."""
    assert loss.summary
    assert loss.citation
    assert loss.family
    for parameter in parameters_of(loss):
        assert parameter.meaning
        assert getattr(parameter, "required", False) or parameter.accepts(parameter.default)
    for form in loss.forms.values():
        assert usable_widths(loss, form)
        for shape in usable_widths(loss, form):
            given = {key: value for key, value in parameter_sets(loss, shape[1])[0].items() if value is not None}
            assert bind(loss.name, given, "exact").misfit(*shape) is None


@pytest.mark.parametrize(
    "interval",
    [
        Interval(),
        Interval(0.0, 1.0),
        Interval(0.0, low_open=True),
        Interval(-1.0, 1.0, high_open=True),
        Interval(-1.0, 1.0, low_open=True, high_open=True),
        Interval(0.0, step=1.0),
        Interval(-1.0, 1.0, step=2.0),
    ],
    ids=str,
)
def test_intervals_contain_what_their_fields_say(interval: Interval) -> None:
    """Ends, neighbours of ends, and what is never inside."""
    assert all(value in interval for value in inside(interval))
    assert not any(value in interval for value in [*outside(interval), float("nan"), float("inf"), float("-inf")])
    assert all(contains(interval, value) for value in inside(interval))


def test_intervals_in_words() -> None:
    """Infinite ends are never included."""
    intervals = {
        "(-inf, inf)": Interval(),
        "[0, 1]": Interval(0.0, 1.0),
        "(0, inf)": Interval(0.0, low_open=True),
        "[0, 0.5)": Interval(0.0, 0.5, high_open=True),
        "[-inf, inf]": Interval(infinite=True),
        "{0, 1, ...}": Interval(0.0, step=1.0),
        "{-1, 1}": Interval(-1.0, 1.0, step=2.0),
    }
    assert {words: str(interval) for words, interval in intervals.items()} == {words: words for words in intervals}


def test_infinite_ends_belong_to_logits_only() -> None:
    """-inf and inf are logits; logarithms of probabilities may be -inf."""
    infinities = (float("-inf"), float("inf"))
    assert [value in Interval(infinite=True) for value in infinities] == [True, True]
    assert [value in Interval(high=0.0, infinite=True) for value in infinities] == [True, False]
    assert not Interval(infinite=True).__contains__(math.nan)


@pytest.mark.parametrize(
    ("name", "parameters", "convention", "parts"),
    [
        ("hubr", {}, "keras", ["'hubr'", "'huber'"]),
        ("MSELoss", {}, "keras", ["'MSELoss'", "'mean_squared_error'"]),
        ("what?", {}, "keras", ["'what?'", "allowed", "binary_crossentropy"]),
        ("huber", {"dleta": 1.0}, "keras", ["huber", "'dleta'", "'delta'"]),
        ("huber", {"delta": 0.0}, "keras", ["huber", "delta", "0.0", "(0, inf)"]),
        ("huber", {"delta": float("inf")}, "keras", ["delta", "inf", "(0, inf)"]),
        ("huber", {"delta": float("nan")}, "keras", ["delta", "nan", "(0, inf)"]),
        ("huber", {"delta": True}, "keras", ["delta", "True", "a number"]),
        ("huber", {"delta": "1"}, "keras", ["delta", "'1'", "a number"]),
        ("huber", {"delta": None}, "keras", ["delta", "None", "a number"]),
        ("huber", {"delta": 10**400}, "keras", ["delta", "a number"]),
        ("huber", {"from_logits": True}, "keras", ["huber", "'from_logits'"]),
        ("binary_crossentropy", {"from_logits": 1}, "keras", ["from_logits", "1", "true or false"]),
        ("binary_crossentropy", {"label_smoothing": 1.5}, "keras", ["label_smoothing", "1.5", "[0, 1]"]),
        (
            "sparse_categorical_crossentropy",
            {"ignore_class": 1.5},
            "keras",
            ["ignore_class", "1.5", "an integer", "null"],
        ),
        ("sparse_categorical_crossentropy", {"ignore_class": 10**400}, "keras", ["ignore_class", "an integer"]),
        ("huber", {}, "kears", ["'kears'", "'keras'"]),
    ],
)
def test_a_loss_that_cannot_be_bound(name: str, parameters: dict[str, Any], convention: str, parts: list[str]) -> None:
    """One line that names the loss, the parameter, the value and what is allowed."""
    with pytest.raises(ConfigError) as caught:
        bind(name, parameters, convention)
    message = str(caught.value)
    assert "\n" not in message
    assert [part for part in parts if part not in message] == []
