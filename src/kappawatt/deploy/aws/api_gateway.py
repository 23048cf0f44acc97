"""Events of API Gateway as WSGI requests, and WSGI answers as what it sends on.

REST APIs send payload 1.0, HTTP APIs and function URLs payload 2.0. Neither knows anything of routes: the path that
reaches the app is the one it would have had without a stage or a base path before it.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote_to_bytes, urlencode

from kappawatt.columns.schema import shorten
from kappawatt.columns.strict_json import SURROGATE
from kappawatt.errors import KappawattError, PayloadInvalid

__all__ = ["REFUSED", "Reply", "Request", "read_event", "send", "to_environ"]

REFUSED = "kappawatt.refused"  # in a WSGI environment: the error to answer with
TEXT = re.compile(r"text/|application/([\w.-]+\+)?(json|x-ndjson|jsonlines|xml|javascript)\b")
SHAPES = "an event of a REST API (payload 1.0) or of an HTTP API or function URL (payload 2.0)"


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, whichever way it was written down.

    Parameters
    ----------
    payload : str
        `1.0` or `2.0`: the form that its answer has to have.
    headers : mapping of str to str
        Lower case; what was sent several times is joined by commas.
    request_id : str
        As API Gateway's own log names it.
    refused : KappawattError or None
        Why it cannot be answered, found while it was read.
    """

    payload: str
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    source: str
    request_id: str
    refused: KappawattError | None = None


@dataclass(slots=True)
class Reply:
    """What the app said."""

    status: int = 500
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def to_event(self, payload: str) -> dict[str, Any]:
        """Return what API Gateway takes; a body that is no text travels in base 64, and arrives as bytes."""
        kind = next((value for name, value in self.headers if name.lower() == "content-type"), "")
        is_text = not self.body or TEXT.match(kind) is not None
        content = self.body.decode() if is_text else base64.b64encode(self.body).decode()
        headers: dict[str, list[str]] = {}
        for name, value in self.headers:
            if name.lower() != "content-length":  # the gateway counts what it sends on
                headers.setdefault(name, []).append(value)
        answer: dict[str, Any] = {"statusCode": self.status, "body": content, "isBase64Encoded": not is_text}
        if payload == "1.0":
            return answer | {"multiValueHeaders": headers}
        return answer | {"headers": {name: ", ".join(values) for name, values in headers.items()}}


def read_event(event: Mapping[str, Any]) -> Request:
    """Return the request in an event.

    Raises
    ------
    PayloadInvalid
        It is no event of API Gateway.
    """
    try:
        return _as_unicode(_read_2(event) if event.get("version") == "2.0" else _read_1(event))
    except (KeyError, TypeError, AttributeError) as error:
        raise PayloadInvalid(f"event: got {shorten(event)!r} ({error}), allowed {SHAPES}") from error


def _as_unicode(request: Request) -> Request:
    """Return a request that a server can take: refused if a text in it is no Unicode, which an event lets through."""
    texts = {"path": request.path, "query": request.query, **{name: name for name in request.headers}}
    wrong = [name for name, text in texts.items() if SURROGATE.search(text)]
    wrong += [name for name, value in request.headers.items() if SURROGATE.search(value)]
    if not wrong:
        return request
    kept = {name: value for name, value in request.headers.items() if not SURROGATE.search(name + value)}
    error = PayloadInvalid.of(ascii(wrong[0])[1:-1][:80], "half a surrogate pair in it", "Unicode text")
    path = SURROGATE.sub("\N{REPLACEMENT CHARACTER}", request.path)
    return replace(request, path=path, query="", headers=kept, refused=request.refused or error)


def to_environ(request: Request) -> dict[str, Any]:
    """Return the WSGI environment of a request."""
    host, _, port = request.headers.get("host", "localhost").partition(":")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(request.path).decode("latin-1"),  # as WSGI wants it
        "QUERY_STRING": request.query,
        "SERVER_NAME": host,
        "SERVER_PORT": port or "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": request.source,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.headers.items():
        if "_" not in name and name not in ("content-length", "content-type", "transfer-encoding"):
            environ["HTTP_" + name.upper().replace("-", "_")] = value
    environ.setdefault("HTTP_X_REQUEST_ID", request.request_id)
    if "content-type" in request.headers:
        environ["CONTENT_TYPE"] = request.headers["content-type"]
    if request.refused is None:
        environ["CONTENT_LENGTH"] = str(len(request.body))
    else:
        environ[REFUSED] = request.refused
    return environ


def send(app: Callable[..., Iterable[bytes]], environ: dict[str, Any]) -> Reply:
    """Return the answer of a WSGI app."""
    reply = Reply()

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
        reply.status, reply.headers = int(status.split(" ", 1)[0]), headers

    parts = app(environ, start_response)
    try:
        reply.body = b"".join(parts)
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()
    return reply


def _read_1(event: Mapping[str, Any]) -> Request:
    context = event.get("requestContext") or {}
    many = event.get("multiValueHeaders")
    headers = many if many is not None else {k: [v] for k, v in (event.get("headers") or {}).items()}
    query = event.get("multiValueQueryStringParameters") or event.get("queryStringParameters") or {}
    body, refused = _body(event)
    return Request(
        payload="1.0",
        method=event["httpMethod"],
        path=_path(event["path"], event.get("resource") or "", event, context.get("stage")),
        query=urlencode(query, doseq=True, errors="replace"),
        headers={name.lower(): ",".join(values) for name, values in headers.items()},
        body=body,
        source=(context.get("identity") or {}).get("sourceIp") or "",
        request_id=context.get("requestId") or "",
        refused=refused,
    )


def _read_2(event: Mapping[str, Any]) -> Request:
    context = event["requestContext"]
    body, refused = _body(event)
    return Request(
        payload="2.0",
        method=context["http"]["method"],
        path=_path(event["rawPath"], event.get("routeKey", "").partition(" ")[2], event, context.get("stage")),
        query=event.get("rawQueryString") or "",
        headers={name.lower(): value for name, value in event.get("headers", {}).items()},
        body=body,
        source=context["http"].get("sourceIp", ""),
        request_id=context.get("requestId") or "",
        refused=refused,
    )


def _body(event: Mapping[str, Any]) -> tuple[bytes, KappawattError | None]:
    text = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        try:
            return text.encode(), None
        except UnicodeEncodeError as error:
            return b"", PayloadInvalid(f"body: got {error.object[error.start]!r} in it, allowed text")
    try:
        return base64.b64decode(text, validate=True), None
    except (binascii.Error, ValueError) as error:
        return b"", PayloadInvalid(f"body: got damaged base 64 ({error}), allowed base 64 as isBase64Encoded says")


def _path(path: str, template: str, event: Mapping[str, Any], stage: str | None) -> str:
    """The path from the route on: the route says best where a stage or the base path of a domain ends."""
    given = event.get("pathParameters") or {}
    known = re.sub(r"{(\w+)\+?}", lambda found: str(given.get(found[1], "\0")), template)
    if known.startswith("/") and len(known) > 1 and path.endswith(known):
        return known
    prefix = f"/{stage}"
    return path.removeprefix(prefix) or "/" if path == prefix or path.startswith(prefix + "/") else path
