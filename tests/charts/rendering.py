"""The chart as helm renders it, and questions about what came out."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "kappawatt"
RELEASE, NAMESPACE = "kw", "energy"
EVERY_API = ("keda.sh/v1alpha1", "monitoring.coreos.com/v1")

Document = dict[str, Any]


def helm_template(
    *settings: str,
    values: Path | None = None,
    apis: tuple[str, ...] = (),
    tests: bool = False,
    release: str = RELEASE,
    chart: Path = CHART,
) -> subprocess.CompletedProcess[str]:
    """Run `helm template` with `--set` for each of `settings`."""
    command = ["helm", "template", release, str(chart), "-n", NAMESPACE]
    command += [f"--set={setting}" for setting in settings] + [f"--api-versions={api}" for api in apis]
    command += ["-f", str(values)] if values else []
    command += [] if tests else ["--skip-tests"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def documents_of(text: str) -> list[Document]:
    """Read YAML, by libyaml: six times as fast as in Python."""
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def rendered(*settings: str, **options: Any) -> list[Document]:
    """Return all objects, rendered once for the same settings; an error of helm's is one of the test's."""
    return copy.deepcopy(_rendered(*settings, **options))


@cache
def _rendered(*settings: str, **options: Any) -> list[Document]:
    made = helm_template(*settings, **options)
    assert made.returncode == 0, made.stderr
    return documents_of(made.stdout)


def notes(*settings: str) -> str:
    """Return what helm says after an installation."""
    command = ["helm", "install", RELEASE, str(CHART), "-n", NAMESPACE, "--dry-run=client"]
    command += [f"--set={setting}" for setting in settings]
    made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return made.stdout.partition("NOTES:")[2]


def environment(document: Document) -> dict[str, str | None]:
    """Return a Deployment's or a Pod's environment by name; what is taken from elsewhere has no value."""
    spec = document["spec"] if document["kind"] == "Pod" else document["spec"]["template"]["spec"]
    return {each["name"]: each.get("value") for each in spec["containers"][0]["env"]}


def of_kind(documents: list[Document], kind: str) -> dict[str, Document]:
    """Return objects of one kind by name."""
    return {each["metadata"]["name"]: each for each in documents if each["kind"] == kind}


def pods(documents: list[Document]) -> Iterator[tuple[str, Document, Mapping[str, str]]]:
    """Yield name, spec and labels of everything that becomes a pod."""
    for each in documents:
        if each["kind"] in ("Deployment", "StatefulSet"):
            template = each["spec"]["template"]
            yield each["metadata"]["name"], template["spec"], template["metadata"]["labels"]
        elif each["kind"] == "Pod":
            yield each["metadata"]["name"], each["spec"], each["metadata"]["labels"]
