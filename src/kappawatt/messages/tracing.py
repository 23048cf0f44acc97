"""W3C trace context: one trace goes from the sensor through the bus to the answer."""

from __future__ import annotations

import re
import secrets

__all__ = ["new_traceparent", "trace_parent"]

TRACE_PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[\x21-\x7e]*)?")


def new_traceparent() -> bytes:
    """Return a W3C trace context that starts here."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01".encode()


def trace_parent(given: str | None) -> str:
    """Return `given` if it is a W3C trace parent, else a new one.

    References
    ----------
    https://www.w3.org/TR/trace-context/#traceparent-header
    """
    if given is not None and TRACE_PARENT.fullmatch(given) and (len(given) == 55 or not given.startswith("00")):
        return given
    return new_traceparent().decode()
