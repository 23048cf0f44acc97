"""Reading without a group: a span of topics up to an end, and what comes from now on, wherever a promotion takes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence

from kappawatt.bus.interface import Bus, Consumer, Offsets, Records, TopicPartition, left_to_read
from kappawatt.bus.promotions import PromotionFollower, Serving
from kappawatt.errors import SpanIncomplete

__all__ = ["Tail", "ends_of", "from_the_end", "read_span"]

IDLE_SECONDS = 30.0  # without a message before the end: something is wrong
LOOK_SECONDS = 5.0  # between two looks for topics that were missing


def ends_of(bus: Bus, topics: Sequence[str]) -> dict[TopicPartition, int]:
    """Return the end of each partition of some topics."""
    return {(topic, p): known.end for topic in topics for p, known in bus.offsets(topic).items()}


def read_span(
    bus: Bus,
    topics: Sequence[str],
    start: Mapping[TopicPartition, int],
    end: Mapping[TopicPartition, int] | None = None,
    *,
    max_records: int = 5000,
    poll_seconds: float = 0.5,
    idle_seconds: float = IDLE_SECONDS,
) -> Generator[list[Records]]:
    """Read from `start` up to `end`, and yield what each poll brought.

    Nothing at or beyond the end is among it. A poll that brought nothing is yielded too, so that whoever reads can
    show that it lives.

    Parameters
    ----------
    topics : sequence of str
    start : mapping of (topic, partition) to int
        Others, and those whose start is not kept any more, begin at the first offset kept.
    end : mapping of (topic, partition) to int, optional
        Partitions that are not in it are not read. The end there is now, of every partition, if absent.

    Raises
    ------
    SpanIncomplete
        Nothing came for `idle_seconds` before the end.
    TopicUnknown
    """
    known = {(topic, p): offsets for topic in topics for p, offsets in bus.offsets(topic).items()}
    if end is None:
        end = {where: offsets.end for where, offsets in known.items()}
    # a reader has all partitions of a topic: those that are not to be read stand at their end
    positions = {
        where: max(start.get(where, 0), offsets.begin) if where in end else offsets.end
        for where, offsets in known.items()
    }
    goal = {where: to for where, to in end.items() if to > positions.get(where, 0)}
    if not goal:
        return
    reader = bus.reader(topics, positions, max_records=max_records)
    try:
        last = time.monotonic()
        while left := left_to_read(reader, goal):
            polled = [_up_to(goal, records) for records in reader.poll(poll_seconds)]
            polled = [records for records in polled if len(records)]
            if not polled and time.monotonic() - last > idle_seconds:
                names = ", ".join(topics)
                raise SpanIncomplete(
                    f"{names}: got nothing for {idle_seconds:g} s, allowed {left} messages up to {goal}"
                )
            yield polled
            if polled:
                last = time.monotonic()  # what was done with them took no time from the bus
    finally:
        reader.close()


def _up_to(goal: Mapping[TopicPartition, int], records: Records) -> Records:
    return records.before(goal.get((records.topic, records.partition), 0))


Start = Callable[[str, str, Mapping[int, Offsets]], Mapping[int, int]]
"""Topic, its log and its offsets by partition, to where reading begins in each."""


def from_the_end(topic: str, log: str, offsets: Mapping[int, Offsets]) -> Mapping[int, int]:
    """Begin with what comes next."""
    return {partition: known.end for partition, known in offsets.items()}


class Tail:
    """What comes on a stream's answers, wherever a promotion takes them, and on some more topics.

    Topics that do not exist are waited for. It reads the topics there are once it was made, and others only after
    `move`.

    Parameters
    ----------
    bus : Bus
    stream : str
        Name of the stream of answers.
    others : sequence of str
        Topics that are read beside it.
    start : callable
        Where a topic is begun; asked for every topic at first and after each move.
    look_seconds : float
        Between two looks for topics that were missing.

    Attributes
    ----------
    serving : Serving or None
        The promotion that is followed.
    topic : str
        Where the answers come from.
    missing : tuple of str
        Topics that do not exist yet.
    begun : mapping of (topic, partition) to int
        Where reading began after the last move.
    logs : mapping of str to str
        The log of each topic that is read.
    """

    def __init__(
        self,
        bus: Bus,
        stream: str,
        others: Sequence[str] = (),
        *,
        start: Start = from_the_end,
        max_records: int = 5000,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._bus = bus
        self._stream = stream
        self._others = tuple(others)
        self._start = start
        self._max_records = max_records
        self._look_seconds = look_seconds
        self._promotions = PromotionFollower(bus, stream)
        self._reader: Consumer | None = None
        self._look = 0.0
        self.serving: Serving | None = None
        self.missing: tuple[str, ...] = ()
        self.begun: dict[TopicPartition, int] = {}
        self.logs: dict[str, str] = {}
        try:
            self._open(self._promotions.read())
        except BaseException:
            self.close()
            raise

    @property
    def topic(self) -> str:
        """Where the answers come from."""
        return self.serving.topic if self.serving else self._stream

    @property
    def waits(self) -> bool:
        """Whether no topic exists yet."""
        return self._reader is None

    def move(self) -> bool:
        """Go where a promotion says, or where topics have come that were missing; whether there was such a thing."""
        promoted = self._promotions.poll()
        came = False
        if time.monotonic() > self._look:
            self._look = time.monotonic() + self._look_seconds
            promoted = self._promotions.read() or promoted
            came = bool(self.missing) and not set(self.missing).isdisjoint(self._bus.topics())
        moved = promoted is not None and promoted != self.serving
        if moved or came:
            self._open(promoted or self.serving)
        return moved or came

    def poll(self, timeout: float) -> list[Records]:
        """Return what has come, after at most `timeout` seconds; nothing, at once, while no topic exists."""
        return [] if self._reader is None else self._reader.poll(timeout)

    def positions(self) -> Mapping[TopicPartition, int]:
        """Return the offset of the next message of each partition."""
        return {} if self._reader is None else self._reader.positions()

    def lag(self) -> Mapping[TopicPartition, int]:
        """Return how many messages stand between the position and the end of each partition."""
        return {} if self._reader is None else self._reader.lag()

    def skip(self, where: TopicPartition, messages: int) -> int:
        """Leave out so many messages of a partition; return the offset at which reading goes on."""
        offset = self.positions()[where] + messages
        if self._reader is not None:
            self._reader.seek(*where, offset)
        return offset

    def close(self) -> None:
        """Stop reading."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._promotions.close()

    def _open(self, serving: Serving | None) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self.serving = serving
        self._look = time.monotonic() + self._look_seconds
        wanted, there = (self.topic, *self._others), self._bus.topics()
        topics = [topic for topic in wanted if topic in there]
        self.missing = tuple(topic for topic in wanted if topic not in there)
        self.logs = {topic: self._bus.log_id(topic) for topic in topics}  # before their offsets
        self.begun = {
            (topic, partition): offset
            for topic, log in self.logs.items()
            for partition, offset in self._start(topic, log, self._bus.offsets(topic)).items()
        }
        if topics:
            self._reader = self._bus.reader(topics, self.begun, max_records=self._max_records)
