"""`kappawatt inspect`: what it says of files that are read, and of those that are not."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kappawatt.cli.blocks import ASCII, bars, binned
from kappawatt.cli.main import main

Write = Callable[[str, str], Path]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)])


def seen(*arguments: object) -> dict[str, Any]:
    result = call(*arguments, "--json")
    (line,) = [line for line in result.stdout.splitlines() if line]
    document: dict[str, Any] = json.loads(line)
    assert (document["error"] is None) == (result.exit_code == 0)
    return document


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def writing(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return writing


def rows(days: int = 30, start: str = "2023-03-01", mark: str = ",") -> list[str]:
    """Hours of a load, by UTC."""
    first = datetime.fromisoformat(start)
    random = np.random.default_rng(3)
    found = []
    for i in range(days * 24):
        load = 500 * (1 + 0.3 * np.sin(i / 24 * 2 * np.pi)) * (1 + 0.02 * random.standard_normal())
        found.append(f"{first + timedelta(hours=i):%Y-%m-%d %H:%M}{mark}{load:.2f}")
    return found


HEADER = "time_utc,load_mw"


def test_it_says_how_a_file_is_read_and_what_told_it(write: Write) -> None:
    text = "\n".join(["time_utc;load_mw", *(row.replace(".", ",") for row in rows(mark=";"))])

    result = call(write("town.csv", text))

    assert result.exit_code == 0, result.output
    for words in (
        "separator      semicolon",
        "decimal        ,",
        "labels         start",
        "time zone      UTC",
        "unit           MW",
    ):
        assert words in result.output
    assert "TOWN: load [MW] every 1 h, UTC" in result.output
    assert "720 of 720" in result.output
    assert "nothing of     missing, doubled" in result.output


def test_what_a_short_series_is_not_checked_for_is_not_claimed(write: Write) -> None:
    few = call(write("few.csv", "\n".join([HEADER, *rows()[:48]])), "--labels", "start").output
    many = call(write("many.csv", "\n".join([HEADER, *rows()]))).output

    assert "not checked    for which the series is too short (spikes: 14 days, level: 28 days and more)" in few
    assert "spikes" not in few.partition("nothing of")[2].partition("not checked")[0]
    assert "not checked" not in many


def test_a_factor_of_1000_within_a_few_days_is_told(write: Write) -> None:
    table = [row if i < 60 else f"{row}000" for i, row in enumerate(row.partition(".")[0] for row in rows()[:120])]

    result = call(write("town.csv", "\n".join([HEADER, *table])))

    assert "values jump by a factor of 1000 and stay" in result.output
    assert "2023-03-03 12:00" in result.output


def test_output_is_narrow_enough_and_has_no_colours(write: Write) -> None:
    result = call(write("town.csv", "\n".join([HEADER, *rows()])))

    assert max(map(len, result.output.splitlines())) <= 110
    assert max(len(line) for line in result.output.splitlines() if "┤" in line) <= 72
    assert "\x1b" not in result.output


def test_json_is_one_line_with_stable_names(write: Write) -> None:
    document = seen(write("town.csv", "\n".join([HEADER, *rows()])))

    assert list(document) == [
        "file", "bytes", "layout", "facts", "left_out", "series", "rows", "refused", "columns", "layouts", "report",
        "error",
    ]  # fmt: skip
    [series] = document["series"]
    assert series["key"] == "TOWN"
    assert (series["stream"], series["unit"], series["time_zone"]) == ("load", "MW", "UTC")
    assert (series["first"], series["last"]) == ("2023-03-01T00:00:00Z", "2023-03-30T23:00:00Z")
    assert (series["values"], series["intervals"], series["interval_seconds"]) == (720, 720, 3600)
    assert series["findings"] == []


def test_faults_are_told_with_dates_and_lines(write: Write) -> None:
    table = rows()
    table[100] = table[100].split(",")[0] + ",9000"
    table[200:210] = [row.split(",")[0] + ",612.5" for row in table[200:210]]
    table[300:304] = [row.split(",")[0] + ",0" for row in table[300:304]]
    table[5] = table[5].split(",")[0] + ",much"
    table.append(table[7])
    table.append(table[8].split(",")[0] + ",1")
    table.append("2023-03-09 11:20,500")
    del table[400:403]
    path = write("town.csv", "\n".join([HEADER, *table]))

    [series] = (document := seen(path))["series"]
    text = " ".join(call(path).output.split())

    assert series["spikes"]["furthest"][0]["start"] == "2023-03-05T04:00:00Z"
    assert series["spikes"]["furthest"][0]["value"] == 9000
    assert series["stuck"]["longest"] == [
        {"start": "2023-03-09T08:00:00Z", "end": "2023-03-09T18:00:00Z", "count": 10, "value": 612.5}
    ]
    assert (series["zeros"]["count"], series["zeros"]["spans"]) == (4, 1)
    assert series["doubled"] == {"agreeing": 1, "contradicting": 1}
    assert series["off_grid"] == 1
    assert series["missing"]["longest"][0] == {
        "start": "2023-03-17T16:00:00Z", "end": "2023-03-17T19:00:00Z", "count": 3, "value": None
    }  # fmt: skip
    assert {"line": 7, "field": "load_mw", "got": "much", "allowed": "a number, or nothing"} in document["refused"][
        "rows"
    ]
    assert "line 7: load_mw: got 'much', allowed a number, or nothing" in text
    for words in ("2023-03-05 04:00 9,000 MW where", "2023-03-09 08:00 (10 h at 612.5 MW)", "2023-03-17 16:00 (3 h)"):
        assert words in text


def test_a_counter_is_told_with_the_option_for_it(write: Write) -> None:
    counted = np.cumsum(np.full(200, 0.11)) + 900
    moments = [datetime(2024, 1, 10) + timedelta(minutes=30 * i) for i in range(200)]
    text = "\n".join(
        ["time_utc,reading_kwh", *(f"{t:%Y-%m-%d %H:%M},{v:.2f}" for t, v in zip(moments, counted, strict=True))]
    )
    path = write("cellar.csv", text)

    assert "--register takes their differences" in call(path, "--labels", "start").output
    [series] = seen(path, "--register")["series"]

    assert not series["register"]["is_register"]
    assert series["max"] == pytest.approx(0.11, abs=0.011)


def berlin(labels: str) -> str:
    """A spring of hours by Berlin's clock, as a logger writes them that knows of summer time, or does not."""
    lines = ["Zeit;Netzlast [MW]"]
    for i in range(40 * 24):
        wall = datetime(2024, 3, 10) + timedelta(hours=i)
        if labels == "right" and wall >= datetime(2024, 3, 31, 2):
            wall += timedelta(hours=1)
        lines.append(f"{wall:%d.%m.%Y %H:%M};{400 + i % 24 * 7}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("labels", "shown", "said"),
    [("right", "start", "which is right"), ("winter", None, "filled by the publisher, or another clock")],
)
def test_each_change_of_the_clock_is_told(write: Write, labels: str, shown: str | None, said: str) -> None:
    path = write("stadt.csv", berlin(labels))

    [series] = seen(path, "--time-zone", "Europe/Berlin", "--labels", "start")["series"]

    [change] = series["clock_changes"]
    assert (change["at"], change["skips"], change["shown"]) == ("2024-03-31T01:00:00Z", True, shown)
    text = call(path, "--time-zone", "Europe/Berlin", "--labels", "start").output
    assert said in " ".join(text.split())


def test_what_is_ambiguous_is_refused_with_an_option_and_all_that_could_be_told(write: Write) -> None:
    path = write("stadt.csv", berlin("right"))

    result = call(path)

    assert result.exit_code == 2
    assert "separator      semicolon" in result.stdout
    assert "time column    Zeit" in result.stdout
    assert "'Netzlast [MW]' numbers" in result.stdout
    assert "10.03.2024 00:00 | 10.03.2024 01:00 | 10.03.2024 02:00" in result.stdout
    assert "Error: Zeit: got '2024-03-10 00:00'" in result.stderr
    assert f"for instance: kappawatt inspect {path} --time-zone Europe/Berlin" in result.stderr
    assert "layouts that are known" not in result.stdout


def test_of_a_date_in_two_ways_both_are_offered(write: Write) -> None:
    path = write("days.csv", "day,load_mw\n" + "".join(f"0{d}/0{d}/2024 01:00,5{d}\n" for d in range(1, 9)))

    said = call(path, "--time-zone", "Europe/Paris").stderr

    assert f"for instance: kappawatt inspect {path} --day-first\n" in said
    assert f"for instance: kappawatt inspect {path} --month-first\n" in said


def test_an_unknown_file_is_told_the_layouts_that_are_known(write: Write) -> None:
    result = call(write("log.csv", "who,what\nme,nothing1\nyou,nothing2\n"))

    assert result.exit_code == 2
    assert "Smart Meter Texas" in result.stdout
    assert "PJM Data Miner" in result.stdout
    assert len(result.stdout.splitlines()) < 20


@pytest.mark.parametrize(
    "text",
    ["when,V,I\n2024-05-01 00:00,230.1,4\n2024-05-01 01:00,231.1,5\n", "4,0,1,70,2\n5,0,2,71,3\n", "a,b\nc,d\n"],
    ids=["volts", "bare numbers", "words"],
)
def test_an_unknown_file_is_no_power_plant(write: Write, text: str) -> None:
    path = write("log.csv", text)

    told = (
        call(path).output + CliRunner().invoke(main, ["ingest", str(path), "--bus", f"embedded:{path}.sqlite"]).output
    )

    assert "Error: " in told
    assert "plant" not in told


def test_of_several_sheets_one_is_offered(tmp_path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    for name, column in (("Nord Ost", "load_mw"), ("Wetter", "wind_speed")):
        sheet = book.create_sheet(name)
        sheet.append(["time_utc", column])
        for i in range(48):
            sheet.append([datetime(2023, 3, 1) + timedelta(hours=i), 500.5 + i])
    book.save(tmp_path / "town.xlsx")

    said = call(tmp_path / "town.xlsx").stderr

    assert f"for instance: kappawatt inspect {tmp_path / 'town.xlsx'} --sheet 'Nord Ost'" in said
    assert seen(tmp_path / "town.xlsx", "--sheet", "nord ost")["series"][0]["values"] == 48


def test_times_of_an_unknown_form_are_named_without_a_list_of_layouts(write: Write) -> None:
    result = call(write("odd.csv", "when,load_mw\n" + "".join(f"week {w} day 1,{w}00\n" for w in range(10, 30))))

    assert "Error: line 2: when: got 'week 10 day 1', allowed a day and time, as 2024-01-31 23:00" in result.stderr
    assert "PJM" not in result.output


def test_a_missing_name_is_said_and_no_reason_not_to_look(write: Write) -> None:
    lines = [
        f'{{"interval_start": "2024-01-{d:02}T{h:02}:00:00Z", "load": {500 + h}}}'
        for d in range(1, 9)
        for h in range(24)
    ]
    path = write("rows.ndjson", "\n".join(lines))

    assert "--key does" in call(path).output
    assert seen(path, "--key", "mine")["series"][0]["key"] == "mine"


def test_one_of_several_series_is_chosen_by_its_key(write: Write) -> None:
    text = "LCLid,tstp,energy(kWh/hh)\n" + "".join(
        f"{name},2013-01-01 {h:02}:{m:02}:00,0.{h + 10}\n" for name in ("A1", "B2") for h in range(24) for m in (0, 30)
    )
    path = write("homes.csv", text)

    assert [one["key"] for one in seen(path)["series"]] == ["A1", "B2"]
    assert "2 series" in call(path).output
    assert [one["key"] for one in seen(path, "--key", "B2")["series"]] == ["B2"]
    assert "allowed one of the file's: A1, B2" in call(path, "--key", "C3").stderr


def test_plant_readings_have_no_series_and_are_told_as_rows(write: Write) -> None:
    document = seen(write("plant.csv", "AT,V,AP,RH,PE\n14.2,41,1020,70,461\n25.5,62,1019,59,444\n300,62,1019,59,444\n"))

    assert document["rows"]["valid"] == 2
    assert document["rows"]["fields"]["net_power"]["max"] == 461
    assert document["refused"]["count"] == 1


def test_the_report_is_one_page_that_needs_nothing_else(write: Write, tmp_path: Path) -> None:
    table = rows(60)
    table[100] = table[100].split(",")[0] + ",9000"
    del table[400:403]
    path = tmp_path / "new" / "report.html"

    result = call(write("<town>.csv", "\n".join([HEADER, *table])), "--time-zone", "Europe/Berlin", "--report", path)

    assert result.exit_code == 0, result.output
    page = path.read_text()
    assert "&lt;town&gt;.csv" in page
    assert page.count("<svg") == 4  # all of it, mean days, the clock, the values
    assert "2023-03-26 01:00Z" in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("https://www.w3.org", "")


def test_a_report_that_cannot_be_written_is_named(write: Write) -> None:
    result = call(write("town.csv", "\n".join([HEADER, *rows()])), "--report", "/proc/none/report.html")

    assert result.exit_code == 1
    assert "--report: got /proc/none/report.html" in result.stderr


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n\n",
        b"\x00\x01\x02\xff" * 100,
        gzip.compress(b""),
        gzip.compress(b"a,b\n1,2\n")[:-9],
        b"PK\x03\x04" + b"x" * 100,
        b"PAR1" + b"x" * 100 + b"PAR1",
        b"ARROW1\x00\x00" + b"x" * 100,
        b"[1, 2, 3]",
        b'{"a": [1',
        b"\xff\xfet\x00i",
        b"time_utc,load_mw\n",
        b"time_utc,load_mw\n2024-01-01 00:00,5\n",
        b'a,b\n"open,1\n2024-01-01,2\n',
        b"a,b\n2024-01-01," + b"9" * 100_000,
        b"<feed><entry/></feed>",
        b"200,NMI,B1\n",
        b"time_utc,load_mw\n2024-01-01 00:00,5\x1b[31m\n2024-01-01 01:00,5\n",
    ],
    ids=lambda content: f"{len(content)}-{content[:4].hex()}",
)
def test_whatever_a_file_holds_there_is_an_answer(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)

    result = call(path)

    assert result.exit_code in (0, 2), result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "\x1b" not in result.output


CELLS = st.one_of(
    st.sampled_from(
        ["", "2024-01-01 00:00", "01.02.2024", "1,5", "1.5", "-", "x", "12:30", "'", '"', "1e999", "\x07", "Ω"]
    ),
    st.text(max_size=6),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=300),
        st.builds(
            lambda mark, table: "\n".join(mark.join(row) for row in table).encode("utf-8", "surrogatepass"),
            st.sampled_from([",", ";", "\t"]),
            st.lists(st.lists(CELLS, min_size=2, max_size=4), max_size=8),
        ),
    ),
    as_json=st.booleans(),
)
def test_no_file_ends_in_a_traceback(tmp_path: Path, content: bytes, as_json: bool) -> None:
    path = tmp_path / "made-up.csv"
    path.write_bytes(content)

    result = call(path, *(["--json"] if as_json else []))

    assert result.exit_code in (0, 2), result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    if as_json:
        json.loads(result.stdout)


def test_a_file_that_is_too_large_is_looked_at_all_the_same(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kappawatt.cli.inspect.MOST_BYTES", 1_000)

    result = call(write("town.csv", "\n".join([HEADER, *rows()])))

    assert result.exit_code == 2
    assert "'load_mw'" in result.stdout
    assert "more than 1000 bytes" in result.stderr


def test_where_blocks_cannot_be_printed_other_marks_are(write: Write) -> None:
    path = write("town.csv", "\n".join([HEADER, *rows()]))

    result = CliRunner(charset="ascii").invoke(main, ["inspect", str(path)])

    assert result.exit_code == 0
    assert result.output.isascii()
    assert " |" in result.output


def test_bars_stand_between_their_lowest_and_highest() -> None:
    lines = bars([1.0, 2.0, float("nan"), 3.0], 2)

    assert [line[-4:] for line in lines] == ["┤ ▁ █"[-4:], "▁█ █"]
    assert lines[0].split()[0] == "3"
    assert lines[1].split()[0] == "1"


@pytest.mark.parametrize("values", [[], [float("nan")], [5.0, 5.0]])
def test_bars_of_nothing_or_of_one_value_are_drawn(values: list[float]) -> None:
    assert len(bars(values, 3, ASCII)) == 3


def test_a_part_without_values_is_blank() -> None:
    found = binned(np.array([0.0, 9.0]), np.array([1.0, 2.0]), 3)

    assert np.isnan(found[1])
    assert found[[0, 2]].tolist() == [1.0, 2.0]


def test_a_refusal_that_names_values_of_an_option_shows_each_with_the_zone_that_was_said(tmp_path: Path) -> None:
    path = tmp_path / "town.csv"
    rows = [f"{datetime(2023, 7, 3) + timedelta(hours=i):%Y-%m-%d %H:%M} EST,{300 + i % 24}.5" for i in range(72)]
    path.write_text("\n".join(["time,town_mw", *rows]))

    result = CliRunner().invoke(main, ["inspect", str(path), "--time-zone", "Europe/Berlin"])

    hints = [line for line in result.stderr.splitlines() if line.startswith("for instance")]
    assert hints == [
        f"for instance: kappawatt inspect {path} --time-zone Europe/Berlin --clock {clock}"
        for clock in ("UTC-05:00", "Europe/Berlin")
    ]


def test_layouts_are_listed_only_where_the_layout_is_what_is_not_known(write: Write) -> None:
    several = call(write("a.csv", "\n".join(["time,one,two", *(f"{row},3" for row in rows())])))
    unit = call(write("b.csv", "\n".join(["time,load (%)", *rows()])))
    unknown = call(write("c.csv", "\n".join(["who,what", *(["Ann,tea", "Bob,milk"] * 9)])))

    assert [one.exit_code for one in (several, unit, unknown)] == [2, 2, 2]
    for one in (several, unit):
        assert "known by their columns" not in one.output
        assert "NYISO" not in one.output
    assert "known by their columns" in unknown.output
    assert "for instance" not in unit.output


def test_columns_that_a_person_does_not_name_are_said_to_be_so(write: Write) -> None:
    document = seen(
        write("a.csv", "\n".join(["time_utc,load_mw,two_mw", *(f"{row},3" for row in rows())])),
        "--value-column", "load_mw",
    )  # fmt: skip

    assert document["left_out"] == [{"column": "two_mw", "why": "not named by --value-column"}]
