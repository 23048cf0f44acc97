"""Who may do what, and how often: API keys with roles, rate limits, and what guards a gateway without keys.

    reader   what is described as `open` or `read`: the gateway's own pages and documents, questions to a model
    writer   also what is described as `write`: the ingestor's doors
    admin    everything

Who may ask for a route is said by whoever has the route: the gateway of its own, each service of its own in the
OpenAPI document it publishes (see `proxy.descriptions`).

A key comes as `Authorization: Bearer KEY`, as `X-API-Key: KEY`, or in the dashboard's session cookie. The
cookie is there because a browser's EventSource cannot set headers, and a key in a URL ends up in logs and
histories. It holds the key itself, HttpOnly and SameSite=Strict: the gateway stores hashes only, so a token
it could sign and verify without state would have to be signed with something that lies in that file, and
whoever reads the file could then forge one.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from flask import Flask, Request, Response, g, request
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, Unauthorized

from kappawatt.clock import machine_seconds
from kappawatt.errors import Overloaded, SettingInvalid
from kappawatt.serving.openapi import Right
from kappawatt.settings import Settings

from .rights import Rights

__all__ = ["COOKIE", "ROLE_NAMES", "Access", "Key", "Role", "is_loopback", "read_access", "read_keys"]

COOKIE = "kappawatt_key"
COOKIE_SECONDS = 12 * 3600
UNLIMITED_PATHS = ("/healthz", "/readyz", "/metrics")
LONGEST_KEY = 512
SET_SECONDS = 1.0  # a clock that runs right is corrected by less
LINE = re.compile(r"(?P<role>[a-z]+):(?P<digest>[0-9a-fA-F]{64}):(?P<name>[\w .@+-]{1,80})")


class Role(IntEnum):
    """What a key allows; a higher role includes the lower ones."""

    READER = 1
    WRITER = 2
    ADMIN = 3


NEEDED = {Right.READ: Role.READER, Right.WRITE: Role.WRITER, Right.ADMIN: Role.ADMIN}
ROLE_NAMES = {right.value: role.name.lower() for right, role in NEEDED.items()}


@dataclass(frozen=True, slots=True)
class Key:
    """One line of the key file."""

    role: Role
    digest: bytes
    name: str


def read_keys(path: Path) -> tuple[Key, ...]:
    """Read a key file: `role:sha256-of-key:name` a line, `#` starts a comment.

    Raises
    ------
    SettingInvalid
        The file cannot be read, holds no key, or has a line of another form; the message names it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingInvalid(f"KAPPAWATT_API_KEYS: cannot read {str(path)!r} ({error})") from None
    keys = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        found = LINE.fullmatch(text)
        if found is None or found["role"].upper() not in Role.__members__:
            allowed = "reader|writer|admin:64 hex digits of the key's SHA-256:name"
            raise SettingInvalid(f"KAPPAWATT_API_KEYS: {path} line {number}, allowed {allowed}")
        keys.append(Key(Role[found["role"].upper()], bytes.fromhex(found["digest"]), found["name"]))
    if not keys:
        raise SettingInvalid(f"KAPPAWATT_API_KEYS: {path} holds no key, allowed one a line")
    return tuple(keys)


def is_loopback(host: str) -> bool:
    """Whether `host` is an address or name of this machine alone."""
    if host.strip("[]").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_access(settings: Settings) -> Access:
    """Return the access rules that `settings` ask for.

    Raises
    ------
    SettingInvalid
        The gateway would listen beyond localhost without keys though nobody said so, or keys or rate limit cannot
        be read.
    """
    try:
        limit = parse(settings.rate_limit)
    except ValueError:
        allowed = "such as 100/second or 1000/minute"
        raise SettingInvalid(f"KAPPAWATT_RATE_LIMIT: got {settings.rate_limit!r}, allowed {allowed}") from None
    if settings.api_keys is not None:
        return Access(read_keys(settings.api_keys), limit)
    if not settings.open_access and not is_loopback(settings.host):
        raise SettingInvalid(
            f"KAPPAWATT_API_KEYS: got nothing while KAPPAWATT_HOST is {settings.host!r}; beyond "
            "localhost the gateway needs a file of keys, one `role:sha256-of-key:name` a line (role reader, "
            "writer or admin; hash with `printf %s KEY | sha256sum`), KAPPAWATT_OPEN_ACCESS=true where the network "
            "alone decides who reaches it, or KAPPAWATT_HOST=127.0.0.1"
        )
    return Access(None, limit, any_name=settings.open_access)


class Access:
    """Checks each request before a route sees it.

    Parameters
    ----------
    keys : sequence of Key or None
        None: no keys and no rate limits.
    limit : RateLimitItem
        Requests a key, or without one an address, may make.
    any_name : bool
        Whether without keys the gateway may be called by other names than localhost's.
    """

    def __init__(self, keys: Sequence[Key] | None, limit: RateLimitItem, *, any_name: bool = False) -> None:
        self._keys = None if keys is None else tuple(keys)
        self._limit = limit
        self._any_name = any_name
        self._window = MovingWindowRateLimiter(MemoryStorage())
        self._day = _time_of_day()

    @property
    def is_on(self) -> bool:
        """Whether keys are asked for."""
        return self._keys is not None

    def guard(self, app: Flask, rights: Rights) -> None:
        """Have every request to `app` checked; `rights` says who may make which."""

        @app.before_request
        def check() -> None:
            self.check(request, rights)

    def check(self, asked: Request, rights: Rights) -> None:
        """Let the request pass; else raise Unauthorized, Forbidden or Overloaded, or why its right is not known.

        A service is asked only on behalf of who has a key, and not at all for an administrator, who may do everything.
        """
        _refuse_foreign_page(asked)
        if self._keys is None:
            if not self._any_name and asked.path not in UNLIMITED_PATHS:
                _refuse_foreign_name(asked)
            return
        key = self.find(_presented(asked))
        g.api_key = key
        if asked.path not in UNLIMITED_PATHS:
            self._count(f"key {key.name}" if key else f"address {asked.remote_addr}")
        if rights.is_open(asked) or (key is not None and key.role is Role.ADMIN):
            return
        if key is None:
            raise Unauthorized(
                "an API key is needed: `Authorization: Bearer KEY` or `X-API-Key: KEY`",
                www_authenticate=WWWAuthenticate("bearer", {"realm": "kappawatt"}),
            )
        needed = NEEDED[rights.of(asked).access]
        if key.role < needed:
            got, allowed = key.role.name.lower(), needed.name.lower()
            why = rights.why_strict(asked)
            because = "" if why is None else f" ({why})"
            raise Forbidden(f"role: got {got}, allowed {allowed} for {asked.method} {asked.path[:200]}{because}")

    def find(self, presented: str | None) -> Key | None:
        """Return the key whose hash `presented` has; compares with all of them in constant time."""
        if not presented or len(presented) > LONGEST_KEY:
            return None
        digest = hashlib.sha256(presented.encode("utf-8", "surrogateescape")).digest()
        found = None
        for key in self._keys or ():
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    def _count(self, client: str) -> None:
        if abs(_time_of_day() - self._day) > SET_SECONDS:
            # The library counts by the time of day: set back by an hour, it would lock clients out for that long.
            self._day = _time_of_day()
            self._window = MovingWindowRateLimiter(MemoryStorage())
        window = self._window
        if window.hit(self._limit, client):
            return
        reset = window.get_window_stats(self._limit, client).reset_time
        raise Overloaded(f"got more than {self._limit} from {client}, allowed {self._limit}", reset - time.time())

    def sign_in(self, presented: str, response: Response) -> Key:
        """Set the session cookie for a known key; Unauthorized for any other."""
        key = self.find(presented)
        if key is None:
            raise Unauthorized(
                "key: got one that is not known here",
                www_authenticate=WWWAuthenticate("bearer", {"realm": "kappawatt"}),
            )
        response.set_cookie(
            COOKIE,
            presented,
            max_age=COOKIE_SECONDS,
            httponly=True,
            samesite="Strict",
            # a proxy that ends TLS says so; a client that lies here only locks itself out
            secure=request.is_secure or request.headers.get("X-Forwarded-Proto") == "https",
        )
        return key


def _time_of_day() -> float:
    """Return what the time of day was when the machine started: another one if somebody sets it."""
    return time.time() - machine_seconds()


def _presented(asked: Request) -> str | None:
    scheme, _, token = asked.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return asked.headers.get("X-API-Key") or asked.cookies.get(COOKIE)


def _split(address: str) -> SplitResult:
    """An address that a client gave; nothing at all if it is none, such as `http://[::1`."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


def _refuse_foreign_page(asked: Request) -> None:
    """A page of another origin must not change anything with the visitor's cookie or localhost access."""
    origin = asked.headers.get("Origin")
    if asked.method in ("GET", "HEAD") or origin is None:
        return
    place = _split(origin).netloc
    if not place or place != asked.host:
        raise Forbidden(f"Origin: got {origin[:200]!r}, allowed pages of this gateway")


def _refuse_foreign_name(asked: Request) -> None:
    """Without keys, a name that was made to point at this machine (DNS rebinding) must not reach it.

    With open access nobody knows the names it is called by: a balancer's, a node's, a Service's. So this check goes,
    and the one of the Origin stays, which a rebound name passes. Where browsers can reach the gateway, keys are better.
    """
    name = _split(f"//{asked.host}").hostname or ""
    if not is_loopback(name):
        raise Forbidden(f"Host: got {name[:200]!r}, allowed localhost while the gateway asks for no API keys")
