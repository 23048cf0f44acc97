"""Workflows and hooks call what a person calls, and may do no more than they must."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools import lint_workflows
from tools.images import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z0-9-]*):", MAKEFILE, re.MULTILINE))
WORKFLOWS = sorted(lint_workflows.WORKFLOWS.glob("*.yml"))
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")
ON_EVERY_CHANGE = {"check", "test", "test-train", "test-integration", "test-browser", "test-platforms"}

workflows = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text())["jobs"]
    return found


def commands(path: Path) -> Iterator[str]:
    """Every command line, once for each value of the matrix it names."""
    for job in jobs(path).values():
        matrix = job.get("strategy", {}).get("matrix", {})
        for line in (line for step in job["steps"] for line in step.get("run", "").splitlines()):
            named = re.search(r"\$\{\{ matrix\.(\w+) \}\}", line)
            yield from [line] if named is None else [line.replace(named[0], str(v)) for v in matrix[named[1]]]


def made(path: Path) -> set[str]:
    """The targets that a workflow makes."""
    lines = [shlex.split(line) for line in commands(path)]
    return {word for line in lines if line[0] == "make" for word in line[1:] if "=" not in word}


@workflows
def test_a_workflow_makes_only_targets_that_there_are(path: Path) -> None:
    assert made(path) <= TARGETS


def test_every_change_is_checked_and_tested_and_a_tag_is_released() -> None:
    assert made(lint_workflows.WORKFLOWS / "ci.yml") == ON_EVERY_CHANGE
    assert "release" in made(lint_workflows.WORKFLOWS / "release.yml")


@workflows
def test_a_workflow_runs_no_action_that_can_change_under_it(path: Path) -> None:
    for line in re.findall(r"uses: (.+)", path.read_text()):
        action, _, version = line.partition(" # ")
        assert PINNED.fullmatch(action), line
        assert re.fullmatch(r"v\d+\.\d+\.\d+", version), line


@workflows
def test_a_workflow_may_only_read_but_where_it_publishes(path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    assert document["permissions"] in ({}, {"contents": "read"})

    for name, job in jobs(path).items():
        allowed: dict[str, str] = job.get("permissions", document["permissions"])
        checks_out = any(step.get("uses", "").startswith("actions/checkout@") for step in job["steps"])
        if name == "publish":
            assert allowed == {"contents": "write"}
            assert not checks_out  # code of ours and the right to write do not meet
        else:
            assert allowed == {"contents": "read"}


@workflows
def test_no_job_leaves_a_token_in_the_checkout_or_runs_for_ever(path: Path) -> None:
    for job in jobs(path).values():
        assert job["timeout-minutes"] <= 60
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_hooks_run_what_make_check_runs() -> None:
    recipe = re.search(r"^check:.*\n((?:\t.+\n)+)", MAKEFILE, re.MULTILINE)
    assert recipe is not None
    checked = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())

    (repository,) = config["repos"]

    assert repository["repo"] == "local"
    assert [hook["entry"] for hook in repository["hooks"]] == checked
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        assert hook["pass_filenames"] is False
        assert hook["always_run"] is True


def test_where_there_is_no_actionlint_the_reason_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert lint_workflows.find_actionlint(tmp_path) == (None, "neither actionlint nor go is on PATH")


def test_a_go_that_cannot_build_actionlint_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho downloading >&2\necho no such host >&2\nexit 1\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert lint_workflows.find_actionlint(tmp_path) == (None, f"go install {lint_workflows.MODULE}: no such host")


def test_what_actionlint_finds_fails_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one, where it is; its exit code is passed on."""
    actionlint = shutil.which("actionlint") or shutil.which("actionlint", path=str(Path(sys.executable).parent))
    if actionlint is None:
        pytest.skip("actionlint: neither on PATH nor built by `make check`")
    (tmp_path / "bad.yml").write_text("on: push\njobs: {a: {runs-on: ubuntu-latest, steps: [{run: 'x', uses: 'y'}]}}\n")

    monkeypatch.setattr(lint_workflows, "WORKFLOWS", tmp_path)

    assert lint_workflows.main() == 1
    assert subprocess.run([actionlint, *WORKFLOWS], check=False).returncode == 0
