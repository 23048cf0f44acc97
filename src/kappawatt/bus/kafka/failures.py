"""What kafka-python's errors mean here."""

from __future__ import annotations

import ssl

from kafka import TopicPartition as Place
from kafka import errors as kafka_errors

__all__ = ["REFUSED", "REFUSED_WRITES", "is_retriable", "is_unknown", "is_untrusted", "named"]

REFUSED = (
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
)
# Of a delivery: the topic takes no message, whatever it is.
REFUSED_WRITES = (
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.ClusterAuthorizationFailedError,
    kafka_errors.NotEnoughReplicasError,
    kafka_errors.NotEnoughReplicasAfterAppendError,
    kafka_errors.KafkaStorageError,
)


def is_retriable(error: type[BaseException]) -> bool:
    return issubclass(error, kafka_errors.RetriableError) or error is kafka_errors.KafkaTimeoutError


def is_unknown(error: type[BaseException]) -> bool:
    return issubclass(error, (kafka_errors.UnknownTopicOrPartitionError, kafka_errors.InvalidTopicError))


def is_untrusted(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def named(place: Place) -> str:
    return f"{place.topic}[{place.partition}]"
