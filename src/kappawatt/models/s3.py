"""A model that lies in S3 as `model.tar.gz`: fetched when it is new there, unpacked with suspicion, kept by ETag.

One object, asked for with `If-None-Match`, so that nothing but its headers travels while it stays the same. Nothing
here runs on its own: whoever holds an `S3Model` decides when to `look`.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
import shutil
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from kappawatt.errors import ArtifactInvalid, NotReady, SettingInvalid, storage_reason
from kappawatt.models.artifact import MANIFEST

__all__ = ["S3Model", "StoredModel", "unpack_archive"]

log = logging.getLogger(__name__)

MOST_ARCHIVE_BYTES = 128 * 1024 * 1024
MOST_FILES = 100  # of one artifact; the largest shipped has 9
HEADER_BYTES = 128 * 1024  # that may stand between two files of an archive
MOST_UNPACKED_BYTES = 256 * 1024 * 1024  # half of the /tmp a function has, so that old and new fit beside each other
PLAIN_NAME = re.compile(r"\w[\w.+-]*")
PLAIN_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)
ADDRESS = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>[^/].*)")
CONNECT_SECONDS = 1.5
READ_SECONDS = 3.0
ATTEMPTS = 2
FETCH_SECONDS = 9.0  # attempts and download together: within the 10 s that a function has to start
CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class StoredModel:
    """What was found at the address: its ETag, and the folder it was unpacked into."""

    etag: str
    folder: Path


class S3Model:
    """One object in S3 that holds a packed artifact.

    Parameters
    ----------
    address : str
        `s3://BUCKET/KEY`; the region and credentials are those botocore finds.
    folder : Path or None
        Where models are unpacked, each into a folder of its own; None is a new one in the system's temporary folder.
    client : botocore client, optional
        Made when it is first needed if absent.

    Raises
    ------
    SettingInvalid
        `address` is none.
    """

    def __init__(self, address: str, folder: Path | None = None, client: Any = None) -> None:
        found = ADDRESS.fullmatch(address)
        if found is None:
            raise SettingInvalid(f"model_url: got {address!r}, allowed s3://BUCKET/KEY")
        self.address = address
        self._place = {"Bucket": found["bucket"], "Key": found["key"]}
        self._folder = folder or Path(tempfile.mkdtemp(prefix="kappawatt-models-"))
        self._client = client
        self._etag: str | None = None

    def look(self) -> StoredModel | None:
        """Return what lies at the address, or None if that is what the last look saw, were it good or damaged.

        Raises
        ------
        NotReady
            S3 did not answer, or there is no such object, or it may not be read, or there is no room for it; the next
            look asks again. The error has S3's code alone, for callers may be strangers: its words are logged.
        ArtifactInvalid
            What lies there is no archive of an artifact; the next look downloads it only if it has changed.
        """
        found = self._ask()
        if found is None:
            return None
        etag, content = found
        folder = self._folder / hashlib.sha256(etag.encode()).hexdigest()[:16]
        try:
            with content:
                unpack_archive(content, folder)
        except ArtifactInvalid:
            self._etag = etag
            raise
        self._etag = etag
        return StoredModel(etag, folder)

    def keep_only(self, model: StoredModel | None) -> None:
        """Remove the folders of all other models."""
        for path in self._folder.iterdir():
            if model is None or path != model.folder:
                shutil.rmtree(path, ignore_errors=True)

    def _ask(self) -> tuple[str, IO[bytes]] | None:
        """Return the object's ETag and content, in a file without a name; None if it has not changed."""
        errors = _botocore().exceptions
        until = time.monotonic() + FETCH_SECONDS
        try:
            if self._client is None:
                self._client = _make_client()
            condition = {} if self._etag is None else {"IfNoneMatch": self._etag}
            answer = self._client.get_object(**self._place, **condition)
            size = answer["ContentLength"]
            if size > MOST_ARCHIVE_BYTES:
                answer["Body"].close()
                self._etag = answer["ETag"]
                raise ArtifactInvalid(f"archive: got {size} bytes, allowed {MOST_ARCHIVE_BYTES}")
            return answer["ETag"], self._kept(answer["Body"], until)
        except errors.ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status == 304:
                return None
            said = error.response.get("Error", {})
            raise self._unavailable(str(said.get("Code", status)), said.get("Message", error)) from error
        except (errors.BotoCoreError, OSError) as error:
            raise self._unavailable(type(error).__name__, error) from error

    def _kept(self, body: Any, until: float) -> IO[bytes]:
        self._folder.mkdir(parents=True, exist_ok=True)
        content = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 (whoever gets it closes it)
        try:
            size = 0
            for chunk in self._chunks(body, until):
                size += len(chunk)
                if size > MOST_ARCHIVE_BYTES:
                    raise ArtifactInvalid(f"archive: got more than it said, allowed {MOST_ARCHIVE_BYTES} bytes")
                content.write(chunk)
            content.seek(0)
        except BaseException:
            content.close()
            raise
        return content

    def _chunks(self, body: Any, until: float) -> Iterator[bytes]:
        for chunk in body.iter_chunks(CHUNK_BYTES):
            yield chunk
            if time.monotonic() > until:
                body.close()
                raise self._unavailable("too slow", f"not whole after {FETCH_SECONDS:g} s")

    def _unavailable(self, code: str, words: object) -> NotReady:
        log.warning("S3 has no model for us", extra={"address": self.address, "code": code, "error": str(words)})
        return NotReady(f"model: it could not be fetched: {code}")


def unpack_archive(content: bytes | IO[bytes], folder: Path) -> None:
    """Unpack a `.tar.gz` of one artifact into `folder`, whole or not at all.

    Only plain files at the archive's root are taken, and no more of them than an artifact has: a link, a device, a
    path that leads elsewhere or a bomb is refused, and nothing of the archive stays. No more than a piece of it is in
    memory at a time, whatever it unpacks to.

    Raises
    ------
    ArtifactInvalid
        It is damaged, holds anything else, or has no manifest.
    NotReady
        `folder` cannot be written.
    """
    packed = io.BytesIO(content) if isinstance(content, bytes) else content
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix="unpacking-", dir=folder.parent))
    except OSError as error:
        raise _no_room(error, folder) from error
    try:
        _unpack_into(work, packed)
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier look at the same object
        work.rename(folder)
    except OSError as error:
        raise _no_room(error, folder) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _unpack_into(work: Path, packed: IO[bytes]) -> None:
    plain = _Plain(packed)
    names: set[str] = set()
    try:
        with tarfile.open(fileobj=cast(IO[bytes], plain), mode="r|") as archive:
            while (entry := archive.next()) is not None:
                name = entry.name.removeprefix("./")
                if entry.isdir() and name in ("", "."):
                    continue
                # A sparse file unpacks to what it claims.
                is_plain = entry.type in PLAIN_FILES and not entry.issparse() and entry.size >= 0
                if not is_plain or PLAIN_NAME.fullmatch(name) is None or name in names:
                    raise ArtifactInvalid(
                        f"archive: got {entry.name[:80]!r}, allowed plain files at the root, once each"
                    )
                names.add(name)
                if len(names) > MOST_FILES:
                    raise ArtifactInvalid(f"archive: got more than {MOST_FILES} files, allowed {MOST_FILES}")
                plain.allow(entry.size)
                taken = cast(IO[bytes], archive.extractfile(entry))
                with (work / name).open("wb") as file:
                    shutil.copyfileobj(taken, file, CHUNK_BYTES)
        while plain.read(CHUNK_BYTES):  # to the checksum at the end
            pass
    except (tarfile.TarError, zlib.error, EOFError, ValueError) as error:
        raise ArtifactInvalid(f"archive: got {type(error).__name__} ({error}), allowed a whole .tar.gz") from error
    if MANIFEST not in names:
        raise ArtifactInvalid(f"archive: got no {MANIFEST}, allowed what `kappawatt train` writes")


class _Plain:
    """What a gzip file unpacks to, read on from its beginning; no more of it than may stand before the next file.

    A header of a tar file may say that it has a gigabyte, which `tarfile` would read at once.
    """

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed = packed
        self._unpacking = zlib.decompressobj(wbits=31)
        self._given = 0
        self._allowed = HEADER_BYTES

    def allow(self, size: int) -> None:
        """Let so many bytes of a file be read, and the headers of the next."""
        if size > MOST_UNPACKED_BYTES - self._given:
            raise _too_much()
        self._allowed = self._given + size + HEADER_BYTES

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; as `tarfile` asks, none only at the end."""
        pieces: list[bytes] = []
        left = size
        while left and (piece := self._piece(left)):
            pieces.append(piece)
            left -= len(piece)
        self._given += size - left
        if self._given > MOST_UNPACKED_BYTES:
            raise _too_much()
        if self._given > self._allowed:
            raise ArtifactInvalid(f"archive: got headers of more than {HEADER_BYTES} bytes, allowed plain files")
        return b"".join(pieces)

    def _piece(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end."""
        while not self._unpacking.eof:
            head = self._unpacking.unconsumed_tail or self._packed.read(CHUNK_BYTES)
            if not head:
                raise EOFError("it ends before its end")
            piece = self._unpacking.decompress(head, size)
            if piece:
                return piece
        return b""


def _too_much() -> ArtifactInvalid:
    return ArtifactInvalid(f"archive: got more than {MOST_UNPACKED_BYTES} bytes, allowed {MOST_UNPACKED_BYTES}")


def _no_room(error: OSError, folder: Path) -> NotReady:
    full = ": disk full" if storage_reason(error, folder).startswith("disk full") else ""
    return NotReady(f"model: it could not be unpacked: {error.strerror}{full}")


def _make_client() -> Any:
    """botocore without boto3 around it: one call needs none of that, and a third of its import is saved."""
    botocore = _botocore()
    bounded = botocore.config.Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
    )
    return botocore.session.get_session().create_client("s3", config=bounded)


def _botocore() -> Any:
    try:
        import botocore
        import botocore.config
        import botocore.exceptions
        import botocore.session
    except ImportError:
        raise SettingInvalid("botocore is not installed: pip install 'kappawatt[lambda]'") from None
    return botocore
