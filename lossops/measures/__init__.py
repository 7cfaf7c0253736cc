"""Measures of a dataset: numbers that are no mean of row losses, from sums that merge."""

from lossops.measures.bound import BoundMeasure, Result, bind
from lossops.measures.catalogue import MEASURES
from lossops.measures.declaration import Measure, Part, Total

__all__ = ["MEASURES", "BoundMeasure", "Measure", "Part", "Result", "Total", "bind"]
