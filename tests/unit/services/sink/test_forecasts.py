"""Load, meters, forecasts and their errors in the sink: what lands, once, and what the queries make of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from kappawatt.bus import Bus, Outgoing
from kappawatt.bus.promotions import Serving, promote
from kappawatt.forecasting.calendar import as_instant, day_intervals
from kappawatt.forecasting.fan import LEVELS, Fan
from kappawatt.forecasting.forecaster import Issued
from kappawatt.forecasting.history import Past
from kappawatt.messages.forecasts import error_document, error_message, forecast_document, forecast_message
from kappawatt.messages.readings import reading_messages
from kappawatt.services.sink.loop import open_sink
from kappawatt.services.sink.service import SERVICE as SINK
from kappawatt.serving.app import create_app
from kappawatt.settings import Settings
from kappawatt.streams.load import LOAD_ERRORS, LOAD_FORECASTS, LOAD_READINGS
from kappawatt.streams.load import STREAM as LOAD
from kappawatt.streams.meter import METER_FORECASTS
from kappawatt.streams.meter import STREAM as METER
from kappawatt.worker.forecasting import Forecasting
from tests.conftest import publish, wait_until
from tests.forecast_fakes import as_before, hours, load_messages, model
from tests.unit.services.sink.test_sink import _forget_commits, ask, land_all, running

TABLES = ("load_readings", "meter_readings", "forecasts", "forecast_days", "forecast_errors")
ORIGIN = {"source_topic": "load.readings", "source_partition": 1, "source_offset": 5}
DAY = np.datetime64("2016-07-02")


def answered(bus: Bus, folder: Path) -> None:
    """Publish what a worker of the fake service answers to all load readings there are."""
    answering = Forecasting(bus, model(folder), LOAD, output=LOAD_FORECASTS.name)
    reader = bus.reader([LOAD_READINGS.name], {})
    while polled := reader.poll(0.0):
        publish(bus, answering.answer(polled).outgoing)
    reader.close()


def issued(medians: Sequence[float], day: dict[str, float] | None = None, key: str = "PJME") -> Issued:
    """A forecast of the first hours of a day, its quantiles 1 apart, so that 0.05 and 0.95 are 9 away."""
    targets = day_intervals(DAY, "America/New_York", 3600)[: len(medians)]
    spread = np.arange(len(LEVELS)) - 9.0
    fan = Fan(np.array(medians)[:, None] + spread, {name: value + spread for name, value in (day or {}).items()})
    past = Past(key, "America/New_York", 3600, as_instant("2016-06-01"), np.zeros(0), as_instant("2016-07-01T16"))
    return Issued(past, targets, fan, None, as_instant("2016-07-01T15"))


def forecast_of(folder: Path, one: Issued, topic: str = LOAD_FORECASTS.name, version: str = "1") -> Outgoing:
    return forecast_message(topic, forecast_document(model(folder, version), one, one.past.issue_time), ORIGIN, ())


def errors_of(folder: Path, one: Issued, measured: Sequence[float], naive: Sequence[float]) -> list[Outgoing]:
    return [
        error_message(
            LOAD_ERRORS.name, error_document(model(folder), one, one.past.issue_time, i, measured[i], naive[i]), ORIGIN
        )
        for i in range(len(measured))
    ]


def test_load_and_meter_readings_land_from_events_and_blocks(bus: Bus, settings: Settings) -> None:
    publish(bus, load_messages("2016-07-01T04", 100) + load_messages("2016-07-05T08", 3, block_rows=0))
    columns = {
        "interval_start": hours("2022-07-01", 2),
        "consumption": np.array([0.2, 0.3]),
        "available_at": hours("2022-07-02", 2),
        "interval_seconds": np.full(2, 900.0),
        "time_zone": np.array(["America/Chicago", None], dtype=object),
    }
    publish(bus, reading_messages(METER, METER.schema.check(columns, 2), "m-1"))

    land_all(settings, 105)

    assert ask(settings, "SELECT count(*), count(DISTINCT id), count(DISTINCT interval_start) FROM load_readings") == [
        (103, 103, 103)
    ]
    assert ask(settings, "SELECT DISTINCT key, temperature, time_zone FROM load_readings") == [("PJME", None, None)]
    assert ask(
        settings,
        "SELECT key, epoch_ms(interval_start), interval_seconds, consumption, time_zone FROM meter_readings ORDER BY 2",
    ) == [
        ("m-1", as_instant("2022-07-01").astype(int), 900.0, 0.2, "America/Chicago"),
        ("m-1", as_instant("2022-07-01T01").astype(int), 900.0, 0.3, None),
    ]


def test_a_row_that_names_its_zone_is_under_it(bus: Bus, settings: Settings) -> None:
    rows = [{"interval_start": "2016-07-01T04:00:00Z", "load": 1, **more} for more in ({"load_zone": "AEP"}, {})]
    publish(bus, [Outgoing(LOAD_READINGS.name, orjson.dumps(rows), b"all")])

    land_all(settings, 2)

    assert ask(settings, "SELECT key FROM load_readings ORDER BY source_row") == [("AEP",), ("all",)]


def test_what_a_worker_answers_lands_with_every_quantile(bus: Bus, settings: Settings, tmp_path: Path) -> None:
    publish(bus, load_messages("2016-05-01T04", 24 * 40) + load_messages("2016-06-10T04", 40, block_rows=0))
    answered(bus, tmp_path / "fake")

    land_all(settings, 24 * 40 + 40 + 3 * 24 + 40)  # readings, forecast hours, errors

    assert ask(settings, "SELECT count(DISTINCT forecast_id), count(*) FROM forecasts") == [(3, 72)]
    ordered = "bool_and(quantile_05 < quantile_50 AND quantile_50 < quantile_95)"
    assert ask(settings, f"SELECT {ordered}, min(unit), min(time_zone), min(target) FROM forecasts") == [
        (True, "MW", "America/New_York", "load")
    ]
    [(n, joined)] = ask(
        settings, "SELECT count(*), count(f.id) FROM forecast_errors e LEFT JOIN forecasts f USING (id)"
    )
    assert n == joined > 0
    assert ask(settings, "SELECT count(*) FROM scored_forecasts WHERE forecast - measured = error") == [(n,)]


def test_a_forecasts_row_is_under_the_id_of_its_error(bus: Bus, settings: Settings, tmp_path: Path) -> None:
    one = issued([10.0, 20.0], {"daily_peak": 30.0})
    publish(bus, [forecast_of(tmp_path, one), *errors_of(tmp_path, one, [11.0], [np.nan])])

    land_all(settings, 2 + 1 + 1)

    of = "fake-load/PJME/2016-07-01T16:00:00Z/2016-07-01T16:00:00Z@1"
    assert ask(settings, "SELECT id, quantile_05, quantile_95 FROM forecasts ORDER BY id") == [
        (f"{of}/2016-07-02T04:00:00Z", 1.0, 19.0),
        (f"{of}/2016-07-02T05:00:00Z", 11.0, 29.0),
    ]
    assert ask(settings, "SELECT id, figure, quantile_50, forecast_id, model FROM forecast_days") == [
        (f"{of}/daily_peak", "daily_peak", 30.0, of, "fake-load")
    ]
    assert ask(settings, "SELECT id, measured, error, naive, covered FROM forecast_errors") == [
        (f"{of}/2016-07-02T04:00:00Z", 11.0, -1.0, None, True)
    ]


def test_what_a_release_before_wrote_lands_in_the_same_rows(bus: Bus, settings: Settings, tmp_path: Path) -> None:
    one = issued([10.0, 20.0], {"daily_peak": 30.0})
    messages = [forecast_of(tmp_path, one), *errors_of(tmp_path, one, [11.0], [12.0])]
    publish(bus, [as_before(message) for message in messages])
    land_all(settings, 2 + 1 + 1)
    before = {t: ask(settings, f"SELECT * EXCLUDE (published) FROM {t} ORDER BY id") for t in TABLES}

    publish(bus, messages)
    land_all(settings, 2 + 1 + 1)

    assert {t: ask(settings, f"SELECT * EXCLUDE (published) FROM {t} ORDER BY id") for t in TABLES} == before
    for table in ("forecasts", "forecast_days", "forecast_errors"):
        assert ask(settings, f"SELECT DISTINCT available_at = issue_time FROM {table}") == [(True,)]


def test_a_release_before_said_nothing_of_suspect_values(bus: Bus, settings: Settings, tmp_path: Path) -> None:
    message = forecast_of(tmp_path, issued([10.0]))
    document = orjson.loads(message.value)
    document = {name: value for name, value in document.items() if name not in ("trusted_until", "suspect")}
    publish(bus, [replace(message, value=orjson.dumps(document)), forecast_of(tmp_path, issued([10.0], key="AEP"))])

    land_all(settings, 2)

    assert ask(settings, "SELECT key, suspect, trusted_until FROM forecasts ORDER BY key") == [
        ("AEP", 0, datetime(2016, 7, 1, 15, tzinfo=UTC)),
        ("PJME", 0, None),
    ]


def test_the_same_again_changes_nothing_and_a_revision_stands(bus: Bus, settings: Settings, tmp_path: Path) -> None:
    one = issued([10.0, 20.0], {"daily_peak": 30.0})
    messages = [forecast_of(tmp_path, one), *errors_of(tmp_path, one, [11.0, 21.0], [12.0, 25.0])]
    publish(bus, messages * 2 + load_messages("2016-07-01T04", 3))
    land_all(settings, 2 * (2 + 1 + 2) + 3)
    before = {t: ask(settings, f"SELECT * EXCLUDE (published) FROM {t} ORDER BY id") for t in TABLES}

    _forget_commits(settings)
    land_all(settings, 2 * (2 + 1 + 2) + 3)
    after = {t: ask(settings, f"SELECT * EXCLUDE (published) FROM {t} ORDER BY id") for t in TABLES}
    publish(bus, errors_of(tmp_path, one, [15.0], [12.0]))
    land_all(settings, 1)

    assert {name: len(rows) for name, rows in before.items()} == dict(zip(TABLES, (3, 0, 2, 1, 2), strict=True))
    assert after == before
    assert ask(settings, "SELECT measured FROM forecast_errors ORDER BY id") == [(15.0,), (21.0,)]


def test_refused_readings_of_all_streams_are_rejections(bus: Bus, settings: Settings, tmp_path: Path) -> None:
    publish(bus, [Outgoing(LOAD_READINGS.name, b'{"load": 1}', b"PJME")])
    answered(bus, tmp_path / "fake")

    land_all(settings, 1)

    assert ask(settings, "SELECT key, reason, field, source_topic FROM rejections") == [
        ("PJME", "missing_field", "interval_start", "load.readings")
    ]


def malformed(folder: Path) -> list[Outgoing]:
    one = issued([10.0, 20.0], {"daily_peak": 30.0})
    forecast = forecast_of(folder, one)
    document = orjson.loads(forecast.value)
    short = document["quantiles"] | {"0.50": [1.0]}
    words = document["quantiles"] | {"0.50": ["1", "2"]}
    forecasts = [
        {"id": 5},
        {"key": None},
        {"issue_time": "noon"},
        {"target_time": []},
        {"target_time": ["2016-07-02T04:00:00", "2016-07-02T05:00:00"]},
        {"target_time": ["2016-07-02T04:00:00Z"]},
        {"quantiles": None},
        {"quantiles": short},
        {"quantiles": words},
        {"day": {"daily_peak": {"0.05": 1}}},
        {"day": [1]},
        {"filled": -1},
        {"fallback": "no"},
        {"source_offset": 2**63},
    ]
    [error] = errors_of(folder, one, [11.0], [12.0])
    errors = [{"measured": None}, {"covered": 1}, {"naive": "12"}, {"target_time": None}, {"version": ""}]
    return [
        *(replace(forecast, value=value) for value in (b"", b"no", b"[]", b"{}", b"\xff\xff\xff\xff")),
        *(replace(forecast, value=orjson.dumps(document | change)) for change in forecasts),
        *(replace(error, value=orjson.dumps(orjson.loads(error.value) | change)) for change in errors),
    ]


def test_malformed_forecasts_and_errors_are_kept_as_rejections(bus: Bus, settings: Settings, tmp_path: Path) -> None:
    bad = malformed(tmp_path)
    publish(bus, [*bad, forecast_of(tmp_path, issued([10.0]))])

    land_all(settings, len(bad) + 1)

    assert ask(settings, "SELECT count(*) FROM forecasts") == [(1,)]
    assert ask(settings, "SELECT count(*), min(length(message)) > 0 FROM rejections WHERE reason = 'malformed'") == [
        (len(bad), True)
    ]


@pytest.mark.parametrize("stream", [LOAD_FORECASTS, METER_FORECASTS])
def test_a_promoted_side_topic_of_forecasts_is_landed_and_still_after_a_restart(
    bus: Bus, settings: Settings, tmp_path: Path, stream: Any
) -> None:
    bus.ensure([replace(stream, name="side.first")])
    publish(bus, [forecast_of(tmp_path, issued([1.0, 2.0]), "side.first", "side")])
    sink = open_sink(settings)
    with running(sink):
        promote(bus, Serving(stream.name, "side.first", "side", {0: 3}), "hourly-load", LOAD_READINGS.name)
        wait_until(lambda: sink.landed == 2)
    publish(bus, [forecast_of(tmp_path, issued([1.0], key="AEP"), "side.first", "side")])

    land_all(settings, 1)

    assert ask(settings, "SELECT topic, key, count(*) FROM forecasts GROUP BY 1, 2 ORDER BY 2") == [
        ("side.first", "AEP", 1),
        ("side.first", "PJME", 2),
    ]


# Two zones with two hours each: PJME 2 and 4 off (naive 4 and 8), AEP 20 off, outside its interval, and exact.
PJME, AEP = issued([102.0, 196.0]), issued([120.0, 200.0], key="AEP")
EXPECTED: dict[str, Any] = {
    # n, mae, bias, mape, rmae, crps, coverage; AEP's crps is 2 * (8.5 + 0.868) / 2, the mean pinball losses by hand
    "forecast-error-by-series": [
        ["fake-load", "1", "AEP", "MW", 2, 10.0, 10.0, 10.0, 1.0, pytest.approx(9.368, abs=1e-3), 0.5, 18.0, 0],
        ["fake-load", "1", "PJME", "MW", 2, 3.0, -1.0, 2.0, 0.5, pytest.approx(2.1, abs=0.3), 1.0, 18.0, 0],
    ],
    "forecast-error-by-hour": [
        ["fake-load", "AEP", 0, 1, 20.0, 20.0, 20.0],
        ["fake-load", "AEP", 1, 1, 0.0, 0.0, 0.0],
        ["fake-load", "PJME", 0, 1, 2.0, 2.0, 2.0],
        ["fake-load", "PJME", 1, 1, 4.0, -4.0, 2.0],
    ],
    # issued at 16:00 UTC for 04:00 and 05:00 UTC: 12 and 13 hours ahead
    "forecast-error-by-lead": [["fake-load", 12, 18, "MW", 4, 6.5, 4.5, 6.0]],
    "worst-forecast-days": [
        ["fake-load", "AEP", "2016-07-02", "1", 2, 10.0, pytest.approx(1 / 15), 10.0, 10.0, 0.5],
        ["fake-load", "PJME", "2016-07-02", "1", 2, 3.0, pytest.approx(0.02), -1.0, 6.0, 1.0],
    ],
}


def publish_forecasts_by_hand(bus: Bus, folder: Path) -> int:
    """Publish, and return how many rows that is."""
    messages = [forecast_of(folder, PJME), *errors_of(folder, PJME, [100.0, 200.0], [104.0, 208.0])]
    messages += [forecast_of(folder, AEP), *errors_of(folder, AEP, [100.0, 200.0], [110.0, 190.0])]
    publish(bus, messages)
    return 8


@pytest.mark.parametrize("name", EXPECTED)
def test_queries_on_forecasts_return_the_right_numbers(bus: Bus, settings: Settings, tmp_path: Path, name: str) -> None:
    land_all(settings, publish_forecasts_by_hand(bus, tmp_path))

    answer = create_app(SINK, settings).test_client().get(f"/queries/{name}")

    assert answer.status_code == 200, answer.json
    expected = EXPECTED[name]
    rows = [row[: len(expected[0])] for row in answer.json["rows"]]
    assert [[pytest.approx(value) if isinstance(value, float) else value for value in row] for row in expected] == rows
    assert len(answer.json["columns"]) == len(answer.json["rows"][0])
