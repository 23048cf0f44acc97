"""One stack for all of these tests, with images of our own for what only a registry has."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kappawatt import __version__
from kappawatt.serving.service import service_names
from tests.compose.stack import Stack, defaults, has_image, why_not
from tests.docker import docker
from tests.kafka_image import build as kafka_image

HERE = Path(__file__).parent
BASE = os.environ.get("PYTHON_IMAGE", "python:3.13-slim")
POSTGRES_IMAGE = "kappawatt-test/postgres:15"
S3_IMAGE = "kappawatt-test/versitygw:1.8.0"
BUILD_SECONDS = 900.0


def build(folder: Path, tag: str) -> None:
    docker("build", "-q", "-t", tag, "--build-arg", f"BASE={BASE}", str(folder), seconds=BUILD_SECONDS)


def can_have(image: str) -> bool:
    """Whether docker has an image, or a registry that it reaches."""
    if not has_image(image):
        docker("pull", "-q", image, seconds=BUILD_SECONDS, check=False)
    return has_image(image)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """All services, healthy."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    kafka_image.ensure()
    postgres = defaults()["POSTGRES_IMAGE"]
    if not has_image(POSTGRES_IMAGE) and not can_have(postgres):
        build(HERE / "postgres_image", POSTGRES_IMAGE)
    postgres = postgres if has_image(postgres) else POSTGRES_IMAGE
    stack = Stack(f"kappawatt-test-{os.getpid()}", POSTGRES_IMAGE=postgres, PYTHON_IMAGE=BASE)
    if not all(has_image(f"kappawatt/{name}:{__version__}") for name in service_names()):
        stack.compose("build", timeout=BUILD_SECONDS)
    try:
        stack.up()
        yield stack
    finally:
        stack.down()


@pytest.fixture(scope="session")
def s3_image() -> str:
    """The name of an image with the S3 server; where none can be pulled, made of a binary that is on this machine."""
    official = defaults()["S3_IMAGE"]
    if has_image(official) or (not has_image(S3_IMAGE) and can_have(official)):
        return official
    binary = os.environ.get("KAPPAWATT_TEST_VERSITYGW") or shutil.which("versitygw")
    if not binary or not Path(binary).is_file():
        pytest.skip("no versitygw on PATH, and KAPPAWATT_TEST_VERSITYGW names none")
    if not has_image(S3_IMAGE):
        with tempfile.TemporaryDirectory(prefix="versitygw-") as folder:
            shutil.copy(HERE / "s3_image" / "Dockerfile", folder)
            shutil.copy(binary, Path(folder) / "versitygw")
            build(Path(folder), S3_IMAGE)
    return S3_IMAGE
