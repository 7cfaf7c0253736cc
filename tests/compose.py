"""Reads docker-compose.yml as Compose would: anchors merged, variables filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

__all__ = ["FILE", "ROOT", "VARIABLE", "filled", "load", "strings"]

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "docker-compose.yml"
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?P<kind>:[-?])?(?P<rest>[^}]*)\}")


def load(values: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the file; with its variables filled in if values are given.

    Raises:
        ValueError: a variable that must be set is not.
    """
    parsed: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return parsed if values is None else _walk(parsed, values)


def _walk(node: Any, values: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _walk(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_walk(value, values) for value in node]
    return filled(node, values) if isinstance(node, str) else node


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return a text with its variables filled in; empty counts as unset, as in ``${NAME:-default}``.

    Raises:
        ValueError: a variable that must be set is not.
    """

    def one(found: re.Match[str]) -> str:
        value = values.get(found["name"], "")
        if value or found["kind"] == ":-":
            return value or found["rest"]
        raise ValueError(f"{found['name']} is not set: {found['rest']}")

    return VARIABLE.sub(one, text)


def strings(node: Any) -> list[str]:
    """Return every text in a part of the file, keys aside."""
    if isinstance(node, dict):
        return [text for value in node.values() for text in strings(value)]
    if isinstance(node, list):
        return [text for value in node for text in strings(value)]
    return [node] if isinstance(node, str) else []
