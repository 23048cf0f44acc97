"""These tests need helm; some need a cluster, named by KUBECONFIG."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def helm() -> None:
    if shutil.which("helm") is None:
        pytest.skip("helm: not on PATH")


@pytest.fixture(scope="session")
def restricted_namespace() -> Iterator[str]:
    """A namespace of its own in which Pod Security enforces "restricted"."""
    if "KUBECONFIG" not in os.environ or shutil.which("kubectl") is None:
        pytest.skip("KUBECONFIG: got nothing, allowed the path of a cluster's configuration (and kubectl on PATH)")
    name = f"chart-{uuid.uuid4().hex[:8]}"
    levels = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn")]
    subprocess.run(["kubectl", "create", "namespace", name], check=True, capture_output=True, timeout=60)
    subprocess.run(["kubectl", "label", "namespace", name, *levels], check=True, capture_output=True, timeout=60)
    yield name
    subprocess.run(
        ["kubectl", "delete", "namespace", name, "--wait=false"], check=True, capture_output=True, timeout=120
    )
