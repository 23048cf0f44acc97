"""What every kind of test may use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from kappawatt.bus import Bus, Outgoing, Records, connect
from kappawatt.settings import Settings
from kappawatt.streams.table import TOPICS


@pytest.fixture
def bus_url(tmp_path: Path) -> str:
    return f"embedded:{tmp_path}/bus.sqlite"


@pytest.fixture
def bus(bus_url: str) -> Iterator[Bus]:
    """The embedded bus in a fresh file, with all topics."""
    bus = connect(bus_url)
    bus.ensure(TOPICS)
    yield bus
    bus.close()


@pytest.fixture
def settings(tmp_path: Path, bus_url: str) -> Settings:
    """Settings of a process whose files are all in the test's folder."""
    return Settings.read(
        {},
        bus=bus_url,
        artifacts=tmp_path / "artifacts",
        database=f"duckdb:{tmp_path}/kappawatt.duckdb",
        retry_for=30.0,
    )


def wait_until(claim: Callable[[], Any], seconds: float = 20.0, what: str = "") -> Any:
    """Return the first true value of `claim`; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = claim()
        if found:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what or claim}")
        time.sleep(0.02)


def set_clock(monkeypatch: pytest.MonkeyPatch, by: float) -> None:
    """Do what `date -s` does to every process: the time of day jumps by seconds, and nothing else."""
    real, real_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: real() + by)
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + int(by * 1e9))


def publish(bus: Bus, messages: Sequence[Outgoing]) -> None:
    """Publish and close."""
    producer = bus.producer()
    producer.publish(messages)
    producer.close()


def everything(bus: Bus, topic: str) -> list[Records]:
    """All that a topic holds."""
    reader = bus.reader([topic], {})
    found = []
    while batch := reader.poll(0.0):
        found += batch
    reader.close()
    return found
