"""gunicorn's threaded worker, but no client keeps others waiting by not closing its end.

After the last answer on a connection the server closes its half and waits until the client has closed the other, so
that a request that is already on its way does not turn the answer into a reset. gthread waits in the loop that serves
everybody, up to 2 s for each connection. When a server drains, every answer is a last one.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from functools import partial
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

__all__ = ["LingeringWorker"]

LINGER_SECONDS = 2.0
CHUNK_BYTES = 1 << 16


class LingeringWorker(ThreadWorker):  # type: ignore[misc]
    """See the module's words; everything not said here is gthread's."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._closing: deque[Any] = deque()

    def finish_request(self, conn: Any, fs: Any) -> None:
        """As gthread, but a connection that is to be closed is closed beside the others."""
        if fs.cancelled() or fs.exception() is not None or fs.result():
            super().finish_request(conn, fs)
        else:
            self.close_gracefully(conn)

    def close_gracefully(self, conn: Any) -> None:
        """Close our half; the rest when the client has closed the other half, or LINGER_SECONDS later."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._discard, conn))
        except (OSError, ValueError):  # the client has gone, or it was closed already
            self._close(conn)
            return
        conn.timeout = time.monotonic() + LINGER_SECONDS
        self._closing.append(conn)

    def murder_pending(self) -> None:
        """Close also what was waited for long enough."""
        super().murder_pending()
        while self._closing and self._closing[0].timeout <= time.monotonic():
            conn = self._closing.popleft()
            self.poller.unregister(conn.sock)
            self._close(conn)

    def _discard(self, conn: Any, client: socket.socket) -> None:
        try:
            if client.recv(CHUNK_BYTES):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._closing.remove(conn)
        self.poller.unregister(client)
        self._close(conn)

    def _close(self, conn: Any) -> None:
        self.nr_conns -= 1
        conn.close()
