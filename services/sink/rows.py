"""Messages to columns of the tables.

Nothing here raises for a bad message. A reading that is refused is left out, because the worker writes a dead
letter for it; a prediction, forecast, error or dead letter that cannot be read is kept as a rejection of its own
(`malformed`), and so is any row that no database takes (`not_storable`). Rejections go to their table and to no topic:
a dead letter of a dead letter would come back to the sink for ever.
"""

from __future__ import annotations

import base64
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.bus.interface import Records, header
from kappawatt.columns.batch import Columns
from kappawatt.columns.content import ARROW
from kappawatt.columns.plain import json_bytes
from kappawatt.columns.schema import Kind
from kappawatt.columns.values import parse_timestamp
from kappawatt.errors import PayloadInvalid
from kappawatt.messages.ids import message_id
from kappawatt.messages.portions import portions
from kappawatt.messages.readings import by_content_type, content_type, decode_records, objects
from kappawatt.store.limits import EARLIEST, LATEST, checked
from kappawatt.store.table import ABSENT, DTYPES, Table, join
from kappawatt.streams.stream import Form, Stream
from kappawatt.streams.table import FORMS

from . import checks, forecast_rows, prediction_rows
from .tables import (
    COVARIATES,
    FORECAST_DAYS,
    FORECAST_ERRORS,
    FORECASTS,
    PREDICTIONS,
    READINGS,
    REJECTIONS,
    reading_fields,
)

__all__ = ["Landing", "Part", "tables_of"]

log = logging.getLogger(__name__)

LONGEST_ORIGINAL = 4_000  # characters of a refused message; the whole is on the bus, at its coordinates
LONGEST_OWN = 65_536  # and of one that the sink itself refused: nobody else has kept it
FIRST, LAST = (int(limit.astype("datetime64[ms]").astype(np.int64)) for limit in (EARLIEST, LATEST))


@dataclass(slots=True)
class Part:
    """Rows of one table, and the message each came from.

    Parameters
    ----------
    table : Table
    columns : mapping of str to ndarray of shape (n,)
    records : Records
    message : ndarray of int, shape (n,)
        Its place in `records`.
    """

    table: Table
    columns: Columns
    records: Records
    message: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.message)

    def rows(self, rows: slice | NDArray[np.intp]) -> Part:
        """Return some of the rows."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        return Part(self.table, columns, self.records, self.message[rows])


def tables_of(parts: Iterable[Part]) -> dict[str, Columns]:
    """Return all rows by table name, in their order."""
    found: dict[str, list[Columns]] = defaultdict(list)
    for part in parts:
        found[part.table.name].append(part.columns)
    return {name: join(columns) for name, columns in found.items()}


@dataclass(slots=True)
class Landing:
    """Rows on their way to the database.

    A topic that is in no table of ours is a side topic of a replay: what it holds shows in each message.

    Parameters
    ----------
    zones : collection of str
        Time zones that the database knows; empty is every one.

    Attributes
    ----------
    messages, rows, size : int
        Taken so far; the size is in bytes of messages.
    refused : Counter of str
        Messages that became rejections, by reason.
    first : str
        What is wrong with the first of them.
    """

    zones: Collection[str] = ()
    messages: int = 0
    rows: int = 0
    size: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    first: str = ""
    parts: list[Part] = field(default_factory=list)

    def add(self, records: Records) -> None:
        """Take the messages of one topic partition."""
        self.messages += len(records)
        self.size += sum(map(len, records.values))
        late = [i for i, at in enumerate(records.timestamps) if not FIRST <= at < LAST]
        for i in late:
            allowed = f"milliseconds from {FIRST} to {LAST - 1}"
            self.refuse(records, i, "not_storable", f"published: got {records.timestamps[i]}, allowed {allowed}")
        if late:
            bad = set(late)
            records = records.pick([i for i in range(len(records)) if i not in bad])
        if len(records):
            self._add(records)

    def _add(self, records: Records) -> None:
        """Take messages; where reading them fails in a way nobody has thought of, all but the ones at fault."""
        scratch = Landing(self.zones)
        try:
            scratch._read(records)
        except Exception as error:
            if len(records) == 1:
                log.warning("message cannot be read", exc_info=True, extra={"at": _place(records, 0)})
                self.refuse(records, 0, "malformed", f"{type(error).__name__}: {error}")
                return
            for half in records.halves():
                self._add(half)
        else:
            self.rows += scratch.rows
            self.refused += scratch.refused
            self.first = self.first or scratch.first
            self.parts += scratch.parts

    def _read(self, records: Records) -> None:
        stream, form = FORMS.get(records.topic) or _of_side_topic(records)
        if stream is None:
            for i in range(len(records)):
                self.refuse(
                    records, i, "malformed", f"source_topic: got no topic of readings, allowed {_readings_topics()}"
                )
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

    def _put(self, table: Table, columns: Columns, records: Records, message: NDArray[np.int64]) -> None:
        """Keep rows; those that no database takes become rejections of their messages."""
        n = len(message)
        if not n:
            return
        complete, wrong = checked(table, columns, n)
        part = Part(table, complete, records, message)
        if wrong:
            part = part.rows(np.array([row for row in range(n) if row not in wrong], dtype=np.intp))
            by_message: dict[int, list[str]] = defaultdict(list)
            for row, why in sorted(wrong.items()):
                by_message[int(message[row])].append(why)
            for i, reasons in by_message.items():
                self.refuse(records, i, "not_storable", reasons[0], len(reasons))
        if len(part):
            self.parts.append(part)
            self.rows += len(part)

    def refuse_parts(self, refused: Sequence[tuple[Part, str]]) -> None:
        """Have only rejections to land: of the messages of rows that the database refused, and why."""
        self.parts = []
        counts = Counter((id(part.records), int(part.message[0])) for part, _ in refused)
        for part, why in refused:
            i = int(part.message[0])
            n = counts.pop((id(part.records), i), 0)
            if n:
                self.rows -= n
                self.refuse(part.records, i, "not_storable", why, n)

    def refuse(self, records: Records, i: int, reason: str, why: str, rows: int = 1) -> None:
        """Keep a message as a rejection."""
        self.refused[reason] += 1
        self.first = self.first or f"{_place(records, i)}: {why}"[: checks.LONGEST]
        value = records.values[i]
        try:
            original = {"original": _text(value)[:LONGEST_OWN]}
        except UnicodeDecodeError:
            original = {"original_base64": base64.b64encode(value[: LONGEST_OWN // 4 * 3]).decode()}
        at = records.timestamps[i]
        document = {
            "id": message_id(records.topic, records.log, records.partition, records.offsets[i]),
            "key": checks.key_of(records, i),
            "reason": reason,
            "message": _storable(why),
            "rejected_rows": rows,
            "published": np.datetime64(at, "ms") if FIRST <= at < LAST else np.datetime64("NaT"),
            "content_type": _storable(content_type(records.headers[i], value)),
            **original,
            "source_topic": records.topic,
            "source_log": records.log,
            "source_partition": records.partition,
            "source_offset": records.offsets[i],
        }
        self._put_documents(REJECTIONS, [document], records, [i])

    def _add_readings(self, records: Records, stream: Stream) -> None:
        for kind, parts in by_content_type([records]).items():
            for few in portions(parts):
                for part in few:  # what cannot be read is a dead letter of the worker's
                    self._add_readable(part, kind, stream)

    def _add_readable(self, records: Records, kind: str, stream: Stream) -> None:
        decoded = decode_records([records], kind, stream.schema)
        rows = np.flatnonzero(decoded.batch.valid)
        if not len(rows):
            return
        message = decoded.message[rows]
        published = np.asarray(records.timestamps, dtype=np.int64)[message].astype("datetime64[ms]")
        columns = {name: column[rows] for name, column in decoded.batch.columns.items()}
        columns |= {f.name: checks.texts(columns[f.name]) for f in reading_fields(stream) if f.kind is Kind.TEXT}
        if stream.schema.families:
            columns[COVARIATES.name] = _covariates(stream, columns, len(rows))
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
            "source_log": checks.same(records.log, len(rows)),
            "source_partition": np.full(len(rows), records.partition),
            "source_offset": np.asarray(records.offsets, dtype=np.int64)[message],
            "source_row": decoded.row[rows],
        }
        self._put(READINGS[stream.name], columns, records, message)

    def _add_predictions(self, records: Records, stream: Stream) -> None:
        table = PREDICTIONS[stream.name]
        documents: list[dict[str, Any]] = []
        places: list[int] = []
        for i, value in enumerate(records.values):
            try:
                if content_type(records.headers[i], value) == ARROW:
                    columns, n = prediction_rows.block(stream, records, i)
                    self._put_documents(table, documents, records, places)  # what came before stays before
                    documents, places = [], []
                    self._put(table, columns, records, np.full(n, i))
                else:
                    documents.append(prediction_rows.event(stream, records, i))
                    places.append(i)
            except (checks.Malformed, PayloadInvalid) as error:
                self.refuse(records, i, "malformed", str(error))
        self._put_documents(table, documents, records, places)

    def _add_documents(self, records: Records, table: Table, read: Callable[[Records, int], dict[str, Any]]) -> None:
        """Take messages that are one row each."""
        documents: list[dict[str, Any]] = []
        places: list[int] = []
        for i in range(len(records)):
            try:
                documents.append(read(records, i))
                places.append(i)
            except checks.Malformed as error:
                self.refuse(records, i, "malformed", str(error))
        self._put_documents(table, documents, records, places)

    def _add_forecasts(self, records: Records) -> None:
        for i in range(len(records)):
            try:
                fields = forecast_rows.parsed(records, i)
                same = forecast_rows.issued(fields, records, i, self.zones)
                intervals = forecast_rows.intervals(fields)
                figures = forecast_rows.figures(fields)
            except checks.Malformed as error:
                self.refuse(records, i, "malformed", str(error))
                continue
            self._put_rows(FORECASTS, same, intervals, records, i)
            self._put_rows(FORECAST_DAYS, same, figures, records, i)

    def _put_rows(
        self, table: Table, same: Mapping[str, Any], columns: dict[str, NDArray[Any]], records: Records, i: int
    ) -> None:
        """Put rows of one message whose other columns all hold the same."""
        own = columns.pop("own")  # the last part of each row's id
        n = len(own)
        for column in table.columns:
            if column.name in same and column.name not in columns:
                value = np.empty(n, dtype=DTYPES[column.type])
                value[:] = same[column.name]
                columns[column.name] = value
        columns["id"] = np.array([f"{same['forecast_id']}/{name}" for name in own], dtype=object)
        self._put(table, columns, records, np.full(n, i))

    def _put_documents(
        self, table: Table, documents: Sequence[Mapping[str, Any]], records: Records, places: Sequence[int]
    ) -> None:
        columns: dict[str, NDArray[Any]] = {}
        for column in table.columns:
            if documents and column.name in documents[0]:
                values = (document[column.name] for document in documents)
                nothing = ABSENT.get(column.type)
                columns[column.name] = np.array(
                    [nothing if value is None else value for value in values], dtype=DTYPES[column.type]
                )
        self._put(table, columns, records, np.array(places, dtype=np.int64))


def _covariates(stream: Stream, columns: Columns, n: int) -> NDArray[Any]:
    """The fields of families as JSON, by row; None where a row has none."""
    found = np.full(n, None, dtype=object)
    names = stream.schema.more_unbounded(columns)
    if names:
        for row, said in enumerate(objects({name: columns[name] for name in names})):
            found[row] = json_bytes(said).decode() if said else None
    return found


def _text(value: bytes) -> str:
    """Return a message as text; UnicodeDecodeError if it is none that a database takes."""
    if b"\x00" in value:
        raise UnicodeDecodeError("utf-8", value, 0, 1, "NUL")
    return value.decode()


def _storable(text: str) -> str | None:
    """Return words about a message, which may quote anything."""
    return checks.text(text.encode("utf-8", "backslashreplace").decode())


def _place(records: Records, i: int) -> str:
    return f"{records.topic}[{records.partition}]@{records.offsets[i]}"


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
    return {
        "id": checks.required(document, "id"),
        "key": checks.text(document.get("key")),
        "reason": checks.required(document, "reason"),
        **{name: checks.text(document.get(name)) for name in ("field", "got", "allowed", "message")},
        "rejected_rows": checks.whole(document.get("rejected_rows", 1), checks.INT32),  # a sum fits
        "errors": checks.as_json(document.get("errors")).replace("\x00", ""),
        "arrived": np.datetime64("NaT") if arrived is None else np.datetime64(arrived, "ms"),
        "published": np.datetime64(records.timestamps[i], "ms"),
        **{name: checks.text(document.get(name)) for name in ("content_type", "model", "version")},
        **{name: checks.text(document.get(name), LONGEST_ORIGINAL) for name in ("original", "original_base64")},
        "source_topic": checks.required(document, "topic"),
        "source_log": checks.text(document.get("log")) or "",
        "source_partition": checks.whole(document.get("partition"), checks.INT32),
        "source_offset": checks.whole(document.get("offset"), checks.INT64),
    }
