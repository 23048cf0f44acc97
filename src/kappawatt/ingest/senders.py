"""Rows to an ingestor, or straight to the bus, until they are there."""

from __future__ import annotations

import logging
import random
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
import orjson
from numpy.typing import NDArray

from kappawatt.bus.interface import Bus, Producer
from kappawatt.columns.arrow import write_columns
from kappawatt.columns.batch import Batch, Rejection
from kappawatt.columns.content import ARROW, JSON
from kappawatt.errors import BusError, DeliveryFailed, KappawattError, Overloaded, SettingInvalid, TopicUnknown
from kappawatt.messages.readings import BLOCK_ROWS, given_columns, objects, reading_messages
from kappawatt.messages.tracing import new_traceparent
from kappawatt.streams.rules import PLANT, Intake, by_key

__all__ = ["Send", "Sent", "bus_sender", "http_sender"]

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 300.0  # how long one send is retried
BACKOFF_SECONDS = (0.1, 5.0)
FIRST_SAID = 3  # of the failed tries, so that nobody watches in silence


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


def bus_sender(
    bus: Bus,
    key: str,
    *,
    intake: Intake = PLANT,
    block_rows: int = BLOCK_ROWS,
    patience: float = PATIENCE_SECONDS,
) -> Send:
    """Return what publishes rows on the stream's topic under the name `key` ("": the rows' own), at least once."""
    made: list[Producer] = []

    def send(batch: Batch) -> Sent:
        headers = (("traceparent", new_traceparent()),)
        messages = reading_messages(batch, key, intake=intake, headers=headers, block_rows=block_rows)
        for attempt in _attempts(patience):
            try:
                if not made:
                    bus.ensure([intake.topic])
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
    url: str,
    key: str,
    *,
    intake: Intake = PLANT,
    headers: Mapping[str, str] | None = None,
    patience: float = PATIENCE_SECONDS,
) -> Send:
    """Return what posts rows to an ingestor, one request a key.

    Parameters
    ----------
    url : str
        Address of the ingestor, or of a gateway up to the ingestor's own paths.
    key : str
        Name of the plant, load zone or meter; "" where each row names its own.
    intake : Intake
        Which stream.
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
    door = f"{url.rstrip('/')}/{intake.path}"
    run = uuid.uuid4().hex
    count = iter(range(sys.maxsize))

    def send(batch: Batch) -> Sent:
        total = Sent(0)
        for name, rows in by_key(intake, batch, key):
            total = _sum(total, post(f"{door}/{quote(name, safe=':~')}", batch, rows), rows)
        return total

    def post(address: str, batch: Batch, rows: NDArray[np.intp]) -> Sent:
        columns = given_columns(batch, rows, intake)
        is_block = len(rows) >= BLOCK_ROWS
        body = write_columns(columns) if is_block else orjson.dumps(objects(columns))
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


def _sum(total: Sent, sent: Sent, rows: NDArray[np.intp]) -> Sent:
    """Add what became of some rows of a batch."""
    return Sent(
        total.accepted + sent.accepted,
        total.refused + sent.refused,
        total.rejections + tuple(r.at(int(rows[r.row])) for r in sent.rejections),
        total.retries + sent.retries,
    )


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
