"""The tables people query, made from the streams there are: readings and predictions of each, and those all share.

A stream's readings and predictions have a table each, from its schemas. Forecasts look the same whatever is forecast,
so all streams share the tables of forecasts, their days and errors, and that of rejections. Ids are the coordinates of
the message a row came from, or made from the forecast's own, so a row that is landed twice lands in the same place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from kappawatt.columns.schema import Field, Kind
from kappawatt.errors import SettingInvalid
from kappawatt.forecasting.fan import level_name
from kappawatt.store.table import Column, Layout, Table, Type, View
from kappawatt.streams.series import ISSUE_TIME
from kappawatt.streams.stream import Form, Stream
from kappawatt.streams.table import STREAMS

from .views import scored, scored_forecasts

__all__ = [
    "EVENT_TIME",
    "FORECASTS",
    "FORECAST_DAYS",
    "FORECAST_ERRORS",
    "LAYOUT",
    "POSITIONS",
    "PREDICTIONS",
    "READINGS",
    "REJECTIONS",
    "reading_fields",
]

TYPES = {
    Kind.NUMBER: Type.NUMBER,
    Kind.INTEGER: Type.BIGINT,
    Kind.BOOLEAN: Type.BOOLEAN,
    Kind.TEXT: Type.TEXT,
    Kind.TIMESTAMP: Type.TIME,
}
EVENT_TIME = "event_time"  # of a prediction, whatever its reading calls it
ID = Column("id", Type.TEXT)
FORMER_KEYS = {  # what `key` was called by table, in the release before
    **dict.fromkeys(("readings", "predictions", "rejections"), "plant"),
    "load_readings": "load_zone",
    "meter_readings": "meter_id",
    **dict.fromkeys(("forecasts", "forecast_days", "forecast_errors"), "series"),
}
AVAILABLE_AT = Column("available_at", Type.TIME, ("known_at",))
LOG = Column("source_log", Type.TEXT, before="''")  # rows of a release before name no log
ORIGIN = (
    Column("source_topic", Type.TEXT),
    LOG,
    Column("source_partition", Type.INTEGER),
    Column("source_offset", Type.BIGINT),
    Column("source_row", Type.INTEGER),
)
PLACE = ORIGIN[:-1]
PUBLISHED = Column("published", Type.TIME)
COVARIATES = Column("covariates", Type.TEXT)  # JSON of the fields of families that a row has
ANSWERED = (Column("model", Type.TEXT), Column("version", Type.TEXT), PUBLISHED, Column("topic", Type.TEXT))
COORDINATES = " || '-' || ".join(  # as `kappawatt.messages.ids` has it
    [
        "source_topic || CASE WHEN source_log = '' THEN '' ELSE ':' || source_log END",
        *(f"CAST({name} AS TEXT)" for name in ("source_partition", "source_offset", "source_row")),
    ]
)


def _key(table: str) -> Column:
    former = FORMER_KEYS.get(table)
    return Column("key", Type.TEXT, () if former is None else (former,))


def reading_fields(stream: Stream) -> list[Field]:
    """Return the fields of a reading that have a column of their own: its first time, then the others."""
    kept = [field for field in stream.schema.fields if field.name not in (stream.key.name, ISSUE_TIME.name)]
    times = [field for field in kept if field.kind is Kind.TIMESTAMP][:1]
    return times + [field for field in kept if field not in times]


def _columns(fields: Iterable[Field]) -> tuple[Column, ...]:
    return tuple(Column(field.name, TYPES[field.kind]) for field in fields)


def _readings(stream: Stream) -> Table:
    name = stream.readings_name
    of_families = (COVARIATES,) if stream.schema.families else ()
    columns = (ID, _key(name), *_columns(reading_fields(stream)), *of_families, PUBLISHED, *ORIGIN)
    more = "; sent again, corrected or revised, it is another row" if stream.errors else ""
    return _checked(stream, Table(name, columns, COORDINATES, f"{stream.title}, as it was sent{more}"))


def _predictions(stream: Stream) -> Table:
    name = stream.answers_name
    columns = (ID, _key(name), Column(EVENT_TIME, Type.TIME), *_columns(stream.answer.fields), *ANSWERED, *ORIGIN)
    title = f"a prediction: {stream.answer.meaning[0].lower()}{stream.answer.meaning[1:].rstrip('.')}"
    return _checked(stream, Table(name, columns, f"{COORDINATES} || '@' || version", title))


def _checked(stream: Stream, table: Table) -> Table:
    """Return a table of a stream; SettingInvalid if a field has the name of a column that every table has."""
    twice = [name for name, n in Counter(name.lower() for name in table.names).items() if n > 1]
    if twice:
        own = ", ".join(c.name for c in (ID, _key(table.name), *ANSWERED, *ORIGIN))
        raise SettingInvalid(f"stream {stream.name}: got a field {twice[0]}, allowed other names than {own}")
    return table


# Of all streams there are; a forecast of fewer levels leaves the others empty.
QUANTILES = tuple(
    Column(level_name(level), Type.NUMBER) for level in sorted({level for stream in STREAMS for level in stream.levels})
)
ISSUED = (
    Column("forecast_id", Type.TEXT),
    _key("forecasts"),
    Column("issue_time", Type.TIME),
    AVAILABLE_AT,
    Column("corrected", Type.BOOLEAN),
    Column("time_zone", Type.TEXT),
)
MADE_BY = (
    Column("trusted_until", Type.TIME),
    Column("filled", Type.BIGINT),
    Column("suspect", Type.BIGINT),
    Column("fallback", Type.BOOLEAN),
    Column("fallback_reason", Type.TEXT),
    *ANSWERED,
    *PLACE,
)
# One row an interval, with every quantile: SQL then needs no JSON, and 25 to 100 rows a day and series are few.
FORECASTS = Table(
    "forecasts",
    (
        ID,
        *ISSUED,
        Column("step_seconds", Type.BIGINT),
        Column("target_time", Type.TIME),
        Column("target", Type.TEXT),
        Column("unit", Type.TEXT),
        *QUANTILES,
        *MADE_BY,
    ),
    meaning="an interval of a forecast, with its quantiles",
)
FORECAST_DAYS = Table(
    "forecast_days",
    (ID, *ISSUED, Column("figure", Type.TEXT), Column("unit", Type.TEXT), *QUANTILES, *MADE_BY),
    meaning="a figure of a forecast day as a whole (a meter's daily consumption, daily peak)",
)
FORECAST_ERRORS = Table(
    "forecast_errors",
    (
        ID,
        _key("forecast_errors"),
        Column("issue_time", Type.TIME),
        AVAILABLE_AT,
        Column("target_time", Type.TIME),
        Column("measured", Type.NUMBER),
        Column("forecast", Type.NUMBER),
        Column("error", Type.NUMBER),
        Column("naive", Type.NUMBER),
        Column("naive_error", Type.NUMBER),
        Column("forecast_lower", Type.NUMBER),
        Column("forecast_upper", Type.NUMBER),
        Column("covered", Type.BOOLEAN),
        Column("crps", Type.NUMBER),
        Column("fallback", Type.BOOLEAN),
        *ANSWERED,
        *PLACE,
    ),
    meaning="what became of a forecast interval; the id is that of its row in `forecasts`",
)
REJECTIONS = Table(
    "rejections",
    (
        ID,
        _key("rejections"),
        Column("reason", Type.TEXT),
        Column("field", Type.TEXT),
        Column("got", Type.TEXT),
        Column("allowed", Type.TEXT),
        Column("message", Type.TEXT),
        Column("rejected_rows", Type.BIGINT),
        Column("errors", Type.TEXT),
        Column("arrived", Type.TIME),
        PUBLISHED,
        Column("content_type", Type.TEXT),
        Column("model", Type.TEXT),
        Column("version", Type.TEXT),
        Column("original", Type.TEXT),
        Column("original_base64", Type.TEXT),
        *PLACE,
    ),
    meaning="a refused message, whatever was refused",
)
POSITIONS = Table(
    "sink_positions",
    (
        ID,
        *ORIGIN[:3],
        Column("next_offset", Type.BIGINT),
        Column("landed", Type.TIME),
    ),
    meaning="the sink's own: up to which offset a partition of a topic's log has landed, written with its rows",
)
SHARED = (FORECASTS, FORECAST_DAYS, FORECAST_ERRORS, REJECTIONS, POSITIONS)
READINGS = {stream.name: _readings(stream) for stream in STREAMS}
PREDICTIONS = {stream.name: _predictions(stream) for stream in STREAMS if stream.form is Form.PREDICTIONS}


def _layout() -> Layout:
    """Return all tables and views; SettingInvalid if two have one name."""
    tables: list[Table] = []
    views: list[View] = []
    for stream in STREAMS:
        tables.append(READINGS[stream.name])
        if stream.name in PREDICTIONS:
            tables.append(PREDICTIONS[stream.name])
            view = scored(stream, READINGS[stream.name], PREDICTIONS[stream.name])
            views += [] if view is None else [view]
    layout = Layout((*tables, *SHARED), (*views, scored_forecasts(FORECASTS, FORECAST_ERRORS)))
    names = Counter([*(table.name for table in layout.tables), *(view.name for view in layout.views)])
    twice = next((name for name, n in names.items() if n > 1), None)
    if twice is not None:
        raise SettingInvalid(f"streams: got two tables or views called {twice}, allowed one of a name")
    return layout


LAYOUT = _layout()
