"""The settings file of weather: which load series have which stations, and where their weather comes from."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kappawatt.columns.schema import shorten
from kappawatt.errors import SettingInvalid
from kappawatt.forecasting.calendar import zone_named
from kappawatt.ingest.weather.mosmix import MOSMIX
from kappawatt.ingest.weather.open_meteo import OPEN_METEO, open_meteo_address
from kappawatt.streams.load import STREAM, WEATHER

__all__ = ["SOURCES", "Station", "read_stations"]

SOURCES = ("open-meteo", "mosmix")
MOST_BYTES = 1_000_000
MOST_STATIONS = 1_000
MOST_NUMBER = WEATHER[0].most
LEAST_MINUTES = {"url": 60, "file": 1}  # both sources renew every hour at most
MOST_MINUTES = 1_440
NAME = re.compile(r"[A-Za-z0-9]{1,12}")
WEB = re.compile(r"https?://[^/\s]+(/\S*)?")
FIELDS = (
    "load_zone", "number", "name", "source", "latitude", "longitude", "station", "url", "file",
    "every_minutes", "past_days", "forecast_days", "time_zone",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Station:
    """One station of one load series.

    Parameters
    ----------
    load_zone : str
        Key of the series.
    number : int or None
        Its temperature is `temperature_NUMBER`; None: `temperature`.
    source : str
        `open-meteo` or `mosmix`.
    address : str
        URL, or path of a file.
    is_file : bool
    every_minutes : int
        How often it is asked.
    station : str
        Of MOSMIX.
    name : str
        For people.
    time_zone : str
        IANA name that its rows say; "" for none.
    """

    load_zone: str
    number: int | None
    source: str
    address: str
    is_file: bool
    every_minutes: int
    station: str = ""
    name: str = ""
    time_zone: str = ""

    def field(self, quantity: str) -> str:
        """Return the name of a quantity in rows of the series."""
        return quantity if self.number is None else f"{quantity}_{self.number}"

    def __str__(self) -> str:
        return f"{self.load_zone} {self.field('temperature')}" + (f" ({self.name})" if self.name else "")


def read_stations(path: Path) -> list[Station]:
    """Read a settings file, TOML or JSON.

    Raises
    ------
    SettingInvalid
        It cannot be read or used; the message names the station and the field.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingInvalid.of(str(path), error.strerror or "an error", "a file that can be read") from None
    if len(content) > MOST_BYTES:
        raise SettingInvalid.of(str(path), f"{len(content):,} bytes", f"{MOST_BYTES:,} at most")
    try:
        text = content.decode()
        document = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise SettingInvalid.of(str(path), f"damaged {kind} ({str(error)[:200]})", f"{kind} with [[station]]") from None
    given = document.get("station") if isinstance(document, dict) else None
    if not isinstance(given, list) or not 0 < len(given) <= MOST_STATIONS or document.keys() != {"station"}:
        got = ", ".join(map(str, document))[:100] if isinstance(document, dict) else repr(shorten(document))
        raise SettingInvalid.of(str(path), got or "nothing", f"station alone: a list of 1 to {MOST_STATIONS:,} tables")
    stations = [_Table(one, f"{path}: station {i}", path.parent).station() for i, one in enumerate(given, 1)]
    places: dict[tuple[str, int | None], int] = {}
    for i, one in enumerate(stations, 1):
        before = places.setdefault((one.load_zone, one.number), i)
        if before != i:
            what = f"{one.field('temperature')} of {one.load_zone} again"
            raise SettingInvalid.of(f"{path}: station {i}: number", what, f"another than that of station {before}")
    return stations


class _Table:
    """One table of the file; everything it refuses names where it stands."""

    def __init__(self, given: Any, where: str, folder: Path) -> None:
        self._where = where
        self._folder = folder
        if not isinstance(given, dict):
            raise SettingInvalid.of(where, repr(shorten(given)), f"a table with {', '.join(FIELDS)}")
        self._given: Mapping[str, Any] = given
        for name in given:
            if name not in FIELDS:
                raise self._refused(str(name)[:80], "an unknown field", ", ".join(FIELDS))

    def _refused(self, field: str, got: object, allowed: object) -> SettingInvalid:
        return SettingInvalid.of(f"{self._where}: {field}", got, allowed)

    def station(self) -> Station:
        """Return it checked."""
        source = self._text("source", required=True)
        if source not in SOURCES:
            raise self._refused("source", repr(source[:80]), " or ".join(SOURCES))
        key = self._text("load_zone", required=True)
        if not STREAM.key.pattern.fullmatch(key):
            raise self._refused("load_zone", repr(key[:80]), STREAM.key.allowed)
        number = self._whole("number", 1, MOST_NUMBER, None)
        url, file = self._text("url"), self._text("file")
        if url and file:
            raise self._refused("file", "it and a url", "one of the two")
        if url and not WEB.fullmatch(url):
            raise self._refused("url", repr(url[:200]), "http://HOST[/PATH] or https://HOST[/PATH]")
        least = LEAST_MINUTES["file" if file else "url"]
        every = self._whole("every_minutes", least, MOST_MINUTES, 60) or 60
        is_mosmix = source == "mosmix"
        station = self._text("station", required=is_mosmix)
        if is_mosmix and not NAME.fullmatch(station):
            raise self._refused("station", repr(station[:80]), "letters and digits, as MOSMIX's catalogue has them")
        self._only("station", is_mosmix, "mosmix")
        for name in ("latitude", "longitude", "past_days", "forecast_days"):
            self._only(name, not is_mosmix, "open-meteo")
        past, ahead = self._whole("past_days", 0, 92, 14), self._whole("forecast_days", 1, 15, 8)
        if file:
            address = str((self._folder / file).resolve())
        elif is_mosmix:
            address = (url or MOSMIX).replace("{station}", station)
        elif url and "?" in url:
            address = url
        else:
            latitude, longitude = self._number("latitude", 90), self._number("longitude", 180)
            address = open_meteo_address(url or OPEN_METEO, latitude, longitude, past or 0, ahead or 1)
        zone = self._text("time_zone")
        if zone:
            try:
                zone_named(zone)
            except SettingInvalid as error:
                raise self._refused("time_zone", error.got, error.allowed) from None
        return Station(key, number, source, address, bool(file), every, station, self._text("name"), zone)

    def _only(self, name: str, is_right: bool, source: str) -> None:
        if name in self._given and not is_right:
            raise self._refused(name, "it", f"it for {source} alone")

    def _text(self, name: str, *, required: bool = False) -> str:
        value = self._given.get(name)
        if value is None and not required:
            return ""
        if not isinstance(value, str) or not 0 < len(value) <= 2_000:
            got = "nothing" if value is None else repr(shorten(value))
            raise self._refused(name, got, "text of 1 to 2000 characters")
        return value

    def _whole(self, name: str, least: int, most: int, absent: int | None) -> int | None:
        value = self._given.get(name)
        if value is None:
            return absent
        if type(value) is not int or not least <= value <= most:
            raise self._refused(name, repr(shorten(value)), f"a whole number from {least} to {most}")
        return value

    def _number(self, name: str, most: float) -> float:
        value = self._given.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= most:
            got = "nothing" if value is None else repr(shorten(value))
            raise self._refused(name, got, f"degrees from {-most:g} to {most:g}")
        return float(value)
