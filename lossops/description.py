"""What the catalogue says of a loss, read off its declaration: the command line and the documentation print it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from lossops.losses.bound import BoundLoss, bind, parameters_of
from lossops.losses.conventions import CONVENTIONS, Convention, rule_meanings
from lossops.losses.declaration import Curve, Declaration, Form, Inputs, Interval, Loss, Parameter, setting_names
from lossops.measures import Measure

__all__ = [
    "LEFT_OUT",
    "Section",
    "by_family",
    "describe_convention",
    "describe_loss",
    "describe_measure",
    "matches",
]

Pairs = tuple[tuple[str, str], ...]

LEFT_OUT: Pairs = (
    ("CTC", "the value depends on an alignment of sequences, and libraries differ in what a blank is"),
    ("NT-Xent, circle, multi-similarity", "the value of a row depends on the other rows of its batch"),
    ("AUC and ranking metrics", "they need the global order of the rows, or groups of queries"),
    ("survival losses", "they need risk sets or censoring intervals"),
)


@dataclass(frozen=True)
class Section:
    """A heading and lines of (name, text)."""

    heading: str
    lines: Pairs


def by_family(declared: Mapping[str, Declaration], words: str = "") -> dict[str, list[Declaration]]:
    """Group what matches a search by family, families and names in alphabetical order."""
    found: dict[str, list[Declaration]] = {}
    for one in sorted(declared.values(), key=lambda one: (one.family, one.name)):
        if matches(one, words):
            found.setdefault(one.family, []).append(one)
    return found


def matches(one: Declaration, words: str) -> bool:
    """Whether every word of a search is in the name, the summary, the family, the source or a library's name."""
    text = " ".join([one.name, one.summary, one.family, one.citation, *one.also]).casefold()
    return all(word in text for word in words.casefold().split())


def describe_loss(loss: Loss) -> list[Section]:
    """Return everything that is declared of a loss."""
    sections = [
        Section("", tuple(_definition(loss))),
        Section("Parameters", tuple((one.name, _parameter(one)) for one in parameters_of(loss))),
        Section("Curve, in the plain form with default parameters under exact", tuple(_curve(loss.curve))),
        Section("Conventions", tuple(_conventions(loss))),
        Section("Why a row may not be scored", tuple(_reasons(loss))),
    ]
    return [section for section in sections if section.lines]


def describe_measure(measure: Measure) -> list[Section]:
    """Return everything that is declared of a measure."""
    definition = (
        ("formula", measure.formula),
        ("prediction", f"in {measure.prediction}"),
        ("label", "a class from 0" if measure.inputs.has_classes else f"in {measure.label}"),
        ("inputs", measure.inputs.value.partition("; the loss")[0]),
        ("better", "a larger value" if measure.higher_is_better else "a smaller value"),
        *((("also called", ", ".join(measure.also)),) if measure.also else ()),
        ("source", measure.citation),
    )
    rules = [name for name in rule_meanings() if name in measure.settings_read]
    conventions = [(rule, rule_meanings()[rule]) for rule in rules]
    conventions += [
        (convention.name, ", ".join(f"{rule} {getattr(convention, rule):g}" for rule in rules))
        for convention in (CONVENTIONS.values() if rules else ())
    ]
    sections = [
        Section("", definition),
        Section("Parameters", tuple((one.name, _parameter(one)) for one in parameters_of(measure))),
        Section("Conventions", tuple(conventions)),
    ]
    return [section for section in sections if section.lines]


def _definition(loss: Loss) -> Iterator[tuple[str, str]]:
    yield "formula", loss.form.formula
    for name, form in loss.alternatives.items():
        yield name, form.formula
    usual = _bound(loss, "exact", len(loss.form.fields) or 3)
    for switch, form in loss.forms.items():
        narrower = usual.prediction_domains[0] if form.prediction_of and switch is None else None
        yield "prediction" if switch is None else "", _prediction(form, switch) + _by_default(narrower)
    if loss.inputs.has_label:
        classes = "a class from 0" if loss.inputs.has_classes else ""
        values = f"{'values ' * loss.inputs.has_classes}in {loss.label}" + _by_default(
            usual.label_domain if loss.label_of else None
        )
        vector = values if loss.inputs is not Inputs.CLASS_INDEX else ""
        yield "label", ", or ".join(filter(None, (classes, vector)))
    if loss.label_sum is not None:
        yield "label sum", f"in {loss.label_sum}"
    yield "inputs", loss.inputs.value
    accuracies = {switch: _accuracy(form) for switch, form in loss.forms.items()}
    for switch, text in accuracies.items():
        if switch is None or text != accuracies[None]:
            yield "" if switch else "exact to", f"with {switch}, {text}" if switch else text
    if loss.also:
        yield "also called", ", ".join(loss.also)
    yield "source", loss.citation


def _by_default(domain: Interval | None) -> str:
    """Say what is left of a domain that depends on settings, if it does."""
    return "" if domain is None else f" at most, depending on settings; {domain} with defaults under exact"


def _prediction(form: Form, switch: str | None) -> str:
    kind = "" if switch is None else f"with {switch}, "
    if not form.fields:
        return f"{kind}in {form.domains[0]}"
    return kind + "; ".join(f"{field.name} in {field.domain}: {field.meaning}" for field in form.fields)


def _accuracy(form: Form) -> str:
    units = f"{form.ulps:g}" + (f" + {form.ulps_per_value:g} n" if form.ulps_per_value else "")
    scale = "" if form.scale is None else f", relative to the larger of the loss and {form.scale}"
    return f"{units} units in the last place under exact{scale}"


def _parameter(parameter: Parameter) -> str:
    if parameter.required:
        default = "no default"
    else:
        default = "default " + ("null" if parameter.default is None else str(parameter.default).lower())
    return f"{parameter.meaning}; {default}; allowed: {parameter.allowed}"


def _curve(curve: Curve) -> Iterator[tuple[str, str]]:
    yield "convex", "yes" if curve.convex else "no"
    yield "smooth", "yes, at the perfect prediction too" if curve.smooth else "no"
    yield "slope", "bounded" if curve.slope_bounded else "not bounded"
    yield "symmetric", "yes" if curve.symmetric else "no"
    yield "", "symmetric: errors to both sides cost the same, or renaming the classes changes nothing"
    yield "an outlier", curve.outlier.value


def _used_rules(loss: Loss) -> list[str]:
    used = {name for form in loss.forms.values() for name in setting_names(form.row)} | {loss.lifted_by or ""}
    return [name for name in rule_meanings() if name in used]


def _conventions(loss: Loss) -> Iterator[tuple[str, str]]:
    """Yield what each convention does to this loss, with the loss of one confidently wrong row as example."""
    rules = _used_rules(loss)
    row = _telling_row(loss) if rules else None
    for rule in rules:
        yield rule, rule_meanings()[rule]
    for convention in CONVENTIONS.values() if rules else ():
        chosen = ", ".join(f"{rule} {getattr(convention, rule):g}" for rule in rules)
        yield convention.name, f"{chosen}. {_example(loss, row, convention)}"
    if rules:
        divides = _BY_CLASS if loss.divides_by_class_weights else _BY_ROWS
        yield "denominator", f"{divides}, the others by the weights; {_HERE}"


_BY_ROWS = "keras, tf_keras and torch divide by the number of rows"
_BY_CLASS = "keras and tf_keras divide by the number of rows, torch by the class weights of the labels"
_HERE = "here it is the weights of scored rows under every convention, unless the config says denominator: convention"


def _example(loss: Loss, row: tuple[Any, Any] | None, convention: Convention) -> str:
    if row is None:
        return ""
    label, prediction = (", ".join(f"{value:g}" for value in side) for side in row)
    value = _value(_bound(loss, convention.name, len(row[1])), row)
    what = f"Label {label} with prediction {prediction}" if label else f"Prediction {prediction}"
    return f"{what} is refused" if math.isnan(value) else f"{what} loses {value:.6g}"


def _bound(loss: Loss, convention: str, width: int) -> BoundLoss:
    return bind(loss.name, _needed(loss, width), convention)


def _needed(loss: Loss, width: int) -> dict[str, Any]:
    """Values for the parameters that have no default: evenly spaced ones."""
    found = {}
    for parameter in loss.parameters:
        if parameter.required and parameter.count is not None:
            number = max(parameter.count(width), 1)
            found[parameter.name] = [(i + 1) / (number + 1) for i in range(number)]
    return found


def _value(bound: BoundLoss, row: tuple[Any, Any]) -> float:
    labels, predictions = (np.array([side], dtype=np.float64) for side in row)
    reasons, none = np.zeros(1, dtype=np.uint8), np.zeros(1, dtype=np.uint8)
    bound.check(labels, none, predictions, none, reasons)
    value = float(bound.values(labels, predictions, reasons)[0])
    return float("nan") if reasons[0] else value


def _telling_row(loss: Loss) -> tuple[Any, Any] | None:
    """Return the first row, of those at the ends of the domains, that all conventions score, and score differently."""
    best, most = None, (0, 1)
    for row in _candidates(loss):
        found = [f"{_value(_bound(loss, name, len(row[1])), row):.6g}" for name in CONVENTIONS]
        worth = (-found.count("nan"), len(set(found)))
        if worth[1] > 1 and (best is None or worth > most):
            best, most = row, worth
    return best


def _candidates(loss: Loss) -> Iterator[tuple[Any, Any]]:
    domains = loss.form.domains
    width = {Inputs.ELEMENTS: 1, Inputs.MEMBERS: 2, Inputs.PAIR: 4, Inputs.TRIPLE: 6}.get(loss.inputs, 2)
    each = [_ends(domain) for domain in (domains if len(domains) > 1 else domains * width)]
    label_width = {Inputs.ELEMENTS: 1, Inputs.VECTORS: 2, Inputs.TRIPLE: 0}.get(loss.inputs, 1)
    of_label = (0.0,) if loss.inputs.has_classes else _ends(loss.label)
    yield from product(product(of_label, repeat=label_width), product(*each))


def _ends(domain: Interval) -> tuple[float, ...]:
    """The ends of a domain that belong to it or, where they do not, values people would call extreme; in order."""
    finite = tuple(end for end in (domain.low, domain.high) if math.isfinite(end) and end in domain)
    return finite if len(finite) == 2 else tuple(value for value in (0.0, 1.0, -1.0, 1e-12) if value in domain)[:3]


def _reasons(loss: Loss) -> Iterator[tuple[str, str]]:
    """Yield the ledger's name and the words of every reason that holds while all settings are at their defaults."""
    for reason, words in _bound(loss, "exact", len(loss.form.fields) or 3).reasons.items():
        yield reason.name.lower(), words


def describe_convention(convention: Convention) -> str:
    """What a convention does differently from ``exact``, rule by rule."""
    exact = CONVENTIONS["exact"]
    rules = (rule for rule in rule_meanings() if getattr(convention, rule) != getattr(exact, rule))
    return ", ".join(f"`{rule}` {getattr(convention, rule):g}" for rule in rules) or "nothing"
