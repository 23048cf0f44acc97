"""What services say of their routes: how a path is matched, and for how long an answer counts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from kappawatt.services.gateway.proxy.descriptions import UNDESCRIBED, Description, Descriptions, Route
from kappawatt.services.gateway.proxy.forward import ServiceUnreachable, parse_services
from kappawatt.serving.openapi import Right
from tests.conftest import wait_until

TARGET = parse_services("any=http://127.0.0.1:1")["any"]
READ, WRITE = Route(Right.READ, True), Route(Right.WRITE, False)


def item(route: Route, method: str = "post", **more: Any) -> dict[str, Any]:
    return {method: {"x-kappawatt-access": route.access, "x-kappawatt-repeatable": route.repeatable, **more}}


def documented(route: Route = READ) -> dict[str, Any]:
    return {"paths": {"/predict": item(route)}}


class Service:
    """Answers /openapi.json with what `said` is: a document, or an error."""

    def __init__(self, said: Any) -> None:
        self.said = said
        self.asked = 0

    def fetch(self, target: Any, path: str, seconds: float) -> tuple[int, bytes]:
        self.asked += 1
        if isinstance(self.said, Exception):
            raise self.said
        return (200, orjson.dumps(self.said)) if not isinstance(self.said, int) else (self.said, b"")


@pytest.fixture
def known() -> Callable[[Service], Descriptions]:
    return lambda service: Descriptions(lambda: {"any": TARGET}, service.fetch)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/predict", READ),
        ("/readings/predict", WRITE),
        ("/readings/a b%2F\n;", WRITE),
        ("/predict/", UNDESCRIBED),
        ("//predict", UNDESCRIBED),
        ("/PREDICT", UNDESCRIBED),
        ("/predict\n", UNDESCRIBED),
        ("/predict;x", UNDESCRIBED),
        ("/predict?x", UNDESCRIBED),
        ("/readings/a/b", UNDESCRIBED),
        ("/readings/", UNDESCRIBED),
        ("/readings", UNDESCRIBED),
        ("/files/a/b.c", WRITE),
        ("/files//a", UNDESCRIBED),
        ("/filesXa", UNDESCRIBED),
        ("/a.b", READ),
        ("/aXb", UNDESCRIBED),
    ],
)
def test_a_path_fits_a_template_as_the_service_would_match_it(path: str, expected: Route) -> None:
    wide = [{"name": "path", "in": "path", "x-kappawatt-slashes": True}]
    description = Description(
        {
            "paths": {
                "/predict": item(READ),
                "/readings/{key}": item(WRITE),
                "/files/{path}": item(WRITE, parameters=wide),
                "/a.b": item(READ),
            }
        }
    )

    assert description.route("POST", path) == expected
    assert description.route("PUT", path) == UNDESCRIBED


def test_of_two_templates_that_fit_the_stricter_counts() -> None:
    description = Description({"paths": {"/jobs/preview": item(READ), "/jobs/{id}": item(WRITE)}})

    assert description.route("POST", "/jobs/preview") == WRITE
    assert description.route("POST", "/jobs/1") == WRITE


SHARED = {  # what is repeated is two places of one text
    "/{a}-{b}-{c}": ("/1-2-3", "/1-2-3-4", "/----x", "/1--2-3-"),
    "/{a}{b}": ("/12", "/123"),
    "/v{a}.{b}/x/{c}": ("/v1.2/x/y", "/v..../x/y"),
    "/{wide}/x/{wide2}": ("/a/x/b", "/a/b/x/x/c", "/x/x/x/x"),
    "/{wide}-{b}": ("/a/b-c", "/a/-b", "/a/b-/c-d"),
}
NOT_SHARED = {
    "/{a}-{b}-{c}": ("/1-2", "/1-2-", "/-1-2", "/--", "/1-2-3/", "/1-2/3-4", "/1-2-3/4"),
    "/{a}{b}": ("/1", "/", "/1/2"),
    "/v{a}.{b}/x/{c}": ("/v1.2/x/", "/v12/x/y", "/v.2/x/y", "/1.2/x/y", "/v1.2/y/y"),
    "/{wide}/x/{wide2}": ("/x/x", "/a/x/", "/a/y/b", "/a/x//"),
    "/{wide}-{b}": ("/a-b/c", "/-a", "//a-b", "/a-"),
}


def shared(template: str) -> Description:
    wide = [{"name": name, "in": "path", "x-kappawatt-slashes": True} for name in ("wide", "wide2")]
    return Description({"paths": {template: item(READ, parameters=wide)}})


@pytest.mark.parametrize("template", SHARED)
def test_parameters_share_a_segment_in_any_way_that_fits_and_no_other(template: str) -> None:
    description = shared(template)

    assert [path for path in SHARED[template] if description.route("POST", path) != READ] == []
    assert [path for path in NOT_SHARED[template] if description.route("POST", path) != UNDESCRIBED] == []


@pytest.mark.parametrize("template", ["/{a}-{b}-{c}-{d}/x", "/{wide}-{b}-{wide2}-{d}/x", "/{a}{b}{c}{d}/x"])
def test_a_long_path_takes_no_time_however_many_ways_there_are_to_share_it(template: str) -> None:
    description = shared(template)
    began = time.process_time()

    assert description.route("POST", "/" + "-" * 8000 + "/y") == UNDESCRIBED

    assert time.process_time() - began < 1.0


def test_head_is_what_get_is_unless_it_is_described_itself() -> None:
    paths = {"/a": item(READ, "get"), "/b": item(WRITE, "get"), "/c": {**item(READ, "get"), **item(WRITE, "head")}}
    description = Description({"paths": paths})

    assert [description.route("HEAD", path) for path in ("/a", "/b", "/c")] == [READ, WRITE, WRITE]
    assert description.route("OPTIONS", "/a") == UNDESCRIBED


@pytest.mark.parametrize("said", [None, "", "READ", "root", 1, ["read"], {}])
def test_a_right_that_is_none_is_the_administrators(said: Any) -> None:
    document = {"paths": {"/a": {"post": {"x-kappawatt-access": said, "x-kappawatt-repeatable": True}}}}

    assert Description(document).route("POST", "/a") == UNDESCRIBED


@pytest.mark.parametrize("said", [None, 1, "true", "yes", []])
def test_only_true_makes_a_route_repeatable(said: Any) -> None:
    document = {"paths": {"/a": {"post": {"x-kappawatt-access": "read", "x-kappawatt-repeatable": said}}}}

    assert Description(document).route("POST", "/a") == Route(Right.READ, False)


def test_what_is_open_in_a_service_is_a_readers_behind_the_gateway() -> None:
    assert Description({"paths": {"/a": item(Route(Right.OPEN, True))}}).route("POST", "/a") == READ


def test_a_service_is_asked_once_for_many_requests(known: Any) -> None:
    service = Service(documented())
    descriptions = known(service)

    assert {descriptions.route(TARGET, "POST", "/predict") for _ in range(100)} == {READ}
    assert service.asked == 1


def test_a_service_that_is_away_keeps_what_it_said(known: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kappawatt.services.gateway.proxy.descriptions.FRESH_SECONDS", 0.0)
    service = Service(documented())
    descriptions = known(service)
    descriptions.route(TARGET, "POST", "/predict")

    service.said = ServiceUnreachable("any: connection refused")
    descriptions._run()

    assert service.asked == 2
    assert descriptions.route(TARGET, "POST", "/predict") == READ


@pytest.mark.parametrize("said", [404, 500, [], {"paths": []}])
def test_a_service_that_describes_nothing_any_more_is_believed(
    known: Any, monkeypatch: pytest.MonkeyPatch, said: Any
) -> None:
    monkeypatch.setattr("kappawatt.services.gateway.proxy.descriptions.FRESH_SECONDS", 0.0)
    service = Service(documented())
    descriptions = known(service)
    descriptions.route(TARGET, "POST", "/predict")

    service.said = said
    descriptions._run()

    assert descriptions.route(TARGET, "POST", "/predict") == UNDESCRIBED
    assert descriptions.why_unknown(TARGET).startswith("any: ")


def test_a_new_version_of_a_service_is_noticed(known: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kappawatt.services.gateway.proxy.descriptions.FRESH_SECONDS", 0.0)
    monkeypatch.setattr("kappawatt.services.gateway.proxy.descriptions.RETRY_SECONDS", 0.01)
    service = Service(documented())
    descriptions = known(service)
    descriptions.start()
    wait_until(lambda: descriptions.route(TARGET, "POST", "/predict") == READ)

    service.said = documented(WRITE)

    wait_until(lambda: descriptions.route(TARGET, "POST", "/predict") == WRITE)
    descriptions.stop()


def test_a_service_at_another_address_is_another_one(known: Any) -> None:
    service = Service(documented())
    descriptions = known(service)
    descriptions.route(TARGET, "POST", "/predict")
    service.said = ServiceUnreachable("any: connection refused")

    with pytest.raises(ServiceUnreachable):
        descriptions.route(parse_services("any=http://127.0.0.1:2")["any"], "POST", "/predict")
