"""What a client is told that sent no request that could be answered: problem documents, as from every other place."""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

from gunicorn.http import errors as http

from kappawatt.errors import FieldError, KappawattError
from kappawatt.serving.bookkeeping import REQUEST_ID, request_id
from kappawatt.serving.problems import PROBLEM, problem_document
from kappawatt.serving.server.limits import Limits

__all__ = ["Refusal", "TooManyWait", "TooSlow", "refusal", "refusal_of"]

MOST_SHOWN = 80  # characters of what was got
TITLES = {413: "Payload too large", 500: "Internal error", 503: "Overloaded"}


class TooSlow(FieldError):
    """A request did not arrive in time."""

    status = 408
    title = "Request timeout"

    @classmethod
    def head(cls, limits: Limits) -> TooSlow:
        """Return the error of a line and headers."""
        return cls.of("headers", "a part of them", f"all within {limits.head_seconds:g} s")

    @classmethod
    def body(cls, limits: Limits) -> TooSlow:
        """Return the error of a body."""
        rate = f"{limits.slowest_rate:g} bytes/s but for {limits.stall_seconds:g} s"
        return cls.of("body", "a part of it", f"all within {limits.body_seconds:g} s, and {rate}")


class TooManyWait(KappawattError):
    """There was no room for a body."""

    status = 503
    title = "Overloaded"


class Refusal(NamedTuple):
    """An answer that ends its connection."""

    status: int
    reason: str
    answer: bytes


# What gunicorn's parser raises, and what we tell: field, what is allowed. Its own message is what was got.
_SAID: dict[type[Exception], tuple[int, str, str]] = {
    http.InvalidRequestLine: (
        400,
        "request",
        "METHOD TARGET HTTP/1.1 with a target of printable ASCII, then headers NAME: VALUE, each line ended by CRLF",
    ),
    http.InvalidRequestMethod: (400, "method", "3 to 20 capital letters"),
    http.InvalidHTTPVersion: (400, "version", "HTTP/1.1 or HTTP/1.0"),
    http.LimitRequestLine: (414, "request line", "8190 bytes"),
    http.LimitRequestHeaders: (431, "headers", "100 fields of 8190 bytes, 32768 bytes in all"),
    http.UnsupportedTransferCoding: (400, "transfer-encoding", "chunked, or none"),
    http.ExpectationFailed: (417, "expect", "100-continue"),
    http.ObsoleteFolding: (400, "header", "one line, not continued on the next"),
    http.InvalidHeaderName: (400, "header", "a name of letters, digits and hyphens, which may be given again"),
    http.InvalidHeader: (400, "header", "NAME: VALUE, given once where one is meant, with a body's length stated once"),
    http.InvalidSchemeHeaders: (400, "header", "X-Forwarded-Proto that says one thing"),
    http.ConfigurationProblem: (400, "header", "a path that begins with SCRIPT_NAME, or no such header"),
    http.InvalidChunkSize: (400, "body", "chunks that begin with their size in hexadecimal digits"),
    http.InvalidChunkExtension: (400, "body", "chunks without extensions, or with valid ones"),
    http.ChunkMissingTerminator: (400, "body", "chunks that end with CRLF"),
}


def refusal(error: BaseException) -> Refusal | None:
    """Return what is told of a request that raised `error` before there was an answer; None if it is not known.

    Parameters
    ----------
    error : BaseException
        Of gunicorn's parser, or a KappawattError.
    """
    if isinstance(error, KappawattError):
        return refusal_of(error.status, str(error), error.title)
    if isinstance(error, (http.InvalidResponseHeader, http.InvalidResponseHeaderName)):
        return None  # ours, not the client's
    for kind in type(error).__mro__:
        if kind in _SAID:
            status, field, allowed = _SAID[kind]
            return refusal_of(status, f"{field}: got {_got(error)}, allowed {allowed}")
    if isinstance(error, http.NoMoreData):
        return refusal_of(400, "request: got its beginning, allowed all of it")
    return None


def refusal_of(status: int, detail: str, title: str | None = None) -> Refusal:
    """Return an answer that ends its connection."""
    title = title or TITLES.get(status) or HTTPStatus(status).phrase
    own_id = request_id(None)
    body = problem_document(status, title, detail, own_id)
    reason = HTTPStatus(status).phrase
    retry = "Retry-After: 1\r\n" if status == 503 else ""
    head = (
        f"HTTP/1.1 {status} {reason}\r\nServer: gunicorn\r\nConnection: close\r\nContent-Type: {PROBLEM}\r\n"
        f"Content-Length: {len(body)}\r\n{REQUEST_ID}: {own_id}\r\n{retry}\r\n"
    )
    return Refusal(status, detail, head.encode("ascii") + body)


def _got(error: BaseException) -> str:
    name, _, value = str(error).partition(": ")
    said = value or name
    return said if len(said) <= MOST_SHOWN else said[:MOST_SHOWN] + "..."
