"""What cannot be right is missing to a forecast, through every door, and the answer says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from flask import Flask

from kappawatt.bus import Bus, Outgoing
from kappawatt.columns.arrow import write_columns
from kappawatt.columns.content import ARROW
from kappawatt.datasets.synthetic import synthetic_load
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.model import ForecastModel
from kappawatt.forecasting.request import example_request, read_forecast_request
from kappawatt.messages.forecasts import instants
from kappawatt.serving.app import create_app
from kappawatt.serving.service import find_service
from kappawatt.settings import Settings
from kappawatt.worker.forecasting import Forecasting

Values = list[float | None]
SETTINGS = Settings.read({})


def request_of(service: str, change: Callable[[Values], None] = lambda _: None) -> dict[str, Any]:
    """A history of its own up to the start of a day; `change` spoils it."""
    forecaster = find_service(service).modelled().predictor
    assert isinstance(forecaster, Forecaster)
    body = example_request(forecaster, "a", seed=31)
    _, _, issue = read_forecast_request(body, forecaster)
    body["issue_time"] = f"{issue}Z"
    change(body["history"]["values"])
    return body


@pytest.fixture(scope="module")
def app() -> Flask:
    return create_app(find_service("hourly-load"), SETTINGS)


def forecast(app: Flask, body: dict[str, Any], status: int = 200) -> dict[str, Any]:
    response = app.test_client().post("/forecast", json=body)
    assert response.status_code == status, response.data
    found: dict[str, Any] = response.json
    return found


def width(answer: dict[str, Any]) -> float:
    """Mean width of the 90 % interval [MW]."""
    low, high = (np.array(answer["quantiles"][level]) for level in ("0.05", "0.95"))
    return float((high - low).mean())


def spoil(places: list[int], factor: float) -> Callable[[Values], None]:
    def change(values: Values) -> None:
        for place in places:
            values[place] = (values[place] or 0.0) * factor

    return change


def forget(places: list[int]) -> Callable[[Values], None]:
    def change(values: Values) -> None:
        for place in places:
            values[place] = None

    return change


def hold(first: int, last: int | None) -> Callable[[Values], None]:
    def change(values: Values) -> None:
        part = range(len(values))[first:last]
        for place in part:
            values[place] = 31_234.5

    return change


@pytest.mark.parametrize("factor", [11.0, 0.1, 0.0, -1.0])
@pytest.mark.parametrize("places", [[-1], [-40], [-1, -2, -50, -333]])
def test_a_spike_gives_the_bits_that_its_absence_gives(app: Flask, factor: float, places: list[int]) -> None:
    spoilt = forecast(app, request_of("hourly-load", spoil(places, factor)))

    missing = forecast(app, request_of("hourly-load", forget(places)))

    assert spoilt["quantiles"] == missing["quantiles"]
    assert (spoilt["suspect"], missing["suspect"]) == (len(places), 0)
    assert spoilt["filled"] == missing["filled"] == len(set(places) - {-1, -2})  # nothing is made up at the end
    assert spoilt["trusted_until"] == missing["trusted_until"]
    assert missing["suspect_spans"] == []
    assert {span["why"] for span in spoilt["suspect_spans"]} == {"zero" if factor == 0 else "spike"}
    assert sum(span["count"] for span in spoilt["suspect_spans"]) == len(places)


def test_a_good_history_is_believed(app: Flask) -> None:
    found = forecast(app, request_of("hourly-load"))

    assert (found["suspect"], found["suspect_spans"]) == (0, [])


def test_a_meter_that_stood_still_for_some_hours_is_said(app: Flask) -> None:
    body = request_of("hourly-load", hold(-60, -45))

    found = forecast(app, body)

    start, n = np.datetime64(body["history"]["start"].removesuffix("Z"), "ms"), len(body["history"]["values"])
    times = start + np.array([n - 60, n - 45]) * np.timedelta64(1, "h")
    begin, end = instants(times)
    assert found["suspect_spans"] == [{"start": begin, "end": end, "count": 15, "why": "stuck"}]


@pytest.mark.parametrize("hours", [26, 72, 167])
def test_one_that_stood_still_for_days_is_forecast_from_before_with_a_wider_interval(app: Flask, hours: int) -> None:
    zone = synthetic_load("a", 5)
    widths = []
    for day in ("2025-06-10", "2025-05-18", "2025-04-25", "2025-04-02", "2025-03-10"):
        issue = np.datetime64(f"{day}T16", "h")
        body = {"load_zone": "a", "time_zone": zone.time_zone, "issue_time": f"{issue}:00:00Z"}
        known = slice(*np.searchsorted(zone.starts, np.array([issue - 24 * 374, issue]).astype("datetime64[ms]")))
        start, values = f"{zone.starts[known][0]}Z", zone.values[known].tolist()
        stuck = values[:-hours] + [4_321.0] * hours

        whole, found = (
            forecast(app, body | {"history": {"start": start, "step_seconds": 3600, "values": given}})
            for given in (values, stuck)
        )

        assert found["trusted_until"] == f"{issue - hours}:00:00Z"
        assert (found["suspect"], found["filled"], found["fallback"]) == (hours, 0, False)
        middle, truth = (np.array(one["quantiles"]["0.50"]) for one in (found, whole))
        assert np.abs(middle / truth - 1).mean() < 0.15  # and not of the value that it stood at
        widths.append((width(found), width(whole)))
    later, sooner = np.mean(widths, axis=0)
    assert later > 1.1 * sooner


def test_where_too_little_lies_before_the_seasonal_naive_answers_and_says_why(app: Flask) -> None:
    found = forecast(app, request_of("hourly-load", hold(-72, None)))

    assert found["fallback"]
    assert "72 h from the last value" in found["fallback_reason"]


def test_a_whole_week_that_nobody_trusts_is_refused(app: Flask) -> None:
    problem = forecast(app, request_of("hourly-load", hold(-168, None)), 422)

    assert "168 hours missing in the last 7 days" in problem["detail"]
    assert "allowed 167 at most" in problem["detail"]
    assert "suspect: stuck" in problem["detail"]


def test_rows_say_it_too(app: Flask) -> None:
    body = request_of("hourly-load", spoil([-7], 14.0))
    start = np.datetime64(body["history"]["start"].removesuffix("Z"), "ms")
    values = body["history"]["values"]
    times = instants(start + np.arange(len(values) + 24) * np.timedelta64(1, "h"))
    columns = {"load_zone": ["a"] * len(times), "interval_start": times, "load": [*values, *[None] * 24]}

    rows = app.test_client().post("/predict", json={"columns": columns}).json["columns"]

    assert rows["suspect"][-24:] == [1] * 24
    compact = forecast(app, body)["quantiles"]["0.50"]
    assert [float(f"{v:.7g}") for v in rows["load"][-24:]] == compact


def test_the_bus_gives_the_same_document(app: Flask, bus: Bus, tmp_path: Path) -> None:
    service = find_service("hourly-load")
    model = service.open(SETTINGS)
    assert isinstance(model, ForecastModel)
    body = request_of("hourly-load", spoil([-5, -200], 0.06))
    history, _, issue = read_forecast_request(body, model.predictor)
    past = history.until(issue)
    stream = service.streamed()
    block = write_columns({"interval_start": past.times, "load": past.values})
    producer = bus.producer()
    clock = int(issue.astype(np.int64))
    producer.publish([Outgoing(stream.readings.name, block, b"a", (("content-type", ARROW.encode()),), clock)])
    producer.close()
    reader = bus.reader([stream.readings.name], {})

    outcome = Forecasting(bus, model, stream, output=stream.answers.name).answer(reader.poll(1.0))

    reader.close()
    (document,) = (orjson.loads(m.value) for m in outcome.outgoing)
    expected = forecast(app, body)
    same = ("quantiles", "trusted_until", "filled", "suspect", "suspect_spans", "fallback", "issue_time", "target_time")
    assert {name: document[name] for name in same} == {name: expected[name] for name in same}
    assert document["suspect"] == 2


def test_of_a_home_a_peak_is_believed_and_a_stuck_meter_is_not() -> None:
    home = create_app(find_service("smart-meter"), SETTINGS)
    peak = forecast(home, request_of("smart-meter", spoil([-3], 9.0)))
    n = len(request_of("smart-meter")["history"]["values"])
    day = n // 21

    def stand_still(values: Values) -> None:
        values[-4 * day - day // 2 : -2 * day] = [0.217] * (2 * day + day // 2)

    still = forecast(home, request_of("smart-meter", stand_still))

    assert peak["suspect"] == 0
    assert still["suspect"] == 2 * day + day // 2
    assert [span["why"] for span in still["suspect_spans"]] == ["stuck"]


@pytest.mark.parametrize(("one", "other"), [("US/Mountain", "America/Denver"), ("Asia/Calcutta", "Asia/Kolkata")])
def test_two_names_of_one_zone_give_the_same_bits(app: Flask, one: str, other: str) -> None:
    body = request_of("hourly-load")
    body["history"]["start"] = "2025-12-02T18:30:00Z" if other == "Asia/Kolkata" else "2025-12-04T07:00:00Z"
    del body["issue_time"]

    first, second = (forecast(app, body | {"time_zone": zone}) for zone in (one, other))

    assert first["quantiles"] == second["quantiles"]
    assert (first["time_zone"], second["time_zone"]) == (one, other)
