"""The schemas of the report's tables; units and meaning are in the field metadata."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

__all__ = ["SCHEMAS", "losses_schema", "quantile_name"]

_LOSS = "of the loss"


def _field(name: str, kind: pa.DataType, meaning: str, unit: str = "", *, nullable: bool = False) -> pa.Field:
    metadata = {"meaning": meaning} | ({"unit": unit} if unit else {})
    return pa.field(name, kind, nullable=nullable, metadata=metadata)


_TEXT, _COUNT, _REAL = pa.string(), pa.int64(), pa.float64()
_TEXTS = pa.list_(pa.field("element", _TEXT))

_PLACE = [
    _field("model", _TEXT, "model as the config names it"),
    _field("loss", _TEXT, "loss or measure as the config names it"),
    _field("slice", _TEXT, "slice in words; overall is every aligned row"),
    _field("slice_columns", _TEXTS, "columns of the slice, empty for overall"),
    _field("slice_values", _TEXTS, "their values, null where the column is null"),
]

LOSSES = pa.schema(
    [
        *_PLACE[:2],
        _field("kind", _TEXT, "loss: a mean over rows; measure: one number of all rows, such as R2, which is in mean"),
        *_PLACE[2:],
        _field("rows", _COUNT, "aligned rows in the slice; null where the slice is hidden", "rows", nullable=True),
        _field("rows_valid", _COUNT, "rows that were scored", "rows", nullable=True),
        _field(
            "weight_sum",
            _REAL,
            "sum of the weights of scored rows; their number without weights",
            "weight",
            nullable=True,
        ),
        _field("mean", _REAL, "sum(w l) / sum(w) over scored rows; the value of a measure", _LOSS, nullable=True),
        _field("sum", _REAL, "sum(w l) over scored rows", "of the loss times weight", nullable=True),
        _field("std", _REAL, "sqrt(sum(w (l - mean)^2) / sum(w)), population form (ddof 0)", _LOSS, nullable=True),
        _field(
            "std_error",
            _REAL,
            "standard error of the mean, linearised; clustered on units if there are any",
            _LOSS,
            nullable=True,
        ),
        _field(
            "ci_low",
            _REAL,
            "lower end of the interval of the mean, Student t; its level is in run.json",
            _LOSS,
            nullable=True,
        ),
        _field("ci_high", _REAL, "upper end of the interval of the mean, Student t", _LOSS, nullable=True),
        _field("min", _REAL, "smallest loss of a scored row", _LOSS, nullable=True),
        _field("max", _REAL, "largest loss of a scored row", _LOSS, nullable=True),
        _field("rows_clipped", _COUNT, "scored rows whose probability the convention clipped", "rows", nullable=True),
        _field("units", _COUNT, "independent units, or buckets of them, with a scored row", "units", nullable=True),
        _field(
            "hidden",
            _TEXT,
            "why all numbers are null: min_rows, the slice is small; complement, it would give away a small one",
            nullable=True,
        ),
        _field("heavy_tail", pa.bool_(), "losses too skewed for the interval at this size", nullable=True),
    ],
    metadata={
        "lossops": "one row per model, loss and slice; sum, std, std_error, ci_low, ci_high, min and max of a measure "
        "are null"
    },
)

HISTOGRAMS = pa.schema(
    [
        *_PLACE,
        _field("low", _REAL, "lower end of the bin, which belongs to it unless the bin is negative", _LOSS),
        _field("high", _REAL, "upper end of the bin, which belongs to it only if the bin is not positive", _LOSS),
        _field("rows", _COUNT, "scored rows whose loss is in the bin", "rows"),
    ],
    metadata={"lossops": "one row per model, loss, slice and bin that is not empty; eight bins a power of two"},
)

CALIBRATION = pa.schema(
    [
        *_PLACE,
        _field("bin", _COUNT, "number of the bin, from 0; null for all rows of the slice", nullable=True),
        _field("low", _REAL, "lower end of the bin, which belongs to it", "probability"),
        _field("high", _REAL, "upper end of the bin, which belongs to it only if it is 1", "probability"),
        _field("rows", _COUNT, "scored rows whose probability is in the bin", "rows"),
        _field("weight_sum", _REAL, "sum of their weights; their number without weights", "weight"),
        _field("mean_prediction", _REAL, "their mean probability, by weight", "probability"),
        _field("mean_label", _REAL, "their mean label, by weight", "probability"),
        _field("ci_low", _REAL, "lower end of the interval of mean_label, Wilson", "probability", nullable=True),
        _field("ci_high", _REAL, "upper end of the interval of mean_label, Wilson", "probability", nullable=True),
        _field("ratio", _REAL, "mean_prediction / mean_label; null if no label is above 0", nullable=True),
        _field(
            "error",
            _REAL,
            "abs(mean_prediction - mean_label); of all rows its mean over bins, the expected calibration error",
            "probability",
        ),
    ],
    metadata={
        "lossops": "one row per model, loss of a binary probability, slice and bin that is not empty; one of all bins"
    },
)

HARDEST = pa.schema(
    [
        *_PLACE,
        _field("rank", _COUNT, "1 for the largest loss of the slice"),
        _field(
            "key", _TEXT, "key of the row: a number if it is one integer, else text; several as a list", nullable=True
        ),
        _field("loss_value", _REAL, "loss of the row", _LOSS),
        _field("label", _TEXT, "its label", nullable=True),
        _field("prediction", _TEXT, "its prediction"),
        _field("shard", _TEXT, "file of the predictions that it is in"),
        _field("row", _COUNT, "its row there, from 0"),
    ],
    metadata={"lossops": "one row per model, loss, slice and rank; equal losses are ranked by key, smallest first"},
)

_P_VALUES = [
    _field("p_value", _REAL, "of no difference, two-sided, Student t", nullable=True),
    _field("p_adjusted", _REAL, "the same adjusted over slices (Benjamini and Yekutieli)", nullable=True),
]

COMPARISONS = pa.schema(
    [
        *_PLACE,
        _field("baseline", _TEXT, "model it is compared with"),
        _field("rows", _COUNT, "rows that both models are scored on", "rows"),
        _field("units", _COUNT, "independent units, or buckets of them, among these", "units", nullable=True),
        _field("baseline_mean", _REAL, "mean loss of the baseline on these rows", _LOSS, nullable=True),
        _field("mean", _REAL, "mean loss of the model on these rows", _LOSS, nullable=True),
        _field(
            "difference",
            _REAL,
            "mean less baseline_mean, paired by row; inf where only the model has an infinite loss",
            _LOSS,
            nullable=True,
        ),
        _field("std_error", _REAL, "standard error of the difference", _LOSS, nullable=True),
        _field("ci_low", _REAL, "lower end of the interval of the difference", _LOSS, nullable=True),
        _field("ci_high", _REAL, "upper end of the interval of the difference", _LOSS, nullable=True),
        _field("relative_difference", _REAL, "difference / baseline_mean", "fraction", nullable=True),
        _field(
            "relative_ci_low", _REAL, "lower end of its interval, by way of the logarithm", "fraction", nullable=True
        ),
        _field("relative_ci_high", _REAL, "upper end of its interval", "fraction", nullable=True),
        *_P_VALUES,
    ],
    metadata={"lossops": "one row per model other than the baseline, loss and slice; measures are not compared"},
)

CONTRASTS = pa.schema(
    [
        *_PLACE,
        _field("against", _TEXT, "overall: all rows, the slice among them; complement: all other rows"),
        _field("rows", _COUNT, "scored rows in the slice", "rows"),
        _field("other_rows", _COUNT, "scored rows that it is compared with", "rows"),
        _field("mean", _REAL, "mean loss of the slice", _LOSS),
        _field("other_mean", _REAL, "mean loss of these rows", _LOSS),
        _field("difference", _REAL, "mean less other_mean", _LOSS),
        _field("std_error", _REAL, "standard error of the difference, with its covariance", _LOSS, nullable=True),
        _field("ci_low", _REAL, "lower end of the interval of the difference", _LOSS, nullable=True),
        _field("ci_high", _REAL, "upper end of the interval of the difference", _LOSS, nullable=True),
        *_P_VALUES,
    ],
    metadata={"lossops": "one row per model, loss, slice and what it is compared with; not for slices of all rows"},
)

GATES = pa.schema(
    [
        _field("gate", _TEXT, "gate as the config names it, or what it limits"),
        _PLACE[0],
        _field("loss", _TEXT, "loss as the config names it; null for a share that is the same for all", nullable=True),
        *_PLACE[2:],
        _field("limit", _REAL, "largest value that is allowed", "of the value"),
        _field("value", _REAL, "mean loss, difference or relative difference to the baseline, or share", nullable=True),
        _field("ci_low", _REAL, "lower end of its interval; null for a share", nullable=True),
        _field("ci_high", _REAL, "upper end of its interval; null for a share", nullable=True),
        _field("p_value", _REAL, "of a true value within the limit", nullable=True),
        _field("p_adjusted", _REAL, "the same adjusted over the rows of the gate (Holm)", nullable=True),
        _field("rows", _COUNT, "rows that the value is of", "rows"),
        _field(
            "outcome",
            _TEXT,
            "pass: the interval keeps the limit; fail: it is beyond, or the slice that is named has no row; "
            "insufficient: neither",
        ),
        _field("why", _TEXT, "why the data cannot tell, or that there is no such slice", nullable=True),
        _field("fails", pa.bool_(), "whether this row fails the run: fail, or insufficient where the gate says so"),
    ],
    metadata={"lossops": "one row per gate, model, loss and slice; of a share one per gate and model"},
)

DISCOVERED = pa.schema(
    [
        *_PLACE,
        _field("rank", _COUNT, "1 for the highest score of the model and loss"),
        _field("score", _REAL, "SliceLine score of the searched rows: how much worse, against how small"),
        _field("rows", _COUNT, "scored rows in the slice that were searched", "rows"),
        _field("mean", _REAL, "their mean loss, which is too high by having been searched for", _LOSS),
        _field(
            "held_out_rows",
            _COUNT,
            "scored rows in it that were not searched; null where all were",
            "rows",
            nullable=True,
        ),
        _field("held_out_mean", _REAL, "mean loss of these, an honest estimate", _LOSS, nullable=True),
        _field("held_out_other_mean", _REAL, "mean loss of other rows not searched", _LOSS, nullable=True),
        _field("difference", _REAL, "held_out_mean less held_out_other_mean", _LOSS, nullable=True),
        _field("std_error", _REAL, "standard error of the difference", _LOSS, nullable=True),
        _field("ci_low", _REAL, "lower end of the interval of the difference", _LOSS, nullable=True),
        _field("ci_high", _REAL, "upper end of the interval of the difference", _LOSS, nullable=True),
        *_P_VALUES,
    ],
    metadata={"lossops": "one row per model, loss and conjunction that discover found"},
)

LEDGER = pa.schema(
    [
        _field("dataset", _TEXT, "predictions or labels"),
        _field("model", _TEXT, "model as the config names it"),
        _field("loss", _TEXT, "loss as the config names it"),
        _field("reason", _TEXT, "scored, or why a row was not; lossops/report/README.md lists the reasons"),
        _field("rows", _COUNT, "rows in this bucket; buckets of a dataset, model and loss add up to its rows", "rows"),
    ],
    metadata={"lossops": "one row per dataset, model, loss and reason"},
)

SHARDS = pa.schema(
    [
        _field("dataset", _TEXT, "predictions or labels"),
        _field("path", _TEXT, "path on its filesystem"),
        _field("fingerprint", _TEXT, "digest of the file's size and last 64 KiB", nullable=True),
        _field("rows", _COUNT, "rows in the file; null if its footer could not be read", "rows", nullable=True),
        _field("bytes", _COUNT, "size of the file", "bytes"),
        _field(
            "seconds",
            _REAL,
            "time spent on it, by rows where shards share it; 0 for labels, read with predictions",
            "s",
        ),
        _field("problem", _TEXT, "why it is in quarantine and none of its rows is scored", nullable=True),
    ],
    metadata={"lossops": "one row per shard"},
)

SCHEMAS = {
    "losses": LOSSES,
    "comparisons": COMPARISONS,
    "contrasts": CONTRASTS,
    "gates": GATES,
    "discovered": DISCOVERED,
    "calibration": CALIBRATION,
    "histograms": HISTOGRAMS,
    "hardest": HARDEST,
    "ledger": LEDGER,
    "shards": SHARDS,
}


def quantile_name(level: float) -> str:
    """The column of a quantile, such as ``p99`` or ``p99.9``."""
    return f"p{100 * level:.12g}"


def losses_schema(levels: Sequence[float]) -> pa.Schema:
    """The schema of losses.parquet with quantiles of these levels."""
    schema = LOSSES
    for level in levels:
        meaning = f"quantile {level:g} of the losses of scored rows, each counted once, within 1 %"
        schema = schema.append(_field(quantile_name(level), _REAL, meaning, _LOSS, nullable=True))
    return schema
