"""Predictions, as `kappawatt.messages.predictions` writes them, to columns of their stream's table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.bus.interface import Records
from kappawatt.columns.arrow import read_columns
from kappawatt.columns.batch import Columns
from kappawatt.columns.schema import Field, Kind
from kappawatt.streams.stream import Stream

from . import checks
from .tables import EVENT_TIME

__all__ = ["block", "event"]

KINDS = {  # of a block's columns
    Kind.NUMBER: ("f", "numbers"),
    Kind.INTEGER: ("iuf", "whole numbers"),
    Kind.BOOLEAN: ("bu", "booleans"),
    Kind.TEXT: ("O", "text"),
    Kind.TIMESTAMP: ("M", "times"),
}
EVENT = Field(EVENT_TIME, "", "when the reading was taken", kind=Kind.TIMESTAMP)
OFFSET, ROW = (Field(name, "", "of the reading", kind=Kind.INTEGER) for name in ("source_offset", "source_row"))


def block(stream: Stream, records: Records, i: int) -> tuple[dict[str, NDArray[Any]], int]:
    """Return the rows of an Arrow block as columns, and how many they are."""
    same = {name: content.decode("utf-8", "replace") for name, content in records.headers[i]}
    found = read_columns(records.values[i])
    columns = {f.name: _answered(stream, f, found) for f in stream.answer.fields if f.required or f.name in found}
    moments = _column(stream, found, EVENT)
    n = len(moments)
    if n and not moments.astype(np.int64).min() >= 0:  # NaT is the smallest integer
        raise checks.Malformed("event_time: got none or one before 1970, allowed ms since the epoch")
    try:
        topic, model, version = (same[name] for name in ("source-topic", "model", "model-version"))
        partition = checks.whole(int(same["source-partition"]), checks.INT32)
    except (KeyError, ValueError, checks.Malformed):
        raise checks.Malformed(
            "headers: got no origin, allowed source-topic, source-partition, model, model-version"
        ) from None
    columns |= {
        "key": checks.same(checks.key_of(records, i), n),
        EVENT_TIME: moments,
        "model": checks.same(checks.text(model), n),
        "version": checks.same(checks.text(version), n),
        "published": np.full(n, records.timestamps[i], dtype="datetime64[ms]"),
        "topic": checks.same(records.topic, n),
        "source_topic": checks.same(checks.text(topic), n),
        "source_log": checks.same(checks.text(same.get("source-log", "")), n),  # a release before wrote none
        "source_partition": np.full(n, partition),
        "source_offset": _column(stream, found, OFFSET, "i"),
        "source_row": _column(stream, found, ROW, "i"),
    }
    return columns, n


def _answered(stream: Stream, field: Field, found: Columns) -> NDArray[Any]:
    """Return a column of the answer; nothing in it is absent but where its field may be."""
    column = _column(stream, found, field)
    if column.dtype.kind == "f":
        if not (np.isfinite(column) if field.required else ~np.isinf(column)).all():
            raise checks.Malformed("got an answer that is not finite, allowed numbers")
    elif column.dtype == object:
        if field.required and any(value is None for value in column):
            raise checks.Malformed(f"{field.name}: got none, allowed text")
        if field.kind is Kind.TEXT:
            return checks.texts(column, checks.LONGEST_ANSWER)
    return column


def _column(stream: Stream, found: Columns, field: Field, kinds: str = "") -> NDArray[Any]:
    column = found.get(field.name)
    if column is None:
        allowed = ", ".join((EVENT_TIME, *stream.answer.names, OFFSET.name, ROW.name))
        raise checks.Malformed(f"{field.name}: got no such column, allowed {allowed}")
    own, noun = KINDS[field.kind]
    if column.dtype == object and not field.required and all(value is None for value in column):
        own = "O"  # a column of nothing says nothing about its kind
    if column.dtype.kind not in (kinds or own):
        raise checks.Malformed(f"{field.name}: got a column of {column.dtype}, allowed {noun} without nulls")
    return column


def event(stream: Stream, records: Records, i: int) -> dict[str, Any]:
    """Return the row of a prediction that is one JSON document."""
    document = checks.parsed(records.values[i])
    return {
        "id": checks.required(document, "id"),
        "key": checks.key_of(records, i),
        EVENT_TIME: checks.moment(document, EVENT_TIME),
        **{field.name: _value(field, document) for field in stream.answer.fields},
        **checks.made_by(document, records, i),
        "source_row": checks.whole(document.get("source_row"), checks.INT32),
    }


READERS = {
    Kind.NUMBER: checks.finite,
    Kind.INTEGER: checks.integer,
    Kind.BOOLEAN: checks.flag,
    Kind.TEXT: checks.answer_text,
    Kind.TIMESTAMP: checks.moment,
}


def _value(field: Field, document: Mapping[str, Any]) -> Any:
    if not field.required and document.get(field.name) is None:
        return None
    return READERS[field.kind](document, field.name)
