"""Local time: every clock change from 2002 to 2030, in zones that change, changed their rules, or never change."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from kappawatt.errors import SettingInvalid
from kappawatt.forecasting.calendar import (
    DAY,
    HOUR,
    as_instant,
    day_intervals,
    day_start,
    issue_time,
    parse_clock,
    same_local_time,
    to_local,
    to_utc,
    utc_offset,
    zone_meant,
    zone_named,
    zone_names,
    zone_table,
)

ZONES = [
    "America/New_York",
    "America/Chicago",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "America/Sao_Paulo",
]
YEARS = range(2002, 2031)


def clock_changes(zone: str) -> list[np.datetime64]:
    """Local dates on which the offset changes, by asking the zone database day by day."""
    info = ZoneInfo(zone)
    days = np.arange(np.datetime64("2002-01-01"), np.datetime64("2031-01-01"))
    offsets = [datetime.combine(d, datetime.min.time(), info).utcoffset() for d in days.tolist()]
    return [days[i] for i in range(len(days) - 1) if offsets[i] != offsets[i + 1]]


@pytest.mark.parametrize("zone", ZONES)
def test_offsets_are_those_of_the_zone_database_at_every_hour_around_every_change(zone: str) -> None:
    around = clock_changes(zone) or [np.datetime64("2016-03-13")]
    times = np.concatenate([np.arange(day - 1, day + 2, np.timedelta64(30, "m")) for day in around])
    info = ZoneInfo(zone)

    found = utc_offset(times, zone)

    expected = [
        datetime.fromisoformat(f"{t}+00:00").astimezone(info).utcoffset().total_seconds() * 1000  # type: ignore[union-attr]
        for t in np.datetime_as_string(times, unit="s")
    ]
    assert found.tolist() == expected


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("step", [3600, 1800, 900])
def test_a_day_has_all_its_intervals_and_days_meet_without_gap_or_overlap(zone: str, step: int) -> None:
    if zone == "Australia/Lord_Howe" and step == 3600:
        pytest.skip("this zone changes by half an hour, so it has no days of whole hours")
    for day in clock_changes(zone) or [np.datetime64("2016-03-13")]:
        interval = np.timedelta64(step, "s")

        before, own, after = (day_intervals(day + d, zone, step) for d in (-1, 0, 1))

        assert own[0] == before[-1] + interval
        assert after[0] == own[-1] + interval
        # A day whose midnight is skipped begins at 01:00; the day it happens on is then the one before.
        hours = len(own) * step / 3600
        assert hours in (23, 23.5, 24, 24.5, 25)
        assert {*to_local(own, zone).astype("datetime64[D]").tolist()} == {day.astype("datetime64[D]").item()}


def test_the_united_states_have_days_of_23_and_25_hours_on_the_days_of_the_law() -> None:
    lengths = {
        str(day): len(day_intervals(day, "America/New_York", 3600))
        for day in np.arange(np.datetime64("2002-01-01"), np.datetime64("2031-01-01"))
    }

    odd = {day: n for day, n in lengths.items() if n != 24}
    assert len(odd) == 2 * len(YEARS)
    assert odd["2006-04-02"] == 23  # first Sunday of April, the rule up to 2006
    assert odd["2007-03-11"] == 23  # second Sunday of March since then
    assert odd["2006-10-29"] == 25
    assert odd["2030-11-03"] == 25


@pytest.mark.parametrize("zone", ZONES)
def test_local_time_and_back_is_the_same_instant(zone: str) -> None:
    around = clock_changes(zone) or [np.datetime64("2016-03-13")]
    times = np.concatenate([np.arange(as_instant(d) - DAY, as_instant(d) + 2 * DAY, HOUR / 2) for d in around])
    local = to_local(times, zone)

    first, second = to_utc(local, zone), to_utc(local, zone, second=True)

    assert ((first == times) | (second == times)).all()
    assert (first <= second).all()


def test_a_skipped_wall_clock_time_is_no_instant() -> None:
    assert np.isnat(to_utc(np.array(["2016-03-13T02:30"], "datetime64[ms]"), "America/New_York")).all()


def test_a_repeated_hour_has_two_instants_an_hour_apart() -> None:
    wall = np.array(["2016-11-06T01:30"], "datetime64[ms]")

    first, second = (to_utc(wall, "America/New_York", second=s)[0] for s in (False, True))

    assert second - first == HOUR


def test_the_same_local_time_a_week_before_a_change_keeps_the_wall_clock() -> None:
    zone = "America/New_York"
    for day in clock_changes(zone):
        for target in (day, day + 7):
            times = day_intervals(target, zone, 3600)

            earlier = same_local_time(times, zone, 7)

            assert not np.isnat(earlier).any()
            shift = to_local(times, zone) - to_local(earlier, zone)
            assert ((shift == 7 * DAY) | (shift == 7 * DAY - HOUR)).all()
            assert (np.diff(earlier) >= np.timedelta64(0)).all()


def test_noon_is_issued_the_day_before_and_midnight_when_the_day_begins() -> None:
    for day in np.arange(np.datetime64("2016-01-01"), np.datetime64("2017-01-01")):
        begin = day_start(np.array([day]), "America/New_York")[0]

        noon = issue_time(day, parse_clock("12:00"), "America/New_York")
        midnight = issue_time(day, parse_clock("00:00"), "America/New_York")

        assert midnight == begin
        assert begin - noon == 12 * HOUR  # clocks change after midnight, never between noon and midnight


def test_a_skipped_issue_time_is_an_hour_later() -> None:
    skipped = issue_time(np.datetime64("2016-03-14"), parse_clock("02:30"), "America/New_York")

    assert str(skipped) == "2016-03-13T07:30:00.000"


def test_a_day_that_begins_at_one_o_clock_is_a_day() -> None:
    times = day_intervals(np.datetime64("2017-10-15"), "America/Sao_Paulo", 3600)

    assert len(times) == 23
    assert str(to_local(times[:1], "America/Sao_Paulo")[0]) == "2017-10-15T01:00:00.000"


@pytest.mark.parametrize(
    "name",
    ["Mars/Phobos", "", "../etc/passwd", "EST5EDT4", "localtime", "posixrules", "Factory", "right/UTC", "posix/UTC",
     "right/America/New_York", "america/new_york", "America/New_York ", "America", "America/",
     "/usr/share/zoneinfo/UTC", "tzdata.zi", "zone.tab", "UTC\x00", "\ud800", "x" * 200_000],
)  # fmt: skip
def test_an_unknown_zone_is_named(name: str) -> None:
    with pytest.raises(SettingInvalid, match=r"time_zone: got .* such as America/New_York"):
        zone_named(name)


@pytest.mark.parametrize(
    "name", ["America/New_York", "US/Eastern", "Europe/Kyiv", "Europe/Kiev", "UTC", "Etc/GMT+5", "EST5EDT"]
)
def test_a_zone_or_a_link_to_one_is_a_name(name: str) -> None:
    assert zone_named(name) == name


@pytest.mark.parametrize("text", ["24:00", "12", "12:60", "noon", "1:2", ""])
def test_an_issue_time_that_is_none_is_named(text: str) -> None:
    with pytest.raises(SettingInvalid, match="HH:MM"):
        parse_clock(text)


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("US/Pacific", "America/Los_Angeles"),
        ("Asia/Calcutta", "Asia/Kolkata"),
        ("GB", "Europe/London"),
        ("Australia/South", "Australia/Adelaide"),
        ("America/Buenos_Aires", "America/Argentina/Buenos_Aires"),
        ("Iceland", "Atlantic/Reykjavik"),  # whose clock is Abidjan's
        ("Europe/Amsterdam", "Europe/Amsterdam"),  # whose clock is that of Brussels
        ("CET", "CET"),
        ("UTC", "Etc/UTC"),
    ],
)
def test_a_name_means_the_zone_its_link_leads_to(name: str, zone: str) -> None:
    assert zone_meant(name) == zone


def test_all_names_of_one_zone_have_its_clock() -> None:
    times = np.arange("1975-01-01", "2030-01-01", 24 * 7 + 5, dtype="datetime64[h]").astype("datetime64[ms]")
    links = sorted(name for name in zone_names() if zone_meant(name) != name)
    assert len(links) > 100
    for name in links[::4]:
        assert (utc_offset(times, name) == utc_offset(times, zone_meant(name))).all(), name


def test_every_link_to_a_place_leads_to_one() -> None:
    places = {line.split("\t")[2] for line in zone_table("zone.tab").splitlines() if not line.startswith("#")}
    nowhere = {name for name in zone_names() if zone_meant(name) not in places}

    assert {name for name in nowhere if not name.startswith("Etc/")} <= {
        *("CET", "EET", "EST", "HST", "MET", "MST", "WET", "CST6CDT", "EST5EDT", "MST7MDT", "PST8PDT"),
        *("GMT", "GMT+0", "GMT-0", "GMT0", "Greenwich", "UCT", "UTC", "Universal", "Zulu"),
    }
