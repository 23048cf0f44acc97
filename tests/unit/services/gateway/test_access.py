"""Keys, roles, rate limits, and what guards a gateway without keys."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, request

from kappawatt.clock import machine_seconds
from kappawatt.errors import SettingInvalid
from kappawatt.services.gateway.access import is_loopback, read_access, read_keys
from kappawatt.services.gateway.proxy.descriptions import Route
from kappawatt.services.gateway.rights import Rights
from kappawatt.services.gateway.wiring import EXTENSION
from kappawatt.serving.app import create_app
from kappawatt.serving.openapi import Right, operation
from kappawatt.serving.service import Context, Service
from kappawatt.settings import Settings
from tests.conftest import set_clock

Gateways = Callable[..., Flask]


def line(role: str, key: str) -> str:
    return f"{role}:{hashlib.sha256(key.encode()).hexdigest()}:{role} of {key}"


READS = ("predict", "forecast", "invocations", "v2/models/<name>/infer", "v2/models/<name>/versions/<version>/infer")
WRITES = ("readings/<key>", "load/<key>", "load", "meters/<key>", "meters")


def described() -> Flask:
    """A service that says what its routes are, and answers everything else too without saying what it is."""

    def add_routes(app: Flask, context: Context) -> None:
        def answer(**_: str) -> Response:
            return Response("{}")

        for right, paths in ((Right.READ, READS), (Right.WRITE, WRITES)):
            described = operation("Any", tag="any", answers={200: {}}, access=right)(partial(answer))
            for path in paths:
                app.add_url_rule(f"/{path}", path, described, methods=["POST"], provide_automatic_options=False)
        app.get("/params", endpoint="params")(operation("Card", tag="any", answers={200: {}})(partial(answer)))
        app.route("/<path:rest>", methods=["GET", "POST", "PUT", "DELETE"], endpoint="rest")(partial(answer))

    return create_app(Service(name="plant-power", summary="Any.", port=1, routes=add_routes), Settings())


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
    app = open_gateway(api_keys=keys, services=f"plant-power={serve(described())}", rate_limit="1000/second")
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
        ("POST", "/api/plant-power/readings/predict", "writer"),
        ("POST", "/api/plant-power/load/forecast", "writer"),
        ("POST", "/api/plant-power/meters/invocations", "writer"),
        ("POST", "/api/plant-power/readings/infer", "writer"),
        ("POST", "/api/plant-power/other/predict", "admin"),
        ("POST", "/api/plant-power/predict/", "admin"),
        ("POST", "/api/plant-power/Predict", "admin"),
        ("POST", "/api/plant-power/predict;a=1", "admin"),
        ("POST", "/api/plant-power/v2/models/a%2Finfer", "reader"),
        ("POST", "/api/plant-power/v2/models/a%252Finfer", "admin"),
        ("GET", "/api/plant-power/predict", "admin"),
        ("PUT", "/api/plant-power/predict", "admin"),
        ("POST", "/api/plant-power/v2/models/m/versions/1/infer", "reader"),
    ],
)
def test_each_role_may_do_what_it_needs_and_no_more(client: Any, method: str, path: str, needed: str) -> None:
    keys = ["r-key", "w-key", "a-key"]
    answers = [client.open(path, method=method, headers={"Authorization": f"Bearer {key}"}) for key in keys]

    refused = ["reader", "writer", "admin"].index(needed)
    assert [answer.status_code for answer in answers] == [403] * refused + [200] * (3 - refused)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"X-API-Key": "wrong"},
        {"Authorization": "Basic cg=="},
        {"Authorization": "Basic r-key"},
        {"Authorization": "Bearer "},
    ],
)
def test_without_a_known_key_is_401(client: Any, headers: dict[str, str]) -> None:
    answer = client.get("/api/summary", headers=headers)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.content_type == "application/problem+json"


def test_both_headers_are_read(client: Any) -> None:
    assert client.get("/api/summary", headers={"X-API-Key": "r-key"}).status_code == 200
    assert client.get("/api/summary", headers={"Authorization": "bearer r-key"}).status_code == 200
    both = {"Authorization": "Bearer ", "X-API-Key": "r-key"}  # a header without a key in it says nothing
    assert client.get("/api/summary", headers=both).status_code == 200


def test_a_key_in_the_address_is_not_read(client: Any) -> None:
    assert client.get("/api/summary?api_key=r-key").status_code == 401


@pytest.mark.parametrize("path", ["/", "/static/dashboard.js", "/healthz", "/readyz", "/metrics", "/api/session"])
def test_pages_and_probes_stay_open(client: Any, path: str) -> None:
    assert client.get(path).status_code == 200


def test_signing_in_sets_a_cookie_that_scripts_and_other_sites_cannot_use(client: Any) -> None:
    answer = client.post("/api/session", json={"key": "r-key"})

    assert answer.get_json() == {"name": "reader of r-key", "role": "reader"}
    said = set(answer.headers["Set-Cookie"].split("; "))
    assert said >= {"HttpOnly", "SameSite=Strict", "Path=/", f"Max-Age={12 * 3600}"}
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


@pytest.mark.parametrize("by", [-3600, -1.5, 1.5, 3600])
def test_a_clock_that_is_set_locks_nobody_out(
    open_gateway: Gateways, keys: Path, monkeypatch: pytest.MonkeyPatch, by: float
) -> None:
    client = open_gateway(api_keys=keys, rate_limit="3/minute").test_client()
    mine = {"X-API-Key": "r-key"}
    assert [client.get("/api/summary", headers=mine).status_code for _ in range(4)] == [200, 200, 200, 429]

    set_clock(monkeypatch, by)

    assert [client.get("/api/summary", headers=mine).status_code for _ in range(4)] == [200, 200, 200, 429]
    assert 1 <= int(client.get("/api/summary", headers=mine).headers["Retry-After"]) <= 60


def test_time_that_passes_is_no_clock_that_is_set(
    open_gateway: Gateways, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_gateway(api_keys=keys, rate_limit="3/minute").test_client()
    mine = {"X-API-Key": "r-key"}
    assert [client.get("/api/summary", headers=mine).status_code for _ in range(3)] == [200, 200, 200]

    set_clock(monkeypatch, 20.0)
    monkeypatch.setattr("kappawatt.services.gateway.access.machine_seconds", lambda: machine_seconds() + 20.0)
    answer = client.get("/api/summary", headers=mine)

    assert answer.status_code == 429
    assert 35 <= int(answer.headers["Retry-After"]) <= 40


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


def test_a_key_file_that_is_not_there_or_no_text_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"reader:\xff")

    for name in ("missing", "bytes"):
        with pytest.raises(SettingInvalid, match=f"KAPPAWATT_API_KEYS: cannot read '{tmp_path}/{name}'"):
            read_keys(tmp_path / name)


def test_the_line_of_a_key_file_that_is_wrong_is_named(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("\n".join(["# who may do what", line("reader", "r-key"), "reader:abc:me"]))

    with pytest.raises(SettingInvalid, match=r"keys line 3, allowed reader\|writer\|admin:"):
        read_keys(path)


def test_a_key_has_at_most_512_characters(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("\n".join(f"{line('reader', 'k' * length)[:72]}key" for length in (512, 513)))
    access = read_access(Settings(api_keys=path))

    assert [access.find("k" * length) is not None for length in (512, 513)] == [True, False]


@pytest.mark.parametrize(
    ("host", "answer"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("10.0.0.1", False), ("example.org", False)],
)  # fmt: skip
def test_loopback_is_told_from_the_rest(host: str, answer: bool) -> None:
    assert is_loopback(host) is answer


def test_unknown_methods_need_the_highest_role(client: Any) -> None:
    answer = client.patch("/api/plant-power/predict", headers={"X-API-Key": "w-key"})

    assert answer.status_code == 403
    assert "allowed admin" in answer.get_json()["detail"]


def test_a_described_route_with_a_parameter_grants_nothing_at_one_that_is_not_described(
    open_gateway: Gateways, serve: Any, keys: Path
) -> None:
    def add_routes(app: Flask, context: Context) -> None:
        described = operation("Any", tag="any", answers={200: {}}, access=Right.READ, repeatable=True)
        for path in ("/jobs/<name>", "/files/<path:rest>", "/<any(a, b):kind>/end"):
            app.post(path, endpoint=path)(described(lambda **_: Response("described")))
        for path in ("/jobs/purge", "/files/<name>/drop", "/a/<name>", "/<path:rest>"):
            app.post(path, endpoint=path)(lambda **_: Response("not described"))

    service = create_app(Service(name="any", summary="Any.", port=1, routes=add_routes), Settings())
    client = open_gateway(api_keys=keys, services=f"any={serve(service)}").test_client()

    def asked(path: str) -> tuple[int, str]:
        reader, admin = (client.post(f"/api/any{path}", headers={"X-API-Key": key}) for key in ("r-key", "a-key"))
        return reader.status_code, admin.text

    for path in ("/jobs/purge", "/files/a/drop", "/a/b", "/a/end", "/any/thing"):
        assert asked(path) == (403, "not described")
    for path in ("/jobs/a", "/files/a", "/files/a/b/c", "/b/end"):
        assert asked(path) == (200, "described")


def test_who_is_refused_hears_that_a_route_is_not_described_only_if_it_is_not(
    open_gateway: Gateways, serve: Any, keys: Path
) -> None:
    def add_routes(app: Flask, context: Context) -> None:
        described = operation("Purge", tag="any", answers={200: {}}, access=Right.ADMIN)
        app.post("/purge", endpoint="purge")(described(lambda: Response("{}")))

    service = create_app(Service(name="any", summary="Any.", port=1, routes=add_routes), Settings())
    client = open_gateway(api_keys=keys, services=f"any={serve(service)}").test_client()
    details = [client.post(f"/api/any/{path}", headers={"X-API-Key": "r-key"}).get_json()["detail"]
               for path in ("purge", "other")]  # fmt: skip

    assert ["the service does not describe this route" in detail for detail in details] == [False, True]


def test_what_a_request_needs_is_asked_once(open_gateway: Gateways, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_gateway(services="any=http://127.0.0.1:1")
    gateway = app.extensions[EXTENSION]
    said = iter([Route(Right.READ, True), Route(Right.ADMIN, False)])
    monkeypatch.setattr(gateway.descriptions, "route", lambda *_: next(said))
    rights = Rights(app, gateway.proxy, gateway.descriptions)

    with app.test_request_context("/api/any/predict", method="POST") as context:
        assert rights.of(context.request) is rights.of(context.request)


def test_of_two_routes_with_one_template_the_stricter_is_published() -> None:
    def add_routes(app: Flask, context: Context) -> None:
        for access, paths in ((Right.WRITE, ("<int:key>", "<path:other>")), (Right.READ, ("<key>", "<string:other>"))):
            described = operation("Any", tag="any", answers={200: {}}, access=access, repeatable=access is Right.READ)
            for path in paths:
                app.post(f"/rows/{path}", endpoint=path)(described(lambda **_: Response("{}")))

    service = create_app(Service(name="any", summary="Any.", port=1, routes=add_routes), Settings())
    paths = service.test_client().get("/openapi.json").get_json()["paths"]

    for path in ("/rows/{key}", "/rows/{other}"):
        described = paths[path]["post"]
        assert (described["x-kappawatt-access"], described["x-kappawatt-repeatable"]) == ("write", False)
    assert described["parameters"][0]["x-kappawatt-slashes"]


def test_a_service_that_describes_nothing_is_for_administrators(open_gateway: Gateways, serve: Any, keys: Path) -> None:
    service = Flask("any")
    service.route("/<path:path>", methods=["GET", "POST"])(lambda path: Response("{}", 200 if path == "x" else 404))
    client = open_gateway(api_keys=keys, services=f"any={serve(service)}").test_client()

    refused = client.post("/api/any/x", headers={"X-API-Key": "w-key"})

    assert refused.status_code == 403
    assert refused.get_json()["detail"].endswith("(any: got 404 at /openapi.json, allowed an OpenAPI document)")
    assert client.post("/api/any/x", headers={"X-API-Key": "a-key"}).status_code == 200


def test_a_service_that_never_answered_is_said_to_be_away_and_not_forbidden(open_gateway: Gateways, keys: Path) -> None:
    client = open_gateway(api_keys=keys, services="any=http://127.0.0.1:1").test_client()

    answer = client.post("/api/any/predict", headers={"X-API-Key": "r-key"})

    assert (answer.status_code, answer.get_json()["detail"]) == (502, "any: connection refused")
    assert client.post("/api/any/predict").status_code == 401


def test_a_service_learns_no_other_method_than_the_one_that_was_allowed(
    open_gateway: Gateways, serve: Any, keys: Path
) -> None:
    seen: list[set[str]] = []

    def add_routes(app: Flask, context: Context) -> None:
        def ask() -> Response:
            seen.append({name.lower() for name, _ in request.headers})
            return Response("{}")

        described = operation("Ask", tag="any", answers={200: {}}, access=Right.READ)(ask)
        app.add_url_rule("/ask", "ask", described, methods=["POST"])

    service = create_app(Service(name="any", summary="Any.", port=1, routes=add_routes), Settings())
    client = open_gateway(api_keys=keys, services=f"any={serve(service)}").test_client()
    headers = dict.fromkeys(("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"), "DELETE")

    answer = client.post("/api/any/ask", headers={"X-API-Key": "r-key", **headers})

    assert answer.status_code == 200
    assert not seen[0] & {name.lower() for name in headers}


@pytest.mark.parametrize(
    "origin", ["http://[::1", "http://[::1]extra", "null", "//", "", "http://", "[", "http://a@b@", "\xff"]
)
@pytest.mark.parametrize("with_keys", [True, False])
def test_an_origin_that_is_none_is_refused_as_another_pages(
    open_gateway: Gateways, keys: Path, origin: str, with_keys: bool
) -> None:
    client = open_gateway(**({"api_keys": keys} if with_keys else {})).test_client()

    answer = client.post("/api/plant-power/predict", headers={"Origin": origin})

    assert (answer.status_code, answer.content_type) == (403, "application/problem+json")
    assert answer.get_json()["detail"].startswith("Origin: got")


@pytest.mark.parametrize(
    "host", ["[::1", "]", "[", "[::1]a:b", "a:b:c", "::1", "[zz]", "@", "localhost:99999999", "127.0.0.1:x"]
)
def test_a_host_that_is_none_is_refused_or_served_but_never_breaks(open_gateway: Gateways, host: str) -> None:
    answer = open_gateway().test_client().get("/api/summary", headers={"Host": host})

    assert answer.status_code in (200, 400, 403)
    assert answer.status_code == 200 or answer.content_type == "application/problem+json"
