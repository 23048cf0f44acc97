"""Every route of every service with every role, as the services' own documents list them; nothing here names one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from kappawatt.bus import Bus, connect
from tests.fleet import behind_a_gateway, fleet_settings

ROLES = ("none", "reader", "writer", "admin")
NEEDED = {"open": 0, "read": 1, "write": 2, "admin": 3}
METHODS = ("get", "head", "post", "put", "patch", "delete", "options", "trace")
OVERRIDES = {"X-HTTP-Method-Override": "POST", "X-HTTP-Method": "POST", "X-Method-Override": "POST"}
# Names that look like questions: of a plant, a zone, a meter, a model, a view.
NAMES = ("predict", "forecast", "infer", "invocations", "v2%2Fmodels%2Fm%2Finfer", "plant-1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fleet")


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Iterator[Flask]:
    keys = folder / "keys"
    keys.write_text("\n".join(f"{role}:{hashlib.sha256(role.encode()).hexdigest()}:{role}" for role in ROLES[1:]))
    with behind_a_gateway(fleet_settings(folder), api_keys=keys, rate_limit="1000000/second") as app:
        yield app


@pytest.fixture(scope="module")
def document(gateway: Flask) -> Any:
    found = gateway.test_client().get("/openapi.json", headers={"X-API-Key": "admin"}).get_json()
    assert found["x-unreachable"] == {}
    return found


@pytest.fixture
def bus(folder: Path) -> Iterator[Bus]:
    bus = connect(f"embedded:{folder}/bus.sqlite")
    yield bus
    bus.close()


def ask(gateway: Flask, role: str, method: str, path: str, described: Any = None, **headers: str) -> int:
    """Return the status of one request; the body is the described one's own example."""
    content = (described or {}).get("requestBody", {}).get("content", {})
    example = next(((kind, each["example"]) for kind, each in content.items() if "example" in each), None)
    kind, body = example or ("application/json", {})
    key = {} if role == "none" else {"X-API-Key": role}
    answer = gateway.test_client().open(
        path,
        method=method.upper(),
        data=body if isinstance(body, str) else json.dumps(body),
        headers={"Content-Type": kind, **key, **headers},
    )
    answer.close()  # a stream of events would not end
    return answer.status_code


def written(bus: Bus) -> int:
    """How many messages there are."""
    return sum(offsets.end for topic in bus.topics() for offsets in bus.offsets(topic).values())


def filled(path: str, name: str) -> str:
    parts = [name if part.startswith("{") and part.endswith("}") else part for part in path.split("/")]
    return "/".join(parts)


def routes(document: Any) -> list[tuple[str, str, Any]]:
    return [(path, method, each) for path, item in document["paths"].items() for method, each in item.items()]


def test_every_route_says_who_may_ask_and_whether_to_repeat(document: Any) -> None:
    found = routes(document)

    assert len(found) > 100
    for path, method, described in found:
        assert described["x-kappawatt-access"] in NEEDED, (method, path)
        assert isinstance(described["x-kappawatt-repeatable"], bool), (method, path)
        assert "security" in described or described["x-kappawatt-access"] == "open", (method, path)
        # Nothing of these services is an administrator's: a route that nobody has described would be.
        assert described["x-kappawatt-access"] != "admin", (method, path)


@pytest.mark.parametrize("role", ROLES)
def test_every_role_may_ask_what_its_key_allows_and_no_more(gateway: Flask, document: Any, role: str) -> None:
    wrong = []
    for path, method, described in routes(document):
        needed = NEEDED[described["x-kappawatt-access"]]
        for name in [name for name in NAMES if "%2F" not in name]:
            status = ask(gateway, role, method, filled(path, name), described)
            allowed = ROLES.index(role) >= needed
            expected = "no refusal" if allowed else 401 if role == "none" else 403
            is_right = status not in (401, 403) if allowed else status == expected
            if not is_right and not path.endswith("/session"):  # signing in with a wrong key is 401
                wrong.append((method, filled(path, name), status, expected))
            if "{" not in path:
                break

    assert not wrong


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("role", ["none", "reader"])
def test_no_method_lets_a_reader_write(gateway: Flask, document: Any, bus: Bus, role: str, method: str) -> None:
    before = written(bus)

    for path, _, described in routes(document):
        for name in NAMES if "{" in path else NAMES[:1]:
            ask(gateway, role, method, filled(path, name), described, **OVERRIDES)

    assert written(bus) == before


def tricks(path: str) -> list[str]:
    """Other ways to write a path, and paths that hide one in another."""
    prefix, _, last = path.rpartition("/")
    service = "/".join(path.split("/")[:3])
    below = path.removeprefix(service)
    return [
        path + "/", path + "//", path + "/.", path + "/..", path + "%2F", path + "%2f..", path + ";a=1",
        path + "%3Fa=1", path + "%23", path + "%00", path + "%0A", path + "%20", path + "?_method=GET",
        path + "/predict", path + "/../predict", path + "%2F..%2Fpredict", path + "/%2e%2e/predict",
        path + "/invocations",
        f"{prefix}//{last}", f"{prefix}/./{last}", f"{prefix}%2F{last}", f"{prefix}%252F{last}", f"{prefix}\\{last}",
        f"{service}/predict/..{below}", f"{service}/predict%2F..{below}", f"{service}/predict/%2e%2e{below}",
        f"{service}//{below.lstrip('/')}", f"{service}/{below}", f"/{path}", f"/.{path}", f"/x/..{path}",
        path.upper(), path.title(), path.replace("/api/", "/API/"), path.replace("/api/", "//api/"),
        "".join(f"%{ord(letter):02x}" if letter.isalpha() else letter for letter in path),
        "".join(f"%25{ord(letter):02x}" if letter.isalpha() else letter for letter in path),
        f"http://localhost{path}", f"/api/plant-power{below}", f"/api/plant-power/..{below}",
        f"{path}%2Fv2%2Fmodels%2Fm%2Finfer", f"{path}#/predict", path.replace("a", "%EF%BD%81", 1),
    ]  # fmt: skip


def test_no_way_to_write_a_path_lets_a_reader_write(gateway: Flask, document: Any, bus: Bus) -> None:
    doors = [each for each in routes(document) if each[2]["x-kappawatt-access"] == "write"]
    before = written(bus)

    statuses = set()
    for path, method, described in doors:
        for name in NAMES if "{" in path else NAMES[:1]:
            for trick in tricks(filled(path, name)):
                for headers in ({}, {"X-Forwarded-Prefix": "/"}, {"X-Original-URL": path, "X-Rewrite-URL": path}):
                    statuses.add(ask(gateway, "reader", method, trick, described, **headers))

    assert doors
    assert written(bus) == before
    assert 202 not in statuses
    assert not {status for status in statuses if status >= 500}


def test_the_same_requests_of_a_writer_do_write(gateway: Flask, document: Any, bus: Bus) -> None:
    for path, method, described in routes(document):
        if described["x-kappawatt-access"] != "write":
            continue
        before = written(bus)
        for kind, content in described["requestBody"]["content"].items():
            only = {"requestBody": {"content": {kind: content}}}
            if "example" in content:
                assert ask(gateway, "writer", method, filled(path, NAMES[0]), only) == 202, (path, kind)
                assert written(bus) > before, path


def test_whatever_is_a_question_changes_nothing(gateway: Flask, document: Any, bus: Bus) -> None:
    before = written(bus)

    for path, method, described in routes(document):
        if described["x-kappawatt-access"] != "write":
            ask(gateway, "admin", method, filled(path, "plant-power"), described)

    assert written(bus) == before
