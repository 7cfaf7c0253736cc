"""What computes here: lossops, Python and the packages whose change could change a number."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version

from lossops.kernels.jit import kernel_digest

__all__ = ["differences", "versions"]

_PACKAGES = ("lossops", "dask", "distributed", "numba", "numpy", "pyarrow", "scipy")


@cache
def versions() -> Mapping[str, str]:
    """Return versions by name; ``kernels`` is a digest of the sources of kernels, losses and measures."""
    packages = {name: version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **packages, "kernels": kernel_digest()}


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Return in words how the versions of a process differ from what is expected; a patch of Python does not count."""
    pairs = ((name, _shown(name, found), _shown(name, expected)) for name in expected)
    return [f"{name} {other} instead of {wanted}" for name, other, wanted in pairs if other != wanted]


def _shown(name: str, found: Mapping[str, str]) -> str:
    text = found.get(name, "none")
    return ".".join(text.split(".")[:2]) if name == "python" else text
