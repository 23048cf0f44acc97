"""Local time over UTC arrays: offsets, days of 23, 24 and 25 hours, issue clocks. Vectorised, from the zone database.

Inside kappawatt a time is UTC, `datetime64[ms]`; a local time is a naive `datetime64[ms]` and appears only where a
rule of the day or week needs it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from zoneinfo import TZPATH, ZoneInfo, available_timezones

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import SettingInvalid

__all__ = [
    "DAY",
    "HOUR",
    "Instant",
    "Times",
    "as_instant",
    "clock_changes",
    "day_intervals",
    "day_start",
    "issue_time",
    "local_date",
    "parse_clock",
    "same_local_time",
    "to_local",
    "to_utc",
    "utc_offset",
    "zone_meant",
    "zone_named",
    "zone_names",
    "zone_table",
]

Instant = np.datetime64  # UTC, to the millisecond; a calendar day where it is called a date
Times = NDArray[np.datetime64]

HOUR = np.timedelta64(3_600_000, "ms")
DAY = np.timedelta64(86_400_000, "ms")
NO_ZONES = ("localtime", "posixrules", "Factory")
FIRST_YEAR, LAST_YEAR = 1970, 2100
CLOCKS = frozenset({"CET", "EET", "EST", "HST", "MET", "MST", "WET"})
"""Links that name a clock and no place: who says CET is not in Brussels for it, nor in Panama for EST."""
MERGED = {
    "Africa/Asmera": "Africa/Asmara",
    "Africa/Timbuktu": "Africa/Bamako",
    "America/Coral_Harbour": "America/Atikokan",
    "America/Virgin": "America/St_Thomas",
    "Antarctica/South_Pole": "Antarctica/McMurdo",
    "Atlantic/Jan_Mayen": "Arctic/Longyearbyen",
    "Iceland": "Atlantic/Reykjavik",
    "Pacific/Ponape": "Pacific/Pohnpei",
    "Pacific/Truk": "Pacific/Chuuk",
    "Pacific/Yap": "Pacific/Chuuk",
}
"""Old names of places whose zone was merged with one of another country: their link leads there (Iceland's to Abidjan).
The names are those that comments of the database's file `backward` give, which its compiled form leaves out."""


@cache
def zone_names() -> frozenset[str]:
    """Return the zones and links of the IANA database.

    Systems keep more in the same folder: `localtime` is this machine's clock and another one's elsewhere,
    `posixrules` and `Factory` stand for a clock that nobody has set, `right/...` counts leap seconds, and where
    letters of either case name one file, `america/new_york` would be a second name of a series' clock.
    """
    return frozenset(
        name for name in available_timezones() if name not in NO_ZONES and not name.startswith(("right/", "posix/"))
    )


def zone_named(name: str) -> str:
    """Return `name` if it is a zone or link of the IANA database; SettingInvalid if not.

    Examples
    --------
    >>> zone_named("US/Eastern")
    'US/Eastern'
    """
    if name not in zone_names():
        allowed = "a name of the IANA time zone database, such as America/New_York"
        raise SettingInvalid.of("time_zone", repr(name[:80]), allowed)
    return name


@cache
def zone_table(name: str) -> str:
    """Return a table of the zone database, such as `zone.tab`: of the package tzdata, else of the system; else ""."""
    try:
        return (resources.files("tzdata") / "zoneinfo" / name).read_text(encoding="utf-8")
    except (ModuleNotFoundError, OSError):
        tables = (Path(folder) / name for folder in TZPATH)
        return next((table.read_text(encoding="utf-8") for table in tables if table.is_file()), "")


@cache
def zone_meant(name: str) -> str:
    """Return the zone that a name means: itself if it is one, else the zone its link leads to.

    A name that `zone.tab` lists is a zone of its own, though its clock may be another's (Amsterdam's is that of
    Brussels): country and sun are not. All other names of one zone are the same zone.

    Examples
    --------
    >>> zone_meant("US/Eastern"), zone_meant("Europe/Amsterdam")
    ('America/New_York', 'Europe/Amsterdam')
    """
    places, links = _places_and_links()
    meant = MERGED.get(name, name)
    while meant not in places and meant not in CLOCKS and meant in links:
        meant = links[meant]
    return meant


@cache
def _places_and_links() -> tuple[frozenset[str], dict[str, str]]:
    """Names of `zone.tab`, and links with what they lead to (lines `L TARGET NAME` of `tzdata.zi`)."""
    rows = (line.split("\t") for line in zone_table("zone.tab").splitlines() if not line.startswith("#"))
    links = (line.split() for line in zone_table("tzdata.zi").splitlines() if line.startswith("L "))
    return frozenset(row[2] for row in rows if len(row) > 2), {name: target for _, target, name in links}


@lru_cache(maxsize=1024)  # more than there are: one costs 20 ms, and a body may name them all
def _changes(zone: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The instants [ms, UTC] at which the zone's offset changes, and the offset [ms] from each of them on."""
    info = ZoneInfo(zone)

    def offset(seconds: int) -> int:
        moment = datetime.fromtimestamp(seconds, UTC)
        wall = moment.astimezone(info).replace(tzinfo=UTC)
        return int((wall - moment).total_seconds())

    first = int(datetime(FIRST_YEAR, 1, 1, tzinfo=UTC).timestamp())
    last = int(datetime(LAST_YEAR, 1, 1, tzinfo=UTC).timestamp())
    step = int(timedelta(days=7).total_seconds())
    instants, offsets = [first], [offset(first)]
    for start in range(first, last, step):
        low, high = start, start + step
        if offset(high) == offsets[-1]:
            continue
        while high - low > 1:  # the second at which it changes
            middle = (low + high) // 2
            low, high = (middle, high) if offset(middle) == offsets[-1] else (low, middle)
        instants.append(high)
        offsets.append(offset(high))
    return np.array(instants, dtype=np.int64) * 1000, np.array(offsets, dtype=np.int64) * 1000


def clock_changes(zone: str, first: Instant, last: Instant) -> tuple[Times, NDArray[np.timedelta64]]:
    """Return the instants between two at which a zone's clock is changed, and by how much.

    Returns
    -------
    instants : ndarray of datetime64[ms], shape (n,)
        UTC.
    shifts : ndarray of timedelta64[ms], shape (n,)
        Positive where the clock skips, negative where it shows a time twice.

    Examples
    --------
    >>> str(clock_changes("Europe/Berlin", np.datetime64("2024-01-01"), np.datetime64("2024-06-01"))[0][0])
    '2024-03-31T01:00:00.000'
    """
    instants, offsets = _changes(zone)
    moments = instants[1:].astype("datetime64[ms]")
    inside = (moments > as_instant(first)) & (moments < as_instant(last))
    return moments[inside], np.diff(offsets)[inside].astype("timedelta64[ms]")


def utc_offset(times: Times, zone: str) -> NDArray[np.int64]:
    """Return local time minus UTC [ms] at each instant.

    Examples
    --------
    >>> int(utc_offset(np.array(["2016-07-01T00"], "datetime64[ms]"), "America/New_York")[0]) // 3_600_000
    -4
    """
    instants, offsets = _changes(zone)
    place = np.searchsorted(instants, np.asarray(times, "datetime64[ms]").astype(np.int64), side="right") - 1
    result: NDArray[np.int64] = offsets[np.maximum(place, 0)]
    return result


def to_local(times: Times, zone: str) -> Times:
    """Return the local wall-clock time of each instant, naive."""
    moments = np.asarray(times, "datetime64[ms]")
    wall: Times = moments + utc_offset(moments, zone).astype("timedelta64[ms]")
    return wall


def to_utc(local: Times, zone: str, *, second: NDArray[np.bool_] | bool = False) -> Times:
    """Return the instant of each local wall-clock time.

    Parameters
    ----------
    local : ndarray of datetime64, shape (n,)
    second : bool or ndarray of bool, shape (n,)
        Which of two instants where the hour is repeated in autumn.

    Returns
    -------
    ndarray of datetime64[ms], shape (n,)
        NaT where the wall clock never shows that time (skipped in spring).
    """
    wall = np.asarray(local, "datetime64[ms]")
    instants, offsets = _changes(zone)
    text = wall.astype(np.int64)
    # The offset before and after the change that is nearest: each gives a candidate, and one that maps back is right.
    place = np.clip(np.searchsorted(instants + offsets, text, side="right") - 1, 0, len(offsets) - 1)
    candidates = []
    for shift in (-1, 0, 1):
        near = np.clip(place + shift, 0, len(offsets) - 1)
        found = (text - offsets[near]).astype("datetime64[ms]")
        candidates.append(np.where(to_local(found, zone) == wall, found, np.datetime64("NaT", "ms")))
    early: Times = np.fmin.reduce(candidates)
    late: Times = np.fmax.reduce(candidates)
    return np.where(np.asarray(second), late, early)


def local_date(times: Times, zone: str) -> Times:
    """Return the local calendar day of each instant, as datetime64[D]."""
    return to_local(times, zone).astype("datetime64[D]")


def day_start(dates: Times, zone: str) -> Times:
    """Return the instant each local day begins (01:00 where midnight itself is skipped)."""
    midnight = np.asarray(dates, "datetime64[D]").astype("datetime64[ms]")
    start = to_utc(midnight, zone)
    skipped = np.isnat(start)
    if skipped.any():
        start = np.where(skipped, to_utc(np.add(midnight, HOUR), zone), start)
        start = np.where(np.isnat(start), to_utc(np.add(midnight, DAY), zone), start)  # Samoa had no 30 December 2011
    return start


def day_intervals(date: Instant, zone: str, step: int) -> Times:
    """Return the starts of all intervals of a local day: 23, 24 or 25 hours of them.

    Parameters
    ----------
    date : datetime64[D]
    step : int
        Length of an interval [s].

    Examples
    --------
    >>> len(day_intervals(np.datetime64("2016-03-13"), "America/New_York", 3600))
    23
    """
    both = day_start(np.array([date, date + 1], "datetime64[D]"), zone)
    return np.arange(both[0], both[1], np.timedelta64(step * 1000, "ms"))


def parse_clock(text: str) -> np.timedelta64:
    """Return `HH:MM` as time since midnight [ms]; SettingInvalid if it is none."""
    hours, _, minutes = text.partition(":")
    if hours.isdigit() and minutes.isdigit() and len(minutes) == 2 and int(hours) < 24 and int(minutes) < 60:
        return np.timedelta64((int(hours) * 60 + int(minutes)) * 60_000, "ms")
    raise SettingInvalid.of("issue time", repr(text[:20]), "HH:MM from 00:00 to 23:59")


def as_instant(moment: Instant | str | int) -> Instant:
    """Return a moment to the millisecond; text without a zone and numbers (ms since the epoch) are UTC.

    Examples
    --------
    >>> str(as_instant("2016-07-01"))
    '2016-07-01T00:00:00.000'
    """
    return np.array([moment]).astype("datetime64[ms]")[0]  # type: ignore[no-any-return]


@lru_cache(maxsize=4096)
def issue_time(date: Instant, clock: np.timedelta64, zone: str) -> Instant:
    """Return when the forecast for a local day is issued: the last `clock` at or before the day begins.

    00:00 is the start of the day itself, 12:00 is noon of the day before. A clock time that is skipped in
    spring counts an hour later.

    Examples
    --------
    >>> noon = issue_time(np.datetime64("2016-07-02"), parse_clock("12:00"), "America/New_York")
    >>> str(noon)
    '2016-07-01T16:00:00.000'
    """
    if clock == np.timedelta64(0, "ms"):
        start: Instant = day_start(np.array([date]), zone)[0]
        return start
    wall = as_instant(date) - DAY + clock
    found = to_utc(np.array([wall, wall + HOUR]), zone)
    issue: Instant = found[0] if not np.isnat(found[0]) else found[1]
    return issue


def same_local_time(times: Times, zone: str, days: int) -> Times:
    """Return the instants at which the wall clock showed the same, `days` calendar days before.

    A time that the earlier day skipped is taken an hour later; in a repeated hour the first goes with the first.
    """
    wall = to_local(times, zone)
    second = to_utc(wall, zone) != np.asarray(times, "datetime64[ms]")
    earlier: Times = wall - np.timedelta64(days * 86_400_000, "ms")
    found = to_utc(earlier, zone, second=second)
    skipped = np.isnat(found)
    if skipped.any():
        found = np.where(skipped, to_utc(earlier + HOUR, zone), found)
    return found
