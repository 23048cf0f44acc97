"""The example queries, on numbers made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kappawatt.bus import Bus
from kappawatt.errors import SettingInvalid
from kappawatt.services.sink.queries import QUERIES
from kappawatt.services.sink.service import SERVICE as SINK
from kappawatt.services.sink.tables import LAYOUT
from kappawatt.serving.app import create_app
from kappawatt.settings import Settings
from kappawatt.store.open import open_store
from tests.conftest import publish
from tests.unit.services.sink.messages import (
    HOUR,
    START,
    batch_of,
    dead_letters_of,
    partition_of,
    predictions_of,
    publish_readings,
)
from tests.unit.services.sink.test_forecasts import EXPECTED as FORECASTS_EXPECTED
from tests.unit.services.sink.test_sink import land_all

TEMPERATURES = [1.0, 1.9, 2.0, -0.5]
MEASURED = [400.0, 410.0, 420.0, 430.0]
PREDICTED = [402.0, 409.0, 426.0, 430.0]
TIMES = [START, START + 1, START + HOUR, START + 25 * HOUR]


def publish_by_hand(bus: Bus, *, is_before: bool = False) -> None:
    """Publish what the example queries are about, as it is or as it was in the release before."""
    publish_readings(bus, batch_of(4, temperature=TEMPERATURES, net_power=MEASURED, event_time=TIMES), block_rows=4)
    partition = partition_of(bus, "plant.readings")
    publish(
        bus,
        predictions_of(
            [0] * 4,
            PREDICTED,
            rows=range(4),
            partition=partition,
            event_time=TIMES,
            as_block=True,
            log="" if is_before else bus.log_id("plant.readings"),
        ),
    )
    publish(bus, dead_letters_of([b'{"ambient_temperature": 900}', b"no", b"no"]))


EXPECTED: dict[str, Any] = {
    # version, bin, n, mae, bias
    "error-by-temperature": [
        ["v1", -2.0, 0.0, 1, 0.0, 0.0],
        ["v1", 0.0, 2.0, 2, 1.5, 0.5],
        ["v1", 2.0, 4.0, 1, 6.0, 6.0],
    ],
    "worst-hours": [
        ["2026-01-01T01:00:00Z", "plant-1", "v1", 1, 6.0, 6.0, 6.0, 2.0],
        ["2026-01-01T00:00:00Z", "plant-1", "v1", 2, 1.5, 0.5, 2.0, pytest.approx(1.45)],
        ["2026-01-02T01:00:00Z", "plant-1", "v1", 1, 0.0, 0.0, 0.0, -0.5],
    ],
    # intervals are 5 MW to each side: an error of 6 MW is outside
    "coverage-by-day": [
        ["2026-01-01", "v1", 3, pytest.approx(2 / 3), 10.0],
        ["2026-01-02", "v1", 1, 1.0, 10.0],
    ],
    "rejections-by-reason": [["malformed", None, 2, 2], ["out_of_range", "ambient_temperature", 1, 1]],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_example_queries_return_the_right_numbers(bus: Bus, settings: Settings, name: str) -> None:
    publish_by_hand(bus)
    land_all(settings, 11)

    answer = create_app(SINK, settings).test_client().get(f"/queries/{name}")

    assert answer.status_code == 200
    expected = EXPECTED[name]
    assert [row[: len(expected[0])] for row in answer.json["rows"]] == expected
    assert len(answer.json["columns"]) == len(answer.json["rows"][0])


def test_every_query_is_listed_and_runs_on_an_empty_database(settings: Settings) -> None:
    client = create_app(SINK, settings).test_client()

    listed = client.get("/queries").json["queries"]

    assert [query["name"] for query in listed] == [query.name for query in QUERIES] == [*EXPECTED, *FORECASTS_EXPECTED]
    for query in listed:
        answer = client.get(f"/queries/{query['name']}").json
        assert answer["rows"] == []
        assert answer["sql"] == query["sql"]


def test_an_unknown_query_is_404_and_names_those_there_are(settings: Settings) -> None:
    answer = create_app(SINK, settings).test_client().get("/queries/drop-table")

    assert answer.status_code == 404
    assert answer.content_type == "application/problem+json"
    assert "worst-hours" in answer.json["detail"]


@pytest.mark.parametrize("url", ["", "duckdb:", "mysql://a", "postgresql:db", "mysql://user:secret@host/db"])
def test_an_unknown_database_is_refused_without_repeating_a_password(url: str) -> None:
    with pytest.raises(SettingInvalid, match="allowed duckdb:FILE") as error:
        open_store(url, LAYOUT)
    assert "secret" not in str(error.value)


def test_a_database_file_in_a_new_folder_is_made(tmp_path: Path) -> None:
    store = open_store(f"duckdb:{tmp_path}/new/folder/a.duckdb", LAYOUT)

    assert store.query("SELECT count(*) AS n FROM readings", 10).rows == [(0,)]
