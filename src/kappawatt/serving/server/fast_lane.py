"""A lane beside Flask for the one request that comes thousands of times a second: a few rows of JSON, all valid.

Flask's routing, request and response objects cost five times what the answer does. A lane function gets the body
and returns the answer's bytes, or None for anything out of the ordinary: then the same body goes the ordinary way,
and every error, content type and version is dealt with there, once. Both ways call the same functions, and one
contract test feeds both.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kappawatt.serving.bookkeeping import REQUEST_ID, Bookkeeping, request_id

__all__ = ["FastLane", "Lane"]

Lane = Callable[[bytes], bytes | None]
LARGEST = 8192  # bytes of a body; whatever is larger spends its time on the rows, not in Flask
JSON = "application/json"
PLAIN_ACCEPT = (None, "*/*", JSON)


class FastLane:
    """WSGI middleware.

    Parameters
    ----------
    app : WSGI callable
        Where everything else goes.
    lanes : mapping of str to (str, Lane)
        By path: the route's name in metrics, and its lane.
    """

    def __init__(self, app: Any, lanes: Mapping[str, tuple[str, Lane]], books: Bookkeeping) -> None:
        self._app = app
        self._lanes = lanes
        self._books = books

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer, or pass on."""
        found = self._lanes.get(environ["PATH_INFO"])
        if found is None or not _is_plain(environ):
            return self._app(environ, start_response)  # type: ignore[no-any-return]
        started = time.perf_counter()
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        route, lane = found
        content = lane(body)
        if content is None:
            environ["wsgi.input"] = io.BytesIO(body)
            return self._app(environ, start_response)  # type: ignore[no-any-return]
        self._books.note(route, "POST", 200, time.perf_counter() - started)
        headers = [
            ("Content-Type", JSON),
            ("Content-Length", str(len(content))),
            (REQUEST_ID, request_id(environ.get("HTTP_X_REQUEST_ID"))),
        ]
        start_response("200 OK", headers)
        return (content,)


def _is_plain(environ: Mapping[str, Any]) -> bool:
    length = environ.get("CONTENT_LENGTH") or ""
    return (
        environ["REQUEST_METHOD"] == "POST"
        and environ.get("CONTENT_TYPE") == JSON
        and not environ.get("QUERY_STRING")
        and environ.get("HTTP_ACCEPT") in PLAIN_ACCEPT
        and "HTTP_INFERENCE_HEADER_CONTENT_LENGTH" not in environ
        and "HTTP_CONTENT_ENCODING" not in environ
        and length.isdigit()
        and 0 < int(length) <= LARGEST
    )
