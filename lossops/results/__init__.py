"""Merged sums to the rows of the report's tables: by model and loss as configured, overall first, slices by value."""

from lossops.results.cells import Results
from lossops.results.differences import comparison_rows, contrast_table, discovered_rows
from lossops.results.gating import gate_rows
from lossops.results.losses import calibration_table, histogram_table, loss_table
from lossops.results.unscored import warnings_of
from lossops.results.worst_rows import hardest_table

__all__ = [
    "Results",
    "calibration_table",
    "comparison_rows",
    "contrast_table",
    "discovered_rows",
    "gate_rows",
    "hardest_table",
    "histogram_table",
    "loss_table",
    "warnings_of",
]
