"""Configuration: every key, every message, and files that want to hurt."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import lossops
from lossops.config import RunConfig, load_config, parse_config
from lossops.errors import ConfigError
from lossops.losses import bind
from lossops.slices import Axis, Slice

# DESIGN.md 2.1, with every other key.
_EXAMPLE = """
name: diamonds-price
labels:
  path: data/diamonds/labels
  label: price
models:
  candidate: {path: data/diamonds/predictions, prediction: yhat}
  baseline:  {path: [a.parquet, b.parquet], prediction: [p0, p1, p2]}
key: diamond_id
duplicates: drop
order_by: null
weight: null
unit: null
unit_buckets: 100
quantiles: [0.5]
hardest: 3
confidence: 0.9
losses:
  - mean_absolute_error
  - {loss: huber, delta: 100.0}
  - {loss: binary_crossentropy, prediction: p_click, label: clicked, name: click_bce}
slices:
  - cut
  - [cut, color]
  - {column: carat, bins: [0.5, 1.0, 2.0]}
convention: keras
on_invalid: count
on_bad_shard: quarantine
baseline: null
gates: []
discover: null
calibration: 10
min_rows: 0
date: null
timezone: UTC
output: reports
work: scratch
memory: 2GiB
cluster: null
"""


def _example(**changes: Any) -> dict[str, Any]:
    """The example as a mapping, with some keys replaced; a value of ``...`` removes the key."""
    values = {**yaml.safe_load(_EXAMPLE), **changes}
    return {key: value for key, value in values.items() if value is not ...}


def _write(folder: Path, content: str | bytes) -> str:
    path = folder / "run.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def _message(path: str, settings: tuple[str, ...] = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, settings)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


def test_the_design_example_is_read(tmp_path: Path) -> None:
    """Every key of DESIGN.md 2.1 that this version offers."""
    config = load_config(_write(tmp_path, _EXAMPLE))
    assert (config.name, config.labels.path, config.labels.label) == (
        "diamonds-price",
        ["data/diamonds/labels"],
        "price",
    )
    assert list(config.models) == ["candidate", "baseline"]
    assert config.models["candidate"].path == ["data/diamonds/predictions"]
    assert config.models["baseline"].path == ["a.parquet", "b.parquet"]
    assert config.models["baseline"].prediction == ["p0", "p1", "p2"]
    assert (config.key, config.weight, config.unit, config.baseline) == (["diamond_id"], None, None, None)
    assert (config.convention, config.on_invalid, config.output, config.cluster) == ("keras", "count", "reports", None)
    assert [loss.shown for loss in config.losses] == ["mean_absolute_error", "huber", "click_bce"]
    assert (config.losses[2].prediction, config.losses[2].label) == ("p_click", "clicked")
    expected = (("mean_absolute_error", {}), ("huber", {"delta": 100.0}), ("binary_crossentropy", {}))
    assert config.bound_losses == tuple(bind(name, parameters, "keras") for name, parameters in expected)
    axes = ((Axis("cut"),), (Axis("cut"), Axis("color")), (Axis("carat", (0.5, 1.0, 2.0)),))
    assert config.chosen_slices == tuple(map(Slice, axes))


def test_keys_that_may_be_left_out() -> None:
    """Defaults of DESIGN.md 2.1."""
    optional = dict.fromkeys(("key", "weight", "slices", "convention", "on_invalid", "output", "cluster"), ...)
    config = parse_config(_example(**optional))
    assert (config.key, config.weight, config.slices, config.convention) == (None, None, [], "keras")
    assert (config.on_invalid, config.output, config.cluster, config.gates) == ("count", "reports", None, [])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"cluster": {"workers": 4}},
        {"cluster": {"workers": 2, "threads": 3}},
        {"cluster": {"address": "tls://host:8786"}},
        {"key": ["a", "b"]},
        {"convention": "tf_keras", "on_invalid": "fail"},
        {"slices": [["a", {"column": "b", "bins": [-1, 0.1, 1e300]}]]},
        {"losses": [{"loss": "sparse_categorical_crossentropy", "ignore_class": -1, "from_logits": True}]},
        {"losses": [{"loss": "huber", "delta": 0.1}, {"loss": "huber", "delta": 1 / 3, "name": "other"}]},
    ],
)
def test_dumping_and_parsing_is_a_round_trip(changes: dict[str, Any]) -> None:
    """What run.json and Prefect store reads back as the same config."""
    config = parse_config(_example(**changes))
    again = parse_config(config.model_dump(mode="json"))
    assert again == config
    assert again.bound_losses == config.bound_losses
    assert again.chosen_slices == config.chosen_slices


def test_a_config_is_frozen() -> None:
    """Nobody changes a run's settings on the way."""
    config = parse_config(_example())
    with pytest.raises(ValueError, match="frozen"):
        config.name = "other"  # type: ignore[misc]


_PATH = {"path": "a"}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"nmae": "x"}, ["nmae", "'name'"]),
        ({"gate": []}, ["gate", "'gates'"]),
        ({"labels": {"path": "a", "lable": "y"}}, ["labels", "lable", "'label'"]),
        ({"models": {"m": {"path": "a", "predictoin": "y"}}}, ["models.m", "predictoin", "'prediction'"]),
        ({"slices": [{"colum": "a"}]}, ["slices.0", "colum", "'column'"]),
        ({"cluster": {"worker": 2}}, ["cluster", "worker", "'workers'"]),
        ({"name": ...}, ["name", "missing"]),
        ({"labels": ...}, ["labels", "missing"]),
        ({"models": ...}, ["models", "missing"]),
        ({"losses": ...}, ["losses", "missing"]),
        ({"labels": {"label": "y"}}, ["labels.path", "missing"]),
        ({"models": {"m": {}}}, ["models.m.path", "missing"]),
        ({"losses": [{"delta": 1.0}]}, ["losses.0.loss", "missing"]),
        ({"slices": [{"bins": [1.0]}]}, ["slices.0", "column", "missing"]),
        ({"name": "a b"}, ["name", "'a b'"]),
        ({"name": ""}, ["name", "''"]),
        ({"name": "../up"}, ["name", "'../up'"]),
        ({"name": "x\n"}, ["name"]),
        ({"name": 5}, ["name", "5", "a text"]),
        ({"name": "n" * 500}, ["name"]),
        ({"labels": "folder"}, ["labels", "'folder'"]),
        ({"labels": {"path": []}}, ["labels.path", "empty"]),
        ({"labels": {"path": 5}}, ["labels.path", "5"]),
        ({"models": {}}, ["models"]),
        ({"models": []}, ["models"]),
        ({"models": {"m": "folder"}}, ["models.m", "'folder'"]),
        ({"losses": []}, ["losses", "empty", "at least one"]),
        ({"losses": "huber"}, ["losses", "'huber'", "list"]),
        ({"losses": ["hubr"]}, ["losses.0", "'hubr'", "'huber'"]),
        ({"losses": ["huber", {"loss": "huber", "name": "h", "dleta": 1}]}, ["losses.1", "'dleta'", "'delta'"]),
        ({"losses": [{"loss": "huber", "delta": -1}]}, ["losses.0", "delta", "-1", "(0, inf)"]),
        ({"losses": [{"loss": "huber", "delta": "1e3"}]}, ["losses.0", "delta", "'1e3'", "a number"]),
        ({"losses": [{"loss": "huber", "delta": 10**400}]}, ["losses.0", "delta", "a number"]),
        ({"losses": [{"loss": "huber", "delta": math.inf}]}, ["losses.0", "delta", "inf"]),
        ({"losses": [5]}, ["losses.0", "5"]),
        ({"losses": ["huber", "huber"]}, ["losses", "'huber'", "more than once", "name"]),
        (
            {"losses": ["huber", {"loss": "mean_squared_error", "name": "huber"}]},
            ["losses", "'huber'", "more than once"],
        ),
        ({"slices": ["cut", "cut"]}, ["slices", "cut", "more than once"]),
        ({"slices": [[]]}, ["slices.0", "empty"]),
        ({"slices": "cut"}, ["slices", "'cut'", "list"]),
        ({"slices": [5]}, ["slices.0", "5"]),
        ({"slices": [{"column": "c", "bins": []}]}, ["slices.0", "bins", "empty"]),
        ({"slices": [{"column": "c", "bins": [2.0, 1.0]}]}, ["slices.0", "bins", "[2.0, 1.0]", "increas"]),
        ({"slices": [{"column": "c", "bins": [1.0, 1.0]}]}, ["slices.0", "bins", "increas"]),
        ({"slices": [{"column": "c", "bins": [1.0, math.nan]}]}, ["slices.0", "bins", "nan"]),
        ({"slices": [{"column": "c", "bins": ["x"]}]}, ["slices.0", "bins", "'x'"]),
        ({"key": ["a", "a"]}, ["key", "'a'", "more than once"]),
        ({"key": 5}, ["key", "5"]),
        ({"key": []}, ["key"]),
        ({"weight": ["w"]}, ["weight", "a text"]),
        ({"convention": "kears"}, ["'kears'", "'keras'"]),
        ({"convention": "numpy"}, ["'numpy'", "allowed", "tf_keras"]),
        ({"on_invalid": "ignore"}, ["on_invalid", "'ignore'", "count", "fail"]),
        ({"unit": ["user"]}, ["unit", "a text"]),
        ({"unit_buckets": 1}, ["unit_buckets", "1"]),
        ({"quantiles": [50]}, ["quantiles.0", "50", "1"]),
        ({"quantiles": [0.5, 0.5]}, ["quantiles", "0.5", "once"]),
        ({"hardest": -1}, ["hardest", "-1", "0"]),
        ({"confidence": 95}, ["confidence", "95", "1"]),
        ({"baseline": "baselin"}, ["baseline", "'baselin'", "'baseline'"]),
        ({"models": {"m": {"path": "p", "prediction": "x"}}, "baseline": "m"}, ["baseline", "only model"]),
        ({"gates": [{"max": 1}]}, ["gates.0", "loss", "share"]),
        ({"gates": [{"loss": "huber"}]}, ["gates.0", "no limit", "max_increase"]),
        ({"gates": [{"loss": "huber", "max": 1, "max_increase": 1}]}, ["gates.0", "max and max_increase"]),
        ({"gates": [{"loss": "hubr", "max": 1}]}, ["gates.0.loss", "'hubr'", "'huber'"]),
        ({"gates": [{"loss": "huber", "model": "candidat", "max": 1}]}, ["gates.0.model", "'candidate'"]),
        ({"gates": [{"loss": "huber", "max": 1, "slices": ["colour"]}]}, ["gates.0.slices", "'colour'"]),
        ({"gates": [{"loss": "huber", "max": 1, "slices": []}]}, ["gates.0.slices", "empty"]),
        ({"gates": [{"loss": "huber", "max": 1, "mx": 2}]}, ["gates.0", "'mx'", "'max'"]),
        ({"gates": [{"loss": "huber", "max_increase": 1}], "baseline": None}, ["gates.0.max_increase", "no baseline"]),
        (
            {"baseline": "baseline", "gates": [{"loss": "huber", "model": "baseline", "max_increase": 1}]},
            ["gates.0.model", "'baseline'", "itself"],
        ),
        ({"gates": [{"share": "invalid", "max_increase": 1}]}, ["gates.0", "share", "max"]),
        ({"gates": [{"share": "bad", "max": 1}]}, ["gates.0.share", "'bad'", "invalid"]),
        ({"gates": 2 * [{"loss": "huber", "max": 1}]}, ["gates", "more than once", "name"]),
        (
            {"losses": ["r2"], "gates": [{"loss": "r2", "max": 1}]},
            ["gates.0.loss", "r2", "measure", "no interval"],
        ),
        ({"cluster": {"workers": 0}}, ["cluster.workers", "0"]),
        ({"cluster": {"workers": "many"}}, ["cluster.workers", "'many'"]),
        ({"cluster": {"workers": 2, "address": "tcp://x:1"}}, ["cluster", "address", "workers"]),
        ({"cluster": 4}, ["cluster", "4"]),
    ],
)
def test_refused_values(changes: dict[str, Any], parts: list[str]) -> None:
    """One line that names the key, the value found and what is allowed, with the nearest spelling."""
    with pytest.raises(ConfigError) as caught:
        parse_config(_example(**changes))
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    assert [part for part in parts if part not in message] == [], message


# Files


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ["nothing", "mapping"]),
        ("# only a comment\n", ["nothing", "mapping"]),
        ("- a\n- b\n", ["a list", "mapping"]),
        ("just text\n", ["a text", "mapping"]),
        ("5\n", ["a number", "mapping"]),
        ("2020-01-01\n", ["date", "mapping"]),
        ("a: [1\n", ["not valid YAML", "line"]),
        ("a: b: c\n", ["not valid YAML"]),
        ("a: 1\n---\na: 2\n", ["not valid YAML", "document"]),
        ("\tname: x\n", ["not valid YAML"]),
        (b"name: caf\xe9\n", ["UTF-8", "byte 9"]),
        (b"\xff\xfen\x00a\x00", ["UTF-8"]),
        (b"name: x\x00y\n", ["not valid YAML"]),
        ("name: a\nlabels: {}\nname: b\n", ["'name'", "2 times", "line 1"]),
        ("labels:\n  path: a\n  path: b\n", ["'path'", "2 times", "line 2"]),
        ("models: {m: {path: a}, m: {path: b}}\n", ["'m'", "2 times"]),
        ("name: !!python/object/apply:os.system ['true']\n", ["not valid YAML", "python"]),
        ("name: !!python/name:os.system\n", ["not valid YAML", "python"]),
        ("!!python/object:builtins.object {}\n", ["not valid YAML"]),
        ("name: !custom x\n", ["not valid YAML"]),
        ("name: *missing\n", ["not valid YAML", "missing"]),
        ("? [a, b]\n: c\n", ["not valid YAML"]),
        ("? {a: b}\n: c\n", ["not valid YAML"]),
        ("name: 2020-13-45\n", []),
        ("name: 0b_\n", []),
        ("name: !!int abc\n", []),
        ("name: !!float abc\n", []),
        ("name: !!bool abc\n", []),
        ("name: !!timestamp abc\n", []),
        ("name: !!binary '*'\n", []),
        ("name: " + "9" * 5000 + "\n", []),
        ("a: &a [*a]\n", []),
        ("a: &a {b: *a}\n", []),
        ("&a {<<: *a, name: x}\n", []),
        ("[" * 100_000, []),
        ("{a: " * 50_000, []),
        ("a:\n" + "".join(" " * depth + "a:\n" for depth in range(1, 500)), []),
        ("x: &x a\ny: [" + "*x, " * 200_000 + "]\n", ["aliases"]),
        ("x: [" + "1, " * 100_001 + "]\n", ["values"]),
        ("#" * (1 << 20) + "\n", ["1 MiB"]),
    ],
)
def test_refused_files(tmp_path: Path, content: str | bytes, parts: list[str]) -> None:
    """One line that begins with the file, never a traceback, never code that runs."""
    path = _write(tmp_path, content)
    message = _message(path)
    assert message.startswith(path)
    assert [part for part in parts if part not in message] == [], message


def test_missing_file_and_folder(tmp_path: Path) -> None:
    """The system's own words, with the path."""
    assert "No such file" in _message(str(tmp_path / "none.yaml"))
    assert "directory" in _message(str(tmp_path))


def test_million_aliases_through_few_names(tmp_path: Path) -> None:
    """Billion laughs: ten levels of ten aliases are refused before they are expanded."""
    levels = ["a0: &a0 [lol, lol]"]
    levels += [f"a{depth}: &a{depth} [{', '.join([f'*a{depth - 1}'] * 10)}]" for depth in range(1, 11)]
    assert "values" in _message(_write(tmp_path, "\n".join(levels) + "\n"))


def test_an_explosion_of_merge_keys_ends_at_once(tmp_path: Path) -> None:
    """Merge keys multiply while YAML is read; in a process of its own, limited to seconds and to 1 GiB of memory."""
    levels = ["a0: &a0 {x: 1, y: 2}"]
    levels += [f"a{depth}: &a{depth} {{<<: [{', '.join([f'*a{depth - 1}'] * 10)}]}}" for depth in range(1, 11)]
    path = _write(tmp_path, "\n".join(levels) + "\n")
    script = (
        "import resource, sys; from lossops.config import load_config; from lossops.errors import ConfigError\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (5, 5))\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30),) * 2)\n"
        "try:\n    load_config(sys.argv[1])\nexcept ConfigError as error:\n    print('refused:', error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(lossops.__file__).resolve().parents[1])}
    command = [sys.executable, "-c", script, path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("refused:"), (done.returncode, done.stderr[-300:])


def test_ordinary_anchors_and_merge_keys_are_read(tmp_path: Path) -> None:
    """What people write: a shared block, overridden below; merged blocks may be merged again."""
    text = _EXAMPLE.replace("  candidate: {", "  other: &base {path: a, prediction: y}\n  candidate: {<<: *base, ")
    config = load_config(_write(tmp_path, text))
    assert config.models["candidate"].prediction == "yhat"
    assert config.models["other"].prediction == "y"


def test_an_override_that_is_merged_elsewhere_is_not_a_repeated_key(tmp_path: Path) -> None:
    """A block overrides what it merges, and a less nested block merges it: no key is written twice."""
    text = """
name: x
models:
  first: &base {path: a}
  second: &next {<<: *base, path: b}
labels: {<<: *next}
losses: [huber]
"""
    config = load_config(_write(tmp_path, text))
    assert (config.models["second"].path, config.labels.path) == (["b"], ["b"])


# --set


@pytest.mark.parametrize(
    ("setting", "read"),
    [
        ("name=other", lambda config: config.name == "other"),
        ("output=s3://bucket/a=b", lambda config: config.output == "s3://bucket/a=b"),
        ("convention=exact", lambda config: config.convention == "exact"),
        ("cluster={workers: 3}", lambda config: config.cluster.workers == 3),
        ("models.candidate.prediction=z", lambda config: config.models["candidate"].prediction == "z"),
        ("models.new={path: x, prediction: y}", lambda config: config.models["new"].path == ["x"]),
        ("models.new.path=x", lambda config: config.models["new"].path == ["x"]),
        ("losses.1.delta=7.5", lambda config: config.losses[1].model_extra == {"delta": 7.5}),
        ("losses.0=mean_squared_error", lambda config: config.losses[0].loss == "mean_squared_error"),
        ("slices=[]", lambda config: config.slices == []),
        ("slices.2.bins.0=0.25", lambda config: config.slices[2][0].bins == [0.25, 1.0, 2.0]),
        ("key=", lambda config: config.key is None),
        ("key=[a, b]", lambda config: config.key == ["a", "b"]),
    ],
)
def test_overrides(tmp_path: Path, setting: str, read: Any) -> None:
    """A dotted key reaches into mappings and lists; the value is YAML."""
    assert read(load_config(_write(tmp_path, _EXAMPLE), [setting]))


def test_later_overrides_win(tmp_path: Path) -> None:
    """In the order of the command line."""
    assert load_config(_write(tmp_path, _EXAMPLE), ["name=a", "name=b"]).name == "b"


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("name", ["--set", "'name'", "key=value"]),
        ("=x", ["--set", "key=value"]),
        ("date=2026-13-01", ["--set date=2026-13-01", "month must be in 1..12"]),
        ("nmae=x", ["nmae", "'name'"]),
        ("losses.9.delta=1", ["--set losses.9.delta", "'9'", "0 to 2"]),
        ("losses.-1=huber", ["--set losses.-1", "'-1'", "0 to 2"]),
        ("losses.x=huber", ["--set losses.x", "'x'", "0 to 2"]),
        ("name.deep=1", ["--set name.deep", "a text", "mapping"]),
        ("name.deep.er=1", ["--set name.deep.er", "a text", "mapping"]),
        ("losses.1.delta=-3", ["losses.1", "delta", "-3", "(0, inf)"]),
        ("name=[1", ["not valid YAML"]),
        ("name=2020-13-45", []),
        ("losses.1.delta=" + "9" * 400, ["delta"]),
    ],
)
def test_refused_overrides(tmp_path: Path, setting: str, parts: list[str]) -> None:
    """One line, as for the file."""
    message = _message(_write(tmp_path, _EXAMPLE), (setting,))
    assert [part for part in parts if part not in message] == [], message


def test_the_schema_describes_every_key() -> None:
    """The Prefect form and the documentation show a line for each top-level key that is not a nested model."""
    properties = RunConfig.model_json_schema()["properties"]
    assert set(yaml.safe_load(_EXAMPLE)) == set(properties)
    undescribed = {key for key, found in properties.items() if "description" not in found}
    assert undescribed <= {"labels", "losses"}
