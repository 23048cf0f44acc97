"""Where a batch that librdkafka cannot read ends."""

from __future__ import annotations

import time
from typing import Any

import confluent_kafka as kafka
from confluent_kafka import TopicPartition as Place

from kappawatt.bus.confluent.cluster import Cluster
from kappawatt.bus.confluent.trouble import UNREADABLE, Trouble
from kappawatt.bus.kafka_clients import ANSWER_SECONDS
from kappawatt.bus.kafka_settings import Role
from kappawatt.errors import BusError

__all__ = ["find_readable"]

CONSUMER: dict[str, Any] = {
    "group.id": "kappawatt-reader",  # librdkafka wants a name even from a reader that never joins
    "enable.auto.commit": False,
    "check.crcs": True,
    "enable.partition.eof": True,
    "fetch.wait.max.ms": 100,
    "fetch.error.backoff.ms": 1,
}


def find_readable(cluster: Cluster, topic: str, partition: int, offset: int) -> int:
    """Return the first offset after an unreadable batch.

    Each offset inside a batch has the broker send that batch, and librdkafka says with its failure where the batch
    begins: so the end is found by halving.
    """
    client = cluster.make(kafka.Consumer, cluster.config(Role.CONSUMER, CONSUMER, Trouble()))
    try:
        begin = _begin(client, Place(topic, partition, offset))
        inside, step = offset, 1
        while _begin(client, Place(topic, partition, inside + step)) == begin:
            inside, step = inside + step, 2 * step
        beyond = inside + step
        while beyond - inside > 1:
            middle = (inside + beyond) // 2
            if _begin(client, Place(topic, partition, middle)) == begin:
                inside = middle
            else:
                beyond = middle
        return beyond
    finally:
        client.close()


def _begin(client: kafka.Consumer, at: Place) -> int | None:
    """Return where the batch that holds an offset begins if it cannot be read, None if it can or there is none."""
    client.assign([at])
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline:
        for message in client.consume(1, 0.5):
            error = message.error()
            if error is not None and error.name() in UNREADABLE:
                return message.offset()
            return None
    raise BusError(f"{at.topic}[{at.partition}]@{at.offset}: no batch within {ANSWER_SECONDS:g} s")
