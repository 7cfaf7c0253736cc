"""A filesystem whose n-th operation fails: ``faulty:///path`` is ``/path`` of this machine."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

__all__ = ["FAULTS", "Faults", "register"]


@dataclass
class Faults:
    """Which operation fails.

    Args:
        at: its number, from 1; 0 for none.
        code: the error that it gives.
        only: the kinds that count; all if empty.
    """

    at: int = 0
    code: int = errno.EIO
    only: tuple[str, ...] = ()
    count: int = 0
    failed: str | None = None
    lasting: bool = False
    seen: list[str] = field(default_factory=list)

    def reset(self, at: int, **more: Any) -> None:
        """Begin to count anew."""
        fresh = Faults(at, **more)
        vars(self).update(vars(fresh))

    def step(self, operation: str, path: str) -> None:
        """Count an operation, and fail if it is the one."""
        if self.only and operation not in self.only:
            return
        self.count += 1
        if self.count == self.at or (self.lasting and self.at and self.count > self.at):
            self.failed = self.failed or f"{operation} {path}"
            raise OSError(self.code, os.strerror(self.code), path)


FAULTS = Faults()


class _File:
    def __init__(self, file: Any, path: str) -> None:
        self._file, self._path = file, path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, *size: int) -> bytes:
        FAULTS.step("read", self._path)
        return bytes(self._file.read(*size))

    def write(self, content: Any) -> int:
        FAULTS.step("write", self._path)
        return int(self._file.write(content))


class FaultyFileSystem(LocalFileSystem):
    """The local filesystem, with faults."""

    protocol = ("faulty",)
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return str(LocalFileSystem._strip_protocol(str(path).removeprefix("faulty://")))

    def ls(self, path: str, detail: bool = False, **kwargs: Any) -> Any:
        FAULTS.step("list", path)
        return super().ls(path, detail=detail, **kwargs)

    def info(self, path: str, **kwargs: Any) -> Any:
        FAULTS.step("list", str(path))
        return super().info(path, **kwargs)

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        FAULTS.step("open", path)
        return _File(super()._open(path, mode=mode, **kwargs), path)

    def mv(self, path1: str, path2: str, **kwargs: Any) -> None:
        FAULTS.step("move", path1)
        super().mv(path1, path2, **kwargs)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        FAULTS.step("make", path)
        super().makedirs(path, exist_ok=exist_ok)

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        FAULTS.step("make", path)
        super().mkdir(path, create_parents=create_parents, **kwargs)


def register() -> None:
    """Make the scheme known."""
    fsspec.register_implementation("faulty", FaultyFileSystem, clobber=True)
