"""Python's search for garbage leaves out what a command imports: most objects are of that, and none is ever garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["leave_alone", "loading"]


@contextmanager
def loading() -> Iterator[None]:
    """Import modules; searching among the objects that they make would take a tenth of the time of a short command."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        leave_alone()
        if was_on:
            gc.enable()


def leave_alone() -> None:
    """Leave out what exists now from all later searches, the one at the end of the process among them."""
    gc.freeze()
