"""The image that stands in for apache/kafka: read-only, as nobody in particular, with what it keeps in its volume."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import wait_until
from tests.docker import docker, why_no_docker
from tests.kafka_image.build import IMAGE, ensure

pytestmark = pytest.mark.timeout(600)

NODE = {
    "CLUSTER_ID": "dGVzdHMta2Fma2EtaW1hZw",
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
    "KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://localhost:9092",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
    "KAFKA_LOG_DIRS": "/var/lib/kafka/data/log",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_HEAP_OPTS": "-Xmx300m",
}
WRITABLE = ("/tmp:exec", "/opt/kafka/config:uid=1000,gid=1000", "/opt/kafka/logs:uid=1000,gid=1000")
LOCAL = ("--bootstrap-server", "localhost:9092")


@pytest.fixture(scope="module")
def image() -> str:
    reason = why_no_docker()
    if reason is not None:
        pytest.skip(reason)
    ensure()
    return IMAGE


@pytest.fixture
def names() -> Iterator[list[str]]:
    """Names of containers and volumes that are removed after the test."""
    made: list[str] = []
    yield made
    for name in made:
        subprocess.run(["docker", "rm", "-fv", name], capture_output=True, timeout=60, check=False)
        subprocess.run(["docker", "volume", "rm", "-f", name], capture_output=True, timeout=60, check=False)


def start(image: str, name: str, writable: tuple[str, ...] = WRITABLE) -> None:
    docker(
        *("run", "-d", "--name", name, "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
        *("--memory=1g", "-v", f"{name}:/var/lib/kafka/data"),
        *(f"--tmpfs={place}" for place in writable),
        *(f"--env={key}={value}" for key, value in NODE.items()),
        image,
    )


def serves(name: str) -> bool:
    done = subprocess.run(["docker", "exec", name, "bash", "-c", "</dev/tcp/localhost/9092"], check=False, timeout=30,
                          capture_output=True)  # fmt: skip
    return done.returncode == 0


def tool(name: str, script: str, *arguments: str, text: str | None = None) -> str:
    return docker("exec", "-i", name, f"/opt/kafka/bin/{script}.sh", *LOCAL, *arguments, given=text)


def test_what_was_written_is_there_after_the_container_was_replaced(image: str, names: list[str]) -> None:
    name = f"kafka-image-{os.getpid()}"
    names.append(name)
    start(image, name)
    wait_until(lambda: serves(name), 90, "Kafka serves")
    tool(name, "kafka-topics", "--create", "--topic", "kept", "--partitions", "3")
    tool(name, "kafka-console-producer", "--topic", "kept", "--compression-codec", "zstd", text="one\ntwo\n")
    docker("stop", "-t", "30", name)
    assert json.loads(docker("inspect", name))[0]["State"]["ExitCode"] == 143  # Java, ended by SIGTERM, not killed
    docker("rm", name)

    start(image, name)
    wait_until(lambda: serves(name), 90, "Kafka serves again")
    read = tool(
        name, "kafka-console-consumer", "--topic", "kept", "--from-beginning", "--max-messages", "2", "--group=g"
    )
    assert sorted(read.split()) == ["one", "two"]
    assert " 0 " in tool(name, "kafka-consumer-groups", "--describe", "--group", "g")  # lag
    assert docker("exec", name, "id", "-u") == "1000"


@pytest.mark.parametrize("missing", [place for place in WRITABLE if place.startswith("/opt")])
def test_it_ends_at_once_without_a_folder_it_writes_to(image: str, names: list[str], missing: str) -> None:
    name = f"kafka-image-{os.getpid()}-without"
    names.append(name)
    start(image, name, tuple(place for place in WRITABLE if place != missing))
    wait_until(lambda: json.loads(docker("inspect", name))[0]["State"]["Status"] == "exited", 60, "it ends")
    assert json.loads(docker("inspect", name))[0]["State"]["ExitCode"] == 1
