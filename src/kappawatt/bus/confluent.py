"""Apache Kafka through confluent-kafka (librdkafka): the accelerator behind the extra `fast-kafka`."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from kappawatt.bus.interface import (
    POLL_BYTES,
    BusOptions,
    Consumer,
    Offsets,
    Outgoing,
    Producer,
    Records,
    Start,
    TopicPartition,
)
from kappawatt.bus.kafka_settings import REJOIN_MS, Role, read_settings, topic_config
from kappawatt.bus.partitioner import partition_for
from kappawatt.bus.room import Room
from kappawatt.bus.topics import LARGEST_MESSAGE, Topic
from kappawatt.errors import BusError, BusUnreachable, DeliveryFailed, SettingInvalid, TopicUnknown

try:
    import confluent_kafka as kafka
    from confluent_kafka import KafkaError, KafkaException, admin
    from confluent_kafka import TopicPartition as Place
    from confluent_kafka.admin import AdminClient
except ImportError as error:
    raise SettingInvalid(
        "kafka_client: confluent-kafka is not installed: pip install 'kappawatt[fast-kafka]'"
    ) from error

__all__ = ["ConfluentBus"]

log = logging.getLogger(__name__)

administration: Any = admin  # its stubs do not export all it has

CONNECT_SECONDS = 15.0  # how long a first connection is tried before BusUnreachable
TOPIC_PATIENCE = 5.0  # a topic made a moment ago is not known to every broker at once
SILENCE_SECONDS = 60.0  # all brokers down for so long, poll says so
ANSWER_SECONDS = 15.0  # for one question to the cluster, over retries
SLICE_SECONDS = 0.25
FRESH_SECONDS = 60.0  # partition counts are asked for again after so long
BOTH: dict[str, Any] = {
    "reconnect.backoff.max.ms": 1000,
    "socket.timeout.ms": 20_000,
    "allow.auto.create.topics": False,
    "log_level": 2,  # failures reach error_cb; librdkafka would also print them to stderr
}
PRODUCER: dict[str, Any] = {
    **BOTH,
    "acks": "all",
    "enable.idempotence": True,
    "compression.type": "lz4",
    "batch.size": 256 * 1024,
    "linger.ms": 0,  # while a request is under way the next batch fills
    "delivery.timeout.ms": 120_000,
    "message.max.bytes": LARGEST_MESSAGE,
    "queue.buffering.max.messages": 0,  # no bound in messages: Room bounds the bytes
    "queue.buffering.max.kbytes": 2_000_000,
}
CONSUMER: dict[str, Any] = {
    **BOTH,
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",  # only where retention has removed the position
    "check.crcs": True,
    "max.partition.fetch.bytes": 4 * 1024 * 1024,
    "fetch.wait.max.ms": 250,
    "queued.min.messages": 100_000,
    "queued.max.messages.kbytes": 65_536,
}
MOVED = (
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError._ASSIGNMENT_LOST,
    KafkaError._STATE,
)
UNKNOWN = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)
REFUSED = (
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.UNSUPPORTED_SASL_MECHANISM,
)
PASSING = (
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._WAIT_COORD,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    *UNKNOWN,
)
T = TypeVar("T")


class ConfluentBus:
    """A Kafka cluster.

    Parameters
    ----------
    address : str
        `HOST:PORT[,HOST:PORT]`.

    Raises
    ------
    SettingInvalid
        A client setting cannot be used.
    """

    def __init__(self, address: str, options: BusOptions | None = None) -> None:
        self.url = f"kafka://{address}"
        self.options = options or BusOptions()
        self._servers = address
        self._settings = read_settings(self.options.client)
        self._lock = threading.Lock()
        self._admin: tuple[AdminClient, _Trouble] | None = None
        self._admin_pid = 0

    def producer(self) -> Producer:
        return _Producer(self, Room(self.options.max_in_flight_bytes))

    def consumer(
        self,
        topics: Sequence[str],
        group: str,
        *,
        instance_id: str | None = None,
        start: Start = Start.EARLIEST,
        max_records: int = 5000,
    ) -> Consumer:
        return _Member(self, tuple(topics), group, instance_id, start, max_records)

    def reader(
        self, topics: Sequence[str], positions: Mapping[TopicPartition, int], *, max_records: int = 5000
    ) -> Consumer:
        return _Reader(self, tuple(topics), positions, max_records)

    def ensure(self, topics: Iterable[Topic]) -> list[str]:
        known = self.topics()
        missing = [
            administration.NewTopic(topic.name, num_partitions=topic.partitions, config=topic_config(topic))
            for topic in topics
            if topic.name not in known
        ]
        if not missing:
            return []
        created = []
        answers = self._ask(lambda admin: admin.create_topics(missing, request_timeout=ANSWER_SECONDS))
        for name, answer in answers.items():
            try:
                answer.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another process was faster
                    raise BusError(f"topic {name!r}: {error.args[0].str()}") from error
            else:
                created.append(name)
        for name in created:
            self._places(name)
        return created

    def offsets(self, topic: str) -> dict[int, Offsets]:
        places = self._places(topic)
        begin = self._look_up(places, administration.OffsetSpec.earliest())
        end = self._look_up(places, administration.OffsetSpec.latest())
        return {number: Offsets(begin[number], end[number]) for number in begin}

    def offsets_at(self, topic: str, timestamp: int) -> dict[int, int]:
        places = self._places(topic)
        found = self._look_up(places, administration.OffsetSpec.for_timestamp(timestamp))
        end = self._look_up(places, administration.OffsetSpec.latest())
        return {number: found[number] if found[number] >= 0 else end[number] for number in end}

    def topics(self) -> dict[str, int]:
        known = self._ask(lambda admin: admin.list_topics(timeout=ANSWER_SECONDS)).topics
        return {
            name: len(topic.partitions)
            for name, topic in sorted(known.items())
            if topic.error is None and not name.startswith("__")  # as Kafka names its internal topics
        }

    def committed(self, group: str, topic: str) -> dict[int, int]:
        request = [kafka.ConsumerGroupTopicPartitions(group, self._places(topic))]
        answer = self._ask(
            lambda admin: admin.list_consumer_group_offsets(request, request_timeout=ANSWER_SECONDS)[group].result()
        )
        found = sorted((p.partition, p.offset) for p in answer.topic_partitions)
        return {number: offset for number, offset in found if offset >= 0}

    def commit_for(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        wanted = [Place(*place, offset) for place, offset in offsets.items()]
        if not wanted:
            return
        request = [kafka.ConsumerGroupTopicPartitions(group, wanted)]
        waiting = {"request_timeout": ANSWER_SECONDS}
        members = self._ask(lambda admin: admin.describe_consumer_groups([group], **waiting)[group].result()).members
        if members:
            raise BusError(f"group {group!r}: got {len(members)} members, allowed none")
        answer = self._ask(lambda admin: admin.alter_consumer_group_offsets(request, **waiting)[group].result())
        for place in answer.topic_partitions:
            if place.error is not None:
                raise BusError(f"{group}: {place.topic}[{place.partition}]: {place.error.str()}")

    def close(self) -> None:
        with self._lock:
            self._admin = None

    def _places(self, topic: str) -> list[Place]:
        deadline = time.monotonic() + TOPIC_PATIENCE
        while True:
            found = self._ask(lambda admin: admin.list_topics(topic, timeout=ANSWER_SECONDS)).topics[topic]
            if found.error is None and found.partitions:
                if all(p.leader >= 0 for p in found.partitions.values()):
                    return [Place(topic, number) for number in sorted(found.partitions)]
            elif found.error is not None and found.error.code() not in PASSING:
                raise BusError(f"{topic}: {found.error.str()}")
            if time.monotonic() > deadline:
                raise self._unknown(topic)
            time.sleep(0.2)

    def _look_up(self, places: list[Place], at: Any) -> dict[int, int]:
        wanted = dict.fromkeys(places, at)
        answers = self._ask(
            lambda admin: {
                place.partition: answer.result().offset
                for place, answer in admin.list_offsets(wanted, request_timeout=ANSWER_SECONDS).items()
            }
        )
        return {number: int(offset) for number, offset in answers.items()}

    def _ask(self, question: Callable[[AdminClient], T]) -> T:
        """Ask the cluster, again while the failure is one that passes."""
        deadline = time.monotonic() + ANSWER_SECONDS
        admin, trouble = self._connected_admin(deadline)
        while True:
            try:
                return question(admin)
            except KafkaException as error:
                if time.monotonic() > deadline or error.args[0].code() not in PASSING:
                    raise self._failed(error.args[0], trouble) from error
                time.sleep(0.2)

    def _connected_admin(self, deadline: float) -> tuple[AdminClient, _Trouble]:
        with self._lock:
            if self._admin is None or self._admin_pid != os.getpid():
                trouble = _Trouble()
                admin = self._make(AdminClient, self._config(Role.ANY, BOTH, trouble))
                self._await_broker(admin, trouble, deadline)
                self._admin = admin, trouble
                self._admin_pid = os.getpid()
            return self._admin

    def _config(self, role: Role, config: Mapping[str, Any], trouble: _Trouble) -> dict[str, Any]:
        return {
            **config,
            **self._settings.librdkafka(role),
            "bootstrap.servers": self._servers,
            "error_cb": trouble.note,
        }

    def _make(self, make: Callable[[dict[str, Any]], T], config: dict[str, Any]) -> T:
        try:
            return make(config)
        except KafkaException as error:
            raise SettingInvalid(f"Kafka client settings: {error.args[0].str()}") from error

    def _await_broker(self, client: Any, trouble: _Trouble, deadline: float) -> None:
        """Return once a broker answers; raise at once when it refuses this client."""
        while True:
            with contextlib.suppress(KafkaException):
                client.list_topics(timeout=0.5)
                return
            if hasattr(client, "poll"):
                client.poll(0)  # lets error_cb run
            if trouble.refused is not None or time.monotonic() > deadline:
                raise self._unreachable(trouble)

    def _unreachable(self, trouble: _Trouble) -> BusUnreachable:
        who = self._settings.identity
        reason = trouble.refused or trouble.last
        text = reason.str() if reason is not None else "no answer"
        if reason is not None and reason.code() in REFUSED:
            return BusUnreachable(
                f"{self.url}: the broker refused {who} ({text}); check sasl.mechanism, sasl.username and sasl.password"
            )
        if reason is not None and reason.code() == KafkaError._SSL:
            return BusUnreachable(
                f"{self.url}: {who}: the broker's certificate is not trusted ({text});"
                " check ssl.ca.location and the host name"
            )
        return BusUnreachable(f"{self.url}: no broker answers as {who}: {text}")

    def _failed(self, error: KafkaError, trouble: _Trouble) -> BusError:
        if error.code() in PASSING or error.code() in REFUSED or trouble.refused is not None:
            trouble.last = trouble.last or error
            return self._unreachable(trouble)
        return BusError(f"{self.url}: {error.name()}: {error.str()}")

    def _unknown(self, topic: str) -> TopicUnknown:
        return TopicUnknown(f"topic {topic!r} is not on {self.url}")


class _Trouble:
    """What librdkafka last said was wrong."""

    def __init__(self) -> None:
        self.last: KafkaError | None = None
        self.refused: KafkaError | None = None
        self.down_since: float | None = None

    def note(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self.down_since = self.down_since or time.monotonic()
            return
        self.last = error
        if error.code() in REFUSED or (error.code() == KafkaError._SSL and "verify failed" in error.str()):
            self.refused = error

    def passed(self) -> None:
        self.down_since = None


class _Batch:
    """Counts the acknowledgements of one publish."""

    __slots__ = ("count", "done", "error", "failed", "place", "total")

    def __init__(self) -> None:
        self.count = 0  # written by the one thread that polls
        self.total = -1  # written by the publisher, once all are handed over
        self.failed = 0
        self.error: KafkaError | None = None
        self.place = ""
        self.done = threading.Event()

    def delivered(self, error: KafkaError | None, message: kafka.Message) -> None:
        if error is not None:
            self.failed += 1
            if self.error is None:
                self.error = error
                self.place = f"{message.topic()}[{message.partition()}]"
        self.count += 1
        if self.count == self.total:
            self.done.set()

    def expect(self, total: int) -> None:
        self.total = total
        if self.count == total:
            self.done.set()


class _Producer:
    def __init__(self, bus: ConfluentBus, room: Room) -> None:
        self._bus = bus
        self._room = room
        self._lock = threading.Lock()
        self._client: kafka.Producer | None = None
        self._trouble = _Trouble()
        self._pid = 0
        self._closing = threading.Event()
        self._poller: threading.Thread | None = None
        self._counts: dict[str, tuple[float, int]] = {}
        self._spread = 0

    def publish(self, messages: Sequence[Outgoing], *, timeout: float = 30.0, wait_for_room: bool = True) -> None:
        if not messages:
            return
        deadline = time.monotonic() + timeout
        size = sum([message.size for message in messages])
        with contextlib.ExitStack() as held:
            held.enter_context(self._room.reserve(size, wait=wait_for_room, timeout=timeout))
            client = self._connected(deadline)
            counts = {topic: self._partitions(topic) for topic in {message.topic for message in messages}}
            batch = _Batch()
            produced = 0
            try:
                delivered = batch.delivered
                for message in messages:
                    client.produce(
                        message.topic,
                        message.value,
                        message.key,
                        self._partition(message, counts[message.topic]),
                        on_delivery=delivered,
                        timestamp=message.timestamp or 0,
                        headers=list(message.headers) or None,
                    )
                    produced += 1
            except (KafkaException, BufferError, BusError) as error:
                batch.expect(produced)
                _release_when_done(batch, held.pop_all().close)
                if isinstance(error, BusError):
                    raise
                raise DeliveryFailed(f"{messages[produced].topic}: {error}") from error
            batch.expect(produced)
            if not batch.done.wait(max(0.0, deadline - time.monotonic())):
                waiting = batch.total - batch.count
                _release_when_done(batch, held.pop_all().close)
                reason = self._trouble.last.str() if self._trouble.last else "no answer"
                raise DeliveryFailed(
                    f"{self._bus.url}: {waiting} messages to {', '.join(counts)} not acknowledged within"
                    f" {timeout:g} s: {reason}"
                )
        if batch.error is not None:
            if batch.error.code() in UNKNOWN:
                raise self._bus._unknown(batch.place.partition("[")[0])
            raise DeliveryFailed(
                f"{self._bus.url}: {batch.failed} messages, the first to {batch.place}: {batch.error.str()}"
            )

    def _connected(self, deadline: float) -> kafka.Producer:
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise BusUnreachable(f"{self._bus.url}: still connecting")
        try:
            if self._client is None or self._pid != os.getpid():
                self._trouble = _Trouble()
                client = self._bus._make(kafka.Producer, self._bus._config(Role.PRODUCER, PRODUCER, self._trouble))
                limit = min(deadline, time.monotonic() + CONNECT_SECONDS)
                self._bus._await_broker(client, self._trouble, limit)
                self._client = client
                self._pid = os.getpid()
                self._closing = threading.Event()
                self._poller = threading.Thread(
                    target=_poll_until, args=(client, self._closing), name="kafka-delivery", daemon=True
                )
                self._poller.start()
            return self._client
        finally:
            self._lock.release()

    def _partitions(self, topic: str) -> int:
        asked, count = self._counts.get(topic, (0.0, 0))
        now = time.monotonic()
        if not count or now - asked > FRESH_SECONDS:
            count = len(self._bus._places(topic))
            self._counts[topic] = now, count
        return count

    def _partition(self, message: Outgoing, count: int) -> int:
        if message.partition is not None:
            if message.partition >= count:
                raise TopicUnknown(f"{message.topic}[{message.partition}] is not on {self._bus.url}")
            return message.partition
        if message.key is not None:
            return partition_for(message.key, count)
        self._spread += 1
        return self._spread % count

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
            if client is not None and self._pid == os.getpid():
                self._closing.set()
                if self._poller is not None:
                    self._poller.join(5)
                client.flush(5)


def _release_when_done(batch: _Batch, release: Callable[[], None]) -> None:
    """Keep the room of what still waits in the client until it is stored or given up."""

    def wait() -> None:
        batch.done.wait()
        release()

    threading.Thread(target=wait, name="kafka-late", daemon=True).start()


def _poll_until(client: kafka.Producer, closing: threading.Event) -> None:
    while not closing.is_set():
        client.poll(0.1)


class _Consumer:
    """Polling, positions and errors, common to group members and readers."""

    def __init__(self, bus: ConfluentBus, topics: tuple[str, ...], max_records: int) -> None:
        self._bus = bus
        self._topics = topics
        self._max_records = max_records
        self._client: kafka.Consumer | None = None
        self._trouble = _Trouble()
        self._missing_since: float | None = None
        self._looked = 0.0
        self._at: dict[TopicPartition, int] = {}  # position of every assigned partition
        self._moved: set[TopicPartition] = set()  # positions that are not committed yet

    def poll(self, timeout: float) -> list[Records]:
        deadline = time.monotonic() + timeout
        while True:
            client = self._connected()
            left = max(0.0, deadline - time.monotonic())
            try:
                # asked for many, consume would wait for all of them
                messages = client.consume(1, min(left, SLICE_SECONDS))
                room = self._room_beside(messages)
                if room:
                    messages += client.consume(room, 0.0)
                self._settle(client)
            except KafkaException as error:
                self._report(error.args[0])
                messages = []
            found = self._take(messages) if messages else []
            if found:
                return found
            self._check_topics()
            self._check_silence()
            if time.monotonic() >= deadline:
                return []

    def seek(self, topic: str, partition: int, offset: int) -> None:
        client = self._connected()
        if (topic, partition) not in self._at:
            raise BusError(f"{topic}[{partition}] is not assigned here")
        try:
            client.seek(Place(topic, partition, offset))
        except KafkaException as error:
            raise self._bus._failed(error.args[0], self._trouble) from error
        self._at[topic, partition] = offset
        self._moved.add((topic, partition))

    def positions(self) -> Mapping[TopicPartition, int]:
        return dict(self._at)

    def lag(self) -> Mapping[TopicPartition, int]:
        if not self._at:
            return {}
        client = self._connected()
        try:
            ends = {place: self._end(client, place) for place in self._at}
        except KafkaException as error:
            raise self._bus._failed(error.args[0], self._trouble) from error
        return {place: max(0, ends[place] - at) for place, at in self._at.items()}

    def close(self) -> None:
        client, self._client = self._client, None
        self._at = {}
        self._moved = set()
        if client is not None:
            client.close()

    def _connected(self) -> kafka.Consumer:
        if self._client is None:
            self._trouble = _Trouble()
            self._client = self._open()
        return self._client

    def _open(self) -> kafka.Consumer:
        raise NotImplementedError

    def _settle(self, client: kafka.Consumer) -> None:
        """Find out where newly assigned partitions start."""

    def _consumer(self, config: Mapping[str, Any]) -> kafka.Consumer:
        settings = self._bus._config(Role.CONSUMER, CONSUMER, self._trouble)
        client = self._bus._make(kafka.Consumer, {**settings, **config})
        try:
            self._bus._await_broker(client, self._trouble, time.monotonic() + CONNECT_SECONDS)
        except BusUnreachable:
            client.close()
            raise
        return client

    def _room_beside(self, messages: list[Any]) -> int:
        """How many more messages a poll may hold, by the size of the first."""
        if not messages:
            return 0
        size = max(1, len(messages[0].value() or b""))
        return min(self._max_records - 1, POLL_BYTES // size)

    def _end(self, client: kafka.Consumer, place: TopicPartition) -> int:
        """The end offset as the last fetch told it; asking the broker would wait behind megabytes of fetches."""
        told: int = client.get_watermark_offsets(Place(*place), cached=True)[1]
        if told >= 0:
            return told
        asked: int = client.get_watermark_offsets(Place(*place), timeout=ANSWER_SECONDS)[1]
        return asked

    def _take(self, messages: list[Any]) -> list[Records]:
        shares: dict[TopicPartition, list[Any]] = {}
        for message in messages:
            if message.error() is not None:
                self._report(message.error())
                continue
            place = (message.topic(), message.partition())
            share = shares.get(place)
            if share is None:
                shares[place] = [message]
            else:
                share.append(message)
        self._trouble.passed()
        found = []
        for place, share in shares.items():
            if place not in self._at:
                continue  # moved away while it waited in the queue
            records = Records(
                *place,
                [message.offset() for message in share],
                [message.timestamp()[1] for message in share],
                [message.key() for message in share],
                [message.value() or b"" for message in share],
                [_headers(message.headers()) for message in share],
            )
            self._at[place] = records.next_offset
            self._moved.add(place)
            found.append(records)
        return found

    def _report(self, error: KafkaError) -> None:
        if error.code() in UNKNOWN:
            self._missing_since = self._missing_since or time.monotonic()
        elif error.code() in (KafkaError.FENCED_INSTANCE_ID, KafkaError._FENCED):
            self.close()
            raise BusError(f"{self._bus.url}: another member has taken this instance_id ({error.str()})")
        elif error.code() in REFUSED:
            self.close()
            raise self._bus._failed(error, self._trouble)
        elif error.code() in (*PASSING, *MOVED, KafkaError._PARTITION_EOF) or error.retriable():
            log.info("%s: %s; trying again", ", ".join(self._topics), error.str())
        elif error.code() == KafkaError._MAX_POLL_EXCEEDED:
            log.warning("%s: left the group, too long between two polls", ", ".join(self._topics))
        else:
            raise self._bus._failed(error, self._trouble)

    def _check_topics(self) -> None:
        """Ask now and then whether a topic without messages is there at all."""
        now = time.monotonic()
        if (self._at and self._missing_since is None) or now - self._looked < 1 or self._client is None:
            return
        self._looked = now
        try:
            known = self._client.list_topics(timeout=ANSWER_SECONDS).topics
        except KafkaException:
            return
        missing = [topic for topic in self._topics if topic not in known or known[topic].error is not None]
        if not missing:
            self._missing_since = None
            return
        self._missing_since = self._missing_since or now
        if now - self._missing_since > TOPIC_PATIENCE:
            self._missing_since = None
            raise self._bus._unknown(missing[0])

    def _check_silence(self) -> None:
        if self._trouble.refused is not None:
            self._raise_unreachable()
        down = self._trouble.down_since
        if down is not None and time.monotonic() - down > SILENCE_SECONDS:
            self._trouble.passed()
            self._raise_unreachable()

    def _raise_unreachable(self) -> None:
        trouble = self._trouble
        if trouble.refused is not None:
            self.close()
        raise self._bus._unreachable(trouble)


class _Reader(_Consumer):
    def __init__(
        self,
        bus: ConfluentBus,
        topics: tuple[str, ...],
        positions: Mapping[TopicPartition, int],
        max_records: int,
    ) -> None:
        super().__init__(bus, topics, max_records)
        self._at = {
            (topic, number): positions.get((topic, number), known.begin)
            for topic in topics
            for number, known in bus.offsets(topic).items()
        }

    def _open(self) -> kafka.Consumer:
        # librdkafka wants a group's name even from a reader that never joins one
        client = self._consumer({"group.id": "kappawatt-reader"})
        client.assign([Place(*place, offset) for place, offset in self._at.items()])
        return client

    def commit(self) -> None:
        raise BusError("a reader without a group cannot commit")

    def rewind(self) -> None:
        raise BusError("a reader without a group cannot rewind; seek instead")


class _Member(_Consumer):
    def __init__(
        self,
        bus: ConfluentBus,
        topics: tuple[str, ...],
        group: str,
        instance_id: str | None,
        start: Start,
        max_records: int,
    ) -> None:
        super().__init__(bus, topics, max_records)
        self._group = group
        self._instance_id = instance_id
        self._start = start
        self._fresh: list[Place] = []  # assigned, paused, and not yet at their start

    def _open(self) -> kafka.Consumer:
        session = int(self._bus.options.session_timeout * 1000)
        config: dict[str, Any] = {
            "group.id": self._group,
            "session.timeout.ms": session,
            "heartbeat.interval.ms": min(3000, max(100, session // 5)),
            "max.poll.interval.ms": max(session, REJOIN_MS),
        }
        if self._instance_id is not None:
            config["group.instance.id"] = self._instance_id
        client = self._consumer(config)
        self._fresh = []
        client.subscribe(list(self._topics), on_assign=self._assign, on_revoke=self._revoke, on_lost=self._revoke)
        return client

    def commit(self) -> None:
        client = self._client
        offsets = {place: self._at[place] for place in self._moved if place in self._at}
        if client is None or not offsets:
            return
        try:
            self._store(client, offsets)
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if reason.code() in (KafkaError.FENCED_INSTANCE_ID, KafkaError._FENCED):
                raise BusError(f"{self._group}: another member has taken {self._instance_id!r}") from error
            if reason.code() not in MOVED:
                raise self._bus._failed(reason, self._trouble) from error
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
            raise self._bus._failed(error.args[0], self._trouble) from error
        self._at = starts
        self._moved = set()

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
        committed = client.committed(places, timeout=ANSWER_SECONDS)
        for place in committed:
            if place.error is not None:
                raise KafkaException(place.error)
        starts = {(place.topic, place.partition): place.offset for place in committed}
        fresh = {}
        for topic, number in [named for named, offset in starts.items() if offset < 0]:
            begin, end = client.get_watermark_offsets(Place(topic, number), timeout=ANSWER_SECONDS)
            fresh[topic, number] = begin if self._start is Start.EARLIEST else end
        if fresh:
            self._store(client, fresh)
        return starts | fresh

    def _store(self, client: kafka.Consumer, offsets: Mapping[TopicPartition, int]) -> None:
        wanted = [Place(*place, offset) for place, offset in offsets.items()]
        for place in client.commit(offsets=wanted, asynchronous=False):
            if place.error is not None:
                raise KafkaException(place.error)


def _headers(given: list[tuple[str, bytes | None]] | None) -> tuple[tuple[str, bytes], ...]:
    return tuple([(name, value or b"") for name, value in given]) if given else ()
