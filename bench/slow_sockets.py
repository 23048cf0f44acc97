"""What slow sockets do to a server: rate of good requests, time to `/healthz` and memory, without them and with them.

Crowds of sockets that hold their connection and ask for nothing that could be answered, kind by kind, on gateway,
ingestor and a model server. The rate without is taken directly before and directly after the rate with a crowd, so a
busy minute of the machine meets both. A socket that the server ends is opened again.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import selectors
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.environments import kappawatt, machine
from bench.measure import say
from bench.processes import cpu_seconds, free_port, memory, running, until_answers
from kappawatt.bus import connect
from kappawatt.streams.table import TOPICS

__all__ = ["KINDS", "SERVERS", "Crowd", "Good", "Health", "Measured", "measure", "servers"]

SOCKETS = 500
CLIENTS = 4
TURN_SECONDS = 0.02
BYTE_SECONDS = 2.0
CHUNK_SECONDS = 1.0
SMALL_BUFFER = 4096
START_SECONDS = 60.0
MB = 1_000_000

READING = {
    "ambient_temperature": 14.96,
    "exhaust_vacuum": 41.76,
    "ambient_pressure": 1024.07,
    "relative_humidity": 73.17,
}
BODY = json.dumps(READING).encode()

SERVERS = {"gateway": "/api/plant-power/predict", "sensor-ingestor": "/readings/plant-1", "plant-power": "/predict"}
"""What good clients post to; the gateway passes it on."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How a slow socket behaves.

    Parameters
    ----------
    first : callable
        Returns what it sends when it is open, given the path of good requests.
    next : bytes
        What it sends again and again after that; of several bytes one after the other if `bytewise`.
    seconds : float
        Between two.
    reads : bool
        Whether it takes answers.
    settles : float
        Seconds after which it asks for nothing any more: until then its requests are work as all others are, and
        `/healthz` is asked, but the rate of good requests is not looked at.
    """

    first: Callable[[str], bytes]
    next: bytes = b""
    seconds: float = 0.0
    reads: bool = True
    settles: float = 0.0


def _post(path: str, rest: bytes) -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: slow\r\nContent-Type: application/json\r\n%s" % (path.encode(), rest)


KINDS = {
    "half header": Kind(lambda path: _post(path, b"X-Half: ")),
    "a byte every 2 s": Kind(lambda path: b"P", b"OST /a-byte-every-two-seconds HTTP/1.1", BYTE_SECONDS),
    "half body": Kind(lambda path: _post(path, b"Content-Length: 200000\r\n\r\n" + b" " * 100_000)),
    "endless chunks": Kind(
        lambda path: _post(path, b"Transfer-Encoding: chunked\r\n\r\n"), b"64\r\n" + b" " * 100 + b"\r\n", CHUNK_SECONDS
    ),
    "never reading": Kind(
        lambda path: b"GET /openapi.json HTTP/1.1\r\nHost: slow\r\n\r\n" * 2, reads=False, settles=5.0
    ),
}
"""Slow sockets by what they do."""


class Crowd:
    """Slow sockets of one kind, held open on a thread while the block runs."""

    def __init__(self, port: int, path: str, kind: Kind, count: int) -> None:
        self._port = port
        self._first = kind.first(path)
        self._kind = kind
        self._count = count
        self._stopped = threading.Event()
        self._full = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._open: dict[socket.socket, float] = {}
        self._unsent: dict[socket.socket, bytes] = {}
        self._turns = itertools.count()
        self._thread = threading.Thread(target=self._run)
        self.opened = 0

    def __enter__(self) -> Crowd:
        self._thread.start()
        if not self._full.wait(START_SECONDS):
            self.__exit__()
            raise TimeoutError(f"{self._count} sockets were not open within {START_SECONDS:g} s")
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            for _ in range(min(50, self._count - len(self._open))):
                self._connect()
            if len(self._open) == self._count:
                self._full.set()
            for key, _ in self._selector.select(TURN_SECONDS):
                self._take(key.fileobj)  # type: ignore[arg-type]
            self._send_next()
            self._stopped.wait(TURN_SECONDS)
        for each in list(self._open):
            self._close(each)

    def _connect(self) -> None:
        client = socket.socket()
        if not self._kind.reads:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        client.settimeout(5.0)
        try:
            client.connect(("127.0.0.1", self._port))
        except OSError:
            client.close()
            return
        client.setblocking(False)
        self.opened += 1
        # Not all at once: the later ones have their turn later.
        self._open[client] = time.monotonic() + self._kind.seconds * (self.opened % 100) / 100
        self._unsent[client] = self._first
        if self._kind.reads:
            self._selector.register(client, selectors.EVENT_READ)
        self._send(client)

    def _take(self, client: socket.socket) -> None:
        try:
            if client.recv(65_536):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._close(client)

    def _send_next(self) -> None:
        now = time.monotonic()
        for client, due in list(self._open.items()):
            if self._unsent.get(client):
                self._send(client)
            elif self._kind.next and now >= due:
                self._open[client] = due + self._kind.seconds
                turn = next(self._turns)
                step = self._kind.next
                is_bytewise = self._kind.seconds == BYTE_SECONDS
                self._unsent[client] = step[turn % len(step) :][:1] if is_bytewise else step
                self._send(client)

    def _send(self, client: socket.socket) -> None:
        rest = self._unsent[client]
        try:
            self._unsent[client] = rest[client.send(rest) :]
        except BlockingIOError:
            return
        except OSError:
            self._close(client)

    def _close(self, client: socket.socket) -> None:
        with suppress(KeyError):
            self._selector.unregister(client)
        self._open.pop(client, None)
        self._unsent.pop(client, None)
        client.close()


class Good:
    """Clients with a kept-alive connection each that post while the block runs."""

    def __init__(self, port: int, path: str) -> None:
        self._port = port
        self._path = path
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._client) for _ in range(CLIENTS)]
        self.done = 0
        self.failures: list[str] = []

    def __enter__(self) -> Good:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def rate(self, seconds: float) -> float:
        """Return the requests a second over the next `seconds`."""
        before, began = self.done, time.monotonic()
        time.sleep(seconds)
        return (self.done - before) / (time.monotonic() - began)

    def _client(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self._stopped.is_set():
            try:
                connection.request("POST", self._path, BODY, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                if answer.status not in (200, 202):
                    self.failures.append(str(answer.status))
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
            self.done += 1
        connection.close()


class Health:
    """Asks `/healthz` ten times a second on a new connection each while the block runs."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.seconds: list[float] = []

    def __enter__(self) -> Health:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
                connection.request("GET", "/healthz")
                is_well = connection.getresponse().status == 200
                connection.close()
            except (OSError, http.client.HTTPException):
                is_well = False
            self.seconds.append(time.monotonic() - began if is_well else float("inf"))
            self._stopped.wait(0.1)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one crowd did to one server.

    Parameters
    ----------
    without, with_crowd : float
        Rate of good requests [1/s].
    cpu_without, cpu_with : float
        Processor time of the server for each of them [s]: unlike the rate it hardly depends on who else is busy.
    slowest_health : float
        The longest `/healthz` took while the crowd was there [s].
    memory_before, memory_most : int
        Resident memory of the server's processes [bytes].
    opened : int
        Sockets that were opened in all, again and again where the server ended them.
    failures : list of str
        Good requests that failed.
    """

    server: str
    kind: str
    without: float
    with_crowd: float
    cpu_without: float
    cpu_with: float
    slowest_health: float
    memory_before: int
    memory_most: int
    opened: int
    failures: list[str]

    @property
    def ratio(self) -> float:
        """with_crowd / without."""
        return self.with_crowd / self.without

    @property
    def cpu_ratio(self) -> float:
        """cpu_without / cpu_with: the rate that is left where the server alone is what limits it."""
        return self.cpu_without / self.cpu_with if self.cpu_with else 1.0

    @property
    def grown(self) -> int:
        """Memory that came with the crowd [bytes]."""
        return max(0, self.memory_most - self.memory_before)


def measure(server: str, port: int, pid: int, kind: str, sockets: int, seconds: float) -> Measured:
    """Let good clients ask without, with and without a crowd, each for `seconds`."""
    with Good(port, SERVERS[server]) as good, Health(port) as health:

        def turn() -> tuple[float, float]:
            """Rate, and processor time a request, over half the time."""
            done, used = good.done, cpu_seconds(pid)
            rate = good.rate(seconds / 2)
            return rate, (cpu_seconds(pid) - used) / max(1, good.done - done)

        good.rate(min(0.3, seconds))
        without = [turn()]
        memory_before = memory(pid).rss
        health.seconds.clear()
        with Crowd(port, SERVERS[server], KINDS[kind], sockets) as crowd:
            if KINDS[kind].settles:
                good.rate(KINDS[kind].settles)
            with_crowd = [turn(), turn()]
            memory_most = memory(pid).rss
        slowest = max(health.seconds, default=float("inf"))
        good.rate(0.1)
        without.append(turn())
    means = [sum(each) / 2 for side in (without, with_crowd) for each in zip(*side, strict=True)]
    rate_without, cpu_without, rate_with, cpu_with = means
    return Measured(
        server,
        kind,
        rate_without,
        rate_with,
        cpu_without,
        cpu_with,
        slowest,
        memory_before,
        memory_most,
        crowd.opened,
        good.failures,
    )


@contextmanager
def servers(folder: Path, **settings: str) -> Iterator[dict[str, tuple[int, int]]]:
    """Start all servers; yield port and process id of each."""
    ports = {name: free_port() for name in SERVERS}
    environ = {
        "KAPPAWATT_BUS": f"embedded:{folder / 'bus.sqlite'}",
        "KAPPAWATT_SERVICES": f"plant-power=http://127.0.0.1:{ports['plant-power']}",
        "KAPPAWATT_LOG_LEVEL": "WARNING",
        **settings,
    }
    bus = connect(environ["KAPPAWATT_BUS"])
    bus.ensure(TOPICS)
    bus.close()
    with ExitStack() as stack:
        found = {}
        for name, port in ports.items():
            command = (kappawatt(), "serve", name, "--port", str(port))
            process = stack.enter_context(running(command, folder / f"{name}.log", environ))
            found[name] = (port, process.pid)
        for port, _ in found.values():
            until_answers(f"http://127.0.0.1:{port}/readyz", START_SECONDS)
        yield found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every kind on every server and print a table."""
    parser = argparse.ArgumentParser("python -m bench.slow_sockets", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sockets", type=int, default=SOCKETS, help="of each kind")
    parser.add_argument("--seconds", type=float, default=10.0, help="with a crowd, and as many without")
    parser.add_argument("--servers", default=",".join(SERVERS), help="comma separated")
    given = parser.parse_args(arguments)
    lines = [
        f"{given.sockets} sockets of each kind, {given.seconds:g} s each, {machine()}, load {os.getloadavg()[0]:.1f}.",
        "",
        "| server | sockets | good requests/s without | with | ratio | ms CPU a request without | with | ratio "
        "| slowest /healthz | memory before | grown by |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    is_well = True
    with tempfile.TemporaryDirectory() as folder, servers(Path(folder)) as found:
        for server in given.servers.split(","):
            port, pid = found[server]
            for kind in KINDS:
                say(f"{server}: {kind}")
                got = measure(server, port, pid, kind, given.sockets, given.seconds)
                is_well = (
                    is_well and got.slowest_health < 1.0 and max(got.ratio, got.cpu_ratio) > 0.8 and not got.failures
                )
                lines.append(
                    f"| {server} | {kind} | {got.without:.0f} | {got.with_crowd:.0f} | {got.ratio:.2f} "
                    f"| {got.cpu_without * 1000:.2f} | {got.cpu_with * 1000:.2f} | {got.cpu_ratio:.2f} "
                    f"| {got.slowest_health * 1000:.0f} ms | {got.memory_before / MB:.0f} MB "
                    f"| {got.grown / MB:.1f} MB |"
                )
                say(lines[-1] + f" {got.opened} opened, {len(got.failures)} failures {got.failures[:3]}")
    print("\n".join(lines))
    return 0 if is_well else 2


if __name__ == "__main__":
    sys.exit(main())
