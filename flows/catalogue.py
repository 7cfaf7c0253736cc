"""The catalogue of losses for a reader: everything here is read off the declarations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from flows.console import print_pairs
from lossops.curves import drawn_together
from lossops.description import LEFT_OUT, by_family, describe_convention, describe_loss, describe_measure
from lossops.errors import ConfigError, nearest, shown
from lossops.losses import CATALOGUE, CONVENTIONS
from lossops.losses.bound import unknown
from lossops.losses.declaration import Declaration
from lossops.measures import MEASURES

__all__ = ["as_markdown", "pictures", "print_all", "print_one"]

_IN_A_PICTURE = 4  # losses whose lines can still be told apart


def print_all(words: str = "") -> None:
    """Print one line a loss or measure that mentions all the words of a search, by family.

    Raises:
        ConfigError: nothing mentions them.
    """
    families = by_family({**CATALOGUE, **MEASURES}, words)
    if not families:
        raise ConfigError(f"nothing in the catalogue mentions {shown(words)}; {nearest(words, CATALOGUE)}")
    for family, found in families.items():
        print_pairs([(one.name, one.summary) for one in found], family)
    more = "lossops losses NAME shows one in full, --plot FILE draws its curve"
    print_pairs([("", f"{more}, --search WORDS finds by what libraries call it.")])


def print_one(name: str) -> None:
    """Print all that is declared of a loss or measure.

    Raises:
        ConfigError: there is no such loss.
    """
    if name not in CATALOGUE and name not in MEASURES:
        raise ConfigError(unknown(name, {**CATALOGUE, **MEASURES}))
    declared = CATALOGUE.get(name) or MEASURES[name]
    sections = describe_loss(CATALOGUE[name]) if name in CATALOGUE else describe_measure(MEASURES[name])
    for section in sections:
        title = f"\n{section.heading}" if section.heading else f"{name}: {declared.summary}"
        print_pairs(list(section.lines), title)


def as_markdown() -> str:
    """The catalogue with its pictures, and the conventions, which the documentation repeats and a test compares."""
    return "\n".join(_markdown()) + "\n"


def pictures() -> dict[str, list[str]]:
    """The pictures of the documentation, and the losses that each shows."""
    return {name: own for family, found in by_family(CATALOGUE).items() for name, own in _pictures(family, found)}


def _pictures(family: str, found: Sequence[Declaration]) -> list[tuple[str, list[str]]]:
    parts = drawn_together([one.name for one in found], _IN_A_PICTURE)
    slug = re.sub(r"\W+", "-", family)
    numbers = [f"-{number}" for number in range(1, len(parts) + 1)] if len(parts) > 1 else [""]
    return [(f"{slug}{number}.svg", part) for number, part in zip(numbers, parts, strict=False)]


def _markdown() -> Iterator[str]:
    for family, found in by_family({**CATALOGUE, **MEASURES}).items():
        yield f"| {family} | |"
        yield "|---|---|"
        yield from (f"| `{one.name}` | {one.summary} |" for one in found)
        yield ""
        for name, own in _pictures(family, found):
            yield f"![Loss and slope of {', '.join(own)}](curves/{name})"
            yield ""
    yield "| convention | divides by | differs from `exact` in |"
    yield "|---|---|---|"
    for convention in CONVENTIONS.values():
        rules = describe_convention(convention)
        yield f"| `{convention.name}`: {convention.meaning} | {convention.denominator} | {rules} |"
    yield ""
    yield "| left out | because |"
    yield "|---|---|"
    yield from (f"| {what} | {why} |" for what, why in LEFT_OUT)
