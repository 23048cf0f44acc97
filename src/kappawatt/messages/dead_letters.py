"""What could not be answered: reason, origin and the original bytes."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from kappawatt.bus.interface import Outgoing, Records
from kappawatt.columns.batch import Rejection
from kappawatt.columns.content import JSON
from kappawatt.messages.readings import content_type

__all__ = ["dead_letter_message", "read_dead_letters"]

MOST_ORIGINAL = 2_500_000  # bytes of an original kept; base64 of it still fits the topic
MOST_ERRORS = 100  # rows listed in one dead letter; the count is always the whole


def dead_letter_message(
    dead: str,
    records: Records,
    at: int,
    rejections: Sequence[Rejection],
    model: str,
    version: str,
    rejected_rows: int | None = None,
) -> Outgoing:
    """Return the dead letter of message `records[at]`: the first reason on top, the first hundred in `errors`.

    The id is the message's coordinates, so that a second refusal overwrites the first.

    Parameters
    ----------
    rejected_rows : int, optional
        How many rows were refused, where `rejections` are only the first; those of `rejections` if absent.
    """
    first = rejections[0]
    value, key = records.values[at], records.keys[at]
    document: dict[str, Any] = {
        "id": f"{records.topic}-{records.partition}-{records.offsets[at]}",
        "reason": first.code,
        "field": first.field,
        "got": first.got,
        "allowed": first.allowed,
        "message": first.message,
        "rejected_rows": len({r.row for r in rejections}) if rejected_rows is None else rejected_rows,
        "errors": [r.to_json() for r in rejections[:MOST_ERRORS]],
        "topic": records.topic,
        "partition": records.partition,
        "offset": records.offsets[at],
        "timestamp": records.timestamps[at],
        "key": None if key is None else key.decode("utf-8", "replace"),
        "content_type": content_type(records.headers[at], value),
        "model": model,
        "version": version,
    }
    if len(value) > MOST_ORIGINAL:
        document["original_bytes"], value = len(value), value[:MOST_ORIGINAL]
    try:
        document["original"] = value.decode()
    except UnicodeDecodeError:
        document["original_base64"] = base64.b64encode(value).decode()
    return Outgoing(dead, orjson.dumps(document), key, (("content-type", JSON.encode()),))


def read_dead_letters(polled: Iterable[Records]) -> list[dict[str, Any]]:
    """Return dead letters as documents."""
    found = []
    for records in polled:
        for value, published in zip(records.values, records.timestamps, strict=True):
            try:
                document = orjson.loads(value)
            except orjson.JSONDecodeError:
                continue
            if isinstance(document, Mapping) and "reason" in document:
                found.append({**document, "published": published})
    return found
