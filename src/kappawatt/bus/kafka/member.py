"""Membership in a group through kafka-python: where partitions start, and what of them is committed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping

from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata
from kafka import TopicPartition as Place
from kafka import errors as kafka_errors

from kappawatt.bus.interface import Start
from kappawatt.bus.kafka.cluster import Cluster
from kappawatt.bus.kafka.consumer import CONSUMER, ClusterConsumer, ms
from kappawatt.bus.kafka.failures import named
from kappawatt.bus.kafka_clients import (
    ANSWER_SECONDS,
    CLOSE_SECONDS,
    CONNECT_SECONDS,
    TOPIC_PATIENCE,
    Attendance,
    Session,
)
from kappawatt.bus.kafka_settings import Role
from kappawatt.bus.logs import KnownLogs, beyond_end
from kappawatt.errors import BusError, LogRenewed

__all__ = ["Member"]

log = logging.getLogger(__name__)

MOVED = (
    kafka_errors.CommitFailedError,
    kafka_errors.RebalanceInProgressError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.UnknownMemberIdError,
)


class Member(ClusterConsumer):
    """A member of a group."""

    def __init__(
        self,
        cluster: Cluster,
        topics: tuple[str, ...],
        group: str,
        instance_id: str | None,
        start: Start,
        max_records: int,
    ) -> None:
        super().__init__(cluster, topics, KnownLogs(topics, cluster.logs), max_records)
        self._group = group
        self._instance_id = instance_id
        self._start = start
        self._fresh: set[Place] = set()  # assigned, paused, and not yet at their start
        self._attendance = Attendance()

    def _open(self) -> KafkaConsumer:
        session = Session.of(self._cluster.options)
        config = {
            **CONSUMER,
            "group_id": self._group,
            "group_instance_id": self._instance_id,
            "session_timeout_ms": session.timeout,
            "heartbeat_interval_ms": session.heartbeat,
            "max_poll_interval_ms": session.longest_pause,
            "max_poll_records": self._max_records,
        }
        client = self._cluster.open(KafkaConsumer, CONNECT_SECONDS, Role.CONSUMER, config)
        self._fresh = set()
        self._at.clear()
        self._attendance.begin()
        try:
            for name in self._topics:
                self._cluster.places(name)  # the client would have the broker create a topic that is not there
            self._logs.learn()
            client.subscribe(topics=list(self._topics), listener=_Assignment(client, self))
            self._await_topics(client)
        except BusError:
            client.close(autocommit=False, timeout_ms=ms(CLOSE_SECONDS))
            raise
        return client

    def _assigned(self) -> list[Place]:
        # an assignment can arrive between two polls; it counts from when its start is known
        fresh = set(self._fresh)
        return [place for place in super()._assigned() if place not in fresh]

    def _await_topics(self, client: KafkaConsumer) -> None:
        """Join with the topics known: a leader that does not know them assigns nothing, and leaves it so.

        Asked for after subscribing: a client that hears of its topics after it has joined joins again at once, and two
        joins that follow each other so closely can leave it outside the group.
        """
        deadline = time.monotonic() + TOPIC_PATIENCE
        missing = set(self._topics)
        while True:
            is_told = False
            with self._failures():
                missing -= client.topics()
                is_told = True
            if not missing:
                return
            if time.monotonic() > deadline:
                if is_told:
                    raise self._cluster.unknown(min(missing))
                raise self._cluster.unreachable(TimeoutError(f"topics not told within {TOPIC_PATIENCE:g} s"))

    def commit(self) -> None:
        client = self._client
        if client is None:
            return
        assigned = set(self._assigned())
        offsets = {place: offset for place, offset in self._moved.items() if place in assigned}
        if not offsets:
            return
        # Kafka takes positions of an old log in the new one: it goes by the topic's name.
        renewed = self._logs.renewed(is_odd=False)
        offsets = {place: offset for place, offset in offsets.items() if place.topic not in renewed}
        if not offsets:
            return
        try:
            self._store(client, offsets)
        except MOVED as error:
            log.info(
                "%s: commit of %s dropped, the partitions have moved (%s)",
                self._group,
                ", ".join(f"{named(place)}@{offset}" for place, offset in offsets.items()),
                type(error).__name__,
            )
        except kafka_errors.FencedInstanceIdError as error:
            raise BusError(f"{self._group}: another member has taken {self._instance_id!r}") from error
        except kafka_errors.KafkaError as error:
            raise self._cluster.failed(error) from error
        for place, offset in offsets.items():
            if self._moved.get(place) == offset:
                del self._moved[place]

    def rewind(self) -> None:
        if self._client is None:
            return
        places = self._assigned()
        self._fresh.update(places)
        self._moved.clear()
        self._client.pause(*places)
        with self._failures():
            self._settle(self._client)

    def _settle(self, client: KafkaConsumer) -> None:
        """Put fresh partitions at their committed offset; where there is none, commit the start first."""
        places = self._fresh & set(client.assignment() or ())
        if not places:
            return
        waiting = ms(ANSWER_SECONDS)
        at = {place: client.committed(place, timeout_ms=waiting) for place in places}
        new = [place for place, offset in at.items() if offset is None]
        starts = {}
        if new:
            earliest = self._start is Start.EARLIEST
            ask = client.beginning_offsets if earliest else client.end_offsets
            starts = ask(new, timeout_ms=waiting)
        beyond = self._beyond({place: offset for place, offset in at.items() if offset is not None})
        if beyond:
            starts |= client.beginning_offsets(beyond, timeout_ms=waiting)
        if starts:
            at |= starts
            try:
                self._store(client, starts)
            except MOVED:
                return  # a new assignment is on its way
        for place, offset in at.items():
            client.seek(place, offset)
            self._at[place] = offset
        client.resume(*places)
        self._fresh -= places

    def _beyond(self, committed: Mapping[Place, int]) -> list[Place]:
        """Return partitions that end before what is committed of them."""
        ends = self._cluster.ends(committed, is_all=True)
        beyond = [place for place, offset in committed.items() if offset > ends[place]]
        for place in beyond:
            log.warning(beyond_end(self._group, place, committed[place], ends[place]))
        return beyond

    def _begin_new_log(self, client: KafkaConsumer, topic: str, now: str, before: str) -> None:
        """Go to the beginning of a topic that was made again: Kafka forgot what was committed of it."""
        log.warning("%s; %s begins at its beginning", LogRenewed.of(topic, now, before), self._group)
        places = [place for place in self._assigned() if place.topic == topic]
        begin = client.beginning_offsets(places, timeout_ms=ms(ANSWER_SECONDS)) if places else {}
        for place, offset in begin.items():
            self._go_to(client, place, offset)
        self._logs.accept(topic, now)

    def _note_heard(self) -> None:
        super()._note_heard()
        self._attendance.heard()

    def _look(self, client: KafkaConsumer) -> None:
        attendance = self._attendance
        if not attendance.is_due:
            return
        try:
            reason = self._why_outside(client)
        except BusError:
            return  # whether a broker answers at all is asked elsewhere
        if attendance.confirms(reason):
            log.warning("%s: this member %s; it joins again", self._group, reason)
            self._drop()

    def _why_outside(self, client: KafkaConsumer) -> str | None:
        group, partitions = self._cluster.group(self._group), self._cluster.partitions(self._topics)
        assigned = {(place.topic, place.partition) for place in client.assignment() or ()}
        reason = group.why_outside(client.group_metadata().member_id, assigned, partitions)
        if reason is None and self._attendance.is_starving and (waiting := sum(self.lag().values())):
            return f"has got nothing for long, and {waiting} messages wait"
        return reason

    def _store(self, client: KafkaConsumer, offsets: Mapping[Place, int]) -> None:
        client.commit(
            {place: OffsetAndMetadata(offset, "", -1) for place, offset in offsets.items()},
            timeout_ms=ms(ANSWER_SECONDS),
        )

    def assigned(self, client: KafkaConsumer, places: set[Place]) -> None:
        """Hold partitions that were just given to this member until their start is known."""
        log.info("%s: assigned %s", self._group, ", ".join(map(named, sorted(places))) or "nothing")
        client.pause(*places)
        self._fresh |= places
        self._forget(places)

    def revoked(self, places: set[Place]) -> None:
        """Forget partitions that have gone to another member."""
        self._fresh -= places
        self._forget(places)

    def _forget(self, places: set[Place]) -> None:
        for place in places:
            self._moved.pop(place, None)
            self._at.pop(place, None)


class _Assignment(ConsumerRebalanceListener):  # type: ignore[misc]
    """Called by the client while it polls, on its own thread: no question to the cluster is allowed here."""

    def __init__(self, client: KafkaConsumer, member: Member) -> None:
        self._client = client
        self._member = member

    def on_partitions_assigned(self, assigned: Iterable[Place]) -> None:
        self._member.assigned(self._client, set(assigned))

    def on_partitions_revoked(self, revoked: Iterable[Place]) -> None:
        self._member.revoked(set(revoked))
