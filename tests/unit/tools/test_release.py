"""One version everywhere, and what a release is made of."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tools import release
from tools.images import ROOT, image_names, project

VERSION: str = project()["version"]
NEXT = "7.8.9"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of every file that says a version."""
    for path in {ROOT / "pyproject.toml", *(path for place in release.PLACES for path in place.paths(ROOT))}:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    return tmp_path


def test_every_place_has_the_version_of_pyproject() -> None:
    assert release.disagreements(VERSION) == [], f"run `python -m tools.release set {VERSION}`"


def test_every_image_of_the_rendered_definitions_is_looked_at() -> None:
    """The patterns see what an independent search for images sees."""
    files = [*ROOT.glob("k8s/**/*.yaml"), *ROOT.glob("marathon/**/*.json")]
    images = {image for path in files for image in re.findall(r"kappawatt/[^\s\"]+:[^\s\"]+", path.read_text())}

    assert images >= {f"kappawatt/{name}:{VERSION}" for name in image_names()}
    assert {image.partition(":")[2] for image in images} == {VERSION}


def test_setting_a_version_changes_every_place_and_only_the_version(checkout: Path) -> None:
    before = {path: path.read_text() for path in checkout.rglob("*") if path.is_file()}

    changed = release.set_version(NEXT, checkout)

    assert release.disagreements(NEXT, checkout) == []
    assert f'version = "{NEXT}"' in (checkout / "pyproject.toml").read_text()
    assert {str(path.relative_to(checkout)) for path, text in before.items() if path.read_text() != text} == set(
        changed
    )
    for path, text in before.items():
        assert path.read_text().replace(NEXT, VERSION) == text, path


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("charts/kappawatt/Chart.yaml", f"appVersion: {VERSION}", f"appVersion: {NEXT}"),
        ("charts/kappawatt/Chart.yaml", f"{VERSION}, alias: sink", f"{NEXT}, alias: sink"),
        ("charts/kappawatt/charts/service/Chart.yaml", f"version: {VERSION}", f"version: {NEXT}"),
        ("docker/compose.yaml", f"gateway:${{KAPPAWATT_TAG:-{VERSION}}}", f"gateway:${{KAPPAWATT_TAG:-{NEXT}}}"),
        ("marathon/open/apps/gateway.json", f"gateway:{VERSION}", f"gateway:{NEXT}"),
        ("k8s/gateway/serve-deployment.yaml", f"gateway:{VERSION}", f"gateway:{NEXT}"),
    ],
)
def test_another_version_in_one_place_is_named_with_its_line(checkout: Path, file: str, old: str, new: str) -> None:
    path = checkout / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))

    (said,) = release.disagreements(VERSION, checkout)

    line = text[: text.index(old)].count("\n") + 1
    assert said == f"{file}:{line}: got {NEXT}, allowed {VERSION}"


def test_a_place_that_lost_its_version_is_named(checkout: Path) -> None:
    path = checkout / "docker" / "compose.yaml"
    path.write_text(path.read_text().replace("KAPPAWATT_TAG:-", "TAG:-"))

    assert any(
        said.startswith("docker/compose.yaml: got nothing like") for said in release.disagreements(VERSION, checkout)
    )


def test_a_release_of_another_version_is_refused_before_anything_is_built() -> None:
    result = CliRunner().invoke(release.main, ["build", "--version", NEXT, "python"])

    assert result.exit_code == 1
    assert f"VERSION: got {NEXT}, allowed {VERSION}" in result.output


@pytest.mark.parametrize("version", ["1.2", "v1.2.3", "1.2.3rc1", "1.2.3-rc.1", ""])
def test_a_version_that_not_all_of_python_helm_and_docker_write_alike_is_refused(version: str) -> None:
    result = CliRunner().invoke(release.main, ["set", version])

    assert result.exit_code == 1
    assert f"VERSION: got {version!r}, allowed three numbers" in result.output


def test_what_cannot_be_built_is_left_out_said_and_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker's command is there, as on a machine whose engine is not running."""
    monkeypatch.setenv("DOCKER", "false")
    monkeypatch.setattr(release, "ROOT", tmp_path)

    result = CliRunner().invoke(release.main, ["build", "images", "sbom"])

    assert result.exit_code == 1
    assert "images: LEFT OUT, `false info` does not work here" in result.output
    assert "not a whole release: without images, sbom" in result.output
    assert not list(tmp_path.rglob("*.gz"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel that is built from the source archive, as a release is; the backend is the installed one."""
    folder = tmp_path_factory.mktemp("release")
    for target, source in (("sdist", ROOT), ("wheel", folder / f"kappawatt-{VERSION}")):
        command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
        done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        if target == "sdist":
            with tarfile.open(folder / f"kappawatt-{VERSION}.tar.gz") as archive:
                archive.extractall(folder, filter="data")
    with zipfile.ZipFile(folder / f"kappawatt-{VERSION}-py3-none-any.whl") as file:
        yield file


def test_the_wheel_carries_licence_and_credits(wheel: zipfile.ZipFile) -> None:
    inside = f"kappawatt-{VERSION}.dist-info"
    metadata = wheel.read(f"{inside}/METADATA").decode().splitlines()

    assert {"License-Expression: Apache-2.0", "License-File: LICENSE", "License-File: NOTICE"} <= set(metadata)
    for name in ("LICENSE", "NOTICE"):
        assert wheel.read(f"{inside}/licenses/{name}") == (ROOT / name).read_bytes()


def test_the_wheel_has_every_module_and_artifact_of_the_checkout_once_and_claims_no_other_name(
    wheel: zipfile.ZipFile,
) -> None:
    core, services = ROOT / "src" / "kappawatt", ROOT / "services"
    files = {f"kappawatt/{path.relative_to(core)}" for path in core.rglob("*.py")}
    files |= {f"kappawatt/services/{path.relative_to(services)}" for path in services.rglob("*.py")}
    files |= {f"kappawatt/services/{path.relative_to(services)}" for path in services.glob("*/artifacts/**/*.json")}

    names = wheel.namelist()

    assert files <= set(names)
    assert len(names) == len(set(names))
    assert {name.partition("/")[0] for name in names} == {"kappawatt", f"kappawatt-{VERSION}.dist-info"}


def test_the_source_of_every_image_carries_licence_and_credits() -> None:
    """A wheel that is built without them would be another one."""
    dockerfile = (ROOT / "docker" / "service.Dockerfile").read_text()
    let_in = (ROOT / ".dockerignore").read_text().splitlines()

    assert "COPY pyproject.toml README.md LICENSE NOTICE ./" in dockerfile
    assert {"!LICENSE", "!NOTICE"} <= set(let_in)


def test_the_licence_is_the_whole_text() -> None:
    text = (ROOT / "LICENSE").read_text()

    assert "Version 2.0, January 2004" in text
    assert [f"   {number}. " in text for number in range(1, 10)] == [True] * 9
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_changelog_knows_this_version_and_begins_with_what_is_not_released() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    sections = re.findall(r"^## \[([^\]]+)\]", changelog, re.MULTILINE)

    assert sections[0] == "Unreleased"
    assert VERSION in sections
    assert release.notes_of(VERSION, changelog)


def test_notes_are_one_section_of_the_changelog() -> None:
    changelog = (
        "# Changelog\n\n## [Unreleased]\n\n### Added\n- b\n\n## [1.0.0] - 2026-01-01\n\n- a\n\n## [0.9.0]\n- z\n"
    )

    assert release.notes_of("1.0.0", changelog) == "- a\n"
    assert release.notes_of("0.9.0", changelog) == "- z\n"
    assert release.notes_of("1.0", changelog) == ""
