"""Stored states: the same values back, never a damaged one, and never in the way of a run."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossops.checkpoint import Store, acquire_spill, clean, digest_of
from lossops.encoding import decode, encode
from lossops.partition import KeyRange, Outcome
from lossops.state import State
from tests.datasets import write_shards
from tests.here import score_here

CLASSES: dict[str, type] = {"KeyRange": KeyRange}
DIGESTS = [digest_of(str(number)) for number in range(20)]


def quiet(_level: int, _message: str) -> None:
    """Tell nobody."""


def store(folder: Path, **more: Any) -> Store:
    return Store(str(folder), **{"fresh": False, "log": quiet, **more})


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.dates(),
    st.datetimes(timezones=st.sampled_from([None, dt.UTC])),
    st.decimals(allow_nan=False),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.tuples(st.integers(), st.text()), inner, max_size=4),
        st.builds(KeyRange, st.integers(), st.integers()),
    ),
    max_leaves=20,
)


def kinds(value: Any) -> Any:
    """Return a value with its types, which equality alone does not tell apart: True equals 1."""
    if isinstance(value, list | tuple):
        return type(value), [kinds(one) for one in value]
    if isinstance(value, dict):
        return type(value), [(kinds(key), kinds(one)) for key, one in value.items()]
    if isinstance(value, float):
        return float, value.hex()
    return type(value), value


@settings(deadline=None)
@given(TREES)
def test_trees_come_back_as_they_were(tree: Any) -> None:
    assert kinds(decode(b"".join(encode(tree, CLASSES)), CLASSES)) == kinds(tree)


@pytest.mark.parametrize("dtype", ["u1", "i8", "f8", "f4", "?", "u8"])
@pytest.mark.parametrize("shape", [(0,), (3,), (2, 0, 4), (2, 3), ()])
def test_arrays_come_back_writable(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape)
    found = decode(b"".join(encode(array, {})), {})
    assert found.dtype == array.dtype
    assert found.shape == shape
    assert np.array_equal(found, array)
    assert found.flags.writeable


def test_special_numbers() -> None:
    values = [float("inf"), float("-inf"), -0.0, 5e-324, Decimal("1E+30"), np.float64(0.1), np.int64(-3)]
    assert kinds(decode(b"".join(encode(values, {})), {})) == kinds(values)
    assert np.isnan(decode(b"".join(encode(float("nan"), {})), {}))
    assert decode(b"".join(encode(Counter(a=2), {})), {}) == Counter(a=2)


@pytest.mark.parametrize("value", [{1, 2}, object(), np.array([object()]), KeyRange(1, 2), pa.schema([])])
def test_nothing_else_is_stored(value: object) -> None:
    with pytest.raises(TypeError, match="cannot be stored"):
        encode([value], {})


def test_a_damaged_value_is_never_taken() -> None:
    """One flipped bit anywhere, or any end cut off."""
    content = b"".join(encode({"a": (1, np.arange(50.0)), "b": KeyRange(1, 2)}, CLASSES))
    random = np.random.default_rng(0)
    for _ in range(1000):
        damaged = bytearray(content)
        damaged[random.integers(len(content))] ^= 1 << random.integers(8)
        try:
            found = decode(bytes(damaged), CLASSES)
        except ValueError:
            continue
        assert np.array_equal(found["a"][1], np.arange(50.0))  # padding that carries nothing
        assert (found["a"][0], found["b"]) == (1, KeyRange(1, 2))
    for length in range(0, len(content) - 8, 7):
        with pytest.raises(ValueError, match="value"):
            decode(content[:length], CLASSES)


def outcome() -> Outcome:
    return Outcome(State.zero(2), {"predictions": 3, "labels": 3}, {"predictions": {}, "labels": {}}, 0.5)


def test_what_was_put_is_found(tmp_path: Path) -> None:
    store(tmp_path).put(DIGESTS[0], outcome())
    found = store(tmp_path).get(DIGESTS[0])
    assert (found.rows, found.seconds) == ({"predictions": 3, "labels": 3}, 0.5)
    assert store(tmp_path).get(DIGESTS[1]) is None
    assert store(tmp_path, fresh=True).get(DIGESTS[0]) is None


def test_a_store_that_cannot_write_gives_up_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    told: list[str] = []
    full = store(tmp_path / "file", log=lambda _level, text: told.append(text))
    full.put(DIGESTS[0], outcome())
    full.put(DIGESTS[1], outcome())
    assert len(told) == 1
    assert told[0].startswith("states are not stored")
    assert full.get(DIGESTS[0]) is None


def test_clean_removes_by_age_and_only_its_own(tmp_path: Path) -> None:
    own = store(tmp_path / "states")
    for digest in DIGESTS:
        own.put(digest, outcome())
    files = sorted((tmp_path / "states").rglob("*.state"))
    for path in files[:5]:
        os.utime(path, (0, 0))
    (tmp_path / "states" / "notes.txt").write_text("mine")
    (tmp_path / "spill-of-someone").mkdir()
    gone = clean(str(tmp_path), 3600)
    assert (gone.states, gone.folders) == (5, 0)
    assert clean(str(tmp_path), 0).states == 15
    assert (tmp_path / "states" / "notes.txt").exists()
    assert (tmp_path / "spill-of-someone").exists()


HOLD = """
import sys
from lossops.checkpoint import acquire_spill
with acquire_spill(sys.argv[1], sys.argv[2], sys.argv[3]) as folder:
    open(folder + "/rows", "w").close()
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_folders_of_dead_runs_are_taken_over_and_those_of_the_living_are_not(tmp_path: Path) -> None:
    holders = []
    for digest in DIGESTS[:2]:
        words = [sys.executable, "-c", HOLD, str(tmp_path), digest, digest]
        holders.append(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    folders = [Path(one.stdout.readline().strip()) for one in holders if one.stdout]
    with acquire_spill(str(tmp_path), DIGESTS[0], DIGESTS[9]) as mine:
        assert Path(mine) not in folders
        assert all(folder.exists() for folder in folders)
    assert not Path(mine).exists()
    for one in holders:
        one.kill()
        one.communicate()
    with acquire_spill(str(tmp_path), DIGESTS[0], DIGESTS[9]) as mine:
        assert Path(mine) == folders[0]
        assert (folders[0] / "rows").exists()
        assert not folders[1].exists()
    assert not folders[0].exists()


def test_clean_finds_what_a_killed_run_spilled(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLD, str(tmp_path), DIGESTS[0], DIGESTS[1]]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    holder.stdout.readline()
    assert clean(str(tmp_path), 0).folders == 0
    holder.kill()
    holder.communicate()
    assert clean(str(tmp_path), 0).folders == 1


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.date32(), pa.timestamp("us", "UTC"), pa.bool_(), pa.decimal128(30, 2)]
)
def test_states_with_slices_of_any_type(tmp_path: Path, kind: pa.DataType) -> None:
    """Slice values are kept with their types, so that stored and fresh states merge."""
    numbers = pa.array([0, 1, None, 1], pa.int32())
    column = numbers.cast(kind) if kind == pa.date32() else numbers.cast(pa.string()).cast(pa.int64()).cast(kind)
    table = pa.table({"y": [1.0, 2.0, 3.0, 4.0], "p": [1.5, 2.5, 3.5, 9.0], "s": column})
    path = write_shards(tmp_path / "data", [table, table])
    values_ = {
        "name": "typed",
        "labels": {"path": path, "label": "y"},
        "models": {"m": {"path": path, "prediction": "p"}},
        "losses": ["mean_squared_error", "root_mean_squared_error"],
        "slices": ["s"],
        "output": str(tmp_path / "reports"),
    }
    first, second = score_here(values_), score_here(values_)
    assert (first.reused, second.reused) == (0, 2)
    assert [table.keys for table in first.state.tables] == [table.keys for table in second.state.tables]
    third = score_here(values_, fresh=True)
    assert (third.state + second.state).tables[1].keys == third.state.tables[1].keys
