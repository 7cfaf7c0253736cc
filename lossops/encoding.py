"""Values to bytes and back, without pickle: what was stored by an earlier run can be damaged, but it is never code.

The bytes are the version of the format, a digest of the rest, how the rest is compressed and how long it is without
that, and the rest: the length of a JSON tree that says how everything hangs together, that tree, and then what it
keeps apart, such as the elements of arrays, one after the other.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import ipc

__all__ = ["decode", "encode"]

_FORMAT = b"lossops-state-6\n"
_DIGEST_BYTES, _LENGTH_BYTES = 16, 8
_PLAIN, _COMPRESSED = b"-", b"4"
_LARGE = 1 << 22
Part = bytes | memoryview


def encode(value: object, classes: Mapping[str, type]) -> list[Part]:
    """Return a value as bytes, in parts that follow each other.

    Args:
        value: a tree of dataclasses, tuples, lists, mappings, arrays, Arrow columns, numbers, texts, dates and
            decimals; arrays are not to change before the parts are of no more use.
        classes: the dataclasses that may occur, by name.

    Raises:
        TypeError: something else occurs.
    """
    kept: list[Part] = []
    tree = json.dumps(_Writer(classes, kept).node(value)).encode()
    parts = [_length(tree), tree, *kept]
    size, how = sum(map(len, parts)), _PLAIN
    if size < _LARGE:  # what is small is mostly zeros; what is large is mostly digits, of which a fifth would be saved
        parts, how = [pa.compress(b"".join(parts), codec="lz4_raw", asbytes=True)], _COMPRESSED
    parts = [how, size.to_bytes(_LENGTH_BYTES, "big"), *parts]
    return [_FORMAT, _digest(parts), *parts]


def decode(content: bytes, classes: Mapping[str, type]) -> Any:
    """Return the value of `encode` from its parts together.

    Raises:
        ValueError: the bytes are damaged, or of another version.
    """
    start = len(_FORMAT) + _DIGEST_BYTES
    rest = memoryview(content)[start:]
    if content[:start] != _FORMAT + _digest([rest]):
        raise ValueError("a damaged value, or one of another version")
    how, size, rest = bytes(rest[:1]), int.from_bytes(rest[1 : 1 + _LENGTH_BYTES], "big"), rest[1 + _LENGTH_BYTES :]
    if how == _COMPRESSED:
        rest = memoryview(pa.decompress(rest, decompressed_size=size, codec="lz4_raw", asbytes=True))
    end = _LENGTH_BYTES + int.from_bytes(rest[:_LENGTH_BYTES], "big")
    return _Reader(classes, rest[end:]).value(json.loads(bytes(rest[_LENGTH_BYTES:end])))


def _length(part: Part) -> bytes:
    return len(part).to_bytes(_LENGTH_BYTES, "big")


def _digest(parts: Iterable[Part]) -> bytes:
    found = hashlib.sha256()  # which processors have instructions for
    for part in parts:
        found.update(part)
    return found.digest()[:_DIGEST_BYTES]


class _Writer:
    """Turns values into nodes: plain JSON for None, bool, int and text, else [kind, ...]."""

    def __init__(self, classes: Mapping[str, type], kept: list[Part]) -> None:
        self._names = {kind: name for name, kind in classes.items()}
        self._kept = kept

    def node(self, value: Any) -> Any:
        """Return the node of a value."""
        if value is None or isinstance(value, bool | str) or type(value) is int:
            return value
        if type(value) in self._names and is_dataclass(value):
            content = {field.name: self.node(getattr(value, field.name)) for field in fields(value)}
            return ["object", self._names[type(value)], content]
        for kind, (test, write) in _KINDS.items():
            if test(value):
                return [kind, *write(self, value)]
        raise TypeError(f"{type(value).__name__} cannot be stored")

    def array(self, value: Any) -> list[Any]:
        """Keep the elements of an array apart from the tree."""
        if value.dtype.hasobject:
            raise TypeError("arrays of objects cannot be stored")
        stored = np.ascontiguousarray(_narrowed(value))
        return [value.dtype.str, list(value.shape), stored.dtype.str, self._keep(stored)]

    def column(self, value: pa.Array) -> list[Any]:
        """Keep a column apart from the tree."""
        sink = pa.BufferOutputStream()
        batch = pa.record_batch([value], names=[""])
        with ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        return [self._keep(sink.getvalue())]

    def _keep(self, value: Any) -> int:
        """Keep the memory of an array or a buffer, and return how many bytes it has."""
        self._kept.append(memoryview(pa.py_buffer(value)))
        return len(self._kept[-1])

    def pairs(self, value: Mapping[Any, Any]) -> list[Any]:
        """Return the keys and values of a mapping."""
        return [[self.node(key), self.node(entry)] for key, entry in value.items()]

    def nodes(self, value: Any) -> list[Any]:
        """Return the entries of a sequence."""
        return [self.node(entry) for entry in value]


def _narrowed(value: Any) -> Any:
    """Return integers in the narrowest type that holds them: most counts are small."""
    if value.dtype.kind != "i" or not value.size:
        return value
    low, high = int(value.min()), int(value.max())
    fitting = (
        kind for kind in (np.int8, np.int16, np.int32) if np.iinfo(kind).min <= low <= high <= np.iinfo(kind).max
    )
    return value.astype(next(fitting, value.dtype))


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: type(value) in kinds


# kind: (what it is for, what is written after the kind)
_KINDS: dict[str, tuple[Callable[[Any], bool], Callable[[_Writer, Any], list[Any]]]] = {
    "array": (_is(np.ndarray), lambda writer, value: writer.array(value)),
    "scalar": (lambda value: isinstance(value, np.generic), lambda writer, value: writer.array(np.asarray(value))),
    "column": (lambda value: isinstance(value, pa.Array), lambda writer, value: writer.column(value)),
    "tuple": (_is(tuple), lambda writer, value: writer.nodes(value)),
    "list": (_is(list), lambda writer, value: writer.nodes(value)),
    "dict": (_is(dict), lambda writer, value: writer.pairs(value)),
    "counter": (_is(Counter), lambda writer, value: writer.pairs(value)),
    "float": (_is(float), lambda _, value: [value.hex() if math.isfinite(value) else repr(value)]),
    "bytes": (_is(bytes), lambda _, value: [value.hex()]),
    "moment": (_is(dt.datetime), lambda _, value: [value.isoformat()]),
    "date": (_is(dt.date), lambda _, value: [value.isoformat()]),
    "time": (_is(dt.time), lambda _, value: [value.isoformat()]),
    "decimal": (_is(Decimal), lambda _, value: [str(value)]),
}


class _Reader:
    """Turns nodes into values."""

    def __init__(self, classes: Mapping[str, type], kept: memoryview) -> None:
        self._classes = classes
        self._kept = kept

    def value(self, node: Any) -> Any:
        """Return the value of a node."""
        if not isinstance(node, list):
            return node
        kind, *rest = node
        if kind == "object":
            return self._classes[rest[0]](**{name: self.value(entry) for name, entry in rest[1].items()})
        if kind in ("array", "scalar", "column"):
            return self._kept_apart(kind, rest)
        if kind in ("tuple", "list"):
            entries = [self.value(entry) for entry in rest]
            return tuple(entries) if kind == "tuple" else entries
        if kind in ("dict", "counter"):
            pairs = {self.value(key): self.value(entry) for key, entry in rest}
            return pairs if kind == "dict" else Counter(pairs)
        return _SCALARS[kind](rest[0])

    def _kept_apart(self, kind: str, how: list[Any]) -> Any:
        own, self._kept = self._kept[: how[-1]], self._kept[how[-1] :]
        if kind == "column":
            with ipc.open_stream(bytes(own)) as reader:
                return reader.read_next_batch().column(0)
        stored = np.frombuffer(own, dtype=np.dtype(how[2])).reshape(how[1])
        found = stored.astype(np.dtype(how[0]))
        return found if kind == "array" else found[()]


def _float(text: str) -> float:
    return float.fromhex(text) if "x" in text else float(text)


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "float": _float,
    "bytes": bytes.fromhex,
    "moment": dt.datetime.fromisoformat,
    "date": dt.date.fromisoformat,
    "time": dt.time.fromisoformat,
    "decimal": Decimal,
}
