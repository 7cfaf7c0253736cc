"""Dates in paths, in the time zone of the config."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lossops
from lossops.config import parse_config
from lossops.dates import fill, steps
from lossops.errors import ConfigError, InputError
from tests.datasets import write_shards

BERLIN = ZoneInfo("Europe/Berlin")
MOMENTS = st.datetimes(datetime(1950, 1, 1), datetime(2200, 1, 1), timezones=st.just(BERLIN))


def values(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "name": "dated",
        "labels": {"path": f"{folder}/labels/dt={{date-1d}}", "label": "y"},
        "models": {"m": {"path": f"{folder}/predictions/{{date:%Y/%m/%d}}", "prediction": "p"}},
        "losses": ["mean_absolute_error"],
        "output": str(folder / "reports"),
        **more,
    }


@given(MOMENTS, st.integers(-5000, 5000))
def test_days_are_counted_as_pandas_counts_them(moment: datetime, days: int) -> None:
    calendar = pd.Timestamp(moment.date()) + pd.DateOffset(days=days)
    assert fill(f"a/{{date{days:+d}d}}/b", moment) == f"a/{calendar:%Y-%m-%d}/b"


@given(MOMENTS, st.integers(-5000, 5000))
def test_hours_are_counted_as_pandas_counts_them(moment: datetime, hours: int) -> None:
    clock = pd.Timestamp(moment) + pd.Timedelta(hours=hours)
    assert fill(f"{{date{hours:+d}h:%Y%m%d%H}}", moment) == f"{clock:%Y%m%d%H}"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("{date}", "2026-03-29"),
        ("{date:%Y}/{date:%m}", "2026/03"),
        ("{date-1d:%Y/%m/%d}", "2026/03/28"),
        ("{date+1d}", "2026-03-30"),
        ("week={date:%G-W%V-%u}", "week=2026-W13-7"),
        ("{other}/[a-z]*", "{other}/[a-z]*"),
        ("{date-1h:%H}", "01"),  # clocks went from 2 to 3 that night
    ],
)
def test_what_paths_say(path: str, found: str) -> None:
    assert fill(path, datetime(2026, 3, 29, 3, 30, tzinfo=BERLIN)) == found


@pytest.mark.parametrize("path", ["{date-1x}", "{date:}", "{date:%q}", "{date:%-d}", "{date:day}", "{date", "{ date }"])
def test_a_date_that_is_not_understood_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"labels\.path\.0: '\{ ?date.*allowed: \{date\}"):
        parse_config(values(tmp_path, labels={"path": path, "label": "y"}))


def test_the_day_is_that_of_the_time_zone(tmp_path: Path) -> None:
    late = datetime(2026, 11, 24, 23, 30, tzinfo=UTC)
    config = parse_config(values(tmp_path, timezone="Europe/Berlin")).dated(late)
    assert config.labels.path == [f"{tmp_path}/labels/dt=2026-11-24"]
    assert config.models["m"].path == [f"{tmp_path}/predictions/2026/11/25"]
    assert config.date == late
    assert config.dated(datetime(2000, 1, 1, tzinfo=UTC)) is config
    assert parse_config(config.model_dump(mode="json")).date == late


def test_the_config_may_name_the_day(tmp_path: Path) -> None:
    for date in ("2026-02-28", datetime(2026, 2, 28), "2026-02-28T00:00:00"):
        config = parse_config(values(tmp_path, date=date, timezone="Asia/Tokyo")).dated(datetime.now(UTC))
        assert config.labels.path == [f"{tmp_path}/labels/dt=2026-02-27"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"timezone": "Mars/Olympus"}, r"timezone: 'Mars/Olympus'; allowed: a time zone such as"),
        ({"timezone": "../etc"}, "timezone: "),
        ({"date": "yesterday"}, "date: "),
    ],
)
def test_what_is_no_day_or_zone_is_refused(more: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_config(values(tmp_path, **more))


def test_a_day_before_the_calendar_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="date: 0001-01-01"):
        parse_config(values(tmp_path, date="0001-01-01")).dated(datetime.now(UTC))


def test_a_run_reads_the_day_and_says_which(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    for day in (1, 2):
        y = random.normal(size=50)
        write_shards(tmp_path / f"labels/dt=2026-05-0{day}", [pa.table({"y": y})])
        write_shards(tmp_path / f"predictions/2026/05/0{day + 1}", [pa.table({"p": y + day})])
    reports = [lossops.evaluate(values(tmp_path, date=f"2026-05-0{day + 1}")) for day in (1, 2)]
    assert [report.losses["mean"].to_pylist() for report in reports] == [[pytest.approx(1)], [pytest.approx(2)]]
    assert [report.run["config"]["date"] for report in reports] == ["2026-05-02T00:00:00Z", "2026-05-03T00:00:00Z"]
    with pytest.raises(InputError, match="dt=2026-05-30"):
        lossops.evaluate(values(tmp_path, date="2026-05-31"))


@given(
    st.datetimes(datetime(1980, 1, 1), datetime(2030, 1, 1)), st.integers(0, 60), st.sampled_from(["1D", "6h", "90min"])
)
def test_steps_are_those_of_pandas(first: datetime, count: int, step: str) -> None:
    length = pd.Timedelta(step).to_pytimedelta()
    last = first + count * length + timedelta(minutes=count % 60)
    wanted = pd.date_range(first, last, freq=step)
    assert [moment.replace(tzinfo=None) for moment in steps(first, last, length, UTC)] == list(wanted.to_pydatetime())
