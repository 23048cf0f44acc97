"""The definitions in marathon/: rendered from the chart's values, valid, and as safe as the chart's pods."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from kappawatt.serving.service import find_service, service_names
from tests.marathon.rules import violations
from tools import render_marathon
from tools.rendered import Rendered

ROOT = Path(__file__).parents[2]
MARATHON = ROOT / "marathon"
FILES = sorted(str(path.relative_to(MARATHON)) for path in MARATHON.rglob("apps/*.json"))
GROUPS = ("group.json", "open/group.json")

App = dict[str, Any]


def read(name: str) -> App:
    found: App = json.loads((MARATHON / name).read_text())
    return found


def test_they_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.render_marathon", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, f"run `make render`\n{done.stderr}"


def test_a_change_of_the_values_makes_them_stale(tmp_path: Path) -> None:
    wanted = render_marathon.files()
    folder = Rendered(tmp_path, ())
    folder.write(wanted)
    assert folder.stale(wanted) == []

    (tmp_path / "apps" / "gateway.json").write_text("{}")
    (tmp_path / "apps" / "gone.json").write_text("{}")
    (tmp_path / "group.json").unlink()

    assert folder.stale(wanted) == ["apps/gateway.json", "apps/gone.json", "group.json"]


@pytest.mark.parametrize("name", FILES)
def test_marathons_own_schema_takes_it(name: str) -> None:
    path = os.environ.get("KAPPAWATT_MARATHON_SCHEMA")
    if not path:
        pytest.skip("KAPPAWATT_MARATHON_SCHEMA does not name Marathon's AppDefinition.json")

    jsonschema.Draft4Validator(json.loads(Path(path).read_text())).validate(read(name))


@pytest.mark.parametrize("name", FILES)
def test_marathons_validator_takes_it(name: str) -> None:
    features = () if name.startswith("open/") else ("secrets",)

    assert violations(read(name), features=features) == []


@pytest.mark.parametrize("folder", ["", "open/"])
def test_every_service_has_a_definition_and_every_stream_a_worker(folder: str) -> None:
    expected = {f"{name}.json" for name in service_names()}
    expected |= {f"{name}-consume.json" for name in service_names() if find_service(name).stream}

    assert {path.name for path in (MARATHON / folder / "apps").iterdir()} == expected


@pytest.mark.parametrize("name", GROUPS)
def test_the_group_holds_the_same_apps_in_an_order_that_can_be_started(name: str) -> None:
    group = read(name)
    apps = {app["id"]: app for app in group["apps"]}

    assert group["id"] == "/kappawatt"
    for path, app in apps.items():
        assert read(f"{Path(name).parent}/apps/{path.removeprefix('/kappawatt/')}.json") == app
        assert set(app.get("dependencies", [])) <= apps.keys()
    assert apps["/kappawatt/gateway"]["dependencies"]
    assert "/kappawatt/mlp-regressor" in apps


@pytest.mark.parametrize("name", FILES)
def test_no_host_port_is_pinned_and_probes_go_where_kubernetes_probes_go(name: str) -> None:
    app = read(name)

    (port,) = app["container"]["portMappings"]
    assert (port["containerPort"], port["hostPort"]) == (8080, 0)
    assert app["networks"] == [{"mode": "container/bridge"}]
    assert [(check["protocol"], check["path"]) for check in app["healthChecks"]] == [("MESOS_HTTP", "/healthz")]
    assert [check["path"] for check in app["readinessChecks"]] == ["/readyz"]
    assert app["taskKillGracePeriodSeconds"] >= 30


@pytest.mark.parametrize("name", FILES)
def test_memory_is_the_charts_limit(name: str) -> None:
    values = yaml.safe_load((ROOT / "charts/kappawatt/values.yaml").read_text())
    defaults = yaml.safe_load((ROOT / "charts/kappawatt/charts/service/values.yaml").read_text())
    app = read(name)
    service = app["env"]["KAPPAWATT_SERVICE"]
    role = "serve" if app["args"] == ["serve"] else "consume"

    own = (values[service].get(role) or {}).get("resources") or defaults[role]["resources"]

    number, unit = own["limits"]["memory"][:-2], own["limits"]["memory"][-2:]
    assert app["mem"] == int(number) * {"Mi": 1, "Gi": 1024}[unit]


@pytest.mark.parametrize("folder", ["", "open/"])
def test_the_gateway_finds_each_service_at_the_vip_that_the_service_has(folder: str) -> None:
    apps = {app["id"]: app for app in read(f"{folder}group.json")["apps"]}
    gateway = apps["/kappawatt/gateway"]

    found = dict(entry.split("=", 1) for entry in gateway["env"]["KAPPAWATT_SERVICES"].split(","))

    assert found.keys() == {Path(path).name for path in gateway["dependencies"]}
    for service, address in found.items():
        vip = apps[f"/kappawatt/{service}"]["container"]["portMappings"][0]["labels"]["VIP_0"]
        name, port = vip.removeprefix("/").split(":")
        assert address == f"http://{name}.marathon.l4lb.thisdcos.directory:{port}"


def test_only_the_gateway_is_behind_the_external_load_balancer() -> None:
    for name in FILES:
        app = read(name)
        group = app.get("labels", {}).get("HAPROXY_GROUP")
        if app["env"]["KAPPAWATT_SERVICE"] == "gateway":
            assert group == "external"
            assert app["env"]["KAPPAWATT_API_KEYS"]
        elif app["args"] == ["consume"] and not find_service(app["env"]["KAPPAWATT_SERVICE"]).is_one_process:
            assert group is None
        else:
            assert group == "internal"


def test_no_password_stands_in_any_file_and_the_open_ones_need_no_secret_store() -> None:
    for name in FILES:
        app = read(name)
        for variable, value in app["env"].items():
            assert "PASSWORD" not in variable or isinstance(value, dict), f"{name}: {variable}"
        if name.startswith("open/"):
            assert "secrets" not in app
        elif "KAPPAWATT_BUS" in app["env"]:
            assert app["env"]["KAPPAWATT_KAFKA_SASL_PASSWORD"] == {"secret": "kafkaPassword"}


def test_dockers_engine_is_told_what_the_chart_tells_kubernetes() -> None:
    for name in FILES:
        container = read(name)["container"]
        if container["type"] == "DOCKER":
            told = {parameter["key"]: parameter["value"] for parameter in container["docker"]["parameters"]}
            assert told == {
                "read-only": "true",
                "tmpfs": "/tmp",
                "cap-drop": "ALL",
                "security-opt": "no-new-privileges",
            }


def test_a_value_that_marathon_cannot_have_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    values = render_marathon.values_of("open")
    values["sink"]["database"] = {"existingSecret": "", "existingClaim": "volume"}
    (sink,) = [role for role in render_marathon.roles_of(values) if role.service == "sink"]

    with pytest.raises(Exception, match=r"sink\.database\.existingClaim: Marathon has no claims"):
        render_marathon.app_of(sink)


def _role(values: dict[str, Any], service: str) -> render_marathon.Role:
    (found,) = [role for role in render_marathon.roles_of(values) if role.service == service]
    return found


def test_a_public_authority_of_kafkas_certificates_is_no_file() -> None:
    own, public = (render_marathon.values_of("secrets") for _ in range(2))
    for service in service_names():
        public[service]["marathon"] = public[service]["marathon"] | {"kafkaAuthority": ""}

    before, after = (render_marathon.app_of(_role(values, "gateway")) for values in (own, public))

    assert before["env"].pop("KAPPAWATT_KAFKA_SSL_CA_LOCATION").endswith("/kafka-ca.pem")
    assert after["env"] == before["env"]
    assert [each["destPath"] for each in before["fetch"]] == ["api-keys", "kafka-ca.pem"]
    assert [each["destPath"] for each in after["fetch"]] == ["api-keys"]


def test_the_page_adds_to_the_gateway_what_is_rendered_for_a_sink_in_the_group() -> None:
    page = (ROOT / "docs/deploy-marathon.md").read_text()
    values = render_marathon.values_of("open")
    alone = render_marathon.app_of(_role(values, "gateway"))
    for service in service_names():
        values[service]["marathon"] = values[service]["marathon"] | {"leftOut": []}

    together = render_marathon.app_of(_role(values, "gateway"))

    added = together["env"]["KAPPAWATT_SERVICES"].removeprefix(alone["env"]["KAPPAWATT_SERVICES"])
    assert added.startswith(",sink=http://")
    assert f'.env.KAPPAWATT_SERVICES += "{added}"' in page
