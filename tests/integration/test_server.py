"""The real server: gunicorn with our worker, spoken to by sockets, by real clients, and stopped while it works."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton

from kappawatt.bus import connect as connect_bus
from kappawatt.streams.table import TOPICS
from tests.conftest import wait_until
from tests.fakes import EXAMPLE
from tests.integration.processes import Process, get, stopped_at_the_end

BODY = json.dumps(EXAMPLE).encode()
KIND = b"content-type: application/json\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Two workers, as in production: a runtime that does not survive a fork would hang here."""
    process = Process(tmp_path_factory.mktemp("server"), "serve", "plant-power", "--workers", "2")
    with stopped_at_the_end(process):
        yield process.wait_ready()


def request(body: bytes = BODY, headers: bytes = KIND, path: bytes = b"/predict") -> bytes:
    length = b"content-length: %d\r\n" % len(body)
    return b"POST " + path + b" HTTP/1.1\r\nhost: x\r\n" + headers + length + b"\r\n" + body


def connect(server: Process) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """One answer off a connection that stays open."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536) or pytest.fail(f"closed after {data!r}")
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
    while len(body) < length:
        body += connection.recv(65536) or pytest.fail("closed inside a body")
    assert len(body) == length
    return int(head.split()[1]), body


def test_one_connection_carries_many_requests(server: Process) -> None:
    with connect(server) as connection:
        answers = set()
        for _ in range(200):
            connection.sendall(request())
            answers.add(read_answer(connection))

    assert len(answers) == 1
    assert answers.pop()[0] == 200


def test_a_request_that_arrives_byte_by_byte_is_answered_and_stops_nobody(server: Process) -> None:
    whole = request()
    with connect(server) as slow, connect(server) as quick:
        for i in range(len(whole) - 1):
            slow.sendall(whole[i : i + 1])
            if i % 40 == 0:
                quick.sendall(request())
                assert read_answer(quick)[0] == 200
        slow.sendall(whole[-1:])
        assert read_answer(slow)[0] == 200


def test_a_refused_request_leaves_the_connection_usable(server: Process) -> None:
    with connect(server) as connection:
        for body, headers, status in (
            (BODY, b"content-type: text/xml\r\n", 415),
            (b"{", KIND, 400),
            (b'{"exhaust_vacuum": 1}', KIND, 422),
            (b"[" * 5000, KIND, 400),
            (BODY, KIND, 200),
        ):
            connection.sendall(request(body, headers))
            assert read_answer(connection)[0] == status


def test_pipelined_requests_are_answered_in_order(server: Process) -> None:
    with connect(server) as connection:
        connection.sendall(request() + request(b"{") + request())
        statuses, data = [], b""
        connection.settimeout(5)
        while len(statuses) < 3:
            try:
                data += connection.recv(65536)
            except TimeoutError:
                break
            statuses = [int(s) for s in re.findall(rb"HTTP/1\.1 (\d+)", data)]

    assert statuses == [200, 400, 200]


def test_a_chunked_body_is_read(server: Process) -> None:
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\n" + KIND + b"transfer-encoding: chunked\r\n\r\n"
    with connect(server) as connection:
        connection.sendall(head + b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n")
        assert read_answer(connection)[0] == 200


@pytest.mark.parametrize("noise", [b"GARBAGE\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n"])
def test_noise_on_the_port_harms_nobody(server: Process, noise: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(noise)
        connection.settimeout(2)
        try:
            while connection.recv(65536):
                pass
        except OSError:
            pass

    assert get(server.url("/healthz"))[0] == 200


def test_clients_that_hang_up_harm_nobody(server: Process) -> None:
    for cut in (10, len(request()) // 2, len(request())):
        with connect(server) as connection:
            connection.sendall(request()[:cut])

    assert get(server.url("/healthz"))[0] == 200


@pytest.mark.parametrize("binary", [False, True])
def test_tritonclient_accepts_the_open_inference_endpoint(server: Process, binary: bool) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    inputs = []
    for name, value in EXAMPLE.items():
        tensor = triton.InferInput(name, [3], "FP64")
        tensor.set_data_from_numpy(np.full(3, value), binary_data=binary)
        inputs.append(tensor)
    outputs = [triton.InferRequestedOutput(n, binary_data=binary) for n in ("net_power", "extrapolated")]

    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("plant-power")
    metadata = client.get_model_metadata("plant-power")
    result = client.infer("plant-power", inputs, outputs=outputs, request_id="7")

    expected = json.loads(post_predict(server))["net_power"]
    assert [t["name"] for t in metadata["inputs"]][:4] == list(EXAMPLE)
    assert result.as_numpy("net_power").tolist() == [expected] * 3
    assert result.as_numpy("extrapolated").tolist() == [False] * 3
    assert result.get_response()["id"] == "7"
    client.close()


def post_predict(server: Process) -> bytes:
    with connect(server) as connection:
        connection.sendall(request())
        return read_answer(connection)[1]


def test_metrics_add_up_over_all_workers(server: Process) -> None:
    def rows() -> float:
        text = get(server.url("/metrics"))[1].decode()
        found = re.search(r'kappawatt_rows_total\{door="http".*\} ([\d.]+)', text)
        return float(found[1]) if found else 0.0

    before = rows()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: post_predict(server), range(100)))

    assert rows() - before == 100


def test_sigterm_finishes_the_requests_at_hand(tmp_path: Path) -> None:
    process = Process(tmp_path, "serve", "plant-power").wait_ready()
    rows = json.dumps({"columns": {n: [v] * 50_000 for n, v in EXAMPLE.items()}}).encode()
    with stopped_at_the_end(process), connect(process) as connection:
        connection.settimeout(60)
        connection.sendall(request(rows))
        time.sleep(0.05)
        process.process.terminate()
        status, body = read_answer(connection)

        assert status == 200
        assert len(json.loads(body)["columns"]["net_power"]) == 50_000
        assert process.process.wait(30) == 0


def test_a_service_that_is_one_process_listens_on_the_port_of_serve(tmp_path: Path) -> None:
    bus = f"embedded:{tmp_path}/bus.sqlite"
    stored = {"KAPPAWATT_BUS": bus, "KAPPAWATT_DATABASE": f"duckdb:{tmp_path}/kappawatt.duckdb"}
    made = connect_bus(bus)
    made.ensure(TOPICS)
    made.close()
    process = Process(tmp_path, "consume", "sink", KAPPAWATT_PROBE_PORT="0", **stored)
    with stopped_at_the_end(process):
        process.wait_ready()

        assert get(process.url("/queries"))[0] == 200


def test_a_dead_worker_is_replaced(tmp_path: Path) -> None:
    process = Process(tmp_path, "serve", "plant-power", "--workers", "2").wait_ready()
    with stopped_at_the_end(process):
        children = subprocess.run(["pgrep", "-P", str(process.process.pid)], capture_output=True, text=True, check=True)
        os.kill(int(children.stdout.split()[0]), 9)

        wait_until(lambda: get(process.url("/readyz"))[0] == 200, 20)
        assert json.loads(post_predict(process))["net_power"] > 0


def test_many_clients_at_once_all_get_their_own_answer(server: Process) -> None:
    wrong: list[object] = []

    def client(i: int) -> None:
        body = json.dumps(EXAMPLE | {"ambient_temperature": 5.0 + i}).encode()
        answers = set()
        with connect(server) as connection:
            for _ in range(50):
                connection.sendall(request(body))
                answers.add(read_answer(connection))
        if len(answers) != 1:
            wrong.append((i, answers))

    threads = [threading.Thread(target=client, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert not wrong


@pytest.mark.parametrize("variable", ["KAPPAWATT_WORKERS=many", "KAPPAWATT_BUS=rabbit://x", "KAPPAWATT_LOG_LEVEL=LOUD"])
def test_an_unusable_setting_stops_the_process_and_is_named(tmp_path: Path, variable: str) -> None:
    name, value = variable.split("=")
    process = Process(tmp_path, "consume", "plant-power", **{name: value})

    assert process.process.wait(30) != 0
    text = process.log.read_text()
    assert value in text
    assert "allowed" in text
    assert "Traceback" not in text
