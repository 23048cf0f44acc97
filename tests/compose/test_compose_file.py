"""What docker/compose.yaml says, beside what the project says elsewhere."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from kappawatt import __version__
from kappawatt.broker.jars import KAFKA
from kappawatt.serving.service import find_service, service_names
from tests.compose.stack import DEFAULT, FILE, defaults


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found = yaml.safe_load(FILE.read_text())
    return dict(found["services"])


def default(text: str) -> str:
    """Return a value of the file as it is where nothing is set."""
    return DEFAULT.sub(lambda found: found[2], text)


def test_every_service_is_there_and_every_model_consumes_too(services: dict[str, Any]) -> None:
    streams = [name for name in service_names() if find_service(name).stream is not None]
    assert {*service_names()} <= services.keys()
    assert {f"{name}-consume" for name in streams} <= services.keys()
    for name in streams:
        assert services[f"{name}-consume"]["image"] == services[name]["image"]
        assert services[f"{name}-consume"]["command"] == ["consume"]


def test_images_are_built_for_the_service_they_are_named_after_with_the_projects_version(
    services: dict[str, Any],
) -> None:
    for name in service_names():
        assert default(services[name]["image"]) == f"kappawatt/{name}:{__version__}"
        assert services[name]["build"]["args"]["SERVICE"] == name
        assert default(services[name]["build"]["args"]["VERSION"]) == __version__
    assert services["sink"]["build"]["target"] == "consume"


def test_the_gateway_knows_every_service_behind_it(services: dict[str, Any]) -> None:
    known = dict(entry.split("=") for entry in services["gateway"]["environment"]["KAPPAWATT_SERVICES"].split(","))
    behind = {*service_names()} - {"gateway"}
    assert known == {name: f"http://{name}:8080" for name in behind}


def test_kafka_is_the_version_that_is_tested_here(services: dict[str, Any]) -> None:
    assert default(services["kafka"]["image"]) == f"apache/kafka:{KAFKA}"


def test_the_settings_file_shows_the_defaults(services: dict[str, Any]) -> None:
    shown = dict(re.findall(r"^#?(\w+)=(.*)$", FILE.with_name(".env").read_text(), re.MULTILINE))
    assert shown.pop("COMPOSE_PROJECT_NAME") == "kappawatt"
    assert shown == defaults()


def test_what_is_published_is_published_to_this_machine_only(services: dict[str, Any]) -> None:
    published = {port for service in services.values() for port in service.get("ports", ())}
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
