"""One cluster as librdkafka reaches it: connecting, asking, and saying what went wrong."""

from __future__ import annotations

import base64
import contextlib
import os
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicCollection, admin
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient

from kappawatt.bus.confluent.trouble import PASSING, REFUSED, SSL, UNKNOWN, Trouble
from kappawatt.bus.interface import BusOptions, TopicPartition
from kappawatt.bus.kafka_clients import (
    ANSWER_SECONDS,
    END_SECONDS,
    METADATA_SECONDS,
    TOPIC_PATIENCE,
    Group,
    is_uncertified,
    no_answer,
    refused,
    topic_unknown,
    uncertified,
    untrusted,
    why_refused,
)
from kappawatt.bus.kafka_settings import Role, read_settings
from kappawatt.bus.kafka_tokens import TokenMissing
from kappawatt.bus.logs import log_text
from kappawatt.errors import BusError, BusUnreachable, SettingInvalid, TopicUnknown

__all__ = ["Cluster"]

administration: Any = admin  # its stubs do not export all it has
BOTH: dict[str, Any] = {
    "reconnect.backoff.max.ms": 1000,
    "socket.timeout.ms": 20_000,
    "topic.metadata.refresh.interval.ms": int(METADATA_SECONDS * 1000),
    "allow.auto.create.topics": False,
    "log_level": 2,  # failures reach error_cb; librdkafka would also print them to stderr
}
LEAST_IN_SYNC = "min.insync.replicas"
SETTLED = ("Stable", "Empty", "Dead")
T = TypeVar("T")


class Cluster:
    """What the bus, its producers and its consumers ask of a cluster."""

    def __init__(self, address: str, options: BusOptions) -> None:
        self.url = f"kafka://{address}"
        self.options = options
        self._servers = address
        self._settings = read_settings(options.client)
        self._tokens = self._settings.tokens
        self._lock = threading.Lock()
        self._clients: dict[str | None, tuple[Any, Trouble]] = {}  # the administrator's, and one of each group asked
        self._clients_pid = os.getpid()

    def ask(self, question: Callable[[AdminClient], T], patience: float | None = None) -> T:
        """Ask the cluster, again while the failure is one that passes.

        What a group's coordinator answers is asked by `ask_of`: librdkafka ends the process when the connection to
        the coordinator breaks under such a question of its administrator (confluentinc/librdkafka#4605).
        """
        return self._ask(None, question, patience)

    def ask_of(self, group: str, question: Callable[[Consumer], T]) -> T:
        """Ask the coordinator of a group by a consumer that is no member of it."""
        return self._ask(group, question, ANSWER_SECONDS)

    def _ask(self, group: str | None, question: Callable[[Any], T], patience: float | None) -> T:
        deadline = time.monotonic() + (ANSWER_SECONDS if patience is None else patience)
        client, trouble = self._connected(group, deadline)
        while True:
            try:
                return question(client)
            except KafkaException as error:
                if time.monotonic() > deadline or error.args[0].name() not in PASSING:
                    raise self.failed(error.args[0], trouble) from error
                time.sleep(0.2)

    def places(self, topic: str) -> list[Place]:
        """Return the partitions of a topic. Raises TopicUnknown."""
        deadline = time.monotonic() + TOPIC_PATIENCE
        while True:
            found = self.ask(lambda admin: admin.list_topics(topic, timeout=ANSWER_SECONDS)).topics[topic]
            if found.error is None and found.partitions:
                if all(p.leader >= 0 for p in found.partitions.values()):
                    return [Place(topic, number) for number in sorted(found.partitions)]
            elif found.error is not None and found.error.name() not in PASSING:
                raise BusError(f"{topic}: {found.error.str()}")
            if time.monotonic() > deadline:
                raise self.unknown(topic)
            time.sleep(0.2)

    def ends(self, places: Iterable[TopicPartition], *, is_all: bool = False) -> dict[TopicPartition, int]:
        """Return up to where each partition can be read, or where its log ends, transactions under way with it."""
        wanted = dict.fromkeys((Place(*place) for place in places), administration.OffsetSpec.latest())
        return self.look_up(wanted, END_SECONDS, is_all=is_all) if wanted else {}

    def look_up(
        self, wanted: dict[Place, Any], patience: float | None = None, *, is_all: bool = False
    ) -> dict[TopicPartition, int]:
        """Return the offset of each partition that an OffsetSpec means, among what may be read, or all."""
        uncommitted = is_all or self._settings.text("isolation.level") == "read_uncommitted"
        isolation = IsolationLevel.READ_UNCOMMITTED if uncommitted else IsolationLevel.READ_COMMITTED
        waiting = {"isolation_level": isolation, "request_timeout": patience or ANSWER_SECONDS}

        def question(admin: AdminClient) -> dict[TopicPartition, int]:
            try:
                answers = admin.list_offsets(wanted, **waiting).items()
                return {(place.topic, place.partition): int(answer.result().offset) for place, answer in answers}
            except KafkaException:
                with contextlib.suppress(KafkaException):
                    admin.list_topics(timeout=1)  # or librdkafka asks the leaders of before a restart for 17 s
                raise

        return self.ask(question, patience)

    def partitions(self, topics: Sequence[str]) -> set[TopicPartition]:
        """Return all partitions there are of topics; those that do not exist have none."""
        known = self.ask(lambda admin: admin.list_topics(timeout=END_SECONDS), END_SECONDS).topics
        return {(topic, number) for topic in topics if topic in known for number in known[topic].partitions}

    def why_not_writable(self, topics: Sequence[str]) -> str | None:
        """Return why topics take no messages now, as far as the cluster tells it without one."""
        wanted = TopicCollection(list(topics))
        resources = [administration.ConfigResource(administration.ResourceType.TOPIC, topic) for topic in topics]
        waiting = {"request_timeout": END_SECONDS}
        described = self.ask(
            lambda admin: admin.describe_topics(wanted, include_authorized_operations=True, **waiting), END_SECONDS
        )
        configs = self.ask(lambda admin: admin.describe_configs(resources, **waiting), END_SECONDS)
        least = {}
        for resource, config in configs.items():
            with contextlib.suppress(KafkaException):  # this client may write, and not know the configuration
                least[resource.name] = int(config.result()[LEAST_IN_SYNC].value)
        for topic, answer in described.items():
            in_sync, may_write = {}, True
            try:
                found = answer.result()
            except KafkaException as error:
                if error.args[0].name() != "TOPIC_AUTHORIZATION_FAILED":
                    raise self.failed(error.args[0], Trouble()) from error
                may_write = False
            else:
                in_sync = {p.id: len(p.isr) if p.leader is not None else 0 for p in found.partitions}
                rights = found.authorized_operations
                may_write = rights is None or administration.AclOperation.WRITE in rights
            if reason := why_refused(self._settings.identity, topic, in_sync, least.get(topic), may_write):
                return reason
        return None

    def group(self, name: str) -> Group:
        """Return a group as its coordinator tells."""
        found: list[Any] = self.ask(lambda admin: admin.list_groups(name, timeout=END_SECONDS), END_SECONDS)
        if not found:
            return Group(True, {})
        return Group(
            found[0].state in SETTLED, {member.id: read_share(member.assignment) for member in found[0].members}
        )

    def logs(self, topics: Sequence[str]) -> dict[str, str]:
        """Return the identity of each topic's log; topics that do not exist are left out."""
        asked = self.ask(
            lambda admin: admin.describe_topics(TopicCollection(list(topics)), request_timeout=ANSWER_SECONDS)
        )
        found = {}
        for topic, answer in asked.items():
            try:
                found[topic] = log_text(uuid.UUID(bytes=base64.b64decode(f"{answer.result().topic_id}==")))
            except KafkaException as error:
                if error.args[0].name() not in UNKNOWN:
                    raise self.failed(error.args[0], Trouble()) from error
        return found

    def config(self, role: Role, config: Mapping[str, Any], trouble: Trouble) -> dict[str, Any]:
        """Return the settings of one client, which tells its errors to `trouble`."""
        return {
            **BOTH,
            **config,
            **self._settings.librdkafka(role),
            **({} if self._tokens is None else {"oauth_cb": self._token}),
            "bootstrap.servers": self._servers,
            "error_cb": trouble.note,
        }

    def _token(self, _: str) -> tuple[str, float, str, dict[str, str]]:
        """Return a token, when it ends, whom it is for (a broker reads that in the token), and what goes with it."""
        assert self._tokens is not None
        text, end = self._tokens.token()
        return text, end, "", self._tokens.extensions

    def make(self, make: Callable[[dict[str, Any]], T], config: dict[str, Any]) -> T:
        """Make a client. Raises SettingInvalid if librdkafka refuses its settings, BusUnreachable without a token."""
        if self._tokens is not None:
            try:
                self._tokens.token()  # librdkafka would wait for it, and then not say why there was none
            except TokenMissing as error:
                raise refused(self.url, self._settings.identity, error) from error
        try:
            return make(config)
        except KafkaException as error:
            raise SettingInvalid(f"Kafka client settings: {error.args[0].str()}") from error

    def await_broker(self, client: Any, trouble: Trouble, deadline: float) -> None:
        """Return once a broker answers; raise at once when it refuses this client."""
        while True:
            with contextlib.suppress(KafkaException):
                client.list_topics(timeout=0.5)
                return
            if hasattr(client, "poll"):
                client.poll(0)  # lets error_cb run
            if trouble.refused is not None or time.monotonic() > deadline:
                raise self.unreachable(trouble)

    def close(self) -> None:
        with self._lock:
            self._leave_the_parents()
            clients, self._clients = self._clients, {}
        for client, _ in clients.values():
            if isinstance(client, Consumer):
                client.close()

    def unreachable(self, trouble: Trouble) -> BusUnreachable:
        who = self._settings.identity
        reason = trouble.refused or trouble.last
        text = reason.str() if reason is not None else "no answer"
        if is_uncertified(text):
            return uncertified(self.url, who, text)
        if reason is not None and reason.name() in REFUSED:
            return refused(self.url, who, text)
        if reason is not None and reason.name() == SSL:
            return untrusted(self.url, who, text)
        return no_answer(self.url, who, text)

    def failed(self, error: KafkaError, trouble: Trouble) -> BusError:
        if error.name() in PASSING or error.name() in REFUSED or trouble.refused is not None:
            trouble.last = trouble.last or error
            return self.unreachable(trouble)
        return BusError(f"{self.url}: {error.name()}: {error.str()}")

    def unknown(self, topic: str) -> TopicUnknown:
        return topic_unknown(self.url, topic)

    def _connected(self, group: str | None, deadline: float) -> tuple[Any, Trouble]:
        with self._lock:
            self._leave_the_parents()
            if group not in self._clients:
                trouble = Trouble()
                if group is None:
                    client: Any = self.make(AdminClient, self.config(Role.ANY, {}, trouble))
                else:
                    client = self.make(Consumer, self.config(Role.CONSUMER, {"group.id": group}, trouble))
                self.await_broker(client, trouble, deadline)
                self._clients[group] = client, trouble
            return self._clients[group]

    def _leave_the_parents(self) -> None:
        """Forget clients that do not live on in a child, where closing them would wait for ever."""
        if self._clients_pid != os.getpid():
            self._clients = {}
            self._clients_pid = os.getpid()


def read_share(assignment: bytes) -> set[TopicPartition]:
    """Read the partitions of a member from Kafka's consumer protocol: a version, then each topic with its numbers."""
    share: set[TopicPartition] = set()
    if not assignment:
        return share
    (topics,) = struct.unpack_from(">i", assignment, 2)
    at = 6
    for _ in range(topics):
        (length,) = struct.unpack_from(">h", assignment, at)
        topic = assignment[at + 2 : at + 2 + length].decode()
        at += 2 + length
        (count,) = struct.unpack_from(">i", assignment, at)
        share.update((topic, number) for number in struct.unpack_from(f">{count}i", assignment, at + 4))
        at += 4 + 4 * count
    return share
