"""An object store that refuses requests now and then: nothing is lost, nothing is taken for damage."""

from __future__ import annotations

import errno
import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import fs

import lossops
from lossops.data.storage import may_pass, open_storage
from lossops.errors import InputError
from tests.datasets import cut, write_shards

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The end of a URL on a store of our own, which refuses every third request while a file ``refuse`` is there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name, value in (("AWS_ACCESS_KEY_ID", "someone"), ("AWS_SECRET_ACCESS_KEY", "something")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    words = [sys.executable, "-m", "tests.flaky_store", f"127.0.0.1:{port}"]
    with subprocess.Popen(words, cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 60
            while not answers(port):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield f"?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
        finally:
            process.kill()


def answers(port: int) -> bool:
    with socket.socket() as knock:
        return knock.connect_ex(("127.0.0.1", port)) == 0


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_a_busy_store_changes_no_number(store: str, tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    table = pa.table({"id": np.arange(4000), "y": random.normal(size=4000), "p": random.normal(size=4000)})
    data = tmp_path / "data"
    write_shards(data / "labels", cut(table.select(["id", "y"]), 5))
    write_shards(data / "predictions", cut(table.select(["id", "p"]), 5))

    def values(root: str, end: str) -> dict[str, Any]:
        return {
            "name": "busy",
            "labels": {"path": f"{root}/labels{end}", "label": "y"},
            "models": {"m": {"path": f"{root}/predictions{end}", "prediction": "p"}},
            "key": "id",
            "losses": ["mean_squared_error"],
            "on_bad_shard": "quarantine",
            "output": str(tmp_path / "reports"),
        }

    here = lossops.evaluate(values(str(data), ""))
    storage, _ = fs.FileSystem.from_uri(f"s3://inputs{store}&allow_bucket_creation=true")
    storage.create_dir("inputs")
    fs.copy_files(str(data), "inputs", fs.LocalFileSystem(), storage)
    (tmp_path / "refuse").touch()
    there = lossops.evaluate(values("s3://inputs", store))
    assert (Path(there.path) / "losses.parquet").read_bytes() == (Path(here.path) / "losses.parquet").read_bytes()
    assert (tmp_path / "refused").stat().st_size > 5
    assert there.shards["problem"].null_count == there.shards.num_rows == 10


def test_an_address_keeps_its_options(store: str) -> None:
    storage, path = open_storage(f"s3://bucket/a/b{store}&allow_bucket_creation=true")
    assert isinstance(storage, fs.S3FileSystem)
    assert (storage.region, path) == ("us-east-1", "bucket/a/b")
    storage.create_dir("made-here")
    assert storage.get_file_info("made-here").type == fs.FileType.Directory


def test_a_worker_is_as_patient_as_who_sent_it(store: str, tmp_path: Path) -> None:
    """What pyarrow itself makes of a pickle waits for half a second each time it is refused: half a minute here."""
    storage, _ = open_storage(f"s3://bucket{store}")
    there = pickle.loads(pickle.dumps(storage))
    assert there == storage
    (tmp_path / "refuse").touch()
    begun = time.monotonic()
    for _ in range(120):
        there.get_file_info("absent/file")
    assert time.monotonic() - begun < 10
    assert (tmp_path / "refused").stat().st_size >= 40


def test_a_store_that_is_gone_is_not_a_damaged_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        end = f"?endpoint_override=127.0.0.1:{nobody.getsockname()[1]}&scheme=http&region=us-east-1"
    values = {
        "name": "gone",
        "labels": {"path": f"s3://inputs/labels{end}", "label": "y"},
        "models": {"m": {"path": f"s3://inputs/predictions{end}", "prediction": "p"}},
        "losses": ["mean_squared_error"],
        "output": str(tmp_path / "reports"),
        "on_bad_shard": "quarantine",
    }
    with pytest.raises(InputError, match="could not list s3://inputs/labels"):
        lossops.evaluate(values)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (OSError("When reading: AWS Error SLOW_DOWN during GetObject operation: Reduce your request rate."), True),
        (OSError("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7"), True),
        (OSError("AWS Error ACCESS_DENIED during ListObjectsV2 operation"), False),
        (OSError("AWS Error NO_SUCH_BUCKET during ListObjectsV2 operation"), False),
        (OSError("google::cloud::Status(UNAVAILABLE: Retry policy exhausted)"), True),
        (OSError(errno.ECONNRESET, "Connection reset by peer"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), False),
        (OSError("Couldn't deserialize thrift: TProtocolException: Invalid data"), False),
        (ValueError("AWS Error SLOW_DOWN"), False),
    ],
)
def test_what_may_be_gone_the_next_time(error: Exception, passes: bool) -> None:
    assert may_pass(error) == passes
    wrapped = InputError("could not read")
    wrapped.__cause__ = error
    assert may_pass(wrapped) == passes
    assert not may_pass(InputError("a column is missing"))
