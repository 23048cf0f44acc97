"""A Kubernetes cluster as its user has it: kubectl, helm, images, and what a bare cluster lacks."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import wait_until

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "kappawatt"
VALUES = ROOT / "tests" / "e2e" / "values.yaml"
KAFKA_USER = 1000


def run(*command: str, given: str | None = None, seconds: float = 60, check: bool = True) -> str:
    """Run a command and return what it printed; an error shows all of it."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=seconds, check=False)
    assert not check or done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def kubectl(*arguments: str, **options: Any) -> str:
    return run("kubectl", *arguments, **options)


def objects(kind: str, namespace: str, selector: str = "") -> list[dict[str, Any]]:
    answer = kubectl("get", kind, "-n", namespace, "-o", "json", *(["-l", selector] if selector else []))
    found: list[dict[str, Any]] = json.loads(answer)["items"]
    return found


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", ())}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def free_node_port() -> int:
    """A node port that no Service has; the API server gives one to a Service that is not made."""
    probe = json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "port-probe"},
            "spec": {"type": "NodePort", "selector": {"app": "none"}, "ports": [{"port": 80}]},
        }
    )
    made = kubectl("create", "-n", "default", "-f", "-", "-o", "json", given=probe)
    kubectl("delete", "-n", "default", "service", "port-probe")
    return int(json.loads(made)["spec"]["ports"][0]["nodePort"])


@contextmanager
def namespace(name: str) -> Iterator[str]:
    """A namespace in which Pod Security enforces "restricted"."""
    levels = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn")]
    kubectl("create", "namespace", name)
    kubectl("label", "namespace", name, *levels)
    try:
        yield name
    finally:
        kubectl("delete", "namespace", name, seconds=180)


@contextmanager
def volume_for(claim: str, namespace: str) -> Iterator[None]:
    """A volume for a claim where the cluster provisions none: a folder of this machine, which has to be the node."""
    if json.loads(kubectl("get", "storageclass", "-o", "json"))["items"]:
        yield
        return
    folder = Path(tempfile.mkdtemp(prefix="kappawatt-e2e-"))
    os.chown(folder, KAFKA_USER, KAFKA_USER)
    name = f"{namespace}-{claim}"
    manifest = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "claimRef": {"namespace": namespace, "name": claim},
            "hostPath": {"path": str(folder), "type": "Directory"},
        },
    }
    kubectl("apply", "-f", "-", given=json.dumps(manifest))
    try:
        yield
    finally:
        kubectl("delete", "persistentvolume", name, "--wait=false")
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def known_to_an_operator_outside(service: str, namespace: str) -> Iterator[None]:
    """A KEDA operator that runs on this machine, and in no pod, has no cluster DNS: /etc/hosts tells it."""
    name = f"{service}.{namespace}.svc"
    in_pods = any("keda" in each["metadata"]["name"] for each in objects("pods", "keda"))
    if in_pods or not has_api("keda.sh/v1alpha1"):
        yield
        return
    hosts = Path("/etc/hosts")
    stopped = threading.Event()

    def write_when_there() -> None:
        while not stopped.wait(0.2):
            asked = ["kubectl", "get", "service", service, "-n", namespace, "-o", "jsonpath={.spec.clusterIP}"]
            address = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False).stdout
            if address:
                with hosts.open("a") as file:
                    file.write(f"{address} {name}\n")
                return

    writer = threading.Thread(target=write_when_there)
    writer.start()
    try:
        yield
    finally:
        stopped.set()
        writer.join()
        kept = [line for line in hosts.read_text().splitlines() if name not in line.split()]
        hosts.write_text("\n".join(kept) + "\n")


def has_api(group_version: str) -> bool:
    return group_version in kubectl("api-versions").split()


class Release:
    """One `helm install` and what is done with it."""

    def __init__(self, name: str, namespace: str, node_port: int, *settings: str) -> None:
        self.name = name
        self.namespace = namespace
        self.url = f"http://127.0.0.1:{node_port}"
        self.settings = (
            "gateway.service.type=NodePort",
            f"gateway.service.nodePort={node_port}",
            "gateway.access.rateLimit=100000/second",
            *settings,
        )

    def helm(self, command: str, *settings: str, seconds: float = 300) -> str:
        """`helm install` or `upgrade`, and wait until all of it is ready."""
        chosen = [f"--set={each}" for each in (*self.settings, *settings)]
        waiting = ("--wait", f"--timeout={seconds:.0f}s")
        return run(
            "helm",
            command,
            self.name,
            str(CHART),
            "-n",
            self.namespace,
            "-f",
            str(VALUES),
            *chosen,
            *waiting,
            seconds=seconds + 30,
        )

    def key(self, role: str) -> str:
        """An API key the chart has made."""
        template = f"go-template={{{{.data.{role} | base64decode}}}}"
        return kubectl("get", "secret", f"{self.name}-gateway-api-keys", "-n", self.namespace, "-o", template)

    def pods(self, service: str, role: str) -> list[dict[str, Any]]:
        """The pods of a service's role that are not on their way out."""
        selector = f"app.kubernetes.io/instance={self.name},app.kubernetes.io/name={service},kappawatt.io/role={role}"
        found = objects("pods", self.namespace, selector)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def ready(self, service: str, role: str) -> int:
        return sum(map(is_ready, self.pods(service, role)))

    def kill(self, pod: str) -> None:
        """End a pod at once, as the loss of a node would; nothing in it hears of it before."""
        kubectl("delete", "pod", pod, "-n", self.namespace, "--grace-period=0", "--force")

    def python(self, script: Path, *arguments: str, seconds: float = 120) -> Any:
        """Run a script in a pod that has the bus, and return the JSON it prints."""
        pod = next(pod for pod in self.pods("sensor-ingestor", "serve") if is_ready(pod))["metadata"]["name"]
        command = ("exec", "-i", "-n", self.namespace, pod, "--", "python", "-", *arguments)
        return json.loads(kubectl(*command, given=script.read_text(), seconds=seconds))

    def judge(self, accepted: int, seconds: float = 120) -> dict[str, int]:
        """Wait until every accepted reading is answered; return counts of what is on the bus.

        Fails if a reading is missing, there twice, unanswered, or answered under two ids.
        """
        report: dict[str, int] = {}

        def all_answered() -> bool:
            report.clear()
            report.update(self.python(ROOT / "tests/e2e/bus_report.py"))
            return report["answered"] >= report["readings"] >= accepted

        wait_until(all_answered, seconds, f"{accepted} readings answered")
        assert report["readings"] == report["different_readings"] == accepted, report
        assert report["answered"] == report["ids"] == accepted, report
        assert report["dead"] == 0, report
        return report


def load_images(*images: str) -> None:
    """Bring images of the local engine into the cluster: KAPPAWATT_LOAD_IMAGES, such as `kind load docker-image`."""
    command = os.environ.get("KAPPAWATT_LOAD_IMAGES", "")
    if command:
        run(*shlex.split(command), *images, seconds=600)


def settle(seconds: float) -> None:
    """Let something go on for a while, where the time itself is what is asked for."""
    time.sleep(seconds)
