"""The report of a run: tables with documented schemas, published whole or not at all."""

from lossops.report.store import Report, check_output, open_report, publish
from lossops.report.tables import SCHEMAS, losses_schema, quantile_name

__all__ = ["SCHEMAS", "Report", "check_output", "open_report", "losses_schema", "publish", "quantile_name"]
