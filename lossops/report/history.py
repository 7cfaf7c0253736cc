"""Earlier reports of one name beside each other: what each run found, and when a slice moved."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from lossops.changes import changes
from lossops.data.storage import one_line, open_storage
from lossops.errors import InputError, nearest, shown
from lossops.report.store import Report
from lossops.report.tables import LOSSES

__all__ = [
    "MOVED",
    "OVERALL",
    "History",
    "Move",
    "PastRun",
    "earlier_runs",
    "first_moves",
    "moves",
    "past_run",
    "read_history",
]

OVERALL = "overall"
MOVED = 0.05  # the adjusted p-value below which a mean has moved
_COLUMNS = ["model", "loss", "slice", "rows_valid", "mean", "std_error", "ci_low", "ci_high", "units"]
_PAIR = ["model", "loss"]
_CANDIDATES = 1000  # reports whose run.json is read: those that were started last
_READERS = 8  # at a time: object stores take long to answer, not to send
_PAGE_RUNS = 30
_PAGE_ROWS = 200_000  # of all runs together; above it a page has no slices of earlier runs


@dataclass(frozen=True, order=True)
class PastRun:
    """A complete report; they are in the order of their dates.

    Args:
        date: the date it is about, or when it was started, on the clock of the run's time zone.
        run_id: its folder.
        outcome: passed, failed, undecided or completed.
    """

    date: datetime
    run_id: str
    outcome: str

    @property
    def shown(self) -> str:
        """The date for a reader; without the time where it is midnight."""
        return f"{self.date:%Y-%m-%d}" if self.date.time() == datetime.min.time() else f"{self.date:%Y-%m-%d %H:%M:%S}"


@dataclass(frozen=True)
class History:
    """What the reports of one name found.

    Args:
        runs: in the order of their dates.
        losses: rows of losses.parquet with the place in `runs` as the column ``run``.
        passed_over: folders that hold no complete report, and why.
        left: complete reports that are older than those of `runs`.
        whole: whether `losses` has every slice.
    """

    runs: Sequence[PastRun]
    losses: pa.Table = field(repr=False)
    passed_over: Sequence[tuple[str, str]] = ()
    left: int = 0
    whole: bool = True

    def rows(self, **wanted: str) -> list[dict[str, Any]]:
        """The rows of a model, loss or slice, in the order of the runs."""
        return list(_where(self.losses, wanted).to_pylist())

    def pairs(self) -> list[tuple[str, str]]:
        """Every model and loss, as the latest report that has them orders them."""
        rows = pa.table({"pair": _numbers(self.losses, _PAIR), "run": self.losses["run"]})
        latest = pc.sort_indices(rows, [("run", "descending")])
        each = pc.unique(rows["pair"].take(latest))
        found = self.losses.select(_PAIR).take(pc.index_in(each, value_set=rows["pair"]))
        return list(zip(found["model"].to_pylist(), found["loss"].to_pylist(), strict=True))

    def narrowed(self, **wanted: str | None) -> History:
        """Return what it says of a loss, a slice or both.

        Raises:
            InputError: no report has it.
        """
        losses = self.losses
        for column, value in wanted.items():
            if value is not None:
                losses = _where(losses, {column: value})
                if not losses.num_rows:
                    allowed = pc.unique(self.losses[column]).to_pylist()
                    raise InputError(f"no report has the {column} {shown(value)}; {nearest(value, allowed)}")
        return replace(self, losses=losses)

    def followed_by(self, run: PastRun, losses: pa.Table) -> History:
        """Return it with one more run."""
        chosen = _chosen(losses.select(_COLUMNS), None if self.whole else [OVERALL])
        table = pa.concat_tables([self.losses, _numbered(chosen, len(self.runs))])
        return replace(self, runs=[*self.runs, run], losses=table)


@dataclass(frozen=True)
class Move:
    """A run at which the mean of a slice moved.

    Args:
        model, loss, slice: whose mean.
        run: its place among the runs.
        before, mean: of the run before, and of this one.
        statistic: their difference in standard errors.
        p_adjusted: of no difference, adjusted over all slices and runs of the history.
    """

    model: str
    loss: str
    slice: str
    run: int
    before: float
    mean: float
    statistic: float
    p_adjusted: float


def moves(history: History) -> list[Move]:
    """Return every move of a mean against the run before, surest first."""
    losses = history.losses
    freedom = pc.subtract(pc.coalesce(losses["units"], losses["rows_valid"]), 1)
    found = changes(
        *(_floats(one) for one in (_numbers(losses, [*_PAIR, "slice"]), losses["mean"], losses["std_error"], freedom))
    )
    surely = (found.p_adjusted < MOVED).nonzero()[0]
    rows = losses.take(pa.array(found.now[surely])).to_pylist()
    before = losses["mean"].take(pa.array(found.before[surely])).to_pylist()
    numbers = zip(rows, before, found.statistic[surely].tolist(), found.p_adjusted[surely].tolist(), strict=True)
    listed = (
        Move(row["model"], row["loss"], row["slice"], row["run"], earlier, row["mean"], statistic, p_value)
        for row, earlier, statistic, p_value in numbers
    )
    return sorted(listed, key=lambda one: (one.p_adjusted, -abs(one.statistic)))


def first_moves(found: Sequence[Move]) -> list[Move]:
    """Return the first move of each model, loss and slice, in the order given."""
    first: dict[tuple[str, str, str], int] = {}
    for one in found:
        key = (one.model, one.loss, one.slice)
        first[key] = min(first.get(key, one.run), one.run)
    return [one for one in found if one.run == first[one.model, one.loss, one.slice]]


def _floats(values: pa.ChunkedArray) -> Any:
    """Numbers without nulls, numpy [rows]; a null is NaN."""
    return values.cast(pa.float64()).to_numpy()


def _numbers(losses: pa.Table, columns: Sequence[str]) -> pa.Array:
    """The number of what each row has in some columns of text."""
    number = pa.repeat(0, losses.num_rows)
    for column in columns:
        coded = losses[column].combine_chunks().dictionary_encode()
        number = pc.add(pc.multiply(number, len(coded.dictionary)), coded.indices.cast(pa.int64()))
    return number


def read_history(output: str, name: str, last: int, *, until: PastRun | None = None, most_rows: int) -> History:
    """Read the latest complete reports of a name; those that are incomplete or damaged are passed over.

    Args:
        output: folder or URL of all reports.
        name: of the config.
        last: how many.
        until: the run that all that are wanted come before.
        most_rows: of all reports together, above which only overall is read.

    Raises:
        InputError: there is no report of this name.
    """
    storage, root = open_storage(output)
    try:
        folder = _Folder(storage, f"{root.rstrip('/')}/{name}", _run_ids(storage, root.rstrip("/"), output, name))
    except OSError as error:
        raise InputError(f"{output}: {one_line(error)}") from error
    with ThreadPoolExecutor(_READERS) as pool:
        opened = list(pool.map(folder.manifest, folder.run_ids[-_CANDIDATES:]))
        runs = sorted(one for one in opened if isinstance(one, PastRun) and (until is None or one < until))
        chosen = runs[-last:]
        whole = sum(pool.map(folder.size, chosen)) <= most_rows
        tables = list(pool.map(lambda run: folder.losses(run, None if whole else [OVERALL]), chosen))
    pairs = [(run, one) for run, one in zip(chosen, tables, strict=True) if isinstance(one, pa.Table)]
    bad = [(one.run_id, one.why) for one in (*opened, *tables) if isinstance(one, _Unread)]
    numbered = [_numbered(table, place) for place, (_, table) in enumerate(pairs)]
    losses = pa.concat_tables(numbered or [_numbered(LOSSES.empty_table().select(_COLUMNS), 0)])
    return History([run for run, _ in pairs], losses, sorted(bad), len(runs) - len(chosen), whole)


def _run_ids(storage: fs.FileSystem, root: str, output: str, name: str) -> list[str]:
    names = _folders(storage, root)
    found = _folders(storage, f"{root}/{name}") if name in names else []
    if not found:
        filled = [one for one in names if _folders(storage, f"{root}/{one}")]
        raise InputError(f"{output}: no report is named {shown(name)}; {nearest(name, filled)}")
    return found


def earlier_runs(output: str, report: Report) -> History | None:
    """Return the history that a report is about to end; None if it has no earlier run that can be read."""
    this = past_run(report.run)
    room = max(_PAGE_ROWS - report.losses.num_rows, 0)
    try:
        found = read_history(output, report.run["name"], _PAGE_RUNS - 1, until=this, most_rows=room)
    except Exception:  # whatever is wrong with older reports, this one is worth publishing
        return None
    return found.followed_by(this, report.losses) if found.runs else None


def past_run(run: Mapping[str, Any]) -> PastRun:
    """What the content of ``run.json`` says of a run."""
    config = run["config"]  # which an older version may have written
    zone = ZoneInfo(config.get("timezone", "UTC"))
    date = datetime.fromisoformat(config.get("date") or run["started"])
    return PastRun(date.astimezone(zone) if date.tzinfo else date.replace(tzinfo=zone), run["run_id"], run["outcome"])


@dataclass(frozen=True)
class _Unread:
    run_id: str
    why: str


@dataclass(frozen=True)
class _Folder:
    """The reports of a name. What cannot be read is returned as such, not raised."""

    storage: fs.FileSystem
    path: str
    run_ids: Sequence[str]

    def manifest(self, run_id: str) -> PastRun | _Unread:
        """Read what a run says of itself."""
        try:
            with self.storage.open_input_stream(f"{self.path}/{run_id}/run.json") as file:
                return replace(past_run(json.loads(file.read())), run_id=run_id)
        except FileNotFoundError:
            return _Unread(run_id, "incomplete: it has no run.json")
        except Exception as error:  # readers of damaged files raise errors of many classes
            return _Unread(run_id, f"damaged: run.json: {one_line(error)}")

    def size(self, run: PastRun) -> int:
        """The rows of losses.parquet."""
        try:
            with self.storage.open_input_file(self._losses(run)) as file:
                return int(pq.read_metadata(file).num_rows)
        except Exception:  # `losses` says why
            return 0

    def losses(self, run: PastRun, only: Sequence[str] | None) -> pa.Table | _Unread:
        """Read some columns of losses.parquet, and only some slices if these are given."""
        try:
            with self.storage.open_input_file(self._losses(run)) as file:
                if only is None:
                    return pq.ParquetFile(file, page_checksum_verification=True).read(_COLUMNS)
                wanted = pc.field("slice").isin(list(only))  # passes over row groups that cannot have any
                return pq.read_table(file, columns=_COLUMNS, filters=wanted, page_checksum_verification=True)
        except Exception as error:  # as above
            return _Unread(run.run_id, f"damaged: losses.parquet: {one_line(error)}")

    def _losses(self, run: PastRun) -> str:
        return f"{self.path}/{run.run_id}/losses.parquet"


def _chosen(losses: pa.Table, only: Sequence[str] | None) -> pa.Table:
    return losses if only is None else losses.filter(pc.is_in(losses["slice"], pa.array(only)))


def _where(losses: pa.Table, wanted: Mapping[str, str]) -> pa.Table:
    found = [pc.equal(losses[column], value) for column, value in wanted.items()]
    return losses.filter(functools.reduce(pc.and_, found)) if found else losses


def _numbered(losses: pa.Table, place: int) -> pa.Table:
    # Meanings of columns may change from version to version, which would keep tables apart.
    plain = losses.cast(pa.schema([LOSSES.field(name).with_metadata(None) for name in _COLUMNS]))
    return plain.append_column("run", pa.array([place] * losses.num_rows, pa.int64()))


def _folders(storage: fs.FileSystem, folder: str) -> list[str]:
    """The names of the folders in a folder, in order; hidden ones are being written."""
    entries = storage.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    return sorted(
        entry.base_name for entry in entries if entry.type == fs.FileType.Directory and entry.base_name[0] != "."
    )
