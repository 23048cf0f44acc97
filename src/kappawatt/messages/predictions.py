"""How predictions and dead letters look on the bus, written by the worker and read by everybody else.

A prediction's id is `TOPIC-PARTITION-OFFSET-ROW@VERSION`, the coordinates of the reading it answers: whoever
answers the same reading again with the same version, after a crash or in a replay, writes the same id.

Predictions travel as single JSON events, or many of one key as an Arrow block whose headers hold what is the
same in all rows. `read_predictions` gives the same columns for both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from kappawatt.bus.interface import Headers, Outgoing, Records
from kappawatt.columns.arrow import read_columns, write_columns
from kappawatt.columns.batch import Columns
from kappawatt.columns.budget import STANDARD
from kappawatt.columns.content import ARROW, JSON
from kappawatt.columns.plain import json_bytes, plain_values
from kappawatt.errors import PayloadInvalid
from kappawatt.messages.readings import BLOCK_ROWS_MOST, content_type

__all__ = ["BLOCK", "Prediction", "prediction_block", "prediction_event", "prediction_id", "read_predictions"]


BLOCK = replace(STANDARD, rows=BLOCK_ROWS_MOST)  # no writer puts more rows into one, and each becomes a document


def prediction_id(topic: str, partition: int, offset: int, row: int, version: str) -> str:
    """Return the id of the answer to one row of one message.

    Examples
    --------
    >>> prediction_id("plant.readings", 2, 1533, 0, "2026.1")
    'plant.readings-2-1533-0@2026.1'
    """
    return f"{topic}-{partition}-{offset}-{row}@{version}"


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


def prediction_block(p: Prediction) -> Outgoing:
    """Return all answers as one Arrow message."""
    same: Headers = (
        ("content-type", ARROW.encode()),
        ("model", p.model.encode()),
        ("model-version", p.version.encode()),
        ("source-topic", p.source_topic.encode()),
        ("source-partition", str(p.source_partition).encode()),
    )
    columns = {**p.columns, "source_offset": p.offsets, "source_row": p.rows}
    return Outgoing(p.topic, write_columns(columns), p.key, same + p.headers)


def prediction_event(p: Prediction) -> list[Outgoing]:
    """Return each answer as one JSON message."""
    headers = (("content-type", JSON.encode()), *p.headers)
    lists = {name: _plain(column) for name, column in p.columns.items()}
    key = None if p.key is None else p.key.decode("utf-8", "replace")
    messages = []
    for i, (offset, row) in enumerate(zip(p.offsets.tolist(), p.rows.tolist(), strict=True)):
        document = {
            "id": prediction_id(p.source_topic, p.source_partition, offset, row, p.version),
            "key": key,
            **{name: values[i] for name, values in lists.items()},
            "model": p.model,
            "version": p.version,
            "source_topic": p.source_topic,
            "source_partition": p.source_partition,
            "source_offset": offset,
            "source_row": row,
        }
        messages.append(Outgoing(p.topic, json_bytes(document), p.key, headers))
    return messages


def _plain(column: NDArray[Any]) -> list[Any]:
    """A column as JSON values: NaN is null, times are ISO 8601 in UTC."""
    values = plain_values(column)
    return [None if value != value else value for value in values] if column.dtype.kind == "f" else values


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
                    rows = [orjson.loads(value)]
            except (PayloadInvalid, orjson.JSONDecodeError, KeyError, ValueError):
                continue
            found.extend({**row, **place} for row in rows if isinstance(row, dict) and "source_offset" in row)
    return found


def _read_block(value: bytes, key: bytes | None, headers: Headers) -> list[dict[str, Any]]:
    same = {name: content.decode() for name, content in headers}
    topic, partition = same["source-topic"], int(same["source-partition"])
    model, version = same["model"], same["model-version"]
    lists = {name: _plain(column) for name, column in read_columns(value, BLOCK).items()}
    names = tuple(lists)
    text = None if key is None else key.decode("utf-8", "replace")
    found = []
    for values in zip(*lists.values(), strict=True):
        row = dict(zip(names, values, strict=True))
        row |= {
            "id": prediction_id(topic, partition, row["source_offset"], row["source_row"], version),
            "key": text,
            "model": model,
            "version": version,
            "source_topic": topic,
            "source_partition": partition,
        }
        found.append(row)
    return found
