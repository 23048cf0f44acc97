"""A model's archive from S3 is unpacked whole, or refused with a reason and without a trace."""

from __future__ import annotations

import errno
import gzip
import io
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from kappawatt.deploy.aws.pack import pack_artifact
from kappawatt.errors import ArtifactInvalid, NotReady, SettingInvalid
from kappawatt.models import s3 as model_store
from kappawatt.models.artifact import open_artifact
from kappawatt.models.s3 import S3Model, unpack_archive
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
    ids=[
        *("above", "absolute", "below", "hidden", "dots", "twice", "symlink", "hard link", "device", "pipe"),
        *("no manifest", "cut off", "damaged", "empty", "zip", "no archive", "packed twice"),
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


def test_a_sparse_file_is_refused_for_it_unpacks_to_whatever_it_claims(tmp_path: Path) -> None:
    def claim(entry: tarfile.TarInfo) -> None:
        entry.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(2**40), "GNU.sparse.name": entry.name}

    with pytest.raises(ArtifactInvalid, match=r"'manifest\.json', allowed plain files"):
        unpack_archive(archive(("manifest.json", b""), change=claim), tmp_path / "model")


class Bucket:
    """A client of S3 with one object, which it sends as slowly as told."""

    def __init__(self, content: bytes, seconds: float = 0.0) -> None:
        self.content, self.seconds, self.asked = content, seconds, 0

    def get_object(self, IfNoneMatch: str = "", **place: str) -> dict[str, Any]:
        self.asked += 1
        if IfNoneMatch == "one":
            raise ClientError({"ResponseMetadata": {"HTTPStatusCode": 304}}, "GetObject")
        return {"ETag": "one", "ContentLength": len(self.content), "Body": self}

    def iter_chunks(self, size: int) -> Iterator[bytes]:
        for start in range(0, len(self.content), size):
            time.sleep(self.seconds)
            yield self.content[start : start + size]

    def close(self) -> None:
        pass


def test_a_model_that_found_no_room_is_unpacked_by_the_next_look(
    packed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = S3Model("s3://bucket/key", tmp_path, Bucket(packed))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(model_store.shutil, "copyfileobj", full)
        with pytest.raises(NotReady, match="could not be unpacked: No space left on device"):
            store.look()
    found = store.look()

    assert found is not None
    assert open_artifact(found.folder).manifest.version == "1"
    assert store.look() is None


def test_a_damaged_model_is_downloaded_once(tmp_path: Path) -> None:
    store = S3Model("s3://bucket/key", tmp_path, Bucket(b"damaged"))

    with pytest.raises(ArtifactInvalid):
        store.look()

    assert store.look() is None


def test_a_download_that_takes_too_long_is_given_up(
    packed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_store, "FETCH_SECONDS", 0.05)
    monkeypatch.setattr(model_store, "CHUNK_BYTES", 64)

    with pytest.raises(NotReady, match="could not be fetched: too slow"):
        S3Model("s3://bucket/key", tmp_path, Bucket(packed, seconds=0.02)).look()


def test_a_refusal_tells_its_code_and_not_who_asked_for_what(tmp_path: Path) -> None:
    class Refusing(Bucket):
        def get_object(self, **place: str) -> dict[str, Any]:
            said = {"Code": "AccessDenied", "Message": "User: arn:aws:sts::123456789012:assumed-role/r is not allowed"}
            raise ClientError({"Error": said, "ResponseMetadata": {"HTTPStatusCode": 403}}, "GetObject")

    with pytest.raises(NotReady) as refused:
        S3Model("s3://secret-bucket/key", tmp_path, Refusing(b"")).look()

    assert str(refused.value) == "model: it could not be fetched: AccessDenied"


@pytest.mark.parametrize(
    "address", ["", "bucket/key", "https://bucket/key", "s3://bucket", "s3://bucket/", "s3://Bu_cket/key", "s3:///key"]
)
def test_an_address_that_is_none_is_named(address: str) -> None:
    with pytest.raises(SettingInvalid, match=r"model_url: got '.*', allowed s3://BUCKET/KEY"):
        S3Model(address)
