"""The libraries, imported when the first test asks for them: some take seconds, and any may be absent."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def keras() -> Any:
    """Keras 3 on its NumPy backend, which turns float64 into float32 whatever is asked for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "numpy")
        pytest.importorskip("jax", reason="jax, which the NumPy backend of Keras imports, is not installed")
        library = pytest.importorskip("keras", reason="keras is not installed")
    if library.config.backend() != "numpy":
        pytest.skip("keras was imported with another backend")
    return library


@pytest.fixture
def keras64(keras: Any) -> Iterator[Any]:
    """The same computing in float64.

    Every operation narrows its result by one table of Keras, "to be aligned with JAX", also on the NumPy backend.
    """
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            importlib.import_module("keras.src.backend.common.dtypes").BIT64_TO_BIT32_DTYPE, "float64", "float64"
        )
        yield keras
    keras.config.set_floatx(before)


@pytest.fixture(scope="session")
def torch() -> Any:
    """PyTorch."""
    return pytest.importorskip("torch", reason="torch is not installed; install it by hand")


@pytest.fixture(scope="session")
def scoringrules() -> Any:
    """The library of proper scores; it compiles itself for seconds when it is imported."""
    return pytest.importorskip("scoringrules", reason="scoringrules is not installed")


@pytest.fixture(scope="session")
def properscoring() -> Any:
    """The library of CRPS."""
    with warnings.catch_warnings():
        # Released in 2015: NumPy and Numba deprecate more of what it uses with every version.
        warnings.simplefilter("ignore", DeprecationWarning)
        return pytest.importorskip("properscoring", reason="properscoring is not installed")


@pytest.fixture(scope="session")
def lightgbm() -> Any:
    """A library of gradient boosting, for its metrics."""
    return pytest.importorskip("lightgbm", reason="lightgbm is not installed")


@pytest.fixture(scope="session")
def xgboost() -> Any:
    """Another one."""
    return pytest.importorskip("xgboost", reason="xgboost is not installed")
