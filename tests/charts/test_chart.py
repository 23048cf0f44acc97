"""What the chart promises whoever installs it."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import kubernetes_validate.utils
import pytest
import yaml

from kappawatt import __version__
from kappawatt.services.gateway.proxy.discovery import BY_IDEMPOTENCY_KEY, ROUTE_BY
from kappawatt.serving.service import find_service, service_names
from tests.charts.network import Network, Peer
from tests.charts.rendering import (
    CHART,
    EVERY_API,
    NAMESPACE,
    RELEASE,
    ROOT,
    Document,
    documents_of,
    environment,
    helm_template,
    notes,
    of_kind,
    pods,
    rendered,
)
from tools import render_chart_page, render_kubernetes
from tools.rendered import Rendered

OWN_KAFKA = ("kafka.enabled=false", "global.kafka.bootstrapServers=a.example:9094\\,b.example:9095")
SECURE = ("global.kafka.securityProtocol=SASL_SSL", "global.kafka.saslMechanism=SCRAM-SHA-512",
          "global.kafka.saslUsername=plant", "global.kafka.existingSecret=kafka-login")  # fmt: skip
OWN_AUTHORITY = "global.kafka.caKey=ca.crt"
TOKENS = ("global.kafka.securityProtocol=SASL_SSL", "global.kafka.saslMechanism=OAUTHBEARER",
          "global.kafka.existingSecret=kafka-login", "global.kafka.oauth.tokenKey=token")  # fmt: skip
TOKEN_ENDPOINT = "global.kafka.oauth.scalerTokenEndpoint=https://login.example/token"
BY_IAM = (*TOKENS[:2], "global.kafka.oauth.tokenCommand=msk-token eu-central-1",
          "global.kafka.oauth.scalerAwsRegion=eu-central-1")  # fmt: skip
CERTIFICATE = ("global.kafka.securityProtocol=SSL", "global.kafka.existingSecret=kafka-login",
               "global.kafka.certKey=tls.crt", "global.kafka.privateKeyKey=tls.key")  # fmt: skip
NO_SERVICES = tuple(f"{name}.enabled=false" for name in service_names())
WEATHER = ("weather.enabled=true", r"weather.files.weather\.toml=x = 1")
SINK = ("sink.enabled=true", "sink.database.existingSecret=analytics")
INSTALLATIONS: dict[str, tuple[str, ...]] = {
    "as it comes": (),
    "your own Kafka, by SASL_SSL": (*OWN_KAFKA, *SECURE, OWN_AUTHORITY),
    "your own Kafka, by SASL_SSL with a public authority": (*OWN_KAFKA, *SECURE),
    "your own Kafka, by tokens": (*OWN_KAFKA, *TOKENS, TOKEN_ENDPOINT),
    "Amazon MSK, by IAM": (*OWN_KAFKA, *BY_IAM),
    "your own Kafka, by certificates": (*OWN_KAFKA, *CERTIFICATE, OWN_AUTHORITY),
    "Kafka alone": NO_SERVICES,
    "settings of one service's own": (
        "plant-power.env.KAPPAWATT_LOG_LEVEL=DEBUG",
        "plant-power.extraEnv[0].name=KAPPAWATT_STATE",
        "plant-power.extraEnv[0].value=/tmp/state",
    ),
    "another cluster's DNS": (
        "global.networkPolicy.dns.peers[0].ipBlock.cidr=169.254.20.10/32",
        "global.networkPolicy.dns.ports={53,5353}",
    ),
    "with the sink on PostgreSQL": SINK,
    "with the sink on a DuckDB volume": ("sink.enabled=true", "sink.database.existingClaim=analytics"),
    "with weather of stations": WEATHER,
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
    return rendered(*SINK, *WEATHER, *(f"{name}.enabled=true" for name in service_names()), apis=EVERY_API, tests=True)


def test_helm_finds_nothing_to_complain_about() -> None:
    linted = subprocess.run(["helm", "lint", "--strict", str(CHART)], capture_output=True, text=True, timeout=60)

    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("settings", INSTALLATIONS.values(), ids=INSTALLATIONS)
def test_every_object_is_valid_by_kubernetes_schemas(settings: tuple[str, ...]) -> None:
    for document in rendered(*settings, tests=True):
        if not document["apiVersion"].startswith(OF_OTHERS):
            _validate(json.dumps(document))


@cache
def _validate(document: str) -> None:
    """Most objects are the same in every installation, so they are looked at once."""
    kubernetes_validate.utils.validate(json.loads(document), "1.34", strict=True)


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
        ((*OWN_KAFKA, "global.kafka.securityProtocol=SASL_SSL"), "global.kafka.existingSecret: got nothing"),
        (("sink.enabled=true",), "sink.database: got nothing"),
        (("weather.enabled=true",), "weather.files.weather.toml: got nothing, allowed the file's text"),
        (("plant-power.files.a/b=x",), "invalid propertyName 'a/b'"),
        (("gateway.access.mode=maybe",), "mode"),
        (("plant-power.service.routeBy=cookie",), "routeBy"),
        (("global.image.tag=0.1.0@sha256:00",), "tag"),
        (("plant-power.image.tag=a:b",), "tag"),
        (("gateway.ingress.enabled=true",), "ingress.hosts: got none"),
        (("gateway.httpRoute.enabled=true",), "httpRoute.parentRefs: got none"),
        ((*OWN_KAFKA, *SECURE, "global.kafka.saslMechanism="), "global.kafka.saslMechanism: got nothing"),
        ((*OWN_KAFKA, *SECURE, "global.kafka.saslUsername="), "global.kafka.saslUsername: got nothing"),
        (("global.kafka.securityProtocol=SSL",), "global.kafka.securityProtocol: got SSL while kafka.enabled is true"),
        (OWN_KAFKA[1:], "kafka.enabled: got true while global.kafka.bootstrapServers is a.example:9094,b.example:9095"),
        ((*OWN_KAFKA, OWN_AUTHORITY), "global.kafka.existingSecret: got nothing while caKey is ca.crt"),
        ((*OWN_KAFKA, *TOKENS[:3]), "global.kafka.oauth: got 0 sources of tokens"),
        ((*OWN_KAFKA, *TOKENS, "global.kafka.oauth.tokenCommand=x"), "global.kafka.oauth: got 2 sources of tokens"),
        ((*OWN_KAFKA, *TOKENS[:2], TOKENS[3]), "global.kafka.existingSecret: got nothing while oauth.tokenKey is"),
        ((*OWN_KAFKA, *CERTIFICATE[:3]), "global.kafka.certKey: got it or privateKeyKey without the other"),
        ((*OWN_KAFKA, *CERTIFICATE[1:]), "global.kafka.certKey: got tls.crt while securityProtocol is PLAINTEXT"),
        ((*OWN_KAFKA, *CERTIFICATE[:1], *CERTIFICATE[2:]), "global.kafka.existingSecret: got nothing while certKey"),
        (("plant-power.port=9000",), "additional properties 'port' not allowed"),
        (("plant-power.env.KAPPAWATT_PROBE_PORT=http",), "plant-power.env: got KAPPAWATT_PROBE_PORT, allowed names"),
        (("plant-power.extraEnv[0].name=KAPPAWATT_PORT",), "plant-power.env: got KAPPAWATT_PORT, allowed names"),
        (("plant-power.extraEnv[0].value=x",), "missing property 'name'"),
        (("plant-power.access.mode=keys",), 'plant-power.access.mode: got "keys", allowed nothing'),
        (("sink.access.existingSecret=mine", *SINK), 'sink.access.existingSecret: got "mine", allowed nothing'),
        (("gateway.access.mode=",), "gateway.access.mode: got nothing, allowed keys or open"),
        (("plant-power.serve.autoscaling.minReplicas=7",),
         "plant-power.serve.autoscaling.minReplicas: got 7, allowed at most maxReplicas (6)"),
        (("plant-power.consume.autoscaling.maxReplicas=2", "plant-power.consume.autoscaling.minReplicas=3"),
         "plant-power.consume.autoscaling.minReplicas: got 3, allowed at most maxReplicas (2)"),
        (("plant-power.drainSeconds=15",),
         "plant-power.terminationGracePeriodSeconds: got 40, allowed more than 40"),
        (("plant-power.ingress.enabled=true", "plant-power.ingress.hosts[0].host=a.example"),
         "plant-power.networkPolicy.ingressFrom: got nothing while ingress.enabled is true"),
        (("plant-power.httpRoute.enabled=true", "plant-power.httpRoute.parentRefs[0].name=door"),
         "plant-power.networkPolicy.ingressFrom: got nothing while httpRoute.enabled is true"),
        (("plant-power.service.type=NodePort",),
         "plant-power.networkPolicy.ingressFrom: got nothing while service.type is NodePort"),
        (("gateway.service.type=LoadBalancer", "gateway.networkPolicy.ingressFromAnywhere=false"),
         "gateway.networkPolicy.ingressFrom: got nothing while service.type is LoadBalancer"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_a_value_that_cannot_be_used_is_refused_by_name(settings: tuple[str, ...], said: str) -> None:
    made = helm_template(*settings)

    assert made.returncode != 0
    assert said in made.stderr


@pytest.mark.parametrize(
    "settings",
    [
        ("plant-power.service.type=NodePort", "plant-power.networkPolicy.ingressFromAnywhere=true"),
        ("plant-power.service.type=NodePort", "plant-power.networkPolicy.ingressFrom[0].ipBlock.cidr=10.0.0.0/8"),
        ("plant-power.service.type=NodePort", "global.networkPolicy.enabled=false"),
        ("plant-power.drainSeconds=60", "plant-power.terminationGracePeriodSeconds=86"),
        ("plant-power.serve.autoscaling.minReplicas=7", "plant-power.serve.autoscaling.enabled=false"),
    ],
    ids=" ".join,
)
def test_what_is_asked_for_in_full_is_not_refused(settings: tuple[str, ...]) -> None:
    assert rendered(*settings)


def test_a_name_that_would_be_cut_is_refused_and_the_longest_has_its_secret_where_it_is_mounted() -> None:
    longest = "r" * 34

    refused = helm_template(release="r" * 35)
    documents = rendered(release=longest, apis=EVERY_API, tests=True)

    assert f"name of the release: got {'r' * 35} (35 characters), allowed 34 characters at most" in refused.stderr
    mounted = {
        volume["secret"]["secretName"]
        for _, spec, _ in pods(documents)
        for volume in spec["volumes"]
        if "secret" in volume
    }
    assert mounted == of_kind(documents, "Secret").keys() == {f"{longest}-gateway-api-keys"}
    for name in (each for each in of_kind(documents, "Deployment") if "gateway" not in each):
        assert name.startswith(f"{longest}-")
        assert name.endswith(("-serve", "-consume"))
    (asked,) = [each for name, each in of_kind(documents, "Pod").items() if name.endswith("gateway")]
    assert environment(asked)["KAPPAWATT_GATEWAY_URL"] == f"http://{longest}-gateway:8080"
    assert f"{longest}-gateway" in of_kind(documents, "Service")


@pytest.mark.parametrize(("settings", "ca"), [((OWN_AUTHORITY,), "ca.crt"), ((), None)], ids=["own", "public"])
def test_the_authority_of_kafkas_certificates_is_a_file_only_where_the_secret_has_one(
    settings: tuple[str, ...], ca: str | None
) -> None:
    documents = rendered(*OWN_KAFKA, *SECURE, *settings, apis=EVERY_API, tests=True)

    for document in (*of_kind(documents, "Deployment").values(), *of_kind(documents, "Pod").values()):
        path = environment(document).get("KAPPAWATT_KAFKA_SSL_CA_LOCATION")
        assert path == (f"/run/secrets/kafka/{ca}" if ca else None)
    for trigger in of_kind(documents, "TriggerAuthentication").values():
        keys = {each["parameter"]: each["key"] for each in trigger["spec"]["secretTargetRef"]}
        assert keys == {"password": "password"} | ({"ca": ca} if ca else {})


def test_tls_by_a_public_authority_and_without_a_user_needs_no_secret() -> None:
    documents = rendered(*OWN_KAFKA, "global.kafka.securityProtocol=SSL", apis=EVERY_API)

    assert not of_kind(documents, "TriggerAuthentication")
    for scaled in of_kind(documents, "ScaledObject").values():
        assert scaled["spec"]["triggers"][0]["metadata"]["tls"] == "enable"
        assert "authenticationRef" not in scaled["spec"]["triggers"][0]


def test_a_client_with_a_certificate_is_one_for_the_lag_scaler_too() -> None:
    documents = rendered(*OWN_KAFKA, *CERTIFICATE, OWN_AUTHORITY, apis=EVERY_API, tests=True)

    for document in (*of_kind(documents, "Deployment").values(), *of_kind(documents, "Pod").values()):
        known = environment(document)
        assert known.get("KAPPAWATT_KAFKA_SSL_CERTIFICATE_LOCATION") == "/run/secrets/kafka/tls.crt"
        assert known.get("KAPPAWATT_KAFKA_SSL_KEY_LOCATION") == "/run/secrets/kafka/tls.key"
    triggers = of_kind(documents, "TriggerAuthentication")
    assert triggers
    for trigger in triggers.values():
        keys = {each["parameter"]: each["key"] for each in trigger["spec"]["secretTargetRef"]}
        assert keys == {"ca": "ca.crt", "cert": "tls.crt", "key": "tls.key"}


def test_tokens_come_from_the_secret_and_the_lag_scaler_asks_for_its_own() -> None:
    documents = rendered(*OWN_KAFKA, *TOKENS, TOKEN_ENDPOINT, "global.kafka.oauth.scalerScopes=kafka", apis=EVERY_API)

    for document in of_kind(documents, "Deployment").values():
        known = environment(document)
        assert known["KAPPAWATT_KAFKA_SASL_MECHANISM"] == "OAUTHBEARER"
        assert known["KAPPAWATT_KAFKA_SASL_OAUTHBEARER_TOKEN_FILE"] == "/run/secrets/kafka/token"
        assert not {"KAPPAWATT_KAFKA_SASL_USERNAME", "KAPPAWATT_KAFKA_SASL_PASSWORD_FILE"} & known.keys()
    scaled, triggers = of_kind(documents, "ScaledObject"), of_kind(documents, "TriggerAuthentication")
    assert scaled.keys() == triggers.keys() != set()
    for name, each in scaled.items():
        metadata = each["spec"]["triggers"][0]["metadata"]
        assert (metadata["sasl"], metadata["tls"]) == ("oauthbearer", "enable")
        # KEDA's scaler takes both from an authentication only.
        assert not {"oauthTokenEndpointUri", "scopes"} & metadata.keys()
        authentication = triggers[name]["spec"]
        keys = {given["parameter"]: given["key"] for given in authentication["secretTargetRef"]}
        assert keys == {"username": "username", "password": "password"}
        told = {
            given["parameter"]: of_kind(documents, "ConfigMap")[given["name"]]["data"][given["key"]]
            for given in authentication["configMapTargetRef"]
        }
        assert told == {"oauthTokenEndpointUri": "https://login.example/token", "scopes": "kafka"}


def test_on_msk_workers_run_a_command_for_tokens_and_the_lag_scaler_has_its_operators_role() -> None:
    documents = rendered(*OWN_KAFKA, *BY_IAM, apis=EVERY_API)

    for document in of_kind(documents, "Deployment").values():
        assert environment(document)["KAPPAWATT_KAFKA_SASL_OAUTHBEARER_TOKEN_COMMAND"] == "msk-token eu-central-1"
    for name, each in of_kind(documents, "ScaledObject").items():
        metadata = each["spec"]["triggers"][0]["metadata"]
        assert (metadata["sasl"], metadata["saslTokenProvider"]) == ("oauthbearer", "aws_msk_iam")
        assert metadata["awsRegion"] == "eu-central-1"
        assert of_kind(documents, "TriggerAuthentication")[name]["spec"] == {"podIdentity": {"provider": "aws"}}


def test_tokens_without_a_way_for_the_lag_scaler_are_refused_where_there_is_one() -> None:
    assert "the lag scaler needs tokens of its own" in helm_template(*OWN_KAFKA, *TOKENS, apis=EVERY_API).stderr
    assert of_kind(rendered(*OWN_KAFKA, *TOKENS), "Deployment")


def test_a_consumer_takes_over_before_the_new_one_is_ready() -> None:
    for name, deployment in of_kind(rendered(), "Deployment").items():
        update = deployment["spec"]["strategy"]["rollingUpdate"]
        assert update == {"maxSurge": 1, "maxUnavailable": 1 if name.endswith("-consume") else 0}


def test_a_services_own_environment_stands_above_the_charts_and_no_name_is_there_twice() -> None:
    documents = rendered(
        "plant-power.env.KAPPAWATT_LOG_LEVEL=DEBUG",
        "plant-power.env.KAPPAWATT_STATE=/tmp/below",
        "plant-power.extraEnv[0].name=KAPPAWATT_STATE",
        "plant-power.extraEnv[0].value=/tmp/above",
        "global.kafka.settings.security\\.protocol=SSL",
        tests=True,
    )

    for name, spec, _ in pods(documents):
        names = [each["name"] for each in spec["containers"][0]["env"]]
        assert len(names) == len({*names}), name
    deployments = of_kind(documents, "Deployment")
    own = environment(deployments[f"{RELEASE}-plant-power-serve"])
    assert (own["KAPPAWATT_LOG_LEVEL"], own["KAPPAWATT_STATE"]) == ("DEBUG", "/tmp/above")
    assert environment(deployments[f"{RELEASE}-hourly-load-serve"])["KAPPAWATT_LOG_LEVEL"] == "INFO"


def test_kafka_can_be_a_release_of_its_own() -> None:
    documents = rendered(*NO_SERVICES, apis=EVERY_API, tests=True)

    assert [name for name, _, _ in pods(documents)] == [f"{RELEASE}-kafka"]


def test_pods_that_are_not_ready_do_not_keep_a_node_from_being_drained(everything: list[Document]) -> None:
    budgets = of_kind(everything, "PodDisruptionBudget")

    assert budgets
    assert {each["spec"]["unhealthyPodEvictionPolicy"] for each in budgets.values()} == {"AlwaysAllow"}


def test_another_port_of_the_gateway_is_what_its_test_asks_and_what_helm_says() -> None:
    settings = ("gateway.service.port=80",)

    asked = environment(of_kind(rendered(*settings, tests=True), "Pod")[f"{RELEASE}-test-gateway"])

    assert asked["KAPPAWATT_GATEWAY_URL"] == f"http://{RELEASE}-gateway:80"
    assert f"port-forward service/{RELEASE}-gateway 8000:80" in notes(*settings)


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ((), "URL=http://127.0.0.1:8000"),
        (INSTALLATIONS["behind an ingress"], "URL=https://a.example"),
        (INSTALLATIONS["open, at a node port"], "URL=http://$NODE:$(kubectl -n energy get service kw-gateway"),
        (("gateway.service.type=LoadBalancer",), "URL=http://$(kubectl -n energy get service kw-gateway"),
    ],
)
def test_what_helm_says_can_be_typed_as_it_stands(settings: tuple[str, ...], address: str) -> None:
    said = notes(*settings)

    assert address in said
    assert ("$KEY" in said) == ("  KEY=$(kubectl " in said) == ("gateway.access.mode=open" not in settings)
    for line in (line for line in said.splitlines() if line.startswith("  curl ")):
        assert "$URL/api/" in line
        assert subprocess.run(["bash", "-n"], input=line, text=True, capture_output=True).returncode == 0


def test_every_service_has_an_alias_and_else_only_what_runs_a_services_image() -> None:
    aliases = {each["alias"] for each in yaml.safe_load((CHART / "Chart.yaml").read_text())["dependencies"]}
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    loops = {name for name in aliases if values[name].get("component") == "loop"}
    assert aliases - loops == {*service_names()}
    assert {values[name]["image"]["name"] for name in loops} <= {*service_names()}


def test_the_page_of_values_is_made_of_their_comments_and_no_value_is_without() -> None:
    assert render_chart_page.PAGE.read_text() == render_chart_page.page(), "run `make render`"


def test_a_new_alias_is_all_that_the_chart_needs_for_a_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chart = tmp_path / "kappawatt"
    shutil.copytree(CHART, chart)
    alias = f"  - {{name: service, version: {__version__}, alias: wind-power, condition: wind-power.enabled}}\n"
    (chart / "Chart.yaml").write_text((CHART / "Chart.yaml").read_text() + alias)
    monkeypatch.setattr(render_chart_page, "CHART", chart)
    monkeypatch.setattr(render_chart_page, "SCHEMA", chart / "values.schema.json")
    assert render_chart_page.stale() == [chart / "values.schema.json"]

    (chart / "values.schema.json").write_text(render_chart_page.schema())  # `make render`

    documents = rendered("wind-power.usesBus=false", "plant-power.enabled=false", chart=chart, tests=True)
    assert f"{RELEASE}-wind-power-serve" in of_kind(documents, "Deployment")
    expected = environment(of_kind(documents, "Pod")[f"{RELEASE}-test-gateway"])["KAPPAWATT_EXPECTED"]
    assert expected is not None
    assert expected.split(",") == ["hourly-load", "sensor-ingestor", "smart-meter", "wind-power"]


def test_the_schema_knows_the_services_that_the_umbrella_includes() -> None:
    assert render_chart_page.SCHEMA.read_text() == render_chart_page.schema(), "run `make render`"


def test_helms_test_waits_for_every_service_that_the_gateway_can_find(everything: list[Document]) -> None:
    labels = [each["metadata"]["labels"] for each in of_kind(everything, "Service").values()]
    found = {each["kappawatt.io/service"] for each in labels if "kappawatt.io/service" in each}

    expected = environment(of_kind(everything, "Pod")[f"{RELEASE}-test-gateway"])["KAPPAWATT_EXPECTED"]

    assert expected is not None
    assert {*expected.split(",")} == found == {*service_names()} - {"gateway"}


def test_each_role_that_a_service_has_is_a_deployment(everything: list[Document]) -> None:
    deployments = of_kind(everything, "Deployment")

    for name in service_names():
        service = find_service(name)
        assert (f"{RELEASE}-{name}-serve" in deployments) == (not service.is_one_process)
        assert (f"{RELEASE}-{name}-consume" in deployments) == (service.work is not None)
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
        assert trigger["topic"] == stream.readings.name
        assert trigger["consumerGroup"] == name
        assert spec["maxReplicaCount"] <= stream.readings.partitions
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
            assert container["resources"]["limits"].keys() == {"cpu", "memory"}, name  # a quota may ask for both
            assert container["resources"]["requests"]["cpu"], name
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }, name  # fmt: skip


def test_a_pod_that_ends_has_longer_than_its_server_takes(everything: list[Document]) -> None:
    from kappawatt.serving.server.server import GRACE_SECONDS

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

    renders = [documents_of(helm_template().stdout) for _ in range(2)]
    secrets = [of_kind(each, "Secret")[f"{RELEASE}-gateway-api-keys"]["data"] for each in renders]

    assert secrets[0]["admin"] != secrets[1]["admin"]
    for line in base64.b64decode(secrets[0]["keys"]).decode().splitlines():
        role, digest, _ = line.split(":")
        assert hashlib.sha256(base64.b64decode(secrets[0][role])).hexdigest() == digest


# Who talks to whom, as the README draws it: source, target, port.
EDGES = {
    *(
        ("gateway-serve", f"{name}-{'consume' if find_service(name).is_one_process else 'serve'}", 8080)
        for name in service_names()
        if name != "gateway"
    ),
}
GO_OUT = ("gateway-serve", "weather-serve")  # to the Kubernetes API, to Open-Meteo and DWD
READS_THE_BUS = "kappawatt.io/bus"


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

    on_the_bus = {(name, "kafka", 9092) for name, peer in peers.items() if peer.labels.get(READS_THE_BUS) == "true"}
    assert {name for name, _, _ in on_the_bus} >= {"gateway-serve", "sensor-ingestor-serve", "plant-power-consume"}
    assert drawn == EDGES | on_the_bus


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
        assert network.allows(own, internet, 443) == (short in GO_OUT), name
        assert network.allows(own, internet, 5432) == (short == "sink-consume"), name
        assert not network.allows(own, internet, 80), name


def test_weather_is_read_by_one_pod_that_nobody_is_sent_to_and_that_is_made_anew_when_its_stations_change() -> None:
    documents = rendered(*WEATHER)
    name = f"{RELEASE}-weather"
    deployment = of_kind(documents, "Deployment")[f"{name}-serve"]
    template = deployment["spec"]["template"]
    (container,) = template["spec"]["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}

    assert deployment["spec"]["replicas"] == 1
    assert f"{name}-serve" not in of_kind(documents, "HorizontalPodAutoscaler")
    assert environment(deployment)["KAPPAWATT_WEATHER"] == f"{mounts['settings']}/weather.toml"
    assert environment(deployment)["KAPPAWATT_SERVICE"] == "sensor-ingestor"
    assert "/sensor-ingestor:" in container["image"]
    assert of_kind(documents, "ConfigMap")[f"{name}-settings"]["data"] == {"weather.toml": "x = 1"}
    assert "kappawatt.io/service" not in of_kind(documents, "Service")[name]["metadata"]["labels"]

    others = rendered(WEATHER[0], f"{WEATHER[1]}1")
    changed = of_kind(others, "Deployment")[f"{name}-serve"]["spec"]["template"]
    assert changed["metadata"]["annotations"] != template["metadata"]["annotations"]
    assert changed["spec"] == template["spec"]


def test_a_second_release_reaches_the_kafka_of_the_first_and_its_gateway_the_second() -> None:
    second = rendered(
        *NO_SERVICES, "smart-meter.enabled=true", "grafana.enabled=false",
        "kafka.enabled=false", f"global.kafka.bootstrapServers={RELEASE}-kafka:9092",
        release="mine",
    )  # fmt: skip
    documents = [*rendered(), *second]
    network = Network(NAMESPACE, tuple(of_kind(documents, "NetworkPolicy").values()))
    peers = {name: Peer(NAMESPACE, labels) for name, _, labels in pods(documents)}
    kafka = peers[f"{RELEASE}-kafka"]

    assert network.allows(peers["mine-smart-meter-serve"], kafka, 9092)
    assert network.allows(peers["mine-smart-meter-consume"], kafka, 9092)
    assert network.allows(peers[f"{RELEASE}-gateway-serve"], peers["mine-smart-meter-serve"], 8080)
    assert not network.allows(Peer(NAMESPACE, {"app": "of somebody else"}), kafka, 9092)


def test_dns_is_where_the_cluster_has_it() -> None:
    namespace = "kubernetes\\.io/metadata\\.name=openshift-dns"
    documents = rendered(
        f"global.networkPolicy.dns.peers[0].namespaceSelector.matchLabels.{namespace}",
        "global.networkPolicy.dns.ports={5353}",
    )
    network = Network(NAMESPACE, tuple(of_kind(documents, "NetworkPolicy").values()))
    own = next(Peer(NAMESPACE, labels) for name, _, labels in pods(documents) if name.endswith("plant-power-serve"))

    for protocol in ("UDP", "TCP"):
        assert network.allows(own, Peer("openshift-dns", {}), 5353, protocol)
        assert not network.allows(own, Peer("kube-system", {}), 53, protocol)


def test_the_overlay_of_the_page_puts_everything_into_the_namespace_of_the_base(tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl: not on PATH")
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    overlay = (ROOT / "k8s/README.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "kustomization.yaml").write_text(overlay.replace("path/to/k8s", "k8s"))

    made = subprocess.run(["kubectl", "kustomize", str(tmp_path)], capture_output=True, text=True, timeout=60)

    assert made.returncode == 0, made.stderr
    documents = [each for each in documents_of(made.stdout) if each["kind"] != "Namespace"]
    assert {"ScaledObject", "ServiceMonitor", "PrometheusRule"} <= {each["kind"] for each in documents}
    for each in documents:
        assert each["metadata"].get("namespace") == "kappawatt", (each["kind"], each["metadata"]["name"])


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
