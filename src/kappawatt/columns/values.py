"""The values of one field, whatever they were written in, to a column."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.batch import Rejection
from kappawatt.columns.schema import MAX_TIMESTAMP, Field, Kind, Schema, shorten

__all__ = ["column_of"]


def refuse_unknown(names: Iterable[str], schema: Schema) -> None:
    for name in names:
        if name not in schema.names:
            raise schema.unknown(0, name, "this column").error


def column_of(values: list[Any], field: Field, rejections: list[Rejection]) -> NDArray[Any]:
    """One JSON column as an array; None is missing, values of a wrong type are refused."""
    if field.kind is Kind.TIMESTAMP:
        return timestamps_of(values, field, rejections)
    if field.kind is Kind.TEXT:
        return texts_of(values, field, rejections)
    kinds = set(map(type, values))
    if not kinds <= {float, int}:
        clean: list[Any] = []
        for row, value in enumerate(values):
            if type(value) in (float, int):
                clean.append(value)
                continue
            clean.append(math.nan)
            if value is not None:
                rejections.append(Rejection(row, "not_a_number", field.name, shorten(value), field.allowed))
        values = clean
    elif float in kinds:
        for row, value in enumerate(values):
            if value != value:  # a literal NaN: Python's parser reads it, JSON does not have it
                rejections.append(Rejection(row, "not_finite", field.name, "NaN", field.allowed))
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:  # an integer beyond any float
        return np.array([_as_float(value) for value in values])


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def texts_of(values: list[Any], field: Field, rejections: list[Rejection]) -> NDArray[Any]:
    shortest, longest = field.lengths
    column = np.full(len(values), None, dtype=object)
    for row, value in enumerate(values):
        if isinstance(value, str) and shortest <= len(value) <= longest:
            column[row] = value
        elif value is not None:
            rejections.append(Rejection(row, "not_text", field.name, shorten(value), field.allowed))
    return column


def timestamps_of(values: list[Any], field: Field, rejections: list[Rejection]) -> NDArray[Any]:
    if set(map(type, values)) == {type(None)}:
        return np.full(len(values), np.datetime64("NaT"), dtype="datetime64[ms]")
    column = np.full(len(values), np.datetime64("NaT"), dtype="datetime64[ms]")
    for row, value in enumerate(values):
        if value is None:
            continue
        moment = parse_timestamp(value)
        if moment is None:
            rejections.append(Rejection(row, "not_a_timestamp", field.name, shorten(value), field.allowed))
        else:
            column[row] = np.datetime64(moment, "ms")
    return column


def parse_timestamp(value: Any) -> int | None:
    """Return ms since the epoch of an ISO 8601 time with zone or of a number of ms; None if it is neither."""
    if isinstance(value, str):
        if value.isascii() and value.isdigit():
            value = int(value[:16])
        else:
            try:
                moment = datetime.fromisoformat(value)
                if moment.tzinfo is None:
                    return None
                return int(moment.timestamp() * 1000)
            except (ValueError, OverflowError):
                return None
    if type(value) not in (int, float) or not 0 <= value <= MAX_TIMESTAMP or value != int(value):
        return None
    return int(value)
