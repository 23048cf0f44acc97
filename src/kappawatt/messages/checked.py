"""Documents of the bus, checked field by field: whoever reads one gets what is well-formed, and nothing else.

Anything may lie on a topic. What these readers return has the fields its kind needs, each of its type and of bounded
size, and nothing else that is nested, so that views, histories and databases need not doubt it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kappawatt.columns.schema import MIN_TIMESTAMP
from kappawatt.columns.strict_json import load_document
from kappawatt.columns.values import parse_microseconds

__all__ = [
    "FLAG",
    "INT64",
    "LONGEST_NAME",
    "LONGEST_WORDS",
    "MOMENT",
    "NAME",
    "NUMBER",
    "OFFSET",
    "PARTITION",
    "SCALAR",
    "WHOLE",
    "WORDS",
    "Malformed",
    "Part",
    "checked",
    "maybe",
    "numbers",
    "parsed",
]

LONGEST_NAME = 400  # characters of a text that is an id, a name, a reason
LONGEST_WORDS = 8_000  # of a text that is an explanation, or an answer in words
MOST_FIELDS = 200
INT32, INT64 = 2**31, 2**63
LAST_MICROSECOND = INT64 // 1000 - 1  # a forecast ends after the last time of a reading, and still counts in ns


class Malformed(ValueError):
    """A document is not of the kind it should be; names field, value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a field may hold."""

    allowed: str
    is_right: Callable[[Any], bool]


def _is_text(most: int, least: int = 0) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and least <= len(value) <= most


def _is_whole(least: int, below: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value < below


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_moment(value: Any) -> bool:
    found = parse_microseconds(value) if isinstance(value, str) else None
    return found is not None and MIN_TIMESTAMP * 1000 <= found <= LAST_MICROSECOND


def _is_scalar(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST_WORDS
    return value is None or type(value) is bool or _is_number(value)


NAME = Part(f"text of 1 to {LONGEST_NAME} characters", _is_text(LONGEST_NAME, 1))
WORDS = Part(f"text of at most {LONGEST_WORDS} characters", _is_text(LONGEST_WORDS))
PARTITION = Part("a whole number from 0", _is_whole(0, INT32))
OFFSET = Part("a whole number from 0", _is_whole(0, INT64))
WHOLE = Part("a whole number of 64 bits", _is_whole(-INT64, INT64))
NUMBER = Part("a number", _is_number)
FLAG = Part("true or false", lambda value: type(value) is bool)
MOMENT = Part("an ISO 8601 time with zone, in the years 1970 to 2262", _is_moment)
SCALAR = Part(f"text of at most {LONGEST_WORDS} characters, a number, true, false or null", _is_scalar)


def maybe(part: Part) -> Part:
    """Return the same, or null."""
    return Part(f"{part.allowed}, or null", lambda value: value is None or part.is_right(value))


def numbers(n: int) -> Part:
    """Return a list of so many numbers."""
    return Part(
        f"a list of {n} numbers",
        lambda value: isinstance(value, list) and len(value) == n and all(map(_is_number, value)),
    )


def parsed(value: bytes) -> dict[str, Any]:
    """Return a message as an object; PayloadInvalid if it is none."""
    return load_document(value)


def checked(
    document: Mapping[str, Any],
    needed: Mapping[str, Part],
    optional: Mapping[str, Part],
    *,
    nested: bool = True,
) -> dict[str, Any]:
    """Return a document's known fields, each of which is right, and others that are scalar.

    Parameters
    ----------
    needed, optional : mapping of str to Part
        What known fields hold; those that are needed have to be there.
    nested : bool
        Whether an unknown field may be a list or object (it is left out) or makes the document another one.

    Raises
    ------
    Malformed
        A field that is needed is not there, or a field is not right.
    """
    if len(document) > MOST_FIELDS:
        raise Malformed(f"document: got {len(document)} fields, allowed {MOST_FIELDS}")
    for name, wanted in needed.items():
        if name not in document:
            raise Malformed(f"{name}: got nothing, allowed {wanted.allowed}")
    known = {**optional, **needed}
    found = {}
    for name, value in document.items():
        part = known.get(name)
        if part is None:
            if len(name) <= LONGEST_NAME and _is_scalar(value):
                found[name] = value
            elif not nested:
                raise Malformed(f"{_short(name)}: got {_short(value)}, allowed {SCALAR.allowed}")
        elif part.is_right(value):
            found[name] = value
        else:
            raise Malformed(f"{name}: got {_short(value)}, allowed {part.allowed}")
    return found


def _short(value: Any) -> str:
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    return repr(value[:80] if isinstance(value, str) else value)[:80]
