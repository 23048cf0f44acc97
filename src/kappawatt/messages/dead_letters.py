"""What could not be answered: reason, origin and the original bytes."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from kappawatt.bus.interface import Outgoing, Records
from kappawatt.columns.batch import Rejection
from kappawatt.columns.content import JSON
from kappawatt.columns.schema import shorten
from kappawatt.columns.strict_json import dump_json
from kappawatt.errors import PayloadInvalid
from kappawatt.messages.checked import (
    LONGEST_NAME,
    LONGEST_WORDS,
    NAME,
    OFFSET,
    PARTITION,
    SCALAR,
    WHOLE,
    WORDS,
    Malformed,
    Part,
    checked,
    maybe,
    parsed,
)
from kappawatt.messages.envelopes import is_bare
from kappawatt.messages.ids import message_id
from kappawatt.messages.keys import key_text
from kappawatt.messages.readings import content_type

__all__ = ["dead_letter_message", "read_dead_letters"]

# Together these fit the topic, whose messages have at most 4 MiB: an original in base64 is a third larger.
MOST_ORIGINAL = 2_500_000  # bytes of an original kept
MOST_TEXT = 3_400_000  # bytes of an original as JSON text; NULs and quotes take several each
MOST_ERRORS_BYTES = 400_000
MOST_ERRORS = 100  # rows listed in one dead letter; the count is always the whole
MOST_KEY = 1_000  # bytes of a key


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

    The id is the message's coordinates, so that a second refusal overwrites the first. Whatever the message is, the
    letter can be written and fits its topic: what is no text is in base64, and what is too long is cut.

    Parameters
    ----------
    rejected_rows : int, optional
        How many rows were refused, where `rejections` are only the first; those of `rejections` if absent.
    """
    first = rejections[0]
    value, key = records.values[at], records.keys[at]
    document: dict[str, Any] = {
        "id": message_id(records.topic, records.log, records.partition, records.offsets[at]),
        "reason": first.code,
        **_shown(first),
        "rejected_rows": len({r.row for r in rejections}) if rejected_rows is None else rejected_rows,
        "errors": _listed(rejections),
        "topic": records.topic,
        "log": records.log,
        "partition": records.partition,
        "offset": records.offsets[at],
        "timestamp": records.timestamps[at],
        "key": None if key is None else key_text(key)[:LONGEST_NAME],
        "content_type": content_type(records.headers[at], value)[:LONGEST_NAME],
        **({"envelope": records.envelope} if records.envelope and not is_bare(records.headers[at]) else {}),
        "model": model,
        "version": version,
    }
    if len(value) > MOST_ORIGINAL:
        document["original_bytes"], value = len(value), value[:MOST_ORIGINAL]
    text = _as_text(value)
    if text is None:
        document["original_base64"] = base64.b64encode(value).decode()
    else:
        document["original"] = text
    return Outgoing(dead, dump_json(document), None if key is None else key[:MOST_KEY], HEADERS)


HEADERS = (("content-type", JSON.encode()),)


def _as_text(value: bytes) -> str | None:
    """A message as text; None if it is none, or would take too much room as JSON."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    return text if len(value) * 6 <= MOST_TEXT or len(orjson.dumps(text)) <= MOST_TEXT else None


def _shown(rejection: Rejection) -> dict[str, Any]:
    """A reason, with what it says bounded."""
    return {
        "field": None if rejection.field is None else rejection.field[:LONGEST_NAME],
        "got": shorten(rejection.got),
        "allowed": rejection.allowed[:LONGEST_WORDS],
        "message": rejection.message[:LONGEST_WORDS],
    }


def _listed(rejections: Sequence[Rejection]) -> list[dict[str, Any]]:
    """The first reasons, as many as there is room for."""
    found: list[dict[str, Any]] = []
    size = 0
    for rejection in rejections[:MOST_ERRORS]:
        row = {"row": rejection.row, "code": rejection.code, **_shown(rejection)}
        size += len(dump_json(row))
        if found and size > MOST_ERRORS_BYTES:
            break
        found.append(row)
    return found


def _are_reasons(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MOST_ERRORS
        and all(isinstance(row, dict) and all(map(SCALAR.is_right, row.values())) for row in value)
    )


NEEDED = {"id": NAME, "reason": NAME}
OPTIONAL = {
    "field": maybe(WORDS),
    "got": SCALAR,
    "allowed": maybe(WORDS),
    "message": maybe(WORDS),
    "rejected_rows": PARTITION,
    "errors": Part(f"a list of at most {MOST_ERRORS} reasons", _are_reasons),
    "topic": NAME,
    "log": WORDS,
    "partition": PARTITION,
    "offset": OFFSET,
    "timestamp": WHOLE,
    "key": maybe(WORDS),
    "content_type": maybe(WORDS),
    "model": maybe(WORDS),
    "version": maybe(WORDS),
    "original": Part("text", lambda value: isinstance(value, str)),
    "original_base64": Part("text", lambda value: isinstance(value, str)),
    "original_bytes": OFFSET,
}


def read_dead_letters(polled: Iterable[Records]) -> list[dict[str, Any]]:
    """Return dead letters as documents, with `published`; messages that are none are left out."""
    found = []
    for records in polled:
        for value, published in zip(records.values, records.timestamps, strict=True):
            try:
                letter = checked(parsed(value), NEEDED, OPTIONAL)
            except (PayloadInvalid, Malformed):
                continue
            found.append({**letter, "published": published})
    return found
