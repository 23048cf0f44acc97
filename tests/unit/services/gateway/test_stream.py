"""Server-sent events: nothing lost, nothing doubled, whatever breaks in between."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask import Flask

from kappawatt.bus import Bus, connect
from kappawatt.services.gateway.live import hub as hub_module
from kappawatt.services.gateway.live.events import ClientStream, Wanted
from kappawatt.services.gateway.live.hub import Hub
from kappawatt.services.gateway.live.position import Logs, Place, Position, format_position, parse_position
from kappawatt.services.gateway.live.predictions import PredictionsView
from kappawatt.services.gateway.live.resuming import Resumed
from kappawatt.services.gateway.wiring import EXTENSION
from kappawatt.streams.plant import STREAM
from kappawatt.streams.table import TOPICS
from tests.conftest import wait_until

Gateways = Callable[..., Flask]
Eventually = Callable[..., Any]


@dataclass
class Event:
    id: str
    kind: str
    document: dict[str, Any]


def hub_of(app: Flask) -> Hub:
    """The hub of the plant's view."""
    hub: Hub = app.extensions[EXTENSION].live["plant"].hub
    return hub


def resumed(hub: Hub, bus_url: str, given: tuple[Position, Logs] | None, limit: int = 0) -> ClientStream:
    """The stream of a client of the plant's view."""
    view = PredictionsView(STREAM)
    position, logs = given or (None, {})
    way = Resumed(hub, view.reread, lambda: connect(bus_url), Wanted(), position, logs)
    return ClientStream(way, limit=limit, summary=dict)


def fields_of(response: Any) -> Iterator[dict[bytes, bytes]]:
    """Parse an event stream as it comes, as a browser does; the fields of each event that has data."""
    text = b""
    for part in response.response:
        text += part
        while b"\n\n" in text:
            block, _, text = text.partition(b"\n\n")
            fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if not line.startswith(b":"))
            if b"data" in fields:
                yield fields


def events(response: Any) -> Iterator[Event]:
    for fields in fields_of(response):
        yield Event(fields[b"id"].decode(), fields[b"event"].decode(), orjson.loads(fields[b"data"]))


def read(app: Flask, n: int, last: str | None = None, query: str = "") -> tuple[list[str], str]:
    """Read `n` predictions and rejections; return what they are and the id of the last one."""
    headers = {} if last is None else {"Last-Event-ID": last}
    response = app.test_client().get(f"/api/stream?limit={n}{query}", headers=headers)
    assert response.content_type == "text/event-stream"
    seen = [event for event in events(response) if event.kind in ("prediction", "rejection")]
    response.close()
    return [event.document["id"] for event in seen], seen[-1].id


@pytest.fixture
def start(bus: Bus) -> str:
    """The id of a client that has seen nothing of an empty bus."""
    return "plant.predictions:0=0,1=0,2=0,3=0;plant.readings.dead:0=0"


def test_events_come_as_they_are_published(
    open_gateway: Gateways, bus: Bus, plant: Any, eventually: Eventually
) -> None:
    app = open_gateway()
    hub = hub_of(app)
    eventually(lambda: hub.followed)
    response = app.test_client().get("/api/stream?limit=3")
    stream = events(response)
    assert next(stream).kind == "summary"

    ids = plant.predict(450.0, 451.0)
    plant.reject()

    seen = [event for event in stream if event.kind != "summary"]
    assert sorted(event.kind for event in seen) == ["prediction", "prediction", "rejection"]
    assert [event.document["id"] for event in seen if event.kind == "prediction"] == ids
    response.close()
    assert hub.clients == 0


def test_resume_gets_exactly_what_was_missed(open_gateway: Gateways, plant: Any, start: str) -> None:
    app = open_gateway()
    first = plant.predict(1.0, 2.0, 3.0)

    seen, last = read(app, 2, start)
    missed = plant.predict(4.0, 5.0)
    again, _ = read(app, 3, last)

    assert seen + again == first + missed


def test_resume_inside_a_block_goes_on_with_its_next_row(open_gateway: Gateways, plant: Any, start: str) -> None:
    app = open_gateway()
    ids = plant.predict(*map(float, range(10)), block=True)

    seen, last = read(app, 4, start)
    rest, _ = read(app, 6, last)

    assert last.startswith(f"plant.predictions~{plant.log}:")
    assert seen + rest == ids


def test_resume_works_at_a_restarted_gateway(open_gateway: Gateways, plant: Any, start: str) -> None:
    before = open_gateway()
    ids = plant.predict(1.0, 2.0)
    seen, last = read(before, 1, start)
    before.extensions[EXTENSION].stop()
    missed = plant.predict(3.0)

    rest, _ = read(open_gateway(), 2, last)

    assert seen + rest == ids + missed


def test_resume_reaches_further_back_than_the_view(open_gateway: Gateways, plant: Any, start: str) -> None:
    ids = plant.predict(*map(float, range(3000)))

    seen, _ = read(open_gateway(), 3000, start)

    assert seen == ids


def test_many_reconnects_while_events_come_lose_and_double_nothing(
    open_gateway: Gateways, plant: Any, start: str
) -> None:
    app = open_gateway()
    chance = random.Random(7)
    published: list[str] = []
    seen: list[str] = []
    last = start
    for _ in range(30):
        for key in (b"plant-1", b"plant-2", b"plant-3"):
            powers = [400.0] * chance.randint(1, 6)
            published += plant.predict(*powers, key=key, block=chance.random() < 0.4)
        some = min(len(published) - len(seen), chance.randint(1, 12))
        new, last = read(app, some, last)
        seen += new
    if len(published) > len(seen):
        seen += read(app, len(published) - len(seen), last)[0]

    assert len(seen) == len(set(seen))
    assert sorted(seen) == sorted(published)


@pytest.mark.parametrize("again", [1, 5], ids=["shorter", "longer"])
def test_a_client_is_sent_all_of_a_topic_that_was_made_again(
    open_gateway: Gateways, bus: Bus, plant: Any, start: str, again: int
) -> None:
    app = open_gateway()
    before = plant.predict(*map(float, range(3)))
    seen, last = read(app, 3, start)

    for file in Path(bus.url.removeprefix("embedded:")).parent.glob("bus.sqlite*"):
        file.unlink()
    bus.ensure(TOPICS)
    after = plant.predict(*map(float, range(again)), first=0)
    rest, _ = read(app, again, last)

    assert (seen, rest) == (before, after)
    assert not {*seen} & {*rest}


def test_slow_client_loses_its_queue_but_no_event(
    bus: Bus, bus_url: str, plant: Any, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "QUEUED_EVENTS", 10)
    hub = Hub()
    follower = _follow(hub, bus_url)
    try:
        ids = plant.predict(1.0)
        stream = resumed(hub, bus_url, parse_position(start), limit=501)
        parts = iter(stream)
        got = _next_prediction(parts)
        for _ in range(100):
            ids += plant.predict(*[1.0] * 5)
        wait_until(lambda: hub.position()["plant.predictions", 3].offset == 501, 10)

        rest = [got]
        while len(rest) < 501:
            rest.append(_next_prediction(parts))
    finally:
        follower.stop()

    assert rest == ids


def test_key_filters_and_its_position_still_resumes(open_gateway: Gateways, plant: Any, start: str) -> None:
    app = open_gateway()
    mine = plant.predict(1.0, key=b"a")
    plant.predict(2.0, 3.0, key=b"b")
    mine += plant.predict(4.0, key=b"a")

    seen, last = read(app, 1, start, "&key=a")
    rest, _ = read(app, 1, last, "&key=a")

    assert seen + rest == mine


def test_sampled_stream_sends_at_most_the_rate(open_gateway: Gateways, plant: Any, start: str) -> None:
    app = open_gateway()
    ids = plant.predict(*[1.0] * 50, key=b"a") + plant.predict(2.0, key=b"b")

    seen, _ = read(app, 2, start, "&rate=1")

    assert set(seen) <= set(ids)
    assert len(set(seen)) == 2


def test_promotion_answers_every_reading_once(
    open_gateway: Gateways, plant: Any, start: str, eventually: Eventually
) -> None:
    app = open_gateway()
    old = plant.predict(1.0, 2.0, 3.0, first=0)
    seen, last = read(app, 1, start)
    side = plant.replay_topic("plant.predictions.better")
    plant.predict(1.1, 2.1, 3.1, topic=side, version="v2", first=0)
    plant.predict(4.0, first=3)  # answered by the old version too, after the replay had ended
    plant.promote(side, covered=3)
    new = plant.predict(4.1, 5.1, topic=side, version="v2", first=3)
    eventually(lambda: (f := hub_of(app).followed) and f.topic == side)

    rest, last = read(app, 4, last)

    assert seen + rest == old + new
    assert last.startswith(f"{side}~")


def test_position_of_a_lost_bus_goes_on_at_the_end(
    open_gateway: Gateways, plant: Any, bus: Bus, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kappawatt.services.gateway.live.events.SUMMARY_SECONDS", 0.05)
    app = open_gateway()
    eventually(lambda: hub_of(app).followed)
    response = app.test_client().get(
        "/api/stream?limit=1", headers={"Last-Event-ID": "plant.predictions:0=900,1=900,2=900,3=900;x:7=1"}
    )
    stream = events(response)
    next(stream)
    next(stream)  # the second summary comes after the position was put right

    ids = plant.predict(1.0)

    assert next(e for e in stream if e.kind == "prediction").document["id"] == ids[0]
    response.close()


def test_other_topics_cannot_be_read(open_gateway: Gateways, plant: Any, bus: Bus, start: str) -> None:
    from kappawatt.bus.interface import Outgoing
    from kappawatt.streams.plant import PLANT_READINGS

    bus.producer().publish([Outgoing(PLANT_READINGS.name, b'{"id": "secret"}', b"k")])
    ids = plant.predict(1.0)

    seen, last = read(open_gateway(), 1, f"plant.readings:0=0,1=0,2=0,3=0;{start}")

    assert seen == ids
    assert "plant.readings:" not in last


@pytest.mark.parametrize(
    "query",
    [
        "last_event_id=nonsense",
        "last_event_id=a:0=x",
        "rate=-1",
        "rate=nan",
        "limit=0",
        "limit=x",
    ],
)
def test_questions_that_cannot_be_read_are_400(open_gateway: Gateways, query: str) -> None:
    answer = open_gateway().test_client().get(f"/api/stream?{query}")

    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"


def test_streams_are_bounded(open_gateway: Gateways, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kappawatt.services.gateway.live_routes.MOST_STREAMS", 1)
    client = open_gateway().test_client()
    open_one = client.get("/api/stream")

    refused = client.get("/api/stream")

    assert refused.status_code == 429
    assert refused.headers["Retry-After"]
    open_one.close()
    second = client.get("/api/stream")
    assert second.status_code == 200
    second.close()


def test_a_closed_gateway_ends_its_streams(open_gateway: Gateways, bus: Bus, eventually: Eventually) -> None:
    app = open_gateway()
    eventually(lambda: hub_of(app).followed)
    response = app.test_client().get("/api/stream")
    stream = events(response)
    next(stream)

    hub_of(app).close()

    assert not [event for event in stream if event.kind == "prediction"]
    response.close()


def test_heartbeats_come_while_there_is_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kappawatt.services.gateway.live.events.HEARTBEAT_SECONDS", 0.01)
    hub = Hub()  # the bus was never reached
    stream = iter(resumed(hub, "embedded:never", None))

    assert next(stream).startswith(b"retry:")
    assert next(stream) == b": still here\n\n"
    hub.close()


@pytest.mark.parametrize("text", ["", "a", "a:", "a:0", "a:0=", "a:0=1.", "a b:0=1", "a:0=1;", "a:0=1" + ",1=1" * 2000])
def test_text_that_is_no_position_is_none(text: str) -> None:
    assert parse_position(text) is None


def test_position_survives_being_written() -> None:
    position = {("a.b", 0): Place(12), ("a.b", 11): Place(40, 3), ("c", 2): Place(0)}

    logs = {"a.b": "5xB0xqDOQ9ukA7dY2wPNSw", "c": "_-9z"}
    assert parse_position(format_position(position, logs)) == (position, logs)
    assert parse_position(format_position(position, {})) == (position, {})


def _follow(hub: Hub, bus_url: str) -> Any:
    from kappawatt.services.gateway.live.follow import Follower
    from kappawatt.telemetry import Telemetry

    follower = Follower(lambda: connect(bus_url), PredictionsView(STREAM), hub, Telemetry("g"))
    follower.start()
    wait_until(lambda: hub.followed, 10)
    return follower


def _next_prediction(parts: Iterator[bytes]) -> str:
    for part in parts:
        if b"event: prediction" in part:
            return str(orjson.loads(part.split(b"data: ", 1)[1])["id"])
    raise AssertionError("the stream ended")
