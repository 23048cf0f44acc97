"""Messages to columns of the tables.

Nothing here raises for a bad message. A reading that is refused is left out, because the worker writes a dead
letter for it; a prediction or dead letter that cannot be read is kept as a rejection of its own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from kappawatt.arrow import read_columns
from kappawatt.batch import Columns
from kappawatt.bus.envelope import content_type
from kappawatt.bus.interface import Headers, Records
from kappawatt.codec import ARROW, READABLE, decode_many, parse_timestamp
from kappawatt.errors import PayloadInvalid
from kappawatt.events.plant import READING
from kappawatt.sink.tables import DTYPES, PREDICTIONS, READINGS, REJECTIONS, Table, join

__all__ = ["Landing"]

LONGEST = 400  # characters of a text column that is not the message itself
LONGEST_ORIGINAL = 4_000  # characters of a refused message; the whole is on the bus, at its coordinates
INT32 = 2**31
INT64 = 2**63
KINDS = {"f": "numbers", "i": "integers", "bu": "booleans", "M": "times"}
ANSWERS = ("net_power", "net_power_lower", "net_power_upper")
BLOCK = ("event_time", *ANSWERS, "extrapolated", "source_offset", "source_row")


class _Malformed(Exception):
    """What is wrong with a message."""


@dataclass(slots=True)
class Landing:
    """Rows on their way to the database.

    Parameters
    ----------
    readings, dead : str
        Topic names; every other topic holds predictions.
    """

    readings: str
    dead: str
    messages: int = 0
    rows: int = 0
    malformed: list[str] = field(default_factory=list)
    _parts: dict[str, list[Columns]] = field(default_factory=lambda: defaultdict(list))

    def add(self, records: Records) -> None:
        """Take the messages of one topic partition."""
        self.messages += len(records)
        if records.topic == self.readings:
            self._add_readings(records)
        elif records.topic == self.dead:
            self._add_dead_letters(records)
        else:
            self._add_predictions(records)

    def tables(self) -> dict[str, Columns]:
        """Return all rows taken so far, by table name."""
        return {name: join(parts) for name, parts in self._parts.items()}

    def _put(self, table: Table, columns: Columns, n: int) -> None:
        if n:
            self._parts[table.name].append(table.complete(columns, n))
            self.rows += n

    def _add_readings(self, records: Records) -> None:
        for kind, places in _by_content_type(records).items():
            if kind not in READABLE:
                continue
            decoded = decode_many([records.values[i] for i in places], kind, READING)
            rows = np.flatnonzero(decoded.batch.valid)
            message = places[decoded.message[rows]]
            published = np.asarray(records.timestamps, dtype=np.int64)[message].astype("datetime64[ms]")
            columns = {name: column[rows] for name, column in decoded.batch.columns.items()}
            given = columns["event_time"]
            columns |= {
                "plant": _keys(records)[message],
                "event_time": np.where(np.isnat(given), published, given),
                "published": published,
                "source_topic": _same(records.topic, len(rows)),
                "source_partition": np.full(len(rows), records.partition),
                "source_offset": np.asarray(records.offsets, dtype=np.int64)[message],
                "source_row": decoded.row[rows],
            }
            self._put(READINGS, columns, len(rows))

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
            except (_Malformed, PayloadInvalid) as error:
                self._add_malformed(records, i, str(error))
        self._put_documents(PREDICTIONS, documents)

    def _add_dead_letters(self, records: Records) -> None:
        documents = []
        for i in range(len(records)):
            try:
                documents.append(_dead_letter(records, i))
            except _Malformed as error:
                self._add_malformed(records, i, str(error))
        self._put_documents(REJECTIONS, documents)

    def _add_malformed(self, records: Records, i: int, reason: str) -> None:
        place = f"{records.topic}[{records.partition}]@{records.offsets[i]}"
        self.malformed.append(f"{place}: {reason}"[:LONGEST])
        document = {
            **_coordinates(records, i),
            "reason": "malformed",
            "message": _text(reason),
            "rejected_rows": 1,
            "content_type": _text(content_type(records.headers[i], records.values[i])),
            "original": _text(records.values[i].decode("utf-8", "replace"), LONGEST_ORIGINAL),
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
        raise _Malformed("got an answer that is not finite, allowed numbers")
    moments = _block_column(found, "event_time", "M")
    n = len(moments)
    if n and not moments.astype(np.int64).min() >= 0:  # NaT is the smallest integer
        raise _Malformed("event_time: got none or one before 1970, allowed ms since the epoch")
    try:
        topic, model, version = (same[name] for name in ("source-topic", "model", "model-version"))
        partition = _whole(int(same["source-partition"]), INT32)
    except (KeyError, ValueError, _Malformed):
        raise _Malformed(
            "headers: got no origin, allowed source-topic, source-partition, model, model-version"
        ) from None
    columns |= {
        "plant": _same(_key(records, i), n),
        "event_time": moments,
        "extrapolated": _block_column(found, "extrapolated", "bu"),
        "model": _same(_text(model), n),
        "version": _same(_text(version), n),
        "published": np.full(n, records.timestamps[i], dtype="datetime64[ms]"),
        "topic": _same(records.topic, n),
        "source_topic": _same(_text(topic), n),
        "source_partition": np.full(n, partition),
        "source_offset": _block_column(found, "source_offset", "i"),
        "source_row": _block_column(found, "source_row", "i"),
    }
    return columns, n


def _block_column(found: Columns, name: str, kind: str) -> NDArray[Any]:
    column = found.get(name)
    if column is None:
        raise _Malformed(f"{name}: got no such column, allowed {', '.join(BLOCK)}")
    if column.dtype.kind not in kind:
        raise _Malformed(f"{name}: got a column of {column.dtype}, allowed {KINDS[kind]} without nulls")
    return column


def _prediction_event(records: Records, i: int) -> dict[str, Any]:
    document = _document(records.values[i])
    moment = parse_timestamp(document.get("event_time"))
    if moment is None:
        raise _Malformed(f"event_time: got {_short(document.get('event_time'))}, allowed an ISO 8601 time with zone")
    if type(document.get("extrapolated")) is not bool:
        raise _Malformed(f"extrapolated: got {_short(document.get('extrapolated'))}, allowed true or false")
    return {
        "id": _required(document, "id"),
        "plant": _key(records, i),
        "event_time": np.datetime64(moment, "ms"),
        **{name: _finite(document, name) for name in ANSWERS},
        "extrapolated": document["extrapolated"],
        "model": _required(document, "model"),
        "version": _required(document, "version"),
        "published": np.datetime64(records.timestamps[i], "ms"),
        "topic": records.topic,
        "source_topic": _required(document, "source_topic"),
        "source_partition": _whole(document.get("source_partition"), INT32),
        "source_offset": _whole(document.get("source_offset"), INT64),
        "source_row": _whole(document.get("source_row"), INT32),
    }


def _dead_letter(records: Records, i: int) -> dict[str, Any]:
    document = _document(records.values[i])
    arrived = parse_timestamp(document.get("timestamp"))
    original = document.get("original", document.get("original_base64"))
    return {
        "id": _required(document, "id"),
        "plant": _text(document.get("key")),
        "reason": _required(document, "reason"),
        **{name: _text(document.get(name)) for name in ("field", "got", "allowed", "message")},
        "rejected_rows": _whole(document.get("rejected_rows", 1), INT64),
        "errors": orjson.dumps(document.get("errors")).decode().replace("\x00", ""),
        "arrived": np.datetime64("NaT") if arrived is None else np.datetime64(arrived, "ms"),
        "published": np.datetime64(records.timestamps[i], "ms"),
        **{name: _text(document.get(name)) for name in ("content_type", "model", "version")},
        "original": _text(original, LONGEST_ORIGINAL),
        "source_topic": _required(document, "topic"),
        "source_partition": _whole(document.get("partition"), INT32),
        "source_offset": _whole(document.get("offset"), INT64),
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


def _document(value: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise _Malformed(f"got malformed JSON ({error}), allowed an object") from None
    if not isinstance(document, dict):
        raise _Malformed(f"got {_short(document)}, allowed an object")
    return document


def _required(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value or len(value) > LONGEST or "\x00" in value:
        raise _Malformed(f"{name}: got {_short(value)}, allowed text of 1 to {LONGEST} characters")
    return value


def _finite(document: Mapping[str, Any], name: str) -> float:
    value: Any = document.get(name)
    if type(value) not in (int, float) or not math.isfinite(value):
        raise _Malformed(f"{name}: got {_short(value)}, allowed a number")
    return float(value)


def _whole(value: Any, limit: int) -> int:
    if type(value) is not int or not 0 <= value < limit:
        raise _Malformed(f"coordinates: got {_short(value)}, allowed an integer from 0 to {limit - 1}")
    return value


def _text(value: Any, longest: int = LONGEST) -> str | None:
    """A value as text a database takes; PostgreSQL knows no NUL."""
    if value is None:
        return None
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text[:longest].replace("\x00", "\N{REPLACEMENT CHARACTER}")


def _short(value: Any) -> str:
    return repr(value)[:80]


def _key(records: Records, i: int) -> str | None:
    key = records.keys[i]
    return None if key is None else _text(key.decode("utf-8", "replace"))


def _keys(records: Records) -> NDArray[Any]:
    texts = {key: None if key is None else _text(key.decode("utf-8", "replace")) for key in set(records.keys)}
    keys = np.empty(len(records), dtype=object)
    keys[:] = [texts[key] for key in records.keys]
    return keys


def _same(text: str | None, n: int) -> NDArray[Any]:
    return np.full(n, text, dtype=object)
