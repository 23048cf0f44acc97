"""`POST /forecast`: one series, its history in a compact form or by name, the fan of one window back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.refusals import Refusals
from kappawatt.columns.schema import MAX_TIMESTAMP, MIN_TIMESTAMP, Field, Kind, shorten
from kappawatt.columns.values import column_of, parse_timestamp
from kappawatt.errors import HistoryInsufficient, PayloadInvalid, SettingInvalid
from kappawatt.forecasting.calendar import DAY, HOUR, Instant, Times, day_start, zone_meant, zone_named
from kappawatt.forecasting.forecaster import UNNAMED, Forecaster, Lookup
from kappawatt.forecasting.grid import CONFIRMED, is_no_span, listed
from kappawatt.forecasting.history import History
from kappawatt.forecasting.holidays import HOLIDAYS, OF_THE_ZONE, holidays_named
from kappawatt.forecasting.window import intervals_from

__all__ = [
    "MOST_SPANS",
    "SPANS",
    "example_request",
    "moment_of",
    "read_forecast_request",
    "read_history",
    "read_time_zone",
    "read_window",
    "request_schema",
    "require_same_holidays",
    "span_of",
]

MOST_VALUES = 200_000
EXAMPLE_DAYS = 21
MOST_SPANS = 10_000
EDGES = ("start", "end")
SAID_OF_A_SPAN = ("count", "why")  # in `suspect_spans` too, and not needed
SPANS: dict[str, Any] = {
    "type": "array",
    "maxItems": MOST_SPANS,
    "items": {
        "type": "object",
        "properties": {
            **{name: {"type": "string", "format": "date-time"} for name in EDGES},
            "count": {"type": "integer"},
            "why": {"type": "string"},
        },
        "required": list(EDGES),
        "additionalProperties": False,
    },
    "description": "spans whose values were real, such as `suspect_spans` of an answer: they are not suspect",
}
START = Field("start", "", "start of the first interval", kind=Kind.TIMESTAMP)


def request_schema(forecaster: Forecaster) -> dict[str, Any]:
    """Return the JSON Schema of a request."""
    numbers = {"type": "array", "items": {"type": ["number", "null"]}, "minItems": 1, "maxItems": MOST_VALUES}
    moment = START.json_schema()
    track: dict[str, Any] = {
        "type": "object",
        "properties": {"start": moment, "values": numbers},
        "required": ["start", "values"],
        "additionalProperties": False,
    }
    step: dict[str, Any] = {"type": "integer", "enum": list(forecaster.steps)}
    if forecaster.supposed_step is not None:
        step["default"] = forecaster.supposed_step
    can_confirm, has_holidays = (name in forecaster.request.names for name in (CONFIRMED, HOLIDAYS))
    history = {
        **track,
        "properties": {**track["properties"], "step_seconds": step, **({"confirmed": SPANS} if can_confirm else {})},
        "description": f"{forecaster.target} of consecutive intervals, null where unknown; "
        "absent: the history known from the bus",
    }
    more = {family.pattern: track for family in forecaster.covariate_families}
    horizon: dict[str, Any] = {
        "horizon_hours": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": float(forecaster.window.longest_lead / HOUR),
            "description": "forecast so many hours from the issue time on, instead of a local day",
        }
    }
    day = {
        "target_date": {
            "type": "string",
            "format": "date",
            "description": "local day to forecast; the first that begins at the issue time or later, if absent"
            + ("; of a day that has begun, the rest of it" if forecaster.window.within_day else ""),
        }
    }
    return {
        "type": "object",
        "properties": {
            forecaster.key: forecaster.request.field(forecaster.key).json_schema(),
            "time_zone": forecaster.request.field("time_zone").json_schema(),
            **({HOLIDAYS: forecaster.request.field(HOLIDAYS).json_schema()} if has_holidays else {}),
            "issue_time": {**moment, "description": "forecast as of then; when the history ends, if absent"},
            **(day if forecaster.window.names_day else {}),
            **(horizon if forecaster.window.within_day else {}),
            "history": history,
            "covariates": {
                "type": "object",
                "properties": dict.fromkeys(forecaster.covariates, track),
                **({"patternProperties": more} if more else {}),
                "additionalProperties": False,
            },
        },
        "additionalProperties": False,
    }


def read_forecast_request(
    document: Any, forecaster: Forecaster, lookup: Lookup | None = None
) -> tuple[History, Times, np.datetime64]:
    """Return history, starts of the target intervals and issue time of a parsed request.

    Raises
    ------
    PayloadInvalid
        A field cannot be used; the message names it.
    HistoryInsufficient
        It brings no history and none is known of the series it names.
    """
    fields = request_schema(forecaster)["properties"]
    if not isinstance(document, dict):
        raise PayloadInvalid.of("body", repr(shorten(document)), f"an object with {', '.join(fields)}")
    for name in document:
        if name not in fields:
            raise PayloadInvalid.of(str(name)[:80], "an unknown field", ", ".join(fields))
    history = read_history(document, forecaster, lookup)
    if history.clock is None:
        raise HistoryInsufficient.of("history", "no value", f"{forecaster.target} of some weeks")
    if history.off_grid(np.array([history.first])).any():
        raise PayloadInvalid.of(
            "history.start", f"{history.first}Z", f"whole multiples of {history.step} s by the local clock"
        )
    return history, *read_window(document, history, forecaster)


def read_window(document: Mapping[str, Any], history: History, forecaster: Forecaster) -> tuple[Times, Instant]:
    """Return starts of the target intervals and issue time of a parsed request.

    Parameters
    ----------
    document : mapping
    history : History
        Whose clock is the issue time if the request says none.

    Raises
    ------
    PayloadInvalid
        A field cannot be used; the message names it.
    """
    given = _moment(document.get("issue_time"), "issue_time")
    issue_time = history.known_until() if given is None else given
    window = forecaster.window
    date = _target_date(document.get("target_date"))
    hours = document.get("horizon_hours")
    if hours is not None:
        if date is not None:
            raise PayloadInvalid.of("horizon_hours", f"{hours!r} and a target_date", "one of the two")
        return _next_hours(hours, issue_time, history, forecaster), issue_time
    if date is None:
        date = window.first(issue_time, history.time_zone)
    targets = window.targets(date, issue_time, history.time_zone, history.step)
    if not len(targets):
        over = f", of which something is left at the issue time {issue_time}Z" if window.within_day else ""
        raise PayloadInvalid.of("target_date", date, f"a day that {history.time_zone} has{over}")
    if given is None:
        issue_time = min(issue_time, targets[0])
    if not targets[0] - window.longest_lead <= issue_time <= targets[0]:
        raise PayloadInvalid.of(
            "target_date",
            date,
            f"a day that begins within {window.longest_lead / HOUR:g} hours after the issue time {issue_time}Z",
        )
    return targets, issue_time


def _next_hours(hours: Any, issue_time: np.datetime64, history: History, forecaster: Forecaster) -> Times:
    """Starts of the intervals of so many hours from an issue time on."""
    most, step = forecaster.window.longest_lead / HOUR, history.step
    count = hours * 3600 / step if type(hours) in (int, float) and 0 < hours <= most else 0.0
    if count < 1 or count != int(count):
        raise PayloadInvalid.of(
            "horizon_hours", repr(shorten(hours)), f"{step / 3600:g} to {most:g}, in whole steps of {step} s"
        )
    return intervals_from(issue_time, int(count), history.time_zone, step)


def read_history(document: Mapping[str, Any], forecaster: Forecaster, lookup: Lookup | None) -> History:
    """Return the history that a parsed request brings, or the one known of the series it names.

    Raises
    ------
    PayloadInvalid
        A field cannot be used; the message names it.
    HistoryInsufficient
        It brings no history and none is known of the series it names.
    """
    key = document.get(forecaster.key)
    if key is not None and not (isinstance(key, str) and 0 < len(key) <= 200):
        raise PayloadInvalid.of(forecaster.key, repr(shorten(key)), "text of 1 to 200 characters")
    brought = document.get("history")
    if brought is None:
        known = lookup(key) if lookup and key else None
        if known is None:
            raise HistoryInsufficient.of(
                forecaster.key, repr(shorten(key)), "a series whose history is known here; or bring it as history"
            )
        zone = read_time_zone(document.get("time_zone"), known.time_zone)
        if zone_meant(zone) != zone_meant(known.time_zone):
            raise PayloadInvalid.of("time_zone", repr(zone), f"{known.time_zone}, which the series has")
        require_same_holidays(_holidays(document.get(HOLIDAYS)), known)
        return known
    track = _object(brought, "history", "confirmed")
    step = _step(track.get("step_seconds", forecaster.supposed_step), forecaster.steps)
    if "confirmed" in track and CONFIRMED not in forecaster.request.names:
        raise PayloadInvalid.of("history.confirmed", "it", f"nothing: {forecaster.name} cannot be told")
    starts, values = _track(track, "history", forecaster.request.field(forecaster.target), step)
    zone = read_time_zone(document.get("time_zone"), forecaster.time_zone)
    history = History(key or UNNAMED, zone, step, holidays=_holidays(document.get(HOLIDAYS)))
    history.add(starts, values)
    _confirm(history, track.get("confirmed"))
    covariates = document.get("covariates") or {}
    if not isinstance(covariates, dict) or len(forecaster.covariates_in(covariates)) != len(covariates):
        families = [family.shown for family in forecaster.covariate_families]
        allowed = ", ".join((*forecaster.covariates, *families)) or "nothing"
        raise PayloadInvalid.of("covariates", repr(shorten(covariates)), f"an object with {allowed}")
    forecaster.request.more(covariates)
    for name, given in covariates.items():
        where = f"covariates.{name}"
        starts, values = _track(_object(given, where), where, forecaster.request.field(name), step)
        ends = starts + np.timedelta64(step * 1000, "ms")
        # Up to the end of the history it was measured: no forecast knew it before.
        known_at = np.where(ends <= history.known_until(), ends, np.datetime64("NaT"))
        history.add(starts, np.full(len(starts), np.nan), known_at, {name: values})
    return history


def _confirm(history: History, given: Any) -> None:
    """Take the values of spans for real; each is as one of `suspect_spans`."""
    if given is None:
        return
    if not isinstance(given, list) or len(given) > MOST_SPANS:
        got = f"{len(given)} spans" if isinstance(given, list) else repr(shorten(given))
        raise PayloadInvalid.of("history.confirmed", got, f"a list of up to {MOST_SPANS} spans with start and end")
    for i, span in enumerate(given):
        where = f"history.confirmed[{i}]"
        start, end = span_of(span, where)
        if history.off_grid(np.array([start])).any() or is_no_span(np.array([start]), np.array([end]), history.step):
            got = f"{np.datetime_as_string(start, 's')}Z to {np.datetime_as_string(end, 's')}Z"
            raise PayloadInvalid.of(where, got, f"whole intervals of {history.step} s of the series, 366 days at most")
        history.confirm(np.array([start]), np.array([end]))


def span_of(given: Any, where: str) -> tuple[np.datetime64, np.datetime64]:
    """Return begin and end of a span as `suspect_spans` has them.

    Raises
    ------
    PayloadInvalid
        It is none; `where` names it.
    """
    if not isinstance(given, dict) or not given.keys() <= {*EDGES, *SAID_OF_A_SPAN}:
        raise PayloadInvalid.of(where, repr(shorten(given)), "an object with start and end, as in suspect_spans")
    start, end = (moment_of(given.get(name), f"{where}.{name}") for name in EDGES)
    return start, end


def moment_of(given: Any, where: str) -> np.datetime64:
    """Return an instant; PayloadInvalid names `where` if it is none."""
    found = _moment(given, where)
    if found is None:
        raise PayloadInvalid.of(where, "nothing", START.allowed)
    return found


def read_time_zone(given: Any, absent: str) -> str:
    """Return the time zone that a request names, else `absent`; PayloadInvalid if there is no such zone."""
    if given is None:
        return absent
    if not isinstance(given, str):
        raise PayloadInvalid.of("time_zone", repr(shorten(given)), "an IANA name")
    try:
        return zone_named(given)
    except SettingInvalid as error:
        raise PayloadInvalid.of("time_zone", error.got, error.allowed) from None


def _holidays(given: Any) -> str:
    if given is None:
        return OF_THE_ZONE
    if not isinstance(given, str):
        raise PayloadInvalid.of(HOLIDAYS, repr(shorten(given)), "text such as DE or DE-BY, or none")
    try:
        return holidays_named(given)
    except SettingInvalid as error:
        raise PayloadInvalid.of(HOLIDAYS, error.got, error.allowed) from None


def require_same_holidays(said: str, known: History) -> None:
    """Raise PayloadInvalid if a request says other holidays than the series has that it names."""
    if said not in (OF_THE_ZONE, known.holidays):
        own = known.holidays or "nothing, for those of the time zone's country,"
        raise PayloadInvalid.of(HOLIDAYS, repr(said), f"{own} which the series has; or bring its history")


def _object(given: Any, name: str, *also: str) -> dict[str, Any]:
    """One run of intervals, as an object with the fields that one has."""
    allowed = ("start", "step_seconds", "values", *also)
    if not isinstance(given, dict) or not given.keys() <= set(allowed):
        raise PayloadInvalid.of(name, repr(shorten(given)), f"an object with {', '.join(allowed)}")
    return given


def _step(given: Any, steps: Sequence[int]) -> int:
    if type(given) not in (int, float) or given not in steps:
        got = "nothing" if given is None else repr(shorten(given))
        raise PayloadInvalid.of("history.step_seconds", got, listed(steps))
    return int(given)


def _track(given: dict[str, Any], name: str, field: Field, step: int) -> tuple[Times, NDArray[np.float64]]:
    """Starts and values of one run of intervals."""
    start = _moment(given.get("start"), f"{name}.start")
    values = given.get("values")
    if start is None:
        raise PayloadInvalid.of(f"{name}.start", "nothing", START.allowed)
    if not isinstance(values, list) or not 0 < len(values) <= MOST_VALUES:
        got = f"{len(values)} values" if isinstance(values, list) else repr(shorten(values))
        raise PayloadInvalid.of(f"{name}.values", got, f"a list of 1 to {MOST_VALUES} numbers or nulls")
    faults = Refusals(len(values), most=1)
    column = column_of(values, field, faults)
    low, high = field.limits
    outside = np.flatnonzero(~np.isnan(column) & ~((column >= low) & (column <= high)))
    if len(outside):
        faults.refuse_value(int(outside[0]), "out_of_range", field, column[outside[0]])
    if faults:
        first = faults.first
        raise PayloadInvalid.of(f"{name}.values[{first.row}]: {first.field}", repr(first.got), first.allowed)
    return start + np.arange(len(column)) * np.timedelta64(step * 1000, "ms"), column


def _moment(value: Any, name: str) -> np.datetime64 | None:
    if value is None:
        return None
    found = parse_timestamp(value)
    if found is None or not MIN_TIMESTAMP <= found <= MAX_TIMESTAMP:
        raise PayloadInvalid.of(name, repr(shorten(value)), START.allowed)
    return np.datetime64(found, "ms")


def _target_date(value: Any) -> np.datetime64 | None:
    if value is None:
        return None
    try:
        if isinstance(value, str) and len(value) == 10:
            return np.datetime64(value, "D")
    except ValueError:
        pass
    raise PayloadInvalid.of("target_date", repr(shorten(value)), "YYYY-MM-DD")


def example_request(forecaster: Forecaster, key: str, seed: int = 0, step_seconds: int | None = None) -> dict[str, Any]:
    """Return a request that is accepted: three made-up weeks of days and weeks, up to a midnight in summer.

    Parameters
    ----------
    step_seconds : int, optional
        Length of an interval; the usual one of the forecaster, else its first, if absent.
    """
    seconds = step_seconds or forecaster.supposed_step or forecaster.steps[0]
    step = np.timedelta64(seconds * 1000, "ms")
    end = day_start(np.array(["2016-07-06"], "datetime64[D]"), forecaster.time_zone)[0]
    times = np.arange(end - EXAMPLE_DAYS * DAY, end, step)
    level = float(forecaster.request.field(forecaster.target).example)
    hours = (times - end) / np.timedelta64(1, "h")
    wave = np.sin(2 * np.pi * (hours - 9) / 24) + 0.3 * np.sin(2 * np.pi * hours / 168)
    noise = np.random.default_rng(seed).normal(0, 0.03, len(times))
    values = np.round(level * (1 + 0.25 * wave + noise), 3)
    return {
        forecaster.key: key,
        "history": {
            "start": f"{times[0]}Z",
            "step_seconds": seconds,
            "values": np.maximum(values, 0).tolist(),
        },
    }
