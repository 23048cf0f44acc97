"""What somebody who knows says was real: spans of one series to rows that say so.

A row of a confirmation has no value. It is on the bus among the readings of its series, so that whoever reads the log
knows from the same place on that what was suspect was real.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kappawatt.columns.budget import STANDARD, Budget
from kappawatt.columns.schema import shorten
from kappawatt.columns.strict_json import load_json
from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.grid import CONFIRMED, listed
from kappawatt.forecasting.request import MOST_SPANS, SPANS, moment_of, span_of
from kappawatt.ingest.bodies import Rows
from kappawatt.streams.rules import screened
from kappawatt.streams.series import INTERVAL_SECONDS, INTERVAL_START
from kappawatt.streams.stream import Stream

__all__ = ["can_be_confirmed", "confirmation_schema", "read_confirmation"]

FORMS = "start and end; or spans, a list of them, such as suspect_spans; or intervals, a list of their starts"
Span = tuple[np.datetime64, np.datetime64]


def can_be_confirmed(stream: Stream) -> bool:
    """Whether rows of a stream can say that values were real."""
    return CONFIRMED in stream.schema.names


def confirmation_schema(stream: Stream) -> dict[str, Any]:
    """Return the JSON Schema of a confirmation: one span, several, or intervals by their starts."""
    moment = INTERVAL_START.json_schema()
    length = {"type": "integer", "enum": list(stream.steps), "description": "length of the intervals [s]"}
    return {
        "type": "object",
        "properties": {
            "start": moment,
            "end": moment,
            "spans": SPANS | {"minItems": 1},
            "intervals": {"type": "array", "items": moment, "minItems": 1, "maxItems": MOST_SPANS},
            INTERVAL_SECONDS: length,
        },
        "additionalProperties": False,
    }


def read_confirmation(stream: Stream, body: bytes, key: str, budget: Budget = STANDARD) -> Rows:
    """Read the body of a confirmation; each of its spans, or intervals, is a row.

    Raises
    ------
    PayloadInvalid
        It says no span; the message names the field.
    """
    spans = _spans(stream, load_json(body, budget))
    starts, until = (np.array(edges, "datetime64[ms]") for edges in zip(*spans, strict=True))
    batch = stream.schema.check({INTERVAL_START.name: starts, CONFIRMED: until}, len(spans))
    batch = screened(stream, batch, key, budget.listed)
    return Rows(batch, batch.rejections, batch.unlisted)


def _spans(stream: Stream, document: Any) -> list[Span]:
    if not isinstance(document, dict):
        raise PayloadInvalid.of("body", repr(shorten(document)), f"an object with {FORMS}")
    names = set(document)
    if names & {"start", "end"} and names <= {"start", "end", "count", "why"}:
        return [span_of(document, "body")]
    if names == {"spans"}:
        return [span_of(span, f"spans[{i}]") for i, span in enumerate(_several(document["spans"], "spans"))]
    if "intervals" in names and names <= {"intervals", INTERVAL_SECONDS}:
        length = np.timedelta64(_length(stream, document.get(INTERVAL_SECONDS)), "s")
        starts = [moment_of(at, f"intervals[{i}]") for i, at in enumerate(_several(document["intervals"], "intervals"))]
        return [(start, start + length) for start in starts]
    raise PayloadInvalid.of("body", f"an object with {', '.join(sorted(names))[:200] or 'nothing'}", FORMS)


def _several(given: Any, name: str) -> list[Any]:
    if isinstance(given, list) and 0 < len(given) <= MOST_SPANS:
        return given
    got = f"{len(given)} of them" if isinstance(given, list) else repr(shorten(given))
    raise PayloadInvalid.of(name, got, f"a list of 1 to {MOST_SPANS}")


def _length(stream: Stream, given: Any) -> int:
    """Length of the intervals [s]: a start alone does not say how far its interval reaches."""
    if given is None and len(stream.steps) == 1:
        return stream.steps[0]
    if type(given) is not int or given not in stream.steps:
        got = "nothing" if given is None else repr(shorten(given))
        raise PayloadInvalid.of(INTERVAL_SECONDS, got, f"{listed(stream.steps)}, the length of the series' intervals")
    return given
