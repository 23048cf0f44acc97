"""`/api/SERVICE/...` against real HTTP servers."""

from __future__ import annotations

import gzip
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson
import pytest
from flask import Flask, Request, Response, request
from werkzeug.test import create_environ

from kappawatt.errors import PayloadInvalid, SettingInvalid
from kappawatt.messages.tracing import trace_parent
from kappawatt.services.gateway.proxy.breaker import Breaker, CircuitOpen
from kappawatt.services.gateway.proxy.forward import Proxy, Target, _below, _request_headers, parse_services, path_below
from kappawatt.services.gateway.wiring import EXTENSION

Gateways = Callable[..., Flask]


@pytest.fixture
def mirror() -> Flask:
    """A service that answers what it was asked."""
    app = Flask("mirror")

    @app.route("/<path:path>", methods=["GET", "POST", "PUT", "DELETE"])
    def answer(path: str) -> Response:
        document = {
            "method": request.method,
            "path": request.path,
            "query": request.query_string.decode(),
            "body": request.get_data(as_text=True),
            "headers": {name.lower(): value for name, value in request.headers},
        }
        response = app.json.response(document)
        response.headers["X-Own"] = "kept"
        response.headers["Set-Cookie"] = "a=b"
        response.headers["Connection"] = "close, X-Hop"
        response.headers["X-Hop"] = "not kept"
        return response

    return app


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def quick(app: Flask, address: str, read_seconds: float = 20) -> Any:
    """A client of `app` whose proxy tries for 0.3 s, and asks a service what its routes are when it needs to know."""
    app.extensions[EXTENSION].descriptions.stop()
    targets = parse_services(f"plant-power={address}")
    proxy = Proxy(targets, connect_seconds=0.3, read_seconds=read_seconds, refused_seconds=0.3)
    own = app.extensions[EXTENSION].proxy
    own.targets, own._timeout, own._refused_seconds = proxy.targets, proxy._timeout, proxy._refused_seconds
    return app.test_client()


def test_request_reaches_the_service_without_its_prefix(open_gateway: Gateways, serve: Any, mirror: Flask) -> None:
    client = open_gateway(services=f"plant-power={serve(mirror)}").test_client()

    answer = client.post("/api/plant-power/predict?version=a%20b&x=1", data=b"{}", headers={"X-Mine": "1"})

    assert answer.status_code == 200
    seen = answer.get_json()
    assert (seen["method"], seen["path"], seen["body"]) == ("POST", "/predict", "{}")
    assert seen["query"] == "version=a%20b&x=1"
    assert seen["headers"]["x-mine"] == "1"
    assert seen["headers"]["x-forwarded-prefix"] == "/api/plant-power"
    assert answer.headers["X-Own"] == "kept"


@pytest.mark.parametrize(
    ("sent", "seen"),
    [("key=a%20b&x=%", "key=a%20b&x=%25"), ("x=50%&key=a%2Fb", "x=50%25&key=a%2Fb"), ("%zz%41", "%25zz%41")],
)
def test_a_percent_that_encodes_nothing_leaves_the_rest_of_a_query_as_it_is(
    open_gateway: Gateways, serve: Any, mirror: Flask, sent: str, seen: str
) -> None:
    client = open_gateway(services=f"plant-power={serve(mirror)}").test_client()

    assert client.get(f"/api/plant-power/series?{sent}").get_json()["query"] == seen


def test_services_see_neither_credentials_nor_a_forged_host(open_gateway: Gateways, serve: Any, mirror: Flask) -> None:
    address = serve(mirror)
    client = open_gateway(services=f"plant-power={address}").test_client()
    sent = {
        "Authorization": "Bearer secret",
        "X-API-Key": "secret",
        "Cookie": "kappawatt_key=secret",
        "X-Forwarded-For": "8.8.8.8",
        "X-Forwarded-Ssl": "on",
        "X-Forwarded-Protocol": "ssl",
        "Connection": "X-Gone",
        "X-Gone": "1",
    }

    seen = client.get("/api/plant-power/params", headers=sent).get_json()["headers"]

    assert not {"authorization", "x-api-key", "cookie", "x-gone"} & set(seen)
    assert not {"x-forwarded-ssl", "x-forwarded-protocol"} & set(seen)  # beside our X-Forwarded-Proto a contradiction
    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["host"] == address.removeprefix("http://")


def test_hop_by_hop_headers_and_cookies_are_not_returned(open_gateway: Gateways, serve: Any, mirror: Flask) -> None:
    client = open_gateway(services=f"plant-power={serve(mirror)}").test_client()

    answer = client.get("/api/plant-power/params")

    assert "X-Hop" not in answer.headers
    assert "Set-Cookie" not in answer.headers


def test_a_services_own_policy_lets_its_pages_do_no_more_than_the_gateways(open_gateway: Gateways, serve: Any) -> None:
    service = Flask("any")
    policy = {"Content-Security-Policy": "default-src * 'unsafe-inline'"}
    service.get("/page")(lambda: Response("<script>alert(1)</script>", headers=policy))
    client = open_gateway(services=f"any={serve(service)}").test_client()

    answer = client.get("/api/any/page")

    assert answer.status_code == 200
    assert [each.endswith("sandbox") for each in answer.headers.getlist("Content-Security-Policy")] == [True]


def test_request_id_and_trace_are_passed_on_and_back(open_gateway: Gateways, serve: Any, mirror: Flask) -> None:
    client = open_gateway(services=f"plant-power={serve(mirror)}").test_client()
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    given = {"X-Request-Id": "abc-1", "traceparent": parent, "tracestate": "a=1"}

    answer = client.get("/api/plant-power/params", headers=given)

    seen = answer.get_json()["headers"]
    assert (seen["x-request-id"], seen["traceparent"], seen["tracestate"]) == ("abc-1", parent, "a=1")
    assert (answer.headers["X-Request-Id"], answer.headers["traceparent"]) == ("abc-1", parent)


def test_missing_trace_is_made_and_a_broken_one_replaced(open_gateway: Gateways, serve: Any, mirror: Flask) -> None:
    client = open_gateway(services=f"plant-power={serve(mirror)}").test_client()

    answer = client.get("/api/plant-power/params", headers={"traceparent": "broken", "tracestate": "a=1"})

    seen = answer.get_json()["headers"]
    assert trace_parent(seen["traceparent"]) == seen["traceparent"] != "broken"
    assert "tracestate" not in seen
    assert answer.headers["traceparent"] == seen["traceparent"]


@pytest.mark.parametrize("path", ["../x", "a/../../x", "./x", "a//b", "a\\b", "a\x00b"], ids=lambda path: repr(path))
def test_no_path_leaves_the_service(path: str) -> None:
    with pytest.raises(PayloadInvalid):
        path_below(path)


@pytest.mark.parametrize("path", ["%2e%2e/healthz", "..%2fhealthz", "http:%2f%2fevil/"])
def test_encoded_traversal_never_reaches_another_place(
    path: str, open_gateway: Gateways, serve: Any, mirror: Flask
) -> None:
    client = open_gateway(services=f"plant-power={serve(mirror)}").test_client()

    answer = client.get(f"/api/plant-power/{path}")

    assert answer.status_code in (400, 404)


def test_unknown_service_names_those_there_are(open_gateway: Gateways) -> None:
    answer = open_gateway(services="plant-power=http://127.0.0.1:1").test_client().get("/api/other/x")

    assert answer.status_code == 404
    assert "allowed plant-power" in answer.get_json()["detail"]
    assert answer.content_type == "application/problem+json"


def test_wrong_method_on_an_own_route_is_405(open_gateway: Gateways) -> None:
    client = open_gateway().test_client()

    assert client.post("/api/summary").status_code == 405
    answer = client.open("/api/latest/plant-1", method="TRACE")
    assert (answer.status_code, set(answer.headers["Allow"].split(", "))) == (405, {"GET", "HEAD"})


def test_body_above_the_limit_is_413(open_gateway: Gateways, serve: Any, mirror: Flask) -> None:
    client = open_gateway(services=f"plant-power={serve(mirror)}", max_body_bytes=1000).test_client()

    assert client.post("/api/plant-power/predict", data=b"x" * 1001).status_code == 413


def test_large_answer_is_passed_on_whole(open_gateway: Gateways, serve: Any) -> None:
    service = Flask("large")
    content = bytes(range(256)) * 20_000
    service.get("/large")(lambda: Response(content, content_type="application/octet-stream"))
    client = open_gateway(services=f"plant-power={serve(service)}").test_client()

    assert client.get("/api/plant-power/large").data == content


def test_status_and_problem_of_the_service_pass_unchanged(open_gateway: Gateways, serve: Any) -> None:
    service = Flask("refusing")
    problem = b'{"title":"Rows rejected"}'
    service.post("/predict")(lambda: Response(problem, 422, content_type="application/problem+json"))
    client = open_gateway(services=f"plant-power={serve(service)}").test_client()

    answer = client.post("/api/plant-power/predict", data=b"[]")

    assert (answer.status_code, answer.data, answer.content_type) == (
        422,
        problem,
        "application/problem+json",
    )


def test_redirects_are_not_followed_and_stay_below_the_service(open_gateway: Gateways, serve: Any) -> None:
    service = Flask("redirecting")
    service.get("/old")(lambda: Response(status=302, headers={"Location": "/new"}))
    client = open_gateway(services=f"plant-power={serve(service)}").test_client()

    answer = client.get("/api/plant-power/old")

    assert answer.status_code == 302
    assert answer.headers["Location"].endswith("/api/plant-power/new")


@pytest.mark.parametrize(
    ("location", "seen"),
    [
        ("/new?a=b", "/api/any/new?a=b"),
        ("http://any.svc:80/new", "/api/any/new"),
        ("http://any.svc/new", "/api/any/new"),
        ("http://any.svc:801/new", "http://any.svc:801/new"),
        ("http://any.svc.example/new", "http://any.svc.example/new"),
        ("https://any.svc:80/new", "https://any.svc:80/new"),
        ("//other.example/new", "//other.example/new"),
        ("http://any.svc//other.example", "http://any.svc//other.example"),
        ("new", "new"),
    ],
)
def test_a_redirect_within_the_service_stays_there_and_any_other_is_as_it_was(location: str, seen: str) -> None:
    assert _below(location, Target("any", "http", "any.svc", 80, Breaker("any"))) == seen


def test_only_the_port_of_the_scheme_may_be_left_out_of_a_redirect() -> None:
    target = Target("any", "https", "::1", 8443, Breaker("any"))

    assert _below("https://[::1]/new", target) == "https://[::1]/new"
    assert _below("https://[::1]:8443/new", target) == "/api/any/new"
    assert _below("https://[::1]/new", replace(target, port=443)) == "/api/any/new"


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_what_a_service_has_compressed_is_passed_on_as_it_is(open_gateway: Gateways, serve: Any, size: int) -> None:
    service, packed = Flask("packed"), gzip.compress(os.urandom(size))
    service.get("/x")(lambda: Response(packed, headers={"Content-Encoding": "gzip"}))
    client = open_gateway(services=f"any={serve(service)}").test_client()

    answer = client.get("/api/any/x", headers={"Accept-Encoding": "gzip"})

    assert (answer.headers["Content-Encoding"], answer.data) == ("gzip", packed)


def test_what_a_client_has_compressed_is_passed_on_as_it_is(open_gateway: Gateways, serve: Any) -> None:
    """Whether it takes such a body is the service's own business."""
    service, packed = Flask("unpacking"), gzip.compress(b"interval_start,load\n")

    @service.post("/x")
    def answer() -> Response:
        known = request.headers["Content-Encoding"] == "gzip"
        return Response(gzip.decompress(request.get_data()) if known else b"", 200 if known else 415)

    client = open_gateway(services=f"any={serve(service)}").test_client()

    taken = client.post("/api/any/x", data=packed, headers={"Content-Encoding": "gzip"})
    refused = client.post("/api/any/x", data=packed, headers={"Content-Encoding": "zstd"})

    assert (taken.status_code, taken.data) == (200, b"interval_start,load\n")
    assert refused.status_code == 415


def test_a_client_without_a_name_is_named_and_asks_for_nothing_compressed() -> None:
    environ = create_environ("/api/any/x")
    environ.pop("HTTP_USER_AGENT", None)

    headers = _request_headers(Request(environ), "any", "abc-1", "trace")

    assert headers["User-Agent"] == "kappawatt-gateway"
    assert headers["Accept-Encoding"] == "identity"


def test_unreachable_service_is_502(open_gateway: Gateways, closed_port: int) -> None:
    client = quick(open_gateway(), f"http://127.0.0.1:{closed_port}")

    answer = client.get("/api/plant-power/params")

    assert answer.status_code == 502
    assert answer.get_json()["detail"] == "plant-power: connection refused"
    assert str(closed_port) not in answer.text


def test_silent_service_is_504_and_asked_once(open_gateway: Gateways, silent: str) -> None:
    client = quick(open_gateway(), silent, read_seconds=0.3)
    began = time.monotonic()

    answer = client.get("/api/plant-power/params")

    assert answer.status_code == 504
    assert time.monotonic() - began < 0.8


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "params"), ("HEAD", "params"), ("POST", "predict"), ("POST", "v2/models/m/infer"), ("PUT", "settings")],
)
def test_what_changes_nothing_is_asked_again_when_the_connection_breaks(
    open_gateway: Gateways, method: str, path: str
) -> None:
    with BreakingServer(times=2) as server:
        answer = quick(open_gateway(), server.address).open(f"/api/plant-power/{path}", method=method, data=b"{}")

    assert answer.status_code == 200
    assert server.asked == 3


def test_a_request_that_breaks_every_connection_is_given_up(open_gateway: Gateways) -> None:
    with BreakingServer(times=9) as server:
        answer = quick(open_gateway(), server.address).post("/api/plant-power/predict", data=b"{}")

    assert answer.status_code == 502
    assert server.asked == 3


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "1"}], ids=["plain", "with a key"])
@pytest.mark.parametrize("plant", ["plant-1", "predict", "forecast", "infer", "invocations", "v2%2Fmodels%2Fm%2Finfer"])
def test_post_that_may_have_changed_something_is_never_sent_again(
    open_gateway: Gateways, plant: str, headers: dict[str, str]
) -> None:
    with BreakingServer(times=2) as server:
        client = quick(open_gateway(), server.address)
        answer = client.post(f"/api/plant-power/readings/{plant}", data=b"{}", headers=headers)

    assert answer.status_code == 502
    assert server.asked == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "jobs"), ("GET", "jobs"), ("POST", "other/predict"), ("POST", "predict/"), ("GET", "other"),
     ("DELETE", "predict"), ("POST", "v2/models/a%252Fb/c/infer")],
)  # fmt: skip
def test_what_is_not_described_as_repeatable_is_sent_once(open_gateway: Gateways, method: str, path: str) -> None:
    with BreakingServer(times=2) as server:
        answer = quick(open_gateway(), server.address).open(f"/api/plant-power/{path}", method=method, data=b"{}")

    assert answer.status_code == 502
    assert server.asked == 1


@pytest.mark.parametrize("description", [{}, [], {"paths": {"/predict": {"post": {}}}}, {"paths": {"/predict": 1}}])
def test_nothing_is_sent_again_where_nothing_is_described(open_gateway: Gateways, description: Any) -> None:
    with BreakingServer(times=1, description=description) as server:
        answer = quick(open_gateway(), server.address).post("/api/plant-power/predict", data=b"{}")

    assert answer.status_code == 502
    assert server.asked == 1


@pytest.mark.parametrize("path", ["predict", "readings/plant-1"])
def test_any_request_waits_a_moment_for_a_service_that_starts(
    open_gateway: Gateways, closed_port: int, path: str
) -> None:
    client = quick(open_gateway(), f"http://127.0.0.1:{closed_port}")
    server = BreakingServer(times=0, port=closed_port)
    late = threading.Timer(0.05, lambda: server.__enter__())
    late.start()
    try:
        answer = client.post(f"/api/plant-power/{path}", data=b"{}")
    finally:
        late.join()
        server.__exit__()

    assert answer.status_code == 200
    assert server.asked == 1


def test_connections_are_kept_while_they_are_used(open_gateway: Gateways) -> None:
    with ClosingServer(after=60.0) as server:
        client = quick(open_gateway(), server.address)
        statuses = {client.post("/api/plant-power/readings/plant-1", data=b"{}").status_code for _ in range(20)}

    assert statuses == {200}
    assert server.connections == 1


def test_a_connection_the_service_closes_while_it_is_idle_costs_no_request(
    open_gateway: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request is sent in the moment in which the service closes what nobody used for 0.2 s."""
    monkeypatch.setattr("kappawatt.services.gateway.proxy.connections.IDLE_SECONDS", 0.1)
    with ClosingServer(after=0.2) as server:
        client = quick(open_gateway(), server.address)
        statuses = set()
        for i in range(30):
            statuses.add(client.post("/api/plant-power/readings/plant-1", data=b"{}").status_code)
            time.sleep(0.19 + 0.001 * (i % 20))

    assert statuses == {200}
    assert server.connections == 30


def test_services_found_later_stand_beside_those_given_which_win() -> None:
    proxy = Proxy(parse_services("plant-power=http://given:1"))
    found = parse_services("plant-power=http://found:1,smart-meter=http://found:2")

    proxy.found(found.values())
    assert {name: target.host for name, target in proxy.targets.items()} == {
        "plant-power": "given",
        "smart-meter": "found",
    }

    proxy.found([])
    assert set(proxy.targets) == {"plant-power"}


def test_a_found_service_keeps_its_breaker_until_it_moves() -> None:
    proxy = Proxy({})
    proxy.found(parse_services("a=http://x:1,b=http://x:2").values())
    before = dict(proxy.targets)

    proxy.found(parse_services("a=http://x:1,b=http://x:3").values())

    assert proxy.targets["a"].breaker is before["a"].breaker
    assert proxy.targets["b"].breaker is not before["b"].breaker


def test_a_service_found_later_is_forwarded_to_listed_and_documented(
    open_gateway: Gateways, serve: Any, mirror: Flask
) -> None:
    mirror.get("/openapi.json", endpoint="document")(lambda: {"openapi": "3.1.0", "paths": {"/x": {"get": {}}}})
    app = open_gateway()
    client, proxy = app.test_client(), app.extensions[EXTENSION].proxy
    assert client.get("/api/services").get_json()["services"] == []
    assert "/api/mirror/x" not in client.get("/openapi.json").get_json()["paths"]

    proxy.found(parse_services(f"mirror={serve(mirror)}").values())

    assert [row["name"] for row in client.get("/api/services").get_json()["services"]] == ["mirror"]
    assert "/api/mirror/x" in client.get("/openapi.json").get_json()["paths"]
    assert client.get("/api/mirror/params").get_json()["path"] == "/params"

    proxy.found([])

    assert client.get("/api/services").get_json()["services"] == []
    assert client.get("/api/mirror/params").status_code == 404


def test_circuit_opens_after_failures_and_says_when_to_come_back(open_gateway: Gateways, closed_port: int) -> None:
    client = quick(open_gateway(), f"http://127.0.0.1:{closed_port}")

    statuses = [client.post("/api/plant-power/readings").status_code for _ in range(6)]
    answer = client.post("/api/plant-power/readings")

    assert statuses == [502] * 5 + [503]
    assert answer.content_type == "application/problem+json"
    assert 1 <= int(answer.headers["Retry-After"]) <= 10


def test_circuit_lets_one_trial_through_and_closes_on_success() -> None:
    now = [0.0]
    breaker = Breaker("plant-power", failures=2, rest=10.0, clock=lambda: now[0])
    for _ in range(2):
        breaker.enter()
        breaker.failed()
    assert breaker.state == "open"

    now[0] = 11.0
    breaker.enter()
    with pytest.raises(CircuitOpen):
        breaker.enter()
    breaker.succeeded()

    assert breaker.state == "closed"
    breaker.enter()


def test_a_failed_trial_opens_the_circuit_again() -> None:
    now = [0.0]
    breaker = Breaker("plant-power", failures=1, rest=10.0, clock=lambda: now[0])
    breaker.enter()
    breaker.failed()

    now[0] = 11.0
    breaker.enter()
    breaker.failed()

    with pytest.raises(CircuitOpen) as caught:
        breaker.enter()
    assert caught.value.retry_after == pytest.approx(10.0)


def test_slow_calls_to_one_service_run_side_by_side(open_gateway: Gateways, serve: Any) -> None:
    service = Flask("slow")
    together = threading.Barrier(4, timeout=5)
    service.get("/slow")(lambda: str(together.wait()))
    app = open_gateway(services=f"plant-power={serve(service)}")
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(app.test_client().get("/api/plant-power/slow").status_code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert statuses == [200] * 4


@pytest.mark.parametrize(
    "text",
    [
        "plant-power",
        "plant-power=ftp://x",
        "plant-power=http://",
        "plant-power=http://x:99999",
        "plant-power=http://x/path",
        "plant-power=http://x/?query",
        "plant-power=http://x/#fragment",
        "plant-power=http://user@x",
        "plant-power=http://:secret@x",
        "plant-power=http://user:secret@x",
        "Plant=http://x",
        "latest=http://x",
        "a=http://x,a=http://y",
    ],
)
def test_services_that_cannot_be_read_stop_the_start(text: str) -> None:
    with pytest.raises(SettingInvalid, match="KAPPAWATT_SERVICES"):
        parse_services(text)


def test_services_are_read_with_default_ports_and_blanks() -> None:
    found = parse_services(" a=http://x:1 , b=https://[::1]/ , c=http://y,")

    assert found == {
        "a": Target("a", "http", "x", 1, found["a"].breaker),
        "b": Target("b", "https", "::1", 443, found["b"].breaker),
        "c": Target("c", "http", "y", 80, found["c"].breaker),
    }
    assert found["b"].netloc == "[::1]:443"


QUESTION = {"x-kappawatt-access": "read", "x-kappawatt-repeatable": True}
DESCRIPTION = {
    "paths": {
        "/params": {"get": QUESTION},
        "/predict": {"post": QUESTION},
        "/v2/models/{name}/infer": {"post": QUESTION},
        "/readings/{key}": {"post": {"x-kappawatt-access": "write"}},
        "/settings": {"put": {"x-kappawatt-access": "write", "x-kappawatt-repeatable": True}},
        "/jobs": {"get": {"x-kappawatt-access": "read"}, "post": {"x-kappawatt-access": "read"}},
    }
}


class BreakingServer:
    """Breaks the first `times` connections off after the request came, then answers.

    Parameters
    ----------
    description : object
        What it says of its routes, whenever it is asked.
    """

    def __init__(self, times: int, port: int = 0, description: Any = DESCRIPTION) -> None:
        self.asked = 0
        self._document = orjson.dumps(description)
        self._times = times
        self._port = port
        self._socket: socket.socket | None = None

    def __enter__(self) -> BreakingServer:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", self._port))
        self._socket.listen()
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()

    def _serve(self) -> None:
        assert self._socket is not None
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                if connection.recv(65536).startswith(b"GET /openapi.json "):
                    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(self._document)}\r\nConnection: close\r\n\r\n"
                    connection.sendall(head.encode() + self._document)
                    continue
                self.asked += 1
                if self.asked > self._times:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")


class ClosingServer:
    """Answers on kept connections, and closes those on which nothing came for `after` seconds."""

    def __init__(self, after: float) -> None:
        self.connections = 0
        self._after = after

    def __enter__(self) -> ClosingServer:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(self._after)
        with connection, suppress(OSError):
            while data := connection.recv(65536):
                if b"{}" not in data:  # headers and body may come one after the other
                    continue
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
