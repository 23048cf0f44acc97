"""A file's bytes, unpacked: gzip, zip, encodings."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from kappawatt.datasets.reading.table import Fact
from kappawatt.errors import PayloadInvalid, PayloadTooLarge

__all__ = ["ARROWS", "DAMAGED", "GZIP", "Content", "gunzipped_head", "text_of", "unpack"]

GZIP, ZIP, PARQUET = b"\x1f\x8b", b"PK\x03\x04", b"PAR1"
ARROWS = (b"ARROW1", b"\xff\xff\xff\xff")
WORKBOOK_PART = "xl/workbook.xml"
COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # of Office files before 2007, and of later ones with a password
LOCKED = "EncryptedPackage".encode("utf-16-le")
SAVE = "a workbook of today: save it as .xlsx, or as CSV"
# What zipfile and gzip raise for bytes that are none, an offset before the beginning among them.
DAMAGED = (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zlib.error, zipfile.BadZipFile)
MOST_MEMBERS = 10_000
SHOWN = 5
MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds.

    Parameters
    ----------
    data : bytes
    kind : str
        `text`, `workbook`, `parquet` or `arrow`.
    facts : tuple of Fact
    name : str
        Of the file inside, or the file's own.
    """

    data: bytes
    kind: str
    facts: tuple[Fact, ...] = ()
    name: str = ""


def unpack(data: bytes, name: str, most: int) -> Content:
    """Unpack gzip and zip, whatever the name says.

    Parameters
    ----------
    most : int
        Bytes that may come of it.

    Raises
    ------
    PayloadInvalid
        It is damaged, or an archive of none or several files.
    PayloadTooLarge
        More than `most` bytes came of it.
    """
    facts: tuple[Fact, ...] = ()
    if data[:2] == GZIP:
        data, facts = _gunzip(data, most), (Fact("packed", "gzip"),)
        name = name.removesuffix(".gz")
    if data[:4] == ZIP and not _is_workbook(data, most):
        with _archive(data) as archive:
            member = _only_member(archive)
            facts = (*facts, Fact("packed", "zip", f"the one file in it is {member.filename}"))
            data = _read(lambda: archive.open(member), most, "zip")
            name = member.filename.rpartition("/")[2]
    if data[:4] == ZIP and _is_workbook(data, most):
        return Content(data, "workbook", facts, name)
    if data.startswith(COMPOUND):
        what = "a workbook with a password" if LOCKED in data else "an old workbook (.xls)"
        raise PayloadInvalid.of("file", what, "one without: save it so" if LOCKED in data else SAVE)
    if len(data) > most:
        raise PayloadTooLarge.of("file", f"{len(data)} bytes", f"up to {most}")
    kind = "parquet" if data[:4] == PARQUET else "arrow" if data.startswith(ARROWS) else "text"
    return Content(data, kind, facts, name)


def _is_workbook(data: bytes, most: int) -> bool:
    """Whether a zip is a workbook (.xlsx); those of other kinds are refused with what to do."""
    with _archive(data) as archive:
        names = archive.namelist()
        if WORKBOOK_PART in names:
            _require_within(sum(member.file_size for member in archive.infolist()), most, "workbook")
            return True
        if "xl/workbook.bin" in names:
            raise PayloadInvalid.of("file", "a binary workbook (.xlsb)", SAVE)
        if "content.xml" in names and "mimetype" in names:
            raise PayloadInvalid.of("file", "an OpenDocument file (.ods)", SAVE)
    return False


def gunzipped_head(data: bytes, size: int) -> bytes:
    """Return the first bytes that a gzip file unpacks to, from its beginning.

    Raises
    ------
    PayloadInvalid
        It is damaged.
    """
    try:
        return zlib.decompressobj(wbits=31).decompress(data, size)
    except zlib.error as error:
        raise PayloadInvalid(f"got damaged gzip ({error}), allowed gzip") from None


def _gunzip(data: bytes, most: int) -> bytes:
    return _read(lambda: gzip.open(io.BytesIO(data)), most, "gzip")


def _read(opened: Callable[[], IO[bytes] | gzip.GzipFile], most: int, kind: str) -> bytes:
    try:
        with opened() as file:
            found = file.read(most + 1)
    except DAMAGED as error:
        raise PayloadInvalid.of("file", f"damaged {kind} ({error})", kind) from None
    _require_within(len(found), most, kind)
    return bytes(found)


def _require_within(size: int, most: int, kind: str) -> None:
    if size > most:
        raise PayloadTooLarge.of("file", f"{kind} that unpacks to more than {most} bytes", f"up to {most}")


def _archive(data: bytes) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except DAMAGED as error:
        raise PayloadInvalid.of("file", f"damaged zip ({error})", "zip") from None
    if len(archive.filelist) > MOST_MEMBERS:
        raise PayloadTooLarge.of("file", f"{len(archive.filelist)} files in an archive", f"up to {MOST_MEMBERS}")
    return archive


def _only_member(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    files = [one for one in archive.infolist() if not one.filename.startswith("__MACOSX/") and one.filename[-1:] != "/"]
    if len(files) != 1:
        names = ", ".join(one.filename[:80] for one in files[:SHOWN])
        raise PayloadInvalid.of("file", f"a zip of {len(files)} files ({names})", "a zip of one: unpack it first")
    if files[0].flag_bits & 1:
        raise PayloadInvalid.of("file", "a zip with a password", "one without")
    return files[0]


def text_of(data: bytes) -> tuple[bytes, Fact]:
    """Return a text file's bytes as UTF-8 without a mark, and its encoding.

    Lines that end as on old Macs, with a carriage return alone, end with a line feed then.

    Bytes that are no UTF-8 are read as Windows-1252, which names of columns in western languages are written in;
    digits are the same in both.

    Raises
    ------
    PayloadInvalid
        It has bytes that are no text.
    """
    text, encoding = _decoded(data)
    return (text if b"\n" in text else text.replace(b"\r", b"\n")), encoding


def _decoded(data: bytes) -> tuple[bytes, Fact]:
    for mark, encoding in MARKS.items():
        if data.startswith(mark):
            try:
                return data[len(mark) :].decode(encoding).encode(), Fact(
                    "encoding", encoding.upper(), "its first bytes"
                )
            except UnicodeDecodeError as error:
                raise PayloadInvalid.of("file", f"byte {error.start} that is no {encoding.upper()}", "text") from None
    if b"\0" in data:
        raise PayloadInvalid.of("file", f"a zero byte at {data.index(0)}", "text: CSV, or a workbook, Parquet or Arrow")
    try:
        data.decode()
        return data, Fact("encoding", "UTF-8")
    except UnicodeDecodeError as error:
        place = error.start
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError as error:
        got = f"byte {data[error.start]:#04x} at {error.start}"
        raise PayloadInvalid.of("file", got, "UTF-8 or Windows-1252") from None
    return text.encode(), Fact("encoding", "Windows-1252", f"byte {data[place]:#04x} at {place} is no UTF-8")
