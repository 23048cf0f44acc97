"""What a file says of its clock, unit and labels beside the table: used and said, or refused with both sides."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from math import sin
from zoneinfo import ZoneInfo

import openpyxl
import pytest

from kappawatt.datasets.reading.assemble import Found
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes
from kappawatt.errors import PayloadInvalid

BERLIN = ZoneInfo("Europe/Berlin")
FIRST = datetime(2024, 6, 2, 22, tzinfo=UTC)  # midnight in Berlin
LOADS = [round(640 + 90 * sin(i / 4), 1) for i in range(24 * 9)]


def rows(clock: tzinfo = BERLIN, minutes: int = 60) -> list[str]:
    """A load from midnight in Berlin on, labelled by the start on a clock."""
    starts = [FIRST + timedelta(minutes=minutes * i) for i in range(len(LOADS))]
    return [f"{s.astimezone(clock):%Y-%m-%d %H:%M};{v}" for s, v in zip(starts, LOADS, strict=True)]


def read(lines: list[str], **said: str) -> Found:
    options = Options.of({"time_zone": "Europe/Berlin", "labels": "start", **said})
    return read_bytes("\n".join(lines).encode(), options, name="valley.csv")


def first_of(found: Found) -> datetime:
    return datetime.fromisoformat(f"{found.series[0].starts[0]}+00:00")


def texts(found: Found) -> str:
    return "\n".join(f"{fact.name}: {fact.value} ({fact.because})" for fact in found.facts)


@pytest.mark.parametrize("name", ["utcTime", "TimeUTC", "ts (Z)", "Time [UTC]", "utc_timestamp", "Zeit UTC", "dt_gmt"])
def test_a_name_of_a_column_in_utc_is_believed(name: str) -> None:
    assert first_of(read([f"{name};load_mw", *rows(UTC)])) == FIRST


@pytest.mark.parametrize(
    ("name", "hours"),
    [("Time (UTC+01:00)", 1.0), ("t [GMT-3]", -3.0), ("ts (+05:30)", 5.5), ("Zeit UTC+2", 2.0), ("Time (UTC+0100)", 1)],
)
def test_an_offset_in_a_columns_name_is_its_clock(name: str, hours: float) -> None:
    clock = timezone(timedelta(hours=hours))

    assert first_of(read([f"{name};load_mw", *rows(clock)])) == FIRST


@pytest.mark.parametrize(
    "name", ["Zeit (Winterzeit)", "Standard Time", "Normalzeit", "time_cet", "Time MEZ", "Time (UTC+03:30)"]
)
def test_a_clock_in_a_columns_name_that_the_zone_contradicts_is_refused(name: str) -> None:
    with pytest.raises(PayloadInvalid, match=r"--clock UTC\+0\d:\d0 or --clock Europe/Berlin") as caught:
        read([f"{name};load_mw", *rows(timezone(timedelta(hours=1)))])
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["Sommer-/Winterzeit", "time_cet_cest", "Time (UTC+1/+2)", "Zeit (Sommerzeit)"])
def test_a_name_that_tells_both_halves_of_the_year_or_the_right_one_is_the_zones_clock(name: str) -> None:
    assert first_of(read([f"{name};load_mw", *rows()])) == FIRST


# ---- before the table

TABLE = ["Zeit;Last", *rows()]
IN_UTC = ["Zeit;Last MW", *rows(UTC)]


@pytest.mark.parametrize(
    "line", ["Einheit;kW", "Einheit: kW", "# unit = kW", "Unit;[kW];", "Lastgang in kW", ";kW", "Einheiten: kW"]
)
def test_a_unit_before_the_table_is_that_of_a_column_without_one(line: str) -> None:
    found = read(["Valley", line, *TABLE])

    assert found.series[0].values[0] == pytest.approx(LOADS[0] / 1000)
    assert "unit before the table: kW" in texts(found)


@pytest.mark.parametrize("line", ["Max. Leistung;1200 kW", "Temperature unit: °C", "Anschluss 3 MW"])
def test_a_number_with_a_unit_before_the_table_is_not_the_tables(line: str) -> None:
    assert read([line, *TABLE]).series[0].values[0] == LOADS[0]


def test_another_unit_before_the_table_than_in_it_is_refused_with_both() -> None:
    with pytest.raises(PayloadInvalid, match=r"Last MW: got MW, and 'Einheit kW' \(line 1\) before the table.*--unit"):
        read(["Einheit;kW", *IN_UTC])
    with pytest.raises(PayloadInvalid, match=r"kW.*allowed MW, as --unit says"):
        read(["Einheit;kW", *TABLE], unit="MW")
    with pytest.raises(PayloadInvalid, match=r"'Einheit: kW' \(line 1\) and 'Unit: kWh' \(line 2\)"):
        read(["Einheit: kW", "Unit: kWh", *TABLE])
    with pytest.raises(PayloadInvalid, match=r"Tsd. kWh.*a plain unit"):
        read(["Einheit: Tsd. kWh", *TABLE])


@pytest.mark.parametrize(
    "line", ["Zeitzone;UTC", "# timezone: UTC", "All times are in UTC", "Alle Zeiten in GMT", "Time zone = UTC+00:00"]
)
def test_a_clock_before_the_table_is_that_of_its_times(line: str) -> None:
    found = read([line, *IN_UTC])

    assert first_of(found) == FIRST
    assert "clock before the table: UTC" in texts(found)


def test_a_fixed_clock_and_a_zone_before_the_table_are_their_clocks() -> None:
    lisbon = ZoneInfo("Europe/Lisbon")
    fixed = timezone(timedelta(hours=-3))

    assert first_of(read(["Zeitzone: Europe/Lisbon", "Zeit;Last MW", *rows(lisbon)])) == FIRST
    assert first_of(read(["time zone,UTC-3", "Zeit;Last MW", *rows(fixed)])) == FIRST
    assert first_of(read(["tz: Europe/Berlin", "Zeit;Last MW", *rows()])) == FIRST


@pytest.mark.parametrize("line", ["Zeitzone: CET", "Zeitangaben: Winterzeit", "Zeitzone;(UTC+01:00) Amsterdam, Bern"])
def test_a_word_of_a_clock_before_the_table_is_held_against_the_zone(line: str) -> None:
    with pytest.raises(PayloadInvalid, match=r"line 1\) before the table.*--clock UTC\+01:00 or --clock Europe/Berlin"):
        read([line, "Zeit;Last MW", *rows()])
    assert first_of(read([line, "Zeit;Last MW", *rows()], clock="Europe/Berlin")) == FIRST


@pytest.mark.parametrize("line", ["Zeitzone: local", "Zeit: 2024-07-01 09:30 UTC", "Exported at: 10:00 UTC"])
def test_local_times_and_the_time_of_an_export_tell_no_clock(line: str) -> None:
    assert first_of(read([line, "Zeit;Last MW", *rows()])) == FIRST


def test_a_clock_before_the_table_that_another_contradicts_is_refused_with_both() -> None:
    with pytest.raises(PayloadInvalid, match=r"'tz: UTC' \(line 1\).*allowed Europe/Berlin, as --clock says"):
        read(["tz: UTC", *TABLE], clock="Europe/Berlin")
    with pytest.raises(PayloadInvalid, match=r"the clock of UTC, and 'tz: UTC\+2' \(line 1\) before the table"):
        read(["tz: UTC+2", "utcTime;Last MW", *rows(UTC)])


def test_labels_before_the_table_are_used_or_refused() -> None:
    line = "# labels: interval end"

    with pytest.raises(PayloadInvalid, match=r"'labels: interval end' \(line 1\).*allowed start, as --labels says"):
        read([line, *TABLE])
    assert first_of(read([line, *TABLE], labels="")) == FIRST - timedelta(hours=1)
    with pytest.raises(PayloadInvalid, match=r"labels of the start, and .* before the table"):
        read([line, "Start;Last", *rows()], labels="")


def test_a_unit_before_the_table_that_is_not_read_is_refused_for_columns_without_one() -> None:
    with pytest.raises(PayloadInvalid, match=r"Last: got numbers in 'Einheit kVA' \(line 1\).*--unit"):
        read(["Einheit;kVA", *TABLE])
    assert read(["Einheit;kVA", *IN_UTC], clock="UTC").series[0].values[0] == LOADS[0]


# ---- units below the names


@pytest.mark.parametrize("line", ["[local];[kW]", ";kW", "(UTC+2);(kW)", "[hh:mm];[kW]"])
def test_a_line_of_units_below_the_names_is_no_row(line: str) -> None:
    found = read(["timestamp;Last", line, *rows()])

    assert found.problems == ()
    assert first_of(found) == FIRST
    assert found.series[0].values[0] == pytest.approx(LOADS[0] / 1000)


def test_a_clock_in_the_line_of_units_is_that_of_the_times() -> None:
    assert first_of(read(["timestamp;Last", "[UTC];[kW]", *rows(UTC)])) == FIRST


def test_another_unit_below_a_name_than_in_it_is_refused_with_both() -> None:
    with pytest.raises(PayloadInvalid, match="line 2: load_mw: got kW, below a name with MW"):
        read(["timestamp;load_mw", ";kW", *rows()])
    with pytest.raises(PayloadInvalid, match=r"Tsd\. kWh"):
        read(["timestamp;Last", ";[Tsd. kWh]", *rows()])


def test_a_workbooks_rows_before_its_table_and_below_its_names_are_asked_as_well() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (["Valley"], ["Einheit", "kW"], ["Zeitzone", "UTC"], [], ["Zeit", "Last"]):
        sheet.append(row)
    for i, load in enumerate(LOADS):
        sheet.append([(FIRST + timedelta(hours=i)).replace(tzinfo=None), load])
    kept = io.BytesIO()
    book.save(kept)

    found = read_bytes(kept.getvalue(), Options.of({"time_zone": "Europe/Berlin", "labels": "start"}), name="v.xlsx")

    assert first_of(found) == FIRST
    assert found.series[0].values[0] == pytest.approx(LOADS[0] / 1000)
