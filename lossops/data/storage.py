"""Finding files: paths, folders, globs and URLs."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs

from lossops.addresses import without_secrets
from lossops.errors import InputError, nearest

__all__ = [
    "NULL_PARTITION",
    "FoundFile",
    "current_version",
    "find_files",
    "is_of_storage",
    "may_pass",
    "one_line",
    "open_storage",
]

NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")
_S3_ATTEMPTS = 9  # the second at once, then with waits from 50 ms to 6 s between them, 13 s in all
_S3_OPTIONS = (
    "region",
    "scheme",
    "endpoint_override",
    "allow_bucket_creation",
    "allow_bucket_deletion",
    "tls_ca_file_path",
)
_NETWORK = {errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.EPIPE, errno.ETIMEDOUT, errno.EHOSTUNREACH}
# How the libraries of object stores begin what they tell, and what will not be otherwise the next time.
_REMOTE = re.compile(r"AWS Error|google::cloud::Status|GetResult|\bAzure\b|curlCode", re.IGNORECASE)
_LASTING = re.compile(
    r"ACCESS_DENIED|INVALID|NO_SUCH|NOT_?FOUND|SIGNATURE|PERMISSION_?DENIED|UNAUTHENTICATED|AuthorizationFailure",
    re.IGNORECASE,
)
_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class FoundFile:
    """One file of a dataset.

    Args:
        storage: the filesystem it lies on.
        path: its path there.
        size: bytes.
        version: changes when the file is written again: inode and time of modification, or what the storage has.
        touched: on a local disk the time of its last change of any kind, which nobody can set back; else nothing.
        partition: (column, value) for each ``column=value`` folder below the dataset's root; None is null.
    """

    storage: fs.FileSystem
    path: str
    size: int
    version: str
    touched: str
    partition: tuple[tuple[str, str | None], ...]


# What object stores call the version of a file, the surest first.
_VERSION_KEYS = ("ETag", "etag", "generation", "version_id", "md5", "mtime", "LastModified", "last_modified", "created")


def _version(storage: fs.FileSystem, info: fs.FileInfo) -> str:
    if isinstance(storage, fs.LocalFileSystem):
        status = os.stat(info.path)
        return f"{status.st_ino} {status.st_mtime_ns}"
    if isinstance(storage, fs.PyFileSystem) and isinstance(storage.handler, fs.FSSpecHandler):
        details = storage.handler.fs.info(info.path)
        return " ".join(f"{key} {details[key]}" for key in _VERSION_KEYS if details.get(key))
    return str(info.mtime_ns)


def _touched(storage: fs.FileSystem, info: fs.FileInfo) -> str:
    return str(os.stat(info.path).st_ctime_ns) if isinstance(storage, fs.LocalFileSystem) else ""


def current_version(storage: fs.FileSystem, path: str) -> tuple[int, str] | None:
    """Return the size and version of a file as they are now, or None if it is gone.

    Raises:
        OSError: the storage does not tell.
    """
    _forget_listings(storage)
    try:
        info = storage.get_file_info(path)
        return (info.size, _version(storage, info)) if info.type == fs.FileType.File else None
    except FileNotFoundError:
        return None


def open_storage(location: str) -> tuple[fs.FileSystem, str]:
    """Return the filesystem of a path or URL, and the path on it.

    Raises:
        InputError: the URL's scheme is not known here, or it cannot be opened.
    """
    if not _URL.match(location):
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(location))
    try:
        storage, path = fs.FileSystem.from_uri(location)
        return _patient(storage), path
    except pa.ArrowException:
        pass  # not a scheme of pyarrow's own: fsspec knows more
    except OSError as error:
        raise InputError(f"{location}: {one_line(error)}") from error
    import fsspec  # noqa: PLC0415  most runs need it for nothing

    try:
        files, path = fsspec.url_to_fs(location)
    except (ValueError, ImportError) as error:
        raise InputError(f"{location}: {one_line(error)}") from error
    return fs.PyFileSystem(fs.FSSpecHandler(files)), path


class _PatientS3(fs.S3FileSystem):  # type: ignore[misc] # pyarrow has no types
    """An object store that is asked again when it is busy, on workers too.

    By itself a filesystem that is made from a URL gives up soon, and so does one that was pickled, which also waits for
    up to a second before it asks again: on a busy store that made most of the time.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(**options, retry_strategy=fs.AwsDefaultS3RetryStrategy(max_attempts=_S3_ATTEMPTS))
        self._options = options

    def __reduce__(self) -> tuple[type[_PatientS3], tuple[Mapping[str, Any]]]:
        return _PatientS3, (self._options,)


def _patient(storage: fs.FileSystem) -> fs.FileSystem:
    """Have an object store asked again when it is busy."""
    if not isinstance(storage, fs.S3FileSystem):
        return storage
    # What its URL and the environment said; there is no other way to it.
    _, (told,) = storage.__reduce__()
    return _PatientS3({name: told[name] for name in _S3_OPTIONS if told[name]})


def is_of_storage(error: BaseException) -> bool:
    """Whether an error is the storage's and says nothing of the content of a file: a reader's has no number, either."""
    return isinstance(error, OSError) and (error.errno is not None or _REMOTE.search(str(error)) is not None)


def may_pass(error: BaseException | None) -> bool:
    """Whether what an error followed from may be gone the next time: a busy store, a lost connection."""
    while error is not None and not is_of_storage(error):
        error = error.__cause__
    if not isinstance(error, OSError):
        return False
    return error.errno in _NETWORK if error.errno is not None else not _LASTING.search(str(error))


def _forget_listings(storage: fs.FileSystem) -> None:
    """Make a filesystem that remembers what it listed look again."""
    if isinstance(storage, fs.PyFileSystem) and isinstance(storage.handler, fs.FSSpecHandler):
        storage.handler.fs.invalidate_cache()


def one_line(error: Exception) -> str:
    """Return what an error says, in one line and without the secrets of addresses that libraries put into it."""
    return without_secrets(" ".join(str(error).split()))


def find_files(locations: Sequence[str]) -> list[FoundFile]:
    """Return the files that the locations name, in order; folders and globs are sorted by path.

    Files and folders whose name begins with ``_`` or ``.`` are bookkeeping of other tools and are passed over.

    Args:
        locations: files, folders, globs or URLs.

    Raises:
        InputError: a location names nothing, or a file is named twice.
    """
    found = [file for location in locations for file in _find(location)]
    paths = set()
    for file in found:
        if file.path in paths:
            raise InputError(f"{file.path}: this file is named more than once by {', '.join(locations)}")
        paths.add(file.path)
    return found


def _find(location: str) -> list[FoundFile]:
    storage, path = open_storage(location)
    _forget_listings(storage)
    try:
        found = _glob(storage, path) if _WILDCARD.search(path) else _file_or_folder(storage, location, path)
    except OSError as error:
        raise InputError(f"could not list {location}: {one_line(error)}") from error
    if not found:
        raise InputError(f"{location}: no data file here; files whose name begins with '_' or '.' are passed over")
    return found


def _file_or_folder(storage: fs.FileSystem, location: str, path: str) -> list[FoundFile]:
    info = storage.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        raise InputError(f"{location}: no such file or folder{_hint(storage, path)}")
    if info.type == fs.FileType.File:
        return [FoundFile(storage, info.path, info.size, _version(storage, info), _touched(storage, info), ())]
    return [_found(storage, path, entry) for entry in _below(storage, path)]


def _hint(storage: fs.FileSystem, path: str) -> str:
    parent, name = os.path.split(path.rstrip("/"))
    entries = storage.get_file_info(fs.FileSelector(parent or "/", allow_not_found=True))
    names = [entry.base_name for entry in entries if not entry.base_name.startswith(".")]
    return f"; {nearest(name, names)}" if names else ""


def _glob(storage: fs.FileSystem, pattern: str) -> list[FoundFile]:
    wildcard = _WILDCARD.search(pattern)
    root = pattern[: wildcard.start()].rpartition("/")[0] if wildcard else pattern
    from fsspec.utils import glob_translate  # noqa: PLC0415  as above

    matches = re.compile(glob_translate(pattern))
    return [_found(storage, root, entry) for entry in _below(storage, root) if matches.match(entry.path)]


def _entries(storage: fs.FileSystem, root: str) -> Iterable[fs.FileInfo]:
    if isinstance(storage, fs.PyFileSystem) and isinstance(storage.handler, fs.FSSpecHandler):
        return _listed(storage.handler.fs, root)
    return storage.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))  # type: ignore[no-any-return]


def _listed(files: Any, root: str) -> Iterator[fs.FileInfo]:
    """Yield the files below a folder. What fsspec itself offers for that leaves out folders that it fails to list."""
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            entries = files.ls(folder, detail=True)
        except FileNotFoundError:
            if folder == root:
                return
            raise
        for entry in entries:
            if entry["type"] == "directory":
                waiting.append(entry["name"])
            elif entry["name"].rstrip("/") != folder.rstrip("/"):  # some stores have an entry for a folder itself
                yield fs.FileInfo(entry["name"], fs.FileType.File, size=entry["size"])


def _below(storage: fs.FileSystem, root: str) -> Iterator[fs.FileInfo]:
    for entry in sorted(_entries(storage, root), key=lambda entry: entry.path):
        relative = entry.path[len(root.rstrip("/")) :].strip("/")
        if entry.type == fs.FileType.File and not any(part[0] in "_." for part in relative.split("/")):
            yield entry


def _found(storage: fs.FileSystem, root: str, entry: fs.FileInfo) -> FoundFile:
    folders = entry.path[len(root.rstrip("/")) :].strip("/").split("/")[:-1]
    pairs = (folder.partition("=") for folder in folders if "=" in folder)
    partition = tuple((unquote(column), _partition_value(value)) for column, _, value in pairs)
    version, touched = _version(storage, entry), _touched(storage, entry)
    return FoundFile(storage, entry.path, entry.size, version, touched, partition)


def _partition_value(value: str) -> str | None:
    return None if value == NULL_PARTITION else unquote(value)
