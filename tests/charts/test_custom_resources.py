"""Objects of others' kinds are valid by the definitions their publishers ship (as Go modules)."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.charts.rendering import EVERY_API, rendered

MODULES = {
    "keda.sh": ("github.com/kedacore/keda/v2@v2.17.2", "config/crd/bases"),
    "monitoring.coreos.com": (
        "github.com/prometheus-operator/prometheus-operator@v0.79.2",
        "example/prometheus-operator-crd",
    ),
    "gateway.networking.k8s.io": ("sigs.k8s.io/gateway-api@v1.2.1", "config/crd/standard"),
}
ALL = (
    "kafka.enabled=false",
    "global.kafka.bootstrapServers=a.example:9094",
    "gateway.httpRoute.enabled=true",
    "gateway.httpRoute.parentRefs[0].name=door",
    "global.kafka.securityProtocol=SASL_SSL",
    "global.kafka.saslMechanism=SCRAM-SHA-512",
    "global.kafka.saslUsername=plant",
    "global.kafka.existingSecret=login",
)


class _Loader(yaml.CSafeLoader):
    """YAML 1.1 gives a lone `=` a meaning of its own; definitions mean the text."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)


@cache
def _schemas(group: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return schemas by apiVersion and kind; skip where modules cannot be had."""
    module, folder = MODULES[group]
    if shutil.which("go") is None:
        pytest.skip("go: not on PATH; its module proxy has the definitions")
    asked = subprocess.run(
        ["go", "mod", "download", "-json", module], capture_output=True, text=True, timeout=240, cwd="/"
    )
    if asked.returncode:
        pytest.skip(f"{module}: {asked.stdout}{asked.stderr}"[:300])
    found = {}
    for path in Path(json.loads(asked.stdout)["Dir"], folder).glob("*.yaml"):
        definition = yaml.load(path.read_text(), _Loader)
        if definition.get("kind") == "CustomResourceDefinition":
            kind = definition["spec"]["names"]["kind"]
            for version in definition["spec"]["versions"]:
                found[f"{group}/{version['name']}", kind] = _strict(version["schema"]["openAPIV3Schema"])
    return found


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Refuse what the API server would drop without a word."""
    if not isinstance(schema, dict):
        return schema
    made = {name: _strict(each) if isinstance(each, dict) else each for name, each in schema.items()}
    for name in ("allOf", "anyOf", "oneOf"):
        made.pop(name, None)  # they refine what `properties` has
    if "properties" in schema:
        made["properties"] = {name: _strict(each) for name, each in schema["properties"].items()}
        if "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    return made


@pytest.mark.parametrize("authority", ["", "ca.pem"], ids=["public authority", "own authority"])
@pytest.mark.parametrize("group", MODULES)
def test_an_object_is_valid_by_its_definition(group: str, authority: str) -> None:
    schemas = _schemas(group)
    documents = rendered(*ALL, f"global.kafka.caKey={authority}", apis=EVERY_API)
    objects = [each for each in documents if each["apiVersion"].startswith(group)]

    assert objects
    for each in objects:
        schema = schemas[each["apiVersion"], each["kind"]]
        schema = schema | {"properties": schema["properties"] | {"metadata": {"type": "object"}}}
        jsonschema.Draft202012Validator(schema).validate(each)  # the schema itself has Go's regular expressions
