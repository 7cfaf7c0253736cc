"""A real Prefect server for the session, the example of the demo, and the command line as its users run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_HOME, temporary_settings
from prefect.testing.utilities import prefect_test_harness

from flows.demo import run_demo
from lossops.config import RunConfig, load_config

Command = Callable[..., subprocess.CompletedProcess[str]]
LOSSOPS = (sys.executable, "-c", "from flows.cli import main; main()")
# A shell that starts tests in the background has them ignore interrupts, and they pass that on.
HEARING = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
LOSSOPS_HEARING = (sys.executable, "-c", HEARING + LOSSOPS[2])


def press_until_it_ends(process: subprocess.Popen[str], number: int) -> None:
    """Send a signal, and again every ten seconds while the process goes on, as a person at a terminal would."""
    for _ in range(6):
        process.send_signal(number)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            continue
        return


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty home folder, so that no test sees or touches what the person who runs it has configured."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def environment(home: Path) -> Mapping[str, str]:
    """The environment of a person who never configured Prefect."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    root = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join([root, *filter(None, [own.get("PYTHONPATH")])])
    return own | {"PREFECT_HOME": str(home / ".prefect"), "PYTHONPATH": paths, "PYTHONWARNINGS": "default"}


@pytest.fixture
def lossops(environment: Mapping[str, str], tmp_path: Path) -> Command:
    """Run the command in a folder of its own; keyword arguments are further environment variables."""

    def command(*words: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*LOSSOPS, *words],
            cwd=tmp_path,
            env={**environment, **extra},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return command


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished direct demo."""
    folder = tmp_path_factory.mktemp("example") / "demo"
    run_demo(str(folder), direct=True)
    return folder


@pytest.fixture
def config(example: Path, tmp_path: Path) -> RunConfig:
    """The demo's config, reporting to a folder of the test's own."""
    return load_config(str(example / "demo.yaml"), [f"output={tmp_path / 'reports'}"])


@pytest.fixture(scope="session")
def server(home: Path) -> Iterator[str]:
    """The address of a Prefect server that the flows of this process use, too."""
    # Without heartbeats a flow run ends a second earlier.
    own = {PREFECT_HOME: home / ".prefect", PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with temporary_settings(own), prefect_test_harness(server_startup_timeout=120):
        yield PREFECT_API_URL.value()
