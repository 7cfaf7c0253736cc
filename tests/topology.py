"""The services of docker-compose.yml as plain processes, for machines without a container engine.

Commands, environment variables, health checks and starting conditions are those of the file. What differs: every
address is on the loopback interface with a free port, paths are folders of a given folder, PostgreSQL is the
distribution's, and the object store is moto's. ``python -m tests.topology FOLDER`` keeps everything running until it is
interrupted.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from lossops.kernels.jit import cache_folder
from tests import compose
from tests.processes import Process, free_port, new_database, postgres_programs

__all__ = ["PASSWORDS", "PATH", "Topology"]

# What the file wants from .env.
PASSWORDS = {
    "POSTGRES_PASSWORD": secrets.token_hex(8) + " @:/'%",  # nothing in a password may matter
    "PREFECT_AUTH_STRING": f"lossops:{secrets.token_hex(8)}",
    "S3_SECRET_KEY": secrets.token_hex(8),
}
_PATIENCE = 300.0  # seconds until a service is healthy, on a machine that is busy
_PAUSE = 0.2
# The programs of the image, as they are called here.
_PROGRAMS = {
    "python": "",
    "dask": "-m dask",
    "prefect": "-m prefect",
    "lossops": "-c 'from flows.cli import main; main()'",
}
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
_PATHS = re.compile(r"(?<![\w.])/(?:run/secrets/\w+|configs|objects|tmp|var/lib/lossops)\b")
_WORKER_PORT = "8790"
_LOOPBACK = "127.0.0.1"
_MOTO = ["python", "-m", "moto.server", "--host=0.0.0.0", "--port=8333"]
_ASKS_MOTO = [
    "python",
    "-c",
    "from urllib.request import urlopen; urlopen('http://store:8333/moto-api/', timeout=5)",
]


@dataclass(frozen=True)
class Here:
    """Says of what stands in the file what it is on this machine.

    Args:
        folder: that holds everything.
        services: of the file.
        secrets: file name of each secret.
        ports: those of the file, and which are taken for them.
        own: ports that differ for a process, such as those of the second worker.
        hosts: addresses of processes that are not on the loopback interface.
    """

    folder: Path
    services: Mapping[str, Any]
    secrets: Mapping[str, str]
    ports: Mapping[str, str]
    own: Mapping[str, Mapping[str, str]]
    hosts: Mapping[str, str]

    def host(self, name: str) -> str:
        """Return the address on which a process listens."""
        return self.hosts.get(name, _LOOPBACK)

    def text(self, name: str, text: str) -> str:
        """Return a word of a command or a value of a variable with addresses, ports and paths of this machine."""
        ports = {**self.ports, **self.own.get(name, {})}
        if text in ports:
            return ports[text]
        hosts = "|".join(map(re.escape, [*self.services, _LOOPBACK, "localhost"]))
        text = re.sub(
            rf"\b({hosts}):(\d+)", lambda found: f"{self.host(found[1])}:{ports.get(found[2], found[2])}", text
        )
        text = re.sub(r"(?<==)(\d+)$", lambda found: ports.get(found[1], found[1]), text)  # --port=8786
        text = text.replace("0.0.0.0", self.host(name))
        return _PATHS.sub(lambda found: self._path(name, found[0]), text)

    def _path(self, name: str, path: str) -> str:
        if path.startswith("/run/secrets/"):
            return str(self.folder / "certificates" / self.secrets[path.rpartition("/")[2]])
        return str(self.folder / ("configs" if path == "/configs" else name))

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment of a process: what the image sets, and the variables of its service."""
        place = self.folder / name
        place.mkdir(exist_ok=True)
        cache = cache_folder()
        own = self.services[_service(name)].get("environment", {})
        return {
            "PATH": os.pathsep.join([str(self.folder / "bin"), PATH, str(postgres_programs())]),
            "HOME": str(place),
            "PREFECT_HOME": str(place / "prefect"),
            "PYTHONPATH": str(compose.ROOT),
            "PYTHONUNBUFFERED": "1",
            "LOSSOPS_CACHE_DIR": str(Path(cache).parents[1]) if cache else str(place),
            **{key: _LOOPBACK if key.endswith("_HOST") else self.text(name, value) for key, value in own.items()},
        }


class Topology:
    """All services, healthy when the block begins and ended with it.

    Args:
        folder: of logs, certificates and configs; made if it does not exist.
        commands: of services whose command shall not be that of the file.
        only: services to start; None: all.
        workers: how many.
        moto: whether it stands in for the object store of the file, which needs its program ``weed``.
        extra: further variables of the serving process.
        hosts: addresses of processes that are not to be on the loopback interface.
        within: words before the command of a process, and before that of its health check.
    """

    def __init__(
        self,
        folder: Path,
        *,
        commands: Mapping[str, Sequence[str]] | None = None,
        only: Iterable[str] | None = None,
        workers: int = 2,
        moto: bool = True,
        extra: Mapping[str, str] | None = None,
        hosts: Mapping[str, str] | None = None,
        within: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        file = compose.load(PASSWORDS)
        services = {name: one for name, one in file["services"].items() if only is None or name in set(only)}
        self.folder = folder
        self.configs = folder / "configs"
        self.configs.mkdir(parents=True, exist_ok=True)
        self.here = Here(
            folder,
            services,
            {name: Path(secret["file"]).name for name, secret in file["secrets"].items()},
            {port: free_port() for port in _ports(file["services"])},
            {f"worker-{number}": {_WORKER_PORT: free_port()} for number in range(2, workers + 1)},
            dict(hosts or {}),
        )
        self.processes: dict[str, Process] = {}
        self.seconds: dict[str, float] = {}  # from start to health
        self._commands = dict(commands or {})
        self._moto = moto
        self._extra = dict(extra or {})
        self._within = dict(within or {})
        self._begun: dict[str, float] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Topology:
        with self._stack:
            self._prepare()
            self._start()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def address(self, service: str, port: int) -> str:
        """Return the host and port at which a port of a service is reached here."""
        return self.here.text(service, f"{service}:{port}")

    def run(self, service: str, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
        """Run a command as ``docker compose exec SERVICE WORDS`` does; keyword arguments are further variables."""
        own = self.here.environment(service) | extra
        return subprocess.run(
            words, cwd=self.folder, env=own, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )

    def _prepare(self) -> None:
        programs = self.folder / "bin"
        programs.mkdir(exist_ok=True)
        for name, words in _PROGRAMS.items():
            script = programs / name
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
            script.chmod(0o755)
        script = compose.ROOT / "configs" / "certificates.sh"
        subprocess.run([script, self.folder / "certificates"], check=True, stdout=subprocess.DEVNULL)

    def _start(self) -> None:
        """Start every service as soon as its conditions hold, and return when all are healthy."""
        waiting = [name for service in self.here.services for name in self._names(service)]
        while waiting or self.processes.keys() - self.seconds.keys():
            ready = [name for name in waiting if self._needs(name) <= self.seconds.keys()]
            for name in ready:
                waiting.remove(name)
                self._start_one(name)
            for name in self.processes.keys() - self.seconds.keys():
                self._look(name)
            time.sleep(_PAUSE)

    def _names(self, service: str) -> list[str]:
        """Return the names of a service's processes."""
        return [service, *(name for name in self.here.own if _service(name) == service)]

    def _needs(self, name: str) -> set[str]:
        needed = self.here.services[_service(name)].get("depends_on", {})
        return {one for service in needed if service in self.here.services for one in self._names(service)}

    def _start_one(self, name: str) -> None:
        self._begun[name] = time.monotonic()
        self.processes[name] = process = self._postgres() if name == "postgres" else self._process(name)
        # SeaweedFS says goodbye to itself for 20 seconds, and nothing of it is kept.
        self._stack.callback(process.stop, 2.0 if name == "store" else 15.0)
        process.start()

    def _process(self, name: str) -> Process:
        service = self.here.services[_service(name)]
        words = self._commands.get(name) or [*service.get("entrypoint", ()), *service["command"]]
        if name == "store" and name not in self._commands:
            words = _MOTO if self._moto else [*words, *_weed_ports()]
        if _service(name) == "worker":
            words = [
                *words,
                f"--host={self.here.host(name)}",
            ]  # by itself it listens everywhere, which in a container is one network
        command = self._command(name, words)
        environment = self.here.environment(name) | (self._extra if name == "serve" else {})
        return Process(command, environment, self.folder, self.folder / f"{name}.log")

    def _command(self, name: str, words: Iterable[str]) -> list[str]:
        """Return a command of the file as it is called here."""
        # Programs are looked up on the path that the process gets, not on ours.
        return [*self._within.get(name, ()), "/usr/bin/env", *(self.here.text(name, word) for word in words)]

    def _postgres(self) -> Process:
        place = Path(tempfile.mkdtemp(prefix="lossops-postgres-"))  # not below a folder that only we may enter
        self._stack.callback(shutil.rmtree, place, ignore_errors=True)
        port = self.here.ports["5432"]
        return new_database(place, self.here.environment("postgres"), port, self.folder / "postgres.log")

    def _look(self, name: str) -> None:
        """Note that a service has become healthy, or has run to its end if it has no health check.

        Raises:
            RuntimeError: it failed, or takes too long.
        """
        process, taken = self.processes[name], time.monotonic() - self._begun[name]
        check = self.here.services[_service(name)].get("healthcheck")
        if process.code == 0 if check is None else process.code is None and self._is_healthy(name, check):
            self.seconds[name] = taken
        elif process.code or (check and process.code is not None) or taken > _PATIENCE:
            state = "is not healthy" if process.code is None else f"ended with {process.code}"
            said = process.log.read_text(errors="replace")
            raise RuntimeError(f"{name} {state} after {taken:.0f} s:\n{said[-4000:]}")

    def _is_healthy(self, name: str, check: Mapping[str, Any]) -> bool:
        words = _ASKS_MOTO if name == "store" and self._moto else check["test"][1:]
        command = self._command(name, words)
        environment = self.here.environment(name)
        with suppress(subprocess.TimeoutExpired):
            return (
                subprocess.run(command, env=environment, capture_output=True, timeout=30, check=False).returncode == 0
            )
        return False


def _service(name: str) -> str:
    """Return the service that a process belongs to: worker-2 is the second of the service worker."""
    return re.sub(r"-\d+$", "", name)


def _weed_ports() -> list[str]:
    """Return the options by which the inner parts of the store take free ports."""
    parts = ("master.port", "volume.port", "filer.port", "master.port.grpc", "volume.port.grpc", "filer.port.grpc")
    return [f"-{part}={free_port()}" for part in (*parts, "s3.port.grpc")]


def _ports(services: Mapping[str, Any]) -> set[str]:
    """Return every port that the file speaks of."""
    hosts = "|".join(map(re.escape, [*services, "127.0.0.1"]))
    found = {port for text in compose.strings(services) for port in re.findall(rf"\b(?:{hosts}):(\d+)", text)}
    return found | {"5432"}


def main() -> None:
    """Run everything until interrupted; the serving process if there is a config in the folder's configs."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(sys.argv[1]).resolve()
    idle = set() if any(folder.glob("configs/*.yaml")) else {"serve"}
    with Topology(folder, only=compose.load()["services"].keys() - idle) as topology:
        for name, seconds in topology.seconds.items():
            print(f"{name}: {seconds:.1f} s")
        for name, port in (("server", 4200), ("scheduler", 8786), ("store", 8333)):
            print(f"{name}: {topology.address(name, port)}")
        print(f"Prefect asks for {PASSWORDS['PREFECT_AUTH_STRING']}")
        with suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
