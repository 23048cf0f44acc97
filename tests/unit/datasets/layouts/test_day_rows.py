"""A row a day: what columns may be, what they count, and what is refused rather than guessed."""

from __future__ import annotations

import pytest

from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes
from kappawatt.errors import PayloadInvalid

NEW_YORK = Options(time_zone="America/New_York", unit="MW", key="zone")
SPRING, AUTUMN = "2024-03-10", "2024-11-03"  # of New York's clock


def file(names: list[str], *rows: tuple[str, list[str]]) -> bytes:
    return "\n".join([",".join(["date", *names]), *(",".join([day, *cells]) for day, cells in rows), ""]).encode()


def hours(count: int = 24) -> list[str]:
    return [str(1000 + i) for i in range(count)]


@pytest.mark.parametrize(
    "names",
    [
        [f"H{i}" for i in range(1, 25)],
        [f"HE{i:02}" for i in range(1, 25)],
        [f"Hour {i}" for i in range(24)],
        [f"{i}:00" for i in range(24)],
        [f"{i:02}:00" for i in range(1, 25)],
        [*(f"{i:02}:00" for i in range(1, 24)), "00:00"],
        [f"{i:02}:00-{(i + 1) % 24:02}:00" for i in range(24)],
        [f"{i % 12 or 12}:00 {'AM' if i < 12 else 'PM'}" for i in range(24)],
    ],
    ids=["numbers", "hours_ending", "from_zero", "starts", "ends", "ends_at_midnight", "spans", "halves_of_the_day"],
)
def test_columns_are_numbers_starts_ends_or_spans(names: list[str]) -> None:
    [series] = read_bytes(file(names, ("2024-06-01", hours())), NEW_YORK).series

    assert str(series.starts[0]) == "2024-06-01T04:00:00.000"
    assert series.values.tolist() == [1000.0 + i for i in range(24)]


@pytest.mark.parametrize(("count", "minutes"), [(24, 60), (48, 30), (96, 15)])
def test_a_day_has_24_48_or_96(count: int, minutes: int) -> None:
    data = file([f"V{i}" for i in range(1, count + 1)], ("2024-06-01", hours(count)))
    options = Options(time_zone="UTC", unit="kWh" if minutes < 60 else "MW", key="a")

    [series] = read_bytes(data, options).series

    assert (series.step, len(series)) == (60 * minutes, count)


def test_numbers_count_the_hours_of_a_short_day_if_the_last_is_empty() -> None:
    [series] = read_bytes(file([f"H{i}" for i in range(1, 25)], (SPRING, [*hours(23), ""])), NEW_YORK).series

    assert len(series) == 23
    assert str(series.starts[2]) == f"{SPRING}T07:00:00.000"
    assert series.values.tolist() == [1000.0 + i for i in range(23)]


@pytest.mark.parametrize("nothing", ["", "0", "n/a"])
def test_numbers_are_hours_of_the_clock_if_the_skipped_one_is_empty(nothing: str) -> None:
    cells = [*hours(2), nothing, *hours(24)[3:]]

    [series] = read_bytes(file([f"H{i}" for i in range(1, 25)], (SPRING, cells)), NEW_YORK).series

    assert len(series) == 23
    assert series.values.tolist() == [1000.0, 1001.0, *(1000.0 + i for i in range(3, 24))]


def test_a_short_day_with_all_hours_is_of_another_clock() -> None:
    with pytest.raises(PayloadInvalid, match=r"24 values on 2024-03-10.*23.*--time-zone"):
        read_bytes(file([f"H{i}" for i in range(1, 25)], (SPRING, hours())), NEW_YORK)


def test_an_additional_column_is_the_long_days_last_hour() -> None:
    data = file([f"H{i}" for i in range(1, 26)], ("2024-11-02", [*hours(), ""]), (AUTUMN, hours(25)))

    [series] = read_bytes(data, NEW_YORK).series

    assert series.values.tolist() == [*(1000.0 + i for i in range(24)), *(1000.0 + i for i in range(25))]
    assert str(series.starts[-1]) == "2024-11-04T04:00:00.000"


def test_one_column_for_two_hours_is_left_out_in_words() -> None:
    found = read_bytes(file([f"H{i}" for i in range(1, 25)], (AUTUMN, hours())), NEW_YORK)

    assert len(found.series[0]) == 23
    assert [fact.value for fact in found.facts if fact.name == "repeated hour"] == ["1 cells left out"]


def test_the_files_clock_is_asked_for() -> None:
    with pytest.raises(PayloadInvalid, match="--time-zone"):
        read_bytes(file([f"H{i}" for i in range(1, 25)], ("2024-06-01", hours())))


def test_two_rows_of_one_day_are_refused() -> None:
    day = ("2024-06-01", hours())

    with pytest.raises(PayloadInvalid, match="2024-06-01 twice"):
        read_bytes(file([f"H{i}" for i in range(1, 25)], day, day), NEW_YORK)


def test_a_column_of_units_is_believed_and_has_to_be_one() -> None:
    head = ",".join(["Meter ID,Date,Unit", *(f"HH{i}" for i in range(1, 49))])
    rows = [",".join(["m1,2024-06-01", unit, *hours(48)]) for unit in ("Wh", "kWh")]

    [series] = read_bytes(f"{head}\n{rows[0]}\n".encode(), Options(time_zone="UTC")).series

    assert (series.key, series.values[0]) == ("m1", 1.0)
    with pytest.raises(PayloadInvalid, match="one unit"):
        read_bytes(f"{head}\n{rows[0]}\n{rows[1]}\n".encode(), Options(time_zone="UTC"))


def test_columns_of_lags_beside_a_time_are_no_day() -> None:
    head = ",".join(["time,load_mw", *(f"lag{i}" for i in range(1, 25))])
    rows = [",".join([f"2024-06-01 {h:02}:00", "5", *hours()]) for h in range(24)]

    [series] = read_bytes("\n".join([head, *rows]).encode(), Options(time_zone="UTC", value_column=("load_mw",))).series

    assert series.values.tolist() == [5.0] * 24


def test_a_day_that_there_is_not_is_named() -> None:
    data = file([f"H{i}" for i in range(1, 25)], ("2024-06-01", hours()), ("2024-06-31", hours()))

    found = read_bytes(data, NEW_YORK)

    assert [(problem.line, problem.got) for problem in found.problems] == [(3, "2024-06-31")]
