"""Readings on the bus: rows to messages of their stream's topic, and messages to rows."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.bus.interface import Headers, Outgoing, Records, header
from kappawatt.columns.arrow import MARK, write_columns
from kappawatt.columns.batch import Batch, Columns, Rejection
from kappawatt.columns.codec import decode_many
from kappawatt.columns.content import ARROW, CSV, JSON, READABLE, ManyDecoded, bare_type, without_mark
from kappawatt.columns.plain import json_bytes, plain_values
from kappawatt.columns.schema import MAX_TIMESTAMP, MIN_TIMESTAMP, Schema
from kappawatt.messages.envelopes import BARE, decode_enveloped, enveloped_kind, is_enveloped
from kappawatt.messages.keys import BINARY, key_text
from kappawatt.messages.portions import portions
from kappawatt.streams.rules import by_key
from kappawatt.streams.stream import Stream

__all__ = [
    "BLOCK_ROWS",
    "BLOCK_ROWS_MOST",
    "MOST_KEY",
    "by_content_type",
    "carried_headers",
    "content_type",
    "decode_records",
    "decode_values",
    "decoded_messages",
    "given_columns",
    "objects",
    "reading_messages",
    "rejections_of",
    "runs_of_content_type",
    "with_known_times",
]

BLOCK_ROWS = 64  # from so many rows on a request or message is an Arrow block
BLOCK_ROWS_MOST = 10_000  # rows in one outgoing block: some 600 kB, below a broker's default limit of 1 MB
CARRIED = ("traceparent", "tracestate")  # headers that go on from a reading to its answer
MOST_CARRIED = 1_024  # bytes of one of them; each answer has it, so a long one would have them fit no topic
MOST_KEY = 200  # characters of a message's key as text: it stands in each answer, and in the id of a forecast
OPENINGS = (b"{", b"[")  # of JSON


def reading_messages(
    stream: Stream, batch: Batch, key: str, *, headers: Headers = (), block_rows: int = BLOCK_ROWS
) -> list[Outgoing]:
    """Return the valid rows of a batch as messages on the topic of readings.

    Parameters
    ----------
    stream : Stream
    key : str
        Name of the plant, load zone or meter; "" where each row names its own.
    block_rows : int
        From so many rows of one key on they travel as Arrow blocks of at most 10,000 rows; 0 never.
    """
    messages: list[Outgoing] = []
    events = (("content-type", JSON.encode()), BARE, *headers)  # the same ones, however many messages there are
    blocks = (("content-type", ARROW.encode()), BARE, *headers)
    batch = _without_empty(stream, batch)  # once: there may be as many keys as rows
    for name, rows in by_key(stream, batch, key):
        columns = given_columns(stream, batch, rows)
        is_block = block_rows and len(rows) >= block_rows
        messages += _messages(columns, len(rows), stream.readings.name, name.encode(), blocks if is_block else events)
    return messages


def _messages(columns: Mapping[str, NDArray[Any]], n: int, topic: str, key: bytes, headers: Headers) -> list[Outgoing]:
    if header(headers, "content-type") == ARROW.encode():
        return [
            Outgoing(
                topic,
                write_columns({name: c[start : start + BLOCK_ROWS_MOST] for name, c in columns.items()}),
                key,
                headers,
            )
            for start in range(0, n, BLOCK_ROWS_MOST)
        ]
    return [Outgoing(topic, json_bytes(row), key, headers) for row in objects(columns)]


def given_columns(stream: Stream, batch: Batch, rows: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
    """Return the columns of some rows, without those that hold nothing and without the key.

    Where absence of a time means the time of arrival and some rows of a batch bring one, the others get the
    present: the schema's own meaning of what is absent.
    """
    columns = {name: column[rows] for name, column in batch.columns.items() if name != stream.key.name}
    for name in _optional(stream, columns):
        column = columns[name]
        is_absent = _absent(column)
        if is_absent.all():
            del columns[name]
        elif name == stream.arrival and is_absent.any():
            columns[name] = np.where(is_absent, np.datetime64(time.time_ns() // 1_000_000, "ms"), column)
    return columns


def _without_empty(stream: Stream, batch: Batch) -> Batch:
    """The same without optional columns that hold nothing in any row."""
    empty = {name for name in _optional(stream, batch.columns) if _absent(batch.columns[name]).all()}
    return replace(batch, columns={name: column for name, column in batch.columns.items() if name not in empty})


def _optional(stream: Stream, columns: Columns) -> list[str]:
    """Names of the columns that a row need not have."""
    names = [f.name for f in stream.schema.fields if not f.required and f.name != stream.key.name]
    return [name for name in (*names, *stream.schema.more_unbounded(columns)) if name in columns]


def _absent(column: NDArray[Any]) -> NDArray[np.bool_]:
    is_absent: NDArray[np.bool_]
    if column.dtype == object:
        is_absent = np.array([value is None for value in column], dtype=np.bool_)
    else:
        is_absent = np.isnat(column) if column.dtype.kind == "M" else np.isnan(column)
    return is_absent


def objects(columns: Mapping[str, NDArray[Any]]) -> list[dict[str, Any]]:
    """Return rows as JSON objects, without what is absent."""
    lists = [plain_values(column) for column in columns.values()]
    return [
        {name: value for name, value in zip(columns, values, strict=True) if value is not None and value == value}
        for values in zip(*lists, strict=True)
    ]


def content_type(headers: Headers, value: bytes) -> str:
    """Return the content type a message names, as HTTP names them, or else what its first bytes show."""
    return _named(headers) or _shown(value)


def _named(headers: Headers) -> str | None:
    given = header(headers, "content-type") if headers else None
    return _bare(given) if given else None


@lru_cache(maxsize=256)
def _bare(given: bytes) -> str:
    return bare_type(given.decode("latin-1"))


def _shown(value: bytes) -> str:
    if value.startswith(MARK):
        return ARROW
    text = value if value[:1] in OPENINGS else without_mark(value).lstrip()
    return JSON if text[:1] in OPENINGS else CSV


def carried_headers(headers: Headers) -> Headers:
    """Return the headers of a reading that go on to its answer."""
    if not headers:
        return ()
    carried = [(name, value) for name, value in headers if name in CARRIED and len(value) <= MOST_CARRIED]
    return tuple(carried[: len(CARRIED)])


def _kinds(records: Records) -> list[str]:
    """The content type of each message, or what kind of envelope it has."""
    known: dict[Headers, str] = {}
    kinds = []
    for headers, value in zip(records.headers, records.values, strict=True):
        kind = known.get(headers)
        if kind is None:
            named = enveloped_kind(records.envelope, headers) if records.envelope else None
            named = named or _named(headers)
            kind = named or _shown(value)
            if named:  # equal headers that name none say nothing of what the bytes are
                known[headers] = kind
        kinds.append(kind)
    return kinds


def by_content_type(polled: Sequence[Records]) -> dict[str, list[Records]]:
    """Group messages by content type, keeping their order; a poll of one type is passed on as it is."""
    groups: dict[str, list[Records]] = defaultdict(list)
    for records in polled:
        kinds = _kinds(records)
        if len(set(kinds)) == 1:
            groups[kinds[0]].append(records)
            continue
        for kind in dict.fromkeys(kinds):
            groups[kind].append(records.pick([i for i, k in enumerate(kinds) if k == kind]))
    return groups


def runs_of_content_type(records: Records) -> Iterator[tuple[str, Records]]:
    """Yield messages that stand together and are of one content type, where the order between types matters."""
    kinds = _kinds(records)
    for kind, group in groupby(range(len(kinds)), key=lambda i: kinds[i]):
        places = list(group)
        yield kind, records if len(places) == len(records) else records.pick(places)


def decode_values(values: Sequence[bytes], kind: str, schema: Schema) -> ManyDecoded:
    """Decode messages of one content type, whatever they name; of one that nobody reads each is a refused row."""
    if kind in READABLE:
        return decode_many(values, kind, schema)
    if is_enveloped(kind):
        return decode_enveloped(values, kind, schema)
    n = len(values)
    refusals = schema.refusals(n)
    for i in range(n):
        refusals.refuse(i, "malformed", "content-type", kind, ", ".join(READABLE))
    return ManyDecoded(schema.check({}, n, refusals), np.arange(n, dtype=np.intp), np.zeros(n, dtype=np.intp))


def decode_records(parts: Sequence[Records], kind: str, schema: Schema) -> ManyDecoded:
    """Decode messages of one content type as `decode_values` does, and refuse the rows under a key that is too long."""
    decoded = decode_values([value for records in parts for value in records.values], kind, schema)
    longest = max((len(key) for records in parts for key in set(records.keys) if key), default=0)
    if len(BINARY) + 2 * longest <= MOST_KEY:
        return decoded
    keys = [key for records in parts for key in records.keys]
    lengths = np.array([len(key_text(key)) if key else 0 for key in keys])[decoded.message]
    got = [f"one of {n} characters" for n in lengths.tolist()]
    allowed = f"at most {MOST_KEY} characters, two for each byte of a binary one"
    return _refuse(decoded, lengths > MOST_KEY, "key", got, allowed)


def with_known_times(decoded: ManyDecoded, parts: Sequence[Records], arrival: str) -> ManyDecoded:
    """Refuse rows that say no time of their own, and came with a record time that is no time of an event.

    Parameters
    ----------
    arrival : str
        Field of a reading that says its time; when it arrived, if absent.
    """
    if all(min(r.timestamps) >= MIN_TIMESTAMP and max(r.timestamps) <= MAX_TIMESTAMP for r in parts):
        return decoded
    stamps = np.array([stamp for records in parts for stamp in records.timestamps], dtype=np.int64)
    outside = (stamps < MIN_TIMESTAMP) | (stamps > MAX_TIMESTAMP)
    untimed = outside[decoded.message]
    if arrival in decoded.batch.columns:
        untimed &= np.isnat(decoded.batch.columns[arrival])
    got = [f"no {arrival or 'event_time'}, and a record time of {stamp} ms" for stamp in stamps[decoded.message]]
    allowed = "one of the two in the years 1970 to 2261"
    return _refuse(decoded, untimed, arrival or "event_time", got, allowed)


def _refuse(decoded: ManyDecoded, mask: NDArray[np.bool_], field: str, got: Sequence[str], allowed: str) -> ManyDecoded:
    batch = decoded.batch
    more = [Rejection(row, "out_of_range", field, got[row], allowed) for row in np.flatnonzero(mask).tolist()]
    rejections = tuple(sorted((*batch.rejections, *more), key=lambda r: r.row))
    return ManyDecoded(
        Batch(batch.columns, batch.valid & ~mask, rejections, batch.unlisted), decoded.message, decoded.row
    )


def decoded_messages(records: Records, schema: Schema) -> Iterator[tuple[int, Batch, NDArray[np.intp]]]:
    """Decode messages, as many of one content type at once as stand together, and yield each with its rows."""
    first = 0
    runs = ((kind, part) for kind, run in runs_of_content_type(records) for few in portions([run]) for part in few)
    for kind, part in runs:
        decoded = decode_records([part], kind, schema)
        starts = np.searchsorted(decoded.message, np.arange(len(part) + 1))
        for n in range(len(part)):
            yield first + n, decoded.batch, np.arange(starts[n], starts[n + 1], dtype=np.intp)
        first += len(part)


def rejections_of(batch: Batch, rows: NDArray[np.intp]) -> Sequence[Rejection]:
    """The rejections of a message's rows; a batch has them in order of rows."""
    if not batch.rejections or not len(rows):
        return ()
    first = bisect_left(batch.rejections, int(rows[0]), key=lambda r: r.row)
    last = bisect_right(batch.rejections, int(rows[-1]), key=lambda r: r.row)
    return batch.rejections[first:last]
