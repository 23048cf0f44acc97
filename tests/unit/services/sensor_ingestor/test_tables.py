"""The doors and tables of other layouts: read as the command line reads them, and said in the answer."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import openpyxl
import orjson
import pytest
from click.testing import CliRunner

from kappawatt.cli.main import main
from kappawatt.columns.content import CSV
from kappawatt.datasets.reading.told import MOST, READ_AS
from kappawatt.services.sensor_ingestor.service import SERVICE
from kappawatt.serving.app import create_app
from kappawatt.settings import Settings
from tests.layout_samples import green_button
from tests.unit.services.sensor_ingestor.test_series_doors import Door, open_door

QUERY = "time_zone=Europe/Madrid&labels=start"


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    opened = open_door(tmp_path)
    yield opened
    opened.bus.close()


def demand(hours: int = 50) -> str:
    first = datetime(2023, 9, 18)
    rows = [f"{first + timedelta(hours=i):%d/%m/%Y %H:%M};{21_000 + i},5;{20_900 + i}" for i in range(hours)]
    return "\n".join(["Fecha;Demanda [MW];Previsión [MW]", *rows])


def told(answer: Any) -> dict[str, str]:
    return {fact["name"]: fact["value"] for fact in answer.json["read_as"]["facts"]}


def test_the_answer_says_how_a_table_was_read(door: Door) -> None:
    answer = door.post(f"/load/iberia?{QUERY}", demand(), CSV)

    assert answer.status_code == 202, answer.json
    assert list(answer.json)[:5] == ["accepted", "messages", "topic", "key", "read_as"]
    assert {**answer.json, "read_as": None} == {
        "accepted": 50, "rejected": 0, "messages": 50, "topic": "load.readings", "key": "iberia", "read_as": None,
    }  # fmt: skip
    facts = told(answer)
    assert (facts["time column"], facts["value column"]) == ("Fecha", "Demanda [MW]")
    assert (facts["separator"], facts["decimal"], facts["dates"]) == ("semicolon", ",", "day first")
    assert (facts["labels"], facts["time zone"], facts["unit"]) == ("start", "Europe/Madrid", "MW")
    assert facts["interval"] == "60 min"
    assert answer.json["read_as"]["left_out"] == [{"column": "Previsión [MW]", "why": "somebody's forecast"}]
    assert answer.json["read_as"]["series"] == [
        {
            "key": "iberia", "unit": "MW", "time_zone": "Europe/Madrid", "interval_seconds": 3600,
            "first": "2023-09-17T22:00:00Z", "last": "2023-09-19T23:00:00Z", "values": 50,
        }
    ]  # fmt: skip


def test_the_door_reads_as_the_command_line_does(door: Door, tmp_path: Path) -> None:
    (tmp_path / "iberia.csv").write_text(demand())
    options = ["--time-zone", "Europe/Madrid", "--labels", "start", "--key", "iberia", "--json"]
    seen = json.loads(CliRunner().invoke(main, ["inspect", str(tmp_path / "iberia.csv"), *options]).output)

    answer = door.post(f"/load/iberia?{QUERY}", demand(), CSV).json["read_as"]

    assert (answer["layout"], answer["left_out"]) == (seen["layout"], seen["left_out"])
    assert answer["facts"] == [fact for fact in seen["facts"] if fact["name"] != "layout"]
    [series] = answer["series"]
    assert series == {name: seen["series"][0][name] for name in series}


def test_rows_that_were_refused_are_answered_with_how_the_others_were_read(door: Door) -> None:
    answer = door.post(f"/load/iberia?{QUERY}", demand().replace("21007,5", "mucho"), CSV)

    assert (answer.status_code, answer.json["accepted"], answer.json["rejected"]) == (422, 49, 1)
    assert answer.json["errors"][0]["got"] == "mucho"
    assert told(answer)["unit"] == "MW"


def test_a_repeat_is_answered_with_the_same(door: Door) -> None:
    first, again = (door.post(f"/load/iberia?{QUERY}", demand(), CSV, Idempotency_Key="a-1") for _ in range(2))

    assert again.headers["Idempotent-Replay"] == "true"
    assert again.json == first.json


def test_rows_in_the_streams_own_fields_are_answered_as_before(door: Door) -> None:
    answer = door.post("/load/iberia", "interval_start,load\n2023-09-18T00:00:00Z,21000\n", CSV)

    assert answer.json == {"accepted": 1, "rejected": 0, "messages": 1, "topic": "load.readings", "key": "iberia"}


def test_of_very_many_series_the_first_are_named_and_the_others_counted(door: Door) -> None:
    rows = [f"z{z},2023-09-18 {h:02}:00,{400 + z}" for z in range(45) for h in range(24)]

    answer = door.post(f"/load?{QUERY}", "\n".join(["zone,time,load_mw", *rows]), CSV)

    assert answer.status_code == 202, answer.json
    assert len(answer.json["read_as"]["series"]) == MOST
    assert answer.json["read_as"]["more"] == {"series": 45 - MOST}


def test_the_answer_is_what_openapi_says(door: Door, tmp_path: Path) -> None:
    document = (
        create_app(SERVICE, Settings.read({}, bus=f"embedded:{tmp_path}/x.sqlite")).test_client().get("/openapi.json")
    )
    schemas = {
        path: orjson.loads(document.data)["paths"][path]["post"]["responses"]["202"]["content"]["application/json"][
            "schema"
        ]
        for path in ("/load/{key}", "/meters", "/readings/{key}")
    }

    answer = door.post(f"/load/iberia?{QUERY}", demand(), CSV)

    jsonschema.validate(answer.json, schemas["/load/{key}"])
    assert schemas["/load/{key}"]["properties"]["read_as"] == READ_AS
    assert "read_as" in schemas["/meters"]["properties"]
    assert "read_as" not in schemas["/readings/{key}"]["properties"]
    assert "read_as" not in schemas["/load/{key}"]["required"]


def workbook() -> bytes:
    book, file = openpyxl.Workbook(), io.BytesIO()
    assert book.active is not None
    book.active.append(["Fecha", "Demanda [MW]"])
    book.active.append([datetime(2023, 9, 18), 21_000.5])
    book.save(file)
    return file.getvalue()


def test_the_door_needs_nothing_that_its_image_has_not(tmp_path: Path) -> None:
    """The readers of the command line's extra are not there; a table is read all the same."""
    script = f"""
import sys
for name in ("duckdb", "openpyxl", "pyarrow", "pandas", "polars", "matplotlib", "fastexcel"):
    sys.modules[name] = None
from kappawatt.bus import connect
from kappawatt.services.sensor_ingestor.service import SERVICE
from kappawatt.serving.app import create_app
from kappawatt.settings import Settings
from kappawatt.streams.table import TOPICS
settings = Settings.read({{}}, bus="embedded:{tmp_path}/bus.sqlite")
connect(settings.bus).ensure(TOPICS)
client = create_app(SERVICE, settings).test_client()
answer = client.post("/load/iberia?{QUERY}", data=sys.stdin.read(), content_type="text/csv")
print(answer.status_code, answer.json["accepted"])
"""

    done = subprocess.run([sys.executable, "-c", script], input=demand(), text=True, capture_output=True, check=False)

    assert done.stdout.split() == ["202", "50"], done.stderr


@pytest.mark.parametrize(
    ("body", "content_type", "status", "detail"),
    [
        (
            workbook(),
            CSV,
            400,
            "body: got a workbook, allowed text such as CSV, also as gzip or zip; `kappawatt ingest`",
        ),
        (b"PAR1" + bytes(40), CSV, 400, "body: got Parquet, allowed text such as CSV"),
        (
            workbook(),
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            415,
            "`kappawatt ingest` reads workbooks and Parquet",
        ),
        (b"PAR1", "application/vnd.apache.parquet", 415, "`kappawatt ingest` reads workbooks and Parquet"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(40),
            CSV,
            400,
            "an old workbook (.xls), allowed a workbook of today",
        ),
    ],
    ids=["workbook as CSV", "Parquet as CSV", "workbook", "Parquet", "old workbook"],
)
def test_what_the_door_does_not_read_is_refused_with_what_does(
    door: Door, body: bytes, content_type: str, status: int, detail: str
) -> None:
    answer = door.post("/load/iberia", body, content_type)

    assert answer.status_code == status
    assert detail in answer.json["detail"]


def test_a_body_may_be_packed_by_gzip_where_it_is_a_table(door: Door) -> None:
    packed = gzip.compress(demand().encode())
    own = gzip.compress(b"interval_start,load\n2023-09-18T00:00:00Z,21000\n2023-09-18T01:00:00Z,21500\n")
    headers = {"Content-Encoding": "gzip"}

    answer = door.post(f"/load/iberia?{QUERY}", packed, CSV, **headers)
    same = door.post(f"/load/iberia?{QUERY}", demand(), CSV)
    rows = door.post("/load/iberia", own, CSV, **headers)
    other = door.post("/load/iberia", packed, "application/json", **headers)
    broken = door.post("/load/iberia", demand(), CSV, **headers)

    assert (answer.status_code, answer.json["accepted"]) == (202, 50)
    assert answer.json["read_as"]["series"] == same.json["read_as"]["series"]
    assert (rows.status_code, rows.json["accepted"]) == (202, 2)
    assert other.status_code == 415
    assert (broken.status_code, "gzip" in broken.json["detail"]) == (400, True)


@pytest.mark.parametrize("kind", ["application/xml", "text/xml; charset=utf-8"])
def test_green_button_is_taken_as_xml(door: Door, kind: str) -> None:
    starts = [datetime(2023, 9, 18, 7, tzinfo=UTC) + timedelta(minutes=15 * i) for i in range(96)]
    text = green_button(starts, {"5391": [0.25 + i % 7 / 40 for i in range(96)]})

    answer = door.post("/meters?time_zone=America/Los_Angeles", text, kind)

    assert answer.status_code == 202, answer.json
    assert answer.json["read_as"]["layout"].startswith("Green Button")
    assert door.post("/readings/plant-1", text, kind).status_code == 415
