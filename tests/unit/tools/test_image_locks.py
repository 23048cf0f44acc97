"""What images install is locked, and the locks are those of pyproject.toml; found out without a network."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.images import PYTHON, REQUIREMENTS, ROOT, image_names, locked, locks

STALE = "locks are stale: make lock"
MACHINES = ("x86_64", "aarch64")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OPTIONAL = PYPROJECT["project"]["optional-dependencies"]


def environment(machine: str, extra: str = "") -> dict[str, str]:
    names = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0", "implementation_name": "cpython"}
    place = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": machine}
    return names | place | {"platform_python_implementation": "CPython", "extra": extra}


def requirements(lines: list[str], machine: str) -> Iterator[Requirement]:
    """Requirements that hold on a machine, those of extras of our own and of others' included."""
    for line in lines:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate(environment(machine)):
            continue
        if requirement.name == "kappawatt":
            for extra in requirement.extras:
                yield from requirements(OPTIONAL[extra], machine)
            continue
        yield requirement
        for extra in requirement.extras:
            yield from extra_requirements(requirement.name, extra, machine)


def extra_requirements(name: str, extra: str, machine: str) -> Iterator[Requirement]:
    try:
        declared = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return
    for requirement in map(Requirement, declared):
        marker = requirement.marker
        if marker is not None and "extra" in str(marker) and marker.evaluate(environment(machine, extra)):
            yield requirement


def lock_of(name: str) -> dict[str, str]:
    own = REQUIREMENTS / f"{name}.txt"
    return locked(REQUIREMENTS / "core.txt") | (locked(own) if own.exists() else {})


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", [*locks()])
def test_every_requirement_is_locked_at_a_version_it_allows(name: str, machine: str) -> None:
    lines = [*PYPROJECT["project"]["dependencies"], *(line for extra in locks()[name] for line in OPTIONAL[extra])]
    lock = lock_of(name)

    wanted = list(requirements(lines, machine))

    assert wanted
    for requirement in wanted:
        version = lock.get(canonicalize_name(requirement.name))
        assert version is not None, f"{name}: {requirement} is not locked; {STALE}"
        assert requirement.specifier.contains(version), f"{name}: {requirement} got {version}; {STALE}"


def test_the_build_backend_is_locked() -> None:
    lock = locked(REQUIREMENTS / "build.txt")

    for line in PYPROJECT["build-system"]["requires"]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(lock[requirement.name]), STALE


def test_all_locks_agree_on_one_version() -> None:
    agreed = locked(REQUIREMENTS / "all.txt")
    for path in REQUIREMENTS.glob("*.txt"):
        if path.name != "build.txt":
            assert locked(path).items() <= agreed.items(), f"{path.name}; {STALE}"


def test_every_locked_file_has_a_hash() -> None:
    for path in REQUIREMENTS.glob("*.txt"):
        if path.name == "all.txt":
            continue
        entries = path.read_text().replace("\\\n", " ").splitlines()
        pinned = [line for line in entries if "==" in line and not line.startswith("#")]
        assert len(pinned) == len(locked(path))
        assert all("--hash=sha256:" in line for line in pinned), path.name


def test_there_is_no_lock_of_an_image_that_is_gone() -> None:
    known = {"all", "core", "build", *locks()}

    assert {path.stem for path in REQUIREMENTS.glob("*.txt")} <= known
    assert set(image_names()) <= set(locks())


def test_nothing_that_serves_is_locked_with_tensorflow() -> None:
    for path in REQUIREMENTS.glob("*.txt"):
        assert not [name for name in locked(path) if name.startswith(("tensorflow", "keras"))], path.name
