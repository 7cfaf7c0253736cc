"""The keys of a config in words, as its models declare them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from lossops.config import RunConfig

__all__ = ["config_keys"]

_Schema = Mapping[str, Any]


def config_keys() -> Iterator[tuple[str, str]]:
    """Yield every key of a config, such as ``models.NAME.path`` or ``losses[].loss``, and what it means."""
    schema = RunConfig.model_json_schema()
    return _keys(schema, schema["$defs"], "")


def _keys(model: _Schema, models: Mapping[str, _Schema], before: str) -> Iterator[tuple[str, str]]:
    for name, found in model["properties"].items():
        suffix, inner = _inner(found)
        required = name in model.get("required", ())
        yield f"{before}{name}", _text(found, models.get(inner, {}), required=required)
        if inner:
            yield from _keys(models[inner], models, f"{before}{name}{suffix}.")


def _inner(found: _Schema) -> tuple[str, str]:
    """Return the name of the model that a value is made of, after what leads to it, or two empty texts."""
    if "$ref" in found:
        return "", found["$ref"].rpartition("/")[2]
    places = [(".NAME", found.get("additionalProperties")), ("[]", found.get("items"))]
    for suffix, part in (*places, *(("", option) for option in found.get("anyOf", ()))):
        more, inner = _inner(part) if isinstance(part, dict) else ("", "")
        if inner:
            return suffix + more, inner
    return "", ""


def _text(found: _Schema, model: _Schema, *, required: bool) -> str:
    about = str(found.get("description") or model.get("description", "")).partition("\n")[0].rstrip(".")
    parts = [about[:1].lower() + about[1:]]
    if "enum" in found:
        parts.append(f"allowed: {', '.join(map(str, found['enum']))}")
    if required:
        parts.append("required")
    elif found.get("default") is not None:
        parts.append(f"default: {yaml.safe_dump(found['default']).partition('...')[0].strip()}")
    return "; ".join(part for part in parts if part)
