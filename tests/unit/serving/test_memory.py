"""Memory: its limit, the series that take it, and what the doctor says of both."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from kappawatt.bus import Bus, Outgoing
from kappawatt.serving.app import create_app
from kappawatt.serving.histories import EXTENSION
from kappawatt.serving.memory import BASE_BYTES, Limit, count_series, examine_memory, memory_limit
from kappawatt.serving.service import find_service
from kappawatt.settings import Settings
from kappawatt.streams.meter import STREAM
from tests.conftest import publish, wait_until

GIGABYTE = 1_000_000_000


def written(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("files", "size"),
    [
        ({"sys/fs/cgroup/memory.max": "1000000"}, 1_000_000),
        ({"sys/fs/cgroup/memory.max": "max", "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000000"}, 2_000_000),
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/b/memory.max": "3000000"}, 3_000_000),
        (
            {
                "proc/self/cgroup": "0::/a/b",
                "sys/fs/cgroup/a/memory.max": "1000000",
                "sys/fs/cgroup/a/b/memory.max": "max",
            },
            1_000_000,
        ),
        ({"proc/self/cgroup": "4:memory:/x", "sys/fs/cgroup/memory.max": "5000000"}, 5_000_000),
    ],
    ids=["a container", "version 1", "a group", "a group within one", "a group of version 1"],
)
def test_the_least_limit_of_all_groups_holds(tmp_path: Path, files: dict[str, str], size: int) -> None:
    for name, text in files.items():
        written(tmp_path, name, text)

    limit = memory_limit(tmp_path)

    assert (limit.size, limit.is_own) == (size, True)


@pytest.mark.parametrize("text", ["max", "9223372036854771712", "", "x"])
def test_without_a_limit_it_is_what_the_machine_has(tmp_path: Path, text: str) -> None:
    written(tmp_path, "sys/fs/cgroup/memory.max", text)

    limit = memory_limit(tmp_path)

    assert limit.source == "memory of the machine"
    assert not limit.is_own


def reading(key: str, start: str) -> Outgoing:
    row = {"interval_start": start, "consumption": 0.1, "interval_seconds": 900}
    return Outgoing(STREAM.readings.name, orjson.dumps(row), key.encode(), (("content-type", b"application/json"),))


@pytest.fixture
def meters(bus: Bus) -> Bus:
    """Three meters, one of them heard twice."""
    starts = [("a", "2022-01-01T00:00:00Z"), ("b", "2022-01-01T00:00:00Z"), ("c", "2022-01-01T00:00:00Z")]
    publish(bus, [reading(key, start) for key, start in [*starts, ("a", "2022-01-01T00:15:00Z")]])
    return bus


def test_series_are_counted_by_their_keys(meters: Bus) -> None:
    assert count_series(meters, STREAM.readings.name) == 3


def examined(bus: Bus, limit: Limit) -> tuple[bool, str]:
    service = find_service("smart-meter")
    found = examine_memory(bus, service.name, service.modelled(), STREAM, limit)
    assert found is not None
    assert found.is_well
    return found.is_warning, str(found)


def test_series_near_the_limit_are_a_warning(meters: Bus) -> None:
    near = Limit(int(BASE_BYTES / 0.75), "memory.max of /sys/fs/cgroup", True)

    assert examined(meters, Limit(GIGABYTE, "memory.max of /sys/fs/cgroup", True))[0] is False
    is_warning, said = examined(meters, near)

    assert is_warning
    assert said.startswith("warn smart-meter memory: 3 series take up to 200 MB in `serve` and 200 MB in `consume`")
    assert ", 75% of 267 MB (memory.max of /sys/fs/cgroup); give more (in the chart by expectedSeries)" in said


def test_on_a_machine_both_processes_count(meters: Bus) -> None:
    size = int(BASE_BYTES / 0.5)

    assert examined(meters, Limit(size, "memory.max of x", True))[0] is False
    assert examined(meters, Limit(size, "memory of the machine", False))[0] is True


def test_a_service_that_keeps_no_series_is_not_asked(bus: Bus) -> None:
    service = find_service("plant-power")

    assert examine_memory(bus, service.name, service.modelled(), service.streamed(), memory_limit()) is None


def test_a_server_tells_how_many_series_it_keeps(meters: Bus, bus_url: str) -> None:
    app = create_app(find_service("smart-meter"), Settings.read({}, bus=bus_url))
    try:
        client = app.test_client()
        wait_until(lambda: 'kappawatt_series{service="smart-meter"} 3.0' in client.get("/metrics").text)
    finally:
        app.extensions[EXTENSION].stop()


def test_a_service_without_series_has_no_such_metric(bus_url: str) -> None:
    app = create_app(find_service("plant-power"), Settings.read({}, bus=bus_url))

    assert "kappawatt_series{" not in app.test_client().get("/metrics").text
