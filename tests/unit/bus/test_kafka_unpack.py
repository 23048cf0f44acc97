"""kappawatt's reader of Kafka's record batches reads what kafka-python's own reader reads."""

from __future__ import annotations

import random

import pytest

from kappawatt.bus.kafka import packing, unpacking
from kappawatt.bus.kafka.unpacking import MAGIC, Message, unpack

CODECS = {"none": 0, "gzip": 1, "lz4": 3, "zstd": 4}


def batch_of(messages: list[Message], codec: int) -> unpacking.DefaultRecordBatch:
    builder = packing.MemoryRecordsBuilder(MAGIC, codec, 1 << 24)
    for message in messages:
        assert builder.append(message.timestamp, message.key, message.value, message.headers) is not None
    builder.close()
    return unpacking.DefaultRecordBatch(bytes(builder.buffer()))


def random_messages(count: int) -> list[Message]:
    draw = random.Random(7)
    return [
        Message(
            n,
            1_700_000_000_000 + draw.randrange(-10_000_000, 10_000_000),
            draw.choice([None, b"", b"plant-1", draw.randbytes(200)]),
            draw.choice([b"", b"{}", draw.randbytes(70), draw.randbytes(20_000)]),
            tuple((f"name-{i}-ü", draw.randbytes(draw.choice([0, 1, 300]))) for i in range(draw.randrange(4))),
        )
        for n in range(count)
    ]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_batch_is_read_as_it_was_written(codec: int) -> None:
    written = random_messages(400)

    assert list(unpack(batch_of(written, codec))) == written


def test_a_batch_is_read_as_kafka_python_reads_it() -> None:
    written = random_messages(200)

    theirs = [Message(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in batch_of(written, 0)]

    assert list(unpack(batch_of(written, 0))) == theirs


def test_a_tombstone_is_an_empty_value() -> None:
    builder = packing.MemoryRecordsBuilder(MAGIC, 0, 1 << 20)
    builder.append(1, b"key", None, [("header", None)])
    builder.close()

    (message,) = unpack(unpacking.DefaultRecordBatch(bytes(builder.buffer())))

    assert message == Message(0, 1, b"key", b"", (("header", b""),))


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_a_batch_cut_short_is_corrupt(cut: int) -> None:
    builder = packing.MemoryRecordsBuilder(MAGIC, 0, 1 << 20)
    for _ in range(3):
        builder.append(1, b"key", b"value of some length", [("header", b"x")])
    builder.close()

    with pytest.raises(unpacking.kafka_errors.CorruptRecordError):
        list(unpack(unpacking.DefaultRecordBatch(bytes(builder.buffer())[:-cut])))
