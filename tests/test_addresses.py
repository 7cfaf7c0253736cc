"""What is secret in a URL, and what leaves the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lossops.addresses import is_local, without_secrets
from lossops.config import parse_config
from lossops.errors import ConfigError

SECRET = "hunter2-9f8e7d"
WITH_SECRETS = [
    f"s3://AKIAEXAMPLE:{SECRET}@bucket/labels",
    f"s3://bucket/labels?access_key=AKIA&secret_key={SECRET}",
    f"https://store.example/labels.parquet?X-Amz-Signature={SECRET}&X-Amz-Expires=60",
    f"https://account.blob.core.windows.net/c/labels?sv=2024-01-01&sig={SECRET}",
    f"abfss://user:{SECRET}@account/labels",
    f"ftp://:{SECRET}@host/labels",
]
WITHOUT = [
    "s3://bucket/labels?region=eu-central-1&endpoint_override=127.0.0.1:9000&scheme=http",
    "abfss://container@account.dfs.core.windows.net/labels",
    "hf://datasets/org/name@main/labels",
    "gs://bucket/key=1/token=a/part-*.parquet",
    "data/user:name@host/key=5",
]


def values(**more: Any) -> dict[str, Any]:
    return {
        "name": "a",
        "labels": {"path": "labels", "label": "y"},
        "models": {"m": {"path": "predictions", "prediction": "p"}},
        "losses": ["mean_absolute_error"],
        **more,
    }


@pytest.mark.parametrize("location", WITH_SECRETS)
@pytest.mark.parametrize("place", ["labels", "models", "output", "work"])
def test_a_url_with_credentials_is_refused_and_not_repeated(location: str, place: str) -> None:
    nested = {"labels": {"path": location}, "models": {"m": {"path": ["a", location], "prediction": "p"}}}
    with pytest.raises(ConfigError, match="holds credentials; allowed: credentials in the environment") as caught:
        parse_config(values(**{place: nested.get(place, location)}))
    assert place in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("location", WITHOUT)
def test_a_url_without_credentials_is_taken_as_it_is(location: str) -> None:
    assert parse_config(values(output=location)).output == location
    assert without_secrets(f"could not list {location}") == f"could not list {location}"


@pytest.mark.parametrize("location", WITH_SECRETS)
def test_secrets_are_hidden_in_text(location: str) -> None:
    assert SECRET not in without_secrets(f"could not open '{location}' (again {location})")


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("tcp://127.0.0.1:8786", True),
        ("tcp://127.8.9.1:8786", True),
        ("tcp://[::1]:8786", True),
        ("tcp://localhost:8786", True),
        ("tcp://10.0.0.5:8786", False),
        ("tcp://scheduler:8786", False),
        ("tcp://localhost.evil.example:8786", False),
        ("tcp://0.0.0.0:8786", False),
        ("ws://192.168.0.7:8786", False),
    ],
)
def test_only_loopback_is_this_machine(address: str, local: bool) -> None:
    assert is_local(address) == local
    if local:
        assert parse_config(values(cluster={"address": address})).cluster is not None
        return
    with pytest.raises(ConfigError, match=r"reached without TLS; allowed: tls:// or wss://.*allow_unencrypted: true"):
        parse_config(values(cluster={"address": address}))
    told = parse_config(values(cluster={"address": address, "allow_unencrypted": True}))
    assert told.cluster is not None
    assert told.cluster.allow_unencrypted


@pytest.mark.parametrize("address", ["tls://scheduler:8786", "wss://10.0.0.5:443", "tls://[2001:db8::1]:8786"])
def test_tls_may_go_anywhere(address: str) -> None:
    assert parse_config(values(cluster={"address": address})).cluster is not None


def test_an_address_holds_no_password() -> None:
    with pytest.raises(ConfigError, match=r"cluster\.address"):
        parse_config(values(cluster={"address": f"tls://user:{SECRET}@scheduler:8786"}))


def test_permission_without_an_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="allow_unencrypted: there is no address"):
        parse_config(values(output=str(tmp_path), cluster={"allow_unencrypted": True}))
