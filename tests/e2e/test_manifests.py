"""`kubectl apply -k k8s/`, by the commands of its page."""

from __future__ import annotations

import hashlib
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.e2e import cluster
from tests.e2e.cluster import ROOT, kubectl, run

NAMESPACE = "kappawatt"
KEY = "a key of the test's own"

pytestmark = pytest.mark.timeout(600)


def test_the_plain_manifests_bring_up_a_stream_and_are_taken_away_again(images: None) -> None:
    if subprocess.run(["kubectl", "get", "namespace", NAMESPACE], capture_output=True, check=False).returncode == 0:
        pytest.skip(f"namespace {NAMESPACE} is there already, and it is not this test's")
    with cluster.namespace(NAMESPACE), cluster.volume_for("data-kappawatt-kafka-0", NAMESPACE):
        digest = hashlib.sha256(KEY.encode()).hexdigest()
        kubectl(
            "create", "secret", "generic", "kappawatt-api-keys", "-n", NAMESPACE,
            f"--from-literal=keys=writer:{digest}:me",
        )  # fmt: skip

        kubectl("apply", "-k", str(ROOT / "k8s"))
        try:
            run(
                "kubectl", "wait", "-n", NAMESPACE, "--for=condition=Available", "deployment", "--all",
                "--timeout=240s", seconds=270,
            )  # fmt: skip

            with _forwarded() as url:
                # A Service knows its pods a moment after they are ready; with a key a request may be sent again.
                accepted = wait_until(lambda: _sent(url, b"14.96,41.76,1024.07,73.17"), 30, "a reading taken")
                assert accepted == 1
                wait_until(lambda: _latest(url), 60, "the prediction of a reading")
        finally:
            kubectl("delete", "-k", str(ROOT / "k8s"), "--ignore-not-found", "--wait=false")
        wait_until(
            lambda: "deployment" not in kubectl("get", "all", "-n", NAMESPACE, "-o", "name", check=False), 90, "its end"
        )


@contextmanager
def _forwarded() -> Iterator[str]:
    """`kubectl port-forward` on a free port while the block runs."""
    command = ["kubectl", "port-forward", "-n", NAMESPACE, "service/kappawatt-gateway", ":8080"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()  # Forwarding from 127.0.0.1:PORT -> 8080
        try:
            yield f"http://{said.split()[2]}"
        finally:
            process.terminate()


def _sent(url: str, row: bytes) -> Any:
    """Return how many readings were taken; None if the ingestor was not reached, and why on standard output."""
    try:
        return _ask(url, "/api/sensor-ingestor/readings/plant-1", row, **{"idempotency-key": "the-first"})["accepted"]
    except urllib.error.HTTPError as error:
        print(error.code, error.read().decode(errors="replace"))
        if error.code not in (502, 503, 504):
            raise
        return None


def _ask(url: str, path: str, body: bytes | None = None, **more: str) -> Any:
    headers = {"authorization": f"Bearer {KEY}", "content-type": "text/csv", **more}
    with urllib.request.urlopen(urllib.request.Request(url + path, body, headers), timeout=10) as answer:
        return json.loads(answer.read())


def _latest(url: str) -> Any:
    try:
        return _ask(url, "/api/latest/plant-1")
    except OSError:
        return None
