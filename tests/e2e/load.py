"""Clients as they are: connections kept open, readings and questions at a steady rate, every failure noted."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.clients import Clients

ROWS = 3
SECONDS = 30.0
CONDITIONS = {"exhaust_vacuum": 41.76, "relative_humidity": 73.17}
_numbers = itertools.count()  # over all loads of a run, so that no reading is sent twice by intent
_lock = threading.Lock()


def reading() -> dict[str, float]:
    """A reading unlike any other."""
    with _lock:
        n = next(_numbers)
    return {
        "ambient_temperature": 5 + n % 3000 / 100,
        "ambient_pressure": 1000 + n // 3000 % 3000 / 100,
        **CONDITIONS,
    }


@dataclass
class Load(Clients):
    """Some clients that each send readings, ask for predictions and look at the newest, in turn.

    Parameters
    ----------
    tries_again : bool
        Whether a reading whose request failed is sent again under the same Idempotency-Key until it is accepted, as a
        sensor would; without it one failure is a failure.
    """

    url: str
    key: str
    count: int = 3
    pause: float = 0.1
    tries_again: bool = False
    accepted: int = 0
    answered: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(self.count)
        self._began = time.monotonic()

    @property
    def requests(self) -> int:
        return sum(self.answered.values())

    def _client(self, number: int) -> None:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=SECONDS)
        plant = f"plant-{number}"
        while not self._stopped.is_set():
            rows = [reading() for _ in range(ROWS)]
            self._send(connection, plant, rows)
            self._ask(
                connection, "POST", "/api/plant-power/predict", "predict", {"content-type": "application/json"}, rows
            )
            self._ask(connection, "GET", f"/api/latest/{plant}", "latest", {}, None)
            self._stopped.wait(self.pause)
        connection.close()

    def _send(self, connection: http.client.HTTPConnection, plant: str, rows: list[dict[str, float]]) -> None:
        headers = {"content-type": "application/json"}
        if self.tries_again:
            headers["idempotency-key"] = uuid.uuid4().hex
        wait = 0.1
        while not self._ask(connection, "POST", f"/api/sensor-ingestor/readings/{plant}", "readings", headers, rows):
            if not self.tries_again:
                return
            time.sleep(wait)  # until it is accepted, even when the load is to stop: a sensor keeps what it has read
            wait = min(2 * wait, 2.0)
        with _lock:
            self.accepted += len(rows)

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        what: str,
        headers: dict[str, str],
        rows: list[dict[str, float]] | None,
    ) -> bool:
        body = None if rows is None else json.dumps(rows)
        try:
            connection.request(method, path, body, {"authorization": f"Bearer {self.key}", **headers})
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return self._failed(what, f"{type(error).__name__}: {error}")
        if answer.status == 404 and what == "latest":  # nothing of this plant was answered yet
            return True
        if answer.status not in (200, 202):
            return self._failed(what, f"{answer.status} {content[:300]!r}")
        with _lock:
            self.answered[what] += 1
        return True

    def _failed(self, what: str, reason: str) -> bool:
        with _lock:
            self.failures.append(f"{time.monotonic() - self._began:.1f} s {what}: {reason}")
        return False
