"""Hands what followers of forecasts read to the clients that stream it."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

import orjson

__all__ = ["FORECAST", "FORECAST_ERROR", "READING", "ForecastHub", "ForecastSubscription", "encode"]

FORECAST = "forecast"
FORECAST_ERROR = "forecast-error"
READING = "reading"
QUEUED_EVENTS = 2_000  # a client; one that is slower loses them and is told to look at the state again

Event = tuple[str, bytes]


def encode(document: Any) -> bytes:
    """Return JSON; arrays are lists, NaN is null, instants are UTC with a Z."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events a client wants; None is all."""

    service: str | None
    key: str | None

    def wants(self, service: str, key: str) -> bool:
        """Whether events of this series are among them."""
        return self.service in (None, service) and self.key in (None, key)


class ForecastSubscription:
    """The bounded queue of one client."""

    def __init__(self, wanted: Filter, most: int) -> None:
        self.wanted = wanted
        self._most = most
        self._events: deque[Event] = deque()
        self._lost = False
        self._changed = threading.Condition()

    def put(self, event: Event) -> None:
        """Queue an event; without room drop all that waits."""
        with self._changed:
            if len(self._events) >= self._most:
                self._events.clear()
                self._lost = True
            self._events.append(event)
            self._changed.notify()

    def wake(self) -> None:
        """End a `take` that waits."""
        with self._changed:
            self._changed.notify()

    def take(self, timeout: float) -> tuple[list[Event], bool]:
        """Return what waits, after at most `timeout` seconds, and whether events before it were lost."""
        with self._changed:
            if not self._events:
                self._changed.wait(timeout)
            taken, lost = list(self._events), self._lost
            self._events.clear()
            self._lost = False
            return taken, lost


class ForecastHub:
    """Several sources, many clients."""

    def __init__(self, queued_events: int = QUEUED_EVENTS) -> None:
        self._most = queued_events
        self._lock = threading.Lock()
        self._subscriptions: set[ForecastSubscription] = set()
        self.closed = threading.Event()

    @property
    def clients(self) -> int:
        """How many subscriptions there are."""
        return len(self._subscriptions)

    def publish(self, kind: str, service: str, news: list[tuple[str, dict[str, Any]]]) -> None:
        """Give `news` (key and document) to every client that wants them; encoded only if one does."""
        with self._lock:
            waiting = list(self._subscriptions)
        if not waiting:
            return
        for key, document in news:
            body: bytes | None = None
            for subscription in waiting:
                if subscription.wanted.wants(service, key):
                    body = encode({"service": service, "key": key, **document}) if body is None else body
                    subscription.put((kind, body))

    def subscribe(self, service: str | None, key: str | None) -> ForecastSubscription:
        """Return a queue that gets every event of that service and series from now on."""
        subscription = ForecastSubscription(Filter(service, key), self._most)
        with self._lock:
            self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: ForecastSubscription) -> None:
        """Forget a queue."""
        with self._lock:
            self._subscriptions.discard(subscription)

    def close(self) -> None:
        """Let every client's stream end."""
        self.closed.set()
        with self._lock:
            waiting = list(self._subscriptions)
        for subscription in waiting:
            subscription.wake()
