"""A gateway over a real embedded bus, and real services behind it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from flask import Flask
from werkzeug.serving import make_server

from kappawatt.bus import Bus, connect
from kappawatt.bus.interface import Records
from kappawatt.bus.promotions import Serving, promote
from kappawatt.columns.batch import Rejection
from kappawatt.errors import BusUnreachable
from kappawatt.messages.dead_letters import dead_letter_message
from kappawatt.messages.predictions import Prediction, prediction_block, prediction_event
from kappawatt.services.gateway.service import SERVICE
from kappawatt.services.gateway.wiring import EXTENSION
from kappawatt.serving.app import create_app
from kappawatt.settings import Settings
from kappawatt.streams.plant import PLANT_PREDICTIONS, PLANT_READINGS
from tests.conftest import wait_until

DEAD = f"{PLANT_READINGS.name}.dead"


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """Return a function that returns what a claim returns once that is true, and fails after 30 s."""

    return partial(wait_until, seconds=30.0)


class Plant:
    """Writes what a worker would write."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._producer = bus.producer()
        self.offset = 0

    def predict(
        self,
        *powers: float,
        key: bytes | None = b"plant-1",
        error: float | None = 1.0,
        version: str = "v1",
        topic: str = PLANT_PREDICTIONS.name,
        block: bool = False,
        first: int | None = None,
    ) -> list[str]:
        """Publish a prediction for each of `powers`, `error` MW above what is measured; return their ids."""
        n = len(powers)
        power = np.array(powers, dtype=np.float64)
        now = np.full(n, time.time_ns() // 1_000_000, dtype="datetime64[ms]")
        measured = np.full(n, np.nan) if error is None else power - error
        columns = {
            "event_time": now,
            "net_power": power,
            "net_power_lower": power - 5,
            "net_power_upper": power + 5,
            "extrapolated": np.zeros(n, dtype=bool),
            "measured_net_power": measured,
        }
        if first is None:
            first, self.offset = self.offset, self.offset + n
        offsets = np.arange(first, first + n)
        prediction = Prediction(
            topic, key, columns, offsets, np.zeros(n, np.int32), PLANT_READINGS.name, 0, "fake", version,
            source_log=self.readings_log,
        )  # fmt: skip
        self._producer.publish([prediction_block(prediction)] if block else prediction_event(prediction))
        return [f"{PLANT_READINGS.name}:{self.readings_log}-0-{offset}-0@{version}" for offset in offsets]

    @property
    def log(self) -> str:
        """The log of the answers."""
        return self._bus.log_id(PLANT_PREDICTIONS.name)

    @property
    def readings_log(self) -> str:
        """The log of what was answered."""
        return self._bus.log_id(PLANT_READINGS.name)

    def promote(self, topic: str, covered: int, version: str = "v2") -> None:
        """Let a replay that answered the readings before offset `covered` take over."""
        serving = Serving(PLANT_PREDICTIONS.name, topic, version, {0: covered}, "better")
        promote(self._bus, serving, "plant-power", PLANT_READINGS.name)

    def replay_topic(self, name: str) -> str:
        """Make a side topic for a replay."""
        self._bus.ensure([replace(PLANT_PREDICTIONS, name=name)])
        return name

    def reject(self, key: bytes = b"plant-1", got: Any = 812.0) -> None:
        """Publish the dead letter of one reading."""
        self.offset += 1
        records = Records(PLANT_READINGS.name, 0, [self.offset], [0], [key], [b"{}"], [()])
        allowed = "a number from 0 to 100 cm Hg"
        rejection = Rejection(0, "out_of_range", "exhaust_vacuum", got, allowed)
        self._producer.publish([dead_letter_message(DEAD, records, 0, [rejection], "fake", "v1")])


@pytest.fixture
def plant(bus: Bus) -> Plant:
    return Plant(bus)


@pytest.fixture
def open_bus_late(bus_url: str) -> Callable[[], Bus]:
    """Return a function that opens the bus at the third try."""
    opened: list[int] = []

    def open_bus() -> Bus:
        opened.append(1)
        if len(opened) < 3:
            raise BusUnreachable("no broker answered")
        return connect(bus_url)

    return open_bus


@pytest.fixture
def open_gateway(bus_url: str) -> Iterator[Callable[..., Flask]]:
    """Return a function that makes a gateway's app; all are stopped in the end."""
    apps: list[Flask] = []

    def make(**settings: Any) -> Flask:
        app = create_app(SERVICE, Settings(**{"bus": bus_url, **settings}))
        apps.append(app)
        return app

    yield make
    for app in apps:
        app.extensions[EXTENSION].stop()


@pytest.fixture
def serve() -> Iterator[Callable[[Any], str]]:
    """Return a function that serves a WSGI app on a port of its own and returns its address."""
    servers = []

    def start(app: Any) -> str:
        server = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.port}"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()
