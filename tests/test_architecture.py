"""The direction of imports, and which third-party package each part may use."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted([*ROOT.glob("lossops/**/*.py"), *ROOT.glob("flows/**/*.py")])

# A part may import the parts before it. Parts in one row do not see each other, but for the two arrows below.
LAYERS = (
    ("errors", "memory", "encoding", "stages", "collection"),
    ("kernels",),
    ("losses", "groups", "bins", "units", "sums", "histograms", "hardest", "versions"),
    ("measures", "reliability", "documents", "dates", "addresses"),
    ("state",),
    ("slices", "samples", "rounding", "quantiles", "ledger", "description", "curves"),
    ("at_once",),
    ("statistics", "disclosure"),
    ("calibration", "comparisons", "sliceline"),
    ("gates", "changes"),
    ("data",),
    ("report",),
    ("config",),
    ("tasks", "pieces"),
    ("pairing",),
    ("modes", "decoding"),
    ("layout",),
    ("scoring",),
    ("plan", "partition"),
    ("outline", "progress", "checkpoint"),
    ("attempts",),
    ("discovery",),
    ("runs",),
    ("engine", "results"),
    ("evaluation",),
    ("flows",),
)
THIRD_PARTY = {
    "errors": set(),
    "stages": set(),
    "addresses": set(),
    "dates": set(),
    "versions": set(),
    "kernels": {"numpy", "numba", "llvmlite", "scipy"},
    "losses": {"numpy"},
    "at_once": {"numpy"},
    "bins": {"numpy"},
    "calibration": {"numpy"},
    "units": {"numpy"},
    "histograms": {"numpy"},
    "hardest": {"numpy"},
    "quantiles": {"numpy"},
    "samples": {"numpy"},
    "rounding": {"numpy"},
    "comparisons": {"numpy", "scipy"},
    "gates": set(),
    "changes": {"numpy", "scipy"},
    "results": {"numpy", "pyarrow"},
    "measures": {"numpy"},
    "state": {"numpy"},
    "sums": {"numpy"},
    "reliability": {"numpy"},
    "disclosure": {"numpy"},
    "groups": {"numpy", "pyarrow"},
    "slices": {"numpy", "pyarrow"},
    "description": {"numpy"},
    "curves": {"numpy"},
    "statistics": {"numpy", "scipy"},
    "ledger": {"numpy"},
    "data": {"numpy", "pyarrow", "fsspec"},
    "report": {"jinja2", "orjson", "pyarrow", "vl_convert"},
    "documents": {"yaml"},
    "config": {"pydantic"},
    "tasks": {"numpy", "pyarrow"},
    "pairing": {"numpy", "pyarrow"},
    "modes": {"numpy"},
    "plan": set(),
    "decoding": {"numpy", "pyarrow"},
    "layout": {"numpy", "pyarrow"},
    "scoring": {"numpy", "pyarrow"},
    "partition": {"numpy", "pyarrow"},
    "encoding": {"numpy", "pyarrow"},
    "checkpoint": {"pyarrow"},
    "attempts": {"numpy"},
    "engine": {"distributed"},
    "evaluation": {"pyarrow"},
    "flows": {"click", "numpy", "prefect", "pyarrow", "pydantic", "rich", "yaml"},
}


def part_of(path: Path) -> str:
    """Return the part of the design that a source file belongs to."""
    package, *rest = path.relative_to(ROOT).with_suffix("").parts
    return "flows" if package == "flows" else rest[0]


def imports(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module)


def layer_of(part: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if part in layer)


@pytest.mark.parametrize("path", [path for path in MODULES if path != ROOT / "lossops/__init__.py"], ids=str)
def test_imports_point_one_way(path: Path) -> None:
    here = part_of(path)
    for module in imports(path):
        package, _, rest = module.partition(".")
        if package == "lossops" and rest:
            there = rest.partition(".")[0]
            assert there == here or layer_of(there) < layer_of(here), f"{here} imports {module}"
        assert package != "flows" or here == "flows", f"{here} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_each_part_uses_its_own_third_party_packages(path: Path) -> None:
    here = "__init__" if path == ROOT / "lossops/__init__.py" else part_of(path)
    used = {module.partition(".")[0] for module in imports(path)}
    foreign = used - set(sys.stdlib_module_names) - {"lossops", "flows"}
    assert foreign <= THIRD_PARTY.get(here, set())


def test_every_dependency_is_used_bounded_and_explained() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    lines = {re.split(r"[<>=\[]", line)[0]: line for line in tomllib.loads(text)["project"]["dependencies"]}
    used = {module.partition(".")[0] for path in MODULES for module in imports(path)}
    names = {"pyyaml": "yaml", "vl-convert-python": "vl_convert"}
    # Held back or pulled in for Prefect and Dask, which do not pin them to what works.
    indirect = {"fastapi", "dask"}
    assert {names.get(name, name) for name in lines} - indirect == used - set(sys.stdlib_module_names) - {
        "lossops",
        "flows",
    }
    for line in lines.values():
        assert re.search(r"[<>]=?", line), f"{line} has no bound"
        assert re.search(rf'"{re.escape(line)}",\s+# \w', text), f"{line} has no reason"


def test_nothing_imports_dask_or_prefect_when_the_command_line_starts() -> None:
    code = "import sys, flows.cli; print(*sorted({'prefect', 'distributed', 'numba', 'pandas'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
