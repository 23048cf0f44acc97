"""Arrays of an artifact: read from `.npz` once, in one way, never unpickled, and never more than they may be."""

from __future__ import annotations

import io
import math
import zipfile
from typing import Any

from numpy.lib import format as npy
from numpy.typing import NDArray

from kappawatt.errors import ArtifactInvalid

__all__ = ["most_unpacked", "read_arrays"]

MOST_ARRAYS = 1_000
LEAST_ROOM = 32 * 1024 * 1024  # bytes that any file may unpack to, however small it is
RATIO = 4  # of weights packed and unpacked: random digits hardly pack at all, and a bomb does a thousandfold
COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
ENTRY = b"PK\x01\x02"  # begins each entry of a zip file's directory


def most_unpacked(size: int) -> int:
    """Return to how many bytes a packed file of a model may unpack: 32 MB, or four times its own size."""
    return max(LEAST_ROOM, RATIO * size)


def read_arrays(content: bytes, name: str = "model.npz") -> dict[str, NDArray[Any]]:
    """Return the arrays in a `.npz` file by name.

    Parameters
    ----------
    content : bytes
        The file.
    name : str
        What an error calls it.

    Raises
    ------
    ArtifactInvalid
        It is no such file, holds objects, which only unpickling could read, or would unpack to more than it may.
    """
    try:
        return _read(content)
    except Exception as error:  # zipfile, zlib, tokenize and NumPy share no base but Exception
        raise ArtifactInvalid(f"{name}: {str(error)[:200]}") from error


def _read(content: bytes) -> dict[str, NDArray[Any]]:
    entries = content.count(ENTRY)
    if entries > MOST_ARRAYS:
        raise ValueError(f"got {entries} arrays, allowed {MOST_ARRAYS}")
    most = most_unpacked(len(content))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if not {member.compress_type for member in members} <= COMPRESSIONS:
            raise ValueError("got a compression that NumPy does not write, allowed deflate or none")
        claimed = sum(member.file_size for member in members)
        if claimed > most:
            raise ValueError(f"got arrays that unpack to {claimed} bytes, allowed {most}")
        sizes = {member.filename: _size_of(archive, member) for member in members}
        if len(sizes) != len(members):
            raise ValueError("got two arrays of one name, allowed each once")
        found = {}
        for member in members:
            with archive.open(member) as file:
                found[member.filename.removesuffix(".npy")] = npy.read_array(file, allow_pickle=False)
        return found


def _size_of(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """The bytes an array takes by its own header, which need not say what the archive says."""
    with archive.open(member) as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError(f"{member.filename}: got objects, which only a pickle holds, allowed numbers and text")
    if any(length < 0 for length in shape):
        raise ValueError(f"{member.filename}: got the shape {str(shape)[:80]}, allowed lengths from 0 up")
    size = math.prod(shape) * dtype.itemsize
    if size > member.file_size:
        raise ValueError(f"{member.filename}: got an array of {size} bytes, allowed the {member.file_size} there are")
    return size
