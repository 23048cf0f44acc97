"""Rows to messages on the topic of their stream."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from kappawatt.bus.interface import Headers, Outgoing
from kappawatt.columns.arrow import write_columns
from kappawatt.columns.batch import Batch
from kappawatt.columns.codec import ARROW, JSON
from kappawatt.streams.rules import PLANT, Intake, by_key
from kappawatt.worker.loop import BLOCK_ROWS_MOST

__all__ = ["BLOCK_ROWS", "given_columns", "new_traceparent", "objects", "reading_messages"]

BLOCK_ROWS = 64  # from so many rows on a request or message is an Arrow block


def reading_messages(
    batch: Batch, key: str, *, intake: Intake = PLANT, headers: Headers = (), block_rows: int = BLOCK_ROWS
) -> list[Outgoing]:
    """Return the valid rows of a batch as messages on the topic of readings.

    Parameters
    ----------
    key : str
        Name of the plant, load zone or meter; "" where each row names its own.
    intake : Intake
        Which stream.
    block_rows : int
        From so many rows of one key on they travel as Arrow blocks of at most 10,000 rows; 0 never.
    """
    messages: list[Outgoing] = []
    for name, rows in by_key(intake, batch, key):
        columns = given_columns(batch, rows, intake)
        messages += _messages(columns, len(rows), intake.topic.name, name.encode(), headers, block_rows)
    return messages


def _messages(
    columns: Mapping[str, NDArray[Any]], n: int, topic: str, key: bytes, headers: Headers, block_rows: int
) -> list[Outgoing]:
    if block_rows and n >= block_rows:
        blocks = (("content-type", ARROW.encode()), *headers)
        return [
            Outgoing(
                topic,
                write_columns({name: c[start : start + BLOCK_ROWS_MOST] for name, c in columns.items()}),
                key,
                blocks,
            )
            for start in range(0, n, BLOCK_ROWS_MOST)
        ]
    events = (("content-type", JSON.encode()), *headers)
    return [Outgoing(topic, orjson.dumps(row), key, events) for row in objects(columns)]


def given_columns(batch: Batch, rows: NDArray[np.intp], intake: Intake) -> dict[str, NDArray[Any]]:
    """Return the columns of some rows, without those that hold nothing and without the key.

    Where absence of a time means the time of arrival and some rows of a batch bring one, the others get the
    present: the schema's own meaning of what is absent.
    """
    columns = {name: column[rows] for name, column in batch.columns.items() if name != intake.key_field}
    for name in (f.name for f in intake.schema.fields if not f.required):
        column = columns.get(name)
        if column is None:
            continue
        is_absent = _absent(column)
        if is_absent.all():
            del columns[name]
        elif name == intake.arrival and is_absent.any():
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
    lists = [_plain(column) for column in columns.values()]
    return [
        {name: value for name, value in zip(columns, values, strict=True) if value is not None and value == value}
        for values in zip(*lists, strict=True)
    ]


def _plain(column: NDArray[Any]) -> list[Any]:
    if column.dtype.kind == "M":
        texts = np.datetime_as_string(column, unit="ms").tolist()
        return [None if text == "NaT" else f"{text}Z" for text in texts]
    plain: list[Any] = column.tolist()
    return plain


def new_traceparent() -> bytes:
    """Return a W3C trace context that starts here."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01".encode()
