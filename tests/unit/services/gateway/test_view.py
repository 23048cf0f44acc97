"""The latest-value view over the real embedded bus."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from kappawatt.bus import Bus, connect
from kappawatt.bus.interface import Outgoing
from kappawatt.services.gateway.live.follow import Follower
from kappawatt.services.gateway.live.hub import Hub
from kappawatt.services.gateway.live.predictions import PredictionsView
from kappawatt.services.gateway.live.view import KNOWN_IDS, Span
from kappawatt.services.gateway.wiring import EXTENSION
from kappawatt.serving.probes import PROBE_KEY
from kappawatt.streams.plant import STREAM

Gateways = Callable[..., Flask]
Eventually = Callable[..., Any]


@pytest.fixture
def summary(open_gateway: Gateways, bus: Bus) -> Callable[[], Any]:
    client = open_gateway().test_client()
    return lambda: client.get("/api/summary").get_json()


def test_newest_prediction_of_each_key_is_answered(open_gateway: Gateways, plant: Any, eventually: Eventually) -> None:
    client = open_gateway().test_client()

    plant.predict(450.0, 460.0)
    plant.predict(300.0, key=b"north/plant 2")

    eventually(lambda: len(client.get("/api/latest").get_json()["predictions"]) == 2)
    assert client.get("/api/latest/plant-1").get_json()["net_power"] == 460.0
    assert client.get("/api/latest/north/plant 2").get_json()["net_power"] == 300.0
    assert client.get("/api/latest/other").status_code == 404


def test_probes_of_the_doctor_are_no_plants(open_gateway: Gateways, plant: Any, eventually: Eventually) -> None:
    client = open_gateway().test_client()

    plant.predict(450.0)
    plant.predict(460.0, key=PROBE_KEY)
    plant.predict(451.0)

    eventually(lambda: len(client.get("/api/recent").get_json()["predicted"]) == 2)
    assert [p["key"] for p in client.get("/api/latest").get_json()["predictions"]] == ["plant-1"]
    assert client.get("/api/summary").get_json()["keys"] == 1


def test_rows_of_a_block_count_like_single_events(open_gateway: Gateways, plant: Any, eventually: Eventually) -> None:
    client = open_gateway().test_client()

    plant.predict(1.0, 2.0, 3.0, block=True)
    plant.predict(4.0)

    eventually(lambda: len(client.get("/api/recent").get_json()["predicted"]) == 4)
    recent = client.get("/api/recent?limit=3").get_json()
    assert recent["key"] == "plant-1"
    assert recent["predicted"] == [2.0, 3.0, 4.0]
    assert recent["measured"] == [1.0, 2.0, 3.0]


def test_error_and_coverage_are_those_of_measured_predictions(
    summary: Callable[[], Any], plant: Any, eventually: Eventually
) -> None:
    plant.predict(450.0, 451.0, 452.0, error=1.0)
    plant.predict(450.0, error=-7.0)
    plant.predict(450.0, error=None)

    found = eventually(lambda: (s := summary())["error"]["count"] == 4 and s)
    assert found["error"]["mae"] == pytest.approx((3 * 1 + 7) / 4)
    assert found["error"]["rmse"] == pytest.approx(((3 * 1 + 49) / 4) ** 0.5)
    assert found["error"]["bias"] == pytest.approx((3 - 7) / 4)
    assert found["interval"]["coverage"] == pytest.approx(3 / 4)
    assert found["interval"]["mean_width"] == pytest.approx(10.0)


def test_prediction_published_twice_counts_once(summary: Callable[[], Any], plant: Any, eventually: Eventually) -> None:
    plant.predict(450.0, first=7)
    plant.predict(450.0, first=7)
    plant.predict(451.0, first=8)

    assert eventually(lambda: (s := summary())["error"]["count"] >= 2 and s)["error"]["count"] == 2


def test_another_version_starts_the_error_anew(summary: Callable[[], Any], plant: Any, eventually: Eventually) -> None:
    plant.predict(450.0, 451.0, error=50.0)
    plant.predict(450.0, error=1.0, version="v2")

    found = eventually(lambda: (s := summary())["serving"]["version"] == "v2" and s)
    assert found["error"]["count"] == 1
    assert found["error"]["mae"] == pytest.approx(1.0)


def test_rejections_are_counted_and_kept_with_their_reason(
    open_gateway: Gateways, plant: Any, eventually: Eventually
) -> None:
    client = open_gateway().test_client()

    for i in range(60):
        plant.reject(got=float(i))

    eventually(lambda: client.get("/api/rejections").get_json()["total"] == 60)
    rejections = client.get("/api/rejections").get_json()
    assert rejections["by_reason"] == {"out_of_range": 60}
    assert len(rejections["newest"]) == 50
    newest = rejections["newest"][0]
    assert (newest["field"], newest["got"], newest["allowed"]) == (
        "exhaust_vacuum",
        59.0,
        "a number from 0 to 100 cm Hg",
    )


def test_start_reads_only_a_bounded_span_before_the_end(
    open_gateway: Gateways, bus: Bus, plant: Any, eventually: Eventually
) -> None:
    plant.predict(*map(float, range(3000)))

    app = open_gateway()
    eventually(lambda: app.test_client().get("/api/latest").get_json()["predictions"])

    eventually(
        lambda: len(app.extensions[EXTENSION].predictions["plant"].view.points("plant-1", 2000)["predicted"]) == 500
    )


def test_consumer_lag_is_the_end_less_the_commit(summary: Callable[[], Any], bus: Bus, eventually: Eventually) -> None:
    assert summary()["consumer_lag"]["messages"] is None
    consumer = bus.consumer(["plant.readings"], "plant-power")
    producer = bus.producer()
    consumer.poll(0.1)
    consumer.commit()

    producer.publish([Outgoing("plant.readings", b"x", b"plant-1")] * 3)

    eventually(lambda: summary()["consumer_lag"]["messages"] == 3)
    consumer.poll(1.0)
    consumer.commit()
    eventually(lambda: summary()["consumer_lag"]["messages"] == 0)
    consumer.close()


def test_throughput_is_predictions_by_second_published() -> None:
    view = PredictionsView(STREAM, clock=lambda: 1_000.5)
    rows = [{"id": str(i), "net_power": 1.0, "published": 990_000 + 100 * i, "key": "a"} for i in range(100)]

    view.add_predictions(rows)

    assert view.summary()["predictions_per_second"] == 10.0


def test_latency_leaves_out_history_that_is_fed_in() -> None:
    view = PredictionsView(STREAM)
    now = time.time_ns() // 1_000_000
    live = [
        {"id": f"{i}", "net_power": 1.0, "published": now + i, "event_time": _iso(now), "key": "a"} for i in range(101)
    ]
    old = [{"id": "old", "net_power": 1.0, "published": now, "event_time": "2010-01-01T00:00:00Z", "key": "a"}]

    view.add_predictions(live + old)

    assert view.summary()["latency"] == {"p50_ms": 50.0, "p99_ms": 99.0, "count": 101}


def test_memory_is_bounded_whatever_comes() -> None:
    view = PredictionsView(STREAM)
    rows = [{"id": f"{i}", "net_power": 1.0, "published": i, "key": f"plant-{i}"} for i in range(KNOWN_IDS + 5000)]

    view.add_predictions(rows)

    assert len(view.all_latest()) == 10_000
    assert len(view._ids) == KNOWN_IDS
    assert len(view._points) == 128
    assert len(view._per_second) <= 40


@pytest.mark.parametrize(
    "prediction",
    [
        {"id": "a", "published": 1},
        {"id": "a", "published": 1, "net_power": "much", "event_time": 5},
        {"id": "a", "published": 1, "net_power": None, "key": None},
        {"id": 7, "published": 1},
    ],
)
def test_documents_of_another_shape_harm_nothing(prediction: dict[str, Any]) -> None:
    view = PredictionsView(STREAM)

    view.add_predictions([prediction])

    assert view.summary()["error"]["count"] == 0


def test_promotion_moves_the_view_to_the_side_topic(
    summary: Callable[[], Any], plant: Any, eventually: Eventually
) -> None:
    plant.predict(450.0, error=50.0)
    eventually(lambda: summary()["error"]["count"] == 1)
    side = plant.replay_topic("plant.predictions.better")
    plant.predict(400.0, 401.0, error=2.0, topic=side, version="v2", first=0)

    plant.promote(side, covered=2)

    found = eventually(lambda: (s := summary())["error"]["count"] == 2 and s)
    assert found["serving"]["topic"] == side
    assert found["serving"]["version"] == "v2"
    assert found["serving"]["reason"] == "better"
    assert found["error"]["mae"] == pytest.approx(2.0)


def test_gateway_waits_for_topics_and_is_ready_meanwhile(
    open_gateway: Gateways, bus_url: str, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kappawatt.streams.table import TOPICS

    monkeypatch.setattr("kappawatt.services.gateway.live.follow.LOOK_SECONDS", 0.1)
    client = open_gateway().test_client()
    assert client.get("/readyz").status_code == 200
    assert client.get("/api/summary").get_json()["view"]["missing_topics"]

    connect(bus_url).ensure(TOPICS)

    eventually(lambda: not client.get("/api/summary").get_json()["view"]["missing_topics"])


def test_reading_survives_a_bus_that_fails(
    open_bus_late: Callable[[], Bus], plant: Any, eventually: Eventually
) -> None:
    from kappawatt.telemetry import Telemetry

    view = PredictionsView(STREAM)
    follower = Follower(open_bus_late, view, Hub(), Telemetry("gateway"))
    plant.predict(450.0)
    follower.start()
    try:
        reason = follower.why_not_ready()
        assert reason is not None
        assert "no broker answered" in reason
        eventually(view.all_latest)
        assert follower.why_not_ready() is None
        eventually(lambda: follower.state()["connected"])
    finally:
        follower.stop()


def test_view_that_falls_behind_skips_to_the_newest(bus: Bus, bus_url: str, plant: Any, eventually: Eventually) -> None:
    from kappawatt.telemetry import Telemetry

    view = PredictionsView(STREAM, span=Span(2_000, 10_000))
    follower = Follower(lambda: connect(bus_url), view, Hub(), Telemetry("g"))
    for i in range(120):
        plant.predict(*[float(i)] * 1000, block=True)

    follower.start()
    try:
        eventually(lambda: view.all_latest() and view.all_latest()[0]["net_power"] == 119.0)
        assert follower.skipped_messages > 0
    finally:
        follower.stop()


def test_stopping_ends_every_thread(open_gateway: Gateways, bus: Bus) -> None:
    gateway = open_gateway().extensions[EXTENSION]

    gateway.stop()

    assert len(gateway.threads) > 1
    assert not any(thread._thread.is_alive() for thread in gateway.threads)


def _iso(ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
