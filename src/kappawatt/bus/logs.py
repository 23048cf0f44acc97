"""Which log a topic has: one that is deleted and made again has another, whose offsets begin at 0 once more.

Kafka gives every topic an id when it is made, but clients hand out messages by the topic's name alone. So consumers
look whether the id is still the one their positions are of: when messages have come before anything is made of them,
else once a second.
"""

from __future__ import annotations

import base64
import contextlib
import time
import uuid
from collections.abc import Callable, Iterable, Mapping

from kappawatt.bus.interface import TopicPartition
from kappawatt.errors import BusError

__all__ = ["KnownLogs", "beyond_end", "log_id_of", "log_text", "new_log"]

LOOK_SECONDS = 0.25  # between two looks while messages come
IDLE_SECONDS = 1.0  # and while none do


def log_text(topic_id: uuid.UUID) -> str:
    """Return a topic's id as Kafka writes it, 22 characters of URL-safe base64; "" for the id that means none."""
    return base64.urlsafe_b64encode(topic_id.bytes).decode().rstrip("=") if topic_id.int else ""


def log_id_of(topic: str, look_up: Callable[[list[str]], Mapping[str, str]], places: Callable[[str], object]) -> str:
    """Return the identity of a topic's log, "" where the bus has none.

    Parameters
    ----------
    look_up : callable
        Topics to their logs now; topics that do not exist are left out.
    places : callable
        Waits for a topic that was made a moment ago, and raises TopicUnknown if there is none.
    """
    found = look_up([topic])
    if topic not in found:
        places(topic)
        found = look_up([topic])
    return found.get(topic, "")


def new_log() -> str:
    """Return the identity of a log that begins; as in Kafka, none begins with a hyphen."""
    while (log := log_text(uuid.uuid4())).startswith("-"):
        pass
    return log


def beyond_end(group: str, place: TopicPartition, committed: int, end: int) -> str:
    """Return why a partition is read from its beginning, whatever its group has committed."""
    return (
        f"{group}: got offset {committed} committed of {place[0]}[{place[1]}], allowed up to its end {end}: "
        "it is of another log; reading begins at the beginning"
    )


class KnownLogs:
    """The logs that a consumer's positions are of. For one thread.

    Parameters
    ----------
    look_up : callable
        Topics to their logs now; topics that do not exist are left out.
    """

    def __init__(self, topics: Iterable[str], look_up: Callable[[list[str]], Mapping[str, str]]) -> None:
        self._topics = list(topics)
        self._look_up = look_up
        self._known: dict[str, str] = {}
        self._found: Mapping[str, str] = {}  # by the last look
        self._looked = float("-inf")

    def __getitem__(self, topic: str) -> str:
        return self._known.get(topic, "")

    def learn(self) -> None:
        """Learn the logs of topics that are not known yet. Positions are asked for after it, never before."""
        if len(self._known) < len(self._topics):
            self._look()
            self._known = {**self._found, **self._known}

    def accept(self, topic: str, log: str) -> None:
        """Note that positions of a topic are of another log from now on."""
        self._known[topic] = log

    def renewed(self, *, is_odd: bool) -> dict[str, tuple[str, str]]:
        """Return topics that have another log than is known: what they have now, and what they had.

        A look a moment ago will do, unless something `is_odd`, as offsets that go back are.

        Raises
        ------
        BusError
            The bus did not tell.
        """
        if is_odd or time.monotonic() - self._looked > LOOK_SECONDS:
            self._look()
        return self._differing()

    def renewed_meanwhile(self, is_reached: Callable[[], bool]) -> dict[str, tuple[str, str]]:
        """Return the same while no messages come; looks only if a broker is reached, else that would take long."""
        if time.monotonic() - self._looked > IDLE_SECONDS:
            self._looked = time.monotonic()
            if is_reached():
                with contextlib.suppress(BusError):
                    self._look()
        return self._differing()

    def _differing(self) -> dict[str, tuple[str, str]]:
        found = self._found
        return {t: (found[t], known) for t, known in self._known.items() if found.get(t, known) != known}

    def _look(self) -> None:
        self._found = self._look_up(self._topics)
        self._looked = time.monotonic()
