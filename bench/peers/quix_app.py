"""Quix Streams doing the worker's job: parse a CSV reading, run the model, publish the answer, commit.

    python quix_app.py BOOTSTRAP SOURCE OUTPUT GROUP MODEL.ONNX [WINDOW]

At least once, as is Quix's default. One message is one answer. With WINDOW the readings of a key are gathered
by Quix's own count window of that many and the model runs once a window.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import onnxruntime
from quixstreams import Application

COMMIT_SECONDS = 1.0
NAMES = ("net_power", "net_power_lower", "net_power_upper")


def session(path: str) -> Any:
    """Return the model on one thread, as kappawatt runs it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def main(bootstrap: str, source: str, output: str, group: str, model: str, window: str = "0") -> None:
    """Run until SIGTERM."""
    predictor = session(model)
    (feature,) = predictor.get_inputs()

    def answers(lines: list[str]) -> list[dict[str, float]]:
        conditions = np.array([line.split(",")[:4] for line in lines], dtype=np.float32)
        columns = predictor.run(NAMES, {feature.name: conditions})
        return [dict(zip(NAMES, row, strict=True)) for row in np.hstack(columns).tolist()]

    app = Application(
        broker_address=bootstrap,
        consumer_group=group,
        auto_offset_reset="earliest",
        processing_guarantee="at-least-once",
        commit_interval=COMMIT_SECONDS,
        auto_create_topics=True,
        loglevel="WARNING",
        state_dir=f"state-{group}",
        producer_extra_config={"linger.ms": 20, "batch.size": 1_000_000},
        consumer_extra_config={"fetch.max.bytes": 50_000_000, "queued.min.messages": 100_000},
    )
    readings = app.dataframe(app.topic(source, key_deserializer="bytes", value_deserializer="str"))
    target = app.topic(output, key_serializer="bytes", value_serializer="json")
    if int(window):
        gathered = readings.tumbling_count_window(count=int(window)).collect().final()
        gathered.apply(lambda found: answers(found["value"]), expand=True).to_topic(target)
    else:
        readings.apply(lambda value: answers([value])[0]).to_topic(target)
    app.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
