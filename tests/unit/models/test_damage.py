"""Damaged artifacts: whatever became of a manifest or a file, a model opens as it was or says ArtifactInvalid."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from kappawatt.errors import ArtifactInvalid
from kappawatt.models.artifact import CURRENT, MANIFEST, current_version, find_artifact
from kappawatt.serving.service import Service, find_service, service_names
from kappawatt.settings import Settings

SERVICES = [find_service(name) for name in service_names()]
SHIPPED = [
    (service, folder)
    for service in SERVICES
    if service.model is not None
    for folder in sorted(path.parent for path in (service.folder / "artifacts").glob(f"*/{MANIFEST}"))
]
SLOW = "hourly-load"  # 0.1 s to open
WRONG: tuple[Any, ...] = (None, "", "x", "\x00", 0, -1, 1e300, True, [], [None], {}, {"": None}, [[]], "9" * 400)
SEED = 20261127

Damage = Callable[[bytes, random.Random], bytes]


@pytest.fixture(params=SHIPPED, ids=lambda each: f"{each[0].name} {each[1].name}")
def shipped(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Service, Path]:
    """A service, and a copy of one of its artifacts."""
    service, folder = request.param
    return service, Path(shutil.copytree(folder, tmp_path / folder.name))


def opens(service: Service, folder: Path) -> bool:
    """Whether the artifact opens; fails on anything but that and ArtifactInvalid."""
    try:
        service.open(Settings(artifacts=folder))
    except ArtifactInvalid:
        return False
    return True


def truncated(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def flipped(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << chance.randrange(8))]) + content[place + 1 :]


def overwritten(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content))
    return content[:place] + bytes(min(64, len(content) - place)) + content[place + 64 :]


def doubled(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content))
    return content[:place] + content


@pytest.mark.parametrize("damage", [truncated, flipped, overwritten, doubled], ids=lambda damage: damage.__name__)
def test_a_manifest_with_damaged_bytes_is_invalid_or_says_the_same(
    shipped: tuple[Service, Path], damage: Damage
) -> None:
    service, folder = shipped
    whole = (folder / MANIFEST).read_bytes()
    chance = random.Random(SEED)

    for _ in range(8 if service.name == SLOW else 80):
        (folder / MANIFEST).write_bytes(damage(whole, chance))
        opens(service, folder)


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document, the first of each list and three of each object below the top."""
    if path:
        yield path
    if isinstance(node, dict):
        for key in list(node) if not path else list(node)[:3]:
            yield from places(node[key], (*path, key))
    elif isinstance(node, list) and node:
        yield from places(node[0], (*path, 0))


def test_a_manifest_with_another_value_anywhere_is_invalid_or_opens(shipped: tuple[Service, Path]) -> None:
    service, folder = shipped
    whole = (folder / MANIFEST).read_bytes()
    chance = random.Random(SEED)
    wrong = 0

    for *above, last in list(places(orjson.loads(whole)))[: 20 if service.name == SLOW else None]:
        for value in (*chance.sample(WRONG, 2 if service.name == SLOW else 5), "gone"):
            document = orjson.loads(whole)
            node = document
            for step in above:
                node = node[step]
            if value == "gone":
                del node[last]
            else:
                node[last] = value
            (folder / MANIFEST).write_bytes(orjson.dumps(document))
            wrong += not opens(service, folder)

    assert wrong > 15


@pytest.mark.parametrize("damage", [truncated, flipped, overwritten, doubled], ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_invalid(shipped: tuple[Service, Path], damage: Damage) -> None:
    service, folder = shipped
    chance = random.Random(SEED)

    for path in sorted(path for path in folder.iterdir() if path.name != MANIFEST):
        whole = path.read_bytes()
        for _ in range(5):
            content = damage(whole, chance)
            path.write_bytes(content)
            # The calendar baseline beside hourly-load's model is read when it is first asked.
            assert content == whole or not opens(service, folder) or path.name.startswith("classic"), path.name
        path.write_bytes(whole)


def test_a_file_that_is_gone_or_a_folder_is_invalid(shipped: tuple[Service, Path]) -> None:
    service, folder = shipped
    files = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    path = next((path for path in files if not path.name.startswith("classic")), files[0])

    path.unlink()
    assert not opens(service, folder)

    path.mkdir()
    assert not opens(service, folder)


@pytest.mark.parametrize(
    "content", [b"[]", b"null", b"1", b"", b"\xff", b"[" * 100_000, b'{"format": 1}', b'{"format": "1"}']
)
def test_a_manifest_that_is_none_is_invalid(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content)

    with pytest.raises(ArtifactInvalid, match=MANIFEST):
        find_artifact(tmp_path)


def test_a_manifest_that_is_a_folder_is_invalid(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).mkdir()

    with pytest.raises(ArtifactInvalid, match=MANIFEST):
        find_artifact(tmp_path)


def test_a_current_version_that_is_no_text_is_invalid(tmp_path: Path) -> None:
    (tmp_path / CURRENT).write_bytes(b"\xff\xfe")

    with pytest.raises(ArtifactInvalid, match=CURRENT):
        current_version(tmp_path)
