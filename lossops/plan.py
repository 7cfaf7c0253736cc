"""Config and datasets to a plan: what is read from where, how rows are paired, in which pieces."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from lossops.config import RunConfig
from lossops.data.align import Rule
from lossops.data.dataset import Dataset, Shard, open_dataset
from lossops.data.keys import check_key_types, check_order_type
from lossops.errors import InputChanged, InputError, ShardError
from lossops.losses import BoundLoss
from lossops.memory import default_limit, keep_freed_memory
from lossops.modes import check_positions, chosen
from lossops.pairing import IN_ORDER, Budget, Pairing
from lossops.report import check_output
from lossops.slices import OVERALL
from lossops.tasks import (
    SIDES,
    Comparison,
    Side,
    Task,
    check_axis,
    check_number,
    check_unit,
    locate,
    make_comparisons,
    make_task,
)

__all__ = ["Plan", "check_pins", "make_plan", "planned_within"]

_UNKNOWN_THREADS = 8  # of each worker of a cluster that is not asked before the run


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before the first row is scored.

    Args:
        config: of the run.
        pairings: of every dataset of predictions with the labels.
        across: of models with the baseline, where its predictions are in another dataset.
        seconds: that planning took.
        labels: as they were opened.
        models: the predictions of each model, as they were opened.
    """

    config: RunConfig
    pairings: tuple[Pairing, ...]
    across: tuple[Pairing, ...]
    seconds: float
    labels: Dataset
    models: Mapping[str, Dataset]

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Every comparison with the baseline."""
        return tuple(one for pairing in (*self.pairings, *self.across) for one in pairing.comparisons)

    @property
    def datasets(self) -> list[Dataset]:
        """Every dataset once."""
        found = (dataset for pairing in self.pairings for dataset in (pairing.predictions, pairing.labels))
        return list({id(one): one for one in found}.values())

    @property
    def budget(self) -> Budget:
        """What a worker process may hold."""
        return self.pairings[0].budget

    @property
    def partitions(self) -> int:
        """Number of pieces of work."""
        return sum(pairing.partitions for pairing in self.pairings)

    @property
    def shards(self) -> int:
        """Number of prediction shards."""
        return sum(len(pairing.predictions.shards) for pairing in self.pairings)

    @property
    def rows(self) -> int:
        """Number of prediction rows."""
        return sum(pairing.predictions.rows for pairing in self.pairings)


def make_plan(config: RunConfig, quarantined: Mapping[str, str] | None = None, budget: Budget | None = None) -> Plan:
    """Open the datasets of a config, check that it fits them, and decide how rows are paired.

    Args:
        config: of the run.
        quarantined: shards that turned out to be damaged, and why; they are left out where ``on_bad_shard`` allows it.
        budget: what a worker process may hold; from the config and this machine if left out.

    Raises:
        InputError: a path, column or type does not fit; the message names it and what is allowed.
    """
    begun = time.perf_counter()
    keep_freed_memory()
    config = config.dated(datetime.now(UTC))
    budget = budget or _budget(config)
    check_output(config.output)
    labels = _open(config, "labels.path", config.labels.path, quarantined or {})
    models = {
        name: _open(config, f"models.{name}.path", model.path, quarantined or {})
        for name, model in config.models.items()
    }
    return _planned(config, budget, labels, models, begun)


def planned_within(plan: Plan, budget: Budget) -> Plan:
    """Plan the same run of the same files for other workers, which may take another way of pairing.

    Args:
        plan: of the run.
        budget: what a worker process may hold.

    Raises:
        InputError: as `make_plan`, of what depends on the budget.
    """
    return _planned(plan.config, budget, plan.labels, plan.models, time.perf_counter() - plan.seconds)


def _planned(config: RunConfig, budget: Budget, labels: Dataset, models: Mapping[str, Dataset], begun: float) -> Plan:
    opened: dict[tuple[str, ...], Dataset] = {}
    names: dict[tuple[str, ...], list[str]] = {}
    for name, dataset in models.items():
        opened.setdefault(dataset.paths, dataset)
        names.setdefault(dataset.paths, []).append(name)
    pairings = tuple(_pair(config, budget, labels, opened[paths], names[paths]) for paths in opened)
    return Plan(config, pairings, tuple(_across(config, pairings)), time.perf_counter() - begun, labels, models)


def _across(config: RunConfig, pairings: Sequence[Pairing]) -> Iterator[Pairing]:
    """Yield a pairing of three for every dataset of models whose baseline is in another one."""
    for theirs in pairings:
        baseline = [task for task in theirs.tasks if task.model == config.baseline]
        for mine in pairings if baseline else ():
            if mine is not theirs:
                yield _beside(config, mine, theirs, baseline)


def _beside(config: RunConfig, mine: Pairing, theirs: Pairing, baseline: Sequence[Task]) -> Pairing:
    both = (*mine.tasks, *(replace(task, side="baseline") for task in baseline))
    tasks = tuple(task for task in both if isinstance(task.loss, BoundLoss))
    for column in config.key or ():
        found = [(side.location, side.type_of(column, "key")) for side in (mine.predictions, theirs.predictions)]
        check_key_types(column, found[0], found[1])
    if not config.key:
        check_positions(mine.predictions, mine.labels)
        check_positions(mine.predictions, theirs.predictions)
    sides: dict[Side, Dataset] = {
        "labels": mine.labels,
        "predictions": mine.predictions,
        "baseline": theirs.predictions,
    }
    order: dict[Side, str] = dict(mine.order)
    if "predictions" in theirs.order:
        order["baseline"] = theirs.order["predictions"]
    return replace(
        mine,
        mode="position" if not config.key or {mine.mode, theirs.mode} <= IN_ORDER else "spill",
        why=(),
        order=order,
        tasks=tasks,
        comparisons=make_comparisons(tasks, config.baseline),
        has_histograms=False,
        hardest=0,
        calibration_bins=0,
        searched={},
        baseline=theirs.predictions,
        recipe=_recipe(config, tasks, sides),
    )


def _open(config: RunConfig, key: str, locations: Sequence[str], quarantined: Mapping[str, str]) -> Dataset:
    try:
        return open_dataset(locations, tolerate=config.on_bad_shard == "quarantine", quarantined=quarantined)
    except (ShardError, InputChanged):  # which name a file
        raise
    except InputError as error:
        raise InputError(f"{key}: {error}") from error


def _pair(config: RunConfig, budget: Budget, labels: Dataset, predictions: Dataset, models: Sequence[str]) -> Pairing:
    same = labels.paths == predictions.paths
    key = tuple(config.key or ())
    if same and config.duplicates != "drop":
        where = f"predictions and labels are both {labels.location} and nothing is joined"
        raise InputError(f"duplicates: {config.duplicates}, but {where}; allowed: leave it out")
    if not same and not key and (labels.quarantined or predictions.quarantined):
        labels, predictions = _without_partners(labels, predictions)
    sides: dict[Side, Dataset] = {"labels": labels, "predictions": predictions}
    slices = (OVERALL, *config.chosen_slices)
    axes = {axis: locate(axis.column, "slices", sides, config, same=same) for one in slices for axis in one.axes}
    for axis, source in axes.items():
        check_axis(axis, sides[source.side], source)
    columns = config.discover.axes if config.discover else ()
    searched = {axis: locate(axis.column, "discover.columns", sides, config, same=same) for axis in columns}
    for axis, source in searched.items():
        check_axis(axis, sides[source.side], source, "discover.columns")
    weight = None if config.weight is None else locate(config.weight, "weight", sides, config, same=same)
    if weight is not None:
        check_number(sides[weight.side], weight.column, "weight")
    unit = None if config.unit is None else locate(config.unit, "unit", sides, config, same=same)
    if unit is not None:
        check_unit(sides[unit.side], unit.column)
    for column in () if same else key:
        found = [(side.location, side.type_of(column, "key")) for side in (predictions, labels)]
        check_key_types(column, found[0], found[1])
    order = {} if same else _order(config, sides)
    tasks = tuple(
        make_task(config, model, one, bound, sides)
        for model in models
        for one, bound in zip(config.losses, config.bound_losses, strict=True)
    )
    rule: Rule = "drop" if config.duplicates == "fail" else config.duplicates
    pairing = Pairing(
        predictions,
        labels,
        "same" if same else "position",
        (),
        key,
        rule,
        order,
        tasks,
        make_comparisons(tasks, config.baseline),
        weight,
        unit,
        config.unit_buckets,
        axes,
        slices,
        bool(config.quantiles),
        config.hardest,
        config.calibration,
        searched,
        budget,
        _recipe(config, tasks, sides),
    )
    return pairing if same else chosen(pairing, {})


def _without_partners(labels: Dataset, predictions: Dataset) -> tuple[Dataset, Dataset]:
    """Without a key shards pair by their place, so a shard in quarantine takes its partner with it."""
    places = {one.place for dataset in (labels, predictions) for one in dataset.quarantined}
    return labels.without(places, "its partner is in quarantine"), predictions.without(
        places, "its partner is in quarantine"
    )


def _order(config: RunConfig, sides: Mapping[Side, Dataset]) -> dict[Side, str]:
    """Return for each side the column that chooses among rows of one key."""
    found: dict[Side, str] = {}
    for name in config.order_by or ():
        prefix, dot, column = name.partition(".")
        literal = any(name in dataset.schema.names for dataset in sides.values())
        wanted = [side for side in SIDES if dot and prefix == side and not literal] or list(SIDES)
        column = column if len(wanted) == 1 else name
        having = [side for side in wanted if column in sides[side].schema.names]
        if not having:
            locate(name, "order_by", sides, config, same=False)
        for side in having:
            if side in found:
                raise InputError(
                    f"order_by: {found[side]!r} and {column!r} are both of the {side}; allowed: one a side"
                )
            check_order_type(column, sides[side].location, sides[side].type_of(column, "order_by"))
            found[side] = column
    return found


def _budget(config: RunConfig) -> Budget:
    cluster = config.cluster
    limit = config.memory_bytes or default_limit()
    if cluster is None:
        return Budget(limit, len(os.sched_getaffinity(0)))
    if cluster.address is not None:
        return Budget(limit, _UNKNOWN_THREADS)
    if cluster.workers is None:
        return Budget(limit, cluster.threads or len(os.sched_getaffinity(0)))
    return Budget(limit // cluster.workers, cluster.threads or 1)


def _recipe(config: RunConfig, tasks: Sequence[Task], sides: Mapping[Side, Dataset]) -> str:
    """Return as text all that decides what is computed of a row: losses, columns, types, slices."""
    chosen = {
        "key",
        "duplicates",
        "order_by",
        "weight",
        "unit",
        "unit_buckets",
        "hardest",
        "calibration",
        "losses",
        "slices",
        "convention",
        "baseline",
    }
    settings = config.model_dump(mode="json", include=chosen)
    settings["histograms"] = bool(config.quantiles)
    settings["losses"] = [loss.model_dump(mode="json") for loss in config.losses]
    columns = ("labels", "predictions", "label_width", "prediction_width", "classes", "denominator", "fields", "side")
    settings["tasks"] = [[*task.cell, *(getattr(task, name) for name in columns)] for task in tasks]
    settings["schemas"] = {side: str(dataset.schema.remove_metadata()) for side, dataset in sides.items()}
    return json.dumps(settings, sort_keys=True)


def check_pins(before: Plan, after: Plan) -> None:
    """Check that a plan made again, after a shard went to quarantine, rests on the same files.

    Raises:
        InputChanged: a shard changed in between.
    """
    old, new = ({shard.path: shard.pinned for shard in _all_shards(plan)} for plan in (before, after))
    for path, pinned in new.items():
        if old.get(path, pinned) != pinned:
            raise InputChanged(path, "it was replaced during the run")


def _all_shards(plan: Plan) -> Iterator[Shard]:
    return (shard for pairing in plan.pairings for side in SIDES for shard in pairing.side(side).shards)
