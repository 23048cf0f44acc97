"""Images are built before (`make images`); without docker none of these can run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docker import why_no_docker
from tests.images.engine import build
from tools.images import tag_of

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    own = [item for item in items if HERE in item.path.parents and "needs_no_engine" not in item.keywords]
    reason = why_no_docker() if own else None
    if reason:
        for item in own:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def training_image() -> str:
    """plant-power with what its training needs; built here, as `make images` does not."""
    build("plant-power", "--extra", "train")
    return tag_of("plant-power", ["train"])
