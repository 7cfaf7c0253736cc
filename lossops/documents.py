"""YAML files that people write: safe, bounded, with overrides from a command line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import yaml

from lossops.errors import ConfigError

__all__ = ["kind", "override", "parse_yaml"]

_MAX_ALIASES = 1000
_MAX_NODES = 100_000
_MAX_KEYS = 10_000
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Safe YAML that also refuses repeated keys and more aliases than a person would write."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._aliases = 0

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = Counter(str(key.value) for key, _ in node.value if key.tag != _MERGE)
        for key, count in keys.items():
            if count > 1:
                raise ConfigError(f"line {node.start_mark.line + 1}: key {key!r} occurs {count} times; allowed: once")
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > _MAX_KEYS:
            raise ConfigError(f"more than {_MAX_KEYS} keys are merged into one mapping; allowed: at most {_MAX_KEYS}")

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self._aliases += 1
            if self._aliases > _MAX_ALIASES:
                raise ConfigError(f"more than {_MAX_ALIASES} aliases; allowed: at most {_MAX_ALIASES}")
        return super().compose_node(parent, index)


# YAML 1.1 takes 1e3 for a text, because it has no point; everybody else takes it for a number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse_yaml(text: str) -> object:
    """Return what a YAML text says.

    Raises:
        ConfigError: it is not valid, repeats a key, or unfolds to more than a person would write.
    """
    try:
        parsed = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except ConfigError:
        raise
    except RecursionError as error:
        raise ConfigError("nested too deeply to read") from error
    except Exception as error:  # besides its own, the parser lets errors of Python's constructors through
        raise ConfigError(f"not valid YAML: {' '.join(str(error).split())}") from error
    _check_size(parsed)
    return parsed


def _check_size(parsed: object) -> None:
    waiting, seen = [parsed], 0
    while waiting:
        seen += 1
        if seen > _MAX_NODES:
            raise ConfigError(f"more than {_MAX_NODES} values once aliases are expanded; allowed: at most {_MAX_NODES}")
        value = waiting.pop()
        if isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def kind(value: object) -> str:
    """Return what a parsed value is, in words."""
    if value is None:
        return "nothing"
    names = {
        str: "a text",
        list: "a list",
        dict: "a mapping",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), f"a {type(value).__name__}")


def override(parsed: dict[str, Any], setting: str) -> None:
    """Set a key of parsed YAML in place.

    Args:
        parsed: mappings and lists.
        setting: ``key=value``; a dotted key reaches into mappings and lists, the value is YAML.

    Raises:
        ConfigError: it is none, or there is no such place.
    """
    key, equals, value = setting.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {setting!r}: allowed: key=value")
    *parents, last = key.split(".")
    place: Any = parsed
    for parent in parents:
        place = _step(place, parent, key)
    try:
        given = parse_yaml(value)
    except ConfigError as error:
        raise ConfigError(f"--set {setting}: {error}") from error
    if isinstance(place, list):
        place[_list_index(place, last, key)] = given
    elif isinstance(place, dict):
        place[last] = given
    else:
        raise ConfigError(f"--set {key}: the value above {last!r} is {kind(place)}; allowed: a mapping or a list")


def _step(place: Any, part: str, key: str) -> Any:
    if isinstance(place, list):
        return place[_list_index(place, part, key)]
    if not isinstance(place, dict):
        raise ConfigError(f"--set {key}: the value above {part!r} is {kind(place)}; allowed: a mapping or a list")
    return place.setdefault(part, {})


def _list_index(place: list[Any], part: str, key: str) -> int:
    if not part.isdecimal() or int(part) >= len(place):
        raise ConfigError(f"--set {key}: {part!r} is not an entry of the list; allowed: 0 to {len(place) - 1}")
    return int(part)
