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

from kappawatt.bus.interface import Records, header
from kappawatt.columns.batch import Columns
from kappawatt.columns.codec import decode_many
from kappawatt.columns.content import ARROW, READABLE
from kappawatt.columns.schema import Kind
from kappawatt.columns.values import parse_timestamp
from kappawatt.errors import PayloadInvalid
from kappawatt.messages.portions import portions
from kappawatt.messages.readings import by_content_type, content_type
from kappawatt.store.table import ABSENT, DTYPES, Table, join
from kappawatt.streams.stream import Form, Stream
from kappawatt.streams.table import FORMS

from . import checks, forecast_rows, prediction_rows
from .tables import FORECAST_DAYS, FORECAST_ERRORS, FORECASTS, PREDICTIONS, READINGS, REJECTIONS, reading_fields

__all__ = ["Landing"]

LONGEST_ORIGINAL = 4_000  # characters of a refused message; the whole is on the bus, at its coordinates


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
        stream, form = FORMS.get(records.topic) or _of_side_topic(records)
        if stream is None:
            for i in range(len(records)):
                self._add_malformed(records, i, f"source_topic: got no topic of readings, allowed {_readings_topics()}")
        elif form is Form.READINGS:
            self._add_readings(records, stream)
        elif form is Form.PREDICTIONS:
            self._add_predictions(records, stream)
        elif form is Form.FORECASTS:
            self._add_forecasts(records)
        elif form is Form.FORECAST_ERRORS:
            self._add_documents(records, FORECAST_ERRORS, forecast_rows.realised)
        else:
            self._add_documents(records, REJECTIONS, _dead_letter)

    def tables(self) -> dict[str, Columns]:
        """Return all rows taken so far, by table name."""
        return {name: join(parts) for name, parts in self._parts.items()}

    def _put(self, table: Table, columns: Columns, n: int) -> None:
        if n:
            self._parts[table.name].append(table.complete(columns, n))
            self.rows += n

    def _add_readings(self, records: Records, stream: Stream) -> None:
        for kind, parts in by_content_type([records]).items():
            for few in portions(parts) if kind in READABLE else ():
                for part in few:
                    self._add_readable(part, kind, stream)

    def _add_readable(self, records: Records, kind: str, stream: Stream) -> None:
        decoded = decode_many(records.values, kind, stream.schema)
        rows = np.flatnonzero(decoded.batch.valid)
        if not len(rows):
            return
        message = decoded.message[rows]
        published = np.asarray(records.timestamps, dtype=np.int64)[message].astype("datetime64[ms]")
        columns = {name: column[rows] for name, column in decoded.batch.columns.items()}
        columns |= {f.name: checks.texts(columns[f.name]) for f in reading_fields(stream) if f.kind is Kind.TEXT}
        if stream.arrival is not None:
            given = columns[stream.arrival]
            columns[stream.arrival] = np.where(np.isnat(given), published, given)
        keys = checks.keys_of(records)[message]
        if stream.names_key:
            own = checks.texts(columns[stream.key.name])
            keys = np.where(own == None, keys, own)  # noqa: E711 (elementwise)
        columns |= {
            "key": keys,
            "published": published,
            "source_topic": checks.same(records.topic, len(rows)),
            "source_partition": np.full(len(rows), records.partition),
            "source_offset": np.asarray(records.offsets, dtype=np.int64)[message],
            "source_row": decoded.row[rows],
        }
        self._put(READINGS[stream.name], columns, len(rows))

    def _add_predictions(self, records: Records, stream: Stream) -> None:
        table = PREDICTIONS[stream.name]
        documents: list[dict[str, Any]] = []
        for i, value in enumerate(records.values):
            try:
                if content_type(records.headers[i], value) == ARROW:
                    columns, n = prediction_rows.block(stream, records, i)
                    self._put_documents(table, documents)  # what came before stays before
                    documents = []
                    self._put(table, columns, n)
                else:
                    documents.append(prediction_rows.event(stream, records, i))
            except (checks.Malformed, PayloadInvalid) as error:
                self._add_malformed(records, i, str(error))
        self._put_documents(table, documents)

    def _add_documents(self, records: Records, table: Table, read: Callable[[Records, int], dict[str, Any]]) -> None:
        """Take messages that are one row each."""
        documents: list[dict[str, Any]] = []
        for i in range(len(records)):
            try:
                documents.append(read(records, i))
            except checks.Malformed as error:
                self._add_malformed(records, i, str(error))
        self._put_documents(table, documents)

    def _add_forecasts(self, records: Records) -> None:
        for i in range(len(records)):
            try:
                fields = forecast_rows.parsed(records, i)
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
            if documents and column.name in documents[0]:
                values = (document[column.name] for document in documents)
                nothing = ABSENT.get(column.type)
                columns[column.name] = np.array(
                    [nothing if value is None else value for value in values], dtype=DTYPES[column.type]
                )
        self._put(table, columns, len(documents))


def _of_side_topic(records: Records) -> tuple[Stream | None, Form | None]:
    """Whose answers a topic holds that is no stream's own: a replay's. Each message names what it answers."""
    for headers, value in zip(records.headers, records.values, strict=True):
        named = header(headers, "source-topic")
        if named is not None:
            source: Any = named.decode("utf-8", "replace")
        else:
            try:
                source = checks.parsed(value).get("source_topic")
            except checks.Malformed:
                continue
        stream, form = FORMS.get(source, (None, None)) if isinstance(source, str) else (None, None)
        if stream is not None and form is Form.READINGS:
            return stream, stream.form
    return None, None


def _readings_topics() -> str:
    return ", ".join(name for name, (_, form) in FORMS.items() if form is Form.READINGS)


def _dead_letter(records: Records, i: int) -> dict[str, Any]:
    document = checks.parsed(records.values[i])
    arrived = parse_timestamp(document.get("timestamp"))
    original = document.get("original", document.get("original_base64"))
    return {
        "id": checks.required(document, "id"),
        "key": checks.text(document.get("key")),
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
        "key": checks.key_of(records, i),
        "published": np.datetime64(records.timestamps[i], "ms"),
        "source_topic": records.topic,
        "source_partition": records.partition,
        "source_offset": records.offsets[i],
    }
