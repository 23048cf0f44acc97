"""Weather of several stations gives the same bits from a file in a backtest, in a request, and from the log."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from flask import Flask

from kappawatt.bus import Bus, Outgoing
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes
from kappawatt.evaluation.backtest import Plan, history_of_file
from kappawatt.forecasting.calendar import DAY, HOUR, Times, day_intervals, issue_time, parse_clock
from kappawatt.forecasting.history import History
from kappawatt.forecasting.model import ForecastModel, open_forecaster
from kappawatt.forecasting.training import save_trained
from kappawatt.ingest.weather.loop import Sources
from kappawatt.ingest.weather.stations import Station
from kappawatt.models.artifact import find_artifact
from kappawatt.models.publish import Trained
from kappawatt.services.hourly_load.forecaster import FORECASTER
from kappawatt.services.hourly_load.inference import pack
from kappawatt.services.hourly_load.model import fit
from kappawatt.services.hourly_load.service import SERVICE as HOURLY_LOAD
from kappawatt.services.sensor_ingestor.service import SERVICE as INGESTOR
from kappawatt.serving.app import create_app
from kappawatt.serving.histories import EXTENSION
from kappawatt.settings import Settings
from kappawatt.streams.load import READING, STREAM
from kappawatt.worker.forecasting import Forecasting
from tests.conftest import everything, wait_until
from tests.unit.ingest.weather.sources import open_meteo, publisher
from tests.unit.services.hourly_load.series import ZONE
from tests.unit.services.hourly_load.test_weather import LOAD, TIMES, forecast_of
from tests.unit.services.hourly_load.test_weather import WEATHER as TEMPERATURES
from tests.unit.worker.test_forecast_worker import run

NOON = parse_clock("12:00")
DATE = np.datetime64("2014-05-20")
AT_NOON = issue_time(DATE, NOON, ZONE)
TARGETS = day_intervals(DATE, ZONE, 3600)
STATIONS = ("temperature_1", "temperature_2", "temperature_3")
TOLD_FROM = AT_NOON - 60 * DAY  # forecasts of the weather are known of the days since
SUN = "global_horizontal_irradiance"
WEATHER = {**TEMPERATURES, SUN: np.maximum(0, 400 + 25 * TEMPERATURES["temperature_3"])}
FORECASTS = {name: np.maximum(forecast_of(one, 5), -70.0 if name != SUN else 0.0) for name, one in WEATHER.items()}


def rounded(column: np.ndarray) -> list[float]:
    return [round(float(value), 3) for value in column]


def csv_of(columns: dict[str, Any]) -> bytes:
    lines = [",".join(columns)]
    lines += [",".join("" if v != v else str(v) for v in row) for row in zip(*columns.values(), strict=True)]
    return "\n".join(lines).encode()


def starts(times: Times) -> list[str]:
    return [f"{t.astype('datetime64[s]')}Z" for t in times]


@cache
def file_of(weather: str, names: tuple[str, ...] = tuple(WEATHER)) -> History:
    """A file with several stations and the sun, as a backtest reads it. Nobody adds to it, so it is read once."""
    columns: dict[str, Any] = {"interval_start": starts(TIMES), "time_zone": [ZONE] * len(TIMES)}
    columns |= {"load_zone": ["zone"] * len(TIMES), "load": rounded(LOAD)}
    for name in names:
        columns[name] = rounded(WEATHER[name])
        if weather == "forecast":
            told = np.array(rounded(FORECASTS[name]))
            columns[name + "_forecast"] = np.where(TIMES >= TOLD_FROM, told, np.nan).tolist()
    [series] = read_bytes(csv_of(columns), Options(), STREAM).series
    assert set(series.covariates) == {name for name in columns if name.startswith(("temperature", SUN))}
    return history_of_file(series, Plan(DATE, DATE + 1, issue="12:00", weather=weather))


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained with several stations."""
    fitted = fit([file_of("perfect").until(AT_NOON - 20 * DAY)], leads=(12,))
    assert fitted.weather[0].stations[0] == "temperature_1"
    folder = tmp_path_factory.mktemp("artifacts")
    artifact = save_trained(folder, FORECASTER, Trained("default", pack(fitted), {}, {}, ()))
    (folder / "CURRENT").write_text(artifact.manifest.version)
    return folder


@pytest.fixture(scope="module")
def model(artifacts: Path) -> ForecastModel:
    return open_forecaster(FORECASTER, find_artifact(artifacts))


def asked(model: ForecastModel, history: History) -> np.ndarray:
    return model.issue(history.until(AT_NOON), TARGETS).fan.median


@pytest.fixture
def app(artifacts: Path, bus: Bus, bus_url: str) -> Iterator[Flask]:
    app = create_app(HOURLY_LOAD, Settings.read({}, bus=bus_url, artifacts=artifacts))
    yield app
    app.extensions[EXTENSION].stop()


@pytest.fixture
def ingestor(bus: Bus, bus_url: str) -> Flask:
    return create_app(INGESTOR, Settings.read({}, bus=bus_url))


def rows_of(times: Times, columns: dict[str, np.ndarray], **same: Any) -> list[dict[str, Any]]:
    places = ((times - TIMES[0]) / HOUR).astype(int)
    chosen = {name: rounded(column[places]) for name, column in columns.items()}
    return [
        {"load_zone": "zone", "interval_start": t, **{name: column[i] for name, column in chosen.items()}, **same}
        for i, t in enumerate(starts(times))
    ]


def send(ingestor: Flask, rows: list[dict[str, Any]]) -> None:
    response = ingestor.test_client().post("/load/zone", json=rows)
    assert response.status_code == 202, response.data[:500]


def send_log(ingestor: Flask) -> None:
    """The log of the file: load and measured weather as they come, and by noon what is forecast for the next day."""
    measured = {"load": LOAD, **WEATHER}
    send(ingestor, rows_of(TIMES[TIMES < TOLD_FROM - 2 * DAY], measured, time_zone=ZONE))
    sent = TOLD_FROM - 2 * DAY
    for date in np.arange(DATE - 61, DATE + 1):
        noon, day = issue_time(date, NOON, ZONE), day_intervals(date, ZONE, 3600)
        send(ingestor, rows_of(np.arange(sent, noon - HOUR, HOUR), measured))
        told = day[day >= TOLD_FROM]
        if len(told):
            at = f"{noon}Z"
            send(ingestor, rows_of(told, FORECASTS, available_at=at, weather_issue_time=at))
        sent = noon - HOUR
    send(ingestor, rows_of(np.arange(sent, AT_NOON, HOUR), measured))


def test_the_log_gives_the_bits_of_the_file_to_the_worker_and_to_a_request(
    model: ForecastModel, ingestor: Flask, bus: Bus, app: Flask
) -> None:
    expected = asked(model, file_of("forecast"))

    send_log(ingestor)

    *_, newest = everything(bus, "load.readings")
    [due] = run(Forecasting(bus, model, STREAM, output="load.forecasts"), [newest.pick([len(newest) - 1])])[
        "load.forecasts"
    ]
    assert due["issue_time"] == starts(np.array([AT_NOON]))[0]
    client = app.test_client()
    wait_until(lambda: asked_by_name(app) is not None, what="the history")
    wait_until(lambda: client.get("/series").json["series"][0]["until"] == due["issue_time"], what="all of it")
    rows = client.post("/predict", json=[{"load_zone": "zone", "interval_start": t} for t in starts(TARGETS)]).json
    np.testing.assert_array_equal([row["load"] for row in rows["predictions"]], expected)
    assert due["quantiles"]["0.50"] == asked_by_name(app)
    np.testing.assert_allclose(due["quantiles"]["0.50"], expected, rtol=1e-6)
    assert not np.array_equal(expected, asked(model, without_weather()))
    assert not np.array_equal(expected, asked(model, file_of("forecast", STATIONS)))


def asked_by_name(app: Flask) -> Any:
    response = app.test_client().post("/forecast", json={"load_zone": "zone"})
    return response.json["quantiles"]["0.50"] if response.status_code == 200 else None


def without_weather() -> History:
    history = History("zone", ZONE, 3600)
    history.add(TIMES, np.array(rounded(LOAD)))
    return history


def test_weather_of_a_server_gets_into_the_forecast(
    model: ForecastModel, ingestor: Flask, bus: Bus, app: Flask, tmp_path: Path
) -> None:
    """From Open-Meteo's form over a local server, the loop, the bus and the worker to the quantiles."""
    at = AT_NOON - HOUR
    told = np.arange(at, TARGETS[-1] + HOUR, HOUR)
    history = without_weather()
    before = TIMES[at > TIMES]
    n = len(before)
    history.add(before, np.full(n, np.nan), before + HOUR, {k: np.array(rounded(c[:n])) for k, c in WEATHER.items()})
    hours = slice(n, n + len(told))
    forecasts = {name: rounded(FORECASTS[name][hours]) for name in STATIONS}
    issued = np.full(len(told), at)
    history.add(told, np.full(len(told), np.nan), issued, {name: np.array(one) for name, one in forecasts.items()})
    expected = asked(model, history)
    assert not np.array_equal(expected, asked(model, without_weather()))
    send(ingestor, rows_of(before, {"load": LOAD, **WEATHER}, time_zone=ZONE))
    clock = int(at.astype(np.int64)) / 1000

    with publisher() as source:
        stations = [
            Station("zone", i, "open-meteo", f"{source.url}/{name}", False, 60) for i, name in enumerate(STATIONS, 1)
        ]
        source.bodies = {f"/{name}": open_meteo(str(at), forecasts[name]) for name in STATIONS}
        outcomes = Sources(stations, tmp_path / "weather", bus, clock=lambda: clock).round()
    send(ingestor, rows_of(np.array([at]), {"load": LOAD}))

    assert [outcome.result for outcome in outcomes] == ["published"] * 3
    *_, newest = everything(bus, "load.readings")
    answering = Forecasting(bus, model, STREAM, output="load.forecasts")
    [due] = run(answering, [newest.pick([len(newest) - 1])])["load.forecasts"]
    np.testing.assert_allclose(due["quantiles"]["0.50"], expected, rtol=1e-6)
    assert "no_weather" not in [warning["code"] for warning in due["warnings"]]
    client = app.test_client()
    wait_until(lambda: client.get("/series").json["count"] == 1, what="the history")
    wait_until(lambda: client.get("/series").json["series"][0]["until"] == due["issue_time"], what="all of it")
    rows = client.post("/predict", json=[{"load_zone": "zone", "interval_start": t} for t in starts(TARGETS)]).json
    np.testing.assert_array_equal([row["load"] for row in rows["predictions"]], expected)


@pytest.mark.parametrize("form", ["json", "columns", "csv", "lines"])
def test_a_request_with_its_weather_gives_the_bits_of_the_file(model: ForecastModel, app: Flask, form: str) -> None:
    expected = asked(model, file_of("perfect"))
    known = TIMES[TIMES < AT_NOON]
    ever = {"available_at": "2010-01-01T00:00:00Z", "time_zone": ZONE}
    ahead = np.arange(AT_NOON, TARGETS[-1] + HOUR, HOUR)
    rows = rows_of(known, {"load": LOAD, **WEATHER}, **ever) + rows_of(ahead, WEATHER, **ever)
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    bodies = {
        "json": (orjson.dumps(rows), "application/json"),
        "columns": (orjson.dumps({"columns": columns}), "application/json"),
        "csv": (csv_of({n: ["" if v is None else v for v in c] for n, c in columns.items()}), "text/csv"),
        "lines": (b"\n".join(map(orjson.dumps, rows)), "application/x-ndjson"),
    }
    body, content_type = bodies[form]

    found = app.test_client().post("/predict", data=body, content_type=content_type)

    assert found.status_code == 200, found.data[:500]
    is_columns = form == "columns"
    loads = found.json["columns"]["load"] if is_columns else [row["load"] for row in found.json["predictions"]]
    np.testing.assert_array_equal(loads[-len(TARGETS) :], expected)


def test_the_compact_form_takes_stations(app: Flask) -> None:
    known = TIMES[TIMES < AT_NOON]
    ahead = np.arange(AT_NOON, TARGETS[-1] + HOUR, HOUR)
    start = starts(TIMES[:1])[0]
    n = len(known) + len(ahead)
    tracks = {name: {"start": start, "values": rounded(one[:n])} for name, one in WEATHER.items()}
    history = {"start": start, "values": rounded(LOAD[: len(known)])}
    body = {"load_zone": "zone", "time_zone": ZONE, "history": history}

    with_weather = app.test_client().post("/forecast", json={**body, "covariates": tracks})
    without = app.test_client().post("/forecast", json=body)

    rows = rows_of(known, {"load": LOAD, **WEATHER}, time_zone=ZONE) + rows_of(ahead, WEATHER, time_zone=ZONE)
    answers = app.test_client().post("/predict", json=rows).json["predictions"][-len(TARGETS) :]
    np.testing.assert_allclose(with_weather.json["quantiles"]["0.50"], [row["load"] for row in answers], rtol=1e-6)
    assert with_weather.json["quantiles"] != without.json["quantiles"]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("temperature_1", 70.0, "temperature_1: got 70.0, allowed a number from -80 to 65 degC"),
        ("temperature_1", "warm", "temperature_1: got 'warm', allowed a number from -80 to 65 degC"),
        ("temperature_0", 3.0, "temperature_0: got 3.0, allowed only load_zone, "),
        ("temperature_01", 3.0, "temperature_01: got 3.0, allowed only load_zone, "),
        ("temperature_33", 3.0, "temperature_1 to temperature_32, relative_humidity, relative_humidity_1 to"),
        ("temperature_1_forecast", 3.0, "temperature_1_forecast: got 3.0, allowed only"),
        ("relative_humidity_2", 101, "relative_humidity_2: got 101.0, allowed a number from 0 to 100 %"),
        ("wind_speed", -1, "wind_speed: got -1.0, allowed a number from 0 to 120 m/s"),
        ("global_horizontal_irradiance", -1, "allowed a number from 0 to 2000 W/m2"),
        ("covariate_1", "x", "covariate_1: got 'x', allowed a number"),
        ("weather_issue_time", "soon", "weather_issue_time: got 'soon', allowed an ISO 8601 time"),
    ],
)
def test_weather_that_cannot_be_is_refused_by_name_at_the_door(
    ingestor: Flask, field: str, value: Any, said: str
) -> None:
    row = {"interval_start": "2016-07-01T04:00:00Z", "load": 32_000.0, field: value}

    found = ingestor.test_client().post("/load/PJME", json=[row, {**row, field: None}])

    assert found.status_code == 422
    assert found.json["accepted"] == (1 if READING.knows(field) else 0)
    assert said in found.json["errors"][0]["message"]


def test_a_forecast_of_weather_is_not_known_before_it_was_issued(ingestor: Flask) -> None:
    row = {
        "interval_start": "2016-07-02T04:00:00Z",
        "temperature_2": 20.0,
        "weather_issue_time": "2016-07-01T06:00:00Z",
    }

    found = ingestor.test_client().post("/load/PJME", json={**row, "available_at": "2016-07-01T05:59:00Z"})

    assert found.status_code == 422
    said = "available_at: got '2016-07-01T05:59:00.000', allowed 2016-07-01T06:00:00.000Z, the weather_issue_time"
    assert said in found.json["errors"][0]["message"]
    assert ingestor.test_client().post("/load/PJME", json=row).status_code == 202


@pytest.mark.parametrize("form", ["list", "lines", "columns", "csv"])
def test_a_body_has_so_many_stations_at_most(ingestor: Flask, form: str) -> None:
    names = [f"{stem}_{i}" for stem in ("temperature", "wind_speed") for i in range(1, 18)]
    rows = [{"interval_start": f"2016-07-01T{i % 24:02}:00:00Z", "load": 3.0, name: 5} for i, name in enumerate(names)]
    columns = {n: [row.get(n) for row in rows] for n in ("interval_start", "load", *names)}
    bodies = {
        "list": (orjson.dumps(rows), "application/json"),
        "lines": (b"\n".join(map(orjson.dumps, rows)), "application/x-ndjson"),
        "columns": (orjson.dumps({"columns": columns}), "application/json"),
        "csv": (csv_of({n: ["" if v is None else v for v in c] for n, c in columns.items()}), "text/csv"),
    }

    found = ingestor.test_client().post("/load/PJME", data=bodies[form][0], content_type=bodies[form][1])

    assert found.status_code == 400
    assert "fields: got 34 of temperature_1 to temperature_32" in found.json["detail"]
    assert "allowed 32 in one body" in found.json["detail"]


def test_messages_of_many_stations_are_read_side_by_side(model: ForecastModel, bus: Bus) -> None:
    """Each message may have its own stations; what cannot be is a dead letter, and old messages stay valid."""
    old = {"interval_start": "2016-07-01T04:00:00Z", "load": 30_000.0, "temperature": 20.0}
    values = [old, *({**old, "interval_start": f"2016-07-01T{5 + i % 12:02}:00:00Z", f"temperature_{i}": 20.0 + i / 4}
                     for i in range(1, 33)), {**old, "temperature_40": 20.0}]  # fmt: skip
    values.append({**old, **{f"covariate_{i}": 1.0 for i in range(1, 33)}, "wind_speed": 3.0})
    producer = bus.producer()
    producer.publish([Outgoing("load.readings", orjson.dumps(value), b"PJME", ()) for value in values])
    producer.close()
    forecasting = Forecasting(bus, model, STREAM, output="load.forecasts")

    outgoing = [m for part in everything(bus, "load.readings") for m in forecasting.answer([part]).outgoing]

    dead = [orjson.loads(m.value) for m in outgoing if m.topic == "load.readings.dead"]
    assert [d["reason"] for d in dead] == ["unknown_field", "malformed"]
    assert "temperature_40: got 20.0, allowed only" in dead[0]["message"]
    assert "fields: got 33 of temperature_1 to temperature_32" in dead[1]["message"]


def test_weather_changes_nothing_of_a_series_that_has_none(model: ForecastModel, app: Flask) -> None:
    columns = {"load": LOAD}
    ahead = [{"load_zone": "zone", "interval_start": t} for t in starts(np.arange(AT_NOON, TARGETS[-1] + HOUR, HOUR))]
    rows = rows_of(TIMES[TIMES < AT_NOON], columns, time_zone=ZONE)

    found = app.test_client().post("/predict", json=rows + ahead).json["predictions"][-len(TARGETS) :]

    np.testing.assert_array_equal([row["load"] for row in found], asked(model, without_weather()))
