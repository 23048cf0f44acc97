"""Cross-origin requests of browsers (CORS), for a door that has no gateway before it to see to them."""

from __future__ import annotations

from collections.abc import Mapping

from kappawatt.errors import SettingInvalid

__all__ = ["CrossOrigin"]

METHODS = "GET, HEAD, POST, OPTIONS"
HEADERS = "accept, authorization, content-type, inference-header-content-length, x-api-key, x-request-id"
EXPOSED = "inference-header-content-length, retry-after, x-request-id"
SECONDS = 600  # for which a browser need not ask again


class CrossOrigin:
    """Says which pages of other origins may ask.

    Parameters
    ----------
    origins : str
        Origins (`https://grid.example.org`), comma separated, or `*` for all; empty for none.
    """

    def __init__(self, origins: str) -> None:
        self._allowed = frozenset(origin.strip() for origin in origins.split(",") if origin.strip())
        for origin in self._allowed:
            scheme, separator, host = origin.partition("://")
            if origin != "*" and not (scheme in ("http", "https") and separator and host and "/" not in host):
                raise SettingInvalid(
                    f"cors_origins: got {origin!r}, allowed https://HOST[:PORT], comma separated, or *"
                )

    def preflight(self, method: str, headers: Mapping[str, str]) -> list[tuple[str, str]] | None:
        """Return the headers of the answer to a preflight request; None if this is none, or none that is allowed."""
        if method != "OPTIONS" or "access-control-request-method" not in headers:
            return None
        found = self.answer(headers)
        if len(found) < 2:
            return None
        return [
            *found,
            ("Access-Control-Allow-Methods", METHODS),
            ("Access-Control-Allow-Headers", HEADERS),
            ("Access-Control-Max-Age", str(SECONDS)),
        ]

    def answer(self, headers: Mapping[str, str]) -> list[tuple[str, str]]:
        """Return the headers that go with the answer to a request with these headers."""
        if "*" in self._allowed:
            vary, said = [], "*"
        else:
            vary, said = [("Vary", "Origin")] if self._allowed else [], headers.get("origin", "")
        if "origin" not in headers or said not in self._allowed:
            return vary
        return [*vary, ("Access-Control-Allow-Origin", said), ("Access-Control-Expose-Headers", EXPOSED)]
