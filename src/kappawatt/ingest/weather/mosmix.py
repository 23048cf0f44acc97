"""DWD MOSMIX: a zip with one KML document of one station (MOSMIX_L) or of all of them (MOSMIX_S).

It is read as it comes and kept only as far as it is of one station, so that the file of all stations, hundreds of
megabytes of XML, takes no memory. No document type is allowed, and with it no entity.

References
----------
DWD, "MOSMIX: Elemente" (elements and units: TTT, Td [K], FF [m/s], N [%], Rad1h [kJ/m2 in the hour before]), and
`pointforecast_dwd_extension_V1_0.xsd`.
Alduchov, Eskridge (1996), "Improved Magnus form approximation of saturation vapor pressure": 17.625, 243.04.
"""

from __future__ import annotations

import io
import math
import zipfile
from typing import IO
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.schema import shorten
from kappawatt.columns.values import parse_timestamp
from kappawatt.datasets.reading.content import DAMAGED
from kappawatt.errors import PayloadInvalid, PayloadTooLarge
from kappawatt.forecasting.calendar import HOUR, Instant, Times
from kappawatt.ingest.weather.weather import Weather, weather_of

__all__ = ["MOSMIX", "read_mosmix"]

Vector = NDArray[np.float64]

MOSMIX = "https://opendata.dwd.de/weather/local_forecasts/mos/MOSMIX_L/single_stations/{station}/kml/MOSMIX_L_LATEST_{station}.kmz"
MOST_BYTES = 4 * 2**30  # of XML: MOSMIX_S of all stations is some hundred megabytes
MOST_HOURS = 24 * 30
MOST_TOKEN = 1_000_000
MOST_TEXT = 200_000  # characters of one element that is read
DEEPEST = 32
PART = 1 << 16
ELEMENTS = ("TTT", "Td", "FF", "N", "Rad1h")
KELVIN = 273.15


def read_mosmix(body: bytes, station: str) -> Weather:
    """Return the hours of one station; PayloadInvalid names what is not as MOSMIX has it."""
    found = _Station(station)
    parser = ElementTree.XMLParser(target=found)  # noqa: S314 (the target refuses document types)
    try:
        with _document(body) as document:
            size = heard = 0
            while part := document.read(PART):
                before = found.events
                parser.feed(part)
                size += len(part)
                heard = size if found.events != before else heard
                if size > MOST_BYTES or size - heard > MOST_TOKEN:  # the parser keeps a token until it ends
                    got = f"more than {MOST_BYTES if size > MOST_BYTES else MOST_TOKEN:,} bytes of XML"
                    raise PayloadTooLarge.of("body", got + (" in one tag" if size <= MOST_BYTES else ""), "fewer")
        parser.close()
    except (ElementTree.ParseError, LookupError) as error:  # an encoding that nobody knows is no ParseError
        raise PayloadInvalid.of("body", f"damaged XML ({error})", "MOSMIX's KML") from None
    except DAMAGED as error:
        raise PayloadInvalid.of("body", f"a damaged zip ({str(error)[:100]})", "MOSMIX's KMZ") from None
    return found.weather()


def _document(body: bytes) -> IO[bytes]:
    if not body.startswith(b"PK"):
        return io.BytesIO(body)
    archive = zipfile.ZipFile(io.BytesIO(body))
    names = [name for name in archive.namelist() if name.lower().endswith(".kml")]
    if len(names) != 1:
        raise PayloadInvalid.of("body", f"a zip with {len(names)} KML documents", "one")
    return archive.open(names[0])


class _Station:
    """Takes a KML document as it is parsed, and keeps what is of one station."""

    def __init__(self, station: str) -> None:
        self.events = 0
        self._station = station
        self._path: list[str] = []
        self._text: list[str] | None = None
        self._length = 0
        self._element = ""
        self._is_wanted = False
        self._was_found = False
        self._seen: list[str] = []
        self._issue = ""
        self._undefined = "-"
        self._steps: list[str] = []
        self._values: dict[str, str] = {}

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise PayloadInvalid.of("body", "XML with a document type", "MOSMIX's KML, which has none")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.events += 1
        name = _local(tag)
        self._path.append(name)
        if len(self._path) > DEEPEST:
            raise PayloadInvalid.of("body", f"XML elements {DEEPEST} deep", "MOSMIX's KML")
        if name == "Forecast":
            given = {_local(key): value for key, value in attributes.items()}
            self._element = given.get("elementName", "")
        is_value = name == "value" and self._is_wanted and self._element in ELEMENTS
        is_name = name == "name" and self._path[-2:-1] == ["Placemark"]
        if name in ("IssueTime", "TimeStep", "DefaultUndefSign") or is_value or is_name:
            self._text, self._length = [], 0

    def data(self, text: str) -> None:
        self.events += 1
        if self._text is not None:
            self._length += len(text)
            if self._length > MOST_TEXT:
                raise PayloadTooLarge.of(self._path[-1], f"more than {MOST_TEXT:,} characters", "fewer")
            self._text.append(text)

    def end(self, tag: str) -> None:
        self.events += 1
        name = self._path.pop()
        if name == "Placemark":
            self._is_wanted = False
        if self._text is None:
            return
        text, self._text = "".join(self._text).strip(), None
        if name == "IssueTime":
            self._issue = text
        elif name == "DefaultUndefSign":
            self._undefined = text
        elif name == "TimeStep":
            if len(self._steps) == MOST_HOURS:
                raise PayloadTooLarge.of("ForecastTimeSteps", f"more than {MOST_HOURS} time steps", "fewer")
            self._steps.append(text)
        elif name == "name":
            self._is_wanted = text == self._station
            self._was_found |= self._is_wanted
            if len(self._seen) < 5:
                self._seen.append(text[:20])
        else:
            self._values[self._element] = text

    def close(self) -> None:
        return None

    def weather(self) -> Weather:
        """Return what was kept."""
        issue = _moment(self._issue, "IssueTime")
        times = self._times()
        if not self._was_found:
            there = ", ".join(self._seen) or "no Placemark"
            raise PayloadInvalid.of("station", repr(self._station), f"one that the file has: {there}")
        columns = {name: self._column(name, text, len(times)) for name, text in self._values.items()}
        instants: dict[str, Vector] = {}
        if "TTT" in columns:
            instants["temperature"] = np.round(columns["TTT"] - KELVIN, 2)
            if "Td" in columns:
                humidity = relative_humidity(columns["TTT"] - KELVIN, columns["Td"] - KELVIN)
                instants["relative_humidity"] = np.round(humidity, 1)
        instants |= {
            quantity: columns[n] for n, quantity in (("FF", "wind_speed"), ("N", "cloud_cover")) if n in columns
        }
        means = {}
        if "Rad1h" in columns:
            means["global_horizontal_irradiance"] = np.round(columns["Rad1h"] / 3.6, 2)  # kJ/m2 in an hour
        if not instants and not means:
            raise PayloadInvalid.of("elementName", "none of them", f"one of {', '.join(ELEMENTS)}")
        return weather_of(times, instants, means, issue)

    def _times(self) -> Times:
        if not self._steps:
            raise PayloadInvalid.of("ForecastTimeSteps", "nothing", "one TimeStep or more")
        times = np.array([_moment(text, "TimeStep") for text in self._steps], "datetime64[ms]")
        apart = np.flatnonzero(np.diff(times) != HOUR)
        if len(apart):
            raise PayloadInvalid.of("TimeStep", self._steps[int(apart[0]) + 1][:40], "an hour after the one before")
        return times

    def _column(self, name: str, text: str, n: int) -> Vector:
        cells = text.split()
        if len(cells) != n:
            raise PayloadInvalid.of(name, f"{len(cells)} values", f"{n}, one a time step")
        column = np.full(n, np.nan)
        for place, cell in enumerate(cells):
            if cell == self._undefined:
                continue
            try:
                column[place] = float(cell)
            except ValueError:
                column[place] = math.inf
            if not math.isfinite(column[place]):
                got = repr(shorten(cell))
                raise PayloadInvalid.of(f"{name}[{place}]", got, f"a number, or {self._undefined} where there is none")
        return column


def relative_humidity(temperature: Vector, dew_point: Vector) -> Vector:
    """Return the relative humidity [%] of air of a temperature and dew point [degC], over water.

    Examples
    --------
    >>> relative_humidity(np.array([20.0]), np.array([10.0])).round(1).tolist()
    [52.5]
    """

    def pressure(celsius: Vector) -> Vector:
        with np.errstate(all="ignore"):
            result: Vector = np.exp(17.625 * celsius / (243.04 + celsius))
        return result

    result: Vector = np.clip(100 * pressure(dew_point) / pressure(temperature), 0, 100)
    return result


def _moment(text: str, name: str) -> Instant:
    found = parse_timestamp(text) if not text.isdigit() else None
    if found is None:
        raise PayloadInvalid.of(name, repr(shorten(text)) if text else "nothing", "an ISO 8601 time with zone")
    return np.datetime64(found, "ms")


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
