"""A DuckDB file of the release before: migrated at the start, once, whole or not at all."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from kappawatt.bus import Bus
from kappawatt.services.sink.service import SERVICE as SINK
from kappawatt.services.sink.tables import FORECASTS, LAYOUT
from kappawatt.serving.app import create_app
from kappawatt.settings import Settings
from kappawatt.store.migration import Change, changes
from kappawatt.store.open import open_store
from kappawatt.store.table import Column, Table, Type
from tests.unit.services.sink import test_forecasts as forecasts
from tests.unit.services.sink import test_queries as predictions
from tests.unit.services.sink.test_sink import land_all
from tests.unit.store.before import MIGRATED, ROWS, as_before, killed_after, make_before, migrating, said_by


@pytest.fixture
def before(settings: Settings) -> dict[str, list[tuple[Any, ...]]]:
    """A file of the release before, and its rows."""
    with duckdb.connect(settings.database.removeprefix("duckdb:")) as connection:
        make_before(connection.execute)
    return rows(settings)


def rows(settings: Settings) -> dict[str, list[tuple[Any, ...]]]:
    with duckdb.connect(settings.database.removeprefix("duckdb:")) as connection:
        return {name: connection.execute(f"SELECT * FROM {name} ORDER BY id").fetchall() for name in ROWS}


def test_columns_get_their_names_of_today_and_no_value_changes(
    settings: Settings, before: dict[str, list[tuple[Any, ...]]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "kappawatt.store.migration")

    open_store(settings.database, LAYOUT).prepare()

    said: dict[str, Any] = {each.table: (each.renamed, each.rows) for each in caplog.records}  # type: ignore[attr-defined]
    assert said == MIGRATED
    assert as_before(rows(settings), before) == before
    assert {name: len(found) for name, found in before.items()} == ROWS
    names = "SELECT column_name FROM information_schema.columns WHERE table_name = ? ORDER BY ordinal_position"
    with duckdb.connect(settings.database.removeprefix("duckdb:")) as connection:
        for table in LAYOUT.tables:
            there = {name for (name,) in connection.execute(names, [table.name]).fetchall()}
            assert there == set(table.names), table.name
        assert connection.execute(names, ["scored"]).fetchall()[1] == ("key",)


def test_a_second_start_does_nothing(
    settings: Settings, before: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    open_store(settings.database, LAYOUT).prepare()
    caplog.clear()
    caplog.set_level("INFO", "kappawatt.store.migration")

    store = open_store(settings.database, LAYOUT)
    store.prepare()
    store.query("SELECT key FROM readings", 1)

    assert caplog.records == []


@pytest.mark.parametrize("statements", [0, 1, 6, 10])
def test_a_migration_that_is_killed_has_changed_nothing_and_the_next_start_does_it(
    settings: Settings, before: dict[str, list[tuple[Any, ...]]], statements: int
) -> None:
    ended = killed_after(settings.database, statements)
    with duckdb.connect(settings.database.removeprefix("duckdb:")) as connection:
        left = connection.execute("SELECT count(plant) FROM readings").fetchall()
        late = connection.execute("SELECT count(known_at) FROM forecast_errors").fetchall()
    said = said_by(migrating(settings.database))

    assert ended == -signal.SIGKILL
    assert (left, late) == ([(4,)], [(4,)])
    assert said == MIGRATED
    assert as_before(rows(settings), before) == before


def test_two_that_start_at_once_migrate_once(settings: Settings, before: dict[str, list[tuple[Any, ...]]]) -> None:
    said = said_by(migrating(settings.database), migrating(settings.database))

    assert said == MIGRATED
    assert as_before(rows(settings), before) == before


@pytest.mark.parametrize("name", ["worst-hours", "forecast-error-by-series", "rejections-by-reason"])
def test_queries_on_a_migrated_store_return_what_they_did(
    settings: Settings, before: dict[str, Any], name: str
) -> None:
    answer = create_app(SINK, settings).test_client().get(f"/queries/{name}")

    expected = (predictions.EXPECTED | forecasts.EXPECTED)[name]
    assert [row[: len(expected[0])] for row in answer.json["rows"]] == expected


def test_what_was_answered_before_lands_in_its_place_again_and_readings_beside_under_their_log(
    bus: Bus, settings: Settings, before: dict[str, list[tuple[Any, ...]]], tmp_path: Path
) -> None:
    """Nothing tells of which log the readings of a store are that named none."""
    predictions.publish_by_hand(bus, is_before=True)
    landed = 11 + forecasts.publish_forecasts_by_hand(bus, tmp_path / "fake")

    land_all(settings, landed)

    now = rows(settings)
    assert {name: len(found) for name, found in now.items()} == {**ROWS, "readings": 2 * ROWS["readings"]}
    kept = [row for row in now["readings"] if row[0] in {old[0] for old in before["readings"]}]
    assert as_before({"readings": kept}, before)["readings"] == before["readings"]


def test_a_field_that_a_stream_has_got_since_is_a_column_more() -> None:
    table = Table("wind_readings", (Column("id", Type.TEXT), Column("key", Type.TEXT), Column("gust", Type.NUMBER)))

    [change] = changes([table], [("wind_readings", "id"), ("wind_readings", "key"), ("other", "gust")])

    assert change == Change("wind_readings", (), (Column("gust", Type.NUMBER),))
    assert list(change.statements) == ['ALTER TABLE "wind_readings" ADD COLUMN "gust" DOUBLE PRECISION']


def test_only_what_a_key_was_called_in_that_table_becomes_the_key() -> None:
    """A stream of another package may have a key of any name: `unit` is a column of forecasts, and stays it."""
    there = [("forecasts", name) for name in ("id", "series", "unit", "model")]

    [change] = changes([FORECASTS], there)

    assert ("series", "key") in change.renamed
    assert all(old in ("series", "known_at") for old, _ in change.renamed)
