"""The datasets and questions of the benchmark, and how each contender answers them.

A contender is a piece of Python that runs in a process of its own. It gets ``folder`` (the data), ``case`` (the
question) and ``threads``, prepares itself in ``prepare()`` and answers in ``answer()``: for each slice a list of one
(mean, standard deviation) for each loss and group, ordered by group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["CASES", "CONTENDERS", "Case", "write"]

SHARDS = 20
COUNTRIES, DEVICES, SEGMENTS, MANY = 50, 4, 1000, 100_000
FIVE = ((), ("country",), ("device",), ("segment",), ("country", "device"))
TWENTY = (
    *FIVE,
    ("many",),
    *((f"c{place}",) for place in range(6)),
    *((f"c{place}", "device") for place in range(6)),
    ("c0", "c1"),
    ("c2", "c3"),
)
THREE = ("absolute", "squared", "bce")
TWELVE = (*THREE, "log_cosh", "pseudo_huber", "fair", "huber", "smooth_l1", "pinball", "expectile", "brier", "msle")


@dataclass(frozen=True)
class Case:
    """A question.

    Args:
        data: name of the dataset.
        rows: of it, at full size and with ``--quick``.
        slices, losses: what is asked.
        models: columns of predictions.
        join: ``position`` or ``key``.
        contenders: who is asked.
    """

    data: str
    rows: tuple[int, int]
    slices: tuple[tuple[str, ...], ...] = FIVE
    losses: tuple[str, ...] = THREE
    models: tuple[str, ...] = ("yhat",)
    join: str = "key"
    contenders: tuple[str, ...] = ("lossops",)


_FULL, _QUICK = 20_000_000, 2_000_000
CASES = {
    "aligned": Case(
        "aligned",
        (_FULL, _QUICK),
        contenders=(
            "lossops",
            "pyarrow decode",
            "polars position",
            "polars",
            "duckdb",
            "dask",
            "pandas",
            "scikit-learn",
            "lossops 1 thread",
            "lossops 2 processes",
            "lossops 2 running",
        ),
    ),
    "growth": Case("growth", (5 * _FULL, 0), contenders=("lossops", "polars position", "polars", "duckdb")),
    "random order": Case("random", (_FULL, _QUICK), contenders=("lossops", "polars", "duckdb")),
    "strings as keys": Case("strings", (_FULL // 2, _QUICK // 2), contenders=("lossops", "polars", "duckdb")),
    "wide": Case(
        "wide", (2_000_000, 200_000), ((),), ("crossentropy",), contenders=("lossops", "pyarrow decode", "torch")
    ),
    "20 slices": Case("aligned", (_FULL, _QUICK), TWENTY, contenders=("lossops", "polars position", "duckdb")),
    "12 losses": Case("aligned", (_FULL, _QUICK), losses=TWELVE),
    "3 models": Case(
        "aligned", (_FULL, _QUICK), models=("yhat", "yhat_old", "yhat_new"), losses=("absolute", "squared")
    ),
    "tiny": Case("tiny", (1_000, 1_000), contenders=("lossops", "polars position", "duckdb", "imports")),
}


def _side(
    name: str, number: int, ids: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> tuple[dict[str, object], dict[str, object]]:
    """The columns of both sides of one shard."""
    random, size = np.random.default_rng(number), len(ids)
    keys: object = ids if name != "strings" else pa.array(np.char.add("user-", ids.astype("U12")).tolist())
    if name == "wide":
        logits = random.normal(size=(size, 100)).astype(np.float32)
        values = pa.FixedSizeListArray.from_arrays(pa.array(logits.reshape(-1)), 100)
        return {"id": keys, "logits": values}, {"id": keys, "label": random.integers(0, 100, size).astype(np.int16)}
    score, truth = random.normal(size=size), random.normal(size=size) ** 2
    predictions = {
        "id": keys,
        "prob": (1 / (1 + np.exp(-score))).astype(np.float32),
        **{one: np.abs(truth + scale * random.normal(size=size)) for one, scale in _MODELS.items()},
    }
    groups = {"country": COUNTRIES, "device": DEVICES, "segment": SEGMENTS, "many": MANY}
    groups |= {f"c{place}": 5 + place for place in range(6)}
    labels = {
        "id": keys,
        "label": (random.random(size) < 1 / (1 + np.exp(-score))).astype(np.int8),
        "y": truth,
        "weight": random.random(size).astype(np.float32),
        **{
            column: pa.DictionaryArray.from_arrays(
                random.integers(0, values, size, dtype=np.int32), [f"{column}-{value:06d}" for value in range(values)]
            )
            for column, values in groups.items()
        },
    }
    return predictions, labels


_MODELS = {"yhat": 1.0, "yhat_old": 1.1, "yhat_new": 0.9}


def write(folder: Path, name: str, rows: int) -> Path:
    """Write a dataset once, and return where it is."""
    home = folder / f"{name}-{rows}"
    if home.exists():
        return home
    partial = folder / f"{name}-{rows}.partial"
    order = np.random.default_rng(7).permutation(rows) if name in ("random", "strings") else np.arange(rows)
    shards = 1 if name == "tiny" else 5 * SHARDS if name == "growth" else SHARDS
    tables: list[tuple[int, dict[str, object], dict[str, object]]] = []
    for number, ids in enumerate(np.array_split(np.arange(rows), shards)):
        predictions, labels = _side(name, number, ids)
        _write_shard(partial / "predictions", number, predictions)
        if name in ("random", "strings"):
            tables.append((number, {}, labels))
        else:
            _write_shard(partial / "labels", number, labels)
    if tables:
        whole = pa.concat_tables([pa.table(labels) for _, _, labels in tables])
        for number, part in enumerate(np.array_split(order, shards)):
            _write_shard(partial / "labels", number, whole.take(pa.array(part)))
    partial.rename(home)
    return home


def _write_shard(folder: Path, number: int, columns: dict[str, object] | pa.Table) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    pq.write_table(table, folder / f"part-{number:05d}.parquet", compression="zstd", row_group_size=262_144)


LOSSOPS = """
import lossops
import pyarrow.compute as pc
NAMES = {"absolute": "mean_absolute_error", "squared": "mean_squared_error", "msle": "mean_squared_logarithmic_error"}
def loss(name):
    if name == "crossentropy":
        return {"loss": "sparse_categorical_crossentropy", "from_logits": True, "label": "label"}
    if name in ("bce", "brier"):
        return {"loss": {"bce": "binary_crossentropy"}.get(name, name), "prediction": "prob", "label": "label"}
    return {"loss": NAMES.get(name, name), "name": name}
def config(folder, output):
    many = case["models"] if case["losses"] != ["crossentropy"] else ["logits"]
    return {
        "name": "benchmark", "key": "id", "labels": {"path": f"{folder}/labels", "label": "y"},
        "models": {one: {"path": f"{folder}/predictions", "prediction": one} for one in many},
        "losses": [loss(name) for name in case["losses"]], "slices": [list(one) for one in case["slices"] if one],
        "quantiles": [], "hardest": 0, "calibration": 0, "output": output, "cluster": cluster(),
    }
# Earlier runs are part of a report: those of the same question.
output = f"{folder}/reports/{len(case['slices'])}-{len(case['losses'])}-{len(case['models'])}"
def prepare():
    if warm:
        lossops.evaluate(config(warm, output), fresh=True)
def answer():
    report = lossops.evaluate(config(folder, output), fresh=True)
    names = pc.binary_join(report.losses["slice_columns"], "*").combine_chunks().dictionary_encode()
    # The rows of a loss follow each other, and are ordered by group.
    return {
        name: list(zip(*(rows[one].to_pylist() for one in ("mean", "std"))))
        for place, name in enumerate(names.dictionary.to_pylist())
        for rows in [report.losses.filter(pc.equal(names.indices, place))]
    }
"""
FLOOR = """
import glob
import pyarrow.parquet as pq
from concurrent.futures import ThreadPoolExecutor
def prepare():
    pass
def columns(side):
    asked = {one for names in case["slices"] for one in names}
    if case["losses"] == ["crossentropy"]:
        return ["id", "logits"] if side == "predictions" else ["id", "label"]
    return ["id", "prob", *case["models"]] if side == "predictions" else ["id", "label", "y", *sorted(asked)]
def read(path):
    side = "predictions" if "/predictions/" in path else "labels"
    wanted = columns(side)
    text = [one for one in wanted if "/labels/" in path and one not in ("id", "label", "y")]
    file = pq.ParquetFile(path, read_dictionary=text)
    for group in range(file.num_row_groups):
        file.read_row_group(group, columns=wanted, use_threads=False)
def answer():
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, sorted(glob.glob(f"{folder}/*/*.parquet"))))
    return {}
"""
IMPORTS = """
def prepare():
    pass
def answer():
    import numba, pyarrow, distributed
    return {}
"""
POLARS = """
import polars as pl
def prepare():
    pass
def answer():
    predictions, labels = (pl.scan_parquet(f"{folder}/{side}/*.parquet") for side in ("predictions", "labels"))
    if BY == "position":
        rows = pl.concat([predictions, labels.drop("id")], how="horizontal")
    else:
        rows = predictions.join(labels, on="id", how="inner")
    p, d = pl.col("prob").cast(pl.Float64).clip(1e-7, 1 - 1e-7), pl.col("yhat") - pl.col("y")
    rows = rows.with_columns(
        absolute=d.abs(), squared=d * d, bce=pl.when(pl.col("label") == 1).then(-p.log()).otherwise(-(1 - p).log())
    )
    numbers = [f(pl.col(one)).alias(f"{one} {name}") for one in case["losses"]
               for name, f in (("mean", lambda c: c.mean()), ("std", lambda c: c.std(ddof=0)))]
    asked = [
        rows.group_by(names).agg(numbers).sort(names) if names else rows.select(numbers) for names in case["slices"]
    ]
    found = [table.to_dicts() for table in pl.collect_all(asked, engine="streaming")]
    return {
        "*".join(names): [(row[f"{one} mean"], row[f"{one} std"]) for one in case["losses"] for row in rows]
        for names, rows in zip(case["slices"], found)
    }
"""
DUCKDB = """
import duckdb
def prepare():
    pass
def answer():
    base = duckdb.connect(config={"threads": threads})
    base.sql("set enable_progress_bar = false")
    columns = sorted({one for names in case["slices"] for one in names})
    sets = ", ".join("(" + ", ".join(names) + ")" for names in case["slices"])
    numbers = ", ".join(f"avg({one}), stddev_pop({one})" for one in case["losses"])
    marks = ", ".join([f"grouping({one})" for one in columns] + columns)
    query = f'''
    with joined as (
        select {", ".join(columns)}, abs(yhat - y) as absolute, (yhat - y) * (yhat - y) as squared,
        -ln(case when label = 1 then p else 1 - p end) as bce
        from (select *, least(greatest(prob::double, 1e-7), 1 - 1e-7) as p
              from '{folder}/predictions/*.parquet' join '{folder}/labels/*.parquet' using (id)))
    select {marks}, {numbers} from joined group by grouping sets ({sets})'''
    found = {}
    for row in base.sql(query).fetchall():
        here = tuple(one for one, mark in zip(columns, row) if not mark)
        names = next(names for names in case["slices"] if set(names) == set(here))
        values = dict(zip(columns, row[len(columns):]))
        found.setdefault("*".join(names), []).append(([values[one] for one in names], row[2 * len(columns):]))
    return {name: [tuple(numbers[2 * i:2 * i + 2]) for i in range(len(case["losses"])) for _, numbers in sorted(rows)]
            for name, rows in found.items()}
"""
FRAMES = """
import numpy as np
def with_losses(rows):
    p = rows["prob"].astype("float64").clip(1e-7, 1 - 1e-7)
    d = rows["yhat"] - rows["y"]
    return rows.assign(absolute=d.abs(), squared=d * d, bce=-np.log(p.where(rows["label"] == 1, 1 - p)))
def asked(rows):
    losses = list(case["losses"])
    for names in case["slices"]:
        if names:
            grouped = rows.groupby(list(names), observed=True)[losses]
            yield grouped.mean(), grouped.std(ddof=0)
        else:
            yield rows[losses].mean(), rows[losses].std(ddof=0)
def told(found):
    return {"*".join(names): [(float(m), float(s)) for one in case["losses"] for m, s in
            (zip(mean.sort_index()[one], std.sort_index()[one]) if names else [(mean[one], std[one])])]
            for names, (mean, std) in zip(case["slices"], found)}
COLUMNS = {"predictions": ["id", "prob", "yhat"],
           "labels": ["id", "label", "y", *sorted({one for names in case["slices"] for one in names})]}
"""
PANDAS = f"""{FRAMES}
import pandas as pd
def prepare():
    pass
def answer():
    predictions, labels = (pd.read_parquet(f"{{folder}}/{{side}}", columns=COLUMNS[side]) for side in COLUMNS)
    return told(list(asked(with_losses(predictions.merge(labels, on="id")))))
"""
DASK = f"""{FRAMES}
import dask, dask.dataframe as dd
def prepare():
    pass
def answer():
    predictions, labels = (dd.read_parquet(f"{{folder}}/{{side}}", columns=COLUMNS[side]) for side in COLUMNS)
    return told(dask.compute(*[list(asked(with_losses(predictions.merge(labels, on="id"))))])[0])
"""
SKLEARN = f"""{FRAMES}
import pandas as pd
from sklearn.metrics import log_loss, mean_absolute_error, mean_squared_error
def prepare():
    pass
def answer():
    predictions, labels = (pd.read_parquet(f"{{folder}}/{{side}}", columns=COLUMNS[side]) for side in COLUMNS)
    rows = predictions.merge(labels, on="id")
    p = rows["prob"].astype("float64").clip(1e-7, 1 - 1e-7)
    y, yhat = rows["y"], rows["yhat"]
    found = mean_absolute_error(y, yhat), mean_squared_error(y, yhat), log_loss(rows["label"], p)
    return {{"": [(one, None) for one in found]}}
"""
TORCH = """
import glob, math
import numpy as np, torch, pyarrow.parquet as pq
torch.set_num_threads(threads)
def prepare():
    pass
def answer():
    total = square = count = 0
    pairs = zip(sorted(glob.glob(f"{folder}/predictions/*")), sorted(glob.glob(f"{folder}/labels/*")))
    for one, other in pairs:
        predictions, labels = pq.ParquetFile(one), pq.ParquetFile(other)
        for group in range(predictions.num_row_groups):
            column = predictions.read_row_group(group, columns=["logits"])["logits"].combine_chunks()
            logits = torch.from_numpy(column.values.to_numpy().reshape(-1, 100).copy())
            wanted = labels.read_row_group(group, columns=["label"])["label"].to_numpy().astype(np.int64)
            losses = torch.nn.functional.cross_entropy(logits, torch.from_numpy(wanted), reduction="none").double()
            total, square, count = total + losses.sum().item(), square + (losses ** 2).sum().item(), count + len(wanted)
    mean = total / count
    return {"": [(mean, math.sqrt(square / count - mean * mean))]}
"""


RUNNING = """
from functools import cache
from distributed import Client, LocalCluster
@cache
def started():
    return LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None)
def cluster():
    return {"address": started().scheduler_address}
def run(given):
    import lossops
    lossops.evaluate(given, fresh=True)
def prepare():
    with Client(started()) as client:
        for worker in client.nthreads():
            client.run(run, config(warm, output) | {"cluster": None}, workers=[worker])
    run(config(warm, output))
"""


def _lossops(cluster: str) -> Callable[[], str]:
    return lambda: f"def cluster():\n    return {cluster}\n{LOSSOPS}"


CONTENDERS: dict[str, Callable[[], str]] = {
    "lossops": _lossops("None"),
    "lossops 1 thread": _lossops('{"threads": 1}'),
    "lossops 2 processes": _lossops('{"workers": 2}'),
    "lossops 2 running": lambda: f"{LOSSOPS}{RUNNING}",
    "pyarrow decode": lambda: FLOOR,
    "imports": lambda: IMPORTS,
    "polars position": lambda: f"BY = 'position'\n{POLARS}",
    "polars": lambda: f"BY = 'key'\n{POLARS}",
    "duckdb": lambda: DUCKDB,
    "dask": lambda: DASK,
    "pandas": lambda: PANDAS,
    "scikit-learn": lambda: SKLEARN,
    "torch": lambda: TORCH,
}
