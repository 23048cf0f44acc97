"""Days that a file closes, counts or sums up in its own way: 00:00 at their end, hours to 23, daily counters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import sin
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from kappawatt.datasets.quality import examine
from kappawatt.datasets.reading.assemble import Found
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes, read_file
from kappawatt.errors import PayloadInvalid

MADRID = ZoneInfo("Europe/Madrid")


def read(lines: list[str], **said: str) -> Found:
    options = Options.of({"time_zone": "Europe/Madrid", **said})
    return read_bytes("\n".join(lines).encode(), options, name="coast.csv")


def grid(first: datetime, days: int, minutes: int) -> list[datetime]:
    begin = first.replace(tzinfo=MADRID).astimezone(UTC)
    end = (first + timedelta(days=days)).replace(tzinfo=MADRID).astimezone(UTC)
    return [begin + timedelta(minutes=minutes * i) for i in range((end - begin) // timedelta(minutes=minutes))]


def starts_of(found: Found) -> list[datetime]:
    return [datetime.fromisoformat(f"{start}+00:00") for start in found.series[0].starts]


# ---- 00:00 with the date of the day that ends


def closed(starts: list[datetime], minutes: int, *, together: bool = False) -> list[str]:
    rows = []
    for i, start in enumerate(starts):
        end = (start + timedelta(minutes=minutes)).astimezone(MADRID)
        day = end.date() - timedelta(days=1) if (end.hour, end.minute) == (0, 0) else end.date()
        rows.append(f"{day:%d.%m.%Y}{' ' if together else ';'}{end:%H:%M};{500 + 60 * sin(i / 7):.1f}")
    return rows


@pytest.mark.parametrize("first", [datetime(2024, 3, 28), datetime(2024, 10, 24), datetime(2024, 7, 1)])
@pytest.mark.parametrize("minutes", [15, 60])
@pytest.mark.parametrize("is_reversed", [False, True])
def test_midnight_with_the_date_of_the_day_that_ends_is_its_end(
    first: datetime, minutes: int, is_reversed: bool
) -> None:
    starts = grid(first, 6, minutes)
    rows = closed(starts, minutes)

    found = read(["Datum;Zeit;Last MW", *(rows[::-1] if is_reversed else rows)])

    assert starts_of(found) == starts
    assert found.series[0].values[-1] == float(rows[-1].rpartition(";")[2])
    fact = next(fact for fact in found.facts if fact.name == "00:00")
    assert fact.value == "the end of its date"


def test_midnight_at_the_end_of_its_date_is_told_in_one_column_and_series_by_series() -> None:
    starts = grid(datetime(2024, 7, 1), 3, 30)
    rows = closed(starts, 30, together=True)

    assert starts_of(read(["Zeit;Last MW", *rows])) == starts
    both = [f"{row};{zone}" for row in rows for zone in ("N", "S")]
    found = read(["Zeit;Last MW;Zone", *both])
    assert [len(series) for series in found.series] == [len(starts)] * 2
    assert starts_of(found) == starts


def test_midnights_that_end_and_begin_their_dates_in_one_file_are_refused() -> None:
    wrong = closed(grid(datetime(2024, 7, 1), 3, 60), 60)
    right = [
        f"{s.astimezone(MADRID):%d.%m.%Y};{s.astimezone(MADRID):%H:%M};510" for s in grid(datetime(2024, 7, 4), 3, 60)
    ][1:]

    with pytest.raises(PayloadInvalid, match=r"00:00 after the evening of 2024-07-01, and 00:00 of 2024-07-05"):
        read(["Datum;Zeit;Last MW", *wrong, *right])
    with pytest.raises(PayloadInvalid, match=r"00:00 after the evening of 2024-07-01.*labels of the start"):
        read(["Datum;Beginn;Last MW", *wrong])


# ---- hours counted through the day


def counted(starts: list[datetime], *, base: int = 1) -> list[str]:
    seen: dict[str, int] = {}
    rows = []
    for i, start in enumerate(starts):
        day = f"{start.astimezone(MADRID):%Y-%m-%d}"
        seen[day] = seen.get(day, base - 1) + 1
        rows.append(f"{day},{seen[day]},{500 + i}")
    return rows


@pytest.mark.parametrize(("first", "days"), [(datetime(2024, 3, 27), 9), (datetime(2024, 3, 29), 3)])
def test_hours_counted_to_23_on_the_short_day_are_counted_on_all(first: datetime, days: int) -> None:
    starts = grid(first, days, 60)

    found = read(["date,hour,load_mw", *counted(starts)])

    assert starts_of(found) == starts
    assert found.series[0].values.tolist() == [500.0 + i for i in range(len(starts))]


def test_hours_by_the_clock_leave_out_the_one_that_it_skips() -> None:
    starts = grid(datetime(2024, 3, 27), 9, 60)
    rows = [f"{s.astimezone(MADRID):%Y-%m-%d},{s.astimezone(MADRID).hour + 1},{500 + i}" for i, s in enumerate(starts)]

    assert starts_of(read(["date,hour,load_mw", *rows])) == starts


def test_hours_counted_from_zero_or_on_the_short_day_only_are_refused() -> None:
    with pytest.raises(PayloadInvalid, match=r"hours from 0 to 22 on 2024-03-31, when Europe/Madrid skips one"):
        read(["date,hour,load_mw", *counted(grid(datetime(2024, 3, 27), 9, 60), base=0)])
    rows = [row for row in counted(grid(datetime(2024, 3, 27), 230, 60)) if row.split(",")[1] != "25"]
    with pytest.raises(PayloadInvalid, match=r"hours from 1 to 23 on 2024-03-31, and none above 24 on 2024-10-27"):
        read(["date,hour,load_mw", *rows])


# ---- a counter of each day


def used(i: int) -> float:
    return round(0.3 + 0.2 * sin(i / 6) ** 2, 3)


def counter(starts: list[datetime], minutes: int, shown: str) -> list[str]:
    """A counter that begins anew at midnight; readings are shown at the start or at the end of their intervals."""
    sums: dict[str, float] = {}
    rows = []
    for i, start in enumerate(starts):
        day = f"{start.astimezone(MADRID):%Y-%m-%d}"
        sums[day] = sums.get(day, 0.0) + used(i)
        at = start if shown == "start" else start + timedelta(minutes=minutes)
        rows.append(f"{at.astimezone(MADRID):%Y-%m-%d %H:%M},{sums[day]:.3f}")
    return rows


@pytest.mark.parametrize("first", [datetime(2024, 5, 6), datetime(2024, 3, 29), datetime(2024, 10, 25)])
@pytest.mark.parametrize("minutes", [15, 60])
@pytest.mark.parametrize("shown", ["start", "end"])
def test_a_counter_of_each_day_is_refused_and_loses_nothing_as_a_register(
    first: datetime, minutes: int, shown: str, tmp_path: Path
) -> None:
    starts = grid(first, 4, minutes)
    path = tmp_path / "home.csv"
    path.write_text("\n".join(["time,used_kwh", *counter(starts, minutes, shown)]))
    said = {"time_zone": "Europe/Madrid", "labels": shown}

    with pytest.raises(PayloadInvalid, match=r"rise all day and fall at midnight only.*--register"):
        read_file(path, Options.of(said))
    found = read_file(path, Options.of({**said, "register": "true"}))

    kept = 0 if shown == "start" else 1  # the first reading at an end has none before it
    assert starts_of(found) == starts[kept:]
    np.testing.assert_allclose(found.series[0].values, [used(i) for i in range(kept, len(starts))], atol=1.1e-3)
    assert any(fact.name == "register is reset" for fact in found.facts)


def test_inspect_says_that_a_counter_of_each_day_is_one() -> None:
    found = read(["time,used_kwh", *counter(grid(datetime(2024, 5, 6), 4, 60), 60, "start")])

    assert examine(found.series[0]).is_register


def test_what_rises_in_the_morning_only_is_consumption() -> None:
    rows = [
        f"{s.astimezone(MADRID):%Y-%m-%d %H:%M},{0.4 - 0.3 * np.cos(s.hour / 24 * 2 * np.pi):.3f}"
        for s in grid(datetime(2024, 5, 6), 4, 60)
    ]

    assert not examine(read(["time,used_kwh", *rows]).series[0]).is_register
