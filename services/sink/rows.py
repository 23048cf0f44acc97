"""Messages to columns of the tables.

Nothing here raises for a bad message. A reading that is refused is left out, because the worker writes a dead
letter for it; a prediction, forecast, error or dead letter that cannot be read is kept as a rejection of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from kappawatt.bus.interface import Headers, Records
from kappawatt.bus.topic import (
    LOAD_ERRORS,
    LOAD_FORECASTS,
    METER_ERRORS,
    METER_FORECASTS,
    PLANT_PREDICTIONS,
    PLANT_READINGS,
    dead_letter,
)
from kappawatt.bus.topic import LOAD_READINGS as LOAD_READINGS_TOPIC
from kappawatt.bus.topic import METER_READINGS as METER_READINGS_TOPIC
from kappawatt.columns.arrow import read_columns
from kappawatt.columns.batch import Columns
from kappawatt.columns.codec import decode_many
from kappawatt.columns.content import ARROW, READABLE
from kappawatt.columns.schema import Schema
from kappawatt.columns.values import parse_timestamp
from kappawatt.errors import PayloadInvalid
from kappawatt.messages.readings import content_type
from kappawatt.store.table import DTYPES, Table, join
from kappawatt.streams import load, meter, plant

from . import checks, forecast_rows
from .tables import (
    FORECAST_DAYS,
    FORECAST_ERRORS,
    FORECASTS,
    LOAD_READINGS,
    METER_READINGS,
    PREDICTIONS,
    READINGS,
    REJECTIONS,
)

__all__ = ["Landing"]

LONGEST_ORIGINAL = 4_000  # characters of a refused message; the whole is on the bus, at its coordinates
KINDS = {"f": "numbers", "i": "integers", "bu": "booleans", "M": "times"}
ANSWERS = ("net_power", "net_power_lower", "net_power_upper")
BLOCK = ("event_time", *ANSWERS, "extrapolated", "source_offset", "source_row")


@dataclass(frozen=True, slots=True)
class _Source:
    """A topic of readings: schema of its rows, their table, column of the key, and the time arrival stands in for."""

    schema: Schema
    table: Table
    key: str
    arrival: str | None = None


SOURCES = {
    PLANT_READINGS.name: _Source(plant.READING, READINGS, "plant", "event_time"),
    LOAD_READINGS_TOPIC.name: _Source(load.READING, LOAD_READINGS, "load_zone"),
    METER_READINGS_TOPIC.name: _Source(meter.READING, METER_READINGS, "meter_id"),
}
DEAD = {dead_letter(topic).name for topic in (PLANT_READINGS, LOAD_READINGS_TOPIC, METER_READINGS_TOPIC)}
ERRORS = {LOAD_ERRORS.name, METER_ERRORS.name}
FORECAST_TOPICS = {LOAD_FORECASTS.name, METER_FORECASTS.name}


@dataclass(slots=True)
class Landing:
    """Rows on their way to the database.

    A topic that is in no table of ours is a side topic of a replay: what it holds shows in each message.
    """

    messages: int = 0
    rows: int = 0
    malformed: list[str] = field(default_factory=list)
    _parts: dict[str, list[Columns]] = field(default_factory=lambda: defaultdict(list))

    def add(self, records: Records) -> None:
        """Take the messages of one topic partition."""
        self.messages += len(records)
        source = SOURCES.get(records.topic)
        if source is not None:
            self._add_readings(records, source)
        elif records.topic in DEAD:
            self._add_documents(records, lambda i: (REJECTIONS, _dead_letter(records, i)))
        elif records.topic in ERRORS:
            self._add_documents(records, lambda i: (FORECAST_ERRORS, forecast_rows.realised(records, i)))
        elif records.topic in FORECAST_TOPICS or _is_side_topic_of_forecasts(records):
            self._add_forecasts(records)
        else:
            self._add_predictions(records)

    def tables(self) -> dict[str, Columns]:
        """Return all rows taken so far, by table name."""
        return {name: join(parts) for name, parts in self._parts.items()}

    def _put(self, table: Table, columns: Columns, n: int) -> None:
        if n:
            self._parts[table.name].append(table.complete(columns, n))
            self.rows += n

    def _add_readings(self, records: Records, source: _Source) -> None:
        for kind, places in _by_content_type(records).items():
            if kind not in READABLE:
                continue
            decoded = decode_many([records.values[i] for i in places], kind, source.schema)
            rows = np.flatnonzero(decoded.batch.valid)
            message = places[decoded.message[rows]]
            published = np.asarray(records.timestamps, dtype=np.int64)[message].astype("datetime64[ms]")
            columns = {name: column[rows] for name, column in decoded.batch.columns.items()}
            keys = _keys(records)[message]
            if source.arrival is not None:
                given = columns[source.arrival]
                columns[source.arrival] = np.where(np.isnat(given), published, given)
            elif len(rows):
                own = columns[source.key]
                keys = np.where(own == None, keys, own)  # noqa: E711 (elementwise)
            columns |= {
                source.key: keys,
                "published": published,
                "source_topic": _same(records.topic, len(rows)),
                "source_partition": np.full(len(rows), records.partition),
                "source_offset": np.asarray(records.offsets, dtype=np.int64)[message],
                "source_row": decoded.row[rows],
            }
            self._put(source.table, columns, len(rows))

    def _add_predictions(self, records: Records) -> None:
        documents: list[dict[str, Any]] = []
        for i, value in enumerate(records.values):
            try:
                if content_type(records.headers[i], value) == ARROW:
                    columns, n = _prediction_block(records, i)
                    self._put_documents(PREDICTIONS, documents)  # what came before stays before
                    documents = []
                    self._put(PREDICTIONS, columns, n)
                else:
                    documents.append(_prediction_event(records, i))
            except (checks.Malformed, PayloadInvalid) as error:
                self._add_malformed(records, i, str(error))
        self._put_documents(PREDICTIONS, documents)

    def _add_documents(self, records: Records, read: Callable[[int], tuple[Table, dict[str, Any]]]) -> None:
        """Take messages that are one row each."""
        by_table: dict[str, tuple[Table, list[dict[str, Any]]]] = {}
        for i in range(len(records)):
            try:
                table, document = read(i)
                by_table.setdefault(table.name, (table, []))[1].append(document)
            except checks.Malformed as error:
                self._add_malformed(records, i, str(error))
        for table, documents in by_table.values():
            self._put_documents(table, documents)

    def _add_forecasts(self, records: Records) -> None:
        for i in range(len(records)):
            try:
                fields = checks.parsed(records.values[i])
                same = forecast_rows.issued(fields, records, i)
                intervals = forecast_rows.intervals(fields)
                figures = forecast_rows.figures(fields)
            except checks.Malformed as error:
                self._add_malformed(records, i, str(error))
                continue
            self._put_rows(FORECASTS, same, intervals)
            self._put_rows(FORECAST_DAYS, same, figures)

    def _put_rows(self, table: Table, same: Mapping[str, Any], columns: dict[str, NDArray[Any]]) -> None:
        """Put rows whose other columns all hold the same."""
        own = columns.pop("own")  # the last part of each row's id
        n = len(own)
        for column in table.columns:
            if column.name in same and column.name not in columns:
                value = np.empty(n, dtype=DTYPES[column.type])
                value[:] = same[column.name]
                columns[column.name] = value
        columns["id"] = np.array([f"{same['forecast_id']}/{name}" for name in own], dtype=object)
        self._put(table, columns, n)

    def _add_malformed(self, records: Records, i: int, reason: str) -> None:
        place = f"{records.topic}[{records.partition}]@{records.offsets[i]}"
        self.malformed.append(f"{place}: {reason}"[: checks.LONGEST])
        document = {
            **_coordinates(records, i),
            "reason": "malformed",
            "message": checks.text(reason),
            "rejected_rows": 1,
            "content_type": checks.text(content_type(records.headers[i], records.values[i])),
            "original": checks.text(records.values[i].decode("utf-8", "replace"), LONGEST_ORIGINAL),
        }
        self._put_documents(REJECTIONS, [document])

    def _put_documents(self, table: Table, documents: Sequence[Mapping[str, Any]]) -> None:
        columns: dict[str, NDArray[Any]] = {}
        for column in table.columns:
            values = [document.get(column.name) for document in documents]
            if documents and column.name in documents[0]:
                columns[column.name] = np.array(values, dtype=DTYPES[column.type])
        self._put(table, columns, len(documents))


def _by_content_type(records: Records) -> dict[str, NDArray[np.intp]]:
    """The places of messages by content type, in order."""
    known: dict[Headers, str] = {}
    groups: dict[str, list[int]] = defaultdict(list)
    for i, (headers, value) in enumerate(zip(records.headers, records.values, strict=True)):
        kind = known.get(headers)
        if kind is None:
            kind = content_type(headers, value)
            if headers:
                known[headers] = kind
        groups[kind].append(i)
    return {kind: np.array(places, dtype=np.intp) for kind, places in groups.items()}


def _prediction_block(records: Records, i: int) -> tuple[dict[str, NDArray[Any]], int]:
    same = {name: content.decode("utf-8", "replace") for name, content in records.headers[i]}
    found = read_columns(records.values[i])
    columns = {name: _block_column(found, name, "f") for name in ANSWERS}
    if not all(np.isfinite(column).all() for column in columns.values()):
        raise checks.Malformed("got an answer that is not finite, allowed numbers")
    moments = _block_column(found, "event_time", "M")
    n = len(moments)
    if n and not moments.astype(np.int64).min() >= 0:  # NaT is the smallest integer
        raise checks.Malformed("event_time: got none or one before 1970, allowed ms since the epoch")
    try:
        topic, model, version = (same[name] for name in ("source-topic", "model", "model-version"))
        partition = checks.whole(int(same["source-partition"]), checks.INT32)
    except (KeyError, ValueError, checks.Malformed):
        raise checks.Malformed(
            "headers: got no origin, allowed source-topic, source-partition, model, model-version"
        ) from None
    columns |= {
        "plant": _same(_key(records, i), n),
        "event_time": moments,
        "extrapolated": _block_column(found, "extrapolated", "bu"),
        "model": _same(checks.text(model), n),
        "version": _same(checks.text(version), n),
        "published": np.full(n, records.timestamps[i], dtype="datetime64[ms]"),
        "topic": _same(records.topic, n),
        "source_topic": _same(checks.text(topic), n),
        "source_partition": np.full(n, partition),
        "source_offset": _block_column(found, "source_offset", "i"),
        "source_row": _block_column(found, "source_row", "i"),
    }
    return columns, n


def _block_column(found: Columns, name: str, kind: str) -> NDArray[Any]:
    column = found.get(name)
    if column is None:
        raise checks.Malformed(f"{name}: got no such column, allowed {', '.join(BLOCK)}")
    if column.dtype.kind not in kind:
        raise checks.Malformed(f"{name}: got a column of {column.dtype}, allowed {KINDS[kind]} without nulls")
    return column


def _prediction_event(records: Records, i: int) -> dict[str, Any]:
    document = checks.parsed(records.values[i])
    moment = parse_timestamp(document.get("event_time"))
    if moment is None:
        got = checks.short(document.get("event_time"))
        raise checks.Malformed(f"event_time: got {got}, allowed an ISO 8601 time with zone")
    if type(document.get("extrapolated")) is not bool:
        raise checks.Malformed(f"extrapolated: got {checks.short(document.get('extrapolated'))}, allowed true or false")
    return {
        "id": checks.required(document, "id"),
        "plant": _key(records, i),
        "event_time": np.datetime64(moment, "ms"),
        **{name: checks.finite(document, name) for name in ANSWERS},
        "extrapolated": document["extrapolated"],
        "model": checks.required(document, "model"),
        "version": checks.required(document, "version"),
        "published": np.datetime64(records.timestamps[i], "ms"),
        "topic": records.topic,
        "source_topic": checks.required(document, "source_topic"),
        "source_partition": checks.whole(document.get("source_partition"), checks.INT32),
        "source_offset": checks.whole(document.get("source_offset"), checks.INT64),
        "source_row": checks.whole(document.get("source_row"), checks.INT32),
    }


def _is_side_topic_of_forecasts(records: Records) -> bool:
    """Whether the first message that can be read is a forecast; a replay's side topic has one kind only."""
    if records.topic == PLANT_PREDICTIONS.name:
        return False
    for value in records.values:
        if value[:1] == b"{":
            try:
                return "quantiles" in checks.parsed(value)
            except checks.Malformed:
                continue
    return False


def _dead_letter(records: Records, i: int) -> dict[str, Any]:
    document = checks.parsed(records.values[i])
    arrived = parse_timestamp(document.get("timestamp"))
    original = document.get("original", document.get("original_base64"))
    return {
        "id": checks.required(document, "id"),
        "plant": checks.text(document.get("key")),
        "reason": checks.required(document, "reason"),
        **{name: checks.text(document.get(name)) for name in ("field", "got", "allowed", "message")},
        "rejected_rows": checks.whole(document.get("rejected_rows", 1), checks.INT64),
        "errors": orjson.dumps(document.get("errors")).decode().replace("\x00", ""),
        "arrived": np.datetime64("NaT") if arrived is None else np.datetime64(arrived, "ms"),
        "published": np.datetime64(records.timestamps[i], "ms"),
        **{name: checks.text(document.get(name)) for name in ("content_type", "model", "version")},
        "original": checks.text(original, LONGEST_ORIGINAL),
        "source_topic": checks.required(document, "topic"),
        "source_partition": checks.whole(document.get("partition"), checks.INT32),
        "source_offset": checks.whole(document.get("offset"), checks.INT64),
    }


def _coordinates(records: Records, i: int) -> dict[str, Any]:
    return {
        "id": f"{records.topic}-{records.partition}-{records.offsets[i]}",
        "plant": _key(records, i),
        "published": np.datetime64(records.timestamps[i], "ms"),
        "source_topic": records.topic,
        "source_partition": records.partition,
        "source_offset": records.offsets[i],
    }


def _key(records: Records, i: int) -> str | None:
    key = records.keys[i]
    return None if key is None else checks.text(key.decode("utf-8", "replace"))


def _keys(records: Records) -> NDArray[Any]:
    texts = {key: None if key is None else checks.text(key.decode("utf-8", "replace")) for key in set(records.keys)}
    keys = np.empty(len(records), dtype=object)
    keys[:] = [texts[key] for key in records.keys]
    return keys


def _same(text: str | None, n: int) -> NDArray[Any]:
    return np.full(n, text, dtype=object)
