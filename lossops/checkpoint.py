"""What a run leaves behind for the next one: states of finished pieces, and files between the passes of a join."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pyarrow import fs

from lossops.bins import BinTable, Moments
from lossops.config import RunConfig
from lossops.data.index import Seen
from lossops.data.storage import one_line, open_storage
from lossops.encoding import decode, encode
from lossops.errors import RunError
from lossops.groups import Keys, Parts
from lossops.hardest import Hardest
from lossops.histograms import Histogram
from lossops.partition import KeyRange, Outcome
from lossops.reliability import Reliability
from lossops.state import GroupTable, State
from lossops.sums import Sums
from lossops.units import Units, UnitSums

try:
    import fcntl
except ImportError:  # not a POSIX system: folders are never adopted there
    fcntl = None  # type: ignore[assignment]

__all__ = ["Cleaned", "Store", "acquire_spill", "clean", "code_digest", "digest_of", "work_folder"]

_CLASSES: dict[str, type] = {
    one.__name__: one
    for one in (
        Outcome,
        KeyRange,
        Seen,
        State,
        GroupTable,
        Keys,
        Parts,
        Sums,
        BinTable,
        Moments,
        Units,
        UnitSums,
        Histogram,
        Hardest,
        Reliability,
    )
}
_PACKAGES = ("lossops", "numba", "numpy", "pyarrow", "scipy")
_PACKAGE = Path(__file__).resolve().parent
_STATE = re.compile(r"[0-9a-f]{32}\.state")
_SPILL = re.compile(r"spill-[0-9a-f]{32}-[0-9a-f]{32}")
_LOCK = "lock"


def work_folder(config: RunConfig) -> str:
    """Return the folder or URL in which runs of a config keep what outlives them, beside the reports."""
    if config.work is not None:
        return config.work
    scheme, mark, path = config.output.rpartition("://")
    path = (path if mark else os.path.abspath(os.path.expanduser(path))).rstrip("/")
    parent, own = os.path.split(path)
    folder = f"{parent}/.lossops/{own}" if parent.strip("/") else f"{path}/.lossops"
    return f"{scheme}{mark}{folder}/{config.name}"


def digest_of(*parts: str | bytes) -> str:
    """Return 32 hex digits for some parts; where one part ends and the next begins matters."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "big"))
        digest.update(content)
    return digest.hexdigest()


@cache
def code_digest() -> str:
    """Return a digest of everything whose change could change a state: this package and what it computes with."""
    sources = sorted(_PACKAGE.rglob("*.py"))
    parts = [part for path in sources for part in (str(path.relative_to(_PACKAGE)), path.read_bytes())]
    return digest_of(*parts, *(f"{name} {version(name)}" for name in _PACKAGES))


class Store:
    """States of finished pieces, each in a file named by the digest of all that it follows from.

    Storing is a convenience: where it fails, it is given up with a warning and the run goes on.

    Args:
        location: folder or URL.
        fresh: whether to find nothing that is there.
        log: who is told.
    """

    def __init__(self, location: str, *, fresh: bool, log: Callable[[int, str], None]) -> None:
        self._storage, self._root = open_storage(location)
        self._fresh, self._log = fresh, log
        self._made: set[str] = set()
        self._writing = True

    def _path(self, digest: str) -> str:
        return f"{self._root}/{digest[:2]}/{digest}.state"

    def get(self, digest: str) -> Any:
        """Return what was stored, or None: also where it is damaged."""
        if self._fresh:
            return None
        path = self._path(digest)
        try:
            with self._storage.open_input_stream(path) as file:
                found = decode(file.read(), _CLASSES)
            if isinstance(self._storage, fs.LocalFileSystem):
                os.utime(path)  # its age is the time since it was last of use
        except (OSError, ValueError):
            return None
        return found

    def put(self, digest: str, value: object) -> None:
        """Store a value; a file under its name is whole."""
        if not self._writing:
            return
        path = self._path(digest)
        partial = f"{path}.{uuid.uuid4().hex}.partial"
        try:
            if digest[:2] not in self._made:
                self._storage.create_dir(os.path.dirname(path), recursive=True)
                self._made.add(digest[:2])
            with self._storage.open_output_stream(partial) as file:
                for part in encode(value, _CLASSES):
                    file.write(part)
            self._storage.move(partial, path)
        except OSError as error:
            self._writing = False
            self._log(logging.WARNING, f"states are not stored, a later run scores all again: {one_line(error)}")
            _forget(self._storage, partial)


def _forget(storage: fs.FileSystem, path: str) -> None:
    try:
        storage.delete_file(path)
    except OSError:
        return


@contextmanager
def acquire_spill(work: str, digest: str, run_id: str) -> Iterator[str]:
    """Yield a folder for files between two passes, and remove it in the end.

    A folder is held by a lock that its process loses when it dies, and only then. What a dead run left behind for the
    same digest is taken over; what dead runs left for others is removed.

    Args:
        work: folder or URL, see `work_folder`.
        digest: names what the files follow from.
        run_id: 32 hex digits, of this run.

    Raises:
        RunError: it cannot be made.
    """
    storage, root = open_storage(work)
    local = isinstance(storage, fs.LocalFileSystem)
    held, folder = (_adopted(root, digest) if local else None) or (None, f"{root}/spill-{digest}-{run_id}")
    try:
        storage.create_dir(folder, recursive=True)
        held = held or (_locked(folder) if local else None)
    except OSError as error:
        raise RunError(f"work: could not make {folder}: {one_line(error)}; allowed: a folder or URL") from error
    try:
        yield folder if local else f"{work.rstrip('/')}/{os.path.basename(folder)}"
    finally:
        _remove(storage, folder)
        if held is not None:
            os.close(held)


def _adopted(root: str, digest: str) -> tuple[int, str] | None:
    """Take over the folder of a dead run with this digest, and remove those of dead runs with others."""
    found = None
    for name in sorted(os.listdir(root)) if os.path.isdir(root) else ():
        folder = os.path.join(root, name)
        if not _SPILL.fullmatch(name) or (held := _locked(folder, make=False)) is None:
            continue
        if found is None and name.startswith(f"spill-{digest}-"):
            found = held, folder
        else:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)
    return found


def _locked(folder: str, *, make: bool = True) -> int | None:
    """Lock a folder for the life of this process; None if another process holds it, or there are no locks here."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(os.path.join(folder, _LOCK), os.O_RDWR | (os.O_CREAT if make else 0), 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove(storage: fs.FileSystem, folder: str) -> None:
    try:
        storage.delete_dir(folder)
    except OSError:
        return  # `clean` will find it


@dataclass(frozen=True)
class Cleaned:
    """What was removed: files of states, folders of spilled rows, and their bytes."""

    states: int
    folders: int
    bytes: int


def clean(work: str, seconds: float) -> Cleaned:
    """Remove states that were not of use for some time, and what dead runs left behind.

    Args:
        work: folder or URL, see `work_folder`.
        seconds: how long a state may be of no use.

    Raises:
        RunError: something cannot be removed.
    """
    storage, root = open_storage(work)
    now = time.time()
    states = folders = size = 0
    try:
        for entry in storage.get_file_info(fs.FileSelector(f"{root}/states", recursive=True, allow_not_found=True)):
            is_state = _STATE.fullmatch(entry.base_name) or entry.base_name.endswith(".state.partial")
            if entry.type == fs.FileType.File and is_state and _age(entry, now) >= seconds:
                storage.delete_file(entry.path)
                states, size = states + 1, size + entry.size
        for entry in storage.get_file_info(fs.FileSelector(root, allow_not_found=True)):
            if _SPILL.fullmatch(entry.base_name) and _is_orphan(storage, entry, now, seconds):
                size += _size_below(storage, entry.path)
                storage.delete_dir(entry.path)
                folders += 1
    except OSError as error:
        raise RunError(f"could not clean {work}: {one_line(error)}") from error
    return Cleaned(states, folders, size)


def _age(entry: fs.FileInfo, now: float) -> float:
    return now - entry.mtime_ns / 1e9 if entry.mtime_ns is not None else float("inf")


def _is_orphan(storage: fs.FileSystem, entry: fs.FileInfo, now: float, seconds: float) -> bool:
    if not isinstance(storage, fs.LocalFileSystem):
        return _age(entry, now) >= seconds
    held = _locked(entry.path, make=False)
    if held is not None:
        os.close(held)
    return held is not None


def _size_below(storage: fs.FileSystem, folder: str) -> int:
    return sum(entry.size or 0 for entry in storage.get_file_info(fs.FileSelector(folder, recursive=True)))
