"""A run: every pairing of a plan is scored, and damaged shards go to quarantine where that is allowed."""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain

from lossops.attempts import Attempt, Scored, ShardRecord, Workers
from lossops.checkpoint import Store, work_folder
from lossops.discovery import Discovered, discover
from lossops.errors import InputChanged, ShardError
from lossops.ledger import Entry
from lossops.pairing import IN_ORDER, Mode, Pairing
from lossops.plan import Plan, check_pins, make_plan
from lossops.progress import Log, Progress, Watch
from lossops.state import State, Total

__all__ = ["Scores", "score_with", "to_logger"]


@dataclass(frozen=True)
class Scores:
    """A finished run before anything is divided.

    Args:
        plan: how rows were paired in the end, and what went to quarantine.
        state: merged sums of all models.
        ledger: every row of every dataset.
        shards: what was read.
        reused: partitions whose state was stored by an earlier run.
        discovered: slices that were searched for, by model and loss as configured, the worst first.
        stages: seconds by stage, see `lossops.stages`.
    """

    plan: Plan
    state: State
    ledger: tuple[Entry, ...]
    shards: tuple[ShardRecord, ...]
    reused: int
    discovered: tuple[Discovered, ...]
    stages: Mapping[str, float]


def score_with(
    workers: Workers,
    plan: Plan,
    *,
    fresh: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    on_log: Log | None = None,
) -> Scores:
    """Score every row of a plan; the arguments and errors of `lossops.engine.score`."""
    log = on_log or to_logger
    store = Store(f"{work_folder(plan.config)}/states", fresh=fresh, log=log)
    quarantined: dict[str, str] = {}
    while True:
        try:
            return _score(workers, plan, store, Watch(plan, on_progress, log))
        except InputChanged:
            raise
        except ShardError as damage:
            if plan.config.on_bad_shard == "fail" or damage.shard in quarantined:
                raise
            log(logging.WARNING, f"in quarantine: {damage}")
            quarantined[damage.shard] = damage.problem
            plan, before = make_plan(plan.config, quarantined, plan.budget), plan
            check_pins(before, plan)


def _score(workers: Workers, plan: Plan, store: Store, watch: Watch) -> Scores:
    work, run_id = work_folder(plan.config), uuid.uuid4().hex
    done = [Attempt(workers, plan, number, watch, store, work, run_id).run() for number in range(len(plan.pairings))]
    total = Total(len(plan.pairings[0].slices))
    stages: Counter[str] = Counter({"listing": plan.seconds})
    modes = {one.pairing.predictions.paths: one.pairing.mode for one in done}
    pairings = []
    for one in chain(done, _compared(workers, _as_it_went(plan, modes), store, watch.log, work, run_id)):
        total.add(one.state)
        stages.update(one.stages)
        pairings.append(one.pairing)
    ended = replace(plan, pairings=tuple(pairings[: len(done)]), across=tuple(pairings[len(done) :]))
    ledger = tuple(entry for one in done for entry in one.ledger)
    shards = tuple(dict.fromkeys(record for one in done for record in one.shards))
    found = discover(workers, ended, store, watch.log, work, run_id)
    return Scores(ended, total.state(), ledger, shards, watch.reused, tuple(found), stages)


def _as_it_went(plan: Plan, modes: Mapping[tuple[str, ...], Mode]) -> Plan:
    """The same plan, where nothing that turned out to be in another order than its labels is compared by position."""

    def held(pairing: Pairing) -> bool:
        sides = (pairing.side(side) for side in pairing.sides if side != "labels")
        return not pairing.key or {modes[side.paths] for side in sides} <= IN_ORDER

    across = (one if held(one) else replace(one, mode="spill") for one in plan.across)
    return replace(plan, across=tuple(across))


def _compared(workers: Workers, plan: Plan, store: Store, log: Log, work: str, run_id: str) -> Iterator[Scored]:
    """Yield what came of comparing models with a baseline that is in another dataset."""
    across = replace(plan, pairings=plan.across)
    for number, pairing in enumerate(plan.across):
        models = ", ".join(dict.fromkeys(one.task.model for one in pairing.comparisons))
        log(logging.INFO, f"comparing {models} with {plan.config.baseline}, which is in another dataset")
        watch = Watch(across, None, lambda _level, _text: None)
        yield Attempt(workers, across, number, watch, store, work, run_id).run()


def to_logger(level: int, message: str) -> None:
    """Tell the logger of the package, where nobody else is to be told."""
    logging.getLogger("lossops").log(level, message)
