"""SIGTERM under load: processes that serve end without one failed request."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kappawatt.bus import Bus
from tests.clients import Clients
from tests.conftest import wait_until
from tests.fakes import EXAMPLE
from tests.integration.processes import Process, get, stopped_at_the_end

DRAIN_SECONDS = 3.0
LONG_SECONDS = "120"  # what is not waited for
BODY = json.dumps(EXAMPLE).encode()
PATHS = {"plant-power": "/predict", "sensor-ingestor": "/readings/plant-1"}
CLIENTS = 6
LAST_CHUNK = b"0\r\n\r\n"


def serving(folder: Path, service: str, seconds: float | str, *arguments: str) -> Process:
    bus = f"embedded:{folder / 'bus.sqlite'}"
    return Process(folder, "serve", service, *arguments, KAPPAWATT_DRAIN_SECONDS=str(seconds), KAPPAWATT_BUS=bus)


class Load(Clients):
    """Clients that keep their connection until an answer says `Connection: close`, and choose ready servers."""

    def __init__(self, servers: list[Process], path: str) -> None:
        super().__init__(CLIENTS, patience=30)
        self._servers = servers
        self._path = path
        self.failures: list[str] = []
        self.answers: Counter[tuple[int, bool]] = Counter()  # by port, and whether it said close

    def _choose(self, number: int) -> Process:
        first = self._servers[number % 2]
        return first if get(first.url("/readyz"))[0] == 200 else self._servers[1 - number % 2]

    def _client(self, number: int) -> None:
        while not self._stopped.is_set():
            server = self._choose(number)
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
            try:
                while not self._stopped.is_set():
                    connection.request("POST", self._path, BODY, {"Content-Type": "application/json"})
                    answer = connection.getresponse()
                    answer.read()
                    if answer.status not in (200, 202):
                        self.failures.append(f"{answer.status}")
                    self.answers[server.port, answer.will_close] += 1
                    if answer.will_close:
                        break
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
            finally:
                connection.close()


@pytest.mark.parametrize("service", list(PATHS))
def test_a_server_that_ends_under_load_fails_no_request(service: str, bus: Bus, tmp_path: Path) -> None:
    """plant-power answers in our worker's loop, sensor-ingestor in gunicorn's threads."""
    servers = [serving(tmp_path, service, DRAIN_SECONDS, "--workers", "2") for _ in range(2)]
    with stopped_at_the_end(*servers):
        for server in servers:
            server.wait_ready()
        leaving, staying = servers
        with Load(servers, PATHS[service]) as load:
            wait_until(lambda: load.answers[leaving.port, False] > 20, 30, "load is on")
            began = time.monotonic()
            leaving.signal(signal.SIGTERM)
            assert leaving.process.wait(30) == 0
            took = time.monotonic() - began
            before = load.answers[staying.port, False]
            wait_until(lambda: load.answers[staying.port, False] > before + 20, 30, "load goes on")

        assert load.failures == []
        assert load.answers[leaving.port, True] > 0
        assert took >= DRAIN_SECONDS


def exchange(connection: socket.socket, text: bytes) -> bytes:
    """Send a request, return the head of its answer; the body is read to its end."""
    connection.sendall(text)
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536) or pytest.fail(f"closed after {data!r}")
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    while length is not None and len(body) < int(length[1]):
        body += connection.recv(65536) or pytest.fail("closed inside a body")
    return head


POST = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)


def test_old_and_new_connections_are_answered_and_closed_while_readiness_fails(tmp_path: Path) -> None:
    server = serving(tmp_path, "plant-power", LONG_SECONDS, "--workers", "2").wait_ready()

    def is_unready() -> bool:
        return all(get(server.url("/readyz"))[0] == 503 for _ in range(8))  # whichever worker answers

    with stopped_at_the_end(server), socket.create_connection(("127.0.0.1", server.port), timeout=10) as old:
        assert b"Connection: keep-alive" in exchange(old, POST)
        server.signal(signal.SIGTERM)
        wait_until(is_unready, 5, "unready")

        assert b"draining" in get(server.url("/readyz"))[1]
        assert get(server.url("/healthz"))[0] == 200
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as new:
            for connection in (old, new):
                head = exchange(connection, POST)
                assert head.startswith(b"HTTP/1.1 200")
                assert b"Connection: close" in head
                assert connection.recv(1) == b""
        assert server.process.poll() is None


def test_a_client_that_does_not_close_its_end_keeps_nobody_waiting(tmp_path: Path) -> None:
    server = serving(tmp_path, "plant-power", LONG_SECONDS).wait_ready()
    with stopped_at_the_end(server):
        server.signal(signal.SIGTERM)
        wait_until(lambda: get(server.url("/readyz"))[0] == 503, 5, "unready")
        lazy = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(4)]
        began = time.monotonic()
        for connection in lazy:
            exchange(connection, POST)
        took = time.monotonic() - began
        for connection in lazy:
            connection.close()

    assert took < 2.0  # gunicorn waits as long for each client's end


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT])
def test_a_second_signal_skips_the_wait(tmp_path: Path, second: signal.Signals) -> None:
    server = serving(tmp_path, "plant-power", LONG_SECONDS, "--workers", "2").wait_ready()
    with stopped_at_the_end(server):
        server.signal(signal.SIGTERM)
        wait_until(lambda: get(server.url("/readyz"))[0] == 503, 5, "unready")
        server.signal(second)

        assert server.process.wait(15) == 0


def test_sigterm_during_the_start_does_not_wait(tmp_path: Path) -> None:
    server = serving(tmp_path, "plant-power", LONG_SECONDS)

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", server.port)) == 0

    with stopped_at_the_end(server):
        wait_until(listens, 30, "listens")
        server.signal(signal.SIGTERM)

        assert server.process.wait(20) in (0, 128 + signal.SIGTERM)


def test_a_worker_that_takes_a_dead_ones_place_drains_too(tmp_path: Path) -> None:
    server = serving(tmp_path, "plant-power", LONG_SECONDS).wait_ready()
    with stopped_at_the_end(server):
        server.signal(signal.SIGTERM)
        wait_until(lambda: get(server.url("/readyz"))[0] == 503, 5, "unready")
        for child in children(server):
            child_ends(child)

        wait_until(lambda: get(server.url("/healthz"))[0] == 200, 20, "another worker answers")
        status, body = get(server.url("/readyz"))
        assert status == 503
        assert b"draining" in body


def children(server: Process) -> list[int]:
    path = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    return [int(pid) for pid in path.read_text().split()]


def child_ends(pid: int) -> None:

    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 10, "gone")


@contextmanager
def stream(server: Process) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"GET /api/stream HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        yield connection


def test_event_streams_end_when_draining_begins(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "gateway", LONG_SECONDS).wait_ready()
    with stopped_at_the_end(gateway), stream(gateway) as connection:
        gateway.signal(signal.SIGTERM)
        connection.settimeout(5)
        data = b""
        while not data.endswith(LAST_CHUNK):
            data += connection.recv(65536) or pytest.fail("broken off")

        assert get(gateway.url("/healthz"))[0] == 200
        assert get(gateway.url("/readyz"))[0] == 503
