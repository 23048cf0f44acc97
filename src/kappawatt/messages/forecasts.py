"""How forecasts and their realised errors look on the bus, written by the worker and read by everybody else.

A forecast of one series and day is one JSON document. Its id is `SERVICE:LOG/SERIES/ISSUE_TIME/AVAILABLE_AT@VERSION`:
the same log gives the same ids, so a crash or a replay overwrites and never doubles, and what another log of the same
name leads to stands beside it. A correction for late data has the
issue time of what it corrects and a later `available_at`. The realised error of one interval has the forecast's id and
the interval's start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from kappawatt.bus.interface import Headers, Outgoing, Records
from kappawatt.columns.content import JSON
from kappawatt.columns.values import parse_microseconds
from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.calendar import Times
from kappawatt.forecasting.fan import level_text
from kappawatt.forecasting.forecaster import LEAD_TIME, Issued
from kappawatt.forecasting.model import ForecastModel
from kappawatt.messages.checked import (
    FLAG,
    MOMENT,
    NAME,
    NUMBER,
    OFFSET,
    PARTITION,
    WORDS,
    Malformed,
    Part,
    checked,
    maybe,
    numbers,
    parsed,
)
from kappawatt.models.scores import crps

__all__ = [
    "dated",
    "error_document",
    "error_message",
    "forecast_document",
    "forecast_id",
    "forecast_message",
    "instant",
    "instants",
    "plain",
    "read_documents",
    "with_available_at",
]

HEADERS: Headers = (("content-type", JSON.encode()),)


def instants(times: Times) -> list[str]:
    """Return UTC instants as ISO 8601 text: `2016-07-01T16:00:00Z`."""
    return [f"{text}Z" for text in np.datetime_as_string(np.asarray(times), unit="s").tolist()]


def instant(time: np.datetime64) -> str:
    """Return one UTC instant as ISO 8601 text, with its milliseconds if there are any."""
    text = np.datetime_as_string(time, unit="ms")
    return str(text).removesuffix(".000") + "Z"


def forecast_id(
    model: ForecastModel, key: str, issue_time: np.datetime64, available_at: np.datetime64, log: str = ""
) -> str:
    """Return the id of one forecast; `log` is that of the readings it comes from, "" if they came in a request."""
    name = f"{model.name}:{log}" if log else model.name
    return f"{name}/{key}/{instant(issue_time)}/{instant(available_at)}@{model.version}"


def dated(available_at: str | None) -> dict[str, str | None]:
    """Return when something was available; `known_at` is its name of the release before, which some read still."""
    return {"available_at": available_at, "known_at": available_at}


def forecast_document(
    model: ForecastModel, issued: Issued, available_at: np.datetime64, log: str = ""
) -> dict[str, Any]:
    """Return a forecast as it stands on the bus and in the answer of `POST /forecast`."""
    past, levels = issued.past, [level_text(level) for level in issued.fan.levels]
    target = model.predictor.response.field(model.predictor.target)
    return {
        "id": forecast_id(model, past.key, past.issue_time, available_at, log),
        "key": past.key,
        "issue_time": instant(past.issue_time),
        **dated(instant(available_at)),
        "corrected": bool(available_at > past.issue_time),
        "time_zone": past.time_zone,
        "step_seconds": past.step,
        "target": target.name,
        "unit": target.unit,
        "target_time": instants(issued.targets),
        LEAD_TIME: plain(issued.lead_time),
        "quantiles": {level: plain(issued.fan.quantiles[:, i]) for i, level in enumerate(levels)},
        "day": {name: dict(zip(levels, plain(figure), strict=True)) for name, figure in issued.fan.day.items()},
        "trusted_until": instant(issued.trusted_until),
        "filled": issued.filled,
        "suspect": issued.suspect,
        "suspect_spans": [
            {"start": instant(suspect.start), "end": instant(suspect.end), "count": suspect.count, "why": suspect.why}
            for suspect in past.suspects[-MOST_SPANS:]
        ],
        "warnings": [
            {"code": one.code, "detail": one.detail[:LONGEST_DETAIL]} for one in issued.warnings[:MOST_WARNINGS]
        ],
        "fallback": issued.fallback is not None,
        "fallback_reason": issued.fallback,
        "model": model.name,
        "version": model.version,
    }


def forecast_message(topic: str, document: Mapping[str, Any], origin: Mapping[str, Any], carried: Headers) -> Outgoing:
    """Return a forecast as a message; `origin` names the reading that made it due."""
    return Outgoing(topic, orjson.dumps({**document, **origin}), document["key"].encode(), HEADERS + carried)


def error_document(
    model: ForecastModel,
    issued: Issued,
    available_at: np.datetime64,
    at: int,
    measured: float,
    naive: float,
    log: str = "",
) -> dict[str, Any]:
    """Return what became of one interval of a forecast.

    Parameters
    ----------
    at : int
        Position of the interval in the forecast.
    measured, naive : float
        What was measured, and what the seasonal naive had said (NaN where it could not).
    log : str
        Of the readings.
    """
    fan = issued.fan
    median, lower, upper = (float(column[at]) for column in (fan.median, fan.lower, fan.upper))
    start = issued.targets[at]
    past = issued.past
    return {
        "id": f"{forecast_id(model, past.key, past.issue_time, available_at, log)}/{instant(start)}",
        "key": past.key,
        "issue_time": instant(past.issue_time),
        **dated(instant(available_at)),
        "target_time": instant(start),
        LEAD_TIME: plain(issued.lead_time[at : at + 1])[0],
        "measured": measured,
        "forecast": median,
        "error": median - measured,
        "naive": None if np.isnan(naive) else naive,
        "naive_error": None if np.isnan(naive) else naive - measured,
        "lower": lower,
        "upper": upper,
        "covered": bool(lower <= measured <= upper),
        "crps": crps(np.array([measured]), fan.quantiles[at : at + 1], fan.levels),
        "fallback": issued.fallback is not None,
        "model": model.name,
        "version": model.version,
    }


def error_message(topic: str, document: Mapping[str, Any], origin: Mapping[str, Any]) -> Outgoing:
    """Return a realised error as a message; `origin` names the reading that brought the truth."""
    return Outgoing(topic, orjson.dumps({**document, **origin}), document["key"].encode(), HEADERS)


def with_available_at(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a forecast or error under today's names: logs still hold some that say `known_at`, as a release before."""
    if "known_at" not in document:
        return document
    return {"available_at": document["known_at"], **{n: v for n, v in document.items() if n != "known_at"}}


MOST_INTERVALS = 1_000  # of one forecast; a day of 25 hours has 100 quarter hours
MOST_LEVELS = 200
MOST_FIGURES = 50  # of a day
MOST_DIGITS = 20  # of a level
MOST_SPANS = 20  # of suspect values, the newest
MOST_WARNINGS = 10
LONGEST_DETAIL = 500  # characters
YEAR = 366 * 86_400
MOMENTS = {"available_at": MOMENT, "known_at": MOMENT}
MADE_BY = {
    "model": NAME,
    "version": NAME,
    "fallback": FLAG,
    "source_topic": NAME,
    "source_log": WORDS,
    "source_partition": PARTITION,
    "source_offset": OFFSET,
}
FORECAST = {
    "id": NAME,
    "key": NAME,
    "issue_time": MOMENT,
    "time_zone": NAME,
    "step_seconds": Part("a whole number up to a year", lambda value: PARTITION.is_right(value) and 0 < value <= YEAR),
    "target_time": Part(f"1 to {MOST_INTERVALS} rising times", lambda value: _are_times(value)),
    "quantiles": Part(f"1 to {MOST_LEVELS} lists of a number for each target_time", lambda value: _are_levels(value)),
}
FORECAST_MORE = {
    **MOMENTS,
    **MADE_BY,
    "corrected": FLAG,
    "target": NAME,
    "unit": maybe(NAME),
    "day": Part("quantiles by figure", lambda value: _are_figures(value)),
    LEAD_TIME: Part("a list of numbers", lambda value: isinstance(value, list) and all(map(NUMBER.is_right, value))),
    "filled": OFFSET,
    "trusted_until": MOMENT,
    "suspect": OFFSET,
    "suspect_spans": Part(f"up to {MOST_SPANS} spans", lambda value: _are_spans(value)),
    "warnings": Part(f"up to {MOST_WARNINGS} codes with a detail", lambda value: _are_warnings(value)),
    "fallback_reason": maybe(WORDS),
}
REALISED = {
    "id": NAME,
    "key": NAME,
    "issue_time": MOMENT,
    "target_time": MOMENT,
    **dict.fromkeys(("measured", "forecast", "error", "lower", "upper", "crps"), NUMBER),
}
REALISED_MORE = {
    **MOMENTS,
    **MADE_BY,
    **dict.fromkeys(("naive", "naive_error"), maybe(NUMBER)),
    LEAD_TIME: NUMBER,
    "covered": FLAG,
}


def read_documents(polled: Iterable[Records]) -> list[dict[str, Any]]:
    """Return forecasts or realised errors as documents.

    Besides what was published each has `published` [ms since the epoch, UTC], `topic`, `partition` and `offset` of
    its message. Messages that are neither are left out.
    """
    found = []
    for records in polled:
        for i, value in enumerate(records.values):
            try:
                document = _checked(parsed(value))
            except (PayloadInvalid, Malformed):
                continue
            place = {"topic": records.topic, "partition": records.partition, "offset": records.offsets[i]}
            found.append({**with_available_at(document), "published": records.timestamps[i], **place})
    return found


def _checked(document: Mapping[str, Any]) -> dict[str, Any]:
    """A forecast, or else a realised error; Malformed if it is neither."""
    if "quantiles" not in document:
        return checked(document, REALISED, REALISED_MORE)
    found = checked(document, FORECAST, FORECAST_MORE)
    each = numbers(len(found["target_time"]))
    for level, values in found["quantiles"].items():
        if not each.is_right(values):
            raise Malformed(f"quantiles {level}: got something else, allowed {each.allowed}")
    return found


def _are_times(value: Any) -> bool:
    if not isinstance(value, list) or not 0 < len(value) <= MOST_INTERVALS or not all(map(MOMENT.is_right, value)):
        return False
    moments = [parse_microseconds(text) or 0 for text in value]
    return all(first < second for first, second in pairwise(moments))


def _are_levels(value: Any) -> bool:
    return isinstance(value, dict) and 0 < len(value) <= MOST_LEVELS and all(map(_is_level, value))


def _is_level(text: str) -> bool:
    try:
        return len(text) <= MOST_DIGITS and 0 < float(text) < 1
    except ValueError:
        return False


def _are_spans(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MOST_SPANS
        and all(
            isinstance(span, dict)
            and MOMENT.is_right(span.get("start")) and MOMENT.is_right(span.get("end"))
            and OFFSET.is_right(span.get("count")) and NAME.is_right(span.get("why"))
            for span in value
        )
    )  # fmt: skip


def _are_warnings(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MOST_WARNINGS
        and all(
            isinstance(one, dict) and NAME.is_right(one.get("code")) and WORDS.is_right(one.get("detail"))
            for one in value
        )
    )


def _are_figures(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict)
        and len(value) <= MOST_FIGURES
        and all(
            NAME.is_right(name) and isinstance(figure, dict) and len(figure) <= MOST_LEVELS
            and all(map(_is_level, figure)) and all(map(NUMBER.is_right, figure.values()))
            for name, figure in value.items()
        )
    )  # fmt: skip


def plain(column: NDArray[np.float64]) -> list[float]:
    """Return numbers with the digits that matter: a forecast is no better than one part in a million."""
    return [float(f"{value:.7g}") for value in column.tolist()]
