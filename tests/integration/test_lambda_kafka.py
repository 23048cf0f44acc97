"""Readings from a real Kafka, handed over as the platform's poller does, answered to the same Kafka."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from kappawatt.bus import Bus, Outgoing, Records, connect
from kappawatt.bus.topic import PLANT_PREDICTIONS, PLANT_READINGS, TOPICS, dead_letter
from kappawatt.messages.dead_letters import read_dead_letters
from kappawatt.messages.predictions import read_predictions
from serverless.local import FunctionError, LocalFunction
from tests.conftest import wait_until
from tests.integration.lambda_sandbox import built, needs_runtime, task
from tests.integration.processes import Process, free_port, stopped_at_the_end
from tests.unit.deploy.aws.fixtures import READING, kafka, load

__all__ = ["built", "task"]

SOURCE, OUTPUT, DEAD = PLANT_READINGS.name, PLANT_PREDICTIONS.name, dead_letter(PLANT_READINGS).name
VALUES = (orjson.dumps(READING), b"14.96,41.76,1024.07,73.17,463.26", b"junk", b"14.96,812.0,1024.07,73.17") * 30


@pytest.fixture
def kafka_bus(kafka_address: str) -> Iterator[Bus]:
    bus = connect(f"kafka://{kafka_address}")
    bus.ensure(TOPICS)
    yield bus
    bus.close()


class Plant:
    """Readings of one plant of the test's own, and what became of them."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.name = f"lambda-{uuid4()}"
        self._before = {topic: bus.offsets(topic) for topic in (SOURCE, OUTPUT, DEAD)}

    def publish(self) -> None:
        producer = self.bus.producer()
        producer.publish([Outgoing(SOURCE, value, self.name.encode()) for value in VALUES])
        producer.close()

    def polled(self) -> list[Records]:
        """What a poller of the platform has got: all readings of the plant, a block a partition."""
        found = []
        for records in self._read(SOURCE):
            own = [i for i, key in enumerate(records.keys) if key == self.name.encode()]
            if own:
                found.append(records.pick(own))
        return found

    def end(self) -> int:
        """How many readings the topic has got, of all plants."""
        return sum(offsets.end for offsets in self.bus.offsets(SOURCE).values())

    def predictions(self) -> list[dict[str, Any]]:
        return [p for p in read_predictions(self._read(OUTPUT)) if p["key"] == self.name]

    def letters(self) -> list[dict[str, Any]]:
        return [x for x in read_dead_letters(self._read(DEAD)) if x["key"] == self.name]

    def _read(self, topic: str) -> list[Records]:
        reader = self.bus.reader([topic], {(topic, p): o.end for p, o in self._before[topic].items()})
        found: list[Records] = []
        try:
            ends = {(topic, p): o.end for p, o in self.bus.offsets(topic).items()}
            until = time.monotonic() + 30
            while any(reader.positions().get(where, 0) < end for where, end in ends.items()):
                assert time.monotonic() < until, f"{topic} not read in 30 s"
                found += reader.poll(0.2)
        finally:
            reader.close()
        return found


@needs_runtime
def test_a_package_answers_readings_of_a_real_kafka_as_a_worker_does(
    task: Path, kafka_bus: Bus, kafka_address: str, tmp_path: Path
) -> None:
    plant = Plant(kafka_bus)
    plant.publish()
    polled = plant.polled()
    assert sum(map(len, polled)) == len(VALUES)

    with LocalFunction(task, KAPPAWATT_SERVICE="plant-power", KAPPAWATT_BUS=f"kafka://{kafka_address}") as function:
        first = function.invoke(kafka(polled), timeout=60)
        once = plant.predictions(), plant.letters()
        second = function.invoke(kafka(polled), timeout=60)
    twice = plant.predictions(), plant.letters()
    worker = Process(tmp_path, "consume", "plant-power", KAPPAWATT_BUS=f"kafka://{kafka_address}")
    with stopped_at_the_end(worker):
        wait_until(lambda: sum(kafka_bus.committed("plant-power", SOURCE).values()) >= plant.end(), 90, "all committed")
    thrice = plant.predictions()

    assert first == second == {"rows": 120, "refused": 60}
    assert (len(once[0]), len(once[1])) == (60, 60)
    assert (len(twice[0]), len(twice[1])) == (120, 120)
    assert len(thrice) >= 180
    for found in (twice[0], thrice):
        assert {p["id"] for p in found} == {p["id"] for p in once[0]}
    answers = {(p["id"], p["net_power"], p["net_power_lower"], p["net_power_upper"]) for p in thrice}
    assert len(answers) == 60  # one answer an id, to the last bit
    assert {x["id"] for x in twice[1]} == {x["id"] for x in once[1]}


@needs_runtime
def test_a_batch_that_cannot_be_published_fails_and_the_next_call_goes_on(task: Path) -> None:
    with LocalFunction(
        task, KAPPAWATT_SERVICE="plant-power", KAPPAWATT_BUS=f"kafka://127.0.0.1:{free_port()}"
    ) as function:
        function.wait_ready()
        started = time.monotonic()
        with pytest.raises(FunctionError) as failure:
            function.invoke(load("msk"), timeout=60)
        took = time.monotonic() - started
        still = function.invoke({"rows": [READING]})

    assert failure.value.document["errorType"] == "BusUnreachable"
    assert took < 30  # half of the time that serverless.yml gives it
    assert len(still["predictions"]) == 1
