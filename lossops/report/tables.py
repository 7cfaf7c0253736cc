"""The schemas of the report's tables; units and meaning are in the field metadata."""

from __future__ import annotations

import pyarrow as pa

__all__ = ["LEDGER", "LOSSES", "SHARDS"]

_LOSS = "of the loss"


def _field(name: str, kind: pa.DataType, meaning: str, unit: str = "", *, nullable: bool = False) -> pa.Field:
    metadata = {"meaning": meaning} | ({"unit": unit} if unit else {})
    return pa.field(name, kind, nullable=nullable, metadata=metadata)


_TEXT, _COUNT, _REAL = pa.string(), pa.int64(), pa.float64()
_TEXTS = pa.list_(pa.field("element", _TEXT))

LOSSES = pa.schema(
    [
        _field("model", _TEXT, "model as the config names it"),
        _field("loss", _TEXT, "loss or measure as the config names it"),
        _field("kind", _TEXT, "loss: a mean over rows; measure: one number of all rows, such as R2, which is in mean"),
        _field("slice", _TEXT, "slice in words; overall is every aligned row"),
        _field("slice_columns", _TEXTS, "columns of the slice, empty for overall"),
        _field("slice_values", _TEXTS, "their values, null where the column is null"),
        _field("rows", _COUNT, "aligned rows in the slice", "rows"),
        _field("rows_valid", _COUNT, "rows that were scored", "rows"),
        _field("weight_sum", _REAL, "sum of the weights of scored rows; their number without weights", "weight"),
        _field("mean", _REAL, "sum(w l) / sum(w) over scored rows; the value of a measure", _LOSS, nullable=True),
        _field("sum", _REAL, "sum(w l) over scored rows", "of the loss times weight", nullable=True),
        _field("std", _REAL, "sqrt(sum(w (l - mean)^2) / sum(w)), population form (ddof 0)", _LOSS, nullable=True),
        _field("std_error", _REAL, "standard error of the mean, linearised, independent rows", _LOSS, nullable=True),
        _field("ci_low", _REAL, "lower end of the 95 % interval of the mean, Student t", _LOSS, nullable=True),
        _field("ci_high", _REAL, "upper end of the 95 % interval of the mean, Student t", _LOSS, nullable=True),
        _field("min", _REAL, "smallest loss of a scored row", _LOSS, nullable=True),
        _field("max", _REAL, "largest loss of a scored row", _LOSS, nullable=True),
        _field("rows_clipped", _COUNT, "scored rows whose probability the convention clipped", "rows"),
    ],
    metadata={
        "lossops": "one row per model, loss and slice; sum, std, std_error, ci_low, ci_high, min and max of a measure "
        "are null"
    },
)

LEDGER = pa.schema(
    [
        _field("dataset", _TEXT, "predictions or labels"),
        _field("model", _TEXT, "model as the config names it"),
        _field("loss", _TEXT, "loss as the config names it"),
        _field("reason", _TEXT, "scored, or why a row was not; the README lists the reasons"),
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
        _field("seconds", _REAL, "time spent on pieces that begin in it; 0 for labels, read with predictions", "s"),
        _field("problem", _TEXT, "why it is in quarantine and none of its rows is scored", nullable=True),
    ],
    metadata={"lossops": "one row per shard"},
)
