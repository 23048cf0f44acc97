"""The sink on the embedded bus: what lands, once, whatever happens."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import duckdb
import numpy as np
import orjson
import pytest

from kappawatt.bus import Bus, Outgoing
from kappawatt.bus.promotions import Serving, promote
from kappawatt.columns.batch import Columns
from kappawatt.services.sink import loop
from kappawatt.services.sink.loop import Sink, open_sink
from kappawatt.services.sink.service import SERVICE as SINK
from kappawatt.serving.app import create_app
from kappawatt.settings import Settings
from kappawatt.store.interface import Guard, Rows, StoreBusy
from kappawatt.streams.plant import READING
from kappawatt.telemetry import Telemetry
from tests.conftest import publish, wait_until
from tests.integration.processes import Process, get, stopped_at_the_end
from tests.unit.services.sink.messages import (
    START,
    batch_of,
    dead_letters_of,
    partition_of,
    predictions_of,
    publish_readings,
)

ALL = "SELECT count(*), count(DISTINCT id) FROM {}"


@contextmanager
def running(sink: Sink) -> Iterator[Sink]:
    thread = threading.Thread(target=sink.run)
    thread.start()
    try:
        yield sink
    finally:
        sink.stop()
        thread.join(30)
        assert not thread.is_alive()


def served(settings: Settings) -> tuple[Sink, Any]:
    """The sink of an app, and a client of its routes: one process, as `kappawatt consume sink` has it."""
    app = create_app(SINK, settings)
    assert SINK.work is not None
    return cast("Sink", SINK.work(app, app.extensions["kappawatt"])), app.test_client()


def land_all(settings: Settings, rows: int) -> None:
    sink = open_sink(settings)
    with running(sink):
        wait_until(lambda: sink.landed >= rows, what=f"{rows} rows landed")


def ask(settings: Settings, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(settings.database.removeprefix("duckdb:")) as connection:
        return list(connection.execute(sql).fetchall())


def test_single_events_and_blocks_land_alike(bus: Bus, settings: Settings) -> None:
    times = [START + i * 1000 for i in range(100)]
    publish_readings(bus, batch_of(100, event_time=times), "a", block_rows=0)
    publish_readings(bus, batch_of(100, event_time=times), "a", block_rows=10)

    land_all(settings, 200)

    assert ask(settings, ALL.format("readings")) == [(200, 200)]
    values = ", ".join(("event_time", *(f.name for f in READING.fields if f.required), "net_power", "key"))
    assert ask(settings, f"SELECT count(*) FROM (SELECT DISTINCT {values} FROM readings)") == [(100,)]
    assert ask(settings, "SELECT min(epoch_ms(event_time)), max(epoch_ms(event_time)) FROM readings") == [
        (START, START + 99_000)
    ]


def test_a_readings_id_is_its_coordinates(bus: Bus, settings: Settings) -> None:
    publish_readings(bus, batch_of(3), block_rows=2)
    partition = partition_of(bus, "plant.readings")

    land_all(settings, 3)

    assert ask(settings, "SELECT id FROM readings ORDER BY id") == [
        (f"plant.readings:{bus.log_id('plant.readings')}-{partition}-0-{row}",) for row in range(3)
    ]


def test_columns_have_proper_types_and_missing_values_are_null(bus: Bus, settings: Settings) -> None:
    publish_readings(bus, batch_of(2, net_power=[450.0, np.nan]), block_rows=2)

    land_all(settings, 2)

    types = dict(ask(settings, "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'readings'"))
    assert types["event_time"] == types["published"] == "TIMESTAMP WITH TIME ZONE"
    assert types["net_power"] == "DOUBLE"
    assert ask(settings, "SELECT count(*), count(net_power) FROM readings") == [(2, 1)]
    assert ask(settings, "SELECT count(*) FROM readings WHERE event_time = published") == [(2,)]


def test_times_finer_than_a_millisecond_are_kept(bus: Bus, settings: Settings) -> None:
    [event] = predictions_of([1], [450.0])
    fine = orjson.dumps(orjson.loads(event.value) | {"event_time": "2026-01-01T01:00:00.000040+01:00"})
    publish(bus, [replace(event, value=fine)])

    land_all(settings, 1)

    assert ask(settings, "SELECT epoch_us(event_time) FROM predictions") == [(START * 1000 + 40,)]


def test_single_and_block_predictions_land_alike_and_join_their_readings(bus: Bus, settings: Settings) -> None:
    publish_readings(bus, batch_of(4, temperature=[1, 2, 3, 4], net_power=[400, 410, 420, np.nan]), block_rows=4)
    partition = partition_of(bus, "plant.readings")
    power = [401.0, 408.0, 420.0, 430.0]
    log = bus.log_id("plant.readings")
    of_readings = {"rows": [0, 1, 2, 3], "partition": partition, "log": log}
    for version, as_block in (("v1", False), ("v2", True)):
        publish(bus, predictions_of([0] * 4, power, version=version, as_block=as_block, **of_readings))

    land_all(settings, 12)

    assert ask(settings, "SELECT id FROM predictions ORDER BY id LIMIT 2") == [
        (f"plant.readings:{log}-{partition}-0-0@v1",),
        (f"plant.readings:{log}-{partition}-0-0@v2",),
    ]
    scored = "SELECT ambient_temperature, error, abs_error FROM scored WHERE version = '{}' ORDER BY 1"
    expected = [(1.0, 1.0, 1.0), (2.0, -2.0, 2.0), (3.0, 0.0, 0.0)]
    assert ask(settings, scored.format("v1")) == ask(settings, scored.format("v2")) == expected


def test_predictions_of_a_release_that_named_no_log_join_the_readings_of_their_time(
    bus: Bus, settings: Settings
) -> None:
    times = [START, START + 1000]
    publish_readings(bus, batch_of(2, net_power=[400.0, 410.0], event_time=times), block_rows=2)
    others = [START, START + 9000]  # the second is of another log: its place is taken, its time is not
    rows = {"rows": [0, 1], "partition": partition_of(bus, "plant.readings"), "event_time": others}
    publish(bus, predictions_of([0, 0], [401.0, 999.0], **rows))

    land_all(settings, 4)

    assert ask(settings, "SELECT measured, predicted FROM scored") == [(400.0, 401.0)]


def test_the_same_message_again_changes_nothing(bus: Bus, settings: Settings) -> None:
    publish_readings(bus, batch_of(50), block_rows=10)
    publish(bus, predictions_of(range(20), [450.0] * 20) * 2)
    publish(bus, dead_letters_of([b'{"ambient_temperature": 900}']) * 2)

    land_all(settings, 50 + 40 + 2)
    before = {
        t: ask(settings, f"SELECT * EXCLUDE (published) FROM {t} ORDER BY id")
        for t in ("readings", "predictions", "rejections")
    }
    _forget_commits(settings)
    land_all(settings, 50 + 40 + 2)

    assert {name: len(rows) for name, rows in before.items()} == {
        "readings": 50,
        "predictions": 20,
        "rejections": 1,
    }
    for name, rows in before.items():
        assert ask(settings, f"SELECT * EXCLUDE (published) FROM {name} ORDER BY id") == rows


def _forget_commits(settings: Settings) -> None:
    """Start the group from the beginning, as after a lost commit."""
    import sqlite3

    with sqlite3.connect(settings.bus.removeprefix("embedded:")) as connection:
        connection.execute("DELETE FROM committed WHERE consumer_group = 'sink'")
    connection.close()


def test_a_newer_answer_to_the_same_reading_stands(bus: Bus, settings: Settings) -> None:
    publish(bus, predictions_of([7, 7], [1.0, 2.0]))
    land_all(settings, 2)
    publish(bus, predictions_of([7], [3.0], as_block=True))
    land_all(settings, 1)

    assert ask(settings, "SELECT net_power FROM predictions") == [(3.0,)]


def test_rejections_keep_reason_origin_and_original(bus: Bus, settings: Settings) -> None:
    publish(bus, dead_letters_of([b'{"ambient_temperature": 900, "exhaust_vacuum": 1}', b"not json"]))

    land_all(settings, 2)

    rows = ask(
        settings,
        "SELECT id, key, reason, field, got, original, source_offset, rejected_rows FROM rejections ORDER BY id",
    )
    assert rows[0][:2] == ("plant.readings-1-0", "plant-1")
    assert rows[0][2:5] == ("out_of_range", "ambient_temperature", "900.0")
    assert rows[0][5:] == ('{"ambient_temperature": 900, "exhaust_vacuum": 1}', 0, 1)
    assert rows[1][2:4] == ("malformed", None)


def test_refused_readings_are_left_to_the_worker_and_the_stream_goes_on(bus: Bus, settings: Settings) -> None:
    topic = "plant.readings"
    publish(
        bus,
        [
            Outgoing(topic, b"\xff\xfe", b"p"),
            Outgoing(topic, b"{}", b"p"),
            Outgoing(topic, b"<a/>", b"p", (("content-type", b"text/xml"),)),
            Outgoing(topic, b"\xff\xff\xff\xff damaged", b"p"),
            Outgoing(topic, b"14.96,41.76,1024.07,73.17", b"p"),
            Outgoing(topic, b"14.96,41.76,1024.07,73.17", None),
        ],
    )

    land_all(settings, 2)

    assert ask(settings, "SELECT key FROM readings ORDER BY key NULLS LAST") == [("p",), (None,)]
    assert ask(settings, "SELECT count(*) FROM rejections") == [(0,)]


def malformed_predictions() -> list[Outgoing]:
    [good] = predictions_of([1], [450.0])
    [block] = predictions_of([1, 2], [450.0, 451.0], as_block=True)
    document = orjson.loads(good.value)
    changes: Sequence[Mapping[str, Any]] = (
        {"net_power": "450"},
        {"net_power_upper": None},
        {"net_power": True},
        {"event_time": "yesterday"},
        {"event_time": "2026-01-01T00:00:00"},
        {"event_time": "0001-01-01T00:00:00+14:00"},
        {"extrapolated": 1},
        {"id": ""},
        {"id": 5},
        {"id": "a\x00b"},
        {"source_offset": -1},
        {"source_offset": 2**63},
        {"source_partition": 2**31},
        {"model": None},
    )
    missing = {name: value for name, value in document.items() if name != "version"}
    bodies = [b"", b"{", b"null", b"[]", b"\xff\xff\xff\xff", orjson.dumps(missing)]
    bodies += [orjson.dumps({**document, **change}) for change in changes]
    wrong_block = replace(block, headers=tuple(h for h in block.headers if h[0] != "source-topic"))
    [infinite] = predictions_of([1], [float("inf")], as_block=True)
    return [replace(good, value=body) for body in bodies] + [wrong_block, infinite]


def test_malformed_predictions_are_kept_as_rejections_and_the_stream_goes_on(bus: Bus, settings: Settings) -> None:
    bad = malformed_predictions()
    publish(bus, [*bad, *predictions_of([9], [460.0])])
    telemetry = Telemetry("sink")
    sink = open_sink(settings, telemetry)

    with running(sink):
        wait_until(lambda: sink.landed == len(bad) + 1)

    assert ask(settings, "SELECT source_offset, net_power FROM predictions") == [(9, 460.0)]
    assert ask(settings, "SELECT count(*) FROM rejections WHERE reason = 'malformed' AND message <> ''") == [
        (len(bad),)
    ]
    assert f'reason="malformed",service="sink"}} {len(bad)}.0'.encode() in telemetry.render()


def test_malformed_dead_letters_are_kept_as_rejections(bus: Bus, settings: Settings) -> None:
    [good] = dead_letters_of([b"no"])
    bodies = [b"no", b"{}", b'{"id":"a","reason":"b","topic":"c","partition":"0","offset":0}']
    publish(bus, [replace(good, value=body) for body in bodies])

    land_all(settings, 3)

    assert ask(settings, "SELECT DISTINCT reason, source_topic FROM rejections") == [
        ("malformed", "plant.readings.dead")
    ]


def test_a_promoted_side_topic_is_landed_too_and_still_after_a_restart(bus: Bus, settings: Settings) -> None:
    from kappawatt.streams.plant import PLANT_PREDICTIONS

    for name in ("side.first", "side.second"):
        bus.ensure([replace(PLANT_PREDICTIONS, name=name)])
        publish(bus, predictions_of([1, 2], [1.0, 2.0], topic=name, version=name))
    publish(bus, predictions_of([1], [1.0]))
    sink = open_sink(settings)

    with running(sink):
        wait_until(lambda: sink.landed == 1)
        promote(
            bus,
            Serving("plant.predictions", "side.first", "side.first", {0: 3}),
            "plant-power",
            "plant.readings",
        )
        wait_until(lambda: sink.landed == 3)
    promote(
        bus,
        Serving("plant.predictions", "side.second", "side.second", {0: 3}),
        "plant-power",
        "plant.readings",
    )
    publish(bus, predictions_of([3], [1.0], topic="side.first", version="side.first"))
    land_all(settings, 3)

    assert ask(settings, "SELECT topic, count(*) FROM predictions GROUP BY 1 ORDER BY 1") == [
        ("plant.predictions", 1),
        ("side.first", 3),
        ("side.second", 2),
    ]


class BrokenStore:
    """Raises as often as told, then takes rows; notes what had been committed on the bus at each write."""

    url = "broken:"

    def __init__(self, bus: Bus, failures: int) -> None:
        self._bus = bus
        self.failures = failures
        self.rows = 0
        self.committed: list[int] = []

    def prepare(self) -> None:
        pass

    def write(self, tables: Mapping[str, Columns], guard: Guard | None = None) -> None:
        self.committed.append(sum(self._bus.committed("sink", "plant.readings").values()))
        if self.failures:
            self.failures -= 1
            raise StoreBusy("broken")
        self.rows += sum(len(columns["id"]) for columns in tables.values())

    def query(self, sql: str, most: int) -> Rows:
        return Rows([], [])

    def close(self) -> None:
        pass


def test_offsets_are_committed_after_the_database_and_not_before(
    bus: Bus, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "BACKOFF_SECONDS", (0.01, 0.02))
    publish_readings(bus, batch_of(10), block_rows=0)
    store = BrokenStore(bus, failures=5)
    sink = Sink(bus, store, settings=settings, telemetry=Telemetry("sink"))

    with running(sink):
        wait_until(lambda: sink.landed == 10)

    assert store.committed == [0] * 6
    assert sum(bus.committed("sink", "plant.readings").values()) == 10


def test_stop_while_the_database_is_busy_commits_nothing(
    bus: Bus, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "BACKOFF_SECONDS", (0.01, 0.02))
    monkeypatch.setattr(loop, "DRAIN_SECONDS", 0.1)
    publish_readings(bus, batch_of(10), block_rows=0)
    store = BrokenStore(bus, failures=10**9)
    sink = Sink(bus, store, settings=settings, telemetry=Telemetry("sink"))

    with running(sink):
        wait_until(lambda: len(store.committed) > 3)

    assert sum(bus.committed("sink", "plant.readings").values()) == 0


def test_stop_writes_what_was_polled(bus: Bus, settings: Settings) -> None:
    publish_readings(bus, batch_of(10), block_rows=0)
    built = open_sink(settings)
    telemetry = Telemetry("sink")
    sink = Sink(bus, built.store, settings=settings, telemetry=telemetry, write_seconds=3600)

    with running(sink):
        wait_until(lambda: sink._landing.rows == 10)
    assert sink.landed == 10

    assert ask(settings, ALL.format("readings")) == [(10, 10)]


HOLD = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


def test_a_file_that_somebody_else_holds_delays_rows_and_loses_none(bus: Bus, settings: Settings) -> None:
    publish_readings(bus, batch_of(1))
    land_all(settings, 1)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, settings.database.removeprefix("duckdb:")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    sink, client = served(settings)

    with running(sink):
        publish_readings(bus, batch_of(100), block_rows=0)
        wait_until(lambda: client.get("/readyz").status_code == 503 and "lock" in client.get("/readyz").json["detail"])
        asked = client.get("/queries/worst-hours")
        alive = client.get("/healthz")
        holder.communicate()
        wait_until(lambda: sink.landed == 100)

    assert asked.status_code == 503
    assert asked.headers["Retry-After"] == "1"
    assert alive.status_code == 200
    assert ask(settings, ALL.format("readings")) == [(101, 101)]


def test_a_database_that_is_away_for_long_is_no_reason_to_end_the_process(
    bus: Bus, settings: Settings, tmp_path: Path
) -> None:
    publish_readings(bus, batch_of(1))
    own = {"BUS": settings.bus, "DATABASE": settings.database, "POLL_AGE_LIMIT": "4"}
    with duckdb.connect(settings.database.removeprefix("duckdb:")):
        sink = Process(tmp_path, "consume", "sink", **{f"KAPPAWATT_{name}": value for name, value in own.items()})
        with stopped_at_the_end(sink):
            wait_until(lambda: b"lock" in get(sink.url("/readyz"))[1], 60, "it waits for the database")
            until = time.monotonic() + 9.0  # more than twice the limit
            alive = set()
            while time.monotonic() < until:
                alive.add(get(sink.url("/healthz"))[0])
                time.sleep(0.1)
            ended = sink.terminate(60)

    assert alive == {200}
    assert ended == 0


def test_the_file_is_free_between_writes(bus: Bus, settings: Settings) -> None:
    publish_readings(bus, batch_of(1))
    sink = open_sink(settings)
    with running(sink):
        wait_until(lambda: sink.landed == 1)

        other = subprocess.run(
            [
                sys.executable,
                "-c",
                COUNT,
                settings.database.removeprefix("duckdb:"),
            ],
            capture_output=True,
            text=True,
            timeout=30,
        )

    assert other.stdout.strip() == "1", other.stderr


COUNT = """
import duckdb, sys
print(duckdb.connect(sys.argv[1]).execute("SELECT count(*) FROM readings").fetchone()[0])
"""
PROGRAM = """
import sys
from kappawatt.signals import stop_on_signals
from kappawatt.settings import Settings
from kappawatt.services.sink.loop import Sink, open_sink
from kappawatt.telemetry import Telemetry
from kappawatt.bus import connect_as
settings = Settings.read({}, bus=sys.argv[1], database=sys.argv[2], session_timeout=1.0)
built = open_sink(settings)
bus = connect_as(settings)
telemetry = Telemetry("sink")
sink = Sink(bus, built.store, settings=settings, telemetry=telemetry, write_seconds=0.1, write_rows=2000)
stop_on_signals(sink.stop)
print("ready", flush=True)
sink.run()
"""


def start_sink(settings: Settings) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, settings.bus, settings.database], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_kill_nine_in_mid_write_loses_nothing_and_doubles_nothing(bus: Bus, settings: Settings) -> None:
    rng = random.Random(7)
    total = 60_000
    for _ in range(6):
        publish_readings(bus, batch_of(5_000), block_rows=0)
        publish_readings(bus, batch_of(5_000), "plant-2", block_rows=500)

    def landed() -> int:
        return sum(bus.committed("sink", "plant.readings").values())

    kills = 0
    for _ in range(6):
        process = start_sink(settings)
        before = landed()
        deadline = time.monotonic() + 20
        while landed() == before and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.005)
        time.sleep(rng.uniform(0.0, 0.08))  # somewhere in the next write
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        assert process.stdout is not None
        process.stdout.close()
    end = sum(o.end for o in bus.offsets("plant.readings").values())
    assert landed() < end, "all was landed before the last kill: nothing was interrupted"

    process = start_sink(settings)
    wait_until(lambda: landed() == end, seconds=60)
    process.terminate()
    assert process.wait(20) == 0
    assert process.stdout is not None
    process.stdout.close()

    assert kills == 6
    assert ask(settings, ALL.format("readings")) == [(total, total)]


class DeafConsumer:
    """A member whose group never gives it anything, as kafka-python's after a lost rebalance."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer

    def poll(self, timeout: float) -> list[Any]:
        time.sleep(min(timeout, 0.05))
        return []

    def lag(self) -> dict[tuple[str, int], int]:
        return {("plant.readings", 0): 1}

    def positions(self) -> dict[tuple[str, int], int]:
        return {("plant.readings", 0): 0}

    def commit(self) -> None:
        """Nothing came."""

    def close(self) -> None:
        self._consumer.close()


def test_a_member_that_hears_nothing_while_messages_wait_joins_again(
    bus: Bus, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SETTLE_SECONDS", "LAG_SECONDS", "STUCK_SECONDS"):
        monkeypatch.setattr(loop, name, 0.2)
    publish_readings(bus, batch_of(10), block_rows=0)
    sink = open_sink(settings)
    join, deaf = sink._bus.consumer, [True, True]

    def consumer(*arguments: Any, **named: Any) -> Any:
        made = join(*arguments, **named)
        return DeafConsumer(made) if deaf and deaf.pop() else made

    monkeypatch.setattr(sink._bus, "consumer", consumer)

    with running(sink):
        wait_until(lambda: sink.landed == 10)

    assert not deaf
