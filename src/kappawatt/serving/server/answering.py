"""From a whole request to its answer: gunicorn's parser and response around the app, without a socket in between."""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Callable, Iterable
from typing import Any

from gunicorn.http import wsgi
from gunicorn.http.body import ChunkedReader
from gunicorn.http.message import Request

from kappawatt.serving.server.connection import Connection, Source
from kappawatt.serving.server.limits import SCARCE_RATE, SCARCE_SECONDS, Limits, Pace
from kappawatt.serving.server.refusals import refusal, refusal_of

__all__ = ["Answering", "BrokenOff"]

App = Callable[[dict[str, Any], Any], Iterable[bytes]]

PUSHED_BYTES = 65_536  # of an answer in pieces, from which on it is sent before the next one is made
LOOK_SECONDS = 0.5
REASONS = {408: "too_slow", 413: "too_large", 503: "no_room", 500: "failed"}

log = logging.getLogger(__name__)


class BrokenOff(Exception):
    """An answer began and cannot go on; it is too late to say so."""


class _TooSlow(OSError):
    """The client does not read its answer."""


class Answering:
    """Answers requests of connections, in the loop or in a thread.

    Parameters
    ----------
    app : WSGI callable
    settings : gunicorn.config.Config
    limits : Limits
    must_close : callable
        Whether every answer is the last one of its connection.
    ended : callable
        Is told why a connection was ended.
    """

    def __init__(
        self, app: App, settings: Any, limits: Limits, must_close: Callable[[], bool], ended: Callable[[str], None]
    ) -> None:
        # gunicorn looks settings up by name through __getattr__, some 25 times a request.
        settings.__dict__.update({name: setting.get() for name, setting in settings.settings.items()})
        self._app = app
        self._settings = settings
        self._limits = limits
        self._must_close = must_close
        self._ended = ended

    def answer(self, conn: Connection, source: Source, *, may_wait: bool) -> bool:
        """Answer a request; return whether the connection can be used again.

        Parameters
        ----------
        may_wait : bool
            Whether this thread may wait for a client that reads slowly an answer without end.

        Raises
        ------
        BrokenOff
            The answer began and cannot go on.
        """
        response = None
        try:
            request = Request(self._settings, source, conn.address)
            response, environ = wsgi.create(request, conn.out, conn.address, conn.server, self._settings)
            environ["wsgi.multithread"] = True
            is_last = conn.framing.is_cut or (conn.is_over and not conn.data) or not _is_as_framed(source, request.body)
            if is_last or self._must_close():
                response.force_close()
            parts = self._app(environ, response.start_response)
            try:
                for part in parts:
                    response.write(part)
                    if response.response_length is None or conn.out.size > PUSHED_BYTES:
                        self._push(conn, response.response_length is None, may_wait)
                response.close()
            finally:
                if hasattr(parts, "close"):
                    parts.close()
            return not response.should_close() and _is_spent(source, request.body)
        except Exception as error:
            if response is not None and response.headers_sent:
                if not isinstance(error, OSError):  # the client has gone
                    log.exception("answer broken off", extra={"from": conn.address[0]})
                raise BrokenOff from error
            self.refuse(conn, error)
            return False

    def refuse(self, conn: Connection, error: BaseException) -> int:
        """Write the answer to what is no request that can be answered; return its status."""
        found = refusal(error)
        if found is None:
            log.error("request failed", exc_info=error)
            found = refusal_of(500, "the request failed here; the log has the reason")
        conn.out.sendall(found.answer)
        self._ended(REASONS.get(found.status, "malformed"))
        return found.status

    def _push(self, conn: Connection, is_endless: bool, may_wait: bool) -> None:
        """Send what there is. What the client does not take stays in memory, while there is room and an end to it."""
        out = conn.out
        if out.push() or not (is_endless and may_wait):
            if out.hold():
                return
            if not may_wait:
                raise _TooSlow
        limits = self._limits
        pace = Pace(limits.slowest_rate, limits.stall_seconds) if is_endless else Pace(SCARCE_RATE, SCARCE_SECONDS)
        pace.begin(time.monotonic(), out.sent)
        taken = select.poll()
        taken.register(conn.socket, select.POLLOUT)
        while not out.push():
            if pace.is_too_slow(time.monotonic(), out.sent):
                self._ended("answer_not_read")
                raise _TooSlow
            taken.poll(LOOK_SECONDS * 1000)
        out.hold()


def _is_as_framed(source: Source, body: Any) -> bool:
    """Whether a body of known length is as long for the parser as what is here. Asked before it is read: the parser
    counts what it asked for as read, also where less was here. Chunks it has to find the end of.
    """
    return isinstance(body.reader, ChunkedReader) or getattr(body.reader, "length", 0) == source.left


def _is_spent(source: Source, body: Any) -> bool:
    """Whether the request was what it was taken for: a whole body, and nothing behind it."""
    try:
        while body.read(PUSHED_BYTES):
            pass
    except Exception:  # whatever the parser finds wrong with the rest of a body
        return False
    return source.is_spent and not body.failed
