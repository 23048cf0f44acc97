"""What both Kafka clients do alike: how long they try, which partition they choose, when a member has fallen out of
its group, how they say a failure."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Set
from typing import NamedTuple

from kappawatt.bus.interface import BusOptions, Outgoing, TopicPartition
from kappawatt.bus.kafka_settings import REJOIN_MS
from kappawatt.bus.partitioner import partition_for
from kappawatt.errors import BusUnreachable, TopicUnknown

__all__ = [
    "ANSWER_SECONDS",
    "CLOSE_SECONDS",
    "CONNECT_SECONDS",
    "DELIVERY_SECONDS",
    "END_SECONDS",
    "METADATA_SECONDS",
    "SILENCE_SECONDS",
    "SLICE_SECONDS",
    "TOPIC_PATIENCE",
    "Attendance",
    "Chooser",
    "Group",
    "Session",
    "is_uncertified",
    "no_answer",
    "refused",
    "topic_unknown",
    "topics_late",
    "uncertified",
    "untrusted",
    "why_refused",
]

CONNECT_SECONDS = 15.0  # how long a first connection is tried before BusUnreachable
TOPIC_PATIENCE = 5.0  # a topic made a moment ago is not known to every broker at once
SILENCE_SECONDS = 60.0  # without any connection for so long, poll says so
ANSWER_SECONDS = 15.0  # for one question to the cluster, over retries
SLICE_SECONDS = 0.25  # poll looks up so often whether partitions were assigned
CLOSE_SECONDS = 5.0
END_SECONDS = 5.0  # for the question how far a topic goes, and who is in a group
METADATA_SECONDS = 10.0  # so soon partitions that were added are noticed
ATTENDANCE_SECONDS = 5.0  # between two looks whether a member is in its group
STARVING_SECONDS = 20.0  # messages wait, and none came for so long
DELIVERY_SECONDS = 120.0  # a client tries to deliver a message for so long; above every timeout of `publish`


# As OpenSSL names the alerts of RFC 8446 6.2 that a broker sends.
UNCERTIFIED = re.compile(r"alert (certificate required|bad certificate|unknown ca|certificate unknown)", re.IGNORECASE)


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


class Group(NamedTuple):
    """A group as its coordinator tells: whether partitions are shared out now, and who has which."""

    is_settled: bool
    members: Mapping[str, Set[TopicPartition]]

    def why_outside(self, member: str, assigned: Set[TopicPartition], all_: Set[TopicPartition]) -> str | None:
        """Return what is wrong with a member that believes to have `assigned`, None if nothing is."""
        if not self.is_settled:
            return None
        if member not in self.members:
            return "is in its group no longer"
        if self.members[member] != assigned:
            return f"has {_listed(assigned)}, its group gave it {_listed(self.members[member])}"
        left = all_ - set().union(*self.members.values())
        return f"is in a group where nobody has {_listed(left)}" if left else None


class Attendance:
    """Whether a member is where its group has it, and whether what waits for it comes.

    A client can lose a rebalance and then stand outside its group without a word, without messages and without lag.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start again: the member joins now."""
        self.heard()
        self._next = time.monotonic() + ATTENDANCE_SECONDS
        self._was_odd = False

    def heard(self) -> None:
        """Note that messages came."""
        self._heard = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it is time to look; the next time is some seconds later."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + ATTENDANCE_SECONDS
        return True

    @property
    def is_starving(self) -> bool:
        """Whether no message has come for so long that there should be none."""
        return time.monotonic() - self._heard > STARVING_SECONDS

    def confirms(self, reason: str | None) -> bool:
        """Whether something is wrong that already was at the look before: a rebalance under way looks the same."""
        is_confirmed = reason is not None and self._was_odd
        self._was_odd = reason is not None and not is_confirmed
        return is_confirmed


def _listed(places: Set[TopicPartition]) -> str:
    return ", ".join(f"{topic}[{partition}]" for topic, partition in sorted(places)) or "nothing"


def refused(url: str, who: str, reason: object) -> BusUnreachable:
    credentials = "where its token comes from" if " token of " in who else "sasl.username and sasl.password"
    return BusUnreachable(f"{url}: the broker refused {who} ({reason}); check sasl.mechanism, {credentials}")


def untrusted(url: str, who: str, reason: object) -> BusUnreachable:
    return BusUnreachable(
        f"{url}: {who}: the broker's certificate is not trusted ({reason}); check ssl.ca.location and the host name"
    )


def is_uncertified(reason: object) -> bool:
    """Whether a broker has ended a TLS handshake because of this client's certificate, or for want of one."""
    return UNCERTIFIED.search(str(reason)) is not None


def uncertified(url: str, who: str, reason: object) -> BusUnreachable:
    return BusUnreachable(
        f"{url}: the broker did not take the certificate of {who} ({reason}); check ssl.certificate.location"
    )


def no_answer(url: str, who: str, reason: object) -> BusUnreachable:
    return BusUnreachable(f"{url}: no broker answers as {who}: {reason}")


def topics_late(url: str, timeout: float) -> BusUnreachable:
    return BusUnreachable(f"{url}: topics not told within {timeout:g} s; nothing was sent")


def why_refused(who: str, topic: str, partitions: Mapping[int, int], least: int | None, may_write: bool) -> str | None:
    """Return why a topic takes no messages.

    Parameters
    ----------
    partitions : mapping of int to int
        How many replicas of each partition are in sync; 0 if it has no leader.
    least : int or None
        The topic's `min.insync.replicas`; None if this client may not know it.
    """
    if not may_write:
        return f"{topic}: writing is not allowed to {who}"
    for number, in_sync in sorted(partitions.items()):
        if not in_sync:
            return f"{topic}[{number}]: has no leader"
        if least is not None and in_sync < least:
            return f"{topic}[{number}]: got {in_sync} replicas in sync, allowed {least} or more (min.insync.replicas)"
    return None


def topic_unknown(url: str, topic: str) -> TopicUnknown:
    return TopicUnknown(f"topic {topic!r} is not on {url}")
