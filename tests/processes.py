"""Processes that a test starts and ends, and PostgreSQL as one of them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Process", "free_port", "new_database", "postgres_programs"]


def free_port() -> str:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@dataclass
class Process:
    """A process of our own.

    Args:
        words: its command line.
        environment: all of it.
        folder: where it works.
        log: the file that what it says is added to.
        user: whom it runs as; None: as we do.
        ends_with: the signal that asks it to end.
    """

    words: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    log: Path
    user: str | None = None
    ends_with: signal.Signals = signal.SIGTERM
    _running: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def code(self) -> int | None:
        """How it ended; None while it runs."""
        return None if self._running is None else self._running.poll()

    @property
    def identity(self) -> int:
        """Its number."""
        assert self._running is not None
        return self._running.pid

    def start(self) -> None:
        """Start it in a session of its own, so that its children can be ended with it."""
        with self.log.open("ab") as log:
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
            self.kill()

    def kill(self) -> None:
        """End it and its children at once, as a machine that fails does."""
        if self._running is not None and self.code is None:
            os.killpg(self._running.pid, signal.SIGKILL)
            self._running.wait()


def postgres_programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, which distributions keep off the path; None without it."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def new_database(place: Path, environment: Mapping[str, str], port: str, log: Path) -> Process:
    """Make a database as the image does, and return the process that serves it once it is started.

    Args:
        place: an empty folder that any user can reach: root may not run PostgreSQL.
        environment: as the image knows it: POSTGRES_DB, POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_INITDB_ARGS.
        port: on the loopback interface.
        log: where it writes.
    """
    user = "postgres" if os.getuid() == 0 else None
    own = {**environment, "LC_ALL": "C.UTF-8"}
    password = place / "password"
    password.write_text(own["POSTGRES_PASSWORD"])
    if user is not None:
        shutil.chown(place, user)
        shutil.chown(password, user)

    def call(program: str, *words: str, said: str = "") -> None:
        command = [f"{postgres_programs()}/{program}", *words]
        subprocess.run(command, env=own, cwd=place, input=said.encode(), user=user, check=True, capture_output=True)

    wanted = [f"--username={own['POSTGRES_USER']}", f"--pwfile={password}", own["POSTGRES_INITDB_ARGS"]]
    call("initdb", "--pgdata=data", "--auth=scram-sha-256", "--no-sync", *wanted)
    call("postgres", "--single", "-D", "data", "template1", said=f"CREATE DATABASE {own['POSTGRES_DB']}\n")
    settings = ["--listen_addresses=127.0.0.1", f"--port={port}", "--unix_socket_directories=", "--fsync=off"]
    words = [f"{postgres_programs()}/postgres", "-D", "data", *settings]
    return Process(words, own, place, log, user, signal.SIGINT)
