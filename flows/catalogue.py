"""The catalogue of losses for a reader: everything here is read off the declarations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import numpy as np

from flows.console import print_pairs
from flows.summary import number
from lossops.config import RunConfig
from lossops.errors import ConfigError, nearest
from lossops.losses import CATALOGUE, CONVENTIONS, BoundLoss, Convention, Form, Inputs, Loss, Parameter, bind
from lossops.losses.declaration import setting_names

__all__ = ["print_all", "print_one"]

_TEXT_FIELDS = ("name", "meaning")


def print_all() -> None:
    """Print one line a loss."""
    print_pairs([(loss.name, loss.summary) for loss in CATALOGUE.values()])
    print_pairs([("", "lossops losses NAME shows one in full.")])


def print_one(name: str) -> None:
    """Print all that is declared of a loss.

    Raises:
        ConfigError: there is no such loss.
    """
    if name not in CATALOGUE:
        raise ConfigError(f"unknown loss {name!r}; {nearest(name, CATALOGUE)}")
    loss = CATALOGUE[name]
    print_pairs(list(_definition(loss)), f"{loss.name}: {loss.summary}")
    if loss.all_parameters:
        print_pairs([(one.name, _parameter(one)) for one in loss.all_parameters], "\nParameters")
    conventions = list(_conventions(loss))
    if conventions:
        print_pairs(conventions, "\nConventions")
    print_pairs(list(_reasons(loss)), "\nWhy a row may not be scored")


def _definition(loss: Loss) -> Iterator[tuple[str, str]]:
    yield "formula", loss.form.formula
    yield "prediction", _domain(loss.form)
    if loss.logits is not None:
        yield "of logits", loss.logits.formula
        yield "logit", _domain(loss.logits)
    yield "label", "a class" if loss.inputs is Inputs.CLASS_INDEX else f"in {loss.label}"
    if loss.label_sum is not None:
        yield "label sum", f"in {loss.label_sum}"
    yield "inputs", loss.inputs.value
    yield "source", loss.citation


def _domain(form: Form) -> str:
    return f"in {form.prediction}"


def _parameter(parameter: Parameter) -> str:
    default = "null" if parameter.default is None else str(parameter.default).lower()
    return f"{parameter.meaning}; default {default}; allowed: {parameter.allowed}"


def _conventions(loss: Loss) -> Iterator[tuple[str, str]]:
    """Yield what each convention does to this loss, with the loss of one confidently wrong row as example."""
    used = set(setting_names(loss.form.row))
    rules = [field.name for field in fields(Convention) if field.name in used and field.name not in _TEXT_FIELDS]
    for convention in CONVENTIONS.values() if rules else ():
        settings = ", ".join(f"{rule} {getattr(convention, rule):g}" for rule in rules)
        example = number(_confidently_wrong(bind(loss.name, {}, convention.name)))
        yield convention.name, f"{convention.meaning} ({settings}). A row that is certain and wrong loses {example}."


def _confidently_wrong(bound: BoundLoss) -> float:
    """The loss of a row whose prediction is at one end of its domain and whose label is at the other."""
    low, high = bound.form.prediction.low, bound.form.prediction.high
    labels, predictions = {
        Inputs.ELEMENTS: ([high], [low]),
        Inputs.LABEL_VECTOR: ([high, low], [low, high]),
        Inputs.CLASS_INDEX: ([0.0], [low, high]),
    }[bound.loss.inputs]
    return float(bound.values(np.array([labels]), np.array([predictions]), np.zeros(1, dtype=np.uint8))[0])


def _reasons(loss: Loss) -> Iterator[tuple[str, str]]:
    """Yield the ledger's name and the words of every reason that holds while all settings are at their defaults."""
    convention = str(RunConfig.model_fields["convention"].default)
    for reason, words in bind(loss.name, {}, convention).reasons.items():
        yield reason.name.lower(), words
