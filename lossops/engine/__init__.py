"""Where functions run: threads of this process, processes of this machine, or a cluster.

Small runs do not wait for Dask: it is imported by those that ask for workers.
"""

from __future__ import annotations

from collections.abc import Callable

from lossops.attempts import ShardRecord
from lossops.engine.threads import threads_of
from lossops.plan import Plan
from lossops.progress import Cluster, Log, Progress
from lossops.runs import Scores, score_with

__all__ = ["Cluster", "Progress", "Scores", "ShardRecord", "score"]


def score(
    plan: Plan,
    *,
    fresh: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    on_log: Log | None = None,
    on_cluster: Callable[[Cluster], None] | None = None,
) -> Scores:
    """Score every row of a plan.

    Args:
        plan: what to do.
        fresh: whether to ignore what earlier runs stored.
        on_progress: called after every piece.
        on_log: called with (level of `logging`, message) for every piece and decision.
        on_cluster: called once, if the run works on a cluster that was running before.

    Raises:
        InputError: a shard is damaged or changed, holds what the config forbids, or cannot be read by a worker.
        RunError: the cluster is out of reach, runs other versions, a worker keeps dying, or rows are unaccounted for.
    """
    cluster = plan.config.cluster
    if cluster is None or (cluster.address is None and cluster.workers is None):
        with threads_of(cluster) as threads:
            return score_with(threads, plan, fresh=fresh, on_progress=on_progress, on_log=on_log)
    from lossops.engine.cluster import score_on

    return score_on(cluster, plan, fresh=fresh, on_progress=on_progress, on_log=on_log, on_cluster=on_cluster)
