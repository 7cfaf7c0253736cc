"""The catalogue of losses: one file a family, one declaration a loss."""

from lossops.losses.bound import BoundLoss, Fitting, bind, parameters_of
from lossops.losses.catalogue import CATALOGUE
from lossops.losses.conventions import CONVENTIONS, Convention
from lossops.losses.declaration import Curve, Field, Form, Inputs, Interval, Loss, Outlier, Parameter

__all__ = [
    "CATALOGUE",
    "CONVENTIONS",
    "BoundLoss",
    "Convention",
    "Curve",
    "Field",
    "Fitting",
    "Form",
    "Inputs",
    "Interval",
    "Loss",
    "Outlier",
    "Parameter",
    "bind",
    "parameters_of",
]
