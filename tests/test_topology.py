"""The services of docker-compose.yml, started as processes: who may use them, and what they compute together."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import psutil
import pyarrow as pa
import pytest
import yaml
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from pyarrow import fs

import lossops
from flows.serve import Service, automations
from tests import compose
from tests.datasets import cut, write_shards
from tests.processes import postgres_programs
from tests.topology import PASSWORDS, PATH, Topology

pytestmark = pytest.mark.skipif(postgres_programs() is None, reason="PostgreSQL is not installed")

# Prints for each case whether a Dask client gets an answer. All at once: the unwelcome ones wait for their time-out.
_KNOCK = """
import asyncio, json, logging, sys
from distributed import Client
from distributed.security import Security
logging.disable()
async def knock(address, options):
    security = Security(**options) if options is not None else None
    try:
        async with Client(address, security=security, asynchronous=True, timeout=3) as client:
            return await client.submit(int, "7") == 7
    except OSError:
        return "no connection"
    except (RuntimeError, TypeError) as error:
        return f"refused here: {error}"
async def main(cases):
    found = await asyncio.gather(*(knock(*case) for case in cases.values()))
    print(json.dumps(dict(zip(cases, found, strict=True))))
asyncio.run(main(json.loads(sys.argv[1])))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topology]:
    """A scheduler and a worker."""
    folder = tmp_path_factory.mktemp("cluster")
    with Topology(folder, only=["scheduler", "worker"], workers=1) as topology:
        yield topology


def knock(topology: Topology, cases: dict[str, tuple[str, dict[str, Any] | None]], **extra: str) -> dict[str, Any]:
    found = topology.run("scheduler", "python", "-c", _KNOCK, json.dumps(cases), **extra)
    assert found.returncode == 0, found.stderr
    told: dict[str, Any] = json.loads(found.stdout)
    return told


def test_dask_answers_only_whom_our_authority_knows(cluster: Topology, tmp_path: Path) -> None:
    ours, theirs = cluster.folder / "certificates", tmp_path / "theirs"
    subprocess.run([compose.ROOT / "configs" / "certificates.sh", theirs], check=True, capture_output=True)
    host = cluster.address("scheduler", 8786)

    def security(folder: Path) -> dict[str, Any]:
        return {
            "require_encryption": True,
            "tls_ca_file": str(ours / "ca.crt"),
            "tls_client_cert": str(folder / "client.crt"),
            "tls_client_key": str(folder / "client.key"),
        }

    found = knock(
        cluster,
        {
            "ours": (f"tls://{host}", security(ours)),
            "another authority's": (f"tls://{host}", security(theirs)),
            "unencrypted": (f"tcp://{host}", {"require_encryption": False}),
        },
    )
    assert found == {"ours": True, "another authority's": "no connection", "unencrypted": "no connection"}


def test_dask_hangs_up_on_whom_has_no_certificate(cluster: Topology) -> None:
    """Asked without Dask, whose client would not even try."""
    host, port = cluster.address("scheduler", 8786).split(":")
    context = ssl.create_default_context(cafile=cluster.folder / "certificates" / "ca.crt")
    context.check_hostname = False

    def hears() -> bytes:
        with socket.create_connection((host, int(port)), 10) as plain, context.wrap_socket(plain) as connection:
            return connection.recv(1)

    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        hears()
    context.load_cert_chain(*(cluster.folder / "certificates" / f"client.{kind}" for kind in ("crt", "key")))
    assert hears() != b""


def test_a_service_refuses_to_speak_without_encryption(cluster: Topology) -> None:
    host = cluster.address("scheduler", 8786)
    found = knock(cluster, {"unencrypted": (f"tcp://{host}", None)})["unencrypted"]
    assert found.startswith("refused here: encryption required"), found


def test_certificates_are_kept_until_they_are_about_to_end(tmp_path: Path) -> None:
    def issue(**variables: str) -> dict[str, bytes]:
        script = compose.ROOT / "configs" / "certificates.sh"
        subprocess.run(["/usr/bin/env", *(f"{name}={value}" for name, value in variables.items()), script, tmp_path],
                       check=True, capture_output=True)  # fmt: skip
        return {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix in {".crt", ".key"}}

    first = issue(CERTIFICATE_DAYS="20")
    assert set(first) == {
        f"{name}.{kind}" for name in ("ca", "scheduler", "worker", "client") for kind in ("crt", "key")
    }
    assert tmp_path.stat().st_mode & 0o077 == 0
    assert (tmp_path / "ca.key").stat().st_mode & 0o077 == 0
    second = issue()
    assert {name for name in first if first[name] == second[name]} == {"ca.crt", "ca.key"}
    assert issue() == second
    (tmp_path / "ca.key").unlink()
    assert all(value != second[name] for name, value in issue().items())


@pytest.mark.skipif(shutil.which("weed", path=PATH) is None, reason="SeaweedFS is not installed")
def test_the_store_of_the_file_does_what_we_need(tmp_path: Path) -> None:
    """Other than moto, which stands in for it elsewhere, it checks signatures."""
    with Topology(tmp_path, only=["store-volume", "store", "buckets"], moto=False) as topology:
        check_that_everything_listens_on_loopback_only(topology)
        store = object_store(topology)
        assert {info.path for info in store.get_file_info(fs.FileSelector(""))} == {"inputs", "reports"}
        write_data(tmp_path / "data")
        fs.copy_files(str(tmp_path / "data"), "inputs/whole", fs.LocalFileSystem(), store)
        (tmp_path / "whole.yaml").write_text(yaml.safe_dump(config("s3://inputs/whole", "s3://reports")))
        found = topology.run("buckets", "lossops", "run", "whole.yaml", "--direct", "--json")
        assert found.returncode == 0, found.stderr
        here = lossops.evaluate(config(str(tmp_path / "data"), str(tmp_path / "reports")))
        assert losses(store, json.loads(found.stdout)["report"]) == (Path(here.path) / "losses.parquet").read_bytes()
        with pytest.raises(OSError, match="SIGNATURE_DOES_NOT_MATCH"):
            object_store(topology, "guessed").get_file_info(fs.FileSelector("inputs"))


def object_store(topology: Topology, secret: str = PASSWORDS["S3_SECRET_KEY"]) -> fs.S3FileSystem:
    return fs.S3FileSystem(
        endpoint_override=topology.address("store", 8333),
        scheme="http",
        region="us-east-1",
        access_key="lossops",
        secret_key=secret,
    )


def config(root: str, output: str, address: str | None = None) -> dict[str, Any]:
    return {
        "name": "whole",
        "labels": {"path": f"{root}/labels", "label": "y"},
        "models": {"m": {"path": f"{root}/predictions", "prediction": "p"}},
        "key": ["id"],
        "losses": ["mean_squared_error", {"loss": "huber", "delta": 0.5}],
        "slices": ["kind"],
        "output": output,
        "cluster": None if address is None else {"address": address},
    }


def write_data(folder: Path) -> None:
    random = np.random.default_rng(3)
    table = pa.table({"id": np.arange(3000), "y": random.normal(size=3000), "kind": np.arange(3000) % 7})
    predictions = pa.table({"id": table["id"], "p": random.normal(size=3000)})
    write_shards(folder / "labels", cut(table, 6))
    write_shards(folder / "predictions", cut(predictions, 6))


def status(topology: Topology, path: str, auth: str | None = None, method: str = "GET") -> int:
    """Ask Prefect's server, with the password or another or none, and return the status of its answer."""
    headers = {"Content-Type": "application/json"}
    if auth is not None:
        headers["Authorization"] = f"Basic {base64.b64encode(auth.encode()).decode()}"
    body = b"{}" if method == "POST" else None
    request = Request(f"http://{topology.address('server', 4200)}/api{path}", body, headers, method=method)
    try:
        with urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


def check_that_prefect_wants_a_password(topology: Topology) -> None:
    password = PASSWORDS["PREFECT_AUTH_STRING"]
    assert status(topology, "/ready") == 200
    for path in ("/version", "/admin/settings", "/csrf-token?client=ours"):
        assert status(topology, path) == 401
        assert status(topology, path, "lossops:guessed") == 401
    assert status(topology, "/version", password) == 200
    # A page elsewhere may make a browser send the password, but has no token.
    assert status(topology, "/flows/filter", password, "POST") == 403


def check_that_everything_listens_on_loopback_only(topology: Topology) -> None:
    ours = [psutil.Process(process.identity) for process in topology.processes.values() if process.code is None]
    tree = [child for process in ours for child in (process, *process.children(recursive=True))]
    listening = [one.laddr.ip for child in tree for one in child.net_connections() if one.status == psutil.CONN_LISTEN]
    assert len(listening) >= len(ours)
    assert set(listening) == {"127.0.0.1"}


def check_that_no_secret_is_where_it_is_not_needed(topology: Topology) -> None:
    """Dask's nodes run what clients send; they must not know Prefect's or the database's password."""
    for name, process in topology.processes.items():
        own = psutil.Process(process.identity).environ() if process.code is None else process.environment
        known = {secret for secret, value in PASSWORDS.items() if value in own.values()}
        assert known <= _MAY_KNOW.get(name.partition("-")[0], set()), name
        assert not any(value in process.log.read_text() for value in PASSWORDS.values()), name


_MAY_KNOW = {
    "postgres": {"POSTGRES_PASSWORD"},
    "migrate": {"POSTGRES_PASSWORD"},
    "server": {"POSTGRES_PASSWORD", "PREFECT_AUTH_STRING"},
    "worker": {"S3_SECRET_KEY"},
    "serve": {"S3_SECRET_KEY", "PREFECT_AUTH_STRING"},
    "store": {"S3_SECRET_KEY"},
    "buckets": {"S3_SECRET_KEY"},
}


def test_the_whole_topology(tmp_path: Path) -> None:
    """Files on the object store, scored by workers over TLS, directly, as a flow run and by the serving process."""
    folder, data = tmp_path / "topology", tmp_path / "data"
    write_data(data)
    here = lossops.evaluate(config(str(data), str(tmp_path / "reports")))
    topology = Topology(folder)
    address = f"tls://{topology.address('scheduler', 8786)}"
    whole = config("s3://inputs/whole", "s3://reports", address)
    gated = {**whole, "name": "gated", "gates": [{"loss": "mean_squared_error", "max": 1e-6}]}
    for one in (whole, gated):
        (topology.configs / f"{one['name']}.yaml").write_text(yaml.safe_dump(one))
    with topology:
        store = object_store(topology)
        fs.copy_files(str(data), "inputs/whole", fs.LocalFileSystem(), store)
        check_that_prefect_wants_a_password(topology)
        check_that_everything_listens_on_loopback_only(topology)
        for how in ("--direct", "--prefect"):
            found = topology.run(
                "serve", "lossops", "run", str(topology.configs / "whole.yaml"), how, "--json", "--fresh"
            )
            assert found.returncode == 0, found.stderr
            told = json.loads(found.stdout)
            assert (told["flow_run"] is None) == (how == "--direct")
            assert losses(store, told["report"]) == (Path(here.path) / "losses.parquet").read_bytes()
        served = topology.run("serve", "prefect", "deployment", "run", "lossops/whole", "--watch", "--watch-interval=1")
        assert served.returncode == 0, served.stdout + served.stderr
        reports = store.get_file_info(fs.FileSelector("reports/whole"))
        assert len(reports) == 3
        assert {losses(store, report.path) for report in reports} == {(Path(here.path) / "losses.parquet").read_bytes()}
        check_that_a_failed_gate_is_told_of(topology)
        check_that_no_secret_is_where_it_is_not_needed(topology)


def check_that_a_failed_gate_is_told_of(topology: Topology) -> None:
    """The event is there, and the automation that serving keeps sends it to a block."""
    own = {
        PREFECT_API_URL: f"http://{topology.address('server', 4200)}/api",
        PREFECT_API_AUTH_STRING: PASSWORDS["PREFECT_AUTH_STRING"],
    }
    with temporary_settings(own), get_client(sync_client=True) as client, listening() as (url, heard):
        message = {"subject": "{{subject}}", "body": "{{body}}"}
        CustomWebhookNotificationBlock(name="team", url=url, json_data=message).save("team")
        automations(Service(notify="custom-webhook/team"), None)
        deployment = client.read_deployment_by_name("lossops/gated")
        run = client.create_flow_run_from_deployment(deployment.id)
        told = heard.get(timeout=120)
        assert told["subject"] == "lossops: a gate failed in gated"
        assert "Report: s3://reports/gated/" in told["body"]
        assert "mean_squared_error max 1e-06, m, overall: " in told["body"]
        seen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
        keys = {str(one.key) for one in client.read_artifacts(artifact_filter=seen)}
        assert {"lossops-gated-gates", "lossops-gated-losses", "lossops-gated-cluster"} <= keys


@contextmanager
def listening() -> Iterator[tuple[str, Queue[dict[str, str]]]]:
    """Yield the URL of somebody who is told things, and what he hears."""
    heard: Queue[dict[str, str]] = Queue()

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", heard
        finally:
            server.shutdown()


def losses(store: fs.FileSystem, report: str) -> bytes:
    with store.open_input_file(f"{report.removeprefix('s3://')}/losses.parquet") as file:
        return bytes(file.read())
