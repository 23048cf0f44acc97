"""Workbooks as people make them: for eyes. What is read is said, and what can be meant in two ways is refused."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, time, timedelta
from random import Random
from typing import Any

import numpy as np
import openpyxl
import pytest

from kappawatt.datasets.reading.assemble import Found
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes
from kappawatt.errors import KappawattError, PayloadInvalid, PayloadTooLarge

ZONE = "Europe/Vienna"
FIRST = datetime(2023, 6, 5)
HOURS = 72
Row = Sequence[Any]


def moment(hour: float) -> datetime:
    return FIRST + timedelta(hours=hour)


def load(hour: int) -> float:
    return 87.25 + hour % 24 * 1.5


DAMAGE = (b"", b"<c/>", b"<row/>", b't="s"', b't="d"', b"1e400", b"nan", b'r="A0"', b's="999"', b"<f>1</f>", b"\xff")
TABLE: list[Row] = [(moment(i), load(i)) for i in range(HOURS)]
LOADS = [load(i) for i in range(HOURS)]


def saved(book: Any) -> bytes:
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def workbook(*sheets: Iterable[Row], names: Sequence[str] = (), change: Callable[[Any], None] | None = None) -> bytes:
    """A workbook of these sheets of rows."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for i, rows in enumerate(sheets):
        sheet = book.create_sheet(names[i] if names else f"Blatt{i + 1}")
        for row in rows:
            sheet.append(list(row))
    if change is not None:
        change(book)
    return saved(book)


def read(data: bytes, **said: Any) -> Found:
    return read_bytes(data, Options.of({"time_zone": ZONE, "unit": "MW", **said}), name="town.xlsx")


def values(found: Found) -> list[float]:
    [series] = found.series
    assert str(series.starts[0]) == "2023-06-04T22:00:00.000"
    return list(series.values.tolist())


def fact(found: Found, name: str) -> str:
    return "; ".join(f"{one.value} ({one.because})" for one in found.facts if one.name == name)


def refusal(data: bytes, **said: Any) -> str:
    with pytest.raises(PayloadInvalid) as caught:
        read(data, **said)
    return str(caught.value)


# ---- where the table is


@pytest.mark.parametrize(
    "preamble",
    [
        [("Netzgebiet", "Wasserwerk Nord")],
        [("Netzgebiet", "Wasserwerk Nord"), ("Jahr", 2023), ()],
        [("Netzgebiet", "Wasserwerk Nord"), ("Stand", datetime(2024, 1, 9)), ("Einheit", "MW")],
        [("Lastgang 2023",), (), ("Netzgebiet", "Wasserwerk Nord")],
        [("Zeitraum", "Juni", "2023"), ("Seite", 1, 1)],
    ],
    ids=["a pair", "a pair and a year", "a pair and a date", "a title", "wider than the table"],
)
def test_pairs_above_the_table_are_not_its_names(preamble: list[Row]) -> None:
    found = read(workbook([*preamble, ("Zeitpunkt", "Netzlast"), *TABLE]))

    assert values(found) == LOADS
    assert "Zeitpunkt" in fact(found, "time column")


def test_a_title_in_merged_cells_and_empty_rows_and_columns_before_the_table_are_passed_over() -> None:
    def title(book: Any) -> None:
        sheet = book.worksheets[0]
        sheet["C2"] = "Lastgang des Netzes"
        sheet.merge_cells("C2:E2")

    rows = [(), (), (), (None, None, "Zeitpunkt", "Netzlast [MW]"), *((None, None, *row) for row in TABLE)]

    found = read(workbook(rows, change=title))

    assert values(found) == LOADS
    assert found.left_out == ()


def test_names_below_each_other_in_merged_cells_are_put_together() -> None:
    def merged(book: Any) -> None:
        book.worksheets[0].merge_cells("A1:A2")
        book.worksheets[0].merge_cells("B1:C1")

    rows = [("Zeit (UTC)", "Netz", None), (None, "Last [MW]", "Prognose [MW]"), *((*row, 1.0) for row in TABLE)]

    found = read(workbook(rows, change=merged))

    assert str(found.series[0].starts[0]) == "2023-06-05T00:00:00.000"  # the clock that the upper name tells
    assert [column.name for column in found.left_out] == ["Prognose [MW]"]


def test_a_row_of_units_below_the_names_tells_the_unit() -> None:
    rows = [("Zeitpunkt", "Netzlast", "Temperatur"), (None, "kW", "°C"), *((*row, 17.5) for row in TABLE)]

    found = read_bytes(workbook(rows), Options(time_zone=ZONE), name="town.xlsx")

    assert values(found) == pytest.approx([value / 1000 for value in LOADS])
    assert fact(found, "units") == "in row 2 (below the names)"


@pytest.mark.parametrize("name", ["Load 2023", "Last 2023 [MW]", "15-min Load (MW)", "2023", 2023])
def test_a_name_may_hold_a_number_or_be_a_year(name: object) -> None:
    assert values(read(workbook([("Zeitpunkt", name), *TABLE]))) == LOADS


@pytest.mark.parametrize(
    "names",
    [range(1, 25), [str(hour) for hour in range(1, 25)], [time(hour) for hour in range(24)]],
    ids=["numbers", "texts", "times"],
)
def test_names_may_be_the_hours_of_a_row_a_day(names: Iterable[object]) -> None:
    rows = [("Tag", *names), *((moment(24 * d), *(load(24 * d + h) for h in range(24))) for d in range(HOURS // 24))]

    assert values(read(workbook(rows))) == LOADS


@pytest.mark.parametrize("first", ["Ausfall", "n/a", None])
def test_the_first_value_may_be_none(first: str | None) -> None:
    found = read(workbook([("Zeitpunkt", "Netzlast"), (moment(0), first), *TABLE[1:]]))

    assert len(found.series[0]) == HOURS - (first == "Ausfall")
    assert [problem.got for problem in found.problems] == ["Ausfall"] * (first == "Ausfall")


def test_a_report_with_a_date_above_the_table_is_no_table() -> None:
    rows = [("Lastgang",), (datetime(2024, 1, 9), "Bericht"), ("Zeitpunkt", "Netzlast"), *TABLE]

    assert values(read(workbook(rows))) == LOADS


def test_an_index_has_no_name() -> None:
    assert values(read(workbook([(None, "load_mw"), *TABLE]))) == LOADS


def test_a_sheet_without_names_is_refused() -> None:
    assert "no table in the sheets 'Blatt1', allowed a row of names right above" in refusal(workbook(TABLE))


@pytest.mark.parametrize(
    "end",
    [[("Summe", 7391.0)], [("Total 2023", 7391.0)], [(), (None, 7391.0)], [("Mittelwert", 102.7), ("Quelle: Netz",)]],
    ids=["a sum", "a total of a year", "a sum without a word", "a mean and a note"],
)
def test_totals_and_notes_below_the_table_are_left_out_and_said(end: list[Row]) -> None:
    found = read(workbook([("Zeitpunkt", "Netzlast"), *TABLE, *end]))

    assert values(found) == LOADS
    assert found.problems == ()
    assert "no time: totals or notes" in fact(found, "left out below")


def test_a_total_among_the_rows_is_refused_by_its_row() -> None:
    found = read(workbook([("Zeitpunkt", "Netzlast"), *TABLE[:24], ("Summe", 2508.0), *TABLE[24:]]))

    assert values(found) == LOADS
    assert [(problem.line, problem.got) for problem in found.problems] == [(26, "Summe")]


def test_cells_beside_the_table_are_left_out_and_said() -> None:
    def note(book: Any) -> None:
        book.worksheets[0]["H5"] = 121.75

    found = read(workbook([("Zeitpunkt", "Netzlast"), *TABLE], change=note))

    assert values(found) == LOADS
    assert fact(found, "left out beside") == "column H (no name)"


def test_a_second_table_below_the_first_is_no_part_of_it() -> None:
    rows = [("Zeitpunkt", "Netzlast"), *TABLE, (), ("Zeitpunkt", "Temperatur"), *TABLE]

    assert "sheet 'Blatt1', row 75: got other names (Zeitpunkt, Temperatur)" in refusal(workbook(rows))


def test_names_that_are_repeated_are_left_out() -> None:
    found = read(workbook([("Zeitpunkt", "Netzlast"), *TABLE[:40], ("Zeitpunkt", "Netzlast"), *TABLE[40:]]))

    assert values(found) == LOADS
    assert found.problems == ()


# ---- sheets


def month(number: int, name: str = "Netzlast") -> list[Row]:
    first = datetime(2023, number, 1)
    return [("Zeitpunkt", name), *((first + timedelta(hours=i), number + i / 1000) for i in range(48))]


def test_a_sheet_a_month_is_read_together() -> None:
    found = read(workbook(month(6), month(7), month(9), names=["Juni", "Juli", "September"]))

    [series] = found.series
    assert len(series) == 144
    assert series.values[[0, 48, 96]].tolist() == [6, 7, 9]
    assert fact(found, "sheets").startswith("'Juni', 'Juli', 'September' (read together")


def test_sheets_a_year_may_have_the_year_in_their_names() -> None:
    found = read(workbook(month(6, "Last Juni 2023"), month(7, "Last Juli 2023"), names=["06", "07"]))

    assert len(found.series[0]) == 96
    assert "the same names but for year or month" in fact(found, "sheets")


def test_a_row_is_named_with_its_sheet() -> None:
    broken = month(7)
    broken[3] = (broken[3][0], "viel")

    found = read(workbook(month(6), broken, names=["Juni", "Juli"]))

    assert [problem.message for problem in found.problems] == [
        "sheet 'Juli', row 4: Netzlast: got 'viel', allowed a number, or nothing"
    ]
    assert found.series[0].problems == found.problems


def test_sheets_without_times_are_left_out_and_said() -> None:
    info = [("Quelle", "Netz Nord"), ("Stand", "heute")]
    found = read(workbook(info, month(6), month(7), names=["Info", "Juni", "Juli"]))

    assert len(found.series[0]) == 96
    assert fact(found, "left out sheets") == "'Info' (no table)"


def test_sheets_with_tables_of_different_names_are_refused_until_one_is_named() -> None:
    data = workbook(month(6), month(7), month(6, "Temperatur"), names=["2023-06", "2023-07", "Wetter"])

    assert "'2023-06', '2023-07' (Zeitpunkt, Netzlast); 'Wetter' (Zeitpunkt, Temperatur)" in refusal(data)
    assert len(read(data, sheet="2023*").series[0]) == 96
    assert len(read(data, sheet=["2023-07"]).series[0]) == 48
    assert refusal(data, sheet=["2023-06", "Wetter"]).startswith("--sheet: got '2023-06' with Zeitpunkt, Netzlast and")
    assert "allowed one of the workbook's: '2023-06', '2023-07', 'Wetter'" in refusal(data, sheet="Juni")


def test_sheets_of_the_same_times_are_series_of_several_things() -> None:
    data = workbook(month(6), month(6), names=["Nord", "Ost"])

    assert "the sheets 'Nord' and 'Ost', which hold 48 times that are the same" in refusal(data)
    assert len(read(data, sheet="Ost", key="ost").series[0]) == 48


def test_a_hidden_sheet_is_left_out_and_said() -> None:
    def hide(book: Any) -> None:
        book["alt"].sheet_state = "hidden"

    data = workbook(month(5), month(6), names=["alt", "neu"], change=hide)

    found = read(data)

    assert str(found.series[0].starts[0]) == "2023-05-31T22:00:00.000"
    assert fact(found, "left out sheets") == "'alt' (hidden; --sheet reads one)"
    assert str(read(data, sheet="alt").series[0].starts[0]) == "2023-04-30T22:00:00.000"


def test_a_sheet_of_what_has_none_is_refused() -> None:
    with pytest.raises(PayloadInvalid, match="--sheet: got 'Juni', allowed none"):
        read_bytes(b"time,load_mw\n2024-05-01 00:00,1\n2024-05-01 01:00,1\n", Options(sheet=("Juni",)))


# ---- cells


def test_a_table_of_texts_is_read_with_its_decimal_comma() -> None:
    rows = [(f"{at:%d.%m.%Y %H:%M}", f"{value:.2f}".replace(".", ",")) for at, value in TABLE]

    found = read(workbook([("Zeitpunkt", "Netzlast"), *rows]))

    assert values(found) == LOADS
    assert fact(found, "decimal") == ", (as in 87,25)"


@pytest.mark.parametrize("text", ["1.250", "1,250"])
def test_texts_that_are_thousands_or_decimals_are_refused(text: str) -> None:
    rows = [(at, text) for at, _ in TABLE]

    assert "which may be 1250 or have a decimal" in refusal(workbook([("Zeitpunkt", "Netzlast"), *rows]))
    assert set(values(read(workbook([("Zeitpunkt", "Netzlast"), *rows]), decimal=text[1]))) == {1.25}


def test_numbers_that_are_text_in_some_cells_keep_their_decimals() -> None:
    rows = [(at, f"{value:.3f}".replace(".", ",") if i % 5 == 0 else value) for i, (at, value) in enumerate(TABLE)]

    assert refusal(workbook([("Zeitpunkt", "Netzlast"), *rows])).startswith("numbers: got '87,250' and the like")
    assert values(read(workbook([("Zeitpunkt", "Netzlast"), *rows]), decimal=",")) == LOADS


def test_an_error_in_a_cell_is_refused_by_its_row_and_leaves_the_others_as_they_are() -> None:
    rows = [("Zeitpunkt", "Netzlast"), *TABLE]
    rows[4], rows[5] = (rows[4][0], "#DIV/0!"), (rows[5][0], 90.125)

    found = read(workbook(rows))

    assert [(problem.line, problem.got) for problem in found.problems] == [(5, "#DIV/0!")]
    assert values(found)[:4] == [*LOADS[:3], 90.125]


def test_formulas_without_values_are_refused_by_their_cell() -> None:
    rows = [(at, value, f"=B{i}*2") for i, (at, value) in enumerate(TABLE, 2)]

    told = refusal(workbook([("Zeitpunkt", "Nord", "Netzlast"), *rows]))

    assert told.startswith(
        "sheet 'Blatt1', cell C2 (Netzlast): got the formula '=B2*2' without its value, allowed values"
    )


def test_formulas_with_values_are_read() -> None:
    def computed(part: bytes) -> bytes:
        return part.replace(b'<c r="B2" t="n"><v>87.25</v>', b'<c r="B2"><f>40+47.25</f><v>87.25</v>')

    data = patched(workbook([("Zeitpunkt", "Netzlast"), *TABLE]), computed)

    assert values(read(data)) == LOADS


def test_a_formula_whose_value_is_an_empty_text_is_nothing() -> None:
    def computed(part: bytes) -> bytes:
        part = part.replace(b'<c r="B2" t="n"><v>87.25</v>', b'<c r="B2"><f>40+47.25</f><v>87.25</v>')
        return part.replace(b'<c r="B3" t="n"><v>88.75</v>', b'<c r="B3" t="str"><f>IF(1,"",0)</f><v></v>')

    found = read(patched(workbook([("Zeitpunkt", "Netzlast"), *TABLE]), computed))

    assert found.series[0].values[0] == LOADS[0]
    assert found.problems == ()
    assert int(np.isnan(found.series[0].values).sum()) == 1


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_workbook_is_read_or_refused(seed: int) -> None:
    random = Random(seed)
    data = workbook([("Netz", "Nord"), ("Zeitpunkt", "Netzlast"), *TABLE[:30], ("Summe", 3.5)], names=["Juni"])
    parts = zipfile.ZipFile(io.BytesIO(data)).namelist()

    def damage(part: bytes) -> bytes:
        broken = bytearray(part)
        for _ in range(3):
            at = random.randrange(len(broken))
            broken[at : at + random.randrange(12)] = random.choice(DAMAGE)
        return bytes(broken)

    with suppress(KappawattError):
        read(patched(data, damage, random.choice(parts)))


@pytest.mark.parametrize(
    "written", [lambda day: day, lambda day: f"{day:.6f}", lambda day: f"{day:.6f}".replace(".", ",")],
    ids=["number", "text", "text with a comma"],
)  # fmt: skip
def test_days_as_excel_counts_them_are_read_and_said(written: Callable[[float], object]) -> None:
    rows = [(written(45082 + i / 24), value) for i, (_, value) in enumerate(TABLE)]

    found = read(workbook([("Zeitpunkt", "Netzlast"), *rows]))

    assert values(found) == LOADS
    assert "is 2023-06-05 00:00:00" in fact(found, "times")


def test_a_load_of_45000_is_no_day() -> None:
    rows = [(45_000 + i % 3, 44_000.5 + i % 7) for i in range(HOURS)]

    assert "which looks like a count of days" in refusal(workbook([("Nord", "Netzlast"), *rows]))


@pytest.mark.parametrize("form", ["text", "hh:mm", "[hh]:mm"])
def test_the_end_of_a_day_may_be_24_00(form: str) -> None:
    def clocks(book: Any) -> None:
        for row in book.worksheets[0].iter_rows(min_row=2, min_col=2, max_col=2):
            row[0].number_format = form

    rows = [
        (moment(24 * (i // 24)), f"{i % 24 + 1:02}:00" if form == "text" else (i % 24 + 1) / 24, load(i))
        for i in range(HOURS)
    ]

    data = workbook([("Tag", "Uhrzeit", "Netzlast"), *rows], change=None if form == "text" else clocks)

    assert values(read(data)) == LOADS


def test_dates_of_which_a_program_took_days_for_months_are_refused() -> None:
    days = [datetime(2023, 1, 1) + timedelta(hours=6 * i) for i in range(4 * 28)]
    rows = [(at.replace(month=at.day, day=1) if at.day <= 12 else f"{at:%d/%m/%Y %H:%M}", 5.5) for at in days]

    told = refusal(workbook([("Zeitpunkt", "Netzlast"), *rows]))

    assert told.startswith("row 50: Zeitpunkt: got '13/01/2023 00:00' as text where others are dates")


# ---- other kinds, and hostile ones


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000),
            "an old workbook (.xls), allowed a workbook of today: save",
        ),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500) + "EncryptedPackage".encode("utf-16-le"),
            "a workbook with a password, allowed one without",
        ),
    ],
    ids=["xls", "password"],
)
def test_old_and_locked_workbooks_are_refused_with_what_to_do(data: bytes, told: str) -> None:
    assert told in refusal(data)


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"xl/workbook.bin": b"x"}, "a binary workbook (.xlsb)"),
        ({"mimetype": b"application/vnd.oasis.opendocument.spreadsheet", "content.xml": b"<x/>"}, "(.ods)"),
    ],
    ids=["xlsb", "ods"],
)
def test_workbooks_of_other_kinds_are_refused_with_what_to_do(members: dict[str, bytes], told: str) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)

    assert told in refusal(file.getvalue())
    assert "save it as .xlsx, or as CSV" in refusal(file.getvalue())


def test_a_workbook_in_a_zip_is_read() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("town.xlsx", workbook([("Zeitpunkt", "Netzlast"), *TABLE]))

    assert values(read(file.getvalue())) == LOADS


def patched(data: bytes, change: Callable[[bytes], bytes], part: str = "xl/worksheets/sheet1.xml") -> bytes:
    """A workbook with one of its parts changed."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, change(content) if name == part else content)
    return file.getvalue()


def ending(rows: bytes) -> Callable[[bytes], bytes]:
    return lambda part: part.replace(b"</sheetData>", rows + b"</sheetData>")


@pytest.mark.parametrize(
    "change",
    [
        ending(b'<row r="900000000000"><c r="A900000000000"><v>1</v></c></row>'),
        ending(b'<row r="98">' + b"<c/>" * 1_500_000 + b"</row>"),
        ending(b'<row r="98"/>' + b" " * (130 * 2**20)),
        lambda part: part.replace(b"</sheetData>", b"</sheetData>" + b"<a/>" * 1_500_000),
        ending(b"".join(b'<row><c r="BXX%d"><v>1</v></c></row>' % i for i in range(98, 12_000))),
    ],
    ids=["row numbers", "cells of a row", "blanks", "elements", "wide rows"],
)
def test_a_workbook_that_swells_is_refused(change: Callable[[bytes], bytes]) -> None:
    data = patched(workbook([("Zeitpunkt", "Netzlast"), *TABLE]), change)

    with pytest.raises(PayloadTooLarge):
        read(data)


def test_what_a_workbook_says_of_its_size_is_not_believed() -> None:
    data = workbook([("Zeitpunkt", "Netzlast"), *TABLE])

    for said in (b"A1:XFD1048576", b"A1:B9"):
        assert values(read(patched(data, lambda part, said=said: part.replace(b"A1:B73", said)))) == LOADS


def test_empty_rows_below_the_table_are_nothing() -> None:
    rows = b"".join(b'<row r="%d"><c r="A%d" s="0"/></row>' % (i, i) for i in range(100, 20_000))

    assert values(read(patched(workbook([("Zeitpunkt", "Netzlast"), *TABLE]), ending(rows)))) == LOADS
