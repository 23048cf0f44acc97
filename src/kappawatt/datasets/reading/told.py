"""How a table was read, as a document: what `kappawatt inspect --json` and the ingestor's answers say."""

from __future__ import annotations

from typing import Any

import numpy as np

from kappawatt.datasets.reading.assemble import Found
from kappawatt.datasets.reading.meaning import LeftOut
from kappawatt.datasets.reading.table import Fact
from kappawatt.datasets.series import SeriesFile
from kappawatt.forecasting.calendar import Times

__all__ = ["READ_AS", "fact_document", "left_out_document", "moment_text", "read_as"]

MOST = 20  # of a kind: an answer is no file, and is kept a day for repeats
TEXT = {"type": "string"}
READ_AS: dict[str, Any] = {
    "title": "ReadAs",
    "type": "object",
    "description": "how a table of another layout was read, as `kappawatt inspect` says it; absent for rows in the"
    " stream's own fields",
    "properties": {
        "layout": {**TEXT, "description": "a publisher's, by name, or that it was told by names and cells"},
        "facts": {
            "type": "array",
            "description": "separator, columns, labels, time zone, unit, interval, each with what told it",
            "items": {
                "type": "object",
                "properties": {"name": TEXT, "value": TEXT, "because": TEXT},
                "required": ["name", "value", "because"],
            },
        },
        "left_out": {
            "type": "array",
            "description": "columns that were not read",
            "items": {"type": "object", "properties": {"column": TEXT, "why": TEXT}, "required": ["column", "why"]},
        },
        "series": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "key": TEXT,
                    "unit": {**TEXT, "description": "what values were turned into"},
                    "time_zone": TEXT,
                    "interval_seconds": {"type": "integer"},
                    "first": {**TEXT, "format": "date-time", "description": "start of the first interval"},
                    "last": {**TEXT, "format": "date-time", "description": "start of the last interval"},
                    "values": {"type": "integer", "description": "intervals with a value"},
                },
                "required": ["key", "unit", "time_zone", "interval_seconds", "first", "last", "values"],
            },
        },
        "more": {
            "type": "object",
            "description": f"how many more there are of each kind, where they are more than {MOST}",
            "additionalProperties": {"type": "integer"},
        },
    },
    "required": ["layout", "facts", "left_out", "series"],
}
"""JSON Schema of `read_as`."""


def read_as(found: Found) -> dict[str, Any]:
    """Return how a table was read; times are UTC, of each kind the first ones."""
    parts: dict[str, list[Any]] = {
        "facts": [fact_document(fact) for fact in found.facts[:MOST]],
        "left_out": [left_out_document(one) for one in found.left_out[:MOST]],
        "series": [_series(one) for one in found.series[:MOST]],
    }
    counts = {"facts": len(found.facts), "left_out": len(found.left_out), "series": len(found.series)}
    more = {name: count - MOST for name, count in counts.items() if count > MOST}
    return {"layout": found.layout, **parts} | ({"more": more} if more else {})


def fact_document(fact: Fact) -> dict[str, str]:
    """Return one thing about how a file was read."""
    return {"name": fact.name, "value": fact.value, "because": fact.because}


def left_out_document(one: LeftOut) -> dict[str, str]:
    """Return a column that was not read, and why."""
    return {"column": one.name, "why": one.why}


def moment_text(moments: Times) -> str | None:
    """Return the first of some instants as text; None if there is none."""
    return f"{np.datetime_as_string(moments.astype('datetime64[s]'))[0]}Z" if len(moments) else None


def _series(series: SeriesFile) -> dict[str, Any]:
    return {
        "key": series.key,
        "unit": series.stream.schema.field(series.stream.target).unit,
        "time_zone": series.time_zone,
        "interval_seconds": series.step,
        "first": moment_text(series.starts[:1]),
        "last": moment_text(series.starts[-1:]),
        "values": int(np.isfinite(series.values).sum()),
    }
