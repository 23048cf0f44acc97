"""The loop with a small app and short deadlines: what it reads, what it answers, and whom it ends."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from gunicorn.config import Config

from kappawatt.serving.server.framing import Framing
from kappawatt.serving.server.limits import Limits
from kappawatt.serving.server.loop import Loop
from tests.conftest import wait_until

SHORT = Limits(
    head_seconds=0.5, body_seconds=2.0, stall_seconds=0.5, idle_seconds=0.5, slowest_rate=1000.0, body_bytes=100_000
)
LONG = Limits(body_bytes=100_000)
LARGE = b"x" * 3_000_000


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """/echo: the length of the body; /large: what fills every buffer; /endless: so too, without an end."""
    path = environ["PATH_INFO"]
    if path == "/endless":
        start_response("200 OK", [])
        return iter(lambda: b"y" * 100_000, b"")
    body = LARGE if path == "/large" else b"%d" % len(environ["wsgi.input"].read())
    if path == "/wait":
        time.sleep(1.0)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


class Served:
    """A loop on a thread."""

    def __init__(self, limits: Limits, is_inline: bool, threads: int) -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = listener.getsockname()[1]
        self.ended: Counter[str] = Counter()
        self._wanted = True
        self.loop = Loop(
            [listener],
            app,
            limits,
            threads=threads,
            settings=Config(),
            is_inline=is_inline,
            ended=lambda why: self.ended.update([why]),
        )
        self.thread = threading.Thread(target=self.loop.run, args=(lambda: self._wanted, lambda: None, 10.0))
        self.thread.start()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def stop(self) -> None:
        self._wanted = False
        self.loop.wake()


@contextmanager
def serving(limits: Limits = LONG, *, is_inline: bool = False, threads: int = 2) -> Iterator[Served]:
    served = Served(limits, is_inline, threads)
    try:
        yield served
    finally:
        served.stop()
        served.thread.join(20)
        assert not served.thread.is_alive()


def post(body: bytes = b"hello", path: str = "/echo", more: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


def read_all(connection: socket.socket) -> bytes:
    data = b""
    try:
        while piece := connection.recv(1 << 20):
            data += piece
    except ConnectionResetError:
        pass
    return data


def read_one(connection: socket.socket) -> tuple[int, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536) or pytest.fail(f"closed after {data!r}")
    head, _, body = data.partition(b"\r\n\r\n")
    found = re.search(rb"(?i)content-length: (\d+)", head)
    assert found is not None
    while len(body) < int(found[1]):
        body += connection.recv(65536) or pytest.fail("closed inside a body")
    return int(head.split()[1]), body


def problem(data: bytes) -> dict[str, Any]:
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert b"Connection: close" in head
    document: dict[str, Any] = json.loads(body)
    assert document.keys() == {"type", "title", "status", "detail", "request_id"}
    assert f" {document['status']} ".encode() in head.partition(b"\r\n")[0]
    assert document["request_id"].encode() in head
    return document


@pytest.mark.parametrize("is_inline", [True, False], ids=["in the loop", "in threads"])
def test_requests_in_any_pieces_and_several_at_once_are_answered_in_order(is_inline: bool) -> None:
    with serving(is_inline=is_inline) as served, served.connect() as connection:
        for byte in post(b"slow"):
            connection.sendall(bytes([byte]))
        assert read_one(connection) == (200, b"4")
        connection.sendall(b"".join(post(b"z" * n) for n in range(30)))
        connection.shutdown(socket.SHUT_WR)
        data = read_all(connection)

    assert re.findall(rb"\r\n\r\n(\d+)", data) == [b"%d" % n for n in range(30)]


@pytest.mark.parametrize("size", [10, 50_000, 100_000])
def test_a_body_with_a_length_and_in_chunks_is_read_whole(size: int) -> None:
    head = b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    with serving() as served, served.connect() as connection:
        connection.sendall(post(b"b" * size))
        assert read_one(connection) == (200, b"%d" % size)
        connection.sendall(head + b"%x\r\n" % size + b"b" * size + b"\r\n0\r\n\r\n" + post())
        assert read_one(connection) == (200, b"%d" % size)


@pytest.mark.parametrize("length", ["101".zfill(19), "101".zfill(4000), "9" * 19, "+101", ""])
@pytest.mark.parametrize("first", ["POST /echo", "GET /healthz"])
def test_a_request_hidden_in_the_body_of_another_is_never_run(first: str, length: str) -> None:
    hidden = post(path="/hidden", more="X: ".ljust(40, "y") + "\r\n")
    with serving() as served, served.connect() as connection:
        connection.sendall(f"{first} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode() + hidden)
        data = read_all(connection)

    assert data.count(b"HTTP/1.1 ") == 1
    assert problem(data)["status"] == 400


def test_a_length_that_parser_and_framing_count_differently_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Framing, "_read_head", lambda self, data, end: setattr(self, "length", end + 4))
    with serving() as served, served.connect() as connection:
        connection.sendall(post(post(path="/hidden")))
        data = read_all(connection)

    assert data.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close" in data


def test_a_client_that_expects_it_is_told_to_go_on_once() -> None:
    with serving() as served, served.connect() as connection:
        connection.sendall(post(b"hello", more="Expect: 100-continue\r\n")[:-5])
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"hello")
        assert read_one(connection) == (200, b"5")


def test_a_client_that_closed_its_half_gets_its_answer() -> None:
    with serving() as served, served.connect() as connection:
        connection.sendall(post(b"hello"))
        connection.shutdown(socket.SHUT_WR)

        assert read_all(connection).endswith(b"5")


SLOW = {
    "half a header": (b"POST /echo HTTP/1.1\r\nHost: x\r\nX-Ha", b"", 408, "headers"),
    "a byte now and then": (b"P", b"O", 408, "headers"),
    "half a body": (post(b"h" * 1000)[:-500], b"", 408, "body"),
    "a body byte by byte": (post(b"h" * 1000)[:-900], b"h", 408, "body"),
    "endless chunks": (b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 408, "body"),
}


@pytest.mark.parametrize(("first", "then", "status", "field"), SLOW.values(), ids=SLOW)
def test_a_request_that_takes_too_long_is_refused(first: bytes, then: bytes, status: int, field: str) -> None:
    with serving(SHORT) as served, served.connect() as connection:
        began = time.monotonic()
        connection.sendall(first)
        connection.settimeout(0.1)
        data = b""
        while time.monotonic() - began < 5 and b"\r\n\r\n" not in data:
            try:
                data += connection.recv(65536)
            except TimeoutError:
                connection.sendall(then)
        took = time.monotonic() - began
        connection.settimeout(5)
        data += read_all(connection)

    document = problem(data)
    assert document["status"] == status
    assert document["title"] == "Request timeout"
    assert document["detail"].startswith(f"{field}: got a part of ")
    assert 0.4 < took < 4.0
    assert served.ended == {"too_slow": 1}


def test_a_body_faster_than_the_slowest_rate_may_take_longer_than_a_stall() -> None:
    with serving(SHORT) as served, served.connect() as connection:
        began = time.monotonic()
        connection.sendall(post(b"h" * 3000)[:-3000])
        for _ in range(10):
            connection.sendall(b"h" * 300)
            time.sleep(0.1)

        assert read_one(connection) == (200, b"3000")
    assert time.monotonic() - began > SHORT.stall_seconds


def test_a_connection_without_a_request_is_closed_without_a_word() -> None:
    with serving(SHORT) as served, served.connect() as fresh, served.connect() as kept:
        kept.sendall(post())
        read_one(kept)

        assert fresh.recv(100) == kept.recv(100) == b""
    assert served.ended == {}


@pytest.mark.parametrize("path", ["/large", "/endless"])
def test_a_client_that_does_not_read_its_answer_is_cut_off_and_keeps_no_thread(path: str) -> None:
    with serving(SHORT, threads=2) as served, ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(served.connect()).sendall(post(path=path))
        wait_until(lambda: served.ended["answer_not_read"] == 4, 20)
        with served.connect() as connection:
            connection.sendall(post())
            assert read_one(connection) == (200, b"5")


def test_large_answers_that_are_not_read_leave_threads_free() -> None:
    with serving(threads=1) as served, ExitStack() as stack:
        limits_allow = served.connect()
        stack.enter_context(limits_allow).sendall(post(path="/large"))
        with served.connect() as connection:
            connection.settimeout(5)
            connection.sendall(post())
            assert read_one(connection) == (200, b"5")
        status, body = read_one(limits_allow)
        assert (status, len(body)) == (200, len(LARGE))


def test_one_more_connection_takes_the_place_of_the_one_that_waited_longest() -> None:
    with serving(Limits(connections=20)) as served, ExitStack() as stack:
        slow = [stack.enter_context(served.connect()) for _ in range(20)]
        for each in slow:
            each.sendall(b"POST /ech")
            time.sleep(0.01)
        for _ in range(5):
            with served.connect() as connection:
                connection.sendall(post())
                assert read_one(connection) == (200, b"5")
        slow[0].settimeout(5)
        assert read_all(slow[0]) == b""
        assert served.ended["no_place"] >= 1


def test_bodies_that_stall_give_their_room_to_others() -> None:
    limits = Limits(body_bytes=100_000)
    with serving(limits) as served, ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(served.connect()).sendall(post(b"h" * 90_000)[:-45_000])
        with served.connect() as small, served.connect() as large:
            began = time.monotonic()
            small.sendall(post())
            assert read_one(small) == (200, b"5")
            assert time.monotonic() - began < 1.0
            large.sendall(post(b"h" * 95_000))
            assert read_one(large) == (200, b"95000")
            assert time.monotonic() - began < limits.stall_seconds


def test_probes_are_answered_while_every_thread_is_busy() -> None:
    with serving(threads=1) as served, ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(served.connect()).sendall(post(path="/wait"))
        time.sleep(0.1)
        with served.connect() as connection:
            began = time.monotonic()
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_one(connection)[0] == 200
            assert time.monotonic() - began < 0.8


def test_who_waits_to_be_accepted_at_the_stop_is_answered() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    port = listener.getsockname()[1]
    loop = Loop([listener], app, LONG, threads=1, settings=Config())
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)) for _ in range(50)]
        for client in clients:
            client.sendall(post())
        thread = threading.Thread(target=loop.run, args=(lambda: False, lambda: None, 10.0))  # told to end already
        thread.start()
        answers = [read_all(client) for client in clients]
    thread.join(20)

    assert not thread.is_alive()
    assert all(answer.startswith(b"HTTP/1.1 200") and b"Connection: close" in answer for answer in answers)
