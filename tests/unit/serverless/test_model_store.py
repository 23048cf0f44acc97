"""A model's archive from S3 is unpacked whole, or refused with a reason and without a trace."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kappawatt import model_store
from kappawatt.artifact import open_artifact
from kappawatt.deploy.pack import pack_artifact
from kappawatt.errors import ArtifactInvalid, SettingInvalid
from kappawatt.model_store import S3Model, unpack_archive
from tests import fakes

Entries = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture
def packed(tmp_path: Path) -> bytes:
    return pack_artifact(fakes.write_artifact(tmp_path / "artifacts")).content


def archive(*entries: tuple[str, bytes], change: Callable[[tarfile.TarInfo], None] = lambda entry: None) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, value in entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(value)
            change(entry)
            tar.addfile(entry, io.BytesIO(value))
    return content.getvalue()


def kind(number: bytes, target: str = "") -> Callable[[tarfile.TarInfo], None]:
    def change(entry: tarfile.TarInfo) -> None:
        entry.type, entry.linkname = number, target

    return change


def test_what_pack_writes_is_unpacked(packed: bytes, tmp_path: Path) -> None:
    unpack_archive(packed, tmp_path / "a" / "model")

    assert open_artifact(tmp_path / "a" / "model").manifest.version == "1"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["model"]


def test_an_archive_that_was_made_by_hand_is_unpacked(tmp_path: Path) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        tar.add(fakes.write_artifact(tmp_path / "artifacts").path, "./")  # tar -C FOLDER -czf model.tar.gz .

    unpack_archive(made.getvalue(), tmp_path / "model")

    assert open_artifact(tmp_path / "model").manifest.version == "1"


MANIFEST = ("manifest.json", b"{}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (archive(MANIFEST, ("../evil", b"x")), "'../evil', allowed plain files at the root"),
        (archive(MANIFEST, ("/tmp/evil", b"x")), "'/tmp/evil', allowed plain files"),
        (archive(MANIFEST, ("a/b", b"x")), "'a/b', allowed plain files"),
        (archive(MANIFEST, (".hidden", b"x")), r"'\.hidden', allowed plain files"),
        (archive(MANIFEST, ("..", b"x")), r"'\.\.', allowed plain files"),
        (archive(MANIFEST, MANIFEST), "'manifest.json', allowed plain files at the root, once each"),
        (archive(("manifest.json", b""), change=kind(tarfile.SYMTYPE, "/etc/passwd")), "allowed plain files"),
        (archive(("manifest.json", b""), change=kind(tarfile.LNKTYPE, "/etc/passwd")), "allowed plain files"),
        (archive(("manifest.json", b""), change=kind(tarfile.CHRTYPE)), "allowed plain files"),
        (archive(("manifest.json", b""), change=kind(tarfile.FIFOTYPE)), "allowed plain files"),
        (archive(("model.npz", b"x")), "got no manifest.json"),
        (archive(MANIFEST)[:-9], "allowed a whole .tar.gz"),
        (archive(MANIFEST)[:40] + b"\xff" * 40, "allowed a whole .tar.gz"),
        (b"", "allowed a whole .tar.gz|got no manifest.json"),
        (b"PK\x03\x04", "allowed a whole .tar.gz"),
        (gzip.compress(b"\x01" * 2000), "allowed a whole .tar.gz"),
        (gzip.compress(archive(MANIFEST)), "allowed a whole .tar.gz"),
    ],
)
def test_anything_else_is_refused_and_nothing_is_written(content: bytes, said: str, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "model"

    with pytest.raises(ArtifactInvalid, match=said):
        unpack_archive(content, folder)

    assert not folder.exists()
    assert not (tmp_path / "evil").exists()


def test_a_bomb_is_refused_before_it_is_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(model_store, "MOST_UNPACKED_BYTES", 1_000_000)
    bomb = archive(MANIFEST, ("model.npz", bytes(20_000_000)))
    assert len(bomb) < 100_000

    with pytest.raises(ArtifactInvalid, match="got more than 1000000 bytes, allowed 1000000"):
        unpack_archive(bomb, tmp_path / "model")


@pytest.mark.parametrize(
    "address", ["", "bucket/key", "https://bucket/key", "s3://bucket", "s3://bucket/", "s3://Bu_cket/key", "s3:///key"]
)
def test_an_address_that_is_none_is_named(address: str) -> None:
    with pytest.raises(SettingInvalid, match=r"model_url: got '.*', allowed s3://BUCKET/KEY"):
        S3Model(address)
