"""The body of a request, whole or not at all."""

from __future__ import annotations

from flask import current_app, request
from gunicorn.http.errors import NoMoreData, ParseException

from kappawatt.columns.memory import give_back
from kappawatt.errors import ContentTypeUnsupported, PayloadInvalid, PayloadTooLarge

__all__ = ["read_body"]

LARGE = 256 * 1024  # bytes
PIECE = 1024 * 1024  # bytes read at a time: gunicorn holds twice what it is asked for
PLAIN = ("application/json", "text/csv")  # of others few bytes can become many


def read_body(*, gzip: bool = False, is_passed_on: bool = False) -> bytes:
    """Return the whole body of the request at hand.

    A chunked body has no length to refuse it by, and werkzeug cuts it silently at its limit: so it is read up to
    one byte more than the limit.

    Parameters
    ----------
    gzip : bool
        Whether a body encoded by gzip is returned as it came, for readers that unpack it.
    is_passed_on : bool
        Whether it goes to another service as it came, encoded or not, which looks at it itself.

    Raises
    ------
    PayloadTooLarge
        It is larger than the setting `max_body_bytes`.
    ContentTypeUnsupported
        It is encoded (gzip, ...).
    PayloadInvalid
        Its chunks are damaged, or it ends before its length.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if not is_passed_on and encoding not in ("", "identity", *(("gzip",) if gzip else ())):
        allowed = "identity (no encoding)" + (" or gzip" if gzip else "")
        raise ContentTypeUnsupported.of("content-encoding", repr(encoding[:80]), allowed)
    limit: int = current_app.config["MAX_CONTENT_LENGTH"]
    length = request.content_length
    if length is not None and length > limit:
        raise PayloadTooLarge.of("body", f"{length} bytes", limit)
    if length is None and "chunked" not in request.headers.get("Transfer-Encoding", "").lower():
        return b""
    if length is None or length > LARGE or (request.mimetype not in PLAIN):
        give_back()
    wanted = limit + 1 if length is None else length
    parts: list[bytes] = []
    size = 0
    try:
        while size < wanted:
            part = request.environ["wsgi.input"].read(min(wanted - size, PIECE))
            if not part:
                break
            parts.append(part)
            size += len(part)
    except (ParseException, NoMoreData, OSError, ValueError) as error:
        raise PayloadInvalid.of("body", f"damaged chunks ({type(error).__name__})", "a whole body") from None
    if size > limit:
        raise PayloadTooLarge.of("body", f"more than {limit} bytes", limit)
    if length is not None and size < length:
        raise PayloadInvalid.of("body", f"{size} bytes", f"{length} as its Content-Length says")
    return b"".join(parts)
