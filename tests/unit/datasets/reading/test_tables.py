"""Both readers of CSV give the same table; dialects, wide and narrow rows; workbooks, Parquet, archives."""

from __future__ import annotations

import contextlib
import gzip
import io
import zipfile
from collections.abc import Callable
from datetime import datetime, timedelta
from math import sin
from pathlib import Path
from random import Random

import duckdb
import numpy as np
import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kappawatt.columns.arrow import write_columns
from kappawatt.columns.budget import STANDARD
from kappawatt.datasets.reading.dialect import Dialect
from kappawatt.datasets.reading.options import NOTHING_SAID, Options
from kappawatt.datasets.reading.read import read_bytes, read_file, table_of
from kappawatt.datasets.reading.texts import dialect_of, read_with_csv
from kappawatt.datasets.reading.with_duckdb import read_with_duckdb
from kappawatt.errors import PayloadInvalid, PayloadTooLarge

BERLIN = Options(time_zone="Europe/Berlin")


def hours(n: int, separator: str = ",", decimal: str = ".") -> str:
    first = datetime(2024, 5, 1)
    rows = [f"{first + timedelta(hours=i)}{separator}{410 + i}{decimal}5" for i in range(n)]
    return "\n".join([f"timestamp{separator}load_mw", *rows]) + "\n"


CELL = st.text(st.sampled_from("ab1.- "), max_size=4)


@settings(deadline=None)
@given(st.lists(st.lists(CELL, min_size=1, max_size=4), max_size=12), st.sampled_from([",", ";", "\t"]), st.booleans())
def test_the_door_and_the_command_line_read_the_same(rows: list[list[str]], separator: str, quoted: bool) -> None:
    quote = '"' if quoted else ""
    lines = [separator.join(f"{quote}{cell}{quote}" for cell in row) for row in rows]
    data = "\n".join([separator.join(("time", "name", "mw")), f"2024-01-01{separator}x{separator}1", *lines]).encode()
    dialect = Dialect(separator, ("time", "name", "mw"), 1)

    found = []
    for read in (read_with_csv, read_with_duckdb):
        try:
            table = read(data, dialect)
            found.append((table.columns, table.lines.tolist(), sorted(p.message for p in table.problems)))
        except PayloadInvalid as error:
            found.append(str(error).partition(":")[0])

    assert found[0] == found[1]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_separator_is_found(separator: str, ends: str) -> None:
    text = hours(48, separator).replace("\n", ends)

    [series] = read_bytes(text.encode(), BERLIN, name="town.csv").series

    assert series.values[:2].tolist() == [410.5, 411.5]


def test_a_decimal_comma_between_semicolons_is_read() -> None:
    [series] = read_bytes(hours(48, ";", ",").encode(), BERLIN, name="town.csv").series

    assert series.values[:2].tolist() == [410.5, 411.5]


@pytest.mark.parametrize("budget", [None, STANDARD], ids=["file", "door"])
@pytest.mark.parametrize(
    ("row", "looks"),
    [
        ("2024-05-01 {:02}:00,410,5", "a decimal comma?"),
        ("2024-05-01 {:02}:00,1,410.5", "a comma between thousands?"),
    ],
)
def test_rows_wider_than_the_names_are_refused_whole_with_what_they_look_like(
    row: str, looks: str, budget: object
) -> None:
    text = "\n".join(["timestamp,load_mw", *(row.format(hour) for hour in range(20))])

    with pytest.raises(PayloadInvalid, match=r"line 2: row: got '3 values: .*', allowed 2 values; ") as caught:
        read_bytes(text.encode(), BERLIN, budget=budget)  # type: ignore[arg-type]
    assert looks in str(caught.value)


def test_one_wide_row_among_many_is_named_and_the_others_are_read() -> None:
    text = hours(240).replace("419.5", "419.5,oops")

    found = read_bytes(text.encode(), BERLIN, name="town.csv")

    assert [problem.line for problem in found.problems] == [11]
    assert len(found.series[0]) == 239


def test_lines_before_the_names_are_passed_over_and_lines_keep_their_numbers() -> None:
    text = "Export of the portal\nmeter;0815\n\n" + hours(48, ";") + "soon;1\n"

    found = read_bytes(text.encode(), BERLIN, name="town.csv")

    assert len(found.series[0]) == 48
    assert [problem.line for problem in found.problems] == [53]


def test_windows_letters_and_utf_16_are_read_and_said() -> None:
    text = hours(48, ";", ",").replace("load_mw", "Last Zähler [MW]")

    for data in (text.encode("cp1252"), ("\ufeff" + text).encode("utf-16-le")):
        found = read_bytes(data, BERLIN, name="town.csv")
        assert found.series[0].values[0] == 410.5
        assert any(fact.name == "encoding" for fact in found.facts)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_zip_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", hours(24))
    body = bytearray(packed.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(-90, -1))] = data.draw(st.integers(0, 255))  # where the archive says what is where

    with contextlib.suppress(PayloadInvalid, PayloadTooLarge):
        read_bytes(bytes(body), NOTHING_SAID, name="a.zip", budget=STANDARD)


def test_a_zip_whose_directory_points_before_its_beginning_is_refused() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.csv", hours(24))
    body = bytearray(packed.getvalue())
    offset = body.rfind(b"PK\x05\x06") + 16
    body[offset : offset + 4] = (int.from_bytes(body[offset : offset + 4], "little") + 65_536).to_bytes(4, "little")

    with pytest.raises(PayloadInvalid, match="file: got damaged zip"):
        read_bytes(bytes(body), NOTHING_SAID, name="a.zip")


def test_gzip_and_zip_are_unpacked_whatever_their_name(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("export/town.csv", hours(48))
    for data in (gzip.compress(hours(48).encode()), packed.getvalue(), gzip.compress(packed.getvalue())):
        (tmp_path / "town.csv").write_bytes(data)
        assert len(read_file(tmp_path / "town.csv", BERLIN).series[0]) == 48


def test_an_archive_of_several_files_is_refused_with_their_names() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("a.csv", "b.csv"):
            archive.writestr(name, hours(2))

    with pytest.raises(PayloadInvalid, match=r"a zip of 2 files \(a.csv, b.csv\)"):
        read_bytes(packed.getvalue())


def test_what_unpacks_to_too_much_is_refused() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", b"0" * (STANDARD.body + 1))

    for data in (packed.getvalue(), gzip.compress(b"0" * (STANDARD.body + 1))):
        with pytest.raises(PayloadTooLarge):
            table_of(data, "", Options(), STANDARD)


def test_a_workbook_is_read_with_its_times() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["Load of the town"])
    sheet.append(["Hour Ending", "Town MW"])
    for i in range(48):
        sheet.append([datetime(2024, 5, 1, 1) + timedelta(hours=i, microseconds=-400), 410.5 + i])
    data = io.BytesIO()
    book.save(data)

    [series] = read_bytes(data.getvalue(), BERLIN).series

    assert str(series.starts[0]) == "2024-04-30T22:00:00.000"
    assert (series.key, series.values[1]) == ("TOWN", 411.5)


def test_a_workbook_may_have_days_and_hours_apart() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["Day", "Hour", "Town MW"])
    for i in range(48):
        sheet.append([datetime(2024, 5, 1 + i // 24), i % 24 + 1, 410.5 + i])
    data = io.BytesIO()
    book.save(data)

    [series] = read_bytes(data.getvalue(), BERLIN).series

    assert str(series.starts[0]) == "2024-04-30T22:00:00.000"
    assert series.values.tolist() == [410.5 + i for i in range(48)]


@pytest.mark.parametrize("kind", ["TIMESTAMP", "TIMESTAMPTZ"])
def test_parquet_is_read_with_its_types(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "town.parquet"
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(
        f"COPY (SELECT (TIMESTAMP '2024-05-01' + i * INTERVAL 1 HOUR)::{kind} AS timestamp, 410.5 + i AS load_mw "
        f"FROM range(48) t(i)) TO '{path}'"
    )

    [series] = read_file(path, BERLIN).series

    first = "2024-04-30T22" if kind == "TIMESTAMP" else "2024-05-01T00"
    assert series.starts[0] == np.datetime64(first, "ms")
    assert series.values[1] == 411.5


def test_arrow_and_json_rows_are_read() -> None:
    starts = np.arange(np.datetime64("2024-05-01", "ms"), np.datetime64("2024-05-03", "ms"), np.timedelta64(1, "h"))
    arrow = write_columns({"interval_start": starts, "load": np.arange(48.0)})
    lines = "\n".join(f'{{"interval_start": "{start}Z", "load": {i}}}' for i, start in enumerate(starts)).encode()

    for data in (arrow, lines, b"[" + lines.replace(b"\n", b",") + b"]"):
        [series] = read_bytes(data, Options(key="town")).series
        assert (series.starts.tolist(), series.values.tolist()) == (starts.tolist(), list(range(48)))


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_end_in_anything_but_a_refusal(data: bytes) -> None:
    for start in (
        b"",
        b"time,mw\n2024-01-01 00:00,1\n",
        b"\x1f\x8b",
        b"PK\x03\x04",
        b"PAR1",
        b"ARROW1",
        b"<feed espi ",
    ):
        try:
            read_bytes(start + data, BERLIN)
        except PayloadInvalid:
            continue


def rows_of(n: int, written: Callable[[int, float], str]) -> list[str]:
    """A year's beginning by the hour: a time, and a load that goes up and down, written so."""
    start, noise = datetime(2023, 3, 6), Random(3)
    loads = [310 + 80 * sin(i / 4) + noise.gauss(0, 2) for i in range(n)]
    return [f"{start + timedelta(hours=i):%Y-%m-%d %H:%M},{written(i, load)}" for i, load in enumerate(loads)]


@pytest.mark.parametrize("digits", [1, 2, 3])
@pytest.mark.parametrize("second", ["temperature", "town_b_mw", "status"])
def test_a_decimal_comma_that_makes_rows_as_wide_as_the_names_is_refused(digits: int, second: str) -> None:
    rows = rows_of(240, lambda _, load: f"{load:.{digits}f}".replace(".", ","))

    with pytest.raises(PayloadInvalid, match=r"look like one number \d+,\d+, allowed .*decimal comma.*semicolons"):
        read_bytes("\n".join([f"time,town_mw,{second}", *rows]).encode(), name="town.csv")


@pytest.mark.parametrize(
    "second",
    [
        lambda i, load: f"{round(5 + 4 * sin(i / 30))}",  # degrees
        lambda i, load: f"{i % 24:02}",  # hours
        lambda i, load: f"{i // 24 % 7 + 1}",  # days of the week
        lambda i, load: f"{Random(i).choice((0, 1, 2))}",  # states
        lambda i, load: f"{round(load * 0.3)}",  # another town
    ],
    ids=["degrees", "hours", "weekdays", "states", "another_town"],
)
def test_whole_numbers_beside_whole_numbers_are_two_columns(second: Callable[[int, float], str]) -> None:
    rows = rows_of(240, lambda i, load: f"{round(load)},{second(i, load)}")

    table = table_of("\n".join(["time,town_mw,other", *rows]).encode(), "town.csv", NOTHING_SAID)

    assert len(table) == 240


def test_a_person_can_say_that_digits_are_a_column() -> None:
    rows = rows_of(240, lambda i, load: f"{round(load)},{Random(i).randrange(10)}")
    data = "\n".join(["time,town_mw,quality", *rows]).encode()

    with pytest.raises(PayloadInvalid, match=r"--decimal \. if they are two columns"):
        table_of(data, "town.csv", NOTHING_SAID)
    assert len(table_of(data, "town.csv", Options(decimal="."))) == 240


@pytest.mark.parametrize(
    ("titles", "line"),
    [
        (["Load curve,Grid north,Control room", "Report,monthly,final"], 3),
        (["Customer,Sample Inc,", "Meter,DE0001,", "Period,2023,"], 4),
        (["Title,Load,Unit", "Net,North,MW", "", "Export,by hand,checked"], 5),
    ],
)
def test_titles_as_wide_as_the_table_are_no_names(titles: list[str], line: int) -> None:
    rows = rows_of(48, lambda i, load: f"{load:.1f},ok")

    found = dialect_of("\n".join([*titles, "time,town_mw,state", *rows]).encode())

    assert (found.names, found.line) == (("time", "town_mw", "state"), line)


def test_a_line_of_units_below_the_names_and_a_remark_between_rows_are_no_names() -> None:
    rows = rows_of(8, lambda i, load: f"{load:.1f},ok")

    found = dialect_of("\n".join(["time,town,state", "[UTC],MW,-", *rows[:4], "meter,was,changed", *rows[4:]]).encode())

    assert (found.names, found.line) == (("time", "town", "state"), 1)
