"""A worker that can be trusted: killed, restarted, joined and poisoned, it loses nothing and doubles no id."""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kappawatt.broker import Broker
from kappawatt.bus import Bus, Outgoing, connect
from kappawatt.bus.interface import BusOptions
from kappawatt.messages.dead_letters import read_dead_letters
from kappawatt.messages.ids import message_id
from kappawatt.messages.predictions import read_predictions
from kappawatt.streams.table import TOPICS
from tests.conftest import wait_until
from tests.integration.processes import Process, get, stopped_at_the_end

READINGS, PREDICTIONS, DEAD = "plant.readings", "plant.predictions", "plant.readings.dead"
GROUP = "plant-power"
SESSION = {"KAPPAWATT_SESSION_TIMEOUT": "6", "KAPPAWATT_LOG_FORMAT": "text"}
BUSES = ("embedded", "kafka-python", "confluent")


class Rig:
    """A bus of its own with all topics, and what is needed to feed and judge it."""

    def __init__(self, url: str, client: str, broker: Broker | None) -> None:
        self.url = url
        self.client = client
        self.broker = broker
        self.bus: Bus = connect(url, BusOptions(kafka_client=client))
        self.bus.ensure(TOPICS)
        self.sent = 0

    @property
    def environment(self) -> dict[str, str]:
        return {"KAPPAWATT_BUS": self.url, "KAPPAWATT_KAFKA_CLIENT": self.client, **SESSION}

    def worker(self, folder: Path, **more: str) -> Process:
        return Process(folder, "consume", GROUP, **self.environment, **more)

    def feed(self, n: int, poison_every: int = 0) -> None:
        """Publish n readings over twelve keys."""
        producer = self.bus.producer()
        messages = []
        for i in range(self.sent, self.sent + n):
            bad = poison_every and i % poison_every == 0
            value = b"\xff poison" if bad else b"%.2f,41.76,1024.07,73.17,463.26" % (5 + i % 2500 / 100)
            messages.append(Outgoing(READINGS, value, b"plant-%d" % (i % 12)))
        producer.publish(messages, timeout=60)
        producer.close()
        self.sent += n

    def judge(self, seconds: float = 90) -> Counter[str]:
        """Wait until every reading has a prediction or a dead letter; return how often each id came."""
        seen: Counter[str] = Counter()
        reader = self.bus.reader([PREDICTIONS, DEAD], {}, max_records=50_000)
        expected = {
            message_id(READINGS, self.bus.log_id(READINGS), p, offset)
            for p, known in self.bus.offsets(READINGS).items()
            for offset in range(known.begin, known.end)
        }
        assert len(expected) == self.sent

        def all_answered() -> bool:
            polled = reader.poll(0.2)
            for p in read_predictions(polled):
                seen[re.sub(r"-0@.*", "", p["id"])] += 1
            for letter in read_dead_letters(polled):
                seen[letter["id"]] += 1
            return expected <= seen.keys()

        try:
            wait_until(all_answered, seconds, f"{self.sent} answers, {len(seen)} so far")
        finally:
            reader.close()
        assert seen.keys() == expected
        return seen


@pytest.fixture(params=BUSES)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """A bus nobody else uses; a Kafka of its own may be stopped and killed."""
    if request.param == "embedded":
        rig = Rig(f"embedded:{tmp_path}/bus.sqlite", "kafka-python", None)
        yield rig
        rig.bus.close()
        return
    with Broker(tmp_path / "kafka") as broker:
        rig = Rig(f"kafka://{broker.bootstrap}", request.param, broker)
        yield rig
        rig.bus.close()


def test_a_worker_killed_at_any_moment_loses_nothing(rig: Rig, tmp_path: Path) -> None:
    moments = random.Random(7)
    feeding = threading.Thread(target=lambda: [rig.feed(400, poison_every=97) for _ in range(20)])
    feeding.start()
    worker = rig.worker(tmp_path)
    for _ in range(4):
        time.sleep(moments.uniform(0.8, 2.0))
        worker.kill()
        worker = rig.worker(tmp_path)
    feeding.join()

    with stopped_at_the_end(worker):
        seen = rig.judge()

    assert len(seen) == 8000


def test_a_second_worker_shares_the_work_and_its_death_is_covered(rig: Rig, tmp_path: Path) -> None:
    first, second = rig.worker(tmp_path).wait_ready(), rig.worker(tmp_path).wait_ready()
    with stopped_at_the_end(first, second):

        def both_answer() -> bool:
            rig.feed(240)
            time.sleep(0.5)
            return min(rows_answered(p) for p in (first, second)) > 0

        wait_until(both_answer, 40, "both workers to answer")
        rig.judge()
        second.kill()
        rig.feed(2000)
        seen = rig.judge()

    assert len(seen) == rig.sent


def test_sigterm_drains_and_leaves_nothing_to_be_doubled(rig: Rig, tmp_path: Path) -> None:
    worker = rig.worker(tmp_path).wait_ready()
    rig.feed(3000)
    wait_until(lambda: sum(rig.bus.committed(GROUP, READINGS).values()) > 0)

    assert worker.terminate() == 0

    second = rig.worker(tmp_path)
    with stopped_at_the_end(second):
        seen = rig.judge()
    assert set(seen.values()) == {1}


def test_liveness_fails_when_polls_stop(rig: Rig, tmp_path: Path) -> None:
    if rig.broker is not None:
        pytest.skip("the question is the worker's own; one bus is enough")
    worker = rig.worker(tmp_path, KAPPAWATT_POLL_AGE_LIMIT="2").wait_ready()
    with stopped_at_the_end(worker):
        assert get(worker.url("/healthz"))[0] == 200
        lock_the_bus(rig.url.removeprefix("embedded:"), 6)

        wait_until(lambda: get(worker.url("/healthz"))[0] == 503, 15, "liveness to fail")
        assert b"last poll" in get(worker.url("/healthz"))[1]
        wait_until(lambda: get(worker.url("/healthz"))[0] == 200, 30, "liveness to come back")


def test_a_broker_that_restarts_is_waited_for(rig: Rig, tmp_path: Path) -> None:
    if rig.broker is None:
        pytest.skip("the embedded bus has no broker to restart")
    worker = rig.worker(tmp_path).wait_ready()
    with stopped_at_the_end(worker):
        rig.feed(1000)
        rig.broker.stop()
        time.sleep(2)
        rig.broker.start()
        rig.feed(1000)
        rig.judge(120)
        rig.broker.kill()
        rig.broker.start()
        rig.feed(1000)
        seen = rig.judge(120)

    assert len(seen) == 3000


def test_a_worker_that_comes_before_the_bus_waits_for_it(tmp_path: Path) -> None:
    """As in a cluster where everything starts at once: alive, not ready, and never ended."""
    with Broker(tmp_path / "kafka") as broker:
        url = f"kafka://{broker.bootstrap}"
        broker.stop()
        worker = Process(tmp_path, "consume", GROUP, KAPPAWATT_BUS=url, **SESSION)
        with stopped_at_the_end(worker):
            wait_until(lambda: get(worker.url("/healthz"))[0] == 200, 30, "the probes of a worker without a bus")
            assert get(worker.url("/readyz"))[0] == 503
            broker.start()
            worker.wait_ready()

            assert worker.terminate() == 0


def rows_answered(process: Process) -> int:
    text = get(process.url("/metrics"))[1].decode()
    found = re.search(r'kappawatt_rows_total\{door="bus".*\} ([\d.]+)', text)
    return int(float(found.group(1))) if found else 0


def lock_the_bus(path: str, seconds: float) -> None:
    """Hold the write lock of the embedded bus for a while, so that a worker's turn cannot end."""
    import sqlite3

    def hold() -> None:
        connection: Any = sqlite3.connect(path, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        connection.execute("ROLLBACK")
        connection.close()

    threading.Thread(target=hold, daemon=True).start()
