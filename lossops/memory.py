"""How much memory a run may use: sizes in words, and what the machine has."""

from __future__ import annotations

import ctypes
import os
import re
from functools import cache
from pathlib import Path

__all__ = ["default_limit", "keep_freed_memory", "parse_size", "shown_size"]

_SIZE = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]i?)?B?\s*$", re.IGNORECASE)
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}
_SMALLEST = 128 << 20
_KEPT = 15 << 20  # more would leave more memory unused than it saves time
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # numbers of glibc's malloc.h
_GROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def parse_size(text: str) -> int:
    """Return the bytes of a size such as ``2GiB``, ``500 MB`` or ``1073741824``.

    Raises:
        ValueError: it is no size, or less than 128 MiB, below which compiled kernels alone do not fit.
    """
    match = _SIZE.match(text)
    if match is None:
        raise ValueError(f"{text!r}; allowed: a size such as 2GiB or 500MB")
    unit = (match[2] or "").lower()
    base = 1024 if unit.endswith("i") else 1000
    size = int(float(match[1]) * (base ** _POWERS[unit[0]] if unit else 1))
    if size < _SMALLEST:
        raise ValueError(f"{text!r}; allowed: at least 128MiB")
    return size


def shown_size(size: float) -> str:
    """Return a number of bytes in words."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"


def default_limit() -> int:
    """Return half of the memory of this machine, or of the container that this process may not leave."""
    return max(min([_physical(), *_container_limits()]) // 2, _SMALLEST)


def _physical() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _container_limits() -> list[int]:
    found = []
    for name in _GROUP_LIMITS:
        try:
            text = Path(name).read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            found.append(int(text))
    return found


@cache
def keep_freed_memory() -> None:
    """Let this process use memory again that it freed, instead of giving it back and asking for it with every batch.

    glibc's allocator is told from which size on it is to ask the system, and how much may lie unused (man mallopt).
    Left alone it learns both from what is freed, but not where the environment sets one of them, as Dask does for its
    workers, which then spend a fifth of their time on clearing fresh pages. And it adds no arena where there are as
    many as threads that can run at a time, because each keeps what was freed in it from the others; where a process
    has had more than eight it is past listening. Elsewhere there is nothing to tell.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _KEPT)
        mallopt(_TRIM_THRESHOLD, 2 * _KEPT)
        mallopt(_ARENA_MAX, len(os.sched_getaffinity(0)))
