"""What librdkafka's error codes mean here, and which came last."""

from __future__ import annotations

import time

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from kappawatt.bus.kafka_clients import is_uncertified

__all__ = [
    "END",
    "FENCED",
    "MOVED",
    "PASSING",
    "REFUSED",
    "REFUSED_WRITES",
    "SSL",
    "UNKNOWN",
    "UNREADABLE",
    "Trouble",
    "answered",
]

# As KafkaError.name() says them; those that librdkafka itself finds begin with an underscore.
MOVED = ("ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "REBALANCE_IN_PROGRESS", "_ASSIGNMENT_LOST", "_STATE")
FENCED = ("FENCED_INSTANCE_ID", "_FENCED")
UNKNOWN = ("UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION")
REFUSED = ("_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED", "UNSUPPORTED_SASL_MECHANISM")
# Of a delivery: the topic takes no message, whatever it is.
REFUSED_WRITES = (
    "TOPIC_AUTHORIZATION_FAILED",
    "CLUSTER_AUTHORIZATION_FAILED",
    "NOT_ENOUGH_REPLICAS",
    "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
    "KAFKA_STORAGE_ERROR",
)
SSL = "_SSL"
END = "_PARTITION_EOF"
# Of a fetched batch: checksum or length, compressed bytes, codec or format, and what a broker says of it.
UNREADABLE = ("_BAD_MSG", "_BAD_COMPRESSION", "_NOT_IMPLEMENTED", "INVALID_MSG")
PASSING = (
    "_TRANSPORT",
    "_TIMED_OUT",
    "_ALL_BROKERS_DOWN",
    "_RESOLVE",
    "_WAIT_COORD",
    "REQUEST_TIMED_OUT",
    "LEADER_NOT_AVAILABLE",
    "NOT_LEADER_FOR_PARTITION",
    "FENCED_LEADER_EPOCH",
    "UNKNOWN_LEADER_EPOCH",
    "_NOENT",  # no partition has a leader
    "COORDINATOR_LOAD_IN_PROGRESS",
    "COORDINATOR_NOT_AVAILABLE",
    "NOT_COORDINATOR",
    *UNKNOWN,
)


class Trouble:
    """What librdkafka last said was wrong."""

    def __init__(self) -> None:
        self.last: KafkaError | None = None
        self.refused: KafkaError | None = None
        self.down_since: float | None = None

    def note(self, error: KafkaError) -> None:
        if error.name() == "_ALL_BROKERS_DOWN":
            self.down_since = self.down_since or time.monotonic()
            return
        self.last = error
        if (
            is_uncertified(error.str())
            or error.name() in REFUSED
            or (error.name() == SSL and "verify failed" in error.str())
        ):
            self.refused = error

    def passed(self) -> None:
        self.down_since = None


def answered(places: list[TopicPartition]) -> list[TopicPartition]:
    """Return partitions with what a coordinator said of them. Raises KafkaException for one that it refused."""
    for place in places:
        if place.error is not None:
            raise KafkaException(place.error)
    return places
