"""`GET /api/stream`: server-sent events of one view or several, and the two ways to make up for what was missed.

    follower -> Hub -> queue of this client -> way -> client

Which way it is says the view. Of predictions nothing is lost and nothing comes twice, also over reconnects:
`resuming.py`. A forecast is a state that the next one replaces: a client that comes back, or was too slow, is sent a
`state` event and knows that it should look at the series again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

from .hub import Hub, Subscription
from .view import Event, Events, encode

__all__ = ["STATE", "ClientStream", "Restated", "Sent", "Wanted", "Way"]

HEARTBEAT_SECONDS = 15.0
SUMMARY_SECONDS = 2.0
RETRY_MS = 2_000  # how long a browser waits before it reconnects
POLL_SECONDS = 0.25  # between two looks whether the bus was reached
STATE = "state"
QUEUED_EVENTS = 2_000  # of a client that is sent the state when it loses them; a forecast is some 10 kB

Sent = tuple[str, bytes]
"""Kind and body of an event that nobody asked for: a state, a gap."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client asked for.

    Parameters
    ----------
    key : str or None
        Only events of this key; None is all.
    rate : float
        Most predictions of a key and second, for eyes; 0 is every one.
    """

    key: str | None = None
    rate: float = 0.0


class Way(Protocol):
    """How one client gets what comes and what it missed."""

    subscription: Subscription

    @property
    def has_begun(self) -> bool:
        """Whether it is known where the client stands."""
        ...

    @property
    def id(self) -> str:
        """Where the client resumes after what it was sent last; empty if it does not resume."""
        ...

    def follow(self, polled: Sequence[Events], *, lost: bool) -> Generator[Event | Sent | None]:
        """Yield what is to be sent, given what the queue held and whether something before it was lost.

        None is a breath: nothing to send just now.
        """
        ...

    def close(self) -> None:
        """Give up the queue."""
        ...


class Restated:
    """The client looks at the state again when it missed something.

    Parameters
    ----------
    hubs : sequence of Hub
    key : str or None
        Only events of this key; None is all.
    state : callable
        Returns the document of `state` events.
    """

    id = ""

    def __init__(
        self, hubs: Sequence[Hub], key: str | None, state: Callable[[], Any], queued: int = QUEUED_EVENTS
    ) -> None:
        self.has_begun = False
        self.subscription = Subscription(queued, lambda event: key is None or event.key == key)
        self._hubs = hubs
        self._state = state
        for hub in hubs:
            hub.add(self.subscription)

    def follow(self, polled: Sequence[Events], *, lost: bool) -> Generator[Event | Sent | None]:
        """Yield the state where it is needed, and what came."""
        if lost or not self.has_begun:
            self.has_begun = True
            yield STATE, encode(self._state())
        for events in polled:
            yield from events.events

    def close(self) -> None:
        """Give up the queue."""
        for hub in self._hubs:
            hub.remove(self.subscription)


class ClientStream:
    """What one client is sent.

    Parameters
    ----------
    way : Way
    limit : int
        End after so many events that count; 0 never.
    summary : callable, optional
        Returns the document of `summary` events, which come every two seconds.
    """

    def __init__(self, way: Way, *, limit: int = 0, summary: Callable[[], dict[str, object]] | None = None) -> None:
        self._way = way
        self._limit = limit
        self._summary = summary
        self._sent = 0
        self._next_summary = 0.0
        self._last_byte = time.monotonic()

    def close(self) -> None:
        """Give up the queue."""
        self._way.close()

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield f"retry: {RETRY_MS}\n\n".encode()
            yield from self._events()
        finally:
            self.close()

    @property
    def _is_done(self) -> bool:
        return self._way.subscription.closed.is_set() or (0 < self._limit <= self._sent)

    def _events(self) -> Iterator[bytes]:
        polled: list[Events] = []
        lost = False
        while not self._is_done:
            yield from self._signs_of_life()
            with closing(self._way.follow(polled, lost=lost)) as found:
                for each in found:
                    if each is None:
                        yield from self._signs_of_life()
                    elif isinstance(each, Event):
                        self._sent += each.is_counted
                        yield self._format(each.kind, each.body)
                    else:
                        yield self._format(*each)
                    if self._is_done:
                        return
            polled, lost = self._way.subscription.take(self._patience())

    def _signs_of_life(self) -> Iterator[bytes]:
        now = time.monotonic()
        if self._summary is not None and self._way.has_begun and now >= self._next_summary:
            self._next_summary = now + SUMMARY_SECONDS
            yield self._format("summary", encode(self._summary()))
        elif now - self._last_byte >= HEARTBEAT_SECONDS:
            self._last_byte = now
            yield b": still here\n\n"

    def _patience(self) -> float:
        if not self._way.has_begun:
            return POLL_SECONDS
        if self._summary is None:
            return SUMMARY_SECONDS
        return max(0.01, min(SUMMARY_SECONDS, self._next_summary - time.monotonic()))

    def _format(self, kind: str, body: bytes) -> bytes:
        self._last_byte = time.monotonic()
        place = f"id: {self._way.id}\n" if self._way.id else ""
        return b"%sevent: %s\ndata: %s\n\n" % (place.encode(), kind.encode(), body)
