"""`/api/SERVICE/...`: requests on their way to a service, and answers on their way back."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote, urlsplit

import urllib3
from flask import Request, Response
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
    TimeoutError,
)

from kappawatt.errors import KappawattError, PayloadInvalid, SettingInvalid
from kappawatt.serving.body import read_body

from ..paths import OWN_NAMES
from .breaker import Breaker
from .connections import connections, keep_only

__all__ = ["METHODS", "Address", "Proxy", "ServiceSlow", "ServiceUnreachable", "Target", "parse_services"]

log = logging.getLogger(__name__)

# A service itself says which of these a path of its own knows (405 with Allow).
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY")
STRAY_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")  # one of them, and urllib3 encodes all others once more
SERVICE_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
PORTS = {"http": 80, "https": 443}
CONNECT_SECONDS = 1.0
READ_SECONDS = 30.0
TRIES = 3
BACKOFF_SECONDS = 0.1  # before the second try, doubled before the third
# A connection that does not come about carries nothing, so any request may try again. Behind one address there may be
# several processes, and one that has just died is still among them for a second or two.
REFUSED_SECONDS = 2.0
REFUSED_BACKOFF_SECONDS = (0.02, 0.25)  # before the second try of an address; doubled up to
MOST_INSTANCES = 3  # tried for one Idempotency-Key, before the service's own address
WHOLE_BYTES = 1 << 20  # answers up to this size are read before the first byte is passed on
CHUNK_BYTES = 1 << 16
KEPT_CONNECTIONS = 32  # by address
MOST_ADDRESSES = 100  # with kept connections
HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te",
     "trailer", "transfer-encoding", "upgrade")
)  # fmt: skip
# The gateway's own business: services see neither keys nor cookies, and nobody forges where a request came from, or
# has a service take it for another method than the one that was allowed.
NOT_SENT = HOP_BY_HOP | frozenset(
    ("host", "content-length", "expect", "authorization", "x-api-key", "cookie", "forwarded",
     "x-forwarded-for", "x-forwarded-host", "x-forwarded-prefix",
     "x-forwarded-proto", "x-forwarded-protocol", "x-forwarded-ssl", "x-request-id", "traceparent",
     "x-http-method-override", "x-http-method", "x-method-override")
)  # fmt: skip
NOT_RETURNED = HOP_BY_HOP | frozenset(("set-cookie", "server", "date", "x-request-id", "traceparent"))


class ServiceUnreachable(KappawattError):
    """The service could not be connected, or broke off before it answered."""

    status = 502
    title = "Bad gateway"


class ServiceSlow(KappawattError):
    """The service did not answer in time."""

    status = 504
    title = "Gateway time-out"


Address = tuple[str, int]
"""Host and port."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where one service is.

    Parameters
    ----------
    name, scheme : str
    host, port : str, int
        Its address, behind which there may be several instances.
    breaker : Breaker
    instances : tuple of Address
        Those there are, if requests with one Idempotency-Key are to come to the same one.
    """

    name: str
    scheme: str
    host: str
    port: int
    breaker: Breaker = field(compare=False)
    instances: tuple[Address, ...] = ()

    @property
    def address(self) -> Address:
        """Where any instance answers."""
        return self.host, self.port

    @property
    def netloc(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def addresses(self, idempotency_key: str | None) -> list[Address]:
        """Return where a request may go, best first.

        Instances are ranked by rendezvous hashing: every gateway ranks alike, and one that comes or goes takes or
        leaves only the keys for which it is the first.

        Examples
        --------
        >>> target = Target("a", "http", "a.svc", 80, Breaker("a"), (("10.0.0.1", 80), ("10.0.0.2", 80)))
        >>> target.addresses(None)
        [('a.svc', 80)]
        >>> target.addresses("key 1")
        [('10.0.0.2', 80), ('10.0.0.1', 80), ('a.svc', 80)]
        """
        if idempotency_key is None:
            return [self.address]

        def weight(instance: Address) -> bytes:
            host, port = instance
            return hashlib.blake2b(f"{host} {port} {idempotency_key}".encode(), digest_size=8).digest()

        return [*sorted(self.instances, key=weight, reverse=True)[:MOST_INSTANCES], self.address]


def parse_services(text: str) -> dict[str, Target]:
    """Read `name=http://host:port`, comma separated.

    Raises
    ------
    SettingInvalid
        An entry cannot be used; the message repeats it.

    Examples
    --------
    >>> parse_services("plant-power=http://127.0.0.1:8081")["plant-power"].netloc
    '127.0.0.1:8081'
    """
    targets: dict[str, Target] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, url = (part.strip() for part in entry.partition("="))
        if not SERVICE_NAME.fullmatch(name) or name in OWN_NAMES:
            allowed = f"small letters, digits and hyphens, none of {', '.join(OWN_NAMES)}"
            raise SettingInvalid(f"KAPPAWATT_SERVICES: name: got {name!r}, allowed {allowed}")
        if name in targets:
            raise SettingInvalid(f"KAPPAWATT_SERVICES: got {name!r} twice, allowed each service once")
        targets[name] = _target(name, url, entry)
    return targets


def _target(name: str, url: str, entry: str) -> Target:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    plain = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme not in PORTS or not parts.hostname or not plain:
        raise SettingInvalid(f"KAPPAWATT_SERVICES: got {entry!r}, allowed name=http://host:port")
    return Target(name, parts.scheme, parts.hostname, port or PORTS[parts.scheme], Breaker(name))


def path_below(rest: str) -> str:
    """Return the path to ask for, percent-encoded; PayloadInvalid if it would leave the service."""
    segments = rest.split("/")
    if any(part in (".", "..") for part in segments) or "" in segments[:-1] or re.search(r"[\\\x00-\x1f\x7f]", rest):
        raise PayloadInvalid(f"path: got {rest[:200]!r}, allowed one without empty, `.` or `..` parts")
    return "/" + quote(rest, safe="/:@!$&'()*+,;=~")


class Proxy:
    """Passes requests to services and their answers back.

    Parameters
    ----------
    targets : mapping of str to Target
    connect_seconds, read_seconds : float
        How long a connection, and the next byte of an answer, may take.
    refused_seconds : float
        How long connections are tried that do not come about.
    """

    def __init__(
        self,
        targets: Mapping[str, Target],
        *,
        connect_seconds: float = CONNECT_SECONDS,
        read_seconds: float = READ_SECONDS,
        refused_seconds: float = REFUSED_SECONDS,
    ) -> None:
        self._given = dict(targets)
        self.targets: Mapping[str, Target] = self._given  # replaced as a whole, never changed
        self._timeout = urllib3.Timeout(connect=connect_seconds, read=read_seconds)
        self._refused_seconds = refused_seconds
        self._pools = connections(KEPT_CONNECTIONS, MOST_ADDRESSES)

    def found(self, targets: Iterable[Target]) -> None:
        """Have exactly these beside those given, which win; one whose address has not changed keeps its breaker."""
        known, merged = self.targets, dict(self._given)
        for target in targets:
            if target.name not in self._given:
                before = known.get(target.name)
                if before is not None and before.address == target.address:
                    target = replace(target, breaker=before.breaker)
                merged[target.name] = target
        if merged != known:
            came, gone = sorted(merged.keys() - known.keys()), sorted(known.keys() - merged.keys())
            moved = sorted(name for name in merged.keys() & known.keys() if merged[name] != known[name])
            log.info("services changed", extra={"came": came, "gone": gone, "moved": moved})
            self.targets = merged
            keep_only(self._pools, {at for each in merged.values() for at in (each.address, *each.instances)})

    def close(self) -> None:
        """Close kept connections."""
        self._pools.clear()

    def forward(
        self,
        target: Target,
        rest: str,
        asked: Request,
        request_id: str,
        trace: str,
        is_repeatable: Callable[[], bool],
    ) -> Response:
        """Return the service's answer to `asked`.

        Parameters
        ----------
        is_repeatable : callable
            Asked when a connection broke off, whether the request may be sent again although it may have come.

        Raises
        ------
        PayloadInvalid, CircuitOpen, ServiceUnreachable, ServiceSlow
        """
        url = path_below(rest)
        query = quote(STRAY_PERCENT.sub(b"%25", asked.query_string), safe="=&?/:@!$'()*+,;~%-._[]|")
        body = read_body(is_passed_on=True) if asked.method not in ("GET", "HEAD") else None
        headers = _request_headers(asked, target.name, request_id, trace)
        answer = self.call(target, asked.method, f"{url}?{query}" if query else url, headers, body, is_repeatable)
        return _response(answer, target, asked.method)

    def fetch(self, target: Target, path: str, seconds: float) -> tuple[int, bytes]:
        """GET a document for the gateway itself, without the breaker; return status and body."""
        timeout = urllib3.Timeout(connect=min(seconds, CONNECT_SECONDS), read=seconds)
        try:
            answer = self._send(target, target.address, "GET", path, {}, None, timeout, preload=True)
        except HTTPError as error:
            raise ServiceUnreachable(f"{target.name}: {_reason(error)}") from error
        return answer.status, answer.data

    def call(
        self,
        target: Target,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        is_repeatable: Callable[[], bool],
    ) -> urllib3.BaseHTTPResponse:
        """Ask behind the breaker, at the next address if no connection came about, and again if it broke off before
        an answer and asking twice changes nothing.
        """
        target.breaker.enter()
        began = time.monotonic()
        addresses = target.addresses(headers.get("Idempotency-Key"))
        refused = broken = 0
        while True:
            try:
                address = addresses[refused % len(addresses)]
                answer = self._send(target, address, method, url, headers, body, self._timeout, preload=False)
            except HTTPError as error:
                if isinstance(error, ConnectTimeoutError):  # refusals and unknown names are among them
                    refused += 1
                    rounds, others = divmod(refused, len(addresses))
                    shortest, longest = REFUSED_BACKOFF_SECONDS
                    pause = 0.0 if others else min(shortest * 2 ** (rounds - 1), longest)
                    is_over = not others and time.monotonic() + pause > began + self._refused_seconds
                else:
                    pause = BACKOFF_SECONDS * 2**broken
                    broken += 1
                    # three times the time-out helps nobody
                    is_over = broken == TRIES or isinstance(error, ReadTimeoutError) or not is_repeatable()
                if is_over:
                    target.breaker.failed()
                    raise _failure(target, error) from error
                time.sleep(pause)
            except BaseException:
                target.breaker.failed()
                raise
            else:
                target.breaker.succeeded()
                return answer

    def _send(
        self,
        target: Target,
        address: Address,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout: urllib3.Timeout,
        preload: bool,
    ) -> urllib3.BaseHTTPResponse:
        pool = self._pools.connection_from_host(*address, target.scheme)
        return pool.urlopen(
            method,
            url,
            body=body,
            headers={"Host": target.netloc, **headers},
            retries=False,
            redirect=False,
            timeout=timeout,
            preload_content=preload,
            decode_content=False,
        )


def _failure(target: Target, error: HTTPError) -> KappawattError:
    if isinstance(error, TimeoutError) and not isinstance(error, NewConnectionError):
        return ServiceSlow(f"{target.name}: {_reason(error)}")
    return ServiceUnreachable(f"{target.name}: {_reason(error)}")


def _reason(error: HTTPError) -> str:
    """What happened, without the address of the service, which is nobody's business outside."""
    if isinstance(error, NameResolutionError):
        return "its name is not known"
    if isinstance(error, NewConnectionError):  # urllib3 counts it among the time-outs, so it comes first
        return "connection refused"
    if isinstance(error, ConnectTimeoutError):
        return "no connection within the time-out"
    if isinstance(error, ReadTimeoutError):
        return "no answer within the time-out"
    return "the connection broke off"


def _request_headers(asked: Request, name: str, request_id: str, trace: str) -> dict[str, str]:
    named = {part.strip().lower() for part in asked.headers.get("Connection", "").split(",")}
    headers = {n: value for n, value in asked.headers if n.lower() not in NOT_SENT | named}
    if trace != asked.headers.get("traceparent"):
        headers = {n: value for n, value in headers.items() if n.lower() != "tracestate"}
    headers.setdefault("Accept-Encoding", "identity")  # urllib3 would ask for gzip in the client's name
    headers.setdefault("User-Agent", "kappawatt-gateway")
    return headers | {
        "X-Request-Id": request_id,
        "traceparent": trace,
        "X-Forwarded-For": asked.remote_addr or "unknown",
        "X-Forwarded-Proto": asked.scheme,
        "X-Forwarded-Prefix": f"/api/{name}",
    }


def _response(answer: urllib3.BaseHTTPResponse, target: Target, method: str) -> Response:
    named = {part.strip().lower() for part in answer.headers.get("Connection", "").split(",")}
    headers = [
        (name, value)
        for name, value in answer.headers.items()
        if name.lower() not in NOT_RETURNED and name.lower() not in named
    ]
    headers = [(n, _below(v, target) if n.lower() == "location" else v) for n, v in headers]
    length = answer.headers.get("Content-Length", "")
    if method == "HEAD" or (length.isdigit() and int(length) <= WHOLE_BYTES):
        content: bytes | Iterator[bytes] = _read(answer, target)
    else:
        content = _passed_on(answer)
    response = Response(content, answer.status)
    response.headers.clear()
    response.headers.extend(headers)
    return response


def _below(location: str, target: Target) -> str:
    """A redirect within the service stays below its prefix; a service may leave out the port that its scheme has."""
    path = location
    own = f"{target.scheme}://{target.netloc}"
    for name in (own, own.removesuffix(f":{PORTS[target.scheme]}")):
        if location.startswith(f"{name}/"):
            path = location.removeprefix(name)
    return f"/api/{target.name}{path}" if path.startswith("/") and not path.startswith("//") else location


def _read(answer: urllib3.BaseHTTPResponse, target: Target) -> bytes:
    try:
        return answer.read(decode_content=False)
    except HTTPError as error:
        answer.close()
        raise _failure(target, error) from error
    finally:
        answer.release_conn()


def _passed_on(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """The body as it comes. If it breaks off, so does the client's connection, which is how HTTP says it."""
    try:
        yield from answer.stream(CHUNK_BYTES, decode_content=False)
        answer.release_conn()
    except BaseException:
        answer.close()
        raise
