"""The embedded bus keeps the contract, and keeps it between processes that are killed."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kappawatt.bus.connect import connect
from kappawatt.bus.interface import BusOptions
from kappawatt.bus.promotions import PROMOTIONS, PromotionFollower, Serving, promote
from tests.bus_contract import *  # noqa: F403
from tests.bus_contract import World, new_topic, read, until

WRITER = """
import json, sys
from kappawatt.bus.connect import connect
from kappawatt.bus.interface import Outgoing
url, topic, name, rounds = json.loads(sys.argv[1])
producer = connect(url).producer()
for n in range(rounds):
    producer.publish([Outgoing(topic, f"{name} {n} {m}".encode(), name.encode()) for m in range(20)])
    print(n, flush=True)
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(f"embedded:{tmp_path / 'bus.sqlite'}", BusOptions(session_timeout=2.0))
    yield world
    world.close()


def writer(world: World, topic: str, name: str, rounds: int) -> subprocess.Popen[str]:
    arguments = json.dumps([world.url, topic, name, rounds])
    return subprocess.Popen([sys.executable, "-c", WRITER, arguments], stdout=subprocess.PIPE, text=True)


def test_processes_that_write_at_once_lose_nothing(world: World, topic: str, group: str) -> None:
    writers = [writer(world, topic, f"writer-{n}", 10) for n in range(4)]

    for process in writers:
        process.communicate()
    found = read(world.keep(world.bus().consumer([topic], group)), 4 * 200)

    assert [process.returncode for process in writers] == [0, 0, 0, 0]
    assert len({message.value for message in found}) == 800
    assert len({(message.partition, message.offset) for message in found}) == 800


def test_a_writer_killed_while_it_publishes_loses_nothing_acknowledged(world: World, topic: str) -> None:
    process = writer(world, topic, "killed", 1_000_000)
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()

    process.kill()
    acknowledged = 20 + len(process.communicate()[0].splitlines())

    bus = world.bus()
    stored = sum(known.end for known in bus.offsets(topic).values())
    assert stored % 20 == 0  # a publish is stored whole or not at all
    assert stored // 20 in (acknowledged, acknowledged + 1)
    assert len(read(world.keep(bus.reader([topic], {})), stored)) == stored


def test_the_topics_of_a_file_from_the_release_before_get_a_log_each(tmp_path: Path) -> None:
    path = tmp_path / "bus.sqlite"
    with closing(sqlite3.connect(path)) as file:
        file.executescript(
            "CREATE TABLE topic (name TEXT PRIMARY KEY, partitions INTEGER NOT NULL, retention INTEGER,"
            " compacted INTEGER NOT NULL) WITHOUT ROWID;"
            "INSERT INTO topic VALUES ('plant.readings', 2, 3600, 0), ('load.readings', 2, 3600, 0);"
        )

    with closing(connect(f"embedded:{path}")) as first, closing(connect(f"embedded:{path}")) as second:
        logs = [[bus.log_id(topic) for topic in ("plant.readings", "load.readings")] for bus in (first, second)]

    assert logs[0] == logs[1]
    assert len({*logs[0]}) == 2
    assert all(len(log) == 22 for log in logs[0])


def test_a_promotion_in_a_topic_that_was_made_again_is_followed(world: World) -> None:
    topic, bus = new_topic(1), world.bus()
    bus.ensure([PROMOTIONS, topic])
    former, later = (Serving(topic.name, f"{topic.name}.{n}", f"v{n}", {}, "", n) for n in (1, 2))
    follower = world.keep(PromotionFollower(bus, topic.name))
    promote(bus, former, "nobody", topic.name)
    assert follower.read() == former

    world.remake(PROMOTIONS)
    promote(world.bus(), later, "nobody", topic.name)

    found: list[Serving | None] = []
    until(lambda: found.append(follower.poll()) or found[-1] is not None)
    assert found[-1] == later
