"""When Python searches for garbage: not among what is made at a stretch and lasts, which it would go through again."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["leave_alone", "loading", "paused"]


@contextmanager
def paused() -> Iterator[None]:
    """Search for none meanwhile. The tables and the page of a report are many objects, and hardly any is garbage."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def loading() -> Iterator[None]:
    """Import modules; searching among the objects that they make would take a tenth of the time of a short command."""
    with paused():
        yield
        leave_alone()


def leave_alone() -> None:
    """Leave out what exists now from all later searches, the one at the end of the process among them."""
    gc.freeze()
