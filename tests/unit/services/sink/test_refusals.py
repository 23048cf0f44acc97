"""Messages and rows that a database does not take: they become rejections, and everything else lands."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import orjson
import pytest

from kappawatt.bus import Bus, Outgoing
from kappawatt.columns.arrow import write_columns
from kappawatt.services.sink.halving import write_by_halves
from kappawatt.services.sink.loop import Sink, open_sink
from kappawatt.services.sink.rows import Landing
from kappawatt.services.sink.service import SERVICE as SINK
from kappawatt.serving.app import create_app
from kappawatt.settings import Settings
from kappawatt.store.interface import RowsRefused
from kappawatt.streams.load import LOAD_FORECASTS
from kappawatt.streams.table import FORMS
from kappawatt.telemetry import Telemetry
from tests.conftest import everything, publish, wait_until
from tests.forecast_fakes import load_messages
from tests.unit.services.sink.messages import (
    START,
    batch_of,
    dead_letters_of,
    partition_of,
    predictions_of,
    publish_readings,
)
from tests.unit.services.sink.test_forecasts import errors_of, forecast_of, issued
from tests.unit.services.sink.test_sink import ask, land_all, running

FAR = (9_300_000_000_000_000, 253_402_300_800_000, -62_135_596_800_001, 2**62, -(2**62))  # ms: numpy wraps some around


def deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def hostile_bodies() -> list[bytes]:
    """Bytes that are no message of any topic, though some of them look like one."""
    letter = b'{"id":"x","reason":"r","topic":"t","partition":0,"offset":0,"errors":%s}'
    [good] = predictions_of([1], [450.0])
    document = orjson.loads(good.value)
    changes: list[dict[str, Any]] = [
        {"event_time": 9_300_000_000_000_000},
        {"event_time": "9300000000000000"},
        {"event_time": 2**70},
        {"source_row": 2**31},
        {"rejected_rows": 2**62},
        {"net_power": 10**400},
        {"net_power": {"a": 1}},
    ]
    return [
        letter % deep(1000),
        letter % deep(300),
        letter % b'"\\ud800"',
        letter % b"1e999",
        b'{"id":"\\ud800","reason":"r"}',
        deep(100_000),
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b"\xef\xbb\xbf{}",
        b"\xff\xff\xff\xff\x10\x00\x00\x00",
        b"\x00" * 100,
        b"",
        *(repr(document | change).replace("'", '"').replace("False", "false").encode() for change in changes),
        *(write_columns({"event_time": np.array([2**62]), "x": np.array([1])}) for _ in range(1)),
    ]


@pytest.mark.parametrize("topic", [name for name in FORMS if not name.startswith("zz.")])
def test_whatever_lies_on_a_topic_the_rest_of_it_lands_and_is_committed(
    bus: Bus, settings: Settings, topic: str
) -> None:
    bodies = hostile_bodies()
    publish(bus, [Outgoing(topic, body, b"\xff\x00k", partition=0) for body in bodies])
    good = predictions_of([9], [460.0])
    publish(bus, good)
    sink = open_sink(settings)

    with running(sink):
        wait_until(lambda: bus.committed("sink", topic).get(0) == bus.offsets(topic)[0].end, 20)
        wait_until(lambda: sink.landed >= 1)
        assert sink._reason is None

    assert ask(settings, "SELECT count(*) FROM predictions WHERE net_power = 460") == [(1,)]


@pytest.mark.parametrize("at", FAR)
def test_a_record_time_that_no_store_takes_is_a_rejection_with_its_message(
    bus: Bus, settings: Settings, at: int
) -> None:
    [good] = predictions_of([1], [450.0])
    row = b'{"ambient_temperature": 1, "exhaust_vacuum": 41, "ambient_pressure": 1024, "relative_humidity": 70}'
    messages = [replace(good, timestamp=at), Outgoing("plant.readings", row, b"p", timestamp=at)]
    publish(bus, [*messages, *predictions_of([2], [451.0])])
    publish_readings(bus, batch_of(3))
    telemetry = Telemetry("sink")
    sink = open_sink(settings, telemetry)

    with running(sink):
        wait_until(lambda: sink.landed == 2 + 1 + 3)

    assert ask(settings, "SELECT net_power FROM predictions") == [(451.0,)]
    assert ask(settings, "SELECT count(*) FROM readings") == [(3,)]
    rejected = ask(settings, "SELECT reason, original, published FROM rejections ORDER BY source_topic")
    assert rejected == [("not_storable", message.value.decode(), None) for message in messages]
    assert b'reason="not_storable",service="sink"} 2.0' in telemetry.render()


def test_of_a_block_only_the_rows_that_no_store_takes_are_left_out(bus: Bus, settings: Settings) -> None:
    times = [START, 253_402_300_799_000, START + 1, START + 2]
    publish(bus, predictions_of([1, 2, 3, 4], [1.0, 2.0, 3.0, 1e300], event_time=times, as_block=True))

    land_all(settings, 3)

    assert ask(settings, "SELECT net_power FROM predictions ORDER BY 1") == [(1.0,), (3.0,)]
    [(reason, rows, message, original)] = ask(
        settings, "SELECT reason, rejected_rows, message, original_base64 FROM rejections"
    )
    assert (reason, rows) == ("not_storable", 2)
    assert message.startswith("event_time: got 9999-12-31")
    [block] = everything(bus, "plant.predictions")
    assert base64.b64decode(original) == block.values[0]


def test_a_row_that_the_database_refuses_is_found_and_kept_with_its_bytes(bus: Bus, settings: Settings) -> None:
    """By a constraint of somebody's own, which nobody can check before."""
    open_sink(settings).store.prepare()
    with duckdb.connect(settings.database.removeprefix("duckdb:")) as connection:
        connection.execute("DROP VIEW scored; DROP TABLE readings")
        names = [table.ddl for table in _layout_tables("readings")]
        connection.execute(names[0][:-1] + ", CHECK (net_power <> 13))")
    power = np.full(60, 450.0)
    power[[0, 33, 59]] = 13.0
    publish_readings(bus, batch_of(60, net_power=power), block_rows=0)
    publish_readings(bus, batch_of(4, net_power=[13.0, 1.0, 13.0, 2.0]), "block", block_rows=2)

    sink = open_sink(settings)
    with running(sink):
        wait_until(lambda: sink.landed >= 57 + 3 + 2 + 1, 90, "every row")

    assert ask(settings, "SELECT count(*), count(DISTINCT id) FROM readings") == [(59, 59)]
    rejections = ask(settings, "SELECT key, reason, rejected_rows, original FROM rejections ORDER BY source_offset")
    assert sorted((reason, rows) for _, reason, rows, _ in rejections) == [("not_storable", n) for n in (1, 1, 1, 2)]
    assert [orjson.loads(text)["net_power"] for key, _, _, text in rejections if key == "plant-1"] == [13.0] * 3
    at = partition_of_key(bus, "plant.readings", b"plant-1")
    assert bus.committed("sink", "plant.readings")[at] == bus.offsets("plant.readings")[at].end


def partition_of_key(bus: Bus, topic: str, key: bytes) -> int:
    return next(records.partition for records in everything(bus, topic) if key in records.keys)


def _layout_tables(*names: str) -> list[Any]:
    from kappawatt.services.sink.tables import LAYOUT

    return [table for table in LAYOUT.tables if table.name in names]


def test_rows_land_though_even_their_rejections_are_refused(
    bus: Bus, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    open_sink(settings).store.prepare()
    with duckdb.connect(settings.database.removeprefix("duckdb:")) as connection:
        connection.execute("DROP TABLE rejections")
        [table] = _layout_tables("rejections")
        connection.execute(table.ddl[:-1] + ", CHECK (reason <> 'malformed' AND reason <> 'not_storable'))")
    publish(bus, [Outgoing("plant.predictions", b"no", b"p"), *predictions_of([9], [460.0])])
    publish(bus, dead_letters_of([b"no"]))
    sink = open_sink(settings)

    with running(sink):
        wait_until(lambda: sum(bus.committed("sink", "plant.predictions").values()) == 2)
        wait_until(lambda: sum(bus.committed("sink", "plant.readings.dead").values()) == 1)

    assert ask(settings, "SELECT count(*) FROM predictions") == [(1,)]
    assert ask(settings, "SELECT count(*) FROM rejections") == [(0,)]
    assert "a rejection cannot be kept" in {record.message for record in caplog.records}


def test_a_forecast_in_a_zone_that_nobody_knows_stops_no_query(bus: Bus, settings: Settings, tmp_path: Path) -> None:
    one = issued([10.0, 20.0])
    good = forecast_of(tmp_path, one)
    zones = ("Nowhere/Land", "/etc/passwd", "..", "right", "America/New_York\x00", "a" * 300)
    bad = [
        replace(good, value=orjson.dumps(orjson.loads(good.value) | {"time_zone": z, "id": f"z{i}"}))
        for i, z in enumerate(zones)
    ]
    publish(bus, [*bad, good, *errors_of(tmp_path, one, [11.0, 21.0], [12.0, 25.0])])

    land_all(settings, len(bad) + 2 + 2)
    client = create_app(SINK, settings).test_client()

    assert ask(settings, "SELECT count(*) FROM rejections WHERE message LIKE 'time_zone%'") == [(len(bad),)]
    names = [query["name"] for query in client.get("/queries").json["queries"]]
    assert {name: client.get(f"/queries/{name}").status_code for name in names} == dict.fromkeys(names, 200)


def test_large_and_distant_values_stop_no_query(bus: Bus, settings: Settings, tmp_path: Path) -> None:
    [good] = dead_letters_of([b"no"])
    letter = orjson.loads(good.value)
    letters = [replace(good, value=orjson.dumps(letter | {"id": f"d{i}", "rejected_rows": 2**30})) for i in range(4)]
    one = issued([10.0, 20.0])
    errors = errors_of(tmp_path, one, [11.0, 21.0], [12.0, 25.0])
    huge = [
        replace(each, value=orjson.dumps(orjson.loads(each.value) | {"measured": 1.7e308, "id": f"e{i}"}))
        for i, each in enumerate(errors)
    ]
    publish(bus, [*letters, forecast_of(tmp_path, one), *errors, *huge])

    land_all(settings, 4 + 2 + 2 + 2)
    client = create_app(SINK, settings).test_client()

    names = [query["name"] for query in client.get("/queries").json["queries"]]
    assert {name: client.get(f"/queries/{name}").status_code for name in names} == dict.fromkeys(names, 200)


def test_reading_that_fails_as_nobody_thought_of_is_the_messages_own_fault(
    bus: Bus, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kappawatt.services.sink import rows

    decode = rows.decode_records

    def fragile(parts: Any, *others: Any) -> Any:
        if any(b"13.5" in value for records in parts for value in records.values):
            raise ZeroDivisionError("of a reader")
        return decode(parts, *others)

    monkeypatch.setattr(rows, "decode_records", fragile)
    publish_readings(bus, batch_of(50, temperature=[13.5 if i in (0, 30) else 1.0 for i in range(50)]), block_rows=0)

    land_all(settings, 50)

    assert ask(settings, "SELECT count(*) FROM readings") == [(48,)]
    assert ask(settings, "SELECT DISTINCT reason, message FROM rejections") == [
        ("malformed", "ZeroDivisionError: of a reader")
    ]


def test_halving_finds_every_row_and_writes_each_other_once_and_in_order(bus: Bus) -> None:
    publish_readings(bus, batch_of(100, temperature=[i / 2 for i in range(100)]), block_rows=0)
    publish(bus, load_messages("2016-07-01T04", 50))
    landing = Landing()
    for topic in ("plant.readings", "load.readings"):
        for records in everything(bus, topic):
            landing.add(records)
    bad = {1.5, 2.0, 25.0, 49.5}
    written: list[tuple[str, float]] = []

    def write(tables: Any) -> None:
        values = [
            (name, value)
            for name, columns in tables.items()
            for value in columns["ambient_temperature" if name == "readings" else "load"].tolist()
        ]
        if any(name == "readings" and value in bad for name, value in values):
            raise RowsRefused("bad")
        written.extend(values)

    refused = write_by_halves(write, landing.parts)

    assert [part.columns["ambient_temperature"].tolist() for part, _ in refused] == [[1.5], [2.0], [25.0], [49.5]]
    assert [value for name, value in written if name == "readings"] == [i / 2 for i in range(100) if i / 2 not in bad]
    assert sum(name != "readings" for name, _ in written) == 50


def test_a_dead_letter_keeps_bytes_that_are_no_text_apart(bus: Bus, settings: Settings) -> None:
    publish(bus, dead_letters_of([b"no", b"\xff\xfe"]))

    land_all(settings, 2)

    assert ask(settings, "SELECT original, original_base64 FROM rejections ORDER BY source_offset") == [
        ("no", None),
        (None, base64.b64encode(b"\xff\xfe").decode()),
    ]


def test_messages_that_hold_much_memory_do_not_wait_for_their_time(
    bus: Bus, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kappawatt.services.sink import loop

    monkeypatch.setattr(loop, "WRITE_BYTES", 10_000)
    built = open_sink(settings)
    sink = Sink(bus, built.store, settings=settings, telemetry=Telemetry("sink"), write_seconds=3600)
    publish(bus, [Outgoing("plant.predictions", b"x" * 3_000, b"p")] * 4)

    with running(sink):
        wait_until(lambda: sink.landed == 4)
    assert partition_of(bus, "plant.predictions") in bus.committed("sink", "plant.predictions")
    assert LOAD_FORECASTS.name in FORMS
