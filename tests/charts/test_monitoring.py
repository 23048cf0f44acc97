"""Alerts and dashboard ask for metrics that services have, under labels they have."""

from __future__ import annotations

import json
import re
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from kappawatt.settings import Settings
from kappawatt.telemetry import Telemetry
from tests.charts.promql import Sample, answer, selectors
from tests.charts.rendering import CHART, EVERY_API, NAMESPACE, RELEASE, ROOT, of_kind, rendered

FROM_PROMETHEUS = {"namespace", "pod", "job", "le"}  # what the scrape adds, and a histogram's own


def _exposed() -> dict[str, set[str]]:
    """Return labels by sample name of a service that has counted something of everything."""
    telemetry = Telemetry("plant-power")
    telemetry.polled()
    telemetry.serves("plant-power", "1")
    for metric in vars(telemetry).values():
        names = getattr(metric, "_labelnames", ())
        if names:
            child = metric.labels(*names)
            (getattr(child, "observe", None) or getattr(child, "inc", None) or child.set)(1)
    families = text_string_to_metric_families(telemetry.render().decode())
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


def _alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load((CHART / "files/alerts.yaml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def _panels() -> dict[str, str]:
    dashboard = json.loads((CHART / "files/dashboard.json").read_text())
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }


EXPRESSIONS = {name: rule["expr"] for name, rule in _alerts().items()} | _panels()


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_an_expression_asks_for_metrics_and_labels_that_there_are(expression: str) -> None:
    expression = expression.replace("$__rate_interval", "5m")
    exposed = _exposed()

    promql_parser.parse(expression)  # raises where PromQL would

    selectors = re.findall(r"([a-z_]+)(?:\{([^}]*)\})?(?=\[|\)| ==| >|$|\})", expression)
    asked = {name: set(re.findall(r"(\w+)\s*[=!]~?", labels)) for name, labels in selectors if name in exposed}
    named = set(re.findall(r"kappawatt_\w+", expression))
    assert named <= exposed.keys()
    assert named == asked.keys() or expression.startswith("up{")
    for name, labels in asked.items():
        assert labels <= exposed[name] | FROM_PROMETHEUS, name
    known = set().union(*(exposed[name] for name in named)) | FROM_PROMETHEUS
    for labels in re.findall(r"by \(([^)]*)\)", expression):
        assert {label.strip() for label in labels.split(",")} <= known


def test_every_alert_says_what_is_wrong_and_operations_says_what_to_do() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    for name, rule in _alerts().items():
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert f"`{name}`" in page


def test_the_rules_reach_the_cluster_with_the_release_in_them() -> None:
    documents = rendered(apis=EVERY_API)

    rules = of_kind(documents, "PrometheusRule")["kw"]["spec"]
    assert rules["groups"][0]["rules"][0]["expr"] == 'up{namespace="energy",job=~"kw-.+"} == 0'
    assert {"kw-plant-power", "kw-gateway"} <= of_kind(documents, "ServiceMonitor").keys()
    assert json.loads(of_kind(documents, "ConfigMap")["kw-dashboard"]["data"]["kw.json"])["uid"] == "kw"


def test_the_service_that_alerts_and_panels_name_is_the_one_that_counted() -> None:
    """Else the operator's label of that name, the Kubernetes Service's, takes its place."""
    for monitor in of_kind(rendered(apis=EVERY_API), "ServiceMonitor").values():
        assert [endpoint["honorLabels"] for endpoint in monitor["spec"]["endpoints"]] == [True]


def test_where_there_is_no_prometheus_operator_nothing_asks_for_one() -> None:
    kinds = {document["kind"] for document in rendered()}

    assert not kinds & {"ServiceMonitor", "PrometheusRule"}


def _rules(release: str = RELEASE) -> dict[str, dict[str, Any]]:
    """Return the alerts by name, as they reach the cluster."""
    groups = of_kind(rendered(apis=EVERY_API, release=release), "PrometheusRule")[release]["spec"]["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def _sample(name: str, value: float, service: str = "plant-power", **labels: str) -> Sample:
    own = {"namespace": NAMESPACE, "job": f"{RELEASE}-{service}", "service": service, "pod": "a"}
    return Sample(f"kappawatt_{name}", value, own | labels)


@pytest.mark.parametrize(
    ("answered", "fires"),
    [
        pytest.param([], True, id="nothing was ever answered, so nothing was counted"),
        pytest.param([_sample("rows_total", 0, door="bus")], True, id="nothing is answered any more"),
        pytest.param([_sample("rows_total", 3, door="http")], True, id="only requests are answered"),
        pytest.param([_sample("rows_total", 3, "hourly-load", door="bus")], True, id="another service answers"),
        pytest.param([_sample("rows_total", 3, door="bus")], False, id="something is answered"),
    ],
)
def test_messages_that_wait_while_none_is_answered_are_an_alert(answered: list[Sample], fires: bool) -> None:
    waiting = [_sample("consumer_lag", 5, topic="plant.readings", partition=str(n)) for n in range(2)]

    found = answer(_rules()["KappawattAnswersNothing"]["expr"], [*waiting, *answered])

    assert [each.value for each in found] == ([10] if fires else [])


@pytest.mark.parametrize(
    ("requests", "fires"),
    [
        pytest.param({("/readyz", "503"): 1.0, ("/predict", "200"): 1.0}, False, id="a probe that says no"),
        pytest.param({("/readyz", "200"): 99, ("/predict", "500"): 1, ("/predict", "200"): 19}, True, id="one of 20"),
        pytest.param({("/metrics", "200"): 1.0, ("/predict", "200"): 1.0}, False, id="all is well"),
    ],
)  # fmt: skip
def test_probes_neither_are_failed_requests_nor_hide_them(requests: dict[tuple[str, str], float], fires: bool) -> None:
    samples = [
        _sample("requests_total", rate, route=route, status=status) for (route, status), rate in requests.items()
    ]

    assert bool(answer(_rules()["KappawattServerErrors"]["expr"], samples)) == fires


def test_panels_of_requests_leave_probes_out() -> None:
    panels = {name: expression for name, expression in _panels().items() if "kappawatt_requests_total" in expression}

    assert panels
    for name, expression in panels.items():
        probes = [
            Sample("kappawatt_requests_total", 1, {"namespace": "$namespace", "status": "503", "route": route})
            for route in ("/healthz", "/readyz", "/metrics")
        ]
        assert answer(expression.replace("$__rate_interval", "5m"), probes) == [], name


def test_a_stuck_worker_is_said_before_liveness_takes_its_metrics_away() -> None:
    rule = _rules()["KappawattWorkerStuck"]
    probe = of_kind(rendered(), "Deployment")[f"{RELEASE}-plant-power-consume"]["spec"]["template"]["spec"][
        "containers"
    ]
    liveness = probe[0]["livenessProbe"]
    killed = Settings().poll_age_limit + liveness["periodSeconds"] * liveness["failureThreshold"]
    threshold, held = float(rule["expr"].rpartition("> ")[2]), float(rule["for"].removesuffix("s"))

    assert answer(rule["expr"], [_sample("poll_age_seconds", threshold + 1)])
    assert threshold + held + 15 + 30 < killed  # the scrape's and the evaluation's interval


def test_a_rule_is_of_one_release_in_one_namespace() -> None:
    for name, rule in _rules("kube").items():
        for selector in selectors(rule["expr"]):
            matchers = {(each.name, each.value) for each in selector.matchers.matchers}
            assert {("namespace", NAMESPACE), ("job", "kube-.+")} <= matchers, name


def test_a_release_is_not_told_of_another_programs_target() -> None:
    of_others = Sample("up", 0, {"namespace": "monitoring", "job": "kube-state-metrics", "pod": "a"})
    own = Sample("up", 0, {"namespace": NAMESPACE, "job": "kube-gateway", "pod": "b"})

    assert answer(_rules("kube")["KappawattTargetDown"]["expr"], [of_others, own]) == [own]


def test_two_releases_have_two_dashboards() -> None:
    found = {
        release: of_kind(rendered(release=release), "ConfigMap")[f"{release}-dashboard"]["data"]
        for release in ("kappawatt", "second")
    }

    for release, files in found.items():
        (name,) = files
        dashboard = json.loads(files[name])
        assert (name, dashboard["uid"], dashboard["title"]) == (f"{release}.json", release, release)
        assert dashboard["panels"] == json.loads((CHART / "files/dashboard.json").read_text())["panels"]
