"""What every bus can do, in Kafka's own words: topic, partition, offset, consumer group, commit.

Messages come in columns (`Records`: parallel lists for one topic partition), because a poll is answered as
one batch and a Python object a message would cost more than the model does.

Both implementations pass `tests/contract/test_bus_contract.py`. Nothing touches the network in `__init__`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from kappawatt.bus.topic import Topic

Headers = tuple[tuple[str, bytes], ...]
TopicPartition = tuple[str, int]

POLL_BYTES = 4 * 1024 * 1024  # about as much as one poll returns: a batch that stays in the processor's cache

__all__ = [
    "POLL_BYTES",
    "Bus",
    "Consumer",
    "Headers",
    "Offsets",
    "Outgoing",
    "Producer",
    "Records",
    "Start",
    "TopicPartition",
    "header",
    "left_to_read",
]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to publish.

    Parameters
    ----------
    timestamp : int or None
        Event time [ms since the epoch, UTC]; None is now.
    partition : int or None
        None lets the key decide (murmur2, as Kafka's Java client does), or spreads keyless messages.
    """

    topic: str
    value: bytes
    key: bytes | None = None
    headers: Headers = ()
    timestamp: int | None = None
    partition: int | None = None

    @property
    def size(self) -> int:
        """Bytes this message holds in memory while it waits for its acknowledgement."""
        return len(self.value) + len(self.key or b"") + 64


@dataclass(frozen=True, slots=True)
class Records:
    """Messages of one topic partition in offset order, as parallel lists.

    `timestamps` are ms since the epoch, UTC. Offsets increase but may have gaps (compaction, retention). `log` is the
    identity of the topic's log: a topic that is deleted and made again counts its offsets from 0 once more, in another
    log. It is "" where the bus has none (Kafka before 2.8). `since` is the offset reading went on from: no message
    stands between it and the first one, though a transaction's marker may, or what was aborted; None if not known.
    `envelope` is what settings say that the topic's messages are wrapped in, "" nothing.
    """

    topic: str
    partition: int
    offsets: Sequence[int]
    timestamps: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes]
    headers: Sequence[Headers]
    log: str = ""
    since: int | None = None
    envelope: str = ""

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def next_offset(self) -> int:
        """The offset to commit once all of these are dealt with."""
        return self.offsets[-1] + 1

    @property
    def begin(self) -> int:
        """The offset from which on these are all messages there are."""
        return self.offsets[0] if self.since is None else min(self.since, self.offsets[0])

    def pick(self, places: Sequence[int]) -> Records:
        """Return the messages at these places."""

        def pick(values: Sequence[Any]) -> list[Any]:
            return [values[i] for i in places]

        return Records(
            self.topic,
            self.partition,
            pick(self.offsets),
            pick(self.timestamps),
            pick(self.keys),
            pick(self.values),
            pick(self.headers),
            self.log,
            self.since if len(places) and places[0] == 0 else None,
            self.envelope,
        )

    def halves(self) -> tuple[Records, Records]:
        """Return the first half of the messages, and the second."""
        middle = len(self) // 2
        return self.pick(range(middle)), self.pick(range(middle, len(self)))

    def before(self, offset: int) -> Records:
        """Return the messages below an offset."""
        n = bisect_left(self.offsets, offset)
        return self if n == len(self) else self.pick(range(n))


@dataclass(frozen=True, slots=True)
class Offsets:
    """First offset kept and the end of what can be read, of one partition: the offset the next message will get, or
    that of the first message of a transaction which is under way.
    """

    begin: int
    end: int


class Start(StrEnum):
    """Where a group without a committed offset starts."""

    EARLIEST = "earliest"
    LATEST = "latest"


def header(headers: Headers, name: str) -> bytes | None:
    """Return the last value of header `name`, in whatever letters, or None."""
    for key, value in reversed(headers):
        if key == name or key.lower() == name:
            return value
    return None


class Producer(Protocol):
    """Publishes; safe to share between threads."""

    def publish(self, messages: Sequence[Outgoing], *, timeout: float = 30.0, wait: bool = True) -> None:
        """Publish `messages` and return once the bus has acknowledged every one of them.

        Messages of one key keep their order. The bytes in flight over all threads are bounded
        (`max_in_flight_bytes`); a single call larger than the bound is let through alone.

        Raises
        ------
        Overloaded
            The limit of bytes in flight is reached and `wait` is False; nothing of this call was sent.
        DeliveryFailed
            Not all were acknowledged; some may have been stored.
        DeliveryLate
            Not all were acknowledged within `timeout` seconds; the client tries on, and its
            `outcome` tells what became of them.
        TopicUnknown
            A topic does not exist; topics are never created by publishing.
        """
        ...

    def close(self) -> None:
        """Wait for what is in flight, then release everything."""
        ...


class Consumer(Protocol):
    """One member of a consumer group, or a reader without a group. Used from one thread."""

    def poll(self, timeout: float) -> list[Records]:
        """Return what has arrived, at most `max_records` messages and about `POLL_BYTES`, waiting up to `timeout` s.

        Blocks of one partition come in offset order. Raises TopicUnknown when a topic does not exist
        (for longer than the client's patience), BusUnreachable when no broker answers for a long time,
        BatchUnreadable when a batch cannot be read, at each poll until it can or is gone.

        When a topic was deleted and made again, a member goes on at the beginning of the new log, and a reader
        raises LogRenewed: what its positions meant is gone. A Kafka client looks for that four times a second.
        """
        ...

    def commit(self) -> None:
        """Commit the position of every partition still assigned; all polled messages are dealt with.

        A commit after the partition has moved to another member is dropped silently: the other member
        reads those messages again and gives them the same ids.
        """
        ...

    def rewind(self) -> None:
        """Go back to the last committed offsets (or the start), so that the next poll reads again."""
        ...

    def seek(self, topic: str, partition: int, offset: int) -> None:
        """Continue an assigned partition at `offset`."""
        ...

    def positions(self) -> Mapping[TopicPartition, int]:
        """Return, per assigned partition, the offset of the next message to be polled. It passes over what is no
        message, as a transaction's marker or what was aborted, once a poll has found nothing behind it.
        """
        ...

    def lag(self) -> Mapping[TopicPartition, int]:
        """Return, per assigned partition, the offsets between position and end, which is asked for now."""
        ...

    def close(self) -> None:
        """Leave the group (a static member stays on the books until its session ends)."""
        ...


def left_to_read(consumer: Consumer, ends: Mapping[TopicPartition, int]) -> int:
    """Return how many messages a consumer has still to poll before it has reached these ends."""
    positions = consumer.positions()
    return sum(max(0, end - positions.get(where, 0)) for where, end in ends.items())


class Bus(Protocol):
    """A connection to one bus."""

    url: str

    def producer(self) -> Producer:
        """Return a producer."""
        ...

    def consumer(
        self,
        topics: Sequence[str],
        group: str,
        *,
        instance_id: str | None = None,
        start: Start = Start.EARLIEST,
        max_records: int = 5000,
    ) -> Consumer:
        """Join `group` on `topics`. On first assignment the start position is committed, so that lag
        is defined before the first message (lag-based scalers need it). `instance_id` makes the member
        static: its partitions wait for it over a restart instead of moving.
        """
        ...

    def reader(
        self, topics: Sequence[str], positions: Mapping[TopicPartition, int], *, max_records: int = 5000
    ) -> Consumer:
        """Read every partition of `topics` without a group, from `positions` (else from the first offset
        kept). `commit` and `rewind` do nothing useful here and raise BusError.
        """
        ...

    def ensure(self, topics: Iterable[Topic]) -> list[str]:
        """Create the topics that do not exist; return the names created."""
        ...

    def offsets(self, topic: str) -> dict[int, Offsets]:
        """Return the first and the end offset of each partition. Raises TopicUnknown."""
        ...

    def log_id(self, topic: str) -> str:
        """Return the identity of a topic's log, "" where the bus has none. Raises TopicUnknown."""
        ...

    def offsets_at(self, topic: str, timestamp: int) -> dict[int, int]:
        """Return, per partition, the first offset whose timestamp is `timestamp` [ms] or later (else the
        end offset).
        """
        ...

    def topics(self) -> dict[str, int]:
        """Return the number of partitions by topic name."""
        ...

    def why_not_writable(self, topics: Sequence[str]) -> str | None:
        """Return why topics take no messages now, None if nothing is known to be in the way. Nothing is written."""
        ...

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Return the committed offset of each partition that has one."""
        ...

    def commit_for(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit offsets for a group that has no member; BusError if it has one."""
        ...

    def close(self) -> None:
        """Release the connection; producers and consumers are closed by whoever made them."""
        ...


@dataclass(slots=True)
class BusOptions:
    """Options that are the same on every bus, and client settings passed through under Kafka's own names.

    Parameters
    ----------
    max_in_flight_bytes : int
        Bound on bytes published but not yet acknowledged, per producer.
    session_timeout : float
        Seconds without a sign of life after which a member's partitions move.
    kafka_client : str
        `kafka-python`, or `confluent` for the accelerator (extra `fast-kafka`).
    client : mapping of str to str
        Kafka client settings (`security.protocol`, `sasl.mechanism`, `ssl.cafile`, ...).
    skip_unreadable : bool
        Whether a batch that cannot be read is left out instead of reported.
    skipped : callable
        Told topic and partition of each one that was left out.
    envelopes : mapping of str to str
        What messages of a topic are wrapped in: Records carry it, and nothing here opens it.
    """

    max_in_flight_bytes: int = 32 * 1024 * 1024
    session_timeout: float = 10.0
    kafka_client: str = "kafka-python"
    client: Mapping[str, str] = field(default_factory=dict)
    skip_unreadable: bool = False
    skipped: Callable[[str, int], None] = lambda topic, partition: None
    envelopes: Mapping[str, str] = field(default_factory=dict)
