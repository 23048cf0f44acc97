"""A stream that another package brings has tables, a view and queries, without a line of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.packages import install_stream

STREAM = """
from kappawatt.bus.topic import DAY, Topic
from kappawatt.columns.schema import Field, Kind, Schema
from kappawatt.streams.stream import Bins, Key, Stream, View

SPEED = Field("wind_speed", "m/s", "at hub height", example=8.0)
ORDER = Field("order", "", "what the dispatcher said", kind=Kind.TEXT, required=False)
POWER = Field("power", "kW", "measured", required=False)
MOMENT = Field("measured_at", "", "when", kind=Kind.TIMESTAMP, required=False)
READING = Schema("WindReading", "One reading.", (SPEED, ORDER, POWER, MOMENT))
ANSWER = Schema("WindPower", "The power a model expects.", (
    Field("power", "kW", "expected"),
    Field("power_lower", "kW", "lower"),
    Field("power_upper", "kW", "upper"),
    Field("state", "", "why", kind=Kind.TEXT),
    Field("gust", "m/s", "if any", required=False),
    Field("alarms", "", "how many", kind=Kind.INTEGER, required=False),
    Field("stops", "", "whether", kind=Kind.BOOLEAN, required=False),
))
STREAM = Stream(
    name="wind-park", service="wind-park", title="readings of a turbine", key=Key("turbine", "turbine", "t-1"),
    target="power",
    readings=Topic("wind.readings", "turbine", READING, 2, DAY, (), (), "readings"),
    answers=Topic("wind.predictions", "turbine", ANSWER, 2, DAY, (), (), "predictions"),
    path="wind", arrival="measured_at", error_by=(Bins("wind_speed", 4),), view=View("Wind"),
)
"""
PROGRAM = """
import json, sys
import duckdb, numpy as np
from dataclasses import replace
from kappawatt.bus import connect
from kappawatt.messages.predictions import Prediction, prediction_block, prediction_event
from kappawatt.messages.readings import reading_messages
from kappawatt.services.sink.service import SERVICE
from kappawatt.services.sink.queries import QUERIES
from kappawatt.serving.app import create_app
from kappawatt.settings import Settings
from kappawatt.streams.table import TOPICS, stream_named
from tests.conftest import publish
from tests.unit.services.sink.messages import partition_of
from tests.unit.services.sink.test_sink import land_all

folder = sys.argv[1]
settings = Settings.read({}, bus=f"embedded:{folder}/bus.sqlite", database=f"duckdb:{folder}/kappawatt.duckdb")
bus = connect(settings.bus)
bus.ensure(TOPICS)
wind = stream_named("wind-park")
side = replace(wind.answers, name="side")
bus.ensure([side])
rows = {
    "wind_speed": np.array([3.0, 5.0, 6.0]),
    "order": np.array(["run", None, "stop"], dtype=object),
    "power": np.array([100.0, 200.0, np.nan]),
}
publish(bus, reading_messages(wind, wind.schema.check(rows, 3), "t-1", block_rows=2))

def answers(topic, version, power, more):
    return Prediction(
        topic, b"t-1",
        {
            "event_time": np.full(3, 1_767_225_600_000).astype("datetime64[ms]"),
            "power": power, "power_lower": power - 5, "power_upper": power + 5,
            "state": np.array(["calm", "a\\x00b", "storm"], dtype=object), **more,
        },
        np.zeros(3, dtype=np.int64), np.arange(3, dtype=np.int32), "wind.readings",
        partition_of(bus, "wind.readings"), "wind-park", version, source_log=bus.log_id("wind.readings"),
    )

power = np.array([110.0, 180.0, 300.0])
publish(bus, prediction_event(answers("wind.predictions", "1", power, {"gust": np.array([9.0, np.nan, np.nan])})))
publish(bus, [prediction_block(answers("side", "2", power, {"stops": np.array([True, False, True])}))])
bus.commit_for("sink", {("side", p): 0 for p in range(2)})  # as after a promotion that was superseded
land_all(settings, 3 + 3 + 3)

def ask(sql):
    with duckdb.connect(settings.database.removeprefix("duckdb:")) as connection:
        return connection.execute(sql).fetchall()

READINGS = 'SELECT key, wind_speed, "order", power, measured_at = published FROM wind_park_readings ORDER BY id'
PREDICTIONS = (
    "SELECT power, state, gust, alarms, stops FROM wind_park_predictions WHERE version = '{}' ORDER BY id"
)
client = create_app(SERVICE, settings).test_client()
names = [query.name for query in QUERIES if query.name.startswith("wind")]
print(json.dumps({
    "readings": ask(READINGS),
    "events": ask(PREDICTIONS.format(1)),
    "blocks": ask(PREDICTIONS.format(2)),
    "scored": ask("SELECT measured, predicted, error, state FROM wind_park_scored WHERE version = '1' ORDER BY id"),
    "queries": {name: client.get(f"/queries/{name}").json for name in names},
    "rejections": ask("SELECT count(*) FROM rejections"),
}))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a sink makes of the stream: installed beside kappawatt, found by its entry point."""
    site, folder = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("run")
    install_stream(site, "windpark", "wind-park", STREAM)
    root = Path(__file__).parents[4]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(root)])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return document


def test_its_readings_have_a_table_of_their_schema(found: dict[str, Any]) -> None:
    assert found["readings"] == [
        ["t-1", 3.0, "run", 100.0, True],
        ["t-1", 5.0, None, 200.0, True],
        ["t-1", 6.0, "stop", None, True],
    ]


def test_its_predictions_land_from_events_and_blocks_with_text_and_what_is_absent(found: dict[str, Any]) -> None:
    assert found["events"] == [
        [110.0, "calm", 9.0, None, None],
        [180.0, "a\N{REPLACEMENT CHARACTER}b", None, None, None],
        [300.0, "storm", None, None, None],
    ]
    assert found["blocks"] == [
        [110.0, "calm", None, None, True],
        [180.0, "a\N{REPLACEMENT CHARACTER}b", None, None, False],
        [300.0, "storm", None, None, True],
    ]
    assert found["rejections"] == [[0]]


def test_its_view_sets_them_beside_what_was_measured(found: dict[str, Any]) -> None:
    assert [[*row[:3], row[3][:1]] for row in found["scored"]] == [
        [100.0, 110.0, 10.0, "c"],
        [200.0, 180.0, -20.0, "a"],
    ]


def test_its_queries_are_those_of_any_stream_in_its_own_units(found: dict[str, Any]) -> None:
    queries = found["queries"]

    assert list(queries) == ["wind-park-error-by-wind-speed", "wind-park-worst-hours", "wind-park-coverage-by-day"]
    by_speed = queries["wind-park-error-by-wind-speed"]
    assert by_speed["title"] == "Wind: error by wind speed, in bins of 4 m/s"
    assert by_speed["columns"] == ["version", "from_m_s", "to_m_s", "n", "mae_kw", "bias_kw"]
    assert by_speed["rows"][:2] == [["1", 0.0, 4.0, 1, 10.0, 10.0], ["1", 4.0, 8.0, 1, 20.0, -20.0]]
    assert queries["wind-park-coverage-by-day"]["rows"][0] == ["2026-01-01", "1", 2, 0.0, 10.0]
