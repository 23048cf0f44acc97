"""The ingestor's door: what is accepted, refused, repeated and pushed back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from flask.testing import FlaskClient

from kappawatt.bus import Bus, connect
from kappawatt.bus.interface import Records, header
from kappawatt.columns.arrow import write_columns
from kappawatt.columns.codec import decode
from kappawatt.columns.content import ARROW, CSV, JSON, NDJSON
from kappawatt.errors import DeliveryFailed, DeliveryLate, Overloaded
from kappawatt.services.sensor_ingestor import routes
from kappawatt.services.sensor_ingestor.service import SERVICE
from kappawatt.serving.app import create_app
from kappawatt.settings import Settings
from kappawatt.streams.plant import READING
from kappawatt.streams.table import TOPICS

GOOD = {
    "ambient_temperature": 14.96,
    "exhaust_vacuum": 41.76,
    "ambient_pressure": 1024.07,
    "relative_humidity": 73.17,
}
BAD = {**GOOD, "relative_humidity": 700.0}
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@dataclass
class Door:
    client: FlaskClient
    bus: Bus
    settings: Settings

    def post(self, body: Any, content_type: str = JSON, key: str = "plant-1", **headers: str) -> Any:
        content = body if isinstance(body, bytes | str) else orjson.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(f"/readings/{key}", data=content, content_type=content_type, headers=named)

    def messages(self) -> list[tuple[bytes | None, bytes, Any]]:
        reader = self.bus.reader(["plant.readings"], {})
        polled: list[Records] = []
        while sum(map(len, polled)) < sum(o.end for o in self.bus.offsets("plant.readings").values()):
            polled += reader.poll(1.0)
        reader.close()
        return [m for records in polled for m in zip(records.keys, records.values, records.headers, strict=True)]


def open_door(folder: Path, **given: Any) -> Door:
    settings = Settings.read({}, bus=f"embedded:{folder}/bus.sqlite", **given)
    bus = connect(settings.bus)
    bus.ensure(TOPICS)
    return Door(create_app(SERVICE, settings).test_client(), bus, settings)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    opened = open_door(tmp_path)
    yield opened
    opened.bus.close()


def test_one_reading_becomes_one_event_under_its_plants_name(door: Door) -> None:
    answer = door.post(GOOD, key="north_1.a~b-c")

    assert answer.status_code == 202
    assert answer.json["accepted"] == 1
    assert answer.json["rejected"] == 0
    [(key, value, headers)] = door.messages()
    assert key == b"north_1.a~b-c"
    assert orjson.loads(value) == GOOD
    assert header(headers, "content-type") == JSON.encode()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (orjson.dumps([GOOD, GOOD]), JSON),
        (orjson.dumps({"columns": {name: [value, value] for name, value in GOOD.items()}}), JSON),
        (orjson.dumps(GOOD) + b"\n" + orjson.dumps(GOOD), NDJSON),
        (b"AT,V,AP,RH,PE\n14.96,41.76,1024.07,73.17,463.26\n14.96,41.76,1024.07,73.17,463.26\n", CSV),
        (b"14.96,41.76,1024.07,73.17\n14.96,41.76,1024.07,73.17", CSV + "; charset=utf-8"),
        (write_columns({name: np.full(2, value) for name, value in GOOD.items()}), ARROW),
    ],
    ids=["json_list", "json_columns", "ndjson", "csv_with_header", "csv_without_header", "arrow"],
)
def test_every_readable_form_is_accepted(door: Door, body: bytes, content_type: str) -> None:
    answer = door.post(body, content_type)

    assert (answer.status_code, answer.json["accepted"]) == (202, 2)
    assert {orjson.loads(value)["ambient_temperature"] for _, value, _ in door.messages()} == {14.96}


def test_many_rows_travel_as_blocks_of_at_most_ten_thousand(door: Door) -> None:
    answer = door.post("14.96,41.76,1024.07,73.17\n" * 25_000, CSV)

    assert answer.json | {"accepted": 25_000, "messages": 3} == answer.json
    messages = door.messages()
    assert {header(headers, "content-type") for _, _, headers in messages} == {ARROW.encode()}
    assert [len(decode(value, ARROW, READING).batch) for _, value, _ in messages] == [10_000, 10_000, 5_000]
    assert max(len(value) for _, value, _ in messages) < 900_000


def test_good_rows_are_published_and_refused_rows_are_named(door: Door) -> None:
    answer = door.post([GOOD, BAD, GOOD])

    assert answer.status_code == 422
    assert answer.content_type == "application/problem+json"
    assert (answer.json["accepted"], answer.json["rejected"]) == (2, 1)
    [error] = answer.json["errors"]
    assert (error["row"], error["field"], error["got"]) == (1, "relative_humidity", 700.0)
    assert "0 to 105" in error["allowed"]
    assert len(door.messages()) == 2


def test_a_body_of_refused_rows_publishes_nothing(door: Door) -> None:
    answer = door.post(BAD)

    assert (answer.status_code, answer.json["accepted"]) == (422, 0)
    assert door.messages() == []


def test_event_time_is_kept_and_filled_in_blocks_where_some_rows_have_none(tmp_path: Path) -> None:
    door = open_door(tmp_path, block_rows=2)

    door.post({**GOOD, "event_time": "2026-01-01T01:00:00+01:00"})
    door.post([GOOD, {**GOOD, "event_time": "2026-01-01T00:00:00Z"}])

    single, block = [value for _, value, _ in door.messages()]
    assert orjson.loads(single)["event_time"] == "2026-01-01T00:00:00.000Z"
    times = decode(block, ARROW, READING).batch.columns["event_time"]
    assert times[1] == np.datetime64("2026-01-01T00:00:00", "ms")
    assert abs(times[0] - np.datetime64("now", "ms")) < np.timedelta64(60_000, "ms")


@pytest.mark.parametrize(
    ("body", "content_type", "key", "status"),
    [
        (b"", JSON, "p", 400),
        (b"{", JSON, "p", 400),
        (b"[]", JSON, "p", 400),
        (b"\xff\xff", CSV, "p", 400),
        (b"\xff\xff\xff\xff\x10", ARROW, "p", 400),
        (b"<a/>", "text/xml", "p", 415),
        (orjson.dumps(GOOD), JSON, "p" * 101, 400),
        (orjson.dumps(GOOD), JSON, "a%20b", 400),
        (orjson.dumps(GOOD), JSON, ".hidden", 400),
    ],
)
def test_what_cannot_be_read_is_a_problem_document(
    door: Door, body: bytes, content_type: str, key: str, status: int
) -> None:
    answer = door.post(body, content_type, key)

    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    assert door.messages() == []


def test_a_body_beyond_the_limit_is_413(tmp_path: Path) -> None:
    door = open_door(tmp_path, max_body_bytes=1000)

    assert door.post(b"1" * 1001, CSV).status_code == 413


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [
        (TRACE, True),
        ("00-zz", False),
        (TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32), False),
        ("", False),
    ],
)
def test_a_valid_trace_context_is_passed_on_and_any_other_replaced(door: Door, given: str, is_kept: bool) -> None:
    door.post(GOOD, traceparent=given)

    [(_, _, headers)] = door.messages()
    sent = header(headers, "traceparent")
    assert sent is not None
    assert routes.TRACEPARENT.fullmatch(sent.decode())
    assert (sent.decode() == given) is is_kept


def test_a_repeat_with_the_same_idempotency_key_is_answered_without_publishing(door: Door) -> None:
    first = door.post([GOOD, BAD], Idempotency_Key="k1")
    again = door.post([GOOD, BAD], Idempotency_Key="k1")

    assert (again.status_code, again.data) == (first.status_code, first.data)
    assert again.content_type == first.content_type
    assert "Idempotent-Replay" not in first.headers
    assert again.headers["Idempotent-Replay"] == "true"
    assert len(door.messages()) == 1


def test_a_restarted_or_second_process_knows_the_first_ones_keys(door: Door) -> None:
    door.post(GOOD, Idempotency_Key="k1")
    other = Door(create_app(SERVICE, door.settings).test_client(), door.bus, door.settings)

    again = other.post(GOOD, Idempotency_Key="k1")

    assert again.headers["Idempotent-Replay"] == "true"
    assert len(door.messages()) == 1


def test_a_key_is_forgotten_with_the_log_its_readings_were_in(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "LOG_SECONDS", 0.0)
    door.post(GOOD, Idempotency_Key="k")
    for name in ("bus.sqlite", "bus.sqlite-wal", "bus.sqlite-shm"):
        Path(door.settings.bus.removeprefix("embedded:")).with_name(name).unlink(missing_ok=True)
    door.bus.ensure(TOPICS)

    again, repeat = door.post(GOOD, Idempotency_Key="k"), door.post(GOOD, Idempotency_Key="k")

    assert [answer.status_code for answer in (again, repeat)] == [202, 202]
    assert ["Idempotent-Replay" in answer.headers for answer in (again, repeat)] == [False, True]
    assert len(door.messages()) == 1


def test_the_same_idempotency_key_with_another_body_or_plant_is_refused(door: Door) -> None:
    door.post(GOOD, Idempotency_Key="k1")

    other_body = door.post(BAD, Idempotency_Key="k1")
    other_plant = door.post(GOOD, key="plant-2", Idempotency_Key="k1")

    assert (other_body.status_code, other_plant.status_code) == (422, 422)
    assert "new Idempotency-Key" in other_body.json["detail"]
    assert len(door.messages()) == 1


def test_an_idempotency_key_of_other_characters_is_refused(door: Door) -> None:
    assert door.post(GOOD, Idempotency_Key="a b").status_code == 400
    assert door.post(GOOD, Idempotency_Key="a" * 201).status_code == 400


def test_a_duplicate_while_the_first_is_under_way_is_409(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, go_on = threading.Event(), threading.Event()
    publish = routes._Door.publish

    def slow(self: Any, *arguments: Any) -> int:
        entered.set()
        assert go_on.wait(10)
        return publish(self, *arguments)

    monkeypatch.setattr(routes._Door, "publish", slow)
    first: list[Any] = []
    thread = threading.Thread(target=lambda: first.append(door.post(GOOD, Idempotency_Key="k1")))
    thread.start()
    assert entered.wait(10)

    second = door.post(GOOD, Idempotency_Key="k1")
    go_on.set()
    thread.join()

    assert second.status_code == 409
    assert second.headers["Retry-After"] == "1"
    assert first[0].status_code == 202
    assert len(door.messages()) == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [(Overloaded("full", 3.0), 429), (DeliveryFailed("no broker"), 503)],
    ids=["full", "down"],
)
def test_a_failed_publish_keeps_its_idempotency_key_free(
    door: Door, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    def fail(self: Any, *arguments: Any) -> int:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(routes._Door, "publish", fail)
        refused = door.post(GOOD, Idempotency_Key="k1")
    retried = door.post(GOOD, Idempotency_Key="k1")

    assert refused.status_code == status
    assert (refused.headers.get("Retry-After") == "3") is (status == 429)
    assert retried.status_code == 202
    assert "Idempotent-Replay" not in retried.headers


@pytest.mark.parametrize("is_stored", [True, False], ids=["stored", "given up"])
def test_a_late_delivery_keeps_its_idempotency_key_until_it_is_decided(
    door: Door, monkeypatch: pytest.MonkeyPatch, is_stored: bool
) -> None:
    late = DeliveryLate("1 message not acknowledged within 10 s")

    def fail(self: Any, *arguments: Any) -> None:
        raise late

    with monkeypatch.context() as broken:
        broken.setattr(routes._Door, "publish", fail)
        refused = door.post(GOOD, Idempotency_Key="k1")
    undecided = door.post(GOOD, Idempotency_Key="k1")
    late.outcome.set_result(is_stored)
    decided = door.post(GOOD, Idempotency_Key="k1")

    assert (refused.status_code, undecided.status_code, decided.status_code) == (503, 409, 202)
    assert decided.json["accepted"] == 1
    assert ("Idempotent-Replay" in decided.headers) is is_stored
    assert len(door.messages()) == (0 if is_stored else 1)


def test_a_full_buffer_is_429_with_retry_after_and_stores_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = open_door(tmp_path, max_in_flight_bytes=1000)
    from kappawatt.bus.embedded import bus as embedded

    entered, go_on = threading.Event(), threading.Event()
    store = embedded._EmbeddedProducer._store

    def slow(self: Any, messages: Any) -> None:
        entered.set()
        assert go_on.wait(10)
        store(self, messages)

    monkeypatch.setattr(embedded._EmbeddedProducer, "_store", slow)
    thread = threading.Thread(target=lambda: door.post([GOOD] * 5))
    thread.start()
    assert entered.wait(10)

    answer = door.post([GOOD] * 5)
    go_on.set()
    thread.join()

    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert len(door.messages()) == 5


def test_readiness_waits_for_the_topic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "READY_SECONDS", 0.0)
    settings = Settings.read({}, bus=f"embedded:{tmp_path}/bus.sqlite")
    client = create_app(SERVICE, settings).test_client()

    before, refused = client.get("/readyz"), client.post("/readings/p", json=GOOD)
    bus = connect(settings.bus)
    bus.ensure(TOPICS)

    assert (before.status_code, refused.status_code) == (503, 503)
    assert "plant.readings" in before.json["detail"]
    assert client.get("/readyz").status_code == 200
    bus.close()


def test_only_statuses_that_openapi_names_are_answered(door: Door) -> None:
    document = door.client.get("/openapi.json").json

    described = document["paths"]["/readings/{key}"]["post"]

    assert set(described["responses"]) == {"202", "400", "404", "409", "413", "415", "422", "429", "503"}
    assert set(described["requestBody"]["content"]) == {JSON, NDJSON, CSV, ARROW}
