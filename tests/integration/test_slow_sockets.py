"""500 slow sockets of each kind on gateway, ingestor and a model server: `bench/slow_sockets.py`, each for seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.slow_sockets import KINDS, SERVERS, SOCKETS, measure, servers

SECONDS = 1.0
ATTEMPTS = 4  # a rate over a second on a busy machine is a guess; a server that is held is held each time
LEAST_RATIO = 0.8
MOST_HEALTH_SECONDS = 1.0
MOST_GROWN = 80_000_000  # room for bodies and for answers is 34 MB each, with 500 sockets or with 5,000


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[int, int]]]:
    with servers(tmp_path_factory.mktemp("slow")) as found:
        yield found


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("server", list(SERVERS))
def test_slow_sockets_hold_nobody(running: dict[str, tuple[int, int]], server: str, kind: str) -> None:
    port, pid = running[server]
    tries = []
    for _ in range(ATTEMPTS):
        found = measure(server, port, pid, kind, SOCKETS, SECONDS)
        assert found.failures == []
        assert found.grown < MOST_GROWN
        tries.append((found.ratio, found.cpu_ratio, found.slowest_health))
        if max(found.ratio, found.cpu_ratio) >= LEAST_RATIO and found.slowest_health < MOST_HEALTH_SECONDS:
            return

    pytest.fail(f"good requests kept by rate and by processor time, and the slowest /healthz [s]: {tries}")
