"""Files of models that unpack to more than they should."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable

import numpy as np

__all__ = ["npz_files", "tar_files"]

Make = Callable[[], bytes]
MEGABYTE = 2**20
LEVEL = 3  # zeros become 230 times smaller in a third of the time that a thousand times takes


def _npz(**arrays: np.ndarray) -> bytes:
    """As `np.savez_compressed` writes it, but at our level."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array)
    return content.getvalue()


def _zip(*members: tuple[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", kind, compresslevel=LEVEL) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return content.getvalue()


def _npy(shape: str, data: bytes = b"") -> bytes:
    head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


def npz_files() -> dict[str, Make]:
    """What may lie in the place of `model.npz`."""
    return {
        "npz: zeros of 400 MB": lambda: _npz(a=np.zeros(50 * MEGABYTE)),
        "npz: many arrays of zeros": lambda: _npz(**{f"a{i}": np.zeros(MEGABYTE) for i in range(50)}),
        "npz: thirty thousand arrays": lambda: _zip(*((f"a{i}.npy", _npy("()", bytes(8))) for i in range(30_000))),
        "npz: a shape that lies": lambda: _zip(("a.npy", _npy("(1000000000000,)"))),
        "npz: a shape of shapes": lambda: _zip(("a.npy", _npy("(1000000, 1000000, 1000000)"))),
        "npz: a header of megabytes": lambda: _zip(("a.npy", _npy("(" + "1," * 30_000 + ")"))),
        "npz: bytes behind the header": lambda: _zip(("a.npy", _npy("(1,)", bytes(300 * MEGABYTE)))),
        "npz: a size that lies": lambda: _lying(_npz(a=np.zeros(50 * MEGABYTE))),
        "npz: another compression": lambda: _zip(("a.npy", bytes(100 * MEGABYTE)), kind=zipfile.ZIP_LZMA),
        "npz: the same name again and again": lambda: _zip_of_one_name(),
    }


def _lying(content: bytes) -> bytes:
    """Say of the first member that it has a kilobyte."""
    at = content.index(b"PK\x01\x02")
    return content[: at + 24] + struct.pack("<I", 1_000) + content[at + 28 :]


def _zip_of_one_name() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(200):
            archive.writestr(zipfile.ZipInfo(f"a{i:03}.npy"), _npy("(16,)", bytes(128)))
    return content.getvalue().replace(b"a001.npy", b"a000.npy")


def _tar(*entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz", format=form, compresslevel=LEVEL) as tar:
        for entry, data in entries:
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return content.getvalue()


def _file(name: str, data: bytes = b"", **given: object) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    for key, value in given.items():
        setattr(entry, key, value)
    return entry, data


def tar_files() -> dict[str, Make]:
    """What may lie in the place of `model.tar.gz`."""
    manifest = _file("manifest.json", b"{}")
    return {
        "tar: two hundred thousand files": lambda: _empty_files(200_000),
        "tar: one file of 500 MB": lambda: _tar(manifest, _file("model.npz", bytes(500 * MEGABYTE))),
        "tar: zeros and no end": lambda: gzip.compress(bytes(500 * MEGABYTE), LEVEL),
        "tar: a name of 300 MB": lambda: _long_header(b"L", 300 * MEGABYTE),
        "tar: a header of 300 MB": lambda: _long_header(b"x", 300 * MEGABYTE),
        "tar: headers and no file": lambda: _headers(200_000),
        "tar: links to itself": lambda: _tar(manifest, *(_file(f"l{i}", type=tarfile.SYMTYPE) for i in range(1_000))),
        "tar: a size that lies": lambda: _claiming(2**40),
        "tar: a negative size": lambda: _claiming(-1),
        "tar: a sparse file": lambda: _tar(
            _file("manifest.json", pax_headers={"GNU.sparse.size": str(2**40), "GNU.sparse.map": "0,0"})
        ),
    }


def _empty_files(count: int) -> bytes:
    """So many, each of another name: `tarfile` takes 50 microseconds for a header, of which only digits differ."""
    first = tarfile.TarInfo("f" + "0" * 6).tobuf(tarfile.GNU_FORMAT)
    checksum = int(first[148:154], 8)  # the sum of all bytes, which grows with the digits
    headers = []
    for i in range(count):
        digits = b"%06d" % i
        headers.append(b"f%s%s%06o%s" % (digits, first[7:148], checksum + sum(digits) - 6 * ord("0"), first[154:]))
    return gzip.compress(b"".join(headers) + bytes(1024), LEVEL)


def _long_header(kind: bytes, size: int) -> bytes:
    entry = tarfile.TarInfo("././@LongLink")
    entry.type, entry.size = kind, size
    return gzip.compress(entry.tobuf(tarfile.GNU_FORMAT) + bytes(size) + tarfile.TarInfo("a").tobuf(), LEVEL)


def _headers(count: int) -> bytes:
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = tarfile.XHDTYPE, 512
    record = b"20 comment=aaaaaaaa\n"
    return gzip.compress((entry.tobuf() + record.ljust(512, b"\0")) * count, LEVEL)


def _claiming(size: int) -> bytes:
    entry = tarfile.TarInfo("manifest.json")
    entry.size = size
    return gzip.compress(entry.tobuf(tarfile.GNU_FORMAT) + b"{}".ljust(512, b"\0") + bytes(1024))
