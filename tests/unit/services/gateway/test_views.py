"""Every stream has a view, whoever brought it: what `/api/views` lists, and streams of predictions side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import orjson
import pytest
from flask import Flask

from kappawatt.bus import Bus, connect
from kappawatt.bus.interface import Outgoing, Records
from kappawatt.columns.schema import Field, Schema
from kappawatt.errors import SettingInvalid
from kappawatt.messages.predictions import Prediction, prediction_event
from kappawatt.services.gateway.live.view import Events, Followed, Span
from kappawatt.services.gateway.paths import OWN_NAMES, Own
from kappawatt.services.gateway.proxy.descriptions import UNDESCRIBED, Description, Route
from kappawatt.services.gateway.wiring import EXTENSION
from kappawatt.serving.app import create_app
from kappawatt.serving.openapi import Right
from kappawatt.serving.service import find_service
from kappawatt.settings import Settings
from kappawatt.streams import load, meter, plant
from kappawatt.streams.stream import NAME_OR_PART, Key, Stream, View
from kappawatt.streams.table import STREAMS
from tests.unit.services.gateway.test_stream import events

Gateways = Callable[..., Flask]
Eventually = Callable[..., Any]

FLOW = Field("flow", "m3/s", "flow through the turbine", minimum=0, maximum=10_000, example=8.0)
HEAD = Field("head", "m", "height of the water above the turbine", minimum=0, maximum=2_000, example=25.0)
TURBINE = Stream(
    name="turbine",
    service="turbine-flow",
    title="readings of a water turbine",
    key=Key("turbine", "turbine", "kaplan-1", NAME_OR_PART),
    target="flow",
    readings=replace(
        plant.PLANT_READINGS, name="turbine.readings", key="turbine", message=Schema("T", "", (HEAD, FLOW))
    ),
    answers=replace(
        plant.PLANT_PREDICTIONS, name="turbine.predictions", key="turbine", message=Schema("F", "", (FLOW,))
    ),
    path="turbines",
    view=View("Turbines"),
    order=50,
)


class Heads:
    """A view of a kind of its own: the highest head that was refused."""

    most_records = 100
    reread = None

    def __init__(self, stream: Stream, rejections: object) -> None:
        self.stream = stream
        self.seen = 0

    @property
    def topics(self) -> dict[str, Span]:
        return {self.stream.answers.name: Span(10, 100)}

    def follow(self, followed: Followed) -> None:
        """Nothing depends on it."""

    def take(self, records: Records, start: int) -> Events:
        self.seen += len(records)
        documents: list[Any] = [{"key": "all", "seen": self.seen}]
        offsets = [records.offsets[-1]]
        return Events(records.topic, records.partition, start, records.next_offset, "seen", documents, offsets)

    def summary(self) -> dict[str, Any]:
        return {"seen": self.seen}


@pytest.fixture
def with_streams(monkeypatch: pytest.MonkeyPatch, bus_url: str) -> Callable[..., None]:
    """Return a function that has the gateway know further streams, as entry points of a package do."""

    def know(*streams: Stream) -> None:
        monkeypatch.setattr("kappawatt.services.gateway.wiring.STREAMS", (*STREAMS, *streams))
        bus = connect(bus_url)
        bus.ensure([topic for stream in (*STREAMS, *streams) for topic in stream.topics])
        bus.close()

    return know


def predict(bus: Bus, stream: Stream, *values: float, key: str = "kaplan-1", first: int = 0) -> list[str]:
    """Publish predictions of a stream as a worker does; return their ids."""
    n = len(values)
    columns = {
        "event_time": np.full(n, np.datetime64("2026-01-01T00:00", "ms")),
        stream.target: np.array(values),
        f"measured_{stream.target}": np.array(values) - 1,
    }
    offsets, rows = np.arange(first, first + n), np.zeros(n, np.int32)
    source = stream.readings.name
    found = Prediction(stream.answers.name, key.encode(), columns, offsets, rows, source, 0, "fake", "v1")
    bus.producer().publish(prediction_event(found))
    return [f"{source}-0-{offset}-0@v1" for offset in offsets]


def test_views_are_those_of_the_streams_in_their_order(open_gateway: Gateways, bus: Bus) -> None:
    client = open_gateway().test_client()

    answer = client.get("/api/views").get_json()

    views = answer["views"]
    assert [view["name"] for view in views] == [stream.name for stream in STREAMS]
    assert views[0] == {
        "name": "plant",
        "title": "Plant",
        "meaning": plant.STREAM.title,
        "form": "predictions",
        "service": "plant-power",
        "key": {"name": "plant", "noun": "plant"},
        "target": "net_power",
        "unit": "MW",
        "percent": True,
        "day_figures": [],
        "paths": {
            "all": "/api/latest?view=plant",
            "one": "/api/latest/{key}?view=plant",
            "recent": "/api/recent?view=plant",
            "stream": "/api/stream?view=plant",
            "summary": "/api/views/plant",
        },
    }
    assert views[2]["day_figures"] == [
        {"name": "daily_consumption", "how": "sum"},
        {"name": "daily_peak", "how": "max"},
    ]
    document = client.get("/openapi.json").get_json()["paths"]["/api/views"]["get"]
    jsonschema.validate(answer, document["responses"]["200"]["content"]["application/json"]["schema"])


def test_every_path_of_a_view_answers(open_gateway: Gateways, bus: Bus) -> None:
    client = open_gateway().test_client()

    for view in client.get("/api/views").get_json()["views"]:
        for name, path in view["paths"].items():
            answer = client.get(path.replace("{key}", "nobody"))
            assert answer.status_code == (404 if name == "one" else 200), path
            answer.close()


def test_a_stream_of_ones_own_has_a_view(
    open_gateway: Gateways, with_streams: Any, bus: Bus, eventually: Eventually
) -> None:
    with_streams(TURBINE)
    client = open_gateway().test_client()
    row = client.get("/api/views").get_json()["views"][-1]
    assert (row["name"], row["title"], row["form"], row["unit"]) == ("turbine", "Turbines", "predictions", "m3/s")

    predict(bus, TURBINE, 7.0, 8.0)

    found = eventually(lambda: client.get(row["paths"]["all"]).get_json()["predictions"])
    assert found[0]["flow"] == 8.0
    assert client.get(row["paths"]["one"].replace("{key}", "kaplan-1")).get_json()["flow"] == 8.0
    summary = client.get(row["paths"]["summary"]).get_json()
    assert summary["error"]["mae"] == pytest.approx(1.0)
    assert summary["serving"]["stream"] == "turbine.predictions"


def test_streams_of_predictions_stand_side_by_side(
    open_gateway: Gateways, with_streams: Any, bus: Bus, plant: Any, eventually: Eventually
) -> None:
    with_streams(TURBINE)
    app = open_gateway()
    client = app.test_client()

    plant.predict(450.0)
    predict(bus, TURBINE, 7.0)

    eventually(lambda: client.get("/api/latest?view=turbine").get_json()["predictions"])
    first = eventually(lambda: client.get("/api/latest").get_json()["predictions"])
    assert [p["key"] for p in first] == ["plant-1"]
    assert client.get("/api/recent?view=turbine").get_json()["predicted"] == [7.0]
    assert client.get("/api/recent?view=plant").get_json()["predicted"] == [450.0]
    assert client.get("/api/summary?view=turbine").get_json()["consumer_lag"]["topic"] == "turbine.readings"
    assert client.get("/api/summary").get_json()["consumer_lag"]["topic"] == "plant.readings"


def test_a_further_stream_is_resumed_by_place_too(
    open_gateway: Gateways, with_streams: Any, bus: Bus, plant: Any, eventually: Eventually
) -> None:
    with_streams(TURBINE)
    app = open_gateway()
    eventually(lambda: app.extensions[EXTENSION].live["turbine"].hub.followed)
    ids = predict(bus, TURBINE, 1.0, 2.0, 3.0)
    plant.predict(450.0)

    def read(n: int, last: str) -> list[Any]:
        response = app.test_client().get(f"/api/stream?view=turbine&limit={n}", headers={"Last-Event-ID": last})
        found = [event for event in events(response) if event.kind != "summary"]
        response.close()
        return found

    first = read(2, "turbine.predictions:0=0,1=0,2=0,3=0;turbine.readings.dead:0=0")
    missed = predict(bus, TURBINE, 4.0, first=3)
    rest = read(2, first[-1].id)

    assert [event.document["id"] for event in first + rest] == ids + missed
    assert "plant" not in rest[-1].id


def test_a_stream_may_bring_a_view_of_another_kind(
    open_gateway: Gateways, with_streams: Any, bus: Bus, eventually: Eventually
) -> None:
    with_streams(replace(TURBINE, view=View("Heads", opens=f"{__name__}:Heads")))
    client = open_gateway().test_client()
    row = client.get("/api/views").get_json()["views"][-1]
    assert (row["form"], set(row["paths"])) == ("own", {"summary", "stream"})

    bus.producer().publish([Outgoing("turbine.predictions", b"{}", b"k")] * 3)

    eventually(lambda: client.get(row["paths"]["summary"]).get_json()["seen"] == 3)
    response = client.get(row["paths"]["stream"] + "&limit=1")
    parts = iter(response.response)
    assert next(parts).startswith(b"retry")
    state = next(parts)
    assert state.startswith(b"event: state\ndata: ")
    assert orjson.loads(state.split(b"data: ")[1])["seen"] == 3
    response.close()


def test_a_view_that_is_not_there_stops_the_start(open_gateway: Gateways, with_streams: Any, bus: Bus) -> None:
    with_streams(replace(TURBINE, view=View("Heads", opens="tests.nothing:View")))

    with pytest.raises(SettingInvalid, match=r"tests.nothing:View"):
        open_gateway()


@pytest.mark.parametrize("path", ["latest", "latest/x", "recent", "summary", "stream"])
def test_a_view_that_is_not_known_is_refused_with_those_that_are(open_gateway: Gateways, bus: Bus, path: str) -> None:
    answer = open_gateway().test_client().get(f"/api/{path}?view=tides")

    assert answer.status_code == 400
    assert "allowed plant" in answer.get_json()["detail"]


def test_views_below_a_name_that_is_not_known_are_404(open_gateway: Gateways, bus: Bus) -> None:
    assert open_gateway().test_client().get("/api/views/tides").status_code == 404


def test_no_service_may_be_called_like_a_path_of_the_gateways_own(open_gateway: Gateways, bus: Bus) -> None:
    rules = {rule.rule for rule in open_gateway().url_map.iter_rules() if rule.rule.startswith("/api/")}

    assert rules - {"/api/<name>/<path:rest>"} == set(Own)
    assert {rule.split("/")[2] for rule in set(Own)} == set(OWN_NAMES)


def test_the_doors_that_a_writer_may_use_are_those_of_the_streams(
    monkeypatch: pytest.MonkeyPatch, bus_url: str, tmp_path: Path
) -> None:
    streams = [plant.STREAM, load.STREAM, meter.STREAM, TURBINE]
    monkeypatch.setattr("kappawatt.services.sensor_ingestor.routes.STREAMS", streams)
    app = create_app(find_service("sensor-ingestor"), Settings(bus=bus_url, state=tmp_path))
    found = Description(app.test_client().get("/openapi.json").get_json())

    for path in ("turbines/kaplan-1", "readings/plant-1", "load/PJME", "load", "meters"):
        assert found.route("POST", f"/{path}") == Route(Right.WRITE, False), path
    for path in ("turbines", "readings", "other/x", "turbines/a/b"):
        assert found.route("POST", f"/{path}") == UNDESCRIBED, path
