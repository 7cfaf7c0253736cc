"""Loss evaluation of sharded predictions: how wrong is the model, for whom, and how sure are we.

``lossops.evaluate(config)`` scores sharded predictions against sharded labels and returns a `Report`.
"""

from __future__ import annotations

import logging
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossops.config import RunConfig, load_config
    from lossops.evaluation import evaluate
    from lossops.report import Report, open_report

__all__ = ["Report", "RunConfig", "evaluate", "load_config", "open_report"]

logging.getLogger(__name__).addHandler(logging.NullHandler())

if sys.platform == "linux" and os.uname().machine == "x86_64":  # builds for others may lack it
    # pyarrow looks when it is first imported. Of its allocators this one leaves the least memory unused: runs with two
    # threads take 60 MiB less, and start sooner.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "jemalloc")

_HOMES = {
    "Report": "lossops.report",
    "RunConfig": "lossops.config",
    "evaluate": "lossops.evaluation",
    "load_config": "lossops.config",
    "open_report": "lossops.report",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lossops' has no attribute {name!r}")
    # Dask and Numba take seconds to import; a command line that prints its help should not wait for them.
    return getattr(import_module(_HOMES[name]), name)
