"""One polite question to a server, or a look at a file: what came, and when it may be asked again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

from kappawatt import __version__
from kappawatt.errors import KappawattError

if TYPE_CHECKING:
    import urllib3

__all__ = ["Reply", "SourceFailed", "ask", "look", "shown"]

MOST_BYTES = 128 * 2**20  # MOSMIX_S of all stations has some 40 MB
AGENT = f"kappawatt/{__version__} (+https://github.com/kappawatt/kappawatt)"
TIMEOUT_SECONDS = (10.0, 60.0)  # to connect, and between two reads
PART = 1 << 16
LONGEST_TAG = 1_000  # characters of an ETag that is sent back
MOST_WAIT = 86_400.0  # s, that a server may have itself be left alone


class SourceFailed(KappawattError):
    """A source of weather cannot be reached, or does not give it.

    Attributes
    ----------
    retry_after : float or None
        Seconds that the server wants to be left alone.
    """

    status = 502
    title = "Weather source failed"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Reply:
    """What came.

    Parameters
    ----------
    body : bytes or None
        None: the same as before.
    etag, last_modified : str
        To be sent back with the next question; "" if the server said none.
    fresh_seconds : float
        For how long the server says that it stays the same.
    """

    body: bytes | None
    etag: str = ""
    last_modified: str = ""
    fresh_seconds: float = 0.0


def ask(pool: urllib3.PoolManager, address: str, etag: str, last_modified: str, now: float) -> Reply:
    """Ask a server, telling what is known.

    Parameters
    ----------
    now : float
        Seconds since 1970.

    Raises
    ------
    SourceFailed
        There is no answer, or one that is no weather.
    """
    import urllib3

    headers = {"User-Agent": AGENT, "Accept-Encoding": "gzip"}
    headers |= {"If-None-Match": etag} if etag else {}
    headers |= {"If-Modified-Since": last_modified} if last_modified else {}
    timeout = urllib3.Timeout(connect=TIMEOUT_SECONDS[0], read=TIMEOUT_SECONDS[1])
    try:
        response = pool.request(
            "GET",
            address,
            headers=headers,
            timeout=timeout,
            retries=urllib3.Retry(connect=0, read=0, status=0, other=0, redirect=3, respect_retry_after_header=False),
            preload_content=False,
        )
        try:
            said = response.headers
            if response.status == 304 and (etag or last_modified):
                return Reply(None, etag, last_modified, _fresh(said.get("Cache-Control", "")))
            if response.status != 200:
                wait = _retry_after(said.get("Retry-After", ""), now)
                raise SourceFailed(f"{shown(address)}: got HTTP status {response.status}, allowed 200", wait)
            parts, size = [], 0
            for part in response.stream(PART, decode_content=True):
                size += len(part)
                if size > MOST_BYTES:
                    raise SourceFailed(f"{shown(address)}: got more than {MOST_BYTES:,} bytes, allowed fewer")
                parts.append(part)
        finally:
            response.close()
    except urllib3.exceptions.HTTPError as error:
        reason = getattr(error, "reason", None) or error
        _, _, query = address.partition("?")
        why = str(reason).replace(query, "...") if query else str(reason)
        raise SourceFailed(f"{shown(address)}: got no answer ({type(reason).__name__}: {why[:200]})") from None
    return Reply(
        b"".join(parts),
        _line(said.get("ETag", "")),
        _line(said.get("Last-Modified", "")),
        _fresh(said.get("Cache-Control", "")),
    )


def shown(address: str) -> str:
    """Return an address as it may stand in a log: without its query, which may hold a key."""
    return address.partition("?")[0]


def look(path: str, etag: str) -> Reply:
    """Read a file, unless it holds what it did (`etag` is its digest then); SourceFailed if it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            body = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SourceFailed(f"{path}: got {error.strerror}, allowed a file that can be read") from None
    if len(body) > MOST_BYTES:
        raise SourceFailed(f"{path}: got more than {MOST_BYTES:,} bytes, allowed fewer")
    digest = hashlib.sha256(body).hexdigest()
    return Reply(None if digest == etag else body, digest)


def _line(text: str) -> str:
    """A header that may be sent back: one line, and no longer than such are."""
    return text if len(text) <= LONGEST_TAG and text.isascii() and text.isprintable() else ""


def _fresh(text: str) -> float:
    for directive in text.split(","):
        name, _, value = directive.strip().partition("=")
        if name.lower() == "max-age" and value.isascii() and value.isdigit() and len(value) < 10:
            return min(float(value), MOST_WAIT)
    return 0.0


def _retry_after(text: str, now: float) -> float | None:
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(float(text), MOST_WAIT)
    try:
        return min(max(parsedate_to_datetime(text).timestamp() - now, 0.0), MOST_WAIT) if text else None
    except (ValueError, TypeError, OverflowError):
        return None
