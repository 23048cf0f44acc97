"""The bill of materials of every image: valid, whole, and the same for the same image."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.docker import run_docker
from tests.images.engine import HARDENED, run_python
from tools.images import image_names, tag_of
from tools.sbom import bill

INSTALLED = """
import json
from importlib import metadata
def normal(name):
    return name.lower().replace("_", "-").replace(".", "-")
print(json.dumps({normal(each.name): each.version for each in metadata.distributions()}))
"""


@pytest.fixture(scope="module", params=image_names())
def image(request: pytest.FixtureRequest) -> tuple[str, str, dict[str, Any]]:
    text = bill(tag_of(request.param))
    return tag_of(request.param), text, json.loads(text)


def names(bill: dict[str, Any], kind: str) -> dict[str, str]:
    of_kind = [part for part in bill["components"] if part["purl"].startswith(f"pkg:{kind}/")]
    return {unquote(part["purl"].split("/")[-1].split("@")[0]): part["version"] for part in of_kind}


def test_it_is_valid_cyclonedx_and_of_this_image(image: tuple[str, str, dict[str, Any]]) -> None:
    tag, text, bill = image

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert bill["metadata"]["component"]["type"] == "container"
    assert f"{bill['metadata']['component']['name']}:{bill['metadata']['component']['version']}" == tag


def test_it_names_what_python_and_dpkg_find_in_the_image(image: tuple[str, str, dict[str, Any]]) -> None:
    tag, _, bill = image
    listed = run_docker(
        *("run", "--rm", *HARDENED, "--entrypoint", "dpkg-query", tag, "--show"),
        *("--showformat", "${db:Status-Status} ${Package} ${Version}\\n"),
    ).stdout
    debian = dict(line.split(" ")[1:] for line in listed.splitlines() if line.startswith("installed "))

    assert names(bill, "pypi") == run_python(tag, INSTALLED)
    assert names(bill, "deb") == debian
    assert len(debian) > 50
    assert names(bill, "generic").keys() == {"python"}


def test_what_depends_on_what_is_in_it(image: tuple[str, str, dict[str, Any]]) -> None:
    bill = image[2]
    graph = {entry["ref"]: set(entry.get("dependsOn", [])) for entry in bill["dependencies"]}

    assert {"python:flask", "python:numpy"} <= graph["python:kappawatt"]
    assert "python:werkzeug" in graph["python:flask"]
    assert {part["bom-ref"] for part in bill["components"]} <= graph.keys()


def test_it_is_the_same_text_again(image: tuple[str, str, dict[str, Any]]) -> None:
    assert bill(image[0]) == image[1]
