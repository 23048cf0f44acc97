"""Keys, roles, rate limits, and what guards a gateway without keys."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response

from kappawatt.errors import SettingInvalid
from kappawatt.services.gateway.access import Role, is_loopback, read_access, read_keys, role_for
from kappawatt.services.gateway.proxy.forward import asks_only
from kappawatt.settings import Settings
from tests.conftest import set_clock

Gateways = Callable[..., Flask]


def line(role: str, key: str) -> str:
    return f"{role}:{hashlib.sha256(key.encode()).hexdigest()}:{role} of {key}"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    lines = [
        "# who may do what",
        "",
        line("reader", "r-key"),
        line("writer", "w-key"),
        line("admin", "a-key"),
    ]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def client(open_gateway: Gateways, serve: Any, keys: Path) -> Any:
    service = Flask("any")
    service.route("/<path:path>", methods=["GET", "POST", "PUT", "DELETE"])(lambda path: Response("{}"))
    app = open_gateway(api_keys=keys, services=f"plant-power={serve(service)}", rate_limit="1000/second")
    return app.test_client()


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("GET", "/api/summary", "reader"),
        ("GET", "/api/plant-power/params", "reader"),
        ("GET", "/openapi.json", "reader"),
        ("POST", "/api/plant-power/predict", "reader"),
        ("POST", "/api/plant-power/v2/models/plant-power/infer", "reader"),
        ("POST", "/api/plant-power/invocations", "reader"),
        ("POST", "/api/plant-power/forecast", "reader"),
        ("GET", "/api/forecasts", "reader"),
        ("POST", "/api/plant-power/load/PJME", "writer"),
        ("POST", "/api/plant-power/meters/10443720000000001", "writer"),
        ("POST", "/api/plant-power/meters", "writer"),
        ("POST", "/api/plant-power/readings/plant-1", "writer"),
        ("POST", "/api/plant-power/other", "admin"),
        ("PUT", "/api/plant-power/readings/plant-1", "admin"),
        ("POST", "/api/plant-power/readings", "admin"),
        ("DELETE", "/api/plant-power/models/a", "admin"),
    ],
)
def test_each_role_may_do_what_it_needs_and_no_more(client: Any, method: str, path: str, needed: str) -> None:
    for key, role in (("r-key", Role.READER), ("w-key", Role.WRITER), ("a-key", Role.ADMIN)):
        answer = client.open(path, method=method, headers={"Authorization": f"Bearer {key}"})

        assert answer.status_code == (200 if role >= Role[needed.upper()] else 403)


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"X-API-Key": "wrong"}, {"Authorization": "Basic cg=="}],
)
def test_without_a_known_key_is_401(client: Any, headers: dict[str, str]) -> None:
    answer = client.get("/api/summary", headers=headers)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.content_type == "application/problem+json"


def test_both_headers_are_read(client: Any) -> None:
    assert client.get("/api/summary", headers={"X-API-Key": "r-key"}).status_code == 200
    assert client.get("/api/summary", headers={"Authorization": "bearer r-key"}).status_code == 200


def test_a_key_in_the_address_is_not_read(client: Any) -> None:
    assert client.get("/api/summary?api_key=r-key").status_code == 401


@pytest.mark.parametrize("path", ["/", "/static/dashboard.js", "/healthz", "/readyz", "/metrics", "/api/session"])
def test_pages_and_probes_stay_open(client: Any, path: str) -> None:
    assert client.get(path).status_code == 200


def test_signing_in_sets_a_cookie_that_scripts_and_other_sites_cannot_use(client: Any) -> None:
    answer = client.post("/api/session", json={"key": "r-key"})

    assert answer.get_json() == {"name": "reader of r-key", "role": "reader"}
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(answer.headers["Set-Cookie"].split("; "))
    assert client.get("/api/summary").status_code == 200
    assert client.get("/api/session").get_json()["signed_in"]["role"] == "reader"


def test_cookie_is_secure_behind_tls(client: Any) -> None:
    answer = client.post("/api/session", json={"key": "r-key"}, headers={"X-Forwarded-Proto": "https"})

    assert "Secure" in answer.headers["Set-Cookie"].split("; ")


def test_signing_out_ends_it(client: Any) -> None:
    client.post("/api/session", json={"key": "r-key"})

    assert client.delete("/api/session").status_code == 204
    assert client.get("/api/summary").status_code == 401


@pytest.mark.parametrize(("body", "status"), [({"key": "no"}, 401), ({"key": 1}, 400), ([], 400), ({"key": "ü"}, 400)])
def test_signing_in_with_anything_else_is_refused(client: Any, body: Any, status: int) -> None:
    assert client.post("/api/session", json=body).status_code == status


def test_page_of_another_origin_cannot_write(client: Any) -> None:
    headers = {"X-API-Key": "a-key", "Origin": "https://evil.example"}

    assert client.post("/api/plant-power/readings", headers=headers).status_code == 403
    headers["Origin"] = "http://localhost"
    assert client.post("/api/plant-power/readings", headers=headers).status_code == 200


def test_more_requests_than_the_limit_are_429_with_retry_after(open_gateway: Gateways, keys: Path) -> None:
    client = open_gateway(api_keys=keys, rate_limit="3/minute").test_client()
    mine, other = {"X-API-Key": "r-key"}, {"X-API-Key": "w-key"}

    statuses = [client.get("/api/summary", headers=mine).status_code for _ in range(4)]
    answer = client.get("/api/summary", headers=mine)

    assert statuses == [200, 200, 200, 429]
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert client.get("/api/summary", headers=other).status_code == 200
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("by", [-3600, 3600])
def test_a_clock_that_is_set_locks_nobody_out(
    open_gateway: Gateways, keys: Path, monkeypatch: pytest.MonkeyPatch, by: float
) -> None:
    client = open_gateway(api_keys=keys, rate_limit="3/minute").test_client()
    mine = {"X-API-Key": "r-key"}
    assert [client.get("/api/summary", headers=mine).status_code for _ in range(4)] == [200, 200, 200, 429]

    set_clock(monkeypatch, by)

    assert [client.get("/api/summary", headers=mine).status_code for _ in range(4)] == [200, 200, 200, 429]
    assert 1 <= int(client.get("/api/summary", headers=mine).headers["Retry-After"]) <= 60


def test_guessing_keys_is_limited_by_address(open_gateway: Gateways, keys: Path) -> None:
    client = open_gateway(api_keys=keys, rate_limit="3/minute").test_client()

    statuses = [client.get("/api/summary", headers={"X-API-Key": f"guess {i}"}).status_code for i in range(4)]

    assert statuses == [401, 401, 401, 429]


def test_without_keys_localhost_is_open_and_unlimited(open_gateway: Gateways) -> None:
    client = open_gateway(rate_limit="1/minute").test_client()

    assert [client.get("/api/summary").status_code for _ in range(3)] == [200, 200, 200]


def test_without_keys_another_name_for_localhost_is_refused(open_gateway: Gateways) -> None:
    client = open_gateway().test_client()

    assert client.get("/api/summary", headers={"Host": "evil.example:8000"}).status_code == 403
    assert client.get("/healthz", headers={"Host": "10.1.2.3:8000"}).status_code == 200
    assert client.get("/api/summary", headers={"Host": "[::1]:8000"}).status_code == 200


def test_beyond_localhost_the_gateway_does_not_start_without_keys(open_gateway: Gateways) -> None:
    with pytest.raises(SettingInvalid, match=r"KAPPAWATT_API_KEYS.*sha256"):
        open_gateway(host="0.0.0.0")


def test_open_access_lets_everybody_in_by_any_name(open_gateway: Gateways, serve: Any) -> None:
    service = Flask("any")
    service.post("/<path:path>")(lambda path: Response("{}"))
    client = open_gateway(host="0.0.0.0", open_access=True, services=f"plant-power={serve(service)}").test_client()

    for name in ("10.1.2.3:30080", "gateway.kappawatt.svc", "power.example.org"):
        assert client.get("/api/summary", headers={"Host": name}).status_code == 200
        assert client.post("/api/plant-power/readings/plant-1", headers={"Host": name}).status_code == 200


def test_open_access_still_refuses_writes_by_pages_of_others(open_gateway: Gateways) -> None:
    client = open_gateway(host="0.0.0.0", open_access=True).test_client()
    sent = {"Host": "power.example.org", "Origin": "https://evil.example"}

    assert client.post("/api/plant-power/readings/plant-1", headers=sent).status_code == 403


def test_open_access_beside_keys_asks_for_keys(open_gateway: Gateways, keys: Path) -> None:
    client = open_gateway(host="0.0.0.0", open_access=True, api_keys=keys).test_client()

    assert client.get("/api/summary").status_code == 401


@pytest.mark.parametrize("text", ["maybe", "2"])
def test_open_access_is_true_or_false(text: str) -> None:
    with pytest.raises(SettingInvalid, match=r"KAPPAWATT_OPEN_ACCESS: got .* allowed true or false"):
        Settings.read({"KAPPAWATT_OPEN_ACCESS": text})


def test_rate_limit_that_cannot_be_read_stops_the_start() -> None:
    with pytest.raises(SettingInvalid, match="KAPPAWATT_RATE_LIMIT"):
        read_access(Settings(rate_limit="many"))


@pytest.mark.parametrize(
    "text",
    ["", "# nothing\n", "reader:abc:me", "owner:" + "a" * 64 + ":me", "reader:" + "a" * 64],
)
def test_key_file_that_cannot_be_read_stops_the_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)

    with pytest.raises(SettingInvalid, match="KAPPAWATT_API_KEYS"):
        read_keys(path)


@pytest.mark.parametrize(
    ("host", "answer"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("10.0.0.1", False), ("example.org", False)],
)  # fmt: skip
def test_loopback_is_told_from_the_rest(host: str, answer: bool) -> None:
    assert is_loopback(host) is answer


def test_unknown_methods_need_the_highest_role() -> None:
    assert role_for("PATCH", "/api/plant-power/predict") is Role.ADMIN


@pytest.mark.parametrize(
    "path",
    ["readings/predict", "load/forecast", "meters/invocations", "readings/infer", "load", "meters"],
)
def test_a_door_is_a_writers_whatever_a_plant_or_zone_is_called(path: str) -> None:
    assert role_for("POST", f"/api/sensor-ingestor/{path}") is Role.WRITER
    assert not asks_only(f"/{path}")


@pytest.mark.parametrize(
    "path", ["predict", "forecast", "invocations", "v2/models/m/infer", "v2/models/m/versions/1/infer"]
)
def test_a_question_is_a_readers(path: str) -> None:
    assert role_for("POST", f"/api/plant-power/{path}") is Role.READER
    assert asks_only(f"/{path}")
