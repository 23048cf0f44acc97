"""What was suspect and somebody says was real is believed: from the log, by worker and service alike, from then on."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from flask.testing import FlaskClient

from kappawatt.bus import Bus, Outgoing
from kappawatt.columns.arrow import write_columns
from kappawatt.columns.content import ARROW
from kappawatt.datasets.synthetic import synthetic_load
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.model import ForecastModel
from kappawatt.forecasting.request import example_request
from kappawatt.services.sensor_ingestor.service import SERVICE as INGESTOR
from kappawatt.serving.app import create_app
from kappawatt.serving.service import find_service
from kappawatt.settings import Settings
from kappawatt.streams import load, meter
from kappawatt.streams.stream import Stream
from kappawatt.worker.forecasting import Forecasting
from tests.conftest import everything

HOUR = np.timedelta64(1, "h")
NOON = np.datetime64("2025-06-10T16:00", "ms")  # of New York
SPIKE = NOON - 20 * HOUR
READINGS, FORECASTS = load.LOAD_READINGS.name, load.LOAD_FORECASTS.name
SAME = ("quantiles", "trusted_until", "filled", "suspect", "suspect_spans", "fallback", "target_time")


@pytest.fixture
def ingestor(bus: Bus, settings: Settings) -> FlaskClient:
    """The door, on a bus that has all topics."""
    return create_app(INGESTOR, settings).test_client()


def zone(until: np.datetime64, days: int = 60) -> tuple[Any, Any]:
    """Hours of a made-up zone, one of them fifteen times what it was."""
    made = synthetic_load("a", 5)
    known = slice(*np.searchsorted(made.starts, np.array([until - days * 24 * HOUR, until])))
    starts, values = made.starts[known], made.values[known].copy()
    values[starts == SPIKE] *= 15
    return starts, values


def put(bus: Bus, starts: Any, values: Any) -> None:
    block = write_columns({"interval_start": starts, "load": values})
    at = int((starts[-1] + HOUR).astype(np.int64))
    producer = bus.producer()
    producer.publish([Outgoing(READINGS, block, b"a", (("content-type", ARROW.encode()),), at)])
    producer.close()


def span(start: np.datetime64 = SPIKE, hours: int = 1) -> dict[str, str]:
    return {"start": f"{start}Z", "end": f"{start + hours * HOUR}Z"}


def documents(bus: Bus, model: ForecastModel, most: int = 1_000) -> list[dict[str, Any]]:
    """Every forecast that the log leads to, polled a few messages at a time."""
    answering = Forecasting(bus, model, load.STREAM, output=FORECASTS)
    found = []
    for records in everything(bus, READINGS):
        for first in range(0, len(records), most):
            part = records.pick(list(range(len(records)))[first : first + most])
            found += [m for m in answering.answer([part]).outgoing if m.topic == FORECASTS]
    return [orjson.loads(m.value) for m in found]


def asked(service: FlaskClient, starts: Any, values: Any, **more: Any) -> dict[str, Any]:
    history = {"start": f"{starts[0]}Z", "step_seconds": 3600, "values": values.tolist(), **more}
    response = service.post("/forecast", json={"load_zone": "a", "history": history})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json
    return found


def test_a_later_forecast_believes_it_and_the_one_before_keeps_its_bits(
    bus: Bus, ingestor: FlaskClient, model: ForecastModel
) -> None:
    put(bus, *zone(NOON))
    before = documents(bus, model)

    answer = ingestor.post("/load/a/confirm", json={"spans": before[0]["suspect_spans"]})
    starts, values = zone(NOON + 12 * HOUR)
    put(bus, starts[-12:], values[-12:])

    after = documents(bus, model)
    assert (answer.status_code, answer.json["accepted"]) == (202, 1)
    assert after[0] == before[0]
    corrected, midnight = after[1:]
    assert (before[0]["suspect"], corrected["suspect"], midnight["suspect"]) == (1, 0, 0)
    assert corrected["issue_time"] == before[0]["issue_time"]
    assert [one["corrected"] for one in after] == [False, True, False]
    assert corrected["quantiles"] != before[0]["quantiles"]


def test_however_the_log_is_cut_it_leads_to_the_same_documents(
    bus: Bus, ingestor: FlaskClient, model: ForecastModel
) -> None:
    put(bus, *zone(NOON))
    ingestor.post("/load/a/confirm", json=span())
    starts, values = zone(NOON + 30 * HOUR)
    for i in range(30, 0, -1):
        put(bus, starts[-i:][:1], values[-i:][:1])
    ingestor.post("/load/a/confirm", json=span(NOON, 12))

    whole, one_by_one = documents(bus, model), documents(bus, model, most=1)

    assert whole == one_by_one


def test_worker_and_service_believe_the_same(
    bus: Bus, ingestor: FlaskClient, model: ForecastModel, service: FlaskClient
) -> None:
    starts, values = zone(NOON)
    put(bus, starts[:-1], values[:-1])
    ingestor.post("/load/a/confirm", json=span())
    put(bus, starts[-1:], values[-1:])

    document = documents(bus, model)[-1]
    answer = asked(service, starts, values, confirmed=[span()])

    assert document["suspect"] == 0
    assert {name: document[name] for name in SAME} == {name: answer[name] for name in SAME}
    assert asked(service, starts, values)["suspect"] == 1


def test_rows_of_a_request_confirm_too(service: FlaskClient) -> None:
    starts, values = zone(NOON)
    told = [
        {"interval_start": f"{t}Z", "load": v} | ({"confirmed_until": f"{t + HOUR}Z"} if t == SPIKE else {})
        for t, v in zip(starts, values.tolist(), strict=True)
    ]
    alone = [{k: v for k, v in row.items() if k != "confirmed_until"} for row in told]
    alone.append({"interval_start": f"{SPIKE}Z", "confirmed_until": f"{SPIKE + HOUR}Z"})
    ahead = [{"interval_start": f"{NOON + i * HOUR}Z"} for i in range(12, 36)]

    first, second = (service.post("/predict", json=rows + ahead) for rows in (told, alone))

    answers = [[row["load"] for row in one.json["predictions"][-24:]] for one in (first, second)]
    assert answers[0] == answers[1]
    assert {row["suspect"] for row in first.json["predictions"][-24:]} == {0}
    confirmed = asked(service, starts, values, confirmed=[span()])["quantiles"]["0.50"]
    assert [float(f"{v:.7g}") for v in answers[0]] == confirmed


def test_a_new_value_of_a_confirmed_interval_is_not_confirmed(
    bus: Bus, ingestor: FlaskClient, model: ForecastModel
) -> None:
    put(bus, *zone(NOON - 2 * HOUR))
    ingestor.post("/load/a/confirm", json=span())
    starts, values = zone(NOON)
    put(bus, starts[starts == SPIKE], values[starts == SPIKE] * 1.5)
    put(bus, starts[-2:], values[-2:])

    document = documents(bus, model)[-1]

    assert [one["why"] for one in document["suspect_spans"]] == ["spike"]


def test_a_confirmation_of_what_is_not_there_yet_confirms_nothing(
    bus: Bus, ingestor: FlaskClient, model: ForecastModel
) -> None:
    starts, values = zone(NOON)
    early = starts < SPIKE
    put(bus, starts[early], values[early])
    answer = ingestor.post("/load/a/confirm", json=span())
    put(bus, starts[~early], values[~early])

    document = documents(bus, model)[-1]

    assert answer.status_code == 202
    assert document["suspect"] == 1


def test_a_span_off_the_series_grid_is_a_dead_letter_that_names_it(bus: Bus, model: ForecastModel) -> None:
    put(bus, *zone(NOON))
    producer = bus.producer()
    row = {"interval_start": f"{SPIKE}Z", "confirmed_until": f"{SPIKE + np.timedelta64(90, 'm')}Z"}
    producer.publish([Outgoing(READINGS, orjson.dumps(row), b"a", (), int(NOON.astype(np.int64)))])
    producer.close()

    outcome = Forecasting(bus, model, load.STREAM, output=FORECASTS).answer(list(everything(bus, READINGS)))

    (dead,) = (orjson.loads(m.value) for m in outcome.outgoing if m.topic == load.STREAM.dead.name)
    assert "confirmed_until" in orjson.dumps(dead).decode()
    assert "whole intervals of 3600 s" in orjson.dumps(dead).decode()


@pytest.mark.parametrize("stream", [load.STREAM, meter.STREAM], ids=lambda stream: stream.name)
def test_starts_of_intervals_need_their_length(ingestor: FlaskClient, stream: Stream) -> None:
    door, starts = f"/{stream.path}/a/confirm", [f"{SPIKE}Z", f"{SPIKE + 5 * HOUR}Z"]

    without = ingestor.post(door, json={"intervals": starts})
    taken = ingestor.post(door, json={"intervals": starts, "interval_seconds": 900})

    assert without.status_code == 400
    assert "interval_seconds: got nothing, allowed" in without.json["detail"]
    assert (taken.status_code, taken.json["accepted"]) == (202, 2)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "body"),
        ([], "body"),
        ({"start": "2024-05-13T16:00:00Z"}, "body.end: got nothing"),
        ({"spans": []}, "spans"),
        ({"spans": [{"start": "2024-05-13T16:00:00Z", "end": "soon"}]}, "spans[0].end"),
        ({"intervals": ["x"], "interval_seconds": 3600}, "intervals[0]"),
        ({"intervals": ["2024-05-13T16:00:00Z"], "interval_seconds": 7}, "interval_seconds"),
        ({"confirmed": True}, "body"),
    ],
)
def test_what_is_no_span_is_refused_by_name(ingestor: FlaskClient, body: Any, says: str) -> None:
    answer = ingestor.post("/load/a/confirm", json=body)

    assert answer.status_code == 400
    assert says in answer.json["detail"]
    assert "allowed" in answer.json["detail"]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2024-05-13T16:00:00Z", "2024-05-13T16:00:00Z"),
        ("2024-05-13T16:00:00Z", "2024-05-13T15:00:00Z"),
        ("2024-05-13T16:00:00Z", "2024-05-13T16:00:01Z"),
        ("2022-05-13T16:00:00Z", "2024-05-13T16:00:00Z"),
        ("2024-05-13T16:00:00Z", "2200-05-13T16:00:00Z"),
    ],
)
def test_a_span_that_cannot_have_been_measured_is_refused(ingestor: FlaskClient, start: str, end: str) -> None:
    answer = ingestor.post("/load/a/confirm", json={"start": start, "end": end})

    (error,) = answer.json["errors"]
    assert (answer.status_code, answer.json["accepted"], error["field"]) == (422, 0, "confirmed_until")


def test_a_key_that_comes_again_is_stored_once(bus: Bus, ingestor: FlaskClient) -> None:
    own = {"Idempotency-Key": "a-1"}
    first, again = (ingestor.post("/load/a/confirm", json=span(), headers=own) for _ in range(2))
    other = ingestor.post("/load/a", json=[{"interval_start": f"{SPIKE}Z", "load": 1.0}], headers=own)

    assert again.headers["Idempotent-Replay"] == "true"
    assert first.json == again.json
    assert other.status_code == 422
    assert sum(len(records) for records in everything(bus, READINGS)) == 1


def test_of_a_meter_a_still_day_that_was_real_is_believed() -> None:
    service = create_app(find_service("smart-meter"), Settings.read({})).test_client()
    forecaster = find_service("smart-meter").modelled().predictor
    assert isinstance(forecaster, Forecaster)
    body = example_request(forecaster, "a", seed=31)
    history = body["history"]
    day = len(history["values"]) // 21
    history["values"][-4 * day : -day] = [0.217] * (3 * day)

    suspect = service.post("/forecast", json=body).json
    confirmed = service.post("/forecast", json=body | {"history": {**history, "confirmed": suspect["suspect_spans"]}})

    assert suspect["suspect"] == 3 * day
    assert (confirmed.status_code, confirmed.json["suspect"], confirmed.json["filled"]) == (200, 0, 0)


def test_metrics_say_how_many_values_forecasts_took_for_missing(
    bus: Bus, model: ForecastModel, service: FlaskClient
) -> None:
    starts, values = zone(NOON)
    put(bus, starts, values)
    before = service.get("/metrics").text

    asked(service, starts, values)
    outcome = Forecasting(bus, model, load.STREAM, output=FORECASTS).answer(list(everything(bus, READINGS)))

    said = 'kappawatt_suspect_values_total{door="http",service="hourly-load",why="spike"} '
    counts = [float(text.partition(said)[2].partition("\n")[0] or 0) for text in (before, service.get("/metrics").text)]
    assert counts[1] == counts[0] + 1
    assert dict(outcome.suspects) == {"spike": 1}


def test_rows_are_counted_as_other_requests_are(service: FlaskClient) -> None:
    starts, values = zone(NOON)
    rows = [{"interval_start": f"{t}Z", "load": v} for t, v in zip(starts, values.tolist(), strict=True)]
    rows += [{"interval_start": f"{NOON + i * HOUR}Z"} for i in range(3)]
    said = 'kappawatt_suspect_values_total{door="sagemaker",service="hourly-load",why="spike"} 1.0'

    assert service.post("/invocations", json=rows).status_code == 200

    assert said in service.get("/metrics").text
