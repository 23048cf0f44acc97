"""What discovery decides by itself; `tests/integration/test_discovery.py` has the API server."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from kappawatt.errors import SettingInvalid
from kappawatt.settings import Settings
from services.gateway.discovery import LABEL, _context, _target, check_discovery
from services.gateway.proxy import Target


def service(label: str = "plant-power", **spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 8080}]
    return {
        "metadata": {"name": "a", "labels": {LABEL: label}},
        "spec": {"clusterIP": "10.0.0.1", "ports": ports} | spec,
    }


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in a pod nor with a kubeconfig."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("secret")
    monkeypatch.setattr("services.gateway.discovery.ACCOUNT", tmp_path)
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


def test_the_api_servers_certificate_is_verified_as_by_every_python() -> None:
    context = _context(verify=True)

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert _context(verify=False).verify_mode is ssl.CERT_NONE
