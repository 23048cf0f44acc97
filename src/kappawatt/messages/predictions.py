"""How predictions and dead letters look on the bus, written by the worker and read by everybody else.

A prediction's id is `TOPIC:LOG-PARTITION-OFFSET-ROW@VERSION`, the coordinates of the reading it answers: whoever
answers the same reading again with the same version, after a crash or in a replay, writes the same id. `LOG` is the
identity of the topic's log, so a topic that was made again gives other ids though its offsets begin at 0 once more.

Predictions travel as single JSON events, or many of one key as an Arrow block whose headers hold what is the
same in all rows. `read_predictions` gives the same columns for both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from kappawatt.bus.interface import Headers, Outgoing, Records
from kappawatt.columns.arrow import read_columns, write_columns
from kappawatt.columns.batch import Columns
from kappawatt.columns.content import ARROW, JSON
from kappawatt.columns.plain import plain_values
from kappawatt.columns.values import CALENDAR
from kappawatt.errors import PayloadInvalid
from kappawatt.messages.checked import (
    INT64,
    LONGEST_WORDS,
    MOMENT,
    NAME,
    OFFSET,
    PARTITION,
    WORDS,
    Malformed,
    checked,
    maybe,
    parsed,
)
from kappawatt.messages.ids import message_id
from kappawatt.messages.keys import key_text
from kappawatt.messages.readings import BLOCK_ROWS_MOST, content_type

__all__ = ["Prediction", "prediction_block", "prediction_event", "prediction_id", "read_predictions"]


def prediction_id(topic: str, log: str, partition: int, offset: int, row: int, version: str) -> str:
    """Return the id of the answer to one row of one message.

    Examples
    --------
    >>> prediction_id("plant.readings", "5xB0xqDOQ9ukA7dY2wPNSw", 2, 1533, 0, "2026.1")
    'plant.readings:5xB0xqDOQ9ukA7dY2wPNSw-2-1533-0@2026.1'
    """
    return f"{message_id(topic, log, partition, offset)}-{row}@{version}"


@dataclass(frozen=True, slots=True)
class Prediction:
    """Answers of one key out of one poll, on their way to the bus.

    Parameters
    ----------
    columns : mapping of str to ndarray of shape (n,)
        `event_time` (datetime64), response fields, `measured_<target>` where known (NaN where not).
    offsets, rows : ndarray of int64 and int32, shape (n,)
        Which message of the source partition, and which row in it.
    """

    topic: str
    key: bytes | None
    columns: Columns
    offsets: NDArray[np.int64]
    rows: NDArray[np.int32]
    source_topic: str
    source_partition: int
    model: str
    version: str
    headers: Headers = ()
    source_log: str = ""


def prediction_block(p: Prediction) -> Outgoing:
    """Return all answers as one Arrow message."""
    same: Headers = (
        ("content-type", ARROW.encode()),
        ("model", p.model.encode()),
        ("model-version", p.version.encode()),
        ("source-topic", p.source_topic.encode()),
        ("source-partition", str(p.source_partition).encode()),
        ("source-log", p.source_log.encode()),
    )
    columns = {**p.columns, "source_offset": p.offsets, "source_row": p.rows}
    return Outgoing(p.topic, write_columns(columns), p.key, same + p.headers)


def prediction_event(p: Prediction) -> list[Outgoing]:
    """Return each answer as one JSON message."""
    headers = (("content-type", JSON.encode()), *p.headers)
    lists = {name: _plain(column) for name, column in p.columns.items()}
    key = None if p.key is None else key_text(p.key)
    messages = []
    for i, (offset, row) in enumerate(zip(p.offsets.tolist(), p.rows.tolist(), strict=True)):
        document = {
            "id": prediction_id(p.source_topic, p.source_log, p.source_partition, offset, row, p.version),
            "key": key,
            **{name: values[i] for name, values in lists.items()},
            "model": p.model,
            "version": p.version,
            "source_topic": p.source_topic,
            "source_log": p.source_log,
            "source_partition": p.source_partition,
            "source_offset": offset,
            "source_row": row,
        }
        messages.append(Outgoing(p.topic, orjson.dumps(document), p.key, headers))
    return messages


def _plain(column: NDArray[Any]) -> list[Any]:
    """A column as JSON values: what is not finite is null, times are ISO 8601 in UTC."""
    values = plain_values(column)
    return [value if isfinite(value) else None for value in values] if column.dtype.kind == "f" else values


NEEDED = {"id": NAME, "source_topic": NAME, "source_partition": PARTITION, "source_offset": OFFSET}
OPTIONAL = {
    "key": maybe(WORDS),
    "event_time": maybe(MOMENT),
    "model": maybe(NAME),
    "version": maybe(NAME),
    "source_log": WORDS,
    "source_row": PARTITION,
}


def read_predictions(polled: Iterable[Records]) -> list[dict[str, Any]]:
    """Return predictions as flat documents, the same for single events and rows of blocks.

    Besides what was published each has `published` [ms since the epoch, UTC], `topic`, `partition` and
    `offset` of the message it came in. Messages that are no predictions are left out.
    """
    found: list[dict[str, Any]] = []
    for records in polled:
        for i, value in enumerate(records.values):
            place = {
                "published": records.timestamps[i],
                "topic": records.topic,
                "partition": records.partition,
                "offset": records.offsets[i],
            }
            try:
                if content_type(records.headers[i], value) == ARROW:
                    rows = _read_block(value, records.keys[i], records.headers[i])
                else:
                    rows = [{"key": None, **checked(parsed(value), NEEDED, OPTIONAL, nested=False)}]
            except (PayloadInvalid, KeyError, ValueError):
                continue
            found.extend({**row, **place} for row in rows)
    return found


def _read_block(value: bytes, key: bytes | None, headers: Headers) -> list[dict[str, Any]]:
    same = {name: content.decode() for name, content in headers}
    about: dict[str, Any] = {
        "model": same["model"],
        "version": same["model-version"],
        "source_topic": same["source-topic"],
        "source_log": same.get("source-log", ""),  # a release before wrote none
        "source_partition": int(same["source-partition"]),
    }
    columns = read_columns(value)
    _check_block(columns)
    lists = {name: _plain(column) for name, column in columns.items()}
    names = tuple(lists)
    text = None if key is None else key_text(key)
    found = []
    for values in zip(*lists.values(), strict=True):
        row = dict(zip(names, values, strict=True))
        offset, inner = row["source_offset"], row["source_row"]
        row |= {
            "id": prediction_id(
                about["source_topic"], about["source_log"], about["source_partition"], offset, inner, about["version"]
            ),
            "key": text,
            **about,
        }
        found.append(row)
    for row in found[:1]:  # what differs from row to row was looked at by column
        checked(row, NEEDED, OPTIONAL, nested=False)
    return found


def _check_block(columns: Columns) -> None:
    """Raise Malformed for columns that no block of answers has."""
    n = len(columns["source_offset"])
    if n > BLOCK_ROWS_MOST:
        raise Malformed(f"rows: got {n}, allowed {BLOCK_ROWS_MOST}")
    for name, column in columns.items():
        if name in ("source_offset", "source_row"):
            if column.dtype.kind not in "iu" or (n and not 0 <= int(column.min()) <= int(column.max()) < INT64):
                raise Malformed(f"{name}: got a column of {column.dtype}, allowed whole numbers from 0")
        elif column.dtype.kind == "M":
            whole = column[~np.isnat(column)].astype("datetime64[ms]").astype(np.int64)
            if len(whole) and not CALENDAR[0] <= int(whole.min()) <= int(whole.max()) <= CALENDAR[1]:
                raise Malformed(f"{name[:80]}: got a time of no calendar, allowed years of 4 digits")
        elif name == "event_time" and n:
            raise Malformed(f"{name}: got a column of {column.dtype}, allowed times")
        elif column.dtype == object and any(value is not None and len(value) > LONGEST_WORDS for value in column):
            raise Malformed(f"{name[:80]}: got a longer text, allowed at most {LONGEST_WORDS} characters")
