"""Apache Kafka through kafka-python, the client every install has.

Three places go below its public surface, because the difference is several times the speed, or because it
says nothing there: `_Producer` hands whole record batches to the client's accumulator (2 us a message instead
of 20 us), `_Unpacked` reads record batches without an object a message, and `_Client` sees why a broker
refuses a connection.
"""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from kappawatt.bus.interface import (
    POLL_BYTES,
    BusOptions,
    Consumer,
    Headers,
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

with warnings.catch_warnings():
    # kafka-python reads its schemas by a call that Python 3.11 and 3.12 deprecate
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaConsumer, KafkaProducer
    from kafka import TopicPartition as Place
    from kafka import errors as kafka_errors
    from kafka.admin import KafkaAdminClient, OffsetSpec, OffsetTimestamp
    from kafka.consumer.fetcher import Fetcher
    from kafka.consumer.subscription_state import ConsumerRebalanceListener
    from kafka.future import Future
    from kafka.net.compat import KafkaNetClient
    from kafka.net.manager import KafkaConnectionManager
    from kafka.net.selector import NetworkSelector
    from kafka.producer.producer_batch import ProducerBatch
    from kafka.protocol.consumer import IsolationLevel
    from kafka.record import util as record_util
    from kafka.record.default_records import DefaultRecordBatch
    from kafka.record.memory_records import MemoryRecordsBuilder
    from kafka.record.util import decode_varint
    from kafka.structs import OffsetAndMetadata

__all__ = ["KafkaBus"]

log = logging.getLogger(__name__)

CONNECT_SECONDS = 15.0  # how long a first connection is tried before BusUnreachable
TOPIC_PATIENCE = 5.0  # a topic made a moment ago is not known to every broker at once
SILENCE_SECONDS = 60.0  # without any connection for so long, poll says so
ANSWER_SECONDS = 15.0  # for one question to the cluster, over retries
SLICE_SECONDS = 0.25  # poll looks up so often whether partitions were assigned
CLOSE_SECONDS = 5.0
MAGIC = 2  # record batches of Kafka 0.11 and newer
MERGED = 64  # so many messages for one partition share the batch that waits already
PRODUCER = {
    "acks": "all",
    "enable_idempotence": True,
    "allow_auto_create_topics": False,
    "compression_type": "lz4",
    "max_request_size": LARGEST_MESSAGE,
    "batch_size": 256 * 1024,
    "linger_ms": 0,  # while a batch is under way the next one fills
    "max_block_ms": int(ANSWER_SECONDS * 1000),
    "request_timeout_ms": 20_000,
    "delivery_timeout_ms": 120_000,
    "reconnect_backoff_max_ms": 1_000,
    "metrics_enabled": False,
}
FIRST_RECORDS = 100  # of the first poll, when the size of messages is not known yet
ADMIN = {"request_timeout_ms": 10_000, "reconnect_backoff_max_ms": 1_000}
CONSUMER = {
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",  # only where retention has removed the position
    "allow_auto_create_topics": False,
    "check_crcs": True,
    "max_partition_fetch_bytes": 4 * 1024 * 1024,
    "fetch_max_wait_ms": 250,
    "request_timeout_ms": 20_000,
    "reconnect_backoff_max_ms": 1_000,
    "metrics_enabled": False,
}
MOVED = (
    kafka_errors.CommitFailedError,
    kafka_errors.RebalanceInProgressError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.UnknownMemberIdError,
)
REFUSED = (
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
)
T = TypeVar("T")


class KafkaBus:
    """A Kafka cluster.

    Parameters
    ----------
    address : str
        `HOST:PORT[,HOST:PORT]`.

    Raises
    ------
    SettingInvalid
        A client setting cannot be used, or the C package crc32c is missing.
    """

    def __init__(self, address: str, options: BusOptions | None = None) -> None:
        self.url = f"kafka://{address}"
        self.options = options or BusOptions()
        self._servers = address.split(",")
        self._settings = read_settings(self.options.client)
        require_crc32c()
        self._lock = threading.Lock()
        self._admin: KafkaAdminClient | None = None
        self._admin_pid = 0
        # one question at a time: more than five requests in flight on one connection can be lost
        self._asking = threading.Lock()

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
        missing = {
            topic.name: {"num_partitions": topic.partitions, "configs": topic_config(topic)}
            for topic in topics
            if topic.name not in known
        }
        if not missing:
            return []
        answer = self._ask(lambda admin: admin.create_topics(missing, raise_errors=False))
        created = []
        for result in answer["topics"]:
            error = kafka_errors.for_code(result["error_code"])
            if error is kafka_errors.NoError:
                created.append(result["name"])
            elif error is not kafka_errors.TopicAlreadyExistsError:  # another process was faster
                raise BusError(f"topic {result['name']!r}: {error.__name__}: {result['error_message']}")
        if created:
            self._ask(lambda admin: admin.wait_for_topics(created))
        return created

    def offsets(self, topic: str) -> dict[int, Offsets]:
        places = self._places(topic)
        begin = self._look_up(dict.fromkeys(places, OffsetSpec.EARLIEST))
        end = self._look_up(dict.fromkeys(places, OffsetSpec.LATEST))
        return {place.partition: Offsets(begin[place], end[place]) for place in places}

    def offsets_at(self, topic: str, timestamp: int) -> dict[int, int]:
        places = self._places(topic)
        found = self._look_up(dict.fromkeys(places, OffsetTimestamp(timestamp)))
        end = self._look_up(dict.fromkeys(places, OffsetSpec.LATEST))
        return {p.partition: found[p] if found[p] >= 0 else end[p] for p in places}

    def topics(self) -> dict[str, int]:
        return {
            described["name"]: len(described["partitions"])
            for described in self._ask(lambda admin: admin.describe_topics())
            if not described["is_internal"]
        }

    def committed(self, group: str, topic: str) -> dict[int, int]:
        wanted = {group: self._places(topic)}
        found = self._ask(lambda admin: admin.list_group_offsets(wanted))[group]
        return {place.partition: at.offset for place, at in sorted(found.items()) if at.offset >= 0}

    def commit_for(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        wanted = {Place(*place): OffsetAndMetadata(offset, "", -1) for place, offset in offsets.items()}
        if not wanted:
            return
        members = self._ask(lambda admin: admin.describe_groups([group]))[group]["members"]
        if members:
            raise BusError(f"group {group!r}: got {len(members)} members, allowed none")
        answers = self._ask(lambda admin: admin.alter_group_offsets(group, wanted))
        for place, error in answers.items():
            if error is not kafka_errors.NoError:
                raise BusError(f"{group}: {_named(place)}: {error.__name__}")

    def close(self) -> None:
        with self._lock:
            admin, self._admin = self._admin, None
        if admin is not None and self._admin_pid == os.getpid():
            admin.close()

    def _places(self, topic: str) -> list[Place]:
        deadline = time.monotonic() + TOPIC_PATIENCE
        while True:
            described = self._ask(lambda admin: admin.describe_topics([topic]))[0]
            if described["error_code"] == 0 and described["partitions"]:
                return sorted(Place(topic, found["partition_index"]) for found in described["partitions"])
            error = kafka_errors.for_code(described["error_code"])
            if time.monotonic() > deadline or not _retriable(error):
                raise self._unknown(topic) if _is_unknown(error) else BusError(f"{topic}: {error.__name__}")
            time.sleep(0.2)

    def _look_up(self, wanted: Mapping[Place, int]) -> dict[Place, int]:
        found = self._ask(lambda admin: admin.list_partition_offsets(wanted))
        return {place: int(at.offset) for place, at in found.items()}

    def _ask(self, question: Callable[[KafkaAdminClient], T]) -> T:
        """Ask the cluster, again while the failure is one that passes."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                with self._asking:
                    return question(self._connected_admin())
            except kafka_errors.KafkaError as error:
                if time.monotonic() > deadline or not _retriable(type(error)):
                    raise self._failed(error) from error
                time.sleep(0.2)

    def _connected_admin(self) -> KafkaAdminClient:
        with self._lock:
            if self._admin is None or self._admin_pid != os.getpid():
                self._admin = self._open(KafkaAdminClient, CONNECT_SECONDS, Role.ANY, ADMIN)
                self._admin_pid = os.getpid()
            return self._admin

    def _open(self, make: Callable[..., T], timeout: float, role: Role, config: Mapping[str, Any]) -> T:
        """Connect a client of kafka-python; if it cannot be, leave nothing of it behind."""
        made: list[_Client] = []

        def client(**configs: Any) -> _Client:
            made.append(_Client(**configs))
            return made[-1]

        settings = {**config, **self._settings.kafka_python(role)}
        try:
            return make(
                bootstrap_servers=self._servers,
                bootstrap_timeout_ms=int(timeout * 1000),
                kafka_client=client,
                **settings,
            )
        except (kafka_errors.KafkaError, ssl.SSLError, OSError) as error:
            reason = made[-1].manager.failure if made else None
            raise self._unreachable(reason or error) from error
        except ValueError as error:
            raise SettingInvalid(f"Kafka client settings: {error}") from error
        finally:
            if made and not made[-1].manager.bootstrapped:
                made[-1].close()

    def _unreachable(self, reason: BaseException) -> BusUnreachable:
        who = self._settings.identity
        if isinstance(reason, REFUSED):
            return BusUnreachable(
                f"{self.url}: the broker refused {who} ({reason}); check sasl.mechanism, sasl.username and"
                " sasl.password"
            )
        if _refused_certificate(reason):
            return BusUnreachable(
                f"{self.url}: {who}: the broker's certificate is not trusted ({reason});"
                " check ssl.ca.location and the host name"
            )
        return BusUnreachable(f"{self.url}: no broker answers as {who}: {reason}")

    def _failed(self, error: BaseException) -> BusError:
        if isinstance(error, BusError):
            return error
        passing = isinstance(error, kafka_errors.KafkaError) and _retriable(type(error))
        if passing or isinstance(error, REFUSED):
            return self._unreachable(error)
        return BusError(f"{self.url}: {type(error).__name__}: {error}")

    def _unknown(self, topic: str) -> TopicUnknown:
        return TopicUnknown(f"topic {topic!r} is not on {self.url}")


class _Manager(KafkaConnectionManager):  # type: ignore[misc]
    """Connections that remember why the last one failed.

    kafka-python tries again for ever on a wrong password and then only says that it was unable to bootstrap.
    """

    def __init__(self, net: NetworkSelector, **configs: Any) -> None:
        super().__init__(net, **configs)
        self.failure: BaseException | None = None
        self._refused = Future()
        self._hung_up = 0
        # the client's own option of this name does not reach the metadata request
        self.cluster.config["allow_auto_create_topics"] = False

    def get_connection(self, *args: Any, **kwargs: Any) -> Any:
        connection = super().get_connection(*args, **kwargs)
        if not connection.init_future.is_done and not hasattr(connection, "noted"):
            connection.noted = True
            connection.init_future.add_errback(self._note)
            connection._sasl_authenticate = self._watched(connection._sasl_authenticate)
        return connection

    def _watched(self, authenticate: Callable[..., Any]) -> Callable[..., Any]:
        """Count connections that end while authenticating: two are a refusal.

        The broker's reason is lost when it arrives together with the end of the connection, as kafka-python
        drops what it has read then.
        """

        async def watched(*args: Any, **kwargs: Any) -> None:
            try:
                await authenticate(*args, **kwargs)
            except kafka_errors.KafkaConnectionError as error:
                self._hung_up += 1
                if self._hung_up >= 2:
                    self._note(kafka_errors.SaslAuthenticationFailedError("connection closed by the broker"))
                raise error
            self._hung_up = 0

        return watched

    def bootstrap(self, timeout_ms: float | None = None, refresh: bool = True) -> None:
        async def bootstrapped_or_refused() -> None:
            first = Future()

            def settle(outcome: Callable[[Any], Any], value: Any) -> None:
                if not first.is_done:
                    outcome(value)

            done = self.bootstrap_async(timeout_ms, refresh)
            done.add_callback(lambda value: settle(first.success, value))
            done.add_errback(lambda error: settle(first.failure, error))
            self._refused.add_errback(lambda error: settle(first.failure, error))
            await first

        self._net.run(bootstrapped_or_refused)

    def _note(self, error: BaseException) -> None:
        self.failure = error
        if (isinstance(error, REFUSED) or _refused_certificate(error)) and not self._refused.is_done:
            self._refused.failure(error)


class _Client(KafkaNetClient):  # type: ignore[misc]
    """What kafka-python's producer, consumer and admin client talk through."""

    def __init__(self, **configs: Any) -> None:
        net = NetworkSelector(**configs)
        self.manager = _Manager(net, **configs)
        super().__init__(net=net, manager=self.manager, **configs)


class _Producer:
    def __init__(self, bus: KafkaBus, room: Room) -> None:
        self._bus = bus
        self._room = room
        self._lock = threading.Lock()
        self._client: KafkaProducer | None = None
        self._pid = 0
        self._spread = 0

    def publish(self, messages: Sequence[Outgoing], *, timeout: float = 30.0, wait_for_room: bool = True) -> None:
        if not messages:
            return
        deadline = time.monotonic() + timeout
        sizes = [message.size for message in messages]
        with contextlib.ExitStack() as held:
            held.enter_context(self._room.reserve(sum(sizes), wait=wait_for_room, timeout=timeout))
            client = self._connected(deadline)
            self._check_sizes(client, messages, max(sizes))
            sent: list[ProducerBatch] = []
            try:
                for place, share in self._by_place(client, messages).items():
                    sent += _enqueue(client, place, share)
                self._wait(sent, deadline, timeout)
            except BaseException:
                # what still waits in the client keeps its room until it is stored or given up
                _release_when_done(sent, held.pop_all().close)
                raise

    def _connected(self, deadline: float) -> KafkaProducer:
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise BusUnreachable(f"{self._bus.url}: still connecting")
        try:
            if self._client is None or self._pid != os.getpid():
                left = min(CONNECT_SECONDS, max(0.1, deadline - time.monotonic()))
                self._client = self._bus._open(KafkaProducer, left, Role.PRODUCER, PRODUCER)
                self._pid = os.getpid()
            return self._client
        finally:
            self._lock.release()

    def _check_sizes(self, client: KafkaProducer, messages: Sequence[Outgoing], largest: int) -> None:
        allowed = client.config["max_request_size"]
        if largest > allowed:
            topic = next(message.topic for message in messages if message.size == largest)
            raise DeliveryFailed(f"{topic}: got a message of {largest} bytes, allowed {allowed} (max.request.size)")

    def _by_place(self, client: KafkaProducer, messages: Sequence[Outgoing]) -> Mapping[Place, list[Outgoing]]:
        counts = {topic: self._partitions(client, topic) for topic in {message.topic for message in messages}}
        shares: dict[tuple[str, int], list[Outgoing]] = defaultdict(list)
        for message in messages:
            topic = message.topic
            if message.partition is not None:
                if message.partition >= counts[topic]:
                    raise TopicUnknown(f"{topic}[{message.partition}] is not on {self._bus.url}")
                shares[topic, message.partition].append(message)
            elif message.key is not None:
                shares[topic, partition_for(message.key, counts[topic])].append(message)
            else:
                self._spread += 1
                shares[topic, self._spread % counts[topic]].append(message)
        return {Place(*place): share for place, share in shares.items()}

    def _partitions(self, client: KafkaProducer, topic: str) -> int:
        known = client._metadata.partitions_for_topic(topic)
        if known:
            return len(known)
        self._bus._places(topic)  # the client itself would ask for an unknown topic without a pause, for ever
        try:
            return len(client.partitions_for(topic))
        except kafka_errors.KafkaError as error:
            raise self._bus._failed(error) from error

    def _wait(self, sent: list[ProducerBatch], deadline: float, timeout: float) -> None:
        for batch in sent:
            # a batch the broker finds too large is split by the client, and then never done itself
            batch.produce_future.wait(max(0.0, deadline - time.monotonic()))
        late = [batch for batch in sent if not batch.is_done]
        if late:
            waiting = sum(batch.record_count for batch in late)
            places = ", ".join(sorted({_named(batch.topic_partition) for batch in late}))
            raise DeliveryFailed(
                f"{self._bus.url}: {waiting} messages to {places} not acknowledged within {timeout:g} s"
            )
        for batch in sent:
            failed = batch.produce_future.value[2]
            if failed is not None:
                error = failed(0)
                if _is_unknown(type(error)):
                    raise self._bus._unknown(batch.topic_partition.topic) from error
                raise DeliveryFailed(
                    f"{self._bus.url}: {batch.record_count} messages to {_named(batch.topic_partition)}:"
                    f" {type(error).__name__}: {error}"
                ) from error

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
            if client is not None and self._pid == os.getpid():
                client.close(timeout=CLOSE_SECONDS)


def _enqueue(client: KafkaProducer, place: Place, messages: list[Outgoing]) -> list[ProducerBatch]:
    """Hand messages for one partition to the client's sender; return the batches that hold them.

    `KafkaProducer.send` makes a future, a lock and two callbacks for every message; here a batch has one.
    """
    accumulator = client._accumulator
    small = len(messages) <= MERGED
    lock = accumulator._tp_lock(place)
    accumulator._appends_in_progress.increment()
    try:
        if small:
            with lock:
                queue = accumulator._batches[place]
                filled = _fill(client, place, messages, queue[-1] if queue else None)
                _add(accumulator, queue, filled)
        else:
            filled = _fill(client, place, messages, None)
            with lock:
                _add(accumulator, accumulator._batches[place], filled)
    finally:
        accumulator._appends_in_progress.decrement()
    client._sender.wakeup()
    return filled


def _fill(
    client: KafkaProducer, place: Place, messages: list[Outgoing], batch: ProducerBatch | None
) -> list[ProducerBatch]:
    filled = [batch] if batch is not None else []
    now = time.time_ns() // 1_000_000
    for message in messages:
        record = (
            now if message.timestamp is None else message.timestamp,
            message.key,
            message.value,
            message.headers,
        )
        if batch is None or batch.records.append(*record) is None:
            if filled and batch is filled[0] and message is messages[0]:
                filled.clear()  # the waiting batch took none of ours
            batch = ProducerBatch(
                place,
                MemoryRecordsBuilder(MAGIC, client.config["compression_attrs"], client.config["batch_size"]),
            )
            batch.records.append(*record)
            filled.append(batch)
    return filled


def _add(accumulator: Any, queue: Any, filled: list[ProducerBatch]) -> None:
    if accumulator._closed:
        raise DeliveryFailed("the producer is closed")
    for batch in filled:
        if not queue or batch is not queue[-1]:
            queue.append(batch)
            accumulator._incomplete.add(batch)


def _release_when_done(batches: list[ProducerBatch], release: Callable[[], None]) -> None:
    waiting = [batch for batch in batches if not batch.is_done]
    if not waiting:
        release()
        return
    left = [len(waiting)]
    lock = threading.Lock()

    def one_done(_: object) -> None:
        with lock:
            left[0] -= 1
            last = left[0] == 0
        if last:
            release()

    for batch in waiting:
        batch.produce_future.add_both(one_done)


class _Consumer:
    """Polling, positions and errors, common to group members and readers."""

    def __init__(self, bus: KafkaBus, topics: tuple[str, ...], max_records: int) -> None:
        self._bus = bus
        self._topics = topics
        self._max_records = max_records
        self._room = min(max_records, FIRST_RECORDS)  # of the next poll, by the size of the last one's messages
        self._client: KafkaConsumer | None = None
        self._heard = time.monotonic()
        self._missing_since: float | None = None
        self._asked = 0.0
        self._moved: dict[Place, int] = {}  # positions that are not committed yet

    def poll(self, timeout: float) -> list[Records]:
        deadline = time.monotonic() + timeout
        while True:
            client = self._connected()
            left = max(0.0, deadline - time.monotonic())
            with self._failures():
                slice_ms = int(min(left, SLICE_SECONDS) * 1000)
                found = client.poll(timeout_ms=slice_ms, max_records=self._room)
                if found:
                    self._heard = time.monotonic()
                    taken = [self._take(place, messages) for place, messages in found.items()]
                    size = sum(len(value) for records in taken for value in records.values) // sum(map(len, taken))
                    self._room = max(1, min(self._max_records, POLL_BYTES // max(1, size)))
                    return taken
                self._settle(client)
            self._check_topics()
            self._check_silence()
            if time.monotonic() >= deadline:
                return []

    def seek(self, topic: str, partition: int, offset: int) -> None:
        place = Place(topic, partition)
        client = self._connected()
        if place not in self._assigned():
            raise BusError(f"{topic}[{partition}] is not assigned here")
        client.seek(place, offset)
        self._moved[place] = offset

    def positions(self) -> Mapping[TopicPartition, int]:
        if self._client is None:
            return {}
        client = self._client
        with self._failures():
            waiting = _ms(ANSWER_SECONDS)
            found = {place: client.position(place, timeout_ms=waiting) for place in self._assigned()}
        return {(p.topic, p.partition): at for p, at in found.items() if at is not None}

    def lag(self) -> Mapping[TopicPartition, int]:
        positions = self.positions()
        if not positions or self._client is None:
            return {}
        with self._failures():
            ends = {place: self._client.highwater(Place(*place)) for place in positions}  # as the last fetch told
            if None in ends.values():
                asked = self._client.end_offsets([Place(*place) for place in positions], _ms(ANSWER_SECONDS))
                ends = {place: asked[Place(*place)] for place in positions}
        return {place: max(0, ends[place] - at) for place, at in positions.items()}

    def close(self) -> None:
        client, self._client = self._client, None
        self._moved.clear()
        if client is not None:
            with contextlib.suppress(kafka_errors.KafkaError):
                client.close(autocommit=False, timeout_ms=_ms(CLOSE_SECONDS))

    def _connected(self) -> KafkaConsumer:
        if self._client is None:
            self._client = self._open()
            self._client._fetcher.PartitionRecords = _Unpacked
            self._heard = time.monotonic()
        return self._client

    def _open(self) -> KafkaConsumer:
        raise NotImplementedError

    def _settle(self, client: KafkaConsumer) -> None:
        """Find out where newly assigned partitions start."""

    def _assigned(self) -> list[Place]:
        return sorted(self._client.assignment() or ()) if self._client is not None else []

    def _take(self, place: Place, messages: Sequence[Any]) -> Records:
        offsets, timestamps, keys, values, headers = zip(*messages, strict=True)
        records = Records(place.topic, place.partition, offsets, timestamps, keys, values, headers)
        self._moved[place] = records.next_offset
        return records

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """Let passing failures pass, and say the others in the bus's words."""
        try:
            yield
        except kafka_errors.FencedInstanceIdError as error:
            self._drop()
            raise BusError(f"{self._bus.url}: another member has taken this instance_id ({error})") from error
        except kafka_errors.KafkaError as error:
            if isinstance(error, REFUSED):
                self._drop()  # the client would repeat the first refusal for ever
                raise self._bus._failed(error) from error
            if not _retriable(type(error)):
                raise self._bus._failed(error) from error
            log.info("%s: %s: %s; trying again", ", ".join(self._topics), type(error).__name__, error)
            time.sleep(0.1)

    def _drop(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def _check_topics(self) -> None:
        client = self._client
        if client is None:
            return
        missing = [topic for topic in self._topics if not client._cluster.partitions_for_topic(topic)]
        if not missing:
            self._missing_since = None
            return
        now = time.monotonic()
        self._missing_since = self._missing_since or now
        if now - self._asked > 1:
            self._asked = now
            client._cluster.request_update()
        if now - self._missing_since > TOPIC_PATIENCE and _any_connection(client):
            self._missing_since = None
            self._drop()
            raise self._bus._unknown(missing[0])

    def _check_silence(self) -> None:
        now = time.monotonic()
        if self._client is None or _any_connection(self._client):
            self._heard = now
        elif now - self._heard > SILENCE_SECONDS:
            self._heard = now
            failure: BaseException | None = self._client._client.manager.failure
            raise self._bus._unreachable(failure or TimeoutError(f"no connection for {SILENCE_SECONDS:g} s"))


class _Reader(_Consumer):
    def __init__(
        self,
        bus: KafkaBus,
        topics: tuple[str, ...],
        positions: Mapping[TopicPartition, int],
        max_records: int,
    ) -> None:
        super().__init__(bus, topics, max_records)
        self._places = {
            Place(topic, number): positions.get((topic, number), known.begin)
            for topic in topics
            for number, known in bus.offsets(topic).items()
        }

    def _open(self) -> KafkaConsumer:
        config = {**CONSUMER, "max_poll_records": self._max_records}
        client = self._bus._open(KafkaConsumer, CONNECT_SECONDS, Role.CONSUMER, config)
        client.assign(list(self._places))
        for place, offset in (self._places | self._moved).items():
            client.seek(place, offset)
        return client

    def seek(self, topic: str, partition: int, offset: int) -> None:
        super().seek(topic, partition, offset)
        self._places[Place(topic, partition)] = offset

    def positions(self) -> Mapping[TopicPartition, int]:
        return {(p.topic, p.partition): at for p, at in (self._places | self._moved).items()}

    def lag(self) -> Mapping[TopicPartition, int]:
        self._connected()
        return super().lag()

    def _drop(self) -> None:
        moved = dict(self._moved)
        super()._drop()
        self._moved = moved

    def commit(self) -> None:
        raise BusError("a reader without a group cannot commit")

    def rewind(self) -> None:
        raise BusError("a reader without a group cannot rewind; seek instead")


class _Member(_Consumer):
    def __init__(
        self,
        bus: KafkaBus,
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
        self._fresh: set[Place] = set()  # assigned, paused, and not yet at their start

    def _open(self) -> KafkaConsumer:
        session = _ms(self._bus.options.session_timeout)
        config = {
            **CONSUMER,
            "group_id": self._group,
            "group_instance_id": self._instance_id,
            "session_timeout_ms": session,
            "heartbeat_interval_ms": min(3000, max(100, session // 5)),
            "max_poll_interval_ms": max(session, REJOIN_MS),
            "max_poll_records": self._max_records,
        }
        client = self._bus._open(KafkaConsumer, CONNECT_SECONDS, Role.CONSUMER, config)
        self._fresh = set()
        client.subscribe(topics=list(self._topics), listener=_Assignment(client, self))
        self._await_topics(client)
        return client

    def _assigned(self) -> list[Place]:
        # an assignment can arrive between two polls; it counts from when its start is known
        fresh = set(self._fresh)
        return [place for place in super()._assigned() if place not in fresh]

    def _await_topics(self, client: KafkaConsumer) -> None:
        """Join with the topics known: a leader that does not know them assigns nothing, and leaves it so."""
        deadline = time.monotonic() + TOPIC_PATIENCE
        pause = 0.005
        while missing := [name for name in self._topics if not client._cluster.partitions_for_topic(name)]:
            if time.monotonic() > deadline:
                client.close(autocommit=False, timeout_ms=_ms(CLOSE_SECONDS))
                raise self._bus._unknown(missing[0])
            time.sleep(pause)
            pause = min(0.5, pause * 2)
            client._cluster.request_update()

    def commit(self) -> None:
        client = self._client
        if client is None:
            return
        assigned = set(self._assigned())
        offsets = {place: offset for place, offset in self._moved.items() if place in assigned}
        if not offsets:
            return
        try:
            self._store(client, offsets)
        except MOVED as error:
            log.info(
                "%s: commit of %s dropped, the partitions have moved (%s)",
                self._group,
                ", ".join(f"{_named(place)}@{offset}" for place, offset in offsets.items()),
                type(error).__name__,
            )
        except kafka_errors.FencedInstanceIdError as error:
            raise BusError(f"{self._group}: another member has taken {self._instance_id!r}") from error
        except kafka_errors.KafkaError as error:
            raise self._bus._failed(error) from error
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
        waiting = _ms(ANSWER_SECONDS)
        at = {place: client.committed(place, timeout_ms=waiting) for place in places}
        new = [place for place, offset in at.items() if offset is None]
        if new:
            earliest = self._start is Start.EARLIEST
            ask = client.beginning_offsets if earliest else client.end_offsets
            starts = ask(new, timeout_ms=waiting)
            at |= starts
            try:
                self._store(client, starts)
            except MOVED:
                return  # a new assignment is on its way
        for place, offset in at.items():
            client.seek(place, offset)
        client.resume(*places)
        self._fresh -= places

    def _store(self, client: KafkaConsumer, offsets: Mapping[Place, int]) -> None:
        client.commit(
            {place: OffsetAndMetadata(offset, "", -1) for place, offset in offsets.items()},
            timeout_ms=_ms(ANSWER_SECONDS),
        )

    def _assign(self, client: KafkaConsumer, places: set[Place]) -> None:
        client.pause(*places)
        self._fresh |= places
        for place in places:
            self._moved.pop(place, None)

    def _revoke(self, places: set[Place]) -> None:
        self._fresh -= places
        for place in places:
            self._moved.pop(place, None)


class _Assignment(ConsumerRebalanceListener):  # type: ignore[misc]
    """Called by the client while it polls, on its own thread: no question to the cluster is allowed here."""

    def __init__(self, client: KafkaConsumer, member: _Member) -> None:
        self._client = client
        self._member = member

    def on_partitions_assigned(self, assigned: Iterable[Place]) -> None:
        places = set(assigned)
        log.info("%s: assigned %s", self._member._group, ", ".join(map(_named, sorted(places))) or "nothing")
        self._member._assign(self._client, places)

    def on_partitions_revoked(self, revoked: Iterable[Place]) -> None:
        self._member._revoke(set(revoked))


class _Message(NamedTuple):
    """What `Records` holds of one message."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes
    headers: Headers


class _Unpacked(Fetcher.PartitionRecords):  # type: ignore[misc]
    """Fetched batches, unpacked in one loop: 2 us a message instead of 7 us."""

    def _unpack_records(self, tp: Place, records: Any, *deserializers: Any) -> Iterator[_Message]:
        if self.isolation_level == IsolationLevel.READ_COMMITTED:  # the client knows what was aborted
            for record in super()._unpack_records(tp, records, *deserializers):
                headers = tuple((name, value or b"") for name, value in record.headers)
                yield _Message(record.offset, record.timestamp, record.key, record.value or b"", headers)
            return
        while (batch := records.next_batch()) is not None:
            if not batch.validate_crc():
                raise kafka_errors.CorruptRecordError(
                    f"{_named(self.topic_partition)}@{batch.base_offset}: the checksum is wrong"
                )
            if batch.magic == MAGIC:
                self.leader_epoch = batch.leader_epoch
                if not batch.is_control_batch:
                    for message in unpack(batch):
                        self.next_fetch_offset = message.offset + 1
                        yield message
                self.next_fetch_offset = batch.next_offset  # its last messages may have been compacted away
            else:
                for record in batch:
                    self.next_fetch_offset = record.offset + 1
                    yield _Message(record.offset, record.timestamp, record.key, record.value or b"", ())
        self.drain()


def unpack(batch: DefaultRecordBatch) -> Iterator[_Message]:
    """Yield the messages of a record batch of format 2.

    References
    ----------
    Apache Kafka, "Message format", Record: every number is a zigzag varint, nearly always of one byte.
    """
    batch._maybe_uncompress()
    data = bytes(batch._buffer)
    position = batch._pos
    first_offset, first_timestamp = batch.base_offset, batch.first_timestamp
    appended = batch.max_timestamp if batch.timestamp_type else None
    try:
        for _ in range(batch.records_count):
            length, position = decode_varint(data, position)
            end = position + length
            delta, position = decode_varint(data, position + 1)  # after the attributes, which say nothing yet
            timestamp = first_timestamp + delta if appended is None else appended
            delta, position = decode_varint(data, position)
            offset = first_offset + delta
            size, position = decode_varint(data, position)
            if size < 0:
                key = None
            else:
                key = data[position : position + size]
                position += size
            size, position = decode_varint(data, position)
            if size < 0:  # a tombstone of a compacted topic
                value = b""
            else:
                value = data[position : position + size]
                position += size
            count, position = decode_varint(data, position)
            headers: Headers = ()
            if count:
                named = []
                for _ in range(count):
                    size, position = decode_varint(data, position)
                    name = data[position : position + size].decode()
                    size, position = decode_varint(data, position + size)
                    named.append((name, data[position : position + size] if size > 0 else b""))
                    position += max(0, size)
                headers = tuple(named)
            if position != end:
                raise ValueError(f"a record of {length} bytes ends at {position}, not at {end}")
            yield _Message(offset, timestamp, key, value, headers)
        if position != len(data):
            raise ValueError(f"{len(data) - position} bytes after the last record")
    except (ValueError, IndexError) as error:
        raise kafka_errors.CorruptRecordError(f"batch at offset {first_offset}: {error}") from error


def require_crc32c() -> None:
    """Refuse to run with checksums in pure Python: a block of readings would take 4 ms instead of 0.2 ms."""
    if record_util.crc32c_c is None:
        raise SettingInvalid(
            "kafka-python has no C checksum and would be 20 times slower on blocks: pip install 'kafka-python[crc32c]'"
        )


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _named(place: Place) -> str:
    return f"{place.topic}[{place.partition}]"


def _any_connection(client: KafkaConsumer) -> bool:
    return any(connection.connected for connection in list(client._client.manager._conns.values()))


def _retriable(error: type[Exception]) -> bool:
    return issubclass(error, kafka_errors.RetriableError) or error is kafka_errors.KafkaTimeoutError


def _is_unknown(error: type[Exception]) -> bool:
    return issubclass(error, (kafka_errors.UnknownTopicOrPartitionError, kafka_errors.InvalidTopicError))


def _refused_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
