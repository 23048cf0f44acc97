"""Tables nobody publishes: what the file tells of columns, labels, clocks and units, and what it is refused for."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from kappawatt.datasets.reading.assemble import Found
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes
from kappawatt.errors import PayloadInvalid
from kappawatt.streams import load, meter
from kappawatt.streams.stream import Stream

BERLIN, UTC = ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")


def written(
    first: datetime,
    n: int,
    *,
    step: int = 60,
    labels: str = "start",
    zone: ZoneInfo = BERLIN,
    header: str = "time,town_mw",
) -> tuple[bytes, list[datetime]]:
    """A file of `n` intervals from `first` (UTC) on, by the zone's wall clock; and their starts, UTC."""
    length = timedelta(minutes=step)
    starts = [first + i * length for i in range(n)]
    shown = {"start": timedelta(0), "end": length}[labels]
    texts = [
        f"{(s + shown).replace(tzinfo=UTC).astimezone(zone):%Y-%m-%d %H:%M},{400 + i}" for i, s in enumerate(starts)
    ]
    return "\n".join([header, *texts, ""]).encode(), starts


def read(data: bytes, stream: Stream | None = None, name: str = "town.csv", **said: str) -> Found:
    return read_bytes(data, Options.of({"time_zone": "Europe/Berlin", **said}), stream, name=name)


@pytest.mark.parametrize("labels", ["start", "end"])
@pytest.mark.parametrize("step", [60, 30, 15])
@pytest.mark.parametrize("change", [datetime(2024, 3, 30, 23), datetime(2024, 10, 26, 22)], ids=["spring", "autumn"])
def test_every_interval_around_a_change_of_the_clock_comes_back(labels: str, step: int, change: datetime) -> None:
    n = (23 if change.month == 3 else 25) * 60 // step
    data, starts = written(change, n, step=step, labels=labels)

    found = read(data, resample="1h", labels=labels)

    hours = starts[:: 60 // step]
    assert found.problems == ()
    assert found.series[0].starts.tolist() == hours
    expected = np.arange(400.0, 400.0 + n).reshape(len(hours), -1).mean(axis=1)
    assert found.series[0].values.tolist() == expected.tolist()


def test_the_first_and_last_label_tell_starts_from_ends() -> None:
    midnight = datetime(2024, 5, 1, 22)
    for labels in ("start", "end"):
        data, starts = written(midnight, 48, labels=labels)
        found = read(data)
        assert found.series[0].starts.tolist() == starts
        assert next(fact.value for fact in found.facts if fact.name == "labels") == labels


def test_rows_of_less_than_a_day_tell_nothing_of_their_labels() -> None:
    data, _ = written(datetime(2024, 5, 1, 21), 2)  # 23:00 and 00:00, as a live feed posts them

    with pytest.raises(PayloadInvalid, match="--labels"):
        read(data)


def test_whole_days_of_utc_shown_by_another_clock_tell_nothing() -> None:
    rows = [f"{datetime(2024, 1, 8, 1) + timedelta(hours=i):%Y-%m-%dT%H:%M}+01:00,{i}" for i in range(48)]

    with pytest.raises(PayloadInvalid, match="--labels"):
        read("\n".join(["time,town_mw", *rows]).encode())


def test_the_repeated_hour_of_a_file_that_runs_back_in_time_is_not_exchanged() -> None:
    data, starts = written(datetime(2024, 10, 25, 22), 49)
    lines = data.splitlines()

    [series] = read(b"\n".join([lines[0], *reversed(lines[1:])]), labels="start").series

    assert series.starts.tolist() == starts
    assert series.values.tolist() == [400.0 + i for i in range(49)]


@pytest.mark.parametrize(
    ("header", "first"), [("Zeit (UTC+1),town_mw", "2024-05-01T23:00"), ("Time (UTC),town_mw", "2024-05-02T00:00")]
)
def test_a_clock_in_a_name_is_that_of_the_labels(header: str, first: str) -> None:
    rows = [f"{datetime(2024, 5, 2) + timedelta(hours=i)},{i}" for i in range(48)]

    [series] = read("\n".join([header, *rows]).encode()).series

    assert (series.starts[0], series.time_zone) == (np.datetime64(first, "ms"), "Europe/Berlin")


@pytest.mark.parametrize("header", ["time (GMT/BST),town_mw", "local time (not UTC),town_mw"])
def test_a_clock_that_a_name_leaves_open_is_asked_for(header: str) -> None:
    rows = [f"{datetime(2024, 5, 2) + timedelta(hours=i)},{i}" for i in range(48)]

    with pytest.raises(PayloadInvalid, match="--time-zone"):
        read_bytes("\n".join([header, *rows]).encode(), name="town.csv")


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        ("time,load_mw,price_eur_mwh", "TOWN"),
        ("time,load_mw,GHI [W/m2]", "TOWN"),
        ("time,load_mw,Solar [MW]", "TOWN"),
        ("time,Verbrauch (kWh),Preis (ct/kWh)", "TOWN"),
    ],
)
def test_prices_rates_and_generation_beside_a_load_are_left_out(header: str, kept: str) -> None:
    data, _ = written(datetime(2024, 5, 1, 22), 48, header=header.rpartition(",")[0])
    lines = data.decode().splitlines()

    found = read("\n".join([header, *(f"{line},9.5" for line in lines[1:])]).encode())

    assert [one.key for one in found.series] == [kept]
    assert found.series[0].values[0] == 400


def test_energy_an_hour_is_power() -> None:
    data, _ = written(datetime(2024, 5, 1, 22), 96, step=15, header="time,Load [MWh/h]")

    assert read(data).series[0].values[:2].tolist() == [400, 401]


@pytest.mark.parametrize("header", ["time,Verbrauch in Tsd. kWh", "time,Load (100 MW)"])
def test_a_multiple_of_a_unit_is_refused(header: str) -> None:
    data, _ = written(datetime(2024, 5, 1, 22), 48, header=header)

    with pytest.raises(PayloadInvalid, match="a plain unit"):
        read(data)


def test_a_column_that_numbers_rows_names_no_series() -> None:
    data, starts = written(datetime(2024, 5, 1, 22), 48)
    lines = data.decode().splitlines()
    text = "\n".join(["id," + lines[0], *(f"{i + 1},{line}" for i, line in enumerate(lines[1:]))])

    [series] = read(text.encode(), value_column="town_mw").series

    assert series.starts.tolist() == starts


def test_rows_that_are_somebodys_forecast_among_measured_ones_are_refused() -> None:
    data, _ = written(datetime(2024, 5, 1, 22), 48)
    lines = data.decode().splitlines()
    rows = [f"{line},{'Actual' if i < 24 else 'Forecast'}" for i, line in enumerate(lines[1:])]

    with pytest.raises(PayloadInvalid, match=r"type: got rows of 'Forecast'"):
        read("\n".join([lines[0] + ",type", *rows]).encode())


def test_hours_then_quarter_hours_in_one_file_are_refused() -> None:
    hours, _ = written(datetime(2024, 5, 1, 22), 48)
    quarters, _ = written(datetime(2024, 5, 3, 22), 20 * 96, step=15)

    with pytest.raises(PayloadInvalid, match="a file for each"):
        read(hours + quarters.partition(b"\n")[2], labels="start")


@pytest.mark.parametrize(
    ("header", "said", "message"),
    [
        ("time,town_mw", {"unit": "kW"}, "as --unit says"),
        ("hour ending,town_mw", {"labels": "start"}, "as --labels says"),
    ],
)
def test_an_option_that_the_file_contradicts_is_refused(header: str, said: dict[str, str], message: str) -> None:
    data, _ = written(datetime(2024, 5, 1, 22), 48, header=header)

    with pytest.raises(PayloadInvalid, match=message):
        read(data, **said)


def test_labels_that_nothing_tells_are_refused_with_the_option() -> None:
    data, _ = written(datetime(2024, 5, 1, 3), 24)

    with pytest.raises(PayloadInvalid, match="allowed --labels start or --labels end"):
        read(data)


def test_a_clock_that_nothing_names_is_refused_with_a_hint_from_its_changes() -> None:
    data, _ = written(datetime(2024, 2, 29, 23), 24 * 60)

    with pytest.raises(PayloadInvalid, match=r"allowed --time-zone.*changed on the days of Europe/Berlin"):
        read_bytes(data, name="town.csv")


def test_a_label_that_the_clock_skips_is_named() -> None:
    n = 24 * 230  # into November, whose change the labels show
    data, _ = written(datetime(2024, 3, 25, 23), n)

    found = read(data + b"2024-03-31 02:00,8\n", labels="start")

    assert [(p.line, p.got) for p in found.problems] == [(n + 2, "2024-03-31 02:00")]
    assert len(found.series[0]) == n


def test_a_file_whose_changes_were_repaired_leaves_the_skipped_hour_out_and_says_so() -> None:
    texts = [f"{datetime(2024, 3, 25) + timedelta(hours=i):%Y-%m-%d %H:%M},{i}" for i in range(24 * 10)]

    found = read("\n".join(["time,town_mw", *texts]).encode(), clock="Europe/Berlin")

    assert found.problems == ()
    assert len(found.series[0]) == 239
    assert any(fact.name == "rows in skipped hours" for fact in found.facts)


@pytest.mark.parametrize(
    ("header", "stream", "factor"),
    [
        ("time,town_mw", load.STREAM, 1.0),
        ("time,Town (kW)", load.STREAM, 1e-3),
        ("time,town_GW", load.STREAM, 1e3),
        ("time,Netzlast [MWh]", load.STREAM, 1.0),
        ("time,energy_kwh", meter.STREAM, 1.0),
        ("time,Usage (Wh)", meter.STREAM, 1e-3),
        ("time,load", load.STREAM, 1.0),
        ("time,consumption", meter.STREAM, 1.0),
    ],
)
def test_a_unit_in_a_name_tells_whose_readings_they_are(header: str, stream: Stream, factor: float) -> None:
    step = 60 if stream is load.STREAM else 30
    data, _ = written(datetime(2024, 5, 1, 22), 48 * 60 // step, step=step, header=header)

    [series] = read(data).series

    assert series.stream is stream
    assert series.values[:2].tolist() == pytest.approx([400 * factor, 401 * factor])


def test_energy_of_quarter_hours_is_four_times_as_much_mean_load() -> None:
    data, _ = written(datetime(2024, 5, 1, 22), 96, step=15, header="time,town_MWh")

    [series] = read(data, resample="60min").series

    assert series.values[0] == 4 * np.mean([400, 401, 402, 403])


def test_numbers_without_a_unit_are_refused_or_said() -> None:
    data, _ = written(datetime(2024, 5, 1, 22), 48, header="time,value")

    with pytest.raises(PayloadInvalid, match=r"--unit: MW .* or kWh"):
        read(data)
    assert read(data, unit="kW").series[0].values[0] == pytest.approx(0.4)
    said = read(data, load.STREAM).facts
    assert any(fact.name == "unit" and "--unit" in fact.because for fact in said)


def test_somebodys_forecast_is_named_and_left_out() -> None:
    data, starts = written(datetime(2024, 5, 1, 22), 48, header="time,load_MW")
    lines = data.decode().splitlines()
    data = "\n".join([lines[0] + ",forecast_MW", *(f"{line},9" for line in lines[1:])]).encode()

    found = read(data)

    assert [(column.name, column.why) for column in found.left_out] == [("forecast_MW", "somebody's forecast")]
    assert [one.key for one in found.series] == ["TOWN"]
    assert found.series[0].starts.tolist() == starts


def test_zones_side_by_side_and_one_below_the_other_are_series() -> None:
    data, _ = written(datetime(2024, 5, 1, 22), 48, header="time,north_MW")
    lines = data.decode().splitlines()
    wide = "\n".join([lines[0] + ",south_MW", *(f"{line},9" for line in lines[1:])]).encode()
    rows = [f"{zone},{line}" for zone in ("north", "south") for line in lines[1:]]
    long = "\n".join(["zone,time,load_mw", *rows]).encode()

    assert [one.key for one in read(wide).series] == ["NORTH", "SOUTH"]
    assert [one.key for one in read(long).series] == ["north", "south"]


def test_several_columns_of_numbers_are_refused_until_one_is_named() -> None:
    data = b"time,a,b\n2024-05-01 00:00,1,2\n2024-05-01 01:00,1,2\n"

    with pytest.raises(
        PayloadInvalid, match=r"several columns of numbers: a, b, allowed those named by --value-column"
    ):
        read(data, labels="start")
    assert read(data, labels="start", value_column="b", unit="MW").series[0].values.tolist() == [2, 2]


def test_a_running_number_without_a_name_is_passed_over() -> None:
    data, starts = written(datetime(2024, 5, 1, 22), 48)
    lines = data.decode().splitlines()
    text = "\n".join(["," + lines[0], *(f"{i},{line}" for i, line in enumerate(lines[1:]))])

    assert read(text.encode()).series[0].starts.tolist() == starts


@pytest.mark.parametrize(
    ("rows", "first"),
    [
        ("date,hour,load_mw\n2024-05-01,1,5\n2024-05-01,2,6\n", "2024-04-30T22:00"),
        ("date,hour,load_mw\n2024-05-01,0,5\n2024-05-01,1,6\n", "2024-04-30T22:00"),
        ("Date,Hour Ending,load_mw\n1-May-24,01:00,5\n1-May-24,02:00,6\n", "2024-04-30T22:00"),
        ("day,from,to,load_mw\n01.05.2024,00:00,01:00,5\n01.05.2024,01:00,02:00,6\n", "2024-04-30T22:00"),
        (
            "begin,end,load_mw\n2024-05-01 00:00,2024-05-01 01:00,5\n2024-05-01 01:00,2024-05-01 02:00,6\n",
            "2024-04-30T22:00",
        ),
        (
            "utc,local,load_mw\n2024-05-01 00:00,2024-05-01 02:00,5\n2024-05-01 01:00,2024-05-01 03:00,6\n",
            "2024-05-01T00:00",
        ),
        ("time,load_mw\n2024-05-01T00:00+02:00,5\n2024-05-01T01:00+02:00,6\n", "2024-04-30T22:00"),
    ],
)
def test_a_time_may_stand_in_one_column_or_two(rows: str, first: str) -> None:
    said = {} if any(word in rows for word in ("Ending", "from", "begin")) else {"labels": "start"}
    if "2024-05-01,1,5" in rows:
        rows, said = rows.replace("2024-05-01,2,6", "2024-05-01,2,6\n2024-05-01,24,7"), {}

    [series] = read(rows.encode(), **said).series

    assert series.starts[0] == np.datetime64(first, "ms")
    assert series.values[:2].tolist() == [5, 6]


def test_times_with_an_offset_need_a_zone_for_their_days() -> None:
    data = b"time,load_mw\n2024-05-01T00:00+05:30,5\n2024-05-01T01:00+05:30,6\n"

    with pytest.raises(PayloadInvalid, match=r"times with the offset \+05:30, allowed a zone .*--time-zone"):
        read_bytes(data, Options(labels="start"), name="town.csv")
    [series] = read_bytes(data, Options(time_zone="Asia/Kolkata", labels="start"), name="town.csv").series
    assert series.time_zone == "Asia/Kolkata"


def test_rows_between_intervals_are_named() -> None:
    data, _ = written(datetime(2024, 5, 1, 22), 48)

    found = read(data + b"2024-05-02 05:20,7\n", labels="start")

    assert [(p.line, p.got, p.allowed) for p in found.problems] == [
        (50, "2024-05-02 05:20", "whole intervals of 60 min")
    ]


def test_two_values_of_one_interval_are_named_and_the_last_counts() -> None:
    data, _ = written(datetime(2024, 5, 1, 22), 48)

    found = read(data + b"2024-05-02 05:00,7\n", labels="start")

    assert [(p.line, p.allowed) for p in found.problems] == [(7, "7, as line 50 says of the same interval")]
    assert found.series[0].values[5] == 7


def test_a_step_that_nobody_forecasts_is_refused_with_the_option_and_never_thinned() -> None:
    data, _ = written(datetime(2024, 5, 1, 22), 24 * 6, step=10)

    with pytest.raises(PayloadInvalid, match=r"got intervals of 10 min, allowed .*--resample"):
        read(data, labels="start")
    assert read(data, labels="start", resample="1h").series[0].values[0] == np.mean(np.arange(400, 406))


def test_an_interval_of_which_a_part_is_missing_is_missing() -> None:
    data, _ = written(datetime(2024, 5, 1, 22), 24 * 6, step=10)
    lines = data.splitlines()

    [series] = read(b"\n".join([*lines[:3], *lines[4:]]), labels="start", resample="1h").series

    assert np.isnan(series.values).tolist() == [True] + [False] * 23


def test_a_register_becomes_intervals_and_its_reset_a_gap() -> None:
    readings = [100.0, 100.5, 101.5, 3.0, 3.25]
    rows = [f"{datetime(2024, 5, 1) + timedelta(minutes=30 * i)},{v}" for i, v in enumerate(readings)]
    data = "\n".join(["time,meter_kwh", *rows]).encode()

    found = read(data, register="true")

    np.testing.assert_array_equal(found.series[0].values, [0.5, 1.0, np.nan, 0.25])
    assert str(found.series[0].starts[0]) == "2024-04-30T22:00:00.000"
    assert any(fact.name == "register falls" for fact in found.facts)


def test_an_unknown_table_lists_what_is_known() -> None:
    with pytest.raises(PayloadInvalid, match=r"no column of times among x, y.*PJM.*ENTSO-E.*kappawatt inspect"):
        read(b"x,y\n1,2\n3,4\n")
