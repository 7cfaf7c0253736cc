"""The catalogue: every `Loss` declared in a module of this package, by name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

from lossops.losses.declaration import Loss

__all__ = ["CATALOGUE"]


def _declared() -> Iterator[Loss]:
    for module in pkgutil.iter_modules([str(Path(__file__).parent)], "lossops.losses."):
        if module.name != __name__:
            members = vars(importlib.import_module(module.name)).values()
            yield from (member for member in members if isinstance(member, Loss))


def _by_name(losses: Iterator[Loss]) -> dict[str, Loss]:
    found: dict[str, Loss] = {}
    for loss in losses:
        if found.setdefault(loss.name, loss) is not loss:
            raise ValueError(f"two losses are named {loss.name!r}")
    return dict(sorted(found.items()))


CATALOGUE = _by_name(_declared())
