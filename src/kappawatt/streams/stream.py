"""The record of one stream: everything that differs from one domain to the next, and nothing else."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import EntryPoint
from typing import Any

from kappawatt.bus.topic import Topic, dead_letter
from kappawatt.columns.batch import Batch, Rejection
from kappawatt.columns.schema import Schema
from kappawatt.errors import PayloadInvalid, SettingInvalid
from kappawatt.forecasting.fan import LEVELS
from kappawatt.forecasting.suspects import SPIKY, SuspectRules

__all__ = ["NAME", "NAME_OR_PART", "Bins", "Demo", "Form", "Key", "Rule", "Stream", "View", "load_entry", "resolve"]

# a name of dots alone would be taken for a folder on its way here
NAME = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,99}")
STREAM_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
NAME_OR_PART = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~:-]{0,99}")  # 1044...:surplus


class Form(StrEnum):
    """What the messages of a topic are; how each looks stands in `kappawatt.messages`."""

    READINGS = "readings"
    PREDICTIONS = "predictions"
    FORECASTS = "forecasts"
    FORECAST_ERRORS = "forecast errors"
    DEAD_LETTERS = "dead letters"


@dataclass(frozen=True, slots=True)
class Key:
    """What tells one plant, zone or meter from another.

    Parameters
    ----------
    name : str
        Of the message key: `load_zone`. A field of that name in the schema may stand in for it.
    noun : str
        What people call it: `load zone`.
    example : str
    pattern : re.Pattern
        Names that are allowed.
    """

    name: str
    noun: str
    example: str
    pattern: re.Pattern[str] = NAME

    @property
    def allowed(self) -> str:
        """What a key may be, for a person."""
        more = " :" if self.pattern is NAME_OR_PART else ""
        return f"1 to 100 of A-Z a-z 0-9 . _ ~ -{more} not led by a dot"

    def checked(self, key: str) -> str:
        """Return `key` if it can be one; PayloadInvalid says what can."""
        if self.pattern.fullmatch(key):
            return key
        raise PayloadInvalid.of("key", repr(key[:100]), self.allowed)


@dataclass(frozen=True, slots=True)
class View:
    """How the gateway shows a stream.

    Parameters
    ----------
    title : str
        Of its tab: `Plant`.
    opens : str
        Dotted reference to what makes the view of a stream, `module:callable`; empty is the one of its answers' form.
    percent : bool
        Whether percentage errors mean something: not where the quantity is often next to zero.
    day_figures : tuple of (str, str)
        Figures of the day in forecasts, and which of `sum` and `max` of the intervals they are.
    most_keys, kept_answers, kept_errors : int
        Plants or series; forecasts and intervals with an error of each.
    """

    title: str
    opens: str = ""
    percent: bool = True
    day_figures: tuple[tuple[str, str], ...] = ()
    most_keys: int = 500
    kept_answers: int = 20
    kept_errors: int = 2_000


@dataclass(frozen=True, slots=True)
class Bins:
    """How an example query cuts a field of a reading.

    Parameters
    ----------
    field : str
    width : float
        Of a bin, in the field's unit.
    name : str
        Of the query: `error-by-NAME`; empty is the field's.
    """

    field: str
    width: float
    name: str = ""


@dataclass(frozen=True, slots=True)
class Demo:
    """What `kappawatt run` streams.

    Parameters
    ----------
    data : str
        Dotted reference to (folder or None) -> data set, `module:callable`.
    history_days : int
        Days sent at once before the stream begins, or as many as the model looks back on if that is more.
    """

    data: str
    history_days: int = 0


Rule = Callable[["Stream", Batch, str], Iterator[Rejection]]  # rows the schema lets pass and the stream cannot use


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One domain on the bus. Topics, doors, tables, views, queries, probes, demos and docs are made from it.

    Parameters
    ----------
    name : str
        `load`: what tables and views are called after.
    service : str
        Whose workers answer.
    title : str
        What one row is, for people: `an hour of a load zone`.
    key : Key
    target : str
        Field of a reading that holds the measurement; the answer's field of that name is what was expected.
    readings, answers : Topic
        Where rows come in and where answers go; `message` of both is a schema.
    errors : Topic or None
        Of a stream that is forecast: realised errors.
    path : str
        First part of the path at the ingestor's door: `POST /load/PJME`.
    rules : tuple of callable
        (stream, batch, key) to rejections of rows that the schema lets pass and the stream cannot use.
    values : tuple of str
        Optional fields of which a row must have one.
    levels : tuple of float
        Quantile levels of forecasts, those of the service's forecaster.
    steps : tuple of int
        Lengths of an interval that its forecaster knows [s].
    usual_step : int or None
        The one that is supposed of a series whose rows neither say nor show theirs; the only one if there is one.
        None: it has to be said or shown.
    time_zone : str
        IANA name of the zone of series that do not say theirs, the forecaster's own; empty if there is none.
    suspect_rules : SuspectRules
        Which measurements are suspect, and missing to a forecast.
    arrival : str or None
        Time field whose absence means the time of arrival.
    files : str
        Dotted reference to the layouts of publishers' files, `module:object`, see `datasets.reading.meaning.Layout`.
    readings_table, answers_table : str
        Names of the sink's tables; empty is `NAME_readings` and, of predictions, `NAME_predictions`.
    scored_view : str
        Name of the sink's view of predictions beside measurements; empty is `NAME_scored`. What stands before `scored`
        stands before the names of its example queries too.
    error_by : tuple of Bins
        Fields the error of a prediction may depend on: an example query each.
    view : View
    demo : Demo or None
    order : int
        Where it stands in lists; equal ones by name.
    """

    name: str
    service: str
    title: str
    key: Key
    target: str
    readings: Topic
    answers: Topic
    path: str
    view: View
    errors: Topic | None = None
    rules: tuple[Rule, ...] = ()
    values: tuple[str, ...] = ()
    levels: tuple[float, ...] = LEVELS
    steps: tuple[int, ...] = ()
    usual_step: int | None = None
    time_zone: str = ""
    suspect_rules: SuspectRules = SPIKY
    arrival: str | None = None
    files: str = ""
    readings_table: str = ""
    answers_table: str = ""
    scored_view: str = ""
    error_by: tuple[Bins, ...] = ()
    demo: Demo | None = None
    order: int = 100

    def __post_init__(self) -> None:
        """Refuse a record that cannot be, where it is made; SettingInvalid names the field."""
        fields = self.schema.names
        target_in = fields if self.errors is not None else (*fields, *self.answer.names)
        examples = [field.name for field in self.schema.required if field.example is None]
        interval, several = {"interval_start", "time_zone", "issue_time"}, "interval_seconds"
        for field, got, allowed, is_well in (
            ("name", self.name, "a-z 0-9 -, a letter first", STREAM_NAME.fullmatch(self.name)),
            ("path", self.path, "A-Z a-z 0-9 . _ ~ -", NAME.fullmatch(self.path)),
            ("target", self.target, f"a field: {', '.join(target_in)}", self.target in target_in),
            ("arrival", self.arrival, "a field of a reading", self.arrival is None or self.arrival in fields),
            ("values", self.values, "fields of a reading", set(self.values) <= set(fields)),
            ("readings", examples, "an example for each required field: the probe sends them", not examples),
            ("steps", self.steps, f"none without {', '.join(interval)}", not self.steps or interval <= set(fields)),
            ("steps", self.steps, f"one, or several with {several}", len(self.steps) < 2 or several in fields),
            ("usual_step", self.usual_step, f"one of {self.steps}", self.usual_step in (None, *self.steps)),
            ("errors", self.errors, "none without steps", self.errors is None or self.steps),
        ):
            if not is_well:
                raise SettingInvalid.of(f"stream {self.name}: {field}", got, allowed)

    @property
    def supposed_step(self) -> int:
        """Length of an interval [s] while nothing is known of a series: the usual one, else the shortest."""
        return self.usual_step or min(self.steps)

    @property
    def schema(self) -> Schema:
        """Of a reading."""
        return schema_of(self.readings)

    @property
    def answer(self) -> Schema:
        """Of a prediction; forecasts are documents, and have none."""
        return schema_of(self.answers)

    @property
    def dead(self) -> Topic:
        """Where messages go that cannot be answered."""
        return dead_letter(self.readings)

    @property
    def forecast_errors(self) -> Topic:
        """Where realised errors go; SettingInvalid if the stream is not forecast."""
        if self.errors is None:
            raise SettingInvalid.of(f"stream {self.name}", "no topic of realised errors", "one: it is forecast")
        return self.errors

    @property
    def form(self) -> Form:
        """What its answers are."""
        return Form.PREDICTIONS if self.errors is None else Form.FORECASTS

    @property
    def word(self) -> str:
        """Its name where a hyphen cannot be: in names of tables and views."""
        return self.name.replace("-", "_")

    @property
    def readings_name(self) -> str:
        """Name of the sink's table of readings."""
        return self.readings_table or f"{self.word}_readings"

    @property
    def answers_name(self) -> str:
        """Name of the sink's table of predictions."""
        return self.answers_table or f"{self.word}_predictions"

    @property
    def scored_name(self) -> str:
        """Name of the sink's view of predictions beside measurements."""
        return self.scored_view or f"{self.word}_scored"

    @property
    def names_key(self) -> bool:
        """Whether a row may name its key itself."""
        return self.key.name in self.schema.names

    def example_row(self) -> dict[str, Any]:
        """Return a reading that is taken: the examples of what it must have."""
        names = [*(field.name for field in self.schema.required), *self.values[:1]]
        return {name: self.schema.field(name).example for name in names}

    @property
    def forms(self) -> tuple[tuple[Topic, Form], ...]:
        """All its topics, in the order a reading takes, and what their messages are."""
        errors = () if self.errors is None else ((self.errors, Form.FORECAST_ERRORS),)
        return (
            (self.readings, Form.READINGS),
            (self.answers, self.form),
            *errors,
            (self.dead, Form.DEAD_LETTERS),
        )

    @property
    def topics(self) -> tuple[Topic, ...]:
        """All its topics, in the order a reading takes."""
        return tuple(topic for topic, _ in self.forms)


def schema_of(topic: Topic) -> Schema:
    """Return the schema of a topic's rows; SettingInvalid if it says none."""
    if topic.message is None:
        raise SettingInvalid.of(f"topic {topic.name}", "no schema", "one: a stream's rows have fields")
    return topic.message


def load_entry(entry: EntryPoint) -> Any:
    """Return what an entry point of another package names; SettingInvalid if it cannot be had."""
    try:
        return entry.load()
    except Exception as error:  # whatever another package does while it is imported
        raise SettingInvalid(f"entry point {entry.name} of {entry.group}: {entry.value}: {error}") from error


def resolve(reference: str) -> Any:
    """Return what a dotted reference `module:object` names; SettingInvalid if nothing has that name."""
    try:
        return pkgutil.resolve_name(reference)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingInvalid.of("reference", repr(reference), f"MODULE:OBJECT that can be imported: {error}") from error
