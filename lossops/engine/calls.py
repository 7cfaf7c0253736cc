"""How a worker answers a call."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lossops.data.storage import may_pass
from lossops.errors import LossopsError, RunError

__all__ = ["WINDOW", "Call", "answer"]

WINDOW = 3  # calls in flight for each thread: enough to keep workers busy, few enough to stop early
_WAITS = (0.5, 2.0, 5.0)  # before a store is asked again that was busy

Call = tuple[Any, ...]


def answer(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call, again where a store was busy; what we refuse on purpose is returned instead of raised."""
    for seconds in _WAITS:
        try:
            return function(*arguments)
        except LossopsError as error:
            if not may_pass(error):
                return error
            time.sleep(seconds)
    try:
        return function(*arguments)
    except LossopsError as error:
        return RunError(str(error)) if may_pass(error) else error
