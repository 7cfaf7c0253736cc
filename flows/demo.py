"""``lossops demo``: a small sharded example with a known bad slice, scored through the Prefect flow.

Prefect's temporary server needs up to half a minute to start, so it starts first and the rest is done meanwhile.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flows.console import print_report, say
from flows.launch import Finished, is_server_configured, run_direct, run_recorded
from lossops.config import RunConfig, load_config
from lossops.errors import InputError, RunError
from lossops.report.selection import number, overall, printable, worst_slices

__all__ = ["run_demo", "write_example"]

ROWS = 200_000
BAD_SLICE = "country=BR"
_PREDICTION_SHARDS, _LABEL_SHARDS = 6, 4
_START_SECONDS = 180.0  # for the server; its own limit of 20 s is too short for a small or busy machine
_STOP_SECONDS = 10.0
_ANSWER_SECONDS = 2.0
_POLL_SECONDS = 0.1
_MARK = "# Written by `lossops demo`, which overwrites it."

_CONFIG = f"""{_MARK}
# Two questions about visits to a shop: did the visitor click, and how long did the visit take?
name: demo
labels:
  path: {{labels}}
  label: clicked
models:
  candidate: {{{{path: {{predictions}}, prediction: p_click}}}}
key: visit_id                        # the labels come in another order: rows are paired by this column
weight: weight
losses:
  - {{{{loss: binary_crossentropy, name: click}}}}
  - {{{{loss: mean_absolute_error, name: seconds, prediction: seconds_predicted, label: seconds}}}}
slices:
  - country
  - device
  - [country, device]
output: {{reports}}
"""


def run_demo(folder: str, *, direct: bool) -> None:
    """Write the example, score it and print the report.

    Args:
        folder: where to; created if need be.
        direct: do without Prefect.

    Raises:
        InputError: the folder holds something else, or cannot be written.
        RunError: the server does not start, or the run failed.
    """
    place = Path(folder)
    _claim(place)
    begun = time.perf_counter()
    finished = _run_direct(place) if direct else _run_recorded(place)
    print_report(finished.report)
    _print_next(place, finished, time.perf_counter() - begun)


def _claim(place: Path) -> None:
    """Make sure that nothing of the user's is overwritten, and leave a mark for the next time."""
    config = place / "demo.yaml"
    try:
        place.mkdir(parents=True, exist_ok=True)
        earlier = config.is_file() and config.read_text(encoding="utf-8", errors="replace").startswith(_MARK)
        if not earlier and any(place.iterdir()):
            raise InputError(f"{place}: not empty; allowed: a new or empty folder, or one of an earlier demo")
        config.write_text(_config_text(place), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{place}: {error.strerror}; allowed: a folder that can be written") from error


def _config_text(place: Path) -> str:
    # A JSON string is a YAML string, whatever the folder is called.
    return _CONFIG.format(**{name: json.dumps(str(place / name)) for name in ("labels", "predictions", "reports")})


def _run_direct(place: Path) -> Finished:
    config = _write(place)
    say("Scoring in this process; the first run on a machine also compiles the loss kernels.")
    return run_direct(config)


def _run_recorded(place: Path) -> Finished:
    if is_server_configured():
        config = _write(place)
        say("Scoring as a flow run of the Prefect server that is configured.")
        return run_recorded(config)
    say("Starting Prefect's temporary server in the background; it takes 10 to 30 seconds.")
    with _temporary_server() as server:
        config = _write(place)
        say("Compiling the loss kernels, which later runs find on disk.")
        _warm_up(config)
        _await(server)
        say("Scoring as a Prefect flow run.")
        return replace(run_recorded(config), note="Recorded by Prefect's temporary server, which is stopped again.")


def _write(place: Path) -> RunConfig:
    shards = f"{_PREDICTION_SHARDS} shards of predictions, {_LABEL_SHARDS} of labels"
    say(f"Writing {ROWS:,} visits to {printable(str(place))}: {shards} in another order, some rows dirty.")
    write_example(place)
    return load_config(str(place / "demo.yaml"))


def _warm_up(config: RunConfig) -> None:
    """Score one shard against one shard, so that imports and compilation happen while the server starts."""
    from lossops.engine import score
    from lossops.plan import make_plan

    labels = config.labels.model_copy(update={"path": [_first_shard(config.labels.path)]})
    models = {name: one.model_copy(update={"path": [_first_shard(one.path)]}) for name, one in config.models.items()}
    score(make_plan(config.model_copy(update={"labels": labels, "models": models})), on_log=lambda _level, _text: None)


def _first_shard(paths: list[str]) -> str:
    return str(Path(paths[0]) / _shard_name(0))


def _print_next(place: Path, finished: Finished, seconds: float) -> None:
    first = overall(finished.report)[0]
    worst, _ = worst_slices(finished.report, first["model"], first["loss"], 1)
    own, all_rows = number(worst[0]["mean"]), number(first["mean"])
    for line in (
        "",
        f"Worst slice: {worst[0]['slice']}, where {first['loss']} is {own} against {all_rows} overall.",
        f"The example was made with a fault in {BAD_SLICE} and with the dirty rows that are listed above.",
        finished.note,
        f"The demo took {seconds:.1f} s.",
        "",
        "Next:",
        f"  lossops show {finished.report.path}",
        f"  lossops run {place / 'demo.yaml'} --direct",
        "  lossops losses binary_crossentropy",
    ):
        click.echo(printable(line))


# --- the example ---------------------------------------------------------------------------------------------------


def write_example(place: Path) -> None:
    """Write the datasets, always the same: ``predictions/`` and ``labels/``, ``BAD_SLICE`` predicted badly."""
    random = np.random.default_rng(20240229)
    visits = _visits(random)
    extra = ROWS // 1000
    predictions = _spoil_predictions(visits.select(["visit_id", "p_click", "seconds_predicted"]), extra)
    labels = visits.select(["visit_id", "clicked", "seconds", "country", "device", "weight"])
    shuffled = labels.take(pa.array(random.permutation(labels.num_rows)))
    _write_shards(place / "predictions", predictions.slice(extra), _PREDICTION_SHARDS)  # some labels have no prediction
    _write_shards(place / "labels", _spoil_labels(shuffled.slice(extra)), _LABEL_SHARDS)  # some predictions no label


def _visits(random: np.random.Generator) -> pa.Table:
    """Visits whose outcome the predictions know, but for those of the bad slice."""
    country = random.choice(["DE", "FR", "US", "BR", "IN"], ROWS, p=[0.2, 0.2, 0.35, 0.1, 0.15])
    device = random.choice(["phone", "laptop", "tablet"], ROWS, p=[0.5, 0.4, 0.1])
    chance = random.beta(1.5, 3.0, ROWS)
    length = random.gamma(2.0, 60.0, ROWS)
    bad = country == BAD_SLICE.partition("=")[2]
    guess = np.where(bad, 1.0 - chance, chance)
    return pa.table(
        {
            "visit_id": np.arange(10_000_000, 10_000_000 + ROWS),
            "p_click": guess.astype(np.float32),
            "seconds_predicted": length * np.where(bad, 1.6, 1.0),
            "clicked": (random.random(ROWS) < chance).astype(np.int8),
            "seconds": length + random.normal(0.0, 20.0, ROWS),
            "country": pa.array(country).dictionary_encode(),
            "device": pa.array(device).dictionary_encode(),
            "weight": random.choice([0.5, 1.0, 2.0], ROWS),
        }
    )


def _spoil_predictions(predictions: pa.Table, extra: int) -> pa.Table:
    """Add rows of every kind that a pipeline gets wrong; ``extra`` rows of each."""
    keys, chances = predictions["visit_id"].to_numpy().copy(), predictions["p_click"].to_numpy().copy()
    place = _places(extra, 4)
    chances[place[0]] = np.nan
    chances[place[1]] = 1.5
    keys[place[2]] = keys[place[2] + 1]  # the same key twice
    null = np.zeros(len(keys), dtype=bool)
    null[place[3]] = True
    columns = [pa.array(keys, mask=null), pa.array(chances), predictions["seconds_predicted"]]
    return pa.table(columns, names=predictions.column_names)


def _spoil_labels(labels: pa.Table) -> pa.Table:
    count = labels.num_rows // 2000
    clicked, weight = labels["clicked"].to_numpy().copy(), labels["weight"].to_numpy().copy()
    place = _places(count, 2)
    weight[place[0]] = -1.0
    null = np.zeros(len(clicked), dtype=bool)
    null[place[1]] = True
    spoilt = labels.set_column(labels.schema.get_field_index("clicked"), "clicked", pa.array(clicked, mask=null))
    return spoilt.set_column(spoilt.schema.get_field_index("weight"), "weight", pa.array(weight))


def _places(count: int, kinds: int) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Rows for each kind of dirt, apart from each other and spread over the shards."""
    step = 211 * kinds
    return [np.arange(count, dtype=np.int64) * step + 1000 + 11 * kind for kind in range(kinds)]


def _shard_name(number: int) -> str:
    return f"part-{number:05d}.parquet"


def _write_shards(folder: Path, table: pa.Table, shards: int) -> None:
    folder.mkdir(exist_ok=True)
    edges = [table.num_rows * shard // shards for shard in range(shards + 1)]
    for shard, (start, stop) in enumerate(pairwise(edges)):
        pq.write_table(table.slice(start, stop - start), folder / _shard_name(shard))


# --- the server ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Server:
    """A Prefect server that belongs to this process."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def has_answered(self) -> bool:
        """Whether it takes requests yet."""
        try:
            connection = HTTPConnection("127.0.0.1", self.port, timeout=_ANSWER_SECONDS)
            with closing(connection):
                connection.request("GET", "/api/health")
                return connection.getresponse().status == HTTPStatus.OK
        except (OSError, HTTPException):
            return False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def last_words(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


@contextmanager
def _temporary_server() -> Iterator[_Server]:
    """Run a Prefect server in a folder of its own, on this machine only, behind a password; stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="lossops-demo-", ignore_cleanup_errors=True) as home, _sigterm_unwinds():
        port, password = _free_port(), f"demo:{secrets.token_hex(16)}"
        server = _launch(Path(home), port, password)
        client = {
            "PREFECT_API_URL": server.url,
            "PREFECT_API_AUTH_STRING": password,
            "PREFECT_HOME": home,
            "PREFECT_PROFILES_PATH": os.path.join(home, "profiles.toml"),
        }
        try:
            with _environment(client):
                yield server
        finally:
            _stop(server.process)


def _launch(home: Path, port: int, password: str) -> _Server:
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    own |= {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_API_AUTH_STRING": password,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    start = [sys.executable, "-m", "prefect", "server", "start", "--no-services", "--no-ui"]
    command = [*start, "--host", "127.0.0.1", "--port", str(port)]
    log = home / "server.log"
    with log.open("wb") as file:
        # It works in its own folder: Prefect also reads settings from files in the current one.
        process = subprocess.Popen(  # noqa: S603  every word of the command is ours
            command, cwd=home, env=own, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    return _Server(process, port, log)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables, which Prefect reads when it is imported."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """Let SIGTERM end the block in order, so that nothing that it started outlives it."""

    def leave(number: int, _frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _await(server: _Server) -> None:
    deadline = time.monotonic() + _START_SECONDS
    told = False
    while not server.has_answered():
        if server.process.poll() is not None:
            raise RunError(f"Prefect's temporary server ended: {server.last_words()}; --direct does without it")
        if time.monotonic() > deadline:
            limit = f"{_START_SECONDS:.0f} s"
            raise RunError(f"Prefect's temporary server did not start in {limit}; --direct does without it")
        if not told:
            say("Waiting for Prefect's server.")
            told = True
        time.sleep(_POLL_SECONDS)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
