"""`kappawatt ingest`: a file of readings, row by row at a steady rate, to an ingestor or straight to the bus.

Nothing is lost or doubled on the way to an ingestor: a request that got no answer is sent again with the same
Idempotency-Key. Straight to the bus it is at least once.
"""

from __future__ import annotations

import gzip
import itertools
import logging
import random
import re
import secrets
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from kappawatt.arrow import write_columns
from kappawatt.batch import Batch, Columns, Rejection
from kappawatt.bus.interface import Bus, Headers, Outgoing, Producer
from kappawatt.bus.topics import PLANT_READINGS
from kappawatt.bus.worker import BLOCK_ROWS_MOST
from kappawatt.codec import ARROW, CSV, JSON, NDJSON, decode
from kappawatt.errors import (
    BusError,
    DeliveryFailed,
    KappawattError,
    Overloaded,
    PayloadInvalid,
    SettingInvalid,
    TopicUnknown,
)
from kappawatt.events.plant import READING

__all__ = [
    "Send",
    "Sent",
    "Summary",
    "bus_sender",
    "http_sender",
    "ingest",
    "new_traceparent",
    "read_file",
    "reading_messages",
    "stream_columns",
]

log = logging.getLogger(__name__)

BLOCK_ROWS = 64  # from so many rows on a request or message is an Arrow block
TICK_SECONDS = 0.05  # above 20 rows a second, rows that fall due within this time travel together
PATIENCE_SECONDS = 300.0  # how long one send is retried
BACKOFF_SECONDS = (0.1, 5.0)
FIRST_SAID = 3  # of the failed tries, so that nobody watches in silence
REFUSALS_SHOWN = 100
FORMATS = {
    ".csv": CSV,
    ".ndjson": NDJSON,
    ".jsonl": NDJSON,
    ".arrow": ARROW,
    ".arrows": ARROW,
}


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one send.

    Parameters
    ----------
    accepted, refused : int
        Rows.
    rejections : tuple of Rejection
        Reasons, with the row's position in the batch; the door may name only the first of many.
    retries : int
    """

    accepted: int
    refused: int = 0
    rejections: tuple[Rejection, ...] = ()
    retries: int = 0


Send = Callable[[Batch], Sent]
Numbered = tuple[NDArray[np.int64], Batch]  # rows and their numbers in the source


@dataclass(slots=True)
class Summary:
    """What became of a file.

    Parameters
    ----------
    rows : int
        Read; accepted + refused + unconfirmed.
    unconfirmed : int
        Sent when Ctrl-C came, before there was an answer.
    refusals : list of str
        The first hundred, each with line and reason.
    """

    rows: int = 0
    accepted: int = 0
    refused: int = 0
    unconfirmed: int = 0
    retries: int = 0
    seconds: float = 0.0
    is_interrupted: bool = False
    refusals: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        speed = self.rows / self.seconds if self.seconds else 0.0
        text = (
            f"{self.rows:,} rows in {self.seconds:.1f} s ({speed:,.1f} rows/s): "
            f"{self.accepted:,} accepted, {self.refused:,} refused, {self.retries:,} retries"
        )
        if self.unconfirmed:
            text += f", {self.unconfirmed:,} without an answer yet"
        return text + (" (interrupted)" if self.is_interrupted else "")


def ingest(
    source: Path,
    *,
    send: Send,
    rate: float,
    loop: bool = False,
    progress: bool = True,
) -> Summary:
    """Stream a file at `rate` rows a second until its end, for ever if `loop`, or until Ctrl-C.

    The clock has no drift: row i is due `i / rate` seconds after the first, and after an outage what is
    overdue follows as fast as the other side takes it.

    Parameters
    ----------
    source : Path
        `.csv`, `.ndjson` or `.arrow`, each also with `.gz`. CSV with header (CCPP's AT, V, AP, RH, PE or full
        names; an unnamed running number in front is left out), or without in this order.
    send : callable
        `http_sender(...)` or `bus_sender(...)`; gets valid rows only.
    rate : float
        Rows a second, above 0.
    progress : bool
        Show a bar, and each refused row with its reason, on standard error.

    Raises
    ------
    PayloadInvalid
        The file is none of the formats above.
    DeliveryFailed
        The other side did not take rows for five minutes.
    """
    return _stream(_repeat(source, loop), send, rate, progress, threading.Event())


def stream_columns(
    columns: Columns,
    *,
    send: Send,
    rate: float,
    loop: bool = False,
    progress: bool = False,
    stopped: threading.Event | None = None,
) -> Summary:
    """Stream readings that are in memory, as `ingest` does a file, until `stopped` is set."""
    n = len(next(iter(columns.values())))
    whole = READING.check(columns, n)
    parts = [(_span(start, n) + 1, whole.take(_span(start, n))) for start in range(0, n, BLOCK_ROWS_MOST)]
    source = itertools.cycle(parts) if loop else iter(parts)
    return _stream(source, send, rate, progress, stopped or threading.Event())


def _span(start: int, n: int) -> NDArray[np.intp]:
    return np.arange(start, min(start + BLOCK_ROWS_MOST, n))


def _stream(source: Iterator[Numbered], send: Send, rate: float, progress: bool, stopped: threading.Event) -> Summary:
    summary = Summary()
    with _Bar(progress) as bar:
        clock = _Clock(rate, stopped)
        try:
            for lines, batch in source:
                _send_batch(lines, batch, send, clock, summary, bar)
                if stopped.is_set():
                    break
        except KeyboardInterrupt:
            summary.is_interrupted = True
        finally:
            summary.seconds = clock.elapsed
    return summary


def _send_batch(lines: NDArray[np.int64], batch: Batch, send: Send, clock: _Clock, summary: Summary, bar: _Bar) -> None:
    start = 0
    while start < len(batch):
        count = min(clock.wait(), len(batch) - start)
        if clock.is_stopped:
            return
        part = batch.take(np.arange(start, start + count))
        good = np.flatnonzero(part.valid)
        clock.take(count)
        summary.rows += count
        summary.unconfirmed = len(good)
        sent = send(part if len(good) == count else part.take(good)) if len(good) else Sent(0)
        summary.unconfirmed = 0
        summary.accepted += sent.accepted
        summary.refused += count - len(good) + sent.refused
        summary.retries += sent.retries
        refused = [(int(lines[start + r.row]), r) for r in part.rejections]
        refused += [(int(lines[start + good[r.row]]), r) for r in sent.rejections]
        _report(refused, summary, bar)
        bar.update(count, summary)
        start += count


def _report(refused: list[tuple[int, Rejection]], summary: Summary, bar: _Bar) -> None:
    for line, rejection in refused:
        if len(summary.refusals) == REFUSALS_SHOWN:
            return
        text = f"row {line} refused: {rejection.message}"
        summary.refusals.append(text)
        bar.write(text)
        if len(summary.refusals) == REFUSALS_SHOWN:
            bar.write("further refused rows are only counted")


class _Clock:
    """Says how many rows are due. Due times are computed from the start, so that errors do not add up."""

    def __init__(self, rate: float, stopped: threading.Event) -> None:
        self._stopped = stopped
        self._rate = rate
        self._tick = TICK_SECONDS if rate > 1 / TICK_SECONDS else 0.0
        self._start = self._last = time.monotonic()
        self._taken = 0

    @property
    def is_stopped(self) -> bool:
        """Whether nothing more is wanted."""
        return self._stopped.is_set()

    @property
    def elapsed(self) -> float:
        """Seconds since the first row was due."""
        return time.monotonic() - self._start

    def wait(self) -> int:
        """Sleep until a row is due; return how many are, at most a block."""
        due = self._start + self._taken / self._rate
        if self._taken:
            due = max(due, self._last + self._tick)
        pause = due - time.monotonic()
        if pause > 0:
            self._stopped.wait(pause)
        self._last = max(due, time.monotonic())
        count = int((self._last - self._start) * self._rate) + 1 - self._taken
        return max(1, min(count, BLOCK_ROWS_MOST))

    def take(self, count: int) -> None:
        """Note that `count` rows were sent."""
        self._taken += count


class _Bar:
    """A progress bar, or silence."""

    def __init__(self, is_shown: bool) -> None:
        self._bar: Any = None
        if is_shown:
            from tqdm import tqdm

            self._bar = tqdm(unit=" rows", unit_scale=True, dynamic_ncols=True, file=sys.stderr)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, count: int, summary: Summary) -> None:
        if self._bar is not None:
            self._bar.set_postfix(refused=summary.refused, refresh=False)
            self._bar.update(count)

    def write(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)


# --- files --------------------------------------------------------------------------------------------------


def _repeat(source: Path, loop: bool) -> Iterator[Numbered]:
    while True:
        is_empty = True
        for part in read_file(source):
            is_empty = False
            yield part
        if is_empty:
            raise PayloadInvalid(f"{source}: got no row, allowed 1 row of {READING.name} or more")
        if not loop:
            return


def read_file(source: Path) -> Iterator[Numbered]:
    """Yield the rows of a file in batches of at most 10,000, each with the rows' numbers.

    A row's number is its line in the file (from 1), or its position (from 1) in Arrow.
    """
    suffixes = source.suffixes
    is_packed = suffixes[-1:] == [".gz"]
    kind = FORMATS.get("".join(suffixes[-2:-1] if is_packed else suffixes[-1:]).lower())
    if kind is None:
        raise PayloadInvalid(f"{source}: got {source.suffix!r}, allowed {', '.join(FORMATS)}, each also with .gz")
    with _opened(source, is_packed) as file:
        try:
            if kind == ARROW:
                yield from _read_arrow(file)
            else:
                yield from _read_lines(file, kind)
        except (gzip.BadGzipFile, EOFError) as error:
            raise PayloadInvalid(f"{source}: got damaged gzip ({error}), allowed gzip") from None
        except PayloadInvalid as error:
            raise PayloadInvalid(f"{source}: {error}") from None


def _opened(source: Path, is_packed: bool) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(source)) if is_packed else source.open("rb")


def _read_lines(file: IO[bytes], kind: str) -> Iterator[Numbered]:
    numbered = ((n, line.strip()) for n, line in enumerate(file, 1) if line.strip())
    chunk = list(itertools.islice(numbered, BLOCK_ROWS_MOST))
    head = b""
    if kind == CSV and chunk and _has_header([line for _, line in chunk[:2]]):
        head = chunk[0][1].removeprefix(b"\xef\xbb\xbf") + b"\n"
        chunk = chunk[1:]
    while chunk:
        lines = np.array([n for n, _ in chunk], dtype=np.int64)
        values = [line for _, line in chunk]
        try:
            batch = decode(head + b"\n".join(values), kind, READING).batch
            if len(batch) != len(lines):
                raise PayloadInvalid("got rows over several lines, allowed one line a row")
            yield lines, batch
        except PayloadInvalid:
            for n, value in chunk:
                yield np.array([n]), _decode_line(head, value, kind)
        chunk = list(itertools.islice(numbered, BLOCK_ROWS_MOST))


def _has_header(lines: list[bytes]) -> bool:
    """The codec knows a header when it sees one: then two lines are one row."""
    if len(lines) < 2:
        decode(lines[0], CSV, READING)  # a header alone is refused here
        return False
    return len(decode(b"\n".join(lines), CSV, READING).batch) == 1


def _decode_line(head: bytes, value: bytes, kind: str) -> Batch:
    try:
        batch = decode(head + value, kind, READING).batch
        if len(batch) == 1:
            return batch
        reason = f"{len(batch)} rows"
    except PayloadInvalid as error:
        reason = str(error)
    refused = Rejection(0, "malformed", None, reason[:200], f"a row of {READING.name} as {kind}")
    return READING.check({}, 1, [refused])


def _read_arrow(file: IO[bytes]) -> Iterator[Numbered]:
    whole = decode(file.read(), ARROW, READING).batch
    for start in range(0, len(whole), BLOCK_ROWS_MOST):
        rows = np.arange(start, min(start + BLOCK_ROWS_MOST, len(whole)))
        yield rows + 1, whole.take(rows)


# --- messages -----------------------------------------------------------------------------------------------


def reading_messages(batch: Batch, key: str, *, headers: Headers = (), block_rows: int = BLOCK_ROWS) -> list[Outgoing]:
    """Return the valid rows of a batch as messages on the topic of readings.

    Parameters
    ----------
    key : str
        Name of the plant.
    block_rows : int
        From so many rows on they travel as Arrow blocks of at most 10,000 rows; 0 never.
    """
    topic, coded = PLANT_READINGS.name, key.encode()
    columns = _given(batch)
    n = int(batch.valid.sum())
    if block_rows and n >= block_rows:
        blocks = (("content-type", ARROW.encode()), *headers)
        return [
            Outgoing(
                topic,
                write_columns({name: c[start : start + BLOCK_ROWS_MOST] for name, c in columns.items()}),
                coded,
                blocks,
            )
            for start in range(0, n, BLOCK_ROWS_MOST)
        ]
    events = (("content-type", JSON.encode()), *headers)
    return [Outgoing(topic, orjson.dumps(row), coded, events) for row in _objects(columns)]


def _given(batch: Batch) -> dict[str, NDArray[Any]]:
    """The valid rows' columns, without those that hold nothing.

    Where some rows of a batch bring an event time, the others get the present: the schema's own meaning of
    an event time that is absent.
    """
    columns = {name: column[batch.valid] for name, column in batch.columns.items()}
    for name in (f.name for f in READING.fields if not f.required):
        column = columns[name]
        is_absent = np.isnat(column) if column.dtype.kind == "M" else np.isnan(column)
        if is_absent.all():
            del columns[name]
        elif column.dtype.kind == "M" and is_absent.any():
            columns[name] = np.where(is_absent, np.datetime64(time.time_ns() // 1_000_000, "ms"), column)
    return columns


def _objects(columns: Mapping[str, NDArray[Any]]) -> list[dict[str, Any]]:
    lists = [_plain(column) for column in columns.values()]
    return [
        {name: value for name, value in zip(columns, values, strict=True) if value == value}
        for values in zip(*lists, strict=True)
    ]


def _plain(column: NDArray[Any]) -> list[Any]:
    if column.dtype.kind == "M":
        return [f"{text}Z" for text in np.datetime_as_string(column, unit="ms").tolist()]
    plain: list[Any] = column.tolist()
    return plain


def new_traceparent() -> bytes:
    """Return a W3C trace context that starts here."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01".encode()


# --- senders ------------------------------------------------------------------------------------------------


def bus_sender(bus: Bus, key: str, *, block_rows: int = BLOCK_ROWS, patience: float = PATIENCE_SECONDS) -> Send:
    """Return what publishes rows on the topic of readings, under the plant's name `key`, at least once."""
    made: list[Producer] = []

    def send(batch: Batch) -> Sent:
        headers = (("traceparent", new_traceparent()),)
        messages = reading_messages(batch, key, headers=headers, block_rows=block_rows)
        for attempt in _attempts(patience):
            try:
                if not made:
                    bus.ensure([PLANT_READINGS])
                    made.append(bus.producer())
                made[0].publish(messages)
                return Sent(len(batch), retries=attempt.number)
            except TopicUnknown:
                raise
            except (BusError, Overloaded) as error:
                attempt.failed(str(error))
        raise AssertionError("attempts end by raising")

    return send


def http_sender(
    url: str, key: str, *, headers: Mapping[str, str] | None = None, patience: float = PATIENCE_SECONDS
) -> Send:
    """Return what posts rows to an ingestor.

    Parameters
    ----------
    url : str
        Address of the ingestor, or of a gateway up to the ingestor's own paths.
    key : str
        Name of the plant.
    headers : mapping of str to str, optional
        Sent with every request, such as an API key.
    patience : float
        Seconds one request is retried when the other side is full (429), busy with the same request (409),
        failing (5xx) or gone; always with the same Idempotency-Key.
    """
    import urllib3

    if not re.match(r"https?://[^/]", url):
        raise SettingInvalid(f"--url: got {url[:200]!r}, allowed http://HOST[:PORT][/PATH] or https://...")
    pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=5.0, read=60.0))
    address = f"{url.rstrip('/')}/readings/{key}"
    run = uuid.uuid4().hex
    count = iter(range(sys.maxsize))

    def send(batch: Batch) -> Sent:
        columns = _given(batch)
        is_block = len(batch) >= BLOCK_ROWS
        body = write_columns(columns) if is_block else orjson.dumps(_objects(columns))
        own = {
            "Content-Type": ARROW if is_block else JSON,
            "Idempotency-Key": f"{run}-{next(count)}",
            "traceparent": new_traceparent().decode(),
        }
        for attempt in _attempts(patience):
            try:
                answer = pool.request("POST", address, body=body, headers={**(headers or {}), **own})
            except urllib3.exceptions.HTTPError as error:
                attempt.failed(f"{address}: {error}")
                continue
            if answer.status in (409, 429) or answer.status >= 500:
                why = f"{address}: {answer.status} {_detail(answer.data)}"
                attempt.failed(why, _retry_after(answer.headers))
                continue
            return _sent(address, answer.status, answer.data, attempt.number)
        raise AssertionError("attempts end by raising")

    return send


def _sent(address: str, status: int, data: bytes, retries: int) -> Sent:
    document = _document(data)
    if status not in (202, 422) or "accepted" not in document:
        raise KappawattError(f"{address}: {status} {_detail(data)}")
    rejections = tuple(
        Rejection(int(e["row"]), str(e["code"]), e.get("field"), e.get("got"), str(e.get("allowed", "")))
        for e in document.get("errors", ())
    )
    return Sent(int(document["accepted"]), int(document["rejected"]), rejections, retries)


def _document(data: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def _detail(data: bytes) -> str:
    document = _document(data)
    return str(document.get("detail") or document.get("title") or data[:200].decode("utf-8", "replace"))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None


class _Attempt:
    """One try of several; `failed` waits for the next, or gives up at the deadline."""

    def __init__(self, number: int, deadline: float) -> None:
        self.number = number
        self._deadline = deadline

    def failed(self, why: str, retry_after: float | None = None) -> None:
        shortest, longest = BACKOFF_SECONDS
        pause = min(shortest * 2**self.number, longest) if retry_after is None else retry_after
        if self.number == FIRST_SAID:
            log.warning("no success yet, trying on: %s", why)
        pause *= random.uniform(1.0, 1.25)  # noqa: S311 (jitter, not a secret)
        if time.monotonic() + pause > self._deadline:
            raise DeliveryFailed(f"{why} (given up after {self.number + 1} tries)")
        time.sleep(pause)


def _attempts(patience: float) -> Iterator[_Attempt]:
    deadline = time.monotonic() + patience
    number = 0
    while True:
        yield _Attempt(number, deadline)
        number += 1
