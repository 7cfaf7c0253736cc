"""What happens to a scheduled run when a part of the topology fails: ``python -m tests.outages FOLDER`` prints a table.

Every trial triggers a run of the serving process, lets it score a random share of its shards, breaks something, does
what an operator or a container engine does then, and waits for the end. The report must have the bytes of an
undisturbed one, and the run the state that is told. Words after the folder choose faults: those that hold one of them.

Everything runs in a network namespace of its own, and the second worker in another one, with a cable between them.
"""

from __future__ import annotations

import operator
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

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
from tests.network import HERE, Cable, alone
from tests.topology import PASSWORDS, Topology

__all__ = ["FAULTS", "Fault", "Outages", "Trial"]

_SHARDS = 100
_ROWS = 100_000
_PATIENCE = 600.0
_SERVICES = ("postgres", "server", "scheduler", "worker", "worker-2", "serve")
_ENDED = {"Completed", "Failed", "Crashed", "Cancelled", "TimedOut"}
# Heartbeats as often as Prefect allows, so that a dead run is known for dead in minutes here.
_SERVE = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", "PREFECT_RUNNER_POLL_FREQUENCY": "1"}


@dataclass(frozen=True)
class Fault:
    """Something that breaks.

    Args:
        name: in words.
        action: what is done about it, by whom.
        breaks: breaks it in the middle of a run, and mends it if that is what an engine does; what it returns is told.
        times: how often in a run, each time a bit later.
        runs: how many of them.
        around: what is broken throughout the run.
        dies: whether the process of the run dies with it, so that somebody has to retry the run.
    """

    name: str
    action: str
    breaks: Callable[[Outages], str | None] | None = None
    times: int = 1
    runs: int = 1
    around: Callable[[Outages], AbstractContextManager[None]] = lambda _: nullcontext()
    dies: bool = False

    @property
    def states(self) -> tuple[str, ...]:
        """The states in which the run must end, again and again."""
        return ("Crashed", "Completed") if self.dies else ("Completed",)


@dataclass(frozen=True)
class Trial:
    """A run with a fault, and what came of it.

    Args:
        states: in which the flow run ended.
        waited: seconds from the fault until the state of a run whose process died was right; else 0.
        seconds: that it took.
        losses: the bytes of its report.
        told: what was seen of the fault.
    """

    states: tuple[str, ...]
    waited: float
    seconds: float
    losses: bytes
    told: str = ""


class Outages:
    """The topology with a run that takes some ten seconds, and ways to break it.

    Args:
        folder: of the topology.
        cable: to the second worker.
        seed: of the moments.
    """

    def __init__(self, folder: Path, cable: Cable, seed: int = 1) -> None:
        self._cable = cable
        self._random = random.Random(seed)
        worker = ["dask", "worker", "tls://scheduler:8786", "--nworkers=1", "--nthreads=1", "--memory-limit=1GiB"]
        places = [
            "--local-directory=/var/lib/lossops/spill",
            "--dashboard-address=127.0.0.1:8790",
            "--death-timeout=60",
        ]
        commands = {name: [*worker, *places] for name in ("worker", "worker-2")}
        self.topology = Topology(
            folder,
            commands={**commands, "store": ["python", "-m", "tests.flaky_store", "store:8333"]},
            extra=_SERVE,
            hosts={"scheduler": HERE, "worker": HERE, "store": HERE, "worker-2": cable.there},
            within={"worker-2": cable.within},
        )
        self.folder = folder
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
        """Start everything, put the data into the store and run once, which compiles."""
        own = {
            PREFECT_API_URL: f"http://{self.topology.address('server', 4200)}/api",
            PREFECT_API_AUTH_STRING: PASSWORDS["PREFECT_AUTH_STRING"],
        }
        with self.topology, temporary_settings(own), self._restarting():
            self._write_data()
            self.losses = self.trial(_CALM).losses  # this one compiles
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

    def trial(self, fault: Fault) -> Trial:
        """Run, break something after a random share of the shards, and wait for the end."""
        self._clear()
        before, begun, told, waited = self._reports(), time.monotonic(), [], 0.0
        with fault.around(self), get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name("lossops/outage")
            run = client.create_flow_run_from_deployment(deployment.id)
            for moment in sorted(self._random.uniform(0.05, 0.9) for _ in range(fault.times if fault.breaks else 0)):
                self._wait(lambda at=moment: self._stored() >= at * _SHARDS, "shards")
                broken = time.monotonic()
                told.append(fault.breaks(self) if fault.breaks else None)
            states = [self._end(client, run)]
            if fault.dies and states[-1] == "Crashed":
                waited = time.monotonic() - broken
                client.set_flow_run_state(run.id, AwaitingRetry(), force=True)
                states.append(self._end(client, run))
        seconds = time.monotonic() - begun
        return Trial(tuple(states), waited, seconds, self._losses(before), "; ".join(filter(None, told)))

    def _losses(self, before: set[str]) -> bytes:
        (new,) = self._reports() - before
        with self.store.open_input_file(f"{new}/losses.parquet") as file:
            return bytes(file.read())

    def row(self, fault: Fault) -> str:
        """Try a fault as often as it wants, after a run without it, and return a row of the table.

        Raises:
            AssertionError: a report has other bytes, or a run ended in another state.
        """
        calm, *found = (self.trial(one) for one in [_CALM, *[fault] * fault.runs])
        for trial in found:
            assert trial.losses == calm.losses == self.losses, (fault.name, trial.told)
            assert trial.states == fault.states, (fault.name, trial.states, trial.told)
        waits = f", the first after {_range([trial.waited for trial in found])} s" if fault.dies else ""
        told = "; ".join(filter(None, (trial.told for trial in found)))
        name = f"{fault.name} ({told})" if told else fault.name
        state = f"{', '.join(fault.states)}{waits}"
        seconds = _range([trial.seconds for trial in found])
        return f"| {name} | {fault.runs * fault.times} | {fault.action} | {state} | {seconds} | {calm.seconds:.0f} |"

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
        self._wait(lambda: process.code is None, f"{name} to run")
        children = psutil.Process(process.identity).children(recursive=True)
        process.kill()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()

    def kill_child(self, name: str) -> None:
        """Kill what a worker's nanny watches; she starts another one."""

        def killed() -> bool:
            found = False
            for child in psutil.Process(self.topology.processes[name].identity).children():
                with suppress(psutil.NoSuchProcess):  # it ended while we looked
                    if "spawn_main" in " ".join(child.cmdline()):
                        child.kill()
                        found = True
            return found

        self._wait(killed, f"{name} to run")

    def restart(self, name: str) -> None:
        """Stop a service in an orderly way; it starts again."""
        self.topology.processes[name].stop()

    @contextmanager
    def refusing_store(self) -> Iterator[None]:
        """Have the store refuse every third request."""
        mark, refused = self.topology.folder / "refuse", self.topology.folder / "refused"
        mark.touch()
        try:
            yield
        finally:
            mark.unlink()
            assert refused.stat().st_size > 100
            refused.unlink()

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

    def part(self, seconds: float = 60) -> str:
        """Pull the cable of the second worker for a while; return what was lost by it."""
        with self.cluster() as client:
            (parted,) = (worker for worker in client.nthreads() if f"//{self._cable.there}:" in worker)
            self._cable.pull()
            begun, before = time.monotonic(), self._cable.packets()
            try:
                self._wait(lambda: parted not in client.nthreads(), "the scheduler to miss a worker")
                missed = time.monotonic() - begun
                self._wait(lambda: time.monotonic() - begun >= seconds, "the end of the parting")
                sent, heard = (now - then for now, then in zip(self._cable.packets(), before, strict=True))
            finally:
                self._cable.plug()
        assert sent > 0 == heard, (sent, heard)
        return (
            f"of {sent} packets of the worker none arrived, nor any there; the scheduler missed it after {missed:.0f} s"
        )


def _range(seconds: Sequence[float]) -> str:
    low, high = (f"{end:.0f}" for end in (min(seconds), max(seconds)))
    return low if low == high else f"{low} to {high}"


_CALM = Fault("nothing", "none")
FAULTS = (
    Fault(
        "SIGKILL of the Dask scheduler", "none: the engine starts another", lambda out: out.kill("scheduler"), runs=2
    ),
    Fault("SIGKILL of the Prefect server", "none: the engine starts another", lambda out: out.kill("server"), runs=2),
    Fault("PostgreSQL restarted", "none", lambda out: out.restart("postgres")),
    Fault("the object store refuses every third request", "none", around=Outages.refusing_store),
    Fault("a call takes more memory than a worker has", "none: its nanny ends it", Outages.fill_memory),
    Fault("a worker is cut off from everything for a minute", "none", Outages.part),
    Fault(
        "SIGKILL of the serving process with its runs",
        "the engine starts another; somebody retries the run",
        lambda out: out.kill("serve"),
        dies=True,
    ),
    *(
        Fault(
            f"SIGKILL of {name}'s process, five times a run",
            "none: its nanny starts another",
            lambda out, name=name: out.kill_child(name),
            times=5,
            runs=4,
        )
        for name in ("worker", "worker-2")
    ),
    Fault(
        "SIGKILL of a worker with its nanny, five times a run",
        "none: the engine starts another",
        lambda out: out.kill("worker"),
        times=5,
        runs=4,
    ),
)


def run(folder: Path, words: Iterable[str]) -> None:
    """Print the table, of the faults whose names hold one of the words; without words of all, and of cancelling."""
    wanted = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    with Cable() as cable, Outages(folder, cable).running() as out:
        print("| broken | times | action | state | seconds | undisturbed |\n|---|---|---|---|---|---|", flush=True)
        for fault in wanted:
            print(out.row(fault), flush=True)
        if not words:
            idle, ended = out.cancel()
            assert idle < 10
            print(f"| cancelled | 1 | | Cancelled after {ended:.1f} s; the cluster idle after {idle:.1f} s | | |")


def main() -> None:
    """Begin anew in a network namespace of our own, and print the table there."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if sys.argv[1] != "--alone":
        words = alone("tests.outages", "--alone", *sys.argv[1:])
        os.execvp(words[0], words)
    run(Path(sys.argv[2]).resolve(), sys.argv[3:])


if __name__ == "__main__":
    main()
