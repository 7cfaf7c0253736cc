"""The history of a name: SciPy's tests of the rows themselves find the same moves as the reports do."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from click.testing import CliRunner
from scipy import stats

import lossops
from flows import cli
from lossops.changes import changes
from lossops.errors import InputError
from lossops.report import Report
from lossops.report.history import History, earlier_runs, first_moves, moves, read_history
from tests.datasets import write_shards
from tests.report.pages import Page, page_of

_DAYS = 6
_JUMP = 3  # the day from which g=b is worse
_ORDER = (2, 0, 5, 1, 4, 3)  # in which the days are scored


@dataclass(frozen=True)
class Nights:
    """Reports of some days of one name, and the losses of their rows by day and slice."""

    output: Path
    reports: list[Report]
    losses: list[dict[str, Any]]

    def read(self, last: int = 100, most_rows: int = 10**6) -> History:
        return read_history(str(self.output), "nightly", last, most_rows=most_rows)


def _table(day: int) -> pa.Table:
    random = np.random.default_rng(day)
    rows = 300
    group = np.array(["a", "b", "c"])[np.arange(rows) % 3]
    error = random.normal(0, np.where((group == "b") & (day >= _JUMP), 3.0, 1.0))
    group = np.where(np.arange(rows) == 0, "lonely", group)  # a slice of one row has no error
    flat = np.arange(rows) % 3 == 2
    error = np.where(flat, 1.0 if day < 2 else 2.0, error)  # g=c never varies, and jumps once
    return pa.table({"y": np.zeros(rows), "p": error, "g": group})


def _score(folder: Path, output: Path, day: int, **changed: Any) -> Report:
    data = write_shards(folder / f"day-{day}", [_table(day)])
    config = {
        "name": "nightly",
        "labels": {"path": data, "label": "y"},
        "models": {"m": {"path": data, "prediction": "p"}},
        "losses": ["mean_absolute_error", "mean_squared_error", "root_mean_squared_error"],
        "slices": ["g"],
        "date": f"2026-10-{day + 1:02d}",
        "output": str(output),
    }
    return lossops.evaluate(config | changed)


def _losses_of(day: int) -> dict[str, Any]:
    table = _table(day)
    size = np.abs(table["p"].to_numpy())
    names = np.array(table["g"].to_pylist())
    slices = {"overall": np.ones(len(size), bool), **{f"g={one}": names == one for one in sorted(set(names))}}
    return {
        f"{loss}, {name}": values[chosen]
        for loss, values in (("mean_absolute_error", size), ("mean_squared_error", size**2))
        for name, chosen in slices.items()
    }


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Nights:
    folder = tmp_path_factory.mktemp("nights")
    output = folder / "reports"
    reports = {day: _score(folder, output, day) for day in _ORDER}
    return Nights(output, [reports[day] for day in range(_DAYS)], [_losses_of(day) for day in range(_DAYS)])


def _tests(losses: list[dict[str, Any]]) -> Iterator[tuple[str, int, float]]:
    """Yield series, day and p-value of Welch's test of each day against the day before, of the rows themselves."""
    for name in losses[0]:
        for day, (one, two) in enumerate(pairwise(losses), start=1):
            if len(one[name]) < 2:
                continue
            certain = np.ptp(one[name]) == np.ptp(two[name]) == 0.0
            equal = 1.0 if one[name][0] == two[name][0] else 0.0
            yield name, day, equal if certain else float(stats.ttest_ind(one[name], two[name], equal_var=False).pvalue)


def test_runs_are_in_the_order_of_their_dates(nights: Nights) -> None:
    found = nights.read()
    assert [run.shown for run in found.runs] == [f"2026-10-{day + 1:02d}" for day in range(_DAYS)]
    assert [run.run_id for run in found.runs] == [report.run["run_id"] for report in nights.reports]
    for row in found.rows(slice="overall", loss="mean_absolute_error"):
        assert row["mean"] == pytest.approx(nights.losses[row["run"]]["mean_absolute_error, overall"].mean(), rel=1e-14)


def test_moves_are_those_that_scipy_finds_in_the_rows(nights: Nights) -> None:
    names, days, p_values = zip(*_tests(nights.losses), strict=True)
    adjusted = stats.false_discovery_control(p_values, method="by")
    expected = {
        (name, day): p_value for name, day, p_value in zip(names, days, adjusted, strict=True) if p_value < 0.05
    }
    found = moves(nights.read())
    assert {(f"{one.loss}, {one.slice}", one.run): one.p_adjusted for one in found} == pytest.approx(expected, rel=1e-6)
    assert ("mean_absolute_error, g=b", _JUMP) in expected
    assert ("mean_absolute_error, g=c", 2) in expected
    surely = [one.p_adjusted for one in found]
    assert surely == sorted(surely)
    for one in found:
        means = [nights.losses[day][f"{one.loss}, {one.slice}"].mean() for day in (one.run - 1, one.run)]
        assert [one.before, one.mean] == pytest.approx(means, rel=1e-14)


def test_only_the_first_move_of_a_slice_is_told(nights: Nights) -> None:
    found = moves(nights.read())
    earliest: dict[tuple[str, str], int] = {}
    for one in sorted(found, key=lambda one: -one.run):
        earliest[one.loss, one.slice] = one.run
    told = [(one.loss, one.slice, one.run) for one in first_moves(found)]
    assert sorted(told) == sorted((*key, run) for key, run in earliest.items())
    assert len(told) < len(found)


def test_every_p_value_equals_that_of_scipy(nights: Nights) -> None:
    samples = [(number, values) for number, name in enumerate(nights.losses[0]) for values in _of(nights, name)]
    series = np.array([number for number, _ in samples])
    mean = np.array([values.mean() for _, values in samples])
    with np.errstate(all="ignore"):
        error = np.array(
            [values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else np.nan for _, values in samples]
        )
    found = changes(series, mean, error, np.array([len(values) - 1.0 for _, values in samples]))
    expected = [p_value for _, _, p_value in _tests(nights.losses)]
    assert found.p_value == pytest.approx(expected, rel=1e-9)
    assert found.p_adjusted == pytest.approx(stats.false_discovery_control(expected, method="by"), rel=1e-9)


def _of(nights: Nights, name: str) -> list[Any]:
    return [one[name] for one in nights.losses]


def test_what_has_no_number_is_skipped_and_compared_across() -> None:
    """A run in which a slice is hidden or infinite does not part the runs around it."""
    nothing = float("nan")
    mean = np.array([1.0, nothing, np.inf, 1.0, 9.0, 5.0])
    error = np.array([0.1, 0.1, nothing, 0.1, nothing, 0.1])
    freedom = np.array([9.0, 9.0, 9.0, 9.0, 0.0, 9.0])
    found = changes(np.zeros(6, np.int64), mean, error, freedom)
    assert (found.before.tolist(), found.now.tolist()) == ([0, 3], [3, 5])
    expected = stats.ttest_ind_from_stats(5.0, 0.1 * math.sqrt(10), 10, 1.0, 0.1 * math.sqrt(10), 10, equal_var=False)
    assert found.p_value == pytest.approx([1.0, expected.pvalue])
    assert found.statistic[1] == pytest.approx(expected.statistic)


def test_nothing_to_compare() -> None:
    found = changes(np.zeros(1, np.int64), np.ones(1), np.ones(1), np.ones(1))
    assert len(found.p_adjusted) == 0


def test_errors_of_any_size() -> None:
    for size in (1e-300, 1e-160, 1.0, 1e160, 1e300):
        found = changes(
            np.zeros(2, np.int64), np.array([1.0, 4.0]) * size, np.array([1.0, 2.0]) * size, np.full(2, 7.0)
        )
        known = stats.ttest_ind_from_stats(1, math.sqrt(8), 8, 4, 2 * math.sqrt(8), 8, equal_var=False)
        assert found.p_value == pytest.approx([known.pvalue], rel=1e-12)


def test_damaged_and_incomplete_reports_are_passed_over_by_name(nights: Nights, tmp_path: Path) -> None:
    output = tmp_path / "reports"
    shutil.copytree(nights.output, output)
    ids = [report.run["run_id"] for report in nights.reports]
    (output / "nightly" / ids[1] / "run.json").unlink()
    (output / "nightly" / ids[2] / "run.json").write_text('{"run_id":')
    (output / "nightly" / ids[4] / "losses.parquet").write_bytes(b"PAR1")
    (output / "nightly" / ".half.partial").mkdir()
    found = read_history(str(output), "nightly", 100, most_rows=10**6)
    assert [run.run_id for run in found.runs] == [ids[0], ids[3], ids[5]]
    assert sorted(set(pc.unique(found.losses["run"]).to_pylist())) == [0, 1, 2]
    told = dict(found.passed_over)
    assert told.keys() == {ids[1], ids[2], ids[4]}
    assert told[ids[1]] == "incomplete: it has no run.json"
    assert told[ids[2]].startswith("damaged: run.json")
    assert told[ids[4]].startswith("damaged: losses.parquet")
    shown = CliRunner().invoke(cli.lossops, ["history", "nightly", "--output", str(output)]).output
    assert f"Passed over: {ids[1]}: incomplete" in shown


def test_the_latest_runs_only(nights: Nights) -> None:
    found = nights.read(last=2)
    assert [run.shown for run in found.runs] == ["2026-10-05", "2026-10-06"]
    assert found.left == _DAYS - 2


def test_of_too_many_rows_only_overall_is_read(nights: Nights) -> None:
    found = nights.read(most_rows=50)
    assert not found.whole
    assert pc.unique(found.losses["slice"]).to_pylist() == ["overall"]


def _json(nights: Nights, *words: str) -> Any:
    found = CliRunner().invoke(cli.lossops, ["history", "nightly", "--output", str(nights.output), "--json", *words])
    assert found.exit_code == 0, found.output
    return json.loads(found.output, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_json_has_what_the_tables_have(nights: Nights) -> None:
    told = _json(nights, "--loss", "mean_squared_error", "--slice", "g=b")
    assert {row["loss"] for row in told["losses"]} == {"mean_squared_error"}
    expected = [values.mean() for values in _of(nights, "mean_squared_error, g=b")]
    assert [row["mean"] for row in told["losses"]] == pytest.approx(expected, rel=1e-14)
    assert [run["date"][:10] for run in told["runs"]] == [f"2026-10-{day + 1:02d}" for day in range(_DAYS)]
    assert {one["slice"] for one in told["moves"]} == {"g=b"}
    assert _json(nights)["losses"][0]["slice"] == "overall"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nightli",), "no report is named 'nightli'; did you mean 'nightly'?"),
        (("../reports",), "no report is named"),
        (
            ("nightly", "--loss", "root_mean_squared_eror"),
            "no report has the loss 'root_mean_squared_eror'; did you mean 'root_mean_squared_error'?",
        ),
        (("nightly", "--slice", "g=bb"), "did you mean 'g=b'?"),
    ],
)
def test_what_is_not_there_gets_the_nearest_spelling(nights: Nights, words: tuple[str, ...], says: str) -> None:
    found = CliRunner().invoke(cli.lossops, ["history", *words, "--output", str(nights.output)])
    assert isinstance(found.exception, InputError)
    assert says in str(found.exception)


def test_the_page_has_the_runs_before_it(nights: Nights) -> None:
    """The days were scored in another order, so the page of the fourth knows three earlier days and none after it."""
    page = Page(page_of(nights.reports[3]).read_text())
    days = [day for day in range(_DAYS) if _ORDER.index(day) <= _ORDER.index(3) and day <= 3]
    assert page.column("t-history-0", "run") == [f"2026-10-{day + 1:02d}" for day in days]
    expected = [nights.losses[day]["mean_absolute_error, overall"].mean() for day in days]
    assert page.column("t-history-0", "mean loss") == pytest.approx(expected, rel=1e-14)
    assert page.column("t-moved", "slice")[0].startswith("g=")
    moved = dict(zip(page.column("t-moved", "slice"), page.column("t-moved", "first moved in"), strict=True))
    assert moved["g=b"] == f"2026-10-{_JUMP + 1:02d}"
    assert "history" in {attributes.get("id") for _, attributes in page.elements}


def test_a_published_report_is_not_before_itself(nights: Nights) -> None:
    found = earlier_runs(str(nights.output), nights.reports[2])
    assert found is not None
    assert [run.run_id for run in found.runs] == [report.run["run_id"] for report in nights.reports[:3]]


def test_the_first_page_has_no_history(nights: Nights) -> None:
    first = Page(page_of(nights.reports[_ORDER[0]]).read_text())
    assert "history" not in {attributes.get("id") for _, attributes in first.elements}


def test_damaged_reports_do_not_fail_a_run(nights: Nights, tmp_path: Path) -> None:
    output = tmp_path / "reports"
    shutil.copytree(nights.output, output)
    for report in nights.reports:
        folder = output / "nightly" / report.run["run_id"]
        (folder / "losses.parquet").write_bytes(b"nothing")
        (folder / "run.json").write_text(
            (folder / "run.json").read_text().replace('"timezone": "UTC"', '"timezone": 7')
        )
    report = _score(tmp_path, output, 7)
    assert "t-history-0" not in Page(page_of(report).read_text()).rows


def test_the_page_names_what_it_passed_over(nights: Nights, tmp_path: Path) -> None:
    output = tmp_path / "reports"
    shutil.copytree(nights.output, output)
    (output / "nightly" / "19991231T235959Z-00000000").mkdir()
    page = Page(page_of(_score(tmp_path, output, 7)).read_text())
    assert "19991231T235959Z-00000000 was passed over: incomplete" in page.text
    assert page.column("t-history-0", "run")[-1] == "2026-10-08"


def test_history_changes_no_table(nights: Nights, tmp_path: Path) -> None:
    alone = _score(tmp_path, tmp_path / "reports", 3)
    assert alone.losses.equals(nights.reports[3].losses, check_metadata=True)


def test_dates_without_one_are_those_of_the_start(tmp_path: Path) -> None:
    runs = [_score(tmp_path / str(n), tmp_path / "reports", n, date=None, slices=[]) for n in (1, 0)]
    found = read_history(str(tmp_path / "reports"), "nightly", 9, most_rows=99)
    assert [run.run_id for run in found.runs] == sorted(
        (report.run["run_id"] for report in runs),
        key=lambda one: next(r.run["started"] for r in runs if r.run["run_id"] == one),
    )
