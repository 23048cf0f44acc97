"""A Marathon for each test, with the schema if there is one; docker where docker is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.marathon.dcos import Dcos, find_dcos
from tests.marathon.orchestrator import App
from tests.marathon.server import Marathon, read_schema
from tests.marathon.tasks import Agent


@pytest.fixture(scope="session")
def schema() -> App | None:
    """Marathon's JSON schema, where KAPPAWATT_MARATHON_SCHEMA names it; its rules are checked in any case."""
    path = os.environ.get("KAPPAWATT_MARATHON_SCHEMA")
    return read_schema(Path(path)) if path else None


@pytest.fixture
def marathon(tmp_path: Path, schema: App | None) -> Iterator[Marathon]:
    """A Marathon whose tasks share the host's network."""
    with Marathon(Agent(tmp_path / "agent", {}), schema) as marathon:
        yield marathon


@pytest.fixture(scope="session")
def dcos_program() -> Path:
    """The `dcos` command line."""
    return find_dcos()


@pytest.fixture
def dcos(dcos_program: Path, tmp_path: Path, marathon: Marathon) -> Dcos:
    """`dcos` pointed at the test's Marathon."""
    return Dcos(dcos_program, tmp_path / "home", marathon.url)
