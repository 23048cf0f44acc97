"""What librdkafka's error codes mean here, and which came last."""

from __future__ import annotations

import time

from confluent_kafka import KafkaError

__all__ = ["FENCED", "MOVED", "PASSING", "REFUSED", "UNKNOWN", "Trouble"]

MOVED = (
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError._ASSIGNMENT_LOST,
    KafkaError._STATE,
)
FENCED = (KafkaError.FENCED_INSTANCE_ID, KafkaError._FENCED)
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


class Trouble:
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
