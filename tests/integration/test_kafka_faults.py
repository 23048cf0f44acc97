"""What processes say and do when Kafka has a batch that cannot be read, is away, or refuses what is written."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import admin

from kappawatt.broker import Broker
from kappawatt.bus import connect
from kappawatt.bus.interface import Outgoing
from kappawatt.streams.table import TOPICS
from tests.conftest import wait_until
from tests.damaged import damage
from tests.integration.processes import Process, get, stopped_at_the_end

CLIENTS = ("kafka-python", "confluent")
READING = {
    "ambient_temperature": 14.96,
    "exhaust_vacuum": 41.76,
    "ambient_pressure": 1024.07,
    "relative_humidity": 73.17,
}
TOPIC = "plant.readings"


class Cluster:
    """Changes what a broker asks of writes, and what it knows of groups."""

    def __init__(self, broker: Broker) -> None:
        self._admin: Any = admin.AdminClient({"bootstrap.servers": broker.bootstrap})

    def ask_for_replicas(self, topic: str, count: int) -> None:
        entry = admin.ConfigEntry(  # type: ignore[attr-defined]
            "min.insync.replicas", str(count), incremental_operation=admin.AlterConfigOpType.SET
        )
        resource = admin.ConfigResource(  # type: ignore[attr-defined]
            confluent_kafka.admin.ResourceType.TOPIC, topic, incremental_configs=[entry]
        )
        for answer in self._admin.incremental_alter_configs([resource]).values():
            answer.result()

    def forget(self, group: str) -> None:
        """Have a group begin at the beginning, once its members are gone."""
        for answer in self._admin.delete_consumer_groups([group]).values():
            with contextlib.suppress(confluent_kafka.KafkaException):  # it never was there
                answer.result()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A node whose readings of partition 0 are good, unreadable, good; the batches before and behind are of one."""
    with Broker(tmp_path_factory.mktemp("faults")) as broker:
        bus = connect(f"kafka://{broker.bootstrap}")
        bus.ensure(TOPICS)
        producer = bus.producer()
        for n in range(3):
            producer.publish([Outgoing(TOPIC, json.dumps(READING).encode(), b"p%d" % n, partition=0)])
        producer.close()
        bus.close()
        broker.stop()
        damage(broker, TOPIC, 1, "unknown")
        broker.start()
        yield broker


@pytest.fixture(params=CLIENTS)
def environment(broker: Broker, request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    return {
        "KAPPAWATT_BUS": f"kafka://{broker.bootstrap}",
        "KAPPAWATT_KAFKA_CLIENT": request.param,
        "KAPPAWATT_SESSION_TIMEOUT": "6",
        "KAPPAWATT_DATABASE": f"duckdb:{tmp_path}/store.duckdb",
        "KAPPAWATT_STATE": str(tmp_path),
    }


def says(process: Process, path: str, status: int, text: str) -> bool:
    code, body = get(process.url(path))
    return code == status and text in body.decode()


def consuming(service: str, folder: Path, environment: dict[str, str], **more: str) -> Process:
    command = ("sink",) if service == "sink" else ("consume", service)
    return Process(folder, *command, **environment, **more)


@pytest.mark.parametrize("service", ["plant-power", "sink"])
def test_a_batch_that_cannot_be_read_fails_liveness_which_names_it(
    tmp_path: Path, environment: dict[str, str], service: str
) -> None:
    process = consuming(service, tmp_path, environment)
    with stopped_at_the_end(process):
        where = f"{TOPIC}[0]@1 cannot be read: "

        wait_until(lambda: says(process, "/healthz", 503, where), 40, f"liveness of {process.log}")
        begun = time.monotonic()

        assert process.terminate() == 0
        assert time.monotonic() - begun < 15
        assert where in process.log.read_text()


@pytest.mark.parametrize("service", ["plant-power", "sink"])
def test_a_batch_that_cannot_be_read_is_left_out_counted_and_logged(
    tmp_path: Path, broker: Broker, environment: dict[str, str], service: str
) -> None:
    Cluster(broker).forget(service)
    process = consuming(service, tmp_path, environment, KAPPAWATT_SKIP_UNREADABLE="true")
    line = f'kappawatt_unreadable_batches_total{{partition="0",service="{service}",topic="{TOPIC}"}} 1.0'
    with stopped_at_the_end(process):
        process.wait_ready()

        wait_until(lambda: line in get(process.url("/metrics"))[1].decode(), 40, "the metric")
        wait_until(lambda: says(process, "/healthz", 200, ""), 5, "liveness")

        assert process.terminate() == 0
        (said,) = [line for line in process.log.read_text().splitlines() if "left out what cannot be read" in line]
        assert (json.loads(said)["partition"], json.loads(said)["from"], json.loads(said)["to"]) == (
            f"{TOPIC}[0]",
            1,
            2,
        )


def test_a_broker_that_is_away_is_a_line_in_15_s(tmp_path: Path, broker: Broker, environment: dict[str, str]) -> None:
    more = {"KAPPAWATT_SKIP_UNREADABLE": "true"}
    processes = [
        consuming("plant-power", tmp_path, environment, **more),
        consuming("sink", tmp_path, environment, **more),
        Process(tmp_path, "serve", "gateway", **environment, KAPPAWATT_OPEN_ACCESS="true"),
    ]
    with stopped_at_the_end(*processes):
        for process in processes:
            process.wait_ready()
        before = [len(process.log.read_text().splitlines()) for process in processes]

        broker.stop()
        try:
            time.sleep(32)
        finally:
            broker.start()

        for process, known in zip(processes, before, strict=True):
            said = process.log.read_text().splitlines()[known:]
            assert 1 <= len(said) <= 4, "\n".join(said)
        for process in processes:
            process.wait_ready()


ASKING = """
import sys, time, contextlib
from kappawatt.bus import connect
from kappawatt.bus.interface import BusOptions
from kappawatt.errors import BusError
url, topic = sys.argv[1:]
bus = connect(url, BusOptions(kafka_client="confluent"))
questions = (
    lambda: bus.committed("asking", topic),
    lambda: bus._cluster.group("asking"),
    lambda: bus.offsets(topic),
    lambda: bus.log_id(topic),
)
end = time.monotonic() + 10
while time.monotonic() < end:
    for question in questions:
        with contextlib.suppress(BusError):
            question()
while True:  # a coordinator that has just come back takes its time; the test's own limit ends this
    with contextlib.suppress(BusError):
        print("answered", bus.committed("asking", topic))
        break
"""


def test_a_process_outlives_the_broker_it_asks(tmp_path: Path) -> None:
    """librdkafka ends the process when a coordinator goes under some questions: 4 of 4 within a minute."""
    with Broker(tmp_path) as broker:
        url = f"kafka://{broker.bootstrap}"
        connect(url).ensure([topic for topic in TOPICS if topic.name == TOPIC])
        command = [sys.executable, "-c", ASKING, url, TOPIC]
        asking = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        for _ in range(3):
            time.sleep(1)
            broker.kill()
            broker.start()
        said = [process.communicate(timeout=90)[0] for process in asking]

    assert [process.returncode for process in asking] == [0, 0]
    assert said == ["answered {}\n"] * 2


def test_an_ingestor_whose_bus_refuses_writes_is_not_ready_until_it_takes_them(
    tmp_path: Path, broker: Broker, environment: dict[str, str]
) -> None:
    topics = Cluster(broker)
    ingestor = Process(tmp_path, "serve", "sensor-ingestor", **environment)
    with stopped_at_the_end(ingestor):
        ingestor.wait_ready()
        topics.ask_for_replicas(TOPIC, 2)
        try:
            wait_until(lambda: says(ingestor, "/readyz", 503, "min.insync.replicas"), 30, "not ready")
        finally:
            topics.ask_for_replicas(TOPIC, 1)

        wait_until(lambda: says(ingestor, "/readyz", 200, ""), 30, "ready")
        assert not re.search("Traceback", ingestor.log.read_text())
