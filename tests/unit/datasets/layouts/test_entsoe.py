"""ENTSO-E: names of areas, the platform's words for nothing, clocks of its columns, and what is no load."""

from __future__ import annotations

import io

import openpyxl
import pytest

from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes
from kappawatt.errors import PayloadInvalid

SPANS = ["01.06.2024 00:00 - 01.06.2024 01:00", "01.06.2024 01:00 - 01.06.2024 02:00"]


def file(time: str, *columns: str, values: str = "1000,1100") -> bytes:
    return "\n".join([",".join([time, *columns]), *(f"{span},{values}" for span in SPANS), ""]).encode()


@pytest.mark.parametrize(
    ("column", "key"),
    [
        ("Actual Total Load [MW] - BZN|EE", "EE"),
        ("Actual Total Load [MW] - BZN|DE-LU", "DE-LU"),
        ("Actual Total Load [MW] - CTY|Germany (DE)", "DE"),
        ("Actual Total Load [MW] - Germany (DE)", "DE"),
        ("Actual Total Load [MW] - BZN|IT-Centre-North", "IT-Centre-North"),
        ("Actual Total Load [MW] - CTA|DE(50Hertz)", "DE-50Hertz"),
    ],
)
def test_areas_are_keys(column: str, key: str) -> None:
    [series] = read_bytes(file("Time (UTC)", f"Day-ahead {column[7:]}", column)).series

    assert series.key == key
    assert series.values.tolist() == [1100.0, 1100.0]


@pytest.mark.parametrize(
    ("time", "first", "zone"),
    [
        ("Time (UTC)", "2024-06-01T00:00:00.000", "UTC"),
        ("MTU (CET/CEST)", "2024-05-31T22:00:00.000", "Europe/Brussels"),
        ("MTU (EET/EEST)", "2024-05-31T21:00:00.000", "Europe/Helsinki"),
        ("MTU (WET/WEST)", "2024-05-31T23:00:00.000", "Europe/Lisbon"),
    ],
)
def test_each_column_of_times_says_its_clock(time: str, first: str, zone: str) -> None:
    [series] = read_bytes(file(time, "x", "Actual Total Load [MW] - BZN|EE")).series

    assert (str(series.starts[0]), series.time_zone) == (first, zone)


def test_another_clock_than_the_platforms_is_asked_for() -> None:
    with pytest.raises(PayloadInvalid, match="--time-zone"):
        read_bytes(file("MTU (XYZ)", "x", "Actual Total Load [MW] - BZN|EE"))


def test_the_operators_forecast_is_left_out_in_words() -> None:
    found = read_bytes(file("Time (UTC)", "Day-ahead Total Load Forecast [MW] - EE", "Actual Total Load [MW] - BZN|EE"))

    assert [(one.name[:9], one.why) for one in found.left_out] == [("Day-ahead", "somebody's forecast")]


def test_a_file_of_forecasts_alone_is_refused() -> None:
    with pytest.raises(PayloadInvalid, match=r"no measurement.*forecasts are nobody's history"):
        read_bytes(file("Time (UTC)", "Generation - Solar [MW] Day Ahead/ BZN|EE", "Generation - Wind [MW] Day Ahead"))


def test_days_of_june_by_slashes_are_days_first() -> None:
    span = "01/06/2024 00:00:00 - 01/06/2024 01:00:00"

    [series] = read_bytes(f"MTU (UTC),Area,Actual Total Load (MW)\n{span},BZN|FR,1\n".encode()).series

    assert (series.key, str(series.starts[0])) == ("FR", "2024-06-01T00:00:00.000")


def test_the_workbook_has_its_names_below_a_title() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (
        ["Total Load - Day-ahead / Actual"], ["Actual Total Load [6.1.A]"], [], ["MTU", "BZN|HU", "BZN|HU"],
        ["MTU", "Actual Total Load (MW)", "Day-ahead Total Load Forecast (MW)"],
        *([span.replace(".", "/"), 4000, 4100] for span in SPANS),
    ):  # fmt: skip
        sheet.append(row)
    file = io.BytesIO()
    book.save(file)

    [series] = read_bytes(file.getvalue(), Options(time_zone="UTC", key="HU")).series

    assert series.values.tolist() == [4000.0, 4000.0]
