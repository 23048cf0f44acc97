"""gunicorn's threaded worker, but a small request that is completely here is answered at once.

gthread hands every request to a thread pool: a queue, a wake-up and a re-registration a request, about a quarter
of the processor time of a single-row prediction. A prediction takes a fraction of a millisecond and never waits
for anything, so it is answered in the loop that found it; a slow client's half request, and anything larger than
one look at the socket, goes to the threads as before. Only for services whose answers are pure computation.
"""

from __future__ import annotations

import socket
from typing import Any

from kappawatt.serving.server.lingering_worker import LingeringWorker

__all__ = ["InlineWorker", "is_complete"]

PEEK_BYTES = 8192


def is_complete(head: bytes) -> bool:
    """Return whether `head` holds one whole HTTP/1.1 request: headers, and the body they announce."""
    end = head.find(b"\r\n\r\n")
    if end < 0:
        return False
    lines = head[:end].lower()
    if b"\r\ntransfer-encoding:" in lines or b"\r\nexpect:" in lines:
        return False
    at = lines.find(b"\r\ncontent-length:")
    if at < 0:
        return True
    stop = lines.find(b"\r\n", at + 2)
    length = lines[at + 17 : stop if stop >= 0 else end].strip()
    return length.isdigit() and len(head) >= end + 4 + int(length)


class _OneSend:
    """A socket that keeps what is sent until `flush`: head and body of an answer leave as one packet."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self._kept: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        self._kept.append(bytes(data))

    def flush(self) -> None:
        if self._kept:
            self._inner.sendall(b"".join(self._kept))
            self._kept.clear()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class InlineWorker(LingeringWorker):
    """See the module's words; everything not said here is gthread's."""

    def init_process(self) -> None:
        # gunicorn looks settings up by name through __getattr__, some 25 times a request.
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        super().init_process()

    def on_client_socket_readable(self, conn: Any, client: socket.socket) -> None:
        """Answer in the loop if the request is small and complete."""
        try:
            head = client.recv(PEEK_BYTES, socket.MSG_PEEK)
        except OSError:
            head = b""
        if len(head) >= PEEK_BYTES or not is_complete(head):
            super().on_client_socket_readable(conn, client)
            return
        keep = self._handle_with_one_send(conn, client)
        self.keepalived_conns.remove(conn)
        if keep is True and self.alive:
            client.setblocking(False)
            conn.set_timeout()
            self.keepalived_conns.append(conn)
            return
        self.poller.unregister(client)
        self.close_gracefully(conn)

    def _keepalive_after(self, conn: Any, keepalive: Any) -> Any:
        """As gthread, but a body that was read to its end needs no draining, nor the timeouts set around it."""
        reader = getattr(getattr(conn.parser.mesg, "body", None), "reader", None)
        if keepalive and getattr(reader, "length", None) == 0:
            conn.parser.mesg = None
            return True
        return super()._keepalive_after(conn, keepalive)

    def _handle_with_one_send(self, conn: Any, client: socket.socket) -> Any:
        conn.sock = _OneSend(client)
        try:
            keep = self.handle(conn)
            conn.sock.flush()
        except OSError:  # the client has gone
            keep = False
        finally:
            conn.sock = client
        return keep
