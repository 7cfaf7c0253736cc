"""The report of a run: tables with documented schemas, published whole or not at all."""

from lossops.report.store import Report, check_output, open_report, publish
from lossops.report.tables import SCHEMAS

__all__ = ["SCHEMAS", "Report", "check_output", "open_report", "publish"]
