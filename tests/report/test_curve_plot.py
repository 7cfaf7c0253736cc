"""The picture of a loss shows the values of its formula, and their slope."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from click.testing import CliRunner

from flows import cli
from lossops.curves import CurvePoints, curve_points
from lossops.errors import ConfigError, RunError
from lossops.losses import CATALOGUE
from tests.formulas import exact_loss
from tests.strategies import parameter_sets

_SVG = "{http://www.w3.org/2000/svg}"
_OF_TUTORIALS = ("mean_absolute_error", "mean_squared_error", "smooth_l1")


def _known(curve: CurvePoints, value: str) -> tuple[Any, Any]:
    """Predictions, and the loss or slope there, without what has none."""
    values = getattr(curve, value)
    known = np.isfinite(values)
    return curve.prediction[known], values[known]


def _smooth_l1(error: Any) -> Any:
    return np.where(np.abs(error) < 1, error**2 / 2, np.abs(error) - 0.5)


@pytest.mark.parametrize(
    ("names", "label", "ends", "formulas", "slopes"),
    [
        (
            _OF_TUTORIALS,
            0.0,
            (-3.0, 3.0),
            (np.abs, np.square, _smooth_l1),
            (np.sign, lambda x: 2 * x, lambda x: np.clip(x, -1, 1)),
        ),
        (
            ("binary_crossentropy", "brier"),
            1.0,
            (0.0, 1.0),
            (lambda p: -np.log(p), lambda p: (1 - p) ** 2),
            (lambda p: -1 / p, lambda p: 2 * (p - 1)),
        ),
        (("hinge",), 1.0, (-2.0, 4.0), (lambda p: np.maximum(1 - p, 0),), (lambda p: np.where(p < 1, -1.0, 0.0),)),
        (("poisson_nll",), 0.0, (0.0, 3.0), (lambda p: p,), (np.ones_like,)),
    ],
)
def test_values_and_slopes_are_those_of_the_formula(
    names: tuple[str, ...], label: float, ends: tuple[float, float], formulas: Any, slopes: Any
) -> None:
    curves = curve_points(names)
    assert [one.label for one in curves] == [label] * len(names)
    for curve, formula, slope in zip(curves, formulas, slopes, strict=True):
        at, values = _known(curve, "loss")
        assert len(at) >= 400
        assert values == pytest.approx(formula(at), rel=1e-12, abs=1e-12)
        assert at[[0, -1]] == pytest.approx(ends, abs=0.01)
        at, values = _known(curve, "slope")
        assert len(at) >= 395
        assert values == pytest.approx(slope(at), rel=1e-3, abs=1e-6)


def _one_by_one() -> list[str]:
    found = []
    for name in CATALOGUE:
        try:
            curve_points([name])
        except ConfigError as error:
            assert "allowed: losses of one number as label and one number as prediction" in str(error)  # noqa: PT017
            continue
        found.append(name)
    return found


def test_what_can_be_drawn_shows_its_formula_and_integrates_to_it() -> None:
    """Between corners the area under a slope is the rise of the loss."""
    names = _one_by_one()
    assert len(names) > 25
    assert {"huber", "pinball", "soft_margin", "tweedie_deviance", "crps_poisson"} <= set(names)
    for name in names:
        (curve,) = curve_points([name])
        known = np.isfinite(curve.loss)
        assert known.sum() > 300, name
        for place in np.flatnonzero(known)[::57]:
            row = np.array([curve.label]), curve.prediction[place : place + 1]
            exact = exact_loss(CATALOGUE[name], CATALOGUE[name].form, *row, parameter_sets(CATALOGUE[name], 1)[0])
            assert curve.loss[place] == pytest.approx(float(exact), rel=1e-9, abs=1e-12), name
        smooth = np.isfinite(curve.slope[1:] + curve.slope[:-1] + curve.loss[1:] + curve.loss[:-1])
        area = (curve.slope[1:] + curve.slope[:-1]) / 2 * np.diff(curve.prediction)
        bent = np.abs(area - np.diff(curve.loss))[smooth]
        assert np.quantile(bent, 0.95) < 1e-2, name


def _lines(path: Path) -> list[str]:
    """The lines of more points than a legend or an axis has."""
    paths = [str(one.get("d")) for one in ET.parse(path).iter(f"{_SVG}path")]
    return [one for one in paths if one.count("L") > 100]


def _invoke(*words: str) -> Any:
    return CliRunner().invoke(cli.lossops, ["losses", *words])


def test_a_picture_has_a_line_for_each_loss_and_panel(tmp_path: Path) -> None:
    path = tmp_path / "curves.svg"
    found = _invoke(*_OF_TUTORIALS, "--plot", str(path))
    assert found.output == f"Drawn: {path}\n"
    assert len(_lines(path)) == 2 * len(_OF_TUTORIALS)
    shown = [str(one.text) for one in ET.parse(path).iter(f"{_SVG}text")]
    assert set(_OF_TUTORIALS) <= set(shown)
    assert {"loss", "slope", "prediction, where the label is 0"} <= set(shown)
    # Of the absolute error the slope has a jump, so its line has two pieces.
    assert sorted(one.count("M") for one in _lines(path)) == [1, 1, 1, 1, 1, 2]


def test_a_line_of_the_picture_is_where_its_values_are(tmp_path: Path) -> None:
    path = tmp_path / "curves.svg"
    _invoke("mean_squared_error", "--plot", str(path))
    points = [tuple(map(float, one.split(","))) for one in _lines(path)[0][1:].split("L")]
    across, down = np.array(points).T
    values = (across / across[-1] * 6 - 3) ** 2
    heights = down.max() - down
    assert values / 9 == pytest.approx(heights / heights[0], abs=2e-3)
    assert all(one < two for one, two in pairwise(across))


def test_an_image(tmp_path: Path) -> None:
    _invoke("huber", "--plot", str(tmp_path / "huber.PNG"))
    assert (tmp_path / "huber.PNG").read_bytes().startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("huber", "--plot", "huber.pdf"), "allowed: a file whose name ends in .svg or .png"),
        (("hubr", "--plot", "huber.svg"), "did you mean 'huber'?"),
        (("categorical_crossentropy", "--plot", "a.svg"), "'categorical_crossentropy' cannot be drawn"),
        (("r2", "--plot", "a.svg"), "'r2' cannot be drawn over one prediction: it is a number of all rows"),
        (("log_cosh", "hinge", "lognormal_nll", "--plot", "a.svg"), "'lognormal_nll' cannot be drawn"),
    ],
)
def test_what_cannot_be_drawn_is_refused(words: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in str(_invoke(*words).exception)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    found = _invoke("huber", "--plot", str(tmp_path / "none" / "a.svg"))
    assert isinstance(found.exception, RunError)


def test_names_are_asked_for() -> None:
    assert "--plot needs the names of losses" in _invoke("--plot", "a.svg").output


def test_several_losses_are_shown_in_full() -> None:
    both = _invoke("huber", "brier").output
    assert both == _invoke("huber").output + _invoke("brier").output
