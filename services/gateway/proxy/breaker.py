"""A circuit breaker: after several failures in a row nobody is kept waiting for a service that is down.

Not pybreaker: its `call` holds one lock for as long as the call takes, so that a slow service would be asked
one question at a time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from kappawatt.errors import Overloaded

__all__ = ["Breaker", "CircuitOpen"]


class CircuitOpen(Overloaded):
    """The service failed several times in a row; ask again after `retry_after` seconds."""

    status = 503
    title = "Service unavailable"


class Breaker:
    """closed -> (`failures` in a row) -> open -> (`rest` seconds) -> one trial -> closed or open.

    Parameters
    ----------
    name : str
        What is protected, for the message.
    failures : int
        Failures in a row that open it.
    rest : float
        Seconds it stays open before a single call may try.
    """

    def __init__(
        self, name: str, failures: int = 5, rest: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._most = failures
        self._rest = rest
        self._clock = clock
        self._lock = threading.Lock()
        self._failed = 0
        self._opened: float | None = None
        self._trying = False

    @property
    def state(self) -> str:
        """`closed`, `open`, or `half-open` when the next call is a trial."""
        with self._lock:
            if self._opened is None:
                return "closed"
            return "half-open" if self._clock() - self._opened >= self._rest else "open"

    def enter(self) -> None:
        """Ask to make a call; CircuitOpen if it must not be made. `succeeded` or `failed` ends it."""
        with self._lock:
            if self._opened is None:
                return
            left = self._rest - (self._clock() - self._opened)
            if left > 0 or self._trying:
                raise CircuitOpen(
                    f"{self._name} failed {self._failed} times in a row and is left alone for a moment",
                    max(left, 1.0),
                )
            self._trying = True

    def succeeded(self) -> None:
        """Note that the service answered, whatever it said."""
        with self._lock:
            self._failed = 0
            self._opened = None
            self._trying = False

    def failed(self) -> None:
        """Note that the service did not answer."""
        with self._lock:
            self._failed += 1
            self._trying = False
            if self._failed >= self._most:
                self._opened = self._clock()
