"""Readings on the bus: rows to messages of their stream's topic, and messages to rows."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.bus.interface import Headers, Outgoing, Records, header
from kappawatt.columns.arrow import MARK, write_columns
from kappawatt.columns.batch import Batch, Rejection
from kappawatt.columns.codec import decode_many
from kappawatt.columns.content import ARROW, CSV, JSON, READABLE, ManyDecoded
from kappawatt.columns.plain import json_bytes, plain_values
from kappawatt.columns.schema import Schema
from kappawatt.messages.portions import portions
from kappawatt.streams.rules import by_key
from kappawatt.streams.stream import Stream

__all__ = [
    "BLOCK_ROWS",
    "BLOCK_ROWS_MOST",
    "by_content_type",
    "carried_headers",
    "content_type",
    "decode_values",
    "decoded_messages",
    "given_columns",
    "objects",
    "reading_messages",
    "rejections_of",
    "runs_of_content_type",
]

BLOCK_ROWS = 64  # from so many rows on a request or message is an Arrow block
BLOCK_ROWS_MOST = 10_000  # rows in one outgoing block: some 600 kB, below a broker's default limit of 1 MB
CARRIED = ("traceparent", "tracestate")  # headers that go on from a reading to its answer


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
    events = (("content-type", JSON.encode()), *headers)  # the same ones, however many messages there are
    blocks = (("content-type", ARROW.encode()), *headers)
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
    for name in (f.name for f in stream.schema.fields if not f.required):
        column = columns.get(name)
        if column is None:
            continue
        is_absent = _absent(column)
        if is_absent.all():
            del columns[name]
        elif name == stream.arrival and is_absent.any():
            columns[name] = np.where(is_absent, np.datetime64(time.time_ns() // 1_000_000, "ms"), column)
    return columns


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
    """Return the content type a message names, or else what its first bytes show."""
    named = header(headers, "content-type")
    if named is not None:
        return named.decode("latin-1")
    if value.startswith(MARK):
        return ARROW
    return JSON if value[:1] in (b"{", b"[") else CSV


def carried_headers(headers: Headers) -> Headers:
    """Return the headers of a reading that go on to its answer."""
    if not headers:
        return ()
    return tuple((name, value) for name, value in headers if name in CARRIED)


def by_content_type(polled: Sequence[Records]) -> dict[str, list[Records]]:
    """Group messages by content type, keeping their order; a poll of one type is passed on as it is."""
    groups: dict[str, list[Records]] = defaultdict(list)
    for records in polled:
        known: dict[Headers, str] = {}
        kinds = []
        for headers, value in zip(records.headers, records.values, strict=True):
            kind = known.get(headers)
            if kind is None:
                kind = content_type(headers, value)
                if headers:
                    known[headers] = kind
            kinds.append(kind)
        if len(set(kinds)) == 1:
            groups[kinds[0]].append(records)
            continue
        for kind in dict.fromkeys(kinds):
            groups[kind].append(records.pick([i for i, k in enumerate(kinds) if k == kind]))
    return groups


def runs_of_content_type(records: Records) -> Iterator[tuple[str, Records]]:
    """Yield messages that stand together and are of one content type, where the order between types matters."""
    kinds = [content_type(h, v) for h, v in zip(records.headers, records.values, strict=True)]
    for kind, group in groupby(range(len(kinds)), key=lambda i: kinds[i]):
        places = list(group)
        yield kind, records if len(places) == len(records) else records.pick(places)


def decode_values(values: Sequence[bytes], kind: str, schema: Schema) -> ManyDecoded:
    """Decode messages of one content type, whatever they name; of one that nobody reads each is a refused row."""
    if kind in READABLE:
        return decode_many(values, kind, schema)
    n = len(values)
    refusals = schema.refusals(n)
    for i in range(n):
        refusals.refuse(i, "malformed", "content-type", kind, ", ".join(READABLE))
    return ManyDecoded(schema.check({}, n, refusals), np.arange(n, dtype=np.intp), np.zeros(n, dtype=np.intp))


def decoded_messages(records: Records, schema: Schema) -> Iterator[tuple[int, Batch, NDArray[np.intp]]]:
    """Decode messages, as many of one content type at once as stand together, and yield each with its rows."""
    first = 0
    runs = ((kind, part) for kind, run in runs_of_content_type(records) for few in portions([run]) for part in few)
    for kind, part in runs:
        decoded = decode_values(part.values, kind, schema)
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
