"""What kind of day a date is: holidays of the country a time zone lies in, and where its sun stands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from kappawatt.forecasting.calendar import zone_meant, zone_table
from kappawatt.forecasting.holidays import NO_HOLIDAYS, OF_THE_ZONE

__all__ = ["ORDINARY", "DayKinds", "Place", "day_kinds", "holidays_of", "knows_holidays", "place_of", "solar_elevation"]

ORDINARY = -1
MARGIN = 12  # days beyond the asked span, so that neighbours of its ends have a kind
# Public holidays that most people do not have off in PJM: load shows little of them.
MINOR = ("Martin Luther King Jr. Day", "Washington's Birthday", "Columbus Day", "Veterans Day", "Juneteenth")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a time zone's own city is.

    Parameters
    ----------
    country : str or None
        ISO 3166 code of two letters; None where the zone names no place.
    latitude, longitude : float
        [degrees], north and east positive; NaN where the zone names no place.
    """

    country: str | None
    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class DayKinds:
    """Kinds of consecutive days.

    Parameters
    ----------
    first : datetime64[D]
    weekday : ndarray of shape (n_days,)
        0 Monday to 6 Sunday.
    special : ndarray of shape (n_days,)
        Number of the holiday, or of the day around one, among `names`; ORDINARY for the others.
    off : ndarray of bool, shape (n_days,)
        Whether most people are off work: weekends and major holidays.
    names : tuple of str
    """

    first: np.datetime64
    weekday: NDArray[np.int64]
    special: NDArray[np.int64]
    off: NDArray[np.bool_]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.weekday)


@lru_cache(maxsize=256)
def place_of(zone: str) -> Place:
    """Return country and coordinates of a time zone, by whatever name, from the zone database's table `zone.tab`.

    Examples
    --------
    >>> place_of("America/New_York").country, place_of("US/Eastern") == place_of("America/New_York")
    ('US', True)
    """
    meant = zone_meant(zone)
    for line in zone_table("zone.tab").splitlines():
        parts = line.split("\t")
        if len(parts) >= 3 and parts[2] == meant:
            latitude, longitude = re.findall(r"[+-]\d+", parts[1])
            return Place(parts[0], _degrees(latitude, 2), _degrees(longitude, 3))
    return Place(None, float("nan"), float("nan"))


def _degrees(text: str, digits: int) -> float:
    """Read +DDMM or +DDMMSS (ISO 6709)."""
    sign, number = (-1.0 if text[0] == "-" else 1.0), text[1:]
    minutes, seconds = number[digits : digits + 2], number[digits + 2 :] or "0"
    return sign * (int(number[:digits]) + int(minutes) / 60 + int(seconds) / 3600)


def holidays_of(zone: str, said: str = OF_THE_ZONE) -> str | None:
    """Return whose holidays a series has: those that are said, else those of its time zone's country, if it has one.

    Examples
    --------
    >>> holidays_of("Europe/Berlin"), holidays_of("UTC", "DE-BY"), holidays_of("Europe/Berlin", "none")
    ('DE', 'DE-BY', None)
    """
    if said == NO_HOLIDAYS:
        return None
    return said or place_of(zone).country


@lru_cache(maxsize=512)
def _holidays(country: str, year: int) -> dict[np.datetime64, str]:
    """Public holidays of a country, or of a subdivision (`DE-BY`), in a year; none where the library knows none."""
    import holidays

    name, _, subdivision = country.partition("-")
    try:
        found = holidays.country_holidays(name, subdiv=subdivision or None, years=year)
    except NotImplementedError:
        return {}
    return {np.datetime64(day, "D"): str(name) for day, name in found.items() if day.year == year}


def knows_holidays(zone: str, said: str = OF_THE_ZONE) -> bool:
    """Whether it is known which holidays a series has: that there are none, too, if that is said.

    Examples
    --------
    >>> knows_holidays("Europe/Berlin"), knows_holidays("UTC")
    (True, False)
    """
    country = holidays_of(zone, said)
    if country is None:
        return said == NO_HOLIDAYS
    return bool(_holidays(country, 2024))  # any year: the library knows a country or does not


@lru_cache(maxsize=64)
def _year_of_specials(country: str | None, year: int) -> dict[np.datetime64, str]:
    """Names of the special days of a year: holidays, and the days around those that reach beyond themselves."""
    found = {} if country is None else dict(_holidays(country, year))
    for day, name in list(found.items()):
        if name == "Thanksgiving Day":
            found.setdefault(day + 1, "day after Thanksgiving")
        if name == "Independence Day":
            found.setdefault(day - 1, "day before Independence Day")
            found.setdefault(day + 1, "day after Independence Day")
    start, end = np.datetime64(f"{year}-12-23", "D"), np.datetime64(f"{year}-12-31", "D")
    for offset in range(int((end - start).astype(int)) + 1):
        found.setdefault(start + offset, f"December {23 + offset}")
    for day_of_year in (1, 2, 3):
        found.setdefault(np.datetime64(f"{year}-01-0{day_of_year}", "D"), f"January {day_of_year}")
    return found


@lru_cache(maxsize=64)
def day_kinds(first: np.datetime64, last: np.datetime64, country: str | None) -> DayKinds:
    """Return the kinds of all days from `first` to `last`, and of some days beyond either."""
    begin, end = first - MARGIN, last + MARGIN
    days = np.arange(begin, end + 1)
    weekday = (days.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday
    special = np.full(len(days), ORDINARY, dtype=np.int64)
    off = weekday >= 5
    names: dict[str, int] = {}
    years = days.astype("datetime64[Y]").astype(int) + 1970
    for year in range(int(years[0]), int(years[-1]) + 1):
        holidays_ = {} if country is None else _holidays(country, year)
        for day, name in _year_of_specials(country, year).items():
            at = int((day - begin).astype(np.int64))
            if 0 <= at < len(days):
                special[at] = names.setdefault(name, len(names))
                is_major = day in holidays_ and not name.startswith(MINOR)
                off[at] = off[at] or is_major or name == "day after Thanksgiving"
    return DayKinds(begin, weekday, special, off, tuple(names))


def solar_elevation(times: NDArray[np.datetime64], place: Place) -> NDArray[np.float64]:
    """Return the height of the sun's centre above the horizon [degrees] at instants (UTC).

    References
    ----------
    J. W. Spencer, Fourier series representation of the position of the sun, Search 2 (1971) 172: declination and
    equation of time, good to 0.05 degrees and half a minute.
    """
    moments = np.asarray(times, "datetime64[ms]")
    day = moments.astype("datetime64[D]")
    day_of_year = (day - moments.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64)
    hour = (moments - day.astype("datetime64[ms]")).astype(np.int64) / 3_600_000
    g = 2 * np.pi * (day_of_year + hour / 24) / 365
    declination = (
        0.006918
        - 0.399912 * np.cos(g)
        + 0.070257 * np.sin(g)
        - 0.006758 * np.cos(2 * g)
        + 0.000907 * np.sin(2 * g)
        - 0.002697 * np.cos(3 * g)
        + 0.00148 * np.sin(3 * g)
    )
    equation = 229.18 * (
        0.000075 + 0.001868 * np.cos(g) - 0.032077 * np.sin(g) - 0.014615 * np.cos(2 * g) - 0.040849 * np.sin(2 * g)
    )  # min
    hour_angle = np.radians((hour + equation / 60 + place.longitude / 15 - 12) * 15)
    latitude = np.radians(place.latitude)
    sine = np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.cos(hour_angle)
    result: NDArray[np.float64] = np.degrees(np.arcsin(np.clip(sine, -1, 1)))
    return result
