"""Forecasting workers as processes on a real bus: killed, joined and restarted they publish what one alone would."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from kappawatt.broker import Broker
from kappawatt.bus import Bus, Outgoing, connect
from kappawatt.bus.interface import BusOptions
from kappawatt.columns.arrow import write_columns
from kappawatt.columns.content import ARROW
from kappawatt.forecasting.calendar import HOUR, Times, as_instant
from kappawatt.messages.forecasts import read_documents, with_available_at
from kappawatt.serving.service import find_service
from kappawatt.settings import Settings
from kappawatt.streams.table import TOPICS
from kappawatt.worker.forecasting import Forecasting
from tests.conftest import wait_until
from tests.forecast_fakes import loads
from tests.integration.processes import Process, stopped_at_the_end

READINGS, FORECASTS, ERRORS = "load.readings", "load.forecasts", "load.forecast-errors"
SERVICE = "hourly-load"
ZONES = tuple(f"zone-{i}" for i in range(5))
BEGIN, LIVE, END = as_instant("2016-04-01T04:00"), as_instant("2016-07-01T04:00"), as_instant("2016-07-06T04:00")
SESSION = {"KAPPAWATT_SESSION_TIMEOUT": "6", "KAPPAWATT_LOG_FORMAT": "text"}
BLOCK = (("content-type", ARROW.encode()),)
WHEN_PUBLISHED = ("published", "topic", "partition", "offset")


@pytest.fixture(params=["embedded", "kafka-python", "confluent"])
def bus_of(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Bus, dict[str, str]]]:
    """A bus nobody else uses, and the environment of its processes."""
    if request.param == "embedded":
        url, client = f"embedded:{tmp_path}/bus.sqlite", "kafka-python"
        bus = connect(url)
        bus.ensure(TOPICS)
        yield bus, {"KAPPAWATT_BUS": url, **SESSION}
        bus.close()
        return
    with Broker(tmp_path / "kafka") as broker:
        url, client = f"kafka://{broker.bootstrap}", request.param
        bus = connect(url, BusOptions(kafka_client=client))
        bus.ensure(TOPICS)
        yield bus, {"KAPPAWATT_BUS": url, "KAPPAWATT_KAFKA_CLIENT": client, **SESSION}
        bus.close()


def backfill(bus: Bus) -> None:
    """Three months of every zone in one block each."""
    times = np.arange(BEGIN, LIVE, HOUR)
    producer = bus.producer()
    for i, zone in enumerate(ZONES):
        block = write_columns({"interval_start": times, "load": loads(times, 10_000.0 + 1_000 * i)})
        producer.publish([Outgoing(READINGS, block, zone.encode(), BLOCK)])
    producer.close()


def feed(bus: Bus, times: Times, pause: float) -> None:
    """Hour after hour of every zone, one of fifty an hour late, one revised."""
    producer = bus.producer()
    held: list[Outgoing] = []
    for n, time_ in enumerate(times):
        now = []
        for i, zone in enumerate(ZONES):
            value = float(loads(np.array([time_]), 10_000.0 + 1_000 * i)[0])
            message = Outgoing(
                READINGS, b'{"interval_start": "%sZ", "load": %f}' % (str(time_).encode(), value), zone.encode()
            )
            (held if (n * len(ZONES) + i) % 50 == 7 else now).append(message)
        producer.publish(now)
        if n % 5 == 4 and held:
            producer.publish(held)
            held = []
        time.sleep(pause)
    producer.publish(held) if held else None
    producer.close()


def documents(bus: Bus, topic: str) -> dict[str, list[dict[str, Any]]]:
    """Everything in a topic by id, without where and when it was published."""
    found: dict[str, list[dict[str, Any]]] = {}
    reader = bus.reader([topic], {})
    ends = {(topic, p): o.end for p, o in bus.offsets(topic).items()}
    while any(reader.positions().get(where, 0) < end for where, end in ends.items()):
        for document in read_documents(reader.poll(0.5)):
            own = {k: v for k, v in document.items() if k not in WHEN_PUBLISHED}
            found.setdefault(document["id"], []).append(own)
    reader.close()
    return found


def expected(bus: Bus) -> dict[str, dict[str, dict[str, Any]]]:
    """What one undisturbed worker publishes for this log: by topic, by id the newest."""
    service = find_service(SERVICE)
    model = service.open(Settings.read({}))
    answering = Forecasting(bus, model, service.streamed(), output=FORECASTS)
    reader = bus.reader([READINGS], {})
    ends = {(READINGS, p): o.end for p, o in bus.offsets(READINGS).items()}
    found: dict[str, dict[str, dict[str, Any]]] = {FORECASTS: {}, ERRORS: {}}
    while any(reader.positions().get(where, 0) < end for where, end in ends.items()):
        for m in answering.answer(reader.poll(0.5)).outgoing:
            if m.topic in found:
                document = with_available_at(orjson.loads(m.value))
                found[m.topic][document["id"]] = document
    reader.close()
    return found


def test_workers_killed_and_joined_publish_what_one_alone_would(
    bus_of: tuple[Bus, dict[str, str]], tmp_path: Path
) -> None:
    bus, environment = bus_of
    backfill(bus)
    feeding = threading.Thread(target=feed, args=(bus, np.arange(LIVE, END, HOUR), 0.1))
    feeding.start()
    moments = random.Random(3)
    workers = [Process(tmp_path, "consume", SERVICE, **environment)]
    for _ in range(3):
        time.sleep(moments.uniform(2.0, 4.0))
        workers[-1].kill()
        workers.append(Process(tmp_path, "consume", SERVICE, **environment))
    workers.append(Process(tmp_path, "consume", SERVICE, **environment))  # a second one joins
    with stopped_at_the_end(*workers):
        feeding.join()
        total = sum(o.end for o in bus.offsets(READINGS).values())
        wait_until(lambda: sum(bus.committed(SERVICE, READINGS).values()) == total, 240, "everything committed")

        wanted = expected(bus)

        for topic, documents_wanted in wanted.items():
            assert documents_wanted
            found = documents(bus, topic)
            assert found.keys() == documents_wanted.keys()
            for name, versions in found.items():
                assert versions[-1] == documents_wanted[name], name
