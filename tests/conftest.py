"""Settings and fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("lossops", deadline=None, database=None, max_examples=60, print_blob=True)
settings.load_profile("lossops")

_SHARED = Path(__file__).resolve().parents[1] / ".." / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data, references and vectors beside the checkout; tests that need it are skipped without it."""
    if not _SHARED.is_dir():
        pytest.skip("there is no folder 'shared' beside the checkout")
    return _SHARED.resolve()
