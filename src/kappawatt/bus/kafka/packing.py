"""Whole record batches into the producer's accumulator, with one future a batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from kafka import KafkaProducer
from kafka import TopicPartition as Place
from kafka.producer.producer_batch import ProducerBatch
from kafka.record.memory_records import MemoryRecordsBuilder

from kappawatt.bus.interface import Outgoing
from kappawatt.bus.kafka.unpacking import MAGIC
from kappawatt.errors import DeliveryFailed

__all__ = ["decide_with_halves", "enqueue", "when_decided"]

MERGED = 64  # so many messages for one partition share the batch that waits already


def enqueue(client: KafkaProducer, place: Place, messages: list[Outgoing]) -> list[ProducerBatch]:
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


def when_decided(batches: list[ProducerBatch], call: Callable[[bool], None]) -> None:
    """Call `call` once every batch is stored or given up, with whether all are stored."""
    waiting = [batch for batch in batches if not batch.is_done]
    if not waiting:
        call(_are_stored(batches))
        return
    left = [len(waiting)]
    lock = threading.Lock()

    def one_done(_: object) -> None:
        with lock:
            left[0] -= 1
            last = left[0] == 0
        if last:
            call(_are_stored(batches))

    for batch in waiting:
        batch.produce_future.add_both(one_done)


def decide_with_halves(client: KafkaProducer) -> None:
    """Have a batch that the broker finds too large, and the client splits, decided when its halves are.

    The client tells the futures of single records, which batches here do not have, and never the batch's own.
    """
    accumulator = client._accumulator
    split = accumulator.split_and_reenqueue

    def split_and_tell(batch: ProducerBatch, now: float | None = None) -> int:
        made: int = split(batch, now)
        halves = [
            each
            for each in accumulator._incomplete.all()
            if each is not batch and each.topic_partition == batch.topic_partition and each.created == batch.created
        ]

        def decided(are_stored: bool) -> None:
            failed = next((half.produce_future.value[2] for half in halves if not _are_stored([half])), None)
            batch.produce_future.success((None, None, failed))

        when_decided(halves, decided)
        return made

    accumulator.split_and_reenqueue = split_and_tell


def _are_stored(batches: list[ProducerBatch]) -> bool:
    return all(batch.produce_future.succeeded() and batch.produce_future.value[2] is None for batch in batches)
