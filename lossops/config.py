"""The configuration of a run: the only reader of settings, and the parameter of the Prefect flow."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from lossops.addresses import check_location, is_local
from lossops.dates import check_dates, fill, has_date
from lossops.documents import kind, override, parse_yaml
from lossops.errors import ConfigError, nearest, shown
from lossops.losses import CATALOGUE, CONVENTIONS, BoundLoss
from lossops.measures import MEASURES, BoundMeasure, bind
from lossops.memory import parse_size
from lossops.slices import Axis, Slice

__all__ = [
    "AxisConfig",
    "ClusterConfig",
    "DiscoverConfig",
    "GateConfig",
    "LabelsConfig",
    "LossConfig",
    "ModelConfig",
    "RunConfig",
    "load_config",
    "parse_config",
]

_MAX_BYTES = 1 << 20
_ADDRESS = r"^[a-z]+://[^/@]+:[0-9]+"
_ENCRYPTED = ("tls://", "wss://")
_Columns = str | list[str]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _as_axes(value: object) -> object:
    return [value] if isinstance(value, str | Mapping) else value


def _not_empty(value: list[Any]) -> list[Any]:
    if not value:
        raise ValueError("the list is empty; allowed: at least one")
    return value


def _different(value: list[Any]) -> list[Any]:
    if len(set(value)) < len(value):
        raise ValueError(f"{shown(value)}; allowed: name each once")
    return value


def _classes(value: list[Any]) -> list[Any]:
    if len({type(one) for one in value}) > 1 or len(value) < 2 or len(set(value)) < len(value):
        raise ValueError(f"{shown(value)}; allowed: two or more different values of one type")
    return value


def _size(value: object) -> object:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{shown(value)}; allowed: a size such as 2GiB or 500MB")
    if value is not None:
        parse_size(value)
    return value


def _location(value: str) -> str:
    check_location(value)
    check_dates(value)
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError) as error:  # unknown names, and names that are folders
        raise ValueError(f"{shown(value)}; allowed: a time zone such as UTC or Europe/Berlin") from error
    return value


def _moment(value: object) -> object:
    """YAML and people write a day without its midnight."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time())
    return value


_Location = Annotated[str, Field(min_length=1), AfterValidator(_location)]
_Paths = Annotated[list[_Location], BeforeValidator(_as_list), AfterValidator(_not_empty)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LabelsConfig(_Strict):
    """Where the labels are."""

    path: _Paths = Field(description="file, folder, glob, URL, or a list of these")
    label: _Columns | None = Field(
        None, description="label column for losses that name none; a list is one column a class"
    )


class ModelConfig(_Strict):
    """Where the predictions of one model are."""

    path: _Paths = Field(description="file, folder, glob, URL, or a list of these")
    prediction: _Columns | None = Field(
        None, description="prediction column for losses that name none; a list is one column a class"
    )


class LossConfig(BaseModel):
    """A loss or measure of the catalogue, and its parameters as further keys."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    loss: str = Field(description="name in the catalogue", examples=sorted([*CATALOGUE, *MEASURES]))
    name: str | None = Field(None, description="name in the report; the loss's own if left out")
    prediction: _Columns | None = Field(None, description="prediction column; the model's if left out")
    label: _Columns | None = Field(None, description="label column; that of the labels if left out")
    convention: str | None = Field(None, description="whose rules hold for this loss; the run's if left out")
    classes: Annotated[list[str | bool | int | float], AfterValidator(_classes)] | None = Field(
        None, description="label values in the order of the class numbers, for labels that are not such numbers"
    )
    denominator: Literal["weights", "rows", "all_rows", "class_weights", "convention"] = Field(
        "weights",
        description="what the sum of losses is divided by: the sum of the weights; the number of rows (also of those "
        "of weight 0); the same with rows of the ignored class; the sum of weights times class weights; or what the "
        "convention's library divides by",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        return {"loss": value} if isinstance(value, str) else value

    @property
    def shown(self) -> str:
        """The name in the report."""
        return self.name or self.loss


class AxisConfig(_Strict):
    """One column of a slice, cut into bins if it is numeric."""

    column: str = Field(description="column of the labels or the predictions; labels.X or predictions.X if in both")
    bins: list[float] | None = Field(None, description="increasing edges; values beyond them form their own bins")

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        return {"column": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _increasing(self) -> AxisConfig:
        if self.bins is not None:
            if not self.bins:
                raise ValueError("bins is empty; allowed: at least one edge")
            if any(low >= high for low, high in zip(self.bins, self.bins[1:], strict=False)):
                raise ValueError(f"bins {self.bins} do not increase; allowed: increasing edges")
        return self


def _axis(one: AxisConfig) -> Axis:
    return Axis(one.column, None if one.bins is None else tuple(one.bins))


class GateConfig(_Strict):
    """A limit that a loss, a comparison with the baseline, or a share of rows must keep."""

    name: str | None = Field(None, description="name in the report; what is limited if left out")
    loss: str | None = Field(None, description="loss as the report names it; for a share every loss if left out")
    share: Literal["invalid", "clipped", "unmatched"] | None = Field(
        None,
        description="invalid rows of the aligned ones, clipped ones of the scored ones, or unmatched predictions",
    )
    model: str | None = Field(None, description="every model if left out, but for the baseline where it is compared")
    max: float | None = Field(None, description="largest mean loss or share")
    max_increase: Annotated[float, Field(gt=-1)] | None = Field(
        None, description="largest increase over the baseline as a fraction of its mean: 0.01 is 1 %"
    )
    max_difference: float | None = Field(None, description="largest difference to the baseline, in units of the loss")
    slices: Annotated[list[_Columns], AfterValidator(_not_empty)] = Field(
        ["overall"], description="overall, columns or crosses that slices names, or single slices such as cut=Ideal"
    )
    min_rows: Annotated[int, Field(ge=0)] = Field(0, description="rows below which the outcome is insufficient")
    on_insufficient: Literal["pass", "fail"] = Field("pass", description="what not enough evidence does to the run")
    on_absent: Literal["pass", "fail"] = Field(
        "fail", description="what a slice that slices names, and of which there is no row, does to the run"
    )

    @model_validator(mode="after")
    def _one_limit(self) -> GateConfig:
        if self.loss is None and self.share is None:
            raise ValueError("neither loss nor share is given; allowed: a loss, or a share of rows")
        limits = [name for name in _LIMITS if getattr(self, name) is not None]
        if len(limits) != 1:
            raise ValueError(f"{' and '.join(limits) or 'no limit'}; allowed: one of {', '.join(_LIMITS)}")
        if self.share is not None and (limits != ["max"] or self.slices != ["overall"]):
            raise ValueError(f"share {self.share}; allowed with it: max, and no slices: it is one of all rows")
        return self

    @property
    def limit(self) -> tuple[str, float]:
        """Which limit it is, and its value."""
        return next((name, getattr(self, name)) for name in _LIMITS if getattr(self, name) is not None)

    @property
    def shown(self) -> str:
        """What the report calls it."""
        return self.name or self.rule

    @property
    def rule(self) -> str:
        """What is limited, and how."""
        what = " ".join(one for one in (self.model, self.share and f"share {self.share}", self.loss) if one)
        return f"{what} {self.limit[0]} {self.limit[1]:g}"

    def concerns(self, columns: Sequence[str]) -> bool:
        """Whether it is about slices of these columns, or one of them; no columns are all rows."""
        entries = ([] if entry == "overall" else columns_of_slice(entry) for entry in self.slices)
        return list(columns) in [*entries, *([entry] for entry in self.slices)]

    def covering(self, columns: Sequence[str], label: str) -> list[int]:
        """The places of the entries of `slices` that are about a slice, given by its columns and in words."""
        return [
            place
            for place, entry in enumerate(self.slices)
            if label == entry or (bool(columns) and list(columns) == ([entry] if isinstance(entry, str) else entry))
        ]


_LIMITS = ("max", "max_increase", "max_difference")


class DiscoverConfig(_Strict):
    """A search for conjunctions of column values on which losses are worst."""

    columns: Annotated[list[AxisConfig], AfterValidator(_not_empty)] = Field(
        description="columns of which conditions are made; numeric ones may have bins"
    )
    depth: Annotated[int, Field(ge=1, le=20)] = Field(3, description="conditions of a conjunction at most")
    min_rows: Annotated[int, Field(ge=1)] = Field(100, description="searched rows that a conjunction has at least")
    top: Annotated[int, Field(ge=1, le=10_000)] = Field(20, description="conjunctions of each model and loss to return")
    alpha: Annotated[float, Field(gt=0, le=1)] = Field(
        0.95, description="weight of how much worse a conjunction is, against how small it is"
    )
    held_out: bool = Field(
        default=True, description="whether to search one half of the rows and test what is found on the other"
    )

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The columns."""
        return tuple(_axis(one) for one in self.columns)


class ClusterConfig(_Strict):
    """Where work is done: in threads of this process, or on Dask with ``workers`` or ``address``."""

    workers: Annotated[int, Field(ge=1)] | None = Field(None, description="local worker processes")
    threads: Annotated[int, Field(ge=1)] | None = Field(
        None, description="threads of each local worker process (1), or of this process (one a core)"
    )
    address: Annotated[str, Field(pattern=_ADDRESS)] | None = Field(
        None, description="address of a running Dask scheduler, such as tls://scheduler:8786 or tcp://127.0.0.1:8786"
    )
    allow_unencrypted: bool = Field(
        default=False,
        description="whether a scheduler on another machine may be reached without TLS, for others to read and forge",
    )

    @model_validator(mode="after")
    def _one_kind(self) -> ClusterConfig:
        if self.address is not None and (self.workers is not None or self.threads is not None):
            raise ValueError("address is given together with workers or threads; allowed: one of them")
        return self

    @model_validator(mode="after")
    def _encrypted(self) -> ClusterConfig:
        if self.address is None:
            if self.allow_unencrypted:
                raise ValueError("allow_unencrypted: there is no address; allowed: leave it out")
        elif not (self.allow_unencrypted or self.address.startswith(_ENCRYPTED) or is_local(self.address)):
            allowed = "tls:// or wss://, a scheduler on this machine, or allow_unencrypted: true"
            raise ValueError(f"address: {shown(self.address)} is reached without TLS; allowed: {allowed}")
        return self


class RunConfig(_Strict):
    """One evaluation: datasets, models, losses, slices and where the report goes."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")] = Field(
        description="names the report folder: letters, digits, - and _"
    )
    labels: LabelsConfig
    models: dict[str, ModelConfig] = Field(description="one or more models by name", min_length=1)
    key: Annotated[Annotated[list[str], AfterValidator(_not_empty)] | None, BeforeValidator(_as_list)] = Field(
        None, description="column or columns that pair rows; without it rows pair by shard and position"
    )
    duplicates: Literal["drop", "first", "last", "fail"] = Field(
        "drop",
        description="rows of a dataset with one key: drop scores none of them, first and last that with the lowest or "
        "highest order_by, fail ends the run",
    )
    order_by: Annotated[Annotated[list[str], AfterValidator(_not_empty)] | None, BeforeValidator(_as_list)] = Field(
        None, description="column that first and last go by; labels.X or predictions.X for one side only"
    )
    weight: str | None = Field(None, description="column of the sample weight")
    unit: str | None = Field(
        None, description="column of the independent unit, such as a user; intervals then cluster on it"
    )
    unit_buckets: Annotated[int, Field(ge=2, le=65536)] = Field(
        1024, description="units that are kept apart; where there are more, they are put together by hash"
    )
    quantiles: Annotated[list[Annotated[float, Field(ge=0, le=1)]], AfterValidator(_different)] = Field(
        default_factory=lambda: [0.5, 0.9, 0.99],
        description="levels of the quantiles of loss; an empty list does without quantiles and histograms",
    )
    hardest: Annotated[int, Field(ge=0, le=10_000)] = Field(
        10, description="rows with the largest losses that are listed for each slice"
    )
    calibration: Annotated[int, Field(ge=0, le=1000)] = Field(
        10, description="bins of the probability in which calibration of binary probabilities is listed; 0 lists none"
    )
    min_rows: Annotated[int, Field(ge=0)] = Field(
        0, description="rows below which the numbers of a slice are hidden, and those that would give them away"
    )
    confidence: Annotated[float, Field(gt=0, lt=1)] = Field(0.95, description="level of the intervals")
    losses: Annotated[list[LossConfig], AfterValidator(_not_empty)]
    slices: list[Annotated[list[AxisConfig], BeforeValidator(_as_axes), AfterValidator(_not_empty)]] = Field(
        default_factory=list, description="columns, crosses of columns, numeric columns with bins"
    )
    convention: str = Field("keras", description="whose rules hold at the edge of probabilities")
    on_invalid: Literal["count", "fail"] = Field("count", description="what a row with an impossible value does")
    on_bad_shard: Literal["fail", "quarantine"] = Field(
        "fail", description="what a damaged shard does: end the run, or be left out and listed"
    )
    baseline: str | None = Field(None, description="model that every other one is compared with, on the same rows")
    gates: list[GateConfig] = Field(default_factory=list, description="limits; a run that breaks one ends with code 1")
    discover: DiscoverConfig | None = Field(None, description="a search for bad slices that slices does not name")
    date: Annotated[datetime | None, BeforeValidator(_moment)] = Field(
        None,
        description="day or moment the run is about, and {date} in paths; that of the schedule, or now, if left out",
    )
    timezone: Annotated[str, AfterValidator(_zone)] = Field(
        "UTC", description="whose days {date} in paths and schedules go by, such as Europe/Berlin"
    )
    output: _Location = Field("reports", description="folder or URL of the reports")
    work: _Location | None = Field(
        None, description="folder or URL of stored states and spilled rows; .lossops beside the output if left out"
    )
    memory: Annotated[str | None, BeforeValidator(_size)] = Field(
        None, description="memory that joins may use, such as 2GiB; half of the machine's if left out"
    )
    cluster: ClusterConfig | None = Field(None, description="null: this process")

    @property
    def zone(self) -> ZoneInfo:
        """The time zone."""
        return ZoneInfo(self.timezone)

    @property
    def is_dated(self) -> bool:
        """Whether a path holds a date."""
        models = (path for model in self.models.values() for path in model.path)
        return any(map(has_date, (*self.labels.path, *models, self.output, self.work or "")))

    def dated(self, moment: datetime) -> RunConfig:
        """Return the config with dates in paths filled in.

        Args:
            moment: with a time zone; what they stand for unless the config itself says it.

        Raises:
            ConfigError: a date lies before the year 1 or after the year 9999.
        """
        if not self.is_dated:
            return self
        chosen = self.date or moment
        try:
            # Prefect's moments are of a class whose arithmetic does not know our time zones.
            seconds = chosen.timestamp() if chosen.tzinfo else chosen.replace(tzinfo=self.zone).timestamp()
            local = datetime.fromtimestamp(seconds, self.zone)
            return self.model_copy(update={"date": local, **self._filled(local)})
        except (OverflowError, OSError, ValueError) as error:
            raise ConfigError(f"date: {chosen.isoformat()} and what paths add to it: {error}") from error

    def _filled(self, moment: datetime) -> dict[str, Any]:
        def filled(one: LabelsConfig | ModelConfig) -> Any:
            return one.model_copy(update={"path": [fill(path, moment) for path in one.path]})

        return {
            "labels": filled(self.labels),
            "models": {name: filled(model) for name, model in self.models.items()},
            "output": fill(self.output, moment),
            "work": None if self.work is None else fill(self.work, moment),
        }

    @property
    def memory_bytes(self) -> int | None:
        """The memory limit in bytes."""
        return None if self.memory is None else parse_size(self.memory)

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        self._check_duplicates()
        if self.baseline is not None and self.baseline not in self.models:
            raise ValueError(f"baseline: unknown model {self.baseline!r}; {nearest(self.baseline, self.models)}")
        if self.baseline is not None and len(self.models) < 2:
            raise ValueError(f"baseline: {self.baseline!r} is the only model; allowed: a second one to compare with it")
        _check_convention(self.convention)
        for place, loss in enumerate(self.losses):
            try:
                self._bind(loss)
            except ConfigError as error:
                raise ValueError(f"losses.{place}: {error}") from error
        for place, gate in enumerate(self.gates):
            try:
                self._check_gate(gate)
            except ValueError as error:
                raise ValueError(f"gates.{place}.{error}") from error
        _distinct("gates", [gate.shown for gate in self.gates], "give each its own name")
        _distinct("losses", [loss.shown for loss in self.losses], "give each its own name")
        _distinct("slices", [_shown(axes) for axes in self.slices], "name each slice once")
        for axes in self.slices:
            _distinct("slices", [_shown([axis]) for axis in axes], "name each axis of a cross once")
        _distinct("key", self.key or [], "name each column once")
        for one in [self.discover] if self.discover else []:
            _distinct("discover.columns", [_shown([axis]) for axis in one.columns], "name each column once")
        return self

    def _check_duplicates(self) -> None:
        chooses = self.duplicates in ("first", "last")
        if self.duplicates != "drop" and not self.key:
            raise ValueError(f"duplicates: {self.duplicates} without a key; allowed: set key")
        if chooses and not self.order_by:
            raise ValueError(f"order_by: missing, but duplicates: {self.duplicates} goes by it; allowed: a column")
        if self.order_by and not chooses:
            raise ValueError(f"order_by: duplicates: {self.duplicates} does not go by it; allowed: first or last")
        _distinct("order_by", self.order_by or [], "name each column once")

    def _check_gate(self, gate: GateConfig) -> None:
        rows = [loss.shown for loss, bound in zip(self.losses, self.bound_losses, strict=True) if _is_loss(bound)]
        if gate.loss is not None and gate.loss not in rows:
            if gate.loss in [loss.shown for loss in self.losses]:
                raise ValueError(f"loss: {gate.loss} is a measure, which has no interval; allowed: {', '.join(rows)}")
            raise ValueError(f"loss: unknown loss {gate.loss!r}; {nearest(gate.loss, rows)}")
        if gate.model is not None and gate.model not in self.models:
            raise ValueError(f"model: unknown model {gate.model!r}; {nearest(gate.model, self.models)}")
        if gate.limit[0] != "max":
            if self.baseline is None:
                raise ValueError(f"{gate.limit[0]}: there is no baseline; allowed: set baseline, or use max")
            if gate.model == self.baseline:
                raise ValueError(f"model: {gate.model!r} is the baseline itself; allowed: another model")
        known = [slices.columns for slices in self.chosen_slices]
        for entry in gate.slices:
            meant = (columns_of_slice(entry), [entry], entry)
            if entry != "overall" and not any(one in known for one in meant):
                choices = ["overall", *(" & ".join(columns) for columns in known)]
                raise ValueError(f"slices: {shown(entry)} is not among slices; {nearest(str(entry), choices)}")

    def _bind(self, loss: LossConfig) -> BoundLoss | BoundMeasure:
        return bind(loss.loss, loss.model_extra or {}, loss.convention or self.convention)

    @property
    def bound_losses(self) -> tuple[BoundLoss | BoundMeasure, ...]:
        """Every loss and measure with its parameters and convention fixed, in the order of the config."""
        return tuple(self._bind(loss) for loss in self.losses)

    @property
    def chosen_slices(self) -> tuple[Slice, ...]:
        """Every slice but overall, in the order of the config."""
        return tuple(Slice(tuple(map(_axis, axes))) for axes in self.slices)


def _is_loss(bound: BoundLoss | BoundMeasure) -> bool:
    return isinstance(bound, BoundLoss)


def columns_of_slice(entry: str | list[str]) -> list[str]:
    """Return the columns that a gate names, also by a single slice in words, such as ``cut=Ideal & color is null``."""
    if not isinstance(entry, str):
        return entry
    return [re.split(r"=| is (?:null|NaN)$", part, maxsplit=1)[0] for part in entry.split(" & ")]


def _check_convention(name: str) -> None:
    if name not in CONVENTIONS:
        raise ValueError(f"convention: unknown convention {name!r}; {nearest(name, CONVENTIONS)}")


def _shown(axes: Sequence[AxisConfig]) -> str:
    return " x ".join(axis.column if axis.bins is None else f"{axis.column} {axis.bins}" for axis in axes)


def _distinct(key: str, names: Sequence[str], advice: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{key}: {twice[0]!r} occurs more than once; {advice}")


def load_config(path: str, settings: Sequence[str] = ()) -> RunConfig:
    """Read a config file.

    Args:
        path: YAML file.
        settings: ``key=value`` overrides; a dotted key reaches into mappings and lists, the value is YAML.

    Raises:
        ConfigError: the file is missing or not a valid config; the message names file, key, value and what is allowed.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; allowed: a readable YAML file") from error
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"{path}: larger than 1 MiB; allowed: a config of at most 1 MiB")
    try:
        parsed = parse_yaml(content.decode("utf-8"))
        if not isinstance(parsed, dict):
            raise ConfigError(f"the file holds {kind(parsed)}; allowed: a mapping of keys such as name, labels, models")
        for setting in settings:
            override(parsed, setting)
        return parse_config(parsed)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text at byte {error.start}; allowed: a YAML file in UTF-8") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_config(values: Mapping[str, Any]) -> RunConfig:
    """Validate a config given as a mapping.

    Raises:
        ConfigError: it is not valid; the message names key, value and what is allowed.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error


_KINDS = {
    "dict_type": "a mapping",
    "model_type": "a mapping of keys",
    "list_type": "a list",
    "string_type": "a text",
    "string_too_short": "a text that is not empty",
    "too_short": "at least one entry",
    "bool_type": "true or false",
}
_MODELS: dict[str, type[BaseModel]] = {
    "labels": LabelsConfig,
    "models": ModelConfig,
    "losses": LossConfig,
    "slices": AxisConfig,
    "gates": GateConfig,
    "discover": DiscoverConfig,
    "cluster": ClusterConfig,
}


def _explain(error: ValidationError) -> str:
    details = error.errors(include_url=False)
    # A misspelt key is usually reported twice, as unknown and as missing: the unknown one names the culprit.
    first = next((detail for detail in details if detail["type"] == "extra_forbidden"), details[0])
    place = [str(part) for part in first["loc"] if not str(part).startswith(("list[", "str", "function-"))]
    where, found = ".".join(place), first["input"]
    if first["type"] == "extra_forbidden":
        fields = (_MODELS.get(place[0], RunConfig) if len(place) > 1 else RunConfig).model_fields
        return f"{where}: unknown key {place[-1]!r}; {nearest(place[-1], fields)}"
    if first["type"] == "missing":
        return f"{where}: this key is missing"
    if first["type"] == "string_pattern_mismatch":
        allowed = "up to 100 letters, digits, - and _" if where == "name" else "an address such as tcp://127.0.0.1:8786"
        return f"{where}: {shown(found)}; allowed: {allowed}"
    if first["type"] in _KINDS:
        return f"{where}: found {shown(found)}; allowed: {_KINDS[first['type']]}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{where}: {message}" if where else message
    return f"{where}: {message[0].lower()}{message[1:]}; found {shown(found)}"
