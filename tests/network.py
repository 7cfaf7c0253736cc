"""A network namespace for one machine, and the cable to it, which can be pulled: packets are lost without a word."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType

__all__ = ["HERE", "Cable", "alone"]

HERE, _THERE = "10.77.0.1", "10.77.0.2"
_MASK = 24


def alone(module: str, *words: str) -> list[str]:
    """Return the command that runs a module in a network namespace of its own, where nobody else's addresses are."""
    return ["unshare", "--net", "--", sys.executable, "-m", module, *words]


def _ip(*words: str, within: Sequence[str] = ()) -> str:
    """Call ``ip`` here, or within another namespace."""
    return subprocess.run([*within, "ip", *words], check=True, capture_output=True, text=True).stdout


class Cable:
    """From this namespace, which must be one of our own, by a switch to another one, which ends with the block.

    Attributes:
        there: the address at the other end; this end's is ``HERE``.
    """

    there = _THERE

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._holder: subprocess.Popen[str] | None = None

    def __enter__(self) -> Cable:
        # A namespace lasts as long as a process in it.
        words = ["unshare", "--net", "--", "sh", "-c", "echo made; exec cat"]
        self._holder = self._stack.enter_context(
            subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "made\n"
        for end in ("near", "far"):
            _ip("link", "add", end, "type", "veth", "peer", "name", f"{end}-port")
        _ip("link", "add", "switch", "type", "bridge")
        for part in ("near-port", "far-port", "switch"):
            # It passes on what others say; by itself Linux would answer there in the name of this machine, too.
            _ip("link", "set", part, "arp", "off", "addrgenmode", "none")
        for port in ("near-port", "far-port"):
            _ip("link", "set", port, "master", "switch", "up")
        _ip("link", "set", "switch", "up")
        _ip("link", "set", "far", "netns", str(self._holder.pid))
        self._begin("near", HERE, ())
        self._begin("far", self.there, self.within)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def within(self) -> list[str]:
        """The words before a command that is to run at the other end."""
        assert self._holder is not None
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", "--"]

    @staticmethod
    def _begin(end: str, address: str, within: Sequence[str]) -> None:
        _ip("link", "set", "lo", "up", within=within)
        _ip("address", "add", f"{address}/{_MASK}", "dev", end, within=within)
        _ip("link", "set", end, "up", within=within)

    def pull(self) -> None:
        """Take the cable out of the switch: both ends still have a link, and hear nothing."""
        _ip("link", "set", "far-port", "nomaster")

    def plug(self) -> None:
        """Put it back."""
        _ip("link", "set", "far-port", "master", "switch")

    def packets(self) -> tuple[int, int]:
        """Return how many packets the other end has sent and received."""
        (found,) = json.loads(_ip("-json", "-statistics", "link", "show", "far-port"))
        return found["stats64"]["rx"]["packets"], found["stats64"]["tx"]["packets"]
