"""What the chart promises whoever installs it."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate.utils
import pytest
import yaml

from kappawatt.service import find_service, service_names
from services.gateway.discovery import BY_IDEMPOTENCY_KEY, ROUTE_BY
from tests.charts.network import Network, Peer
from tests.charts.rendering import (
    CHART,
    EVERY_API,
    NAMESPACE,
    RELEASE,
    ROOT,
    Document,
    helm_template,
    of_kind,
    pods,
    rendered,
)
from tools import render_kubernetes
from tools.rendered import Rendered

OWN_KAFKA = ("kafka.enabled=false", "global.kafka.bootstrapServers=a.example:9094\\,b.example:9095")
SECURE = ("global.kafka.securityProtocol=SASL_SSL", "global.kafka.saslMechanism=SCRAM-SHA-512",
          "global.kafka.saslUsername=plant", "global.kafka.existingSecret=kafka-login")  # fmt: skip
SINK = ("sink.enabled=true", "sink.database.existingSecret=analytics")
INSTALLATIONS: dict[str, tuple[str, ...]] = {
    "as it comes": (),
    "your own Kafka, by SASL_SSL": (*OWN_KAFKA, *SECURE),
    "with the sink on PostgreSQL": SINK,
    "with the sink on a DuckDB volume": ("sink.enabled=true", "sink.database.existingClaim=analytics"),
    "open, at a node port": (
        "gateway.access.mode=open",
        "gateway.service.type=NodePort",
        "gateway.service.nodePort=30800",
    ),
    "your own keys and models": ("gateway.access.existingSecret=mine", "plant-power.artifacts.existingClaim=models"),
    "behind an ingress": (
        "gateway.ingress.enabled=true",
        "gateway.ingress.hosts[0].host=a.example",
        "gateway.ingress.hosts[0].tls=certificate",
    ),
    "a private registry and digests": (
        "global.image.registry=registry.example.org:5000",
        "global.image.pullSecrets[0]=login",
        f"plant-power.image.digest=sha256:{'0' * 64}",
    ),
    "nothing scaled, no policies": (
        "plant-power.serve.autoscaling.enabled=false",
        "plant-power.consume.autoscaling.enabled=false",
        "plant-power.podDisruptionBudget.enabled=false",
        "global.networkPolicy.enabled=false",
    ),
    "the classic example too": ("mlp-regressor.enabled=true",),
    "Kafka without a volume": ("kafka.persistence.enabled=false",),
}
OF_OTHERS = ("keda.sh", "monitoring.coreos.com", "gateway.networking.k8s.io")


@pytest.fixture(scope="module")
def everything() -> list[Document]:
    """All services, on a cluster with every operator."""
    return rendered(*SINK, "mlp-regressor.enabled=true", apis=EVERY_API, tests=True)


def test_helm_finds_nothing_to_complain_about() -> None:
    linted = subprocess.run(["helm", "lint", "--strict", str(CHART)], capture_output=True, text=True, timeout=60)

    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("settings", INSTALLATIONS.values(), ids=INSTALLATIONS)
def test_every_object_is_valid_by_kubernetes_schemas(settings: tuple[str, ...]) -> None:
    for document in rendered(*settings, tests=True):
        if not document["apiVersion"].startswith(OF_OTHERS):
            kubernetes_validate.utils.validate(document, "1.34", strict=True)


@pytest.mark.parametrize("settings", INSTALLATIONS.values(), ids=INSTALLATIONS)
def test_the_api_server_admits_every_object(settings: tuple[str, ...], restricted_namespace: str) -> None:
    made = helm_template(*settings, tests=True).stdout
    made = made.replace(f"namespace: {NAMESPACE}", f"namespace: {restricted_namespace}")

    answer = subprocess.run(
        ["kubectl", "apply", "--dry-run=server", "-n", restricted_namespace, "-f", "-"],
        input=made, capture_output=True, text=True, timeout=120,
    )  # fmt: skip

    assert answer.returncode == 0, answer.stderr
    assert "Warning" not in answer.stderr, answer.stderr  # Pod Security says so where a pod is not restricted


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("replicas=3",), "additional properties 'replicas' not allowed"),
        (("plant-power.serve.replica=3",), "additional properties 'replica' not allowed"),
        (("global.kafka.securityProtocol=TLS",), "securityProtocol"),
        (("global.kafka.bootstrapServers=my kafka",), "bootstrapServers"),
        (("kafka.enabled=false",), "global.kafka.bootstrapServers: got nothing"),
        (("global.kafka.securityProtocol=SASL_SSL",), "global.kafka.existingSecret: got nothing"),
        (("sink.enabled=true",), "sink.database: got nothing"),
        (("gateway.access.mode=maybe",), "mode"),
        (("plant-power.service.routeBy=cookie",), "routeBy"),
        (("gateway.ingress.enabled=true",), "ingress.hosts: got none"),
        (("gateway.httpRoute.enabled=true",), "httpRoute.parentRefs: got none"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_value_that_cannot_be_used_is_refused_by_name(settings: tuple[str, ...], said: str) -> None:
    made = helm_template(*settings)

    assert made.returncode != 0
    assert said in made.stderr


def test_every_service_has_an_alias_and_only_services_do() -> None:
    aliases = {each["alias"] for each in yaml.safe_load((CHART / "Chart.yaml").read_text())["dependencies"]}

    assert aliases == {*service_names(), "sink"}


def test_the_page_of_values_is_made_of_their_comments_and_no_value_is_without() -> None:
    from tools import render_chart_page

    assert render_chart_page.PAGE.read_text() == render_chart_page.page(), "run `make render`"


def test_each_role_that_a_service_has_is_a_deployment(everything: list[Document]) -> None:
    deployments = of_kind(everything, "Deployment")

    for name in service_names():
        assert f"{RELEASE}-{name}-serve" in deployments
        assert (f"{RELEASE}-{name}-consume" in deployments) == (find_service(name).stream is not None)
    assert f"{RELEASE}-sink-consume" in deployments


def test_workers_scale_on_the_lag_of_the_topic_they_read_and_no_further_than_its_partitions(
    everything: list[Document],
) -> None:
    scaled = of_kind(everything, "ScaledObject")

    for name in service_names():
        stream = find_service(name).stream
        if stream is None:
            continue
        spec = scaled[f"{RELEASE}-{name}-consume"]["spec"]
        trigger = spec["triggers"][0]["metadata"]
        assert trigger["topic"] == stream.source.name
        assert trigger["consumerGroup"] == name
        assert spec["maxReplicaCount"] <= stream.source.partitions
        assert spec["scaleTargetRef"]["name"] == f"{RELEASE}-{name}-consume"


def test_without_keda_workers_keep_a_number_of_replicas() -> None:
    documents = rendered()

    assert not of_kind(documents, "ScaledObject")
    for name, deployment in of_kind(documents, "Deployment").items():
        assert ("replicas" in deployment["spec"]) == name.endswith("-consume")


def test_what_scales_by_itself_has_no_number_of_replicas(everything: list[Document]) -> None:
    """Else an upgrade would throw away what the autoscaler had found."""
    targets = {
        each["spec"]["scaleTargetRef"]["name"] for each in of_kind(everything, "HorizontalPodAutoscaler").values()
    }
    targets |= {each["spec"]["scaleTargetRef"]["name"] for each in of_kind(everything, "ScaledObject").values()}

    for name, deployment in of_kind(everything, "Deployment").items():
        assert ("replicas" in deployment["spec"]) == (name not in targets), name


def test_a_new_image_touches_neither_kafka_nor_its_volume() -> None:
    """Else every upgrade would stop the bus."""
    first, second = (of_kind(rendered(f"global.image.tag={tag}"), "StatefulSet") for tag in ("1.0.0", "1.0.1"))

    assert first == second


def test_pods_get_a_token_only_where_the_api_is_used(everything: list[Document]) -> None:
    with_token = {name for name, spec, _ in pods(everything) if spec.get("automountServiceAccountToken", True)}

    assert with_token == {f"{RELEASE}-gateway-serve"}
    rules = [rule for each in of_kind(everything, "Role").values() for rule in each["rules"]]
    reading = ["get", "list", "watch"]
    assert rules == [
        {"apiGroups": [""], "resources": ["services"], "verbs": reading},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": reading},
    ]


def test_only_the_ingestor_is_routed_by_idempotency_key(everything: list[Document]) -> None:
    annotations = {
        name: each["metadata"].get("annotations", {}) for name, each in of_kind(everything, "Service").items()
    }

    assert {name: each[ROUTE_BY] for name, each in annotations.items() if ROUTE_BY in each} == {
        f"{RELEASE}-sensor-ingestor": BY_IDEMPOTENCY_KEY
    }


def test_routing_stands_beside_a_services_own_annotations_and_can_be_switched_off() -> None:
    name, own = "sensor-ingestor", "sensor-ingestor.service.annotations.team=plant"

    def annotations(*settings: str) -> dict[str, str] | None:
        found: dict[str, str] | None = of_kind(rendered(*settings), "Service")[f"{RELEASE}-{name}"]["metadata"].get(
            "annotations"
        )
        return found

    assert annotations(own) == {"team": "plant", ROUTE_BY: BY_IDEMPOTENCY_KEY}
    assert annotations(own, f"{name}.service.routeBy=") == {"team": "plant"}
    assert annotations(f"{name}.service.routeBy=") is None


def test_every_container_is_bounded_unprivileged_and_cannot_write_its_image(everything: list[Document]) -> None:
    for name, spec, _ in pods(everything):
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["enableServiceLinks"] is False, name  # KAPPAWATT_KAFKA_PORT would be taken for a setting
        for container in spec["containers"]:
            assert container["resources"]["limits"]["memory"], name
            assert container["resources"]["requests"]["cpu"], name
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }, name  # fmt: skip


def test_a_pod_that_ends_has_longer_than_its_server_takes(everything: list[Document]) -> None:
    from kappawatt.serving.server import GRACE_SECONDS

    for name, deployment in of_kind(everything, "Deployment").items():
        spec = deployment["spec"]["template"]["spec"]
        env = {each["name"]: each.get("value") for each in spec["containers"][0]["env"]}
        assert spec["terminationGracePeriodSeconds"] > float(env["KAPPAWATT_DRAIN_SECONDS"]) + GRACE_SECONDS, name


def test_no_password_stands_in_what_is_rendered() -> None:
    documents = rendered(*OWN_KAFKA, *SECURE, *SINK)

    assert not of_kind(documents, "Secret").keys() - {f"{RELEASE}-gateway-api-keys"}
    for _, spec, _ in pods(documents):
        for entry in spec["containers"][0]["env"]:
            assert "PASSWORD" not in entry["name"] or entry["name"].endswith("_FILE")


def test_generated_keys_are_random_and_match_their_hashes() -> None:
    import base64
    import hashlib

    secrets = [of_kind(rendered(), "Secret")[f"{RELEASE}-gateway-api-keys"]["data"] for _ in range(2)]

    assert secrets[0]["admin"] != secrets[1]["admin"]
    for line in base64.b64decode(secrets[0]["keys"]).decode().splitlines():
        role, digest, _ = line.split(":")
        assert hashlib.sha256(base64.b64decode(secrets[0][role])).hexdigest() == digest


# Who talks to whom, as the README draws it: source, target, port.
EDGES = {
    ("gateway-serve", "plant-power-serve", 8080), ("gateway-serve", "hourly-load-serve", 8080),
    ("gateway-serve", "smart-meter-serve", 8080), ("gateway-serve", "mlp-regressor-serve", 8080),
    ("gateway-serve", "sensor-ingestor-serve", 8080), ("gateway-serve", "sink-consume", 8080),
    *((name, "kafka", 9092) for name in (
        "gateway-serve", "sensor-ingestor-serve", "plant-power-serve", "plant-power-consume", "hourly-load-serve",
        "hourly-load-consume", "smart-meter-serve", "smart-meter-consume", "sink-consume")),
}  # fmt: skip


def test_the_network_lets_through_the_edges_that_are_drawn_and_no_other(everything: list[Document]) -> None:
    network = Network(NAMESPACE, tuple(of_kind(everything, "NetworkPolicy").values()))
    peers = {
        name.removeprefix(f"{RELEASE}-"): Peer(NAMESPACE, labels)
        for name, _, labels in pods(everything)
        if labels["app.kubernetes.io/component"] != "test"
    }

    # The gateway is everyone's door, so who may come to it is not among the edges.
    drawn = {
        (a, b, port)
        for (a, source), (b, target), port in itertools.product(peers.items(), peers.items(), (8080, 9092, 9093, 22))
        if a != b and b != "gateway-serve" and network.allows(source, target, port)
    }

    assert drawn == EDGES


def test_from_outside_only_the_gateway_is_reached_and_nothing_goes_out_but_where_it_must(
    everything: list[Document],
) -> None:
    network = Network(NAMESPACE, tuple(of_kind(everything, "NetworkPolicy").values()))
    internet = Peer("", {}, is_outside=True)
    dns, keda = Peer("kube-system", {"k8s-app": "kube-dns"}), Peer("keda", {"app": "keda-operator"})
    prometheus, stranger = Peer("monitoring", {"app": "prometheus"}), Peer("elsewhere", {})

    for name, _, labels in pods(everything):
        own, short = Peer(NAMESPACE, labels), name.removeprefix(f"{RELEASE}-")
        if labels["app.kubernetes.io/component"] == "test":
            continue
        assert network.allows(internet, own, 8080) == (short == "gateway-serve"), name
        assert network.allows(stranger, own, 8080) == (short == "gateway-serve"), name
        assert network.allows(prometheus, own, 8080) == (short != "kafka"), name
        assert network.allows(keda, own, 9092) == (short == "kafka"), name
        assert network.allows(own, dns, 53, "UDP") == (short != "kafka"), name
        assert network.allows(own, internet, 443) == (short == "gateway-serve"), name  # the Kubernetes API
        assert network.allows(own, internet, 5432) == (short == "sink-consume"), name
        assert not network.allows(own, internet, 80), name


def test_the_plain_manifests_are_what_the_chart_makes() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "tools.render_kubernetes", "--check"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert checked.returncode == 0, checked.stderr + "run `make render`"


def test_a_stale_plain_manifest_is_noticed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    folder = Rendered(tmp_path / "k8s", render_kubernetes.RENDERED.kept)
    (tmp_path / "k8s/gateway/service.yaml").write_text("changed")
    (tmp_path / "k8s/left-over.yaml").write_text("")

    assert folder.stale(render_kubernetes.files()) == ["gateway/service.yaml", "left-over.yaml"]
