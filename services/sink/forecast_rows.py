"""Forecasts and their realised errors, as `kappawatt.messages.forecasts` writes them, to columns of the tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.bus.interface import Records
from kappawatt.columns.values import parse_timestamp
from kappawatt.forecasting.fan import level_name, level_text
from kappawatt.messages.forecasts import with_available_at
from kappawatt.streams.table import STREAMS

from . import checks

__all__ = ["figures", "intervals", "issued", "parsed", "realised"]

ERROR_NUMBERS = {
    "measured": "measured",
    "forecast": "forecast",
    "error": "error",
    "lower": "forecast_lower",
    "upper": "forecast_upper",
    "crps": "crps",
}
LEVELS_KNOWN = [stream.levels for stream in STREAMS if stream.errors]  # by streams that are forecast
NOT_KNOWN = np.datetime64("NaT", "us")
MOST_INTERVALS = 1_000  # of one forecast; a day of 25 hours has 100 quarter hours


def parsed(records: Records, i: int) -> Mapping[str, Any]:
    """Return a forecast's document."""
    return with_available_at(checks.parsed(records.values[i]))


def issued(document: Mapping[str, Any], records: Records, i: int, zones: Collection[str] = ()) -> dict[str, Any]:
    """What all intervals of a forecast have in common; `zones` are those the database knows."""
    return {
        "forecast_id": checks.required(document, "id"),
        "key": checks.required(document, "key"),
        "issue_time": checks.moment(document, "issue_time"),
        "available_at": checks.moment(document, "available_at"),
        "corrected": checks.flag(document, "corrected"),
        "time_zone": checks.zone(document, "time_zone", zones),
        "step_seconds": checks.count(document, "step_seconds"),
        "target": checks.required(document, "target"),
        "unit": checks.text(document.get("unit")),
        # Releases before said neither, and took nothing for missing.
        "trusted_until": checks.moment(document, "trusted_until") if "trusted_until" in document else NOT_KNOWN,
        "filled": checks.count(document, "filled"),
        "suspect": checks.count(document, "suspect") if "suspect" in document else 0,
        "fallback": checks.flag(document, "fallback"),
        "fallback_reason": checks.text(document.get("fallback_reason")),
        **checks.made_by(document, records, i),
    }


def intervals(document: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the intervals of a forecast as columns; `own` is the last part of each row's id."""
    texts, quantiles = document.get("target_time"), document.get("quantiles")
    if not isinstance(texts, list) or not 0 < len(texts) <= MOST_INTERVALS:
        allowed = f"a list of 1 to {MOST_INTERVALS} times"
        raise checks.Malformed(f"target_time: got {checks.short(texts)}, allowed {allowed}")
    moments = [parse_timestamp(text) for text in texts]
    if None in moments:
        got = checks.short(texts[moments.index(None)])
        raise checks.Malformed(f"target_time: got {got}, allowed an ISO 8601 time with zone")
    columns: dict[str, NDArray[Any]] = {"own": np.array(texts, dtype=object)}
    columns["target_time"] = np.array(moments, dtype="datetime64[ms]")
    given = quantiles if isinstance(quantiles, dict) else {}
    for level, name in _level_columns(given).items():
        columns[name] = checks.numbers(given.get(level), len(texts), f"quantiles {level}")
    return columns


def _level_columns(given: Mapping[str, Any]) -> dict[str, str]:
    """Return names of columns by level: of the stream whose levels are given, else of the first there is."""
    known = [{level_text(level): level_name(level) for level in levels} for levels in LEVELS_KNOWN]
    return next((columns for columns in known if columns.keys() == given.keys()), known[0])


def figures(document: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the figures of the day as columns; `own` is the last part of each row's id."""
    day = document.get("day") or {}
    if not isinstance(day, dict) or not all(isinstance(figure, dict) for figure in day.values()):
        raise checks.Malformed(f"day: got {checks.short(day)}, allowed quantiles by figure")
    columns: dict[str, NDArray[Any]] = {"own": np.array(list(day), dtype=object)}
    columns["figure"] = columns["own"]
    for level, name in _level_columns(document.get("quantiles") or {}).items():
        columns[name] = checks.numbers([figure.get(level) for figure in day.values()], len(day), f"day {level}")
    return columns


def realised(records: Records, i: int) -> dict[str, Any]:
    """Return the row of a realised error."""
    document = parsed(records, i)
    naive = {
        name: np.nan if document.get(name) is None else checks.finite(document, name)
        for name in ("naive", "naive_error")
    }
    return {
        "id": checks.required(document, "id"),
        "key": checks.required(document, "key"),
        **{name: checks.moment(document, name) for name in ("issue_time", "available_at", "target_time")},
        **{column: checks.finite(document, name) for name, column in ERROR_NUMBERS.items()},
        **naive,
        "covered": checks.flag(document, "covered"),
        "fallback": checks.flag(document, "fallback"),
        **checks.made_by(document, records, i),
    }
