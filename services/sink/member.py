"""A member of the sink's consumer group, on every topic there is to land."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping

from kappawatt.bus.interface import Bus, Consumer, Records, TopicPartition
from kappawatt.settings import Settings
from kappawatt.streams.table import FORMS, TOPICS

__all__ = ["GROUP", "Member"]

log = logging.getLogger(__name__)

GROUP = "sink"
POLL_MESSAGES = 200  # a message can be a block of some 900 kB: at most 180 MB come at once


class Member:
    """Joins when it is made.

    Parameters
    ----------
    bus : Bus
    settings : Settings
    promoted : iterable of str
        Topics that serve a stream now, beside the streams' own.
    landed : iterable of str
        Topics that the store has a position of.

    Attributes
    ----------
    topics : tuple of str
        What it reads.
    joined, heard : float
        Moments of the monotonic clock: when it joined, and when messages last came or were dealt with.
    """

    def __init__(self, bus: Bus, settings: Settings, promoted: Iterable[str], landed: Iterable[str] = ()) -> None:
        self._bus = bus
        self._settings = settings
        self._landed = frozenset(landed)
        self.topics: tuple[str, ...] = ()
        self._consumer = self._joined(set(promoted))

    def join(self, promoted: Iterable[str] = ()) -> None:
        """Leave the group and join it again, on the topics there are by now."""
        self._consumer.close()
        self._consumer = self._joined(set(promoted))

    def _joined(self, promoted: set[str]) -> Consumer:
        """Return a consumer of all topics there are to land.

        A topic that was promoted once and then superseded is read to its end: its position in the store or the
        group's own commit on it tells, after a restart, that it belongs here.
        """
        there = self._bus.topics()
        own = {topic.name for topic in TOPICS}
        known = self._landed | set(self.topics)
        sides = {t for t in there if t not in own and (t in known or self._bus.committed(GROUP, t))}
        sides |= promoted & set(there)
        self.topics = (*FORMS, *sorted(sides - FORMS.keys()))
        consumer = self._bus.consumer(
            self.topics,
            GROUP,
            instance_id=self._settings.instance_id or None,
            max_records=min(self._settings.max_records, POLL_MESSAGES),
        )
        self.joined = self.heard = time.monotonic()
        log.info("landing", extra={"topics": list(self.topics)})
        return consumer

    def poll(self, timeout: float) -> list[Records]:
        """Return what has come."""
        polled = self._consumer.poll(timeout)
        if polled:
            self.heard = time.monotonic()
        return polled

    def commit(self) -> None:
        """Commit what was polled."""
        self._consumer.commit()
        self.heard = time.monotonic()

    def seek(self, place: TopicPartition, offset: int) -> None:
        """Go on at an offset of an assigned partition."""
        self._consumer.seek(*place, offset)

    def committed(self, place: TopicPartition) -> int | None:
        """Return what the group has committed of a partition: where a rebalance puts whoever gets it."""
        topic, partition = place
        return self._bus.committed(GROUP, topic).get(partition)

    def pass_over(self) -> None:
        """Commit positions that have moved over what is no message; all that was polled is committed."""
        self._consumer.commit()

    def positions(self) -> Mapping[TopicPartition, int]:
        """Return the offset of the next message of each partition it has."""
        return self._consumer.positions()

    def lag(self) -> Mapping[TopicPartition, int]:
        """Return how many messages wait, by partition."""
        return self._consumer.lag()

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()
