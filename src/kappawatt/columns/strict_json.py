"""JSON in and out: every body, message and document of a stranger is parsed here, and what was let in can be written.

What `load_json` and `load_document` return holds valid Unicode only, whole numbers of at most 64 bits and no more
than `MOST_DEPTH` levels, so that it can be written again. `dump_json` writes what must be said in any case (problem
documents, dead letters), also where something else got into it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import orjson

from kappawatt.columns.budget import STANDARD, Budget
from kappawatt.errors import PayloadInvalid, PayloadTooLarge

__all__ = [
    "MOST_DEPTH",
    "SMALL",
    "SURROGATE",
    "SURROGATE_ESCAPE",
    "Repeated",
    "count_quotes",
    "dump_json",
    "load_document",
    "load_json",
]

MOST_DEPTH = 64  # levels of lists and objects; a forecast's document has three
SMALL = 16 * 1024  # bytes of JSON that no budget is asked for
CLOSING = re.compile(rb"[\]}]")
SHOWN = 80  # characters of a bad text that are worth repeating to its sender
# Text is decoded strictly, so half a surrogate pair can come from an escape only.
SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
SURROGATE = re.compile("[\ud800-\udfff]")
INT64 = 2**63
NESTED = "JSON nested too deeply"
LEVELS = f"at most {MOST_DEPTH} levels of lists and objects"


class Repeated(dict[str, Any]):
    """An object in which a key stood twice."""

    key: str = ""


def load_json(body: bytes, budget: Budget = STANDARD) -> Any:
    """Parse JSON of a request; objects with a repeated key come back as `Repeated`.

    orjson parses and keeps the last of repeated keys. Whether there were any shows in the number of quotes:
    each key has two, and so has each text value. Only when that does not add up (repeats, or escaped quotes),
    or when orjson refuses (NaN and Infinity are not JSON, but the sender should hear which field held them),
    Python's own parser looks at pairs. It lets more through than JSON is, which is refused here by its field.

    Raises
    ------
    PayloadInvalid
        It is no JSON, no UTF-8, holds text that is no Unicode, or is nested too deeply.
    PayloadTooLarge
        It may take more memory than the budget has.
    """
    _require_room(body, budget)
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        reason = str(error)
    else:
        if body.count(b'"') == count_quotes(parsed, 0):
            return parsed
        reason = "malformed"
        del parsed
    _require_room(body, budget, copies=2)
    try:
        found = json.loads(body.decode("utf-8-sig"), object_pairs_hook=_pairs, parse_int=_integer)
    except RecursionError:
        raise PayloadInvalid.of("body", NESTED, LEVELS) from None
    except UnicodeDecodeError as error:
        raise PayloadInvalid.of("body", f"bytes that are not UTF-8 at {error.start}", "UTF-8") from None
    except ValueError:
        raise PayloadInvalid.of("body", f"malformed JSON ({reason})", "JSON (RFC 8259)") from None
    _refuse_deep(body, found)
    if SURROGATE_ESCAPE.search(body):
        _refuse_surrogates(found)
    return found


def _require_room(body: bytes, budget: Budget, copies: int = 1) -> None:
    if len(body) <= SMALL:
        return
    try:
        budget.allow_objects(body, copies)
    except PayloadTooLarge:
        end = CLOSING.search(body)
        head = body[: end.start()] if end else body
        if head.count(b"[") + head.count(b"{") > MOST_DEPTH:  # what is deep is not only large
            raise PayloadInvalid.of("body", NESTED, LEVELS) from None
        raise


def load_document(value: bytes) -> dict[str, Any]:
    """Parse a document of the bus, an object.

    Raises
    ------
    PayloadInvalid
        It is no JSON, no object, or nested too deeply.
    """
    try:
        found = orjson.loads(value)  # knows no text but Unicode, and no whole number beyond 64 bits
    except orjson.JSONDecodeError as error:
        raise PayloadInvalid.of("body", f"malformed JSON ({error})", "an object") from None
    if not isinstance(found, dict):
        raise PayloadInvalid.of("body", _kind(found), "an object")
    _refuse_deep(value, found)
    return found


def dump_json(document: Any, option: int = 0) -> bytes:
    """Return a document as JSON, whatever text and numbers it holds.

    What JSON cannot hold is written as what comes next to it: half a surrogate pair as U+FFFD, a whole number beyond
    64 bits as a decimal, and what is nested too deeply as null.

    Parameters
    ----------
    option : int
        As of `orjson.dumps`.
    """
    try:
        return orjson.dumps(document, option=option)
    except orjson.JSONEncodeError:
        return orjson.dumps(_mended(document, 0), option=option)


def count_quotes(value: Any, depth: int) -> int:
    """How many quotes the JSON text of `value` has if no key repeats and no text holds a quote; -1 if deep."""
    kind = type(value)
    if kind is str:
        return 2
    if depth > 8:
        return -1_000_000
    if kind is dict:
        total = 2 * len(value)
        for inner in value.values():
            if type(inner) is not float and type(inner) is not int:
                total += count_quotes(inner, depth + 1)
        return total
    if kind is list:
        total = 0
        for inner in value:
            if type(inner) is not float and type(inner) is not int:
                total += count_quotes(inner, depth + 1)
        return total
    return 0


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) == len(pairs):
        return result
    repeated = Repeated(result)
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            repeated.key = key
            break
        seen.add(key)
    return repeated


def _integer(text: str) -> int | float:
    """A whole number as orjson reads it; Python itself refuses to read thousands of digits."""
    if len(text) < 19:
        return int(text)
    number = float(text)
    return int(text) if -INT64 <= number < 2 * INT64 and -INT64 <= int(text) < 2 * INT64 else number


def _refuse_deep(body: bytes, parsed: Any) -> None:
    """Raise if something is nested too deeply; each level has a bracket, so few brackets say that nothing is."""
    if body.count(b"[") + body.count(b"{") <= MOST_DEPTH:
        return
    level, depth = [parsed], 0
    while level:
        depth += 1
        if depth > MOST_DEPTH:
            raise PayloadInvalid.of("body", NESTED, LEVELS)
        level = [inner for value in level for inner in _children(value) if isinstance(inner, list | dict)]


def _children(value: Any) -> Iterator[Any]:
    return iter(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())


def _refuse_surrogates(parsed: Any) -> None:
    """Raise for the first text that is no Unicode, by the field it stands in."""
    stack: list[tuple[str, Any]] = [("", parsed)]
    while stack:
        where, value = stack.pop()
        if isinstance(value, str):
            if SURROGATE.search(value):
                raise _no_unicode(where or "body", f"text with half a surrogate pair, {_shown(value)}")
        elif isinstance(value, dict):
            names = [*value, value.key] if isinstance(value, Repeated) else list(value)
            for name in names:
                if SURROGATE.search(name):
                    raise _no_unicode(where or "body", f"a field's name with half a surrogate pair, {_shown(name)}")
            stack += reversed([(f"{where}.{name}" if where else name, inner) for name, inner in value.items()])
        elif isinstance(value, list):
            stack += reversed([(f"{where}[{i}]", inner) for i, inner in enumerate(value)])


def _no_unicode(where: str, got: str) -> PayloadInvalid:
    return PayloadInvalid.of(where if len(where) <= SHOWN else where[: SHOWN - 1] + "…", got, "Unicode text")


def _shown(text: str) -> str:
    return ascii(text[:SHOWN])


def _kind(value: Any) -> str:
    return f"a list of {len(value)}" if isinstance(value, list) else repr(value)[:SHOWN]


def _mended(value: Any, depth: int) -> Any:
    """The same as JSON can hold it; what it cannot hold at all stays, for orjson to refuse."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, int) and not isinstance(value, bool):
        return value if -INT64 <= value < 2 * INT64 else _as_float(value)
    if isinstance(value, dict):
        if depth == MOST_DEPTH:
            return None
        return {_mended(key, depth): _mended(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return None if depth == MOST_DEPTH else [_mended(inner, depth + 1) for inner in value]
    return value


def _as_float(value: int) -> float | None:
    try:
        return float(value)
    except OverflowError:
        return None
