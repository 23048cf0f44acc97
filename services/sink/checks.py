"""Fields of JSON documents from the bus, each checked: what cannot be read raises `Malformed` with field and value."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from kappawatt.bus.interface import Records
from kappawatt.columns.values import parse_microseconds
from kappawatt.errors import SettingInvalid
from kappawatt.forecasting.calendar import zone_named
from kappawatt.messages.keys import key_text

__all__ = [
    "INT32",
    "INT64",
    "LONGEST",
    "LONGEST_ANSWER",
    "Malformed",
    "answer_text",
    "as_json",
    "count",
    "finite",
    "flag",
    "integer",
    "key_of",
    "keys_of",
    "made_by",
    "moment",
    "numbers",
    "parsed",
    "required",
    "same",
    "short",
    "text",
    "texts",
    "whole",
    "zone",
]

LONGEST = 400  # characters of a text column that is not the message itself
LONGEST_ANSWER = 4_000  # characters of a text that is an answer: an explanation is some sentences
INT32 = 2**31
INT64 = 2**63


class Malformed(Exception):
    """What is wrong with a message."""


def parsed(value: bytes) -> dict[str, Any]:
    """Return a message as an object."""
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"got malformed JSON ({error}), allowed an object") from None
    if not isinstance(found, dict):
        raise Malformed(f"got {short(found)}, allowed an object")
    return found


def required(fields: Mapping[str, Any], name: str) -> str:
    """Return a text of 1 to 400 characters."""
    value = fields.get(name)
    if not isinstance(value, str) or not value or len(value) > LONGEST or "\x00" in value:
        raise Malformed(f"{name}: got {short(value)}, allowed text of 1 to {LONGEST} characters")
    return value


def finite(fields: Mapping[str, Any], name: str) -> float:
    """Return a number."""
    value: Any = fields.get(name)
    if type(value) not in (int, float) or not math.isfinite(value):
        raise Malformed(f"{name}: got {short(value)}, allowed a number")
    return float(value)


def whole(value: Any, limit: int) -> int:
    """Return an integer from 0 below `limit`, of the coordinates of a message."""
    if type(value) is not int or not 0 <= value < limit:
        raise Malformed(f"coordinates: got {short(value)}, allowed an integer from 0 to {limit - 1}")
    return value


def text(value: Any, longest: int = LONGEST) -> str | None:
    """Return a value as text a database takes; PostgreSQL knows no NUL."""
    if value is None:
        return None
    whole_text = value if isinstance(value, str) else as_json(value)
    return whole_text[:longest].replace("\x00", "\N{REPLACEMENT CHARACTER}")


def as_json(value: Any) -> str:
    """Return a value of a document as JSON."""
    try:
        return orjson.dumps(value).decode()
    except TypeError as error:  # read deeper than it can be written, or a number beyond 64 bits
        raise Malformed(f"got {short(value)} ({error}), allowed at most some 250 levels of nesting") from None


def zone(fields: Mapping[str, Any], name: str, known: Collection[str]) -> str:
    """Return a time zone that the database knows, too: one that it does not know would fail every query on it."""
    value = required(fields, name)
    try:
        zone_named(value)
    except SettingInvalid:
        is_known = False
    else:
        is_known = not known or value in known
    if not is_known:
        raise Malformed(f"{name}: got {short(value)}, allowed a name of the IANA time zone database")
    return value


def answer_text(fields: Mapping[str, Any], name: str) -> str | None:
    """Return a text that is an answer."""
    value = fields.get(name)
    if not isinstance(value, str):
        raise Malformed(f"{name}: got {short(value)}, allowed text")
    return text(value, LONGEST_ANSWER)


def texts(column: NDArray[Any], longest: int = LONGEST) -> NDArray[Any]:
    """Return a column of texts as a database takes them."""
    clean = {value: text(value, longest) for value in set(column.tolist())}
    found = np.empty(len(column), dtype=object)
    found[:] = [clean[value] for value in column.tolist()]
    return found


def same(value: str | None, n: int) -> NDArray[Any]:
    """Return a column of one text."""
    return np.full(n, value, dtype=object)


def key_of(records: Records, i: int) -> str | None:
    """Return the key of a message as text."""
    key = records.keys[i]
    return None if key is None else text(key_text(key))


def keys_of(records: Records) -> NDArray[Any]:
    """Return the keys of messages as a column."""
    decoded = {key: None if key is None else text(key_text(key)) for key in set(records.keys)}
    keys = np.empty(len(records), dtype=object)
    keys[:] = [decoded[key] for key in records.keys]
    return keys


def short(value: Any) -> str:
    """Return a value as a message can afford it."""
    try:
        return repr(value)[:80]
    except RecursionError:
        return f"a {type(value).__name__} of many levels"


def moment(fields: Mapping[str, Any], name: str) -> np.datetime64:
    """Return a time."""
    found = parse_microseconds(fields.get(name))
    if found is None or found < 0:
        raise Malformed(f"{name}: got {short(fields.get(name))}, allowed an ISO 8601 time with zone, from 1970 on")
    return np.datetime64(found, "us")


def flag(fields: Mapping[str, Any], name: str) -> bool:
    """Return a boolean."""
    value = fields.get(name)
    if type(value) is not bool:
        raise Malformed(f"{name}: got {short(value)}, allowed true or false")
    return value


def count(fields: Mapping[str, Any], name: str) -> int:
    """Return a whole number."""
    value = fields.get(name)
    if type(value) is not int or not 0 <= value < INT64:
        raise Malformed(f"{name}: got {short(value)}, allowed a whole number from 0")
    return value


def integer(fields: Mapping[str, Any], name: str) -> int:
    """Return an integer."""
    value = fields.get(name)
    if type(value) is not int or not -INT64 < value < INT64:
        raise Malformed(f"{name}: got {short(value)}, allowed an integer")
    return value


def numbers(values: Any, n: int, where: str) -> NDArray[np.float64]:
    """Return a list of `n` numbers."""
    if not isinstance(values, list) or len(values) != n or not {type(value) for value in values} <= {int, float}:
        raise Malformed(f"{where}: got {short(values)}, allowed {n} numbers")
    return np.array(values, dtype=np.float64)


def made_by(document: Mapping[str, Any], records: Records, i: int) -> dict[str, Any]:
    """Return who answered, and what: the columns that a prediction, forecast and error have in common."""
    return {
        "model": required(document, "model"),
        "version": required(document, "version"),
        "published": np.datetime64(records.timestamps[i], "ms"),
        "topic": records.topic,
        "source_topic": required(document, "source_topic"),
        "source_log": text(document.get("source_log")) or "",  # a release before wrote none
        "source_partition": whole(document.get("source_partition"), INT32),
        "source_offset": whole(document.get("source_offset"), INT64),
    }
