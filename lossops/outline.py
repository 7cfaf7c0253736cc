"""A plan in words."""

from __future__ import annotations

from lossops.config import DiscoverConfig, GateConfig
from lossops.data.dataset import Dataset
from lossops.errors import counted
from lossops.memory import shown_size
from lossops.pairing import Pairing
from lossops.plan import Plan
from lossops.tasks import Side, Task

__all__ = ["describe"]


def describe(plan: Plan) -> list[tuple[str, str]]:
    """Return what `lossops check` prints: (heading, text)."""
    labels = plan.pairings[0].labels
    lines = [("labels", _describe_dataset(labels))]
    for pairing in plan.pairings:
        models = ", ".join(dict.fromkeys(task.model for task in pairing.tasks))
        lines.append((models, _describe_dataset(pairing.predictions)))
        lines.append(("alignment", _describe_mode(pairing)))
        lines += [("", why) for why in pairing.why]
        lines.append(("cost", _describe_cost(pairing)))
    for pairing in plan.across:
        models = ", ".join(dict.fromkeys(one.task.model for one in pairing.comparisons))
        lines.append(("comparison", f"{models} with {plan.config.baseline}, {_describe_mode(pairing)}"))
        lines.append(("cost", _describe_cost(pairing)))
    tasks = [task for pairing in plan.pairings for task in pairing.tasks]
    several = len({task.model for task in tasks}) > 1
    lines += [(f"{task.model}, {task.name}" if several else task.name, _describe_task(task)) for task in tasks]
    lines.append(("slices", ", ".join(" x ".join(one.columns) or "overall" for one in plan.pairings[0].slices)))
    if plan.config.discover is not None:
        lines.append(("discover", _describe_search(plan.config.discover)))
    lines += [("gate", _describe_gate(gate)) for gate in plan.config.gates]
    lines.append(("work", f"{counted(plan.partitions, 'partition')}"))
    return lines


def _describe_dataset(dataset: Dataset) -> str:
    text = f"{dataset.location}: {dataset.rows:,} rows in {counted(len(dataset.shards), 'shard')}"
    bad = dataset.quarantined
    return text + (f"; {len(bad)} in quarantine, such as {bad[0].path}: {bad[0].problem}" if bad else "")


def _describe_mode(pairing: Pairing) -> str:
    key = ", ".join(pairing.key)
    if pairing.mode == "same":
        return "same: predictions and labels are the same dataset, nothing is joined"
    if not key:
        return "position: by shard and row, which nothing can verify without a key"
    told = {
        "position": f"position: by shard and row, {key} compared row by row; if one differs, rows are joined",
        "shard": f"shard: shard i is joined with shard i by {key}, and no key may occur in two of them",
        "broadcast": f"broadcast: by {key}, with all labels in memory",
        "merge": f"merge: by ranges of {key} that Parquet statistics give, verified by counting rows",
        "spill": f"spill: by {key} in two passes through {counted(pairing.buckets, 'bucket')} on disk",
    }
    return told[pairing.mode]


def _describe_cost(pairing: Pairing) -> str:
    sides: tuple[Side, ...] = ("predictions",) if pairing.mode == "same" else pairing.sides
    read = sum(shard.file.size for side in sides for shard in pairing.side(side).shards)
    text = f"reads at most {shown_size(read)}"
    if pairing.mode == "spill":
        spilled = sum(pairing.side_bytes(side) for side in pairing.sides)
        text += f", spills about {shown_size(spilled)}"
    if pairing.mode == "broadcast":
        text += f", holds about {shown_size(pairing.side_bytes('labels'))} of labels"
    elif pairing.mode in ("shard", "merge", "spill"):
        text += f", holds about {shown_size(2 * pairing.budget.piece * pairing.budget.threads)}"
    return f"{text}; memory {shown_size(pairing.budget.memory)}"


def _describe_search(config: DiscoverConfig) -> str:
    depth = min(config.depth, len(config.columns))
    passes = depth + config.held_out
    columns = ", ".join(dict.fromkeys(axis.column for axis in config.axes))
    words = f"conjunctions of up to {counted(depth, 'condition')} on {columns}"
    return f"{words}, in {passes} more pass{'es' * (passes > 1)} over the data at least"


def _describe_gate(gate: GateConfig) -> str:
    name = f"{gate.name}: " if gate.name else ""
    slices = ", ".join(one if isinstance(one, str) else " x ".join(one) for one in gate.slices)
    doubt = [f"insufficient below {gate.min_rows} rows"] if gate.min_rows else []
    doubt += ["fails where insufficient"] if gate.on_insufficient == "fail" else []
    return "; ".join([f"{name}{gate.rule}" + ("" if gate.share else f" in {slices}"), *doubt])


def _describe_task(task: Task) -> str:
    columns = " ".join(task.predictions) + (f" against {' '.join(task.labels)}" if task.labels else "")
    width = f", {task.prediction_width} values a row" if task.prediction_width > 1 else ""
    return f"{task.loss.name}: {columns}{width}"
