"""The locked libraries are those that pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kappawatt.serving.service import find_service
from serverless.build import LOCK, SERVICES

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LEFT_OUT = "gunicorn-h1c"  # a parser for gunicorn, which does not run in a function


def locked() -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==([\w.]+) \\$", LOCK.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


@pytest.mark.parametrize("asked", [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["lambda"]])
def test_every_dependency_is_locked_at_a_version_that_is_asked_for(asked: str) -> None:
    requirement = Requirement(asked)
    name = canonicalize_name(requirement.name)
    if name == LEFT_OUT:
        assert name not in locked()
        return

    assert requirement.specifier.contains(locked()[name]), f"{asked}: lock again, see docs/deploy-lambda.md"


def test_every_version_has_hashes() -> None:
    entries = re.split(r"^(?=[\w.-]+==)", LOCK.read_text(), flags=re.MULTILINE)[1:]

    assert len(entries) == len(locked()) > 15
    assert all("--hash=sha256:" in entry for entry in entries)


@pytest.mark.parametrize("name", SERVICES)
def test_services_that_can_be_packaged_need_nothing_that_is_not_locked(name: str) -> None:
    extra = PROJECT["optional-dependencies"][find_service(name).name]

    assert {canonicalize_name(Requirement(asked).name) for asked in extra} <= locked().keys()
