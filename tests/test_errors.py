"""The exception tree and the tail of its messages."""

from __future__ import annotations

import pickle

import pytest

from lossops.errors import ConfigError, InputError, LossopsError, RunError, ShardError, nearest


@pytest.mark.parametrize(
    ("kind", "code"), [(ConfigError, 2), (InputError, 2), (ShardError, 2), (RunError, 3), (LossopsError, 3)]
)
def test_exit_codes(kind: type[LossopsError], code: int) -> None:
    """DESIGN.md 2.2: 2 config or input refused, 3 the run failed."""
    assert kind.exit_code == code
    assert issubclass(kind, LossopsError)


def test_a_shard_error_names_its_shard_and_is_an_input_error() -> None:
    """And survives the way from a worker process."""
    error = pickle.loads(pickle.dumps(ShardError("a/b.parquet", "not Parquet")))
    assert isinstance(error, InputError)
    assert (error.shard, error.problem, str(error)) == ("a/b.parquet", "not Parquet", "a/b.parquet: not Parquet")


@pytest.mark.parametrize("kind", [ConfigError, InputError, RunError])
def test_errors_survive_the_way_from_a_worker(kind: type[LossopsError]) -> None:
    """Pickled and back, the message is the same."""
    error = pickle.loads(pickle.dumps(kind("what, where")))
    assert (type(error), str(error)) == (kind, "what, where")


@pytest.mark.parametrize(
    ("name", "allowed", "tail"),
    [
        ("hubr", ["huber", "smooth_l1"], "did you mean 'huber'?"),
        ("HUBER", ["huber", "smooth_l1"], "did you mean 'huber'?"),
        ("price", ["Price", "cut"], "did you mean 'Price'?"),
        ("zzz", ["huber", "cut"], "allowed: cut, huber"),
        ("zzz", [], "allowed: none"),
        ("zzz", ["b", "a", "a"], "allowed: a, b"),
    ],
)
def test_nearest_spelling(name: str, allowed: list[str], tail: str) -> None:
    """The nearest one whatever the case, else what there is."""
    assert nearest(name, allowed) == tail


def test_a_long_list_is_cut() -> None:
    """A thousand columns do not fill the screen."""
    assert nearest("?", [f"c{number}" for number in range(1000)], limit=2) == "allowed: c0, c1, ..."
