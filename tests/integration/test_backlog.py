"""What waits to be accepted when a server is told to end is answered, and nothing is reset."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
from collections import Counter
from pathlib import Path

import pytest

from kappawatt.bus import Bus
from tests.clients import Clients
from tests.conftest import wait_until
from tests.fakes import EXAMPLE
from tests.integration.processes import Process, stopped_at_the_end

BODY = json.dumps(EXAMPLE).encode()
JSON = {"Content-Type": "application/json"}
CLIENTS = 24
NOTHING_SENT = re.compile("connection refused|no connection within|circuit")
STOPS = 2


class OneConnectionEach(Clients):
    """They open a connection for every request, so that there are always some which nobody has accepted."""

    def __init__(self, port: int, path: str) -> None:
        super().__init__(CLIENTS, patience=30)
        self._port = port
        self._path = path
        self.answers: Counter[int] = Counter()
        self.broken: list[str] = []

    def wait_until_on(self) -> None:
        wait_until(lambda: self.answers.total() > 50, 30, "load is on")

    def _client(self, number: int) -> None:
        while not self._stopped.is_set():
            try:
                client = socket.create_connection(("127.0.0.1", self._port), timeout=15)
            except OSError:  # nobody listens any more: nothing was sent
                return
            connection = http.client.HTTPConnection("127.0.0.1", self._port)
            connection.sock = client
            try:
                connection.request("POST", self._path, BODY, JSON | {"Connection": "close"})
                answer = connection.getresponse()
                answer.read()
                self.answers[answer.status] += 1
            except (OSError, http.client.HTTPException) as error:
                self.broken.append(repr(error))
            finally:
                connection.close()


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(("service", "path"), [("plant-power", "/predict"), ("sensor-ingestor", "/readings/plant-1")])
def test_no_connection_is_reset_by_a_stop(service: str, path: str, workers: str, bus: Bus, tmp_path: Path) -> None:
    for _ in range(STOPS):
        server = Process(
            tmp_path, "serve", service, "--workers", workers, KAPPAWATT_BUS=f"embedded:{tmp_path / 'bus.sqlite'}"
        ).wait_ready()
        with stopped_at_the_end(server), OneConnectionEach(server.port, path) as load:
            load.wait_until_on()
            server.signal(signal.SIGTERM)
            assert server.process.wait(30) == 0

        assert load.broken == []
        assert set(load.answers) <= {200, 202}


class Writers(Clients):
    """They write through the gateway and note what each write was told."""

    def __init__(self, gateway: Process) -> None:
        super().__init__(8, patience=30)
        self._gateway = gateway
        self.answers: list[tuple[int, str]] = []

    def _client(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._gateway.port, timeout=30)
        while not self._stopped.is_set():
            connection.request("POST", "/api/sensor-ingestor/readings/plant-1", BODY, JSON)
            answer = connection.getresponse()
            text = answer.read().decode()
            self.answers.append((answer.status, text))
        connection.close()


def test_no_write_through_the_gateway_to_a_lone_ingestor_breaks_off_at_its_stop(bus: Bus, tmp_path: Path) -> None:
    bus_url = f"embedded:{tmp_path / 'bus.sqlite'}"
    first = Process(tmp_path, "serve", "sensor-ingestor", KAPPAWATT_BUS=bus_url).wait_ready()
    services = f"sensor-ingestor=http://127.0.0.1:{first.port}"
    gateway = Process(tmp_path, "serve", "gateway", KAPPAWATT_SERVICES=services, KAPPAWATT_BUS=bus_url).wait_ready()
    with stopped_at_the_end(first, gateway), Writers(gateway) as writers:
        wait_until(lambda: len(writers.answers) > 50, 30, "writes are on")
        first.signal(signal.SIGTERM)
        assert first.process.wait(30) == 0

    statuses = Counter(status for status, _ in writers.answers)
    # Once nobody listens the gateway says so; nothing was sent then, and a client may write again.
    unknown = [text for status, text in writers.answers if status != 202 and not NOTHING_SENT.search(text)]
    assert statuses[202] > 50
    assert unknown == []
