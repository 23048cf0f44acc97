"""Commands of the pages on Kubernetes: complete, and taken by the chart."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
from collections.abc import Iterator

import pytest

from tests.charts.rendering import ROOT, helm_template

PAGES = ("docs/operations.md", "docs/deploy-kubernetes.md", "docs/adding-a-service.md", "charts/kappawatt/README.md",
         "k8s/README.md")  # fmt: skip
WITHOUT_NAMESPACE = {"create namespace", "label namespace", "apply -k", "delete -k", "get nodes"}


def _blocks(page: str) -> Iterator[str]:
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL):
        yield block.replace("\\\n", " ")


def _commands(page: str, program: str) -> list[str]:
    """Return every command of a program, in blocks and within sentences."""
    text = (ROOT / page).read_text().replace("\\\n", " ")
    inline = [" ".join(found.split()) for found in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]
    lines = [line for block in _blocks(page) for line in block.splitlines()]
    return [found[0] for line in (*inline, *lines) for found in re.finditer(rf"\b{program} [^|#)]*[^|#)\s]", line)]


@pytest.mark.parametrize("page", PAGES)
def test_a_block_of_commands_is_one_that_a_shell_reads(page: str) -> None:
    for block in _blocks(page):
        read = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, timeout=10)
        assert read.returncode == 0, f"{block}\n{read.stderr}"


@pytest.mark.parametrize("page", PAGES)
def test_kubectl_is_told_the_namespace(page: str) -> None:
    for command in _commands(page, "kubectl"):
        words = command.split()
        if len(words) > 2 and " ".join(words[1:3]) not in WITHOUT_NAMESPACE:
            assert " -n kappawatt" in command, command


def test_kafkas_programs_are_called_where_they_are_and_told_the_address() -> None:
    commands = [line for page in PAGES for block in _blocks(page) for line in block.splitlines() if ".sh " in line]

    assert commands
    for command in commands:
        assert "statefulset/kappawatt-kafka -- /opt/kafka/bin/kafka-" in command
        assert " --bootstrap-server localhost:9092 " in command
    for page in PAGES:  # nor half a command within a sentence
        assert not re.search(r"`kafka-[a-z-]+\.sh [^`]+`", (ROOT / page).read_text())


@pytest.mark.parametrize("page", PAGES)
def test_the_chart_takes_the_values_that_a_command_gives_it(page: str) -> None:
    for command in _commands(page, "helm"):
        words = shlex.split(command.replace("$(", ""))
        if "charts/kappawatt" in words:
            assert {"-n", "--namespace"} & {*words}, command
            given = [value for option, value in itertools.pairwise(words) if option == "--set"]
            made = helm_template(*given)
            assert made.returncode == 0, f"{command}\n{made.stderr}"


def test_what_the_readme_says_of_a_platform_is_what_its_page_says() -> None:
    readme = (ROOT / "README.md").read_text().partition("## Deployment")[2].partition("\n## ")[0]

    for command in ("kubectl apply -k k8s/", "dcos marathon group add marathon/open/group.json"):
        assert f"`{command}`" in readme
        pages = (ROOT / "k8s/README.md", ROOT / "docs/deploy-marathon.md")
        assert any(command in page.read_text() for page in pages)
