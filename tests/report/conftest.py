"""Reports that several tests look at, made once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lossops.report import Report
from tests.report.pages import REPORTS


@pytest.fixture(scope="session")
def report_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Report]:
    """Return a function that gives the report of a name, made at its first use."""
    made: dict[str, Report] = {}

    def get(name: str) -> Report:
        if name not in made:
            made[name] = REPORTS[name](tmp_path_factory.mktemp(name))
        return made[name]

    return get
