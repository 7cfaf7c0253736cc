"""Where compiled kernels are kept: seen from fresh processes, as workers are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lossops

_PACKAGE = Path(lossops.__file__).resolve().parent
# Compiles (or loads) a plain kernel, and one made from a formula that a loop captures.
_REPORT = """
import json, warnings
warnings.simplefilter("error")
import numpy as np
from lossops.kernels import jit, checks
from lossops.losses import CATALOGUE, bound
import lossops.kernels.jit
chosen = bound.bind("mean_absolute_error", {}, "exact")
values = chosen.values(np.array([[1.0]]), np.array([[3.5]]), np.zeros(1, dtype=np.uint8))
loop = bound.compiled(chosen.form.row, chosen.loss.inputs)
kernels = [checks.check_losses, loop]
print(json.dumps({
    "value": values[0],
    "hits": [sum(kernel.stats.cache_hits.values()) for kernel in kernels],
    "misses": [sum(kernel.stats.cache_misses.values()) for kernel in kernels],
    "folder": lossops.kernels.jit.cache_folder(),
    "package": lossops.__file__,
}))
"""


def _python(script: str, environment: dict[str, str], package: Path) -> subprocess.CompletedProcess[str]:
    """Run a script; the working folder is the package's own, because Python looks there first."""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, cwd=package.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def _run(settings: dict[str, str], package: Path = _PACKAGE) -> dict[str, Any]:
    kept = {key: value for key, value in os.environ.items() if key not in ("LOSSOPS_CACHE_DIR", "XDG_CACHE_HOME")}
    environment = {**kept, "PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1", **settings}
    done = _python(_REPORT, environment, package)
    found: dict[str, Any] = json.loads(done.stdout)
    assert Path(found["package"]).parent == package
    assert found["value"] == 2.5
    return found


def _digest(package: Path) -> str:
    script = "from lossops.kernels.jit import kernel_digest; print(kernel_digest())"
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    return _python(script, environment, package).stdout.strip()


def _copy(tmp_path: Path) -> Path:
    target = tmp_path / "copy" / "lossops"
    shutil.copytree(_PACKAGE, target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    """The first one misses and stores, the second one hits; formulas captured by a loop as well."""
    settings = {"LOSSOPS_CACHE_DIR": str(tmp_path)}
    first, second = _run(settings), _run(settings)
    assert (first["hits"], first["misses"]) == ([0, 0], [1, 1])
    assert (second["hits"], second["misses"]) == ([1, 1], [0, 0])
    assert Path(second["folder"]).is_relative_to(tmp_path)
    assert not list(_PACKAGE.rglob("*.nbi"))


@pytest.mark.parametrize("source", ["losses/regression.py", "kernels/exact.py"])
def test_a_changed_source_names_another_folder(tmp_path: Path, source: str) -> None:
    """A formula in another file than its loop changes the digest, so no stale code can run."""
    package = _copy(tmp_path)
    before = _digest(package)
    with (package / source).open("a") as file:
        file.write("\n# changed\n")
    assert _digest(package) != before


def test_a_changed_formula_runs_at_once(tmp_path: Path) -> None:
    """The copy's formula is changed under a warm cache: the new value comes out."""
    package, settings = _copy(tmp_path), {"LOSSOPS_CACHE_DIR": str(tmp_path / "cache")}
    before = _run(settings, package)
    source = package / "losses" / "regression.py"
    text = source.read_text()
    assert text.count("return abs(prediction - label)\n") == 1
    source.write_text(text.replace("return abs(prediction - label)\n", "return 2.5 * abs(prediction - label) / 2.5\n"))
    after = _run(settings, package)
    assert after["folder"] != before["folder"]
    assert after["hits"] == [0, 0]


def test_other_sources_do_not_name_another_folder(tmp_path: Path) -> None:
    """Editing what never runs in a kernel keeps the compiled code."""
    package = _copy(tmp_path)
    before = _digest(package)
    with (package / "statistics.py").open("a") as file:
        file.write("\n# changed\n")
    assert _digest(package) == before


def test_a_place_that_cannot_be_written_means_no_cache(tmp_path: Path) -> None:
    """A file where the folder should be: kernels still run, compiled in memory."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    found = _run({"LOSSOPS_CACHE_DIR": str(blocked)})
    assert found["folder"] is None
    assert found["hits"] == [0, 0]


def test_a_home_that_cannot_be_written_means_the_temporary_folder(tmp_path: Path) -> None:
    """Containers often have a home that is read-only."""
    blocked, temporary = tmp_path / "file", tmp_path / "temporary"
    blocked.write_text("")
    temporary.mkdir()
    found = _run({"XDG_CACHE_HOME": str(blocked), "TMPDIR": str(temporary)})
    assert Path(found["folder"]).is_relative_to(temporary)


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    """Compiled kernels are code: someone else's are not run."""
    folder = Path(tmp_path, "lossops", f"kernels-{_digest(_PACKAGE)}")
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert _run({"LOSSOPS_CACHE_DIR": str(tmp_path)})["folder"] is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_someone_else_is_not_used(tmp_path: Path) -> None:
    """Even where this user could write to it."""
    folder = Path(tmp_path, "lossops", f"kernels-{_digest(_PACKAGE)}")
    folder.mkdir(parents=True, mode=0o700)
    os.chown(folder, 12345, 12345)
    assert _run({"LOSSOPS_CACHE_DIR": str(tmp_path)})["folder"] is None


_DECORATE = """
from concurrent.futures import ThreadPoolExecutor
import numba
from lossops.kernels.blocks import mean_of_elements
from lossops.kernels.jit import inline
def formula(label, prediction):
    return label - prediction
with ThreadPoolExecutor(16) as threads:
    made = list(threads.map(lambda _: mean_of_elements(inline(formula)), range(400)))
print(len({kernel.stats.cache_path for kernel in made}), repr(numba.config.CACHE_DIR))
"""


def test_threads_that_decorate_at_once_share_one_folder(tmp_path: Path) -> None:
    """Numba's setting is global: two threads that change it together must not scatter the cache over other folders."""
    environment = {**os.environ, "LOSSOPS_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", _DECORATE]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "''"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache"]
