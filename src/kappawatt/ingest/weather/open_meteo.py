"""Open-Meteo: hourly arrays in JSON, with their units beside them.

References
----------
https://open-meteo.com/en/docs: `hourly`, `hourly_units`, `utc_offset_seconds`; radiation is the mean of the hour before
its time stamp, all else here is of the moment.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlencode

import numpy as np
import orjson
from numpy.typing import NDArray

from kappawatt.columns.schema import shorten
from kappawatt.datasets.reading.units import FAHRENHEIT, to_celsius
from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.calendar import HOUR, Times
from kappawatt.ingest.weather.weather import Weather, weather_of

__all__ = ["OPEN_METEO", "open_meteo_address", "read_open_meteo"]

Vector = NDArray[np.float64]

OPEN_METEO = "https://api.open-meteo.com/v1/forecast"
MOST_HOURS = 24 * 120  # 92 days back and 16 ahead are the most it gives
SECONDS = (0, 4_102_444_800)  # of the years 1970 to 2100


def _scaled(factor: float) -> Callable[[Vector], Vector]:
    return lambda values: values * factor


def _same(values: Vector) -> Vector:
    return values


VARIABLES: dict[str, tuple[str, dict[str, Callable[[Vector], Vector]]]] = {  # quantity and units, by their name of it
    "temperature_2m": ("temperature", {"°C": _same, "°F": partial(to_celsius, unit=FAHRENHEIT)}),
    "relative_humidity_2m": ("relative_humidity", {"%": _same}),
    "wind_speed_10m": (
        "wind_speed",
        {
            "m/s": _same,
            "km/h": _scaled(1 / 3.6),
            "mp/h": _scaled(0.44704),
            "mph": _scaled(0.44704),
            "kn": _scaled(1852 / 3600),
        },
    ),
    "cloud_cover": ("cloud_cover", {"%": _same}),
    "shortwave_radiation": ("global_horizontal_irradiance", {"W/m²": _same, "W/m2": _same}),
}
MEANS = ("shortwave_radiation",)


def open_meteo_address(url: str, latitude: float, longitude: float, past_days: int, forecast_days: int) -> str:
    """Return the address that asks for all there is of a place; one that has a query already is left as it is."""
    if "?" in url:
        return url
    asked = {
        "latitude": f"{latitude:g}",
        "longitude": f"{longitude:g}",
        "hourly": ",".join(VARIABLES),
        "wind_speed_unit": "ms",
        "timeformat": "unixtime",
        "past_days": past_days,
        "forecast_days": forecast_days,
    }
    return f"{url}?{urlencode(asked, safe=',')}"


def read_open_meteo(body: bytes) -> Weather:
    """Return the hours in an answer of Open-Meteo's; PayloadInvalid names what it has not, or has otherwise."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise PayloadInvalid.of("body", f"malformed JSON ({error})", "an answer of Open-Meteo's") from None
    if isinstance(document, dict) and document.get("error"):
        raise PayloadInvalid.of("body", f"an error: {str(document.get('reason'))[:200]}", "an answer with `hourly`")
    if not isinstance(document, dict) or not isinstance(document.get("hourly"), dict):
        raise PayloadInvalid.of("hourly", repr(shorten(document)), "an object of arrays, of one place")
    hourly, units = document["hourly"], document.get("hourly_units")
    if not isinstance(units, dict):
        raise PayloadInvalid.of("hourly_units", repr(shorten(units)), "an object of units")
    times = _times(hourly.get("time"), units.get("time"), document.get("utc_offset_seconds", 0))
    instants: dict[str, Vector] = {}
    means: dict[str, Vector] = {}
    for name, (quantity, known) in VARIABLES.items():
        if name not in hourly:
            continue
        unit = units.get(name)
        if not isinstance(unit, str) or unit not in known:
            raise PayloadInvalid.of(f"hourly_units.{name}", repr(shorten(unit)), " or ".join(known))
        (means if name in MEANS else instants)[quantity] = known[unit](_numbers(hourly[name], name, len(times)))
    if not instants and not means:
        raise PayloadInvalid.of("hourly", ", ".join(map(str, hourly))[:200], f"one of {', '.join(VARIABLES)}")
    return weather_of(times, instants, means, None)


def _times(given: Any, unit: Any, offset: Any) -> Times:
    if not isinstance(given, list) or not 0 < len(given) <= MOST_HOURS:
        got = f"{len(given)} times" if isinstance(given, list) else repr(shorten(given))
        raise PayloadInvalid.of("hourly.time", got, f"a list of 1 to {MOST_HOURS} times")
    if type(offset) is not int or abs(offset) > 50_400:
        raise PayloadInvalid.of("utc_offset_seconds", repr(shorten(offset)), "-50400 to 50400, as a whole number")
    if unit not in ("iso8601", "unixtime"):
        raise PayloadInvalid.of("hourly_units.time", repr(shorten(unit)), "iso8601 or unixtime")
    moments = [_unix(value) if unit == "unixtime" else _local(value, offset) for value in given]
    times = np.array(moments, "datetime64[ms]")
    apart = np.flatnonzero(np.diff(times) != HOUR)
    if len(apart):
        place = int(apart[0]) + 1
        raise PayloadInvalid.of(f"hourly.time[{place}]", repr(shorten(given[place])), "an hour after the one before")
    return times


def _unix(value: Any) -> int:
    if type(value) is not int or not SECONDS[0] <= value <= SECONDS[1]:
        raise PayloadInvalid.of("hourly.time", repr(shorten(value)), "whole seconds since 1970, as unixtime is")
    return value * 1000


def _local(value: Any, offset: int) -> int:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) and len(value) <= 32 else None
    except ValueError:
        found = None
    if found is None or found.tzinfo is not None or not 1970 <= found.year <= 2100:
        raise PayloadInvalid.of(
            "hourly.time", repr(shorten(value)), "YYYY-MM-DDThh:mm by the clock of utc_offset_seconds"
        )
    return int(np.datetime64(found, "ms").astype(np.int64)) - offset * 1000


def _numbers(given: Any, name: str, n: int) -> Vector:
    if not isinstance(given, list) or len(given) != n:
        got = f"{len(given)} values" if isinstance(given, list) else repr(shorten(given))
        raise PayloadInvalid.of(f"hourly.{name}", got, f"a list of {n} numbers or nulls, one a time")
    for place, value in enumerate(given):
        if value is not None and type(value) not in (int, float):
            raise PayloadInvalid.of(f"hourly.{name}[{place}]", repr(shorten(value)), "a number or null")
    try:
        return np.array([np.nan if value is None else value for value in given], np.float64)
    except OverflowError:
        raise PayloadInvalid.of(f"hourly.{name}", "a number beyond any float", "numbers or nulls") from None
