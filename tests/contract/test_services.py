"""What holds for every service found in `services/`; a new one adds no test here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from openapi_spec_validator import validate

from kappawatt.serving.app import create_app
from kappawatt.serving.service import Service, find_service, service_names
from kappawatt.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=service_names())
def service(request: pytest.FixtureRequest) -> Service:
    return find_service(request.param)


@pytest.fixture
def app(service: Service, tmp_path: Path, bus: Any) -> Flask:
    """The real app over the embedded bus, with the shipped model."""
    return create_app(service, Settings.read({}, bus=f"embedded:{tmp_path}/bus.sqlite"))


def test_probes_and_metrics_answer(app: Flask, service: Service) -> None:
    client = app.test_client()

    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code in (200, 503)
    metrics = client.get("/metrics").text
    assert f'kappawatt_requests_total{{method="GET",route="/healthz",service="{service.name}",status="200"}}' in metrics


def test_the_openapi_document_is_valid_and_names_every_route(app: Flask) -> None:
    document = app.test_client().get("/openapi.json").json

    validate(document)
    described = set(document["paths"])
    hidden = ("/static", "/api/{name}")
    for rule in app.url_map.iter_rules():
        path = rule.rule.replace("<", "{").replace(">", "}").replace("path:", "")
        if not path.startswith(hidden) and rule.rule not in ("/", "/favicon.ico"):
            assert path in described, path


def test_the_documentation_page_shows_every_path_and_loads_nothing_from_elsewhere(app: Flask) -> None:
    client = app.test_client()
    page = client.get("/docs").text

    for path in client.get("/openapi.json").json["paths"]:
        assert path in page
    assert "<script" not in page
    assert "http://" not in page.replace("http://127.0.0.1", "")


def test_an_unknown_path_is_a_problem_document(app: Flask) -> None:
    response = app.test_client().get("/there-is-no-such-thing")

    assert response.status_code == 404
    assert response.content_type == "application/problem+json"


def test_a_wrong_method_is_a_problem_document_that_names_the_right_ones(app: Flask) -> None:
    response = app.test_client().delete("/healthz")

    assert response.status_code == 405
    assert "GET" in response.headers["Allow"]


def test_every_service_has_a_card(service: Service) -> None:
    card = (service.folder / "README.md").read_text()

    assert service.name in card
    assert len(card.splitlines()) > 10


def test_ports_are_all_different() -> None:
    ports = [find_service(name).port for name in service_names()]

    assert len(set(ports)) == len(ports)


def test_a_service_is_found_without_its_own_packages() -> None:
    """Whoever builds images or pages asks for every record, in an environment that has no service's extra."""
    blocked = ("limits", "kubernetes", "urllib3", "duckdb", "psycopg", "xgboost", "holidays", "sklearn", "tensorflow")
    program = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({blocked!r}))\n"
        "from kappawatt.serving.service import find_service, service_names\n"
        "print(*[find_service(name).name for name in service_names()])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.stdout.split() == service_names(), done.stderr
