"""The services of docker-compose.yml as plain processes, for machines without a container engine.

Commands, environment variables, health checks and starting conditions are those of the file. What differs: host names
become loopback addresses, ports become free ones, paths become folders of a given folder, PostgreSQL is the distribution's
and the object store is moto's. ``python -m tests.topology FOLDER`` keeps it running until it is interrupted.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from lossops.kernels.jit import cache_folder
from tests import compose

__all__ = ["SECRETS", "Process", "Topology", "postgres_programs"]

# Of every topology of ours; a fixed text would look like somebody's password.
SECRETS = {
    "POSTGRES_PASSWORD": f"database of {os.getpid()}",
    "PREFECT_AUTH_STRING": f"lossops:server of {os.getpid()}",
    "S3_SECRET_KEY": f"store-of-{os.getpid()}",
}
_PATIENCE = 120.0  # seconds for one service to become healthy, on a machine that is busy
_PAUSE = 0.2
# What the commands of the image are here.
_COMMANDS = {
    "python": "",
    "dask": "-m dask",
    "prefect": "-m prefect",
    "lossops": "-c 'from flows.cli import main; main()'",
}
_PATHS = re.compile(r"(?<![\w.])/(?:run/secrets/\w+|configs|tmp|var/lib/lossops)\b")
_STORE = "from urllib.request import urlopen; urlopen('http://127.0.0.1:7070/moto-api/', timeout=5)"


def postgres_programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, which distributions keep off the path; None without it."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Process:
    """A process of our own, with its log in a file.

    Args:
        name: of the service, and of the log.
        words: its command line.
        environment: all of it.
        folder: where it works and logs.
        user: whom it runs as; None: as we do.
        ends_with: the signal that asks it to end.
    """

    name: str
    words: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    user: str | None = None
    ends_with: signal.Signals = signal.SIGTERM
    _running: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.folder / f"{self.name}.log").read_text(errors="replace")

    @property
    def code(self) -> int | None:
        """How it ended; None while it runs."""
        return None if self._running is None else self._running.poll()

    def start(self) -> None:
        """Start it, in a session of its own, so that its children can be ended with it."""
        with open(self.folder / f"{self.name}.log", "ab") as log:
            self._running = subprocess.Popen(
                [*self.words],
                cwd=self.folder,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
                start_new_session=True,
            )

    def stop(self, seconds: float = 15.0) -> None:
        """Ask it to end, and after a while end it with its children."""
        if self._running is None:
            return
        if self.code is None:
            self._running.send_signal(self.ends_with)
        try:
            self._running.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self._running.pid, signal.SIGKILL)
            self._running.wait()

    def kill(self) -> None:
        """End it at once, with its children, as a machine that fails does."""
        if self._running is not None and self.code is None:
            os.killpg(self._running.pid, signal.SIGKILL)
            self._running.wait()


class Topology:
    """All services, healthy when the block begins and ended with it.

    Args:
        folder: of logs, certificates and configs; new.
        commands: of services whose command is not that of the file.
        without: services that are not started.
        workers: how many.
    """

    def __init__(
        self,
        folder: Path,
        *,
        commands: Mapping[str, Sequence[str]] | None = None,
        without: Iterable[str] = (),
        workers: int = 2,
    ) -> None:
        self.folder = folder
        self.configs = folder / "configs"
        self.seconds: dict[str, float] = {}
        self.processes: dict[str, Process] = {}
        file = compose.load(SECRETS)
        self._services = {name: service for name, service in file["services"].items() if name not in set(without)}
        self._secrets = {name: Path(secret["file"]).name for name, secret in file["secrets"].items()}
        self._commands = dict(commands or {})
        self._workers = workers
        self._healthy: set[str] = set()
        self._ports: dict[str, str] = {port: str(_free_port()) for port in _ports(file["services"])}
        self._own = {f"worker-{number}": str(_free_port()) for number in range(2, workers + 1)}
        self._stack = ExitStack()

    def __enter__(self) -> Topology:
        with ExitStack() as stack:
            self._prepare()
            stack.callback(self._stop)
            self._start()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def address(self, service: str, port: int) -> str:
        """Return the host and port at which a port of a service is reached here."""
        return self._here(service, f"{service}:{port}")

    def environment(self, service: str) -> dict[str, str]:
        """Return the environment variables of a service."""
        own = self._services[_service(service)].get("environment", {})
        found = {name: self._variable(service, name, str(value)) for name, value in own.items()}
        place = self.folder / service
        place.mkdir(exist_ok=True)
        cache = cache_folder()
        return {
            "PATH": os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"], str(postgres_programs())]),
            "HOME": str(place),
            "PREFECT_HOME": str(place / "prefect"),
            "PYTHONPATH": str(compose.ROOT),
            "PYTHONUNBUFFERED": "1",
            "LOSSOPS_CACHE_DIR": str(Path(cache).parents[1]) if cache else str(place),
            **found,
        }

    def run(self, service: str, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
        """Run a command as ``docker compose exec SERVICE WORDS`` would; keyword arguments are further variables."""
        return subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment(service) | extra,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )

    def _prepare(self) -> None:
        for folder in (self.folder, self.configs, self.folder / "bin"):
            folder.mkdir(parents=True, exist_ok=True)
        for name, words in _COMMANDS.items():
            script = self.folder / "bin" / name
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
            script.chmod(0o755)
        certificates = [str(compose.ROOT / "configs" / "certificates.sh"), str(self.folder / "certificates")]
        subprocess.run(certificates, check=True, stdout=subprocess.DEVNULL)

    def _here(self, service: str, text: str) -> str:
        """Say of a text in the file what it is here: addresses, ports and paths."""
        ports = self._ports | ({"8790": self._own[service]} if service in self._own else {})
        if text in ports:
            return ports[text]
        hosts = "|".join(re.escape(name) for name in [*self._services, "127.0.0.1", "localhost"])
        text = re.sub(rf"\b(?:{hosts}):(\d+)", lambda found: f"127.0.0.1:{ports.get(found[1], found[1])}", text)
        return _PATHS.sub(lambda found: self._path(service, found[0]), text)

    def _path(self, service: str, path: str) -> str:
        if path.startswith("/run/secrets/"):
            return str(self._certificate(path.rpartition("/")[2]))
        return str(self.configs if path == "/configs" else self.folder / service)

    def _certificate(self, secret: str) -> Path:
        return self.folder / "certificates" / self._secrets[secret]

    def _variable(self, service: str, name: str, value: str) -> str:
        return "127.0.0.1" if name.endswith("_HOST") else self._here(service, value)

    def _start(self) -> None:
        """Start every service as soon as its conditions hold, and return when all are healthy."""
        begun = time.monotonic()
        waiting = {name for service in self._services for name in self._names(service)}
        while waiting or any(not self._is_ready(name) for name in self.processes):
            for name in sorted(waiting):
                if all(map(self._is_met, self._needs(name))):
                    waiting.discard(name)
                    self._start_one(name)
                    self.seconds[name] = time.monotonic()
            for name in self.processes.keys() - self._healthy:
                self._look(name)
            time.sleep(_PAUSE)
        self.seconds["all"] = time.monotonic() - begun

    def _names(self, service: str) -> list[str]:
        if service != "worker":
            return [service]
        return ["worker", *(f"worker-{number}" for number in range(2, self._workers + 1))]

    def _needs(self, name: str) -> list[str]:
        needed = self._services[_service(name)].get("depends_on", {})
        return [other for service in needed if service in self._services for other in self._names(service)]

    def _is_met(self, name: str) -> bool:
        return name in self.processes and self._is_ready(name)

    def _is_ready(self, name: str) -> bool:
        """Whether a service is healthy, or ran to its end if it has no health check."""
        return name in self._healthy

    def _start_one(self, name: str) -> None:
        service = self._services[_service(name)]
        words = self._commands.get(name, service.get("command", ()))
        command = [self._here(name, word) for word in words]
        if name == "postgres":
            self.processes[name] = self._postgres()
        elif name == "store":
            command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", self._ports["7070"]]
            self.processes[name] = Process(name, command, self.environment(name), self.folder)
        else:
            self.processes[name] = Process(name, command, self.environment(name), self.folder)
        self.processes[name].start()

    def _look(self, name: str) -> None:
        """Note that a service has become healthy.

        Raises:
            RuntimeError: it ended, or takes too long.
        """
        process, check = self.processes[name], self._services[_service(name)].get("healthcheck")
        if check is None:
            ready = process.code == 0
            failed = process.code not in (None, 0)
        else:
            failed = process.code is not None
            ready = not failed and self._is_healthy(name, check["test"])
        taken = time.monotonic() - self.seconds[name]
        if failed or (not ready and taken > _PATIENCE):
            what = f"ended with {process.code}" if failed else f"is not healthy after {taken:.0f} s"
            raise RuntimeError(f"{name} {what}:\n{process.log[-4000:]}")
        if ready:
            self._healthy.add(name)
            self.seconds[name] = taken

    def _is_healthy(self, name: str, test: Sequence[str]) -> bool:
        words = ["python", "-c", _STORE] if name == "store" else test[1:]
        command = [self._here(name, word) for word in words]
        environment = self.environment(name)
        done = subprocess.run(command, env=environment, capture_output=True, timeout=30, check=False)
        return done.returncode == 0

    def _postgres(self) -> Process:
        """Make a database as the image does, with a password; root may not run it, and others may not enter our folder."""
        programs = postgres_programs()
        assert programs is not None
        user = "postgres" if os.getuid() == 0 else None
        place = Path(tempfile.mkdtemp(prefix="lossops-postgres-"))
        data = place / "data"
        (place / "password").write_text(self.environment("postgres")["POSTGRES_PASSWORD"])
        if user is not None:
            shutil.chown(place, user, user)
            shutil.chown(place / "password", user, user)
        own = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}

        def call(*words: str, said: str = "") -> None:
            subprocess.run(words, env=own, cwd=place, input=said, text=True, user=user, check=True, capture_output=True)

        variables = self.environment("postgres")
        options = ["--username", variables["POSTGRES_USER"], "--pwfile", str(place / "password")]
        call("initdb", "--pgdata", str(data), "--auth=scram-sha-256", *options, variables["POSTGRES_INITDB_ARGS"])
        call("postgres", "--single", "-D", str(data), "template1", said=f"CREATE DATABASE {variables['POSTGRES_DB']}\n")
        settings = ["listen_addresses=127.0.0.1", f"port={self._ports['5432']}", "unix_socket_directories=", "fsync=off"]
        words = [str(programs / "postgres"), "-D", str(data), *(word for one in settings for word in ("-c", one))]
        self._stack_folder(place)
        return Process("postgres", words, own, self.folder, user, signal.SIGINT)

    def _stack_folder(self, place: Path) -> None:
        self._places = [*getattr(self, "_places", []), place]

    def _stop(self) -> None:
        for process in reversed(self.processes.values()):
            process.stop()
        for place in getattr(self, "_places", []):
            shutil.rmtree(place, ignore_errors=True)


def _service(name: str) -> str:
    """Return the service that a process belongs to: the second worker is worker-2."""
    return re.sub(r"-\d+$", "", name)


def _ports(services: Mapping[str, Any]) -> set[str]:
    """Return every port that a health check or another service speaks of."""
    names = "|".join(re.escape(name) for name in [*services, "127.0.0.1"])
    found = {port for text in compose.strings(services) for port in re.findall(rf"\b(?:{names}):(\d+)", text)}
    return found | {"5432"}


def main() -> None:
    """Run everything until interrupted."""
    folder = Path(sys.argv[1]).resolve()
    with Topology(folder) as topology:
        for name, seconds in topology.seconds.items():
            print(f"{name}: {seconds:.1f} s")  # noqa: T201 - a command
        print(f"Prefect: http://{topology.address('server', 4200)}")  # noqa: T201 - a command
        signal.sigwait([signal.SIGINT, signal.SIGTERM])


if __name__ == "__main__":
    main()
