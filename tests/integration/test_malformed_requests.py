"""What is no request gets a problem document and a closed connection, from every kind of server."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from tests.conftest import wait_until
from tests.integration.processes import Process, get, stopped_at_the_end

DOORS = {"plant-power": b"/predict", "sensor-ingestor": b"/readings/plant-1", "gateway": b"/api/plant-power/predict"}
SERVICES = list(DOORS)
HOST = b"Host: localhost\r\n"
POST = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

MALFORMED = {
    "words": (b"GARBAGE\r\n\r\n", 400, "request"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "request"),
    "HTTP/0.9": (b"GET /healthz\r\n", 400, "request"),
    "HTTP/9.9": (b"GET /healthz HTTP/9.9\r\n" + HOST + b"\r\n", 400, ""),
    "no path": (b"GET  HTTP/1.1\r\n" + HOST + b"\r\n", 400, "request"),
    "a path that is no ASCII": (b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n", 400, "request"),
    "a method in small letters": (b"get / HTTP/1.1\r\n" + HOST + b"\r\n", 400, "method"),
    "a long line": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "request line"),
    "a long header": (b"GET / HTTP/1.1\r\nX-Long: " + b"a" * 9000 + b"\r\n\r\n", 431, "headers"),
    "many headers": (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431, "headers"),
    "headers without an end": (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 8000, 431, "headers"),
    "a header without a colon": (b"GET / HTTP/1.1\r\nHost x\r\n\r\n", 400, "request"),
    "a blank before the colon": (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400, "header"),
    "a folded header": (b"GET / HTTP/1.1\r\nHost: x\r\n y\r\n\r\n", 400, "header"),
    "a NUL in a header": (b"GET / HTTP/1.1\r\nHost: x\x00y\r\n\r\n", 400, "header"),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400, "header"),
    "two lengths": (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}", 400, "header"),
    "a length that is none": (POST + b"Content-Length: -1\r\n\r\n", 400, "header"),
    "a length and chunks": (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "header"),
    "chunks of HTTP/1.0": (CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n", 400, "header"),
    "an unknown coding": (POST + b"Transfer-Encoding: cheese\r\n\r\n", 400, ""),
    "another expectation": (POST + b"Expect: cheese\r\nContent-Length: 2\r\n\r\n{}", 417, "expect"),
    "a script name from elsewhere": (b"GET /healthz HTTP/1.1\r\nSCRIPT_NAME: /other\r\n\r\n", 400, "header"),
    "chunks over the limit": (CHUNKED + b"ffffffff\r\n", 413, "body"),
    "a number of chunks that is none": (CHUNKED + b"xyz\r\n{}\r\n0\r\n\r\n", 400, "body"),
    "a chunk without its end": (CHUNKED + b"2\r\n{}0\r\n\r\n", 400, "body"),
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Process]]:
    folder = tmp_path_factory.mktemp("malformed")
    bus = f"embedded:{folder / 'bus.sqlite'}"
    model = Process(folder, "serve", "plant-power", KAPPAWATT_BUS=bus)
    services = f"plant-power=http://127.0.0.1:{model.port}"
    others = [Process(folder, "serve", name, KAPPAWATT_BUS=bus, KAPPAWATT_SERVICES=services) for name in SERVICES[1:]]
    found = dict(zip(SERVICES, [model, *others], strict=True))
    with stopped_at_the_end(*found.values()):
        for process in found.values():
            wait_alive(process)
        yield found


def wait_alive(process: Process) -> None:
    wait_until(lambda: get(process.url("/healthz"))[0] == 200, 60, "alive")


def ask(server: Process, sent: bytes) -> bytes:
    """All that comes until the server closes."""
    data = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(sent)
        while piece := connection.recv(65536):
            data += piece
    return data


@pytest.mark.parametrize(("sent", "status", "field"), MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("service", SERVICES)
def test_what_is_no_request_gets_a_problem_document_and_a_closed_connection(
    servers: dict[str, Process], service: str, sent: bytes, status: int, field: str
) -> None:
    sent = sent.replace(b"POST /predict", b"POST " + DOORS[service])
    head, _, body = ask(servers[service], sent).partition(b"\r\n\r\n")

    lines = head.lower().split(b"\r\n")
    document = json.loads(body)
    assert lines[0].startswith(b"http/1.1 %d " % status)
    assert b"content-type: application/problem+json" in lines
    assert b"connection: close" in lines
    assert document["type"] == "about:blank"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"].startswith(field)
    assert f"x-request-id: {document['request_id']}".encode() in lines
