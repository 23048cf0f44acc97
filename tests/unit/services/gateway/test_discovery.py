"""What discovery decides by itself; `tests/integration/test_discovery.py` has the API server."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from flask import Flask, Response, request
from kubernetes.client.configuration import Configuration

from kappawatt.errors import SettingInvalid
from kappawatt.services.gateway.proxy.discovery import (
    LABEL,
    ROUTE_BY,
    KubernetesDiscovery,
    _staying,
    _target,
    check_discovery,
)
from kappawatt.services.gateway.proxy.forward import Address, Target
from kappawatt.services.gateway.proxy.kubernetes import _context
from kappawatt.settings import Settings

Eventually = Callable[[Callable[[], Any]], Any]


def service(label: str = "plant-power", route_by: str | None = None, **spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 8080}]
    annotations = {} if route_by is None else {"annotations": {ROUTE_BY: route_by}}
    return {
        "metadata": {"name": "a", "labels": {LABEL: label}, "creationTimestamp": "2026-01-01T00:00:00Z", **annotations},
        "spec": {"clusterIP": "10.0.0.1", "ports": ports} | spec,
    }


def endpoint(address: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "conditions": conditions}


def slice_of(*endpoints: dict[str, Any], name: str = "a", **changed: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{name}-x", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": list(endpoints),
    } | changed


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in a pod nor with a kubeconfig."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("secret")
    monkeypatch.setattr("kappawatt.services.gateway.proxy.kubernetes.ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")


@pytest.mark.usefixtures("nowhere")
def test_discovery_without_anything_to_ask_stops_the_start() -> None:
    with pytest.raises(SettingInvalid, match=r"KAPPAWATT_DISCOVERY: got 'kubernetes'.*token"):
        check_discovery(Settings(discovery="kubernetes"))

    check_discovery(Settings())


def test_discovery_is_one_of_two() -> None:
    with pytest.raises(SettingInvalid, match="KAPPAWATT_DISCOVERY: got 'dns', allowed static, kubernetes"):
        Settings.read({"KAPPAWATT_DISCOVERY": "dns"})


@pytest.mark.usefixtures("pod")
def test_in_a_pod_a_service_has_its_name() -> None:
    check_discovery(Settings(discovery="kubernetes"))

    found = _target(service(clusterIP="None"), "dev")

    assert isinstance(found, Target)
    assert (found.name, found.netloc) == ("plant-power", "a.dev.svc:8080")


@pytest.mark.usefixtures("nowhere")
def test_outside_a_service_has_its_cluster_address() -> None:
    found = _target(service(), "dev")

    assert isinstance(found, Target)
    assert found.netloc == "10.0.0.1:8080"


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (service("Plant"), "got 'Plant', allowed small letters"),
        (service("stream"), "got 'stream', allowed small letters"),
        (service(ports=[{"port": 80}, {"name": "grpc", "port": 81}]), "ports: got 80, grpc, allowed one named http"),
        (service(ports=[]), "ports: got none, allowed one named http"),
        (service(clusterIP="None"), "it has no cluster IP"),
    ],
)
def test_what_cannot_be_used_is_told(refused: dict[str, Any], reason: str) -> None:
    found = _target(refused, "dev")

    assert isinstance(found, str)
    assert reason in found


READY, OTHER = endpoint("10.1.0.1", ready=True), endpoint("10.1.0.2", ready=True)


@pytest.mark.parametrize(
    ("slices", "instances"),
    [
        ([slice_of(OTHER, READY)], [("10.1.0.1", 8080), ("10.1.0.2", 8080)]),
        ([slice_of(READY), slice_of(READY, OTHER)], [("10.1.0.1", 8080), ("10.1.0.2", 8080)]),
        ([slice_of(READY, endpoint("10.1.0.3", ready=False, serving=True, terminating=True))], [("10.1.0.1", 8080)]),
        ([slice_of(endpoint("10.1.0.1", ready=False, serving=False, terminating=False))], [("10.1.0.1", 8080)]),
        ([slice_of(endpoint("10.1.0.1"))], [("10.1.0.1", 8080)]),
        ([slice_of(READY, ports=[{"name": "grpc", "port": 1}, {"name": "http", "port": 9}])], [("10.1.0.1", 9)]),
        ([slice_of(READY, ports=[{"name": "grpc", "port": 1}])], []),
        ([slice_of(READY, ports=[{"port": 1}]), slice_of(READY, ports=None)], []),
        ([slice_of(READY, name="b")], []),
        ([slice_of(READY), slice_of(endpoint("fd00::1", ready=True), addressType="IPv6")], [("10.1.0.1", 8080)]),
        ([slice_of(endpoint("a.example", ready=True), addressType="FQDN")], []),
        ([slice_of(endpoints=None)], []),
        ([], []),
    ],
    ids=["all there are", "each once", "one that ends", "one that is not ready", "nothing said of it",
         "its own port", "no port http", "no name of a port", "of another service", "one address of a pod",
         "no address", "no endpoints", "no slices"],
)  # fmt: skip
def test_instances_are_endpoints_that_stay_with_a_port_named_http(
    slices: Sequence[dict[str, Any]], instances: list[Address]
) -> None:
    assert list(_staying(service(), slices)) == instances


def test_instances_of_an_ipv6_service_have_ipv6_addresses() -> None:
    slices = [slice_of(READY), slice_of(endpoint("fd00::1", ready=True), addressType="IPv6")]

    assert _staying(service(ipFamilies=["IPv6", "IPv4"]), slices) == (("fd00::1", 8080),)


class Cluster:
    """An API server with one Service, whose endpointslices are refused while `refused` says how."""

    def __init__(self, found: dict[str, Any], *slices: dict[str, Any], refused: int | None = None) -> None:
        self.refused = refused
        self.expired = 0  # so many watches are told that their place is gone
        self.asked: list[str] = []
        self._objects = {"services": [found], "endpointslices": list(slices)}
        self._ended = threading.Event()
        self.app = Flask("cluster")
        self.app.add_url_rule("/api/v1/namespaces/default/<kind>", "core", self._answer)
        self.app.add_url_rule("/apis/discovery.k8s.io/v1/namespaces/default/<kind>", "discovery", self._answer)

    def end(self) -> None:
        """End all watches."""
        self._ended.set()

    def _answer(self, kind: str) -> Response:
        self.asked.append(kind)
        if kind == "endpointslices" and self.refused:
            return Response(status=self.refused)
        if "watch" in request.args and self.expired:
            self.expired -= 1
            gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}}
            return Response(orjson.dumps(gone) + b"\n")
        if "watch" in request.args:
            return Response(self._wait())
        return Response(orjson.dumps({"items": self._objects[kind], "metadata": {"resourceVersion": "1"}}))

    def _wait(self) -> Iterator[bytes]:
        self._ended.wait(30)
        yield b""


@pytest.fixture
def discover(serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Return a function that has a discovery ask a cluster, and returns it with what it told last."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setattr("kappawatt.services.gateway.proxy.kubernetes.RETRY_SECONDS", (0.02, 0.02))
    monkeypatch.setattr("kappawatt.services.gateway.proxy.kubernetes.LEAST_SECONDS", 0.05)
    running: list[tuple[KubernetesDiscovery, Cluster]] = []

    def start(cluster: Cluster) -> tuple[KubernetesDiscovery, list[Target]]:
        kubeconfig = {
            "current-context": "x",
            "clusters": [{"name": "x", "cluster": {"server": serve(cluster.app)}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "users": [{"name": "x", "user": {}}],
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
        told: list[Target] = []
        discovery = KubernetesDiscovery(lambda targets: told.__setitem__(slice(None), targets))
        running.append((discovery, cluster))
        for thread in discovery.threads:
            thread.start()
        return discovery, told

    yield start
    for discovery, cluster in running:
        for thread in discovery.threads:
            thread.stopped.set()
        cluster.end()
        for thread in discovery.threads:
            thread.stop()


def unrouted(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.reason for record in caplog.records if "go to the Service's address" in record.message]  # type: ignore[attr-defined]


def test_a_gateway_is_ready_once_the_instances_are_known_too(discover: Any, eventually: Eventually) -> None:
    discovery, told = discover(Cluster(service(route_by="idempotency-key"), slice_of(READY, OTHER)))

    eventually(lambda: discovery.why_not_ready() is None)

    assert told[0].instances == (("10.1.0.1", 8080), ("10.1.0.2", 8080))
    assert told[0].address == ("10.0.0.1", 8080)


def test_instances_of_services_that_do_not_ask_for_it_are_not_looked_for(discover: Any, eventually: Eventually) -> None:
    cluster = Cluster(service(), slice_of(READY))
    discovery, told = discover(cluster)

    eventually(lambda: discovery.why_not_ready() is None)
    eventually(lambda: len(cluster.asked) >= 2)

    assert told[0].instances == ()
    assert "endpointslices" not in cluster.asked


def test_a_watch_whose_place_is_gone_begins_with_a_listing_and_is_no_failure(
    discover: Any, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "kappawatt.services.gateway.proxy.kubernetes")
    cluster = Cluster(service())
    cluster.expired = 1

    discovery, told = discover(cluster)
    eventually(lambda: len(cluster.asked) == 4)  # listed and watched, twice

    assert "the watch has expired" in caplog.text
    assert discovery.failure is None
    assert len(told) == 1


@pytest.mark.parametrize("status", [403, 404])
def test_where_endpointslices_are_refused_the_services_address_is_used_and_that_is_said_once(
    discover: Any, eventually: Eventually, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    cluster = Cluster(service(route_by="idempotency-key"), slice_of(READY), refused=status)
    discovery, told = discover(cluster)

    eventually(lambda: discovery.why_not_ready() is None)
    eventually(lambda: cluster.asked.count("endpointslices") > 3)
    assert told[0].instances == ()
    assert str(status) in discovery.failure
    assert [str(status) in reason for reason in unrouted(caplog)] == [True]

    cluster.refused = None

    eventually(lambda: told[0].instances == (("10.1.0.1", 8080),))
    assert discovery.failure is None


def test_instances_last_seen_are_not_used_once_they_are_refused(discover: Any, eventually: Eventually) -> None:
    cluster = Cluster(service(route_by="idempotency-key"), slice_of(READY))
    _, told = discover(cluster)
    eventually(lambda: told and told[0].instances)

    cluster.refused = 403
    cluster.end()

    eventually(lambda: told[0].instances == ())


def test_instances_last_seen_stay_while_the_api_server_fails(discover: Any, eventually: Eventually) -> None:
    cluster = Cluster(service(route_by="idempotency-key"), slice_of(READY))
    discovery, told = discover(cluster)
    eventually(lambda: told and told[0].instances)

    cluster.refused = 503
    cluster.end()

    eventually(lambda: discovery.failure)
    assert told[0].instances == (("10.1.0.1", 8080),)


@pytest.mark.parametrize(
    ("route_by", "slices", "reason"),
    [
        ("idempotency-key", [], "no EndpointSlice has an endpoint that stays, with a port http"),
        ("cookie", [slice_of(READY)], "got 'cookie', allowed idempotency-key"),
    ],
)
def test_why_the_services_address_is_used_is_said_once(
    discover: Any,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
    route_by: str,
    slices: list[dict[str, Any]],
    reason: str,
) -> None:
    caplog.set_level(logging.WARNING)
    cluster = Cluster(service(route_by=route_by), *slices)
    cluster.end()  # so that everything is listed again and again
    _, told = discover(cluster)

    eventually(lambda: unrouted(caplog))
    before = cluster.asked.count("services")
    eventually(lambda: cluster.asked.count("services") > before + 6)

    assert told[0].instances == ()
    assert [reason in said for said in unrouted(caplog)] == [True]


def test_the_api_servers_certificate_is_verified_as_by_every_python() -> None:
    configuration = Configuration()
    context = _context(configuration)

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.cert_store_stats() == ssl.create_default_context().cert_store_stats()  # no CA was named
    configuration.verify_ssl = False
    assert _context(configuration).verify_mode is ssl.CERT_NONE
