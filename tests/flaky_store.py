"""Moto's object store, which refuses every third request while a file called ``refuse`` lies in the working folder.

The file ``refused`` there has a dot for each.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

_BUSY = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>'
_HEADERS = [("Content-Type", "application/xml"), ("Content-Length", str(len(_BUSY)))]


class Flaky:
    """Moto's application behind a door that is shut at times."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._requests = count(1)

    def __call__(self, environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request as a busy store does, or pass it on."""
        if Path("refuse").exists() and next(self._requests) % 3 == 0:
            environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))
            with Path("refused").open("a") as refused:
                refused.write(".")
            start("503 Slow Down", _HEADERS)
            return [_BUSY]
        found: Iterable[bytes] = self._moto(environment, start)
        return found


if __name__ == "__main__":
    host, _, port = sys.argv[1].partition(":")
    run_simple(host, int(port), Flaky(), threaded=True)
