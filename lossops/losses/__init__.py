"""The catalogue of losses: one file a family, one declaration a loss."""

from lossops.losses.bound import BoundLoss, bind
from lossops.losses.catalogue import CATALOGUE
from lossops.losses.conventions import CONVENTIONS, Convention
from lossops.losses.declaration import Form, Inputs, Interval, Loss, Parameter

__all__ = [
    "CATALOGUE",
    "CONVENTIONS",
    "BoundLoss",
    "Convention",
    "Form",
    "Inputs",
    "Interval",
    "Loss",
    "Parameter",
    "bind",
]
