"""What is noted of every request: its count, its time, its id."""

from __future__ import annotations

import random
from typing import Any

from kappawatt.telemetry import Telemetry

__all__ = ["REQUEST_ID", "Bookkeeping", "request_id"]

REQUEST_ID = "X-Request-Id"


def request_id(given: str | None) -> str:
    """Return the id a client gave, if it is a plain short text, or a new one."""
    if given and len(given) <= 128 and given.isascii() and given.isprintable():
        return given
    return f"{random.getrandbits(128):032x}"


class Bookkeeping:
    """Counts requests and their time; looks each metric up once, not once a request."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._counters: dict[tuple[str, str, int], Any] = {}
        self._timers: dict[str, Any] = {}

    def note(self, route: str, method: str, status: int, seconds: float) -> None:
        """Note one finished request."""
        key = (route, method, status)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._telemetry.requests.labels(self._telemetry.service, route, method, str(status))
            self._counters[key] = counter
        counter.inc()
        timer = self._timers.get(route)
        if timer is None:
            timer = self._telemetry.request_seconds.labels(self._telemetry.service, route)
            self._timers[route] = timer
        timer.observe(seconds)
