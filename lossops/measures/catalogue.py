"""The catalogue of measures: every `Measure` declared in a module of this package, by name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

from lossops.losses.catalogue import CATALOGUE
from lossops.measures.declaration import Measure

__all__ = ["MEASURES"]


def _declared() -> Iterator[Measure]:
    for module in pkgutil.iter_modules([str(Path(__file__).parent)], "lossops.measures."):
        if module.name != __name__:
            members = vars(importlib.import_module(module.name)).values()
            yield from (member for member in members if isinstance(member, Measure))


def _by_name(measures: Iterator[Measure]) -> dict[str, Measure]:
    found: dict[str, Measure] = {}
    for measure in measures:
        if measure.name in CATALOGUE or found.setdefault(measure.name, measure) is not measure:
            raise ValueError(f"two losses or measures are named {measure.name!r}")
    return dict(sorted(found.items()))


MEASURES = _by_name(_declared())
