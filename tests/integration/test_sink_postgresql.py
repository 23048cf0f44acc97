"""The sink into a real PostgreSQL: upserts, restarts of the server, and the same example queries."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kappawatt.bus import Bus, Outgoing
from kappawatt.errors import NotReady
from kappawatt.services.sink import loop
from kappawatt.services.sink.service import SERVICE as SINK
from kappawatt.services.sink.tables import LAYOUT
from kappawatt.serving.app import create_app
from kappawatt.settings import Settings
from kappawatt.store.open import open_store
from tests.conftest import publish, wait_until
from tests.forecast_fakes import load_messages
from tests.integration.postgresql import FOUND, Server, emptied, psycopg
from tests.unit.services.sink import test_forecasts as forecasts
from tests.unit.services.sink.messages import batch_of, dead_letters_of, predictions_of, publish_readings
from tests.unit.services.sink.test_queries import EXPECTED, publish_by_hand
from tests.unit.services.sink.test_sink import land_all, malformed_predictions, running, served, start_sink
from tests.unit.store.before import MIGRATED, ROWS, as_before, killed_after, make_before, migrating, said_by

pytestmark = pytest.mark.skipif(not FOUND, reason="no /usr/lib/postgresql/*/bin: Debian's postgresql is missing")


@pytest.fixture
def settings(settings: Settings, server: Server) -> Settings:
    emptied(server)
    return replace(settings, database=server.url)


def test_everything_lands_and_the_same_again_changes_nothing(bus: Bus, settings: Settings, server: Server) -> None:
    for _ in range(2):
        publish(bus, predictions_of([1, 2, 2], [1.0, 2.0, 3.0]))
        publish(bus, predictions_of([2], [4.0], as_block=True))
        publish(bus, dead_letters_of([b'{"ambient_temperature": 900, "exhaust_vacuum": "\\u0000"}', b"\xff\x00"]))
    publish_readings(bus, batch_of(200, net_power=[float("nan")] * 200), block_rows=50)

    land_all(settings, 200 + 8 + 4)

    assert server.ask("SELECT count(*), count(DISTINCT id), count(net_power) FROM readings") == [(200, 200, 0)]
    assert server.ask("SELECT source_offset, net_power FROM predictions ORDER BY 1") == [(1, 1.0), (2, 4.0)]
    assert server.ask("SELECT count(*) FROM rejections") == [(2,)]
    assert (
        server.ask("SELECT data_type FROM information_schema.columns WHERE column_name = 'event_time'")
        == [("timestamp with time zone",)] * 3
    )


def test_malformed_predictions_are_kept_as_rejections(bus: Bus, settings: Settings, server: Server) -> None:
    bad = malformed_predictions()
    publish(bus, [*bad, *predictions_of([9], [460.0])])

    land_all(settings, len(bad) + 1)

    assert server.ask("SELECT count(*) FROM predictions") == [(1,)]
    assert server.ask("SELECT count(*) FROM rejections WHERE reason = 'malformed'") == [(len(bad),)]


@pytest.mark.parametrize("name", EXPECTED)
def test_example_queries_return_the_same_numbers_as_on_duckdb(bus: Bus, settings: Settings, name: str) -> None:
    publish_by_hand(bus)
    land_all(settings, 11)

    answer = create_app(SINK, settings).test_client().get(f"/queries/{name}")

    expected = EXPECTED[name]
    assert [row[: len(expected[0])] for row in answer.json["rows"]] == expected


@pytest.mark.parametrize("name", forecasts.EXPECTED)
def test_queries_on_forecasts_return_the_same_numbers_as_on_duckdb(
    bus: Bus, settings: Settings, tmp_path: Path, name: str
) -> None:
    land_all(settings, forecasts.publish_forecasts_by_hand(bus, tmp_path))

    answer = create_app(SINK, settings).test_client().get(f"/queries/{name}")

    expected = forecasts.EXPECTED[name]
    assert [row[: len(expected[0])] for row in answer.json["rows"]] == expected


def test_forecasts_and_series_land_once(bus: Bus, settings: Settings, server: Server, tmp_path: Path) -> None:
    one = forecasts.issued([10.0, 20.0], {"daily_peak": 30.0})
    messages = [
        forecasts.forecast_of(tmp_path, one),
        *forecasts.errors_of(tmp_path, one, [11.0, 21.0], [float("nan"), 25.0]),
    ]
    publish(bus, messages * 2 + load_messages("2016-07-01T04", 100))

    land_all(settings, 2 * (2 + 1 + 2) + 100)

    assert [server.ask(f"SELECT count(*), count(DISTINCT id) FROM {name}")[0] for name in forecasts.TABLES] == [
        (100, 100),
        (0, 0),
        (2, 2),
        (1, 1),
        (2, 2),
    ]
    assert server.ask("SELECT naive, quantile_05 FROM forecast_errors JOIN forecasts USING (id) ORDER BY 2") == [
        (None, 1.0),
        (25.0, 11.0),
    ]


def test_queries_run_on_an_empty_database(settings: Settings) -> None:
    client = create_app(SINK, settings).test_client()

    names = [query["name"] for query in client.get("/queries").json["queries"]]
    assert [client.get(f"/queries/{name}").json["rows"] for name in names] == [[]] * len(names)


def test_a_restart_of_the_server_loses_and_doubles_nothing(
    bus: Bus, settings: Settings, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "BACKOFF_SECONDS", (0.05, 0.2))
    publish_readings(bus, batch_of(100), block_rows=0)
    sink, client = served(settings)

    with running(sink):
        wait_until(lambda: sink.landed == 100)
        server.stop()
        publish_readings(bus, batch_of(100), block_rows=0)
        wait_until(lambda: client.get("/readyz").status_code == 503)
        asked = client.get("/queries/worst-hours")
        server.start()
        wait_until(lambda: sink.landed == 200)

    assert asked.status_code == 503
    assert server.ask("SELECT count(*), count(DISTINCT id) FROM readings") == [(200, 200)]


def test_kill_nine_in_mid_write_loses_nothing_and_doubles_nothing(bus: Bus, settings: Settings, server: Server) -> None:
    total = 20_000
    for _ in range(2):
        publish_readings(bus, batch_of(5_000), block_rows=0)
        publish_readings(bus, batch_of(5_000), "plant-2", block_rows=500)
    end = sum(o.end for o in bus.offsets("plant.readings").values())

    def landed() -> int:
        return sum(bus.committed("sink", "plant.readings").values())

    process = start_sink(settings)
    wait_until(lambda: landed() > 0)
    process.kill()
    process.wait()
    assert landed() < end, "all was landed before the kill: nothing was interrupted"
    process = start_sink(settings)
    wait_until(lambda: landed() == end, 60)
    process.terminate()

    assert process.wait(20) == 0
    assert server.ask("SELECT count(*), count(DISTINCT id) FROM readings") == [(total, total)]


def test_no_server_is_not_ready_and_names_no_password() -> None:
    store = open_store("postgresql://kappawatt:secret@127.0.0.1:9/postgres", LAYOUT)

    with pytest.raises(NotReady) as error:
        store.query("SELECT 1", 1)
    assert "secret" not in str(error.value)


@pytest.fixture
def before(settings: Settings, server: Server) -> dict[str, list[tuple[Any, ...]]]:
    """The store of the release before, with a view of somebody's own on it, and its rows."""
    with psycopg.connect(server.url) as connection:
        make_before(connection.execute)
        connection.execute("CREATE VIEW mine AS SELECT plant, error FROM scored")
    return rows(server)


def rows(server: Server) -> dict[str, list[tuple[Any, ...]]]:
    return {name: server.ask(f"SELECT * FROM {name} ORDER BY id") for name in ROWS}


def test_a_store_of_the_release_before_is_migrated_once_with_the_views_on_it(
    settings: Settings, server: Server, before: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "kappawatt.store.migration")

    for _ in range(2):
        open_store(server.url, LAYOUT).prepare()

    said: dict[str, Any] = {each.table: (each.renamed, each.rows) for each in caplog.records}  # type: ignore[attr-defined]
    assert said == MIGRATED
    assert len(caplog.records) == len(MIGRATED)
    assert as_before(rows(server), before) == before
    assert server.ask("SELECT count(key), count(error) FROM scored") == [(4, 4)]
    assert server.ask("SELECT count(available_at) FROM scored_forecasts") == [(4,)]
    assert server.ask("SELECT plant FROM mine LIMIT 1") == [("plant-1",)]


@pytest.mark.parametrize("statements", [1, 10])
def test_a_migration_that_is_killed_has_changed_nothing_and_two_at_once_do_it_once(
    settings: Settings, server: Server, before: dict[str, Any], statements: int
) -> None:
    ended = killed_after(server.url, statements)
    left = server.ask("SELECT count(plant) FROM readings"), server.ask("SELECT count(known_at) FROM forecast_errors")
    said = said_by(migrating(server.url), migrating(server.url))

    assert ended == -signal.SIGKILL
    assert left == ([(4,)], [(4,)])
    assert said == MIGRATED
    assert as_before(rows(server), before) == before


def test_a_key_that_no_database_takes_is_landed_without_its_nul(bus: Bus, settings: Settings, server: Server) -> None:
    row = b'{"interval_start": "2016-07-01T04:00:00Z", "load": 1, "load_zone": "A\\u0000"}'
    publish(bus, [Outgoing("load.readings", row, b"B\x00")])

    land_all(settings, 1)

    assert server.ask("SELECT key FROM load_readings") == [("A\N{REPLACEMENT CHARACTER}",)]
