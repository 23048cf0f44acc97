"""Membership in a group through confluent-kafka: where partitions start, and what of them is committed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import confluent_kafka as kafka
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as Place

from kappawatt.bus.confluent.cluster import Cluster
from kappawatt.bus.confluent.consumer import ClusterConsumer
from kappawatt.bus.confluent.trouble import FENCED, MOVED, answered
from kappawatt.bus.interface import Start, TopicPartition
from kappawatt.bus.kafka_clients import ANSWER_SECONDS, Attendance, Session
from kappawatt.bus.logs import KnownLogs, beyond_end
from kappawatt.errors import BusError, LogRenewed

__all__ = ["Member"]

log = logging.getLogger(__name__)


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
        self._fresh: list[Place] = []  # assigned, paused, and not yet at their start
        self._attendance = Attendance()

    def _open(self) -> kafka.Consumer:
        session = Session.of(self._cluster.options)
        config: dict[str, Any] = {
            "group.id": self._group,
            "session.timeout.ms": session.timeout,
            "heartbeat.interval.ms": session.heartbeat,
            "max.poll.interval.ms": session.longest_pause,
        }
        if self._instance_id is not None:
            config["group.instance.id"] = self._instance_id
        client = self._consumer(config)
        self._fresh = []
        self._attendance.begin()
        self._logs.learn()
        client.subscribe(list(self._topics), on_assign=self._assign, on_revoke=self._revoke, on_lost=self._revoke)
        return client

    def commit(self) -> None:
        client = self._client
        offsets = {place: self._at[place] for place in self._moved if place in self._at}
        if client is None or not offsets:
            return
        # Kafka takes positions of an old log in the new one: it goes by the topic's name.
        renewed = self._logs.renewed(is_odd=False)
        offsets = {place: offset for place, offset in offsets.items() if place[0] not in renewed}
        if not offsets:
            return
        try:
            self._store(client, offsets)
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if reason.name() in FENCED:
                raise BusError(f"{self._group}: another member has taken {self._instance_id!r}") from error
            if reason.name() not in MOVED:
                raise self._cluster.failed(reason, self._trouble) from error
            log.info(
                "%s: commit of %s dropped, the partitions have moved (%s)",
                self._group,
                ", ".join(f"{topic}[{number}]@{offset}" for (topic, number), offset in offsets.items()),
                reason.name(),
            )
        self._moved -= offsets.keys()

    def rewind(self) -> None:
        if self._client is None or not self._at:
            return
        try:
            starts = self._starts(self._client, [Place(*place) for place in self._at])
            for (topic, number), offset in starts.items():
                self._client.seek(Place(topic, number, offset))
        except KafkaException as error:
            raise self._cluster.failed(error.args[0], self._trouble) from error
        self._at = starts
        self._moved = set()

    def _begin_new_log(self, client: kafka.Consumer, topic: str, now: str, before: str) -> None:
        """Go to the beginning of a topic that was made again: Kafka forgot what was committed of it."""
        log.warning("%s; %s begins at its beginning", LogRenewed.of(topic, now, before), self._group)
        for place in [place for place in self._at if place[0] == topic]:
            self._at[place], _ = client.get_watermark_offsets(Place(*place), timeout=ANSWER_SECONDS)
            self._astray.add(place)
            self._moved.add(place)
        self._logs.accept(topic, now)

    def _note_heard(self) -> None:
        self._attendance.heard()

    def _look(self, client: kafka.Consumer) -> None:
        if not self._attendance.is_due:
            return
        try:
            reason = self._why_outside(client)
        except (BusError, KafkaException):
            return  # whether a broker answers at all is asked elsewhere
        if self._attendance.confirms(reason):
            log.warning("%s: this member %s; it joins again", self._group, reason)
            self.close()

    def _why_outside(self, client: kafka.Consumer) -> str | None:
        group, partitions = self._cluster.group(self._group), self._cluster.partitions(self._topics)
        assigned = {(place.topic, place.partition) for place in client.assignment()}
        reason = group.why_outside(client.memberid() or "", assigned, partitions)
        if reason is None and self._attendance.is_starving and (waiting := sum(self.lag().values())):
            return f"has got nothing for long, and {waiting} messages wait"
        return reason

    def _assign(self, client: kafka.Consumer, places: list[Place]) -> None:
        named = ", ".join(f"{place.topic}[{place.partition}]" for place in places)
        log.info("%s: assigned %s", self._group, named or "nothing")
        client.assign(places)
        if places:
            client.pause(places)
        self._fresh = list(places)
        self._at = {}
        self._moved = set()

    def _settle(self, client: kafka.Consumer) -> None:
        if not self._fresh:
            return
        starts = self._starts(client, self._fresh)
        client.assign([Place(*place, offset) for place, offset in starts.items()])
        client.resume(self._fresh)
        self._fresh = []
        self._at = starts

    def _revoke(self, client: kafka.Consumer, places: list[Place]) -> None:
        self._fresh = []
        self._at = {}
        self._moved = set()

    def _starts(self, client: kafka.Consumer, places: list[Place]) -> dict[TopicPartition, int]:
        """Return the committed offset of each partition; where there is none, commit the start first."""
        committed = answered(client.committed(places, timeout=ANSWER_SECONDS))
        starts = {(place.topic, place.partition): place.offset for place in committed}
        fresh = {}
        for topic, number in [named for named, offset in starts.items() if offset < 0]:
            begin, end = client.get_watermark_offsets(Place(topic, number), timeout=ANSWER_SECONDS)
            fresh[topic, number] = begin if self._start is Start.EARLIEST else end
        known = {named: offset for named, offset in starts.items() if offset >= 0}
        ends = self._cluster.ends(known, is_all=True)
        for place in [place for place, offset in known.items() if offset > ends[place]]:
            log.warning(beyond_end(self._group, place, known[place], ends[place]))
            fresh[place], _ = client.get_watermark_offsets(Place(*place), timeout=ANSWER_SECONDS)
        if fresh:
            self._store(client, fresh)
        return starts | fresh

    def _store(self, client: kafka.Consumer, offsets: Mapping[TopicPartition, int]) -> None:
        wanted = [Place(*place, offset) for place, offset in offsets.items()]
        answered(client.commit(offsets=wanted, asynchronous=False))
