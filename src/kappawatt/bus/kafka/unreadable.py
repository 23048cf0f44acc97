"""Batches that kafka-python cannot read: which partition has one, and where it ends.

Its exceptions do not say where they come from, and the client that raised one returns nothing more of that partition
(it would search for ever), so a consumer of its own looks, one partition after the other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kafka import KafkaConsumer
from kafka import TopicPartition as Place
from kafka import errors as kafka_errors

from kappawatt.bus.kafka.cluster import Cluster
from kappawatt.bus.kafka_clients import ANSWER_SECONDS, CONNECT_SECONDS
from kappawatt.bus.kafka_settings import Role

__all__ = ["BATCH_FAILURES", "find_readable", "find_unreadable"]

# Said by kafka-python itself. What a codec's library raises may be anything.
BATCH_FAILURES = (kafka_errors.CorruptRecordError, kafka_errors.UnsupportedCodecError)
FIND_SECONDS = 20.0  # below the longest pause between two polls of a group
ONE_BATCH = {"max_partition_fetch_bytes": 1}  # a broker gives the first batch however large it is


def find_unreadable(
    cluster: Cluster, config: Mapping[str, Any], positions: Mapping[Place, int]
) -> tuple[Place, int, str] | None:
    """Return the partition whose next batch cannot be read, its offset, and why; None if all can be."""
    ends = cluster.ends(positions)
    with _looking(cluster, config) as client:
        for place, offset in positions.items():
            if offset >= ends[place]:
                continue
            try:
                _read_one(client, place, offset, ends[place])
            except BATCH_FAILURES as error:
                return place, _position(client, place, offset), str(error)
            except kafka_errors.KafkaError:
                raise
            except Exception as error:  # of a codec's library
                return place, _position(client, place, offset), f"{type(error).__name__}: {error}"
    return None


def find_readable(cluster: Cluster, config: Mapping[str, Any], place: Place, offset: int) -> int:
    """Return the first offset after an unreadable one that can be read, or that of the end.

    Each offset inside a batch has the broker send that batch, and nothing but that tells where it ends. A look takes a
    millisecond or two; after `FIND_SECONDS` what was reached is returned.
    """
    end = cluster.ends([place])[place]
    with _looking(cluster, config) as client:
        deadline = time.monotonic() + FIND_SECONDS
        while True:
            offset += 1
            if offset >= end or time.monotonic() > deadline:
                return offset
            try:
                _read_one(client, place, offset, end)
            except BATCH_FAILURES:
                continue
            except kafka_errors.KafkaError:
                raise
            except Exception:  # noqa: S112 (of a codec's library; the next offset is looked at)
                continue
            return offset


@contextmanager
def _looking(cluster: Cluster, config: Mapping[str, Any]) -> Iterator[KafkaConsumer]:
    client = cluster.open(KafkaConsumer, CONNECT_SECONDS, Role.CONSUMER, {**config, **ONE_BATCH})
    try:
        yield client
    finally:
        client.close(autocommit=False, timeout_ms=0)


def _read_one(client: KafkaConsumer, place: Place, offset: int, end: int) -> None:
    """Read the batch that holds an offset, or pass over what is no message up to the end."""
    client.assign([place])
    client.seek(place, offset)
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline:
        if client.poll(timeout_ms=250) or client.position(place, timeout_ms=0) >= end:
            return
    raise kafka_errors.KafkaTimeoutError(f"{place.topic}[{place.partition}]: no batch within {ANSWER_SECONDS:g} s")


def _position(client: KafkaConsumer, place: Place, known: int) -> int:
    found = client.position(place, timeout_ms=0)
    return known if found is None else int(found)
