"""The doors for load zones and meters: the guarantees of `/readings`, publishers' exports, and rows that name keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from flask.testing import FlaskClient

from kappawatt.bus import Bus, connect
from kappawatt.bus.interface import header
from kappawatt.columns.arrow import read_columns, write_columns
from kappawatt.columns.content import ARROW, CSV, JSON, NDJSON
from kappawatt.errors import Overloaded
from kappawatt.services.sensor_ingestor import routes
from kappawatt.services.sensor_ingestor.service import SERVICE
from kappawatt.serving.app import create_app
from kappawatt.settings import Settings
from kappawatt.streams.table import TOPICS

LOAD = {"interval_start": "2016-07-01T04:00:00Z", "load": 30000.0}
METER = {"interval_start": "2022-07-01T05:15:00Z", "consumption": 0.2}
PJM = "Datetime,PJME_MW\n2016-07-01 02:00:00,29000\n2016-07-01 01:00:00,30000\n"
TEXAS = (
    "ESIID,USAGE_DATE,REVISION_DATE,USAGE_START_TIME,USAGE_END_TIME,USAGE_KWH,ESTIMATED_ACTUAL,"
    "CONSUMPTION_SURPLUSGENERATION\n"
    "'0012,07/01/2022,07/02/2022 06:00:00,00:00,00:15,.145,A,Consumption\n"
    "'0012,07/01/2022,07/02/2022 06:00:00,00:15,00:30,.05,A,Surplus Generation\n"
)
ALL = [("load", LOAD, "load.readings"), ("meters", METER, "meter.readings")]


@dataclass
class Door:
    client: FlaskClient
    bus: Bus

    def post(self, path: str, body: Any, content_type: str = JSON, **headers: str) -> Any:
        content = body if isinstance(body, bytes | str) else orjson.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(path, data=content, content_type=content_type, headers=named)

    def messages(self, topic: str) -> list[tuple[bytes | None, bytes, Any]]:
        reader = self.bus.reader([topic], {})
        found: list[tuple[bytes | None, bytes, Any]] = []
        while polled := reader.poll(0.0):
            found += [m for r in polled for m in zip(r.keys, r.values, r.headers, strict=True)]
        reader.close()
        return found


def open_door(folder: Path, **given: Any) -> Door:
    settings = Settings.read({}, bus=f"embedded:{folder}/bus.sqlite", **given)
    bus = connect(settings.bus)
    bus.ensure(TOPICS)
    return Door(create_app(SERVICE, settings).test_client(), bus)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    opened = open_door(tmp_path)
    yield opened
    opened.bus.close()


@pytest.mark.parametrize(("path", "row", "topic"), ALL)
@pytest.mark.parametrize("names_itself", [False, True], ids=["key_in_path", "key_in_path_and_row"])
def test_one_row_becomes_one_event_under_its_key(
    door: Door, path: str, row: dict[str, Any], topic: str, names_itself: bool
) -> None:
    field = "load_zone" if path == "load" else "meter_id"
    answer = door.post(f"/{path}/a:b.1", row | ({field: "a:b.1"} if names_itself else {}))

    assert answer.status_code == 202
    assert answer.json == {"accepted": 1, "rejected": 0, "messages": 1, "topic": topic, "key": "a:b.1"}
    [(key, value, headers)] = door.messages(topic)
    assert key == b"a:b.1"
    assert orjson.loads(value) == {**row, "interval_start": row["interval_start"].replace("Z", ".000Z")}
    assert header(headers, "content-type") == JSON.encode()
    assert header(headers, "traceparent") is not None


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (orjson.dumps([LOAD, LOAD]), JSON),
        (orjson.dumps({"columns": {name: [value] * 2 for name, value in LOAD.items()}}), JSON),
        (orjson.dumps(LOAD) + b"\n" + orjson.dumps(LOAD), NDJSON),
        (b"2016-07-01T04:00:00Z,30000\n2016-07-01T04:00:00Z,30000,21.5", CSV),
        (b"load,interval_start\n30000,2016-07-01T04:00:00Z\n30000,1467345600000\n", CSV),
        (write_columns({"interval_start": np.array([1467345600000] * 2, "M8[ms]"), "load": np.full(2, 3e4)}), ARROW),
    ],
    ids=["list", "columns", "ndjson", "csv", "csv_header", "arrow"],
)
def test_every_content_type_is_read(door: Door, body: bytes, content_type: str) -> None:
    answer = door.post("/load/PJME", body, content_type)

    assert answer.status_code == 202, answer.json
    assert answer.json["accepted"] == 2
    assert [orjson.loads(value)["load"] for _, value, _ in door.messages("load.readings")] == [30000.0] * 2


def test_many_rows_travel_as_one_block_without_what_is_absent(door: Door) -> None:
    rows = [{**LOAD, "interval_start": f"2016-07-{d:02}T{h:02}:00:00Z"} for d in range(1, 11) for h in range(24)]
    rows[5]["temperature"] = 20.5

    assert door.post("/load/PJME", rows).json["messages"] == 1

    [(_, value, headers)] = door.messages("load.readings")
    columns = read_columns(value)
    assert header(headers, "content-type") == ARROW.encode()
    assert set(columns) == {"interval_start", "load", "temperature"}
    assert columns["temperature"][5] == 20.5
    assert np.isnan(columns["temperature"]).sum() == 239


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        ("/load/PJME", {"load": 2e6}, "load: got 2000000.0, allowed a number from -1e+06 to 1e+06 MW"),
        ("/load/PJME", {"load": None}, "load: got nothing, allowed load: a number"),
        ("/load/PJME", {"interval_start": None}, "interval_start: got nothing, allowed an ISO 8601 time with zone"),
        ("/load/PJME", {"interval_start": "2016-07-01T04:31:00Z"}, "interval_start: got '2016-07-01T04:31:00.000'"),
        ("/load/PJME", {"load_zone": "AEP"}, "load_zone: got 'AEP', allowed 'PJME', the name these rows"),
        ("/load", {}, "load_zone: got nothing, allowed 1 to 100 of"),
        ("/load", {"load_zone": "a b"}, "load_zone: got 'a b', allowed 1 to 100 of"),
        ("/load/PJME", {"time_zone": "Mars/North"}, "time_zone: got 'Mars/North', allowed a name of the IANA"),
        ("/load/PJME", {"time_zone": "localtime"}, "time_zone: got 'localtime', allowed a name of the IANA"),
        ("/load/PJME", {"time_zone": "right/UTC"}, "time_zone: got 'right/UTC', allowed a name of the IANA"),
        ("/load", {"load_zone": "x" * 200_000}, "load_zone: got 'xxx"),
        ("/load/PJME", {"issue_time": "2016-07-01T04:00:00Z"}, "issue_time: got '2016-07-01T04:00:00.000', allowed no"),
        ("/load/PJME", {"wind": 4}, "wind: got 4, allowed only load_zone, interval_start"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused_and_the_others_stored(
    door: Door, path: str, change: dict[str, Any], message: str
) -> None:
    good = LOAD | ({"load_zone": "PJME"} if path == "/load" else {})
    answer = door.post(path, [good, LOAD | change, good])

    assert answer.status_code == 422
    assert (answer.json["accepted"], answer.json["rejected"]) == (2, 1)
    [error] = answer.json["errors"]
    assert error["row"] == 1
    assert error["message"].startswith(message)
    assert len(door.messages("load.readings")) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"interval_seconds": 1000}, "interval_seconds: got 1000.0, allowed 900, 1800 or 3600 s"),
        ({"interval_seconds": 1800}, "interval_start: got '2022-07-01T05:15:00.000', allowed a whole multiple of 1800"),
        ({"consumption": -1}, "consumption: got -1.0, allowed"),
        ({"consumption": None}, "consumption: got nothing, allowed"),
    ],
)
def test_a_meters_interval_is_checked(door: Door, change: dict[str, Any], message: str) -> None:
    answer = door.post("/meters/m", METER | change)

    assert answer.status_code == 422
    assert answer.json["errors"][0]["message"].startswith(message)
    assert door.messages("meter.readings") == []


def test_an_hour_to_come_may_hold_only_its_weather(door: Door) -> None:
    answer = door.post("/load/PJME", {"interval_start": "2016-07-02T04:00:00Z", "temperature": 31.0})

    assert answer.status_code == 202


def test_rows_that_name_their_keys_go_to_each_of_them(door: Door) -> None:
    rows = [METER | {"meter_id": name} for name in ("a", "b", "a")]

    answer = door.post("/meters", rows)

    assert answer.json["accepted"] == 3
    assert sorted(key or b"" for key, _, _ in door.messages("meter.readings")) == [b"a", b"a", b"b"]


def test_a_plant_reading_needs_a_key(door: Door) -> None:
    assert door.post("/readings", {}).status_code == 404


@pytest.mark.parametrize("path", ["/load/PJME", "/load", "/load/mine"])
def test_a_load_file_is_taken_as_it_is(door: Door, path: str) -> None:
    answer = door.post(path, PJM, CSV)

    assert answer.status_code == 202, answer.json
    rows = [orjson.loads(value) for _, value, _ in door.messages("load.readings")]
    assert [(row["interval_start"], row["load"]) for row in rows] == [
        ("2016-07-01T04:00:00.000Z", 30000.0),
        ("2016-07-01T05:00:00.000Z", 29000.0),
    ]
    assert {row["time_zone"] for row in rows} == {"America/New_York"}
    assert {key for key, _, _ in door.messages("load.readings")} == {b"mine" if path.endswith("mine") else b"PJME"}


def test_a_meter_export_names_its_meters(door: Door) -> None:
    answer = door.post("/meters?known=published", TEXAS, CSV)

    assert answer.status_code == 202, answer.json
    found = {key: orjson.loads(value) for key, value, _ in door.messages("meter.readings")}
    assert set(found) == {b"0012", b"0012:surplus"}
    assert found[b"0012"] == {
        "interval_start": "2022-07-01T05:00:00.000Z",
        "consumption": 0.145,
        "available_at": "2022-07-02T11:00:00.000Z",
        "time_zone": "America/Chicago",
        "interval_seconds": 900.0,
    }


def test_an_exports_bad_lines_are_named_and_its_others_stored(door: Door) -> None:
    answer = door.post("/load", f"{PJM}soon,1\n2016-07-01 03:00:00,much\n", CSV)

    assert answer.status_code == 422
    assert answer.json["accepted"] == 2
    assert [(e["row"], e["field"], e["got"]) for e in answer.json["errors"]] == [
        (2, "Datetime", "soon"),
        (3, "PJME_MW", "much"),
    ]


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        ("/meters/a", PJM, "PJME_MW: got readings of load (PJM hourly load (Kaggle)), allowed those of meter"),
        ("/load", TEXAS, "USAGE_KWH: got readings of meter (Smart Meter Texas), allowed those of load"),
        ("/meters/a", TEXAS, "key: got 'a', allowed none for a file of several series"),
        ("/load", "Datetime,PJME_MW\nsoon,1\n", "line 2: Datetime: got 'soon'"),
        (
            "/load",
            "ds,y\n2016-07-01 02:00:00,1\n",
            "ds: got '2016-07-01 02:00', by a clock that nothing names, allowed --time-zone",
        ),
        ("/load?known=never", PJM, "known: got 'never', allowed end or published"),
        ("/load?unit=", PJM, "unit: got nothing, allowed a value, or the query without it"),
        ("/load/a b", PJM, "key: got 'a b', allowed 1 to 100 of"),
    ],
)
def test_a_body_that_cannot_be_taken_says_why(door: Door, path: str, body: str, detail: str) -> None:
    answer = door.post(path, body, CSV)

    assert answer.status_code == 400
    assert answer.json["detail"].startswith(detail)


@pytest.mark.parametrize(("path", "row", "topic"), ALL)
def test_the_same_idempotency_key_stores_nothing_again(door: Door, path: str, row: dict[str, Any], topic: str) -> None:
    first = door.post(f"/{path}/a", row, Idempotency_Key="k1")
    again = door.post(f"/{path}/a", row, Idempotency_Key="k1")
    elsewhere = door.post(f"/{path}/b", row, Idempotency_Key="k1")

    assert (first.status_code, again.status_code, elsewhere.status_code) == (202, 202, 422)
    assert again.headers["Idempotent-Replay"] == "true"
    assert again.data == first.data
    assert len(door.messages(topic)) == 1


def test_another_door_is_another_request(door: Door) -> None:
    door.post("/load/a", LOAD, Idempotency_Key="k1")

    assert door.post("/meters/a", METER, Idempotency_Key="k1").status_code == 422


@pytest.mark.parametrize(("path", "row", "topic"), ALL)
def test_a_full_buffer_is_429_and_leaves_the_key_free(
    door: Door, path: str, row: dict[str, Any], topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, *arguments: Any) -> int:
        raise Overloaded("full", 3.0)

    with monkeypatch.context() as broken:
        broken.setattr(routes._Door, "publish", fail)
        refused = door.post(f"/{path}/a", row, Idempotency_Key="k1")
    retried = door.post(f"/{path}/a", row, Idempotency_Key="k1")

    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "3")
    assert retried.status_code == 202
    assert len(door.messages(topic)) == 1


def test_only_statuses_that_openapi_names_are_answered(door: Door) -> None:
    paths = door.client.get("/openapi.json").json["paths"]

    for path in ("/load", "/load/{key}", "/meters", "/meters/{key}"):
        described = paths[path]["post"]
        assert set(described["responses"]) == {"202", "400", "404", "409", "413", "415", "422", "429", "503"}
        assert set(described["requestBody"]["content"]) == {JSON, NDJSON, CSV, ARROW}
