"""What happens to a scheduled run when a part of the topology fails: ``python -m tests.outages FOLDER`` prints a table.

Every trial triggers a run of the serving process, lets it score a random share of its shards, breaks something, does
what an operator or a container engine does then, and waits for the end. The report must have the bytes of an
undisturbed one.
"""

from __future__ import annotations

import operator
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import yaml
from distributed import Client, Security
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect.states import AwaitingRetry, Cancelling
from pyarrow import fs

from tests.datasets import cut, write_shards
from tests.topology import PASSWORDS, Topology

__all__ = ["Outages", "Trial", "trials"]

_SHARDS = 100
_ROWS = 100_000
_PATIENCE = 600.0
_SERVICES = ("postgres", "server", "scheduler", "worker", "worker-2", "serve")
_ENDED = {"Completed", "Failed", "Crashed", "Cancelled", "TimedOut"}
# Heartbeats as often as Prefect allows, so that a dead run is known for dead in minutes here.
_SERVE = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", "PREFECT_RUNNER_POLL_FREQUENCY": "1"}


@dataclass(frozen=True)
class Trial:
    """A fault and what came of it.

    Args:
        fault: in words.
        action: what was done about it, by whom.
        states: of the flow run, in order, from the fault on.
        seconds: that the run took longer than an undisturbed one.
        same: whether the report has the same bytes.
        dies: whether the process of the run dies with it, so that somebody has to retry the run.
    """

    fault: str
    action: str
    states: tuple[str, ...]
    seconds: float
    same: bool
    dies: bool

    def __str__(self) -> str:
        told = "same bytes" if self.same else "OTHER BYTES"
        return f"| {self.fault} | {self.action} | {', '.join(self.states)} | {self.seconds:.0f} | {told} |"


class Outages:
    """The topology with a run that takes some ten seconds, and ways to break it.

    Args:
        folder: of the topology.
        seed: of the moments.
    """

    def __init__(self, folder: Path, seed: int = 1) -> None:
        self._random = random.Random(seed)
        worker = ["dask", "worker", "tls://scheduler:8786", "--nworkers=1", "--nthreads=1", "--memory-limit=1GiB"]
        places = [
            "--local-directory=/var/lib/lossops/spill",
            "--dashboard-address=127.0.0.1:8790",
            "--death-timeout=60",
        ]
        commands = {name: [*worker, *places] for name in ("worker", "worker-2")}
        self.topology = Topology(
            folder, commands={**commands, "store": ["python", "-m", "tests.flaky_store", "8333"]}, extra=_SERVE
        )
        self.folder = folder
        self._undisturbed: tuple[float, bytes] | None = None
        self._write_config()

    def _write_config(self) -> None:
        address = f"tls://{self.topology.address('scheduler', 8786)}"
        config = {
            "name": "outage",
            "labels": {"path": "s3://inputs/outage/labels", "label": "y"},
            "models": {"m": {"path": "s3://inputs/outage/predictions", "prediction": "p"}},
            "key": "id",
            "losses": ["mean_squared_error", {"loss": "huber", "delta": 0.5}],
            "slices": ["kind"],
            "output": "s3://reports",
            "cluster": {"address": address},
        }
        (self.topology.configs / "outage.yaml").write_text(yaml.safe_dump(config))

    @contextmanager
    def running(self) -> Iterator[Outages]:
        """Start everything, put the data into the store and measure an undisturbed run."""
        own = {
            PREFECT_API_URL: f"http://{self.topology.address('server', 4200)}/api",
            PREFECT_API_AUTH_STRING: PASSWORDS["PREFECT_AUTH_STRING"],
        }
        with self.topology, temporary_settings(own), self._restarting():
            self._write_data()
            for _ in range(2):  # the first one compiles
                trial = self.trial("none", "none", lambda: None)
            assert trial.same
            yield self

    @contextmanager
    def _restarting(self) -> Iterator[None]:
        """Start what has ended, as the engine does."""
        ended = Event()

        def watch() -> None:
            while not ended.wait(1.0):
                for name in _SERVICES:
                    if self.topology.processes[name].code is not None:
                        self.topology.processes[name].start()

        engine = Thread(target=watch)
        engine.start()
        try:
            yield
        finally:
            ended.set()
            engine.join()

    @property
    def store(self) -> fs.S3FileSystem:
        """The object store."""
        return fs.S3FileSystem(
            endpoint_override=self.topology.address("store", 8333),
            scheme="http",
            region="us-east-1",
            access_key="lossops",
            secret_key=PASSWORDS["S3_SECRET_KEY"],
            retry_strategy=fs.AwsDefaultS3RetryStrategy(max_attempts=10),  # for when it refuses us, too
        )

    def _write_data(self) -> None:
        random = np.random.default_rng(3)
        table = pa.table({"id": np.arange(_ROWS), "y": random.normal(size=_ROWS), "kind": np.arange(_ROWS) % 7})
        predictions = pa.table({"id": table["id"], "p": random.normal(size=_ROWS)})
        write_shards(self.folder / "data" / "labels", cut(table, _SHARDS))
        write_shards(self.folder / "data" / "predictions", cut(predictions, _SHARDS))
        fs.copy_files(str(self.folder / "data"), "inputs/outage", fs.LocalFileSystem(), self.store)

    def _stored(self) -> int:
        """Return how many pieces of the run have been scored and kept."""
        wanted = fs.FileSelector("reports/.lossops/outage", recursive=True, allow_not_found=True)
        return sum(info.type == fs.FileType.File for info in self.store.get_file_info(wanted))

    def _reports(self) -> set[str]:
        wanted = fs.FileSelector("reports/outage", allow_not_found=True)
        return {info.path for info in self.store.get_file_info(wanted)}

    def _clear(self) -> None:
        """Forget what runs have stored, so that the next one scores everything."""
        if self._stored():
            self.store.delete_dir("reports/.lossops/outage")

    def trial(
        self, fault: str, action: str, breaks: Callable[[], Any], *, times: int = 1, retried: bool = False
    ) -> Trial:
        """Run, break something after a random share of the shards, and wait for the end.

        Args:
            fault, action: in words.
            breaks: breaks something, and mends it if that is what an engine does.
            times: how often, each time a bit later.
            retried: whether an operator retries the run once it is known to have died.
        """
        self._clear()
        before, begun = self._reports(), time.monotonic()
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name("lossops/outage")
            run = client.create_flow_run_from_deployment(deployment.id)
            for moment in sorted(self._random.uniform(0.05, 0.9) for _ in range(times)):
                self._wait(lambda at=moment: self._stored() >= at * _SHARDS, "shards")
                breaks()
            states = [self._end(client, run)]
            if retried and states[-1] == "Crashed":
                client.set_flow_run_state(run.id, AwaitingRetry(), force=True)
                states.append(self._end(client, run))
        seconds = time.monotonic() - begun
        return self._judged(Trial(fault, action, tuple(states), seconds, same=False, dies=retried), before)

    def _judged(self, trial: Trial, before: set[str]) -> Trial:
        new = self._reports() - before
        assert len(new) == 1, f"{trial}, reports: {sorted(new)}"
        with self.store.open_input_file(f"{new.pop()}/losses.parquet") as file:
            found = file.read()
        if self._undisturbed is None or trial.fault == "none":
            self._undisturbed = (trial.seconds, found if self._undisturbed is None else self._undisturbed[1])
        seconds, wanted = self._undisturbed
        return replace(trial, seconds=trial.seconds - seconds, same=found == wanted)

    def _end(self, client: SyncPrefectClient, run: FlowRun) -> str:
        def ended() -> bool:
            try:
                found = client.read_flow_run(run.id)
            except Exception:  # the server may be what is broken
                return False
            states.append(str(found.state_name))
            return states[-1] in _ENDED

        states: list[str] = []
        self._wait(ended, f"an end; the last states are {states[-1:]}")
        return states[-1]

    @staticmethod
    def _wait(condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {_PATIENCE:.0f} s for {what}")
            time.sleep(0.5)

    # Ways to break it

    def kill(self, name: str) -> None:
        """Kill a service with all its processes, also those that left its session."""
        process = self.topology.processes[name]
        children = psutil.Process(process.identity).children(recursive=True)
        process.kill()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()

    def kill_child(self, name: str) -> None:
        """Kill what a worker's nanny watches; she starts another one."""
        nanny = psutil.Process(self.topology.processes[name].identity)
        children = [child for child in nanny.children() if "spawn_main" in " ".join(child.cmdline())]
        for child in children:
            child.kill()

    def restart(self, name: str) -> None:
        """Stop a service in an orderly way; it starts again."""
        self.topology.processes[name].stop()

    @contextmanager
    def refusing_store(self) -> Iterator[None]:
        """Have the store refuse every third request."""
        mark = self.topology.folder / "refuse"
        mark.touch()
        try:
            yield
        finally:
            mark.unlink()

    def cancel(self) -> tuple[float, float]:
        """Cancel a run in its middle; return after how many seconds the cluster was idle, and the run Cancelled."""
        self._clear()
        before = self._reports()
        with get_client(sync_client=True) as client, self.cluster() as cluster:
            deployment = client.read_deployment_by_name("lossops/outage")
            run = client.create_flow_run_from_deployment(deployment.id)
            self._wait(lambda: self._stored() >= _SHARDS // 4, "shards")
            assert any(cluster.processing().values())
            begun = time.monotonic()
            client.set_flow_run_state(run.id, Cancelling())
            self._wait(lambda: not any(cluster.processing().values()), "an idle cluster")
            idle = time.monotonic() - begun
            assert self._end(client, run) == "Cancelled"
            ended = time.monotonic() - begun
        assert self._reports() == before
        return idle, ended

    @contextmanager
    def cluster(self) -> Iterator[Client]:
        """A client of our own of the Dask cluster."""
        certificates = self.topology.folder / "certificates"
        security = Security(
            tls_ca_file=str(certificates / "ca.crt"),
            tls_client_cert=str(certificates / "client.crt"),
            tls_client_key=str(certificates / "client.key"),
            require_encryption=True,
        )
        address = f"tls://{self.topology.address('scheduler', 8786)}"
        with Client(address, security=security, set_as_default=False) as client:
            yield client

    def fill_memory(self) -> None:
        """Have one call take more memory than a worker is given."""
        with self.cluster() as client:
            client.submit(operator.mul, b"x", 2 << 30, pure=False).exception()

    def part(self, name: str, seconds: float = 60) -> None:
        """Drop what a worker and the scheduler say to each other for a while."""
        port = self.topology.address("scheduler", 8786).rpartition(":")[2]
        tree = psutil.Process(self.topology.processes[name].identity)
        pairs = [
            str(one.laddr.port)
            for process in (tree, *tree.children(recursive=True))
            for one in process.net_connections("tcp")
            if one.raddr and str(one.raddr.port) == port
        ]
        rules = [
            ["INPUT", "-i", "lo", "-p", "tcp", *ends, "-j", "DROP"]
            for own in pairs
            for ends in (["--sport", own, "--dport", port], ["--sport", port, "--dport", own])
        ]
        for rule in rules:
            subprocess.run(["iptables", "--append", *rule], check=True)
        try:
            time.sleep(seconds)
        finally:
            for rule in rules:
                subprocess.run(["iptables", "--delete", *rule], check=True)


def trials(out: Outages) -> Iterator[Trial]:
    """Yield what came of every fault."""
    for service, what in (
        ("scheduler", "Dask scheduler"),
        ("server", "Prefect server"),
    ):
        for _ in range(2):
            yield out.trial(f"SIGKILL of the {what}", "none: the engine starts another", lambda n=service: out.kill(n))
    yield out.trial("PostgreSQL restarted", "none", lambda: out.restart("postgres"))
    with out.refusing_store():
        yield out.trial("the object store refuses every third request", "none", lambda: None)
    yield out.trial("a call takes more memory than a worker has", "none: its nanny ends it", out.fill_memory)
    yield out.trial(
        "a worker and the scheduler do not hear each other for a minute", "none", lambda: out.part("worker-2")
    )
    yield out.trial(
        "SIGKILL of the serving process with its runs",
        "the engine starts another; retry of the run, which is Crashed after three missed heartbeats",
        lambda: out.kill("serve"),
        retried=True,
    )
    for name in ("worker", "worker-2"):
        for _ in range(4):
            yield out.trial(
                f"SIGKILL of {name}'s process, 5 times a run",
                "none: its nanny starts another",
                lambda n=name: out.kill_child(n),
                times=5,
            )
    for _ in range(4):
        yield out.trial(
            "SIGKILL of a worker with its nanny, 5 times a run",
            "none: the engine starts another",
            lambda: out.kill("worker"),
            times=5,
        )


def main() -> None:
    """Print the table."""
    print("| fault | action | state | seconds more | report |\n|---|---|---|---|---|", flush=True)  # noqa: T201
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with Outages(Path(sys.argv[1]).resolve()).running() as out:
        for trial in trials(out):
            print(trial, flush=True)  # noqa: T201
            assert trial.same
        idle, ended = out.cancel()
        print(f"cancelled: the cluster is idle after {idle:.1f} s, the run Cancelled after {ended:.1f} s")  # noqa: T201


if __name__ == "__main__":
    main()
