"""Which log a topic has: one that is deleted and made again has another, whose offsets begin at 0 once more.

Kafka gives every topic an id when it is made, but clients hand out messages by the topic's name alone. So consumers
look, when messages have come, whether the id is still the one their positions are of.
"""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable, Iterable, Mapping

__all__ = ["KnownLogs", "log_text", "new_log"]

LOOK_SECONDS = 0.25  # between two looks, which are taken when messages have come


def log_text(topic_id: uuid.UUID) -> str:
    """Return a topic's id as Kafka writes it, 22 characters of URL-safe base64; "" for the id that means none."""
    return base64.urlsafe_b64encode(topic_id.bytes).decode().rstrip("=") if topic_id.int else ""


def new_log() -> str:
    """Return the identity of a log that begins; as in Kafka, none begins with a hyphen."""
    while (log := log_text(uuid.uuid4())).startswith("-"):
        pass
    return log


class KnownLogs:
    """The logs that a consumer's positions are of.

    Parameters
    ----------
    look_up : callable
        Topics to their logs now; topics that do not exist are left out.
    """

    def __init__(self, topics: Iterable[str], look_up: Callable[[list[str]], Mapping[str, str]]) -> None:
        self._topics = list(topics)
        self._look_up = look_up
        self._known: dict[str, str] = {}
        self._looked = float("-inf")

    def __getitem__(self, topic: str) -> str:
        return self._known.get(topic, "")

    def learn(self) -> None:
        """Learn the logs of topics that are not known yet. Positions are asked for after it, never before."""
        if len(self._known) < len(self._topics):
            self._known = {**self._looked_up(), **self._known}

    def renewed(self, *, is_odd: bool) -> dict[str, tuple[str, str]]:
        """Return topics that have another log than before: what they have now, and what they had.

        A look a moment ago will do, unless something `is_odd`, as offsets that go back are.
        """
        since = time.monotonic() - self._looked
        if not is_odd and since < LOOK_SECONDS:
            return {}
        now = self._looked_up()
        found = {t: (now[t], known) for t, known in self._known.items() if now.get(t, known) != known}
        self._known.update(now)
        return found

    def _looked_up(self) -> Mapping[str, str]:
        found = self._look_up(self._topics)
        self._looked = time.monotonic()
        return found
