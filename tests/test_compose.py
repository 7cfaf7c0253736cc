"""docker-compose.yml, the image's Dockerfile and the locked dependencies: what can be checked without an engine."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import dask.config
import distributed  # noqa: F401 - brings its settings with it
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from prefect.settings import Settings
from prefect.settings.legacy import _get_settings_fields

from lossops.config import load_config
from tests import compose
from tests.topology import PASSWORDS

ROOT = compose.ROOT
FILE = compose.load()
SERVICES: dict[str, Any] = FILE["services"]
FILLED: dict[str, Any] = compose.load(PASSWORDS)["services"]
ONCE = {"migrate", "store-volume", "buckets"}
OURS = {name for name, service in SERVICES.items() if service["image"].startswith("lossops:")}
EXAMPLE = ROOT / "configs" / "compose.env.example"
DOCKERFILE = ROOT / "configs" / "Dockerfile"
every_service = pytest.mark.parametrize("name", SERVICES)


def words_of(name: str) -> list[str]:
    return [*map(str, FILLED[name].get("command", ()))]


def mounts(service: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield kind and source of what is mounted under a name; a volume without one is the container's own."""
    for volume in service.get("volumes", ()):
        if isinstance(volume, dict):
            yield volume["type"], volume["source"]
        elif ":" in volume:
            yield "volume", volume.partition(":")[0]


# The file itself.


def test_it_fits_the_specification() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(compose.FILE)]
    found = subprocess.run(check, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_every_name_refers_to_something() -> None:
    used: dict[str, set[str]] = {"networks": set(), "volumes": set(), "secrets": set()}
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        used["networks"] |= set(service.get("networks", ()))
        used["secrets"] |= set(service.get("secrets", ()))
        used["volumes"] |= {source for kind, source in mounts(service) if kind == "volume"}
    assert used == {kind: set(FILE[kind]) for kind in used}


def test_no_service_waits_for_itself() -> None:
    order: list[str] = []
    while len(order) < len(SERVICES):
        ready = [name for name in SERVICES.keys() - set(order) if set(SERVICES[name].get("depends_on", {})) <= {*order}]
        assert ready, f"only {order} can start"
        order += sorted(ready)


def waited_for(name: str) -> set[str]:
    needed = set(SERVICES[name].get("depends_on", {}))
    return needed.union(*map(waited_for, needed))


@every_service
def test_what_it_waits_for_can_be_known(name: str) -> None:
    """Healthy is what keeps running, completed what runs once; an address in a variable is waited for."""
    needed = SERVICES[name].get("depends_on", {})
    for other, how in needed.items():
        condition = "service_completed_successfully" if other in ONCE else "service_healthy"
        assert how["condition"] == condition
        # A service that a profile may leave out must not be insisted on by one that is always there.
        optional = "profiles" in SERVICES[other] and "profiles" not in SERVICES[name]
        assert how.get("required", True) is not optional
    spoken = {host for text in compose.strings(FILLED[name]) for host in re.findall(r"://([a-z]+):\d", text)}
    spoken |= {FILLED[name].get("environment", {}).get("PREFECT_SERVER_DATABASE_HOST")}
    for other in spoken & SERVICES.keys() - {name}:
        assert other in waited_for(name), f"{name} talks to {other}"
        assert set(SERVICES[name]["networks"]) & set(SERVICES[other]["networks"]) - {"outside"}


@every_service
def test_it_has_a_health_check_or_runs_once(name: str) -> None:
    service = SERVICES[name]
    if name in ONCE:
        assert service["restart"] == "no"
        assert "healthcheck" not in service
        return
    assert service["restart"] == "unless-stopped"
    check = service["healthcheck"]
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries", "start_period"} <= check.keys()


@every_service
def test_images_are_pinned(name: str) -> None:
    image = FILLED[name]["image"]
    if name in OURS:
        version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        assert image == f"lossops:{version}"
        assert SERVICES[name]["pull_policy"] == "never"
    else:
        assert re.fullmatch(r"[a-z/]+:\d+\.\d+(\.\d+)?(-[a-z]+)?@sha256:[0-9a-f]{64}", image)


@every_service
def test_it_may_do_nothing_that_it_need_not(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert not {"privileged", "cap_add", "devices", "pid", "ipc", "userns_mode"} & service.keys()
    user, _, group = service["user"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert "docker.sock" not in yaml.safe_dump(service)
    assert {"memory", "cpus", "pids"} == service["deploy"]["resources"]["limits"].keys()
    assert service["ulimits"] == {"nofile": 65536, "core": 0}
    assert {"max-size", "max-file"} <= service["logging"]["options"].keys()
    assert all("size=" in mount for mount in service["tmpfs"])


@every_service
def test_nothing_is_published_beyond_this_machine(name: str) -> None:
    service = FILLED[name]
    assert service.get("network_mode", "none") == "none"
    for port in service.get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)
    assert ("ports" in service) == ("outside" in service.get("networks", ()))


def test_networks_lead_nowhere_but_for_published_ports() -> None:
    assert {name for name, network in FILE["networks"].items() if not network.get("internal")} == {"outside"}
    members = {
        network: {name for name in SERVICES if network in SERVICES[name].get("networks", ())}
        for network in FILE["networks"]
    }
    assert members["db"] == {"postgres", "migrate", "server"}
    assert members["compute"] == {"scheduler", "worker", "serve"}


# Secrets and variables.


def test_secrets_are_asked_for_and_stand_nowhere() -> None:
    text = compose.FILE.read_text()
    for name in PASSWORDS:
        assert re.search(rf"^{name}=$", EXAMPLE.read_text(), re.MULTILINE), f"{name} has a value in the example"
        asked = [found for found in compose.VARIABLE.finditer(text) if found["name"] == name]
        assert asked
        assert all(found["kind"] == ":?" for found in asked)
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert isinstance(value, str), f"{name} is no text"
            if re.search(r"PASSWORD|SECRET|AUTH|TOKEN", name):
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), name


def test_without_secrets_nothing_starts() -> None:
    with pytest.raises(ValueError, match=r"is not set: see configs/compose\.env\.example"):
        compose.load({})


def test_the_example_has_every_variable_with_its_default() -> None:
    example = dict(re.findall(r"^(\w+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))
    used = {found["name"]: found for found in compose.VARIABLE.finditer(compose.FILE.read_text())}
    profiles = {profile for service in SERVICES.values() for profile in service.get("profiles", ())}
    assert {example.pop("COMPOSE_PROFILES")} == profiles
    assert example.keys() == used.keys()
    for name, found in used.items():
        assert example[name] == (found["rest"] if found["kind"] == ":-" else "")


def test_the_readme_lists_every_variable() -> None:
    text = (ROOT / "README.md").read_text()
    missing = [name for name in re.findall(r"^(\w+)=", EXAMPLE.read_text(), re.MULTILINE) if f"`{name}`" not in text]
    assert missing == []


@pytest.mark.parametrize("path", [".env", "configs/certificates/ca.key", "configs/certificates/worker.key"])
def test_secrets_are_kept_out_of_git_and_image(path: str) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    ignored = subprocess.run(["git", "check-ignore", "--quiet", "--no-index", path], cwd=ROOT, check=False)
    assert ignored.returncode == 0
    kept = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"
    assert f"!{path}" not in kept


def test_dask_nodes_know_no_password_of_prefect_or_the_database() -> None:
    for name in ("scheduler", "worker"):
        values = yaml.safe_dump(FILLED[name])
        assert PASSWORDS["PREFECT_AUTH_STRING"] not in values
        assert PASSWORDS["POSTGRES_PASSWORD"] not in values


def test_each_dask_node_has_its_own_key_and_no_other() -> None:
    for name, role in (("scheduler", "scheduler"), ("worker", "worker"), ("serve", "client")):
        service = SERVICES[name]
        assert set(service["secrets"]) == {"dask_ca", f"dask_{role}_certificate", f"dask_{role}_key"}
        mounted = {value for key, value in service["environment"].items() if "__TLS__" in key and "/" in value}
        assert mounted == {f"/run/secrets/{secret}" for secret in service["secrets"]}
        assert service["environment"]["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "true"
    assert all("key" not in secret["file"].rpartition("/")[2].partition(".")[0] for secret in FILE["secrets"].values())
    assert not any("ca.key" in secret["file"] for secret in FILE["secrets"].values())


# What the programs that are installed say of it.


@every_service
def test_prefect_and_dask_know_the_variables(name: str) -> None:
    """Both ignore a name that they do not know, and a wrong one may leave a server open."""
    prefect = _get_settings_fields(Settings).keys() | {"DO_NOT_TRACK"}
    for variable in SERVICES[name].get("environment", {}):
        if variable.startswith("PREFECT_"):
            assert variable in prefect
        elif variable.startswith("DASK_"):
            key = variable.removeprefix("DASK_").lower().replace("__", ".").replace("_", "-")
            assert dask.config.get(key, default="unknown") != "unknown"
        else:
            assert variable.startswith(("AWS_", "POSTGRES_", "GOMEMLIMIT")) or variable in prefect


@cache
def help_of(*words: str) -> str:
    command = {"prefect": ["-m", "prefect"], "dask": ["-m", "dask"]}[words[0]]
    found = subprocess.run([sys.executable, *command, *words[1:], "--help"], capture_output=True, text=True, check=True)
    return found.stdout


@pytest.mark.parametrize("name", [name for name in sorted(OURS) if SERVICES[name]["command"][0] in {"dask", "prefect"}])
def test_the_programs_know_the_options(name: str) -> None:
    words = words_of(name)
    commands = [word for word in words if re.fullmatch(r"[a-z]+", word)]
    known = set(re.findall(r"--[a-z-]+", help_of(*commands)))
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert options <= known


@pytest.mark.parametrize("name", sorted(OURS - {"store-volume"}))
def test_python_in_commands_compiles(name: str) -> None:
    words = [*words_of(name), *FILLED[name].get("healthcheck", {}).get("test", ())]
    for program, option, code in zip(words, words[1:], words[2:], strict=False):
        if (program, option) == ("python", "-c"):
            compile(code, name, "exec")


@pytest.mark.parametrize("name", ["server", "scheduler", "worker", "serve", "store"])
def test_a_health_check_asks_the_port_that_is_listened_on(name: str) -> None:
    asked = re.search(r"http://127\.0\.0\.1:(\d+)/", " ".join(FILLED[name]["healthcheck"]["test"]))
    assert asked is not None
    elsewhere = [*words_of(name), *FILLED[name].get("environment", {}).values()]
    assert any(re.search(rf"(?:^|[:=]){asked[1]}$", text) for text in elsewhere)


def test_the_example_config_is_valid() -> None:
    for path in sorted((ROOT / "configs" / "production").glob("*.yaml")):
        config = load_config(str(path))
        assert config.cluster is not None
        assert config.cluster.address == "tls://scheduler:8786"
        assert all(where.startswith("s3://inputs/") for where in config.labels.path)
        assert config.output == "s3://reports"


# The image and its dependencies.


def test_the_dockerfile_is_in_order() -> None:
    found = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), DOCKERFILE], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_image_is_pinned_and_not_root() -> None:
    text = DOCKERFILE.read_text()
    assert re.search(r"^ARG PYTHON=python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${PYTHON}", "${PYTHON}"]
    users = re.findall(r"^USER (\S+)$", text, re.MULTILINE)
    assert users == ["10001:10001"]
    assert {SERVICES[name]["user"] for name in OURS} == set(users)
    for line in re.findall(r"pip install .*", text):
        assert "--require-hashes" in line or "--no-index" in line


def test_the_image_has_what_it_is_built_from() -> None:
    """Each folder and file that is copied is let through by .dockerignore."""
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE.read_text(), re.MULTILINE):
        for source in shlex.split(line):
            assert (ROOT / source).exists()
            assert source in kept


def locked(name: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield name, version and hashes of each line of a lock file."""
    joined = re.sub(r"\\\n", " ", (ROOT / "configs" / name).read_text())
    for line in joined.splitlines():
        if line and not line.lstrip().startswith("#"):
            requirement, _, options = line.partition(" ")
            package, _, version = requirement.partition("==")
            yield canonicalize_name(package), version, re.findall(r"--hash=(sha256:[0-9a-f]{64})", options)


@pytest.mark.parametrize("name", ["requirements.lock", "build.lock"])
def test_everything_is_locked_with_hashes_and_names_no_index(name: str) -> None:
    for package, version, hashes in locked(name):
        assert Version(version), package
        assert hashes, package
    text = (ROOT / "configs" / name).read_text()
    assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host", text)


def test_the_lock_agrees_with_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for name, wanted in (
        ("requirements.lock", project["project"]["dependencies"]),
        ("build.lock", project["build-system"]["requires"]),
    ):
        versions = {package: Version(version) for package, version, _ in locked(name)}
        for requirement in map(Requirement, wanted):
            assert versions[canonicalize_name(requirement.name)] in requirement.specifier
    assert "asyncpg" in {package for package, _, _ in locked("requirements.lock")}
