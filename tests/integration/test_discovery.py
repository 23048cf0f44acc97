"""The gateway finds services by label, on the API server that KUBECONFIG names, in a namespace of its own."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml

from kappawatt.bus import connect
from kappawatt.bus.topic import TOPICS
from kappawatt.services.gateway.proxy.breaker import CircuitOpen
from kappawatt.services.gateway.proxy.discovery import BY_IDEMPOTENCY_KEY, LABEL, ROUTE_BY, KubernetesDiscovery
from kappawatt.services.gateway.proxy.forward import Address, Proxy, Target, parse_services
from tests.conftest import wait_until
from tests.integration.processes import Process, get, stopped_at_the_end

SEEN_SECONDS = 2.0
KUBECONFIG = os.environ.get("KUBECONFIG", "")  # the discovery under test gets another one
VERBS = ["get", "list", "watch"]
ROLE = [
    {"apiGroups": [""], "resources": ["services"], "verbs": VERBS},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": VERBS},
]


def kubectl(*arguments: str, manifest: Any = None) -> str:
    given = None if manifest is None else json.dumps(manifest)
    done = subprocess.run(
        ["kubectl", f"--kubeconfig={KUBECONFIG}", *arguments], input=given, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def service(
    name: str, label: str | None, ports: dict[str, int] | None = None, route_by: str | None = None
) -> dict[str, Any]:
    """A Service; one that is routed has no selector, so that its slices are those made here alone."""
    numbers = {"http": 8080} if ports is None else ports
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "labels": {} if label is None else {LABEL: label},
            "annotations": {} if route_by is None else {ROUTE_BY: route_by},
        },
        "spec": {
            "selector": {"app": "nobody"} if route_by is None else None,
            "ports": [{"name": n, "port": p, "targetPort": 8080} for n, p in numbers.items()],
        },
    }


def routed(name: str = "a", label: str = "sensor-ingestor") -> dict[str, Any]:
    return service(name, label, route_by=BY_IDEMPOTENCY_KEY)


def slice_of(name: str, ready: dict[str, bool], port: int = 8080, suffix: str = "1") -> dict[str, Any]:
    """The EndpointSlice of a Service with endpoints that are ready or not."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-{suffix}", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}, {"name": "probes", "port": 1, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": [address], "conditions": {"ready": is_ready}} for address, is_ready in ready.items()
        ],
    }


@dataclass
class Namespace:
    """A namespace, and a kubeconfig of an account that may do in it what the chart's Role says and nothing else."""

    name: str
    kubeconfig: Path

    def apply(self, *services: dict[str, Any]) -> None:
        kubectl("-n", self.name, "apply", "-f", "-", manifest={"apiVersion": "v1", "kind": "List", "items": services})

    def run(self, *arguments: str) -> str:
        return kubectl("-n", self.name, *arguments)


def give_role(namespace: str, rules: list[dict[str, Any]]) -> None:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "gateway"},
        "rules": rules,
    }
    kubectl("-n", namespace, "apply", "-f", "-", manifest=role)


def account_kubeconfig(namespace: str, folder: Path) -> Path:
    kubectl("-n", namespace, "create", "serviceaccount", "gateway")
    give_role(namespace, ROLE)
    kubectl(
        "-n", namespace, "create", "rolebinding", "gateway", "--role=gateway", f"--serviceaccount={namespace}:gateway"
    )
    own = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    token = kubectl("-n", namespace, "create", "token", "gateway").strip()
    own["users"] = [{"name": "gateway", "user": {"token": token}}]
    own["contexts"] = [
        {"name": "own", "context": {"cluster": own["clusters"][0]["name"], "user": "gateway", "namespace": namespace}}
    ]
    own["current-context"] = "own"
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(own))
    return path


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    if not KUBECONFIG:
        pytest.skip("KUBECONFIG names no cluster")
    name = f"discovery-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    try:
        yield Namespace(name, account_kubeconfig(name, tmp_path_factory.mktemp("discovery")))
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def services(namespace: Namespace) -> Iterator[Namespace]:
    """The namespace, empty again afterwards."""
    yield namespace
    namespace.run("delete", "service", "-l", LABEL, "--ignore-not-found")
    namespace.run("delete", "endpointslice", "--all", "--ignore-not-found")


def test_in_a_pod_the_account_is_the_pods_and_services_have_their_names(
    services: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = yaml.safe_load(services.kubeconfig.read_text())
    cluster = config["clusters"][0]["cluster"]
    host, _, port = cluster["server"].removeprefix("https://").partition(":")
    (tmp_path / "token").write_text(config["users"][0]["user"]["token"])
    (tmp_path / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    (tmp_path / "namespace").write_text(services.name)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port or "443")
    monkeypatch.setattr("kappawatt.services.gateway.proxy.kubernetes.ACCOUNT", tmp_path)
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    services.apply(service("a", "plant-power"))

    with discovering(tmp_path / "no-kubeconfig", monkeypatch) as seen:
        wait_until(lambda: "plant-power" in seen.names(), 20, "found")
        assert seen.proxy.targets["plant-power"].netloc == f"a.{services.name}.svc:8080"


@dataclass
class Seen:
    """A discovery that runs, and what it said."""

    proxy: Proxy
    discovery: KubernetesDiscovery
    told: list[list[Target]] = field(default_factory=list)

    def names(self) -> set[str]:
        return set(self.proxy.targets)

    def instances(self, name: str = "sensor-ingestor") -> tuple[Address, ...]:
        target = self.proxy.targets.get(name)
        return () if target is None else target.instances


@contextmanager
def discovering(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch, given: str = "") -> Iterator[Seen]:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    proxy = Proxy(parse_services(given))
    told: list[list[Target]] = []

    def changed(targets: Any) -> None:
        told.append(list(targets))
        proxy.found(targets)

    discovery = KubernetesDiscovery(changed)
    for thread in discovery.threads:
        thread.start()
    try:
        yield Seen(proxy, discovery, told)
    finally:
        for thread in discovery.threads:
            thread.stop()
        proxy.close()


def asked_services(gateway: Process) -> dict[str, Any]:
    return {row["name"]: row for row in json.loads(get(gateway.url("/api/services"))[1])["services"]}


def test_a_labelled_service_appears_behind_the_gateway_in_time_and_goes_with_its_label(
    services: Namespace, tmp_path: Path
) -> None:
    gateway = Process(
        tmp_path,
        "serve",
        "gateway",
        KUBECONFIG=str(services.kubeconfig),
        KAPPAWATT_DISCOVERY="kubernetes",
        KAPPAWATT_BUS=f"embedded:{tmp_path / 'bus.sqlite'}",
    )
    with stopped_at_the_end(gateway):
        gateway.wait_ready()
        assert asked_services(gateway) == {}
        assert b"no Service with a port `http`" in get(gateway.url("/api/plant-power/params"))[1]

        services.apply(service("anything", "plant-power"))
        wait_until(lambda: "plant-power" in asked_services(gateway), SEEN_SECONDS, "the new service is seen")
        assert asked_services(gateway)["plant-power"]["ready"] is False  # nothing runs behind it
        assert "plant-power" in json.loads(get(gateway.url("/openapi.json"))[1])["x-unreachable"]

        services.run("label", "service", "anything", f"{LABEL}=hourly-load", "--overwrite")
        wait_until(lambda: set(asked_services(gateway)) == {"hourly-load"}, SEEN_SECONDS, "its new name is seen")

        services.run("label", "service", "anything", f"{LABEL}-")
        wait_until(lambda: asked_services(gateway) == {}, SEEN_SECONDS, "it has gone")
        services.run("delete", "service", "anything")
        assert gateway.terminate() == 0


def test_services_that_were_there_are_there_when_the_gateway_is_ready(
    services: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.apply(service("a", "plant-power"), service("b", "smart-meter", {"probes": 1, "http": 9000}))

    with discovering(services.kubeconfig, monkeypatch) as seen:
        wait_until(lambda: seen.discovery.why_not_ready() is None, 20, "listed")

        assert seen.names() == {"plant-power", "smart-meter"}
        assert seen.proxy.targets["smart-meter"].port == 9000


def test_services_of_settings_stay_and_win(services: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    services.apply(service("a", "plant-power"), service("b", "smart-meter"))

    with discovering(services.kubeconfig, monkeypatch, "plant-power=http://example.test:1") as seen:
        wait_until(lambda: seen.names() == {"plant-power", "smart-meter"}, 20, "found")
        assert seen.proxy.targets["plant-power"].host == "example.test"
        services.run("delete", "service", "a")
        services.run("delete", "service", "b")
        wait_until(lambda: seen.names() == {"plant-power"}, SEEN_SECONDS, "the found one has gone")


def test_a_service_that_has_not_changed_keeps_its_breaker(services: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    services.apply(service("a", "plant-power"))

    with discovering(services.kubeconfig, monkeypatch) as seen:
        wait_until(lambda: "plant-power" in seen.names(), 20, "found")
        for _ in range(5):
            seen.proxy.targets["plant-power"].breaker.failed()
        services.apply(service("b", "smart-meter"))
        services.run("annotate", "service", "a", "note=changed")
        wait_until(lambda: "smart-meter" in seen.names(), SEEN_SECONDS, "the other one is found")

        with pytest.raises(CircuitOpen):
            seen.proxy.targets["plant-power"].breaker.enter()


@pytest.mark.parametrize(
    ("label", "ports"),
    [("Plant_Power", None), ("services", None), ("plant-power", {"grpc": 8080}), ("gateway", None)],
    ids=["no name of a service", "a path of the gateway", "no port http", "the gateway itself"],
)
def test_services_that_cannot_be_used_are_left_out(
    services: Namespace, monkeypatch: pytest.MonkeyPatch, label: str, ports: dict[str, int] | None
) -> None:
    services.apply(service("a", label, ports), service("b", "smart-meter"))

    with discovering(services.kubeconfig, monkeypatch) as seen:
        wait_until(lambda: seen.names() == {"smart-meter"}, 20, "only the other one is found")


def test_of_two_services_with_one_label_the_older_one_stays(
    services: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.apply(service("z-older", "plant-power"))
    time.sleep(1.1)  # creation is known to the second
    with discovering(services.kubeconfig, monkeypatch) as seen:
        wait_until(lambda: "plant-power" in seen.names(), 20, "found")
        older = seen.proxy.targets["plant-power"]
        services.apply(service("a-newer", "plant-power"), service("b", "smart-meter"))
        wait_until(lambda: "smart-meter" in seen.names(), SEEN_SECONDS, "the newer ones are seen")
        assert seen.proxy.targets["plant-power"] == older

        services.run("delete", "service", "z-older")
        wait_until(
            lambda: seen.proxy.targets.get("plant-power") not in (None, older), SEEN_SECONDS, "the other took over"
        )


def test_watches_that_end_are_begun_again(services: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kappawatt.services.gateway.proxy.kubernetes.WATCH_SECONDS", (1, 1))
    with discovering(services.kubeconfig, monkeypatch) as seen:
        wait_until(lambda: len(seen.told) >= 3, 30, "listed three times")
        services.apply(service("a", "plant-power"))
        wait_until(lambda: "plant-power" in seen.names(), 2 * SEEN_SECONDS, "found")
        assert seen.discovery.failure is None


def test_a_watch_from_an_expired_place_begins_with_a_listing(
    services: Namespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The API server itself says 410: the place asked for is older than all it has."""
    watch = f"/api/v1/namespaces/{services.name}/services?watch=1&resourceVersion=1&timeoutSeconds=1"
    if '"code":410' not in services.run("get", "--raw", watch):
        pytest.skip("this API server is young: it still has everything since its beginning")
    ordinary = urllib3.PoolManager.request
    asked: list[str] = []

    def from_the_beginning(self: Any, method: str, url: str, **given: Any) -> Any:
        if "watch" in given["fields"] and not asked:
            asked.append(given["fields"]["resourceVersion"])
            given["fields"]["resourceVersion"] = "1"
        return ordinary(self, method, url, **given)

    monkeypatch.setattr(urllib3.PoolManager, "request", from_the_beginning)
    caplog.set_level("INFO", "kappawatt.services.gateway.proxy.kubernetes")
    with discovering(services.kubeconfig, monkeypatch) as seen:
        wait_until(lambda: len(seen.told) >= 2, 20, "listed again")
        assert asked
        assert "the watch has expired" in caplog.text
        services.apply(service("a", "plant-power"))
        wait_until(lambda: "plant-power" in seen.names(), SEEN_SECONDS, "found")


def test_instances_of_a_routed_service_are_its_endpoints_as_they_come_and_go(
    services: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.apply(routed(), slice_of("a", {"10.9.0.1": True, "10.9.0.2": False}), slice_of("b", {"10.9.0.9": True}))

    with discovering(services.kubeconfig, monkeypatch) as seen:
        wait_until(lambda: seen.discovery.why_not_ready() is None, 20, "listed")
        assert seen.instances() == (("10.9.0.1", 8080), ("10.9.0.2", 8080))
        breaker = seen.proxy.targets["sensor-ingestor"].breaker

        services.apply(slice_of("a", {"10.9.0.1": False}))
        wait_until(lambda: seen.instances() == (("10.9.0.1", 8080),), SEEN_SECONDS, "the second one has gone")
        services.apply(slice_of("a", {"10.9.0.3": True}, suffix="2"))
        wait_until(lambda: len(seen.instances()) == 2, SEEN_SECONDS, "one of a second slice is seen")
        services.run("delete", "endpointslice", "a-1")
        wait_until(lambda: seen.instances() == (("10.9.0.3", 8080),), SEEN_SECONDS, "those of the first have gone")

        services.run("annotate", "service", "a", f"{ROUTE_BY}-")
        wait_until(lambda: seen.instances() == (), SEEN_SECONDS, "it does not ask for it any more")
        assert seen.proxy.targets["sensor-ingestor"].breaker is breaker


def test_instances_are_found_of_a_service_that_asks_for_it_later(
    services: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.apply(service("a", "sensor-ingestor"), slice_of("a", {"10.9.0.1": True}))

    with discovering(services.kubeconfig, monkeypatch) as seen:
        wait_until(lambda: "sensor-ingestor" in seen.names(), 20, "found")
        assert seen.instances() == ()
        services.run("annotate", "service", "a", f"{ROUTE_BY}={BY_IDEMPOTENCY_KEY}")
        wait_until(lambda: seen.instances() == (("10.9.0.1", 8080),), SEEN_SECONDS, "its instances are found")


def test_an_account_that_may_not_list_endpointslices_leaves_the_services_address(
    services: Namespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("kappawatt.services.gateway.proxy.kubernetes.RETRY_SECONDS", (0.1, 0.1))
    services.apply(routed(), slice_of("a", {"10.9.0.1": True}))
    give_role(services.name, ROLE[:1])
    try:
        with discovering(services.kubeconfig, monkeypatch) as seen:
            wait_until(lambda: seen.discovery.why_not_ready() is None, 20, "listed")
            time.sleep(1.0)  # it is asked again meanwhile
            assert seen.names() == {"sensor-ingestor"}
            assert seen.instances() == ()
            said = [record.message for record in caplog.records if "Service's address" in record.message]
            assert len(said) == 1
            assert "allowed an account that may get, list and watch endpointslices" in (seen.discovery.failure or "")

            give_role(services.name, ROLE)
            wait_until(lambda: seen.instances() == (("10.9.0.1", 8080),), 20, "it may now")
            assert seen.discovery.failure is None
    finally:
        give_role(services.name, ROLE)


def own_address() -> str:
    """An address of this machine that an EndpointSlice may hold: not of its loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            pytest.skip("this machine has no address but its loopback's")
        return str(asking.getsockname()[0])


def is_ready(url: str) -> bool:
    return get(url)[0] == 200


def post(gateway: Process, key: str) -> Any:
    reading = {"ambient_temperature": 15, "exhaust_vacuum": 42, "ambient_pressure": 1024, "relative_humidity": 73}
    return urllib3.request(
        "POST",
        gateway.url("/api/sensor-ingestor/readings/plant-1"),
        json=reading,
        headers={"Idempotency-Key": key},
        retries=False,
    )


def test_a_reading_sent_twice_through_the_gateway_is_stored_once_though_ingestors_share_nothing(
    services: Namespace, tmp_path: Path
) -> None:
    host, bus = own_address(), f"embedded:{tmp_path / 'bus.sqlite'}"
    with closing(connect(bus)) as made:
        made.ensure(TOPICS)
    ingestors = []
    for number in range(3):
        environment = {"KAPPAWATT_HOST": host, "KAPPAWATT_STATE": str(tmp_path / str(number)), "KAPPAWATT_BUS": bus}
        ingestors.append(Process(tmp_path, "serve", "sensor-ingestor", **environment))
    gateway = Process(
        tmp_path,
        "serve",
        "gateway",
        KUBECONFIG=str(services.kubeconfig),
        KAPPAWATT_DISCOVERY="kubernetes",
        KAPPAWATT_BUS=bus,
    )
    with stopped_at_the_end(gateway, *ingestors):
        for each in ingestors:
            url = f"http://{host}:{each.port}/readyz"
            wait_until(partial(is_ready, url), 60, f"{each.log} ready")
        slices = [slice_of("a", {host: True}, each.port, str(each.port)) for each in ingestors]
        services.apply(routed(), *slices)
        gateway.wait_ready()
        keys = [f"reading-{number}" for number in range(24)]
        wait_until(lambda: post(gateway, "first").status == 202, 20, "the instances are seen")

        first, again = ([post(gateway, key) for key in keys] for _ in range(2))
        assert {answer.status for answer in [*first, *again]} == {202}
        assert not any("Idempotent-Replay" in answer.headers for answer in first)
        assert all("Idempotent-Replay" in answer.headers for answer in again)

        # One goes: its keys move, and no other does.
        gone = ingestors.pop()
        assert gone.terminate() == 0
        services.run("delete", "endpointslice", f"a-{gone.port}")
        moved = [key for key in keys if "Idempotent-Replay" not in post(gateway, key).headers]
        assert 0 < len(moved) < len(keys)
        assert all("Idempotent-Replay" in post(gateway, key).headers for key in keys)


class Line:
    """A TCP line to the API server that can be cut and mended."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        self.is_cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self.is_cut = True
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self.is_cut = False

    def close(self) -> None:
        self.cut()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            if self.is_cut:
                near.close()
                continue
            far = socket.create_connection(self._to)
            self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError), source, sink:
            while data := source.recv(65536):
                sink.sendall(data)


@pytest.fixture
def line(services: Namespace, tmp_path: Path) -> Iterator[Callable[[], tuple[Line, Path]]]:
    """Return a function that lays a line, and writes a kubeconfig that uses it."""
    lines: list[Line] = []

    def lay() -> tuple[Line, Path]:
        config = yaml.safe_load(services.kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        host, _, port = cluster["server"].removeprefix("https://").partition(":")
        laid = Line(host, int(port or 443))
        lines.append(laid)
        # the certificate is the server's own, so that name is asked for
        cluster |= {"server": f"https://127.0.0.1:{laid.port}", "tls-server-name": host}
        path = tmp_path / "kubeconfig-line"
        path.write_text(yaml.safe_dump(config))
        return laid, path

    yield lay
    for each in lines:
        each.close()


def test_services_last_seen_stay_while_the_api_server_is_away(
    services: Namespace, line: Callable[[], tuple[Line, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    services.apply(service("a", "plant-power"))
    laid, kubeconfig = line()

    with discovering(kubeconfig, monkeypatch) as seen:
        wait_until(lambda: "plant-power" in seen.names(), 20, "found")
        laid.cut()
        wait_until(lambda: seen.discovery.failure is not None, 20, "the failure is noted")
        services.apply(service("b", "smart-meter"))
        services.run("delete", "service", "a")

        assert seen.names() == {"plant-power"}
        assert seen.discovery.why_not_ready() is None

        laid.mend()
        wait_until(lambda: seen.names() == {"smart-meter"}, 20, "what happened meanwhile is seen")
        assert seen.discovery.failure is None


def test_without_the_role_the_gateway_is_not_ready_and_says_why(
    services: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = yaml.safe_load(services.kubeconfig.read_text())
    config["contexts"][0]["context"]["namespace"] = "default"  # where the account may do nothing
    path = tmp_path / "kubeconfig-elsewhere"
    path.write_text(yaml.safe_dump(config))

    with discovering(path, monkeypatch) as seen:
        wait_until(lambda: seen.discovery.failure is not None, 20, "refused")
        assert seen.told == []
        reason = seen.discovery.why_not_ready()
        assert reason is not None
        assert "403 Forbidden, allowed an account that may get, list and watch services" in reason


def test_the_account_may_nothing_else(services: Namespace) -> None:
    def may(verb: str, what: str) -> bool:
        done = subprocess.run(
            ["kubectl", "--kubeconfig", str(services.kubeconfig), "auth", "can-i", verb, what],
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout.strip() == "yes"

    for kind in ("services", "endpointslices.discovery.k8s.io"):
        assert all(may(verb, kind) for verb in VERBS)
        assert not any(may(verb, kind) for verb in ("create", "delete", "patch"))
    assert not any(may("get", what) for what in ("secrets", "pods", "configmaps", "endpoints"))
