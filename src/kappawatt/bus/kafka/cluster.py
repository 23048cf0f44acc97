"""One cluster as kafka-python reaches it: connecting, asking, and saying what went wrong."""

from __future__ import annotations

import os
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from kafka import IsolationLevel, KafkaAdminClient, OffsetSpec
from kafka import TopicPartition as Place
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType

from kappawatt.bus.interface import BusOptions, TopicPartition
from kappawatt.bus.kafka.failures import REFUSED, is_retriable, is_unknown, is_untrusted
from kappawatt.bus.kafka.reaching import reach
from kappawatt.bus.kafka.tokens import Tokens
from kappawatt.bus.kafka_clients import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    END_SECONDS,
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
from kappawatt.bus.logs import log_text
from kappawatt.errors import BusError, BusUnreachable, SettingInvalid, TopicUnknown

__all__ = ["Cluster"]

REACHED_SECONDS = 10.0  # so long after one client was connected the next one is, without knocking first
ADMIN = {"request_timeout_ms": 10_000, "reconnect_backoff_max_ms": 1_000}
LEAST_IN_SYNC = "min.insync.replicas"
NO_ID = uuid.UUID(int=0)
T = TypeVar("T")


class Cluster:
    """What the bus, its producers and its consumers ask of a cluster."""

    def __init__(self, address: str, options: BusOptions) -> None:
        self.url = f"kafka://{address}"
        self.options = options
        self._servers = address.split(",")
        self._settings = read_settings(options.client)
        self._tokens = self._settings.tokens
        self._lock = threading.Lock()
        self._admin: KafkaAdminClient | None = None
        self._admin_pid = 0
        self._reached_until = 0.0
        # one question at a time: more than five requests in flight on one connection can be lost
        self._asking = threading.Lock()

    def ask(self, question: Callable[[KafkaAdminClient], T], patience: float | None = None) -> T:
        """Ask the cluster, again while the failure is one that passes."""
        deadline = time.monotonic() + (ANSWER_SECONDS if patience is None else patience)
        while True:
            try:
                with self._asking:
                    return question(self._connected_admin())
            except kafka_errors.KafkaError as error:
                if time.monotonic() > deadline or not is_retriable(type(error)):
                    raise self.failed(error) from error
                time.sleep(0.2)

    def places(self, topic: str) -> list[Place]:
        """Return the partitions of a topic. Raises TopicUnknown."""
        deadline = time.monotonic() + TOPIC_PATIENCE
        while True:
            described = self.ask(lambda admin: admin.describe_topics([topic]))[0]
            if described["error_code"] == 0 and described["partitions"]:
                return sorted(Place(topic, found["partition_index"]) for found in described["partitions"])
            error = kafka_errors.for_code(described["error_code"])
            if time.monotonic() > deadline or not is_retriable(error):
                raise self.unknown(topic) if is_unknown(error) else BusError(f"{topic}: {error.__name__}")
            time.sleep(0.2)

    def ends(self, places: Iterable[TopicPartition], *, is_all: bool = False) -> dict[TopicPartition, int]:
        """Return up to where each partition can be read, or where its log ends, transactions under way with it."""
        wanted = dict.fromkeys((Place(*place) for place in places), OffsetSpec.LATEST)
        found = self.look_up(wanted, END_SECONDS, is_all=is_all) if wanted else {}
        return {(place.topic, place.partition): offset for place, offset in found.items()}

    def look_up(
        self, wanted: Mapping[Place, int], patience: float | None = None, *, is_all: bool = False
    ) -> dict[Place, int]:
        """Return the offset of each partition that a time or OffsetSpec means, among what may be read, or all."""
        uncommitted = is_all or self._settings.text("isolation.level") == "read_uncommitted"
        isolation = IsolationLevel.READ_UNCOMMITTED if uncommitted else IsolationLevel.READ_COMMITTED
        found = self.ask(lambda admin: admin.list_partition_offsets(wanted, isolation), patience)
        return {place: int(at.offset) for place, at in found.items()}

    def partitions(self, topics: Sequence[str]) -> set[TopicPartition]:
        """Return all partitions there are of topics; those that do not exist have none."""
        described = self.ask(lambda admin: admin.describe_topics(list(topics)), END_SECONDS)
        return {(topic["name"], found["partition_index"]) for topic in described for found in topic["partitions"]}

    def why_not_writable(self, topics: Sequence[str]) -> str | None:
        """Return why topics take no messages now, as far as the cluster tells it without one."""
        wanted = [ConfigResource(ConfigResourceType.TOPIC, topic, {LEAST_IN_SYNC: None}) for topic in topics]
        described = self.ask(lambda admin: admin.describe_topics(list(topics)), END_SECONDS)
        try:
            told = self.ask(lambda admin: admin.describe_configs(wanted, config_filter="all"), END_SECONDS)
            least = {topic: found[LEAST_IN_SYNC]["value"] for topic, found in told["topic"].items()}
        except (BusError, KeyError):  # this client may write, and not know the topics' configuration
            least = {}
        for topic in described:
            name, rights = topic["name"], topic.get("authorized_operations")
            if kafka_errors.for_code(topic["error_code"]) is kafka_errors.TopicAuthorizationFailedError:
                rights = ()
            in_sync = {p["partition_index"]: len(p["isr_nodes"]) * (p["leader_id"] >= 0) for p in topic["partitions"]}
            may_write = not isinstance(rights, list | tuple) or "WRITE" in rights
            least_of = int(least[name]) if name in least else None
            if reason := why_refused(self._settings.identity, name, in_sync, least_of, may_write):
                return reason
        return None

    def group(self, name: str) -> Group:
        """Return a group as its coordinator tells."""
        described = self.ask(lambda admin: admin.describe_groups([name]), END_SECONDS)[name]
        members = {}
        for member in described["members"]:
            given = member["member_assignment"] or {"assigned_partitions": ()}
            members[member["member_id"]] = {
                (share["topic"], partition)
                for share in given["assigned_partitions"]
                for partition in share["partitions"]
            }
        return Group(described["group_state"] in ("Stable", "Empty", "Dead"), members)

    def logs(self, topics: Sequence[str]) -> dict[str, str]:
        """Return the identity of each topic's log; topics that do not exist are left out."""
        described = self.ask(lambda admin: admin.describe_topics(list(topics)))
        return {
            found["name"]: log_text(uuid.UUID(str(found.get("topic_id", NO_ID))))
            for found in described
            if found["error_code"] == 0
        }

    def config(self, role: Role, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return `config` with the settings of the bus, which win."""
        own = {} if self._tokens is None else {"sasl_oauth_token_provider": Tokens(self._tokens)}
        return {**config, **self._settings.kafka_python(role), **own}

    def open(self, make: Callable[..., T], timeout: float, role: Role, config: Mapping[str, Any]) -> T:
        """Connect a client of kafka-python, once the cluster is known to answer."""
        deadline = time.monotonic() + timeout
        try:
            if time.monotonic() > self._reached_until:
                reach(self._servers, self.config(Role.ANY, {}), timeout)
            left = max(1.0, deadline - time.monotonic())
            client = make(
                bootstrap_servers=self._servers, bootstrap_timeout_ms=int(left * 1000), **self.config(role, config)
            )
        except (kafka_errors.KafkaError, ssl.SSLError, OSError) as error:
            self._reached_until = 0.0
            raise self.unreachable(error) from error
        except ValueError as error:
            raise SettingInvalid(f"Kafka client settings: {error}") from error
        self._reached_until = time.monotonic() + REACHED_SECONDS
        return client

    def close(self) -> None:
        with self._lock:
            admin, self._admin = self._admin, None
        if admin is not None and self._admin_pid == os.getpid():
            admin.close()

    def unreachable(self, reason: BaseException) -> BusUnreachable:
        who = self._settings.identity
        if isinstance(reason, REFUSED):
            return refused(self.url, who, reason)
        if is_uncertified(reason):
            return uncertified(self.url, who, reason)
        if is_untrusted(reason):
            return untrusted(self.url, who, reason)
        return no_answer(self.url, who, reason)

    def failed(self, error: BaseException) -> BusError:
        if isinstance(error, BusError):
            return error
        passing = isinstance(error, kafka_errors.KafkaError) and is_retriable(type(error))
        if passing or isinstance(error, REFUSED):
            return self.unreachable(error)
        return BusError(f"{self.url}: {type(error).__name__}: {error}")

    def unknown(self, topic: str) -> TopicUnknown:
        return topic_unknown(self.url, topic)

    def _connected_admin(self) -> KafkaAdminClient:
        with self._lock:
            if self._admin is None or self._admin_pid != os.getpid():
                self._admin = self.open(KafkaAdminClient, CONNECT_SECONDS, Role.ANY, ADMIN)
                self._admin_pid = os.getpid()
            return self._admin
