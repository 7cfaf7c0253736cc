"""How rows are paired: the cheapest way that is legal, chosen from facts.

The facts are shards, types and ranges of keys, memory. A run verifies what the choice rests on; where that does not
hold, `replanned` chooses again without that way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from lossops.data.dataset import Dataset, logical_type
from lossops.data.keys import Keys, could_be_equal, is_ordered, read_keys
from lossops.errors import InputError, counted
from lossops.kernels.dense import distinct
from lossops.memory import shown_size
from lossops.pairing import Mode, Pairing
from lossops.tasks import SIDES, Side

__all__ = ["bounded", "check_positions", "chosen", "replanned"]

_SNIFFED_ROWS = 1 << 16
_SAMPLE = 1 << 14
_Found = TypeVar("_Found")


def replanned(pairing: Pairing, failed: Mode, why: str) -> Pairing:
    """Return the next cheapest way to pair rows, after one turned out not to hold.

    Args:
        pairing: as planned so far.
        failed: its mode.
        why: what did not hold.
    """
    if pairing.baseline is not None:
        return replace(pairing, mode="spill", why=(f"{failed} was tried: {why}",))
    return chosen(pairing, {failed: why})


def chosen(pairing: Pairing, failed: Mapping[Mode, str]) -> Pairing:
    """Choose the cheapest mode that is legal, in the order of their cost, after those that failed.

    Args:
        pairing: whose mode is open.
        failed: modes that turned out not to hold, and why.
    """
    modes: tuple[Mode, ...] = (*_OBSTACLES, "spill")
    tried = [f"{mode} was tried: {why}" for mode, why in failed.items()]
    start = max((modes.index(mode) + 1 for mode in failed), default=0)
    if not pairing.key:
        check_positions(pairing.predictions, pairing.labels)
        return replace(pairing, mode="position", why=tuple(_doubts(pairing)))
    facts = [*(why for why in pairing.why if failed), *tried]
    for mode in modes[start:]:
        pairing = bounded(pairing) if mode == "merge" else pairing
        obstacle = _OBSTACLES[mode](pairing) if mode in _OBSTACLES else None
        if obstacle is None:
            pairing = _bounded_labels(pairing) if mode == "broadcast" else pairing
            return replace(pairing, mode=mode, why=tuple(facts))
        facts.append(f"not {mode}: {obstacle}")
    raise AssertionError("a spill join is always legal")


def _no_position(pairing: Pairing) -> str | None:
    here, there = ([shard.rows for shard in side.shards] for side in (pairing.predictions, pairing.labels))
    if here != there:
        return "the shards do not have the same numbers of rows"
    kinds = [logical_type(side.schema.field(pairing.key[0]).type) for side in (pairing.predictions, pairing.labels)]
    if len(pairing.key) > 1 or not all(is_ordered([kind]) for kind in kinds):
        return "only a single signed integer key proves by its order that no key occurs twice"
    return None if _first_keys_agree(pairing) else "the keys of the first rows differ"


def _no_shard(pairing: Pairing) -> str | None:
    left, right = pairing.predictions.shards, pairing.labels.shards
    if len(left) != len(right) or len(left) < 2:
        return f"there are {len(left)} and {len(right)} shards; equally many, at least 2, could pair"
    hashes = 24 * (pairing.predictions.rows + pairing.labels.rows)
    if hashes > pairing.budget.memory // 2:
        return "the keys are too many to prove in memory that none occurs in two shards"
    sizes = (
        one.rows * pairing.row_bytes("predictions") + other.rows * pairing.row_bytes("labels")
        for one, other in zip(left, right, strict=True)
    )
    if max(sizes) > 2 * pairing.budget.piece:
        return "a pair of shards does not fit in memory"
    return None if _shards_share_keys(pairing) else "shards at the same place do not hold the same keys"


def _no_broadcast(pairing: Pairing) -> str | None:
    size, limit = pairing.side_bytes("labels"), pairing.budget.index
    return None if size <= limit else f"the labels take about {shown_size(size)} of {shown_size(limit)} for them"


def bounded(pairing: Pairing) -> Pairing:
    """Return a pairing whose row groups know the ranges of their keys, if there is a single key column."""
    if len(pairing.key) > 1:
        return pairing
    labels, predictions = (side.bounded(pairing.key[0]) for side in (pairing.labels, pairing.predictions))
    return replace(pairing, labels=labels, predictions=predictions)


def _bounded_labels(pairing: Pairing) -> Pairing:
    """Return a pairing whose labels can lie in memory where their keys say, if ranges cost little to know."""
    if len(pairing.key) > 1 or "labels" in pairing.order or not pairing.labels.is_local:
        return pairing
    return replace(pairing, labels=pairing.labels.bounded(pairing.key[0]))


def _no_merge(pairing: Pairing) -> str | None:
    found = replace(pairing, mode="merge").pieces
    return None if found else "the row groups give no ranges of the key, or these overlap too much"


# Cheapest first: what stands in the way, or None. A spill join is legal whatever the data.
_OBSTACLES: dict[Mode, Callable[[Pairing], str | None]] = {
    "position": _no_position,
    "shard": _no_shard,
    "broadcast": _no_broadcast,
    "merge": _no_merge,
}


def check_positions(predictions: Dataset, labels: Dataset) -> None:
    """Check that rows can pair by position.

    Raises:
        InputError: shards differ in number or rows.
    """
    here, there = ([shard.rows for shard in dataset.shards] for dataset in (predictions, labels))
    if len(here) != len(there):
        found = f"{predictions.location} has {counted(len(here), 'shard')}, {labels.location} has {len(there)}"
        raise InputError(
            f"key: without a key rows pair by shard and position, but {found}; allowed: set key, or equal shards"
        )
    for number, (rows, others) in enumerate(zip(here, there, strict=True)):
        if rows != others:
            found = f"{predictions.shards[number].path} has {rows} rows, {labels.shards[number].path} has {others}"
            raise InputError(
                f"key: without a key rows pair by shard and position, but {found}; allowed: set key, or equal shards"
            )


def _first_keys_agree(pairing: Pairing) -> bool:
    """Whether the first rows pair by position; only a guess at the cheapest plan, the run compares every key."""
    number = _first_with_rows(pairing.labels)
    return number is None or _agree(pairing, number, pairing.key)


def _doubts(pairing: Pairing) -> Iterator[str]:
    """Say what speaks against pairing rows by position, where there is no key: a forgotten one looks like that."""
    number, (mine, theirs) = _first_with_rows(pairing.labels), (pairing.predictions.schema, pairing.labels.schema)
    scored = {name for task in pairing.tasks for name in (*task.labels, *task.predictions)}
    shared = [name for name in mine.names if name in theirs.names and name not in scored]
    differ = [
        name
        for name in shared
        if number is not None
        and could_be_equal(mine.field(name).type, theirs.field(name).type)
        and not _agree(pairing, number, [name])
    ]
    if differ and number is not None:
        columns, where = ", ".join(map(repr, differ)), pairing.predictions.shards[number].path
        yield (
            f"rows pair by position, but {columns}, which both sides have, differs in the first rows of {where} and of "
            "the labels beside it; where that tells which rows belong together, set key"
        )


def _first_with_rows(dataset: Dataset) -> int | None:
    return next((number for number, shard in enumerate(dataset.shards) if shard.rows), None)


def _agree(pairing: Pairing, number: int, key: Sequence[str]) -> bool:
    """Whether the first rows of the shards at a place have the same keys."""
    first, second = _of_both_sides(lambda side: _sniffed(pairing.side(side), number, key))
    return first.same(second)


def _shards_share_keys(pairing: Pairing) -> bool:
    """Whether half of the keys of some pair of shards have a partner there; the run verifies all of them."""
    sizes = [
        (left.rows + right.rows, number)
        for number, (left, right) in enumerate(zip(pairing.predictions.shards, pairing.labels.shards, strict=True))
        if left.rows and right.rows
    ]
    if not sizes:
        return False
    _, number = min(sizes)
    rows = min(pairing.side(side).shards[number].rows for side in SIDES)
    few, fewer = _of_both_sides(lambda side: _sampled(pairing.side(side), number, pairing.key, rows))
    return len(np.intersect1d(few, fewer, assume_unique=True)) * 2 >= min(len(few), len(fewer))


def _sampled(dataset: Dataset, number: int, key: Sequence[str], rows: int) -> npt.NDArray[np.uint64]:
    """Return the different hashes of a shard's keys below a bound, which of this many rows some ten thousand are."""
    shard, bound = dataset.shards[number], np.uint64((2**64 - 1) // max(rows // _SAMPLE, 1))
    tables = dataset.read(shard, list(key), 0, shard.rows, _SNIFFED_ROWS)
    hashes = (read_keys([table[column] for column in key]).hashes() for table in tables)
    return distinct(np.concatenate([own[own <= bound] for own in hashes]))


def _sniffed(dataset: Dataset, number: int, key: Sequence[str]) -> Keys:
    shard = dataset.shards[number]
    stop = min(shard.rows, _SNIFFED_ROWS)
    tables = dataset.read(shard, list(key), 0, stop, max(stop, 1))
    return Keys.concatenate([read_keys([table[column] for column in key]) for table in tables])


def _of_both_sides(look: Callable[[Side], _Found]) -> Iterator[_Found]:
    """Look at both sides at a time."""
    with ThreadPoolExecutor(len(SIDES)) as threads:
        return threads.map(look, SIDES)
