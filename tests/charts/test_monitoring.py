"""Alerts and dashboard ask for metrics that services have, under labels they have."""

from __future__ import annotations

import json
import re
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from kappawatt.telemetry import Telemetry
from tests.charts.rendering import CHART, EVERY_API, ROOT, of_kind, rendered

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
    assert rules["groups"][0]["rules"][0]["expr"] == 'up{job=~"kw-.+"} == 0'
    assert {"kw-plant-power", "kw-gateway"} <= of_kind(documents, "ServiceMonitor").keys()
    assert json.loads(of_kind(documents, "ConfigMap")["kw-dashboard"]["data"]["kappawatt.json"])["uid"] == "kappawatt"


def test_where_there_is_no_prometheus_operator_nothing_asks_for_one() -> None:
    kinds = {document["kind"] for document in rendered()}

    assert not kinds & {"ServiceMonitor", "PrometheusRule"}
