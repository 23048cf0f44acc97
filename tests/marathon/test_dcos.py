"""Our definitions, sent with the real `dcos` command line to a Marathon that really runs them.

With docker and `make images` they run in their images; where docker has none, the images' entry point runs as a
process. Only addresses, paths on the agent and an image's tag are changed, and each test says which.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from kappawatt import __version__
from kappawatt.broker import Broker
from kappawatt.bus.connect import connect
from kappawatt.bus.interface import Bus, BusOptions, Outgoing
from kappawatt.serving.service import service_names
from kappawatt.streams.plant import PLANT_PREDICTIONS, PLANT_READINGS
from kappawatt.streams.table import TOPICS
from tests.conftest import wait_until
from tests.docker import docker
from tests.kafka_image import build as kafka_image
from tests.marathon.dcos import Dcos
from tests.marathon.orchestrator import App
from tests.marathon.server import Marathon
from tests.marathon.tasks import Agent

DEFINITIONS = Path(__file__).parents[2] / "marathon"
USER, PASSWORD = "kappawatt", "not-a-secret"
READING = {
    "ambient_temperature": 14.96,
    "exhaust_vacuum": 41.76,
    "ambient_pressure": 1024.07,
    "relative_humidity": 73.17,
}
TAG = __version__
IN_GROUP = tuple(service_names())
KAFKA_ADDRESS = "broker.kafka.l4lb.thisdcos.directory:9092"
SECONDS = 120.0  # two busy cores


def definition(name: str, folder: Path, **changes: Any) -> tuple[App, Path]:
    """One of our definitions with some top-level keys replaced (`env` is laid over), and the file it is in."""
    app: App = json.loads((DEFINITIONS / name).read_text())
    app |= changes | {"env": app["env"] | changes.get("env", {})}
    path = folder / Path(name).name
    path.write_text(json.dumps(app))
    return app, path


def predicted(port: int) -> float:
    """What one instance of mlp-regressor answers for x = 0.5."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", b'{"x": 0.5}')
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=20) as answer:
        return float(json.loads(answer.read())["y"])


@contextmanager
def asked_all_the_while(marathon: Marathon, name: str) -> Iterator[list[str]]:
    """Requests to instances as a load balancer knows them, read anew every second; yields what failed."""
    failed: list[str] = []
    ended = threading.Event()

    def ask() -> None:
        known: list[int] = []
        read_at, turn = 0.0, 0
        while not ended.wait(0.02):
            try:
                if time.monotonic() - read_at > 1:
                    with urllib.request.urlopen(f"{marathon.url}/v2/apps{name}/tasks", timeout=20) as answer:
                        tasks = json.loads(answer.read())["tasks"]
                    healthy = [task for task in tasks if any(r["alive"] for r in task["healthCheckResults"])]
                    known = [task["ports"][0] for task in healthy if task["state"] == "TASK_RUNNING"]
                    read_at = time.monotonic()
                turn += 1
                predicted(known[turn % len(known)])
            except Exception as error:
                failed.append(f"request {turn}: {error!r}")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield failed
    finally:
        ended.set()
        thread.join(30)


def ports(dcos: Dcos, name: str) -> list[int]:
    """Host ports of an app's instances, as `dcos` says them."""
    tasks = json.loads(dcos.marathon("task", "list", name, "--json"))
    return [task["ports"][0] for task in tasks]


def finished(dcos: Dcos, seconds: float = SECONDS) -> None:
    """Wait until `dcos` knows of no deployment."""
    wait_until(
        lambda: "There are no deployments" in dcos.run("marathon", "deployment", "list").stderr,
        seconds,
        "deployments end",
    )


def row(dcos: Dcos, name: str) -> dict[str, str]:
    """One app's row of `dcos marathon app list`."""
    head, *rows = dcos.marathon("app", "list").splitlines()
    for line in rows:
        if line.split()[0] == name:
            return dict(zip(head.split(), line.split(), strict=False))
    raise AssertionError(f"{name} is not in the list")


def test_a_cluster_is_set_up_as_the_docs_say(dcos_program: Path, tmp_path: Path, marathon: Marathon) -> None:
    """Nothing is configured by hand: Marathon is found below the cluster's address."""
    dcos = Dcos(dcos_program, tmp_path / "home")

    done = dcos.run("cluster", "setup", marathon.url)

    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(dcos.marathon("about"))["name"] == "marathon"


def test_the_command_line_finds_the_cluster(dcos: Dcos) -> None:
    about = json.loads(dcos.marathon("about"))

    assert about["name"] == "marathon"
    assert "5a1c6e0e-0000-4000-8000-6b6170706177" in dcos.run("cluster", "list").stdout


@pytest.mark.timeout(600)
def test_an_app_from_its_first_deployment_to_its_removal(dcos: Dcos, tmp_path: Path, marathon: Marathon) -> None:
    """The file as it stands in marathon/open/: nothing is changed."""
    name = "/kappawatt/mlp-regressor"
    file = DEFINITIONS / "open/apps/mlp-regressor.json"
    wanted = json.loads(file.read_text())

    assert dcos.marathon("app", "add", str(file)).startswith("Created deployment ")
    assert "already exists" in dcos.refused("app", "add", str(file))
    finished(dcos)
    assert row(dcos, name)["TASKS"] == "2/2"
    assert row(dcos, name)["HEALTH"] == "2/2"
    shown = json.loads(dcos.marathon("app", "show", name))
    assert {key: shown[key] for key in wanted} == wanted
    answers = [predicted(port) for port in ports(dcos, name)]
    assert len(answers) == 2

    assert dcos.marathon("app", "update", name, "instances=3").startswith("Created deployment ")
    finished(dcos)
    assert row(dcos, name)["HEALTH"] == "3/3"
    answers = [predicted(port) for port in ports(dcos, name)]
    assert answers == [-0.284698] * 3  # as services/mlp_regressor/README.md says

    old = set(ports(dcos, name))
    with asked_all_the_while(marathon, name) as failed:
        assert dcos.marathon("app", "restart", name).startswith("Created deployment ")
        assert name in dcos.marathon("deployment", "list")
        assert "in progress" in dcos.refused("app", "update", name, "instances=4")
        finished(dcos)
    assert failed == []
    assert not old & set(ports(dcos, name))
    assert len([predicted(port) for port in ports(dcos, name)]) == 3

    versions = json.loads(dcos.marathon("app", "version", "list", name))
    assert len(versions) == 3
    first = json.loads(dcos.marathon("app", "show", name, f"--app-version={versions[-1]}"))
    assert first["instances"] == 2

    dcos.marathon("app", "stop", name)
    finished(dcos)
    assert row(dcos, name)["TASKS"] == "0/0"
    dcos.marathon("app", "remove", name)
    finished(dcos)
    assert dcos.marathon("app", "list", "--quiet").strip() == ""
    assert not [task for task in marathon.orchestrator.events if task[1] == "killed hard"]


def test_a_version_that_does_not_start_is_rolled_back_and_nobody_notices(dcos: Dcos, tmp_path: Path) -> None:
    """Changed: one instance. The bad version names a model that is not there, so it never gets ready."""
    name = "/kappawatt/mlp-regressor"
    _, file = definition("open/apps/mlp-regressor.json", tmp_path, instances=1)
    dcos.marathon("app", "add", str(file))
    finished(dcos)
    (port,) = ports(dcos, name)

    wrong = json.loads(file.read_text())["env"] | {"KAPPAWATT_MODEL_VERSION": "there-is-none"}
    # As `env=...` this command line takes an object for an address and puts https:// in front of it.
    dcos.marathon("app", "update", name, given=json.dumps({"env": wrong}))
    wait_until(lambda: len(ports(dcos, name)) == 2, SECONDS)
    assert predicted(port) == -0.284698
    (deployment,) = json.loads(dcos.marathon("deployment", "list", "--json"))
    dcos.marathon("deployment", "rollback", deployment["id"])
    finished(dcos)

    assert ports(dcos, name) == [port]
    assert predicted(port) == -0.284698
    assert "KAPPAWATT_MODEL_VERSION" not in json.loads(dcos.marathon("app", "show", name))["env"]


def test_a_definition_that_is_not_valid_is_refused_with_its_path(
    dcos: Dcos, tmp_path: Path, marathon: Marathon
) -> None:
    wrong = {"minimumHealthCapacity": 1.5, "maximumOverCapacity": 0.5}
    _, file = definition("open/apps/mlp-regressor.json", tmp_path, upgradeStrategy=wrong)

    said = dcos.refused("app", "add", str(file))

    assert "Object is not valid" in said  # all that this command line shows of it
    request = urllib.request.Request(f"{marathon.url}/v2/apps", file.read_bytes(), method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=20)
    with refused.value:
        assert refused.value.code == 422
        details = json.loads(refused.value.read())["details"]
    assert [detail["path"] for detail in details] == ["/upgradeStrategy/minimumHealthCapacity"]


def test_the_definitions_with_secrets_need_the_feature_and_the_open_ones_do_not(
    dcos_program: Path, tmp_path: Path, schema: App | None
) -> None:
    with Marathon(Agent(tmp_path / "agent", {}), schema, features=()) as marathon:
        dcos = Dcos(dcos_program, tmp_path / "home", marathon.url)
        file = str(DEFINITIONS / "apps/plant-power-consume.json")
        assert "Object is not valid" in dcos.refused("app", "add", file)

        _, file_of_none = definition("open/apps/plant-power-consume.json", tmp_path, instances=0)
        dcos.marathon("app", "add", str(file_of_none))
        finished(dcos)


@pytest.fixture
def network() -> Iterator[str]:
    """A network of containers with a Kafka in it that answers at the name our definitions have."""
    if shutil.which("docker") is None:
        pytest.skip("no docker: VIPs are names that its DNS answers")
    for image in (f"kappawatt/{name}:{TAG}" for name in IN_GROUP):
        if subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode:
            pytest.skip(f"docker has no {image}: `make images`")
    kafka_image.ensure()
    name = f"marathon-{uuid.uuid4().hex[:8]}"
    docker("network", "create", name)
    try:
        host, port = KAFKA_ADDRESS.split(":")
        variables = {
            "KAFKA_NODE_ID": "1",
            "KAFKA_PROCESS_ROLES": "broker,controller",
            "KAFKA_LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:9093",
            "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{KAFKA_ADDRESS}",
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
            "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
            "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
            "KAFKA_HEAP_OPTS": "-Xmx384m",
        }
        settings = [part for key, value in variables.items() for part in ("-e", f"{key}={value}")]
        docker(
            *("run", "-d", "--rm", "--name", f"{name}-kafka", "--network", name, "--network-alias", host),
            *(*settings, kafka_image.IMAGE),
        )
        yield name
    finally:
        subprocess.run(["docker", "rm", "-f", f"{name}-kafka"], capture_output=True, check=False)
        docker("network", "rm", name)


def test_where_docker_has_no_image_its_entry_point_runs_as_a_process(
    dcos_program: Path, tmp_path: Path, schema: App | None
) -> None:
    """Changed: one instance."""
    name = "/kappawatt/mlp-regressor"
    _, file = definition("apps/mlp-regressor.json", tmp_path, instances=1)

    with Marathon(Agent(tmp_path / "agent", {}, without_docker=True), schema) as marathon:
        dcos = Dcos(dcos_program, tmp_path / "home", marathon.url)
        dcos.marathon("app", "add", str(file))
        finished(dcos)
        (port,) = ports(dcos, name)
        assert predicted(port) == -0.284698
        dcos.marathon("app", "remove", name)
        finished(dcos)
        assert not [event for event in marathon.orchestrator.events if event[1] == "killed hard"]


@pytest.mark.timeout(600)
def test_the_whole_group_finds_itself_by_vips_and_answers_at_the_gateway(
    dcos_program: Path, tmp_path: Path, schema: App | None, network: str
) -> None:
    """Changed: one instance of each app, and where the agent keeps the gateway's keys. Kafka's address is as it is."""
    key = uuid.uuid4().hex
    keys = tmp_path / "api-keys"
    keys.write_text(f"admin:{hashlib.sha256(key.encode()).hexdigest()}:test\n")
    group = json.loads((DEFINITIONS / "open/group.json").read_text())
    for app in group["apps"]:
        app["instances"] = 1
        for item in app.get("fetch", []):
            item["uri"] = f"file://{keys}"
    file = tmp_path / "group.json"
    file.write_text(json.dumps(group))
    gateway = "/kappawatt/gateway"

    def call(path: str, body: bytes | None = None, kind: str = "application/json") -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{ports(dcos, gateway)[0]}{path}", body)
        request.add_header("Content-Type", kind)
        request.add_header("Authorization", f"Bearer {key}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def answered_for_plant_1() -> Any:
        try:
            return call("/api/latest/plant-1").get("net_power")
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in (404, 503):  # nothing yet, or the bus is slow to answer
                raise
            return None

    with Marathon(Agent(tmp_path / "agent", {}, network), schema) as marathon:
        dcos = Dcos(dcos_program, tmp_path / "home", marathon.url)
        assert dcos.marathon("group", "add", str(file)).startswith("Created deployment ")
        finished(dcos, 400)

        apps = json.loads(dcos.marathon("app", "list", "--json"))
        assert {app["id"]: (app["tasksRunning"], app["tasksHealthy"]) for app in apps} == {
            app["id"]: (1, 1) for app in group["apps"]
        }
        launched = {whom.split(".")[0]: at for at, what, whom in marathon.orchestrator.events if what == "launched"}
        for before in next(app for app in group["apps"] if app["id"] == gateway)["dependencies"]:
            assert launched[before.strip("/").replace("/", "_")] < launched["kappawatt_gateway"]

        assert call("/api/mlp-regressor/predict", b'{"x": 0.5}')["y"] == -0.284698
        reading = b"14.96,41.76,1024.07,73.17,463.26"
        assert call("/api/sensor-ingestor/readings/plant-1", reading, "text/csv")["accepted"] == 1
        newest = wait_until(answered_for_plant_1, SECONDS, "a prediction")
        assert newest == pytest.approx(463.4, abs=1)

        dcos.marathon("group", "remove", "/kappawatt")
        finished(dcos)
        assert marathon.orchestrator.apps == {}
        assert not [whom for _, what, whom in marathon.orchestrator.events if what in ("killed hard", "failed")]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A Kafka on 127.0.0.1 with a listener that asks for a password."""
    with Broker(tmp_path / "kafka", users={USER: PASSWORD}) as broker:
        yield broker


def answered(bus: Bus, topic: str) -> list[dict[str, Any]]:
    """Publish a reading and return the predictions that come of it."""
    producer = bus.producer()
    consumer = bus.consumer([topic], f"test-{uuid.uuid4()}")
    producer.publish([Outgoing(PLANT_READINGS.name, orjson.dumps(READING), key=b"plant-1")])
    found: list[dict[str, Any]] = []

    def poll() -> bool:
        for records in consumer.poll(0.5):
            found.extend(orjson.loads(value) for value in records.values)
        return bool(found)

    try:
        wait_until(poll, SECONDS, "a prediction")
    finally:
        consumer.close()
        producer.close()
    return found


@pytest.mark.parametrize("variant", ["secrets", "open"])
def test_a_worker_answers_what_is_on_kafka(
    variant: str, dcos_program: Path, tmp_path: Path, schema: App | None, broker: Broker
) -> None:
    """Changed: Kafka's address, and with secrets where the agent keeps the authority of Kafka's certificates."""
    name = "/kappawatt/plant-power-consume"
    changes: dict[str, Any] = {"env": {"KAPPAWATT_BUS": f"kafka://{broker.bootstrap}"}}
    if variant == "secrets":
        authority = {"uri": f"file://{broker.ca_file}", "extract": False, "destPath": "kafka-ca.pem"}
        changes = {"env": {"KAPPAWATT_BUS": f"kafka://{broker.sasl_bootstrap}"}, "fetch": [authority]}
    folder = "" if variant == "secrets" else "open/"
    _, file = definition(f"{folder}apps/plant-power-consume.json", tmp_path, **changes)
    bus = connect(f"kafka://{broker.bootstrap}", BusOptions())
    bus.ensure(TOPICS)

    with Marathon(Agent(tmp_path / "agent", {"kappawatt/kafka-password": PASSWORD}), schema) as marathon:
        dcos = Dcos(dcos_program, tmp_path / "home", marathon.url)
        dcos.marathon("app", "add", str(file))
        finished(dcos)
        (prediction,) = answered(bus, PLANT_PREDICTIONS.name)
        dcos.marathon("app", "remove", name)
        finished(dcos)

        assert prediction["net_power"] == pytest.approx(463.4, abs=1)
        assert not [event for event in marathon.orchestrator.events if event[1] == "killed hard"]
    bus.close()
