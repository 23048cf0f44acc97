"""These tests need a cluster that is theirs to use, and the images in it.

KUBECONFIG              names the cluster; node ports have to answer on 127.0.0.1
KAPPAWATT_LOAD_IMAGES   command that brings images of the local Docker engine into it (`kind load docker-image`)
"""

from __future__ import annotations

import os
import shutil

import pytest

from kappawatt import __version__
from kappawatt.serving.service import service_names
from tests.docker import why_no_docker
from tests.e2e.cluster import load_images, run
from tests.kafka_image import build as kafka_image

TAG, NEXT_TAG = __version__, f"{__version__}-next"
SERVICES = tuple(service_names())


@pytest.fixture(scope="session", autouse=True)
def cluster() -> None:
    """Skip with the reason where there is nothing to run on."""
    if "KUBECONFIG" not in os.environ:
        pytest.skip("KUBECONFIG: got nothing, allowed the path of a cluster's configuration")
    for tool in ("kubectl", "helm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool}: not on PATH")
    reason = why_no_docker()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def images(cluster: None) -> None:
    """This checkout's images under TAG, the same programs under NEXT_TAG, and a Kafka, in the cluster.

    The image of the next version is built upon the first: what is tested is how one takes the other's place.
    """
    known = run("docker", "images", "--format", "{{.Repository}}:{{.Tag}}").split()
    missing = [name for name in SERVICES if f"kappawatt/{name}:{TAG}" not in known]
    assert not missing, f"images of {', '.join(missing)} are not built: run `make images`"
    for name in SERVICES:
        recipe = f"FROM kappawatt/{name}:{TAG}\nLABEL org.opencontainers.image.version={NEXT_TAG}\n"
        run("docker", "build", "-q", "-t", f"kappawatt/{name}:{NEXT_TAG}", "-", given=recipe, seconds=120)
    kafka_image.ensure()
    load_images(*(f"kappawatt/{name}:{tag}" for name in SERVICES for tag in (TAG, NEXT_TAG)), kafka_image.IMAGE)
