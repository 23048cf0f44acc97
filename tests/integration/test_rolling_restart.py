"""Restarts one by one behind the gateway: two replicas behind one address, which the gateway does not tell apart."""

from __future__ import annotations

import http.client
import json
import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kappawatt.bus import Bus
from tests.clients import Clients
from tests.conftest import wait_until
from tests.fakes import EXAMPLE
from tests.integration.processes import Process, stopped_at_the_end

BODY = json.dumps(EXAMPLE).encode()
DOORS = {"plant-power": "predict", "sensor-ingestor": "readings/plant-1"}
DRAIN_SECONDS = "3"
SEEN_SECONDS = 0.5  # until a balancer has seen that a replica leaves
CLIENTS = 6
RESTARTS = 2


class Balancer:
    """Carries each connection to one of its ends, as a Service's address does; it knows nothing of requests."""

    def __init__(self) -> None:
        self.ends: list[int] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", random.choice(self.ends)))
                except OSError:
                    near.close()
                    continue
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
            return
        for each in (source, sink):  # one side was reset: so is the other
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def balancer() -> Iterator[Balancer]:
    balancer = Balancer()
    yield balancer
    balancer.close()


class Load(Clients):
    """They post through the gateway, some without a pause and some with pauses around a second."""

    def __init__(self, gateway: Process, path: str) -> None:
        super().__init__(CLIENTS, patience=60)
        self._gateway = gateway
        self._path = path
        self.answers: Counter[int] = Counter()
        self.failures: list[str] = []

    def _client(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._gateway.port, timeout=60)
        pauses = random.Random(number)
        while not self._stopped.is_set():
            try:
                connection.request("POST", self._path, BODY, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
                self.answers[answer.status] += 1
                if answer.status not in (200, 202):
                    self.failures.append(f"{answer.status} {text[:200]!r}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
            if number >= CLIENTS // 2:
                self._stopped.wait(pauses.uniform(0.0, 1.2))
        connection.close()


@pytest.mark.parametrize("service", list(DOORS))
def test_replicas_restart_one_by_one_and_no_request_through_the_gateway_fails(
    service: str, bus: Bus, balancer: Balancer, tmp_path: Path
) -> None:
    shared = {"KAPPAWATT_BUS": f"embedded:{tmp_path / 'bus.sqlite'}", "KAPPAWATT_DRAIN_SECONDS": DRAIN_SECONDS}
    replicas = [Process(tmp_path, "serve", service, **shared) for _ in range(2)]
    balancer.ends = [replica.port for replica in replicas]  # the gateway asks what its services are from the first
    gateway = Process(
        tmp_path, "serve", "gateway", KAPPAWATT_SERVICES=f"{service}=http://127.0.0.1:{balancer.port}", **shared
    )
    started = [*replicas, gateway]
    try:
        for process in started:
            process.wait_ready()
        with Load(gateway, f"/api/{service}/{DOORS[service]}") as clients:
            for _ in range(RESTARTS):
                new = Process(tmp_path, "serve", service, **shared)
                started.append(new)
                new.wait_ready()
                old = replicas.pop(0)
                replicas.append(new)
                balancer.ends = [old.port, *(replica.port for replica in replicas)]
                before = clients.answers.total()
                wait_until(lambda before=before: clients.answers.total() > before + 20, 60, "load is on")
                old.signal(signal.SIGTERM)
                time.sleep(SEEN_SECONDS)
                balancer.ends = [replica.port for replica in replicas]
                assert old.process.wait(40) == 0
            before = clients.answers.total()
            wait_until(lambda: clients.answers.total() > before + 20, 60, "load goes on")
    finally:
        with stopped_at_the_end(*started):
            pass

    assert clients.failures == []
    assert set(clients.answers) <= {200, 202}
