"""Files at a steady rate: forms, clock, retries, refusals."""

from __future__ import annotations

import gzip
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from werkzeug.serving import make_server

from kappawatt.bus import connect
from kappawatt.columns.arrow import write_columns
from kappawatt.columns.batch import Batch
from kappawatt.errors import DeliveryFailed, KappawattError, PayloadInvalid
from kappawatt.ingest import Sent, bus_sender, http_sender, read_file, send_columns, send_file, senders
from kappawatt.services.sensor_ingestor.service import SERVICE
from kappawatt.serving.app import create_app
from kappawatt.settings import Settings
from kappawatt.streams.plant import STREAM as PLANT
from kappawatt.streams.table import TOPICS

ROW = "14.96,41.76,1024.07,73.17,463.26"
COLUMNS = {
    "ambient_temperature": np.full(3, 14.96),
    "exhaust_vacuum": np.full(3, 41.76),
    "ambient_pressure": np.full(3, 1024.07),
    "relative_humidity": np.full(3, 73.17),
}


class Collected:
    """A sender that keeps what it is given, and when."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.times: list[float] = []

    def __call__(self, batch: Batch) -> Sent:
        self.batches.append(batch)
        self.times.append(time.monotonic())
        return Sent(len(batch))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", f"AT,V,AP,RH,PE\n{ROW}\n{ROW}\n{ROW}\n".encode()),
        ("a.csv", f",AT,V,AP,RH,PE\n1,{ROW}\n2,{ROW}\n3,{ROW}\n".encode()),
        ("a.csv", f"{ROW}\r\n{ROW}\r\n\r\n{ROW}".encode()),
        ("a.csv.gz", gzip.compress(f"\ufeffAT,V,AP,RH,PE\n{ROW}\n{ROW}\n{ROW}\n".encode())),
        (
            "a.ndjson",
            b"\n".join([orjson.dumps({n: c[0] for n, c in COLUMNS.items()}, option=orjson.OPT_SERIALIZE_NUMPY)] * 3),
        ),
        ("a.arrow", write_columns(COLUMNS)),
    ],
    ids=["header", "running_number", "no_header", "gzip_and_byte_order_mark", "ndjson", "arrow"],
)
def test_every_form_of_file_is_read(tmp_path: Path, name: str, content: bytes) -> None:
    source = tmp_path / name
    source.write_bytes(content)
    sent = Collected()

    summary = send_file(PLANT, source, send=sent, rate=1e6, progress=False)

    assert (summary.rows, summary.accepted, summary.refused) == (3, 3, 0)
    assert {float(b.columns["ambient_pressure"][0]) for b in sent.batches} == {1024.07}


def test_a_file_of_one_row_without_header_is_one_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(ROW)

    assert [len(batch) for _, batch in read_file(PLANT, tmp_path / "a.csv")] == [1]


def test_a_large_file_is_read_in_blocks_with_its_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("AP,AT,V,RH\n" + "1024.07,14.96,41.76,73.17\n" * 25_000)

    parts = list(read_file(PLANT, tmp_path / "a.csv"))

    assert sum(len(batch) for _, batch in parts) == 25_000
    assert max(len(batch) for _, batch in parts) == 10_000
    assert int(parts[-1][0][-1]) == 25_001
    assert all(batch.valid.all() for _, batch in parts)


def test_refused_rows_are_named_by_line_and_the_others_sent(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text(f'AT,V,AP,RH,PE\n{ROW}\n14,41,1024,700\n"14,41\n{ROW}\n')

    summary = send_file(PLANT, source, send=Collected(), rate=1e6, progress=False)

    assert (summary.rows, summary.accepted, summary.refused) == (4, 2, 2)
    assert summary.refusals[0].startswith("row 3 refused: relative_humidity: got 700.0, allowed")
    assert summary.refusals[1].startswith("row 4 refused")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.parquet", b"PAR1"),
        ("a.csv", b""),
        ("a.csv", b"AT,V,AP,RH\n"),
        ("a.csv.gz", b"no"),
        ("a.csv", b"AT,X\n1,2\n"),
        ("a.arrow", b"no"),
    ],
)
def test_a_file_that_is_no_file_of_readings_says_so(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(PayloadInvalid, match="allowed"):
        send_file(PLANT, tmp_path / name, send=Collected(), rate=10, progress=False)


def test_slow_rates_send_row_by_row_on_time(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{ROW}\n" * 9)
    sent = Collected()

    send_file(PLANT, tmp_path / "a.csv", send=sent, rate=20, progress=False)

    assert [len(batch) for batch in sent.batches] == [1] * 9
    drift = [t - sent.times[0] - i / 20 for i, t in enumerate(sent.times)]
    assert max(map(abs, drift)) < 0.045


def test_a_slow_sender_does_not_slow_the_clock(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{ROW}\n" * 1000)

    def slow(batch: Batch) -> Sent:
        time.sleep(0.12)
        return Sent(len(batch))

    summary = send_file(PLANT, tmp_path / "a.csv", send=slow, rate=1000, progress=False)

    assert summary.seconds == pytest.approx(1.0, abs=0.35)


def test_fast_rates_are_reached_by_batches(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{ROW}\n" * 60_000)
    sent = Collected()

    began = time.thread_time()  # what it takes itself: others on this machine take of the clock

    summary = send_file(PLANT, tmp_path / "a.csv", send=sent, rate=60_000, progress=False)

    assert summary.rows / (time.thread_time() - began) > 60_000
    assert len(sent.batches) < 60


def test_a_loop_goes_on_until_ctrl_c_and_sums_up(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{ROW}\n" * 10)
    calls: list[int] = []

    def send(batch: Batch) -> Sent:
        calls.append(len(batch))
        if sum(calls) > 25:
            raise KeyboardInterrupt
        return Sent(len(batch))

    summary = send_file(PLANT, tmp_path / "a.csv", send=send, rate=10_000, loop=True, progress=False)

    assert summary.is_interrupted
    assert summary.unconfirmed == calls[-1]
    assert summary.rows == summary.accepted + summary.unconfirmed
    assert "interrupted" in str(summary)


def test_columns_in_memory_stream_until_stopped() -> None:
    stopped = threading.Event()
    sent = Collected()

    def send(batch: Batch) -> Sent:
        if len(sent.batches) == 4:
            stopped.set()
        return sent(batch)

    summary = send_columns(PLANT, COLUMNS, send=send, rate=200, loop=True, stopped=stopped)

    assert len(sent.batches) == 5
    assert summary.accepted == sum(len(batch) for batch in sent.batches)


def test_a_slow_clock_stops_at_once() -> None:
    stopped = threading.Event()
    threading.Timer(0.2, stopped.set).start()
    started = time.monotonic()

    summary = send_columns(PLANT, COLUMNS, send=Collected(), rate=0.01, loop=True, stopped=stopped)

    assert time.monotonic() - started < 5
    assert summary.rows == summary.accepted == 1


def test_the_bar_shows_refused_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text(f"{ROW}\n14,41,1024,700\n")

    send_file(PLANT, tmp_path / "a.csv", send=Collected(), rate=1e6)

    assert "row 2 refused: relative_humidity" in capsys.readouterr().err


class Flaky(BaseHTTPRequestHandler):
    """Answers what the script says, one entry a request: a status, or None to hang up."""

    script: list[tuple[int, dict[str, str]] | None]
    keys: list[str]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.keys.append(self.headers["Idempotency-Key"])
        step = self.script.pop(0) if self.script else (202, {})
        if step is None:
            self.connection.close()
            return
        status, headers = step
        body = orjson.dumps({"accepted": 1, "rejected": 0, "detail": "so it is"})
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def flaky() -> Iterator[tuple[str, type[Flaky]]]:
    handler = type("Handler", (Flaky,), {"script": [], "keys": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    server.server_close()
    thread.join()


def one_row() -> Batch:
    from kappawatt.streams.plant import READING

    return READING.check({name: column[:1] for name, column in COLUMNS.items()}, 1)


def test_every_retry_has_the_same_idempotency_key_and_the_next_request_another(
    flaky: tuple[str, type[Flaky]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, server = flaky
    monkeypatch.setattr(senders, "BACKOFF_SECONDS", (0.01, 0.05))
    server.script += [(429, {"Retry-After": "0"}), (503, {}), None, (409, {"Retry-After": "0"})]
    send = http_sender(PLANT, url, "p")

    first, second = send(one_row()), send(one_row())

    assert (first.retries, second.retries) == (4, 0)
    assert len(set(server.keys[:5])) == 1
    assert server.keys[5] != server.keys[4]


def test_retry_after_is_honoured(flaky: tuple[str, type[Flaky]]) -> None:
    url, server = flaky
    server.script += [(429, {"Retry-After": "1"})]
    started = time.monotonic()

    http_sender(PLANT, url, "p")(one_row())

    assert time.monotonic() - started >= 1.0


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senders, "BACKOFF_SECONDS", (0.01, 0.02))

    with pytest.raises(DeliveryFailed, match="given up"):
        http_sender(PLANT, "http://127.0.0.1:9", "p", patience=0.2)(one_row())


def test_an_answer_that_no_retry_changes_is_an_error(flaky: tuple[str, type[Flaky]]) -> None:
    url, server = flaky
    server.script += [(401, {})]

    with pytest.raises(KappawattError, match="401"):
        http_sender(PLANT, url, "p")(one_row())


def test_rows_arrive_once_through_a_real_ingestor(tmp_path: Path) -> None:
    settings = Settings.read({}, bus=f"embedded:{tmp_path}/bus.sqlite")
    bus = connect(settings.bus)
    bus.ensure(TOPICS)
    server = make_server("127.0.0.1", 0, create_app(SERVICE, settings), threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    (tmp_path / "a.csv").write_text("AT,V,AP,RH,PE\n" + f"{ROW}\n" * 500)

    send = http_sender(PLANT, f"http://127.0.0.1:{server.server_port}", "plant-1")
    summary = send_file(PLANT, tmp_path / "a.csv", send=send, rate=2_000, progress=False)

    server.shutdown()
    thread.join()
    server.server_close()
    assert (summary.accepted, summary.refused) == (500, 0)
    assert count_rows(bus) == 500


def test_rows_arrive_on_the_bus_directly(tmp_path: Path) -> None:
    bus = connect(f"embedded:{tmp_path}/bus.sqlite")
    (tmp_path / "a.csv").write_text(f"{ROW}\n" * 500)

    summary = send_file(PLANT, tmp_path / "a.csv", send=bus_sender(PLANT, bus, "plant-1"), rate=1e6, progress=False)

    assert summary.accepted == 500
    assert count_rows(bus) == 500


def count_rows(bus: Any) -> int:
    from kappawatt.columns.codec import decode
    from kappawatt.messages.readings import content_type
    from kappawatt.streams.plant import READING

    reader = bus.reader(["plant.readings"], {})
    total = 0
    while polled := reader.poll(0.2):
        for records in polled:
            for value, headers in zip(records.values, records.headers, strict=True):
                total += int(decode(value, content_type(headers, value), READING).batch.valid.sum())
    return total


@pytest.mark.skipif("KAPPAWATT_DATA" not in os.environ, reason="KAPPAWATT_DATA names no folder of data sets")
def test_the_published_events_file_is_read_whole() -> None:
    source = Path(os.environ["KAPPAWATT_DATA"]) / "ccpp" / "ccgt_events_shared.csv.gz"

    batches = [batch for _, batch in read_file(PLANT, source)]

    assert sum(len(batch) for batch in batches) == 19_152
    assert all(batch.valid.all() for batch in batches)
