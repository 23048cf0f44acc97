"""How much is tried: `--cases` in all, over every service."""

from __future__ import annotations

import pytest

ALL = 100_000


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cases", type=int, default=ALL // 10, help="requests to make in all")


@pytest.fixture(scope="session")
def cases(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--cases"))


@pytest.fixture(scope="session")
def share(cases: int) -> float:
    """What part of a whole run this one is."""
    return min(1.0, cases / ALL)
