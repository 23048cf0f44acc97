"""What a reader's key may do at real servers, by requests that no client library would send."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kappawatt.bus import connect
from kappawatt.streams.table import TOPICS
from tests.integration.processes import Process, stopped_at_the_end

BODY = b'{"ambient_temperature":14.96,"exhaust_vacuum":41.76,"ambient_pressure":1024.07,"relative_humidity":73.17}'
HEADERS = b"X-API-Key: reader\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(BODY)
DOOR = "/api/sensor-ingestor/readings/predict"
TARGETS = [
    DOOR, f"/{DOOR}", f"//{DOOR}", DOOR.replace("/", "//"), f"{DOOR}/", f"{DOOR}?a=/predict", f"{DOOR}#/predict",
    f"http://localhost{DOOR}", f"http://evil.example{DOOR}", f"HTTP://LOCALHOST{DOOR}", f"http:{DOOR}", DOOR.upper(),
    f"/api/sensor-ingestor/predict/..{DOOR.removeprefix('/api/sensor-ingestor')}", f"/x/../{DOOR}", f"/./{DOOR}",
    "/api/sensor-ingestor/readings/x%2Fpredict", "/api/sensor-ingestor/readings%2Fpredict",
    "/api/sensor-ingestor/%72eadings/predict", "/api/sensor-ingestor/%2572eadings/predict",
    "/api/sensor-ingestor%2Freadings%2Fpredict", "/%61pi/sensor-ingestor/readings/predict",
    "/api/sensor-ingestor/predict%00/../readings/predict", "/api/sensor-ingestor/readings;/predict",
    "/api/sensor-ingestor/readings/predict%20", "/api/sensor-ingestor/\\readings/predict",
    "/api/plant-power/../sensor-ingestor/readings/predict", "*", "sensor-ingestor:80", "", "/api/latest/..%2freadings",
]  # fmt: skip
MORE = [
    b"", b"X-HTTP-Method-Override: GET\r\n", b"Transfer-Encoding: identity\r\n", b"Expect: 100-continue\r\n",
    b"Connection: X-API-Key\r\n", b"Connection: close, Content-Length\r\n", b"X-API-Key: writer2\r\n",
    b"X-Forwarded-Prefix: /api/plant-power\r\n", b"X-Original-URL: /api/plant-power/predict\r\n", b"Upgrade: h2c\r\n",
    b"Origin: http://[::1\r\n",
]  # fmt: skip


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder: Path = tmp_path_factory.mktemp("gateway")
    keys = folder / "keys"
    roles = ("reader", "writer")
    keys.write_text("".join(f"{role}:{hashlib.sha256(role.encode()).hexdigest()}:{role}\n" for role in roles))
    bus = f"embedded:{folder}/bus.sqlite"
    made = connect(bus)
    made.ensure(TOPICS)
    made.close()
    ingestor = Process(folder, "serve", "sensor-ingestor", KAPPAWATT_BUS=bus)
    gateway = Process(
        folder,
        "serve",
        "gateway",
        KAPPAWATT_BUS=bus,
        KAPPAWATT_API_KEYS=str(keys),
        KAPPAWATT_RATE_LIMIT="100000/second",
        KAPPAWATT_SERVICES=f"sensor-ingestor=http://127.0.0.1:{ingestor.port}",
    )
    with stopped_at_the_end(ingestor, gateway):
        ingestor.wait_ready()
        yield gateway.wait_ready()


def ask(gateway: Process, content: bytes) -> bytes:
    """Send bytes and return the answer's first line and content type."""
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as connection:
        connection.sendall(content)
        connection.settimeout(10)
        answer = b""
        while b"\r\n\r\n" not in answer and (more := connection.recv(65536)):
            answer += more
    return answer


def stored(gateway: Process) -> int:
    bus = connect(gateway.environment["KAPPAWATT_BUS"])
    count = sum(each.end for each in bus.offsets("plant.readings").values())
    bus.close()
    return count


def test_no_request_line_and_no_header_lets_a_reader_write(gateway: Process) -> None:
    before = stored(gateway)
    statuses = {}
    for target in TARGETS:
        for method in ("POST", "post", "GET", "PUT", "QUERY"):
            for more in MORE:
                head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n".encode()
                answer = ask(gateway, head + more + HEADERS + b"Connection: close\r\n\r\n" + BODY)
                statuses[method, target, more] = answer[9:12]

    assert stored(gateway) == before
    assert not {what: status for what, status in statuses.items() if status[:1] in (b"2", b"5")}


def test_a_second_request_behind_the_first_is_asked_for_its_own_key(gateway: Process) -> None:
    before = stored(gateway)
    inner = f"POST {DOOR} HTTP/1.1\r\nHost: localhost\r\n".encode() + HEADERS + b"\r\n" + BODY
    for length in (0, len(BODY), 3):
        head = b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        ask(gateway, head + b"Content-Length: %d\r\n\r\n" % length + inner)
        ask(gateway, head + b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % length + inner)

    assert stored(gateway) == before


def test_the_plain_request_of_a_writer_writes(gateway: Process) -> None:
    before = stored(gateway)
    head = f"POST {DOOR} HTTP/1.1\r\nHost: localhost\r\n".encode()

    answer = ask(gateway, head + HEADERS.replace(b"reader", b"writer") + b"Connection: close\r\n\r\n" + BODY)

    assert answer.startswith(b"HTTP/1.1 202")
    assert stored(gateway) == before + 1
