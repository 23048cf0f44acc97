"""The same files, modes, times and bytes, whenever, wherever and by whichever builder an image is made."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.docker import run_docker
from tests.images.engine import ROOT, build, inspect
from tools.images import tag_of

NAME = "plant-power"
PREFIX = "kappawatt-again/"
FOLDER = "/opt/kappawatt"
PARTS = ("pyproject.toml", "README.md", "LICENSE", "NOTICE", ".dockerignore", "src", "services", "docker", "tools")
CLIENTS = ("docker", "/usr/bin/docker")  # one of them may lack what BuildKit takes


def files_of(image: str) -> dict[str, tuple[object, ...]]:
    """What is below our folder: kind, mode, owner, time, link and bytes, by name."""
    container = run_docker("create", image).stdout.strip()
    try:
        copied = subprocess.run(["docker", "cp", f"{container}:{FOLDER}", "-"], capture_output=True, check=True).stdout
    finally:
        run_docker("rm", "--volumes", container)
    found: dict[str, tuple[object, ...]] = {}
    with tarfile.open(fileobj=io.BytesIO(copied)) as tar:
        for each in tar:
            content = tar.extractfile(each) if each.isreg() else None
            digest = hashlib.sha256(content.read()).hexdigest() if content else ""
            mode = oct(each.mode & 0o7777)
            found[each.name] = (each.type, mode, each.uid, each.gid, int(each.mtime), each.linkname, digest)
    return found


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """The same sources, in another place, copied today, readable to nobody else, and no git."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, tmp_path / part, copy_function=shutil.copyfile, ignore=ignored)
        else:
            shutil.copyfile(ROOT / part, tmp_path / part)
    for path in tmp_path.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return tmp_path


def ignored(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name == "__pycache__"}


@pytest.fixture(autouse=True)
def _gone_afterwards() -> Iterator[None]:
    yield
    run_docker("rmi", PREFIX + tag_of(NAME).split("/", 1)[1], check=False)


def epoch_of(image: str) -> str:
    created = inspect(image)["Config"]["Labels"]["org.opencontainers.image.created"]
    return str(int(datetime.fromisoformat(created).timestamp()))


def buildkit() -> str | None:
    """A client that builds with BuildKit here, if there is one."""
    for client in CLIENTS:
        done = subprocess.run(
            [client, "build", "--quiet", "-"],
            input="FROM scratch\nLABEL probe=buildkit\n",
            env=os.environ | {"DOCKER_BUILDKIT": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode == 0:
            run_docker("rmi", done.stdout.strip(), check=False)
            return client
    return None


def test_every_file_is_at_its_commits_time_and_nobody_elses() -> None:
    files = files_of(tag_of(NAME))
    times = {entry[4] for entry in files.values()}

    assert len(files) > 1000
    assert times <= {315532800, int(epoch_of(tag_of(NAME)))}
    assert {(entry[2], entry[3]) for entry in files.values()} == {(0, 0)}
    assert {entry[1] for entry in files.values() if entry[0] == tarfile.REGTYPE} <= {"0o644", "0o755"}


def test_built_again_from_another_folder_it_is_the_same_to_the_last_byte(elsewhere: Path) -> None:
    own = {"IMAGE_PREFIX": PREFIX, "SOURCE_DATE_EPOCH": epoch_of(tag_of(NAME)), "DOCKER_BUILDKIT": "0"}
    build(NAME, "--no-cache", root=elsewhere, environment=own)
    again = PREFIX + tag_of(NAME).split("/", 1)[1]

    ours, theirs = files_of(tag_of(NAME)), files_of(again)

    assert sorted(ours.keys() ^ theirs.keys()) == []
    assert [(name, ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]] == []


def test_another_commit_of_the_same_sources_has_its_own_time() -> None:
    later = str(int(epoch_of(tag_of(NAME))) + 1000)
    build(NAME, environment={"IMAGE_PREFIX": PREFIX, "SOURCE_DATE_EPOCH": later})

    times = {entry[4] for entry in files_of(PREFIX + tag_of(NAME).split("/", 1)[1]).values()}

    assert times == {315532800, int(later)}


def test_buildkit_makes_the_same_as_the_legacy_builder() -> None:
    client = buildkit()
    if client is None:
        pytest.skip("no client here builds with BuildKit")
    own = {
        "IMAGE_PREFIX": PREFIX,
        "SOURCE_DATE_EPOCH": epoch_of(tag_of(NAME)),
        "DOCKER_BUILDKIT": "1",
        "DOCKER": client,
    }
    build(NAME, environment=own)
    again = PREFIX + tag_of(NAME).split("/", 1)[1]

    ours, theirs = files_of(tag_of(NAME)), files_of(again)

    assert sorted(ours.keys() ^ theirs.keys()) == []
    assert [(name, ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]] == []
    assert inspect(again)["Config"]["Entrypoint"] == inspect(tag_of(NAME))["Config"]["Entrypoint"]
    assert inspect(again)["Config"]["Healthcheck"] == inspect(tag_of(NAME))["Config"]["Healthcheck"]
