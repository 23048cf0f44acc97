"""Hands what a follower reads to the clients that stream, and says where everybody is."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping

from kappawatt.bus.interface import TopicPartition

from .position import Logs, Place
from .view import Event, Events, Followed

__all__ = ["Hub", "Subscription"]

QUEUED_EVENTS = 5_000  # a client; one that is slower loses its queue, and the way it is streamed to makes up for it


class Subscription:
    """The bounded queue of one client, of one hub or of several.

    Parameters
    ----------
    most : int, optional
        Events it holds.
    wants : callable, optional
        Which events are queued. If absent all are, and spans without one too, so that offsets have no gap.
    """

    def __init__(self, most: int | None = None, wants: Callable[[Event], bool] | None = None) -> None:
        self._most = QUEUED_EVENTS if most is None else most
        self._wants = wants
        self._waiting: deque[Events] = deque()
        self._queued = 0
        self._lost = False
        self._changed = threading.Condition()
        self.closed = threading.Event()

    def put(self, events: Events) -> None:
        """Queue events; without room drop all that wait."""
        if self._wants is not None:
            events = events.only(self._wants)
            if not events.documents:
                return
        with self._changed:
            if self._waiting and self._queued + len(events.documents) > self._most:
                self._waiting.clear()
                self._queued = 0
                self._lost = True
            self._waiting.append(events)
            self._queued += len(events.documents)
            self._changed.notify()

    def wake(self) -> None:
        """End a `take` that waits."""
        with self._changed:
            self._changed.notify()

    def close(self) -> None:
        """Nothing comes any more."""
        self.closed.set()
        self.wake()

    def take(self, timeout: float) -> tuple[list[Events], bool]:
        """Return what waits, after at most `timeout` seconds, and whether events before it were lost."""
        with self._changed:
            if not self._waiting and not self.closed.is_set():
                self._changed.wait(timeout)
            taken, lost = list(self._waiting), self._lost
            self._waiting.clear()
            self._queued = 0
            self._lost = False
            return taken, lost


class Hub:
    """One view, many clients."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: frozenset[Subscription] = frozenset()  # replaced as a whole, never changed
        self._position: dict[TopicPartition, int] = {}
        self._logs: Logs = {}
        self._followed: Followed | None = None
        self._is_closed = False

    @property
    def followed(self) -> Followed | None:
        """What is read now; None until the bus was reached."""
        return self._followed

    @property
    def subscriptions(self) -> frozenset[Subscription]:
        """Those who get what comes."""
        return self._subscriptions

    @property
    def clients(self) -> int:
        """How many subscriptions there are."""
        return len(self._subscriptions)

    def follow(self, followed: Followed, position: Mapping[TopicPartition, int], logs: Logs) -> None:
        """Note that from now on `followed` is read, from `position` in these logs on."""
        with self._lock:
            self._followed, self._logs = followed, logs
            self._position = dict(position)
            waiting = self._subscriptions
        for subscription in waiting:
            subscription.wake()

    def move(self, where: TopicPartition, offset: int) -> None:
        """Note that reading goes on at `offset`, leaving out what is between."""
        with self._lock:
            self._position[where] = offset

    def publish(self, events: Events) -> None:
        """Give events to every client."""
        with self._lock:
            self._position[events.where] = events.end
            for subscription in self._subscriptions:
                subscription.put(events)

    def standing(self) -> tuple[Followed | None, dict[TopicPartition, Place], Logs]:
        """Return what is read now, where reading stands, and in which logs."""
        with self._lock:
            return self._followed, {where: Place(offset) for where, offset in self._position.items()}, self._logs

    def position(self) -> dict[TopicPartition, Place]:
        """Return where reading stands."""
        return self.standing()[1]

    def offset(self, where: TopicPartition) -> int:
        """Return where reading stands in one partition."""
        with self._lock:
            return self._position[where]

    def add(self, subscription: Subscription) -> None:
        """Give a queue everything that comes from now on."""
        with self._lock:
            self._subscriptions |= {subscription}
            is_closed = self._is_closed
        if is_closed:
            subscription.close()

    def remove(self, subscription: Subscription) -> None:
        """Forget a queue."""
        with self._lock:
            self._subscriptions -= {subscription}

    def close(self) -> None:
        """Let every client's stream end."""
        with self._lock:
            self._is_closed = True
            waiting = self._subscriptions
        for subscription in waiting:
            subscription.close()
