"""The sink into a real PostgreSQL that refuses rows, is full, locked or altered, and between several sinks."""

from __future__ import annotations

import ctypes
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kappawatt.bus import Bus
from kappawatt.errors import SettingInvalid
from kappawatt.services.sink import loop
from kappawatt.services.sink.loop import open_sink
from kappawatt.services.sink.service import SERVICE as SINK
from kappawatt.serving.app import create_app
from kappawatt.settings import Settings
from kappawatt.store.interface import Guard, RowsRefused, StoreBusy, StoreChanged, StoreFailed
from kappawatt.store.limits import checked
from kappawatt.store.open import open_store
from kappawatt.store.table import Column, Layout, Table, Type
from tests.conftest import publish, wait_until
from tests.integration.postgresql import FOUND, Server, emptied, psycopg, started
from tests.integration.processes import free_port
from tests.unit.services.sink.messages import batch_of, predictions_of, publish_readings
from tests.unit.services.sink.test_sink import land_all, running, served, start_sink

pytestmark = pytest.mark.skipif(not FOUND, reason="no /usr/lib/postgresql/*/bin: Debian's postgresql is missing")

VALUES = Table("values_of", (Column("id", Type.TEXT), Column("value", Type.NUMBER), Column("words", Type.TEXT)))
LONE = Layout((VALUES,))
TOPIC = "plant.readings"


@pytest.fixture
def settings(settings: Settings, server: Server) -> Settings:
    emptied(server)
    with psycopg.connect(server.url) as connection:
        connection.execute("DROP TABLE IF EXISTS values_of")
    return replace(settings, database=server.url)


def rows(n: int, words: str = "w", first: int = 0) -> Any:
    columns = {
        "id": np.array([f"i{i}" for i in range(first, first + n)], dtype=object),
        "value": np.arange(n, dtype=float),
        "words": np.array([words] * n, dtype=object),
    }
    return {"values_of": checked(VALUES, columns, n)[0]}


def execute(server: Server, *statements: str) -> None:
    with psycopg.connect(server.url) as connection:
        for statement in statements:
            connection.execute(statement)


TRIGGER = """
CREATE OR REPLACE FUNCTION refuse() RETURNS trigger AS
$$ BEGIN IF NEW.ambient_temperature = 13 THEN RAISE EXCEPTION 'thirteen'; END IF; RETURN NEW; END $$ LANGUAGE plpgsql
"""


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE readings ADD CHECK (ambient_temperature <> 13)",
        "CREATE UNIQUE INDEX ON readings ((CASE WHEN ambient_temperature = 13 THEN 1 END))",
        "CREATE TRIGGER refuse BEFORE INSERT ON readings FOR EACH ROW EXECUTE FUNCTION refuse()",
        "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON readings DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION refuse()",
    ],
)
def test_rows_that_somebodys_own_rule_refuses_are_kept_as_rejections(
    bus: Bus, settings: Settings, server: Server, statement: str
) -> None:
    open_sink(settings).store.prepare()
    execute(server, TRIGGER, statement)
    if "UNIQUE" in statement:
        execute(server, "INSERT INTO readings (id, ambient_temperature) VALUES ('first', 13)")
    temperature = np.full(100, 1.0)
    temperature[[5, 50]] = 13.0
    publish_readings(bus, batch_of(100, temperature=temperature.tolist()), block_rows=0)

    land_all(settings, 100)

    assert server.ask("SELECT count(*) FROM readings WHERE id <> 'first'") == [(98,)]
    assert server.ask("SELECT reason, count(*), count(original) FROM rejections GROUP BY 1") == [("not_storable", 2, 2)]
    end = sum(known.end for known in bus.offsets(TOPIC).values())
    assert sum(bus.committed("sink", TOPIC).values()) == end
    assert server.ask(f"SELECT max(next_offset) FROM sink_positions WHERE source_topic = '{TOPIC}'") == [(end,)]


def test_a_value_that_the_server_refuses_is_said_and_the_connection_goes_on(settings: Settings, server: Server) -> None:
    store = open_store(server.url, LONE)
    store.write(rows(2))

    for words in ("a\x00b", "\ud800"):
        wrong = {**rows(3)["values_of"], "words": np.array([words, "b", None], dtype=object)}
        with pytest.raises(RowsRefused, match="table values_of"):
            store.write({"values_of": wrong})
    store.write(rows(3))
    store.close()

    assert server.ask("SELECT count(*) FROM values_of") == [(3,)]


def test_an_id_longer_than_an_index_takes_is_refused(settings: Settings, server: Server) -> None:
    store = open_store(server.url, LONE)
    columns = rows(2)["values_of"]
    long = np.array(["short", random.Random(1).randbytes(20_000).hex()], dtype=object)

    with pytest.raises(RowsRefused):
        store.write({"values_of": {**columns, "id": long}})
    store.close()


def test_a_lock_delays_a_write_and_a_deadline_of_it_is_busy(settings: Settings, server: Server) -> None:
    store = open_store(server.url + "?options=-c%20lock_timeout%3D300", LONE)
    store.write(rows(1))

    with psycopg.connect(server.url) as holder:
        holder.execute("LOCK TABLE values_of IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StoreBusy, match="lock"):
            store.write(rows(2))
    store.write(rows(2))
    store.close()


def test_a_standby_is_busy_and_a_right_that_is_missing_is_not(settings: Settings, server: Server) -> None:
    open_store(server.url, LONE).prepare()
    read_only = open_store(server.url + "?options=-c%20default_transaction_read_only%3Don", LONE)
    execute(server, "DROP ROLE IF EXISTS somebody", "CREATE ROLE somebody LOGIN")
    somebody = open_store(server.url.replace("kappawatt@", "somebody@"), LONE)

    with pytest.raises(StoreBusy, match="read-only"):
        read_only.write(rows(1))
    with pytest.raises(StoreFailed, match="permission denied"):
        somebody.write(rows(1))


def test_a_guard_holds_back_what_rests_on_something_else(settings: Settings, server: Server) -> None:
    store = open_store(server.url, LONE)
    store.write(rows(2), Guard("values_of", "value", {"i0": None}))

    with pytest.raises(StoreChanged):
        store.write(rows(5), Guard("values_of", "value", {"i0": None}))
    store.write(rows(3), Guard("values_of", "value", {"i0": 0, "i1": 1, "i9": None}))
    store.close()

    assert server.ask("SELECT count(*) FROM values_of") == [(3,)]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("id TEXT PRIMARY KEY, value TEXT", "database: table values_of, column value: got type text"),
        ("id TEXT PRIMARY KEY, words JSONB", "database: table values_of, column words: got type jsonb"),
        ("id TEXT PRIMARY KEY, mine TEXT NOT NULL", "database: table values_of, column mine: got NOT NULL"),
        (
            "id TEXT PRIMARY KEY, value NUMERIC(18, 3)",
            "database: table values_of, column value: got type numeric(18,3), allowed DOUBLE PRECISION",
        ),
        ("id TEXT, value DOUBLE PRECISION", "database: table values_of, column id: got "),
        (
            "id TEXT PRIMARY KEY, value DOUBLE PRECISION GENERATED ALWAYS AS (1.0) STORED",
            "database: table values_of, column value: got GENERATED",
        ),
    ],
)
def test_a_column_that_cannot_be_used_is_named_in_one_line(
    settings: Settings, server: Server, columns: str, said: str
) -> None:
    execute(server, f"CREATE TABLE values_of ({columns})")

    with pytest.raises(SettingInvalid) as error:
        open_store(server.url, LONE).prepare()

    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_the_command_ends_with_one_line_that_names_table_and_column(
    bus: Bus, settings: Settings, server: Server
) -> None:
    execute(server, "CREATE TABLE readings (id TEXT PRIMARY KEY, net_power TIMESTAMPTZ)")
    environment = {**os.environ, "KAPPAWATT_BUS": settings.bus, "KAPPAWATT_DATABASE": server.url}

    ended = subprocess.run(
        [sys.executable, "-m", "kappawatt.cli", "consume", "sink"],
        env={**environment, "KAPPAWATT_PROBE_PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 1
    assert "database: table readings, column net_power: got type timestamp with time zone" in ended.stderr
    assert "Traceback" not in ended.stderr + ended.stdout


def test_missing_columns_are_added_with_the_views_that_need_them(bus: Bus, settings: Settings, server: Server) -> None:
    open_sink(settings).store.prepare()
    execute(
        server,
        "INSERT INTO readings (id, key) VALUES ('old', 'p')",
        "DROP VIEW scored",
        "ALTER TABLE readings DROP COLUMN relative_humidity",
        "ALTER TABLE predictions DROP COLUMN extrapolated",
    )
    publish_readings(bus, batch_of(3))
    publish(bus, predictions_of([1], [1.0]))

    land_all(settings, 4)

    assert server.ask("SELECT count(*), count(relative_humidity) FROM readings") == [(4, 3)]
    assert server.ask("SELECT count(extrapolated) FROM predictions") == [(1,)]


def test_a_column_that_goes_while_the_sink_runs_is_added_again(
    bus: Bus, settings: Settings, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "BACKOFF_SECONDS", (0.05, 0.1))
    publish_readings(bus, batch_of(3), block_rows=0)
    sink = open_sink(settings)

    with running(sink):
        wait_until(lambda: sink.landed == 3)
        execute(server, "ALTER TABLE readings DROP COLUMN exhaust_vacuum CASCADE")
        publish_readings(bus, batch_of(3), block_rows=0)
        wait_until(lambda: sink.landed == 6)

    assert server.ask("SELECT count(*), count(exhaust_vacuum) FROM readings") == [(6, 3)]


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 80 megabytes: an empty server of PostgreSQL takes some 40."""
    libc = ctypes.CDLL(None, use_errno=True)
    with tempfile.TemporaryDirectory(prefix="kappawatt-pg-") as name:
        if libc.mount(b"tmpfs", name.encode(), b"tmpfs", 0, b"size=80m") != 0:
            pytest.skip(f"mount: {os.strerror(ctypes.get_errno())}")
        yield Path(name)
        libc.umount2(name.encode(), 2)


def test_a_full_disk_is_said_and_rows_land_when_there_is_room(
    bus: Bus, settings: Settings, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "BACKOFF_SECONDS", (0.05, 0.2))
    with started(small_disk) as full:
        own = replace(settings, database=full.url)
        publish_readings(bus, batch_of(10), block_rows=0)
        sink, client = served(own)
        with running(sink):
            wait_until(lambda: sink.landed == 10)
            with (small_disk / "filler").open("wb") as file:
                free = os.statvfs(small_disk)
                file.write(b"x" * (free.f_bavail * free.f_frsize - 200_000))
            publish_readings(bus, batch_of(5_000), block_rows=100)
            wait_until(lambda: client.get("/readyz").status_code == 503, 30, "not ready")
            said = client.get("/readyz").json["detail"]
            (small_disk / "filler").unlink()
            wait_until(lambda: sink.landed == 5_010, 40, "landed")

        assert full.ask("SELECT count(*), count(DISTINCT id) FROM readings") == [(5_010, 5_010)]
        assert "disk full" in said


def test_an_empty_and_a_restored_database_are_built_again(bus: Bus, settings: Settings, server: Server) -> None:
    publish_readings(bus, batch_of(40), block_rows=0)
    land_all(settings, 40)
    execute(server, "CREATE TABLE backup AS SELECT * FROM sink_positions")
    publish_readings(bus, batch_of(10), block_rows=0)
    land_all(settings, 10)

    execute(
        server,
        "DELETE FROM readings WHERE source_offset >= 40",
        "DELETE FROM sink_positions",
        "INSERT INTO sink_positions SELECT * FROM backup",
        "DROP TABLE backup",
    )
    land_all(settings, 10)
    restored = server.ask("SELECT count(*) FROM readings")
    emptied(server)
    land_all(settings, 50)

    assert restored == [(50,)]
    assert server.ask("SELECT count(*), count(DISTINCT id) FROM readings") == [(50, 50)]


def test_a_database_that_is_emptied_under_a_running_sink_is_built_again(
    bus: Bus, settings: Settings, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "BACKOFF_SECONDS", (0.05, 0.1))
    publish_readings(bus, batch_of(40), block_rows=0)
    sink = open_sink(settings)

    with running(sink):
        wait_until(lambda: sink.landed == 40)
        emptied(server)
        publish_readings(bus, batch_of(1), block_rows=0)
        wait_until(lambda: sink.landed == 81)

    assert server.ask("SELECT count(*), count(DISTINCT id) FROM readings") == [(41, 41)]


def test_two_sinks_that_are_killed_again_and_again_land_everything_once(
    bus: Bus, settings: Settings, server: Server
) -> None:
    """Also when the store is emptied on the way: what the group has committed says nothing of what is in there."""
    rng = random.Random(11)
    keys = [f"plant-{i}" for i in range(8)]
    sinks = [start_sink(settings) for _ in range(2)]
    try:
        for turn in range(6):
            for key in keys:
                publish_readings(bus, batch_of(300), key, block_rows=0)
                publish_readings(bus, batch_of(300), key, block_rows=100)
            time.sleep(rng.uniform(0.1, 0.8))
            victim = rng.randrange(2)
            sinks[victim].kill()
            sinks[victim].wait()
            if turn == 3:
                emptied(server)
            sinks[victim] = start_sink(settings)
        wait_until(lambda: is_landed(bus, server), 90, "all positions at the end of their logs")
    finally:
        for sink in sinks:
            sink.kill()
            sink.wait()
            assert sink.stdout is not None
            sink.stdout.close()

    total = 6 * len(keys) * 600
    assert server.ask("SELECT count(*), count(DISTINCT id) FROM readings") == [(total, total)]


def is_landed(bus: Bus, server: Server) -> bool:
    log = bus.log_id(TOPIC)
    sql = f"SELECT source_partition, next_offset FROM sink_positions WHERE source_topic = '{TOPIC}'"
    try:
        found = dict(server.ask(f"{sql} AND source_log = '{log}'"))
    except psycopg.Error:
        return False
    ends = {number: known.end for number, known in bus.offsets(TOPIC).items() if known.end}
    return ends == {number: found.get(number) for number in ends}


def test_queries_answer_while_rows_of_every_kind_are_refused(bus: Bus, settings: Settings) -> None:
    publish(bus, predictions_of([1, 2], [1.0, 1e308], as_block=True))
    publish(bus, [replace(each, timestamp=2**62) for each in predictions_of([3], [1.0])])
    land_all(settings, 3)
    client = create_app(SINK, settings).test_client()

    names = [query["name"] for query in client.get("/queries").json["queries"]]
    assert {name: client.get(f"/queries/{name}").status_code for name in names} == dict.fromkeys(names, 200)
