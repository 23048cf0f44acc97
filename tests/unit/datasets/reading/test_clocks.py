"""Which clock labels follow where they show no change of it, and what abbreviations in a file say against a zone."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import sin, tau
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from kappawatt.datasets.reading.assemble import Found
from kappawatt.datasets.reading.clocks import TOLD, Evidence, fixed_clock
from kappawatt.datasets.reading.labels import changes_in
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes, read_file
from kappawatt.errors import PayloadInvalid, SettingInvalid
from kappawatt.forecasting.calendar import to_local, utc_offset
from tests.layout_samples import lines

BERLIN = ZoneInfo("Europe/Berlin")
WINTER = timedelta(hours=1)


def year(minutes: int = 60, first: datetime = datetime(2022, 1, 1), days: int = 365) -> list[tuple[datetime, float]]:
    """Instants of local days, and a town's load that follows the clock and the weekday."""
    start, noise = first.replace(tzinfo=BERLIN).astimezone(UTC), Random(11)
    found = []
    for i in range(days * 1440 // minutes):
        moment = start + timedelta(minutes=minutes * i)
        local = moment.astimezone(BERLIN)
        hour = local.hour + local.minute / 60
        shape = 1 + 0.2 * sin(tau * (hour - 9) / 24) + 0.06 * sin(tau * (hour - 6) / 12)
        found.append((moment, 85 * shape * (0.8 if local.weekday() > 4 else 1) * (1 + noise.gauss(0, 0.01))))
    return found


def by_winter_time(rows: list[tuple[datetime, float]]) -> list[str]:
    return [f"{moment + WINTER:%Y-%m-%d %H:%M},{load:.2f}" for moment, load in rows]


def repaired(rows: list[tuple[datetime, float]], fill: str = "between") -> list[str]:
    """24 hours every day: the skipped one filled in, of the doubled one the first."""
    found: dict[str, str] = {}
    before = 0.0
    for moment, load in rows:
        local = moment.astimezone(BERLIN)
        if moment.hour == 1 and local.hour == 3 and before and "02:00" not in list(found)[-1]:
            filled = {"between": f"{(before + load) / 2:.4f}", "noise": f"{load * 0.97:.2f}", "": "", "0": "0"}[fill]
            found[f"{local:%Y-%m-%d} 02:00"] = filled
        found.setdefault(f"{local:%Y-%m-%d %H:%M}", f"{load:.2f}")
        before = load
    return [f"{label},{load}" for label, load in found.items()]


def without_a_shape(first: datetime) -> list[str]:
    hours = (first + timedelta(hours=i) for i in range(480))
    return [f"{hour:%Y-%m-%d %H:%M},{80 + Random(str(hour)).random():.3f}" for hour in hours]


def read(rows: list[str], header: str = "time,town_mw", **said: str) -> Found:
    options = Options.of({"time_zone": "Europe/Berlin", **said})
    return read_bytes("\n".join([header, *rows]).encode(), options, name="town.csv")


def told(found: Found, name: str) -> str:
    return next((f"{fact.value} {fact.because}" for fact in found.facts if fact.name == name), "")


@pytest.mark.parametrize("minutes", [60, 15])
def test_winter_time_all_the_year_is_refused_as_the_zones_clock_and_read_by_its_own(minutes: int) -> None:
    rows = year(minutes)

    with pytest.raises(PayloadInvalid, match=r"mornings an hour off .*--clock UTC\+01:00"):
        read(by_winter_time(rows))

    [series] = read(by_winter_time(rows), clock="UTC+01:00").series
    assert (series.time_zone, series.starts.tolist()) == ("Europe/Berlin", [m.replace(tzinfo=None) for m, _ in rows])


@pytest.mark.parametrize("span", [(datetime(2022, 2, 20), 70), (datetime(2022, 9, 20), 80)], ids=["spring", "autumn"])
def test_one_change_of_the_clock_is_enough(span: tuple[datetime, int]) -> None:
    rows = year(60, *span)

    with pytest.raises(PayloadInvalid, match=r"mornings an hour off"):
        read(by_winter_time(rows), labels="start")
    assert "mornings follow its changes" in told(read(repaired(rows, "noise"), labels="start"), "clock")


@pytest.mark.parametrize("fill", ["between", "noise", "", "0"])
def test_24_rows_a_day_by_the_zones_clock_are_read_with_the_skipped_hour_left_out(fill: str) -> None:
    rows = year()

    found = read(repaired(rows, fill))

    [series] = found.series
    known = np.isfinite(series.values)
    assert "hours were filled in" in told(found, "clock")
    truth = {moment.replace(tzinfo=None): round(load, 2) for moment, load in rows}
    assert [truth[at] for at in series.starts[known].tolist()] == series.values[known].tolist()
    assert known.sum() == len(rows) - 1  # the second hour of autumn


def test_where_nothing_tells_both_ways_are_named() -> None:
    flat = [
        f"{datetime(2022, 3, 20) + timedelta(hours=i):%Y-%m-%d %H:%M},{80 + Random(i).random():.3f}" for i in range(480)
    ]

    with pytest.raises(PayloadInvalid, match=r"nothing that tells why, allowed --clock Europe/Berlin .* UTC\+01:00"):
        read(flat)
    assert len(read(flat, clock="Europe/Berlin").series[0]) == 479
    assert len(read(flat, clock="Etc/GMT-1").series[0]) == 480


def test_one_row_for_autumns_two_hours_is_said_to_be_doubtful_where_nothing_tells() -> None:
    flat = [
        f"{datetime(2022, 10, 20) + timedelta(hours=i):%Y-%m-%d %H:%M},{80 + Random(i).random():.3f}"
        for i in range(480)
    ]

    assert told(read(flat), "clock").startswith("Europe/Berlin doubtful: one row where the clock shows a time twice")


def test_labels_that_show_the_changes_contradict_another_clock() -> None:
    rows = [f"{moment.astimezone(BERLIN):%Y-%m-%d %H:%M},{load:.2f}" for moment, load in year()]

    assert told(read(rows), "clock") == ""
    with pytest.raises(PayloadInvalid, match=r"labels that show Europe/Berlin's change .*2022-03-27.*as --clock says"):
        read(rows, clock="UTC+01:00")


def test_labels_that_show_the_changes_of_another_zone_contradict_the_one_that_is_said() -> None:
    eastern = ZoneInfo("America/New_York")
    rows = [f"{moment.astimezone(eastern):%Y-%m-%d %H:%M},{load:.2f}" for moment, load in year()]

    with pytest.raises(PayloadInvalid, match=r"no change of Europe/Berlin's clock, and those of America/New_York"):
        read(rows, labels="start")
    assert read(rows, labels="start", time_zone="America/New_York").series[0].problems == ()


def test_a_row_a_day_may_have_its_skipped_hour_filled_in_if_that_is_said() -> None:
    days = [
        [f"{day:%Y-%m-%d}", *(str(100 + h) for h in range(24))] for day in (datetime(2022, 3, 26 + i) for i in range(3))
    ]
    data = lines(",".join(["date", *(f"H{i:02}" for i in range(1, 25))]), *map(",".join, days))

    def series(**said: str) -> Found:
        return read_bytes(data, Options.of({"time_zone": "Europe/Berlin", "unit": "MW", "key": "town", **said}))

    with pytest.raises(PayloadInvalid, match=r"24 values on 2022-03-27.*--clock Europe/Berlin .*--clock UTC\+01:00"):
        series()
    wall, winter = series(clock="Europe/Berlin").series[0], series(clock="UTC+01:00").series[0]
    assert (len(wall), len(winter), winter.time_zone) == (71, 72, "Europe/Berlin")
    assert str(wall.starts[-1]) == "2022-03-28T21:00:00.000"
    assert str(winter.starts[-1]) == "2022-03-28T22:00:00.000"


@pytest.mark.skipif(not os.environ.get("KAPPAWATT_DATA"), reason="KAPPAWATT_DATA names no folder of data sets")
@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("pjm_load/PJME_hourly_to2016", "America/New_York"),
        ("pjm_load/DAYTON_hourly_to2016", "America/New_York"),
        ("entsoe/ee_total_load_2023", "Europe/Tallinn"),
        ("entsoe/mk_total_load_2018", "Europe/Skopje"),
    ],
)
def test_real_load_tells_its_clock(name: str, zone: str) -> None:
    [series] = read_file(Path(os.environ["KAPPAWATT_DATA"]) / f"{name}.csv.gz").series
    left_over = []
    for wall in (to_local(series.starts, zone), series.starts + utc_offset(series.starts, zone).min()):
        evidence = Evidence(zone)
        hidden = [replace(change, shown=None, seen=True) for change in changes_in(wall, zone, series.step)]
        evidence.add(wall, series.values, series.step, hidden)
        left_over.append(evidence.for_fixed / evidence.for_zone)

    assert left_over[0] > TOLD
    assert left_over[1] < 1 / TOLD


# ---- abbreviations


def stamped(word: str, first: datetime, n: int = 72) -> list[str]:
    return [f"{first + timedelta(hours=i):%Y-%m-%d %H:%M}{word},{i}" for i in range(n)]


@pytest.mark.parametrize("word", ["EST", "CST", "EEST"])
@pytest.mark.parametrize("where", ["cell", "name", "column"])
def test_an_abbreviation_that_is_none_of_the_zones_is_refused_with_both(word: str, where: str) -> None:
    rows, header = stamped("", datetime(2022, 12, 5)), "time,town_mw"
    if where == "cell":
        rows = stamped(f" {word}", datetime(2022, 12, 5))
    elif where == "name":
        header = f"time ({word}),town_mw"
    else:
        rows, header = [f"{word},{row}" for row in rows], "clock,time,town_mw"

    with pytest.raises(PayloadInvalid, match=rf"{word} \(UTC.*beside --time-zone Europe/Berlin .*--clock UTC"):
        read(rows, header, labels="start")


@pytest.mark.parametrize("where", ["cell", "name"])
def test_winter_time_by_its_name_in_summer_is_refused_until_the_clock_is_said(where: str) -> None:
    rows, header = stamped(" MEZ" if where == "cell" else "", datetime(2022, 7, 4)), "Zeit,town_mw"
    header = header.replace("Zeit", "Zeit (MEZ)") if where == "name" else header

    with pytest.raises(
        PayloadInvalid, match=r"MEZ \(UTC\+01:00\), on 2022-07-03 too, when Europe/Berlin is at UTC\+02:00"
    ):
        read(rows, header)
    firsts = [read(rows, header, clock=clock).series[0].starts[0] for clock in ("UTC+01:00", "Europe/Berlin")]
    assert [str(first)[:16] for first in firsts] == ["2022-07-03T23:00", "2022-07-03T22:00"]


def test_both_names_of_a_clock_settle_the_repeated_hour_wherever_they_stand() -> None:
    rows = [(moment.astimezone(BERLIN), load) for moment, load in year(60, datetime(2022, 10, 25), 10)]
    cells = [f"{local:%Y-%m-%d %H:%M} {local:%Z},{load:.2f}" for local, load in rows]
    beside = [f"{local:%Y-%m-%d %H:%M},{local:%Z},{load:.2f}" for local, load in reversed(rows)]

    one, other = read(cells, labels="start").series[0], read(beside, "time,tz,town_mw", labels="start").series[0]

    assert (
        one.starts.tolist()
        == other.starts.tolist()
        == [local.astimezone(UTC).replace(tzinfo=None) for local, _ in rows]
    )
    assert one.values.tolist() == other.values.tolist()


def test_a_clock_by_its_offset_has_whole_hours() -> None:
    assert [Options.of({"clock": text}).clock for text in ("UTC+01:00", "utc-5", "GMT+0", "UTC+09:30")] == [
        "Etc/GMT-1", "Etc/GMT+5", "UTC", "Australia/Darwin",
    ]  # fmt: skip
    assert fixed_clock("America/New_York") == "UTC-05:00"
    with pytest.raises(SettingInvalid, match="--clock: got 'UTC-03:20'"):
        Options.of({"clock": "UTC-03:20"})


def _autumn(flag: str, values: tuple[str, str], *, summer: bool) -> tuple[bytes, list[datetime]]:
    """Four days by the hour around the change in Berlin, the repeated hour's rows exchanged, and their starts."""
    starts = [datetime(2024, 10, 24, 22) + timedelta(hours=i) for i in range(97)]
    rows = []
    for i, start in enumerate(starts):
        local = start.replace(tzinfo=UTC).astimezone(BERLIN)
        is_true = local.dst() != timedelta(0) if summer else bool(local.fold)
        rows.append(f"{local:%Y-%m-%d %H:%M},{values[0] if is_true else values[1]},{700 + i}")
    at = starts.index(datetime(2024, 10, 27, 0))
    rows[at], rows[at + 1] = rows[at + 1], rows[at]
    return "\n".join([f"time,{flag},load_mw", *rows, ""]).encode(), starts


@pytest.mark.parametrize("summer", [True, False])
@pytest.mark.parametrize(
    ("flag", "values"), [("dst", ("Y", "N")), ("is_dst", ("1", "0")), ("DST flag", ("True", "False"))]
)
def test_a_column_of_summer_time_tells_two_hours_of_one_label_apart(
    flag: str, values: tuple[str, str], summer: bool
) -> None:
    data, starts = _autumn(flag, values, summer=summer)

    found = read_bytes(data, Options.of({"time_zone": "Europe/Berlin"}), name="town.csv")

    [series] = found.series
    order = np.argsort(series.starts)
    assert series.starts[order].tolist() == starts
    assert series.values[order].tolist() == [700.0 + i for i in range(97)]
    assert any(fact.name == "hours shown twice" for fact in found.facts)


def test_quarters_of_an_hour_that_a_file_has_once_are_all_of_one_turn() -> None:
    labels = [datetime(2024, 10, 24) + timedelta(minutes=15 * (i + 1)) for i in range(96 * 5)]
    text = "\n".join(["time,load_mw", *(f"{label:%Y-%m-%d %H:%M},{500 + i}" for i, label in enumerate(labels)), ""])
    options = Options.of({"time_zone": "Europe/Berlin", "clock": "Europe/Berlin", "labels": "end"})

    [series] = read_bytes(text.encode(), options, name="town.csv").series

    places = (series.starts - series.starts[0]).astype(np.int64) // 900_000
    repeated = 96 * 3 + 8  # the first quarter of the hour's first turn: 02:00 by the local clock
    assert sorted(set(range(96 * 5 + 4)) - set(places.tolist())) == list(range(repeated + 4, repeated + 8))
