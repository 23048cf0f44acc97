"""Where a request ends: found byte by byte as it arrives, so that nobody has to wait for the rest of it.

This only decides when a request is handed to gunicorn's parser, which alone decides what it says and whether it is
one. Where both do not agree, the parser finds less or more than was handed to it, and the connection is closed.
"""

from __future__ import annotations

import re

from gunicorn.http.errors import InvalidRequestLine, LimitRequestHeaders, LimitRequestLine

from kappawatt.errors import PayloadInvalid, PayloadTooLarge

__all__ = ["Framing"]

MOST_HEAD_BYTES = 32_768  # nginx takes as much
MOST_LINE_BYTES = 8190
MOST_CHUNK_LINE_BYTES = 8192
MOST_LENGTH_DIGITS = 18
MOST_SHOWN = 40  # characters of what was got
CRLF = b"\r\n"
END = b"\r\n\r\n"
REQUEST_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [^ ]+ HTTP/[0-9]\.[0-9]")
BEGINS_A_METHOD = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz\r")
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(;[^\r\n]*)?")


class Framing:
    """Of one request at a time.

    Parameters
    ----------
    most_bytes : int
        Largest body.

    Attributes
    ----------
    length : int
        Bytes of the whole request once `is_whole` said so, or of a body with a Content-Length once the head is here.
    has_head : bool
        Whether the head is here.
    is_cut : bool
        The body is too large, and is not read, or where it ends is not known: nothing can follow on the connection.
    expects : bool
        Whether the client waits for `100 Continue`.
    is_chunked : bool
    """

    __slots__ = ("_at", "_body", "_most", "_searched", "expects", "has_head", "is_chunked", "is_cut", "length")

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self.begin()

    def begin(self) -> None:
        """Look for another request."""
        self.has_head = self.is_cut = self.expects = self.is_chunked = False
        self.length = self._searched = self._at = self._body = 0

    def is_whole(self, data: bytearray) -> bool:
        """Return whether `data` begins with a whole request, or with what cannot become one.

        Raises
        ------
        InvalidRequestLine, LimitRequestLine, LimitRequestHeaders
            It will not become a request.
        PayloadTooLarge
            Chunks are more than a body may be.
        PayloadInvalid
            A Content-Length of more digits than any body has: who counts it differently finds other requests behind.
        """
        if not self.has_head:
            end = data.find(END, self._searched)
            if end < 0:
                self._searched = max(0, len(data) - 3)
                _require_head(data)
                return False
            self._read_head(data, end)
        if self.is_chunked:
            return self._is_last_chunk_here(data)
        return len(data) >= self.length

    def _read_head(self, data: bytearray, end: int) -> None:
        self.has_head = True
        self.length = end + 4
        lines = data[:end].lower()
        coding = _value(lines, b"\r\ntransfer-encoding:")
        announced = _value(lines, b"\r\ncontent-length:")
        if coding is not None:
            # Anything else has no length that can be known, and is refused by the parser.
            self.is_chunked = coding == b"chunked" and announced is None and _is_current(lines)
            self._at = self.length
        elif announced is not None and not announced.isdigit():
            self.is_cut = True  # the parser refuses it
        elif announced is not None:
            if len(announced) > MOST_LENGTH_DIGITS:
                raise PayloadInvalid.of(
                    "content-length", _shown(announced[:MOST_SHOWN]), f"at most {MOST_LENGTH_DIGITS} digits"
                )
            if int(announced) > self._most:
                self.is_cut = True
            else:
                self.length += int(announced)
        if _value(lines, b"\r\nexpect:") == b"100-continue":
            self.expects = _is_current(lines)

    def _is_last_chunk_here(self, data: bytearray) -> bool:
        """Go on from chunk to chunk; whatever is no chunk ends the request, and the parser says what is wrong."""
        while self._at <= len(data):
            end = data.find(CRLF, self._at)
            if end < 0:
                self.length = len(data)
                return len(data) - self._at > MOST_CHUNK_LINE_BYTES
            found = CHUNK_SIZE.fullmatch(data, self._at, end)
            if found is None or (self._body and data[self._at - 2 : self._at] != CRLF):
                self.length = len(data)
                self.is_cut = True
                return True
            size = int(found[1], 16)
            if size == 0:
                return self._are_trailers_here(data, end)
            self._body += size
            # The frames of chunks may take as much as what is in them, or a body of one byte a chunk would be endless.
            if self._body > self._most or self._at > 2 * self._most + MOST_HEAD_BYTES:
                raise PayloadTooLarge.of("body", f"more than {self._most} bytes", self._most)
            self._at = end + 2 + size + 2
        return False

    def _are_trailers_here(self, data: bytearray, end: int) -> bool:
        if data.startswith(CRLF, end + 2):
            self.length = end + 4
            return True
        last = data.find(END, end)
        if last < 0:
            if len(data) - end > MOST_HEAD_BYTES:
                raise LimitRequestHeaders("trailers are too large")
            return False
        self.length = last + 4
        return True


def _require_head(data: bytearray) -> None:
    """Refuse at once what will not become a head: another protocol, a line without its end, too many headers."""
    start = 2 if data.startswith(CRLF) else 0  # one empty line may come before (RFC 9112, 2.2)
    line = data.find(b"\n", start)
    if line < 0:
        if len(data) - start > MOST_LINE_BYTES:
            raise LimitRequestLine(len(data) - start, MOST_LINE_BYTES)
        if len(data) > start and data[start] not in BEGINS_A_METHOD:
            raise InvalidRequestLine(_shown(data[start:]))
        return
    if data[line - 1 : line] != b"\r" or not REQUEST_LINE.fullmatch(data, start, line - 1):
        raise InvalidRequestLine(_shown(data[start:line]))
    if len(data) > MOST_HEAD_BYTES:
        raise LimitRequestHeaders("headers are too large")


def _shown(line: bytes | bytearray) -> str:
    return bytes(line).decode("latin-1")


def _value(lines: bytearray, name: bytes) -> bytes | None:
    at = lines.find(name)
    if at < 0:
        return None
    at += len(name)
    stop = lines.find(CRLF, at)
    return bytes(lines[at : stop if stop >= 0 else len(lines)].strip(b" \t"))


def _is_current(lines: bytearray) -> bool:
    """Whether it is HTTP/1.1: the version before knows neither chunks nor expectations."""
    return not lines.partition(CRLF)[0].endswith(b"http/1.0")
