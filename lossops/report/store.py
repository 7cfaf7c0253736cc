"""Writing and opening reports. A report is complete or absent."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from lossops.data.storage import open_storage
from lossops.errors import ConfigError, GateError, InputError, RunError, nearest, shown
from lossops.report.tables import SCHEMAS

__all__ = ["Report", "check_output", "gate_finding", "open_report", "publish"]

_MANIFEST = "run.json"
_PAGE = "report.html"
_TOLD_GATES = 5  # in a message; all are in the table
_TABLES = tuple(SCHEMAS)
_Texts = Callable[[], Iterable[tuple[str, bytes]]]  # names of files, and what is in them
_ROW_GROUP = 1 << 14  # rows: who wants one slice of many need not read all
_WRITERS = 4  # tables that are written at a time


@dataclass(frozen=True)
class Report:
    """A finished run.

    Args:
        path: folder or URL of the report.
        losses, comparisons, contrasts, gates, discovered, calibration, histograms, hardest, ledger, shards: its tables,
            see `lossops.report.tables`.
        run: the content of ``run.json``.
    """

    path: str
    losses: pa.Table = field(repr=False)
    comparisons: pa.Table = field(repr=False)
    contrasts: pa.Table = field(repr=False)
    gates: pa.Table = field(repr=False)
    discovered: pa.Table = field(repr=False)
    calibration: pa.Table = field(repr=False)
    histograms: pa.Table = field(repr=False)
    hardest: pa.Table = field(repr=False)
    ledger: pa.Table = field(repr=False)
    shards: pa.Table = field(repr=False)
    run: Mapping[str, Any] = field(repr=False)

    @property
    def passed(self) -> bool:
        """Whether every gate kept its limit, or there was none."""
        return bool(self.run["outcome"] != "failed")

    @property
    def warnings(self) -> Sequence[str]:
        """What must not be overlooked, such as a share of rows that is not scored: a sentence each."""
        return tuple(self.run.get("warnings", ()))

    @cached_property
    def overall(self) -> list[dict[str, Any]]:
        """The rows of ``losses.parquet`` for all data."""
        widths = pc.list_value_length(self.losses["slice_columns"])
        return list(self.losses.take(pc.indices_nonzero(pc.equal(widths, 0))).to_pylist())

    def table(self, name: str) -> pa.Table:
        """Return a table by name, such as ``losses``, as Arrow.

        Raises:
            ConfigError: a report has no such table.
        """
        if name not in _TABLES:
            raise ConfigError(f"a report has no table {shown(name)}; {nearest(name, _TABLES)}")
        return getattr(self, name)

    def pandas(self, name: str) -> Any:
        """Return a table as a pandas data frame; a null number is NaN there.

        Raises:
            ConfigError: a report has no such table.
            RunError: pandas is not installed.
        """
        table = self.table(name)
        _library("pandas")
        return table.to_pandas()

    def polars(self, name: str) -> Any:
        """Return a table as a Polars data frame.

        Raises:
            ConfigError: a report has no such table.
            RunError: Polars is not installed.
        """
        table = self.table(name)
        return _library("polars").from_arrow(table)

    def _repr_html_(self) -> str:
        from lossops.report.page import render_fragment  # noqa: PLC0415  which looks at reports

        return render_fragment(self)

    def check_gates(self) -> None:
        """Raise if a gate did not keep its limit.

        Raises:
            GateError: the message has the failing rows of gates.parquet, the first of them in full.
        """
        failing = [row for row in self.gates.to_pylist() if row["fails"]]
        if failing:
            told = "; ".join(_gate_text(row) for row in failing[:_TOLD_GATES])
            more = len(failing) - _TOLD_GATES
            rest = f"; {more} more in gates.parquet" if more > 0 else ""
            raise GateError(self.path, f"{len(failing)} of {self.gates.num_rows} gate rows failed: {told}{rest}")


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise RunError(f"{name} is not installed; table() gives the same as Arrow, without it") from error


def _gate_text(row: Mapping[str, Any]) -> str:
    return f"{row['gate']}, {row['model']}, {row['slice']}: {gate_finding(row)}"


def gate_finding(row: Mapping[str, Any]) -> str:
    """What a row of gates.parquet found, in words: value, interval, and why nothing can be told."""
    value = "no value" if row["value"] is None else f"{row['value']:.6g}"
    interval = "" if row["ci_low"] is None else f" ({row['ci_low']:.6g} to {row['ci_high']:.6g})"
    insufficient = ["insufficient"] if row["outcome"] == "insufficient" else []
    why = ": ".join([*insufficient, *([row["why"]] if row["why"] else [])])
    return f"{value}{interval}{', ' * bool(why)}{why}"


def check_output(output: str) -> None:
    """Check, before hours of work, that a report could be written; creates nothing.

    Args:
        output: folder or URL of all reports; for a URL only that its storage can be opened is checked.

    Raises:
        InputError: it is not a folder, or nothing can be written there.
    """
    storage, folder = open_storage(output)
    if not isinstance(storage, fs.LocalFileSystem):
        return
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"output: {folder} is not a folder that can be written to; allowed: a folder or URL")


def publish(
    output: str,
    name: str,
    run_id: str,
    tables: Mapping[str, pa.Table],
    run: Mapping[str, Any],
    page: Callable[[], str],
) -> Report:
    """Write a report to ``<output>/<name>/<run_id>/``.

    Tables come first, then ``report.html``, then ``run.json``. On a local disk everything is written to a hidden folder
    that is renamed when it is complete. Elsewhere ``run.json`` gets its name last, and a folder without it is not a
    report.

    Args:
        output: folder or URL of all reports.
        name, run_id: of this one.
        tables: every table of `Report` by name.
        run: what becomes ``run.json``, after the page was made.
        page: makes what becomes ``report.html``, while tables are written.

    Raises:
        RunError: the report could not be written; nothing that looks like a report is left.
    """
    storage, root = open_storage(output)
    final = f"{root.rstrip('/')}/{name}/{run_id}"

    def texts() -> Iterator[tuple[str, bytes]]:
        yield _PAGE, page().encode()
        yield _MANIFEST, _json(run)

    try:
        if isinstance(storage, fs.LocalFileSystem):
            _publish_by_rename(storage, final, tables, texts)
        else:
            _publish_in_place(storage, final, tables, texts)
    except OSError as error:
        raise RunError(f"output: could not write the report to {output}: {error}") from error
    place = final if isinstance(storage, fs.LocalFileSystem) else f"{output.rstrip('/')}/{name}/{run_id}"
    return Report(_relative(place, output), **{name: tables[name] for name in _TABLES}, run=run)


def _json(run: Mapping[str, Any]) -> bytes:
    return json.dumps(run, indent=2, allow_nan=False, ensure_ascii=False).encode() + b"\n"


def _relative(path: str, output: str) -> str:
    """Show a path as the config does: relative if the output is."""
    return path if os.path.isabs(output) or "://" in output else os.path.relpath(path)


def _publish_by_rename(storage: fs.FileSystem, final: str, tables: Mapping[str, pa.Table], texts: _Texts) -> None:
    folder, run_id = os.path.split(final)
    hidden = os.path.join(folder, f".{run_id}.partial")
    try:
        _write(storage, hidden, tables, texts(), _sync)
        _sync(hidden)
        os.rename(hidden, final)
        _sync(folder)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _publish_in_place(storage: fs.FileSystem, final: str, tables: Mapping[str, pa.Table], texts: _Texts) -> None:
    """Write the manifest last and under another name, so that it is whole where it is there at all."""
    if storage.get_file_info(final).type != fs.FileType.NotFound:
        raise FileExistsError(f"{final} is there already")
    try:
        partial = {_MANIFEST: f".{_MANIFEST}.partial"}
        _write(storage, final, tables, ((partial.get(name, name), text) for name, text in texts()))
        storage.move(f"{final}/.{_MANIFEST}.partial", f"{final}/{_MANIFEST}")
    except Exception:  # of the storage, or of the page, which is made meanwhile
        with suppress(OSError):
            storage.delete_dir(final)
        raise


def _sync(path: str) -> None:
    """Make a file, or the names in a folder, outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(
    storage: fs.FileSystem,
    folder: str,
    tables: Mapping[str, pa.Table],
    texts: Iterable[tuple[str, bytes]],
    settle: Callable[[str], None] = lambda _path: None,
) -> None:
    """Write the tables while the texts are made, then the texts; what is written is settled at once, by its path."""
    storage.create_dir(folder, recursive=True)

    def write(name: str) -> None:
        path = f"{folder}/{name}.parquet"
        with storage.open_output_stream(path) as file:
            pq.write_table(tables[name], file, compression="zstd", write_page_checksum=True, row_group_size=_ROW_GROUP)
        settle(path)

    with ThreadPoolExecutor(_WRITERS) as pool:
        written = pool.map(write, _TABLES)
        found = list(texts)
        list(written)
    for name, text in found:
        with storage.open_output_stream(f"{folder}/{name}") as file:
            file.write(text)
        settle(f"{folder}/{name}")


def open_report(path: str) -> Report:
    """Open a report.

    Raises:
        InputError: there is no complete report at this path.
    """
    storage, root = open_storage(path)
    try:
        with storage.open_input_stream(f"{root.rstrip('/')}/{_MANIFEST}") as file:
            run = json.loads(file.read())
        tables = {name: _read_table(storage, f"{root.rstrip('/')}/{name}.parquet") for name in _TABLES}
    except FileNotFoundError as error:
        raise InputError(f"{path}: not a report, it has no {_MANIFEST}; allowed: <output>/<name>/<run id>") from error
    except Exception as error:  # readers of damaged files raise errors of many classes
        raise InputError(f"{path}: the report is damaged: {' '.join(str(error).split())}") from error
    return Report(path, **tables, run=run)


def _read_table(storage: fs.FileSystem, path: str) -> pa.Table:
    with storage.open_input_file(path) as file:
        return pq.read_table(file, page_checksum_verification=True)
