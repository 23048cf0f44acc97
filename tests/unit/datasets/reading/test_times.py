"""Columns of times: every way to write one, what settles day and month, and what is refused."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kappawatt.datasets.reading.times import is_time, read_clock, read_times, split_span
from kappawatt.errors import PayloadInvalid


@pytest.mark.parametrize(
    ("text", "wall", "offset_hours"),
    [
        ("2024-07-09 05:30", "2024-07-09T05:30", None),
        ("2024-07-09T05:30:15.250", "2024-07-09T05:30:15.250", None),
        ("2024/7/9 5:30", "2024-07-09T05:30", None),
        ("2024-07-09T05:30Z", "2024-07-09T05:30", 0),
        ("2024-07-09 05:30:00+02:00", "2024-07-09T05:30", 2),
        ("2024-07-09 05:30:00-0600", "2024-07-09T05:30", -6),
        ("2024-07-09T05:30+05:30", "2024-07-09T05:30", 5.5),
        ("09.07.2024 05:30", "2024-07-09T05:30", None),
        ("9-Jul-24 05:30", "2024-07-09T05:30", None),
        ("9. Juli 2024 05:30", "2024-07-09T05:30", None),
        ("Jul 9, 2024, 5:30 AM", "2024-07-09T05:30", None),
        ("09.07.2024 24:00", "2024-07-10T00:00", None),
        ("'09.07.2024 05:30", "2024-07-09T05:30", None),
        ("25/12/2024 12:30 AM", "2024-12-25T00:30", None),
        ("12/25/2024 12:30:00 pm", "2024-12-25T12:30", None),
        ("11/03/2024 01:30 EST", "2024-11-03T01:30", -5),
    ],
)
def test_a_time_is_read_however_it_is_written(text: str, wall: str, offset_hours: float | None) -> None:
    found = read_times([text], "time", habit=False)

    assert found.bad == ()
    assert found.wall[0] == np.datetime64(wall, "ms")
    if offset_hours is None:
        assert np.isnat(found.offset[0])
    else:
        assert found.offset[0] == np.timedelta64(int(offset_hours * 3600), "s")


NO_TIMES = ["", "soon", "2024-02-30 00:00", "2024-07-09 25:00", "2024-07-09 24:01", "12:30", "9/2024"]


@pytest.mark.parametrize("text", [*NO_TIMES, "2024-07-09 13:00 PM", "2024-07-09 05:30 XYT"])
def test_what_is_no_time_is_named_and_the_others_are_read(text: str) -> None:
    found = read_times(["2024-07-09 05:30", text], "time")

    assert [place for place, _ in found.bad] == [1]
    assert np.isnat(found.wall).tolist() == [False, True]


def test_a_day_above_twelve_anywhere_tells_the_order() -> None:
    first = read_times(["01/02/2024 00:00", "13/02/2024 00:00"], "time")
    second = read_times(["01/02/2024 00:00", "02/13/2024 00:00"], "time", habit=True)

    assert str(first.wall[0])[:10] == "2024-02-01"
    assert str(second.wall[0])[:10] == "2024-01-02"
    assert first.facts[0].value == "day first"


def test_days_that_follow_one_another_tell_the_order() -> None:
    days = [f"{day:02}/09/2022" for day in range(1, 12)]

    found = read_times(days, "USAGE_DATE", habit=False)

    assert str(found.wall[-1])[:10] == "2022-09-11"
    assert "left out" in found.facts[0].because


def test_dates_that_nothing_tells_are_refused_with_the_option() -> None:
    with pytest.raises(PayloadInvalid, match="--day-first"):
        read_times(["01/02/2024 00:00", "01/02/2024 01:00"], "time")
    assert str(read_times(["01/02/2024 00:00"], "time", day_first=True).wall[0])[:10] == "2024-02-01"


def test_both_orders_in_one_column_are_refused() -> None:
    with pytest.raises(PayloadInvalid, match="beside"):
        read_times(["13/01/2024", "01/13/2024"], "time")


def test_an_order_that_the_file_contradicts_is_refused() -> None:
    with pytest.raises(PayloadInvalid, match="as --day-first says"):
        read_times(["01/13/2024"], "time", day_first=True)


@pytest.mark.parametrize(
    ("text", "looks"),
    [
        ("1704067200", "seconds since 1970"),
        ("1704067200000", "milliseconds since 1970"),
        ("20240101", "a day run together"),
        ("202401012300", "a day and time run together"),
        ("45292.5", "a count of days"),
    ],
)
def test_counts_of_seconds_and_days_run_together_are_refused_as_such(text: str, looks: str) -> None:
    with pytest.raises(PayloadInvalid, match=f"which looks like {looks}"):
        read_times([text] * 3, "time")


@given(
    st.datetimes(datetime(1980, 1, 1), datetime(2099, 12, 31)),
    st.sampled_from(["%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M", "%d-%b-%Y %H:%M", "%m/%d/%Y %I:%M %p", "%Y/%m/%d %H:%M"]),
)
def test_every_minute_comes_back_from_every_format(moment: datetime, form: str) -> None:
    moment = moment.replace(second=0, microsecond=0)
    texts = [moment.strftime(form), (moment + timedelta(days=1)).strftime(form), datetime(2000, 1, 25).strftime(form)]

    found = read_times(texts, "time")

    assert found.wall[0] == np.datetime64(moment, "ms")
    assert all(map(is_time, texts))


def test_a_span_is_begin_and_end() -> None:
    assert split_span("01.01.2023 00:00 - 01.01.2023 01:00") == ("01.01.2023 00:00", "01.01.2023 01:00")
    assert split_span("01/01/2023 00:00:00 - 01/01/2023 01:00:00")[1] == "01/01/2023 01:00:00"
    assert split_span("2023-01-01 00:00") == ("2023-01-01 00:00", "")
    assert split_span("a - b") == ("a - b", "")


def test_a_clock_goes_to_the_days_end() -> None:
    assert [read_clock(text) for text in ("00:15", "24:00", "24:15", "7", "12:00 AM")] == [900, 86_400, None, None, 0]


@pytest.mark.parametrize("form", ["{:02}/07/2023", "07/{:02}/2023"], ids=["days_of_july", "the_seventh_of_months"])
def test_days_of_one_month_may_be_one_day_of_each_month(form: str) -> None:
    days = [form.format(i) for i in range(1, 10)]

    with pytest.raises(PayloadInvalid, match=r"any number may be the month, allowed .*--day-first"):
        read_times(days, "date")
    assert str(read_times(days, "date", day_first=form.startswith("{")).wall[-1])[:10] == "2023-07-09"
    assert str(read_times(days, "date", in_a_row=True).wall[-1])[:10] == "2023-07-09"


def test_german_abbreviations_are_offsets() -> None:
    found = read_times(["2023-07-01 12:00 MESZ", "2023-01-01 12:00 MEZ"], "Zeit")

    assert found.instants.astype("datetime64[h]").astype(str).tolist() == ["2023-07-01T10", "2023-01-01T11"]
    assert found.words == ("MESZ", "MEZ")
