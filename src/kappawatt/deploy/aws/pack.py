"""`model.tar.gz`: one artifact's files at the root, the same bytes whenever it is packed."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import tarfile
from dataclasses import dataclass

from kappawatt.models.artifact import MANIFEST, Artifact

__all__ = ["ARCHIVE", "Archive", "pack_artifact"]

ARCHIVE = "model.tar.gz"


@dataclass(frozen=True, slots=True)
class Archive:
    """A packed artifact.

    Parameters
    ----------
    version : str
        The model version in it.
    content : bytes
        The `.tar.gz`.
    """

    version: str
    content: bytes

    @property
    def sha256(self) -> str:
        """SHA-256 of the content, hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def checksum(self) -> str:
        """The same in base 64, as S3 writes it."""
        return base64.b64encode(hashlib.sha256(self.content).digest()).decode()


def pack_artifact(artifact: Artifact) -> Archive:
    """Return the artifact's manifest and the files it names, sorted, without times or owners.

    Two machines whose zlib compresses differently give other bytes for the same artifact, and so another
    checksum and key: that costs one more upload and harms nothing.

    Raises
    ------
    ArtifactInvalid
        A file is missing or is not the one the manifest names.
    """
    files = {name: artifact.read(name) for name in artifact.manifest.files}
    files[MANIFEST] = (artifact.path / MANIFEST).read_bytes()
    packed = io.BytesIO()
    # gzip's header holds a file name and a time; tarfile's own "w:gz" would write today's.
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0, compresslevel=9) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name in sorted(files):
            entry = tarfile.TarInfo(name)  # mtime, uid and gid are 0 and names of owners empty
            entry.size = len(files[name])
            entry.mode = 0o644
            tar.addfile(entry, io.BytesIO(files[name]))
    return Archive(artifact.manifest.version, packed.getvalue())
