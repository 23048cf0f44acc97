"""What both Kafka clients do alike: how long they try, which partition they choose, how they say a failure."""

from __future__ import annotations

from typing import NamedTuple

from kappawatt.bus.interface import BusOptions, Outgoing
from kappawatt.bus.kafka_settings import REJOIN_MS
from kappawatt.bus.partitioner import partition_for
from kappawatt.errors import BusUnreachable, TopicUnknown

__all__ = [
    "ANSWER_SECONDS",
    "CLOSE_SECONDS",
    "CONNECT_SECONDS",
    "DELIVERY_SECONDS",
    "SILENCE_SECONDS",
    "SLICE_SECONDS",
    "TOPIC_PATIENCE",
    "Chooser",
    "Session",
    "no_answer",
    "refused",
    "topic_unknown",
    "topics_late",
    "untrusted",
]

CONNECT_SECONDS = 15.0  # how long a first connection is tried before BusUnreachable
TOPIC_PATIENCE = 5.0  # a topic made a moment ago is not known to every broker at once
SILENCE_SECONDS = 60.0  # without any connection for so long, poll says so
ANSWER_SECONDS = 15.0  # for one question to the cluster, over retries
SLICE_SECONDS = 0.25  # poll looks up so often whether partitions were assigned
CLOSE_SECONDS = 5.0
DELIVERY_SECONDS = 120.0  # a client tries to deliver a message for so long; above every timeout of `publish`


class Chooser:
    """The partition of a message: the one it names, else its key's, else each in turn."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._spread = 0

    def choose(self, message: Outgoing, count: int) -> int:
        """Return a partition among `count`. Raises TopicUnknown if the message names one beyond them."""
        if message.partition is not None:
            if message.partition >= count:
                raise TopicUnknown(f"{message.topic}[{message.partition}] is not on {self._url}")
            return message.partition
        if message.key is not None:
            return partition_for(message.key, count)
        self._spread += 1
        return self._spread % count


class Session(NamedTuple):
    """How a member of a group shows that it lives, in milliseconds."""

    timeout: int
    heartbeat: int
    longest_pause: int  # between two polls

    @classmethod
    def of(cls, options: BusOptions) -> Session:
        """Return the times that `options` ask for."""
        timeout = int(options.session_timeout * 1000)
        return cls(timeout, min(3000, max(100, timeout // 5)), max(timeout, REJOIN_MS))


def refused(url: str, who: str, reason: object) -> BusUnreachable:
    return BusUnreachable(
        f"{url}: the broker refused {who} ({reason}); check sasl.mechanism, sasl.username and sasl.password"
    )


def untrusted(url: str, who: str, reason: object) -> BusUnreachable:
    return BusUnreachable(
        f"{url}: {who}: the broker's certificate is not trusted ({reason}); check ssl.ca.location and the host name"
    )


def no_answer(url: str, who: str, reason: object) -> BusUnreachable:
    return BusUnreachable(f"{url}: no broker answers as {who}: {reason}")


def topics_late(url: str, timeout: float) -> BusUnreachable:
    return BusUnreachable(f"{url}: topics not told within {timeout:g} s; nothing was sent")


def topic_unknown(url: str, topic: str) -> TopicUnknown:
    return TopicUnknown(f"topic {topic!r} is not on {url}")
