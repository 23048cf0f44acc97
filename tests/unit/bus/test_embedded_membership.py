"""Members of the embedded bus' groups, under clocks that somebody sets."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kappawatt.bus import Bus, Consumer, Outgoing, connect
from kappawatt.bus.embedded import membership
from kappawatt.bus.embedded.file import File
from kappawatt.bus.embedded.membership import Membership
from kappawatt.bus.interface import BusOptions
from kappawatt.bus.topic import Topic
from kappawatt.errors import BusError
from tests.conftest import publish, set_clock, wait_until

SESSION = 0.5
HOUR = 3600
TOPIC = Topic("t", "plant", None, 4, HOUR, (), (), "made by a test")
MEMBERS = "UPDATE member SET seen = {}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bus.sqlite"


@pytest.fixture
def bus(file: Path) -> Iterator[Bus]:
    bus = connect(f"embedded:{file}", BusOptions(session_timeout=SESSION))
    bus.ensure([TOPIC])
    publish(bus, [Outgoing("t", b"value", partition=p) for p in range(4)])
    yield bus
    bus.close()


def drained(consumer: Consumer) -> Callable[[], bool]:
    """A claim: this member alone has read all partitions."""
    seen: set[int] = set()

    def claim() -> bool:
        seen.update(records.partition for records in consumer.poll(0.05))
        return seen == {0, 1, 2, 3}

    return claim


@pytest.mark.parametrize("by", [-HOUR, HOUR, -10 * 365 * 24 * HOUR])
def test_a_dead_members_partitions_are_read_whatever_is_done_to_the_clock(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, by: float
) -> None:
    dead = bus.consumer(["t"], "g")
    dead.poll(0)
    set_clock(monkeypatch, by)

    other = bus.consumer(["t"], "g")

    wait_until(drained(other), 20 * SESSION)


@pytest.mark.parametrize("by", [-HOUR, HOUR])
def test_a_living_member_keeps_its_partitions_whatever_is_done_to_the_clock(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, by: float
) -> None:
    one, other = bus.consumer(["t"], "g"), bus.consumer(["t"], "g")
    wait_until(lambda: (one.poll(0), other.poll(0), len(one.positions()) == len(other.positions()) == 2)[-1])
    mine = one.positions()

    set_clock(monkeypatch, by)
    deadline = time.monotonic() + 3 * SESSION
    while time.monotonic() < deadline:
        one.poll(0.01)
        other.poll(0.01)

        assert one.positions().keys() == mine.keys()


@pytest.mark.parametrize("seen", ["1.7e9", "9e15"], ids=["of a release that used the time of day", "of a later time"])
def test_a_sign_of_life_from_the_future_is_none(bus: Bus, file: Path, seen: str) -> None:
    """A machine that was started anew counts from its start, so what is in the file may lie ahead."""
    bus.consumer(["t"], "g").poll(0)
    with sqlite3.connect(file) as connection:
        connection.execute(MEMBERS.format(seen))
    connection.close()

    other = bus.consumer(["t"], "g")
    other.poll(0)

    assert len(other.positions()) == 4


def test_offsets_are_committed_for_a_group_whose_members_lie_in_the_future(bus: Bus, file: Path) -> None:
    bus.consumer(["t"], "g").poll(0)
    with pytest.raises(BusError, match="got 1 members, allowed none"):
        bus.commit_for("g", {("t", 0): 1})
    with sqlite3.connect(file) as connection:
        connection.execute(MEMBERS.format("9e15"))
    connection.close()

    bus.commit_for("g", {("t", 0): 1})

    assert bus.committed("g", "t")[0] == 1


def test_a_machine_that_started_anew_drops_members_of_before(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    bus.consumer(["t"], "g").poll(0)
    monkeypatch.setattr(membership, "machine_seconds", lambda: 5.0)

    other = bus.consumer(["t"], "g")
    other.poll(0)

    assert len(other.positions()) == 4


class SlowFile(File):
    """Whose lock is taken only after something else has happened."""

    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        self.meanwhile()
        with super().write() as connection:
            yield connection


def test_who_waited_for_the_file_does_not_take_others_for_dead(bus: Bus, file: Path) -> None:
    """A sign of life is timed inside the write, or one that was written meanwhile would lie in the future."""
    slow = SlowFile(str(file))
    waiting = Membership(slow, "g", "waiting", ("t",), SESSION)
    other = Membership(File(str(file)), "g", "other", ("t",), SESSION)
    slow.meanwhile = other.keep  # type: ignore[method-assign]

    waiting.keep()

    assert len(waiting.share()) == len(other.share()) == 2
