"""How long a client may take, how many there may be, and how much of them is kept in memory."""

from __future__ import annotations

import resource
import threading
from dataclasses import dataclass

from kappawatt.settings import Settings

__all__ = ["SCARCE_RATE", "SCARCE_SECONDS", "Limits", "Pace", "Room"]

SPARE_FILES = 256  # descriptors for what is no client's: bus, files, connections to services
LEAST_CONNECTIONS = 16
BODIES_IN_ROOM = 4
SCARCE_SECONDS = 2.0  # in place of `stall_seconds` and `slowest_rate` where there is no room for others
SCARCE_RATE = 32_000.0
STOP_SECONDS = 2.0  # that a stopping server waits for a request on a connection that has none


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take of a serving process.

    Parameters
    ----------
    head_seconds : float
        For the request line and all headers, from the first byte on (of a new connection: from its start on).
    body_seconds : float
        For a body, whatever its rate.
    stall_seconds : float
        How long a body, or the reading of an answer, may be slower than `slowest_rate`.
    slowest_rate : float
        Of bodies and of the reading of answers [bytes/s].
    idle_seconds : float
        How long a connection is kept for the next request.
    connections : int
        Most connections of a process. One more takes the place of the one that has waited longest.
    body_bytes : int
        Largest body.
    """

    head_seconds: float = 10.0
    body_seconds: float = 300.0
    stall_seconds: float = 20.0
    slowest_rate: float = 4000.0
    idle_seconds: float = 75.0
    connections: int = 1000
    body_bytes: int = 8_388_608

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return the limits of a process, with no more connections than it may have files."""
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        most = settings.connections
        if files != resource.RLIM_INFINITY:
            most = min(most, max(LEAST_CONNECTIONS, files - SPARE_FILES))
        return cls(
            head_seconds=settings.head_seconds,
            body_seconds=settings.body_seconds,
            stall_seconds=settings.stall_seconds,
            slowest_rate=settings.slowest_rate,
            idle_seconds=settings.idle_seconds,
            connections=most,
            body_bytes=settings.max_body_bytes,
        )

    @property
    def room(self) -> int:
        """Memory for bodies that are on their way, and as much again for answers that are not yet read [bytes]."""
        return BODIES_IN_ROOM * self.body_bytes


class Pace:
    """Whether a transfer is slower than a rate for longer than some seconds; what was fast before is no credit.

    Parameters
    ----------
    rate : float
        [bytes/s]
    seconds : float

    Examples
    --------
    >>> pace = Pace(1000.0, 20.0)
    >>> pace.begin(now=0.0)
    >>> pace.is_too_slow(now=10.0, done=50_000), pace.is_too_slow(now=29.0, done=50_001)
    (False, False)
    >>> pace.is_too_slow(now=31.0, done=50_002)
    True
    """

    __slots__ = ("_done", "_rate", "_seconds", "since")

    def __init__(self, rate: float, seconds: float) -> None:
        self._rate = rate
        self._seconds = seconds
        self.begin(0.0)

    def begin(self, now: float, done: int = 0) -> None:
        """Begin a transfer, `done` bytes of which are over."""
        self.since = now
        self._done = done

    def is_too_slow(self, now: float, done: int) -> bool:
        """Return whether that is so, `done` bytes being over by now."""
        if done - self._done > self._rate * (now - self.since):
            self.begin(now, done)
        return now - self.since > self._seconds


class Room:
    """Memory that is shared by connections: taken before it is filled, given back by its owner. Thread-safe."""

    def __init__(self, size: int) -> None:
        self._free = self._size = size
        self._lock = threading.Lock()

    @property
    def is_scarce(self) -> bool:
        """Whether less than a quarter is free."""
        return self._free < self._size / 4

    def take(self, size: int) -> bool:
        """Take `size` bytes, or nothing and return False; what is larger than all has to have it all."""
        with self._lock:
            if self._free < min(size, self._size):
                return False
            self._free -= size
            return True

    def give(self, size: int) -> None:
        """Give back what was taken."""
        with self._lock:
            self._free += size
