"""Numbers with their unit in each cell, and messages that name a cell which cannot be read."""

from __future__ import annotations

from datetime import datetime, timedelta
from time import monotonic

import pytest

from kappawatt.datasets.reading.assemble import Found
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes
from kappawatt.errors import PayloadInvalid

LISBON = "Europe/Lisbon"


def table(cells: list[str], name: str = "consumo", separator: str = ",") -> bytes:
    first = datetime(2023, 11, 6)
    rows = [f"{first + timedelta(minutes=15 * i)}{separator}{cell}" for i, cell in enumerate(cells)]
    return "\n".join([f"when{separator}{name}", *rows]).encode()


def read(data: bytes, **said: str) -> Found:
    return read_bytes(data, Options.of({"time_zone": LISBON, **said}), name="casa.csv")


def refusal(data: bytes, **said: str) -> str:
    with pytest.raises(PayloadInvalid) as caught:
        read(data, **said)
    return str(caught.value)


@pytest.mark.parametrize(
    ("form", "unit", "stream", "first"),
    [
        ("{} Wh", "Wh", "meter", 0.25),
        ("{}kWh", "kWh", "meter", 250.0),
        ("{} W", "W", "load", 0.00025),
        ("{} MWh/h", "MW", "load", 250.0),
    ],
)
def test_a_unit_in_each_cell_is_the_columns_and_said(form: str, unit: str, stream: str, first: float) -> None:
    found = read(table([form.format(250 + i % 9) for i in range(96)]))

    assert found.series[0].stream.name == stream
    assert found.series[0].values[0] == pytest.approx(first)
    assert [(fact.value, fact.because) for fact in found.facts if fact.name == "unit in cells"] == [
        (unit, f"as in '{form.format(250)}' of the column 'consumo'")
    ]


def test_a_decimal_comma_before_the_unit_is_one() -> None:
    found = read(table([f"0,{200 + i}5 kWh" for i in range(96)], separator=";"))

    assert found.series[0].values[:2].tolist() == [0.2005, 0.2015]


def test_another_unit_in_one_cell_refuses_the_column_and_names_the_cell() -> None:
    cells = [f"{250 + i} Wh" for i in range(96)]
    cells[40] = "0.29 kWh"

    assert refusal(table(cells)).startswith(
        "line 42: consumo: got '0.29 kWh', allowed Wh, as in line 2 ('250 Wh'): one unit in all of a column"
    )


def test_a_cell_without_a_unit_is_refused_until_it_is_said() -> None:
    cells = [f"{250 + i} Wh" for i in range(96)]
    cells[3] = "253"

    assert "line 5: consumo: got '253' without a unit, allowed a unit in each cell" in refusal(table(cells))
    assert read(table(cells), unit="Wh").series[0].values[3] == pytest.approx(0.253)


def test_a_unit_that_the_name_or_a_person_contradicts_is_refused() -> None:
    cells = [f"{250 + i} Wh" for i in range(96)]

    assert "got '250 Wh', allowed numbers in kWh, as its name says" in refusal(table(cells, "consumo_kwh"))
    assert "got '250 Wh', allowed numbers in kWh, as --unit says" in refusal(table(cells), unit="kWh")


def test_a_cell_that_is_no_number_with_a_unit_is_refused_by_its_line() -> None:
    cells = [f"{250 + i} Wh" for i in range(96)]
    cells[7] = "offline"

    found = read(table(cells))

    assert [problem.message for problem in found.problems] == [
        "line 9: consumo: got 'offline', allowed a number, or nothing"
    ]


def test_words_behind_numbers_that_are_no_units_are_named_with_a_cell() -> None:
    told = refusal(table([f"{250 + i} parts" for i in range(96)]))

    assert "no column of measurements among when, consumo; '250 parts' (consumo, line 2) is no number" in told


def test_times_of_an_unknown_form_are_named_with_value_and_line_and_what_is_read() -> None:
    told = refusal(b"when,load_mw\n" + b"".join(b"2023W45-%d-%02d,410\n" % (d, h) for d in range(3) for h in range(24)))

    assert told.startswith("line 2: when: got '2023W45-0-00', allowed a day and time, as 2024-01-31 23:00, ")
    assert "Known by name" not in told


def test_a_long_cell_takes_no_longer_than_others() -> None:
    cells = [f"1{' ' * 60_000}!"] * 40
    begin = monotonic()

    told = refusal(table(cells))

    assert "is no number" in told
    assert monotonic() - begin < 2


@pytest.mark.parametrize(
    "page", [b"<!DOCTYPE html><html><body>Log in</body></html>", b"<table><tr><td>1</td></tr></table>"]
)
def test_a_page_that_is_called_a_workbook_is_refused_as_one(page: bytes) -> None:
    assert "an HTML page, whatever its name says, allowed a table: open it in Excel" in refusal(page)
