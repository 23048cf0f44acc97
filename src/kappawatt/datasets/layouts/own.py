"""Rows as the project's own topics have them: `interval_start` and the stream's measurement; and bodies of requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from kappawatt.columns.schema import MAX_TIMESTAMP, MIN_TIMESTAMP
from kappawatt.columns.values import parse_timestamp
from kappawatt.datasets.reading.labels import Labels
from kappawatt.datasets.reading.meaning import Form, Layout, LeftOut, Meaning, TimeColumn, Value
from kappawatt.datasets.reading.numbers import is_number
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Column, Fact, Table, instant_texts
from kappawatt.datasets.series import FORECAST
from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.calendar import zone_named
from kappawatt.streams.series import AVAILABLE_AT, INTERVAL_SECONDS, INTERVAL_START, TIME_ZONE
from kappawatt.streams.stream import Stream
from kappawatt.streams.table import STREAMS

__all__ = ["OWN_ROWS"]

REQUEST = ("time_zone", "issue_time", "target_date", "history", "covariates")
SAID = ("issue_time", "target_date")
SHOWN = 80


def _own(table: Table, options: Options, name: str) -> Meaning | None:
    place = table.place(INTERVAL_START.name)
    stream = next((one for one in STREAMS if one.steps and table.place(one.target) is not None), None)
    if place is None or stream is None:
        return None
    key, published = table.place(stream.key.name), table.place(AVAILABLE_AT.name)
    zone_place, step_place = table.place(TIME_ZONE.name), table.place(INTERVAL_SECONDS)
    weather = {name: name.removesuffix(FORECAST) for name in table.header}
    allowed = {*stream.values, *stream.schema.more_unbounded(weather.values())} - {stream.target}
    covariates = [name for name, measured in weather.items() if measured in allowed]
    values = [Value(table.place(stream.target) or 0, options.key if key is None else "", "", stream.name)]
    values.extend(Value(p, field=field) for field in covariates if (p := table.place(field)) is not None)
    zones = {text for text in table.texts(zone_place) if text} if zone_place is not None else set()
    steps = {text for text in table.texts(step_place) if text} if step_place is not None else set()
    step = int(float(steps.pop())) if len(steps) == 1 and all(map(is_number, steps)) else 0
    time = TimeColumn(place, Form.MOMENT, None, Labels.START, "UTC", step=step)
    read = {place, key, published, zone_place, step_place, *(value.place for value in values)}
    left_out = tuple(LeftOut(column, "no field of a reading") for i, column in enumerate(table.header) if i not in read)
    return Meaning(
        OWN_ROWS.name, time, tuple(values), () if key is None else (key,), published, left_out,
        days_in=zones.pop() if len(zones) == 1 else "",
    )  # fmt: skip


def _request(data: bytes) -> Table | None:
    """The history that the body of a forecast request brings, as rows; None of any other text."""
    if data.lstrip()[:1] != b"{" or b'"history"' not in data:
        return None
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    stream = next((one for one in STREAMS if one.steps and one.key.name in document), None)
    history = document.get("history")
    if not isinstance(history, dict):
        return None
    if stream is None:
        keys = " or ".join(one.key.name for one in STREAMS if one.steps)
        raise PayloadInvalid.of("body", "a forecast request without a name of its series", keys)
    for name in document:
        if name not in (stream.key.name, *REQUEST):
            raise PayloadInvalid.of(str(name)[:SHOWN], "an unknown field", ", ".join((stream.key.name, *REQUEST)))
    return _rows(document, history, stream)


def _rows(document: Mapping[str, Any], history: Mapping[str, Any], stream: Stream) -> Table:
    key = document[stream.key.name]
    zone = document.get("time_zone") or ""
    if not isinstance(key, str) or not isinstance(zone, str):
        wrong = ("time_zone", zone, "an IANA name") if isinstance(key, str) else (stream.key.name, key, "text")
        raise PayloadInvalid.of(wrong[0], repr(wrong[1])[:SHOWN], wrong[2])
    if zone:
        zone_named(zone)
    step = _step(history.get("step_seconds", stream.usual_step), stream)
    start, values = _track(history, "history")
    length = np.timedelta64(step * 1000, "ms")
    starts = start + np.arange(len(values)) * length
    n = len(values)
    columns: dict[str, Column] = {
        stream.key.name: [key] * n,
        INTERVAL_START.name: instant_texts(starts),
        stream.target: values,
        TIME_ZONE.name: [zone] * n,
        INTERVAL_SECONDS: [str(step)] * n,
    }
    facts = [
        Fact(
            "format",
            "a forecast request",
            f"its history: {n:,} values from {start.astype('datetime64[m]')}Z on, {step} s apart",
        )
    ]
    facts.extend(Fact(name.replace("_", " "), str(document[name])[:SHOWN]) for name in SAID if document.get(name))
    covariates = document.get("covariates") or {}
    for name, track in covariates.items() if isinstance(covariates, dict) else ():
        if name not in stream.values and not stream.schema.more([name]):
            families = [family.shown for family in stream.schema.families]
            allowed = ", ".join((*stream.values, *families))
            raise PayloadInvalid.of(f"covariates.{name}"[:SHOWN], "an unknown field", allowed)
        first, found = _track(track, f"covariates.{name}")
        column = np.full(n, np.nan)
        places = np.round((first + np.arange(len(found)) * length - start) / length).astype(np.int64)
        there = (places >= 0) & (places < n)
        column[places[there]] = found[there]
        columns[name] = column
        if not there.all():
            facts.append(Fact(name, f"{int((~there).sum())} values left out", "of intervals that the history has not"))
    return Table(tuple(columns), tuple(columns.values()), np.arange(1, n + 1), facts=tuple(facts))


def _step(given: Any, stream: Stream) -> int:
    if type(given) not in (int, float) or given not in stream.steps:
        got = "nothing" if given is None else repr(given)[:SHOWN]
        raise PayloadInvalid.of("history.step_seconds", got, " or ".join(map(str, stream.steps)))
    return int(given)


def _track(track: Any, name: str) -> tuple[np.datetime64, NDArray[np.float64]]:
    """Start and values of one run of intervals."""
    if not isinstance(track, dict) or not track.keys() <= {"start", "values", "step_seconds"}:
        raise PayloadInvalid.of(name, repr(track)[:SHOWN], "an object with start, step_seconds and values")
    start, values = parse_timestamp(track.get("start")), track.get("values")
    if start is None or not MIN_TIMESTAMP <= start <= MAX_TIMESTAMP:
        raise PayloadInvalid.of(
            f"{name}.start", repr(track.get("start"))[:SHOWN], "a time such as 2024-01-31T23:00:00Z"
        )
    if not isinstance(values, list) or not values:
        raise PayloadInvalid.of(f"{name}.values", repr(values)[:SHOWN], "a list of numbers and nulls")
    wrong = next((i for i, one in enumerate(values) if one is not None and type(one) not in (int, float)), None)
    if wrong is not None:
        raise PayloadInvalid.of(f"{name}.values[{wrong}]", repr(values[wrong])[:SHOWN], "a number, or null")
    numbers = np.array([np.nan if one is None else float(one) for one in values])
    return np.datetime64(start, "ms"), numbers


OWN_ROWS = Layout("kappawatt's own rows", "interval_start,load", _own, _request)
