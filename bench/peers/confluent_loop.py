"""A bare loop doing the worker's job: what confluent-kafka and numpy can do with nothing around them.

    python confluent_loop.py BOOTSTRAP SOURCE OUTPUT GROUP MODEL.ONNX

A poll of up to 5,000 readings is one batch for the model; every answer is a message; publish, flush, commit.
No validation, no dead letters, no ids, no metrics.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

import numpy as np
import onnxruntime
from confluent_kafka import Consumer, Producer

POLL = 5_000
NAMES = ("net_power", "net_power_lower", "net_power_upper")


def main(bootstrap: str, source: str, output: str, group: str, model: str) -> None:
    """Run until SIGTERM."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    predictor = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (feature,) = predictor.get_inputs()
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "queued.min.messages": 100_000,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "linger.ms": 20,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    consumer.subscribe([source])
    running = [True]
    signal.signal(signal.SIGTERM, lambda *_: running.clear())
    while running:
        step(consumer, producer, output, predictor, feature.name)
    consumer.close()


def step(consumer: Any, producer: Any, output: str, predictor: Any, feature: str) -> None:
    """Answer one poll."""
    messages = [message for message in consumer.consume(POLL, 0.1) if not message.error()]
    if not messages:
        return
    values = b",".join(message.value() for message in messages).split(b",")
    conditions = np.array(values, dtype=np.float32).reshape(len(messages), -1)[:, :4]
    rows = np.hstack(predictor.run(NAMES, {feature: conditions})).tolist()
    for message, (power, lower, upper) in zip(messages, rows, strict=True):
        answer = f'{{"net_power":{power},"net_power_lower":{lower},"net_power_upper":{upper}}}'
        producer.produce(output, answer, message.key())
    producer.flush(60)
    consumer.commit(asynchronous=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
