"""The ingestor while its Kafka is gone: every request is repeated until it is accepted, and stored once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kappawatt.broker import Broker
from kappawatt.bus import connect
from kappawatt.bus.topic import PLANT_READINGS, TOPICS
from kappawatt.services.sensor_ingestor import routes
from kappawatt.services.sensor_ingestor.service import SERVICE
from kappawatt.serving.app import create_app
from kappawatt.settings import Settings

GONE_SECONDS = 3.0


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_repeats_over_a_dead_broker_store_every_request_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: str, end: str
) -> None:
    monkeypatch.setattr(routes, "PUBLISH_SECONDS", 0.5)
    doors: list[Any] = []

    class Door(routes._Door):
        def __init__(self, settings: Settings) -> None:
            super().__init__(settings)
            doors.append(self)

    monkeypatch.setattr(routes, "_Door", Door)
    statuses: Counter[int] = Counter()
    enough = threading.Event()

    with Broker(tmp_path / "kafka") as broker:
        given: dict[str, Any] = {"bus": f"kafka://{broker.bootstrap}", "kafka_client": client, "state": tmp_path}
        settings = Settings.read({}, **given)
        bus = connect(settings.bus, settings.bus_options())
        bus.ensure(TOPICS)
        app = create_app(SERVICE, settings)

        def sender(plant: int) -> int:
            door, number = app.test_client(), 0
            while not enough.is_set():
                row = f"{5 + number % 30},41.76,1000,{plant + 40}"
                while True:
                    headers = {"Idempotency-Key": f"{plant}-{number}", "Content-Type": "text/csv"}
                    answer = door.post(f"/readings/plant-{plant}", data=row, headers=headers)
                    statuses[answer.status_code] += 1
                    if answer.status_code == 202:
                        break
                    time.sleep(0.05)
                number += 1
            return number

        with ThreadPoolExecutor(4) as pool:
            sending = [pool.submit(sender, plant) for plant in range(4)]
            time.sleep(2)
            getattr(broker, end)()
            time.sleep(GONE_SECONDS)
            broker.start()
            time.sleep(5)
            enough.set()
            accepted = sum(sent.result(120) for sent in sending)

        for opened in doors[0]._connected()[::-1]:
            opened.close()
        stored = sum(known.end - known.begin for known in bus.offsets(PLANT_READINGS.name).values())
        bus.close()

    assert statuses[503]
    assert statuses[409]
    assert set(statuses) == {202, 409, 503}
    assert stored == accepted
