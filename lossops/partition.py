"""One piece of work: read rows, align them, score them, return sums. What a worker runs; needs no Dask."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import fs

from lossops.data.align import Rows, join
from lossops.data.index import LabelIndex, Seen, build_index
from lossops.data.keys import Keys, ordered_values, read_keys, read_order
from lossops.data.spill import SpillFile, open_spill, read_bucket, write_spill
from lossops.data.storage import one_line, open_storage
from lossops.data.undecoded import stored_alike
from lossops.decoding import Tables
from lossops.errors import RunError, ShardError
from lossops.kernels.dense import distinct
from lossops.kernels.hashing import strictly_increasing
from lossops.memory import keep_freed_memory
from lossops.pairing import PLACE, Pairing
from lossops.pieces import Bucket, Piece, Run, key_bounds
from lossops.scoring import score_batch
from lossops.stages import Stopwatch
from lossops.state import State, Total
from lossops.tasks import SIDES, Side

__all__ = ["KeyRange", "Outcome", "Spilled", "index_labels", "score_bucket", "score_piece", "spill_run", "warm_up"]


_FEWEST_ALIKE = 1 << 19  # rows below which looking at how keys are stored costs what it saves
_SEVERAL, _MANY = 4, 8  # batches that are taken as one where a group has fewer rows than this


@dataclass(frozen=True)
class KeyRange:
    """The smallest and largest key of rows whose keys strictly increase."""

    first: int
    last: int


@dataclass(frozen=True)
class Outcome:
    """What came of a piece.

    Args:
        state: sums of the aligned rows.
        rows: for each side the rows that this piece accounts for; not the labels where they are looked up.
        unaligned: for each side the number of rows by ledger reason that found no partner.
        seconds: time it took.
        seen: which labels were asked for, where they are looked up.
        positions_hold: whether every key equalled its partner's, in ascending order, where rows pair by position.
        keys: the range of those keys in each run.
        hashes: uint64, increasing: a hash of every key of both sides, where shards are joined with shards.
        checksums: for each side the sum of its hashed keys, where rows went through files.
        stages: seconds by stage of work, see `lossops.stages`.
    """

    state: State
    rows: Mapping[Side, int]
    unaligned: Mapping[Side, Mapping[str, int]]
    seconds: float
    seen: Seen | None = None
    positions_hold: bool = True
    keys: tuple[KeyRange, ...] = ()
    hashes: npt.NDArray[np.uint64] | None = None
    checksums: Mapping[Side, int] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Spilled:
    """A run whose rows lie in a file by bucket.

    Args:
        rows: of the run.
        nulls: rows of it with a null key, which are not in the file.
        checksum: sum of its hashed keys.
        seconds: time it took.
    """

    rows: int
    nulls: int
    checksum: int
    seconds: float


@dataclass
class _Tally:
    """What is learnt of alignment while the batches of a piece go by."""

    unaligned: dict[Side, Counter[str]] = field(default_factory=lambda: {side: Counter() for side in SIDES})
    seen: Seen | None = None
    holds: bool = True
    keys: list[KeyRange] = field(default_factory=list)
    begins: bool = True
    watch: Stopwatch = field(default_factory=Stopwatch)


def score_piece(pairing: Pairing, piece: Piece, index: LabelIndex | None) -> Outcome:
    """Score the rows of a piece.

    Args:
        pairing: what is computed from which columns.
        piece: which rows.
        index: the labels, where rows look them up.

    Raises:
        ShardError: a file is damaged.
    """
    keep_freed_memory()
    begun = time.perf_counter()
    if pairing.mode in ("shard", "merge"):
        return _score_closed(pairing, piece, begun)
    tally = _Tally(seen=index.none_seen() if index else None)
    batches = _while_it_holds(_aligned(pairing, piece, index, tally), tally)
    state = _scored(pairing, _gathered(batches, pairing.batch_rows), tally.watch)
    rows = sum(run.rows for run in piece.predictions)
    counted: dict[Side, int] = {"predictions": rows} if index else {"predictions": rows, "labels": rows}
    seen = None if tally.seen is None else tally.seen.settled()
    seconds = time.perf_counter() - begun
    stages = tally.watch.seconds
    return Outcome(state, counted, tally.unaligned, seconds, seen, tally.holds, tuple(tally.keys), stages=stages)


def _scored(pairing: Pairing, batches: Iterable[Tables], watch: Stopwatch) -> State:
    """Return the sums of batches."""
    total, waiting, groups = Total(len(pairing.slices)), iter(batches), 0
    for tables in waiting:
        # Where groups are so many that adding them up costs as much as scoring their rows, several batches are one.
        several = _MANY * max(groups, _most_values(pairing, tables)) > tables["predictions"].num_rows
        together = _together([tables, *islice(waiting, _SEVERAL - 1)]) if several else tables
        state = score_batch(pairing, together, watch)
        groups = state.groups
        with watch.during("merge"):
            total.add(state)
    with watch.during("merge"):
        return total.state()


def _most_values(pairing: Pairing, tables: Tables) -> int:
    """How many values the dictionary of any column of the slices has; 0 where none has a dictionary."""
    columns = (tables[source.side][source.column] for axis, source in pairing.axes.items() if axis.bins is None)
    chunks = (chunk for column in columns if pa.types.is_dictionary(column.type) for chunk in column.chunks)
    return max((len(chunk.dictionary) for chunk in chunks), default=0)


def _together(batches: Sequence[Tables]) -> Tables:
    """Return batches as one."""
    if len(batches) == 1:
        return batches[0]
    return {
        side: pa.concat_tables([tables[side] for tables in batches], promote_options="permissive")
        for side in batches[0]
    }


def _gathered(batches: Iterable[Tables], rows: int) -> Iterator[Tables]:
    """Yield batches, with small ones that follow each other as one of at most so many rows."""
    waiting: list[Tables] = []
    count = 0
    for tables in batches:
        own = tables["predictions"].num_rows
        if waiting and count + own > rows:
            yield _together(waiting)
            waiting, count = [], 0
        waiting.append(tables)
        count += own
        if count >= rows:  # given away before the next is read
            yield _together(waiting)
            waiting, count = [], 0
    if waiting:
        yield _together(waiting)


def _while_it_holds(batches: Iterable[Tables], tally: _Tally) -> Iterator[Tables]:
    """Yield batches up to the first that shows that rows do not pair by position."""
    for tables in batches:
        yield tables
        if not tally.holds:
            return


def _aligned(pairing: Pairing, piece: Piece, index: LabelIndex | None, tally: _Tally) -> Iterator[Tables]:
    for place in range(len(piece.predictions)):
        tally.begins = True
        one = slice(place, place + 1)
        run = replace(piece, predictions=piece.predictions[one], labels=piece.labels[one], baseline=piece.baseline[one])
        yield from _aligned_run(pairing, run, index, tally)


def _aligned_run(pairing: Pairing, piece: Piece, index: LabelIndex | None, tally: _Tally) -> Iterator[Tables]:
    """Yield the batches of a piece of one run a side."""
    watch = tally.watch
    predictions = watch.each("decode", _read(pairing, "predictions", piece.predictions[0]))
    if index is not None:
        return (_look_up(pairing, table, index, tally) for table in predictions)
    if pairing.mode == "same":
        return ({"predictions": table, "labels": table} for table in predictions)
    with watch.during("keys"):
        told = _sides_told(pairing, piece)
    others = [side for side in pairing.sides if side != "predictions"]
    tables = [
        watch.each("decode", _read(pairing, side, _run_of(piece, side), leave_key=side in told)) for side in others
    ]
    sides: tuple[Side, ...] = ("predictions", *others)
    return (
        _by_position(pairing, dict(zip(sides, batch, strict=True)), told, tally)
        for batch in zip(predictions, *tables, strict=True)
    )


def _run_of(piece: Piece, side: Side) -> Run:
    runs = {"predictions": piece.predictions, "labels": piece.labels, "baseline": piece.baseline}
    return runs[side][0]


def _sides_told(pairing: Pairing, piece: Piece) -> frozenset[Side]:
    """The sides whose keys are known from how they are stored to be those of the predictions, which are read."""
    run = piece.predictions[0]
    if not pairing.key or run.rows < _FEWEST_ALIKE:
        return frozenset()
    return frozenset(
        side
        for side in pairing.sides
        if side != "predictions"
        and pairing.columns(side)  # a loss without labels needs none
        and set(pairing.key).isdisjoint(pairing.columns(side))
        and stored_alike((run.shard, _run_of(piece, side).shard), pairing.key, run.start, run.stop)
    )


def _read(pairing: Pairing, side: Side, run: Run, *, leave_key: bool = False) -> Iterator[pa.Table]:
    """Yield the rows of a run in batches, with all columns that pairing and scoring need, or only those of scoring."""
    rows, text = 0, pairing.text_columns(side)
    columns = pairing.columns(side) if leave_key else pairing.read_columns(side)
    columns = columns or tuple(pairing.side(side).schema.names[:1])  # which tells how many rows there are
    for table in pairing.side(side).read(run.shard, columns, run.start, run.stop, pairing.batch_rows, text):
        start = run.start + rows
        rows += table.num_rows
        if PLACE in pairing.kept_columns(side):
            places = (run.number << 40) + np.arange(start, start + table.num_rows)
            table = table.append_column(PLACE, pa.array(places))  # noqa: PLW2901
        yield table
    if rows != run.rows:
        expected = f"{run.rows} rows from row {run.start}"
        raise ShardError(run.shard.path, f"{rows} rows were read where its footer promises {expected}")


def _look_up(pairing: Pairing, predictions: pa.Table, index: LabelIndex, tally: _Tally) -> Tables:
    with tally.watch.during("align"):
        return _looked_up(pairing, predictions, index, tally)


def _looked_up(pairing: Pairing, predictions: pa.Table, index: LabelIndex, tally: _Tally) -> Tables:
    found = index.match([predictions[name] for name in pairing.key])
    tally.unaligned["predictions"].update(found.unaligned)
    if tally.seen is not None:
        tally.seen.add(found.places)
    kept = predictions if found.aligned is None else predictions.filter(pa.array(found.aligned))
    return {"predictions": kept, "labels": found.labels}


def _by_position(pairing: Pairing, tables: Tables, told: frozenset[Side], tally: _Tally) -> Tables:
    with tally.watch.during("keys"):
        return _paired(pairing, tables, told, tally)


def _paired(pairing: Pairing, tables: Tables, told: frozenset[Side], tally: _Tally) -> Tables:
    """Note whether batches hold the same keys in ascending order, which proves that no key occurs twice."""
    if not pairing.key:
        return tables
    columns = [[table[name] for name in pairing.key] for side, table in tables.items() if side not in told]
    values = [found for own in columns if (found := ordered_values(own)) is not None]
    if len(values) == len(columns):
        tally.holds = tally.holds and all(np.array_equal(values[0], others) for others in values[1:])
        _follow(values[0], tally)
        return tables
    keys, *rest = [read_keys(own) for own in columns]
    tally.holds = tally.holds and all(keys.same(others) for others in rest)
    _follow(keys.high.view(np.int64)[~keys.null], tally)
    if not keys.null.any():
        return tables
    for side in SIDES:
        tally.unaligned[side]["null_key"] += int(np.count_nonzero(keys.null))
    known = pa.array(~keys.null)
    return {side: table.filter(known) for side, table in tables.items()}


def _follow(values: npt.NDArray[np.int64], tally: _Tally) -> None:
    """Note whether keys are ascending and distinct, also after those of the run before them."""
    if not len(values):
        return
    first, last = int(values[0]), int(values[-1])
    before = None if tally.begins else tally.keys.pop()
    tally.holds = tally.holds and (before is None or first > before.last) and strictly_increasing(values)
    tally.keys.append(KeyRange(first if before is None else before.first, last))
    tally.begins = False


@dataclass(frozen=True)
class _Half:
    """The rows of one side of a closed join: every row of their keys on this side is here.

    Args:
        rows: keys, and what chooses among rows of one key.
        table: the needed columns of those rows.
        counted: rows that are accounted for, with those of a null key.
        nulls: of them those with a null key, which are not in ``rows``.
    """

    rows: Rows
    table: pa.Table
    counted: int
    nulls: int


def _score_closed(pairing: Pairing, piece: Piece, begun: float) -> Outcome:
    watch = Stopwatch()
    halves = {side: _half(pairing, side, piece, watch) for side in SIDES}
    state, unaligned = _score_halves(pairing, halves, watch)
    hashes = None
    if pairing.mode == "shard":
        with watch.during("align"):
            hashes = distinct(np.concatenate([half.rows.keys.hashes() for half in halves.values()]))
    counted = {side: half.counted for side, half in halves.items()}
    seconds = time.perf_counter() - begun
    return Outcome(state, counted, unaligned, seconds, hashes=hashes, stages=watch.seconds)


def _half(pairing: Pairing, side: Side, piece: Piece, watch: Stopwatch) -> _Half:
    runs = piece.predictions if side == "predictions" else piece.labels
    columns = list(pairing.kept_columns(side))
    parts, tables, nulls = [], [], 0
    for run in runs:
        for table in watch.each("decode", _read(pairing, side, run)):
            rows = _rows(pairing, side, table)
            inside, lost = _inside(rows.keys, piece, run)
            nulls += lost
            parts.append(rows if inside is None else rows.take(inside))
            kept = table.select(columns)
            tables.append(kept if inside is None else kept.take(pa.array(inside)))
    if not parts:
        parts = [_rows(pairing, side, pairing.side(side).schema.empty_table())]
        tables = [pairing.kept_schema(side).empty_table()]
    rows = Rows.concatenate(parts)
    table = pa.concat_tables(tables, promote_options="permissive")
    return _Half(rows, table, len(rows.keys) + nulls, nulls)


def _rows(pairing: Pairing, side: Side, table: pa.Table) -> Rows:
    keys = read_keys([table[name] for name in pairing.key])
    order = read_order(table[pairing.order[side]]) if side in pairing.order else None
    return Rows.of(keys, order)


def _inside(keys: Keys, piece: Piece, run: Run) -> tuple[npt.NDArray[np.int64] | None, int]:
    """Return which rows belong to a piece (None: all), and how many null keys are counted with them."""
    mask = ~keys.null
    nulls = int(np.count_nonzero(keys.null)) if run.owns_nulls else 0
    values = keys.high.view(np.int64)
    if piece.low is not None:
        mask &= values >= piece.low
    if piece.high is not None:
        mask &= values < piece.high
    return (None if mask.all() else np.flatnonzero(mask)), nulls


def _score_halves(
    pairing: Pairing, halves: Mapping[Side, _Half], watch: Stopwatch
) -> tuple[State, dict[Side, dict[str, int]]]:
    predictions, labels = halves["predictions"], halves["labels"]
    with watch.during("align"):
        joined = join(predictions.rows, labels.rows, pairing.rule)
    rows: dict[Side, npt.NDArray[np.int64]] = {"predictions": joined.prediction_rows, "labels": joined.label_rows}
    if "baseline" in halves:
        other = join(predictions.rows, halves["baseline"].rows, pairing.rule)
        both = np.intersect1d(joined.prediction_rows, other.prediction_rows, assume_unique=True, return_indices=True)
        rows = {"predictions": both[0], "labels": joined.label_rows[both[1]], "baseline": other.label_rows[both[2]]}

    def batches() -> Iterator[Tables]:
        for start in range(0, len(rows["predictions"]), pairing.batch_rows):
            part = slice(start, start + pairing.batch_rows)
            yield {side: halves[side].table.take(pa.array(found[part])) for side, found in rows.items()}

    state = _scored(pairing, watch.each("align", batches()), watch)
    unaligned = {side: {**joined.unaligned.get(side, {}), "null_key": half.nulls} for side, half in halves.items()}
    return state, unaligned


def warm_up() -> None:
    """Do what the first rows of a process would wait for: Numba looks at the machine, Arrow for pandas."""
    strictly_increasing(pa.array([0, 1]).to_numpy(zero_copy_only=False))


def index_labels(pairing: Pairing, runs: Sequence[Run]) -> LabelIndex:
    """Read all labels into memory, found by key.

    Args:
        pairing: what is needed of them.
        runs: all of their rows.
    """
    keep_freed_memory()
    return build_index(
        [(run.rows, partial(_read, pairing, "labels", run)) for run in runs],
        pairing.key,
        pairing.columns("labels"),
        pairing.labels.schema,
        pairing.text_columns("labels"),
        pairing.rule,
        pairing.order.get("labels"),
        pairing.budget.threads,
        key_bounds(runs),
    )


def spill_run(pairing: Pairing, side: Side, run: Run, location: str, buckets: int) -> Spilled:
    """Write the rows of a run to a file by bucket, unless a whole file of them is already there.

    Args:
        pairing: what is needed of them.
        side: whose run it is.
        run: which rows.
        location: path or URL of the file, named by what is in it.
        buckets: number of them.
    """
    keep_freed_memory()
    begun = time.perf_counter()
    storage, path = open_storage(location)
    found = _left_behind(storage, path) or write_spill(
        storage,
        path,
        _read(pairing, side, run),
        pairing.key,
        pairing.kept_columns(side),
        pairing.order.get(side),
        pairing.rule,
        buckets,
    )
    return Spilled(found.rows, found.nulls, found.checksum, time.perf_counter() - begun)


def score_bucket(pairing: Pairing, bucket: Bucket, locations: Mapping[Side, Sequence[str]]) -> Outcome:
    """Join and score the rows of both sides in one bucket.

    A bucket that is too large for memory is taken in several parts, each of which reads it again.

    Args:
        pairing: what is computed from which columns.
        bucket: which rows.
        locations: for each side the files that `spill_run` wrote.
    """
    keep_freed_memory()
    begun, watch = time.perf_counter(), Stopwatch()
    files = {side: [_opened(location) for location in locations[side]] for side in pairing.sides}
    size = sum(file.size_of(bucket.number) for found in files.values() for file in found)
    parts = max(-(-size // (2 * pairing.budget.piece)), 1)
    total = Total(len(pairing.slices))
    counted, checksums = dict.fromkeys(pairing.sides, 0), dict.fromkeys(pairing.sides, 0)
    unaligned: dict[Side, Counter[str]] = {side: Counter() for side in pairing.sides}
    for part in range(parts):
        with watch.during("align"):
            halves = {side: _from_files(pairing, side, files[side], bucket, part, parts) for side in pairing.sides}
        found, reasons = _score_halves(pairing, halves, watch)
        total.add(found)
        for side, half in halves.items():
            counted[side] += half.counted
            checksums[side] = (checksums[side] + half.rows.checksum) % 2**64
            unaligned[side].update(reasons[side])
    seconds = time.perf_counter() - begun
    return Outcome(total.state(), counted, unaligned, seconds, checksums=checksums, stages=watch.seconds)


def _left_behind(storage: fs.FileSystem, path: str) -> SpillFile | None:
    """Return a whole file that an earlier attempt wrote."""
    try:
        return open_spill(storage, path)
    except OSError:
        return None


def _opened(location: str) -> SpillFile:
    storage, path = open_storage(location)
    try:
        found = open_spill(storage, path)
    except OSError as error:
        raise RunError(f"spill: could not open {path}: {one_line(error)}; run again") from error
    if found is None:
        raise RunError(f"spill: {path} is damaged; run again")
    return found


def _from_files(
    pairing: Pairing, side: Side, files: Sequence[SpillFile], bucket: Bucket, part: int, parts: int
) -> _Half:
    rows, table = read_bucket(files, bucket.number, part, parts, pairing.kept_schema(side))
    return _Half(rows, table, int(rows.counts.sum()), 0)
