"""All connections of a process: who has waited too long, who goes when there are too many, whose body has room."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count

from kappawatt.serving.server.connection import Connection, State
from kappawatt.serving.server.limits import Limits, Room

__all__ = ["Crowd"]

SMALL_BYTES = 16_384  # of a request that needs no room: it is never kept waiting by others' bodies
QUEUED_RATE = 200_000.0  # bytes/s: by so much of its size a body lets smaller ones pass that come later
SHARE_THAT_GOES = 50  # one of so many goes when there is no place for one more
MOVING = (State.BODY, State.WRITING)
MAY_GO = (State.IDLE, State.HEAD, State.BODY, State.QUEUED, State.WRITING, State.LINGERING)


class Crowd:
    """Connections, and what they share.

    Parameters
    ----------
    limits : Limits
    """

    def __init__(self, limits: Limits) -> None:
        self.members: set[Connection] = set()
        self.answers = Room(limits.room)
        self._bodies = Room(limits.room)
        self._limits = limits
        self._queue: list[tuple[float, int, int, Connection]] = []
        self._numbers = count()

    @property
    def is_full(self) -> bool:
        """Whether there is no place for one more."""
        return len(self.members) >= self._limits.connections

    def needs_room(self, conn: Connection) -> int:
        """Return how much room a request that is not yet whole needs and does not have."""
        framing = conn.framing
        if conn.held or (framing.length if not framing.is_chunked else len(conn.data)) <= SMALL_BYTES:
            return 0
        return self._limits.body_bytes if framing.is_chunked else framing.length

    def admit(self, conn: Connection, size: int, now: float) -> bool:
        """Give `conn` room for its body, or have it wait for it.

        They wait in the order of their coming, but what is large a while longer: what is small is soon over.
        """
        if not self._queue and self._bodies.take(size):
            conn.held = size
            return True
        heapq.heappush(self._queue, (now + size / QUEUED_RATE, next(self._numbers), size, conn))
        return False

    def admitted(self) -> Iterator[Connection]:
        """Yield those that waited and have room now."""
        while self._queue:
            *_, size, conn = self._queue[0]
            is_waiting = conn.state is State.QUEUED
            if is_waiting and not self._bodies.take(size):
                return
            heapq.heappop(self._queue)
            if is_waiting:
                conn.held = size
                yield conn

    def free(self, conn: Connection) -> None:
        """Give back the room of a body."""
        if conn.held:
            self._bodies.give(conn.held)
            conn.held = 0

    def leave(self, conn: Connection) -> None:
        """Forget a connection that is closed."""
        self.free(conn)
        self.members.discard(conn)

    def overdue(self, now: float) -> list[Connection]:
        """Return those that waited too long, or hold room that others wait for and hardly use it."""
        return [conn for conn in self.members if self._is_overdue(conn, now)]

    def longest_waiting(self) -> list[Connection]:
        """Return who goes when there are too many: those whose wait, or slowness, began first."""
        waiting = [conn for conn in self.members if conn.state in MAY_GO]
        waiting.sort(key=self._since)
        return waiting[: max(1, len(self.members) // SHARE_THAT_GOES)]

    def _since(self, conn: Connection) -> float:
        return conn.pace.since if conn.state in MOVING else conn.since

    def _is_overdue(self, conn: Connection, now: float) -> bool:
        state = conn.state
        if state is State.WORKING:
            return False
        if state not in MOVING:
            return now > conn.deadline
        done = conn.transferred
        is_late = state is State.BODY and now > conn.deadline
        is_too_slow = conn.pace.is_too_slow(now, done)
        is_not_brisk = conn.brisk_pace.is_too_slow(now, done)
        is_in_the_way = bool(conn.held and self._queue) if state is State.BODY else self.answers.is_scarce
        return is_late or is_too_slow or (is_not_brisk and is_in_the_way)
