"""Hands what the follower reads to the clients that stream, and says where everybody is."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping

from kappawatt.bus.interface import TopicPartition

from .portion import Followed, Portion
from .position import Place

__all__ = ["Hub", "Subscription"]

QUEUED_DOCUMENTS = 5_000  # a client; one that is slower loses its queue, not its events: it reads them from the bus


class Subscription:
    """The bounded queue of one client."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._portions: deque[Portion] = deque()
        self._documents = 0
        self._changed = threading.Condition()

    def put(self, portion: Portion) -> None:
        """Queue a portion; without room drop all that waits (the client sees the gap in the offsets)."""
        with self._changed:
            if self._portions and self._documents + len(portion.documents) > self._most:
                self._portions.clear()
                self._documents = 0
            self._portions.append(portion)
            self._documents += len(portion.documents)
            self._changed.notify()

    def wake(self) -> None:
        """End a `take` that waits."""
        with self._changed:
            self._changed.notify()

    def take(self, timeout: float) -> list[Portion]:
        """Return what waits, after at most `timeout` seconds; empty if nothing came."""
        with self._changed:
            if not self._portions:
                self._changed.wait(timeout)
            taken = list(self._portions)
            self._portions.clear()
            self._documents = 0
            return taken


class Hub:
    """One source, many clients."""

    def __init__(self, queued_documents: int = QUEUED_DOCUMENTS) -> None:
        self._most = queued_documents
        self._lock = threading.Lock()
        self._subscriptions: set[Subscription] = set()
        self._position: dict[TopicPartition, int] = {}
        self._followed: Followed | None = None
        self.closed = threading.Event()

    @property
    def followed(self) -> Followed | None:
        """What is read now; None until the bus was reached."""
        return self._followed

    @property
    def clients(self) -> int:
        """How many subscriptions there are."""
        return len(self._subscriptions)

    def follow(self, followed: Followed, position: Mapping[TopicPartition, int]) -> None:
        """Note that from now on `followed` is read, from `position` on."""
        with self._lock:
            self._followed = followed
            self._position = dict(position)
            waiting = list(self._subscriptions)
        for subscription in waiting:
            subscription.wake()

    def move(self, where: TopicPartition, offset: int) -> None:
        """Note that reading goes on at `offset`, leaving out what is between."""
        with self._lock:
            self._position[where] = offset

    def publish(self, portion: Portion) -> None:
        """Give `portion` to every client."""
        with self._lock:
            self._position[portion.where] = portion.end
            for subscription in self._subscriptions:
                subscription.put(portion)

    def position(self) -> dict[TopicPartition, Place]:
        """Return where reading stands."""
        with self._lock:
            return {where: Place(offset) for where, offset in self._position.items()}

    def offset(self, where: TopicPartition) -> int:
        """Return where reading stands in one partition."""
        with self._lock:
            return self._position[where]

    def subscribe(self) -> Subscription:
        """Return a queue that gets every portion from now on."""
        subscription = Subscription(self._most)
        with self._lock:
            self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
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
