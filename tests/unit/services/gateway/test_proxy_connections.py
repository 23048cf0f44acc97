"""What becomes of a request whose connection does not come about, breaks off, stalls or is let go."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from urllib3.exceptions import ProtocolError, ReadTimeoutError

from kappawatt.services.gateway.proxy import forward
from kappawatt.services.gateway.proxy.breaker import Breaker
from kappawatt.services.gateway.proxy.forward import Address, Proxy, ServiceSlow, ServiceUnreachable, Target
from kappawatt.services.gateway.wiring import EXTENSION

MEBIBYTE = 1 << 20


class Answering:
    """Answers the first request of each connection with given bytes, and then waits, or closes.

    Parameters
    ----------
    answers : bytes
        One for each connection; the last for all that follow.
    closes : bool
    """

    def __init__(self, *answers: bytes, closes: bool = True) -> None:
        self._answers = list(answers)
        self._closes = closes
        self._threads: list[Thread] = []
        self._connections: list[socket.socket] = []
        self.gone = Event()  # whoever asked has closed a connection

    def __enter__(self) -> Answering:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address: Address = ("127.0.0.1", self._socket.getsockname()[1])
        self._begin(self._serve)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _begin(self, run: Callable[..., None], *arguments: Any) -> None:
        self._threads.append(Thread(target=run, args=arguments, daemon=True))
        self._threads[-1].start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
            self._connections.append(connection)
            self._begin(self._answer, connection, answer)

    def _answer(self, connection: socket.socket, answer: bytes) -> None:
        with connection:
            connection.recv(65536)
            connection.sendall(answer)
            if not self._closes:
                with suppress(OSError):
                    connection.recv(1)
                self.gone.set()


def answer(body: bytes, length: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (length, body)


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return sum(self.pauses)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The proxy's clock."""
    found = Clock()
    monkeypatch.setattr(forward, "time", SimpleNamespace(monotonic=found.monotonic, sleep=found.sleep))
    return found


@pytest.fixture
def nowhere() -> Address:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        return "127.0.0.1", opened.getsockname()[1]


@pytest.fixture
def full() -> Iterator[Address]:
    """An address that takes no more connections and refuses none."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        found: Address = ("127.0.0.1", listening.getsockname()[1])
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(found)
        yield found
        for filler in fillers:
            filler.close()


@pytest.fixture
def front(open_gateway: Callable[..., Flask]) -> Callable[[Address], FlaskClient]:
    """Return a function that makes a client of a gateway in front of a service, which waits 0.3 s for its bytes."""
    app = open_gateway()
    app.extensions[EXTENSION].descriptions.stop()

    def make(at: Address) -> FlaskClient:
        proxy = app.extensions[EXTENSION].proxy
        proxy._timeout = Proxy({}, read_seconds=0.3)._timeout
        proxy.found([target(at)])
        return app.test_client()

    return make


def target(own: Address, *instances: Address, failures: int = 1) -> Target:
    return Target("any", "http", *own, Breaker("any", failures=failures), instances)


def ask(proxy: Proxy, of: Target, key: str | None = None, *, repeatable: bool = True) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return proxy.call(of, "GET", "/x", headers, None, lambda: repeatable)


def fails(monkeypatch: pytest.MonkeyPatch, proxy: Proxy, error: BaseException) -> list[Address]:
    """Have every request of a proxy end with an error; return where each went to."""
    asked: list[Address] = []

    def send(_: Target, address: Address, *__: Any, **___: Any) -> None:
        asked.append(address)
        raise error

    monkeypatch.setattr(proxy, "_send", send)
    return asked


def test_an_address_that_refuses_is_tried_for_two_seconds_with_growing_pauses(clock: Clock, nowhere: Address) -> None:
    of = target(nowhere)

    with pytest.raises(ServiceUnreachable, match="any: connection refused"):
        ask(Proxy({}), of)

    assert clock.pauses == [0.02, 0.04, 0.08, 0.16, *[0.25] * 6]
    assert of.breaker.state == "open"


def test_there_is_no_pause_before_the_next_instance_only_before_the_next_round(clock: Clock, nowhere: Address) -> None:
    with pytest.raises(ServiceUnreachable):
        ask(Proxy({}), target(nowhere, nowhere, nowhere), "a key")

    assert clock.pauses[:9] == [0, 0, 0.02, 0, 0, 0.04, 0, 0, 0.08]
    assert len(clock.pauses) % 3 == 2  # the last round is a whole one


def test_a_connection_that_breaks_off_is_tried_three_times_with_doubled_pauses(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, of = Proxy({}), target(("a.svc", 80), ("10.0.0.1", 80))
    asked = fails(monkeypatch, proxy, ProtocolError("reset"))

    with pytest.raises(ServiceUnreachable, match="any: the connection broke off"):
        ask(proxy, of, "a key")

    assert clock.pauses == [0.1, 0.2]
    assert asked == [("10.0.0.1", 80)] * 3  # the same instance each time: it may have the request
    assert of.breaker.state == "open"


@pytest.mark.parametrize(
    ("error", "repeatable", "raised"),
    [
        (ProtocolError("reset"), False, ServiceUnreachable),
        (ReadTimeoutError(None, "/x", "slow"), True, ServiceSlow),  # type: ignore[arg-type]
        (RuntimeError("nobody has thought of it"), True, RuntimeError),
        (KeyboardInterrupt(), True, KeyboardInterrupt),
    ],
)
def test_other_failures_end_the_request_at_once_and_count_as_the_services(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, error: BaseException, repeatable: bool, raised: type[BaseException]
) -> None:
    proxy, of = Proxy({}), target(("a.svc", 80))
    asked = fails(monkeypatch, proxy, error)

    with pytest.raises(raised):
        ask(proxy, of, repeatable=repeatable)

    assert (len(asked), clock.pauses, of.breaker.state) == (1, [], "open")


def test_an_answer_ends_the_failures_in_a_row(monkeypatch: pytest.MonkeyPatch, nowhere: Address) -> None:
    with Answering(answer(b"{}", 2)) as server:
        of, proxy = target(server.address, failures=2), Proxy({})
        for _ in range(3):
            with monkeypatch.context() as patch:
                fails(patch, proxy, RuntimeError("once"))
                with pytest.raises(RuntimeError):
                    ask(proxy, of)
            assert ask(proxy, of).status == 200

    assert of.breaker.state == "closed"


@pytest.mark.parametrize(("length", "status"), [(10, 502), (MEBIBYTE, 502), (MEBIBYTE + 1, 200)])
def test_an_answer_of_a_mebibyte_that_breaks_off_is_502_and_a_longer_one_breaks_off_as_well(
    front: Callable[[Address], FlaskClient], length: int, status: int
) -> None:
    with Answering(answer(b"some", length)) as server:
        found = front(server.address).get("/api/any/x")

        assert found.status_code == status
        if status == 200:
            with pytest.raises(ProtocolError):
                list(found.response)
        else:
            assert found.get_json()["detail"] == "any: the connection broke off"


def test_an_answer_that_stalls_is_504_and_its_connection_is_not_used_again(
    front: Callable[[Address], FlaskClient],
) -> None:
    with Answering(answer(b"some", 10), answer(b"{}", 2), closes=False) as server:
        client = front(server.address)

        stalled = client.get("/api/any/x")
        again = client.get("/api/any/x")

        assert (stalled.status_code, stalled.get_json()["detail"]) == (504, "any: no answer within the time-out")
        assert (again.status_code, again.data) == (200, b"{}")
        assert server.gone.wait(5)


def test_a_client_that_goes_away_lets_the_service_know(front: Callable[[Address], FlaskClient]) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with Answering(head + b"3\r\none\r\n", closes=False) as server:
        stream = front(server.address).get("/api/any/x")
        assert next(iter(stream.response)) == b"one"  # as it comes, not when it has ended
        assert not server.gone.is_set()

        stream.close()

        assert server.gone.wait(5)


def test_an_answer_without_a_length_is_passed_on_whole(front: Callable[[Address], FlaskClient]) -> None:
    with Answering(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000) as server:
        assert front(server.address).get("/api/any/x").data == b"x" * 200_000


def test_closing_closes_kept_connections() -> None:
    proxy = Proxy({})
    with Answering(answer(b"{}", 2), closes=False) as server:
        assert proxy.fetch(target(server.address), "/x", 5.0) == (200, b"{}")
        assert not server.gone.is_set()

        proxy.close()

        assert server.gone.wait(5)


def test_a_document_that_cannot_be_fetched_says_why(nowhere: Address) -> None:
    of = target(nowhere)

    with pytest.raises(ServiceUnreachable, match="any: connection refused"):
        Proxy({}).fetch(of, "/x", 5.0)

    assert of.breaker.state == "closed"  # it is the gateway's own question


def test_a_document_that_breaks_off_says_so() -> None:
    with (
        Answering(answer(b"some", 10)) as server,
        pytest.raises(ServiceUnreachable, match="any: the connection broke off"),
    ):
        Proxy({}).fetch(target(server.address), "/x", 5.0)


@pytest.mark.parametrize(("seconds", "least", "most"), [(0.1, 0.1, 0.8), (5.0, 0.9, 1.9)])
def test_fetching_a_document_waits_a_second_for_a_connection_or_less(
    full: Address, seconds: float, least: float, most: float
) -> None:
    began = time.monotonic()

    with pytest.raises(ServiceUnreachable, match="any: no connection within the time-out"):
        Proxy({}).fetch(target(full), "/x", seconds)

    assert least <= time.monotonic() - began < most
