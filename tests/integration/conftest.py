"""One Kafka for all integration tests: KAPPAWATT_TEST_KAFKA names one that runs, or a broker is started."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kappawatt.broker import Broker

if TYPE_CHECKING:
    from tests.integration.postgresql import Server

pytest.register_assert_rewrite("tests.bus_contract")

USERS = {"sensor": "sensor-secret"}
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """kafka-python leaves the socket of a failed connection to the garbage collector."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Collect such sockets while the marks above still hold."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A PostgreSQL of our own."""
    from tests.integration.postgresql import started

    with tempfile.TemporaryDirectory(prefix="kappawatt-pg-") as name, started(Path(name)) as server:
        yield server


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A node of our own, with a SASL_SSL listener."""
    with Broker(tmp_path_factory.mktemp("kafka"), users=USERS) as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka_address(request: pytest.FixtureRequest) -> str:
    """HOST:PORT of a PLAINTEXT listener."""
    given = os.environ.get("KAPPAWATT_TEST_KAFKA")
    if given:
        return given
    broker: Broker = request.getfixturevalue("broker")
    return broker.bootstrap
