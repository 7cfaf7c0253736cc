"""What every comparison with a library has in common: a table of cases, and how a case is compared.

A case is one line: our loss and parameters, the rows to draw, how the library is called, and the convention where it is
not that of the table. Libraries are passed in, so that tables can be read where a library is absent.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

import lossops
from lossops.losses import CATALOGUE, bind, parameters_of
from lossops.losses.declaration import SWITCHES
from tests.losses.scoring import score
from tests.oracles import Floats

ROWS = 200
GROUPS = 210
EXACT = 1e-12  # relative, for libraries that compute in float64

Rows = Callable[[np.random.Generator], tuple[npt.NDArray[Any], Floats]]


@dataclass(frozen=True)
class Case:
    """One loss with one set of parameters, compared with one function of one library.

    Args:
        loss: name in our catalogue.
        parameters: ours.
        rows: draws labels and predictions, one row each.
        theirs: ``theirs(library, labels, predictions)``, the value of each row.
        convention: ours; None for the one of the table.
        rtol, atol: allowed distance.
        why: the reason for more than `EXACT`.
    """

    loss: str
    parameters: Mapping[str, Any]
    rows: Rows
    theirs: Callable[[Any, Any, Any], Any]
    convention: str | None = None
    rtol: float = EXACT
    atol: float = 0.0
    why: str = ""

    def __post_init__(self) -> None:
        """Refuse a tolerance without a reason."""
        if (self.rtol, self.atol) != (EXACT, 0.0) and not self.why:
            raise ValueError(f"{self}: a wider tolerance needs a reason")

    def __str__(self) -> str:
        settings = ",".join(f"{key}={value}" for key, value in self.parameters.items())
        return f"{self.loss}({settings})-{getattr(self.rows, 'name', self.rows.__name__)}"

    @property
    def form(self) -> tuple[str, str | None]:
        """The loss and the switch that asks for a form of it."""
        return self.loss, next((switch for switch in SWITCHES if self.parameters.get(switch)), None)

    def draw(self) -> tuple[npt.NDArray[Any], Floats]:
        """Return the rows, which depend on nothing but the case."""
        return self.rows(np.random.default_rng(zlib.crc32(str(self).encode())))


def in_float32(case: Case) -> Case:
    """The same case for a library that computes in float32, on rows that float32 holds."""

    @named(f"{case.rows.name}-float32")  # type: ignore[attr-defined]
    def draw(rng: np.random.Generator) -> tuple[npt.NDArray[Any], Floats]:
        labels, predictions = case.rows(rng)
        whole = np.issubdtype(labels.dtype, np.integer)
        return labels if whole else labels.astype(np.float32).astype(np.float64), predictions.astype(np.float32).astype(
            np.float64
        )

    takes = {parameter.name for parameter in parameters_of(CATALOGUE[case.loss])}
    parameters = {**case.parameters, **({"precision": "float32"} if "precision" in takes else {})}
    return replace(case, parameters=parameters, rows=draw, rtol=1e-4, atol=2e-6, why="float32 has seven digits")


def assert_same(case: Case, library: Any, convention: str) -> None:
    """Compare every row."""
    labels, predictions = case.draw()
    ours = our_values(case.loss, case.parameters, case.convention or convention, labels, predictions)
    theirs = np.asarray(case.theirs(library, labels, predictions), dtype=np.float64)
    assert ours.shape == theirs.shape
    assert len(ours) >= 200
    np.testing.assert_allclose(ours, theirs, rtol=case.rtol, atol=case.atol, equal_nan=False)


def our_values(loss: str, parameters: Mapping[str, Any], convention: str, labels: Any, predictions: Any) -> Floats:
    """Score rows, none of which may be refused."""
    sides = (np.reshape(side, (len(predictions), np.size(side) // len(predictions))) for side in (labels, predictions))
    values, reasons = score(bind(loss, parameters, convention), *sides)
    assert not reasons.any(), f"{loss}: rows {np.flatnonzero(reasons)[:5]} refused: {reasons[reasons > 0][:5]}"
    return values


# Rows. Each function takes what is fixed for the case and returns a function that draws.


def named(name: str) -> Callable[[Rows], Rows]:
    """Name a draw for test ids."""

    def apply(draw: Rows) -> Rows:
        draw.name = name  # type: ignore[attr-defined]
        return draw

    return apply


def reals(width: int = 3, scale: float = 2.0) -> Rows:
    """Labels and predictions of any sign, some of them equal."""

    @named(f"reals{width}")
    def draw(rng: np.random.Generator) -> tuple[Floats, Floats]:
        labels = rng.normal(0.0, 3.0, (ROWS, width))
        predictions = labels + rng.normal(0.0, scale, (ROWS, width))
        predictions[::20] = labels[::20]
        return labels, predictions

    return draw


def with_zero_labels(width: int = 3) -> Rows:
    """Labels of any sign, a third of them 0 and some tiny."""

    @named(f"zeros{width}")
    def draw(rng: np.random.Generator) -> tuple[Floats, Floats]:
        labels = rng.normal(0.0, 3.0, (ROWS, width)) * rng.choice([0.0, 1e-9, 1.0, 100.0], (ROWS, width))
        return labels, rng.normal(0.0, 3.0, (ROWS, width))

    return draw


def positives(width: int = 3, zeros: bool = False, low: float = 0.01) -> Rows:
    """Positive labels and predictions; with ``zeros`` a third of the labels are 0."""

    @named(f"positives{width}{'z' if zeros else ''}")
    def draw(rng: np.random.Generator) -> tuple[Floats, Floats]:
        labels = low + rng.gamma(1.5, 2.0, (ROWS, width))
        if zeros:
            labels[rng.random((ROWS, width)) < 1 / 3] = 0.0
        return labels, low + rng.gamma(1.5, 2.0, (ROWS, width))

    return draw


def counts(width: int = 3, low: float = 0.01) -> Rows:
    """Counts from 0, and positive predictions."""

    @named(f"counts{width}")
    def draw(rng: np.random.Generator) -> tuple[Floats, Floats]:
        means = low + rng.gamma(1.5, 3.0, (ROWS, width))
        return rng.poisson(means).astype(np.float64), means

    return draw


def _probabilities(rng: np.random.Generator, shape: tuple[int, ...], edges: bool) -> Floats:
    found = rng.random(shape)
    if edges:
        extreme = [0.0, 1.0, 1e-30, 1e-9, 1e-5, 1.0 - 1e-9, 1.0 - 2.0**-53]
        found = np.where(rng.random(shape) < 0.4, rng.choice(extreme, shape), found)
    return found


def binary(width: int = 1, soft: bool = False, edges: bool = True) -> Rows:
    """Labels 0, 1 or between, and probabilities; with ``edges`` 40 % of these are 0, 1 or close to them."""

    @named(f"binary{width}{'soft' if soft else ''}{'edges' if edges else ''}")
    def draw(rng: np.random.Generator) -> tuple[Floats, Floats]:
        labels = rng.random((ROWS, width)) if soft else rng.integers(0, 2, (ROWS, width)).astype(np.float64)
        return labels, _probabilities(rng, (ROWS, width), edges)

    return draw


def binary_logits(width: int = 1, soft: bool = False, scale: float = 10.0) -> Rows:
    """Labels 0, 1 or between, and logits."""

    @named(f"logits{width}{'soft' if soft else ''}")
    def draw(rng: np.random.Generator) -> tuple[Floats, Floats]:
        labels = rng.random((ROWS, width)) if soft else rng.integers(0, 2, (ROWS, width)).astype(np.float64)
        return labels, np.clip(rng.normal(0.0, scale, (ROWS, width)), -3 * scale, 3 * scale)

    return draw


def signs(width: int = 1) -> Rows:
    """Labels -1 or 1, and scores."""

    @named(f"signs{width}")
    def draw(rng: np.random.Generator) -> tuple[Floats, Floats]:
        labels = rng.choice([-1.0, 1.0], (ROWS, width))
        return labels, rng.normal(0.0, 2.0, (ROWS, width))

    return draw


def _labels_of(kind: str, rng: np.random.Generator, classes: int) -> npt.NDArray[Any]:
    index = rng.integers(0, classes, ROWS)
    index[:classes] = np.arange(classes)  # some libraries infer the classes from the labels
    if kind == "index":
        return index
    return np.eye(classes)[index] if kind == "one-hot" else rng.dirichlet(np.ones(classes), ROWS)


def classes(kind: str = "index", width: int = 4, edges: bool = True, sums: float = 0.0) -> Rows:
    """Labels as ``index``, ``one-hot`` or ``soft``, and probabilities of classes, whose sum misses 1 by ``sums``."""

    @named(f"{kind}{width}{'edges' if edges else ''}{'unnormalised' if sums else ''}")
    def draw(rng: np.random.Generator) -> tuple[npt.NDArray[Any], Floats]:
        predictions = rng.dirichlet(np.full(width, 0.5), ROWS)
        if edges:
            predictions[::5] = np.eye(width)[rng.integers(0, width, len(predictions[::5]))]
            predictions[1::5, :2] = predictions[1::5, :2].sum(axis=1, keepdims=True) * [1e-9, 1.0 - 1e-9]
        predictions *= 1.0 - sums * rng.random((ROWS, 1))
        return _labels_of(kind, rng, width), predictions

    return draw


def class_scores(kind: str = "index", width: int = 4, scale: float = 3.0, ties: bool = False) -> Rows:
    """Labels as ``index``, ``one-hot`` or ``soft``, and a score for each class; ``ties`` makes most of them equal."""

    @named(f"{kind}{width}{'ties' if ties else ''}")
    def draw(rng: np.random.Generator) -> tuple[npt.NDArray[Any], Floats]:
        scores = rng.normal(0.0, scale, (ROWS, width))
        if ties:
            scores = rng.integers(0, 3, (ROWS, width)) / 4.0
        return _labels_of(kind, rng, width), scores

    return draw


def log_probabilities(kind: str = "index", width: int = 4) -> Rows:
    """Labels as for `classes`, and logarithms of probabilities."""

    @named(f"{kind}{width}logs")
    def draw(rng: np.random.Generator) -> tuple[npt.NDArray[Any], Floats]:
        with np.errstate(divide="ignore"):
            return _labels_of(kind, rng, width), np.log(rng.dirichlet(np.ones(width), ROWS))

    return draw


def decisions(width: int, values: int) -> Rows:
    """True and predicted labels, 0 to ``values - 1``."""

    @named(f"decisions{width}of{values}")
    def draw(rng: np.random.Generator) -> tuple[Floats, Floats]:
        labels = rng.integers(0, values, (ROWS, width)).astype(np.float64)
        changed = rng.integers(0, values, (ROWS, width)).astype(np.float64)
        return labels, np.where(rng.random((ROWS, width)) < 0.5, labels, changed)

    return draw


def forecasts(label: Callable[..., Floats], *fields: Callable[..., Floats]) -> Rows:
    """A number as label, and the named values of a predicted distribution, each from its own draw."""

    @named(label.__name__)
    def draw(rng: np.random.Generator) -> tuple[Floats, Floats]:
        predictions = np.stack([one(rng) for one in fields], axis=1)
        return label(rng), predictions

    return draw


def pairs(width: int = 4, short: bool = False) -> Rows:
    """Labels -1 or 1, and two vectors a row; ``short`` makes some of them shorter than any floor of a norm."""

    @named(f"pairs{width}{'short' if short else ''}")
    def draw(rng: np.random.Generator) -> tuple[Floats, Floats]:
        vectors = rng.normal(0.0, 1.0, (ROWS, 2, width))
        vectors[::10, 1] = vectors[::10, 0] * 3.0
        if short:
            vectors *= rng.choice([0.0, 1e-9, 1e-7, 1.0], (ROWS, 2, 1))
        return rng.choice([-1.0, 1.0], ROWS), vectors.reshape(ROWS, 2 * width)

    return draw


def vectors(width: int = 4, short: bool = False) -> Rows:
    """A vector on each side."""

    @named(f"vectors{width}{'short' if short else ''}")
    def draw(rng: np.random.Generator) -> tuple[Floats, Floats]:
        both = pairs(width, short=short)(rng)[1]
        return both[:, :width], both[:, width:]

    return draw


def triples(width: int = 4) -> Rows:
    """No label; three vectors a row."""

    @named(f"triples{width}")
    def draw(rng: np.random.Generator) -> tuple[Floats, Floats]:
        return np.empty((ROWS, 0)), rng.normal(0.0, 1.0, (ROWS, 3 * width))

    return draw


def distributions(width: int = 5, zeros: bool = True) -> Rows:
    """A distribution over classes on each side; with ``zeros`` some of the labels' probabilities are 0."""

    @named(f"distributions{width}{'zeros' if zeros else ''}")
    def draw(rng: np.random.Generator) -> tuple[Floats, Floats]:
        labels = rng.dirichlet(np.ones(width), ROWS)
        if zeros:
            labels *= rng.random((ROWS, width)) < 0.7
            labels[:, 0] += 1.0 - labels.sum(axis=1)
        return labels, rng.dirichlet(np.ones(width), ROWS)

    return draw


def sets(width: int = 5, soft: bool = False) -> Rows:
    """Memberships in two sets, some of which are empty."""

    @named(f"sets{width}{'soft' if soft else ''}")
    def draw(rng: np.random.Generator) -> tuple[Floats, Floats]:
        both = (rng.random((2, ROWS, width)) < 0.5).astype(np.float64)
        both *= rng.random((2, ROWS, width)) if soft else 1.0
        both *= rng.random((2, ROWS, 1)) < 0.9
        return both[0], both[1]

    return draw


def members(count: int = 7, width: int = 1) -> Rows:
    """A number or vector as label, an ensemble as prediction; some members are equal to each other or the label."""

    @named(f"members{count}x{width}")
    def draw(rng: np.random.Generator) -> tuple[Floats, Floats]:
        labels = np.round(rng.normal(0.0, 2.0, (ROWS, width)), 1)
        return labels, np.round(rng.normal(0.0, 2.0, (ROWS, count * width)), 1)

    return draw


def intervals(count: int, median: bool = True) -> Rows:
    """A number as label; the median and ``count`` nested intervals around it."""

    @named(f"intervals{count}")
    def draw(rng: np.random.Generator) -> tuple[Floats, Floats]:
        middle = rng.normal(0.0, 3.0, (ROWS, 1))
        below, above = (np.cumsum(rng.gamma(2.0, 1.0, (ROWS, count)), axis=1) for _ in range(2))
        ends = np.stack([middle - below, middle + above], axis=2).reshape(ROWS, 2 * count)
        return rng.normal(0.0, 4.0, ROWS), np.hstack([middle, ends]) if median else ends

    return draw


def real(rng: np.random.Generator) -> Floats:
    """Numbers of any sign."""
    return rng.normal(0.0, 3.0, ROWS)


def width_of(rng: np.random.Generator) -> Floats:
    """Scales and rates."""
    return rng.uniform(0.2, 4.0, ROWS)


def positive(rng: np.random.Generator) -> Floats:
    """Positive numbers."""
    return 0.01 + rng.gamma(1.5, 2.0, ROWS)


def from_one(rng: np.random.Generator) -> Floats:
    """Numbers from 1."""
    return 1.0 + rng.gamma(1.5, 2.0, ROWS)


def count(rng: np.random.Generator) -> Floats:
    """Counts from 0."""
    return rng.poisson(3.0, ROWS).astype(np.float64)


def freedom(rng: np.random.Generator) -> Floats:
    """Degrees of freedom."""
    return rng.uniform(1.5, 20.0, ROWS)


def success(rng: np.random.Generator) -> Floats:
    """Probabilities away from 0 and 1."""
    return rng.uniform(0.05, 0.95, ROWS)


# Means and measures, which only a run computes.


@dataclass(frozen=True)
class Mean:
    """A loss or measure of groups of rows, compared with what a library makes of each group.

    Args:
        entry: our loss or measure and its parameters, as in a config.
        rows: draws labels and predictions; each row belongs to one of `GROUPS` groups.
        theirs: ``theirs(library, labels, predictions, weights)``, one number; NaN where it gives none.
        weighted: whether rows have weights; else they are None.
        convention: as in `Case`.
        rtol, atol: allowed distance.
        why: the reason for more than `EXACT`.
    """

    entry: Mapping[str, Any]
    rows: Rows
    theirs: Callable[[Any, Any, Any, Any], Any]
    weighted: bool = True
    convention: str | None = None
    rtol: float = EXACT
    atol: float = 0.0
    why: str = ""

    def __post_init__(self) -> None:
        """Refuse a tolerance without a reason."""
        if (self.rtol, self.atol) != (EXACT, 0.0) and not self.why:
            raise ValueError(f"{self}: a wider tolerance needs a reason")

    def __str__(self) -> str:
        settings = ",".join(f"{key}={value}" for key, value in self.entry.items() if key != "loss")
        return f"{self.entry['loss']}({settings}){'-weighted' if self.weighted else ''}"

    @property
    def form(self) -> tuple[str, str | None]:
        """The loss or measure, and the switch that asks for a form of it."""
        return self.entry["loss"], next((switch for switch in SWITCHES if self.entry.get(switch)), None)


def labels_in_float32(mean: Mean) -> Mean:
    """The same for a library whose labels are float32."""

    def draw(rng: np.random.Generator) -> tuple[npt.NDArray[Any], Floats]:
        labels, predictions = mean.rows(rng)
        return labels.astype(np.float32).astype(labels.dtype), predictions

    return replace(mean, rows=draw)


def means_in_float32(mean: Mean) -> Mean:
    """The same for a library that computes in float32, on rows that float32 holds."""

    def draw(rng: np.random.Generator) -> tuple[npt.NDArray[Any], Floats]:
        labels, predictions = mean.rows(rng)
        return labels.astype(np.float32).astype(labels.dtype), predictions.astype(np.float32).astype(np.float64)

    return replace(mean, rows=draw, rtol=2e-5, atol=2e-6, why="float32 has seven digits")


def grouped(rows: Rows, size: int = 6) -> Rows:
    """Rows for `GROUPS` groups: each of the draws gives some of them."""

    def draw(rng: np.random.Generator) -> tuple[npt.NDArray[Any], Floats]:
        drawn = [rows(rng) for _ in range(-(-GROUPS * size // ROWS))]
        labels, predictions = (np.concatenate(side) for side in zip(*drawn, strict=True))
        return labels, predictions

    return draw


def assert_same_means(mean: Mean, library: Any, convention: str, folder: Path) -> None:
    """Compare the mean, or the measure, of every group."""
    rng = np.random.default_rng(zlib.crc32(str(mean).encode()))
    labels, predictions = grouped(mean.rows)(rng)
    groups = np.arange(len(predictions)) % GROUPS
    weights = rng.integers(0, 8, len(predictions)) / 4.0 if mean.weighted else None
    if weights is not None:
        weights[:GROUPS] += 0.5  # no group without any weight
    ours = _run(mean, mean.convention or convention, folder, labels, predictions, weights, groups)
    theirs = []
    for group in range(GROUPS):
        chosen = groups == group
        given = None if weights is None else weights[chosen]
        theirs.append(float(mean.theirs(library, labels[chosen], predictions[chosen], given)))
    found = [np.nan if ours[group] is None else ours[group] for group in range(GROUPS)]
    np.testing.assert_allclose(found, theirs, rtol=mean.rtol, atol=mean.atol)


def _run(
    mean: Mean, convention: str, folder: Path, labels: Any, predictions: Any, weights: Any, groups: Any
) -> dict[int, float | None]:
    table = {"y": _column(labels), "p": _column(predictions), "group": groups}
    if weights is not None:
        table["w"] = weights
    pq.write_table(pa.table(table), folder / "rows.parquet")
    report = lossops.evaluate(
        {
            "name": "conformance",
            "labels": {"path": str(folder / "rows.parquet"), "label": "y"},
            "models": {"m": {"path": str(folder / "rows.parquet"), "prediction": "p"}},
            "losses": [dict(mean.entry)],
            "slices": ["group"],
            "convention": convention,
            "output": str(folder / "reports"),
            "cluster": {"threads": 1},
            **({"weight": "w"} if weights is not None else {}),
        }
    )
    rows = (row for row in report.losses.to_pylist() if row["slice"] != "overall")
    return {int(row["slice_values"][0]): row["mean"] for row in rows}


def _column(values: npt.NDArray[Any]) -> pa.Array:
    return pa.array(values) if values.ndim == 1 else pa.array(values.reshape(len(values), -1).tolist())
