"""Forecasts, realised errors and measured values in the gateway, as the real worker writes them to the real bus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from flask import Flask

from kappawatt.bus import Bus, connect
from kappawatt.bus.interface import Outgoing
from kappawatt.bus.promotions import Serving, promote
from kappawatt.forecasting.calendar import HOUR, as_instant
from kappawatt.services.gateway.live.events import ClientStream, Restated
from kappawatt.services.gateway.live.follow import Follower
from kappawatt.services.gateway.live.forecasts import ForecastsView
from kappawatt.services.gateway.live.hub import Hub
from kappawatt.services.gateway.live.view import Events, Span
from kappawatt.services.gateway.wiring import EXTENSION
from kappawatt.streams.load import LOAD_ERRORS, LOAD_FORECASTS, LOAD_READINGS
from kappawatt.streams.load import STREAM as LOAD_STREAM
from kappawatt.streams.meter import STREAM as METER_STREAM
from kappawatt.streams.table import TOPICS
from kappawatt.telemetry import Telemetry
from tests.conftest import everything
from tests.forecast_fakes import hours, loads
from tests.unit.services.gateway.forecast_publisher import ForecastPublisher
from tests.unit.services.gateway.test_stream import fields_of

Gateways = Callable[..., Flask]
Eventually = Callable[..., Any]
BEGIN = "2016-05-02T04:00"  # midnight in New York
KEPT = 28 * 24


@pytest.fixture
def load(bus: Bus) -> Iterator[ForecastPublisher]:
    publisher = ForecastPublisher(bus)
    yield publisher
    publisher.close()


def four_weeks_and(publisher: ForecastPublisher, more: int, key: str = "PJME", level: float = 30_000.0) -> Any:
    """Publish four weeks as one message and `more` hours one by one; return the loads."""
    times = hours(BEGIN, KEPT + more)
    values = loads(times, level)
    publisher.measure(key, times[:KEPT], values[:KEPT])
    for i in range(KEPT, KEPT + more):
        publisher.measure(key, times[i : i + 1], values[i : i + 1])
    return values


def test_a_forecast_is_shown_with_earlier_ones_and_what_was_measured(
    open_gateway: Gateways, load: ForecastPublisher, eventually: Eventually
) -> None:
    client = open_gateway().test_client()

    values = four_weeks_and(load, 60)

    found = eventually(
        lambda: (
            (a := client.get("/api/forecasts/hourly-load/PJME")).status_code == 200
            and len(a.get_json()["earlier"]) >= 2
            and a.get_json()["measured_until"] == "2016-06-01T16:00:00Z"
            and a.get_json()["forecast"]["issue_time"] == "2016-06-01T16:00:00Z"
            and a.get_json()
        )
    )
    assert (found["unit"], found["target"], found["time_zone"]) == ("MW", "load", "America/New_York")
    assert found["forecast"]["issue_time"] == "2016-06-01T16:00:00Z"
    assert found["forecast"]["target_time"][0] == "2016-06-02T04:00:00Z"
    assert len(found["forecast"]["quantiles"]) == 19
    assert sorted(found["earlier"][0]["quantiles"]) == ["0.05", "0.25", "0.50", "0.75", "0.95"]
    assert found["measured"]["target_time"][-1] == "2016-06-01T15:00:00Z"
    assert len(found["measured"]["value"]) == 240
    assert found["measured"]["value"] == pytest.approx(values[-240:], rel=1e-6)


def test_the_live_score_is_that_of_the_published_errors(
    open_gateway: Gateways, load: ForecastPublisher, bus: Bus, eventually: Eventually
) -> None:
    client = open_gateway().test_client()

    four_weeks_and(load, 60)

    errors = read_all(bus, LOAD_ERRORS.name)
    found = eventually(
        lambda: (
            (s := client.get("/api/forecasts/score?service=hourly-load").get_json()["services"][0])["score"]
            and s["score"]["n"] == len(errors)
            and s
        )
    )
    e, m, naive = (np.array([d[name] for d in errors]) for name in ("error", "measured", "naive_error"))
    crps = np.array([d["crps"] for d in errors])
    assert found["score"] == pytest.approx(
        {
            "n": len(errors),
            "fallback": 0,
            "mae": np.abs(e).mean(),
            "rmse": np.sqrt((e**2).mean()),
            "bias": e.mean(),
            "mape": (np.abs(e) / m).mean(),
            "smape": (2 * np.abs(e) / (m + m + e)).mean(),
            "rmae": np.abs(e).mean() / np.abs(naive).mean(),
            "crps": crps.mean(),
            "rcrps": crps.mean() / np.abs(naive).mean(),
            "coverage_90": np.mean([d["covered"] for d in errors]),
            "width_90": np.mean([d["upper"] - d["lower"] for d in errors]),
        },
        rel=1e-5,
    )
    assert found["series"][0]["key"] == "PJME"
    assert found["by_version"][0]["by_issue_time"].keys() == {"12:00"}


def test_of_two_forecasts_of_an_hour_the_last_before_it_is_scored(
    open_gateway: Gateways, bus: Bus, eventually: Eventually
) -> None:
    client = open_gateway().test_client()
    publisher = ForecastPublisher(bus, issue_times=("12:00", "00:00"))

    four_weeks_and(publisher, 60)

    errors = read_all(bus, LOAD_ERRORS.name)
    hours_scored = {e["target_time"] for e in errors}
    assert len(errors) > len(hours_scored)
    last = {t: max(e["issue_time"] for e in errors if e["target_time"] == t) for t in hours_scored}
    expected = np.mean([abs(e["error"]) for e in errors if e["issue_time"] == last[e["target_time"]]])
    found = eventually(
        lambda: (
            (s := client.get("/api/forecasts/score").get_json()["services"][0])["score"]
            and s["score"]["n"] == len(hours_scored)
            and s
        )
    )
    assert found["score"]["mae"] == pytest.approx(expected, rel=1e-5)
    by_clock = found["by_version"][0]["by_issue_time"]
    assert by_clock["12:00"]["n"] + by_clock["00:00"]["n"] == len(errors)
    publisher.close()


def test_late_data_corrects_a_forecast_in_its_place(
    open_gateway: Gateways, load: ForecastPublisher, eventually: Eventually
) -> None:
    client = open_gateway().test_client()
    times = hours(BEGIN, KEPT + 38)
    values = loads(times)
    at = np.ones(len(times), bool)
    at[-20:-18] = False
    load.measure("PJME", times[at], values[at])
    first = eventually(lambda: client.get("/api/forecasts").get_json()["series"] and row(client, "PJME")["issue_time"])

    load.measure("PJME", times[~at], values[~at] + 900)

    eventually(lambda: row(client, "PJME")["corrected"])
    found = client.get("/api/forecasts/hourly-load/PJME").get_json()
    assert found["issue_time"] == first
    assert found["known_at"] > found["issue_time"]
    assert [f["issue_time"] for f in (found["forecast"], *found["earlier"])].count(first) == 1


def test_filled_and_fallback_are_said(open_gateway: Gateways, load: ForecastPublisher, eventually: Eventually) -> None:
    client = open_gateway().test_client()
    times = hours(BEGIN, 10 * 24 + 13)
    gap = np.ones(len(times), bool)
    gap[100:103] = False

    load.measure("young", times[gap], loads(times)[gap])

    found = eventually(lambda: (r := row(client, "young")) and r["issue_time"] and r)
    assert found["fallback"] is True
    assert "the model needs 14" in found["fallback_reason"]
    assert found["filled"] == 3


def test_meters_have_figures_of_the_day_beside_what_was_measured(
    open_gateway: Gateways, bus: Bus, eventually: Eventually
) -> None:
    client = open_gateway().test_client()
    meters = ForecastPublisher(bus, "smart-meter")
    quarter = np.timedelta64(15, "m")
    times = as_instant("2022-05-02T05:00") + np.arange(21 * 96 + 96) * quarter
    values = np.round(0.3 + 0.2 * np.sin(np.arange(len(times)) / 15), 3)
    meters.measure("m 1/a", times[: 21 * 96], values[: 21 * 96], step=900)
    for i in range(21 * 96, len(times), 24):
        meters.measure("m 1/a", times[i : i + 24], values[i : i + 24], step=900)

    found = eventually(
        lambda: (
            (a := client.get("/api/forecasts/smart-meter/m 1/a")).status_code == 200
            and a.get_json()["earlier"]
            and a.get_json()["earlier"][0]["day_measured"]["intervals"] == 96
            and a.get_json()
        )
    )
    day = found["earlier"][0]
    assert day["day_measured"]["daily_consumption"] == pytest.approx(values[-96:].sum(), rel=1e-5)
    assert day["day_measured"]["daily_peak"] == pytest.approx(values[-96:].max(), rel=1e-5)
    assert set(day["day"]["daily_peak"]) == {"0.05", "0.25", "0.50", "0.75", "0.95"}
    assert found["score"]["mape"] is None
    meters.close()


def test_a_version_has_a_score_of_its_own(bus: Bus, open_gateway: Gateways, eventually: Eventually) -> None:
    client = open_gateway().test_client()
    old = ForecastPublisher(bus, version="v1")
    four_weeks_and(old, 40)
    new = ForecastPublisher(bus, version="v2", offset=5_000.0, topic="load.forecasts.trash")
    bus.ensure([replace(LOAD_FORECASTS, name="load.forecasts.trash")])
    eventually(lambda: (r := row(client, "PJME")) and r["score"] and r["version"] == "v1")

    new.answer()

    found = eventually(
        lambda: len((s := client.get("/api/forecasts/score").get_json()["services"][0])["by_version"]) == 2 and s
    )
    assert found["version"] == "v1"  # v2 writes its forecasts elsewhere
    scores = {part["version"]: part["score"]["mae"] for part in found["by_version"]}
    assert scores["v2"] > scores["v1"]
    assert found["score"]["mae"] == pytest.approx(scores["v1"])
    old.close()
    new.close()


def test_a_promoted_replay_takes_the_place_of_the_forecasts(
    bus: Bus, open_gateway: Gateways, eventually: Eventually
) -> None:
    client = open_gateway().test_client()
    old = ForecastPublisher(bus, version="v1")
    four_weeks_and(old, 40)
    eventually(lambda: (r := row(client, "PJME")) and r["version"] == "v1")
    side = "load.forecasts.better"
    bus.ensure([replace(LOAD_FORECASTS, name=side)])
    new = ForecastPublisher(bus, version="v2", offset=10.0, topic=side)
    new.answer()

    promote(bus, Serving(LOAD_FORECASTS.name, side, "v2", {0: 1}, "better"), "hourly-load", LOAD_READINGS.name)

    eventually(lambda: (r := row(client, "PJME")) and r["version"] == "v2")
    streams = {s["service"]: s["topic"] for s in client.get("/api/forecasts").get_json()["streams"]}
    assert streams["hourly-load"] == side
    old.close()
    new.close()


def test_refused_readings_are_counted_with_all_others(
    open_gateway: Gateways, load: ForecastPublisher, eventually: Eventually
) -> None:
    client = open_gateway().test_client()

    load.publish("PJME", b'{"interval_start": "2016-05-02T04:00:00Z", "load": "much"}')

    found = eventually(lambda: (r := client.get("/api/rejections").get_json())["total"] == 1 and r)
    assert found["newest"][0]["topic"] == LOAD_READINGS.name
    assert found["newest"][0]["field"] == "load"


def test_a_series_without_a_forecast_is_listed_with_what_was_measured(
    open_gateway: Gateways, load: ForecastPublisher, eventually: Eventually
) -> None:
    client = open_gateway().test_client()

    load.measure("new", hours(BEGIN, 3), np.array([1.0, 2.0, 3.0]))

    found = eventually(lambda: row(client, "new"))
    assert (found["issue_time"], found["score"]) == (None, None)
    assert client.get("/api/forecasts/hourly-load/new").get_json()["forecast"] is None


def test_readings_from_a_wrong_clock_do_not_empty_the_chart(
    open_gateway: Gateways, load: ForecastPublisher, eventually: Eventually
) -> None:
    client = open_gateway().test_client()

    load.measure("PJME", hours(BEGIN, 3), np.array([1.0, 2.0, 3.0]))
    load.measure("PJME", hours("2099-01-01", 1), np.array([9.0]))
    load.measure("PJME", hours(BEGIN, 5)[4:], np.array([5.0]))

    path = "/api/forecasts/hourly-load/PJME"
    eventually(lambda: (a := client.get(path)).status_code == 200 and len(a.get_json()["measured"]["value"]) >= 4)
    assert client.get(path).get_json()["measured"]["value"] == [1.0, 2.0, 3.0, 5.0]


def test_a_missing_topic_is_waited_for(
    open_gateway: Gateways, bus_url: str, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kappawatt.services.gateway.live.follow.LOOK_SECONDS", 0.1)
    client = open_gateway().test_client()
    eventually(lambda: all(s["missing_topics"] for s in client.get("/api/forecasts").get_json()["streams"]))
    bus = connect(bus_url)

    bus.ensure(TOPICS)

    eventually(lambda: not any(s["missing_topics"] for s in client.get("/api/forecasts").get_json()["streams"]))
    publisher = ForecastPublisher(bus)
    publisher.measure("PJME", hours(BEGIN, 3), np.array([1.0, 2.0, 3.0]))
    eventually(lambda: row(client, "PJME"))
    publisher.close()
    bus.close()


def test_a_restarted_gateway_shows_the_same(
    open_gateway: Gateways, load: ForecastPublisher, bus: Bus, eventually: Eventually
) -> None:
    first = open_gateway()
    four_weeks_and(load, 40)
    errors = len(read_all(bus, LOAD_ERRORS.name))
    path = "/api/forecasts/hourly-load/PJME"
    client = first.test_client()
    before = eventually(
        lambda: (
            (a := client.get(path)).status_code == 200
            and (d := a.get_json())["score"]
            and d["score"]["n"] == errors
            and d["measured_until"] == "2016-05-31T20:00:00Z"
            and d["forecast"]["issue_time"] == "2016-05-31T16:00:00Z"
            and d
        )
    )
    first.extensions[EXTENSION].stop()

    client = open_gateway().test_client()

    eventually(lambda: (a := client.get(path)).status_code == 200 and a.get_json() == before)


def test_stream_of_forecasts_begins_with_the_state_and_goes_on(
    open_gateway: Gateways, load: ForecastPublisher, eventually: Eventually
) -> None:
    app = open_gateway()
    times = hours(BEGIN, KEPT + 14)
    values = loads(times)
    load.measure("PJME", times[:KEPT], values[:KEPT])
    eventually(lambda: row(app.test_client(), "PJME"))
    response = app.test_client().get("/api/stream?forecasts=1&service=hourly-load&key=PJME&limit=5")
    parts = events(response)
    kind, state = next(parts)
    assert kind == "state"
    assert [series["key"] for series in state["series"]] == ["PJME"]

    load.measure("other", times[:1], values[:1])
    load.pace = 0.05
    for i in range(KEPT, len(times)):
        load.measure("PJME", times[i : i + 1], values[i : i + 1])

    seen = list(parts)
    assert {document["key"] for _, document in seen} == {"PJME"}
    assert seen[-1][0] in ("forecast", "forecast-error")
    assert ("reading", {"service": "hourly-load", "key": "PJME"}.items()) in [
        (kind, {n: d[n] for n in ("service", "key")}.items()) for kind, d in seen
    ]
    response.close()
    assert app.extensions[EXTENSION].clients == 0


def test_a_slow_client_is_told_to_look_again() -> None:
    hub = Hub()
    stream = iter(ClientStream(Restated([hub], None, lambda: {"series": []}, queued=3), limit=2))
    next(stream)
    next(stream)

    for n in range(5):
        hub.publish(Events("load.forecasts", 0, n, n + 1, "forecast", [{"key": "a", "n": n}], [n]))

    assert next(stream).startswith(b"event: state")
    assert b'"n":3' in next(stream)
    assert b'"n":4' in next(stream)


@pytest.mark.parametrize("path", ["/api/forecasts/none", "/api/forecasts/none/x", "/api/forecasts/hourly-load/none"])
def test_what_is_not_there_is_a_problem_that_says_what_is(open_gateway: Gateways, path: str) -> None:
    answer = open_gateway().test_client().get(path)

    assert answer.status_code == 404
    assert "allowed" in answer.get_json()["detail"]


@pytest.mark.parametrize("query", ["forecasts=2", "forecasts=yes", "forecasts=1&limit=0"])
def test_questions_for_the_stream_that_cannot_be_read_are_400(open_gateway: Gateways, query: str) -> None:
    assert open_gateway().test_client().get(f"/api/stream?{query}").status_code == 400


def document(**changes: Any) -> dict[str, Any]:
    """A forecast as it stands on the bus, changed."""
    whole = {
        "id": "a",
        "key": "PJME",
        "issue_time": "2016-07-01T16:00:00Z",
        "known_at": "2016-07-01T16:00:00Z",
        "time_zone": "America/New_York",
        "step_seconds": 3600,
        "target_time": ["2016-07-02T04:00:00Z"],
        "quantiles": {f"{q / 100:.2f}": [float(q)] for q in range(5, 100, 5)},
        "day": {},
        "version": "1",
    }
    return {**whole, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"quantiles": {}},
        {"quantiles": {"0.05": [1.0]}},
        {"quantiles": None},
        {"target_time": []},
        {"target_time": ["soon"]},
        {"target_time": 5},
        {"time_zone": "Mars/Olympus"},
        {"time_zone": None},
        {"step_seconds": 0},
        {"step_seconds": "long"},
        {"issue_time": None},
        {"known_at": "NaT"},
        {"key": None},
        {"key": 5},
        {"day": {"daily_peak": 5}},
        {"key": "kappawatt-doctor-1"},
    ],
)
def test_documents_of_another_shape_are_left_out(changes: dict[str, Any]) -> None:
    view = ForecastsView(LOAD_STREAM)
    view.add_forecasts([document()])

    view.add_forecasts([document(**{"key": "other", **changes})])

    assert [series["key"] for series in view.listed()] == ["PJME"]


@pytest.mark.parametrize("changes", [{"error": None}, {"crps": "x"}, {"target_time": 5}, {"measured": float("nan")}])
def test_errors_of_another_shape_are_left_out(changes: dict[str, Any]) -> None:
    view = ForecastsView(LOAD_STREAM)

    view.add_errors([realised(0, **changes)])

    assert view.listed() == []


def realised(hour: int, **changes: Any) -> dict[str, Any]:
    """A realised error as it stands on the bus, changed."""
    whole = {
        "id": f"a/{hour}",
        "key": "PJME",
        "issue_time": "2016-07-01T16:00:00Z",
        "target_time": f"{as_instant('2016-07-02') + hour * HOUR}Z",
        "measured": 100.0,
        "forecast": 101.0,
        "error": 1.0,
        "naive_error": None,
        "lower": 90.0,
        "upper": 110.0,
        "crps": 0.5,
        "fallback": False,
        "version": "1",
    }
    return {**whole, **changes}


def test_an_error_published_again_is_a_revision() -> None:
    view = ForecastsView(LOAD_STREAM)
    view.add_errors([realised(0), realised(1)])

    view.add_errors([realised(0, error=3.0, measured=98.0), realised(1)])

    score = view.scores()["by_version"][0]["score"]
    assert score["n"] == 2
    assert score["mae"] == pytest.approx(2.0)
    assert score["rmae"] is None


def test_hours_without_load_have_no_percentage() -> None:
    view = ForecastsView(LOAD_STREAM)

    view.add_errors([realised(0, measured=0.0, error=2.0), realised(1, measured=100.0, error=10.0)])

    assert view.scores()["by_version"][0]["score"]["mape"] == pytest.approx(0.1)


def test_an_older_word_on_a_forecast_does_not_undo_a_correction() -> None:
    view = ForecastsView(LOAD_STREAM)
    view.add_forecasts([document(known_at="2016-07-01T20:00:00.001Z", corrected=True)])

    view.add_forecasts([document()])

    assert view.listed()[0]["corrected"] is True


def test_memory_of_forecasts_is_bounded() -> None:
    view = ForecastsView(replace(METER_STREAM, view=replace(METER_STREAM.view, most_keys=3)))
    many = [f"2016-07-{day:02d}T00:00:00Z" for day in range(1, 32)]

    view.add_forecasts([document(key="m", issue_time=t, known_at=t, target_time=[t]) for t in many])
    view.add_errors([realised(hour, key="m") for hour in range(1_500)])
    starts = as_instant("2016-01-01") + np.arange(5_000) * np.timedelta64(15, "m")
    view.add_readings(["m"] * 5_000, starts, np.ones(5_000), np.full(5_000, 900), [None] * 5_000)
    view.add_forecasts([document(key=f"{i}") for i in range(5)])
    assert [series["key"] for series in view.listed()] == ["2", "3", "4"]

    view = ForecastsView(METER_STREAM)
    view.add_forecasts([document(key="m", issue_time=t, known_at=t, target_time=[t]) for t in many])
    view.add_errors([realised(hour, key="m") for hour in range(1_500)])
    view.add_readings(["m"] * 5_000, starts, np.ones(5_000), np.full(5_000, 900), [None] * 5_000)

    found = view.one("m")
    assert found is not None
    assert 1 + len(found["earlier"]) == METER_STREAM.view.kept_answers
    assert len(found["measured"]["value"]) == 960
    assert 0.8 * METER_STREAM.view.kept_errors <= found["scores"][0]["score"]["n"] <= METER_STREAM.view.kept_errors


def test_readings_that_come_out_of_order_and_again_are_put_right() -> None:
    view = ForecastsView(LOAD_STREAM)
    times = hours(BEGIN, 4)

    view.add_readings(["a"] * 4, times[[2, 0, 1, 2]], np.array([9.0, 0, 1, 2]), np.zeros(4, np.int64), [None] * 4)
    view.add_readings(["a"] * 2, times[[3, 0]], np.array([3.0, 7.0]), np.zeros(2, np.int64), [None] * 2)

    found = view.one("a")
    assert found is not None
    assert found["measured"]["value"].tolist() == [7.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("path", ["/api/forecasts", "/api/forecasts/{service}", "/api/forecasts/{service}/{key}"])
def test_answers_are_as_the_document_says(
    open_gateway: Gateways, load: ForecastPublisher, eventually: Eventually, path: str
) -> None:
    import jsonschema

    client = open_gateway().test_client()
    four_weeks_and(load, 40)
    eventually(lambda: (r := row(client, "PJME")) and r["score"])

    answer = client.get(path.format(service="hourly-load", key="PJME")).get_json()

    document = client.get("/openapi.json").get_json()
    described = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(answer, described)
    of_one = document["paths"]["/api/forecasts/{service}/{key}"]["get"]["responses"]["200"]["content"]
    known = of_one["application/json"]["schema"]["properties"]
    assert set(answer) <= set(known) | {"series", "streams"}


def test_reading_survives_a_bus_that_fails(
    open_bus_late: Callable[[], Bus], load: ForecastPublisher, eventually: Eventually
) -> None:
    view = ForecastsView(LOAD_STREAM)
    follower = Follower(open_bus_late, view, Hub(), Telemetry("gateway"))
    load.measure("PJME", hours(BEGIN, 3), np.array([1.0, 2.0, 3.0]))
    follower.start()
    try:
        eventually(view.listed)
        assert follower.state()["connected"]
        assert follower.why_dead() is None
    finally:
        follower.stop()


def test_documents_that_are_no_json_do_not_stop_reading(
    open_gateway: Gateways, load: ForecastPublisher, bus: Bus, eventually: Eventually
) -> None:
    client = open_gateway().test_client()
    for topic in (LOAD_FORECASTS, LOAD_ERRORS, LOAD_READINGS):
        for value in (b"", b"{", b"[1]", b"\xff\xff\xff\xff\x01", b'{"id": 1, "issue_time": {}}'):
            bus.producer().publish([Outgoing(topic.name, value, b"PJME")])

    load.measure("PJME", hours(BEGIN, 3), np.array([1.0, 2.0, 3.0]))

    eventually(lambda: row(client, "PJME"))
    assert all(s["error"] is None for s in client.get("/api/forecasts").get_json()["streams"])


def test_a_view_that_falls_behind_skips_to_the_newest(
    open_gateway: Gateways, bus: Bus, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kappawatt.services.gateway.live import forecasts

    monkeypatch.setattr(forecasts, "READINGS_SPAN", Span(100_000, 1_000))
    times = hours(BEGIN, 4_000)
    readings = [
        Outgoing(LOAD_READINGS.name, orjson.dumps({"interval_start": f"{t}Z", "load": float(i)}), b"PJME")
        for i, t in enumerate(np.datetime_as_string(times, "s").tolist())
    ]
    bus.producer().publish(readings)

    client = open_gateway().test_client()

    path = "/api/forecasts/hourly-load/PJME"
    eventually(lambda: (a := client.get(path)).status_code == 200 and a.get_json()["measured"]["value"][-1] == 3999.0)
    assert client.get("/api/forecasts/hourly-load").get_json()["streams"][0]["skipped_messages"] > 0


def row(client: Any, key: str) -> Any:
    """One series of the list; None if it is not there."""
    found = client.get("/api/forecasts").get_json()["series"]
    return next((series for series in found if series["key"] == key), None)


def read_all(bus: Bus, topic: str) -> list[dict[str, Any]]:
    """Every document of a topic."""
    return [orjson.loads(value) for records in everything(bus, topic) for value in records.values]


def events(response: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for fields in fields_of(response):
        yield fields[b"event"].decode(), orjson.loads(fields[b"data"])
