"""What probes and the log say of whoever reads the bus: whether it has partitions, stands before a batch that cannot be
read, or waits for a bus that is away.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

from kappawatt.bus.interface import TopicPartition
from kappawatt.errors import BatchUnreadable, BusError

__all__ = ["AWAY_SECONDS", "Seldom", "Standing", "say_away"]

log = logging.getLogger(__name__)

KEPT_SECONDS = 60.0  # longer than between two tries of whoever reads
AWAY_SECONDS = 15.0


class Standing:
    """How a consumer stands, told by its loop and asked by probes.

    A batch that could not be read is tried again and again, and told here each time; what was told a minute ago no
    longer holds.
    """

    def __init__(self) -> None:
        self._has_partitions = False
        self._unreadable: tuple[float, BatchUnreadable] | None = None
        self._said = Seldom(AWAY_SECONDS)

    def polled(self, positions: Mapping[TopicPartition, int]) -> None:
        """Note which partitions the consumer has."""
        self._has_partitions = bool(positions)

    def failed(self, error: BusError) -> None:
        """Note a failure of the bus; say in the log now and then that a batch cannot be read."""
        if isinstance(error, BatchUnreadable):
            self._unreadable = time.monotonic(), error
            if self._said.passes() is not None:
                log.error("stands before what cannot be read", extra={"error": str(error)})

    def why_not_alive(self) -> str | None:
        """Return which batch cannot be read, None if there is none."""
        if self._unreadable is None:
            return None
        told, error = self._unreadable
        return str(error) if time.monotonic() - told < KEPT_SECONDS else None

    def why_not_ready(self) -> str | None:
        """Return why nothing comes, None if there is no reason."""
        return None if self._has_partitions else "its group has given this member no partition"


class Seldom:
    """Lets one line through in a while, whoever says it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = float("-inf")
        self._kept_back = 0
        self._lock = threading.Lock()

    def passes(self) -> int | None:
        """Return how many were kept back since the last one that passed; None if this one is kept back, too."""
        now = time.monotonic()
        with self._lock:
            if now < self._next:
                self._kept_back += 1
                return None
            self._next = now + self._seconds
            kept_back, self._kept_back = self._kept_back, 0
            return kept_back


AWAY = Seldom(AWAY_SECONDS)


def say_away(logger: logging.Logger, message: str, **more: object) -> None:
    """Log that the bus fails: one line in 15 s for the whole process, which has many readers of one bus."""
    kept_back = AWAY.passes()
    if kept_back is not None:
        logger.warning(message, extra={**more, "lines_kept_back": kept_back})
