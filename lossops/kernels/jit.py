"""The one place that sets Numba's flags and where compiled code is kept.

No ``fastmath`` and no ``parallel``: both change bits from machine to machine. ``error_model='numpy'`` lets a
division by zero give infinity or NaN, which the loops classify, instead of an exception.

Numba's disk cache looks only at the file that defines a function, so a formula changed in another file could run
in its old form. The cache folder is therefore named by a digest of every source that can end up in a kernel.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
from numba.extending import register_jitable

__all__ = ["cache_folder", "inline", "jit", "kernel_digest"]

Function = TypeVar("Function", bound=Callable[..., Any])
_PACKAGE = Path(__file__).resolve().parents[1]
_CACHE_SETTING = threading.Lock()


@cache
def kernel_digest() -> str:
    """Return 16 hex digits naming the sources of kernels, losses and measures and the compiler they were made with."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update(f"numba {numba.__version__} numpy {np.__version__}".encode())
    for folder in ("kernels", "losses", "measures"):
        for source in sorted((_PACKAGE / folder).glob("*.py")):
            digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def cache_folder() -> str | None:
    """Return a private folder for compiled kernels, or None where there is nowhere to write.

    ``LOSSOPS_CACHE_DIR`` chooses the parent folder; otherwise the user's cache folder, then the temporary one.
    Cached kernels are code, so a folder that others can write to is not used.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    chosen = os.environ.get("LOSSOPS_CACHE_DIR")
    user = getattr(os, "getuid", int)()
    parents = [chosen] if chosen else [home, os.path.join(tempfile.gettempdir(), f"lossops-{user}")]
    return next((folder for parent in parents if (folder := _private_folder(parent))), None)


def _private_folder(parent: str) -> str | None:
    folder = Path(parent, "lossops", f"kernels-{kernel_digest()}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        return None
    shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    foreign = hasattr(os, "getuid") and status.st_uid != os.getuid()
    return None if shared or foreign else str(folder)


@contextmanager
def _numba_cache_in(folder: str) -> Iterator[None]:
    # Numba reads the folder when a function is decorated; the setting is put back so that other
    # users of Numba in this process keep theirs. Worker threads decorate too, one at a time.
    with _CACHE_SETTING:
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = folder
        try:
            yield
        finally:
            numba.config.CACHE_DIR = before


def jit(function: Function) -> Function:
    """Compile a loop over rows: releases the GIL, keeps IEEE semantics, cached on disk."""
    folder = cache_folder()
    if folder is None:
        return numba.njit(nogil=True, error_model="numpy")(function)  # type: ignore[no-any-return]
    with _numba_cache_in(folder):
        return numba.njit(nogil=True, error_model="numpy", cache=True)(function)  # type: ignore[no-any-return]


def inline(function: Function) -> Function:
    """Make a small function callable from compiled loops while it stays an ordinary Python function.

    Unlike a compiled function it may be captured by a loop that is cached on disk: it is pickled by name.
    """
    return register_jitable(forceinline=True)(function)  # type: ignore[no-any-return]
