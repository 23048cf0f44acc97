"""`GET /api/stream?forecasts=1`: forecasts, realised errors and measured intervals as they come.

Unlike predictions they are not resumed by place: a forecast is a state that the next one replaces. A client that
comes back, or was too slow, is sent a `state` event and knows that it should look at the series again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from .forecast_hub import FORECAST, FORECAST_ERROR, ForecastHub, encode

__all__ = ["ForecastClientStream"]

HEARTBEAT_SECONDS = 15.0
RETRY_MS = 2_000  # how long a browser waits before it reconnects
PATIENCE_SECONDS = 2.0


class ForecastClientStream:
    """What one client is sent.

    Parameters
    ----------
    service, key : str or None
        Only events of this service, of this series; None is all.
    limit : int
        End after so many forecasts and errors; 0 never.
    state : callable
        Returns the document of `state` events.
    """

    def __init__(
        self, hub: ForecastHub, service: str | None, key: str | None, limit: int, state: Callable[[], dict[str, Any]]
    ) -> None:
        self._hub = hub
        self._limit = limit
        self._state = state
        self._subscription = hub.subscribe(service, key)
        self._sent = 0
        self._last_byte = time.monotonic()

    def close(self) -> None:
        """Give up the queue."""
        self._hub.unsubscribe(self._subscription)

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield f"retry: {RETRY_MS}\n\n".encode()
            yield self._format("state", encode(self._state()))
            while not self._hub.closed.is_set():
                events, lost = self._subscription.take(PATIENCE_SECONDS)
                if lost:
                    yield self._format("state", encode(self._state()))
                for kind, body in events:
                    yield self._format(kind, body)
                    self._sent += kind in (FORECAST, FORECAST_ERROR)
                    if 0 < self._limit <= self._sent:
                        return
                if time.monotonic() - self._last_byte >= HEARTBEAT_SECONDS:
                    self._last_byte = time.monotonic()
                    yield b": still here\n\n"
        finally:
            self.close()

    def _format(self, kind: str, body: bytes) -> bytes:
        self._last_byte = time.monotonic()
        return b"event: %s\ndata: %s\n\n" % (kind.encode(), body)
