"""The embedded bus keeps the contract, and keeps it between processes that are killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kappawatt.bus.interface import BusOptions
from tests.bus_contract import *  # noqa: F403
from tests.bus_contract import World, read

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
