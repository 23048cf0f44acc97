"""Which version of a model a service serves: pins by settings, kinds, and versions whose packages are not there."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from kappawatt.bus import Bus
from kappawatt.errors import SettingInvalid
from kappawatt.serving.app import create_app
from kappawatt.serving.service import find_service
from kappawatt.settings import Settings
from kappawatt.telemetry import Telemetry

SERVICES = ("plant-power", "hourly-load", "smart-meter")
SETTING = "KAPPAWATT_MODEL_VERSION"


def pinned(text: str, **given: Any) -> Settings:
    return Settings.read({SETTING: text, "KAPPAWATT_FOLLOW_HISTORIES": "false"}, **given)


def kind_served(service: str, text: str) -> str:
    return find_service(service).artifact(pinned(text)).manifest.kind


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("", ("default", "default", "default")),
        ("baseline", ("baseline", "baseline", "baseline")),
        ("hourly-load=baseline", ("default", "baseline", "default")),
        ("plant-power=baseline, hourly-load = baseline", ("baseline", "baseline", "default")),
        ("baseline,smart-meter=default", ("baseline", "baseline", "default")),
        ("plant-power=baseline-2a711ed0", ("baseline", "default", "default")),
    ],
)
def test_a_pin_holds_for_the_services_it_names(text: str, kinds: tuple[str, ...]) -> None:
    assert tuple(kind_served(service, text) for service in SERVICES) == kinds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("none", "KAPPAWATT_MODEL_VERSION (--model): plant-power version: got 'none', allowed baseline-2a711ed0, "),
        ("plant-power=none", "KAPPAWATT_MODEL_VERSION (--model): plant-power version: got 'none', allowed baseline-"),
        ("plantpower=baseline", "KAPPAWATT_MODEL_VERSION (--model): service: got 'plantpower', allowed hourly-load, "),
        (
            "gateway=1",
            "KAPPAWATT_MODEL_VERSION (--model): service: got 'gateway', allowed hourly-load, mlp-regressor, ",
        ),
        ("baseline,sink=x", "KAPPAWATT_MODEL_VERSION (--model): service: got 'sink', allowed hourly-load, "),
        ("plant-power=", "KAPPAWATT_MODEL_VERSION: got 'plant-power=', allowed VERSION, a kind"),
        ("=baseline", "KAPPAWATT_MODEL_VERSION: got '=baseline', allowed VERSION, a kind"),
        ("baseline,,", "KAPPAWATT_MODEL_VERSION: got 'baseline,,', allowed VERSION, a kind"),
        ("a,b", "KAPPAWATT_MODEL_VERSION: got 'a,b', allowed VERSION, a kind"),
        ("plant-power=a,plant-power=b", "KAPPAWATT_MODEL_VERSION: got 'plant-power=a,plant-power=b', allowed VERSION"),
    ],
)
def test_a_wrong_pin_names_the_variable_the_value_and_what_is_allowed(text: str, said: str) -> None:
    with pytest.raises(SettingInvalid) as caught:
        find_service("plant-power").open(pinned(text))

    assert str(caught.value).startswith(said)


def test_a_server_with_a_wrong_pin_is_not_ready_and_says_so() -> None:
    client = create_app(find_service("plant-power"), pinned("plant-power=none")).test_client()

    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert "KAPPAWATT_MODEL_VERSION (--model): plant-power version: got 'none', allowed" in answer.get_json()["detail"]


@pytest.mark.parametrize("service", SERVICES)
def test_every_door_takes_a_kind(service: str) -> None:
    client = create_app(find_service(service), pinned("")).test_client()
    baseline = kind_served(service, "baseline")
    assert baseline == "baseline"

    card = client.get("/params?version=baseline").get_json()

    assert card["kind"] == "baseline"
    assert client.get(f"/v2/models/{service}/versions/baseline/ready").status_code == 200
    again = client.get(f"/params?version={card['version']}").get_json()
    assert again == card


@pytest.fixture
def no_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)


@pytest.mark.usefixtures("no_onnxruntime")
@pytest.mark.parametrize("version", ["baseline", "baseline-aefc9c98"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "/params?version={}"),
        ("post", "/predict?version={}"),
        ("post", "/forecast?version={}"),
        ("get", "/v2/models/smart-meter/versions/{}"),
        ("get", "/v2/models/smart-meter/versions/{}/ready"),
        ("post", "/v2/models/smart-meter/versions/{}/infer"),
    ],
)
def test_a_version_whose_package_is_not_installed_is_501_with_the_extra(method: str, path: str, version: str) -> None:
    client = create_app(find_service("smart-meter"), pinned("")).test_client()

    answer = getattr(client, method)(path.format(version), **({"json": {}} if method == "post" else {}))

    assert answer.status_code == 501
    assert "onnxruntime is not installed: pip install 'kappawatt[onnx]'" in answer.text
    assert client.get("/readyz").status_code == 200


@pytest.mark.usefixtures("no_onnxruntime")
def test_a_pinned_version_whose_package_is_not_installed_is_501_at_every_door_and_not_ready() -> None:
    client = create_app(find_service("smart-meter"), pinned("baseline")).test_client()

    for path in ("/predict", "/forecast", "/invocations", "/v2/models/smart-meter/infer"):
        assert client.post(path, json={}).status_code == 501, path
    assert client.get("/params").status_code == 501
    ready = client.get("/readyz")
    assert ready.status_code == 503
    assert "pip install 'kappawatt[onnx]'" in ready.get_json()["detail"]


@pytest.mark.usefixtures("no_onnxruntime")
def test_the_other_versions_answer_where_the_pinned_one_has_no_package() -> None:
    client = create_app(find_service("smart-meter"), pinned("baseline")).test_client()

    card = client.get("/params?version=default")

    assert (card.status_code, card.get_json()["kind"]) == (200, "default")
    for path in (
        "/params?version={}",
        "/v2/models/smart-meter/versions/{}",
        "/v2/models/smart-meter/versions/{}/ready",
    ):
        assert client.get(path.format(card.get_json()["version"])).status_code == 200, path
        assert client.get(path.format("none")).status_code == 404, path
        assert client.get(path.format("baseline")).status_code == 501, path


def test_a_damaged_version_is_404_without_its_path_and_spoils_no_other(tmp_path: Path) -> None:
    service = find_service("plant-power")
    root = Path(shutil.copytree(service.folder / "artifacts", tmp_path / "artifacts"))
    shutil.copytree(root / "baseline-2a711ed0", root / "spoilt")
    manifest = json.loads((root / "spoilt" / "manifest.json").read_bytes()) | {"version": "spoilt", "kind": "other"}
    (root / "spoilt" / "manifest.json").write_text(json.dumps(manifest))
    for name in manifest["files"]:
        (root / "spoilt" / name).write_bytes(b"")
    (root / "broken").mkdir()
    (root / "broken" / "manifest.json").write_text("{")
    client = create_app(service, pinned("baseline", artifacts=root)).test_client()

    assert client.get("/readyz").status_code == 200
    assert client.get("/params?version=default").status_code == 200
    for version in ("broken", "spoilt", "none"):
        for path in (f"/params?version={version}", f"/v2/models/plant-power/versions/{version}"):
            answer = client.get(path)
            assert answer.status_code == 404, path
            assert str(tmp_path) not in answer.text
    assert "broken" not in client.get("/v2/models/plant-power").get_json()["versions"]


@pytest.mark.parametrize("package", ["xgboost"])
def test_a_service_without_its_own_packages_names_its_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    client = create_app(find_service("hourly-load"), pinned("")).test_client()

    assert client.get("/params").status_code == 501
    assert f"{package} is not installed: pip install 'kappawatt[hourly-load]'" in client.get("/params").text


def test_a_worker_serves_the_kind_that_is_pinned(bus: Bus, settings: Settings) -> None:
    service = find_service("plant-power")
    wanted = pinned("plant-power=baseline", bus=settings.bus)
    telemetry = Telemetry("plant-power")
    app = create_app(service, wanted, telemetry=telemetry, serves=False)
    assert service.work is not None
    worker = service.work(app, app.extensions["kappawatt"])
    worker.stop()

    worker.run()

    assert 'version="baseline-2a711ed0"' in telemetry.render().decode()
